//! Splits by every service that takes them.

use std::time::{Duration, Instant};

use proto::{
    admin::{SplitRegionRequest, SplitRegionResponse, admin_client::AdminClient},
    kvrpcpb as kv, metapb, pdpb,
    placement::{AllocateIds, KeysMode},
    vocabulary::Epoch,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    FIRST_REGION, free_addresses, get,
    host::{Host, PATIENCE},
    put, wait_for_voters,
};

fn wish(region_id: u64, keys: &[&'static str]) -> SplitRegionRequest {
    let split_keys = keys.iter().map(|key| (*key).into()).collect();
    SplitRegionRequest { region_id, split_keys, ..SplitRegionRequest::default() }
}

async fn split(host: &Host, request: SplitRegionRequest) -> Result<SplitRegionResponse, Status> {
    admin(host).split_region(request).await.map(tonic::Response::into_inner)
}

fn admin(host: &Host) -> AdminClient<Channel> {
    AdminClient::new(host.channel.clone())
}

/// Where regions begin, as the directory knows them.
async fn starts(host: &Host) -> Vec<String> {
    let scan = pdpb::ScanRegionsRequest { header: host.header(), limit: 0, ..Default::default() };
    let scan = host.pd().scan_regions(scan).await.expect("answered").into_inner();
    let key = |region: &metapb::Region| String::from_utf8_lossy(&region.start_key).into_owned();
    scan.region_metas.iter().map(key).collect()
}

async fn context_of(host: &Host, key: &'static str) -> kv::Context {
    let began = Instant::now();
    loop {
        let request =
            pdpb::GetRegionRequest { header: host.header(), region_key: key.into(), need_buckets: false };
        let route = host.pd().get_region(request).await.expect("no key is without a region").into_inner();
        let region = route.region.expect("there is a region");
        if let Some(leader) = route.leader {
            return kv::Context {
                region_id: region.id,
                region_epoch: region.region_epoch,
                peer: Some(leader),
                ..kv::Context::default()
            };
        }
        assert!(began.elapsed() < PATIENCE, "region {} is not led", region.id);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_split_a_region_once_under_one_name() {
    let host = Host::start(KeysMode::Raw).await;
    let before = host.context().await;
    for key in ["a", "g", "x"] {
        let done = host.tikv().raw_put(put(before.clone(), key, key)).await.expect("answered").into_inner();
        assert_eq!(done, kv::RawPutResponse::default());
    }
    let ids = admin(&host).allocate_ids(AllocateIds { count: 1 }).await.expect("answered").into_inner();
    let named = SplitRegionRequest { change_id: ids.first_id, ..wish(FIRST_REGION, &["g", "m"]) };
    let done = split(&host, named.clone()).await.expect("it is split");
    assert_eq!(done.change_id, ids.first_id);
    let bounds: Vec<_> = done.regions.iter().map(|region| region.range.clone().unwrap_or_default()).collect();
    let bounds: Vec<_> =
        bounds.iter().map(|range| (range.start_key.as_ref(), range.end_key.as_ref())).collect();
    assert_eq!(bounds, [(&b""[..], &b"g"[..]), (b"g", b"m"), (b"m", b"")]);
    assert_eq!(starts(&host).await, ["", "g", "m"], "visible at once where it was asked for");

    // Again under its name, then under a new one for the old epoch, then as if nothing had been.
    let again = split(&host, named).await.expect("it is the same");
    assert_eq!(again, done);
    let old = Some(Epoch { conf_version: 1, version: 1 });
    let stale = split(&host, SplitRegionRequest { epoch: old, ..wish(FIRST_REGION, &["c"]) }).await;
    let stale = stale.expect_err("another epoch");
    let version = done.regions[0].epoch.expect("it has one").version;
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert!(stale.message().contains(&format!(".{version} now")), "{}", stale.message());

    // What the old epoch is told, and where the data is.
    let refused = host.tikv().raw_get(get(before, "g")).await.expect("answered").into_inner();
    let told = refused.region_error.and_then(|error| error.epoch_not_match).expect("another epoch");
    assert_eq!(
        (told.current_regions[0].id, told.current_regions[0].end_key.as_ref()),
        (FIRST_REGION, &b"g"[..])
    );
    for key in ["a", "g", "x"] {
        let found = host.tikv().raw_get(get(Some(context_of(&host, key).await), key)).await;
        assert_eq!(found.expect("answered").into_inner().value, key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_that_cannot_be_are_refused_and_said_why() {
    let host = Host::start(KeysMode::Raw).await;
    let done = split(&host, wish(FIRST_REGION, &["m"])).await.expect("it is split");
    let child = done.regions[1].id;
    let cases = [
        (wish(child, &["m"]), Code::InvalidArgument, "begins at key \"m\" already"),
        (wish(FIRST_REGION, &["m"]), Code::InvalidArgument, "is not inside region"),
        (wish(child, &["a"]), Code::InvalidArgument, "is not inside region"),
        (wish(child, &["z", "p"]), Code::InvalidArgument, "ascend"),
        (wish(child, &[]), Code::InvalidArgument, "from 1 to"),
        (wish(1, &["m"]), Code::InvalidArgument, "placement group"),
        (wish(999_999, &["m"]), Code::NotFound, "no region 999999"),
    ];
    for (request, code, text) in cases {
        let refused = split(&host, request.clone()).await.expect_err("it cannot be");
        assert_eq!(refused.code(), code, "{request:?}: {refused:?}");
        assert!(refused.message().contains(text), "{request:?}: {}", refused.message());
    }
    assert_eq!(starts(&host).await, ["", "m"], "nothing has happened");
    let other = SplitRegionRequest { change_id: done.change_id, ..wish(child, &["p"]) };
    let refused = split(&host, other).await.expect_err("the name of another split");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boundaries_of_keyspaces_are_keys_in_their_stored_form() {
    let host = Host::start(KeysMode::Keyspaces).await;
    let refused = split(&host, wish(FIRST_REGION, &["plain"])).await.expect_err("no boundary");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("memcomparable"), "{}", refused.message());
    let header = host.header();
    let request = pdpb::SplitRegionsRequest { header, split_keys: vec!["plain".into()], retry_limit: 0 };
    let refused = host.pd().split_regions(request).await.expect_err("no boundary");
    assert_eq!(refused.code(), Code::InvalidArgument);
    // The data service takes keys as users have them.
    let context = host.context().await.map(|context| kv::Context { api_version: 2, ..context });
    let request = kv::SplitRegionRequest {
        context,
        split_keys: vec!["r\0\0\0k".into()],
        is_raw_kv: true,
        ..kv::SplitRegionRequest::default()
    };
    let done = host.tikv().split_region(request).await.expect("answered").into_inner();
    assert_eq!(done.region_error, None);
    let stored = b"r\0\0\0k\0\0\0\xfc";
    assert_eq!(done.right.expect("two regions").start_key.as_ref(), stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_split_the_region_that_they_know() {
    let host = Host::start(KeysMode::Raw).await;
    let context = host.context().await.expect("a context");
    let wish = |context: &kv::Context, keys: &[&'static str]| kv::SplitRegionRequest {
        context: Some(context.clone()),
        split_keys: keys.iter().map(|key| (*key).into()).collect(),
        is_raw_kv: true,
        ..kv::SplitRegionRequest::default()
    };
    let done =
        host.tikv().split_region(wish(&context, &["m", "g", "g"])).await.expect("answered").into_inner();
    assert_eq!(done.region_error, None);
    let keys: Vec<_> = done.regions.iter().map(|region| region.start_key.as_ref()).collect();
    assert_eq!(keys, [&b""[..], b"g", b"m"]);
    let stale = host.tikv().split_region(wish(&context, &["c"])).await.expect("answered").into_inner();
    let told = stale.region_error.and_then(|error| error.epoch_not_match).expect("another epoch");
    assert_eq!(told.current_regions[0].id, context.region_id);
    let unknown = kv::Context { region_id: 999_999, ..context };
    let unknown = host.tikv().split_region(wish(&unknown, &["c"])).await.expect("answered").into_inner();
    assert!(unknown.region_error.is_some_and(|error| error.region_not_found.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_become_regions_on_three_stores_that_all_lead() {
    let addresses = free_addresses();
    let join = addresses.join(",");
    let mut hosts = Vec::new();
    for address in &addresses {
        hosts.push(Host::spawn(address, &["--join", &join]).await);
    }
    let cluster_id = hosts[0].init(KeysMode::Raw).await;
    for host in &mut hosts {
        host.cluster_id = cluster_id;
        host.wait_until_serving().await;
    }
    wait_for_voters(&hosts[0]).await;

    let keys: Vec<String> = (1..300).map(|at| format!("k{at:04}")).collect();
    let split_keys = keys.iter().map(|key| key.clone().into()).collect();
    let request = pdpb::SplitRegionsRequest { header: hosts[1].header(), split_keys, retry_limit: 0 };
    let done = hosts[1].pd().split_regions(request.clone()).await.expect("answered").into_inner();
    assert_eq!((done.finished_percentage, done.regions_id.len()), (100, 299));
    let again = hosts[2].pd().split_regions(request).await.expect("answered").into_inner();
    assert_eq!((again.finished_percentage, again.regions_id.len()), (100, 0), "they are there");

    let began = Instant::now();
    loop {
        let scan = pdpb::ScanRegionsRequest { header: hosts[0].header(), limit: 0, ..Default::default() };
        let scan = hosts[0].pd().scan_regions(scan).await.expect("answered").into_inner();
        let mut stores: Vec<u64> = scan.leaders.iter().map(|leader| leader.store_id).collect();
        stores.sort_unstable();
        let is_led = scan.regions.len() == 300 && !stores.contains(&0);
        stores.dedup();
        let scan_counts: Vec<usize> = stores
            .iter()
            .map(|store| scan.leaders.iter().filter(|leader| leader.store_id == *store).count())
            .collect();
        if is_led && stores.len() == 3 && scan_counts.iter().all(|count| *count > 50) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{} regions, led by {scan_counts:?}", scan.regions.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
