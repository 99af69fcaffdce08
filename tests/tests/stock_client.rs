#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O shell: real processes, real time"
)]
//! The crate `tikv-client`, unmodified, against real stores.

use anyhow::Result;
use tests::{Cluster, Options};
use tikv_client::{KvPair, RawClient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_raw_call_of_the_stock_client_works() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = RawClient::new(cluster.addresses()).await?;
    points(&client).await?;
    batches_and_scans(&client).await?;
    swaps(&client.with_atomic_for_cas()).await?;
    Ok(())
}

/// Its scans over several regions are right where they end before the last one, which begins behind the data here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_of_the_stock_client_span_regions_that_split() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = RawClient::new(cluster.addresses()).await?;
    let key = |at: usize| format!("many-{at:03}");
    let pairs: Vec<_> = (0..1_000).map(|at| KvPair::new(key(at), format!("value-{at}"))).collect();
    cluster.split_at(&["nothing".to_owned()]).await?;
    client.batch_put(pairs.clone()).await?;
    for first in [500, 60, 10] {
        let keys: Vec<String> = (first..1_000).step_by(100).map(key).collect();
        let splitting = cluster.split_at(&keys);
        let scanning = async {
            for _ in 0..10 {
                let found = client.scan("many-".to_owned().."many-~".to_owned(), 2_000).await?;
                anyhow::ensure!(found == pairs, "{} of {} pairs", found.len(), pairs.len());
                let mut found = client.batch_get((0..1_000).step_by(7).map(key).collect::<Vec<_>>()).await?;
                found.sort_by(|left, right| left.key().cmp(right.key()));
                anyhow::ensure!(found.iter().eq(pairs.iter().step_by(7)), "{} pairs", found.len());
            }
            Ok(())
        };
        let (split, scanned) = tokio::join!(splitting, scanning);
        split?;
        scanned?;
    }
    Ok(())
}

async fn points(client: &RawClient) -> Result<()> {
    assert_eq!(client.get("absent".to_owned()).await?, None);
    client.put("a".to_owned(), "1".to_owned()).await?;
    assert_eq!(client.get("a".to_owned()).await?, Some(b"1".to_vec()));
    client.put_with_ttl("brief".to_owned(), "2".to_owned(), 100).await?;
    let left = client.get_key_ttl_secs("brief".to_owned()).await?;
    assert!(matches!(left, Some(90..=100)), "{left:?}");
    client.delete("a".to_owned()).await?;
    assert_eq!(client.get("a".to_owned()).await?, None);
    Ok(())
}

async fn batches_and_scans(client: &RawClient) -> Result<()> {
    let pairs: Vec<_> =
        (0..100).map(|at| KvPair::new(format!("scan-{at:03}"), format!("value-{at}"))).collect();
    client.batch_put(pairs.clone()).await?;
    let keys: Vec<_> = (0..3).map(|at| format!("scan-{at:03}")).collect();
    let mut found = client.batch_get(keys.clone()).await?;
    found.sort_by(|left, right| left.key().cmp(right.key()));
    assert_eq!(found, pairs[..3]);
    // The limit is reached, so that the client's own error in scans up to the last region's end does not show.
    let scanned = client.scan("scan-".to_owned().."scan-~".to_owned(), 50).await?;
    assert_eq!(scanned, pairs[..50]);
    client.batch_delete(keys).await?;
    let scanned = client.scan("scan-".to_owned().."scan-~".to_owned(), 97).await?;
    assert_eq!(scanned, pairs[3..]);
    client.delete_range("scan-".to_owned().."scan-~".to_owned()).await?;
    assert_eq!(client.get("scan-050".to_owned()).await?, None);
    Ok(())
}

async fn swaps(client: &RawClient) -> Result<()> {
    let (previous, is_swapped) = client.compare_and_swap("cas".to_owned(), None, "1".to_owned()).await?;
    assert_eq!((previous, is_swapped), (None, true));
    let (previous, is_swapped) =
        client.compare_and_swap("cas".to_owned(), Some(b"0".to_vec()), "2".to_owned()).await?;
    assert_eq!((previous, is_swapped), (Some(b"1".to_vec()), false));
    let (_, is_swapped) =
        client.compare_and_swap("cas".to_owned(), Some(b"1".to_vec()), "2".to_owned()).await?;
    assert!(is_swapped);
    assert_eq!(client.get("cas".to_owned()).await?, Some(b"2".to_vec()));
    Ok(())
}
