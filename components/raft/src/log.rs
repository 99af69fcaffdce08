//! The log as the group knows it: where it begins, the suffix that is in memory, and how far it is durable.
//!
//! ```text
//!  truncated      base                    persisted   offered      last
//!      |           | entries[0] ...           |           |          |
//!      o- - - - - -o==========================o===========o==========o
//!       on disk only        in memory
//! ```
//!
//! Everything above `base` is in memory. A peer that restarts begins with nothing in memory (`base == last`) and reads
//! its tail back when a message asks about it.

use std::collections::VecDeque;

use bytes::Bytes;
use types::{Chain, Entry, EntryKind, Index, LogPosition, Term};

use crate::{LogReader, NotInMemory, limits::LOAD_BYTES_MAX};

/// One group's log.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Log {
    /// The log begins behind this position.
    truncated: LogPosition,
    /// The position before `entries[0]`.
    base: LogPosition,
    /// Consecutive from `base.index + 1`, up to the last.
    entries: VecDeque<Entry>,
    /// The sum of the sizes of `entries`.
    bytes: usize,
    /// The last index that has been handed to a Ready.
    offered: Index,
    /// The last index that is durable.
    persisted: Index,
}

/// The answer to "which is the last position up to some index whose term is at most so much?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// This one.
    Found(LogPosition),
    /// It lies at or below this index, where the log is not in memory.
    Below(Index),
}

impl Log {
    pub(crate) fn new(truncated: LogPosition, last: LogPosition) -> Log {
        assert!(truncated.index <= last.index, "a log ends before it begins");
        Log {
            truncated,
            base: last,
            entries: VecDeque::new(),
            bytes: 0,
            offered: last.index,
            persisted: last.index,
        }
    }

    /// Gives back room that is empty.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    pub(crate) fn truncated(&self) -> LogPosition {
        self.truncated
    }

    pub(crate) fn base(&self) -> LogPosition {
        self.base
    }

    pub(crate) fn last(&self) -> LogPosition {
        self.entries.back().map_or(self.base, Entry::position)
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this peer has no log yet and must be started by a snapshot (D15).
    pub(crate) fn is_uninitialised(&self) -> bool {
        self.truncated.index == Index(0)
    }

    pub(crate) fn has_unoffered(&self) -> bool {
        self.offered < self.last().index
    }

    /// The position at `index`, if it is known without reading the disk.
    pub(crate) fn position(&self, index: Index) -> Option<LogPosition> {
        if index > self.base.index {
            return self.find(index).map(Entry::position);
        }
        [self.base, self.truncated].into_iter().find(|position| position.index == index)
    }

    /// The position at `index`, from the disk if it must be; `index` lies within the log.
    pub(crate) fn read_position(
        &self,
        index: Index,
        reader: &mut dyn LogReader,
    ) -> Result<LogPosition, NotInMemory> {
        assert!(index >= self.truncated.index);
        assert!(index <= self.last().index);
        if let Some(position) = self.position(index) {
            return Ok(position);
        }
        let position = reader.read_position(index)?;
        assert_eq!(position.index, index, "the log reader answered another question");
        Ok(position)
    }

    /// Entries from `first` up to `last` (inclusive) or `bytes_max`, at least one.
    pub(crate) fn read_entries(
        &self,
        first: Index,
        last: Index,
        bytes_max: usize,
        reader: &mut dyn LogReader,
    ) -> Result<Vec<Entry>, NotInMemory> {
        assert!(first > self.truncated.index);
        assert!(first <= last);
        assert!(last <= self.last().index);
        if first <= self.base.index {
            let entries = reader.read_entries(first, last.min(self.base.index), bytes_max)?;
            let is_consecutive = entries.iter().zip(first.0..).all(|(entry, index)| entry.index.0 == index);
            assert!(is_consecutive && !entries.is_empty(), "the log reader answered another question");
            return Ok(entries);
        }
        let offset = self.offset(first);
        let count_max = usize::try_from(last.since(first)).unwrap_or(usize::MAX).saturating_add(1);
        let mut size = 0_usize;
        let fits = |entry: &&Entry| {
            let is_first = size == 0;
            size = size.saturating_add(entry.size_bytes());
            is_first || size <= bytes_max
        };
        Ok(self.entries.range(offset..).take(count_max).take_while(fits).cloned().collect())
    }

    /// The entries in memory in `(after, last]`.
    pub(crate) fn in_memory(&self, after: Index, last: Index) -> impl Iterator<Item = &Entry> {
        let start = self.offset(after.next().max(self.base.index.next())).min(self.entries.len());
        self.entries.range(start..).take_while(move |entry| entry.index <= last)
    }

    /// Appends what this peer, as the leader, has made.
    pub(crate) fn append(&mut self, term: Term, kind: EntryKind, payload: Bytes) -> LogPosition {
        let prev = self.last();
        assert!(term >= prev.term);
        let index = prev.index.next();
        let chain = prev.chain.link(index, term, kind, &payload);
        self.push(Entry { index, term, kind, payload, chain });
        self.last()
    }

    /// Appends what the leader has sent, and computes its chain: the wire carries only that of `prev`.
    pub(crate) fn append_received(&mut self, mut entry: Entry) {
        let prev = self.last();
        assert_eq!(entry.index, prev.index.next());
        assert!(entry.term >= prev.term);
        entry.chain = prev.chain.link(entry.index, entry.term, entry.kind, &entry.payload);
        self.push(entry);
    }

    /// Removes the entries from `index` on, none of which may be committed.
    pub(crate) fn truncate_from(&mut self, index: Index, commit: Index) {
        assert!(index > commit, "a committed entry would be truncated");
        assert!(index > self.base.index, "the tail is in memory before it is truncated");
        while self.entries.back().is_some_and(|entry| entry.index >= index) {
            let entry = self.entries.pop_back();
            self.bytes -= entry.map_or(0, |entry| entry.size_bytes());
        }
        self.offered = self.offered.min(index.prev());
        self.persisted = self.persisted.min(index.prev());
    }

    /// What has not been handed to a Ready yet.
    pub(crate) fn take_unoffered(&mut self) -> Vec<Entry> {
        let entries = self.in_memory(self.offered, Index(u64::MAX)).cloned().collect();
        self.offered = self.last().index;
        entries
    }

    /// Entries up to (index, term) have become durable. If the entry there is no longer the same, it was truncated in
    /// the meantime, and only a later Ready's completion tells how far the present log is durable.
    pub(crate) fn on_persisted(&mut self, index: Index, term: Term) {
        let is_same = self.position(index).is_some_and(|position| position.term == term);
        if is_same && index <= self.offered {
            self.persisted = self.persisted.max(index);
        }
    }

    /// A snapshot replaces everything.
    pub(crate) fn reset(&mut self, position: LogPosition, commit: Index) {
        assert!(position.index > commit, "a snapshot never goes back");
        self.truncated = position;
        self.base = position;
        self.entries.clear();
        self.bytes = 0;
        self.offered = position.index;
        // What was durable is about to be replaced, and only its committed part is equal to the leader's. The snapshot
        // is durable once its Ready is.
        self.persisted = self.persisted.min(commit);
    }

    /// The snapshot that made the log begin at `index` has become durable.
    pub(crate) fn on_snapshot_persisted(&mut self, index: Index) {
        if self.truncated.index == index {
            self.persisted = self.persisted.max(index);
        }
    }

    /// The log now begins behind `position`.
    pub(crate) fn compact(&mut self, position: LogPosition) {
        assert!(position.index <= self.persisted, "the log would be truncated above what is durable");
        if position.index <= self.truncated.index {
            return;
        }
        if let Some(own) = self.position(position.index) {
            assert_eq!(own, position, "the truncation point is not a position of this log");
        }
        self.truncated = position;
        self.drop_up_to(position.index);
    }

    /// Forgets entries up to `index` that are durable; they can be read back.
    pub(crate) fn drop_up_to(&mut self, index: Index) {
        assert!(index <= self.persisted);
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.size_bytes();
                self.base = entry.position();
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            // An idle group holds no buffer (D7).
            self.entries = VecDeque::new();
        }
    }

    /// Reads back everything behind `index`, so that positions from there on are known.
    pub(crate) fn load_from(&mut self, index: Index, reader: &mut dyn LogReader) -> Result<(), NotInMemory> {
        if index >= self.base.index {
            return Ok(());
        }
        let start = self.read_position(index, reader)?;
        let mut loaded = VecDeque::new();
        let mut bytes = 0;
        let mut at = start;
        while at.index < self.base.index {
            for entry in reader.read_entries(at.index.next(), self.base.index, LOAD_BYTES_MAX)? {
                assert_eq!(entry.index, at.index.next(), "the log reader answered another question");
                at = entry.position();
                bytes += entry.size_bytes();
                loaded.push_back(entry);
            }
        }
        assert_eq!(at, self.base, "the log read back does not end where it ended");
        loaded.append(&mut self.entries);
        self.entries = loaded;
        self.bytes += bytes;
        self.base = start;
        Ok(())
    }

    /// The last position up to `index_max` whose term is at most `term`.
    pub(crate) fn search(&self, index_max: Index, term: Term) -> Search {
        let limit = index_max.min(self.last().index);
        if limit > self.base.index {
            let end = self.offset(limit) + 1;
            let count = self.entries.partition_point(|entry| entry.term <= term).min(end);
            if let Some(entry) = count.checked_sub(1).and_then(|at| self.entries.get(at)) {
                return Search::Found(entry.position());
            }
        }
        if self.base.index <= limit && self.base.term <= term {
            return Search::Found(self.base);
        }
        Search::Below(limit.min(self.base.index))
    }

    /// For invariants: whether the parts fit together and every chain is that of its content.
    pub(crate) fn check(&self) {
        assert!(self.truncated.index <= self.base.index);
        assert!(self.persisted <= self.offered || self.persisted < self.truncated.index);
        assert!(self.offered <= self.last().index);
        let mut prev = self.base;
        let mut bytes = 0;
        for entry in &self.entries {
            assert_eq!(entry.index, prev.index.next());
            assert!(entry.term >= prev.term);
            let chain: Chain = prev.chain.link(entry.index, entry.term, entry.kind, &entry.payload);
            assert_eq!(entry.chain, chain);
            prev = entry.position();
            bytes += entry.size_bytes();
        }
        assert_eq!(bytes, self.bytes);
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.size_bytes();
        self.entries.push_back(entry);
    }

    fn find(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index))
    }

    /// Where `index`, above `base`, is in `entries`.
    fn offset(&self, index: Index) -> usize {
        usize::try_from(index.since(self.base.index).saturating_sub(1)).unwrap_or(usize::MAX)
    }
}
