//! A KV engine whose snapshots can be made to take time, and whose process may die.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use engine::{KvBatch, KvEngine, KvSnapshot, Result, StagedFile};

use crate::mortal::Fuse;

/// How long the next snapshots take, in nanoseconds of the clock that is moved by hand.
#[derive(Default)]
pub(crate) struct SnapshotDelay(pub(crate) AtomicU64);

/// Everything is the other engine's; only time passes behind each snapshot, before its taker goes on.
pub(crate) struct SlowKv {
    pub(crate) engine: Arc<dyn KvEngine>,
    pub(crate) delay: Arc<SnapshotDelay>,
    pub(crate) pass: Box<dyn Fn(u64) + Send + Sync>,
    pub(crate) fuse: Arc<Fuse>,
}

impl KvEngine for SlowKv {
    fn snapshot(&self) -> Box<dyn KvSnapshot> {
        let snapshot = self.engine.snapshot();
        (self.pass)(self.delay.0.load(Ordering::Relaxed));
        snapshot
    }

    fn write(&self, batch: &KvBatch) -> Result<()> {
        self.fuse.step()?;
        self.engine.write(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.engine.get(key)
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.engine.get_flushed(key)
    }

    fn flush(&self) -> Result<()> {
        self.fuse.step()?;
        self.engine.flush()
    }

    fn unflushed_bytes(&self) -> u64 {
        self.engine.unflushed_bytes()
    }

    fn stage_create(&self, name: &str) -> Result<()> {
        self.fuse.step()?;
        self.engine.stage_create(name)
    }

    fn stage_append(&self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()> {
        self.fuse.step()?;
        self.engine.stage_append(name, pairs)
    }

    fn stage_sync(&self, name: &str) -> Result<()> {
        self.fuse.step()?;
        self.engine.stage_sync(name)
    }

    fn stage_list(&self) -> Result<Vec<StagedFile>> {
        self.engine.stage_list()
    }

    fn stage_delete(&self, name: &str) -> Result<()> {
        self.fuse.step()?;
        self.engine.stage_delete(name)
    }

    fn ingest(&self, names: &[String]) -> Result<()> {
        self.fuse.step()?;
        self.engine.ingest(names)
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn free_bytes(&self) -> u64 {
        self.engine.free_bytes()
    }
}
