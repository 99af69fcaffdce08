//! The public protocol against bytes written by hand: what another client sends is understood, and what it expects is
//! sent. Names and numbers are those of the interface, not of our definitions.

use bytes::Bytes;
use proto::{Message, errorpb, health, keyspacepb, kvrpcpb, meta_storagepb, metapb, pdpb, tikvpb};

/// A field whose value is bytes, text or a message.
fn bytes(number: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A field whose value is a number, a truth value or an enum.
fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let low = value.to_le_bytes()[0];
    if value < 0x80 { vec![low] } else { [vec![low | 0x80], varint(value >> 7)].concat() }
}

/// Both ways: the message has these bytes, and these bytes are the message.
#[track_caller]
fn check<M: Message + PartialEq + Default + std::fmt::Debug>(message: M, fields: &[Vec<u8>]) {
    assert_eq!(message.encode_to_vec(), fields.concat());
    assert_eq!(M::decode(Bytes::from(fields.concat())), Ok(message));
}

fn peer_bytes(id: u64, store_id: u64) -> Vec<u8> {
    [number(1, id), number(2, store_id)].concat()
}

fn peer(id: u64, store_id: u64) -> metapb::Peer {
    metapb::Peer { id, store_id, ..Default::default() }
}

fn region() -> metapb::Region {
    metapb::Region {
        id: 2,
        start_key: "a".into(),
        end_key: "b".into(),
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 5, version: 6 }),
        peers: vec![metapb::Peer { role: metapb::PeerRole::DemotingVoter.into(), ..peer(7, 8) }],
    }
}

fn region_bytes() -> Vec<u8> {
    let epoch = [number(1, 5), number(2, 6)].concat();
    let peer = [peer_bytes(7, 8), number(3, 3)].concat();
    [number(1, 2), bytes(2, "a"), bytes(3, "b"), bytes(4, epoch), bytes(5, peer)].concat()
}

#[test]
fn regions_and_stores() {
    check(region(), &[region_bytes()]);
    let store = metapb::Store {
        id: 1,
        address: "h:1".into(),
        state: metapb::StoreState::Tombstone.into(),
        labels: vec![metapb::StoreLabel { key: "zone".into(), value: "z".into() }],
        version: "8.5.0".into(),
        peer_address: "p".into(),
        status_address: "s".into(),
        git_hash: "g".into(),
        start_timestamp: 9,
        last_heartbeat: 11,
        node_state: metapb::NodeState::Removed.into(),
    };
    let label = [bytes(1, "zone"), bytes(2, "z")].concat();
    let texts = [bytes(5, "8.5.0"), bytes(6, "p"), bytes(7, "s"), bytes(8, "g")].concat();
    let numbers = [number(9, 9), number(11, 11), number(13, 3)].concat();
    check(store, &[number(1, 1), bytes(2, "h:1"), number(3, 2), bytes(4, label), texts, numbers]);
}

#[test]
fn contexts_with_our_fields() {
    let context = kvrpcpb::Context {
        region_id: 2,
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 5, version: 6 }),
        peer: Some(peer(7, 8)),
        term: 3,
        replica_read: true,
        stale_read: true,
        api_version: kvrpcpb::ApiVersion::V2.into(),
        keyspace_id: 4,
        cluster_id: 1,
        sheaf_client_id: 11,
        sheaf_sequence: 12,
        sheaf_low_water_mark: 10,
        ..Default::default()
    };
    let epoch = [number(1, 5), number(2, 6)].concat();
    let theirs = [
        [number(1, 2), bytes(2, epoch), bytes(3, peer_bytes(7, 8)), number(5, 3)].concat(),
        [number(12, 1), number(17, 1), number(21, 2), number(32, 4), number(35, 1)].concat(),
    ];
    let ours = [number(10_000, 11), number(10_001, 12), number(10_002, 10)].concat();
    check(context, &[theirs.concat(), ours]);
}

#[test]
fn data_requests() {
    let put = kvrpcpb::RawPutRequest {
        context: Some(kvrpcpb::Context { region_id: 2, ..Default::default() }),
        key: "k".into(),
        value: "v".into(),
        cf: "default".into(),
        ttl: 60,
        for_cas: true,
    };
    let head = [bytes(1, number(1, 2)), bytes(2, "k"), bytes(3, "v")].concat();
    check(put, &[head, bytes(4, "default"), number(5, 60), number(6, 1)]);

    let pair = kvrpcpb::KvPair { key: "k".into(), value: "v".into(), ..Default::default() };
    let pair_bytes = [bytes(2, "k"), bytes(3, "v")].concat();
    let batch =
        kvrpcpb::RawBatchPutRequest { pairs: vec![pair], ttl: 1, ttls: vec![1, 200], ..Default::default() };
    check(batch, &[bytes(2, pair_bytes), number(4, 1), bytes(6, [1, 0xc8, 0x01])]);

    let scan = kvrpcpb::RawScanRequest {
        start_key: "a".into(),
        limit: 10,
        key_only: true,
        reverse: true,
        end_key: "b".into(),
        ..Default::default()
    };
    check(scan, &[bytes(2, "a"), number(3, 10), number(4, 1), number(6, 1), bytes(7, "b")]);

    let range = kvrpcpb::KeyRange { start_key: "a".into(), end_key: "b".into() };
    let range_bytes = [bytes(1, "a"), bytes(2, "b")].concat();
    let scans =
        kvrpcpb::RawBatchScanRequest { ranges: vec![range.clone()], each_limit: 3, ..Default::default() };
    check(scans, &[bytes(2, &range_bytes), number(3, 3)]);
    let checksum = kvrpcpb::RawChecksumRequest { ranges: vec![range], ..Default::default() };
    check(checksum, &[bytes(3, range_bytes)]);

    let swap = kvrpcpb::RawCasRequest {
        key: "k".into(),
        value: "v".into(),
        previous_not_exist: true,
        previous_value: "p".into(),
        ttl: 7,
        delete: true,
        ..Default::default()
    };
    check(swap, &[bytes(2, "k"), bytes(3, "v"), number(4, 1), bytes(5, "p"), number(7, 7), number(8, 1)]);
}

#[test]
fn data_responses() {
    let get = kvrpcpb::RawGetResponse {
        error: "e".into(),
        value: "v".into(),
        not_found: true,
        ..Default::default()
    };
    check(get, &[bytes(2, "e"), bytes(3, "v"), number(4, 1)]);
    let pair = kvrpcpb::KvPair { key: "k".into(), value: "v".into(), ..Default::default() };
    let scan = kvrpcpb::RawScanResponse { kvs: vec![pair], ..Default::default() };
    check(scan, &[bytes(2, [bytes(2, "k"), bytes(3, "v")].concat())]);
    let ttl = kvrpcpb::RawGetKeyTtlResponse { ttl: 5, not_found: true, ..Default::default() };
    check(ttl, &[number(3, 5), number(4, 1)]);
    let swap = kvrpcpb::RawCasResponse {
        succeed: true,
        previous_not_exist: true,
        previous_value: "p".into(),
        ..Default::default()
    };
    check(swap, &[number(3, 1), number(4, 1), bytes(5, "p")]);
    let checksum =
        kvrpcpb::RawChecksumResponse { checksum: 1, total_kvs: 2, total_bytes: 3, ..Default::default() };
    check(checksum, &[number(3, 1), number(4, 2), number(5, 3)]);
    let not_leader = errorpb::NotLeader { region_id: 2, leader: Some(peer(7, 8)) };
    let region_error =
        errorpb::Error { message: "m".into(), not_leader: Some(not_leader), ..Default::default() };
    let put = kvrpcpb::RawPutResponse { region_error: Some(region_error), ..Default::default() };
    let not_leader = [number(1, 2), bytes(2, peer_bytes(7, 8))].concat();
    check(put, &[bytes(1, [bytes(1, "m"), bytes(2, not_leader)].concat())]);
}

#[test]
fn region_errors() {
    let error = errorpb::Error {
        region_not_found: Some(errorpb::RegionNotFound { region_id: 2 }),
        key_not_in_region: Some(errorpb::KeyNotInRegion {
            key: "k".into(),
            region_id: 2,
            ..Default::default()
        }),
        epoch_not_match: Some(errorpb::EpochNotMatch { current_regions: vec![region()] }),
        server_is_busy: Some(errorpb::ServerIsBusy {
            reason: "r".into(),
            backoff_ms: 5,
            ..Default::default()
        }),
        stale_command: Some(errorpb::StaleCommand {}),
        store_not_match: Some(errorpb::StoreNotMatch { request_store_id: 1, actual_store_id: 2 }),
        raft_entry_too_large: Some(errorpb::RaftEntryTooLarge { region_id: 2, entry_size: 9 }),
        read_index_not_ready: Some(errorpb::ReadIndexNotReady { reason: "r".into(), region_id: 2 }),
        data_is_not_ready: Some(errorpb::DataIsNotReady { region_id: 2, ..Default::default() }),
        region_not_initialized: Some(errorpb::RegionNotInitialized { region_id: 2 }),
        disk_full: Some(errorpb::DiskFull { store_id: vec![3], reason: "r".into() }),
        mismatch_peer_id: Some(errorpb::MismatchPeerId { request_peer_id: 1, store_peer_id: 2 }),
        undetermined_result: Some(errorpb::UndeterminedResult { message: "u".into() }),
        ..Default::default()
    };
    let pair = |first, second| [number(1, first), number(2, second)].concat();
    let fields = [
        bytes(3, number(1, 2)),
        bytes(4, [bytes(1, "k"), number(2, 2)].concat()),
        bytes(5, bytes(1, region_bytes())),
        bytes(6, [bytes(1, "r"), number(2, 5)].concat()),
        bytes(7, []),
        bytes(8, pair(1, 2)),
        bytes(9, pair(2, 9)),
        bytes(11, [bytes(1, "r"), number(2, 2)].concat()),
        bytes(13, number(1, 2)),
        bytes(14, number(1, 2)),
        bytes(15, [bytes(1, [3]), bytes(2, "r")].concat()),
        bytes(20, pair(1, 2)),
        bytes(22, bytes(1, "u")),
    ];
    check(error, &fields);
}

#[test]
fn a_batch_keeps_the_place_of_commands_that_are_not_known() {
    use tikvpb::batch_commands_request::request::Cmd;
    let get = bytes(13, bytes(2, "k"));
    let prewrite = bytes(3, bytes(3, "primary"));
    let empty = bytes(255, [number(1, 6), number(2, 7)].concat());
    let requests = [bytes(1, get), bytes(1, prewrite), bytes(1, []), bytes(1, empty)].concat();
    let batch = [requests, bytes(2, [1, 2, 3, 4])].concat();
    let batch = tikvpb::BatchCommandsRequest::decode(Bytes::from(batch)).unwrap();
    assert_eq!(batch.request_ids, [1, 2, 3, 4]);
    let commands: Vec<_> = batch.requests.into_iter().map(|request| request.cmd).collect();
    let get = kvrpcpb::RawGetRequest { key: "k".into(), ..Default::default() };
    let empty = tikvpb::BatchCommandsEmptyRequest { test_id: 6, delay_time: 7 };
    assert_eq!(commands, [Some(Cmd::RawGet(get)), None, None, Some(Cmd::Empty(empty))]);
}

#[test]
fn batches_answer_under_the_numbers_of_the_requests() {
    use tikvpb::{
        BatchCommandsResponse, batch_commands_response::Response, batch_commands_response::response::Cmd,
    };
    let commands = [
        (13, Cmd::RawGet(Default::default())),
        (14, Cmd::RawBatchGet(Default::default())),
        (15, Cmd::RawPut(Default::default())),
        (16, Cmd::RawBatchPut(Default::default())),
        (17, Cmd::RawDelete(Default::default())),
        (18, Cmd::RawBatchDelete(Default::default())),
        (19, Cmd::RawScan(Default::default())),
        (20, Cmd::RawDeleteRange(Default::default())),
        (21, Cmd::RawBatchScan(Default::default())),
        (39, Cmd::GetHealthFeedback(Default::default())),
        (255, Cmd::Empty(Default::default())),
    ];
    for (at, cmd) in commands {
        let responses = vec![Response { cmd: Some(cmd) }];
        let batch = BatchCommandsResponse { responses, request_ids: vec![9], ..Default::default() };
        check(batch, &[bytes(1, bytes(at, [])), bytes(2, [9])]);
    }
}

#[test]
fn values_of_a_batch_are_slices_of_the_frame() {
    let put = [bytes(2, "key"), bytes(3, "value")].concat();
    let frame = Bytes::from([bytes(1, bytes(15, put)), bytes(2, [1])].concat());
    let within = frame.as_ptr_range();
    let batch = tikvpb::BatchCommandsRequest::decode(frame).unwrap();
    let Some(tikvpb::batch_commands_request::request::Cmd::RawPut(put)) = &batch.requests[0].cmd else {
        panic!("{batch:?}")
    };
    assert!(within.contains(&put.key.as_ptr()));
    assert!(within.contains(&put.value.as_ptr()));
}

#[test]
fn placement_answers() {
    let header = Some(pdpb::ResponseHeader { cluster_id: 1, error: None });
    let header_bytes = bytes(1, number(1, 1));
    let member = pdpb::Member {
        name: "n".into(),
        member_id: 4,
        client_urls: vec!["http://h:1".into()],
        ..Default::default()
    };
    let member_bytes = [bytes(1, "n"), number(2, 4), bytes(4, "http://h:1")].concat();
    let members = pdpb::GetMembersResponse {
        header: header.clone(),
        members: vec![member.clone()],
        leader: Some(member),
        etcd_leader: None,
    };
    check(members, &[header_bytes.clone(), bytes(2, &member_bytes), bytes(3, member_bytes)]);

    let down = pdpb::PeerStats { peer: Some(peer(7, 8)), down_seconds: 3 };
    let down_bytes = [bytes(1, peer_bytes(7, 8)), number(2, 3)].concat();
    let found = pdpb::GetRegionResponse {
        header: header.clone(),
        region: Some(region()),
        leader: Some(peer(7, 8)),
        down_peers: vec![down],
        pending_peers: vec![peer(7, 8)],
    };
    let head = [header_bytes.clone(), bytes(2, region_bytes()), bytes(3, peer_bytes(7, 8))].concat();
    check(found, &[head, bytes(5, &down_bytes), bytes(6, peer_bytes(7, 8))]);

    let listed = pdpb::Region {
        region: Some(region()),
        leader: Some(peer(7, 8)),
        down_peers: vec![down],
        pending_peers: vec![peer(7, 8)],
    };
    let listed_bytes = [
        [bytes(1, region_bytes()), bytes(2, peer_bytes(7, 8))].concat(),
        [bytes(3, down_bytes), bytes(4, peer_bytes(7, 8))].concat(),
    ];
    let scanned = pdpb::ScanRegionsResponse {
        header: header.clone(),
        region_metas: vec![region()],
        leaders: vec![peer(7, 8)],
        regions: vec![listed],
    };
    let metas = [bytes(2, region_bytes()), bytes(3, peer_bytes(7, 8))].concat();
    check(scanned, &[header_bytes.clone(), metas, bytes(4, listed_bytes.concat())]);

    let entry = pdpb::RegionResponse { region: Some(region()), ..Default::default() };
    let queried = pdpb::QueryRegionResponse {
        header: header.clone(),
        key_id_map: vec![2, 2],
        prev_key_id_map: vec![2],
        regions_by_id: [(2, entry)].into(),
    };
    let entry = [number(1, 2), bytes(2, bytes(1, region_bytes()))].concat();
    check(queried, &[header_bytes.clone(), bytes(2, [2, 2]), bytes(3, [2]), bytes(4, entry)]);

    let timestamp = Some(pdpb::Timestamp { physical: 5, logical: 6, suffix_bits: 0 });
    let timestamps = pdpb::TsoResponse { header: header.clone(), count: 2, timestamp };
    check(timestamps, &[header_bytes.clone(), number(2, 2), bytes(3, [number(1, 5), number(2, 6)].concat())]);

    let cluster = pdpb::GetClusterInfoResponse {
        header,
        service_modes: vec![pdpb::ServiceMode::PdSvcMode.into()],
        tso_urls: vec!["u".into()],
    };
    check(cluster, &[header_bytes, bytes(2, [1]), bytes(3, "u")]);
}

#[test]
fn placement_requests() {
    let header = Some(pdpb::RequestHeader { cluster_id: 1, sender_id: 2 });
    let header_bytes = bytes(1, [number(1, 1), number(2, 2)].concat());
    let get = pdpb::GetRegionRequest { header, region_key: "k".into(), need_buckets: true };
    check(get, &[header_bytes.clone(), bytes(2, "k"), number(3, 1)]);
    let scan = pdpb::ScanRegionsRequest { header, start_key: "a".into(), limit: 64, end_key: "b".into() };
    check(scan, &[header_bytes.clone(), bytes(2, "a"), number(3, 64), bytes(4, "b")]);
    let range = pdpb::KeyRange { start_key: "a".into(), end_key: "b".into() };
    let scans = pdpb::BatchScanRegionsRequest {
        header,
        need_buckets: true,
        ranges: vec![range],
        limit: 5,
        contain_all_key_range: true,
    };
    let range = [bytes(1, "a"), bytes(2, "b")].concat();
    check(scans, &[header_bytes.clone(), number(2, 1), bytes(3, range), number(4, 5), number(5, 1)]);
    let query = pdpb::QueryRegionRequest {
        header,
        need_buckets: true,
        ids: vec![2],
        keys: vec!["k".into()],
        prev_keys: vec!["p".into()],
    };
    check(query, &[header_bytes.clone(), number(2, 1), bytes(3, [2]), bytes(4, "k"), bytes(5, "p")]);
    let split = pdpb::SplitRegionsRequest { header, split_keys: vec!["s".into()], retry_limit: 4 };
    check(split, &[header_bytes.clone(), bytes(2, "s"), number(3, 4)]);
    let header = Some(pdpb::ResponseHeader { cluster_id: 1, error: None });
    let split = pdpb::SplitRegionsResponse { header, finished_percentage: 100, regions_id: vec![7, 8] };
    check(split, &[bytes(1, number(1, 1)), number(2, 100), bytes(3, [7, 8])]);
}

#[test]
fn splits_of_one_region() {
    let context = Some(kvrpcpb::Context { region_id: 2, ..Default::default() });
    let split = kvrpcpb::SplitRegionRequest {
        context,
        split_key: "a".into(),
        split_keys: vec!["b".into(), "c".into()],
        is_raw_kv: true,
    };
    check(split, &[bytes(1, number(1, 2)), bytes(2, "a"), bytes(3, "b"), bytes(3, "c"), number(4, 1)]);
    let split = kvrpcpb::SplitRegionResponse {
        region_error: None,
        left: Some(region()),
        right: Some(region()),
        regions: vec![region()],
    };
    check(split, &[bytes(2, region_bytes()), bytes(3, region_bytes()), bytes(4, region_bytes())]);
}

#[test]
fn keyspaces_health_and_metadata() {
    let keyspace = keyspacepb::KeyspaceMeta { id: 3, name: "n".into(), ..Default::default() };
    let header = Some(pdpb::ResponseHeader { cluster_id: 1, error: None });
    let loaded = keyspacepb::LoadKeyspaceResponse { header, keyspace: Some(keyspace) };
    check(loaded, &[bytes(1, number(1, 1)), bytes(2, [number(1, 3), bytes(2, "n")].concat())]);
    let serving = health::health_check_response::ServingStatus::Serving.into();
    check(health::HealthCheckResponse { status: serving }, &[number(1, 1)]);
    let asked = meta_storagepb::GetRequest { key: "k".into(), ..Default::default() };
    check(asked, &[bytes(2, "k")]);
    let header = Some(meta_storagepb::ResponseHeader { cluster_id: 1, revision: 8 });
    let answer = meta_storagepb::GetResponse { header, count: 0, ..Default::default() };
    check(answer, &[bytes(1, [number(1, 1), number(3, 8)].concat())]);
}
