//! Stores that lose everything.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Load, Options, eventually};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: u64 = 12;
const CLIENTS: u64 = 8;

/// A store comes back at its address with nothing. Nobody does anything; its peers are replaced, and any other store can
/// be lost then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lost_its_disk_is_filled_again() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(300).await?;
    let lost = cluster.leader().await?;
    let old_id = cluster.store_id(lost).await?;
    cluster.wipe(lost)?;
    load.run_for(300).await?;
    cluster.spawn(lost)?;
    eventually("a new store id", PATIENCE, async || {
        let id = cluster.store_id(lost).await?;
        ensure!(id != old_id, "it is still store {id}");
        Ok(())
    })
    .await?;
    cluster.whole(3).await?;
    let other = (0..3).find(|at| *at != lost).unwrap_or_default();
    cluster.kill(other)?;
    // Everything that was written before and after is read again at the end, of the new store and one of the old ones.
    load.run_for(1_000).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

fn ends_as_removed(cluster: &mut Cluster, at: usize) -> Result<()> {
    let status = cluster.wait(at)?;
    let log = cluster.log(at);
    ensure!(status.code() == Some(1) && log.contains("was removed from its cluster"), "{status}: {log}");
    Ok(())
}

/// A store is dead and nothing comes to its address. An operator says so; its peers are replaced, any other store can be
/// lost then, and it never comes back under its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_store_that_is_forgotten_is_replaced() -> Result<()> {
    let mut cluster = Cluster::start(Options { stores: 4, ..Options::default() }).await?;
    cluster.whole(3).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(300).await?;
    let dead = cluster.leader().await?;
    let (id, others) = (cluster.store_id(dead).await?, cluster.addresses());
    let other = others[(dead + 1) % others.len()].clone();
    let refused = |id: u64, words: &str| {
        let output = Cluster::run(&["store", "forget", &id.to_string(), "--addr", &other])?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1) && said.contains(words), "{words:?} is missing in {said}");
        anyhow::Ok(())
    };
    refused(id, "drain it first, or stop it for ten seconds")?;
    refused(99_999, "there is no store 99999")?;

    cluster.kill(dead)?;
    let forget = || Cluster::run_well(&["store", "forget", &id.to_string(), "--addr", &other]);
    eventually("the store to be forgotten", PATIENCE, async || forget()).await?;
    forget().context("it is so already")?;
    cluster.whole(3).await?;
    load.run_for(300).await?;

    cluster.spawn(dead)?;
    ends_as_removed(&mut cluster, dead)?;
    cluster.whole(3).await?;
    let next = (0..others.len()).find(|at| *at != dead).unwrap_or_default();
    cluster.kill(next)?;
    load.run_for(1_000).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

/// A store is emptied and given up while it runs: it hears that, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_that_is_forgotten_ends() -> Result<()> {
    let mut cluster = Cluster::start(Options { stores: 4, ..Options::default() }).await?;
    cluster.settle(3).await?;
    let leaving = cluster.leader().await?;
    let id = cluster.store_id(leaving).await?.to_string();
    let other = cluster.addresses()[(leaving + 1) % 4].clone();
    let order = |verb: &str| Cluster::run_well(&["store", verb, &id, "--addr", &other]);
    order("drain")?;
    eventually("the store to be empty and forgotten", PATIENCE, async || order("forget")).await?;
    ends_as_removed(&mut cluster, leaving)?;
    cluster.whole(3).await?;
    cluster.client().await?.put("after", "all").await?;
    Ok(())
}
