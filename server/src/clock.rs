//! The process's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actor::Clock;
use rustix::time::{ClockId, clock_gettime};
use types::{Instant, WallTime};

/// Time as the operating system tells it; suspension counts (D2).
pub(crate) struct SystemClock {
    origin: Duration,
}

impl SystemClock {
    pub(crate) fn new() -> SystemClock {
        SystemClock { origin: since_boot() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Instant {
        let elapsed = since_boot().saturating_sub(self.origin);
        // The first reading is above zero: `Instant::ZERO` means "never" in some places.
        Instant(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    fn wall(&self) -> WallTime {
        wall_now()
    }
}

/// The wall clock, now. A clock before 1970 counts as 1970.
pub(crate) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_begins_above_zero_and_does_not_run_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(first > Instant::ZERO);
        assert!(clock.monotonic() >= first);
        assert!(clock.wall() > WallTime(1_600_000_000_000));
    }
}
