//! A store's disk in memory: it can be killed, lose power, fill up, fail and flip bytes, all as its owner says.
//!
//! Each engine has three layers. *Applied* is what its handles show. *In flight* is an ordered list of what was written
//! and is not durable. *Durable* is what survives anything. A power loss keeps the durable layer and a prefix of the
//! list, and loses staged files that were not synced. A kill of the process keeps the whole list of the log (it is in
//! the operating system's cache), but not that of the KV, whose writes live in the process's memory: there a prefix
//! survives, because the engine may have flushed by itself at any time. What an engine shows when it opens is durable.
//!
//! Two operations of the KV stand outside the order of writes (D5). The pairs of an ingested file are durable at once:
//! they survive although writes before them are lost. A staged file that was deleted stays deleted.
//!
//! Caveats: a failed sync leaves its batch in flight, so that it may turn up after all; a crash in the middle of a
//! write is spelled as that fault followed by [`MemDisk::power_loss`].

mod kv;
mod log;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::{Index, RegionId};

use self::{
    kv::{KvLayers, MemKv},
    log::{LogLayers, MemLog},
};
use crate::{Error, KvEngine, LogEngine, Operation, Result};

/// Draws a number below its argument, which is never zero.
pub type Draw<'a> = &'a mut dyn FnMut(u64) -> u64;

/// One store's disk. Clones are the same disk.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<DiskState>>,
}

/// A failure that a [`MemDisk`] is told to have once; the engine that meets it is poisoned afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next write of the log fails, and nothing of it is written.
    LogWrite,
    /// The sync of the next synced write of the log fails: the batch may or may not survive.
    LogSync,
    /// The next write of the KV fails, and nothing of it is written.
    KvWrite,
    /// The next flush of the KV fails, and nothing becomes durable by it.
    KvFlush,
    /// The next sync of a staged file fails, and the file is not durable.
    StageSync,
}

/// What a [`MemDisk`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemCounters {
    /// Batches written to the log.
    pub log_writes: u64,
    /// Batches of the log that were synced.
    pub log_syncs: u64,
    /// Bytes of entries written to the log.
    pub log_bytes: u64,
    /// Batches written to the KV.
    pub kv_writes: u64,
    /// Flushes of the KV.
    pub kv_flushes: u64,
    /// Bytes of keys and values written to the KV, ingested ones not counted.
    pub kv_bytes: u64,
}

/// Everything behind the lock.
struct DiskState {
    /// Raised by every crash: handles of an earlier one are dead.
    generation: u64,
    is_open: bool,
    is_full: bool,
    free_bytes: u64,
    faults: Vec<Fault>,
    counters: MemCounters,
    log: LogLayers,
    kv: KvLayers,
}

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk::new()
    }
}

impl MemDisk {
    /// An empty disk, not opened.
    #[must_use]
    pub fn new() -> MemDisk {
        let state = DiskState {
            generation: 0,
            is_open: false,
            is_full: false,
            free_bytes: u64::MAX,
            faults: Vec::new(),
            counters: MemCounters::default(),
            log: LogLayers::default(),
            kv: KvLayers::default(),
        };
        MemDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Opens the disk: for the first time, or after [`MemDisk::crash`] or [`MemDisk::power_loss`].
    ///
    /// # Panics
    /// If it is open: two processes never share a disk.
    #[must_use]
    pub fn open(&self) -> (Arc<dyn LogEngine>, Arc<dyn KvEngine>) {
        let mut state = self.lock();
        assert!(!state.is_open, "a disk is opened again only after a crash or a power loss");
        state.is_open = true;
        state.log.open();
        state.kv.open();
        let generation = state.generation;
        let log = MemLog { disk: self.clone(), generation };
        let kv = MemKv { disk: self.clone(), generation };
        (Arc::new(log), Arc::new(kv))
    }

    /// Kills the store's process. Every handle is dead from now on.
    pub fn crash(&self, draw: Draw<'_>) {
        let mut state = self.lock();
        state.close();
        state.kv.lose_memory(draw);
    }

    /// Cuts the power, of a running store or of one that was killed. Every handle is dead from now on.
    pub fn power_loss(&self, draw: Draw<'_>) {
        let mut state = self.lock();
        state.close();
        state.log.lose_cache(draw);
        state.kv.lose_memory(draw);
    }

    /// Makes a prefix of the KV's writes durable, as a full memtable does at any time; nobody is told.
    pub fn background_flush(&self, draw: Draw<'_>) {
        self.lock().kv.flush_prefix(draw);
    }

    /// Makes the next matching operation fail.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Fills the disk, or makes room: while it is full, whatever needs space is refused with [`Error::DiskFull`] and
    /// has no effect.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Sets what [`KvEngine::free_bytes`] answers.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.lock().free_bytes = free_bytes;
    }

    /// Flips a bit of a stored entry for good; `false` if there is no such entry.
    pub fn corrupt_entry(&self, region: RegionId, index: Index, draw: Draw<'_>) -> bool {
        self.lock().log.corrupt_entry(region, index, draw)
    }

    /// Flips a bit of a stored value for good, without any checksum noticing; `false` if there is no such key or its
    /// value is empty.
    pub fn corrupt_value(&self, key: &[u8], draw: Draw<'_>) -> bool {
        self.lock().kv.corrupt_value(key, draw)
    }

    /// What the disk has done.
    #[must_use]
    pub fn counters(&self) -> MemCounters {
        self.lock().counters
    }

    /// The state, also after a panic of another user: no operation leaves it half done.
    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskState {
    fn close(&mut self) {
        self.generation += 1;
        self.is_open = false;
        self.faults.clear();
    }

    /// Refuses a dead handle.
    fn check_generation(&self, generation: u64) -> Result<()> {
        if generation == self.generation { Ok(()) } else { Err(Error::Poisoned) }
    }

    /// Refuses what needs space while there is none.
    fn check_space(&self, operation: Operation) -> Result<()> {
        if self.is_full { Err(Error::DiskFull { operation }) } else { Ok(()) }
    }

    /// Whether this fault was ordered; it is spent by asking.
    fn takes_fault(&mut self, fault: Fault) -> bool {
        let position = self.faults.iter().position(|ordered| *ordered == fault);
        position.map(|at| self.faults.remove(at)).is_some()
    }
}

/// The failure that an ordered fault causes.
fn injected(operation: Operation) -> Error {
    Error::Io { operation, message: "injected fault".to_owned() }
}

/// The same bytes with one bit flipped; `bytes` is not empty.
fn flip_bit(bytes: &[u8], draw: Draw<'_>) -> bytes::Bytes {
    let mut bytes = bytes.to_vec();
    let bit = usize::try_from(draw(bytes.len() as u64 * 8)).unwrap_or(0);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

#[cfg(test)]
mod tests;
