//! The rules of lease reads that are the store's: each test fails without its rule. (How long a lease is, and who keeps
//! which promise, is the Raft core's.)

use std::time::Duration;

use store::AdminAction;
use types::{Outcome, StoreId};

use crate::{CHILD, FIRST, cluster::Cluster, get, value};

const OTHERS: [StoreId; 2] = [StoreId(1_001), StoreId(1_002)];

fn three_voters_with(key: &'static str, text: &'static str) -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, key, text), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(200));
    cluster
}

#[test]
fn a_read_waits_until_what_was_committed_at_its_arrival_is_applied() {
    let mut cluster = three_voters_with("a", "1");
    for actor in ["apply-0", "apply-1"] {
        cluster.hang(FIRST, actor);
    }
    let before = cluster.commit_index(FIRST);
    let write = cluster.start_put(FIRST, "a", "2");
    cluster.advance(Duration::from_millis(10));
    assert!(cluster.commit_index(FIRST) > before);
    // Another reader may have seen the write through another peer: from now on nobody may see less.
    let read = cluster.start_read(FIRST, get("a"));
    cluster.advance(Duration::from_millis(10));
    assert!(read.lock().expect("no test panics here").is_none(), "answered from before the write");
    for actor in ["apply-0", "apply-1"] {
        cluster.resume(FIRST, actor);
    }
    assert_eq!(cluster.finish(read), value("2"));
    assert_eq!(cluster.finish(write), Ok(Outcome::Done));
}

#[test]
fn a_lease_that_ends_while_the_snapshot_is_taken_proves_nothing() {
    let mut cluster = three_voters_with("a", "1");
    OTHERS.into_iter().for_each(|store| cluster.cut(store));
    assert_eq!(cluster.read(FIRST, get("a")), value("1"), "the lease goes on for a while");
    // When the snapshot is there, the others may have elected somebody and acknowledged writes.
    cluster.snapshots_take(Duration::from_secs(1));
    let read = cluster.start_read(FIRST, get("a"));
    cluster.snapshots_take(Duration::ZERO);
    assert!(cluster.finish(read).is_err(), "nobody confirms that the first store still leads");
}

/// Keys of a child may be written elsewhere as soon as its split is committed: until the split is applied here, nothing is
/// answered under the lease, not even a read that was let in before (D10).
#[test]
fn no_lease_read_is_served_while_a_split_is_committed_and_not_applied() {
    let mut cluster = three_voters_with("z", "1");
    cluster.hang(FIRST, "apply-0");
    let write = cluster.start_put(FIRST, "z", "2");
    cluster.advance(Duration::from_millis(5));
    let read = cluster.start_read(FIRST, get("z"));
    let split = cluster.split_at(FIRST, "m", 7);
    let split = cluster.start_admin(FIRST, split);
    let before = cluster.commit_index(FIRST);
    cluster.advance(Duration::from_millis(5));
    assert_eq!(cluster.commit_index(FIRST), before.next(), "the split is committed");
    // The applier reaches the split, and its record does not become durable.
    cluster.hang(FIRST, "log-writer");
    cluster.resume(FIRST, "apply-0");
    // Long enough for the others to elect somebody for the child, while this store goes on leading the parent.
    for _ in 0..20 {
        cluster.advance(Duration::from_millis(100));
        assert!(read.lock().expect("no test panics here").is_none(), "answered under the lease");
        assert!(split.lock().expect("no test panics here").is_none());
    }
    assert_eq!(cluster.finish(write), Ok(Outcome::Done));
    let child_leader = cluster.leader(CHILD).expect("the others have elected somebody");
    assert_ne!(child_leader, FIRST);
    assert_eq!(cluster.put_to(CHILD, "z", "3"), Ok(Outcome::Done));
    cluster.resume(FIRST, "log-writer");
    let misplaced = cluster.finish(read);
    assert!(misplaced.is_err(), "the key is the child's: {misplaced:?}");
    assert_eq!(cluster.finish(split), Ok(()));
    // Whoever was to lead the child first comes too late for that, and follows.
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.leader(CHILD), Some(child_leader));
}

/// Every message that leaves a store is compared with what its read workers know (`Wire::send`): here is a change of
/// peers, during which that matters.
#[test]
fn read_workers_know_a_commit_index_before_it_leaves_the_store() {
    let mut cluster = three_voters_with("a", "1");
    let compared = cluster.compared_commits();
    let target = cluster.region(FIRST).find_peer_on(OTHERS[0]).expect("a peer on the second store");
    assert_eq!(cluster.admin(FIRST, AdminAction::TransferLeader(target.id)), Ok(()));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.put(OTHERS[0], "a", "2"), Ok(Outcome::Done));
    let peers = cluster.region(OTHERS[0]).peers[1..].to_vec();
    let action = AdminAction::SetPeers { peers, change_id: 2 };
    assert_eq!(cluster.admin(OTHERS[0], action), Ok(()));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.region(OTHERS[0]).peers.len(), 2);
    assert!(cluster.compared_commits() > compared, "commit indexes have left the store");
}
