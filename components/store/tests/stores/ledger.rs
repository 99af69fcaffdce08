//! What a store holds in memory while others are slow, full or gone (D12).

use std::time::Duration;

use raft::MessageBody;
use store::{Account, Error, StoreMessage};
use types::{Index, Outcome, RegionId, StoreId};

use super::{
    CHILD, FIRST,
    cluster::{Cluster, LEDGER_BYTES, Pending},
};

const SECOND: StoreId = StoreId(1_001);
const THIRD: StoreId = StoreId(1_002);

/// Two kibibytes.
fn value(number: usize) -> String {
    format!("{number:02048}")
}

fn three_stores() -> Cluster {
    let mut cluster = Cluster::with_stores(3);
    cluster.is_forgetful = true;
    cluster.sent.clear();
    cluster.grow_to_three_voters();
    cluster
}

/// Writes about 60 MiB in an hour, more than sixty times what a store may hold; nobody may notice that one follower
/// takes nothing.
fn write_for_an_hour(cluster: &mut Cluster) {
    for number in 0..3_600 {
        for key in 0..8 {
            let put = cluster.put(FIRST, &format!("key-{key}"), &value(number));
            assert_eq!(put, Ok(Outcome::Done), "after {number} s");
        }
        cluster.pass(Duration::from_millis(950));
        for store in [FIRST, SECOND] {
            let reserved = cluster.ledger(store).reserved_bytes();
            assert!(reserved <= LEDGER_BYTES / 4, "store {store} holds {reserved} bytes after {number} s");
        }
    }
}

fn assert_at_rest(cluster: &mut Cluster) {
    cluster.pass(Duration::from_secs(20));
    for store in cluster.stores() {
        assert_eq!(cluster.ledger(store).reserved_bytes(), 0, "store {store} has nothing to do");
    }
    let newest = value(3_599);
    for store in cluster.stores() {
        assert_eq!(cluster.stored(store, "key-7").as_deref(), Some(newest.as_bytes()), "store {store}");
    }
}

#[test]
fn a_follower_that_is_gone_for_an_hour_does_not_make_the_others_grow() {
    let mut cluster = three_stores();
    cluster.cut(THIRD);
    write_for_an_hour(&mut cluster);
    cluster.heal(THIRD);
    assert_at_rest(&mut cluster);
}

#[test]
fn a_follower_without_space_for_an_hour_does_not_make_the_others_grow() {
    let mut cluster = three_stores();
    cluster.set_free_bytes(THIRD, 0);
    cluster.pass(Duration::from_secs(1));
    write_for_an_hour(&mut cluster);
    assert_eq!(
        cluster.ledger(THIRD).refusal_count(Account::Received),
        0,
        "its disk is full, its memory is not"
    );
    cluster.set_free_bytes(THIRD, u64::MAX);
    assert_at_rest(&mut cluster);
}

#[test]
fn a_region_that_rests_keeps_no_log() {
    let mut cluster = three_stores();
    for number in 0..15 {
        assert_eq!(cluster.put(FIRST, "key", &value(number)), Ok(Outcome::Done));
    }
    cluster.pass(Duration::from_secs(30));
    assert!(
        cluster.stores().iter().all(|store| cluster.log_bytes(*store) > 0),
        "someone may be a little behind"
    );
    cluster.pass(Duration::from_secs(150));
    for store in cluster.stores() {
        assert_eq!(cluster.log_bytes(store), 0, "store {store}");
    }
    // From an empty log on it goes on as before, also for a follower that was away.
    cluster.cut(THIRD);
    assert_eq!(cluster.put(FIRST, "key", "newer"), Ok(Outcome::Done));
    cluster.heal(THIRD);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.stored(THIRD, "key").as_deref(), Some(b"newer".as_slice()));
}

#[test]
fn a_store_that_is_gone_holds_back_no_log_for_long() {
    let mut cluster = three_stores();
    cluster.cut(THIRD);
    for number in 0..40 {
        assert_eq!(cluster.put(FIRST, "key", &value(number)), Ok(Outcome::Done));
    }
    cluster.pass(Duration::from_secs(300));
    assert!(cluster.log_bytes(FIRST) >= 40 * 2_048, "its leader keeps what it lacks");
    cluster.pass(Duration::from_secs(450));
    assert_eq!(cluster.log_bytes(FIRST), 0, "for ten minutes");
    cluster.heal(THIRD);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        cluster.stored(THIRD, "key").as_deref(),
        Some(value(39).as_bytes()),
        "a snapshot brings it back"
    );
}

fn answers(pending: &[Pending<Outcome>]) -> Vec<store::Result<Outcome>> {
    pending.iter().filter_map(|pending| pending.lock().expect("no test panics here").clone()).collect()
}

/// More puts than there is room for while they have to wait, and how many of them are told to come back.
fn put_beyond_the_limit(cluster: &mut Cluster) -> (Vec<Pending<Outcome>>, usize) {
    let puts: Vec<_> = (0..400).map(|number| cluster.start_put(FIRST, "key", &value(number))).collect();
    let refused = answers(&puts);
    assert!(refused.len() > 100, "half a mebibyte holds no 300 of them: {}", refused.len());
    for answer in &refused {
        let Err(Error::Busy { retry_after, .. }) = answer else { panic!("{answer:?}") };
        assert!(!retry_after.is_zero());
    }
    (puts, refused.len())
}

#[test]
fn without_a_quorum_writes_wait_up_to_the_limit_and_are_told_to_come_back_beyond_it() {
    let mut cluster = three_stores();
    cluster.hang(SECOND, "log-writer");
    cluster.hang(THIRD, "log-writer");
    let (puts, refused_count) = put_beyond_the_limit(&mut cluster);
    assert!(cluster.ledger(FIRST).reserved_bytes() <= LEDGER_BYTES / 2);

    cluster.resume(SECOND, "log-writer");
    cluster.advance(Duration::from_millis(100));
    let done = answers(&puts).iter().filter(|answer| **answer == Ok(Outcome::Done)).count();
    assert_eq!(done, puts.len() - refused_count, "whoever waited was served");
    assert_eq!(cluster.put(FIRST, "key", "after"), Ok(Outcome::Done));
    cluster.resume(THIRD, "log-writer");
    cluster.pass(Duration::from_secs(5));
    assert!(cluster.stores().iter().all(|store| cluster.ledger(*store).reserved_bytes() == 0));
    assert_eq!(cluster.stored(THIRD, "key").as_deref(), Some(b"after".as_slice()));
}

/// While an actor of the third store hangs it takes entries up to its share, and refuses more; the others go on. Then it gets
/// what it has refused. `is_within` looks at its ledger after each write, `at_last` behind the last one.
fn refuses_and_heals(hanging: &'static str, is_within: impl Fn(u64) -> bool, at_last: impl Fn(u64) -> bool) {
    let mut cluster = three_stores();
    cluster.hang(THIRD, hanging);
    // Four values an entry: 256 entries, the most that are sent without an answer, are two mebibytes.
    for number in 0..400 {
        let put = cluster.put(FIRST, "key", &value(number).repeat(4));
        assert_eq!(put, Ok(Outcome::Done), "two of three are a quorum");
        let reserved_bytes = cluster.ledger(THIRD).reserved_bytes();
        assert!(is_within(reserved_bytes), "{reserved_bytes}");
    }
    let ledger = cluster.ledger(THIRD);
    assert!(ledger.refusal_count(Account::Received) > 0, "more than three quarters of a mebibyte was sent");
    assert!(at_last(ledger.reserved_bytes()), "{}", ledger.reserved_bytes());
    cluster.resume(THIRD, hanging);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        cluster.stored(THIRD, "key").as_deref(),
        Some(value(399).repeat(4).as_bytes()),
        "refused is not lost"
    );
    assert!(cluster.stores().iter().all(|store| cluster.ledger(*store).reserved_bytes() == 0));
}

#[test]
fn a_follower_whose_disk_hangs_refuses_entries_before_it_exceeds_its_limit() {
    refuses_and_heals("log-writer", |bytes| bytes <= LEDGER_BYTES / 4 * 3, |_| true);
}

/// What waits to be applied is held in memory, and counts: beyond its share clients are told to come back, and nothing that
/// was let in is lost.
#[test]
fn a_full_apply_queue_refuses_writes_and_heals() {
    let mut cluster = three_stores();
    cluster.hang(FIRST, "apply-0");
    let (puts, refused_count) = put_beyond_the_limit(&mut cluster);
    let ledger = cluster.ledger(FIRST);
    let let_in_bytes = ((puts.len() - refused_count) * value(0).len()) as u64;
    assert!(ledger.account_bytes(Account::Entries) >= let_in_bytes, "they are committed, and wait");
    assert!(ledger.reserved_bytes() <= LEDGER_BYTES / 2);
    assert!(ledger.refusal_count(Account::Proposals) > 0);
    let early = cluster.start_put(FIRST, "key", &value(400));
    assert!(matches!(answers(&[early])[..], [Err(Error::Busy { .. })]), "as long as it is full");

    cluster.resume(FIRST, "apply-0");
    cluster.advance(Duration::from_millis(100));
    let done = answers(&puts).iter().filter(|answer| **answer == Ok(Outcome::Done)).count();
    assert_eq!(done, puts.len() - refused_count, "whoever waited was served");
    assert_eq!(cluster.put(FIRST, "key", "after"), Ok(Outcome::Done));
    cluster.pass(Duration::from_secs(5));
    for store in cluster.stores() {
        assert_eq!(cluster.ledger(store).reserved_bytes(), 0, "store {store}");
        assert_eq!(cluster.stored(store, "key").as_deref(), Some(b"after".as_slice()), "store {store}");
    }
}

/// What it took waits to be applied.
#[test]
fn a_follower_whose_apply_queue_is_full_refuses_entries_and_heals() {
    let is_within = |bytes| bytes <= LEDGER_BYTES / 8 * 7;
    refuses_and_heals("apply-0", is_within, |bytes| bytes >= LEDGER_BYTES / 2);
}

/// A leader keeps what a peer of one region lacks; it does not keep more of any other region for that.
#[test]
fn a_region_that_lags_holds_back_no_other_log() {
    let mut cluster = three_stores();
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.advance(Duration::from_secs(2));
    let before = [RegionId::FIRST, CHILD].map(|region_id| cluster.truncated(FIRST, region_id));
    cluster.lose(|_, to, message| {
        let StoreMessage::Raft(envelope) = message else { return false };
        to == THIRD
            && envelope.region_id == RegionId::FIRST
            && matches!(&envelope.message.body, MessageBody::Append { entries, .. } if !entries.is_empty())
    });
    // So many are kept for who lags; ten for everybody.
    for number in 0..40 {
        for (region_id, key) in [(RegionId::FIRST, "a"), (CHILD, "z")] {
            assert_eq!(cluster.put_to(region_id, key, &value(number)), Ok(Outcome::Done));
        }
    }
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.stored(THIRD, "z").as_deref(), Some(value(39).as_bytes()));
    assert_ne!(cluster.stored(THIRD, "a").as_deref(), Some(value(39).as_bytes()), "it lags");
    let [lagging, other] = [RegionId::FIRST, CHILD].map(|region_id| cluster.truncated(FIRST, region_id));
    assert!(lagging < Index(before[0].0 + 15), "{lagging:?} of {before:?}: its leader keeps what it lacks");
    let picture = cluster.picture(FIRST, CHILD).expect("it lives there");
    assert!(other >= Index(picture.last.index.0 - 20), "{other:?} of {:?}: the rest is gone", picture.last);
    // It comes by the log.
    cluster.lose(|_, _, message| matches!(message, StoreMessage::Snapshot(_)));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.stored(THIRD, "a").as_deref(), Some(value(39).as_bytes()));
}
