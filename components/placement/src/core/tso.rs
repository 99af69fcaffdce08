//! Timestamps: unique, ascending, and never again those of an earlier leader.
//!
//! A leader gives only timestamps whose physical part is below the committed bound, and a new leader begins at the bound
//! that it finds: so what it gives is above everything given before. The wall clock pulls the physical part forward; where
//! it runs back, or does not move, logical ticks are consumed instead.

use types::WallTime;

use super::{
    api::Timestamp,
    limits::{TSO_BATCH_MAX, TSO_WINDOW_LOW_MS, TSO_WINDOW_MS},
};

/// The largest physical part that a 64-bit version has room for.
const PHYSICAL_MAX: u64 = u64::MAX >> Timestamp::LOGICAL_BITS;

/// The largest logical part.
const LOGICAL_MAX: u32 = (1 << Timestamp::LOGICAL_BITS) - 1;

/// Gives timestamps under one leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tso {
    /// Committed: physical parts below may be given.
    bound_ms: u64,
    /// The last one given, or what counts as given.
    last: Timestamp,
}

impl Tso {
    /// Begins a leadership that found this bound committed; zero: none yet. Everything below it counts as given.
    #[must_use]
    pub fn new(bound_ms: u64) -> Tso {
        let last = match bound_ms.checked_sub(1) {
            Some(physical_ms) => Timestamp { physical_ms, logical: LOGICAL_MAX },
            None => Timestamp::default(),
        };
        Tso { bound_ms, last }
    }

    /// Takes `count` timestamps, of which the last one is returned; the others precede it with the same physical part.
    /// `None` until a higher bound is committed. `count` is from 1 to [`TSO_BATCH_MAX`].
    pub fn take(&mut self, wall: WallTime, count: u32) -> Option<Timestamp> {
        assert!(count >= 1, "an empty batch has no last timestamp");
        assert!(count <= TSO_BATCH_MAX, "a batch lies within one millisecond");
        let next = self.next(wall, count);
        if next.physical_ms >= self.bound_ms {
            return None;
        }
        assert!(next > self.last, "timestamps ascend");
        self.last = next;
        Some(next)
    }

    /// The bound that should be committed now, if the present one is nearly used up.
    #[must_use]
    pub fn wanted_bound(&self, wall: WallTime) -> Option<u64> {
        let base_ms = self.next(wall, TSO_BATCH_MAX).physical_ms;
        (self.bound_ms < base_ms.saturating_add(TSO_WINDOW_LOW_MS))
            .then(|| base_ms.max(wall_ms(wall)).saturating_add(TSO_WINDOW_MS).min(PHYSICAL_MAX))
            .filter(|bound_ms| *bound_ms > self.bound_ms)
    }

    /// A bound is committed.
    pub fn set_bound(&mut self, bound_ms: u64) {
        assert!(bound_ms >= self.bound_ms, "apply refuses a lower bound");
        self.bound_ms = bound_ms;
    }

    /// The committed bound.
    #[must_use]
    pub fn bound_ms(&self) -> u64 {
        self.bound_ms
    }

    fn next(&self, wall: WallTime, count: u32) -> Timestamp {
        let wall_ms = wall_ms(wall);
        if wall_ms > self.last.physical_ms {
            return Timestamp { physical_ms: wall_ms, logical: count - 1 };
        }
        match self.last.logical.checked_add(count) {
            Some(logical) if logical <= LOGICAL_MAX => {
                Timestamp { physical_ms: self.last.physical_ms, logical }
            }
            Some(_) | None => Timestamp { physical_ms: self.last.physical_ms + 1, logical: count - 1 },
        }
    }
}

fn wall_ms(wall: WallTime) -> u64 {
    wall.0.min(PHYSICAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins at `bound_ms` and raises the bound once, as a leader does before it gives anything.
    fn led(bound_ms: u64, wall: u64) -> Tso {
        let mut tso = Tso::new(bound_ms);
        let bound_ms = tso.wanted_bound(WallTime(wall)).expect("a new leader has nothing to give");
        tso.set_bound(bound_ms);
        tso
    }

    #[test]
    fn the_last_of_a_batch_is_returned() {
        let mut tso = led(0, 5_000);
        assert_eq!(tso.take(WallTime(5_000), 1), Some(Timestamp { physical_ms: 5_000, logical: 0 }));
        assert_eq!(tso.take(WallTime(5_000), 10), Some(Timestamp { physical_ms: 5_000, logical: 10 }));
        assert_eq!(tso.take(WallTime(5_001), 10), Some(Timestamp { physical_ms: 5_001, logical: 9 }));
    }

    #[test]
    fn a_wall_clock_that_runs_back_consumes_logical_ticks() {
        let mut tso = led(0, 5_000);
        assert_eq!(tso.take(WallTime(5_000), 3), Some(Timestamp { physical_ms: 5_000, logical: 2 }));
        assert_eq!(tso.take(WallTime(10), 3), Some(Timestamp { physical_ms: 5_000, logical: 5 }));
        assert_eq!(tso.take(WallTime(0), 1), Some(Timestamp { physical_ms: 5_000, logical: 6 }));
    }

    #[test]
    fn a_full_millisecond_goes_over_to_the_next() {
        let mut tso = led(0, 5_000);
        assert_eq!(tso.take(WallTime(5_000), TSO_BATCH_MAX).map(|last| last.logical), Some(LOGICAL_MAX));
        assert_eq!(tso.take(WallTime(5_000), 1), Some(Timestamp { physical_ms: 5_001, logical: 0 }));
        assert_eq!(
            tso.take(WallTime(5_000), TSO_BATCH_MAX),
            Some(Timestamp { physical_ms: 5_002, logical: LOGICAL_MAX })
        );
    }

    #[test]
    fn nothing_is_given_at_the_bound() {
        let mut tso = led(0, 5_000);
        let bound_ms = tso.bound_ms();
        assert_eq!(bound_ms, 8_000);
        assert_eq!(tso.take(WallTime(bound_ms), 1), None);
        assert!(tso.take(WallTime(bound_ms - 1), 1).is_some());
        let mut given = 0;
        while tso.take(WallTime(0), TSO_BATCH_MAX).is_some() {
            given += 1;
        }
        assert_eq!(given, 0, "the last millisecond below the bound has been begun");
        let bound_ms = tso.wanted_bound(WallTime(0)).expect("the bound is used up");
        tso.set_bound(bound_ms);
        assert!(tso.take(WallTime(0), 1).is_some());
    }

    #[test]
    fn the_bound_stays_within_its_window() {
        let mut tso = led(0, 5_000);
        for step in 0..20_000_u64 {
            let wall = WallTime(5_000 + step % 7_000);
            if let Some(bound_ms) = tso.wanted_bound(wall) {
                assert!(bound_ms <= wall.0.max(tso.last.physical_ms + 1) + TSO_WINDOW_MS);
                tso.set_bound(bound_ms);
            }
            let count = if step % 5 == 0 { TSO_BATCH_MAX } else { 3 };
            assert!(tso.take(wall, count).is_some());
        }
    }

    #[test]
    fn every_leader_is_above_all_before_it() {
        let mut bound_ms = 0;
        let mut highest = Timestamp::default();
        // Each leader's clock is further behind than that of the one before.
        for leader in 0..50_u64 {
            let wall = WallTime(1_000_000 - leader * 10_000);
            let mut tso = led(bound_ms, wall.0);
            for _ in 0..100 {
                let last = tso.take(wall, 1_000).expect("the window has room");
                assert!(last > highest);
                assert!(last.logical >= 999, "the first of the batch has no negative logical part");
                highest = last;
            }
            bound_ms = tso.bound_ms();
        }
    }

    #[test]
    fn a_version_orders_like_its_timestamp() {
        let low = Timestamp { physical_ms: 7, logical: LOGICAL_MAX };
        let high = Timestamp { physical_ms: 8, logical: 0 };
        assert_eq!(low.version() + 1, high.version());
    }
}
