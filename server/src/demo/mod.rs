//! `sheaf demo`: a whole cluster on this machine, from nothing to load in a few seconds, and nothing left behind.

mod cluster;
mod folder;
mod load;

use std::time::{Duration, Instant};

use proto::placement::RegionView;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout_at},
};
use transport::Credentials;

use self::cluster::DemoCluster;
use crate::{
    cli::{Keys, print_line},
    failure::{Code, Failure, Result},
    operate,
};

/// What the demo is told.
pub(crate) struct Options {
    pub(crate) store_count: usize,
    pub(crate) exit_after: Option<Duration>,
    pub(crate) load: Duration,
}

/// Each step of the start may take this long; on a busy machine it takes a part of it.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the demo looks whether a step is done.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the demo to its end.
pub(crate) fn demo(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, "start the runtime").because(&error))?;
    let result = runtime.block_on(run(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let failed = |error: &std::io::Error| Failure::new(Code::Failed, "listen for signals").because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let mut cluster = DemoCluster::start(options.store_count)?;
    let deadline = options.exit_after.map(|after| tokio::time::Instant::from_std(began + after));
    let result = tokio::select! {
        result = show(&mut cluster, options, began) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = at(deadline) => Ok(()),
    };
    cluster.stop().await;
    print_line("stopped; nothing is left behind");
    result
}

/// Everything that is shown, then waits for ever.
async fn show(cluster: &mut DemoCluster, options: &Options, began: Instant) -> Result<()> {
    print_line(&format!("starting {} stores …", options.store_count));
    let first = cluster.addresses()[0].clone();
    let credentials = Credentials::plaintext(false);
    let (cluster_id, _) = init(cluster, credentials, &first).await?;
    let connecting = Instant::now();
    let client = loop {
        cluster.check()?;
        match client::Client::connect(cluster.addresses()).await {
            Ok(client) => break client,
            Err(error) if connecting.elapsed() > STEP_TIMEOUT => {
                return Err(Failure::new(Code::Failed, "connect to the demo's cluster").because(&error));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    write_first(cluster, &client).await?;
    print_line(&format!("cluster {cluster_id}: first write after {:.2} s", began.elapsed().as_secs_f64()));
    if options.store_count >= 3 {
        wait_for_voters(cluster, credentials, &first).await?;
        write_first(cluster, &client).await?;
        print_line(&format!("first write on three replicas after {:.2} s", began.elapsed().as_secs_f64()));
    }
    if !options.load.is_zero() {
        load::run(&client, options.load).await?;
    }
    print_line(&format!("\nthe cluster answers at {}", cluster.addresses().join(", ")));
    print_line("try, in another terminal:");
    print_line(&format!("  sheaf status --addr {first}"));
    print_line(&format!("  curl http://{first}/metrics"));
    print_line(&format!("  curl 'http://{first}/readyz?verbose'"));
    print_line("any TiKV client takes these addresses as its PD endpoints, in RAW mode");
    if options.exit_after.is_none() {
        print_line("Ctrl-C stops and removes it");
    }
    loop {
        cluster.check()?;
        sleep(POLL_INTERVAL * 10).await;
    }
}

async fn init(cluster: &mut DemoCluster, credentials: Credentials, address: &str) -> Result<(u64, bool)> {
    let began = Instant::now();
    loop {
        cluster.check()?;
        match operate::init_at(credentials, address, Keys::Raw).await {
            Ok(answer) => return Ok(answer),
            Err(failure) if began.elapsed() > STEP_TIMEOUT => return Err(failure),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

async fn write_first(cluster: &mut DemoCluster, client: &client::Client) -> Result<()> {
    let began = Instant::now();
    loop {
        cluster.check()?;
        match client.put("demo/first", "written").await {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > STEP_TIMEOUT => {
                return Err(Failure::new(Code::Failed, "write to the demo's cluster").because(&error));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits until the region of the client keyspace has three voters.
async fn wait_for_voters(cluster: &mut DemoCluster, credentials: Credentials, address: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        cluster.check()?;
        let regions = operate::regions_of(credentials, address).await.unwrap_or_default();
        if !regions.is_empty() && regions.iter().all(has_three_voters) {
            return Ok(());
        }
        if began.elapsed() > STEP_TIMEOUT {
            return Err(Failure::new(Code::Failed, "the region did not get three voters in time"));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn has_three_voters(view: &RegionView) -> bool {
    let voter = i32::from(proto::vocabulary::PeerRole::Voter);
    let peers = view.region.iter().flat_map(|region| &region.peers);
    peers.filter(|peer| peer.role == voter).count() >= 3
}

/// Returns at `deadline`; without one, never.
async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => drop(timeout_at(deadline, std::future::pending::<()>()).await),
        None => std::future::pending().await,
    }
}
