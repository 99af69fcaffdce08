//! What our client sees while one store at a time is gone.

use anyhow::{Result, ensure};
use tests::{Cluster, Load, Options};

use crate::blow::Blow;

const KEYS: u64 = 12;
const CLIENTS: u64 = 8;

/// No operation fails; a write whose store goes away with it may be undetermined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_sees_no_error_while_one_store_at_a_time_is_gone() -> Result<()> {
    let mut cluster = Cluster::start(Options { has_wires: true, ..Options::default() }).await?;
    cluster.whole(3).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    for blow in Blow::ALL {
        load.run_for(300).await?;
        let victim = cluster.leader().await?;
        blow.strike(&mut cluster, victim)?;
        let before = load.undetermined();
        load.run_for(500).await?;
        println!("{blow:?}: {} undetermined", load.undetermined() - before);
        blow.heal(&mut cluster, victim)?;
        load.run_for(500).await?;
        cluster.whole(3).await?;
    }
    let tally = load.finish().await?;
    println!("{tally:?}");
    ensure!(tally.failed == 0, "{tally:?}");
    Ok(())
}
