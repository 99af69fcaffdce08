//! Regions that split and move under load, while stores die, stop, lose power and are cut off.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use proto::{
    admin::SplitRegionRequest,
    placement::{AllocateIds, OperationState},
};
use tests::{Cluster, Load, Options, eventually};

use crate::blow::Blow;

const PATIENCE: Duration = Duration::from_secs(120);
const CLIENTS: u64 = 8;
const KEYS: usize = 48;
const REGION: u64 = 2;
/// The regions of the test in which a store joins many.
const MANY: usize = 300;
/// No operation begins for so long, when everything is where it should be.
const STILL: Duration = Duration::from_secs(60);

fn key(at: usize) -> String {
    format!("key-{at:03}")
}

async fn load(cluster: &Cluster, keys: usize) -> Result<Load> {
    Ok(Load::over(cluster.client().await?, CLIENTS, (0..keys).map(key).collect()))
}

/// The region that holds a key, and the store that leads it.
async fn find(cluster: &Cluster, key: &str) -> Result<(u64, usize)> {
    let mut found = None;
    eventually("a region with a leader", PATIENCE, async || {
        let regions = cluster.regions().await?;
        let holds = |range: &proto::vocabulary::KeyRange| {
            range.start_key <= key.as_bytes() && (range.end_key.is_empty() || range.end_key > key.as_bytes())
        };
        let region = regions.into_iter().filter_map(|view| view.region);
        let region = region.into_iter().find(|region| region.range.as_ref().is_some_and(holds));
        let id = region.context("no region")?.id;
        found = Some((id, cluster.leader_of(id).await?));
        Ok(())
    })
    .await?;
    found.context("no region")
}

/// The region that holds a key, the store that leads it, and where its peers would be if that store gave its own to the
/// one that has none.
async fn move_off_its_leader(cluster: &Cluster, key: &str) -> Result<(u64, usize, Vec<u64>)> {
    let mut found = None;
    // Levelling may move the region just now: then it has a peer on every store for a while.
    eventually("a region that could move", PATIENCE, async || {
        let (region_id, leader) = find(cluster, key).await?;
        let peers = cluster.region(region_id).await?.0.peers;
        let with: Vec<u64> = peers.iter().map(|peer| peer.store_id).collect();
        let leaving = cluster.store_id(leader).await?;
        ensure!(with.len() == 3 && with.contains(&leaving), "{peers:?}");
        let stores = cluster.stores().await?;
        let mut ids = stores.iter().filter_map(|view| view.store.as_ref().map(|row| row.id));
        let new = ids.find(|id| !with.contains(id)).context("a store without a peer")?;
        let goal = with.into_iter().map(|id| if id == leaving { new } else { id }).collect();
        found = Some((region_id, leader, goal));
        Ok(())
    })
    .await?;
    found.context("no region")
}

/// In each round a region splits and moves, and the store that led it goes away meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_and_moves_lose_nothing_whoever_goes_away() -> Result<()> {
    let mut cluster = Cluster::start(Options { stores: 4, has_wires: true, ..Options::default() }).await?;
    cluster.whole(3).await?;
    let load = load(&cluster, KEYS).await?;
    load.run_for(300).await?;
    for (round, blow) in Blow::ALL.into_iter().enumerate() {
        let first = round * KEYS / Blow::ALL.len();
        let keys: Vec<String> = (first..first + 12).step_by(3).map(key).collect();
        let (region_id, leader, goal) = move_off_its_leader(&cluster, &keys[0]).await?;
        // Both are asked for before the store goes away, and the splits go on without it.
        cluster.move_peers(region_id, &goal).await?;
        cluster.split_at(&keys[..1]).await?;
        blow.strike(&mut cluster, leader)?;
        cluster.split_at(&keys).await?;
        load.run_for(300).await?;
        blow.heal(&mut cluster, leader)?;
        load.run_for(300).await?;
    }
    cluster.whole(3).await?;
    ensure!(cluster.regions().await?.len() > 4 * (Blow::ALL.len() - 1), "too few regions");
    let tally = load.finish().await?;
    println!("{tally:?}");
    ensure!(tally.failed == 0, "{tally:?}");
    Ok(())
}

/// Whoever asks again under the name is told the same, also while the store that divided the region is gone, and when all
/// have forgotten that they were asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_at_the_middle_has_one_outcome_whoever_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    let client = cluster.client().await?;
    client.batch_put((0..KEYS).map(|at| (key(at), "value"))).await?;
    let allocate = AllocateIds { count: 1 };
    let change_id = cluster.operate(async |mut admin| admin.allocate_ids(allocate).await).await?.first_id;
    let request =
        SplitRegionRequest { region_id: REGION, change_id, is_at_middle: true, ..Default::default() };
    let ask = async |cluster: &Cluster| {
        let done = cluster.operate(async |mut admin| admin.split_region(request.clone()).await).await?;
        let ranges = done.regions.into_iter().map(|region| (region.id, region.range));
        anyhow::Ok(ranges.collect::<Vec<_>>())
    };
    let done = ask(&cluster).await?;
    ensure!(done.len() == 2, "{done:?}");
    let start = done[1].1.as_ref().map(|range| range.start_key.clone());
    ensure!(start.as_deref() == Some(key(KEYS / 2).as_bytes()), "{start:?}");
    let again = async |cluster: &Cluster| {
        eventually("the split to be known", PATIENCE, async || {
            let again = ask(cluster).await?;
            ensure!(again == done, "{again:?} instead of {done:?}");
            Ok(())
        })
        .await
    };
    let leader = cluster.leader_of(REGION).await?;
    cluster.kill(leader)?;
    again(&cluster).await?;
    cluster.spawn(leader)?;
    cluster.whole(3).await?;
    for at in 0..3 {
        cluster.kill(at)?;
    }
    (0..3).try_for_each(|at| cluster.spawn(at))?;
    again(&cluster).await?;
    ensure!(cluster.regions().await?.len() == 2, "it was split again");
    Ok(())
}

/// Every store at once, while splits are under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_survive_a_power_loss_of_every_store() -> Result<()> {
    let mut cluster = Cluster::start(Options { has_power_supply: true, ..Options::default() }).await?;
    let load = load(&cluster, KEYS).await?;
    for round in 0..2 {
        load.run_for(300).await?;
        let keys: Vec<String> = (round + 1..KEYS).step_by(4).map(key).collect();
        let (known, dying) = keys.split_at(keys.len() / 2);
        cluster.split_at(known).await?;
        {
            let splitting = cluster.split_at(dying);
            // Begun, and not waited for.
            drop(tokio::time::timeout(Duration::from_millis(20), splitting).await);
        }
        cluster.lose_power()?;
        load.set_read_only(true);
        (0..3).try_for_each(|at| cluster.spawn(at))?;
        load.run_for(100).await?;
        load.set_read_only(false);
        // What was acknowledged is there, and what was not can be done.
        cluster.split_at(known).await?;
        cluster.split_at(dying).await?;
    }
    cluster.whole(3).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}

/// For each store, of how many regions it has a peer, and how many it leads.
async fn shares(cluster: &Cluster) -> Result<BTreeMap<u64, (usize, usize)>> {
    let stores = cluster.stores().await?.into_iter().filter_map(|view| view.store);
    let mut shares: BTreeMap<u64, (usize, usize)> = stores.map(|row| (row.id, (0, 0))).collect();
    for view in cluster.regions().await? {
        for peer in view.region.context("no region")?.peers {
            let (peer_count, leader_count) = shares.entry(peer.store_id).or_default();
            *peer_count += 1;
            *leader_count += usize::from(peer.id == view.leader_peer_id);
        }
    }
    Ok(shares)
}

/// Every store has the same number of peers and of leaders, but for one.
fn check_even(shares: &BTreeMap<u64, (usize, usize)>) -> Result<()> {
    let is_even = |of: fn(&(usize, usize)) -> usize| {
        let counts = || shares.values().map(of);
        counts().max() <= counts().min().map(|fewest| fewest + 1)
    };
    ensure!(is_even(|share| share.0) && is_even(|share| share.1), "store: (peers, leaders) {shares:?}");
    Ok(())
}

/// A store joins many regions under load: it gets its share, no store has two peers of a region, and then no operation
/// begins for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_gets_its_share_of_many_regions() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    let load = load(&cluster, MANY).await?;
    cluster.split_at(&(1..MANY).map(key).collect::<Vec<_>>()).await?;
    load.run_for(300).await?;
    cluster.add_store()?;
    eventually("everybody's share", 3 * PATIENCE, async || {
        let shares = shares(&cluster).await?;
        ensure!(shares.len() == 4, "{shares:?}");
        check_even(&shares)
    })
    .await?;
    // `whole` looks for two peers of one region on a store as well.
    cluster.whole(3).await?;
    let mut still = (None, Instant::now());
    eventually("peace", 3 * PATIENCE, async || {
        let operations = cluster.operations().await?;
        let newest = operations.iter().map(|row| row.id).max();
        let is_running = operations.iter().any(|row| row.state() == OperationState::Running);
        if is_running || newest != still.0 {
            still = (newest, Instant::now());
        }
        // A look at all operations is not asked for more often than people would.
        tokio::time::sleep(Duration::from_millis(200)).await;
        ensure!(still.1.elapsed() >= STILL, "an operation begins: {newest:?}");
        Ok(())
    })
    .await?;
    let shares = shares(&cluster).await?;
    check_even(&shares)?;
    println!("{shares:?} {:?}", load.finish().await?);
    Ok(())
}
