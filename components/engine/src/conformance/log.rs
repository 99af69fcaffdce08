//! Cases for [`LogEngine`].

use bytes::Bytes;
use types::{
    Chain, ClusterId, Entry, Epoch, Incarnation, Index, KeyRange, LogPosition, PastEnd, PeerId, Region,
    RegionId, SplitTrace, StoreId, Term, WallTime,
};

use super::{BASE, Fixture, REGION, Running, entries, raft_state};
use crate::{
    BornRegion, Error, LifecycleChange, LifecycleRecord, LogBatch, LogEngine, LogWrite, RaftState, Result,
    StoreIdent,
};

/// A batch with something of every kind is there after a crash, whole.
pub fn everything_of_a_batch_survives_a_crash(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let (one, two) = (entries(2, 1, BASE, &[b"a", b"", b"c"]), entries(900, 4, Chain(2), &[b"x"]));
    let batch = LogBatch {
        writes: vec![
            LogWrite { raft_state: Some(raft_state(1)), ..appended(RegionId(1), &one) },
            appended(RegionId(2), &two),
            LogWrite { region_id: RegionId(3), raft_state: Some(raft_state(3)), ..LogWrite::default() },
        ],
        records: vec![created(1)],
        records_removed: Vec::new(),
        ident: Some(ident(1)),
        local_rows: vec![row("key", Some("value"))],
    };
    running.log.write(&batch, true)?;
    let running = running.restart();
    assert_eq!(read(&*running.log, RegionId(1))?, one);
    assert_eq!(read(&*running.log, RegionId(2))?, two);
    assert_eq!(running.log.raft_states()?, [(RegionId(1), raft_state(1)), (RegionId(3), raft_state(3))]);
    assert_eq!(running.log.lifecycle_records()?, [created(1)]);
    assert_eq!(running.log.ident()?, Some(ident(1)));
    assert_eq!(running.log.local_rows()?, [(Bytes::from("key"), Bytes::from("value"))]);
    Ok(())
}

/// Reads end at `last_index` and `bytes_max`, give one entry at least, and none that is not there.
pub fn entries_are_read_within_bounds(fixture: &mut dyn Fixture) -> Result<()> {
    let log = Running::start(fixture).log;
    let all = entries(5, 1, Chain(1), &[&[1; 100], &[2; 100], &[3; 100], &[4; 5000]]);
    let size = Entry::OVERHEAD_BYTES + 100;
    append(&*log, REGION, &all)?;
    let read = |first, last, bytes_max| log.read_entries(REGION, Index(first), Index(last), bytes_max);
    assert_eq!(read(5, 8, usize::MAX)?, all);
    assert_eq!(read(5, 800, usize::MAX)?, all);
    assert_eq!(read(6, 7, usize::MAX)?, all[1..3]);
    assert_eq!(read(5, 8, 0)?, all[..1]);
    assert_eq!(read(5, 8, 2 * size - 1)?, all[..1]);
    assert_eq!(read(5, 8, 2 * size)?, all[..2]);
    assert_eq!(read(8, 8, 1)?, all[3..]);
    assert_eq!(read(9, 20, usize::MAX)?, []);
    assert_eq!(read(4, 8, usize::MAX)?, [], "the first entry is not there");
    assert_eq!(read(7, 6, usize::MAX)?, [], "the bounds cross");
    assert_eq!(log.read_entries(RegionId(99), Index(5), Index(8), usize::MAX)?, []);
    Ok(())
}

/// Writes and reads of one region do not touch those beside it.
pub fn regions_are_kept_apart(fixture: &mut dyn Fixture) -> Result<()> {
    let log = Running::start(fixture).log;
    let ids = [0, 1, 255, 256, u64::MAX - 1, u64::MAX].map(RegionId);
    for id in ids {
        append(&*log, id, &entries(2, 1, Chain(u128::from(id.0)), &[b"2", b"3", b"4"]))?;
    }
    write(&*log, truncated(RegionId(255), 2, 3))?;
    write(&*log, LogWrite { region_id: RegionId(256), is_cleared: true, ..LogWrite::default() })?;
    for (id, count) in ids.into_iter().zip([3, 3, 0, 0, 3, 3]) {
        let read = log.read_entries(id, Index(2), Index(u64::MAX), usize::MAX)?;
        assert_eq!(read.len(), count, "region {id}");
    }
    assert_eq!(log.read_entries(RegionId(255), Index(4), Index(u64::MAX), usize::MAX)?.len(), 1);
    Ok(())
}

/// Writing over a suffix removes all of it, also where the new one is shorter.
pub fn a_stale_suffix_is_removed(fixture: &mut dyn Fixture) -> Result<()> {
    let mut running = Running::start(fixture);
    let old = entries(2, 1, Chain(1), &[b"2", b"3", b"4", b"5", b"6", b"7"]);
    append(&*running.log, REGION, &old)?;
    let new = entries(4, 2, old[1].chain, &[b"four", b"five"]);
    write(&*running.log, LogWrite { previous_last_index: Index(7), ..appended(REGION, &new) })?;
    for _ in 0..2 {
        assert_eq!(read(&*running.log, REGION)?, [&old[..2], &new].concat());
        assert_eq!(running.log.read_entries(REGION, Index(6), Index(7), usize::MAX)?, []);
        running = running.restart();
    }
    Ok(())
}

/// A prefix is removed, and what is behind it stays.
pub fn a_short_prefix_is_truncated(fixture: &mut dyn Fixture) -> Result<()> {
    truncate_prefix(fixture, 20, &[7; 100])
}

/// The same with more entries than point deletes are good for.
pub fn a_long_prefix_is_truncated(fixture: &mut dyn Fixture) -> Result<()> {
    truncate_prefix(fixture, 5_000, &[7; 10])
}

/// The same with few entries of many bytes.
pub fn a_prefix_of_many_bytes_is_truncated(fixture: &mut dyn Fixture) -> Result<()> {
    truncate_prefix(fixture, 40, &[7; 50_000])
}

/// Clearing removes one region's entries and Raft state, and no other region's.
pub fn clearing_removes_one_region(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let kept = entries(2, 1, BASE, &[b"a", b"b"]);
    for id in [1, 2, 3].map(RegionId) {
        write(&*running.log, LogWrite { raft_state: Some(raft_state(id.0)), ..appended(id, &kept) })?;
    }
    write(&*running.log, LogWrite { region_id: RegionId(2), is_cleared: true, ..LogWrite::default() })?;
    let running = running.restart();
    assert_eq!(running.log.raft_states()?, [(RegionId(1), raft_state(1)), (RegionId(3), raft_state(3))]);
    for (id, count) in [(1, 2), (2, 0), (3, 2)] {
        assert_eq!(read(&*running.log, RegionId(id))?.len(), count);
    }
    Ok(())
}

/// Where a log ends is found without reading it: also where entries were overwritten, truncated or cleared.
pub fn the_last_entry_of_each_region_is_found(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let long = entries(2, 1, BASE, &[b"a", b"b", b"c", b"d"]);
    for id in [2, 4, 6, 8, 255, 256].map(RegionId) {
        append(&*running.log, id, &long)?;
    }
    let shorter = entries(3, 2, long[0].chain, &[b"x"]);
    let overwritten = LogWrite { previous_last_index: Index(5), ..appended(RegionId(4), &shorter) };
    let truncated = LogWrite { region_id: RegionId(6), truncate_to: Some(Index(5)), ..LogWrite::default() };
    let cleared = LogWrite { region_id: RegionId(8), is_cleared: true, ..LogWrite::default() };
    for changed in [overwritten, truncated, cleared] {
        write(&*running.log, changed)?;
    }
    let running = running.restart();
    let last = Some(long[3].position());
    let found = running.log.last_positions(&[1, 2, 3, 4, 6, 8, 255, 256, 900].map(RegionId))?;
    assert_eq!(found, [None, last, None, Some(shorter[0].position()), None, None, last, last, None]);
    Ok(())
}

/// What a write brings beside `is_cleared` is there afterwards, also at indexes that were cleared.
pub fn clearing_comes_before_the_rest_of_the_write(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    append(&*running.log, REGION, &entries(2, 1, Chain(1), &[b"2", b"3", b"4", b"5"]))?;
    let new = entries(3, 7, Chain(9), &[b"three", b"four"]);
    let write_new = LogWrite { is_cleared: true, raft_state: Some(raft_state(5)), ..appended(REGION, &new) };
    write(&*running.log, write_new)?;
    let running = running.restart();
    assert_eq!(running.log.read_entries(REGION, Index(3), Index(99), usize::MAX)?, new);
    assert_eq!(running.log.read_entries(REGION, Index(2), Index(99), usize::MAX)?, []);
    assert_eq!(running.log.raft_states()?, [(REGION, raft_state(5))]);
    Ok(())
}

/// What earlier writes of the same batch have put is cleared like what was there before the batch.
pub fn clearing_removes_what_its_batch_has_written_before(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    append(&*running.log, REGION, &entries(2, 1, Chain(1), &[b"2"]))?;
    let stale = entries(3, 1, Chain(2), &[b"3", b"4", b"5", b"6"]);
    // The log now begins behind index 5, where the entry that is cleared had another chain.
    let truncated = LogPosition { index: Index(5), term: Term(7), chain: Chain(9) };
    let state = RaftState { truncated, ..raft_state(5) };
    let cleared =
        LogWrite { region_id: REGION, is_cleared: true, raft_state: Some(state), ..LogWrite::default() };
    let earlier = LogWrite { previous_last_index: Index(2), ..appended(REGION, &stale) };
    running.log.write(&LogBatch { writes: vec![earlier, cleared], ..LogBatch::default() }, true)?;
    assert_eq!(running.log.read_entries(REGION, Index(2), Index(99), usize::MAX)?, []);
    assert_eq!(running.log.read_entries(REGION, Index(6), Index(99), usize::MAX)?, []);
    let new = entries(6, 7, Chain(9), &[b"six", b"seven"]);
    write(&*running.log, LogWrite { previous_last_index: Index(5), ..appended(REGION, &new) })?;
    let running = running.restart();
    assert_eq!(running.log.read_entries(REGION, Index(6), Index(99), usize::MAX)?, new);
    Ok(())
}

/// A long log is cleared, and its indexes are used again.
pub fn clearing_a_long_log_leaves_room_for_a_new_one(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    append(&*running.log, REGION, &entries(2, 1, Chain(1), &vec![&b"old"[..]; 6_000]))?;
    let new = entries(100, 2, Chain(2), &[&b"new"[..]; 3]);
    write(&*running.log, LogWrite { is_cleared: true, ..appended(REGION, &new) })?;
    let running = running.restart();
    assert_eq!(running.log.read_entries(REGION, Index(100), Index(9_999), usize::MAX)?, new);
    assert_eq!(running.log.read_entries(REGION, Index(2), Index(9_999), usize::MAX)?, []);
    assert_eq!(running.log.read_entries(REGION, Index(4_000), Index(9_999), usize::MAX)?, []);
    Ok(())
}

/// The newest Raft state of each region comes back, in order of region.
pub fn raft_states_are_replaced(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let state = |id, raft_state| LogWrite { region_id: RegionId(id), raft_state, ..LogWrite::default() };
    let first = vec![
        state(300, Some(raft_state(3))),
        state(2, Some(raft_state(2))),
        state(7, Some(RaftState::default())),
    ];
    running.log.write(&LogBatch { writes: first, ..LogBatch::default() }, true)?;
    write(&*running.log, state(300, Some(raft_state(9))))?;
    write(&*running.log, state(2, None))?;
    let expected =
        [(RegionId(2), raft_state(2)), (RegionId(7), RaftState::default()), (RegionId(300), raft_state(9))];
    assert_eq!(running.log.raft_states()?, expected);
    assert_eq!(running.restart().log.raft_states()?, expected);
    Ok(())
}

/// Records of every kind come back in order of sequence until they are removed.
pub fn lifecycle_records_come_back_in_order(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let records = |records: &[LifecycleRecord], removed: &[u64]| LogBatch {
        records: records.to_vec(),
        records_removed: removed.to_vec(),
        ..LogBatch::default()
    };
    let snapshots = [snapshot_received(254), snapshot_received(255)];
    running.log.write(&records(&snapshots, &[]), true)?;
    running.log.write(&records(&[split(256)], &[]), true)?;
    running.log.write(&records(&[created(1), destroyed(257)], &[]), true)?;
    let [first, second] = snapshots;
    let expected = [created(1), first, second, split(256), destroyed(257)];
    assert_eq!(running.log.lifecycle_records()?, expected);
    let running = running.restart();
    assert_eq!(running.log.lifecycle_records()?, expected);
    running.log.write(&records(&[destroyed(258)], &[1, 254, 256, 1_000]), true)?;
    let expected = [snapshot_received(255), destroyed(257), destroyed(258)];
    assert_eq!(running.restart().log.lifecycle_records()?, expected);
    Ok(())
}

/// There is no ident at first, and then the last one written.
pub fn the_ident_is_replaced(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    assert_eq!(running.log.ident()?, None);
    running.log.write(&LogBatch { ident: Some(ident(1)), ..LogBatch::default() }, true)?;
    running.log.write(&LogBatch { ident: Some(ident(2)), ..LogBatch::default() }, true)?;
    running.log.write(&LogBatch { local_rows: vec![row("a", Some("b"))], ..LogBatch::default() }, true)?;
    assert_eq!(running.log.ident()?, Some(ident(2)));
    assert_eq!(running.restart().log.ident()?, Some(ident(2)));
    Ok(())
}

/// Local rows are any bytes, ordered by key, and can be removed.
pub fn local_rows_are_set_and_removed(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let pair = |key: &'static [u8], value: &'static [u8]| (Bytes::from(key), Some(Bytes::from(value)));
    let rows = vec![pair(b"b", b"1"), pair(b"\xff\xff", b""), pair(b"\0", b"\xff"), pair(b"gone", b"x")];
    running.log.write(&LogBatch { local_rows: rows, ..LogBatch::default() }, true)?;
    let rows = vec![pair(b"b", b"2"), (Bytes::from("gone"), None), (Bytes::from("never there"), None)];
    running.log.write(&LogBatch { local_rows: rows, ..LogBatch::default() }, true)?;
    let expected = [pair(b"\0", b"\xff"), pair(b"b", b"2"), pair(b"\xff\xff", b"")];
    let expected: Vec<_> =
        expected.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    assert_eq!(running.log.local_rows()?, expected);
    assert_eq!(running.restart().log.local_rows()?, expected);
    Ok(())
}

/// An entry that does not continue the chain of what is stored before it is refused when it is read.
pub fn a_broken_chain_is_noticed(fixture: &mut dyn Fixture) -> Result<()> {
    let log = Running::start(fixture).log;
    let good = entries(2, 1, Chain(1), &[b"2", b"3", b"4"]);
    append(&*log, RegionId(1), &[&good[..2], &entries(4, 1, Chain(8), &[b"4"])].concat())?;
    let read_at = |region, first| log.read_entries(RegionId(region), Index(first), Index(9), usize::MAX);
    assert_eq!(log.read_entries(RegionId(1), Index(2), Index(3), usize::MAX)?, good[..2]);
    assert_corruption(read_at(1, 2), 1);
    assert_corruption(read_at(1, 4), 1);
    // Without an entry before it, the truncation point tells.
    let position = |chain| LogPosition { index: Index(1), term: Term(1), chain };
    for (region, chain) in [(2, Chain(1)), (3, Chain(2))] {
        let state = RaftState { truncated: position(chain), ..RaftState::default() };
        write(&*log, LogWrite { raft_state: Some(state), ..appended(RegionId(region), &good) })?;
    }
    assert_eq!(read_at(2, 2)?, good);
    assert_corruption(read_at(3, 2), 3);
    Ok(())
}

/// A hole in a log is not passed over.
pub fn a_missing_entry_is_noticed(fixture: &mut dyn Fixture) -> Result<()> {
    let log = Running::start(fixture).log;
    let all = entries(2, 1, Chain(1), &[b"2", b"3", b"4", b"5"]);
    append(&*log, REGION, &all[..1])?;
    write(&*log, LogWrite { previous_last_index: Index(2), ..appended(REGION, &all[2..]) })?;
    assert_eq!(log.read_entries(REGION, Index(2), Index(2), usize::MAX)?, all[..1]);
    assert_corruption(log.read_entries(REGION, Index(2), Index(4), usize::MAX), REGION.0);
    Ok(())
}

/// Behind the last synced batch no batch survives that an earlier one does not.
pub fn a_prefix_of_unsynced_batches_survives(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let batch = |number: u64| LogBatch {
        ident: Some(ident(number)),
        local_rows: vec![row(&format!("{number:03}"), Some("x"))],
        ..LogBatch::default()
    };
    (1..=100).try_for_each(|number| running.log.write(&batch(number), number == 50))?;
    let running = running.restart();
    let last = running.log.ident()?.map_or(0, |ident| ident.incarnation.0);
    assert!(last >= 50, "batch 50 was synced, and only the first {last} are there");
    let keys: Vec<_> = running.log.local_rows()?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, (1..=last).map(|number| Bytes::from(format!("{number:03}"))).collect::<Vec<_>>());
    Ok(())
}

fn truncate_prefix(fixture: &mut dyn Fixture, count: u64, payload: &[u8]) -> Result<()> {
    let running = Running::start(fixture);
    let all = entries(2, 1, Chain(1), &vec![payload; usize::try_from(count).unwrap_or(0)]);
    append(&*running.log, REGION, &all)?;
    let beside = RegionId(REGION.0 + 1);
    append(&*running.log, beside, &all)?;
    // The last index is count + 1; three entries stay, the first three go in a step of their own.
    write(&*running.log, truncated(REGION, 2, 4))?;
    assert_eq!(running.log.read_entries(REGION, Index(4), Index(9), usize::MAX)?, []);
    write(&*running.log, truncated(REGION, 5, count - 2))?;
    let kept = &all[all.len() - 3..];
    let running = running.restart();
    for first in [2, 5, count - 2] {
        assert_eq!(running.log.read_entries(REGION, Index(first), Index(u64::MAX), usize::MAX)?, []);
    }
    assert_eq!(running.log.read_entries(REGION, Index(count - 1), Index(u64::MAX), usize::MAX)?, kept);
    assert_eq!(running.log.read_entries(beside, Index(2), Index(u64::MAX), usize::MAX)?, all);
    Ok(())
}

/// A write of entries behind everything that the region holds.
fn appended(region_id: RegionId, entries: &[Entry]) -> LogWrite {
    let previous_last_index = entries.first().map_or(Index(0), |first| first.index.prev());
    LogWrite { region_id, entries: entries.to_vec(), previous_last_index, ..LogWrite::default() }
}

fn truncated(region_id: RegionId, from: u64, to: u64) -> LogWrite {
    LogWrite { region_id, truncate_from: Index(from), truncate_to: Some(Index(to)), ..LogWrite::default() }
}

fn write(log: &dyn LogEngine, write: LogWrite) -> Result<()> {
    log.write(&LogBatch { writes: vec![write], ..LogBatch::default() }, true)
}

fn append(log: &dyn LogEngine, region: RegionId, entries: &[Entry]) -> Result<()> {
    write(log, appended(region, entries))
}

/// Every entry of a region whose log begins at one of the indexes that the cases use.
fn read(log: &dyn LogEngine, region: RegionId) -> Result<Vec<Entry>> {
    let all = log.read_entries(region, Index(2), Index(u64::MAX), usize::MAX)?;
    if all.is_empty() { log.read_entries(region, Index(900), Index(u64::MAX), usize::MAX) } else { Ok(all) }
}

fn assert_corruption(result: Result<Vec<Entry>>, region: u64) {
    let is_expected =
        matches!(&result, Err(Error::Corruption { region: Some(found), .. }) if *found == RegionId(region));
    assert!(is_expected, "{result:?}");
}

fn ident(incarnation: u64) -> StoreIdent {
    StoreIdent {
        cluster_id: ClusterId(u64::MAX),
        store_id: StoreId(1000),
        incarnation: Incarnation(incarnation),
    }
}

fn row(key: &str, value: Option<&str>) -> (Bytes, Option<Bytes>) {
    (Bytes::copy_from_slice(key.as_bytes()), value.map(|value| Bytes::copy_from_slice(value.as_bytes())))
}

fn region(id: u64) -> Region {
    let (_, configuration) = raft_state(id).configurations.swap_remove(1);
    Region {
        id: RegionId(id),
        range: KeyRange::new(Bytes::from(vec![0, 255, 1]), Bytes::from("z")),
        epoch: Epoch { conf_version: id, version: id + 1 },
        peers: configuration.peers,
    }
}

fn created(sequence: u64) -> LifecycleRecord {
    let cause = sequence.is_multiple_of(2).then_some((RegionId(2), Index(sequence)));
    let unbounded = Region { range: KeyRange::ALL, ..region(sequence + 1) };
    LifecycleRecord {
        sequence,
        cause,
        change: LifecycleChange::Create { regions: vec![region(sequence), unbounded] },
    }
}

fn snapshot_received(sequence: u64) -> LifecycleRecord {
    let state = raft_state(sequence);
    let change = LifecycleChange::Snapshot {
        region: region(sequence),
        peer_id: PeerId(sequence),
        position: state.last,
        configuration: state.configurations[1].clone(),
        region_clock: WallTime(sequence + 2),
        files: vec!["one.sst".to_owned(), "two".to_owned()],
        replaced_range: sequence.is_multiple_of(2).then(|| KeyRange::new("a", "")),
        last_split: (!sequence.is_multiple_of(2)).then(|| SplitTrace {
            change_id: sequence,
            regions: vec![region(sequence), region(sequence + 1)],
            past_ends: vec![PastEnd { version: sequence, end_key: Bytes::from_static(b"z") }],
        }),
    };
    LifecycleRecord { sequence, cause: None, change }
}

fn split(sequence: u64) -> LifecycleRecord {
    let born = |id: u64| BornRegion {
        region: region(id),
        peer_id: PeerId(id + 1),
        is_dropped: id.is_multiple_of(2),
    };
    let change = LifecycleChange::Split {
        region: region(sequence),
        position: raft_state(sequence).last,
        region_clock: WallTime(sequence + 2),
        change_id: sequence + 3,
        children: vec![born(sequence + 4), born(sequence + 5)],
    };
    LifecycleRecord { sequence, cause: Some((RegionId(sequence), Index(sequence))), change }
}

fn destroyed(sequence: u64) -> LifecycleRecord {
    let range = sequence.is_multiple_of(2).then(|| KeyRange::new("", "z"));
    let change =
        LifecycleChange::Destroy { region_id: RegionId(sequence), peer_id: PeerId(sequence + 1), range };
    LifecycleRecord { sequence, cause: None, change }
}
