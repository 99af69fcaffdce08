//! The KV of a [`MemDisk`].

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{DiskState, Draw, Fault, MemDisk, flip_bit, injected};
use crate::{Error, KvBatch, KvEngine, KvOp, KvSnapshot, Operation, Result, StagedFile, Visit};

/// A handle on the KV.
pub(super) struct MemKv {
    pub(super) disk: MemDisk,
    pub(super) generation: u64,
}

type Pairs = Arc<Vec<(Bytes, Bytes)>>;
/// Shared with snapshots and copied by the first write that meets one: a snapshot costs nothing while no one writes.
type Rows = Arc<BTreeMap<Bytes, Bytes>>;

/// The KV's three layers, and its staged files.
#[derive(Default)]
pub(super) struct KvLayers {
    applied: Rows,
    in_flight: Vec<Change>,
    in_flight_bytes: u64,
    durable: Rows,
    staged: BTreeMap<String, Staged>,
    is_poisoned: bool,
}

/// One step of the order of writes.
enum Change {
    Batch(KvBatch),
    /// Pairs that are durable already, kept here so that a replay of the writes before them does not win over them.
    Ingest(Pairs),
}

#[derive(Default)]
struct Staged {
    pairs: Pairs,
    size_bytes: u64,
    is_synced: bool,
}

impl KvEngine for MemKv {
    fn write(&self, batch: &KvBatch) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Write)?;
        if state.takes_fault(Fault::KvWrite) {
            state.kv.is_poisoned = true;
            return Err(injected(Operation::Write));
        }
        state.counters.kv_writes += 1;
        state.counters.kv_bytes += batch.size_bytes() as u64;
        state.kv.write(batch);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.disk.lock();
        self.check(&state)?;
        Ok(state.kv.applied.get(key).cloned())
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.disk.lock();
        self.check(&state)?;
        Ok(state.kv.durable.get(key).cloned())
    }

    fn snapshot(&self) -> Box<dyn KvSnapshot> {
        let state = self.disk.lock();
        Box::new(MemSnapshot { rows: self.check(&state).ok().map(|()| Arc::clone(&state.kv.applied)) })
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Flush)?;
        if state.takes_fault(Fault::KvFlush) {
            state.kv.is_poisoned = true;
            return Err(injected(Operation::Flush));
        }
        state.counters.kv_flushes += 1;
        state.kv.flush();
        Ok(())
    }

    fn unflushed_bytes(&self) -> u64 {
        self.disk.lock().kv.in_flight_bytes
    }

    fn stage_create(&self, name: &str) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        StagedFile::check_name(name)?;
        state.check_space(Operation::Stage)?;
        state.kv.staged.insert(name.to_owned(), Staged::default());
        Ok(())
    }

    fn stage_append(&self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Stage)?;
        let staged = state.kv.find_staged(name, Operation::Stage)?;
        if staged.is_synced {
            return Err(refused(Operation::Stage, format!("staged file {name} is finished")));
        }
        staged.append(name, pairs)
    }

    fn stage_sync(&self, name: &str) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Stage)?;
        state.kv.find_staged(name, Operation::Stage)?;
        if state.takes_fault(Fault::StageSync) {
            state.kv.is_poisoned = true;
            return Err(injected(Operation::Stage));
        }
        state.kv.find_staged(name, Operation::Stage)?.is_synced = true;
        Ok(())
    }

    fn stage_list(&self) -> Result<Vec<StagedFile>> {
        let state = self.disk.lock();
        self.check(&state)?;
        let file = |(name, staged): (&String, &Staged)| StagedFile {
            name: name.clone(),
            size_bytes: staged.size_bytes,
        };
        Ok(state.kv.staged.iter().map(file).collect())
    }

    fn stage_delete(&self, name: &str) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        StagedFile::check_name(name)?;
        state.kv.staged.remove(name);
        Ok(())
    }

    fn ingest(&self, names: &[String]) -> Result<()> {
        let mut state = self.disk.lock();
        self.check(&state)?;
        state.check_space(Operation::Ingest)?;
        let mut pairs = Vec::new();
        for name in names {
            let staged = state.kv.find_staged(name, Operation::Ingest)?;
            if !staged.is_synced {
                return Err(refused(Operation::Ingest, format!("staged file {name} is not synced")));
            }
            pairs.push(Arc::clone(&staged.pairs));
        }
        pairs.into_iter().for_each(|pairs| state.kv.ingest(pairs));
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        let state = self.disk.lock();
        let rows: usize = state.kv.durable.iter().map(|(key, value)| key.len() + value.len()).sum();
        rows as u64 + state.kv.staged.values().map(|staged| staged.size_bytes).sum::<u64>()
    }

    fn free_bytes(&self) -> u64 {
        self.disk.lock().free_bytes
    }
}

impl MemKv {
    fn check(&self, state: &DiskState) -> Result<()> {
        state.check_generation(self.generation)?;
        if state.kv.is_poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }
}

impl KvLayers {
    pub(super) fn open(&mut self) {
        self.is_poisoned = false;
    }

    /// Loses what was not flushed, except for a drawn prefix, and the staged files that were not synced.
    pub(super) fn lose_memory(&mut self, draw: Draw<'_>) {
        self.flush_prefix(draw);
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.applied = Arc::clone(&self.durable);
        self.staged.retain(|_, staged| staged.is_synced);
    }

    /// Makes a drawn prefix of the writes durable: nothing half of the time.
    pub(super) fn flush_prefix(&mut self, draw: Draw<'_>) {
        let has_flushed = draw(2) == 1;
        let count = if has_flushed { draw(self.in_flight.len() as u64 + 1) } else { 0 };
        self.flush_first(usize::try_from(count).unwrap_or(0));
    }

    pub(super) fn corrupt_value(&mut self, key: &[u8], draw: Draw<'_>) -> bool {
        // The engine may flush by itself at any time, so it may just as well have done so now.
        self.flush();
        let Some(value) = self.applied.get(key).filter(|value| !value.is_empty()) else { return false };
        let damaged = flip_bit(value, draw);
        for rows in [&mut self.applied, &mut self.durable] {
            Arc::make_mut(rows).insert(Bytes::copy_from_slice(key), damaged.clone());
        }
        true
    }

    fn write(&mut self, batch: &KvBatch) {
        apply_batch(&mut self.applied, batch);
        self.in_flight_bytes += batch.size_bytes() as u64;
        self.in_flight.push(Change::Batch(batch.clone()));
    }

    fn flush(&mut self) {
        self.flush_first(self.in_flight.len());
    }

    /// Makes the first `count` changes in flight durable.
    fn flush_first(&mut self, count: usize) {
        for change in self.in_flight.drain(..count) {
            match change {
                Change::Batch(batch) => {
                    self.in_flight_bytes -= batch.size_bytes() as u64;
                    apply_batch(&mut self.durable, &batch);
                }
                Change::Ingest(pairs) => apply_pairs(&mut self.durable, &pairs),
            }
        }
        // Of what stays in flight the ingested pairs are durable already; a write replayed just now must not hide them.
        for change in &self.in_flight {
            match change {
                Change::Batch(_) => {}
                Change::Ingest(pairs) => apply_pairs(&mut self.durable, pairs),
            }
        }
    }

    fn ingest(&mut self, pairs: Pairs) {
        apply_pairs(&mut self.applied, &pairs);
        apply_pairs(&mut self.durable, &pairs);
        if !self.in_flight.is_empty() {
            self.in_flight.push(Change::Ingest(pairs));
        }
    }

    fn find_staged(&mut self, name: &str, operation: Operation) -> Result<&mut Staged> {
        StagedFile::check_name(name)?;
        self.staged.get_mut(name).ok_or_else(|| refused(operation, format!("no staged file {name}")))
    }
}

impl Staged {
    fn append(&mut self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()> {
        let mut previous = self.pairs.last().map(|(key, _)| key);
        for (key, _) in pairs {
            if previous.is_some_and(|previous| previous >= key) {
                return Err(refused(
                    Operation::Stage,
                    format!("keys for staged file {name} are not ascending"),
                ));
            }
            previous = Some(key);
        }
        self.size_bytes += pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        Arc::make_mut(&mut self.pairs).extend_from_slice(pairs);
        Ok(())
    }
}

/// A state of the KV; without rows where the handle that it was asked of was dead.
struct MemSnapshot {
    rows: Option<Rows>,
}

impl KvSnapshot for MemSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.rows()?.get(key).cloned())
    }

    fn scan(&self, start_key: &[u8], end_key: &[u8], is_reverse: bool, visit: Visit<'_>) -> Result<()> {
        let rows = self.rows()?;
        if !end_key.is_empty() && start_key >= end_key {
            return Ok(());
        }
        let end = if end_key.is_empty() { Bound::Unbounded } else { Bound::Excluded(end_key) };
        let mut range = rows.range::<[u8], _>((Bound::Included(start_key), end));
        while let Some((key, value)) = if is_reverse { range.next_back() } else { range.next() } {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl MemSnapshot {
    fn rows(&self) -> Result<&Rows> {
        self.rows.as_ref().ok_or(Error::Poisoned)
    }
}

fn apply_batch(rows: &mut Rows, batch: &KvBatch) {
    let rows = Arc::make_mut(rows);
    for op in batch.ops() {
        match op {
            KvOp::Put { key, value } => {
                rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            KvOp::Delete { key } => {
                rows.remove(key);
            }
            KvOp::DeleteRange { start_key, end_key } => {
                let bounds = (Bound::Included(start_key), Bound::Excluded(end_key));
                let keys: Vec<_> = rows.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
                keys.iter().for_each(|key| drop(rows.remove(key)));
            }
        }
    }
}

fn apply_pairs(rows: &mut Rows, pairs: &Pairs) {
    Arc::make_mut(rows).extend(pairs.iter().cloned());
}

fn refused(operation: Operation, message: String) -> Error {
    Error::Io { operation, message }
}
