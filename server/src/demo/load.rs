//! The demo's load: as many clients as one machine likes, a line each second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::interval};

use crate::{
    cli::print_line,
    failure::{Code, Failure, Result},
};

/// Writes that are under way at one time.
const WRITER_COUNT: u64 = 64;

/// Different keys of each writer.
const KEYS_PER_WRITER: u64 = 1_000;

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// What the writers have done.
struct Tally {
    written: AtomicU64,
    failed: AtomicU64,
    /// Microseconds of each write since the last line.
    latencies: Mutex<Histogram<u64>>,
}

/// Writes for `duration`.
pub(super) async fn run(client: &client::Client, duration: Duration) -> Result<()> {
    let latencies =
        Histogram::new(3).map_err(|error| Failure::new(Code::Failed, "make a histogram").because(&error))?;
    let tally = Arc::new(Tally {
        written: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        latencies: Mutex::new(latencies),
    });
    let end = Instant::now() + duration;
    let writers: Vec<JoinHandle<()>> = (0..WRITER_COUNT)
        .map(|writer| tokio::spawn(write_until(client.clone(), writer, end, Arc::clone(&tally))))
        .collect();
    print_line(&format!("{WRITER_COUNT} clients write {VALUE_BYTES}-byte values:"));
    let mut ticks = interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut before = 0;
    while Instant::now() < end {
        ticks.tick().await;
        before = print_second(&tally, before);
    }
    join_all(writers).await;
    let written = tally.written.load(Ordering::Relaxed);
    print_line(&format!("{:.0} writes/s on average", written as f64 / duration.as_secs_f64()));
    Ok(())
}

async fn write_until(client: client::Client, writer: u64, end: Instant, tally: Arc<Tally>) {
    let value = bytes::Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut count = 0;
    while Instant::now() < end {
        let key = format!("demo/{writer:04}/{:08}", count % KEYS_PER_WRITER);
        count += 1;
        let began = Instant::now();
        match client.put(key, value.clone()).await {
            Ok(()) => {
                tally.written.fetch_add(1, Ordering::Relaxed);
                let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                // The histogram grows with what it is given, up to far more than any write takes.
                if tally.latencies.lock().record(micros).is_err() {
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(_) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn print_second(tally: &Tally, before: u64) -> u64 {
    let written = tally.written.load(Ordering::Relaxed);
    let (p50, p99) = {
        let mut latencies = tally.latencies.lock();
        let quantiles = (latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99));
        latencies.reset();
        quantiles
    };
    let failed = tally.failed.load(Ordering::Relaxed);
    print_line(&format!(
        "  {:>7} writes/s   p50 {:>6.2} ms   p99 {:>6.2} ms   failed {failed}",
        written - before,
        p50 as f64 / 1_000.0,
        p99 as f64 / 1_000.0,
    ));
    written
}
