//! The KV: a database without a write-ahead log (D5).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use engine::{KvBatch, KvEngine, KvOp, KvSnapshot, Operation, Result, StagedFile};
use parking_lot::Mutex;
use rocksdb::{DB, IngestExternalFileOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions, properties};

use crate::{
    Options,
    error::{self, Health},
    folder::{self, FolderLock},
    snapshot::{NoSnapshot, OwnedSnapshot},
    staged::Staging,
};

/// The KV engine of a store.
///
/// A drop is like a crash: what was not flushed is gone. It may flush by itself, when a memtable is full.
pub struct RocksKv {
    database: Arc<Database>,
    path: PathBuf,
    health: Arc<Health>,
    staging: Mutex<Staging>,
    write_options: WriteOptions,
    /// Bytes of keys and values written, and how many of them were when the last finished flush began.
    written_bytes: AtomicU64,
    flushed_bytes: AtomicU64,
}

/// The database, in a folder that is locked for as long as it is open: snapshots may outlive the engine.
pub(crate) struct Database {
    pub(crate) db: DB,
    _lock: FolderLock,
}

impl RocksKv {
    /// Opens the KV in this folder, or creates it. Damage that is found is refused.
    pub fn open(path: &Path, options: &Options) -> Result<RocksKv> {
        let lock = FolderLock::take(path)?;
        let rocks_options = options.kv()?;
        let open = || {
            folder::check_current(path)?;
            DB::open(&rocks_options, path).map_err(|failure| error::of(Operation::Open, failure))
        };
        let db = open().map_err(error::while_opening)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let health = Arc::new(Health::default());
        let staging = Staging::open(path, options.staged()?, Arc::clone(&health))?;
        Ok(RocksKv {
            database: Arc::new(Database { db, _lock: lock }),
            path: path.to_owned(),
            health,
            staging: Mutex::new(staging),
            write_options,
            written_bytes: AtomicU64::new(0),
            flushed_bytes: AtomicU64::new(0),
        })
    }

    fn get_in(&self, key: &[u8], tier: ReadTier) -> Result<Option<Bytes>> {
        self.health.check()?;
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        let value = self
            .database
            .db
            .get_pinned_opt(key, &options)
            .map_err(|failure| error::of(Operation::Read, failure))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn stage<T>(&self, step: impl FnOnce(&mut Staging) -> Result<T>) -> Result<T> {
        self.health.check()?;
        step(&mut self.staging.lock())
    }
}

impl KvEngine for RocksKv {
    fn write(&self, batch: &KvBatch) -> Result<()> {
        self.health.check()?;
        let mut rows = WriteBatch::with_capacity_bytes(batch.size_bytes() + 12 * batch.len() + 12);
        for op in batch.ops() {
            match op {
                KvOp::Put { key, value } => rows.put(key, value),
                KvOp::Delete { key } => rows.delete(key),
                KvOp::DeleteRange { start_key, end_key } => rows.delete_range(start_key, end_key),
            }
        }
        self.health.keep(Operation::Write, self.database.db.write_opt(rows, &self.write_options))?;
        self.written_bytes.fetch_add(batch.size_bytes() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_in(key, ReadTier::All)
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        // As no write has a write-ahead log, this tier is that of the files.
        self.get_in(key, ReadTier::Persisted)
    }

    fn snapshot(&self) -> Box<dyn KvSnapshot> {
        match self.health.check() {
            Ok(()) => Box::new(OwnedSnapshot::take(&self.database)),
            Err(_) => Box::new(NoSnapshot),
        }
    }

    fn flush(&self) -> Result<()> {
        self.health.check()?;
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        self.health.keep(Operation::Flush, self.database.db.flush())?;
        self.flushed_bytes.fetch_max(written_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn unflushed_bytes(&self) -> u64 {
        let flushed_bytes = self.flushed_bytes.load(Ordering::Relaxed);
        let unflushed_bytes = self.written_bytes.load(Ordering::Relaxed).saturating_sub(flushed_bytes);
        // RocksDB may have flushed by itself since; then its memtables hold less than was written.
        let in_memtables =
            self.database.db.property_int_value(properties::CUR_SIZE_ALL_MEM_TABLES).ok().flatten();
        in_memtables.map_or(unflushed_bytes, |bytes| bytes.min(unflushed_bytes))
    }

    fn stage_create(&self, name: &str) -> Result<()> {
        self.stage(|staging| staging.create(name))
    }

    fn stage_append(&self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()> {
        self.stage(|staging| staging.append(name, pairs))
    }

    fn stage_sync(&self, name: &str) -> Result<()> {
        self.stage(|staging| staging.sync(name))
    }

    fn stage_list(&self) -> Result<Vec<StagedFile>> {
        self.stage(|staging| staging.list())
    }

    fn stage_delete(&self, name: &str) -> Result<()> {
        self.stage(|staging| staging.delete(name))
    }

    fn ingest(&self, names: &[String]) -> Result<()> {
        self.health.check()?;
        let paths = self.staging.lock().paths_of(names)?;
        if paths.is_empty() {
            return Ok(());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(false);
        options.set_allow_global_seqno(true);
        options.set_snapshot_consistency(true);
        options.set_allow_blocking_flush(true);
        options.set_ingest_behind(false);
        self.health.keep(Operation::Ingest, self.database.db.ingest_external_file_opts(&options, paths))
    }

    fn disk_bytes(&self) -> u64 {
        folder::disk_bytes(&self.path)
    }

    fn free_bytes(&self) -> u64 {
        folder::free_bytes(&self.path)
    }
}
