//! The loops against targets of known behaviour, in virtual time.

use client::core::Work;
use tokio::time::sleep;

use super::*;
use crate::{
    distribution::Distribution,
    record::Tally,
    target::Fate,
    workload::{KeyOrder, Kind, Workload},
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Takes a time for each operation, except that nothing ends within its stall.
struct Fake {
    started: Instant,
    service: Duration,
    stall: std::ops::Range<Duration>,
}

impl Fake {
    fn new(service: Duration, stall: std::ops::Range<Duration>) -> Fake {
        Fake { started: Instant::now(), service, stall }
    }
}

impl Target for Fake {
    async fn execute(&self, _work: Work) -> Fate {
        sleep(self.service).await;
        if self.stall.contains(&self.started.elapsed()) {
            sleep_until(self.started + self.stall.end).await;
        }
        Fate::Done { read_bytes: 0 }
    }
}

fn generator() -> Generator {
    Generator::new(Workload {
        get_fraction: 0.0,
        key_count: 100,
        key_bytes: 16,
        key_order: KeyOrder::Hashed,
        value_bytes: 10,
        distribution: Distribution::Uniform,
        seed: 1,
        region_count: 1,
        active_count: 1,
    })
}

fn open(per_second: f64, in_flight_max: usize) -> Pace {
    Pace::Open { per_second, in_flight_max, has_pacer: false }
}

async fn drive(target: Fake, pace: Pace, warmup: Duration, extent: Extent) -> Outcome {
    let load = Load { pace, warmup, extent };
    run(target, generator(), load, |_| {}, std::future::pending()).await
}

fn puts(outcome: &Outcome) -> &Tally {
    &outcome.recorder.tallies()[&Kind::Put]
}

/// A thousand operations are due in the second of the stall. With few of them under way at a time the others wait to be
/// sent: their service time does not know of it, their response time must.
#[tokio::test(start_paused = true)]
async fn a_stall_is_seen_by_every_operation_that_was_due_in_it() {
    for in_flight_max in [10, 100_000] {
        let fake = Fake::new(MILLI, SECOND..2 * SECOND);
        let outcome =
            drive(fake, open(1_000.0, in_flight_max), Duration::ZERO, Extent::Duration(3 * SECOND)).await;
        let tally = puts(&outcome);
        assert_eq!(tally.done_count, 3_000);
        assert_eq!(outcome.unsent_count, 0);
        for (at_least, wanted) in [(900, 100), (500, 500), (100, 900)] {
            let count = tally.response.count_from(at_least * MILLI);
            // A few operations wait for those before them once the stall is over, when only ten may be under way.
            let spare = if in_flight_max == 10 { 150 } else { 5 };
            assert!(
                (wanted..=wanted + spare).contains(&count),
                "{count} of {wanted} took {at_least} ms at least"
            );
        }
        let late = tally.service.count_from(100 * MILLI);
        if in_flight_max == 10 {
            assert_eq!(late, 10, "a closed view of the same run sees ten slow operations");
            assert!(outcome.recorder.lag.max() > 900 * MILLI);
        } else {
            assert!((900..=905).contains(&late));
            assert!(outcome.recorder.lag.max() <= 2 * MILLI);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_keeps_its_rate_and_leaves_the_warm_up_out() {
    let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
    let outcome = drive(fake, open(500.0, 1_000), 2 * SECOND, Extent::Duration(4 * SECOND)).await;
    assert_eq!(puts(&outcome).done_count, 2_000);
    assert_eq!(outcome.measured, 4 * SECOND);
    assert_eq!(outcome.recorder.series.iter().map(|second| second.done_count).sum::<u64>(), 3_000);
    assert!(outcome.recorder.series[0].is_warmup);
    assert!(!outcome.recorder.series[3].is_warmup);
    let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
    let outcome = drive(fake, open(500.0, 1_000), SECOND, Extent::Operations(700)).await;
    assert_eq!(puts(&outcome).done_count, 700);
}

/// At twice what the target can do, the backlog grows without end: what is not sent in time is reported, not forgotten.
#[tokio::test(start_paused = true)]
async fn a_rate_that_cannot_be_kept_leaves_a_backlog() {
    let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
    let outcome = drive(fake, open(200.0, 1), Duration::ZERO, Extent::Duration(60 * SECOND)).await;
    let done_count = puts(&outcome).done_count;
    assert_eq!(done_count + outcome.unsent_count, 12_000);
    // A hundred a second for sixty seconds, and for the ten that are granted to work it off; a timer's step more each.
    assert!((6_000..=7_000).contains(&done_count), "{done_count}");
    assert!(puts(&outcome).response.max() > 30 * SECOND);
    assert!(puts(&outcome).service.max() < 20 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_has_so_many_under_way() {
    let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
    let outcome = drive(fake, Pace::Closed { concurrency: 8 }, SECOND, Extent::Duration(2 * SECOND)).await;
    let tally = puts(&outcome);
    // 8 / 10 ms; the timer's step may add one to the ten milliseconds.
    assert!((1_440..=1_600).contains(&tally.done_count), "{}", tally.done_count);
    assert!(tally.service.max() <= 12 * MILLI);
    assert_eq!(outcome.recorder.in_flight, 0);
    let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
    let outcome = drive(fake, Pace::Closed { concurrency: 8 }, Duration::ZERO, Extent::Operations(100)).await;
    assert_eq!(puts(&outcome).done_count, 100);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_a_run_early() {
    for pace in [Pace::Closed { concurrency: 4 }, open(100.0, 1_000)] {
        let fake = Fake::new(10 * MILLI, Duration::ZERO..Duration::ZERO);
        let load = Load { pace, warmup: Duration::ZERO, extent: Extent::Duration(60 * SECOND) };
        let outcome = run(fake, generator(), load, |_| {}, sleep(2 * SECOND)).await;
        assert!(outcome.was_interrupted);
        assert!(outcome.measured >= 2 * SECOND);
        assert!(outcome.measured < 3 * SECOND);
        assert_eq!(outcome.unsent_count, 0);
    }
}
