//! Snapshots that come at awkward moments.

use std::time::Duration;

use store::{Account, AdminAction, Lane, SnapshotMessage, StoreMessage};
use types::{Outcome, StoreId};

use crate::{
    FIRST,
    cluster::{Cluster, LEDGER_BYTES},
};

const SECOND: StoreId = StoreId(1_001);
const THIRD: StoreId = StoreId(1_002);

fn put_many(cluster: &mut Cluster, leader: StoreId) {
    for number in 0..200 {
        assert_eq!(cluster.put(leader, ["a", "b", "c"][number % 3], "later"), Ok(Outcome::Done));
    }
    // Upkeep flushes, and the flush frees the log.
    cluster.advance(Duration::from_secs(1));
}

fn header_count(cluster: &Cluster) -> usize {
    let is_header = |message: &StoreMessage| matches!(message, StoreMessage::Snapshot(SnapshotMessage::Header(header)) if header.to.store_id == THIRD);
    cluster.sent.iter().filter(|(lane, message)| *lane == Lane::Snapshot && is_header(message)).count()
}

/// Two leaders in succession send a snapshot, and the second is here before the first one's record is durable. If it took
/// its place, the first one's record would stay without a mark, and the next start would put its older data in place.
#[test]
fn a_snapshot_waits_until_the_one_before_is_in_place() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.cut(THIRD);
    put_many(&mut cluster, FIRST);
    cluster.sent.clear();
    // Both leaders learn what the third store lacks before either of them sends it.
    [FIRST, SECOND].into_iter().for_each(|store| cluster.hang(store, "snapshot"));
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(300));
    let target = cluster.region(FIRST).find_peer_on(SECOND).expect("a peer lives there");
    assert_eq!(cluster.admin(FIRST, AdminAction::TransferLeader(target.id)), Ok(()));
    cluster.advance(Duration::from_millis(300));
    cluster.hang(THIRD, "log-writer");
    cluster.resume(FIRST, "snapshot");
    cluster.advance(Duration::from_millis(50));
    assert_eq!(cluster.put(SECOND, "a", "2"), Ok(Outcome::Done));
    cluster.resume(SECOND, "snapshot");
    cluster.advance(Duration::from_millis(50));
    assert_eq!(header_count(&cluster), 2);
    cluster.resume(THIRD, "log-writer");
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.put(SECOND, "a", "3"), Ok(Outcome::Done));
    cluster.advance(Duration::from_secs(1));
    cluster.restart(THIRD);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.stored(THIRD, "a").as_deref(), Some(b"3".as_slice()));
    assert_eq!(cluster.stored(THIRD, "c").as_deref(), Some(b"later".as_slice()));
}

/// Chunks that a connection loses are sent again from the same engine snapshot; the transfer does not begin anew.
#[test]
fn a_transfer_goes_on_from_where_its_connection_broke() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.cut(THIRD);
    // What the test keeps of entries would stay in the sender's ledger.
    cluster.is_forgetful = true;
    cluster.sent.clear();
    let value = "v".repeat(2_048);
    for number in 0..300 {
        assert_eq!(cluster.put(FIRST, &format!("key-{number:03}"), &value), Ok(Outcome::Done));
    }
    cluster.advance(Duration::from_secs(1));
    cluster.is_forgetful = false;
    cluster.lose(|_, _, message| {
        matches!(message, StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) if [5, 6, 9].contains(&chunk.number))
    });
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(900));
    assert_eq!(cluster.stored(THIRD, "key-299"), None, "chunk 5 is lost");
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(4));
    assert_eq!(cluster.stored(THIRD, "key-299").as_deref(), Some(value.as_bytes()));
    assert_eq!(header_count(&cluster), 1, "it is one transfer");
}

/// Whether a snapshot is wanted may only be told when the log has been read back, for which there is no room at the
/// moment. Until then its data stays: it must not be taken without.
#[test]
fn a_snapshot_whose_log_cannot_be_read_yet_keeps_its_data() {
    let mut cluster = Cluster::with_stores(3);
    cluster.is_forgetful = true;
    cluster.sent.clear();
    cluster.grow_to_three_voters();
    let target = cluster.region(FIRST).find_peer_on(THIRD).expect("a peer lives there");
    assert_eq!(cluster.admin(FIRST, AdminAction::TransferLeader(target.id)), Ok(()));
    cluster.advance(Duration::from_millis(300));
    // What the third store has at its log's end is never committed, and reaches further than the snapshot.
    cluster.cut(THIRD);
    for number in 0..400 {
        drop(cluster.start_put(THIRD, "a", &format!("never {number:0100}")));
    }
    cluster.advance(Duration::from_secs(3));
    let leader = cluster.leader(types::RegionId::FIRST).expect("the others have one");
    put_many(&mut cluster, leader);
    // Where memory is short, entries leave it as soon as they are durable.
    let ledger = cluster.ledger(THIRD);
    let tight = ledger.reserve(Account::Control, usize::try_from(LEDGER_BYTES / 4).expect("it is small") + 1);
    assert!(tight.is_some());
    cluster.hang(THIRD, "snapshot");
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(500));
    cluster.hang(THIRD, "raft-0");
    cluster.resume(THIRD, "snapshot");
    cluster.settle();
    let all = ledger.reserve(Account::Control, ledger_room(&ledger));
    assert!(all.is_some());
    cluster.resume(THIRD, "raft-0");
    cluster.settle();
    drop((all, tight));
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.put(leader, "d", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_secs(1));
    cluster.restart(THIRD);
    cluster.advance(Duration::from_secs(2));
    for (key, expected) in [("a", "later"), ("c", "later"), ("d", "1")] {
        assert_eq!(cluster.stored(THIRD, key).as_deref(), Some(expected.as_bytes()));
    }
}

/// What the store may still reserve to read entries back.
fn ledger_room(ledger: &store::Ledger) -> usize {
    usize::try_from(LEDGER_BYTES / 8 * 7 - ledger.reserved_bytes()).expect("it is small")
}
