//! Stores that lose everything.

use anyhow::{Result, ensure};
use tests::{Cluster, Load, Options};

const KEYS: u64 = 12;
const CLIENTS: u64 = 8;

/// A store comes back at its address with nothing. Nobody does anything; its peers are replaced, and any other store can
/// be lost then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lost_its_disk_is_filled_again() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.whole(3).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    load.run_for(300).await?;
    let lost = cluster.leader().await?;
    let old_id = cluster.store_id(lost).await?;
    cluster.wipe(lost)?;
    load.run_for(300).await?;
    cluster.spawn(lost)?;
    tests::eventually("a new store id", std::time::Duration::from_secs(120), async || {
        let id = cluster.store_id(lost).await?;
        ensure!(id != old_id, "it is still store {id}");
        Ok(())
    })
    .await?;
    cluster.whole(3).await?;
    let other = (0..3).find(|at| *at != lost).unwrap_or_default();
    cluster.kill(other)?;
    // Everything that was written before and after is read again at the end, of the new store and one of the old ones.
    load.run_for(1_000).await?;
    println!("{:?}", load.finish().await?);
    Ok(())
}
