//! What each kind of crash keeps and loses.

use types::{ClusterId, Entry, EntryKind, Incarnation, StoreId, Term};

use super::*;
use crate::{KvBatch, LogBatch, LogWrite, StoreIdent};

/// A draw that gives these numbers in turn, each within its bound, then zeros.
fn script(numbers: &[u64]) -> impl FnMut(u64) -> u64 {
    let mut numbers = numbers.iter().copied();
    move |bound| {
        let number = numbers.next().unwrap_or(0);
        assert!(number < bound, "{number} is not below {bound}");
        number
    }
}

fn ident(incarnation: u64) -> LogBatch {
    let ident =
        StoreIdent { cluster_id: ClusterId(1), store_id: StoreId(2), incarnation: Incarnation(incarnation) };
    LogBatch { ident: Some(ident), ..LogBatch::default() }
}

fn incarnation(log: &dyn LogEngine) -> u64 {
    log.ident().unwrap().map_or(0, |ident| ident.incarnation.0)
}

fn put(kv: &dyn KvEngine, key: &str, value: &str) {
    let mut batch = KvBatch::new();
    batch.put(&[key.as_bytes()], &[value.as_bytes()]);
    kv.write(&batch).unwrap();
}

fn get(kv: &dyn KvEngine, key: &str) -> Option<String> {
    kv.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn stage(kv: &dyn KvEngine, name: &str, key: &'static str, value: &'static str) {
    kv.stage_create(name).unwrap();
    kv.stage_append(name, &[(key.into(), value.into())]).unwrap();
    kv.stage_sync(name).unwrap();
}

#[test]
fn power_loss_keeps_a_prefix_of_the_unsynced_log() {
    for kept in 0..=3 {
        let disk = MemDisk::new();
        let (log, _) = disk.open();
        log.write(&ident(1), true).unwrap();
        (2..=4).for_each(|number| log.write(&ident(number), false).unwrap());
        disk.power_loss(&mut script(&[kept]));
        assert!(matches!(log.write(&ident(9), true), Err(Error::Poisoned)));
        assert!(matches!(log.ident(), Err(Error::Poisoned)));
        let (log, _) = disk.open();
        assert_eq!(incarnation(&*log), 1 + kept);
    }
}

#[test]
fn a_killed_process_keeps_the_log_until_power_is_lost_too() {
    let disk = MemDisk::new();
    let (log, _) = disk.open();
    log.write(&ident(1), false).unwrap();
    disk.crash(&mut script(&[]));
    let (log, _) = disk.open();
    assert_eq!(incarnation(&*log), 1);
    log.write(&ident(2), false).unwrap();
    disk.crash(&mut script(&[]));
    disk.power_loss(&mut script(&[0]));
    let (log, _) = disk.open();
    assert_eq!(
        incarnation(&*log),
        1,
        "the second open made the first write durable, nothing did so for the second"
    );
}

#[test]
fn kv_loses_all_but_a_prefix_of_what_was_not_flushed() {
    for (draws, expected) in [(&[0][..], "b"), (&[1, 0], "b"), (&[1, 1], "c"), (&[1, 2], "d")] {
        let disk = MemDisk::new();
        let (_, kv) = disk.open();
        put(&*kv, "a", "b");
        kv.flush().unwrap();
        put(&*kv, "a", "c");
        put(&*kv, "a", "d");
        assert_eq!(kv.get_flushed(b"a").unwrap().unwrap(), "b");
        assert_eq!(kv.unflushed_bytes(), 4);
        disk.crash(&mut script(draws));
        let (_, kv) = disk.open();
        assert_eq!(get(&*kv, "a").unwrap(), expected);
        assert_eq!(kv.get_flushed(b"a").unwrap().unwrap(), expected);
        assert_eq!(kv.unflushed_bytes(), 0);
    }
}

#[test]
fn ingested_pairs_survive_earlier_writes_that_are_lost() {
    // The writes: x and k before the ingestion of k, y behind it; the second draw says how many of the four survive.
    for (survivors, x, y) in
        [(0, None, None), (1, Some("1"), None), (3, Some("1"), None), (4, Some("1"), Some("1"))]
    {
        let disk = MemDisk::new();
        let (_, kv) = disk.open();
        stage(&*kv, "file", "k", "ingested");
        put(&*kv, "x", "1");
        put(&*kv, "k", "written");
        kv.ingest(&["file".to_owned()]).unwrap();
        put(&*kv, "y", "1");
        assert_eq!(get(&*kv, "k").unwrap(), "ingested");
        assert_eq!(kv.get_flushed(b"k").unwrap().unwrap(), "ingested");
        disk.power_loss(&mut script(&[0, 1, survivors]));
        let (_, kv) = disk.open();
        assert_eq!(get(&*kv, "x").as_deref(), x);
        assert_eq!(get(&*kv, "k").unwrap(), "ingested");
        assert_eq!(get(&*kv, "y").as_deref(), y);
    }
}

#[test]
fn a_write_before_an_ingestion_does_not_win_when_it_is_flushed_late() {
    let disk = MemDisk::new();
    let (_, kv) = disk.open();
    stage(&*kv, "file", "k", "ingested");
    let mut batch = KvBatch::new();
    batch.delete_range(&[b"a"], &[b"z"]);
    kv.write(&batch).unwrap();
    kv.ingest(&["file".to_owned()]).unwrap();
    disk.background_flush(&mut script(&[1, 1]));
    assert_eq!(kv.get_flushed(b"k").unwrap().unwrap(), "ingested");
}

#[test]
fn faults_poison_and_a_full_disk_does_not() {
    let disk = MemDisk::new();
    let (log, kv) = disk.open();
    disk.set_full(true);
    assert!(matches!(log.write(&ident(1), true), Err(Error::DiskFull { .. })));
    assert!(matches!(kv.flush(), Err(Error::DiskFull { .. })));
    disk.set_full(false);
    log.write(&ident(1), true).unwrap();
    disk.fail_next(Fault::LogSync);
    log.write(&ident(2), false).unwrap();
    assert!(matches!(log.write(&ident(3), true), Err(Error::Io { .. })));
    assert!(matches!(log.write(&ident(4), false), Err(Error::Poisoned)));
    kv.flush().unwrap();
    disk.fail_next(Fault::KvFlush);
    assert!(matches!(kv.flush(), Err(Error::Io { .. })));
    assert!(matches!(kv.get(b"a"), Err(Error::Poisoned)));
    assert!(matches!(kv.snapshot().get(b"a"), Err(Error::Poisoned)));
    // The batch whose sync failed may survive.
    disk.power_loss(&mut script(&[2]));
    let (log, _) = disk.open();
    assert_eq!(incarnation(&*log), 3);
    assert_eq!(disk.counters().log_syncs, 1);
}

#[test]
fn flipped_bits_are_found_in_entries_and_not_in_values() {
    let disk = MemDisk::new();
    let (log, kv) = disk.open();
    let entry = |index: u64, chain: types::Chain, payload: &'static [u8]| {
        let chain = chain.link(Index(index), Term(1), EntryKind::Command, payload);
        Entry { index: Index(index), term: Term(1), kind: EntryKind::Command, payload: payload.into(), chain }
    };
    let first = entry(2, types::Chain(7), b"one");
    let second = entry(3, first.chain, b"two");
    let write =
        LogWrite { region_id: RegionId(5), entries: vec![first.clone(), second], ..LogWrite::default() };
    log.write(&LogBatch { writes: vec![write], ..LogBatch::default() }, false).unwrap();
    assert!(!disk.corrupt_entry(RegionId(5), Index(4), &mut script(&[])));
    assert!(disk.corrupt_entry(RegionId(5), Index(3), &mut script(&[9])));
    let read = |last| log.read_entries(RegionId(5), Index(2), Index(last), usize::MAX);
    assert_eq!(read(2).unwrap(), [first]);
    assert!(matches!(read(3), Err(Error::Corruption { region: Some(RegionId(5)), .. })));
    put(&*kv, "a", "b");
    assert!(disk.corrupt_value(b"a", &mut script(&[0])));
    assert_eq!(get(&*kv, "a").unwrap(), "c");
}
