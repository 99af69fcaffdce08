//! Cases for [`KvEngine`]: data.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Fixture, Running};
use crate::{KvBatch, KvEngine, KvSnapshot, Result};

/// Later writes of a batch win over earlier ones, whatever their kind.
pub fn a_batch_is_applied_in_order(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    let mut batch = KvBatch::new();
    batch.put(&[b"deleted"], &[b"1"]);
    batch.delete(&[b"deleted"]);
    batch.delete(&[b"put"]);
    batch.put(&[b"p", b"ut"], &[b"o", b"ne"]);
    batch.put(&[b"put"], &[b"two"]);
    batch.put(&[b"range1"], &[b"before"]);
    batch.delete_range(&[b"range"], &[b"range9"]);
    batch.put(&[b"range2"], &[b"after"]);
    kv.write(&batch)?;
    kv.write(&KvBatch::new())?;
    assert_eq!(dump(&*kv.snapshot())?, pairs(&[("put", "two"), ("range2", "after")]));
    assert_eq!(kv.get(b"put")?, Some(Bytes::from("two")));
    assert_eq!(kv.get(b"deleted")?, None);
    assert_eq!(kv.get(b"range1")?, None);
    Ok(())
}

/// Keys are ordered as unsigned bytes; both keys and values may be empty.
pub fn keys_and_values_are_any_bytes(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"\x80", b"\xff\xff"];
    let mut batch = KvBatch::new();
    keys.iter().rev().for_each(|key| batch.put(&[key], &[key]));
    batch.put(&[b"no value"], &[]);
    running.kv.write(&batch)?;
    running.kv.flush()?;
    let kv = running.restart().kv;
    let mut found = dump(&*kv.snapshot())?;
    assert_eq!(found.remove(5), (Bytes::from("no value"), Bytes::new()));
    assert_eq!(found, keys.map(|key| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(key))));
    assert_eq!(kv.get(b"no value")?, Some(Bytes::new()));
    Ok(())
}

/// A deleted range has its start and not its end; an empty one has nothing.
pub fn a_deleted_range_excludes_its_end(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    put_all(&*running.kv, &["a", "b", "ba", "c", "d"])?;
    running.kv.flush()?;
    let mut batch = KvBatch::new();
    batch.delete_range(&[b"b"], &[b"c"]);
    batch.delete_range(&[b"d"], &[b"d"]);
    batch.delete_range(&[b"z"], &[b"a"]);
    assert_eq!(batch.len(), 1);
    running.kv.write(&batch)?;
    put_all(&*running.kv, &["bb"])?;
    let expected = ["a", "bb", "c", "d"];
    assert_eq!(keys(&*running.kv.snapshot(), "", "", false)?, expected);
    running.kv.flush()?;
    assert_eq!(keys(&*running.restart().kv.snapshot(), "", "", false)?, expected);
    Ok(())
}

/// A scan has its start and not its end, in both directions; no end means all that follows.
pub fn a_scan_stays_in_its_bounds(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    put_all(&*kv, &["a", "c", "e"])?;
    kv.flush()?;
    put_all(&*kv, &["b", "d"])?;
    let snapshot = kv.snapshot();
    for (start, end, expected) in [
        ("", "", &["a", "b", "c", "d", "e"][..]),
        ("b", "d", &["b", "c"]),
        ("b", "dd", &["b", "c", "d"]),
        ("aa", "", &["b", "c", "d", "e"]),
        ("", "c", &["a", "b"]),
        ("f", "", &[]),
        ("", "a", &[]),
        ("c", "c", &[]),
        ("d", "b", &[]),
    ] {
        assert_eq!(keys(&*snapshot, start, end, false)?, expected, "[{start}, {end})");
        let reversed: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(keys(&*snapshot, start, end, true)?, reversed, "[{start}, {end}) reversed");
    }
    Ok(())
}

/// Nothing is visited behind the pair at which the visitor breaks.
pub fn a_scan_stops_when_told(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    put_all(&*kv, &["a", "b", "c"])?;
    for (is_reverse, expected) in [(false, ["a", "b"]), (true, ["c", "b"])] {
        let mut seen = Vec::new();
        kv.snapshot().scan(b"", b"", is_reverse, &mut |key, _| {
            seen.push(String::from_utf8_lossy(key).into_owned());
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert_eq!(seen, expected);
    }
    Ok(())
}

/// A snapshot shows its moment, whatever is written, deleted, flushed or ingested later.
pub fn a_snapshot_does_not_change(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    put_all(&*kv, &["a", "b", "c"])?;
    let snapshot = kv.snapshot();
    let mut batch = KvBatch::new();
    batch.put(&[b"a"], &[b"changed"]);
    batch.delete(&[b"b"]);
    batch.delete_range(&[b"c"], &[b"d"]);
    batch.put(&[b"d"], &[b"new"]);
    kv.write(&batch)?;
    kv.flush()?;
    kv.stage_create("file")?;
    kv.stage_append("file", &[(Bytes::from("aa"), Bytes::from("1")), (Bytes::from("b"), Bytes::from("2"))])?;
    kv.stage_sync("file")?;
    kv.ingest(&["file".to_owned()])?;
    assert_eq!(dump(&*snapshot)?, pairs(&[("a", "a"), ("b", "b"), ("c", "c")]));
    assert_eq!(snapshot.get(b"a")?, Some(Bytes::from("a")));
    assert_eq!(snapshot.get(b"aa")?, None);
    assert_eq!(snapshot.get(b"d")?, None);
    assert_eq!(dump(&*kv.snapshot())?, pairs(&[("a", "changed"), ("aa", "1"), ("b", "2"), ("d", "new")]));
    // It outlives the handle that it was asked of.
    drop(kv);
    assert_eq!(snapshot.get(b"c")?, Some(Bytes::from("c")));
    Ok(())
}

/// What was written before a flush is there after a crash.
pub fn a_flush_makes_everything_durable(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    assert_eq!(running.kv.unflushed_bytes(), 0);
    running.kv.flush()?;
    put_all(&*running.kv, &["a", "b", "c"])?;
    let mut batch = KvBatch::new();
    batch.delete(&[b"b"]);
    running.kv.write(&batch)?;
    assert!(running.kv.unflushed_bytes() >= 7);
    running.kv.flush()?;
    assert_eq!(running.kv.unflushed_bytes(), 0);
    let kv = running.restart().kv;
    assert_eq!(keys(&*kv.snapshot(), "", "", false)?, ["a", "c"]);
    assert_eq!(kv.unflushed_bytes(), 0);
    Ok(())
}

/// The state after a crash is that behind some write, at least the last flushed one; batches are never torn.
pub fn a_prefix_of_writes_survives(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    for number in 1..=200 {
        write_number(&*running.kv, number)?;
        if number == 120 {
            running.kv.flush()?;
        }
    }
    let kv = running.restart().kv;
    let survivors = number(kv.get(b"last")?);
    assert!(survivors >= 120, "write 120 was flushed, and only the first {survivors} are there");
    let expected: Vec<_> = (1..=survivors).map(|number| format!("k{number:03}")).collect();
    assert_eq!(keys(&*kv.snapshot(), "k", "l", false)?, expected);
    Ok(())
}

/// What the flushed value is said to be, a crash at that moment leaves at least.
pub fn flushed_values_survive_a_crash(fixture: &mut dyn Fixture) -> Result<()> {
    let mut running = Running::start(fixture);
    assert_eq!(running.kv.get_flushed(b"last")?, None);
    for round in 0..4 {
        let base = round * 100;
        write_number(&*running.kv, base + 1)?;
        assert!(number(running.kv.get_flushed(b"last")?) <= base + 1);
        running.kv.flush()?;
        assert_eq!(number(running.kv.get_flushed(b"last")?), base + 1);
        (base + 2..base + 50).try_for_each(|number| write_number(&*running.kv, number))?;
        assert_eq!(number(running.kv.get(b"last")?), base + 49);
        let flushed = number(running.kv.get_flushed(b"last")?);
        assert!(flushed > base);
        running = running.restart();
        let found = number(running.kv.get(b"last")?);
        assert!(found >= flushed, "{flushed} was said to be flushed, {found} is there");
        assert_eq!(number(running.kv.get_flushed(b"last")?), found, "what shows after opening is durable");
    }
    Ok(())
}

/// Write number `number` sets a key of its own and says in `last` that it is the last one.
fn write_number(kv: &dyn KvEngine, number: u64) -> Result<()> {
    let mut batch = KvBatch::new();
    batch.put(&[format!("k{number:03}").as_bytes()], &[b"x"]);
    batch.put(&[b"last"], &[&number.to_be_bytes()]);
    kv.write(&batch)
}

fn number(value: Option<Bytes>) -> u64 {
    value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Sets each key to itself.
fn put_all(kv: &dyn KvEngine, keys: &[&str]) -> Result<()> {
    let mut batch = KvBatch::new();
    keys.iter().for_each(|key| batch.put(&[key.as_bytes()], &[key.as_bytes()]));
    kv.write(&batch)
}

/// Every pair.
pub(super) fn dump(snapshot: &dyn KvSnapshot) -> Result<Vec<(Bytes, Bytes)>> {
    let mut found = Vec::new();
    snapshot.scan(b"", b"", false, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn keys(snapshot: &dyn KvSnapshot, start_key: &str, end_key: &str, is_reverse: bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    snapshot.scan(start_key.as_bytes(), end_key.as_bytes(), is_reverse, &mut |key, _| {
        found.push(String::from_utf8_lossy(key).into_owned());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Pairs as the engine gives them.
pub(super) fn pairs(pairs: &[(&'static str, &'static str)]) -> Vec<(Bytes, Bytes)> {
    pairs.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
}
