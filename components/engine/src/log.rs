//! The port for Raft logs.

use bytes::Bytes;
use types::{
    ClusterId, ConfigurationChange, Entry, HardState, Incarnation, Index, LogPosition, PeerId, RegionId,
    StoreId,
};

use crate::{LifecycleRecord, Result};

/// Who this store is: written once, then only its incarnation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdent {
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
    /// Its id in that cluster.
    pub store_id: StoreId,
    /// How often it has started.
    pub incarnation: Incarnation,
}

/// A region's Raft state on this store: with it a peer starts without scanning its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftState {
    /// This store's peer of the region.
    pub peer_id: PeerId,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The position behind which the log begins.
    pub truncated: LogPosition,
    /// The last position of the log when this was written: entries that only extend a log are written without it.
    pub last: LogPosition,
    /// The configuration in force at `truncated` and every one behind it, with the index of its entry, ascending.
    pub configurations: Vec<(Index, ConfigurationChange)>,
}

/// Everything that one commit of the log engine writes: of every region of every worker that has something to persist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// Changes of logs and Raft states, in order: several of one region happen one after the other.
    pub writes: Vec<LogWrite>,
    /// New lifecycle records.
    pub records: Vec<LifecycleRecord>,
    /// Lifecycle records that are no longer needed: their effect is flushed.
    pub records_removed: Vec<u64>,
    /// Who this store is, if that changed.
    pub ident: Option<StoreIdent>,
    /// Rows of the store's own (address book), set or removed.
    pub local_rows: Vec<(Bytes, Option<Bytes>)>,
}

/// What one region writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWrite {
    /// The region.
    pub region_id: RegionId,
    /// Entries to write, consecutive; the log holds nothing behind the last of them afterwards.
    pub entries: Vec<Entry>,
    /// The last index that the log held before this write; what it held from the first of `entries` on and behind the
    /// last of them is stale and removed in the same batch.
    pub previous_last_index: Index,
    /// The region's Raft state, if it changed.
    pub raft_state: Option<RaftState>,
    /// Entries up to here (inclusive) may be removed; in the same batch, or later, but before the log is removed.
    pub truncate_to: Option<Index>,
    /// The first index that the log may still hold, where `truncate_to` is set: nothing below it is searched.
    pub truncate_from: Index,
    /// Bytes of the entries that `truncate_to` removes, as far as they are known.
    pub truncated_bytes: u64,
    /// Whether entries and Raft state of the region are removed before the rest of this write.
    pub is_cleared: bool,
}

/// Durable logs of all regions of a store. Calls block. What an engine shows when it opens is durable, also where it was
/// written without a sync.
pub trait LogEngine: Send + Sync {
    /// Writes the batch atomically. With `is_synced`, it and every earlier batch is durable on return; without, it may
    /// be lost with a suffix of the batches behind the last synced one. A failure poisons the engine for good.
    fn write(&self, batch: &LogBatch, is_synced: bool) -> Result<()>;

    /// Consecutive entries from `first_index` on, up to `last_index` (inclusive) or `bytes_max`, at least one if the
    /// first exists; checks each entry's chain against the one before it. (The first is checked where the entry before
    /// it is stored, or where the stored Raft state's truncation point is right before it.)
    fn read_entries(
        &self,
        region: RegionId,
        first_index: Index,
        last_index: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>>;

    /// Every region's Raft state, in order of region.
    fn raft_states(&self) -> Result<Vec<(RegionId, RaftState)>>;

    /// The last entry that is stored of each of these regions, given in ascending order: behind [`RaftState::last`] where
    /// the log was extended since. `None`: none is.
    fn last_positions(&self, regions: &[RegionId]) -> Result<Vec<Option<LogPosition>>>;

    /// Every region's Raft state, in order of region, with the log's end as it is stored: entries that only extended the
    /// log came without a Raft state.
    fn raft_states_with_ends(&self) -> Result<Vec<(RegionId, RaftState)>> {
        let mut states = self.raft_states()?;
        let regions: Vec<_> = states.iter().map(|(region, _)| *region).collect();
        for ((_, state), last) in states.iter_mut().zip(self.last_positions(&regions)?) {
            state.last = last.filter(|last| last.index > state.last.index).unwrap_or(state.last);
        }
        Ok(states)
    }

    /// Every lifecycle record that was not removed, in order.
    fn lifecycle_records(&self) -> Result<Vec<LifecycleRecord>>;

    /// Who this store is; `None` before it joined a cluster.
    fn ident(&self) -> Result<Option<StoreIdent>>;

    /// The store's own rows, in key order.
    fn local_rows(&self) -> Result<Vec<(Bytes, Bytes)>>;

    /// Bytes that this engine's files take.
    fn disk_bytes(&self) -> u64;
}

impl LogBatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.records.is_empty()
            && self.records_removed.is_empty()
            && self.ident.is_none()
            && self.local_rows.is_empty()
    }

    /// Bytes of entries in the batch.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        self.writes.iter().flat_map(|write| &write.entries).map(Entry::size_bytes).sum()
    }
}
