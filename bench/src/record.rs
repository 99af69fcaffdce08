//! What is measured.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    limits::{LATENCY_MICROS_MAX, SAMPLES_BEYOND_MIN},
    target::Fate,
    workload::Kind,
};

/// Latencies, in microseconds with three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Percentiles of latencies, in seconds. Those that too few samples lie beyond are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) min_seconds: f64,
    pub(crate) mean_seconds: f64,
    pub(crate) p50_seconds: f64,
    pub(crate) p90_seconds: Option<f64>,
    pub(crate) p95_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    pub(crate) p999_seconds: Option<f64>,
    pub(crate) p9999_seconds: Option<f64>,
    pub(crate) max_seconds: f64,
    /// Every latency that occurred, in microseconds, and how often: what percentiles of several runs are merged from.
    pub(crate) histogram_micros: Vec<(u64, u64)>,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3);
        Latencies(histogram.expect("the bounds are in order and three digits are allowed"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many samples are at least so long.
    #[cfg(test)]
    pub(crate) fn count_from(&self, latency: Duration) -> u64 {
        self.0.count_between(u64::try_from(latency.as_micros()).unwrap(), LATENCY_MICROS_MAX)
    }

    /// The latency that a fraction of the samples does not exceed; none, if there are too few samples beyond it.
    #[expect(clippy::cast_precision_loss, reason = "numbers of samples are far below 2^53")]
    pub(crate) fn quantile(&self, fraction: f64) -> Option<Duration> {
        let beyond = self.0.len() as f64 * (1.0 - fraction);
        // Rounding must not hide a percentile that exactly enough samples lie beyond.
        (beyond + 1e-6 >= SAMPLES_BEYOND_MIN as f64).then(|| self.quantile_of_few(fraction))
    }

    /// The same, whatever the number of samples: for the live line.
    pub(crate) fn quantile_of_few(&self, fraction: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(fraction))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// None without a sample.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let seconds = |fraction| self.quantile(fraction).map(|latency| latency.as_secs_f64());
        (self.count() > 0).then(|| Percentiles {
            min_seconds: Duration::from_micros(self.0.min()).as_secs_f64(),
            mean_seconds: self.0.mean() / 1e6,
            p50_seconds: self.quantile_of_few(0.5).as_secs_f64(),
            p90_seconds: seconds(0.9),
            p95_seconds: seconds(0.95),
            p99_seconds: seconds(0.99),
            p999_seconds: seconds(0.999),
            p9999_seconds: seconds(0.9999),
            max_seconds: self.max().as_secs_f64(),
            histogram_micros: self
                .0
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        })
    }
}

/// What became of the operations of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) done_count: u64,
    pub(crate) missing_count: u64,
    pub(crate) bytes: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) undetermined: BTreeMap<&'static str, u64>,
    /// From when an operation was due to its end.
    pub(crate) response: Latencies,
    /// From when it was sent to its end.
    pub(crate) service: Latencies,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            done_count: 0,
            missing_count: 0,
            bytes: 0,
            failed: BTreeMap::new(),
            undetermined: BTreeMap::new(),
            response: Latencies::new(),
            service: Latencies::new(),
        }
    }

    pub(crate) fn failed_count(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn undetermined_count(&self) -> u64 {
        self.undetermined.values().sum()
    }
}

/// One second of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Second {
    /// Its end, from the start of the run.
    pub(crate) at_seconds: f64,
    pub(crate) length_seconds: f64,
    pub(crate) is_warmup: bool,
    pub(crate) done_count: u64,
    pub(crate) bytes: u64,
    pub(crate) failed_count: u64,
    pub(crate) undetermined_count: u64,
    pub(crate) p50_seconds: f64,
    pub(crate) p95_seconds: f64,
    pub(crate) p99_seconds: f64,
    pub(crate) p999_seconds: f64,
    pub(crate) max_seconds: f64,
    /// Operations under way at its end.
    pub(crate) in_flight: usize,
    /// How late the schedule was at its worst; zero in a closed loop.
    pub(crate) lag_seconds: f64,
    /// Done per second, from the end of the warm-up on.
    pub(crate) cumulative_per_second: f64,
}

/// An operation that has ended; times are from the start of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) kind: Kind,
    pub(crate) size_bytes: u64,
    /// The part of the keyspace that it went to.
    pub(crate) part: usize,
    /// When it was to be sent.
    pub(crate) due: Duration,
    pub(crate) sent: Duration,
    pub(crate) ended: Duration,
    pub(crate) fate: Fate,
}

/// Counts all operations of a run; those that were due in the warm-up only in the series.
#[derive(Debug)]
pub(crate) struct Recorder {
    warmup: Duration,
    tallies: BTreeMap<Kind, Tally>,
    pub(crate) lag: Latencies,
    pub(crate) in_flight: usize,
    pub(crate) series: Vec<Second>,
    second: CurrentSecond,
    measured_done_count: u64,
    gaps: Gaps,
}

/// The longest time that each part of the keyspace was without a success, between two of them.
#[derive(Debug, Default)]
struct Gaps {
    parts: BTreeMap<usize, Gap>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    last: Duration,
    longest: Duration,
}

impl Gaps {
    fn on_success(&mut self, part: usize, at: Duration) {
        let gap = self.parts.entry(part).or_insert(Gap { last: at, longest: Duration::ZERO });
        gap.longest = gap.longest.max(at.saturating_sub(gap.last));
        gap.last = gap.last.max(at);
    }
}

#[derive(Debug)]
struct CurrentSecond {
    began: Duration,
    done_count: u64,
    bytes: u64,
    failed_count: u64,
    undetermined_count: u64,
    response: Latencies,
    lag_max: Duration,
}

impl Recorder {
    pub(crate) fn new(warmup: Duration) -> Recorder {
        Recorder {
            warmup,
            tallies: BTreeMap::new(),
            lag: Latencies::new(),
            in_flight: 0,
            series: Vec::new(),
            second: CurrentSecond {
                began: Duration::ZERO,
                done_count: 0,
                bytes: 0,
                failed_count: 0,
                undetermined_count: 0,
                response: Latencies::new(),
                lag_max: Duration::ZERO,
            },
            measured_done_count: 0,
            gaps: Gaps::default(),
        }
    }

    /// For each part of the keyspace, the longest time between two successes in it; up to the last one of all parts, so
    /// that a part that has none any more counts.
    pub(crate) fn longest_gaps(&self) -> Latencies {
        let mut latencies = Latencies::new();
        let last = self.gaps.parts.values().map(|gap| gap.last).max().unwrap_or_default();
        for gap in self.gaps.parts.values() {
            latencies.record(gap.longest.max(last.saturating_sub(gap.last)));
        }
        latencies
    }

    /// What was measured, by kind; only kinds that occurred.
    pub(crate) fn tallies(&self) -> &BTreeMap<Kind, Tally> {
        &self.tallies
    }

    /// An operation of an open loop has been sent.
    pub(crate) fn on_sent(&mut self, due: Duration, sent: Duration) {
        let lag = sent.saturating_sub(due);
        self.second.lag_max = self.second.lag_max.max(lag);
        if due >= self.warmup {
            self.lag.record(lag);
        }
    }

    pub(crate) fn on_ended(&mut self, end: Ended) {
        let is_measured = end.due >= self.warmup;
        let response = end.ended.saturating_sub(end.due);
        let service = end.ended.saturating_sub(end.sent);
        let tally = is_measured.then(|| self.tallies.entry(end.kind).or_insert_with(Tally::new));
        let second = &mut self.second;
        match end.fate {
            Fate::Done { .. } | Fate::Missing => {
                let read_bytes = if let Fate::Done { read_bytes } = end.fate { read_bytes } else { 0 };
                let bytes = end.size_bytes + read_bytes;
                second.done_count += 1;
                second.bytes += bytes;
                second.response.record(response);
                if let Some(tally) = tally {
                    self.gaps.on_success(end.part, end.ended);
                    self.measured_done_count += 1;
                    tally.done_count += 1;
                    tally.missing_count += u64::from(end.fate == Fate::Missing);
                    tally.bytes += bytes;
                    tally.response.record(response);
                    tally.service.record(service);
                }
            }
            Fate::Failed(name) => {
                second.failed_count += 1;
                if let Some(tally) = tally {
                    *tally.failed.entry(name).or_default() += 1;
                }
            }
            Fate::Undetermined(name) => {
                second.undetermined_count += 1;
                if let Some(tally) = tally {
                    *tally.undetermined.entry(name).or_default() += 1;
                }
            }
        }
    }

    /// Ends the current second and begins the next.
    pub(crate) fn on_second(&mut self, now: Duration) -> &Second {
        let current = &mut self.second;
        let measured_seconds = now.saturating_sub(self.warmup).as_secs_f64();
        let quantile = |fraction| current.response.quantile_of_few(fraction).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "numbers of operations are far below 2^53")]
        let cumulative =
            if measured_seconds > 0.0 { self.measured_done_count as f64 / measured_seconds } else { 0.0 };
        self.series.push(Second {
            at_seconds: now.as_secs_f64(),
            length_seconds: now.saturating_sub(current.began).as_secs_f64(),
            is_warmup: current.began < self.warmup,
            done_count: current.done_count,
            bytes: current.bytes,
            failed_count: current.failed_count,
            undetermined_count: current.undetermined_count,
            p50_seconds: quantile(0.5),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
            p999_seconds: quantile(0.999),
            max_seconds: current.response.max().as_secs_f64(),
            in_flight: self.in_flight,
            lag_seconds: current.lag_max.as_secs_f64(),
            cumulative_per_second: cumulative,
        });
        current.began = now;
        current.done_count = 0;
        current.bytes = 0;
        current.failed_count = 0;
        current.undetermined_count = 0;
        current.lag_max = Duration::ZERO;
        current.response.clear();
        self.series.last().expect("it was pushed just now")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn end(due: u32, sent: u32, ended: u32, fate: Fate) -> Ended {
        Ended {
            kind: Kind::Put,
            size_bytes: 10,
            part: 0,
            due: due * MILLI,
            sent: sent * MILLI,
            ended: ended * MILLI,
            fate,
        }
    }

    #[test]
    fn a_gap_lies_between_successes_of_one_part() {
        let mut recorder = Recorder::new(5 * MILLI);
        let done = Fate::Done { read_bytes: 0 };
        for (part, at, fate) in [
            (0, 3, done),
            (0, 10, done),
            (1, 11, done),
            (0, 20, Fate::Failed("x")),
            (0, 30, done),
            (1, 31, done),
            (0, 60, done),
        ] {
            recorder.on_ended(Ended { part, ..end(at, at, at, fate) });
        }
        let gaps = recorder.longest_gaps();
        assert_eq!(gaps.count(), 2);
        // Three digits are kept.
        assert!((30 * MILLI..31 * MILLI).contains(&gaps.max()), "{:?}", gaps.max());
        // One that has no success any more counts until the last one of the others.
        recorder.on_ended(Ended { part: 0, ..end(90, 90, 90, done) });
        let gaps = recorder.longest_gaps();
        assert!(gaps.max() >= 59 * MILLI && gaps.count_from(50 * MILLI) == 1, "{:?}", gaps.max());
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut latencies = Latencies::new();
        for millis in 1..=1_000 {
            latencies.record(millis * MILLI);
        }
        let percentiles = latencies.percentiles().unwrap();
        let near =
            |actual: f64, wanted: f64| assert!((actual / wanted - 1.0).abs() < 0.002, "{actual} {wanted}");
        near(percentiles.min_seconds, 0.001);
        near(percentiles.mean_seconds, 0.5005);
        near(percentiles.p50_seconds, 0.5);
        near(percentiles.p90_seconds.unwrap(), 0.9);
        near(percentiles.p95_seconds.unwrap(), 0.95);
        near(percentiles.p99_seconds.unwrap(), 0.99);
        near(percentiles.max_seconds, 1.0);
        // One sample lies beyond it: that says nothing.
        assert_eq!(percentiles.p999_seconds, None);
        assert_eq!(percentiles.histogram_micros.iter().map(|(_, count)| count).sum::<u64>(), 1_000);
        assert_eq!(latencies.count_from(900 * MILLI), 101);
        assert_eq!(Latencies::new().percentiles(), None);
    }

    #[test]
    fn errors_and_the_warm_up_are_in_no_latency() {
        let mut recorder = Recorder::new(100 * MILLI);
        recorder.on_ended(end(99, 99, 500, Fate::Done { read_bytes: 0 }));
        recorder.on_ended(end(100, 120, 150, Fate::Done { read_bytes: 5 }));
        recorder.on_ended(end(110, 110, 120, Fate::Missing));
        recorder.on_ended(end(200, 200, 9_000, Fate::Failed("busy")));
        recorder.on_ended(end(200, 200, 9_000, Fate::Undetermined("unanswered")));
        recorder.on_sent(100 * MILLI, 120 * MILLI);
        let tally = &recorder.tallies()[&Kind::Put];
        assert_eq!((tally.done_count, tally.missing_count, tally.bytes), (2, 1, 25));
        assert_eq!((tally.failed["busy"], tally.undetermined["unanswered"]), (1, 1));
        assert_eq!((tally.failed_count(), tally.undetermined_count()), (1, 1));
        assert_eq!(tally.response.count(), 2);
        // Three digits are kept.
        assert!((50 * MILLI..51 * MILLI).contains(&tally.response.max()));
        assert!((30 * MILLI..31 * MILLI).contains(&tally.service.max()));
        let second = recorder.on_second(1_100 * MILLI).clone();
        assert_eq!((second.done_count, second.failed_count, second.undetermined_count), (3, 1, 1));
        assert!((second.cumulative_per_second - 2.0).abs() < 1e-9);
        assert!((second.lag_seconds - 0.02).abs() < 1e-9);
        let next = recorder.on_second(2_100 * MILLI).clone();
        assert_eq!((next.done_count, next.max_seconds.to_bits()), (0, 0.0_f64.to_bits()));
    }
}
