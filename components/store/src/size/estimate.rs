//! How much a region holds, told without looking: what was measured, and what has been written since.
//!
//! Applying reads nothing for it, so a value that replaces another, or that expires, counts in full, and a removed one
//! counts on. The estimate of a region that was measured is therefore never below the truth, and above it by no more
//! than was written since, or removed. A share of a split, and a region whose measure was lost, are *rough*: a guess.

use engine::KvBatch;
use types::{Command, RegionSize};

/// What one peer knows of its region's size. It lies in the row of the apply state, in one batch with the data that it
/// counts, and is not the same on every peer: nothing that is replicated may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SizeEstimate {
    /// By the last measurement; where the estimate is rough, a guess.
    pub(crate) measured: RegionSize,
    /// Pairs written since, and the bytes of their keys and values.
    pub(crate) written: RegionSize,
    /// Keys that may have been removed since: every key that a deletion names, and all of a region for a deleted range.
    pub(crate) removed_count: u64,
    /// Nobody has measured what `measured` says.
    pub(crate) is_rough: bool,
}

/// How far a batch was before a command was applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    size_bytes: usize,
    write_count: usize,
}

impl SizeEstimate {
    /// Of a region that is known to hold nothing.
    pub(crate) const EMPTY: SizeEstimate = SizeEstimate::measured(RegionSize { size_bytes: 0, key_count: 0 });

    /// Of a region of which nothing is known.
    pub(crate) const UNKNOWN: SizeEstimate = SizeEstimate { is_rough: true, ..SizeEstimate::EMPTY };

    /// Of a region that was counted pair by pair.
    pub(crate) const fn measured(measured: RegionSize) -> SizeEstimate {
        let written = RegionSize { size_bytes: 0, key_count: 0 };
        SizeEstimate { measured, written, removed_count: 0, is_rough: false }
    }

    /// How much the region holds at the most; a guess if it is rough.
    pub(crate) fn estimate(&self) -> RegionSize {
        self.measured + self.written
    }

    /// To be given to [`SizeEstimate::note`] when the command is applied.
    pub(crate) fn begin(&self, batch: &KvBatch) -> Before {
        Before { size_bytes: batch.size_bytes(), write_count: batch.len() }
    }

    /// Counts what a command has added to the batch.
    pub(crate) fn note(&mut self, command: &Command, before: Before, batch: &KvBatch) {
        let key_count = (batch.len() - before.write_count) as u64;
        match command {
            Command::Put(_)
            | Command::BatchPut { .. }
            | Command::CompareAndSwap(_)
            | Command::Placement(_) => {
                let size_bytes = (batch.size_bytes() - before.size_bytes) as u64;
                self.written += RegionSize { size_bytes, key_count };
            }
            Command::Delete { .. } | Command::BatchDelete { .. } => {
                self.removed_count = self.removed_count.saturating_add(key_count);
            }
            Command::DeleteRange { .. } if key_count > 0 => self.removed_count = self.estimate().key_count,
            Command::DeleteRange { .. } => {}
        }
    }

    /// What each of `count` parts of a divided region is taken to hold. Parts of nothing are known to be empty.
    pub(crate) fn share(&self, count: u64) -> SizeEstimate {
        let whole = self.estimate();
        let share = RegionSize {
            size_bytes: whole.size_bytes.div_ceil(count),
            key_count: whole.key_count.div_ceil(count),
        };
        SizeEstimate {
            is_rough: self.is_rough || whole.key_count > 0,
            removed_count: self.removed_count.div_ceil(count),
            ..SizeEstimate::measured(share)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{CompareAndSwap, KeyRange, Pair};

    use super::*;

    fn size(size_bytes: u64, key_count: u64) -> RegionSize {
        RegionSize { size_bytes, key_count }
    }

    fn put(key: &'static str) -> Command {
        Command::Put(Pair { key: key.into(), value: "value".into(), ttl_seconds: 0 })
    }

    #[test]
    fn writes_count_in_full_and_removals_are_only_noted() {
        let mut estimate = SizeEstimate::measured(size(100, 4));
        let mut batch = KvBatch::new();
        let mut apply =
            |estimate: &mut SizeEstimate, command: &Command, writes: &[(&[u8], Option<&[u8]>)]| {
                let before = estimate.begin(&batch);
                for (key, value) in writes {
                    match value {
                        Some(value) => batch.put(&[key], &[value]),
                        None => batch.delete(&[key]),
                    }
                }
                estimate.note(command, before, &batch);
            };
        apply(&mut estimate, &put("a"), &[(b"ua", Some(b"\0value"))]);
        assert_eq!(estimate.estimate(), size(108, 5));
        let swap = CompareAndSwap { key: "a".into(), expected: None, replacement: None, ttl_seconds: 0 };
        apply(&mut estimate, &Command::CompareAndSwap(swap), &[]);
        assert_eq!(estimate.estimate(), size(108, 5), "nothing was swapped");
        apply(&mut estimate, &Command::Delete { key: Bytes::from("a") }, &[(b"ua", None)]);
        assert_eq!((estimate.estimate(), estimate.removed_count), (size(108, 5), 1));
        apply(&mut estimate, &Command::DeleteRange { range: KeyRange::ALL }, &[(b"u", None)]);
        assert_eq!((estimate.estimate(), estimate.removed_count), (size(108, 5), 5));
        assert!(!estimate.is_rough);
    }

    #[test]
    fn parts_of_something_are_guesses_and_parts_of_nothing_are_empty() {
        let mut whole = SizeEstimate::measured(size(90, 9));
        whole.written = size(11, 2);
        let part = whole.share(2);
        assert_eq!((part.estimate(), part.is_rough), (size(51, 6), true));
        assert_eq!(SizeEstimate::EMPTY.share(3), SizeEstimate::EMPTY);
        assert!(SizeEstimate::UNKNOWN.share(3).is_rough);
    }
}
