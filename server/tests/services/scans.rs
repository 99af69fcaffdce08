//! Scans of clients that know regions as they were.

use proto::{
    admin::{SplitRegionRequest, admin_client::AdminClient},
    kvrpcpb as kv, metapb, pdpb,
    placement::KeysMode,
    vocabulary,
};

use crate::{FIRST_REGION, host::Host, put};

const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

async fn write_all(host: &Host) {
    let context = host.context().await;
    for key in KEYS {
        let answer =
            host.tikv().raw_put(put(context.clone(), key, "value")).await.expect("answered").into_inner();
        assert_eq!(answer, kv::RawPutResponse::default());
    }
}

async fn split(host: &Host, region_id: u64, keys: &[&'static str]) -> Vec<vocabulary::Region> {
    let split_keys = keys.iter().map(|key| (*key).into()).collect();
    let split = SplitRegionRequest { region_id, split_keys, ..Default::default() };
    AdminClient::new(host.channel.clone())
        .split_region(split)
        .await
        .expect("it is split")
        .into_inner()
        .regions
}

async fn scan(host: &Host, request: kv::RawScanRequest) -> kv::RawScanResponse {
    host.tikv().raw_scan(request).await.expect("answered").into_inner()
}

fn keys_of(response: kv::RawScanResponse) -> String {
    assert_eq!(response.region_error, None);
    let keys = response.kvs.into_iter().map(|pair| String::from_utf8(pair.key.into()).expect("a letter"));
    keys.collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_is_whole_for_the_region_as_the_client_knows_it() {
    let host = Host::start(KeysMode::Raw).await;
    write_all(&host).await;
    let first = host.context().await;
    let last_child = split(&host, FIRST_REGION, &["c", "f"]).await.pop().expect("three regions").id;
    let second = host.context().await;
    split(&host, FIRST_REGION, &["b"]).await;
    split(&host, last_child, &["g", "h"]).await;

    let all = kv::RawScanRequest { context: first.clone(), limit: 100, ..Default::default() };
    assert_eq!(keys_of(scan(&host, all.clone()).await), "abcdefgh", "over six regions");
    assert_eq!(keys_of(scan(&host, kv::RawScanRequest { limit: 4, ..all.clone() }).await), "abcd");
    let some = kv::RawScanRequest { start_key: "bb".into(), end_key: "g".into(), ..all.clone() };
    assert_eq!(keys_of(scan(&host, some).await), "cdef");
    let reverse = kv::RawScanRequest { reverse: true, limit: 5, ..all.clone() };
    assert_eq!(keys_of(scan(&host, reverse).await), "hgfed");
    let none = kv::RawScanRequest { start_key: "x".into(), ..all.clone() };
    assert_eq!(keys_of(scan(&host, none).await), "");
    // The client goes on behind the end that it knows: nothing behind it is told.
    let to_c = kv::RawScanRequest { context: second, ..all.clone() };
    assert_eq!(keys_of(scan(&host, to_c).await), "ab");
    // Of no such region anything is known: the client has to ask again.
    for version in [0, 1_000] {
        let mut context = first.clone().expect("a context");
        context.region_epoch = context.region_epoch.map(|epoch| metapb::RegionEpoch { version, ..epoch });
        let refused = scan(&host, kv::RawScanRequest { context: Some(context), ..all.clone() }).await;
        assert!(
            refused.region_error.is_some_and(|error| error.epoch_not_match.is_some()),
            "version {version}"
        );
        assert!(refused.kvs.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_is_answered_by_whoever_has_the_keys() {
    let hosts = Host::cluster(3).await;
    write_all(&hosts[0]).await;
    let context = hosts[0].context().await.expect("a context");
    let request = pdpb::GetAllStoresRequest { header: hosts[0].header(), exclude_tombstone_stores: true };
    let stores = hosts[0].pd().get_all_stores(request).await.expect("answered").into_inner().stores;
    let regions = split(&hosts[0], FIRST_REGION, &["d"]).await;
    let peers = regions.into_iter().find(|region| region.id == FIRST_REGION).expect("it is there").peers;
    for host in &hosts {
        let store = stores.iter().find(|store| store.address == host.address).expect("it has joined");
        let own = peers.iter().find(|peer| peer.store_id == store.id).expect("a peer lives there");
        let peer = Some(metapb::Peer { id: own.id, store_id: own.store_id, ..Default::default() });
        let context = kv::Context { peer, ..context.clone() };
        let request = kv::RawScanRequest { context: Some(context.clone()), limit: 100, ..Default::default() };
        assert_eq!(keys_of(scan(host, request).await), "abcdefgh");
        // Nobody but the leader takes a write.
        let context = kv::Context { peer, ..host.context().await.expect("a context") };
        let written = host.tikv().raw_put(put(Some(context), "a", "value")).await;
        let error = written.expect("answered").into_inner().region_error;
        let leader = hosts[0].context().await.and_then(|context| context.peer).expect("a leader");
        assert_eq!(error.is_some_and(|error| error.not_leader.is_some()), own.id != leader.id);
    }
}
