#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Real stores on disks that forget what was not fsynced, and whose fsync fails or hangs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use check::history::Violation;
use proto::{kvrpcpb as kv, tikvpb::tikv_client::TikvClient};
use tests::{Cluster, Fsync, Load, Options, eventually};

const KEYS: u64 = 12;
const CLIENTS: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> Result<Cluster> {
    Cluster::start(Options { has_power_supply: true, ..Options::default() }).await
}

/// What there was when the power came back.
#[derive(Debug, PartialEq, Eq)]
enum Aftermath {
    /// One order explains all that clients were told.
    Whole,
    /// No order does: what was acknowledged is gone.
    Lost,
    /// A store says that its files lack what it may have acknowledged, and does not serve.
    Refused,
}

/// Any other outcome is an error.
async fn lose_power_under_load(fsync: Option<Fsync>) -> Result<Aftermath> {
    let mut cluster = start().await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(500).await?;
    if let Some(fsync) = fsync {
        for at in 0..3 {
            cluster.set_fsync(at, fsync).await?;
        }
    }
    load.run_for(2_000).await?;
    cluster.lose_power()?;
    // What was acknowledged is read before new writes can hide that it is gone.
    load.set_read_only(true);
    (0..3).try_for_each(|at| cluster.spawn(at))?;
    let goal = load.done() + 500;
    let mut refused = None;
    eventually("the load to go on, or a store to end", PATIENCE, async || {
        for at in 0..3 {
            if refused.is_none() && cluster.try_wait(at)?.is_some() {
                refused = Some(at);
            }
        }
        ensure!(refused.is_some() || load.done() >= goal, "neither goes on nor refuses");
        Ok(())
    })
    .await?;
    if let Some(at) = refused {
        let log = cluster.log(at);
        ensure!(log.contains("what this store acknowledged may be lost"), "store {at} ended: {log}");
        return Ok(Aftermath::Refused);
    }
    load.set_read_only(false);
    load.run_for(500).await?;
    match load.finish().await {
        Ok(tally) => {
            println!("{tally:?}");
            Ok(Aftermath::Whole)
        }
        Err(error) => match error.downcast_ref::<Violation>() {
            Some(Violation::NotLinearizable(_)) => Ok(Aftermath::Lost),
            Some(Violation::Undecided { .. }) | None => Err(error),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_loss_of_every_store() -> Result<()> {
    assert_eq!(lose_power_under_load(None).await?, Aftermath::Whole);
    Ok(())
}

/// The test above can fail: without fsync it does, because what was acknowledged is gone, and for no other reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fsync_a_power_loss_takes_what_was_acknowledged() -> Result<()> {
    let aftermath = lose_power_under_load(Some(Fsync::Lies)).await?;
    println!("{aftermath:?}");
    assert!(matches!(aftermath, Aftermath::Lost | Aftermath::Refused), "{aftermath:?}");
    Ok(())
}

/// A store whose fsync fails does not know what its disk holds: it stops, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_stops_the_store_with_a_message() -> Result<()> {
    let mut cluster = start().await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(500).await?;
    let leader = cluster.leader().await?;
    cluster.set_fsync(leader, Fsync::Fails).await?;
    assert_eq!(cluster.wait(leader)?.code(), Some(1));
    let log = cluster.log(leader);
    for words in ["the store cannot go on", "Input/output error", "hint:", "empty data directory"] {
        assert!(log.contains(words), "{words} is missing in {log}");
    }
    load.run_for(500).await?;
    // The disk works again, and nobody has repaired anything.
    cluster.spawn(leader)?;
    load.run_for(500).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

/// The leader counts itself only for what its own disk has; the two others are a majority without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_commits_while_the_leaders_fsync_hangs() -> Result<()> {
    let cluster = start().await?;
    let leader_at = cluster.leader().await?;
    let route = cluster.first_region().await?;
    let (region, leader) = (route.region.context("a region")?, route.leader.context("a leader")?);
    let context = |peer| kv::Context {
        region_id: region.id,
        region_epoch: region.region_epoch,
        peer: Some(peer),
        ..kv::Context::default()
    };
    cluster.set_fsync(leader_at, Fsync::Hangs).await?;
    let put = kv::RawPutRequest {
        context: Some(context(leader)),
        key: "k".into(),
        value: "v".into(),
        ..kv::RawPutRequest::default()
    };
    let mut client = TikvClient::new(cluster.channel(leader_at).await?);
    let put = tokio::spawn(async move { client.raw_put(put).await });

    // A follower answers with what is committed.
    let follower =
        *region.peers.iter().find(|peer| peer.store_id != leader.store_id).context("a follower")?;
    let get = kv::RawGetRequest {
        context: Some(kv::Context { replica_read: true, ..context(follower) }),
        key: "k".into(),
        ..kv::RawGetRequest::default()
    };
    let mut answered = 0;
    eventually("the entry to commit", PATIENCE, async || {
        for at in (0..3).filter(|at| *at != leader_at) {
            let mut client = TikvClient::new(cluster.channel(at).await?);
            let answer = client.raw_get(get.clone()).await?.into_inner();
            if answer.region_error.is_none() {
                answered += 1;
                ensure!(answer.value == "v", "it is not committed yet");
                return Ok(());
            }
        }
        anyhow::bail!("no follower answers")
    })
    .await?;
    assert!(answered > 0 && !put.is_finished(), "the leader's disk still hangs");
    cluster.set_fsync(leader_at, Fsync::GoesOn).await?;
    let done = put.await??.into_inner();
    assert_eq!(done, kv::RawPutResponse::default());
    Ok(())
}
