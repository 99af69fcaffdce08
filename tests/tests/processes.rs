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
    let tally = load.finish().await?;
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
    let tally = load.finish().await?;
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
    let tally = load.finish().await?;
    println!("{tally:?}");
    Ok(())
}

/// The usual limit of a shell, for each store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stores_run_with_1024_open_files_each() -> Result<()> {
    let launcher = ["sh", "-c", "ulimit -n 1024 && exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(Options { launcher, ..Options::default() }).await?;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(cluster.client().await?);
    }
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(1_000).await?;
    for (at, client) in clients.iter().enumerate() {
        client.put(format!("client-{at}"), "1").await?;
    }
    let leader = cluster.leader().await?;
    cluster.kill(leader)?;
    cluster.spawn(leader)?;
    load.run_for(1_000).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_may_open_too_few_files_says_what_to_raise() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = tokio::process::Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$@\"", "sh"])
        .arg(tests::binary()?)
        .args(["start", "--single", "--addr", &tests::free_address()?, "--data-dir"])
        .arg(folder.path().join("data"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(5), "{error}");
    for words in ["100 open files", "ulimit -n", "open_files_max"] {
        assert!(error.contains(words), "{words} is missing in {error}");
    }
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
    let tally = load.finish().await?;
    assert_eq!(tally.failed, 0, "{tally:?}");
    Ok(())
}
