//! Bounds of the load generator, each with its unit and its reason.

use std::time::Duration;

/// The longest latency that is told apart, in microseconds: an hour.
pub(crate) const LATENCY_MICROS_MAX: u64 = 3_600_000_000;
/// Samples that must lie beyond a percentile for it to be reported: fewer say little about it.
pub(crate) const SAMPLES_BEYOND_MIN: u64 = 10;
/// How long an open loop may work off, after its time, what had become due before.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How often the pacer of an open loop looks for operations that are due, at the most: each look costs some microseconds.
pub(crate) const PACER_TICK_MIN: Duration = Duration::from_micros(200);
/// How often it looks at the least.
pub(crate) const PACER_TICK_MAX: Duration = Duration::from_millis(1);
/// Bytes that values are cut from: enough that two values in one block of an engine have nothing in common.
pub(crate) const VALUE_POOL_BYTES: usize = 16 * 1024 * 1024;
/// Keys that one batch of the preload writes at the most.
pub(crate) const PRELOAD_BATCH_KEYS_MAX: u64 = 128;
/// Bytes that one batch of the preload writes, roughly, at the most.
pub(crate) const PRELOAD_BATCH_BYTES_MAX: u64 = 64 * 1024;
/// Batches of the preload that are under way at once.
pub(crate) const PRELOAD_CONCURRENCY: usize = 16;
/// How long a cluster may take to answer, or a spawned one to come about.
pub(crate) const CLUSTER_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
pub(crate) const CLUSTER_POLL: Duration = Duration::from_millis(50);
/// How long the leaders of new regions may take to be spread over the stores.
pub(crate) const SPREAD_WAIT_MAX: Duration = Duration::from_secs(120);
/// How long a store may take to show its counters.
pub(crate) const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of counters that are read from one store.
pub(crate) const SCRAPE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Synced writes that the disk probe makes.
pub(crate) const FSYNC_PROBES: usize = 200;
/// CPU that the generator's one thread may use before it counts as the limit, in cores.
pub(crate) const CLIENT_CORES_MAX: f64 = 0.85;
/// Lag of an open loop's schedule, at p99, beyond which the generator counts as the limit.
pub(crate) const LAG_MAX: Duration = Duration::from_millis(10);
