//! Regions that grow over a limit, and become several by themselves.

use std::time::{Duration, Instant};

use proto::{kvrpcpb as kv, metapb, pdpb, placement::KeysMode};
use types::memcomparable;

use crate::host::{Host, PATIENCE};

/// What a key looks like in a request.
fn user_key(number: u32) -> Vec<u8> {
    // As the keyspace `DEFAULT` has them; to a cluster of raw keys they are bytes like others.
    format!("r\0\0\0key {number:05}").into_bytes()
}

/// What a key looks like to the directory.
fn stored_key(keys: KeysMode, number: u32) -> Vec<u8> {
    match keys {
        KeysMode::Raw => user_key(number),
        KeysMode::Keyspaces | KeysMode::Txn | KeysMode::Unspecified => {
            memcomparable::encode_key(&user_key(number)).into()
        }
    }
}

/// For the region that holds a key, as a client would look it up.
async fn context_of(host: &Host, keys: KeysMode, number: u32) -> kv::Context {
    let region_key = stored_key(keys, number).into();
    let request = pdpb::GetRegionRequest { header: host.header(), region_key, need_buckets: false };
    let route = host.pd().get_region(request).await.expect("no key is without a region").into_inner();
    let region = route.region.expect("there is a region");
    kv::Context {
        region_id: region.id,
        region_epoch: region.region_epoch,
        peer: route.leader,
        api_version: if keys == KeysMode::Raw { 0 } else { 2 },
        ..kv::Context::default()
    }
}

/// Again while the region is another one by now.
async fn put(host: &Host, keys: KeysMode, number: u32) {
    let began = Instant::now();
    loop {
        let context = Some(context_of(host, keys, number).await);
        let (key, value) = (user_key(number).into(), vec![b'v'; 512].into());
        let request = kv::RawPutRequest { context, key, value, ..kv::RawPutRequest::default() };
        let done = host.tikv().raw_put(request).await.expect("answered").into_inner();
        if done.region_error.is_none() {
            assert_eq!(done.error, "");
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{done:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn regions(host: &Host) -> Vec<metapb::Region> {
    let scan = pdpb::ScanRegionsRequest { header: host.header(), limit: 0, ..Default::default() };
    host.pd().scan_regions(scan).await.expect("answered").into_inner().region_metas
}

/// Writes, until the one region has become at least so many without anybody asking for it.
async fn grow(keys: KeysMode, setting: &str, count: u32, least: usize) {
    let host = Host::start_with(keys, &["--set", setting]).await;
    for number in 0..count {
        put(&host, keys, number).await;
    }
    let began = Instant::now();
    let regions = loop {
        let regions = regions(&host).await;
        if regions.len() >= least {
            break regions;
        }
        assert!(began.elapsed() < PATIENCE, "{} regions", regions.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Each begins where the one before it ends, at a key that is a boundary in this cluster.
    let mut end_key = bytes::Bytes::new();
    for region in &regions {
        assert_eq!(region.start_key, end_key);
        end_key.clone_from(&region.end_key);
        let is_boundary = keys == KeysMode::Raw || memcomparable::decode_key(&end_key).is_some();
        assert!(is_boundary || end_key.is_empty(), "{end_key:?}");
    }
    assert!(end_key.is_empty());
    for number in 0..count {
        let context = Some(context_of(&host, keys, number).await);
        let get = kv::RawGetRequest { context, key: user_key(number).into(), ..Default::default() };
        let found = host.tikv().raw_get(get).await.expect("answered").into_inner();
        assert_eq!((found.region_error, found.value.len()), (None, 512), "key {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_holds_too_many_bytes_becomes_several() {
    grow(KeysMode::Raw, "region_split_size=32KiB", 400, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_holds_too_many_keys_becomes_several() {
    grow(KeysMode::Raw, "region_split_keys=50", 400, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_of_keyspaces_become_several_at_keys() {
    grow(KeysMode::Keyspaces, "region_split_size=32KiB", 400, 7).await;
}
