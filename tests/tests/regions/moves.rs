//! Regions that move under load while those who lead them, or the placement group, are gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::{
    admin::{AddPeerRequest, OperationStarted, PromoteLearnerRequest, RemovePeerRequest},
    placement::OperationState,
    vocabulary::PeerRole,
};
use rustix::process::Signal;
use tests::{Cluster, Load, Options, eventually, refusal};

use crate::blow::Blow;

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: u64 = 12;
const CLIENTS: u64 = 8;
const REGION: u64 = 2;
const PLACEMENT: u64 = 1;

async fn four_stores() -> Result<Cluster> {
    let cluster = Cluster::start(Options { stores: 4, ..Options::default() }).await?;
    cluster.settle(3).await?;
    Ok(cluster)
}

/// The stores of a region's peers, and one without, by id.
async fn stores_with_and_without(cluster: &Cluster) -> Result<(Vec<u64>, u64)> {
    let (region, _) = cluster.region(REGION).await?;
    let with: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
    let all = cluster.stores().await?.into_iter().filter_map(|view| view.store.map(|row| row.id));
    let without = all.into_iter().find(|id| !with.contains(id)).context("a store without a peer")?;
    Ok((with, without))
}

/// The region goes off the store that leads it, to a store that does not answer until the store which leads `victim` is
/// gone: so the operation runs at that moment, however fast the machine is.
async fn move_while_the_leader_is_gone(
    cluster: &mut Cluster,
    load: &Load,
    victim: u64,
    blow: Blow,
) -> Result<()> {
    let (with, target) = stores_with_and_without(cluster).await?;
    let leaving = cluster.region(REGION).await?.1;
    let goal: Vec<u64> = with.into_iter().filter(|id| *id != leaving).chain([target]).collect();
    let target_at = cluster.find_store(target).await?;
    if cluster.leader_of(victim).await? == target_at {
        let (group, _) = cluster.region(victim).await?;
        let heir = group.peers.iter().find(|peer| peer.store_id != target).context("another voter")?;
        cluster.transfer_leader(victim, cluster.find_store(heir.store_id).await?).await?;
    }
    cluster.signal(target_at, Signal::STOP)?;
    let operation = cluster.move_peers(REGION, &goal).await?;
    let victim_at = cluster.leader_of(victim).await?;
    blow.strike(cluster, victim_at)?;
    cluster.signal(target_at, Signal::CONT)?;
    load.run_for(300).await?;
    // The region's leader is on the store that it leaves, so the move ends without it. It waits for every store that is to
    // have a peer in the end, and the leader of the placement group may be on one of those.
    if victim == REGION {
        ensure_done(cluster, operation).await?;
    }
    blow.heal(cluster, victim_at)?;
    ensure_done(cluster, operation).await?;
    let stores: Vec<u64> = cluster.region(REGION).await?.0.peers.iter().map(|peer| peer.store_id).collect();
    ensure!(goal.iter().all(|id| stores.contains(id)), "{stores:?} instead of {goal:?}");
    cluster.whole(3).await
}

async fn ensure_done(cluster: &Cluster, operation: u64) -> Result<()> {
    let row = cluster.ended(operation).await?;
    ensure!(row.state() == OperationState::Done, "{row:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_goes_on_whoever_is_killed_or_stopped() -> Result<()> {
    let mut cluster = four_stores().await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(300).await?;
    for victim in [REGION, PLACEMENT] {
        for blow in [Blow::Kill, Blow::Stop] {
            move_while_the_leader_is_gone(&mut cluster, &load, victim, blow).await?;
        }
    }
    load.run_for(300).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

/// Adding makes four voters of three and removing three of four, and so on; nothing else changes meanwhile, for levelling
/// is off, and repair leaves a fourth voter alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_come_and_go_and_stores_are_drained_under_load() -> Result<()> {
    let cluster = four_stores().await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    for _ in 0..2 {
        load.run_for(300).await?;
        let (with, without) = stores_with_and_without(&cluster).await?;
        let add = AddPeerRequest { region_id: REGION, store_id: without, ..AddPeerRequest::default() };
        let started = cluster.operate(async |mut admin| admin.add_peer(add).await).await?;
        ensure_done(&cluster, started.operation_id).await?;
        let to = cluster.find_store(without).await?;
        cluster.transfer_leader(REGION, to).await?;
        let remove = RemovePeerRequest { region_id: REGION, store_id: with[0], terms: None };
        eventually("the region to be free for a removal", PATIENCE, async || {
            let started = cluster.operate(async |mut admin| admin.remove_peer(remove).await).await?;
            ensure_done(&cluster, started.operation_id).await
        })
        .await?;
        cluster.whole(3).await?;
    }
    a_learner_stays_and_is_promoted(&cluster, &load).await?;
    cluster.set_balancing(true).await?;
    drain_and_fill(&cluster, &load).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

/// The peer on the fourth store learns until it is asked to vote, goes when it is asked to, and so it is whoever leads
/// placement.
async fn a_learner_stays_and_is_promoted(cluster: &Cluster, load: &Load) -> Result<()> {
    let (with, without) = stores_with_and_without(cluster).await?;
    let check_learns = async || {
        let (region, _) = cluster.region(REGION).await?;
        let found = region.peers.iter().find(|peer| peer.store_id == without).context("no peer")?;
        ensure!(found.role() == PeerRole::Learner && region.peers.len() == 4, "{region:?}");
        anyhow::Ok(())
    };
    let add = AddPeerRequest { region_id: REGION, store_id: without, is_learner: true, terms: None };
    let started = cluster.operate(async |mut admin| admin.add_peer(add).await).await?;
    ensure_done(cluster, started.operation_id).await?;
    check_learns().await?;
    let leader = cluster.leader_of(PLACEMENT).await?;
    let (group, _) = cluster.region(PLACEMENT).await?;
    let leader_id = cluster.store_id(leader).await?;
    let heir = group.peers.iter().find(|peer| peer.store_id != leader_id).context("another voter")?;
    cluster.transfer_leader(PLACEMENT, cluster.find_store(heir.store_id).await?).await?;
    load.run_for(1_000).await?;
    check_learns().await?;

    let promote = PromoteLearnerRequest { region_id: REGION, store_id: without, terms: None };
    let started = eventually_started(async || {
        cluster.operate(async |mut admin| admin.promote_learner(promote).await).await
    });
    ensure_done(cluster, started.await?).await?;
    let (region, _) = cluster.region(REGION).await?;
    ensure!(region.peers.iter().all(|peer| peer.role() == PeerRole::Voter), "{region:?}");
    let again = cluster.operate(async |mut admin| admin.promote_learner(promote).await).await;
    ensure!(refusal(again)?.message().contains("is no learner"), "it votes already");
    let remove = RemovePeerRequest { region_id: REGION, store_id: with[0], terms: None };
    let started =
        eventually_started(async || cluster.operate(async |mut admin| admin.remove_peer(remove).await).await);
    ensure_done(cluster, started.await?).await?;
    cluster.whole(3).await?;

    // The other way round: added, and removed before it votes.
    let add = AddPeerRequest { store_id: with[0], ..add };
    let started = cluster.operate(async |mut admin| admin.add_peer(add).await).await?;
    ensure_done(cluster, started.operation_id).await?;
    let started =
        eventually_started(async || cluster.operate(async |mut admin| admin.remove_peer(remove).await).await);
    ensure_done(cluster, started.await?).await?;
    cluster.whole(3).await
}

/// Asks until it is not refused any more: the region may be leaving a joint configuration, or be without a leader.
async fn eventually_started(ask: impl AsyncFn() -> Result<OperationStarted>) -> Result<u64> {
    let mut id = 0;
    eventually("a change to begin", PATIENCE, async || {
        id = ask().await?.operation_id;
        Ok(())
    })
    .await?;
    Ok(id)
}

/// A store that leads is emptied, and filled again.
async fn drain_and_fill(cluster: &Cluster, load: &Load) -> Result<()> {
    let (region, store_id) = cluster.region(REGION).await?;
    ensure!(region.peers.iter().any(|peer| peer.store_id == store_id), "{region:?}");
    let drain = |more: &[&str]| {
        let (id, address) = (store_id.to_string(), &cluster.addresses()[0]);
        Cluster::run_well(&[&["store", "drain", &id, "--addr", address], more].concat())
    };
    drain(&[])?;
    eventually("the store to be empty", PATIENCE, async || {
        for region_id in [PLACEMENT, REGION] {
            let (region, _) = cluster.region(region_id).await?;
            ensure!(region.peers.iter().all(|peer| peer.store_id != store_id), "{region:?}");
        }
        Ok(())
    })
    .await?;
    load.run_for(300).await?;
    drain(&["--undo"])?;
    cluster.whole(3).await
}
