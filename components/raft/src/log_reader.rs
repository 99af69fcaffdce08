//! The port through which a group reads entries that it no longer holds in memory.

use types::{Entry, Index, LogPosition};

/// The entry is not at hand. The reader has noted the wish; the group asks again at its next `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInMemory;

/// Durable log of one group, read by [`crate::RaftGroup::ready`]. Only what is durable and not truncated is asked for.
///
/// The reader verifies what it reads, chain included, and answers [`NotInMemory`] for what does not verify: damage is
/// dealt with before it reaches the group (D15), which panics on entries that do not fit its log.
pub trait LogReader {
    /// Consecutive entries from `first_index` on, up to `last_index` (inclusive) or `bytes_max`, at least one.
    fn read_entries(
        &mut self,
        first_index: Index,
        last_index: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory>;

    /// The position of the entry at `index`.
    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory>;
}

/// For groups whose whole log is in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl LogReader for NoLog {
    fn read_entries(&mut self, _: Index, _: Index, _: usize) -> Result<Vec<Entry>, NotInMemory> {
        Err(NotInMemory)
    }

    fn read_position(&mut self, _: Index) -> Result<LogPosition, NotInMemory> {
        Err(NotInMemory)
    }
}
