//! Changes of a region's peers that must not happen, or not now, or not twice.

use std::{io::Write, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use proto::{
    admin::{AddPeerRequest, ChangeTerms, DrainRequest, MovePeersRequest, RemovePeerRequest},
    placement::{AllocateIds, OperationState},
    vocabulary::Epoch,
};
use rustix::process::Signal;
use tests::{Cluster, Options, eventually, refusal};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(120);
const REGION: u64 = 2;

/// The device of the fourth store where one is filled up, and what is left free on it.
const DEVICE_MIB: u64 = 192;
const LEFT_MIB: u64 = 6;

async fn four_stores() -> Result<Cluster> {
    let cluster = Cluster::start(Options { stores: 4, ..Options::default() }).await?;
    cluster.settle(3).await?;
    Ok(cluster)
}

/// The region's epoch and the stores of its peers, and a store without one.
async fn region(cluster: &Cluster) -> Result<(Epoch, Vec<u64>, u64)> {
    let (region, _) = cluster.region(REGION).await?;
    let with: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
    let all = cluster.stores().await?.into_iter().filter_map(|view| view.store.map(|row| row.id));
    let without = all.into_iter().find(|id| !with.contains(id)).context("a store without a peer")?;
    Ok((region.epoch.context("an epoch")?, with, without))
}

fn move_to(store_ids: &[u64], terms: ChangeTerms) -> MovePeersRequest {
    MovePeersRequest { region_id: REGION, store_ids: store_ids.to_vec(), terms: Some(terms) }
}

/// Refused with this code, in words with these in them.
async fn check_refused(
    cluster: &Cluster,
    request: MovePeersRequest,
    code: Code,
    words: &[String],
) -> Result<()> {
    let mut found = None;
    // The placement group may change its leader just now.
    eventually("a refusal", PATIENCE, async || {
        let asked = cluster.operate(async |mut admin| admin.move_peers(request.clone()).await).await;
        found = Some(refusal(asked).with_context(|| format!("{request:?}"))?);
        ensure!(found.as_ref().is_some_and(|status| status.code() == code), "{request:?}: {found:?}");
        Ok(())
    })
    .await?;
    let status = found.context("a status")?;
    for words in words {
        ensure!(status.message().contains(words), "{words:?} is missing in {status:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_peers_that_cannot_be_are_refused() -> Result<()> {
    let cluster = four_stores().await?;
    let (epoch, with, without) = region(&cluster).await?;
    let any = ChangeTerms::default();

    let unknown = move_to(&[with[0], with[1], 99_999], any);
    check_refused(&cluster, unknown, Code::NotFound, &["there is no store 99999".to_owned()]).await?;
    for nonsense in [vec![], vec![with[0], with[0], with[1]]] {
        let words = ["at least one voter".to_owned()];
        check_refused(&cluster, move_to(&nonsense, any), Code::InvalidArgument, &words).await?;
    }
    let elsewhere = MovePeersRequest { region_id: 99_999, ..move_to(&with, any) };
    check_refused(&cluster, elsewhere, Code::NotFound, &["no region 99999".to_owned()]).await?;

    let add = AddPeerRequest { region_id: REGION, store_id: with[0], ..AddPeerRequest::default() };
    let status = refusal(cluster.operate(async |mut admin| admin.add_peer(add).await).await)?;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(&format!("on store {} already", with[0])), "{status:?}");
    let remove = RemovePeerRequest { region_id: REGION, store_id: without, terms: None };
    let status = refusal(cluster.operate(async |mut admin| admin.remove_peer(remove).await).await)?;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(&format!("store {without}")), "{status:?}");

    // Delayed: the region has gone on, or has not come so far as the sender believes.
    let words = [format!("has epoch {}.{} now", epoch.conf_version, epoch.version)];
    let Epoch { conf_version, version } = epoch;
    for wrong in [
        Epoch { conf_version: conf_version - 1, version },
        Epoch { conf_version: conf_version + 1, version },
        Epoch { conf_version, version: version + 1 },
    ] {
        let delayed = move_to(&[with[0], with[1], without], ChangeTerms { epoch: Some(wrong), ..any });
        check_refused(&cluster, delayed, Code::FailedPrecondition, &words).await?;
    }
    let invented = move_to(&[with[0], with[1], without], ChangeTerms { change_id: 1 << 60, ..any });
    check_refused(&cluster, invented, Code::InvalidArgument, &["never given out".to_owned()]).await?;

    let drain = |is_undone| DrainRequest { store_id: without, is_undone };
    cluster.operate(async |mut admin| admin.drain(drain(false)).await).await?;
    let drained = move_to(&[with[0], with[1], without], any);
    check_refused(&cluster, drained.clone(), Code::InvalidArgument, &["being drained".to_owned()]).await?;
    cluster.operate(async |mut admin| admin.drain(drain(true)).await).await?;

    let (after, still_with, _) = region(&cluster).await?;
    assert_eq!((epoch, &with), (after, &still_with), "nothing was done");
    is_refused_to_a_silent_store(cluster, drained).await
}

/// A store that has been silent for ten seconds gets no peers either; and the others serve on.
async fn is_refused_to_a_silent_store(mut cluster: Cluster, request: MovePeersRequest) -> Result<()> {
    let silent = *request.store_ids.last().context("a store")?;
    cluster.kill(cluster.find_store(silent).await?)?;
    eventually("the store to count as silent", PATIENCE, async || {
        let stores = cluster.stores().await?;
        let is_alive = |id| {
            let view = stores.iter().find(|view| view.store.as_ref().is_some_and(|row| row.id == id));
            view.is_some_and(|view| view.is_alive)
        };
        ensure!(!is_alive(silent), "it is alive");
        Ok(())
    })
    .await?;
    check_refused(&cluster, request, Code::InvalidArgument, &["has not been heard".to_owned()]).await?;
    cluster.client().await?.put("after", "all").await?;
    Ok(())
}

/// While a change runs, another one is told which and how far it is; the same one, named by its id, is only told that
/// it is known, then and later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_happens_once_and_alone() -> Result<()> {
    let cluster = four_stores().await?;
    let (epoch, with, without) = region(&cluster).await?;
    let allocate = AllocateIds { count: 1 };
    let change_id = cluster.operate(async |mut admin| admin.allocate_ids(allocate).await).await?.first_id;
    let terms = ChangeTerms { epoch: Some(epoch), change_id, ..ChangeTerms::default() };
    let request = move_to(&[with[0], with[1], without], terms);
    let ask = async || {
        eventually("placement to know the change", PATIENCE, async || {
            let asked = cluster.operate(async |mut admin| admin.move_peers(request.clone()).await).await?;
            ensure!(asked.operation_id == change_id, "{asked:?} instead of {change_id}");
            Ok(())
        })
        .await
    };

    // The new peer's store does not answer, so the change cannot end.
    let target = cluster.find_store(without).await?;
    cluster.signal(target, Signal::STOP)?;
    for _ in 0..3 {
        ask().await?;
    }
    let words = [format!("operation {change_id} on region {REGION} is running")];
    let other = move_to(&[with[1], with[2], without], ChangeTerms::default());
    check_refused(&cluster, other, Code::FailedPrecondition, &words).await?;
    cluster.signal(target, Signal::CONT)?;
    let row = cluster.ended(change_id).await?;
    assert_eq!(row.state(), OperationState::Done, "{row:?}");

    // The epoch is another one by now, and nobody is told so: the change has happened.
    let before = cluster.operations().await?.len();
    ask().await?;
    assert_eq!(cluster.operations().await?.len(), before);
    let (_, mut now_with, _) = region(&cluster).await?;
    now_with.sort_unstable();
    let mut wanted = request.store_ids.clone();
    wanted.sort_unstable();
    assert_eq!(now_with, wanted);
    Ok(())
}

/// A store with nearly nothing free on its device gets no peers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_gets_no_peers() -> Result<()> {
    let mount = format!(
        "case \"$DATA_DIR\" in *-4) mount -t tmpfs -o size={DEVICE_MIB}m sheaf-test \"$DATA_DIR\";; esac && \
         exec \"$@\""
    );
    let own_users = if rustix::process::getuid().is_root() { "--mount" } else { "--map-root-user" };
    let launcher = ["unshare", "--mount", own_users, "--propagation", "private", "sh", "-c", &mount, "sh"];
    let sizes =
        ["reserve_space = \"8MiB\"", "log_memtable_size = \"16MiB\"", "kv_memtable_size = \"16MiB\"", ""];
    let mut cluster = Cluster::start(Options {
        stores: 3,
        configuration: sizes.join("\n"),
        launcher: launcher.map(str::to_owned).to_vec(),
        ..Options::default()
    })
    .await
    .context("a store on a mount of its own (this needs `unshare` and the right to use it)")?;
    cluster.settle(3).await?;
    let with: Vec<u64> = cluster.region(REGION).await?.0.peers.iter().map(|peer| peer.store_id).collect();
    let full = cluster.add_store()?;
    let full_id = cluster.store_id(full).await?;

    // The device as the store sees it.
    let device = format!("/proc/{}/root{}", cluster.pid(full)?, cluster.data_dir(full).display());
    let mut filler = std::fs::File::create(format!("{device}/filler"))?;
    while free_mib(&device)? > LEFT_MIB {
        filler.write_all(&[1; 1 << 20])?;
    }
    let request = move_to(&[with[0], with[1], full_id], ChangeTerms::default());
    eventually("placement to hear of the full device", PATIENCE, async || {
        let stores = cluster.stores().await?;
        let view = stores.into_iter().find(|view| view.store.as_ref().is_some_and(|row| row.id == full_id));
        let stats = view.and_then(|view| view.stats).context("no load is known")?;
        ensure!(stats.available_bytes * 100 < stats.capacity_bytes * 5, "{stats:?}");
        Ok(())
    })
    .await?;
    let words = [format!("store {full_id} is full")];
    check_refused(&cluster, request, Code::InvalidArgument, &words).await
}

fn free_mib(device: &str) -> Result<u64> {
    let output = Command::new("stat").args(["--file-system", "--format=%a %S", device]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (blocks, block_bytes) = text.trim().split_once(' ').context("what stat prints")?;
    Ok((blocks.parse::<u64>()? * block_bytes.parse::<u64>()?) >> 20)
}
