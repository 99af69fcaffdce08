//! The verbs of an operator that need no more than one question to any store.

use std::time::Duration;

use placement::KeyMode;
use proto::{
    admin::{
        ClusterStatusRequest, ClusterStatusResponse, DrainRequest, ForgetStoreRequest, InitRequest,
        ListRegionsRequest, admin_client::AdminClient,
    },
    placement::{RegionView, StoreView},
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};
use transport::{Credentials, DialError, dial};

use crate::{
    book::name_of,
    cli::{Keys, print_line},
    failure::{Code, Failure, Result},
    service::{key_mode_of_number, key_mode_to_number},
};

/// How long an answer may take: `init` may be passed on, and wait for a store that is being opened.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// `sheaf init`.
pub(crate) fn init(address: &str, keys: Keys, is_insecure: bool) -> Result<()> {
    let credentials = Credentials::plaintext(is_insecure);
    let (cluster_id, was_initialized) = block_on(init_at(credentials, address, keys))??;
    print_line(&if was_initialized {
        format!("cluster {cluster_id} was initialized before")
    } else {
        format!("cluster {cluster_id} is initialized")
    });
    Ok(())
}

/// Asks the store at `address` for a cluster; its id, and whether it was there before.
pub(crate) async fn init_at(credentials: Credentials, address: &str, keys: Keys) -> Result<(u64, bool)> {
    let key_mode = match keys {
        Keys::Raw => KeyMode::Raw,
        Keys::Keyspaces => KeyMode::Keyspaces,
    };
    let mut client = connect(credentials, address).await?;
    let request = Request::new(InitRequest { keys: key_mode_to_number(key_mode) });
    let answer = answered(address, "initialize the cluster", client.init(request)).await?;
    Ok((answer.cluster_id, answer.was_initialized))
}

/// `sheaf status`.
pub(crate) fn status(address: &str, is_insecure: bool) -> Result<()> {
    let credentials = Credentials::plaintext(is_insecure);
    let status = block_on(status_of(credentials, address))??;
    print_line(&describe(&status));
    Ok(())
}

/// `sheaf store drain`.
pub(crate) fn drain_store(address: &str, store_id: u64, is_undone: bool, is_insecure: bool) -> Result<()> {
    let credentials = Credentials::plaintext(is_insecure);
    block_on(async {
        let mut client = connect(credentials, address).await?;
        let request = Request::new(DrainRequest { store_id, is_undone });
        answered(address, &format!("drain store {store_id}"), client.drain(request)).await
    })??;
    print_line(&if is_undone {
        format!("store {store_id} is filled again")
    } else {
        format!("store {store_id} drains: `sheaf status` shows the peers that are left")
    });
    Ok(())
}

/// `sheaf store forget`.
pub(crate) fn forget_store(address: &str, store_id: u64, is_insecure: bool) -> Result<()> {
    let credentials = Credentials::plaintext(is_insecure);
    block_on(async {
        let mut client = connect(credentials, address).await?;
        let request = Request::new(ForgetStoreRequest { store_id });
        answered(address, &format!("forget store {store_id}"), client.forget_store(request)).await
    })??;
    print_line(&format!("store {store_id} is removed for good; what it held is replaced"));
    Ok(())
}

/// What the store at `address` says of the cluster.
pub(crate) async fn status_of(credentials: Credentials, address: &str) -> Result<ClusterStatusResponse> {
    let mut client = connect(credentials, address).await?;
    let request = Request::new(ClusterStatusRequest {});
    answered(address, "ask for the cluster's status", client.cluster_status(request)).await
}

/// Every region, as the store at `address` knows them.
pub(crate) async fn regions_of(credentials: Credentials, address: &str) -> Result<Vec<RegionView>> {
    let mut client = connect(credentials, address).await?;
    let request = Request::new(ListRegionsRequest::default());
    Ok(answered(address, "ask for the regions", client.list_regions(request)).await?.regions)
}

async fn connect(credentials: Credentials, address: &str) -> Result<AdminClient<Channel>> {
    dial(credentials, address, 1 << 20)
        .await
        .map(AdminClient::new)
        .map_err(|error| unreachable(address, &error))
}

fn unreachable(address: &str, error: &DialError) -> Failure {
    Failure::new(Code::Unreachable, format!("no store answers at {address}"))
        .because(error)
        .hint("name a store that runs with --addr; beyond the loopback interface say --insecure")
}

/// The answer, if it comes in time; `what` was asked for.
async fn answered<T>(
    address: &str,
    what: &str,
    asked: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let answer = timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| {
        Failure::new(
            Code::Unreachable,
            format!("the store at {address} took the question and did not answer"),
        )
    })?;
    let refused = |status: Status| {
        let cause = std::io::Error::other(status.message().to_owned());
        Failure::new(Code::Failed, what).because(&cause)
    };
    Ok(answer.map_err(refused)?.into_inner())
}

fn describe(status: &ClusterStatusResponse) -> String {
    let mut lines = Vec::new();
    if let Some(settings) = &status.settings {
        let keys = key_mode_of_number(settings.keys).map_or("unknown", name_of);
        lines.push(format!(
            "cluster {}  version {}  keys {keys}  voters {}",
            settings.cluster_id, settings.cluster_version, settings.voter_count
        ));
        let leader = match status.placement_leader_store_id {
            0 => "unknown".to_owned(),
            id => format!("store {id}"),
        };
        lines.push(format!(
            "placement leader {leader}  regions {}  without leader {}",
            status.region_count, status.regions_without_leader_count
        ));
    }
    if !status.stores.is_empty() {
        lines.push(format!(
            "{:<8} {:<24} {:<6} {:>8} {:>8} {:>12}",
            "STORE", "ADDRESS", "LIVE", "PEERS", "LEADERS", "FREE"
        ));
        lines.extend(status.stores.iter().map(store_line));
    }
    lines.extend(status.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

fn store_line(view: &StoreView) -> String {
    let row = view.store.clone().unwrap_or_default();
    let mut line =
        format!("{:<8} {:<24} {:<6}", row.id, row.address, if view.is_alive { "yes" } else { "no" });
    match &view.stats {
        Some(stats) => {
            let free = format!("{:.1} GiB", stats.available_bytes as f64 / f64::from(1 << 30));
            line.push_str(&format!(" {:>8} {:>8} {free:>12}", stats.peer_count, stats.leader_count));
        }
        None => line.push_str("        -        -            -"),
    }
    line
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, "start the runtime").because(&error))?;
    Ok(runtime.block_on(work))
}
