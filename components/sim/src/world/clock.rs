//! The clocks of one machine: wrong in every way that the store promises to bear, and in no other (D2, D10).
//!
//! The monotonic clock drifts. It may also miss time, as where a machine is suspended and its clock does not count it;
//! then the wall clock shows the gap, and that is what a lease goes by. So the wall clock is not set back just before a
//! suspension: [`MachineClock::may_miss_time`] says when one is allowed.

use std::{sync::Arc, time::Duration};

use actor::Clock;
use parking_lot::Mutex;
use types::{Instant, WallTime};

use super::{Moment, Rng};

/// The wall clock at the beginning of each run, in milliseconds since 1970: some day in 2026.
const WALL_START_MS: u64 = 1_780_000_000_000;

/// How long after a jump of the wall clock no suspension may be hidden by it: longer than any lease lives.
const JUMP_SHADOW: Duration = Duration::from_secs(2);

/// Parts in a billion.
const BILLION: i128 = 1_000_000_000;

/// The clocks of one machine. The world sets the true time; everything else reads.
pub struct MachineClock {
    state: Mutex<State>,
}

struct State {
    true_now: Moment,
    /// The true time and the monotonic reading from which the present rate holds.
    anchor: (Moment, u64),
    drift_ppb: i64,
    wall_offset_ms: i64,
    jumped_at: Option<Moment>,
    /// The monotonic reading at which the process that runs now began.
    started_at: u64,
    /// Readings of the machine at which time was missed, and how much.
    missed: Vec<(u64, Duration)>,
}

impl MachineClock {
    /// Clocks with drawn offsets and the usual drift of a quartz.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Arc<MachineClock> {
        let signed = |drawn: u64, middle: i64| i64::try_from(drawn).unwrap_or(0) - middle;
        let state = State {
            true_now: Moment::ZERO,
            anchor: (Moment::ZERO, rng.below(1_000_000_000)),
            drift_ppb: signed(rng.below(400_001), 200_000),
            wall_offset_ms: signed(rng.below(1_001), 500),
            jumped_at: None,
            started_at: 0,
            missed: Vec::new(),
        };
        Arc::new(MachineClock { state: Mutex::new(state) })
    }

    /// Moves the true time on.
    pub fn set_true_now(&self, now: Moment) {
        let mut state = self.state.lock();
        debug_assert!(now >= state.true_now, "true time does not run back");
        state.true_now = now;
    }

    /// A process starts: its monotonic clock begins at zero.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.started_at = state.raw(state.true_now);
    }

    /// From now on the monotonic clock is this much too fast (or, below zero, too slow).
    pub fn set_drift(&self, drift_ppb: i64) {
        let mut state = self.state.lock();
        state.anchor = (state.true_now, state.raw(state.true_now));
        state.drift_ppb = drift_ppb;
    }

    /// Sets the wall clock on or back.
    pub fn jump_wall(&self, by_ms: i64) {
        let mut state = self.state.lock();
        state.wall_offset_ms += by_ms;
        state.jumped_at = Some(state.true_now);
    }

    /// Whether a suspension now would be visible as a gain of the wall clock.
    #[must_use]
    pub fn may_miss_time(&self) -> bool {
        let state = self.state.lock();
        state.jumped_at.is_none_or(|at| state.true_now.since(at) > JUMP_SHADOW)
    }

    /// The monotonic clock has not counted the last `missed` (all of it after the process began and after the last
    /// change of rate); the wall clock has.
    pub fn miss_time(&self, missed: Duration) {
        let mut state = self.state.lock();
        state.anchor.0 = state.anchor.0 + missed;
        let reading = state.raw(state.true_now);
        state.missed.push((reading, missed));
    }

    /// How much time the monotonic clock has missed since the process read `reading`.
    #[must_use]
    pub fn missed_since(&self, reading: Instant) -> Duration {
        let state = self.state.lock();
        let reading = reading.0.saturating_add(state.started_at);
        state.missed.iter().filter(|(at, _)| *at >= reading).map(|(_, missed)| *missed).sum()
    }

    /// The true moment at which the monotonic clock of the process will show `reading`, as far as can be said now.
    #[must_use]
    pub fn moment_of(&self, reading: Instant) -> Moment {
        let state = self.state.lock();
        let wanted = i128::from(reading.0) + i128::from(state.started_at) - i128::from(state.anchor.1);
        let elapsed = wanted * BILLION / (BILLION + i128::from(state.drift_ppb));
        let elapsed = u64::try_from(elapsed.max(0)).unwrap_or(u64::MAX / 2);
        // One nanosecond more than the division rounds away: the reading is then reached.
        Moment(state.anchor.0.0.saturating_add(elapsed).saturating_add(1))
    }
}

impl State {
    /// The machine's monotonic reading at a true moment.
    fn raw(&self, at: Moment) -> u64 {
        let elapsed = i128::from(at.0) - i128::from(self.anchor.0.0);
        let elapsed = elapsed.max(0) * (BILLION + i128::from(self.drift_ppb)) / BILLION;
        self.anchor.1 + u64::try_from(elapsed).expect("a run lasts minutes")
    }
}

impl Clock for MachineClock {
    fn monotonic(&self) -> Instant {
        let state = self.state.lock();
        Instant(state.raw(state.true_now).saturating_sub(state.started_at))
    }

    fn wall(&self) -> WallTime {
        let state = self.state.lock();
        WallTime((WALL_START_MS + state.true_now.0 / 1_000_000).saturating_add_signed(state.wall_offset_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Arc<MachineClock> {
        MachineClock::new(&mut Rng::new(5, "clock"))
    }

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[test]
    fn drift_changes_the_rate_and_not_the_reading() {
        let clock = clock();
        clock.set_drift(0);
        clock.set_true_now(at(1_000));
        let before = clock.monotonic();
        clock.set_drift(10_000_000);
        assert_eq!(clock.monotonic(), before);
        clock.set_true_now(at(2_000));
        assert_eq!(clock.monotonic().since(before), Duration::from_millis(1_010));
    }

    #[test]
    fn a_suspension_is_missed_by_one_clock_only() {
        let clock = clock();
        clock.set_drift(0);
        clock.set_true_now(at(1_000));
        let (monotonic, wall) = (clock.monotonic(), clock.wall());
        clock.set_true_now(at(1_700));
        clock.miss_time(Duration::from_millis(700));
        assert_eq!(clock.monotonic(), monotonic);
        assert_eq!(clock.wall().0 - wall.0, 700);
        clock.set_true_now(at(1_800));
        assert_eq!(clock.monotonic().since(monotonic), Duration::from_millis(100));
    }

    #[test]
    fn a_deadline_is_reached_at_its_moment_and_not_before() {
        let clock = clock();
        for drift_ppb in [-40_000_000, -137, 0, 1, 200_000, 40_000_000] {
            clock.set_drift(drift_ppb);
            clock.restart();
            let deadline = clock.monotonic() + Duration::from_millis(333);
            let moment = clock.moment_of(deadline);
            clock.set_true_now(Moment(moment.0 - 10));
            assert!(clock.monotonic() < deadline);
            clock.set_true_now(moment);
            assert!(clock.monotonic() >= deadline, "{drift_ppb}");
        }
    }

    #[test]
    fn a_wall_jump_forbids_suspensions_for_a_while() {
        let clock = clock();
        clock.set_true_now(at(5_000));
        assert!(clock.may_miss_time());
        clock.jump_wall(-3_000);
        assert!(!clock.may_miss_time());
        clock.set_true_now(at(8_000));
        assert!(clock.may_miss_time());
    }
}
