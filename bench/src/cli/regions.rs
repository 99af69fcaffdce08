//! Division of the keyspace before a run.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use client::{Client, KeyRange};
use tokio::time::Instant;
use types::{Peer, Region, StoreId};

use crate::{
    limits::{CLUSTER_POLL, SPREAD_WAIT_MAX},
    load,
    report::Phase,
    workload::Workload,
};

/// Of its even share, what every store must lead at least: in hundredths.
const SHARE_PERCENT_MIN: usize = 80;

/// Divides the keyspace as the workload wants it, and waits until every store leads its share.
pub(super) async fn divide(client: &Client, workload: &Workload, store_count: usize) -> Result<[Phase; 2]> {
    let started = Instant::now();
    let split = client.split(workload.boundaries()).await.context("divide the keyspace")?;
    if split.finished_percent < 100 {
        bail!(
            "only {} % of the keyspace is divided after {:.1} s: the stores' logs say why",
            split.finished_percent,
            started.elapsed().as_secs_f64()
        );
    }
    let divided = started.elapsed();
    let wanted = usize::try_from(workload.region_count).unwrap_or(usize::MAX);
    let is_spread = async || {
        let regions = all_regions(client).await.map_err(|error| error.to_string())?;
        check_spread(&regions, wanted, store_count)
    };
    let spread = load::poll_until(started + divided + SPREAD_WAIT_MAX, CLUSTER_POLL, is_spread).await;
    spread.map_err(|reason| anyhow!("wait until every store leads its share: {reason}"))?;
    let phase = |name, length: Duration| Phase { name, seconds: length.as_secs_f64() };
    Ok([phase("split", divided), phase("spread", started.elapsed() - divided)])
}

async fn all_regions(client: &Client) -> client::Result<Vec<(Region, Option<Peer>)>> {
    let mut regions: Vec<(Region, Option<Peer>)> = Vec::new();
    let mut range = KeyRange::ALL;
    loop {
        let page = client.regions(range.clone()).await?;
        let end_key = page.last().map(|(region, _)| region.range.end_key.clone()).unwrap_or_default();
        regions.extend(page);
        if end_key.is_empty() {
            return Ok(regions);
        }
        range.start_key = end_key;
    }
}

/// Whether there are enough regions, all of them led, and each store leads its share; else what is missing.
fn check_spread(
    regions: &[(Region, Option<Peer>)],
    wanted: usize,
    store_count: usize,
) -> std::result::Result<(), String> {
    let mut led: BTreeMap<StoreId, usize> = BTreeMap::new();
    for leader in regions.iter().filter_map(|(_, leader)| *leader) {
        *led.entry(leader.store_id).or_default() += 1;
    }
    let led_count: usize = led.values().sum();
    if regions.len() < wanted || led_count < regions.len() {
        return Err(format!("{} of {wanted} regions are there, {led_count} are led", regions.len()));
    }
    let share = regions.len() / store_count * SHARE_PERCENT_MIN / 100;
    let is_short = led.len() < store_count.min(regions.len()) || led.values().any(|count| *count < share);
    if !is_short {
        return Ok(());
    }
    let counts: Vec<_> = led.iter().map(|(store, count)| format!("store {store} {count}")).collect();
    Err(format!("of {} regions {store_count} stores lead unevenly: {}", regions.len(), counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use types::{Epoch, PeerId, PeerRole, RegionId};

    use super::*;

    fn led_by(stores: &[u64]) -> Vec<(Region, Option<Peer>)> {
        let region = |(id, store): (u64, &u64)| {
            let peer = Peer { id: PeerId(id), store_id: StoreId(*store), role: PeerRole::Voter };
            let region =
                Region { id: RegionId(id), range: KeyRange::ALL, epoch: Epoch::FIRST, peers: vec![peer] };
            (region, (*store != 0).then_some(peer))
        };
        (1..).zip(stores).map(region).collect()
    }

    #[test]
    fn leaders_are_spread_when_each_store_has_its_share() {
        for (stores, wanted, is_spread) in [
            (&[1, 2, 3][..], 3, true),
            (&[1, 2, 3], 4, false),
            (&[1, 2, 0], 3, false),
            (&[1, 1, 2], 3, false),
            (&[1, 2], 2, true),
            (&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3], 12, true),
            (&[1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3], 12, true),
            (&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3], 12, false),
        ] {
            let checked = check_spread(&led_by(stores), wanted, 3);
            assert_eq!(checked.is_ok(), is_spread, "{stores:?}: {checked:?}");
        }
    }
}
