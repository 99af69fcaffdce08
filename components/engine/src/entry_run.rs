//! Reading consecutive entries, the same way in every implementation.

use std::ops::ControlFlow;

use types::{Chain, Entry, Index, RegionId};

use crate::{Error, Operation, Result};

/// Entries that are being read: what an implementation of [`crate::LogEngine::read_entries`] pushes stored entries into.
#[derive(Debug)]
pub struct EntryRun {
    region_id: RegionId,
    next_index: Index,
    last_index: Index,
    bytes_left: usize,
    previous: Option<Chain>,
    entries: Vec<Entry>,
}

impl EntryRun {
    /// A run from `first_index` up to `last_index` (inclusive) or `bytes_max`; `previous` is the chain of the entry
    /// before the first, where it is known.
    #[must_use]
    pub fn new(
        region_id: RegionId,
        first_index: Index,
        last_index: Index,
        bytes_max: usize,
        previous: Option<Chain>,
    ) -> EntryRun {
        EntryRun {
            region_id,
            next_index: first_index,
            last_index,
            bytes_left: bytes_max,
            previous,
            entries: Vec::new(),
        }
    }

    /// Takes the stored entry with the lowest index not yet pushed; breaks when the run is complete.
    pub fn push(&mut self, entry: Entry) -> Result<ControlFlow<()>> {
        if self.next_index > self.last_index {
            return Ok(ControlFlow::Break(()));
        }
        if entry.index != self.next_index {
            if self.entries.is_empty() {
                return Ok(ControlFlow::Break(()));
            }
            return Err(self.corruption(format!("entry {} is missing", self.next_index)));
        }
        let bytes = entry.size_bytes();
        if bytes > self.bytes_left && !self.entries.is_empty() {
            return Ok(ControlFlow::Break(()));
        }
        if let Some(previous) = self.previous {
            let chain = previous.link(entry.index, entry.term, entry.kind, &entry.payload);
            if chain != entry.chain {
                return Err(self.corruption(format!(
                    "entry {} of term {} keeps chain {}, its content gives {chain}",
                    entry.index, entry.term, entry.chain
                )));
            }
        }
        self.previous = Some(entry.chain);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.next_index = entry.index.next();
        self.entries.push(entry);
        Ok(ControlFlow::Continue(()))
    }

    /// The entries of the run.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    fn corruption(&self, message: String) -> Error {
        Error::Corruption { operation: Operation::Read, region: Some(self.region_id), message }
    }
}
