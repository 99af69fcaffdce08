#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Real stores on disks that forget what was not fsynced.

use anyhow::Result;
use tests::{Cluster, Load, Options};

const KEYS: u64 = 12;

async fn lose_power_under_load(is_fsync_ignored: bool) -> Result<()> {
    let options = Options { has_power_supply: true, is_fsync_ignored, ..Options::default() };
    let mut cluster = Cluster::start(options).await?;
    let load = Load::start(cluster.client().await?, 8, KEYS);
    load.run_for(2_000).await?;
    cluster.lose_power()?;
    (0..3).try_for_each(|at| cluster.spawn(at))?;
    load.run_for(500).await?;
    let tally = load.finish(KEYS).await?;
    println!("{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_loss_of_every_store() -> Result<()> {
    lose_power_under_load(false).await
}

/// The test above can fail: without fsync it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fsync_a_power_loss_is_noticed() {
    lose_power_under_load(true).await.expect_err("stores that never fsync lose what they acknowledged");
}
