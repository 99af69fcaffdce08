#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Real stores under load while they are killed and stopped: no acknowledged write is lost, no read is wrong.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tests::{Cluster, Load, Options};

const KEYS: u64 = 12;
const CLIENTS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leaders_store_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    for _ in 0..3 {
        load.run_for(1_000).await?;
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        load.run_for(1_000).await?;
        cluster.spawn(leader)?;
    }
    load.run_for(500).await?;
    let tally = load.finish(KEYS).await?;
    println!("{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_every_store_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    for _ in 0..2 {
        load.run_for(1_000).await?;
        (0..3).try_for_each(|at| cluster.kill(at))?;
        (0..3).try_for_each(|at| cluster.spawn(at))?;
        load.run_for(500).await?;
    }
    let tally = load.finish(KEYS).await?;
    println!("{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_for_five_seconds_serves_nothing_stale() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(1_000).await?;
    let leader = cluster.leader().await?;
    cluster.signal(leader, Signal::STOP)?;
    // The others go on meanwhile.
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.signal(leader, Signal::CONT)?;
    load.run_for(1_000).await?;
    let tally = load.finish(KEYS).await?;
    println!("{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_asked_to_stop_hands_over_and_exits_cleanly() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(500).await?;
    let leader = cluster.leader().await?;
    let started = std::time::Instant::now();
    cluster.signal(leader, Signal::TERM)?;
    let status = cluster.wait(leader)?;
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    load.run_for(500).await?;
    let tally = load.finish(KEYS).await?;
    assert_eq!(tally.failed, 0, "{tally:?}");
    Ok(())
}
