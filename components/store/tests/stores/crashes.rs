//! Each change of the set of peers loses power at each of its steps, on one store and on all at once: whatever hangs holds
//! the change up there, and what was not synced by then is gone. (Splits: `splits.rs`.)

use std::time::Duration;

use types::{Outcome, RegionId, StoreId};

use crate::{CHILD, FIRST, cluster::Cluster, splits::halves};

const SECOND: StoreId = StoreId(1_001);
const THIRD: StoreId = StoreId(1_002);

/// The steps of a change, by the actor that would carry out the next one.
const STEPS: [&str; 6] = ["snapshot", "raft-0", "log-writer", "apply-0", "upkeep", "none"];

/// Lets the change go on until `hangs` has its part of it, and cuts the power of one store or of all.
fn lose_power(cluster: &mut Cluster, hangs: &'static str, is_everywhere: bool) {
    cluster.advance(Duration::from_millis(400));
    let stores = if is_everywhere { cluster.stores() } else { vec![THIRD] };
    cluster.lose_power(&stores, &stores);
    cluster.resume(THIRD, hangs);
}

#[test]
fn a_store_that_is_founded_is_there_after_a_power_loss_at_any_step() {
    for hangs in STEPS {
        let mut cluster = Cluster::founded();
        cluster.hang(FIRST, hangs);
        cluster.advance(Duration::from_secs(2));
        let is_served = cluster.leader(RegionId::FIRST).is_some()
            && cluster.start_put(FIRST, "a", "1").lock().expect("no test panics here").is_some();
        cluster.lose_power(&[FIRST], &[FIRST]);
        cluster.resume(FIRST, hangs);
        cluster.advance(Duration::from_secs(3));
        if is_served {
            assert_eq!(cluster.stored(FIRST, "a").as_deref(), Some(b"1".as_slice()), "{hangs} hung");
        }
        assert_eq!(cluster.put(FIRST, "b", "2"), Ok(Outcome::Done), "{hangs} hung");
        assert_eq!(cluster.ranges(FIRST), [(RegionId::FIRST, types::KeyRange::ALL)], "{hangs} hung");
    }
}

#[test]
fn a_snapshot_is_put_in_place_after_a_power_loss_at_any_step() {
    for is_everywhere in [false, true] {
        for hangs in STEPS {
            let mut cluster = Cluster::with_stores(3);
            cluster.grow_to_three_voters();
            cluster.cut(THIRD);
            for number in 0..100 {
                assert_eq!(cluster.put(FIRST, ["a", "b", "c"][number % 3], "later"), Ok(Outcome::Done));
            }
            cluster.advance(Duration::from_secs(1));
            cluster.hang(THIRD, hangs);
            cluster.heal(THIRD);
            lose_power(&mut cluster, hangs, is_everywhere);
            // Long enough for a sender to give up a receiver that has forgotten everything.
            cluster.advance(Duration::from_secs(13));
            assert_eq!(cluster.put_to(RegionId::FIRST, "a", "last"), Ok(Outcome::Done));
            cluster.advance(Duration::from_secs(1));
            for store in cluster.stores() {
                let text = format!("store {store}, {hangs} hung, all: {is_everywhere}");
                assert_eq!(cluster.stored(store, "a").as_deref(), Some(b"last".as_slice()), "{text}");
                assert_eq!(cluster.stored(store, "c").as_deref(), Some(b"later".as_slice()), "{text}");
            }
        }
    }
}

#[test]
fn the_end_of_a_peer_goes_on_after_a_power_loss_of_all() {
    for hangs in STEPS {
        let mut cluster = Cluster::with_stores(3);
        cluster.grow_to_three_voters();
        let first_peer = cluster.region(FIRST).find_peer_on(FIRST).expect("it has a peer there").id.0;
        assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
        cluster.advance(Duration::from_secs(1));
        cluster.hang(THIRD, hangs);
        cluster.set_peers(FIRST, 2, &[(first_peer, FIRST), (2_001, SECOND)]);
        lose_power(&mut cluster, hangs, true);
        // Long enough to ask the others.
        cluster.advance(Duration::from_secs(8));
        assert!(!cluster.has_remains(THIRD), "{hangs} hung");
        let peers = [(first_peer, FIRST), (2_001, SECOND), (3_002, THIRD)];
        cluster.move_region(RegionId::FIRST, 3, &peers);
        assert_eq!(cluster.stored(THIRD, "a").as_deref(), Some(b"1".as_slice()), "{hangs} hung");
    }
}

/// The parent's other stores are gone for good, the child lives on with others: the store that has the child's log, and
/// whose data was lost before the split was flushed, brings the child back without asking the parent's quorum.
#[test]
fn a_child_whose_parent_has_lost_its_quorum_comes_back_by_itself() {
    let mut cluster = Cluster::with_stores(5);
    let [fourth, fifth] = [StoreId(1_003), StoreId(1_004)];
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_secs(1));
    cluster.hang(FIRST, "upkeep");
    assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.advance(Duration::from_millis(200));
    cluster.move_region(CHILD, 8, &[(10_000, FIRST), (10_003, fourth), (10_004, fifth)]);
    assert_eq!(cluster.put_to(CHILD, "z", "2"), Ok(Outcome::Done));
    // Nothing behind the split was ever flushed on the first store, and the child needs that store for its quorum.
    let all = cluster.stores();
    cluster.lose_power(&all, &[FIRST, fifth]);
    cluster.resume(FIRST, "upkeep");
    cluster.advance(Duration::from_secs(4));
    assert_eq!(cluster.ranges(FIRST), halves());
    assert_eq!(cluster.leader(RegionId::FIRST), None, "the parent has one voter of three");
    assert_eq!(cluster.stored(FIRST, "z").as_deref(), Some(b"2".as_slice()));
    assert_eq!(cluster.put_to(CHILD, "z", "3"), Ok(Outcome::Done));
}
