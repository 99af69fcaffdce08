//! When a region is counted, and into how many parts it is divided then.

use types::{Instant, Region, RegionId, RegionSize, Term};

use super::SizeEstimate;
use crate::{
    Config,
    limits::{RECOUNT_INTERVAL, SPLIT_PARTS_MAX},
};

/// What an applier remembers of the counting of its region.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// It is under way.
    is_running: bool,
    /// The term of the leadership that last had it counted because it seemed too large.
    term: Option<Term>,
    /// When it was last counted only to know it better.
    refined_at: Option<Instant>,
}

impl Counting {
    /// Whether a region that is led here, in `term`, shall be counted now; if so, it is under way.
    ///
    /// - It may be too large. Then it is counted once in each term of leadership, and again whenever half the limit has
    ///   been written (or half of what it held, if that is more). So counting reads at most three bytes (or pairs, where
    ///   those are too many) for each that was written, whatever is overwritten how often.
    /// - Its size is a guess, or half of its keys may be gone. Then it is counted once a minute at the most.
    ///
    /// Not while its peers are being changed: what would come of it has to wait anyway.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        region: &Region,
        size: &SizeEstimate,
        term: Term,
        config: &Config,
    ) -> bool {
        if self.is_running || region.id == RegionId::PLACEMENT || region.configuration().is_joint() {
            return false;
        }
        let is_split_due =
            is_too_large(size.estimate(), config) && (self.term != Some(term) || has_grown(size, config));
        let is_vague =
            size.is_rough || (size.removed_count > 0 && size.removed_count >= size.estimate().key_count / 2);
        let is_refined_lately = self.refined_at.is_some_and(|at| now.since(at) < RECOUNT_INTERVAL);
        if is_split_due {
            self.term = Some(term);
        } else if is_vague && !is_refined_lately {
            self.refined_at = Some(now);
        } else {
            return false;
        }
        self.is_running = true;
        true
    }

    /// The answer has come, whatever it says.
    pub(crate) fn end(&mut self) {
        self.is_running = false;
    }
}

/// Whether a region shall be divided.
pub(crate) fn is_too_large(size: RegionSize, config: &Config) -> bool {
    part_count(size, config) > 1
}

/// Into how many parts a region shall be divided: each gets about two thirds of what one may hold, so that none has to be
/// divided again soon, and a region that is many times too large is divided at once.
pub(crate) fn part_count(size: RegionSize, config: &Config) -> u64 {
    let parts = |held: u64, limit: u64| {
        if limit == 0 || held <= limit { 1 } else { held / limit.saturating_mul(2).div_ceil(3) + 1 }
    };
    let by_size = parts(size.size_bytes, config.region_split_bytes);
    by_size.max(parts(size.key_count, config.region_split_keys)).min(SPLIT_PARTS_MAX)
}

/// Whether enough was written, of what there may be too much of, since the region was counted last to count it again.
fn has_grown(size: &SizeEstimate, config: &Config) -> bool {
    let is_half = |written: u64, counted: u64, limit: u64| {
        limit > 0 && counted.saturating_add(written) > limit && written >= counted.max(limit) / 2
    };
    is_half(size.written.size_bytes, size.measured.size_bytes, config.region_split_bytes)
        || is_half(size.written.key_count, size.measured.key_count, config.region_split_keys)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::{Epoch, KeyRange, Peer, PeerId, PeerRole, StoreId};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn config() -> Config {
        Config { region_split_bytes: 1_000, region_split_keys: 100, ..Config::default() }
    }

    fn bytes(size_bytes: u64) -> RegionSize {
        RegionSize { size_bytes, key_count: 1 }
    }

    fn region(role: PeerRole) -> Region {
        Region {
            id: RegionId::FIRST,
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![Peer { id: PeerId(1), store_id: StoreId(1), role }],
        }
    }

    /// Counts whenever it is due; how often that is.
    fn count_while(writes: u64, each_bytes: u64, held_bytes: impl Fn(u64) -> u64) -> u64 {
        let (mut counting, mut size, mut counted) = (Counting::default(), SizeEstimate::EMPTY, 0);
        let config = Config { region_split_keys: 0, ..config() };
        for write in 0..writes {
            size.written += bytes(each_bytes);
            if counting.begin(Instant::ZERO, &region(PeerRole::Voter), &size, Term(1), &config) {
                size = SizeEstimate::measured(bytes(held_bytes(write)));
                counting.end();
                counted += 1;
            }
        }
        counted
    }

    #[test]
    fn parts_are_two_thirds_of_the_limit() {
        let parts = |size_bytes, key_count| part_count(RegionSize { size_bytes, key_count }, &config());
        assert_eq!((parts(1_000, 100), parts(1_001, 1), parts(1, 101)), (1, 2, 2));
        assert_eq!((parts(2_000, 1), parts(10_000, 1)), (3, 15));
        assert_eq!(parts(u64::MAX, 1), SPLIT_PARTS_MAX);
        let never = Config { region_split_bytes: 0, region_split_keys: 0, ..config() };
        assert_eq!(part_count(bytes(u64::MAX), &never), 1);
    }

    #[test]
    fn overwriting_does_not_make_a_region_be_counted_all_the_time() {
        // 990 bytes that are overwritten again and again: once for 500 bytes written.
        assert_eq!(count_while(1_000, 10, |_| 990), 18);
        // A small region that is overwritten: once for each limit that was written.
        assert_eq!(count_while(1_000, 10, |_| 10), 9);
        // One that cannot be divided, and grows: ever more rarely.
        assert!(count_while(10_000, 10, |write| write * 10) <= 13);
    }

    #[test]
    fn a_new_leader_counts_anew_and_nobody_twice_at_once() {
        let (mut counting, mut size) = (Counting::default(), SizeEstimate::measured(bytes(1_500)));
        let mut begin = |size: &SizeEstimate, role, term| {
            counting.begin(Instant::ZERO, &region(role), size, Term(term), &config())
        };
        assert!(!begin(&size, PeerRole::DemotingVoter, 1), "a change of peers runs");
        assert!(begin(&size, PeerRole::Voter, 1));
        assert!(!begin(&size, PeerRole::Voter, 2), "it is under way");
        counting.end();
        let mut begin = |size: &SizeEstimate, term| {
            counting.begin(Instant::ZERO, &region(PeerRole::Voter), size, Term(term), &config())
        };
        assert!(!begin(&size, 1), "nothing was written since");
        assert!(begin(&size, 2));
        counting.end();
        size.written = bytes(750);
        assert!(counting.begin(Instant::ZERO, &region(PeerRole::Voter), &size, Term(2), &config()));
    }

    #[test]
    fn guesses_are_refined_once_a_minute_at_the_most() {
        let mut counting = Counting::default();
        let mut begin = |at: Duration, size: &SizeEstimate| {
            let now = Instant::ZERO + at;
            let is_begun = counting.begin(now, &region(PeerRole::Voter), size, Term(1), &config());
            counting.end();
            is_begun
        };
        let rough = SizeEstimate::UNKNOWN;
        let removed = SizeEstimate {
            removed_count: 2,
            ..SizeEstimate::measured(RegionSize { size_bytes: 9, key_count: 4 })
        };
        let hardly = SizeEstimate { removed_count: 1, ..removed };
        assert!(begin(Duration::ZERO, &rough));
        assert!(!begin(MINUTE / 2, &removed));
        assert!(!begin(MINUTE, &hardly));
        assert!(begin(MINUTE, &removed));
    }
}
