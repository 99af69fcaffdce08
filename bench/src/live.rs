//! The line of each second, and how durations look to people.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::record::Second;

const HEADER: &str = "    time  ops/s(now) ops/s(cum)     MB/s      p50      p95      p99    p99.9      max    err  undet   inflt      lag";
/// The header comes again after so many lines.
const HEADER_EVERY: usize = 20;
/// Shorter seconds are in the report only.
const LENGTH_SECONDS_MIN: f64 = 0.5;

/// Prints one line a second to standard error.
pub(crate) struct Live {
    is_enabled: bool,
    line_count: usize,
}

impl Live {
    pub(crate) fn new(is_enabled: bool) -> Live {
        Live { is_enabled, line_count: 0 }
    }

    pub(crate) fn on_second(&mut self, second: &Second) {
        // What is left behind the last whole second would look like a different rate.
        if !self.is_enabled || second.length_seconds < LENGTH_SECONDS_MIN {
            return;
        }
        let mut out = io::stderr().lock();
        let header =
            if self.line_count.is_multiple_of(HEADER_EVERY) { format!("{HEADER}\n") } else { String::new() };
        self.line_count += 1;
        // Nobody reads it if it cannot be written.
        writeln!(out, "{header}{}", line(second)).unwrap_or_default();
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of operations and bytes are far below 2^53")]
fn line(second: &Second) -> String {
    let length = second.length_seconds.max(1e-9);
    let latency = |seconds| short(Duration::from_secs_f64(seconds));
    format!(
        "{:>7.1}s {:>11.0} {:>10.0} {:>8.1} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>7} {:>8}{}",
        second.at_seconds,
        second.done_count as f64 / length,
        second.cumulative_per_second,
        second.bytes as f64 / length / 1e6,
        latency(second.p50_seconds),
        latency(second.p95_seconds),
        latency(second.p99_seconds),
        latency(second.p999_seconds),
        latency(second.max_seconds),
        second.failed_count,
        second.undetermined_count,
        second.in_flight,
        latency(second.lag_seconds),
        if second.is_warmup { "  warm-up" } else { "" },
    )
}

/// A duration in three digits.
pub(crate) fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        _ if micros < 999.5 => (micros, "µs"),
        _ if micros < 999_500.0 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    match value {
        _ if value >= 99.95 || value == 0.0 || unit == "µs" => format!("{value:.0}{unit}"),
        _ if value >= 9.995 => format!("{value:.1}{unit}"),
        _ => format!("{value:.2}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (nanos, wanted) in [
            (0, "0µs"),
            (1_000, "1µs"),
            (999_000, "999µs"),
            (1_000_000, "1.00ms"),
            (12_340_000, "12.3ms"),
            (123_400_000, "123ms"),
            (999_400_000, "999ms"),
            (1_500_000_000, "1.50s"),
            (61_000_000_000, "61.0s"),
        ] {
            assert_eq!(short(Duration::from_nanos(nanos)), wanted);
        }
    }

    #[test]
    fn columns_stand_under_their_headers() {
        let mut recorder = crate::record::Recorder::new(Duration::ZERO);
        let line = line(recorder.on_second(Duration::from_secs(31)));
        assert_eq!(line.chars().count(), HEADER.chars().count());
    }
}
