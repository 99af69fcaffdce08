//! Each change of the set of regions and peers (D5), with a process that dies before each of the steps that the change
//! makes its disk do: a write of log or data, a sync, a flush, a file. The power goes with it, on this store or on all at
//! once; of what nobody has synced nothing survives, or a part, or all. The start behind it dies once more, at each of its
//! own first steps. In the end the change is done or was never begun, and everything that was acknowledged is there.

use std::time::Duration;

use store::AdminAction;
use types::{KeyRange, Outcome, PeerId, PeerRole, RegionId, StoreId};

use crate::{CHILD, FIRST, cluster::Cluster, splits::halves};

const SECOND: StoreId = StoreId(1_001);
const THIRD: StoreId = StoreId(1_002);

/// How many writes that nobody has synced survive a loss of power, at the most.
const KEPT: [u64; 4] = [0, 1, 2, u64::MAX];

/// Steps of a start that is cut short; at the last it is not.
const START_STEPS: u64 = 2;

/// A change, and what holds behind it.
struct Scenario {
    name: &'static str,
    /// A cluster right before the change.
    prepare: fn() -> Cluster,
    /// Begins the change, or asks for it once more.
    begin: fn(&mut Cluster),
    /// The store whose process dies.
    dies: StoreId,
    /// What must hold when everything runs again.
    check: fn(&mut Cluster, &str),
}

fn three_voters() -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(700));
    cluster
}

/// How many steps the change takes, without anyone dying.
fn count_steps(scenario: &Scenario) -> u64 {
    let mut cluster = (scenario.prepare)();
    let before = cluster.fuse(scenario.dies).step_count();
    (scenario.begin)(&mut cluster);
    cluster.advance(Duration::from_secs(2));
    let count = cluster.fuse(scenario.dies).step_count() - before;
    (scenario.check)(&mut cluster, &format!("{}, undisturbed", scenario.name));
    count
}

fn die_at_each_step(scenario: &Scenario) {
    let count = count_steps(scenario);
    assert!((4..60).contains(&count), "{}: {count} steps", scenario.name);
    let mut run = 0;
    for step in 0..count {
        for is_everywhere in [false, true] {
            for kept in KEPT {
                run += 1;
                die_at(scenario, step, is_everywhere, kept, run % (START_STEPS + 1));
            }
        }
    }
}

fn die_at(scenario: &Scenario, step: u64, is_everywhere: bool, kept: u64, start_step: u64) {
    let text = format!(
        "{}: died before step {step}, all: {is_everywhere}, at most {kept} kept, then at step {start_step} of the start",
        scenario.name
    );
    let mut cluster = (scenario.prepare)();
    cluster.fuse(scenario.dies).die_after(step);
    (scenario.begin)(&mut cluster);
    for _ in 0..2_000 {
        if cluster.fuse(scenario.dies).is_dead() {
            break;
        }
        cluster.advance(Duration::from_millis(1));
    }
    let stores = if is_everywhere { cluster.stores() } else { vec![scenario.dies] };
    cluster.lose_power_but(kept, &stores, &stores);
    if start_step < START_STEPS {
        cluster.fuse(scenario.dies).die_after(start_step);
        cluster.advance(Duration::from_millis(1_500));
        cluster.lose_power_but(kept, &[scenario.dies], &[scenario.dies]);
    }
    // Long enough for a sender to give up a receiver that has forgotten everything, and to ask who has been removed.
    cluster.pass(Duration::from_secs(16));
    (scenario.begin)(&mut cluster);
    cluster.pass(Duration::from_secs(4));
    (scenario.check)(&mut cluster, &text);
}

/// Every store has these, and they can be written.
fn check_everywhere(cluster: &mut Cluster, text: &str, ranges: &[(RegionId, KeyRange)]) {
    let holder_of_z = ranges.last().expect("there is one").0;
    assert_eq!(cluster.put_to(RegionId::FIRST, "b", "after"), Ok(Outcome::Done), "{text}");
    assert_eq!(cluster.put_to(holder_of_z, "y", "after"), Ok(Outcome::Done), "{text}");
    cluster.pass(Duration::from_secs(1));
    for store in cluster.stores() {
        assert_eq!(cluster.ranges(store), ranges, "{text}, store {store}");
        for (key, value) in [("a", "1"), ("z", "1"), ("b", "after"), ("y", "after")] {
            assert_eq!(
                cluster.stored(store, key).as_deref(),
                Some(value.as_bytes()),
                "{text}, {key}, store {store}"
            );
        }
    }
}

fn split(cluster: &mut Cluster) {
    let Some(leader) = cluster.leader(RegionId::FIRST) else { return };
    // Asked for again it is the same: done, or to be done.
    let split = cluster.split_at(leader, "m", 7);
    drop(cluster.start_admin(leader, split));
}

fn check_split(cluster: &mut Cluster, text: &str) {
    check_everywhere(cluster, text, &halves());
    let child = cluster.leader(CHILD).and_then(|leader| cluster.picture(leader, CHILD)).expect("it is led");
    assert_eq!(child.region.map(|region| region.peers.len()), Some(3), "{text}");
}

#[test]
fn a_split_survives_the_death_of_the_leader_at_each_step() {
    die_at_each_step(&Scenario {
        name: "split, at the leader",
        prepare: three_voters,
        begin: split,
        dies: FIRST,
        check: check_split,
    });
}

#[test]
fn a_split_survives_the_death_of_a_follower_at_each_step() {
    die_at_each_step(&Scenario {
        name: "split, at a follower",
        prepare: three_voters,
        begin: split,
        dies: THIRD,
        check: check_split,
    });
}

fn without_the_third_for_long() -> Cluster {
    let mut cluster = three_voters();
    cluster.cut(THIRD);
    put_many(&mut cluster);
    cluster
}

/// So much that the log is cut behind who is away.
fn put_many(cluster: &mut Cluster) {
    for number in 0..80 {
        assert_eq!(cluster.put(FIRST, ["c", "d", "e"][number % 3], "later"), Ok(Outcome::Done));
    }
    cluster.advance(Duration::from_secs(1));
}

fn check_one_region(cluster: &mut Cluster, text: &str) {
    check_everywhere(cluster, text, &[(RegionId::FIRST, KeyRange::ALL)]);
}

#[test]
fn a_snapshot_for_a_peer_that_lags_survives_the_death_of_its_receiver_at_each_step() {
    die_at_each_step(&Scenario {
        name: "snapshot, for a peer that lags",
        prepare: without_the_third_for_long,
        begin: |cluster| cluster.heal(THIRD),
        dies: THIRD,
        check: |cluster, text| {
            check_one_region(cluster, text);
            assert_eq!(cluster.stored(THIRD, "c").as_deref(), Some(b"later".as_slice()), "{text}");
        },
    });
}

/// The region is divided while the third store is away, too.
fn split_without_the_third() -> Cluster {
    let mut cluster = three_voters();
    cluster.cut(THIRD);
    split(&mut cluster);
    put_many(&mut cluster);
    cluster
}

/// Who has its data from a snapshot answers who asks for the split again, as if it had carried it out.
#[test]
fn what_a_snapshot_says_of_a_split_survives_the_death_of_its_receiver_at_each_step() {
    die_at_each_step(&Scenario {
        name: "snapshot, behind a split",
        prepare: split_without_the_third,
        begin: |cluster| cluster.heal(THIRD),
        dies: THIRD,
        check: |cluster, text| {
            check_split(cluster, text);
            assert_eq!(cluster.stored(THIRD, "c").as_deref(), Some(b"later".as_slice()), "{text}");
            let leader = cluster.leader(RegionId::FIRST).expect("it is led");
            let again = cluster.split_at(FIRST, "m", 7);
            let target = cluster.region(leader).find_peer_on(THIRD).expect("a peer lives there").id;
            if leader != THIRD {
                assert_eq!(cluster.admin(leader, AdminAction::TransferLeader(target)), Ok(()), "{text}");
                cluster.advance(Duration::from_millis(500));
            }
            assert_eq!(cluster.leader(RegionId::FIRST), Some(THIRD), "{text}");
            assert_eq!(cluster.admin(THIRD, again), Ok(()), "{text}");
        },
    });
}

fn one_voter() -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(700));
    cluster
}

/// Placement would say it again, too.
fn ask_for(cluster: &mut Cluster, change_id: u64, others: &[(u64, StoreId)]) {
    let Some(leader) = cluster.leader(RegionId::FIRST) else { return };
    let own = cluster.region(leader).find_peer_on(FIRST).expect("it has a peer there");
    let others = others.iter().map(|(id, store_id)| types::Peer {
        id: PeerId(*id),
        store_id: *store_id,
        role: PeerRole::Voter,
    });
    let peers = std::iter::once(own).chain(others).collect();
    drop(cluster.start_admin(leader, AdminAction::SetPeers { peers, change_id }));
}

#[test]
fn peers_that_begin_by_snapshot_survive_a_death_at_each_step() {
    for dies in [FIRST, THIRD] {
        die_at_each_step(&Scenario {
            name: "new peers",
            prepare: one_voter,
            begin: |cluster| ask_for(cluster, 1, &[(2_001, SECOND), (2_002, THIRD)]),
            dies,
            check: check_one_region,
        });
    }
}

#[test]
fn the_end_of_a_peer_survives_a_death_at_each_step() {
    for dies in [FIRST, THIRD] {
        die_at_each_step(&Scenario {
            name: "the end of a peer",
            prepare: three_voters,
            begin: |cluster| ask_for(cluster, 2, &[(2_001, SECOND)]),
            dies,
            check: |cluster, text| {
                assert!(!cluster.has_remains(THIRD), "{text}");
                // Another peer may live there.
                ask_for(cluster, 3, &[(2_001, SECOND), (3_002, THIRD)]);
                cluster.pass(Duration::from_secs(3));
                check_one_region(cluster, text);
            },
        });
    }
}

#[test]
fn a_cluster_that_is_founded_survives_a_death_at_each_step() {
    die_at_each_step(&Scenario {
        name: "the first store",
        prepare: Cluster::founded,
        begin: |_| {},
        dies: FIRST,
        check: |cluster, text| {
            assert_eq!(cluster.put_to(RegionId::FIRST, "a", "1"), Ok(Outcome::Done), "{text}");
            assert_eq!(cluster.put_to(RegionId::FIRST, "z", "1"), Ok(Outcome::Done), "{text}");
            check_one_region(cluster, text);
        },
    });
}
