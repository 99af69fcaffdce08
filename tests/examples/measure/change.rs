//! Changes of a region under load, and how long nobody answers for it meanwhile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use proto::placement::OperationState;
use tests::Options as Stores;
use types::{Peer, Region};

use crate::{
    background::{self, Background},
    crowd::{Crowd, first_key, spell},
    figures::Figures,
    probe::Probe,
};

/// How long the load runs before the first change.
const WARMUP: Duration = Duration::from_secs(3);
/// How long a region is written to before and after the change.
const MARGIN: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions in the beginning.
    #[arg(long, default_value_t = 32)]
    regions: usize,
    /// How many changes of each kind.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// The load, of what the cluster can do.
    #[arg(long, default_value_t = 0.5)]
    load: f64,
}

/// What is done to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Nothing: what the load alone does.
    Nothing,
    TransferLeader,
    Split,
    /// A peer that does not lead goes to another store.
    MoveFollower,
    MoveLeader,
}

impl Change {
    const ALL: [Change; 5] =
        [Change::Nothing, Change::TransferLeader, Change::Split, Change::MoveFollower, Change::MoveLeader];
}

#[derive(Default)]
struct Seen {
    gaps: Vec<Duration>,
    lengths: Vec<Duration>,
    errors: u64,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    // Regions are to be divided here only.
    let stores = Stores { configuration: "region_split_size = \"0B\"\n".to_owned(), ..Stores::default() };
    let mut crowd = Crowd::start(stores, options.regions).await?;
    crowd.describe();
    crowd.cluster.set_balancing(false).await?;
    let new = crowd.cluster.add_store()?;
    crowd.cluster.store_id(new).await?;
    let capacity = background::capacity(&crowd.cluster, options.regions)?;
    let rate = capacity * options.load;
    println!("the cluster can do {capacity:.0} puts/s; load: {rate:.0}/s");
    let load = Background::start(&crowd.cluster, options.regions, rate)?;
    tokio::time::sleep(WARMUP).await;
    let mut seen: BTreeMap<Change, Seen> = BTreeMap::new();
    for round in 0..options.rounds {
        for change in Change::ALL {
            let part = (round * Change::ALL.len() + change as usize) % options.regions;
            carry_out(&crowd, change, part, seen.entry(change).or_default()).await?;
        }
    }
    println!("load: {}", load.finish()?);
    for (change, seen) in seen {
        println!("{change:?}: the longest time without a success, of each {}", Figures::from_iter(seen.gaps));
        println!("  the change itself {}", Figures::from_iter(seen.lengths));
        println!("  writes of the observer that failed or whose fate is not known: {}", seen.errors);
    }
    Ok(())
}

/// Changes the region that holds the first key of a part.
async fn carry_out(crowd: &Crowd, change: Change, part: usize, seen: &mut Seen) -> Result<()> {
    let key = first_key(part, crowd.region_count);
    let (region, leader) = find(crowd, &key).await?;
    let middle = middle_of(&region)?;
    let probe = Probe::start(&crowd.client, &[key, middle.clone()]);
    tokio::time::sleep(MARGIN).await;
    let started = Instant::now();
    let cluster = &crowd.cluster;
    let follower = region.peers.iter().find(|peer| peer.id != leader.id).context("a follower")?;
    match change {
        Change::Nothing => {}
        Change::TransferLeader => {
            let to = cluster.find_store(follower.store_id.0).await?;
            cluster.transfer_leader(region.id.0, to).await?;
        }
        Change::Split => {
            let split = crowd.client.split([middle]).await?;
            ensure!(split.finished_percent == 100, "it is not divided");
        }
        Change::MoveFollower => replace(crowd, &region, follower).await?,
        Change::MoveLeader => replace(crowd, &region, &leader).await?,
    }
    seen.lengths.push(started.elapsed());
    tokio::time::sleep(MARGIN).await;
    let (gap, errors) = probe.finish().await?;
    seen.gaps.push(gap);
    seen.errors += errors;
    Ok(())
}

/// The region that holds a key, and its leader.
async fn find(crowd: &Crowd, key: &str) -> Result<(Region, Peer)> {
    let found = crowd.regions().await?;
    let found = found.into_iter().find(|(region, _)| region.range.contains_key(key.as_bytes()));
    let (region, leader) = found.with_context(|| format!("no region holds {key}"))?;
    Ok((region, leader.context("a region without a leader")?))
}

/// A key in the middle of a region.
fn middle_of(region: &Region) -> Result<String> {
    let place = |key: &[u8], open: u64| -> Result<u128> {
        let text = std::str::from_utf8(key)?;
        Ok(if text.is_empty() { open } else { u64::from_str_radix(text, 16)? }.into())
    };
    let (start, end) = (place(&region.range.start_key, 0)?, place(&region.range.end_key, u64::MAX)?);
    Ok(spell(start + (end - start) / 2))
}

/// Moves a peer to the store that has none.
async fn replace(crowd: &Crowd, region: &Region, peer: &Peer) -> Result<()> {
    let with: Vec<u64> = region.peers.iter().map(|peer| peer.store_id.0).collect();
    let stores = crowd.cluster.stores().await?;
    let mut ids = stores.iter().filter_map(|view| view.store.as_ref().map(|row| row.id));
    let new = ids.find(|id| !with.contains(id)).context("a store without a peer")?;
    let goal: Vec<u64> = with.into_iter().map(|id| if id == peer.store_id.0 { new } else { id }).collect();
    let operation = crowd.cluster.move_peers(region.id.0, &goal).await?;
    let row = crowd.cluster.ended(operation).await?;
    ensure!(row.state() == OperationState::Done, "{row:?}");
    Ok(())
}
