//! The log: one database for all regions, with a write-ahead log (D4).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine::{
    EntryRun, Error, LifecycleRecord, LogBatch, LogEngine, LogWrite, Operation, RaftState, Result, StoreIdent,
};
use parking_lot::Mutex;
use rocksdb::{DB, DBRawIterator, FlushOptions, ReadOptions, WriteBatch, WriteOptions};
use types::{Chain, Entry, Index, LogPosition, RegionId};

use crate::{
    Options,
    codec::{self, ENTRY, IDENT, LIFECYCLE, LOCAL, RAFT_STATE},
    error::{self, Health},
    folder::{self, FolderLock},
    log_files,
};

/// From this many entries on a prefix or a whole log is removed by one range deletion, below by point deletions: a
/// range deletion costs every reader until it reaches the last level, so it has to be worth it.
const RANGE_DELETE_MIN_ENTRIES: u64 = 4_096;

/// The same for bytes: so much is worth a range deletion, however few entries it is.
const RANGE_DELETE_MIN_BYTES: u64 = 1 << 20;

/// What a row costs a memtable beside its key and value.
const MEMTABLE_ROW_BYTES: usize = 48;

/// The log engine of a store. One thread at a time writes; others may read.
///
/// It changes memtables, and with them the files of the write-ahead log, itself: after a sync. So every file but the
/// last is whole and durable, what survives a power loss is a prefix also where writes were not synced, and an older
/// file that is cut short is damage.
///
/// # Caveats
/// Prefixes are removed by the number of their entries alone; their bytes are not known without reading them.
pub struct RocksLog {
    db: DB,
    path: PathBuf,
    health: Health,
    writer: Mutex<Writer>,
    memtable_max_bytes: usize,
    synced: WriteOptions,
    unsynced: WriteOptions,
    _lock: FolderLock,
}

/// What was written since the memtable was changed.
#[derive(Default)]
struct Writer {
    memtable_bytes: usize,
    has_unsynced: bool,
}

impl RocksLog {
    /// Opens the log in this folder, or creates it. A last record cut short is dropped: its write was never acknowledged.
    /// Any other damage is refused.
    pub fn open(path: &Path, options: &Options) -> Result<RocksLog> {
        let lock = FolderLock::take(path)?;
        let open = || {
            folder::check_current(path)?;
            log_files::mend_tail(path)?;
            DB::open(&options.log()?, path).map_err(|failure| error::of(Operation::Open, failure))
        };
        let db = open().map_err(error::while_opening)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(RocksLog {
            db,
            path: path.to_owned(),
            health: Health::default(),
            writer: Mutex::default(),
            memtable_max_bytes: options.log_memtable_bytes,
            synced,
            unsynced: WriteOptions::default(),
            _lock: lock,
        })
    }

    /// Every row that the batch changes.
    fn encode(&self, batch: &LogBatch) -> Result<WriteBatch> {
        let mut rows = WriteBatch::with_capacity_bytes(batch.entry_bytes() + 256 * batch.writes.len() + 64);
        let mut buffer = Vec::new();
        for (at, write) in batch.writes.iter().enumerate() {
            if write.is_cleared {
                self.clear(write.region_id, &batch.writes[..at], &mut rows)?;
            }
            encode_write(write, &mut rows, &mut buffer);
        }
        for record in &batch.records {
            rows.put(codec::numbered_key(LIFECYCLE, record.sequence), codec::encode_record(record));
        }
        for sequence in &batch.records_removed {
            rows.delete(codec::numbered_key(LIFECYCLE, *sequence));
        }
        if let Some(ident) = &batch.ident {
            rows.put([IDENT], codec::encode_ident(ident));
        }
        for (key, value) in &batch.local_rows {
            let key = [&[LOCAL], key.as_ref()].concat();
            match value {
                Some(value) => rows.put(key, value),
                None => rows.delete(key),
            }
        }
        Ok(rows)
    }

    /// Removes what is stored of a region, and what `earlier` writes of the same batch put; what is put behind this stays.
    fn clear(&self, region: RegionId, earlier: &[LogWrite], rows: &mut WriteBatch) -> Result<()> {
        rows.delete(codec::numbered_key(RAFT_STATE, region.0));
        let mut stored = self.entries_from(region, Index(0), Index(u64::MAX));
        stored.seek_to_first();
        let mut keys = Vec::new();
        while let Some(key) = stored.key() {
            keys.push(key.to_vec());
            if keys.len() as u64 >= RANGE_DELETE_MIN_ENTRIES {
                let end = codec::behind_entry_key(region, Index(u64::MAX));
                rows.delete_range(&codec::entry_key(region, Index(0))[..], &end[..]);
                return Ok(());
            }
            stored.next();
        }
        stored.status().map_err(|failure| of_region(region, error::of(Operation::Read, failure)))?;
        keys.iter().for_each(|key| rows.delete(key));
        let earlier = earlier.iter().filter(|write| write.region_id == region);
        for entry in earlier.flat_map(|write| &write.entries) {
            rows.delete(codec::entry_key(region, entry.index));
        }
        Ok(())
    }

    /// Begins a new memtable and a new file of the write-ahead log, and lets RocksDB write the old memtable out.
    fn change_memtable(&self, writer: &mut Writer) -> Result<()> {
        if writer.has_unsynced {
            self.health.keep(Operation::Write, self.db.flush_wal(true))?;
        }
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.health.keep(Operation::Flush, self.db.flush_opt(&options))?;
        *writer = Writer::default();
        Ok(())
    }

    /// An iterator over a region's entry rows.
    fn entries_from(&self, region: RegionId, first_index: Index, last_index: Index) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(codec::entry_key(region, first_index));
        options.set_iterate_upper_bound(codec::behind_entry_key(region, last_index));
        // Entries are read once, by a follower that lags or at start: they should not displace data from the cache.
        options.fill_cache(false);
        self.db.raw_iterator_opt(options)
    }

    /// Calls `visit` with the key and value of every row whose key begins with `kind`.
    fn visit_kind(&self, kind: u8, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.health.check()?;
        let mut rows = self.rows_of(kind);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            visit(key, value)?;
            rows.next();
        }
        rows.status().map_err(|failure| error::of(Operation::Read, failure))
    }

    fn rows_of(&self, kind: u8) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound([kind]);
        options.set_iterate_upper_bound([kind + 1]);
        self.db.raw_iterator_opt(options)
    }

    fn get<T>(&self, key: &[u8], decode: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        self.health.check()?;
        let row = self.db.get_pinned(key).map_err(|failure| error::of(Operation::Read, failure))?;
        row.map(|row| decode(&row)).transpose()
    }

    /// The chain at the truncation point, if that is right before `index`.
    fn truncated_chain(&self, region: RegionId, index: Index) -> Result<Option<Chain>> {
        let state = self
            .get(&codec::numbered_key(RAFT_STATE, region.0), |row| codec::decode_raft_state(region, row))?;
        Ok(state.map(|state| state.truncated).filter(|at| at.index.next() == index).map(|at| at.chain))
    }
}

impl LogEngine for RocksLog {
    fn write(&self, batch: &LogBatch, is_synced: bool) -> Result<()> {
        self.health.check()?;
        let rows = self.encode(batch)?;
        let bytes = rows.size_in_bytes() + rows.len() * MEMTABLE_ROW_BYTES;
        let mut writer = self.writer.lock();
        if rows.is_empty() {
            if is_synced && writer.has_unsynced {
                self.health.keep(Operation::Write, self.db.flush_wal(true))?;
                writer.has_unsynced = false;
            }
            return Ok(());
        }
        let options = if is_synced { &self.synced } else { &self.unsynced };
        self.health.keep(Operation::Write, self.db.write_opt(rows, options))?;
        writer.has_unsynced = !is_synced;
        writer.memtable_bytes += bytes;
        if writer.memtable_bytes >= self.memtable_max_bytes {
            self.change_memtable(&mut writer)?;
        }
        Ok(())
    }

    fn read_entries(
        &self,
        region: RegionId,
        first_index: Index,
        last_index: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        self.health.check()?;
        let mut rows = self.entries_from(region, first_index.prev(), last_index);
        rows.seek_to_first();
        let decode = |(key, value): (&[u8], &[u8])| codec::decode_entry(region, key, value);
        let mut next = rows.item().map(decode).transpose()?;
        let previous = match next.take_if(|entry| entry.index < first_index) {
            Some(entry) => {
                rows.next();
                next = rows.item().map(decode).transpose()?;
                Some(entry.chain)
            }
            None => self.truncated_chain(region, first_index)?,
        };
        let mut run = EntryRun::new(region, first_index, last_index, bytes_max, previous);
        while let Some(entry) = next {
            if run.push(entry)?.is_break() {
                break;
            }
            rows.next();
            next = rows.item().map(decode).transpose()?;
        }
        rows.status().map_err(|failure| of_region(region, error::of(Operation::Read, failure)))?;
        Ok(run.into_entries())
    }

    fn raft_states(&self) -> Result<Vec<(RegionId, RaftState)>> {
        let mut states = Vec::new();
        self.visit_kind(RAFT_STATE, |key, value| {
            let region = RegionId(codec::decode_number(key)?);
            states.push((region, codec::decode_raft_state(region, value)?));
            Ok(())
        })?;
        Ok(states)
    }

    fn last_positions(&self, regions: &[RegionId]) -> Result<Vec<Option<LogPosition>>> {
        self.health.check()?;
        // One iterator for all: making one costs more than a search.
        let mut rows = self.rows_of(ENTRY);
        let mut positions = Vec::with_capacity(regions.len());
        for region in regions {
            rows.seek_for_prev(codec::behind_entry_key(*region, Index(u64::MAX)));
            let last = rows.item().filter(|(key, _)| key[1..9] == region.0.to_be_bytes());
            let last = last.map(|(key, value)| codec::decode_entry(*region, key, value)).transpose()?;
            positions.push(last.map(|entry| entry.position()));
            rows.status().map_err(|failure| of_region(*region, error::of(Operation::Read, failure)))?;
        }
        Ok(positions)
    }

    fn lifecycle_records(&self) -> Result<Vec<LifecycleRecord>> {
        let mut records = Vec::new();
        self.visit_kind(LIFECYCLE, |_, value| {
            records.push(codec::decode_record(value)?);
            Ok(())
        })?;
        Ok(records)
    }

    fn ident(&self) -> Result<Option<StoreIdent>> {
        self.get(&[IDENT], codec::decode_ident)
    }

    fn local_rows(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let mut rows = Vec::new();
        self.visit_kind(LOCAL, |key, value| {
            rows.push((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(value)));
            Ok(())
        })?;
        Ok(rows)
    }

    fn disk_bytes(&self) -> u64 {
        folder::disk_bytes(&self.path)
    }
}

/// Every row that a write changes, but for what it clears.
fn encode_write(write: &LogWrite, rows: &mut WriteBatch, buffer: &mut Vec<u8>) {
    let region = write.region_id;
    for entry in &write.entries {
        codec::encode_entry(entry, buffer);
        rows.put(codec::entry_key(region, entry.index), &buffer);
    }
    if let Some(last) = write.entries.last().filter(|_| !write.is_cleared) {
        delete_entries(rows, region, last.index.next(), write.previous_last_index, 0);
    }
    if let Some(state) = &write.raft_state {
        rows.put(codec::numbered_key(RAFT_STATE, region.0), codec::encode_raft_state(state));
    }
    if let Some(truncate_to) = write.truncate_to {
        delete_entries(rows, region, write.truncate_from, truncate_to, write.truncated_bytes);
    }
}

/// Removes the entries from `first` to `last`, both included; `bytes` of them, as far as known.
fn delete_entries(rows: &mut WriteBatch, region: RegionId, first: Index, last: Index, bytes: u64) {
    let is_much = last.since(first) >= RANGE_DELETE_MIN_ENTRIES - 1 || bytes >= RANGE_DELETE_MIN_BYTES;
    if is_much && first <= last {
        rows.delete_range(&codec::entry_key(region, first)[..], &codec::behind_entry_key(region, last)[..]);
    } else {
        (first.0..=last.0).for_each(|index| rows.delete(codec::entry_key(region, Index(index))));
    }
}

/// The same error with the region that it concerns.
fn of_region(region: RegionId, error: Error) -> Error {
    match error {
        Error::Corruption { operation, region: None, message } => {
            Error::Corruption { operation, region: Some(region), message }
        }
        other @ (Error::Corruption { .. } | Error::Io { .. } | Error::DiskFull { .. } | Error::Poisoned) => {
            other
        }
    }
}
