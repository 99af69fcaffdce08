//! Requests that are well formed and cannot be carried out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::{errorpb, kvrpcpb as kv, metapb, tikvpb::tikv_client::TikvClient};
use tests::{Cluster, Options, eventually};
use tonic::{Code, transport::Channel};

const KEY_BYTES_MAX: usize = 8 << 10;
const ENTRY_BYTES_MAX: usize = 6 << 20;

/// What a client that has looked the first region up puts into its requests.
pub(crate) async fn context(cluster: &Cluster) -> Result<kv::Context> {
    let mut context = kv::Context::default();
    eventually("a leader", Duration::from_secs(60), async || {
        let answer = cluster.first_region().await?;
        let region = answer.region.context("no region")?;
        context.region_id = region.id;
        context.region_epoch = region.region_epoch;
        let leader = answer.leader.context("no leader")?;
        // Clients are told who led it last while nobody does.
        ensure!(cluster.region(region.id).await?.1 == leader.store_id, "no leader");
        context.peer = Some(leader);
        Ok(())
    })
    .await?;
    Ok(context)
}

fn put(context: &kv::Context, key: Vec<u8>, value: Vec<u8>) -> kv::RawPutRequest {
    kv::RawPutRequest {
        context: Some(context.clone()),
        key: key.into(),
        value: value.into(),
        ..kv::RawPutRequest::default()
    }
}

fn get(context: &kv::Context, key: Vec<u8>) -> kv::RawGetRequest {
    kv::RawGetRequest { context: Some(context.clone()), key: key.into(), ..kv::RawGetRequest::default() }
}

async fn serving() -> Result<(Cluster, TikvClient<Channel>, kv::Context)> {
    let cluster = Cluster::start(Options { stores: 1, ..Options::default() }).await?;
    let (client, context) = (TikvClient::new(cluster.channel(0).await?), context(&cluster).await?);
    Ok((cluster, client.max_decoding_message_size(64 << 20), context))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_entries_have_bounds_in_writes_and_none_in_look_ups() -> Result<()> {
    let (_cluster, mut client, context) = serving().await?;
    let longest = vec![b'k'; KEY_BYTES_MAX];
    let too_long = vec![b'k'; KEY_BYTES_MAX + 1];
    let done = client.raw_put(put(&context, longest.clone(), b"1".to_vec())).await?.into_inner();
    assert_eq!(done, kv::RawPutResponse::default());
    for key in [too_long.clone(), Vec::new()] {
        let refused = client.raw_put(put(&context, key.clone(), b"1".to_vec())).await?.into_inner();
        assert!(!refused.error.is_empty() && refused.region_error.is_none(), "{refused:?}");
        let delete = kv::RawDeleteRequest {
            context: Some(context.clone()),
            key: key.clone().into(),
            ..kv::RawDeleteRequest::default()
        };
        assert!(!client.raw_delete(delete).await?.into_inner().error.is_empty());
        let swap = kv::RawCasRequest {
            context: Some(context.clone()),
            key: key.clone().into(),
            previous_not_exist: true,
            ..kv::RawCasRequest::default()
        };
        assert!(!client.raw_compare_and_swap(swap).await?.into_inner().error.is_empty());
        // One bad pair: nothing of the batch happens.
        let pair = |key: Vec<u8>| kv::KvPair { key: key.into(), value: "2".into(), ..kv::KvPair::default() };
        let batch = kv::RawBatchPutRequest {
            context: Some(context.clone()),
            pairs: vec![pair(b"beside".to_vec()), pair(key)],
            ..kv::RawBatchPutRequest::default()
        };
        assert!(!client.raw_batch_put(batch).await?.into_inner().error.is_empty());
        assert!(client.raw_get(get(&context, b"beside".to_vec())).await?.into_inner().not_found);
    }

    let fitting = put(&context, b"large".to_vec(), vec![b'v'; ENTRY_BYTES_MAX - 1_024]);
    assert_eq!(client.raw_put(fitting).await?.into_inner(), kv::RawPutResponse::default());
    let refused = client.raw_put(put(&context, b"larger".to_vec(), vec![b'v'; ENTRY_BYTES_MAX + 1])).await?;
    let error = refused.into_inner().region_error.context("it is refused")?;
    let error = error.raft_entry_too_large.context("for its size")?;
    assert!(error.entry_size > ENTRY_BYTES_MAX as u64, "{error:?}");
    assert!(client.raw_get(get(&context, b"larger".to_vec())).await?.into_inner().not_found);

    // Keys to look for and bounds of scans have any length.
    for key in [too_long.clone(), vec![0xff; 1 << 20], Vec::new()] {
        let found = client.raw_get(get(&context, key.clone())).await?.into_inner();
        assert!(found.not_found && found.error.is_empty() && found.region_error.is_none(), "{found:?}");
        let ttl = kv::RawGetKeyTtlRequest {
            context: Some(context.clone()),
            key: key.into(),
            ..kv::RawGetKeyTtlRequest::default()
        };
        assert!(client.raw_get_key_ttl(ttl).await?.into_inner().not_found);
    }
    let found = client.raw_get(get(&context, longest.clone())).await?.into_inner();
    assert_eq!(found.value, "1");
    let scan = kv::RawScanRequest {
        context: Some(context.clone()),
        start_key: vec![0xff; KEY_BYTES_MAX + 1].into(),
        end_key: vec![0; 1 << 20].into(),
        limit: 10,
        key_only: true,
        reverse: true,
        ..kv::RawScanRequest::default()
    };
    let scanned = client.raw_scan(scan).await?.into_inner();
    let keys: Vec<_> = scanned.kvs.iter().map(|pair| pair.key.to_vec()).collect();
    assert_eq!((scanned.region_error, keys), (None, vec![b"large".to_vec(), longest]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reversed_empty_and_zero_limit_scans_return_nothing() -> Result<()> {
    let (_cluster, mut client, context) = serving().await?;
    for key in ["a", "b", "c"] {
        client.raw_put(put(&context, key.into(), b"1".to_vec())).await?;
    }
    let scan = |start: &'static str, end: &'static str, limit, reverse| kv::RawScanRequest {
        context: Some(context.clone()),
        start_key: start.into(),
        end_key: end.into(),
        limit,
        reverse,
        ..kv::RawScanRequest::default()
    };
    // For a reverse scan the start is the upper bound.
    for (request, count) in [
        (scan("c", "a", 10, false), 0),
        (scan("b", "b", 10, false), 0),
        (scan("a", "c", 0, false), 0),
        (scan("a", "c", 10, true), 0),
        (scan("b", "b", 10, true), 0),
        (scan("c", "a", 0, true), 0),
        (scan("a", "c", 10, false), 2),
        (scan("c", "a", 10, true), 2),
    ] {
        let scanned = client.raw_scan(request.clone()).await?.into_inner();
        assert_eq!((scanned.kvs.len(), &scanned.region_error), (count, &None), "{request:?}");
    }
    let range = |start: &'static str, end: &'static str| kv::KeyRange {
        start_key: start.into(),
        end_key: end.into(),
    };
    let batch = |ranges, each_limit| kv::RawBatchScanRequest {
        context: Some(context.clone()),
        ranges,
        each_limit,
        ..kv::RawBatchScanRequest::default()
    };
    for (request, count) in [
        (batch(vec![range("c", "a"), range("b", "b")], 10), 0),
        (batch(vec![range("a", "")], 0), 0),
        (batch(Vec::new(), 10), 0),
        (batch(vec![range("c", "a"), range("a", "b")], 10), 1),
    ] {
        let scanned = client.raw_batch_scan(request.clone()).await?.into_inner();
        assert_eq!((scanned.kvs.len(), &scanned.region_error), (count, &None), "{request:?}");
    }
    let sum = kv::RawChecksumRequest {
        context: Some(context.clone()),
        ranges: vec![range("c", "a")],
        ..kv::RawChecksumRequest::default()
    };
    assert_eq!(client.raw_checksum(sum).await?.into_inner().total_kvs, 0);
    // A range that is empty has nothing to delete.
    for (start, end) in [("c", "a"), ("b", "b")] {
        let delete = kv::RawDeleteRangeRequest {
            context: Some(context.clone()),
            start_key: start.into(),
            end_key: end.into(),
            ..kv::RawDeleteRangeRequest::default()
        };
        assert_eq!(client.raw_delete_range(delete).await?.into_inner().region_error, None);
    }
    let scanned = client.raw_scan(scan("", "", 10, false)).await?.into_inner();
    assert_eq!(scanned.kvs.len(), 3, "everything is still there");
    Ok(())
}

/// One request to one store; its region error.
async fn refusal(client: &mut TikvClient<Channel>, context: kv::Context) -> Result<errorpb::Error> {
    let read = client.raw_get(get(&context, b"a".to_vec())).await?.into_inner().region_error;
    let write = client.raw_put(put(&context, b"a".to_vec(), b"1".to_vec())).await?.into_inner().region_error;
    let (read, write) = (read.context("the read is refused")?, write.context("the write is refused")?);
    assert_eq!(read, write, "reads and writes are refused alike");
    Ok(read)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_address_is_answered_with_the_first_error_that_applies() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let leader_at = cluster.leader().await?;
    let context = context(&cluster).await?;
    let own = context.peer.context("a peer")?;
    let region = cluster.first_region().await?.region.context("a region")?;
    let mut leader = TikvClient::new(cluster.channel(leader_at).await?);

    let stale = Some(metapb::RegionEpoch { conf_ver: 0, version: 0 });
    let future = Some(metapb::RegionEpoch { conf_ver: 1, version: 99 });
    for region_epoch in [stale, future] {
        let error = refusal(&mut leader, kv::Context { region_epoch, ..context.clone() }).await?;
        let current = error.epoch_not_match.context("another epoch")?.current_regions;
        assert_eq!(current, vec![region.clone()], "with the region as it is");
    }
    let unknown = kv::Context { region_id: 99, region_epoch: stale, ..context.clone() };
    let error = refusal(&mut leader, unknown.clone()).await?;
    assert_eq!(error.region_not_found, Some(errorpb::RegionNotFound { region_id: 99 }));

    let peer = Some(metapb::Peer { id: own.id + 77, ..own });
    let wrong_peer = kv::Context { peer, region_epoch: stale, ..context.clone() };
    let error = refusal(&mut leader, wrong_peer).await?;
    let mismatch = errorpb::MismatchPeerId { request_peer_id: own.id + 77, store_peer_id: own.id };
    assert_eq!(error.mismatch_peer_id, Some(mismatch));

    let peer = Some(metapb::Peer { store_id: 77, ..own });
    let error = refusal(&mut leader, kv::Context { peer, ..unknown }).await?;
    let mismatch = errorpb::StoreNotMatch { request_store_id: 77, actual_store_id: own.store_id };
    assert_eq!(error.store_not_match, Some(mismatch), "before all others");

    // A store that follows names the leader.
    let follower_at = (leader_at + 1) % 3;
    let mut follower = TikvClient::new(cluster.channel(follower_at).await?);
    let error =
        refusal(&mut follower, kv::Context { peer: None, region_epoch: stale, ..context.clone() }).await?;
    let not_leader = error.not_leader.context("it does not lead")?;
    assert_eq!((not_leader.region_id, not_leader.leader), (region.id, Some(own)));

    // Neither a context nor a region: no store could know what is meant.
    let answer = leader.raw_get(kv::RawGetRequest { key: "a".into(), ..kv::RawGetRequest::default() }).await;
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            assert!(!answer.error.is_empty() || answer.region_error.is_some(), "{answer:?}");
        }
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
    }
    Ok(())
}
