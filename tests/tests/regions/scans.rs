//! Work that spans regions, and look-ups, while the regions split and stores die.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::{Client, KeyRange};
use futures::StreamExt;
use proto::{
    metapb,
    pdpb::{
        self, BatchScanRegionsRequest, GetRegionRequest, QueryRegionRequest, RequestHeader,
        ScanRegionsRequest, pd_client::PdClient,
    },
};
use tests::{Cluster, Options, eventually};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: usize = 3_000;

fn key(at: usize) -> Bytes {
    format!("scan-{at:05}").into()
}

fn pairs() -> Vec<(Bytes, Bytes)> {
    (0..KEYS).map(|at| (key(at), format!("value-{at}").into())).collect()
}

fn all() -> KeyRange {
    KeyRange::new("scan-", "scan.")
}

/// A thing that is done again and again beside the test, until it is told to end; the first error ends it.
struct Beside {
    is_ending: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Beside {
    fn start<F>(mut once: impl FnMut(u64) -> F + Send + 'static) -> Beside
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (is_ending, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, counter) = (Arc::clone(&is_ending), Arc::clone(&rounds));
        let task = tokio::spawn(async move {
            while !ending.load(Ordering::Relaxed) {
                once(counter.load(Ordering::Relaxed)).await?;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Beside { is_ending, rounds, task }
    }

    /// Waits until it has been done some times more, or has failed.
    async fn go_on(&self) -> Result<()> {
        let goal = self.rounds.load(Ordering::Relaxed) + 3;
        eventually("what is done beside to go on", PATIENCE, async || {
            ensure!(self.task.is_finished() || self.rounds.load(Ordering::Relaxed) >= goal, "it does not");
            Ok(())
        })
        .await
    }

    async fn finish(self) -> Result<u64> {
        self.is_ending.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.rounds.load(Ordering::Relaxed))
    }
}

/// Every key once, in order, whichever way and however many are asked for.
async fn check_scans(client: &Client, expected: &[(Bytes, Bytes)]) -> Result<()> {
    let limit = u32::try_from(KEYS + 1)?;
    let found = client.scan(all(), limit).await?;
    ensure!(found == expected, "{} pairs forward", found.len());
    let mut found = client.scan_reverse(all(), limit).await?;
    found.reverse();
    ensure!(found == expected, "{} pairs backward", found.len());
    for (from, count) in [(0, 1), (7, 100), (1_000, 1_500), (KEYS - 1, 1)] {
        let range = KeyRange::new(key(from), "scan.");
        let found = client.scan(range, u32::try_from(count)?).await?;
        ensure!(found == expected[from..from + count], "{count} pairs from {from}: {}", found.len());
        let found =
            client.scan_reverse(KeyRange::new("scan-", key(from + count)), u32::try_from(count)?).await?;
        ensure!(found.iter().rev().eq(&expected[from..from + count]), "{count} pairs backward to {from}");
    }
    Ok(())
}

async fn check_batches(client: &Client, expected: &[(Bytes, Bytes)], round: u64) -> Result<()> {
    let wanted: Vec<_> = expected.iter().step_by(11).cloned().collect();
    let found = client.batch_get(wanted.iter().map(|(key, _)| key.clone())).await?;
    ensure!(found == wanted, "{} of {} pairs", found.len(), wanted.len());
    let written: Vec<_> = (0..KEYS)
        .step_by(17)
        .map(|at| (Bytes::from(format!("scan-{at:05}+")), Bytes::from(format!("{round}"))))
        .collect();
    client.batch_put(written.clone()).await?;
    let keys: Vec<_> = written.iter().map(|(key, _)| key.clone()).collect();
    ensure!(client.batch_get(keys.clone()).await? == written, "what was put");
    client.batch_delete(keys.clone()).await?;
    ensure!(client.batch_get(keys).await?.is_empty(), "what was deleted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_and_batches_span_regions_that_split() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client().await?;
    let expected: Arc<[_]> = pairs().into();
    client.batch_put(expected.iter().cloned()).await?;
    let sum = client.checksum(all()).await?;
    let (scanner, scanned) = (client.clone(), Arc::clone(&expected));
    let scans = Beside::start(move |_| {
        let (client, expected) = (scanner.clone(), Arc::clone(&scanned));
        async move { check_scans(&client, &expected).await }
    });
    for first in [1_500, 100, 130, 160] {
        let keys: Vec<String> = (first..KEYS).step_by(200).map(|at| format!("scan-{at:05}")).collect();
        cluster.split_at(&keys).await?;
        scans.go_on().await?;
    }
    println!("{} rounds of scans over {} regions", scans.finish().await?, cluster.regions().await?.len());
    assert_eq!(client.checksum(all()).await?, sum);

    let (batcher, batched) = (client.clone(), Arc::clone(&expected));
    let batches = Beside::start(move |round| {
        let (client, expected) = (batcher.clone(), Arc::clone(&batched));
        async move { check_batches(&client, &expected, round).await }
    });
    for first in [15, 45] {
        let keys: Vec<String> = (first..KEYS).step_by(200).map(|at| format!("scan-{at:05}")).collect();
        cluster.split_at(&keys).await?;
        batches.go_on().await?;
    }
    println!("{} rounds of batches", batches.finish().await?);
    // A client that knows nothing yet finds everything as well.
    check_scans(&cluster.client().await?, &expected).await
}

fn header() -> Option<RequestHeader> {
    Some(RequestHeader::default())
}

fn holds(region: Option<&metapb::Region>, key: &[u8]) -> bool {
    let is_before_end = |region: &metapb::Region| region.end_key.is_empty() || region.end_key > key;
    region.is_some_and(|region| region.start_key <= key && is_before_end(region))
}

/// The regions without a gap from `start` on, to `end` at least.
fn check_tiles<'a>(
    regions: impl Iterator<Item = &'a metapb::Region>,
    start: &[u8],
    end: &[u8],
) -> Result<usize> {
    let mut count = 0;
    let mut next: Option<Bytes> = None;
    for region in regions {
        match &next {
            None => ensure!(region.start_key <= start, "it begins at {:?}", region.start_key),
            Some(next) => ensure!(region.start_key == next, "a hole at {next:?}, before {region:?}"),
        }
        next = Some(region.end_key.clone());
        count += 1;
    }
    let next = next.context("no region at all")?;
    ensure!(next.is_empty() || (!end.is_empty() && next >= end), "it ends at {next:?} before {end:?}");
    Ok(count)
}

/// Every way to ask one store where keys are.
async fn look_up(channel: &Channel, round: u64) -> Result<()> {
    let mut placement = PdClient::new(channel.clone());
    let at = usize::try_from(round.wrapping_mul(7_919) % KEYS as u64)?;
    let adjacent: Vec<Bytes> = (at..at + 3).map(key).collect();
    for key in &adjacent {
        let request =
            GetRegionRequest { header: header(), region_key: key.clone(), ..GetRegionRequest::default() };
        let found = placement.get_region(request).await?.into_inner();
        ensure!(holds(found.region.as_ref(), key), "{key:?} is not in {:?}", found.region);
    }
    let scan = ScanRegionsRequest { header: header(), ..ScanRegionsRequest::default() };
    let found = placement.scan_regions(scan).await?.into_inner();
    let of = |regions: &[pdpb::Region]| -> Vec<metapb::Region> {
        regions.iter().filter_map(|region| region.region.clone()).collect()
    };
    let regions = of(&found.regions);
    check_tiles(regions.iter(), b"", b"")?;
    ensure!(found.region_metas == regions && found.leaders.len() == regions.len(), "older fields differ");

    let ranges = [("scan-00100", "scan-00900"), ("scan-02000", "")];
    let ranges = ranges.map(|(start, end)| pdpb::KeyRange { start_key: start.into(), end_key: end.into() });
    let request = BatchScanRegionsRequest {
        header: header(),
        ranges: ranges.to_vec(),
        ..BatchScanRegionsRequest::default()
    };
    let found = of(&placement.batch_scan_regions(request).await?.into_inner().regions);
    let (low, high): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|region| region.start_key < ranges[0].end_key && !region.end_key.is_empty());
    if !low.is_empty() {
        check_tiles(low.iter(), &ranges[0].start_key, &ranges[0].end_key)?;
        check_tiles(high.iter(), &ranges[1].start_key, b"")?;
    }

    let request = QueryRegionRequest {
        header: header(),
        keys: adjacent.clone(),
        prev_keys: adjacent.clone(),
        ids: vec![2, 99_999],
        ..QueryRegionRequest::default()
    };
    let stream = futures::stream::iter([request]).chain(futures::stream::pending());
    let mut answers = placement.query_region(stream).await?.into_inner();
    let found = answers.message().await?.context("no answer")?;
    ensure!(found.key_id_map.len() == 3 && found.prev_key_id_map.len() == 3, "{found:?}");
    for (key, id) in adjacent.iter().zip(&found.key_id_map) {
        let region = found.regions_by_id.get(id).and_then(|region| region.region.as_ref());
        ensure!(holds(region, key), "{key:?} is not in {region:?}");
    }
    ensure!(found.regions_by_id.contains_key(&2) && !found.regions_by_id.contains_key(&99_999), "{found:?}");
    Ok(())
}

/// No look-up finds no region, or a hole between two, while regions split and the stores that lead them are killed. Only
/// a store that is killed does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_never_find_a_hole() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    for round in 0..3 {
        let victim = cluster.leader_of(2).await?;
        let mut asking = Vec::new();
        for at in (0..3).filter(|at| *at != victim) {
            let channel = cluster.channel(at).await?;
            asking.push(Beside::start(move |round| {
                let channel = channel.clone();
                async move { look_up(&channel, round).await }
            }));
        }
        let keys = |first: usize| -> Vec<String> {
            (first + 10 * round..KEYS).step_by(150).map(|at| format!("scan-{at:05}")).collect()
        };
        cluster.split_at(&keys(20)).await?;
        cluster.kill(victim)?;
        cluster.split_at(&keys(70)).await?;
        for beside in asking {
            beside.go_on().await?;
            println!("{} rounds of look-ups", beside.finish().await?);
        }
        cluster.spawn(victim)?;
        cluster.whole(3).await?;
    }
    println!("{} regions", cluster.regions().await?.len());
    Ok(())
}
