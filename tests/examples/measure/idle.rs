//! Regions without work.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::Options as Stores;

use crate::crowd::Crowd;

/// Placement reports, flushes and comparisons that the beginning has left over are done after this.
const SETTLING: Duration = Duration::from_secs(65);
/// What is told of the stores beside their CPU.
const COUNTED: [&str; 7] = [
    "sheaf_store_beats_sent_total",
    "sheaf_transport_frames_sent_total",
    "sheaf_transport_messages_sent_total",
    "sheaf_raft_rounds_total",
    "sheaf_raft_round_regions_total",
    "sheaf_log_fsyncs_total",
    "sheaf_store_wakes_total",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions; with one, the memory of stores that have hardly any.
    #[arg(long, default_value_t = 10_000)]
    regions: usize,
    /// Restart the stores before: what splitting has left in the allocator and the engines is no cost of a region.
    #[arg(long)]
    restarted: bool,
    /// How long to measure.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut crowd = Crowd::start(Stores::default(), options.regions).await?;
    crowd.describe();
    if options.restarted {
        (0..3).try_for_each(|at| crowd.cluster.kill(at))?;
        (0..3).try_for_each(|at| crowd.cluster.spawn(at))?;
        crowd.cluster.whole(3).await?;
    }
    crowd.write_all().await?;
    crowd.wait_until_asleep().await?;
    tokio::time::sleep(SETTLING).await;
    let cluster = &crowd.cluster;
    let mut before = Vec::new();
    for at in 0..3 {
        before.push(cluster.metrics(at, COUNTED).await?);
    }
    // The question itself costs a store some CPU, so it lies outside.
    let (started, used) = (Instant::now(), crowd.cpu_times()?);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (after, elapsed) = (crowd.cpu_times()?, started.elapsed().as_secs_f64());
    let mut cores = 0.0;
    for (at, counted) in before.into_iter().enumerate() {
        let own = (after[at] - used[at]).as_secs_f64() / elapsed;
        cores += own;
        println!("store {at}: {:.2} % of a core, {} bytes of memory", own * 100.0, cluster.memory_bytes(at)?);
        let after = cluster.metrics(at, COUNTED).await?;
        for ((name, before), after) in COUNTED.iter().zip(counted).zip(after) {
            println!("  {name}: {:.1} a second", (after - before) / elapsed);
        }
    }
    println!("all stores: {:.2} % of a core, over {elapsed:.0} s", cores * 100.0);
    Ok(())
}
