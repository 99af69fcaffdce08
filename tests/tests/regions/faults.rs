//! What our client sees while one store at a time is gone.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tests::{Cluster, Load, Options};

const KEYS: u64 = 12;
const CLIENTS: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Stop,
    CutOff,
}

/// No operation fails; a write whose store goes away with it may be undetermined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_sees_no_error_while_one_store_at_a_time_is_gone() -> Result<()> {
    let mut cluster = Cluster::start(Options { has_wires: true, ..Options::default() }).await?;
    cluster.whole(3).await?;
    let load = Load::start(cluster.client().await?, CLIENTS, KEYS);
    for blow in [Blow::Kill, Blow::Stop, Blow::CutOff] {
        load.run_for(300).await?;
        let victim = cluster.leader().await?;
        match blow {
            Blow::Kill => cluster.kill(victim)?,
            Blow::Stop => cluster.signal(victim, Signal::STOP)?,
            Blow::CutOff => cluster.set_cut_off(victim, true)?,
        }
        let before = load.undetermined();
        load.run_for(500).await?;
        println!("{blow:?}: {} undetermined", load.undetermined() - before);
        match blow {
            Blow::Kill => cluster.spawn(victim)?,
            Blow::Stop => cluster.signal(victim, Signal::CONT)?,
            Blow::CutOff => cluster.set_cut_off(victim, false)?,
        }
        load.run_for(500).await?;
        cluster.whole(3).await?;
    }
    let tally = load.finish().await?;
    println!("{tally:?}");
    ensure!(tally.failed == 0, "{tally:?}");
    Ok(())
}
