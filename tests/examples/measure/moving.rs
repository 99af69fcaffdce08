//! Regions with data that move to an empty store.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use proto::placement::OperationState;
use tests::Options as Stores;

use crate::crowd::{Crowd, first_key, spell};

/// Bytes of keys and values in one batch of the loading.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that are under way at one time.
const CONCURRENCY: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions.
    #[arg(long, default_value_t = 8)]
    regions: usize,
    /// Mebibytes of keys and values in each.
    #[arg(long, default_value_t = 64)]
    mebibytes: usize,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1_024)]
    value_size: usize,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    // Regions stay as they are.
    let configuration = "region_split_size = \"0B\"\nregion_split_keys = 0\n".to_owned();
    let mut crowd = Crowd::start(Stores { configuration, ..Stores::default() }, options.regions).await?;
    crowd.describe();
    crowd.cluster.set_balancing(false).await?;
    let started = Instant::now();
    load(&crowd, options).await?;
    let (region_bytes, seconds) = ((options.mebibytes << 20) as f64, started.elapsed().as_secs_f64());
    let rate = |regions: usize, seconds: f64| region_bytes * regions as f64 / seconds / 1e6;
    println!("loaded in {seconds:.1} s: {:.0} MB/s", rate(options.regions, seconds));
    // What the loading has left to flush and to compact is no part of the moves.
    crowd.wait_until_still().await?;
    let new = crowd.cluster.add_store()?;
    let new_id = crowd.cluster.store_id(new).await?;
    let regions = crowd.regions().await?;
    let (one, rest) = regions.split_first().context("no region")?;
    for (what, regions) in [("one alone", std::slice::from_ref(one)), ("the others at once", rest)] {
        let used = crowd.cpu_times()?;
        let started = Instant::now();
        let mut operations = Vec::new();
        for (region, leader) in regions {
            let leader = leader.context("a region without a leader")?;
            let mut goal: Vec<u64> = region.peers.iter().map(|peer| peer.store_id.0).collect();
            let leaving = goal.iter_mut().find(|id| **id != leader.store_id.0).context("a follower")?;
            *leaving = new_id;
            operations.push(crowd.cluster.move_peers(region.id.0, &goal).await?);
        }
        for operation in operations {
            let row = crowd.cluster.ended(operation).await?;
            ensure!(row.state() == OperationState::Done, "{row:?}");
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{what}: {} regions in {seconds:.2} s: {:.0} MB/s",
            regions.len(),
            rate(regions.len(), seconds)
        );
        let used =
            crowd.cpu_times()?.into_iter().zip(used).map(|(after, before)| (after - before).as_secs_f64());
        println!("  CPU of the stores meanwhile, in s: {:.2?}", used.collect::<Vec<_>>());
        crowd.wait_until_still().await?;
    }
    let [received] = crowd.cluster.metrics(new, ["sheaf_snapshot_received_bytes_total"]).await?;
    println!("bytes of snapshots that the new store has received: {received:.0}");
    Ok(())
}

/// Fills each region with pairs; values are of random bytes, so that nothing compresses them.
async fn load(crowd: &Crowd, options: &Options) -> Result<()> {
    let pair_bytes = 16 + options.value_size;
    let pairs = (options.mebibytes << 20) / pair_bytes;
    let batch = (BATCH_BYTES / pair_bytes).max(1);
    let mut pool = Vec::new();
    let mut state = 1_u64;
    while pool.len() < options.value_size + (1 << 20) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pool.extend_from_slice(&(state >> 16).to_be_bytes()[2..]);
    }
    let pool = bytes::Bytes::from(pool);
    let width = u128::from(u64::MAX) / (options.regions * pairs) as u128;
    let batches = (0..options.regions).flat_map(|part| {
        let start = u128::from_str_radix(&first_key(part, options.regions), 16).unwrap_or_default();
        (0..pairs).step_by(batch).map(move |first| (start, first))
    });
    let writes = batches.map(|(start, first)| {
        let pair = |number: usize| {
            let from = (number * 7_919) % (1 << 20);
            (spell(start + number as u128 * width), pool.slice(from..from + options.value_size))
        };
        let pairs: Vec<_> = (first..(first + batch).min(pairs)).map(pair).collect();
        crowd.client.batch_put(pairs)
    });
    stream::iter(writes).map(Ok).try_for_each_concurrent(CONCURRENCY, |write| write).await?;
    Ok(())
}
