//! Splits that must not happen, or not now, or not twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::{
    admin::{SplitRegionRequest, SplitRegionResponse},
    placement::{AllocateIds, OperationState},
    vocabulary::Epoch,
};
use rustix::process::Signal;
use tests::{Cluster, Options, eventually, refusal};
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(120);
const REGION: u64 = 2;

fn at_key(key: &'static str) -> SplitRegionRequest {
    SplitRegionRequest { region_id: REGION, split_keys: vec![key.into()], ..SplitRegionRequest::default() }
}

fn at_middle() -> SplitRegionRequest {
    SplitRegionRequest { region_id: REGION, is_at_middle: true, ..SplitRegionRequest::default() }
}

fn into_parts(count: u32) -> SplitRegionRequest {
    SplitRegionRequest { region_id: REGION, part_count: Some(count), ..SplitRegionRequest::default() }
}

async fn split(cluster: &Cluster, request: &SplitRegionRequest) -> Result<SplitRegionResponse> {
    cluster.operate(async |mut admin| admin.split_region(request.clone()).await).await
}

async fn refused(cluster: &Cluster, request: &SplitRegionRequest) -> Result<Status> {
    refusal(split(cluster, request).await).with_context(|| format!("{request:?}"))
}

async fn put_some(cluster: &Cluster) -> Result<()> {
    let client = cluster.client().await?;
    client.batch_put((0..40).map(|at| (format!("key-{at:02}"), "value"))).await?;
    Ok(())
}

/// Whoever wants to split a region whose peers change is told by which operation, and how far it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_whose_peers_change_is_not_split() -> Result<()> {
    let cluster = Cluster::start(Options { stores: 4, ..Options::default() }).await?;
    cluster.settle(3).await?;
    put_some(&cluster).await?;
    let with: Vec<u64> = cluster.region(REGION).await?.0.peers.iter().map(|peer| peer.store_id).collect();
    let stores = cluster.stores().await?.into_iter().filter_map(|view| view.store.map(|row| row.id));
    let without = stores.into_iter().find(|id| !with.contains(id)).context("a store without a peer")?;
    // The new peer's store does not answer, so the change cannot end.
    let target = cluster.find_store(without).await?;
    cluster.signal(target, Signal::STOP)?;
    let operation = cluster.move_peers(REGION, &[with[0], with[1], without]).await?;
    eventually("the change to be under way", PATIENCE, async || {
        let peers = cluster.region(REGION).await?.0.peers;
        ensure!(peers.iter().any(|peer| peer.store_id == without), "{peers:?}");
        Ok(())
    })
    .await?;
    for request in [at_key("m"), at_middle(), into_parts(4)] {
        let status = refused(&cluster, &request).await?;
        assert_eq!(status.code(), Code::FailedPrecondition, "{request:?}: {status:?}");
        let words = format!("operation {operation} on region {REGION} is running: ");
        assert!(status.message().contains(&words), "{request:?}: {status:?}");
    }
    cluster.signal(target, Signal::CONT)?;
    let row = cluster.ended(operation).await?;
    assert_eq!(row.state(), OperationState::Done, "{row:?}");
    assert_eq!(split(&cluster, &at_middle()).await?.regions.len(), 2);
    Ok(())
}

/// A request that comes twice, or late, or for another epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_happens_once_and_at_its_epoch() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    put_some(&cluster).await?;
    let epoch = cluster.region(REGION).await?.0.epoch.context("an epoch")?;
    let Epoch { conf_version, version } = epoch;
    let words = format!("has epoch {conf_version}.{version} now");
    let delayed = [
        Epoch { conf_version: conf_version - 1, version },
        Epoch { conf_version: conf_version + 1, version },
        Epoch { conf_version, version: version + 1 },
    ];
    for wrong in delayed {
        for request in [at_key("m"), at_middle(), into_parts(4)] {
            let request = SplitRegionRequest { epoch: Some(wrong), ..request };
            let status = refused(&cluster, &request).await?;
            assert_eq!(status.code(), Code::FailedPrecondition, "{request:?}: {status:?}");
            assert!(status.message().contains(&words), "{request:?}: {status:?}");
        }
    }
    assert_eq!(cluster.regions().await?.len(), 1, "nothing was done");

    let allocate = AllocateIds { count: 1 };
    let change_id = cluster.operate(async |mut admin| admin.allocate_ids(allocate).await).await?.first_id;
    let named = SplitRegionRequest { epoch: Some(epoch), change_id, ..into_parts(4) };
    let both = tokio::join!(split(&cluster, &named), split(&cluster, &named));
    let done = both.0?;
    assert_eq!((done.regions.len(), &both.1?), (4, &done), "two at one time are one");
    assert_eq!(split(&cluster, &named).await?, done, "and so is one that comes later");
    // The last part is led where the first one is: that store knows whose name it is.
    let elsewhere = SplitRegionRequest { region_id: done.regions[3].id, ..named };
    let status = refused(&cluster, &elsewhere).await?;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(&format!("change {change_id}")), "{status:?}");
    let stale = SplitRegionRequest { epoch: Some(epoch), ..at_middle() };
    assert_eq!(refused(&cluster, &stale).await?.code(), Code::FailedPrecondition);
    assert_eq!(cluster.regions().await?.len(), 4);
    Ok(())
}
