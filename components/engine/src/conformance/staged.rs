//! Cases for [`KvEngine`]: staged files and their ingestion.

use bytes::Bytes;

use super::{
    Fixture, Running,
    kv::{dump, pairs},
};
use crate::{Error, KvBatch, KvEngine, Operation, Result};

/// After a crash the synced files are there, in order of name and as long as before, and no others.
pub fn only_synced_files_survive_a_crash(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    assert_eq!(running.kv.stage_list()?, []);
    for name in ["c-2.sst", "a_1", "b"] {
        stage(&*running.kv, name, &[("a", "1")])?;
    }
    running.kv.stage_create("unsynced")?;
    running.kv.stage_append("unsynced", &pairs(&[("a", "1")]))?;
    running.kv.stage_create("unwritten")?;
    assert_eq!(names(&*running.kv)?, ["a_1", "b", "c-2.sst", "unsynced", "unwritten"]);
    let synced = running.kv.stage_list()?[..3].to_vec();
    assert!(synced.iter().all(|file| file.size_bytes > 0));
    let running = running.restart();
    assert_eq!(running.kv.stage_list()?, synced);
    running.kv.ingest(&["a_1".to_owned()])?;
    assert_eq!(dump(&*running.kv.snapshot())?, pairs(&[("a", "1")]));
    Ok(())
}

/// Creating a file deletes the one of the same name, synced or not.
pub fn a_new_file_replaces_the_old(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    stage(&*running.kv, "file", &[("a", "old")])?;
    running.kv.stage_create("file")?;
    running.kv.stage_append("file", &pairs(&[("b", "unfinished")]))?;
    stage(&*running.kv, "file", &[("c", "new")])?;
    running.kv.ingest(&["file".to_owned()])?;
    assert_eq!(dump(&*running.kv.snapshot())?, pairs(&[("c", "new")]));
    running.kv.stage_create("file")?;
    assert_eq!(running.restart().kv.stage_list()?, [], "the old file went when the new one was created");
    Ok(())
}

/// Calls out of order are refused, and harm nothing.
pub fn wrong_calls_are_refused(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    assert_refused(kv.stage_append("none", &pairs(&[("a", "1")])), Operation::Stage);
    assert_refused(kv.stage_sync("none"), Operation::Stage);
    assert_refused(kv.ingest(&["none".to_owned()]), Operation::Ingest);
    kv.stage_create("file")?;
    kv.stage_append("file", &pairs(&[("b", "1"), ("d", "1")]))?;
    assert_refused(kv.stage_append("file", &pairs(&[("c", "2")])), Operation::Stage);
    assert_refused(kv.stage_append("file", &pairs(&[("d", "2")])), Operation::Stage);
    assert_refused(kv.stage_append("file", &pairs(&[("f", "2"), ("e", "2")])), Operation::Stage);
    assert_refused(kv.ingest(&["file".to_owned()]), Operation::Ingest);
    kv.stage_append("file", &pairs(&[("g", "3")]))?;
    kv.stage_append("file", &[])?;
    kv.stage_sync("file")?;
    kv.stage_sync("file")?;
    assert_refused(kv.stage_append("file", &pairs(&[("h", "4")])), Operation::Stage);
    kv.ingest(&["file".to_owned()])?;
    assert_eq!(dump(&*kv.snapshot())?, pairs(&[("b", "1"), ("d", "1"), ("g", "3")]));
    Ok(())
}

/// A name cannot lead out of the folder of staged files, nor hide in it.
pub fn names_are_refused_that_lead_elsewhere(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    for name in ["", ".", "..", "../up", "a/b", "/root", "a\\b", ".hidden", "a b", "ä", "a\0"] {
        let result = kv.stage_create(name);
        assert!(
            matches!(&result, Err(Error::Io { message, .. }) if message.contains("no name for a staged file")),
            "{name:?}: {result:?}"
        );
        assert_refused(kv.stage_append(name, &[]), Operation::Stage);
        assert_refused(kv.stage_sync(name), Operation::Stage);
        assert_refused(kv.stage_delete(name), Operation::Stage);
        assert!(matches!(kv.ingest(&[name.to_owned()]), Err(Error::Io { .. })), "{name:?}");
    }
    assert_eq!(kv.stage_list()?, []);
    Ok(())
}

/// A deleted file is gone for good, and what was ingested from it stays.
pub fn deleted_files_are_gone(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    stage(&*running.kv, "one", &[("a", "1")])?;
    stage(&*running.kv, "two", &[("b", "2")])?;
    running.kv.stage_create("unsynced")?;
    running.kv.ingest(&["one".to_owned()])?;
    for name in ["one", "unsynced", "never-there", "one"] {
        running.kv.stage_delete(name)?;
    }
    assert_eq!(names(&*running.kv)?, ["two"]);
    assert_refused(running.kv.stage_append("unsynced", &[]), Operation::Stage);
    assert_eq!(running.kv.get(b"a")?, Some(Bytes::from("1")));
    let running = running.restart();
    assert_eq!(names(&*running.kv)?, ["two"]);
    assert_eq!(running.kv.get(b"a")?, Some(Bytes::from("1")));
    Ok(())
}

/// Ingested pairs replace what was written before, flushed or not, and are replaced by what is written later.
pub fn ingested_pairs_win_over_earlier_writes_only(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    put(&*running.kv, &[("a", "flushed"), ("b", "flushed"), ("x", "flushed")])?;
    running.kv.flush()?;
    put(&*running.kv, &[("b", "written"), ("c", "written"), ("d", "written")])?;
    stage(&*running.kv, "file", &[("a", "file"), ("b", "file"), ("c", "file"), ("e", "file")])?;
    running.kv.ingest(&["file".to_owned()])?;
    let expected = pairs(&[
        ("a", "file"),
        ("b", "file"),
        ("c", "file"),
        ("d", "written"),
        ("e", "file"),
        ("x", "flushed"),
    ]);
    assert_eq!(dump(&*running.kv.snapshot())?, expected);
    put(&*running.kv, &[("b", "later")])?;
    let mut batch = KvBatch::new();
    batch.delete(&[b"c"]);
    running.kv.write(&batch)?;
    let expected = pairs(&[("a", "file"), ("b", "later"), ("d", "written"), ("e", "file"), ("x", "flushed")]);
    assert_eq!(dump(&*running.kv.snapshot())?, expected);
    running.kv.flush()?;
    assert_eq!(dump(&*running.restart().kv.snapshot())?, expected);
    Ok(())
}

/// Several files are ingested together, or, if one of them cannot be, none; the files stay.
pub fn an_ingestion_is_whole_or_nothing(fixture: &mut dyn Fixture) -> Result<()> {
    let kv = Running::start(fixture).kv;
    stage(&*kv, "one", &[("a", "1"), ("b", "1")])?;
    stage(&*kv, "two", &[("c", "2")])?;
    kv.stage_create("unsynced")?;
    let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_refused(kv.ingest(&files(&["one", "unsynced"])), Operation::Ingest);
    assert_refused(kv.ingest(&files(&["one", "none"])), Operation::Ingest);
    assert_eq!(dump(&*kv.snapshot())?, []);
    kv.ingest(&files(&["two", "one"]))?;
    assert_eq!(dump(&*kv.snapshot())?, pairs(&[("a", "1"), ("b", "1"), ("c", "2")]));
    kv.ingest(&[])?;
    assert_eq!(names(&*kv)?, ["one", "two", "unsynced"]);
    Ok(())
}

/// Ingested pairs are durable at once, earlier writes are not; ingesting again changes nothing.
pub fn ingested_pairs_survive_a_crash(fixture: &mut dyn Fixture) -> Result<()> {
    let mut running = Running::start(fixture);
    stage(&*running.kv, "file", &[("k1", "file"), ("k2", "file")])?;
    put(&*running.kv, &[("a", "lost or not")])?;
    let mut batch = KvBatch::new();
    batch.delete_range(&[b"k"], &[b"l"]);
    running.kv.write(&batch)?;
    running.kv.ingest(&["file".to_owned()])?;
    assert_eq!(running.kv.get_flushed(b"k1")?, Some(Bytes::from("file")));
    put(&*running.kv, &[("b", "lost or not")])?;
    for _ in 0..2 {
        running = running.restart();
        assert_eq!(running.kv.get(b"k1")?, Some(Bytes::from("file")));
        assert_eq!(running.kv.get(b"k2")?, Some(Bytes::from("file")));
        let (has_a, has_b) = (running.kv.get(b"a")?.is_some(), running.kv.get(b"b")?.is_some());
        assert!(has_a || !has_b, "the later write survived and the earlier one did not");
        running.kv.ingest(&["file".to_owned()])?;
        assert_eq!(dump(&*running.kv.snapshot())?.len(), 2 + usize::from(has_a) + usize::from(has_b));
    }
    Ok(())
}

/// A file without pairs is synced, listed after a crash and ingested like others, alone or among them.
pub fn an_empty_file_is_ingested(fixture: &mut dyn Fixture) -> Result<()> {
    let running = Running::start(fixture);
    stage(&*running.kv, "empty", &[])?;
    stage(&*running.kv, "full", &[("a", "1")])?;
    running.kv.ingest(&["empty".to_owned()])?;
    let running = running.restart();
    assert_eq!(names(&*running.kv)?, ["empty", "full"]);
    running.kv.ingest(&["empty".to_owned()])?;
    assert_eq!(dump(&*running.kv.snapshot())?, []);
    running.kv.ingest(&["empty".to_owned(), "full".to_owned()])?;
    assert_eq!(dump(&*running.kv.snapshot())?, pairs(&[("a", "1")]));
    running.kv.stage_delete("empty")?;
    assert_eq!(names(&*running.kv)?, ["full"]);
    Ok(())
}

fn stage(kv: &dyn KvEngine, name: &str, content: &[(&'static str, &'static str)]) -> Result<()> {
    kv.stage_create(name)?;
    for pair in pairs(content) {
        kv.stage_append(name, &[pair])?;
    }
    kv.stage_sync(name)
}

fn names(kv: &dyn KvEngine) -> Result<Vec<String>> {
    Ok(kv.stage_list()?.into_iter().map(|file| file.name).collect())
}

fn put(kv: &dyn KvEngine, pairs: &[(&str, &str)]) -> Result<()> {
    let mut batch = KvBatch::new();
    pairs.iter().for_each(|(key, value)| batch.put(&[key.as_bytes()], &[value.as_bytes()]));
    kv.write(&batch)
}

fn assert_refused(result: Result<()>, expected: Operation) {
    let is_expected = matches!(&result, Err(Error::Io { operation, .. }) if *operation == expected);
    assert!(is_expected, "{result:?}");
}
