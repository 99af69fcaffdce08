#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O shell: a real process, real time"
)]
//! Every method of the public protocol, asked of one real store.

mod host;
mod scans;
mod scatter;
mod sizes;
mod splits;

use std::time::{Duration, Instant};

use proto::{
    admin::{self, admin_client::AdminClient},
    health::{HealthCheckRequest, health_client::HealthClient},
    keyspacepb::{LoadKeyspaceRequest, keyspace_client::KeyspaceClient},
    kvrpcpb as kv, meta_storagepb as meta,
    meta_storagepb::meta_storage_client::MetaStorageClient,
    metapb, pdpb,
    placement::KeysMode,
    tikvpb::{self, batch_commands_request::request::Cmd, batch_commands_response::response::Cmd as Told},
};
use tonic::{Code, Request};

use crate::host::{Host, PATIENCE};

pub(crate) const FIRST_REGION: u64 = 2;

pub(crate) fn put(context: Option<kv::Context>, key: &str, value: &str) -> kv::RawPutRequest {
    kv::RawPutRequest {
        context,
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn get(context: Option<kv::Context>, key: &str) -> kv::RawGetRequest {
    kv::RawGetRequest { context, key: key.to_owned().into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placement_answers_every_question() {
    let host = Host::start(KeysMode::Raw).await;
    let (mut pd, header) = (host.pd(), host.header());

    let members = pd.get_members(pdpb::GetMembersRequest::default()).await.expect("answered").into_inner();
    assert_eq!(members.header.map(|header| (header.cluster_id, header.error)), Some((host.cluster_id, None)));
    let url = format!("http://{}", host.address);
    assert_eq!(members.leader.map(|leader| leader.client_urls), Some(vec![url.clone()]));
    assert!(
        members.members.iter().all(|member| !member.name.is_empty() && member.client_urls == [url.clone()])
    );

    let wrong = Some(pdpb::RequestHeader { cluster_id: host.cluster_id ^ 1, sender_id: 0 });
    let refused =
        pd.get_members(pdpb::GetMembersRequest { header: wrong }).await.expect_err("another cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let all = pd.get_all_stores(pdpb::GetAllStoresRequest { header, exclude_tombstone_stores: true }).await;
    let stores = all.expect("answered").into_inner().stores;
    assert_eq!(stores.len(), 1);
    assert_eq!(stores[0].address, host.address, "without a scheme");
    let request = pdpb::GetStoreRequest { header, store_id: stores[0].id };
    let store = pd.get_store(request).await.expect("answered").into_inner().store.expect("it is there");
    assert_eq!((store.version.as_str(), store.status_address), ("8.5.0", host.address.clone()));
    let missing =
        pd.get_store(pdpb::GetStoreRequest { header, store_id: 77 }).await.expect("answered").into_inner();
    let error = missing.header.and_then(|header| header.error).expect("it is not there");
    assert!(
        error.message.contains("invalid store ID") && error.message.contains("not found"),
        "{}",
        error.message
    );

    let by_id = pdpb::GetRegionByIdRequest { header, region_id: FIRST_REGION, need_buckets: true };
    let by_id = pd.get_region_by_id(by_id).await.expect("answered").into_inner();
    assert_eq!(by_id.region.map(|region| region.id), Some(FIRST_REGION));
    let group = pdpb::GetRegionByIdRequest { header, region_id: 1, need_buckets: false };
    assert_eq!(pd.get_region_by_id(group).await.expect("answered").into_inner().region, None, "never shown");
    let long_key = vec![0xff; 8_193];
    let previous = pdpb::GetRegionRequest { header, region_key: long_key.into(), need_buckets: false };
    let previous = pd.get_prev_region(previous).await.expect("answered").into_inner();
    assert_eq!(previous.region, None, "there is none before the first");
    let scan = pdpb::ScanRegionsRequest { header, limit: 64, ..Default::default() };
    let scan = pd.scan_regions(scan).await.expect("answered").into_inner();
    assert_eq!((scan.region_metas.len(), scan.leaders.len(), scan.regions.len()), (1, 1, 1));
    let ranges = vec![pdpb::KeyRange::default()];
    let scan = pdpb::BatchScanRegionsRequest { header, ranges, limit: 10, ..Default::default() };
    assert_eq!(pd.batch_scan_regions(scan).await.expect("answered").into_inner().regions.len(), 1);

    let info =
        pd.get_cluster_info(pdpb::GetClusterInfoRequest { header }).await.expect("answered").into_inner();
    assert_eq!(info.service_modes, [i32::from(pdpb::ServiceMode::PdSvcMode)]);
    let operator = pdpb::GetOperatorRequest { header, region_id: FIRST_REGION };
    assert!(pd.get_operator(operator).await.expect("answered").into_inner().header.is_some());
    let scatter = pdpb::ScatterRegionRequest { header, region_id: FIRST_REGION, ..Default::default() };
    assert_eq!(pd.scatter_region(scatter).await.expect("answered").into_inner().finished_percentage, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_placement_answer_and_end() {
    let host = Host::start(KeysMode::Raw).await;
    let (mut pd, header) = (host.pd(), host.header());

    // One message and a half-close: a stream of two requests is answered twice and ends well.
    let requests = [3, 2].map(|count| pdpb::TsoRequest { header, count, ..Default::default() });
    let mut answers = pd.tso(futures::stream::iter(requests)).await.expect("opened").into_inner();
    let mut versions = Vec::new();
    while let Some(answer) = answers.message().await.expect("it ends well") {
        let timestamp = answer.timestamp.expect("a timestamp");
        versions.push(((timestamp.physical, timestamp.logical), answer.count));
    }
    assert_eq!(versions.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3, 2]);
    assert!(versions[0].0 < versions[1].0, "{versions:?}");

    let request = pdpb::QueryRegionRequest {
        header,
        ids: vec![FIRST_REGION, 99],
        keys: vec!["a".into(), "z".into()],
        prev_keys: vec!["a".into()],
        ..Default::default()
    };
    let mut answers = pd.query_region(futures::stream::iter([request])).await.expect("opened").into_inner();
    let answer = answers.message().await.expect("answered").expect("one answer");
    assert_eq!(answer.key_id_map, [FIRST_REGION, FIRST_REGION]);
    assert_eq!(answer.prev_key_id_map, [0]);
    assert_eq!(answer.regions_by_id.keys().copied().collect::<Vec<_>>(), [FIRST_REGION]);
    assert!(answers.message().await.expect("it ends well").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_single_data_request_is_answered() {
    let host = Host::start(KeysMode::Raw).await;
    let (mut tikv, context) = (host.tikv(), host.context().await);
    let done = tikv.raw_put(put(context.clone(), "a", "1")).await.expect("answered").into_inner();
    assert_eq!(done, kv::RawPutResponse::default());
    let found = tikv.raw_get(get(context.clone(), "a")).await.expect("answered").into_inner();
    assert_eq!((found.value.as_ref(), found.not_found), (&b"1"[..], false));
    let pair = |key: &'static str| kv::KvPair { key: key.into(), value: "v".into(), ..Default::default() };
    let batch = kv::RawBatchPutRequest {
        context: context.clone(),
        pairs: vec![pair("b"), pair("c"), pair("d")],
        ttls: vec![100],
        ..Default::default()
    };
    assert_eq!(
        tikv.raw_batch_put(batch).await.expect("answered").into_inner(),
        kv::RawBatchPutResponse::default()
    );
    let keys = vec!["a".into(), "b".into(), "nothing".into()];
    let batch = kv::RawBatchGetRequest { context: context.clone(), keys, ..Default::default() };
    assert_eq!(tikv.raw_batch_get(batch).await.expect("answered").into_inner().pairs.len(), 2);
    let ttl = kv::RawGetKeyTtlRequest { context: context.clone(), key: "b".into(), ..Default::default() };
    assert!((90..=100).contains(&tikv.raw_get_key_ttl(ttl).await.expect("answered").into_inner().ttl));
    let scan = kv::RawScanRequest { context: context.clone(), limit: 2, reverse: true, ..Default::default() };
    let scan = tikv.raw_scan(scan).await.expect("answered").into_inner();
    assert_eq!(scan.kvs.iter().map(|pair| pair.key.as_ref()).collect::<Vec<_>>(), [b"d", b"c"]);
    let ranges = vec![kv::KeyRange { start_key: "a".into(), end_key: "c".into() }];
    let scan =
        kv::RawBatchScanRequest { context: context.clone(), ranges, each_limit: 9, ..Default::default() };
    assert_eq!(tikv.raw_batch_scan(scan).await.expect("answered").into_inner().kvs.len(), 2);
    let sum = kv::RawChecksumRequest {
        context: context.clone(),
        ranges: vec![kv::KeyRange::default()],
        ..Default::default()
    };
    assert_eq!(tikv.raw_checksum(sum).await.expect("answered").into_inner().total_kvs, 4);
    let swap = kv::RawCasRequest {
        context: context.clone(),
        key: "a".into(),
        value: "2".into(),
        previous_value: "1".into(),
        ..Default::default()
    };
    let swap = tikv.raw_compare_and_swap(swap).await.expect("answered").into_inner();
    assert_eq!((swap.succeed, swap.previous_value.as_ref()), (true, &b"1"[..]));
    let delete = kv::RawDeleteRequest { context: context.clone(), key: "a".into(), ..Default::default() };
    assert_eq!(
        tikv.raw_delete(delete).await.expect("answered").into_inner(),
        kv::RawDeleteResponse::default()
    );
    let keys = vec!["b".into()];
    let delete = kv::RawBatchDeleteRequest { context: context.clone(), keys, ..Default::default() };
    assert_eq!(tikv.raw_batch_delete(delete).await.expect("answered").into_inner().region_error, None);
    let delete =
        kv::RawDeleteRangeRequest { context: context.clone(), start_key: "c".into(), ..Default::default() };
    assert_eq!(tikv.raw_delete_range(delete).await.expect("answered").into_inner().region_error, None);
    let scan = kv::RawScanRequest { context, limit: 9, ..Default::default() };
    assert!(tikv.raw_scan(scan).await.expect("answered").into_inner().kvs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_what_clients_act_on() {
    let host = Host::start(KeysMode::Raw).await;
    let (mut tikv, context) = (host.tikv(), host.context().await.expect("a context"));
    let mut refusal = async |context: kv::Context| {
        tikv.raw_get(get(Some(context), "a")).await.expect("answered").into_inner()
    };
    let error = refusal(kv::Context { region_id: 99, ..context.clone() }).await.region_error;
    assert!(error.is_some_and(|error| error.region_not_found.is_some()));
    let epoch = Some(metapb::RegionEpoch { conf_ver: 9, version: 9 });
    let error = refusal(kv::Context { region_epoch: epoch, ..context.clone() }).await.region_error;
    let current = error.and_then(|error| error.epoch_not_match).expect("another epoch").current_regions;
    assert_eq!(current.iter().map(|region| region.id).collect::<Vec<_>>(), [FIRST_REGION]);
    let peer = context.peer.map(|peer| metapb::Peer { store_id: 77, ..peer });
    let error = refusal(kv::Context { peer, ..context.clone() }).await.region_error;
    assert!(error.is_some_and(|error| error.store_not_match.is_some()));
    let error = refusal(kv::Context { stale_read: true, ..context.clone() }).await.region_error;
    assert!(error.is_some_and(|error| error.data_is_not_ready.is_some()));
    let answer = refusal(kv::Context { api_version: 2, ..context.clone() }).await;
    assert!(answer.region_error.is_none() && answer.error.contains("keyspace"), "{answer:?}");
    let answer = refusal(kv::Context { cluster_id: 5, ..context.clone() }).await;
    assert!(answer.error.contains("cluster 5"), "{answer:?}");
    // Some clients warm their connections up with an empty key, which must not be stored.
    let answer = host.tikv().raw_put(put(Some(context), "", "v")).await.expect("answered").into_inner();
    assert!(!answer.error.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_request_by_request() {
    let host = Host::start(KeysMode::Raw).await;
    let context = host.context().await;
    let ask = |cmd| tikvpb::batch_commands_request::Request { cmd };
    let requests = vec![
        ask(Some(Cmd::RawPut(put(context.clone(), "a", "1")))),
        ask(Some(Cmd::RawGet(kv::RawGetRequest { cf: "write".into(), ..get(context.clone(), "a") }))),
        ask(None),
        ask(Some(Cmd::Empty(tikvpb::BatchCommandsEmptyRequest { test_id: 7, delay_time: 1 }))),
        ask(Some(Cmd::GetHealthFeedback(kv::GetHealthFeedbackRequest::default()))),
        ask(Some(Cmd::RawPut(put(None, "a", "1")))),
    ];
    let batch =
        tikvpb::BatchCommandsRequest { requests, request_ids: (1..=6).collect(), client_send_time_ns: 0 };
    let mut answers =
        host.tikv().batch_commands(futures::stream::iter([batch])).await.expect("opened").into_inner();
    let mut told = std::collections::BTreeMap::new();
    while let Some(answer) = answers.message().await.expect("it ends well, for the client has half-closed") {
        assert_eq!(answer.responses.len(), answer.request_ids.len());
        told.extend(
            answer.request_ids.into_iter().zip(answer.responses.into_iter().map(|response| response.cmd)),
        );
    }
    assert_eq!(told.len(), 6);
    assert_eq!(told[&1], Some(Told::RawPut(kv::RawPutResponse::default())));
    assert!(matches!(&told[&2], Some(Told::RawGet(answer)) if answer.error.contains("column family")));
    assert_eq!(told[&3], None, "a command that is not known");
    assert!(matches!(&told[&4], Some(Told::Empty(answer)) if answer.test_id == 7));
    assert!(matches!(&told[&5], Some(Told::GetHealthFeedback(_))));
    assert!(matches!(&told[&6], Some(Told::RawPut(answer)) if !answer.error.is_empty()));

    // What makes no sense ends its own stream, and no other.
    let requests = vec![ask(Some(Cmd::RawGet(get(context.clone(), "a"))))];
    let broken = tikvpb::BatchCommandsRequest { requests, request_ids: vec![], client_send_time_ns: 0 };
    let mut answers =
        host.tikv().batch_commands(futures::stream::iter([broken])).await.expect("opened").into_inner();
    assert_eq!(answers.message().await.expect_err("refused").code(), Code::InvalidArgument);
    let found = host.tikv().raw_get(get(context, "a")).await.expect("answered").into_inner();
    assert_eq!(found.value, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_http_and_operators() {
    let host = Host::start(KeysMode::Raw).await;
    let health = HealthClient::new(host.channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(health.expect("answered").into_inner().status, 1);
    let meta = MetaStorageClient::new(host.channel.clone()).get(meta::GetRequest::default()).await;
    assert!(meta.expect("answered").into_inner().kvs.is_empty());
    let load = LoadKeyspaceRequest { header: host.header(), name: "DEFAULT".into() };
    let load =
        KeyspaceClient::new(host.channel.clone()).load_keyspace(load).await.expect("answered").into_inner();
    assert!(load.header.and_then(|header| header.error).is_some(), "this cluster has no keyspaces");

    assert_eq!(host.http("/livez").await, (200, "ok\n".to_owned()));
    let (status, text) = host.http("/readyz?verbose").await;
    assert_eq!((status, text.contains("[+] placement-leader-known")), (200, true), "{text}");
    let (_, config) = host.http("/config").await;
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["storage"]["api-version"], 1);
    assert_eq!(host.http("/pd/api/v1/regions").await, (200, "{\"count\":1}\n".to_owned()));
    let (_, metrics) = host.http("/metrics").await;
    for name in ["sheaf_log_fsyncs_total", "process_cpu_seconds_total", "sheaf_store_regions"] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name} is missing in {metrics}");
    }

    let mut client = AdminClient::new(host.channel.clone());
    let again = client.init(admin::InitRequest::default()).await.expect("answered").into_inner();
    assert_eq!((again.cluster_id, again.was_initialized), (host.cluster_id, true));
    let status = client.cluster_status(admin::ClusterStatusRequest {}).await.expect("answered").into_inner();
    assert_eq!((status.region_count, status.stores.len()), (1, 1));
    let regions =
        client.list_regions(admin::ListRegionsRequest::default()).await.expect("answered").into_inner();
    assert_eq!((regions.regions.len(), regions.next_key), (1, None));
    let own = status.stores[0].store.as_ref().map_or(0, |store| store.id);
    let transfer = |to_store_id| admin::TransferLeaderRequest { region_id: FIRST_REGION, to_store_id };
    client.transfer_leader(transfer(own)).await.expect("it leads already");
    assert_eq!(
        client.transfer_leader(transfer(77)).await.expect_err("no peer").code(),
        Code::FailedPrecondition
    );
    let remove = admin::RemovePeerRequest { region_id: FIRST_REGION, store_id: own, terms: None };
    assert!(client.remove_peer(Request::new(remove)).await.is_err(), "the last peer stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyspaces_hide_how_keys_are_stored() {
    let host = Host::start(KeysMode::Keyspaces).await;
    let mut keyspaces = KeyspaceClient::new(host.channel.clone());
    let load = |name: &str| LoadKeyspaceRequest { header: host.header(), name: name.into() };
    let default = keyspaces.load_keyspace(load("DEFAULT")).await.expect("answered").into_inner();
    assert_eq!(default.keyspace.map(|keyspace| (keyspace.id, keyspace.state)), Some((0, 0)));
    let other = keyspaces.load_keyspace(load("other")).await.expect("answered").into_inner();
    assert!(other.keyspace.is_none() && other.header.and_then(|header| header.error).is_some());

    let plain = host.context().await;
    let context = plain.clone().map(|context| kv::Context { api_version: 2, ..context });
    let key = "r\0\0\0key";
    let mut tikv = host.tikv();
    assert_eq!(tikv.raw_put(put(context.clone(), key, "v")).await.expect("answered").into_inner().error, "");
    assert!(!tikv.raw_put(put(plain, key, "v")).await.expect("answered").into_inner().error.is_empty());
    assert!(
        !tikv
            .raw_put(put(context.clone(), "key", "v"))
            .await
            .expect("answered")
            .into_inner()
            .error
            .is_empty()
    );
    let scan = kv::RawScanRequest {
        context,
        start_key: "r\0\0\0".into(),
        end_key: "r\0\0\u{1}".into(),
        limit: 10,
        ..Default::default()
    };
    let scan = tikv.raw_scan(scan).await.expect("answered").into_inner();
    assert_eq!(scan.kvs.iter().map(|pair| pair.key.as_ref()).collect::<Vec<_>>(), [key.as_bytes()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stores_found_one_cluster_and_hand_leaders_about() {
    let addresses = free_addresses(3);
    let join = addresses.join(",");

    // The store that sorts first is silent: nobody else may found a cluster.
    let last = Host::spawn(&addresses[2], &["--join", &join]).await;
    let refused = AdminClient::new(last.channel.clone()).init(admin::InitRequest::default()).await;
    let refused = refused.expect_err("the first store is silent");
    assert!(refused.message().contains(&addresses[0]), "{}", refused.message());

    let mut hosts = vec![last];
    for address in &addresses[..2] {
        hosts.push(Host::spawn(address, &["--join", &join]).await);
    }
    let ids = [
        hosts[0].init(KeysMode::Raw).await,
        hosts[2].init(KeysMode::Raw).await,
        hosts[1].init(KeysMode::Raw).await,
    ];
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    for host in &mut hosts {
        host.cluster_id = ids[0];
        host.wait_until_serving().await;
    }

    let voters = wait_for_voters(&hosts[0]).await;
    let mut client = AdminClient::new(hosts[0].channel.clone());
    for to_store_id in voters {
        let began = Instant::now();
        // Whoever is asked passes it on to the leader.
        loop {
            let transfer = admin::TransferLeaderRequest { region_id: FIRST_REGION, to_store_id };
            let result = client.transfer_leader(transfer).await;
            if leader_of(&hosts[0]).await == Some(to_store_id) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "store {to_store_id} does not lead: {result:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Addresses that nobody has, in order.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    let sockets: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let mut addresses: Vec<String> =
        sockets.iter().map(|socket| socket.local_addr().expect("it is bound").to_string()).collect();
    addresses.sort();
    addresses
}

async fn region_of(host: &Host) -> pdpb::GetRegionResponse {
    let request =
        pdpb::GetRegionByIdRequest { header: host.header(), region_id: FIRST_REGION, need_buckets: false };
    host.pd().get_region_by_id(request).await.expect("answered").into_inner()
}

async fn leader_of(host: &Host) -> Option<u64> {
    region_of(host).await.leader.map(|leader| leader.store_id)
}

/// The stores of the first region, once there are three and all of them vote.
pub(crate) async fn wait_for_voters(host: &Host) -> Vec<u64> {
    let began = Instant::now();
    loop {
        let peers = region_of(host).await.region.map(|region| region.peers).unwrap_or_default();
        if peers.len() == 3 && peers.iter().all(|peer| peer.role == 0) {
            return peers.iter().map(|peer| peer.store_id).collect();
        }
        assert!(began.elapsed() < PATIENCE, "three voters do not come: {peers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
