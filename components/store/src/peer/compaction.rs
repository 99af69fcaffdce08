//! How much of its log a peer keeps: by count, by size and by age (D4, D5).
//!
//! Nothing that a crash would need goes, and that is what is not flushed. Behind it every peer keeps a little for
//! followers that are briefly behind, and a leader what its slowest peer still lacks; each within bounds, so that no peer
//! and no region makes a log grow for ever. Who is further behind gets a snapshot.

use engine::LogWrite;
use types::{Entry, Index, Instant, LogPosition};

use super::{Peer, RoundOutput};
use crate::{
    limits::{
        LOG_KEPT_AGE, LOG_KEPT_BYTES_MAX, LOG_LAG_AGE, LOG_LAG_BYTES_MAX, LOG_MARK_AGE, LOG_MARK_BYTES,
        LOG_TRUNCATE_BYTES_MIN,
    },
    shared::Shared,
};

/// How large and how old the parts of a log are. What an earlier run has written is not known and counts as nothing.
#[derive(Debug, Default)]
pub(super) struct LogAge {
    /// Ascending, up to the log's end: few.
    marks: Vec<Mark>,
    /// Bytes written behind the last mark that was removed at the front.
    start_bytes: u64,
}

/// Entries that were written one after the other.
#[derive(Clone, Copy, Debug)]
struct Mark {
    last_index: Index,
    /// Bytes of all entries up to here, from some point on.
    end_bytes: u64,
    began_at: Instant,
    ended_at: Instant,
}

/// Bounds of what may stay.
struct Bounds {
    entries: u64,
    bytes: u64,
    age: std::time::Duration,
}

impl LogAge {
    /// A peer that falls asleep keeps no room for what may never come.
    pub(super) fn shrink(&mut self) {
        self.marks.shrink_to_fit();
    }

    /// Entries are written; they replace whatever the log held from the first of them on.
    pub(super) fn on_written(&mut self, now: Instant, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        while self.marks.pop_if(|mark| mark.last_index >= first.index).is_some() {}
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        let before = self.end_bytes();
        let end_bytes = before + bytes as u64;
        let start_bytes = self.marks.iter().rev().nth(1).map_or(self.start_bytes, |mark| mark.end_bytes);
        match self.marks.last_mut() {
            Some(mark)
                if end_bytes - start_bytes <= LOG_MARK_BYTES && now.since(mark.began_at) <= LOG_MARK_AGE =>
            {
                (mark.last_index, mark.end_bytes, mark.ended_at) = (last.index, end_bytes, now);
            }
            Some(_) | None => {
                self.marks.push(Mark { last_index: last.index, end_bytes, began_at: now, ended_at: now });
            }
        }
    }

    /// The log now begins behind `index`.
    pub(super) fn on_truncated(&mut self, index: Index) {
        let count = self.marks.partition_point(|mark| mark.last_index <= index);
        if let Some(mark) = self.marks.drain(..count).next_back() {
            self.start_bytes = mark.end_bytes;
        }
        if self.marks.is_empty() {
            *self = LogAge::default();
        }
    }

    /// Bytes that the log has, as far as known.
    pub(super) fn bytes(&self) -> u64 {
        self.end_bytes() - self.start_bytes
    }

    /// Bytes up to an index.
    fn bytes_up_to(&self, index: Index) -> u64 {
        let mark = self.marks.iter().rev().find(|mark| mark.last_index <= index);
        mark.map_or(0, |mark| mark.end_bytes - self.start_bytes)
    }

    /// The index behind which no more lies than the bounds allow, of a log up to `end`.
    fn find_limit(&self, now: Instant, end: Index, bounds: &Bounds) -> Index {
        let by_count = Index(end.0.saturating_sub(bounds.entries));
        let is_old = |mark: &&Mark| now.since(mark.ended_at) > bounds.age;
        let by_age = self.marks.iter().rev().find(is_old).map(|mark| mark.last_index);
        let is_much = |mark: &&Mark| self.end_bytes() - mark.end_bytes > bounds.bytes;
        let by_size = self.marks.iter().rev().find(is_much).map(|mark| mark.last_index);
        [Some(by_count), by_age, by_size].into_iter().flatten().max().unwrap_or_default().min(end)
    }

    fn end_bytes(&self) -> u64 {
        self.marks.last().map_or(self.start_bytes, |mark| mark.end_bytes)
    }
}

impl Peer {
    /// Whether there is anything that could be truncated, now or later.
    pub(crate) fn has_log(&self) -> bool {
        self.group.last().index > self.group.truncated().index
    }

    /// Bytes of the log on disk, as far as known.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_age.bytes()
    }

    /// Frees the log up to what a crash, or a peer that is a little behind, would not need any more. `may_wait`: whether
    /// the store has room to keep entries for a peer that is further behind.
    pub(crate) fn truncate_log(
        &mut self,
        now: Instant,
        shared: &Shared,
        flushed: LogPosition,
        may_wait: bool,
        out: &mut RoundOutput,
    ) {
        let truncated = self.group.truncated().index;
        let target = self.truncation_target(now, shared, flushed.index, may_wait);
        if target <= truncated || !self.is_worth_a_write(shared, target) {
            return;
        }
        let position = self.group.position(target).or_else(|| {
            let read = shared.log.read_entries(self.region_id, target, target, usize::MAX);
            shared.or_fatal("read the log", read)?.first().map(Entry::position)
        });
        let Some(position) = position else { return };
        let truncated_bytes = self.log_age.bytes_up_to(position.index);
        self.group.compact(position);
        self.log_age.on_truncated(position.index);
        tracing::debug!(region = self.region_id.0, index = position.index.0, now = now.0, "log is truncated");
        out.batch.writes.push(LogWrite {
            region_id: self.region_id,
            previous_last_index: self.written_index,
            truncate_to: Some(position.index),
            truncate_from: truncated.next(),
            truncated_bytes,
            raft_state: Some(self.raft_state()),
            ..LogWrite::default()
        });
    }

    fn truncation_target(&self, now: Instant, shared: &Shared, flushed: Index, may_wait: bool) -> Index {
        let done = flushed.min(self.group.applied_index());
        let kept =
            Bounds { entries: shared.config.log_kept_entries, bytes: LOG_KEPT_BYTES_MAX, age: LOG_KEPT_AGE };
        let for_followers = self.log_age.find_limit(now, done, &kept);
        if !self.is_leader() || !may_wait {
            return for_followers;
        }
        let lag = Bounds {
            entries: shared.config.log_lag_entries_max.saturating_add(kept.entries),
            bytes: LOG_LAG_BYTES_MAX,
            age: LOG_LAG_AGE,
        };
        let slowest = self.group.status().peers.iter().map(|peer| peer.match_index).min().unwrap_or(done);
        for_followers.min(slowest.max(self.log_age.find_limit(now, done, &lag)))
    }

    /// Truncation costs a write of the Raft state: not for a handful of entries, unless it lets the region rest.
    fn is_worth_a_write(&self, shared: &Shared, target: Index) -> bool {
        target.since(self.group.truncated().index) >= shared.config.log_kept_entries.max(1)
            || self.log_age.bytes_up_to(target) >= LOG_TRUNCATE_BYTES_MIN
            || target == self.group.last().index
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const SECOND: u64 = 1_000;

    /// One entry of so many bytes a second, from index 1 at second 1 on.
    fn written(count: u64, bytes: usize) -> LogAge {
        let mut age = LogAge::default();
        for index in 1..=count {
            age.on_written(at(index), &[entry(index, bytes)]);
        }
        age
    }

    fn entry(index: u64, bytes: usize) -> Entry {
        let payload = Bytes::from(vec![0; bytes - Entry::OVERHEAD_BYTES]);
        Entry { index: Index(index), payload, ..Entry::default() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * SECOND)
    }

    fn bounds(entries: u64, bytes: u64, seconds: u64) -> Bounds {
        Bounds { entries, bytes, age: Duration::from_secs(seconds) }
    }

    const NONE: u64 = u64::MAX / 4_000_000_000;

    #[test]
    fn the_strictest_of_count_size_and_age_decides() {
        let age = written(1_000, 1_000);
        let limit = |bounds: &Bounds| age.find_limit(at(1_000), Index(1_000), bounds).0;
        assert_eq!(limit(&bounds(100, u64::MAX, NONE)), 900);
        let by_size = limit(&bounds(u64::MAX, 100_000, NONE));
        assert!((889..900).contains(&by_size), "{by_size}: to the mark");
        let by_age = limit(&bounds(u64::MAX, u64::MAX, 60));
        assert!((929..940).contains(&by_age), "{by_age}: to the mark");
        assert_eq!(limit(&bounds(u64::MAX, u64::MAX, NONE)), 0);
        assert_eq!(age.find_limit(at(5_000), Index(990), &bounds(u64::MAX, u64::MAX, 60)), Index(990));
    }

    #[test]
    fn marks_are_few_however_many_entries_there_are_and_none_where_there_is_no_log() {
        let mut age = LogAge::default();
        for index in 1..=100_000 {
            age.on_written(at(1), &[entry(index, 100)]);
        }
        assert_eq!(age.bytes(), 10_000_000);
        assert!(age.marks.len() <= 50, "{}", age.marks.len());
        age.on_truncated(Index(50_000));
        assert!(age.bytes() >= 5_000_000);
        assert!(age.bytes() <= 5_000_000 + LOG_MARK_BYTES);
        age.on_truncated(Index(100_000));
        assert_eq!((age.bytes(), age.marks.capacity()), (0, 0));
    }

    #[test]
    fn what_is_overwritten_does_not_count() {
        let mut age = written(10, 1_000_000);
        assert_eq!(age.bytes(), 10_000_000);
        age.on_written(at(11), &[entry(6, 1_000_000)]);
        assert_eq!(age.bytes(), 6_000_000);
    }
}
