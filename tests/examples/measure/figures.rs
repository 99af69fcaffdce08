//! Durations, and what is said of them.

use std::{fmt, time::Duration};

/// Samples that must lie beyond a percentile for it to be told: fewer say little about it.
const SAMPLES_BEYOND_MIN: usize = 10;

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Figures {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Figures {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Figures { sorted }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.sorted.len();
        let Some(max) = self.sorted.last() else { return write!(formatter, "none") };
        write!(formatter, "{count:6}:")?;
        for percent in [50, 90, 99] {
            let at = (count * percent).div_ceil(100).max(1) - 1;
            if percent == 50 || count - 1 - at >= SAMPLES_BEYOND_MIN {
                write!(formatter, " p{percent} {},", millis(self.sorted[at]))?;
            }
        }
        write!(formatter, " max {}", millis(*max))
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
