//! A process that dies before a certain step of its disk: from then on it does nothing, and nobody hears of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use engine::{Error, LifecycleRecord, LogBatch, LogEngine, RaftState, Result, StoreIdent};
use types::{Entry, Index, LogPosition, RegionId};

/// Counts what a process makes its disk do, and says when it dies.
pub(crate) struct Fuse {
    step_count: AtomicU64,
    /// Steps that are still done.
    dies_at: AtomicU64,
}

/// Everything is the other engine's.
pub(crate) struct MortalLog {
    pub(crate) engine: Arc<dyn LogEngine>,
    pub(crate) fuse: Arc<Fuse>,
}

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse { step_count: AtomicU64::new(0), dies_at: AtomicU64::new(u64::MAX) }
    }
}

impl Fuse {
    /// How much the process has made its disk do.
    pub(crate) fn step_count(&self) -> u64 {
        self.step_count.load(Ordering::Relaxed)
    }

    /// The process dies before it has done so many steps more, and one.
    pub(crate) fn die_after(&self, more: u64) {
        self.dies_at.store(self.step_count() + more, Ordering::Relaxed);
    }

    /// Whether the process has come to its end.
    pub(crate) fn is_dead(&self) -> bool {
        self.step_count() > self.dies_at.load(Ordering::Relaxed)
    }

    /// The next step; a dead process comes no further.
    pub(crate) fn step(&self) -> Result<()> {
        self.step_count.fetch_add(1, Ordering::Relaxed);
        if self.is_dead() { Err(Error::Poisoned) } else { Ok(()) }
    }
}

impl LogEngine for MortalLog {
    fn write(&self, batch: &LogBatch, is_synced: bool) -> Result<()> {
        self.fuse.step()?;
        self.engine.write(batch, is_synced)
    }

    fn read_entries(
        &self,
        region: RegionId,
        first_index: Index,
        last_index: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        self.engine.read_entries(region, first_index, last_index, bytes_max)
    }

    fn raft_states(&self) -> Result<Vec<(RegionId, RaftState)>> {
        self.engine.raft_states()
    }

    fn last_positions(&self, regions: &[RegionId]) -> Result<Vec<Option<LogPosition>>> {
        self.engine.last_positions(regions)
    }

    fn lifecycle_records(&self) -> Result<Vec<LifecycleRecord>> {
        self.engine.lifecycle_records()
    }

    fn ident(&self) -> Result<Option<StoreIdent>> {
        self.engine.ident()
    }

    fn local_rows(&self) -> Result<Vec<(Bytes, Bytes)>> {
        self.engine.local_rows()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}
