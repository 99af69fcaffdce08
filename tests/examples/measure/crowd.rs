//! A cluster with many regions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use client::{Client, KeyRange};
use futures::{StreamExt, TryStreamExt, stream};
use tests::{Cluster, Options, eventually};
use types::{Peer, Region};

const PATIENCE: Duration = Duration::from_secs(120);
/// Of its even share, what every store must lead at least, in hundredths: as the load generator has it.
const SHARE_PERCENT_MIN: usize = 80;
/// Stores that use less than a twentieth of a core for this long have nothing left to do.
const STILL_FOR: Duration = Duration::from_secs(2);
/// Writes that are under way at one time where only their being done counts.
const CONCURRENCY: usize = 256;

/// Stores, and a keyspace that is divided evenly.
pub(crate) struct Crowd {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) region_count: usize,
    /// How long it took to divide it.
    pub(crate) split: Duration,
    /// How long it took, after that, until every store led its share.
    pub(crate) spread: Duration,
}

/// The first key of a part of the keyspace that is divided into so many: as `sheaf bench --regions` divides it.
pub(crate) fn first_key(part: usize, of: usize) -> String {
    spell((u128::from(u64::MAX) * part as u128).div_ceil(of as u128))
}

/// A key of sixteen hexadecimal digits.
pub(crate) fn spell(place: u128) -> String {
    format!("{place:016x}")
}

impl Crowd {
    /// Starts three stores and divides the keyspace.
    pub(crate) async fn start(options: Options, region_count: usize) -> Result<Crowd> {
        let cluster = Cluster::start(options).await?;
        cluster.whole(3).await?;
        let client = cluster.client().await?;
        let mut crowd =
            Crowd { cluster, client, region_count, split: Duration::ZERO, spread: Duration::ZERO };
        let started = Instant::now();
        let split = crowd.client.split(crowd.keys().skip(1)).await?;
        ensure!(split.finished_percent == 100, "only {} % is divided", split.finished_percent);
        crowd.split = started.elapsed();
        crowd.wait_until_spread().await?;
        crowd.spread = started.elapsed() - crowd.split;
        Ok(crowd)
    }

    /// The first key of each region.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> + use<> {
        let of = self.region_count;
        (0..of).map(move |part| first_key(part, of))
    }

    /// Every region with its leader, if one is known.
    pub(crate) async fn regions(&self) -> Result<Vec<(Region, Option<Peer>)>> {
        let mut regions: Vec<(Region, Option<Peer>)> = Vec::new();
        let mut range = KeyRange::ALL;
        loop {
            regions.extend(self.client.regions(range.clone()).await?);
            let end_key = regions.last().context("no region")?.0.range.end_key.clone();
            if end_key.is_empty() {
                return Ok(regions);
            }
            range.start_key = end_key;
        }
    }

    /// The first keys of the regions that each store leads.
    async fn led(&self) -> Result<BTreeMap<u64, Vec<String>>> {
        let mut led: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        // Those whose leader has not been reported yet are left out.
        let regions = self.regions().await?.into_iter();
        for (region, leader) in regions.filter_map(|(region, leader)| Some((region, leader?))) {
            let key = String::from_utf8(region.range.start_key.to_vec())?;
            let key = if key.is_empty() { first_key(0, 1) } else { key };
            led.entry(leader.store_id.0).or_default().push(key);
        }
        Ok(led)
    }

    /// Waits until all regions are led, and each store leads its share: the first keys of what each one leads.
    pub(crate) async fn wait_until_spread(&self) -> Result<BTreeMap<u64, Vec<String>>> {
        let stores = self.cluster.addresses().len().min(self.region_count);
        let mut led = BTreeMap::new();
        eventually("every store to lead its share", PATIENCE, async || {
            led = self.led().await?;
            let counts: Vec<_> = led.values().map(Vec::len).collect();
            let share = self.region_count / stores * SHARE_PERCENT_MIN / 100;
            ensure!(counts.iter().sum::<usize>() >= self.region_count, "{counts:?}");
            ensure!(counts.len() == stores && counts.iter().all(|count| *count >= share), "{counts:?}");
            Ok(())
        })
        .await?;
        Ok(led)
    }

    /// Writes to every region once.
    pub(crate) async fn write_all(&self) -> Result<()> {
        let writes = self.keys().map(|key| self.client.put(key, "value"));
        stream::iter(writes).map(Ok).try_for_each_concurrent(CONCURRENCY, |write| write).await?;
        Ok(())
    }

    /// Waits until every peer sleeps. The placement group's are awake for ever.
    pub(crate) async fn wait_until_asleep(&self) -> Result<()> {
        eventually("every peer to sleep", PATIENCE, async || {
            for at in self.cluster.answering() {
                let [asleep] = self.cluster.metrics(at, ["sheaf_store_sleeping_peers"]).await?;
                ensure!(
                    asleep >= self.region_count as f64,
                    "on store {at} {asleep} of {} sleep",
                    self.region_count
                );
            }
            Ok(())
        })
        .await
    }

    /// CPU that each store has used.
    pub(crate) fn cpu_times(&self) -> Result<Vec<Duration>> {
        (0..self.cluster.addresses().len()).map(|at| self.cluster.cpu_time(at)).collect()
    }

    /// Waits until the stores use hardly any CPU.
    pub(crate) async fn wait_until_still(&self) -> Result<()> {
        let mut before: Duration = self.cpu_times()?.iter().sum();
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(STILL_FOR).await;
            let after: Duration = self.cpu_times()?.iter().sum();
            if after - before < STILL_FOR / 20 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the stores are at work without end");
            before = after;
        }
    }

    /// Says what its making took.
    pub(crate) fn describe(&self) {
        println!(
            "{} regions: divided after {:.2} s, leaders spread {:.2} s later",
            self.region_count,
            self.split.as_secs_f64(),
            self.spread.as_secs_f64()
        );
    }
}
