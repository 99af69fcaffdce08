//! The port for data.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{Error, Operation, Result};

/// Writes to be applied atomically, in order. Keys and values lie one behind the other in one buffer, so that a round
/// of many regions allocates a few times, not once per key.
#[derive(Clone, Debug, Default)]
pub struct KvBatch {
    buffer: Vec<u8>,
    ops: Vec<RawOp>,
}

/// Room for so many bytes and writes stays in every batch.
const KEPT_BYTES: usize = 16 << 10;
const KEPT_COUNT: usize = 256;

#[derive(Clone, Copy, Debug)]
struct RawOp {
    kind: RawKind,
    start: usize,
    key_len: usize,
    value_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum RawKind {
    Put,
    Delete,
    DeleteRange,
}

/// One write of a [`KvBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvOp<'a> {
    /// Sets a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Removes the keys in `[start_key, end_key)`.
    DeleteRange {
        /// The first key.
        start_key: &'a [u8],
        /// The first key behind; never empty, never below `start_key`.
        end_key: &'a [u8],
    },
}

/// A staged snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Its name: letters, digits, `-`, `_` and `.`, the last one not first.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

/// The store's data: an ordered map of byte strings. Calls block.
///
/// Writes are ordered and not durable; the state found after a crash is that behind a prefix of them, at least up to the
/// last finished [`KvEngine::flush`]. Two operations stand outside this order, durable at once while earlier writes may
/// be lost: [`KvEngine::ingest`] and the deletion of files. What an engine shows when it opens is durable.
pub trait KvEngine: Send + Sync {
    /// Applies a batch atomically; visible on return. A failure poisons the engine for good.
    fn write(&self, batch: &KvBatch) -> Result<()>;

    /// The value of a key now.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The value of a key as a crash at this moment would leave it at least.
    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The state at this moment, for as long as it is held.
    fn snapshot(&self) -> Box<dyn KvSnapshot>;

    /// Makes everything written so far durable.
    fn flush(&self) -> Result<()>;

    /// Bytes written since the last flush.
    fn unflushed_bytes(&self) -> u64;

    /// Creates an empty staged file; one of the same name is deleted first.
    fn stage_create(&self, name: &str) -> Result<()>;

    /// Appends pairs to a staged file that is not synced yet: keys ascending, also across calls.
    fn stage_append(&self, name: &str, pairs: &[(Bytes, Bytes)]) -> Result<()>;

    /// Finishes a staged file and makes it and its name durable.
    fn stage_sync(&self, name: &str) -> Result<()>;

    /// The staged files, in order of name; after a restart only those that were synced.
    fn stage_list(&self) -> Result<Vec<StagedFile>>;

    /// Removes a staged file; one that is not there is no error.
    fn stage_delete(&self, name: &str) -> Result<()>;

    /// Adds the pairs of synced staged files, which share no key, to the data: over what is there, and atomically, also
    /// where the process or the machine fails. The files stay. Refused as a whole if one of them is not synced.
    fn ingest(&self, names: &[String]) -> Result<()>;

    /// Bytes that this engine's files take.
    fn disk_bytes(&self) -> u64;

    /// Bytes free on the device; `u64::MAX` where that means nothing.
    fn free_bytes(&self) -> u64;
}

/// Sees one pair of a scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// The data at one moment.
pub trait KvSnapshot: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the pairs with keys in `[start_key, end_key)` (an empty `end_key`: no bound), ascending or descending,
    /// until the visitor breaks.
    fn scan(&self, start_key: &[u8], end_key: &[u8], is_reverse: bool, visit: Visit<'_>) -> Result<()>;
}

impl StagedFile {
    /// Checks that a name can only be that of a file in the folder of staged files.
    pub fn check_name(name: &str) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain) {
            return Ok(());
        }
        let message =
            format!("{name:?} is no name for a staged file: letters, digits, '-', '_' and '.', no '.' first");
        Err(Error::Io { operation: Operation::Stage, message })
    }
}

impl KvBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> KvBatch {
        KvBatch::default()
    }

    /// Sets the key made of `key` parts to the value made of `value` parts.
    pub fn put(&mut self, key: &[&[u8]], value: &[&[u8]]) {
        self.push(RawKind::Put, key, value);
    }

    /// Removes the key made of `key` parts.
    pub fn delete(&mut self, key: &[&[u8]]) {
        self.push(RawKind::Delete, key, &[]);
    }

    /// Removes the keys in `[start_key, end_key)`; nothing if the range is empty.
    pub fn delete_range(&mut self, start_key: &[&[u8]], end_key: &[&[u8]]) {
        self.push(RawKind::DeleteRange, start_key, end_key);
        let is_empty = matches!(self.ops().last(), Some(KvOp::DeleteRange { start_key, end_key }) if start_key >= end_key);
        if is_empty {
            self.pop();
        }
    }

    /// The writes in order.
    pub fn ops(&self) -> impl DoubleEndedIterator<Item = KvOp<'_>> + ExactSizeIterator {
        self.ops.iter().map(|op| self.view(op))
    }

    /// The write at a place in the order, counted from zero.
    #[must_use]
    pub fn op(&self, place: usize) -> Option<KvOp<'_>> {
        self.ops.get(place).map(|op| self.view(op))
    }

    /// The number of writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Empties the batch. It keeps its memory, unless it has come to hold four times what it was used for: what one burst
    /// needed (ten thousand regions that begin together) does not stay for ever.
    pub fn clear(&mut self) {
        let (used_bytes, used_count) = (self.buffer.len(), self.ops.len());
        self.buffer.clear();
        self.ops.clear();
        if self.buffer.capacity() > KEPT_BYTES.max(4 * used_bytes) {
            self.buffer.shrink_to(KEPT_BYTES.max(2 * used_bytes));
        }
        if self.ops.capacity() > KEPT_COUNT.max(4 * used_count) {
            self.ops.shrink_to(KEPT_COUNT.max(2 * used_count));
        }
    }

    fn view(&self, op: &RawOp) -> KvOp<'_> {
        let (key, value) = self.buffer[op.start..][..op.key_len + op.value_len].split_at(op.key_len);
        match op.kind {
            RawKind::Put => KvOp::Put { key, value },
            RawKind::Delete => KvOp::Delete { key },
            RawKind::DeleteRange => KvOp::DeleteRange { start_key: key, end_key: value },
        }
    }

    fn push(&mut self, kind: RawKind, key: &[&[u8]], value: &[&[u8]]) {
        let start = self.buffer.len();
        key.iter().for_each(|part| self.buffer.extend_from_slice(part));
        let key_len = self.buffer.len() - start;
        value.iter().for_each(|part| self.buffer.extend_from_slice(part));
        let value_len = self.buffer.len() - start - key_len;
        self.ops.push(RawOp { kind, start, key_len, value_len });
    }

    fn pop(&mut self) {
        if let Some(op) = self.ops.pop() {
            self.buffer.truncate(op.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_only_a_burst_needed() {
        let mut batch = KvBatch::new();
        let fill = |batch: &mut KvBatch, count: usize| {
            (0..count).for_each(|_| batch.put(&[b"key"], &[&[0; 100]]));
            batch.clear();
            (batch.buffer.capacity(), batch.ops.capacity())
        };
        let burst = fill(&mut batch, 10_000);
        assert!(burst.0 >= 1_030_000 && burst.1 >= 10_000, "{burst:?}");
        assert_eq!(fill(&mut batch, 5_000), burst, "a steady load keeps its room");
        let rest = fill(&mut batch, 10);
        assert!((KEPT_BYTES..2 * KEPT_BYTES).contains(&rest.0), "{rest:?}");
        assert!((KEPT_COUNT..2 * KEPT_COUNT).contains(&rest.1), "{rest:?}");
    }
}
