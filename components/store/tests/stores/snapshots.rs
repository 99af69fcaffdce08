//! Snapshots that come at awkward moments.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use store::{
    Account, AdminAction, Lane, LastSplit, SnapshotMessage, SnapshotStatus, SplitKeysWish, StoreMessage,
};
use types::{KeyRange, Outcome, RegionId, StoreId};

use crate::{
    CHILD, FIRST,
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
    header_count_to(cluster, THIRD)
}

fn header_count_to(cluster: &Cluster, store: StoreId) -> usize {
    let is_header = |message: &StoreMessage| matches!(message, StoreMessage::Snapshot(SnapshotMessage::Header(header)) if header.to.store_id == store);
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

/// The region is split while the third store is away, and no log is left of it. Gives back the wish.
fn split_without_the_third() -> (Cluster, AdminAction) {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.cut(THIRD);
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split.clone()), Ok(()));
    put_many(&mut cluster, FIRST);
    cluster.sent.clear();
    (cluster, split)
}

/// It also knows what the region was before.
fn last_split_known_to(cluster: &mut Cluster, store: StoreId) -> Option<LastSplit> {
    assert_eq!(cluster.range_at(store, 1), Some(KeyRange::ALL));
    let found = cluster.find_split_keys(store, RegionId::FIRST, SplitKeysWish::Middle);
    found.expect("it has data").last_split
}

fn the_split() -> Option<LastSplit> {
    Some(LastSplit { change_id: 7, keys: vec![Bytes::from("m")] })
}

/// The third store's peer is made leader, and asked once more for the split that it knows by a snapshot.
fn ask_the_third_again(cluster: &mut Cluster, split: AdminAction) -> store::Result<()> {
    let leader = cluster.leader(RegionId::FIRST).expect("somebody leads");
    let target = cluster.region(leader).find_peer_on(THIRD).expect("a peer lives there");
    assert_eq!(cluster.admin(leader, AdminAction::TransferLeader(target.id)), Ok(()));
    cluster.advance(Duration::from_millis(500));
    assert_eq!(cluster.leader(RegionId::FIRST), Some(THIRD));
    cluster.admin(THIRD, split)
}

/// Who has its data from a snapshot knows the region's last split as well as those who have carried it out.
#[test]
fn a_snapshot_tells_of_the_last_split_and_so_does_who_has_it_from_a_snapshot() {
    let (mut cluster, split) = split_without_the_third();
    cluster.heal(THIRD);
    cluster.advance(Duration::from_secs(2));
    assert!(header_count(&cluster) > 0, "it came by snapshot");
    assert_eq!(last_split_known_to(&mut cluster, THIRD), the_split());
    assert_eq!(ask_the_third_again(&mut cluster, split), Ok(()));
    // A snapshot of what came by a snapshot.
    cluster.cut(SECOND);
    put_many(&mut cluster, THIRD);
    cluster.heal(SECOND);
    cluster.advance(Duration::from_secs(3));
    assert!(header_count_to(&cluster, SECOND) > 0, "it came by snapshot");
    assert_eq!(last_split_known_to(&mut cluster, SECOND), the_split());
}

/// The record of a snapshot brings the last split back, whatever of its effect is lost with the power.
#[test]
fn a_snapshot_that_a_power_loss_cuts_short_tells_of_the_last_split() {
    // The effect is not written; it is, and lost with the power; it is durable.
    for hangs in ["apply-0", "upkeep", "none"] {
        let (mut cluster, split) = split_without_the_third();
        cluster.hang(THIRD, hangs);
        cluster.heal(THIRD);
        cluster.advance(Duration::from_secs(2));
        assert!(header_count(&cluster) > 0, "it came by snapshot; {hangs} hung");
        // Nobody else can tell it any more.
        cluster.cut(THIRD);
        cluster.lose_power(&[THIRD], &[THIRD]);
        cluster.resume(THIRD, hangs);
        cluster.settle();
        assert_eq!(cluster.region(THIRD).range, KeyRange::new("", "m"), "{hangs} hung");
        assert_eq!(last_split_known_to(&mut cluster, THIRD), the_split(), "{hangs} hung");
        cluster.heal(THIRD);
        cluster.advance(Duration::from_secs(3));
        assert_eq!(ask_the_third_again(&mut cluster, split), Ok(()), "{hangs} hung");
    }
}

/// The third store lacks 600 KiB, of which no log is left: some forty chunks.
fn without_the_third_for_long(value: &str) -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.cut(THIRD);
    // What the test keeps of entries would stay in the sender's ledger.
    cluster.is_forgetful = true;
    cluster.sent.clear();
    for number in 0..300 {
        assert_eq!(cluster.put(FIRST, &format!("key-{number:03}"), value), Ok(Outcome::Done));
    }
    cluster.advance(Duration::from_secs(1));
    cluster.is_forgetful = false;
    cluster
}

/// Chunks that a connection loses are sent again from the same engine snapshot; the transfer does not begin anew.
#[test]
fn a_transfer_goes_on_from_where_its_connection_broke() {
    let value = "v".repeat(2_048);
    let mut cluster = without_the_third_for_long(&value);
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

/// How often each chunk was delivered, and how often each was said to be expected next.
fn chunks_and_answers(cluster: &Cluster) -> (BTreeMap<u64, usize>, BTreeMap<u64, usize>) {
    let (mut chunks, mut answers) = (BTreeMap::new(), BTreeMap::new());
    for (_, message) in &cluster.sent {
        match message {
            StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) => {
                *chunks.entry(chunk.number).or_default() += 1
            }
            StoreMessage::Snapshot(SnapshotMessage::Ack(ack)) => {
                if let SnapshotStatus::Continue { next_chunk } = ack.status {
                    *answers.entry(next_chunk).or_default() += 1;
                }
            }
            StoreMessage::Snapshot(SnapshotMessage::Header(_))
            | StoreMessage::Raft(_)
            | StoreMessage::Beat(_)
            | StoreMessage::Membership(_)
            | StoreMessage::Sleep(_)
            | StoreMessage::Placement(_) => {}
        }
    }
    (chunks, answers)
}

/// A chunk whose bytes are not what was sent is not staged: the same transfer goes on with the same chunk.
#[test]
fn a_damaged_chunk_is_refused_and_sent_again() {
    let value = "v".repeat(2_048);
    let mut cluster = without_the_third_for_long(&value);
    let is_damaged = Rc::new(Cell::new(false));
    let damaged = Rc::clone(&is_damaged);
    cluster.alter(move |message| {
        let StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) = message else { return };
        if chunk.number != 5 || damaged.replace(true) {
            return;
        }
        let (_, stored) = chunk.pairs.last_mut().expect("it has pairs");
        let mut bytes = stored.to_vec();
        *bytes.last_mut().expect("it has bytes") ^= 1;
        *stored = Bytes::from(bytes);
    });
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(900));
    assert!(is_damaged.get());
    assert_eq!(cluster.stored(THIRD, "key-299"), None, "chunk 5 is not there");
    cluster.advance(Duration::from_secs(4));
    for number in 0..300 {
        let stored = cluster.stored(THIRD, &format!("key-{number:03}"));
        assert_eq!(stored.as_deref(), Some(value.as_bytes()), "key {number}");
    }
    assert_eq!(header_count(&cluster), 1, "it is one transfer");
    let (chunks, answers) = chunks_and_answers(&cluster);
    assert_eq!((chunks[&4], chunks[&5]), (1, 2), "what came before it is not sent again");
    // It is named once when it is awaited, and once for each chunk that is of no use meanwhile.
    assert!(answers[&5] >= 2, "{answers:?}");
}

/// What is written while a snapshot is under way is not in it, and does not wait for it: it comes by the log behind it.
#[test]
fn writes_go_on_during_a_transfer_and_its_receiver_has_them_afterwards() {
    let value = "v".repeat(2_048);
    let mut cluster = without_the_third_for_long(&value);
    cluster.lose(|_, _, message| {
        matches!(message, StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) if chunk.number == 5)
    });
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(100));
    let (chunks, _) = chunks_and_answers(&cluster);
    assert!(chunks.contains_key(&4) && !chunks.contains_key(&5), "a part of it is there");
    // A key of a part that is there, one of a part that is not, a new one.
    for (key, text) in [("key-000", "first"), ("key-299", "last"), ("new", "new")] {
        let began = cluster.now();
        assert_eq!(cluster.put(FIRST, key, text), Ok(Outcome::Done));
        assert!(cluster.now().since(began) <= Duration::from_millis(1), "it waits for nobody");
    }
    assert_eq!(cluster.stored(THIRD, "key-000"), None, "the transfer is under way");
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(4));
    assert_eq!(header_count(&cluster), 1, "it is one transfer");
    let text = |key| cluster.stored(THIRD, key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let texts = ["key-000", "key-299", "new", "key-150"].map(text);
    assert_eq!(texts.map(Option::unwrap_or_default), ["first", "last", "new", &value]);
}

/// What leaders say of snapshots to the third store, and what it answers.
#[derive(Default)]
struct Offers {
    header_count: BTreeMap<StoreId, usize>,
    chunk_count: BTreeMap<StoreId, usize>,
    refusals: BTreeMap<StoreId, Vec<String>>,
}

/// Listens to every snapshot message, and lets those be lost that `loses` names.
fn listen(
    cluster: &mut Cluster,
    mut loses: impl FnMut(StoreId, &SnapshotMessage) -> bool + 'static,
) -> Rc<RefCell<Offers>> {
    let offers = Rc::<RefCell<Offers>>::default();
    let heard = Rc::clone(&offers);
    cluster.lose(move |from, to, message| {
        let StoreMessage::Snapshot(message) = message else { return false };
        let mut heard = heard.borrow_mut();
        match message {
            SnapshotMessage::Header(_) => *heard.header_count.entry(from).or_default() += 1,
            SnapshotMessage::Chunk(_) => *heard.chunk_count.entry(from).or_default() += 1,
            SnapshotMessage::Ack(ack) => {
                if let SnapshotStatus::Refused(reason) = &ack.status {
                    heard.refusals.entry(to).or_default().push(reason.clone());
                }
            }
        }
        loses(from, message)
    });
    offers
}

/// A store that receives as many snapshots as it may says so before another one is read: its leader sends no chunk.
#[test]
fn a_receiver_without_a_place_refuses_before_anything_is_read() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let children = cluster.split_in_turns(FIRST, 2, vec![FIRST, SECOND]);
    cluster.advance(Duration::from_secs(1));
    let regions = [RegionId::FIRST, children[0], children[1]];
    let leaders = regions.map(|region_id| cluster.leader(region_id));
    assert_eq!(leaders, [Some(FIRST), Some(FIRST), Some(SECOND)]);
    cluster.cut(THIRD);
    for (region_id, key) in regions.into_iter().zip(["a", "k000100", "k000101"]) {
        for _ in 0..100 {
            assert_eq!(cluster.put_to(region_id, key, "later"), Ok(Outcome::Done));
        }
    }
    cluster.advance(Duration::from_secs(1));
    // The second store begins when the first one has taken both places, and does not get on.
    cluster.hang(SECOND, "snapshot");
    let offers =
        listen(&mut cluster, |from, message| from == FIRST && matches!(message, SnapshotMessage::Chunk(_)));
    cluster.heal(THIRD);
    cluster.advance(Duration::from_millis(500));
    assert_eq!(offers.borrow().header_count.get(&FIRST), Some(&2));
    cluster.resume(SECOND, "snapshot");
    cluster.advance(Duration::from_secs(2));
    {
        let offers = offers.borrow();
        assert!(offers.header_count.get(&SECOND).is_some_and(|count| *count > 0), "it has asked");
        let refusals = offers.refusals.get(&SECOND).map(Vec::as_slice).unwrap_or_default();
        assert!(!refusals.is_empty());
        assert!(refusals.iter().all(|reason| reason == "too many snapshots are being received"));
        assert_eq!(offers.chunk_count.get(&SECOND), None, "nothing was read for nothing");
    }
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(5));
    for key in ["a", "k000100", "k000101"] {
        assert_eq!(cluster.stored(THIRD, key).as_deref(), Some(b"later".as_slice()), "{key}");
    }
}

/// A store whose disk is full takes no snapshot: what is left of its space is for what it has taken on already.
#[test]
fn a_receiver_without_space_refuses_before_anything_is_read() {
    let value = "v".repeat(2_048);
    let mut cluster = without_the_third_for_long(&value);
    cluster.set_free_bytes(THIRD, 0);
    cluster.advance(Duration::from_secs(1));
    let offers = listen(&mut cluster, |_, _| false);
    cluster.heal(THIRD);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(offers.borrow().chunk_count.get(&FIRST), None, "nothing was read for nothing");
    let refusals = offers.borrow().refusals.get(&FIRST).cloned().unwrap_or_default();
    assert!(!refusals.is_empty());
    assert!(refusals.iter().all(|reason| reason == "the disk is full"), "{refusals:?}");
    assert!(refusals.len() < 60, "{} times in three seconds", refusals.len());
    assert_eq!(cluster.put(FIRST, "key-000", "later"), Ok(Outcome::Done));
    cluster.set_free_bytes(THIRD, u64::MAX);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.stored(THIRD, "key-299").as_deref(), Some(value.as_bytes()));
    assert_eq!(cluster.stored(THIRD, "key-000").as_deref(), Some(b"later".as_slice()));
}

/// 256 MiB a second, whatever the receiver could take; and a burst of a twentieth of that.
#[test]
fn snapshots_leave_no_faster_than_their_rate() {
    const BYTES_PER_MILLISECOND: usize = (256 << 20) / 1_000;
    /// Of each region.
    const PAIRS: usize = 640;
    let mut cluster = Cluster::with_stores(3);
    cluster.is_forgetful = true;
    cluster.sent.clear();
    cluster.grow_to_three_voters();
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.cut(THIRD);
    // Two regions, for the rate is the store's and not a transfer's. What is under way of both fits into a ledger.
    let value = "v".repeat(32 << 10);
    for number in 0..PAIRS {
        for (region_id, key) in [(RegionId::FIRST, "a"), (CHILD, "z")] {
            assert_eq!(cluster.put_to(region_id, &format!("{key}-{number:03}"), &value), Ok(Outcome::Done));
        }
    }
    cluster.advance(Duration::from_secs(1));
    let sent_bytes = Rc::new(Cell::new(0));
    let counted = Rc::clone(&sent_bytes);
    cluster.lose(move |_, _, message| {
        if let StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) = message {
            let bytes: usize = chunk.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            counted.set(counted.get() + bytes);
        }
        false
    });
    cluster.heal(THIRD);
    // Bytes sent by the end of each millisecond.
    let mut sent = vec![0];
    for _ in 0..600 {
        cluster.advance(Duration::from_millis(1));
        sent.push(sent_bytes.get());
    }
    let all_bytes = 2 * PAIRS * value.len();
    assert!(*sent.last().expect("it was looked") >= all_bytes, "all of it was sent");
    let slack_bytes = 50 * BYTES_PER_MILLISECOND + 2 * value.len();
    for length in [1, 10, 50, 100, 150] {
        let most = sent.windows(length + 1).map(|window| window[length] - window[0]).max().unwrap_or(0);
        let allowed = length * BYTES_PER_MILLISECOND + slack_bytes;
        assert!(most <= allowed, "{most} bytes in {length} ms, of {allowed}");
    }
    // It is the rate that bounds it: from the first byte to the last nothing else takes time.
    let took = sent.iter().filter(|bytes| **bytes > 0 && **bytes < all_bytes).count();
    let least = (all_bytes - slack_bytes) / BYTES_PER_MILLISECOND;
    assert!((least..least + 60).contains(&took), "{took} ms, at least {least}");
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.stored(THIRD, "z-639").as_deref(), Some(value.as_bytes()));
}
