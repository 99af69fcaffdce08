//! What the engines refuse to open, and what they open all the same.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it unwraps; bytes repeat"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use engine::{Error, KvEngine, LogBatch, LogEngine, LogWrite};
use engine_rocks::{BlockCache, Options, RocksKv, RocksLog};
use tempfile::TempDir;
use types::{Chain, Entry, EntryKind, Index, RegionId, Term};

const REGION: RegionId = RegionId(7);

fn options() -> Options {
    Options { block_cache: BlockCache::new(1 << 20), ..Options::default() }
}

/// A log to which the entries with these payload lengths were written, a synced batch for each, and which was killed.
fn written(payload_lens: &[usize], options: &Options) -> (TempDir, Vec<Entry>) {
    let folder = tempfile::tempdir().unwrap();
    let log = RocksLog::open(folder.path(), options).unwrap();
    let mut chain = Chain(1);
    let mut entries = Vec::new();
    for (at, len) in payload_lens.iter().enumerate() {
        let (index, payload) = (Index(at as u64 + 2), Bytes::from(vec![at as u8 + 1; *len]));
        chain = chain.link(index, Term(1), EntryKind::Command, &payload);
        entries.push(Entry { index, term: Term(1), kind: EntryKind::Command, payload, chain });
        let write = LogWrite {
            region_id: REGION,
            entries: entries[at..].to_vec(),
            previous_last_index: index.prev(),
            ..LogWrite::default()
        };
        log.write(&LogBatch { writes: vec![write], ..LogBatch::default() }, true).unwrap();
    }
    (folder, entries)
}

fn read(log: &RocksLog) -> Vec<Entry> {
    log.read_entries(REGION, Index(2), Index(u64::MAX), usize::MAX).unwrap()
}

/// The write-ahead files, oldest first.
fn log_files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    paths.sort();
    paths
}

/// A copy of a folder, to be damaged.
fn copy(folder: &Path) -> TempDir {
    let target = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), target.path().join(file.file_name())).unwrap();
    }
    target
}

fn assert_refused(result: Result<RocksLog, Error>, what: &str) {
    match result {
        Ok(_) => panic!("opened in spite of {what}"),
        Err(Error::Corruption { message, .. }) => {
            assert!(message.contains("rebuild this store under a new id"), "{what}: {message}");
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_last_record_cut_short_is_dropped_wherever_the_cut_is() {
    let (folder, entries) = written(&[10, 40_000, 300], &options());
    let path = log_files(folder.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    // The last record holds 300 bytes of payload and about 60 of its own.
    for cut in (1..330).step_by(7).chain([1, 2, 299, 329]) {
        let copy = copy(folder.path());
        let target = copy.path().join(path.file_name().unwrap());
        fs::write(&target, &bytes[..bytes.len() - cut]).unwrap();
        let log = RocksLog::open(copy.path(), &options())
            .unwrap_or_else(|error| panic!("{cut} bytes cut: {error}"));
        assert_eq!(read(&log), entries[..2], "{cut} bytes cut");
        drop(log);
        assert_eq!(read(&RocksLog::open(copy.path(), &options()).unwrap()), entries[..2]);
    }
    // A cut inside a record of several parts.
    let copy = copy(folder.path());
    fs::write(copy.path().join(path.file_name().unwrap()), &bytes[..35_000]).unwrap();
    assert_eq!(read(&RocksLog::open(copy.path(), &options()).unwrap()), entries[..1]);
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let (folder, entries) = written(&[10, 33_000, 200, 20], &options());
    let path = log_files(folder.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    // Every byte of the heads and near them, and some of the long payload.
    let near_records = (0..200).chain(32_700..bytes.len());
    for at in near_records.chain((200..32_700).step_by(3_000)) {
        let copy = copy(folder.path());
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(copy.path().join(path.file_name().unwrap()), damaged).unwrap();
        match RocksLog::open(copy.path(), &options()) {
            Ok(log) => {
                assert_eq!(read(&log), entries, "byte {at} was flipped, and entries vanished without a word")
            }
            refused @ Err(_) => assert_refused(refused, &format!("a flipped bit in byte {at}")),
        }
    }
}

#[test]
fn a_block_of_zeros_is_refused() {
    let (folder, _) = written(&[10, 200_000, 300], &options());
    let path = log_files(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[65_536..98_304].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_refused(RocksLog::open(folder.path(), &options()), "a block of zeros");
}

/// A log with two files of synced writes.
struct TwoFiles {
    folder: TempDir,
    /// The length of the older file after its first write.
    first_len: u64,
    /// The last entry, alone in the newer file.
    last_index: Index,
}

/// The older file vanishes as soon as RocksDB has written its memtable out; this catches it before.
fn two_files() -> TwoFiles {
    let options = Options { log_memtable_bytes: 16 << 20, ..options() };
    let source = tempfile::tempdir().unwrap();
    let log = RocksLog::open(source.path(), &options).unwrap();
    let mut last = Entry { index: Index(1), ..Entry::default() };
    let mut write = |len: usize| {
        let (index, payload) = (last.index.next(), Bytes::from(vec![7; len]));
        let chain = last.chain.link(index, Term(1), EntryKind::Command, &payload);
        let entry = Entry { index, term: Term(1), kind: EntryKind::Command, payload, chain };
        let previous_last_index = std::mem::replace(&mut last, entry.clone()).index;
        let write =
            LogWrite { region_id: REGION, entries: vec![entry], previous_last_index, ..LogWrite::default() };
        log.write(&LogBatch { writes: vec![write], ..LogBatch::default() }, true).unwrap();
        index
    };
    for _ in 0..200 {
        write(1 << 20);
        let first_len = fs::metadata(log_files(source.path()).pop().unwrap()).unwrap().len();
        for _ in 1..16 {
            write(1 << 20);
        }
        let last_index = write(10);
        let target = tempfile::tempdir().unwrap();
        for file in fs::read_dir(source.path()).unwrap().map(Result::unwrap) {
            let target = target.path().join(file.file_name());
            let is_log = file.path().extension().is_some_and(|ending| ending == "log");
            // What vanishes meanwhile is missed below. Links take no time, but only the log files change no more.
            if is_log {
                fs::hard_link(file.path(), target).ok()
            } else {
                fs::copy(file.path(), target).ok().map(drop)
            };
        }
        let files = log_files(target.path());
        if files.len() == 2
            && files.iter().all(|file| fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0))
            && is_needed(&files[0], target.path())
        {
            return TwoFiles { folder: target, first_len, last_index };
        }
    }
    panic!("RocksDB wrote every memtable out at once");
}

/// Whether a folder is whole, and not without this file: RocksDB may have written its memtable out before the other files
/// were copied.
fn is_needed(file: &Path, folder: &Path) -> bool {
    let without = copy(folder);
    fs::remove_file(without.path().join(file.file_name().unwrap())).unwrap();
    RocksLog::open(copy(folder).path(), &options()).is_ok()
        && RocksLog::open(without.path(), &options()).is_err()
}

#[test]
fn an_older_file_cut_short_is_refused() {
    let TwoFiles { folder, first_len, .. } = two_files();
    let oldest = log_files(folder.path()).remove(0);
    let bytes = fs::read(&oldest).unwrap();
    // Within a record, and between two.
    for len in [bytes.len() - 10, usize::try_from(first_len).unwrap()] {
        let copy = copy(folder.path());
        fs::write(copy.path().join(oldest.file_name().unwrap()), &bytes[..len]).unwrap();
        assert_refused(RocksLog::open(copy.path(), &options()), &format!("an older file cut to {len} bytes"));
    }
    fs::remove_file(&oldest).unwrap();
    assert_refused(RocksLog::open(folder.path(), &options()), "an older file that is missing");
}

#[test]
fn two_whole_files_open() {
    let TwoFiles { folder, last_index, .. } = two_files();
    let log = RocksLog::open(folder.path(), &options()).unwrap();
    let read = log.read_entries(REGION, Index(2), Index(u64::MAX), usize::MAX).unwrap();
    assert_eq!(read.last().map(|entry| entry.index), Some(last_index));
}

#[test]
fn a_missing_current_file_is_refused() {
    let (folder, _) = written(&[10], &options());
    fs::remove_file(folder.path().join("CURRENT")).unwrap();
    assert_refused(RocksLog::open(folder.path(), &options()), "a missing CURRENT");
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (log_path, kv_path) = (folder.path().join("log"), folder.path().join("kv"));
    let log = RocksLog::open(&log_path, &options()).unwrap();
    let kv = RocksKv::open(&kv_path, &options()).unwrap();
    let messages = [
        RocksLog::open(&log_path, &options()).err().unwrap().to_string(),
        RocksKv::open(&kv_path, &options()).err().unwrap().to_string(),
    ];
    for message in messages {
        assert!(message.contains("already in use by another process"), "{message}");
    }
    // A snapshot keeps the folder, too.
    let snapshot = kv.snapshot();
    drop((log, kv));
    assert!(RocksKv::open(&kv_path, &options()).is_err());
    drop(snapshot);
    RocksLog::open(&log_path, &options()).unwrap();
    RocksKv::open(&kv_path, &options()).unwrap();
}

#[test]
fn damage_in_files_of_the_kv_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(folder.path(), &options()).unwrap();
    let mut batch = engine::KvBatch::new();
    (0..1000_u32).for_each(|at| batch.put(&[&at.to_be_bytes()], &[&[at as u8; 100]]));
    kv.write(&batch).unwrap();
    kv.flush().unwrap();
    drop(kv);
    let is_table = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sst");
    let table = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).find(is_table).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[100] ^= 1;
    fs::write(&table, bytes).unwrap();
    let kv = RocksKv::open(folder.path(), &options()).unwrap();
    let result = kv.get(&0_u32.to_be_bytes());
    assert!(matches!(result, Err(Error::Corruption { .. })), "{result:?}");
}
