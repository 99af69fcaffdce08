//! A restart of every store at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;
use tests::{Options as Stores, own_cpu_time};

use crate::{crowd::Crowd, probe::first_successes};

/// What is told of the stores: a region costs one election if nobody disturbs it.
const COUNTED: [&str; 9] = [
    "sheaf_store_sleeps_total",
    "sheaf_store_wakes_total",
    "sheaf_store_sleep_offers_failed_total",
    "sheaf_raft_elections_total",
    "sheaf_raft_elections_won_total",
    "sheaf_raft_messages_sent_total",
    "sheaf_transport_frames_sent_total",
    "sheaf_log_fsyncs_total",
    "sheaf_raft_rounds_total",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions.
    #[arg(long, default_value_t = 10_000)]
    regions: usize,
    /// Stop the stores with SIGTERM; otherwise they are killed.
    #[arg(long)]
    gently: bool,
    /// Do not wait until placement has levelled the leaders that the restart before has left uneven.
    #[arg(long)]
    uneven: bool,
    /// How many times.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut crowd = Crowd::start(Stores::default(), options.regions).await?;
    crowd.describe();
    for _ in 0..options.runs {
        crowd.write_all().await?;
        if !options.uneven {
            // Placement levels what an earlier restart has left uneven, and wakes for that.
            crowd.wait_until_spread().await?;
            crowd.wait_until_asleep().await?;
        }
        let signal = if options.gently { Signal::TERM } else { Signal::KILL };
        (0..3).try_for_each(|at| crowd.cluster.signal(at, signal))?;
        for at in 0..3 {
            crowd.cluster.wait(at)?;
        }
        let (since, own) = (Instant::now(), own_cpu_time()?);
        (0..3).try_for_each(|at| crowd.cluster.spawn(at))?;
        // Nothing is known to a new client, as after a restart of everything.
        let client = loop {
            if let Ok(client) = crowd.cluster.client().await {
                break client;
            }
        };
        let connected = since.elapsed();
        let figures = first_successes(&client, crowd.keys().collect(), since).await?;
        println!("from the start of the processes: a client after {:.2} s", connected.as_secs_f64());
        println!("  the first write to each region {figures}");
        let cpu_seconds: Vec<_> = crowd.cpu_times()?.iter().map(Duration::as_secs_f64).collect();
        let own = (own_cpu_time()? - own).as_secs_f64();
        println!("  CPU until then, in s: stores {cpu_seconds:.2?}, client {own:.2}");
        for at in 0..3 {
            let counted = crowd.cluster.metrics(at, COUNTED).await?;
            let told = COUNTED.iter().zip(counted).map(|(name, count)| format!("{name} {count}"));
            println!("  store {at}: {}", told.collect::<Vec<_>>().join(", "));
        }
    }
    Ok(())
}
