//! Named histories about who leads when: priorities, sleep, transfers, and how soon.

use std::time::Duration;

use raft::{Options, Role};
use types::PeerId;

use crate::cluster::{Cluster, Faults};

fn cluster(seed: u64, peer_count: u64) -> Cluster {
    let voters: Vec<u64> = (1..=peer_count).collect();
    let mut cluster = Cluster::new(seed, peer_count, &voters, &[], &Options::new(PeerId(1), 0));
    cluster.elect(1);
    cluster
}

fn prefer(cluster: &mut Cluster, preferred: u64) {
    for id in 1..=3 {
        let priority = if id == preferred { 0 } else { -10 };
        cluster.with(id, |group, _| group.set_priority(priority));
    }
    // What they wait for already counts from before.
    cluster.run(500);
}

/// Who is preferred is elected, with or without a suspicion.
#[test]
fn the_preferred_peer_leads_next() {
    for seed in 0..40 {
        let mut cluster = cluster(seed, 3);
        prefer(&mut cluster, 3);
        cluster.crash(1);
        if seed % 2 == 0 {
            cluster.run(5);
            for id in [2, 3] {
                cluster.with(id, |group, now| group.suspect_leader(now));
            }
        }
        cluster.run_until(3_000, |cluster| cluster.leader().is_some());
        assert_eq!(cluster.leader(), Some(3), "seed {seed}");
    }
}

/// jI#993: a preferred peer that is down, or lacks what is committed, blocks no election and is not elected.
#[test]
fn a_preference_never_blocks_an_election() {
    for seed in 0..40 {
        let mut cluster = cluster(seed, 3);
        prefer(&mut cluster, 3);
        if seed % 2 == 0 {
            cluster.crash(3);
            cluster.crash(1);
            cluster.run(50);
            cluster.restart(1);
        } else {
            cluster.partition(&[&[1, 2], &[3]]);
            cluster.propose(1, "3 lacks this").expect("up").expect("leads");
            cluster.run(50);
            cluster.crash(1);
            cluster.blocked.clear();
        }
        cluster.run_until(4_000, |cluster| cluster.leader().is_some());
        assert_ne!(cluster.leader(), Some(3), "seed {seed}");
    }
}

fn sleep_all(cluster: &mut Cluster, ids: &[u64], down: &[u64]) {
    let is_down = |peer: PeerId| down.contains(&peer.0);
    let contract = cluster.group(1).sleep_contract(is_down).expect("nothing is open");
    for id in ids {
        cluster.with(*id, |group, _| group.sleep(contract)).expect("up").expect("it is where all are");
    }
    cluster.delivered.clear();
}

/// Nothing is said in sleep; whoever has something to do wakes the others, and the leader is still the leader.
#[test]
fn a_sleeping_group_says_nothing_and_wakes_at_once() {
    let mut cluster = cluster(7, 3);
    cluster.run(300);
    let term = cluster.group(1).term();
    sleep_all(&mut cluster, &[1, 2, 3], &[]);
    cluster.run(60_000);
    assert!(cluster.delivered.is_empty(), "{:?}", cluster.delivered);
    let asked_at = cluster.now;
    let (index, _) = cluster.propose(1, "x").expect("up").expect("leads");
    cluster.run_until(100, |cluster| cluster.group(1).commit_index() >= index);
    assert!(cluster.now.since(asked_at) <= Duration::from_millis(4), "no extra round trip");
    cluster.run(3_000);
    assert_eq!((cluster.leader(), cluster.group(1).term()), (Some(1), term));
    // A follower that wakes alone is answered by the leader.
    sleep_all(&mut cluster, &[1, 2, 3], &[]);
    cluster.run(60_000);
    cluster.with(3, |group, now| group.wake(now));
    cluster.run(3_000);
    assert_eq!((cluster.leader(), cluster.group(1).term()), (Some(1), term));
    assert!((1..=3).all(|id| !cluster.group(id).is_asleep()));
    // So is a read of a follower.
    sleep_all(&mut cluster, &[1, 2, 3], &[]);
    cluster.run(60_000);
    cluster.read(3, 9);
    cluster.run(50);
    assert_eq!(cluster.host(3).answers.last(), Some(&(9, Some(index))));
}

/// A leader that dies in its sleep is missed as soon as its store is known to be down.
#[test]
fn a_sleeping_group_whose_leader_dies_elects_another() {
    let mut cluster = cluster(7, 3);
    cluster.run(300);
    sleep_all(&mut cluster, &[1, 2, 3], &[]);
    cluster.run(60_000);
    cluster.crash(1);
    for id in [2, 3] {
        cluster.with(id, |group, now| group.suspect_leader(now));
    }
    let suspected_at = cluster.now;
    cluster.run_until(1_000, |cluster| cluster.leader().is_some_and(|id| id != 1));
    // Its promise has ended long ago.
    assert!(cluster.now.since(suspected_at) <= Duration::from_millis(200));
}

/// A store that is down leaves a debt: the group sleeps without its peer, and brings it up to date when it is back.
#[test]
fn a_dead_store_does_not_prevent_sleep() {
    let mut cluster = cluster(7, 3);
    cluster.crash(3);
    cluster.propose(1, "3 lacks this").expect("up").expect("leads");
    cluster.run(300);
    assert!(cluster.group(1).sleep_contract(|_| false).is_err());
    sleep_all(&mut cluster, &[1, 2], &[3]);
    cluster.run(60_000);
    cluster.restart(3);
    cluster.with(1, |group, now| group.wake(now));
    cluster.run(300);
    assert_eq!(cluster.group(3).last(), cluster.group(1).last());
    assert_eq!(cluster.leader(), Some(1));
}

/// Row 14: what an earlier leader left is committed a round trip and a write after the election.
#[test]
fn what_is_inherited_is_committed_at_once() {
    let mut cluster = cluster(7, 3);
    // Both followers get it, the leader does not hear so.
    cluster.blocked.insert((PeerId(2), PeerId(1)));
    cluster.blocked.insert((PeerId(3), PeerId(1)));
    let (inherited, _) = cluster.propose(1, "not committed").expect("up").expect("leads");
    cluster.run(20);
    cluster.crash(1);
    cluster.blocked.clear();
    cluster.run_until(3_000, |cluster| cluster.leader().is_some());
    let (leader, elected_at) = (cluster.leader().expect("just seen"), cluster.now);
    assert!(cluster.group(leader).commit_index() < inherited);
    cluster.run_until(100, |cluster| cluster.group(leader).commit_index() > inherited);
    // A millisecond each way, half a millisecond for the write.
    assert!(cluster.now.since(elected_at) <= Duration::from_micros(2_600));
}

/// A leader that is cut off in the middle of a transfer does not take proposals again: it has no quorum to resume with.
#[test]
fn a_transfer_is_not_resumed_without_a_quorum() {
    let mut cluster = cluster(7, 3);
    cluster.run(300);
    cluster.with(1, |group, now| group.transfer_leader(now, PeerId(3))).expect("up").expect("it may");
    // TimeoutNow is on its way; nothing comes back.
    cluster.blocked.insert((PeerId(2), PeerId(1)));
    cluster.blocked.insert((PeerId(3), PeerId(1)));
    cluster.run(590);
    assert_eq!(cluster.leader(), Some(3));
    assert_eq!(cluster.group(1).role(), Role::Follower, "it is told by the new leader, or gives up");
    assert!(matches!(cluster.propose(1, "x"), Some(Err(raft::Error::NotLeader))));
}

#[test]
fn a_transfer_under_way_ends_with_the_quorum() {
    let mut cluster = cluster(7, 3);
    cluster.run(300);
    cluster.partition(&[&[1], &[2, 3]]);
    cluster.with(1, |group, now| group.transfer_leader(now, PeerId(3))).expect("up").expect("it may");
    while cluster.group(1).role() == Role::Leader {
        assert!(cluster.propose(1, "x").expect("up").is_err(), "it is not resumed without a quorum");
        cluster.run(10);
    }
}

/// Row 45: with five peers and 10 ms from one to another, few rounds elect one: 99 of 100 times at most three.
#[test]
fn few_rounds_elect_a_leader() {
    let mut rounds = Vec::new();
    for seed in 0..200 {
        let mut cluster = cluster(seed, 5);
        cluster.run(1_000);
        cluster.faults = Faults {
            delay_min: Duration::from_millis(4),
            delay_max: Duration::from_millis(6),
            ..Faults::NONE
        };
        cluster.run(1_000);
        cluster.trace.clear();
        cluster.crash(1);
        cluster.run_until(20_000, |cluster| cluster.leader().is_some());
        let is_round = |line: &&String| line.contains("PreCandidate") || line.contains(": Candidate");
        let per_peer = (2..=5).map(|id| {
            let of_peer = |line: &&String| is_round(line) && line.starts_with(&format!("{id}:"));
            cluster.trace.iter().filter(of_peer).count()
        });
        // A round is a pre-vote and a vote.
        rounds.push(per_peer.max().unwrap_or(0).div_ceil(2));
    }
    rounds.sort_unstable();
    println!("rounds: median {}, most {}", rounds[100], rounds[199]);
    assert!(rounds[197] <= 3, "{rounds:?}");
}
