//! The log of a [`MemDisk`].

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{Chain, Entry, Index, LogPosition, RegionId};

use super::{DiskState, Draw, Fault, MemDisk, flip_bit, injected};
use crate::{
    EntryRun, Error, LifecycleRecord, LogBatch, LogEngine, LogWrite, Operation, RaftState, Result, StoreIdent,
};

/// A handle on the log.
pub(super) struct MemLog {
    pub(super) disk: MemDisk,
    pub(super) generation: u64,
}

/// The log's three layers.
#[derive(Default)]
pub(super) struct LogLayers {
    applied: LogRows,
    in_flight: Vec<LogBatch>,
    durable: LogRows,
    is_poisoned: bool,
}

/// Everything that a log engine stores.
#[derive(Clone, Default)]
struct LogRows {
    regions: BTreeMap<RegionId, RegionRows>,
    records: BTreeMap<u64, LifecycleRecord>,
    ident: Option<StoreIdent>,
    local_rows: BTreeMap<Bytes, Bytes>,
}

/// What it stores of one region.
#[derive(Clone, Default)]
struct RegionRows {
    entries: BTreeMap<Index, Entry>,
    raft_state: Option<RaftState>,
}

impl LogEngine for MemLog {
    fn write(&self, batch: &LogBatch, is_synced: bool) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Write)?;
        if state.takes_fault(Fault::LogWrite) {
            state.log.is_poisoned = true;
            return Err(injected(Operation::Write));
        }
        // A disk holds bytes of its own: what is written must not keep the writer's memory in use.
        let mut batch = batch.clone();
        for entry in batch.writes.iter_mut().flat_map(|write| &mut write.entries) {
            entry.payload = Bytes::copy_from_slice(&entry.payload);
        }
        state.log.applied.apply(&batch);
        state.counters.log_writes += 1;
        state.counters.log_bytes += batch.entry_bytes() as u64;
        state.log.in_flight.push(batch);
        if is_synced {
            if state.takes_fault(Fault::LogSync) {
                state.log.is_poisoned = true;
                return Err(injected(Operation::Write));
            }
            state.counters.log_syncs += 1;
            state.log.sync();
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
        let state = self.disk.lock();
        self.check(&state)?;
        let Some(rows) = state.log.applied.regions.get(&region) else { return Ok(Vec::new()) };
        let mut run =
            EntryRun::new(region, first_index, last_index, bytes_max, rows.chain_at(first_index.prev()));
        for entry in rows.entries.range(first_index..).map(|(_, entry)| entry) {
            if run.push(entry.clone())?.is_break() {
                break;
            }
        }
        Ok(run.into_entries())
    }

    fn raft_states(&self) -> Result<Vec<(RegionId, RaftState)>> {
        let state = self.disk.lock();
        self.check(&state)?;
        let with_id = |(id, rows): (&RegionId, &RegionRows)| rows.raft_state.clone().map(|raft| (*id, raft));
        Ok(state.log.applied.regions.iter().filter_map(with_id).collect())
    }

    fn last_positions(&self, regions: &[RegionId]) -> Result<Vec<Option<LogPosition>>> {
        let state = self.disk.lock();
        self.check(&state)?;
        let last_of = |region| {
            let rows = state.log.applied.regions.get(region)?;
            rows.entries.last_key_value().map(|(_, entry)| entry.position())
        };
        Ok(regions.iter().map(last_of).collect())
    }

    fn lifecycle_records(&self) -> Result<Vec<LifecycleRecord>> {
        let state = self.disk.lock();
        self.check(&state)?;
        Ok(state.log.applied.records.values().cloned().collect())
    }

    fn ident(&self) -> Result<Option<StoreIdent>> {
        let state = self.disk.lock();
        self.check(&state)?;
        Ok(state.log.applied.ident)
    }

    fn local_rows(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let state = self.disk.lock();
        self.check(&state)?;
        Ok(state.log.applied.local_rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn disk_bytes(&self) -> u64 {
        let state = self.disk.lock();
        let entries = state.log.applied.regions.values().flat_map(|rows| rows.entries.values());
        entries.map(|entry| entry.size_bytes() as u64).sum()
    }
}

impl MemLog {
    fn check(&self, state: &DiskState) -> Result<()> {
        state.check_generation(self.generation)?;
        if state.log.is_poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }
}

impl LogLayers {
    /// What a process finds when it starts is made durable before it is shown.
    pub(super) fn open(&mut self) {
        self.sync();
        self.is_poisoned = false;
    }

    /// Loses all batches in flight behind a drawn one.
    pub(super) fn lose_cache(&mut self, draw: Draw<'_>) {
        let kept = usize::try_from(draw(self.in_flight.len() as u64 + 1)).unwrap_or(0);
        self.in_flight.truncate(kept);
        self.sync();
        self.applied = self.durable.clone();
    }

    pub(super) fn corrupt_entry(&mut self, region: RegionId, index: Index, draw: Draw<'_>) -> bool {
        // The operating system may write its cache to the device at any time, so it may just as well have done so now.
        self.sync();
        let Some(entry) = self.applied.find_entry(region, index) else { return false };
        if entry.payload.is_empty() {
            entry.chain = Chain(entry.chain.0 ^ 1 << draw(128));
        } else {
            entry.payload = flip_bit(&entry.payload, draw);
        }
        let damaged = entry.clone();
        if let Some(entry) = self.durable.find_entry(region, index) {
            *entry = damaged;
        }
        true
    }

    /// Makes everything in flight durable.
    fn sync(&mut self) {
        for batch in self.in_flight.drain(..) {
            self.durable.apply(&batch);
        }
    }
}

impl LogRows {
    fn apply(&mut self, batch: &LogBatch) {
        for write in &batch.writes {
            let rows = self.regions.entry(write.region_id).or_default();
            rows.apply(write);
            if rows.entries.is_empty() && rows.raft_state.is_none() {
                self.regions.remove(&write.region_id);
            }
        }
        self.records.extend(batch.records.iter().map(|record| (record.sequence, record.clone())));
        for sequence in &batch.records_removed {
            self.records.remove(sequence);
        }
        self.ident = batch.ident.or(self.ident);
        for (key, value) in &batch.local_rows {
            match value {
                Some(value) => self.local_rows.insert(key.clone(), value.clone()),
                None => self.local_rows.remove(key),
            };
        }
    }

    fn find_entry(&mut self, region: RegionId, index: Index) -> Option<&mut Entry> {
        self.regions.get_mut(&region)?.entries.get_mut(&index)
    }
}

impl RegionRows {
    /// The asserts hold what other engines rely on and could not check: a row missed here would stay on a disk for good.
    fn apply(&mut self, write: &LogWrite) {
        if write.is_cleared {
            *self = RegionRows::default();
        }
        if let (Some(first), Some(last)) = (write.entries.first(), write.entries.last()) {
            assert!(
                self.entries.keys().next_back().is_none_or(|index| *index <= write.previous_last_index),
                "region {} holds entries behind the given previous last index {}",
                write.region_id,
                write.previous_last_index
            );
            assert_eq!(
                last.index.since(first.index) + 1,
                write.entries.len() as u64,
                "entries of region {} are consecutive",
                write.region_id
            );
            self.entries.split_off(&first.index);
            self.entries.extend(write.entries.iter().map(|entry| (entry.index, entry.clone())));
        }
        if let Some(raft_state) = &write.raft_state {
            self.raft_state = Some(raft_state.clone());
        }
        if let Some(truncate_to) = write.truncate_to {
            assert!(
                self.entries.keys().next().is_none_or(|index| *index >= write.truncate_from),
                "region {} holds entries before the given first index {}",
                write.region_id,
                write.truncate_from
            );
            while self.entries.first_key_value().is_some_and(|(index, _)| *index <= truncate_to) {
                self.entries.pop_first();
            }
        }
    }

    /// The chain at an index, if it is known without the entries before it.
    fn chain_at(&self, index: Index) -> Option<Chain> {
        let truncated = || self.raft_state.as_ref().map(|raft| raft.truncated).filter(|at| at.index == index);
        self.entries.get(&index).map(|entry| entry.chain).or_else(|| truncated().map(|at| at.chain))
    }
}
