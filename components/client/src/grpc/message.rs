//! Between the client's words and the public protocol's: calls become requests, responses become replies.

use std::time::Duration;

use bytes::Bytes;
use proto::{
    convert::RequestContext,
    errorpb,
    kvrpcpb::{self as wire, KvPair},
    tikvpb::{
        batch_commands_request::request::Cmd as RequestCmd,
        batch_commands_response::response::Cmd as ResponseCmd,
    },
};
use types::{Answer, ClusterId, CompareAndSwap, KeyRange, Outcome, Pair, Peer, Region, Scan};

use crate::core::{Call, CallError, RegionError, Reply, Work};

/// What a call came to.
pub(super) type Outcomes = Result<Reply, CallError>;

/// How a call travels.
pub(super) enum Outgoing {
    /// In the stream of the store, together with others.
    Batched(RequestCmd),
    /// Alone: the stream has no such command.
    Alone(Unary),
}

/// The commands that the batch stream lacks.
pub(super) enum Unary {
    CompareAndSwap(wire::RawCasRequest),
    KeyTtl(wire::RawGetKeyTtlRequest),
    Checksum(wire::RawChecksumRequest),
}

/// Bytes of keys and values: what a message may hold is counted with it.
pub(super) fn size_bytes(work: &Work) -> usize {
    match work {
        Work::Put(pair) => pair.key.len() + pair.value.len(),
        Work::BatchPut { pairs } => pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum(),
        Work::BatchGet { keys } | Work::BatchDelete { keys } => keys.iter().map(Bytes::len).sum(),
        Work::Get { key } | Work::KeyTtl { key } | Work::Delete { key } => key.len(),
        Work::Scan(Scan { range, .. }) | Work::Checksum { range } | Work::DeleteRange { range } => {
            range.start_key.len() + range.end_key.len()
        }
        Work::CompareAndSwap(swap) => {
            let value_len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
            swap.key.len() + value_len(&swap.expected) + value_len(&swap.replacement)
        }
    }
}

/// Spells a call in the protocol's words.
pub(super) fn encode(call: Call, cluster_id: ClusterId) -> Outgoing {
    let context = Some(context(&call, cluster_id));
    let cf = String::new();
    Outgoing::Batched(match call.work {
        Work::Get { key } => RequestCmd::RawGet(wire::RawGetRequest { context, key, cf }),
        Work::BatchGet { keys } => RequestCmd::RawBatchGet(wire::RawBatchGetRequest { context, keys, cf }),
        Work::Scan(scan) => RequestCmd::RawScan(scan_request(context, scan)),
        Work::Put(Pair { key, value, ttl_seconds }) => RequestCmd::RawPut(wire::RawPutRequest {
            context,
            key,
            value,
            cf,
            ttl: ttl_seconds,
            for_cas: false,
        }),
        Work::BatchPut { pairs } => RequestCmd::RawBatchPut(batch_put_request(context, pairs)),
        Work::Delete { key } => {
            RequestCmd::RawDelete(wire::RawDeleteRequest { context, key, cf, for_cas: false })
        }
        Work::BatchDelete { keys } => {
            RequestCmd::RawBatchDelete(wire::RawBatchDeleteRequest { context, keys, cf, for_cas: false })
        }
        Work::DeleteRange { range: KeyRange { start_key, end_key } } => {
            RequestCmd::RawDeleteRange(wire::RawDeleteRangeRequest { context, start_key, end_key, cf })
        }
        Work::KeyTtl { key } => {
            return Outgoing::Alone(Unary::KeyTtl(wire::RawGetKeyTtlRequest { context, key, cf }));
        }
        Work::Checksum { range: KeyRange { start_key, end_key } } => {
            return Outgoing::Alone(Unary::Checksum(wire::RawChecksumRequest {
                context,
                algorithm: wire::ChecksumAlgorithm::Crc64Xor.into(),
                ranges: vec![wire::KeyRange { start_key, end_key }],
            }));
        }
        Work::CompareAndSwap(swap) => {
            return Outgoing::Alone(Unary::CompareAndSwap(cas_request(context, swap)));
        }
    })
}

fn context(call: &Call, cluster_id: ClusterId) -> wire::Context {
    RequestContext {
        region_id: call.region.id,
        epoch: call.region.epoch,
        peer: Some(call.peer),
        term: None,
        cluster_id: Some(cluster_id),
        api_version: proto::convert::ApiVersion::V1,
        is_replica_read: false,
        is_stale_read: false,
        session: None,
    }
    .into()
}

fn scan_request(context: Option<wire::Context>, scan: Scan) -> wire::RawScanRequest {
    let KeyRange { start_key, end_key } = scan.range;
    // A reverse scan names its upper bound first.
    let (start_key, end_key) = if scan.is_reverse { (end_key, start_key) } else { (start_key, end_key) };
    wire::RawScanRequest {
        context,
        start_key,
        limit: scan.limit,
        key_only: scan.is_key_only,
        cf: String::new(),
        reverse: scan.is_reverse,
        end_key,
    }
}

fn batch_put_request(context: Option<wire::Context>, pairs: Vec<Pair>) -> wire::RawBatchPutRequest {
    let first_ttl = pairs.first().map_or(0, |pair| pair.ttl_seconds);
    let ttls = if pairs.iter().all(|pair| pair.ttl_seconds == first_ttl) {
        if first_ttl == 0 { Vec::new() } else { vec![first_ttl] }
    } else {
        pairs.iter().map(|pair| pair.ttl_seconds).collect()
    };
    let pairs =
        pairs.into_iter().map(|pair| KvPair { key: pair.key, value: pair.value, ..KvPair::default() });
    wire::RawBatchPutRequest { context, pairs: pairs.collect(), ttls, ..wire::RawBatchPutRequest::default() }
}

fn cas_request(context: Option<wire::Context>, swap: CompareAndSwap) -> wire::RawCasRequest {
    wire::RawCasRequest {
        context,
        key: swap.key,
        delete: swap.replacement.is_none(),
        value: swap.replacement.unwrap_or_default(),
        previous_not_exist: swap.expected.is_none(),
        previous_value: swap.expected.unwrap_or_default(),
        cf: String::new(),
        ttl: swap.ttl_seconds,
    }
}

/// What a response of the batch stream says.
pub(super) fn decode(response: Option<ResponseCmd>) -> Outcomes {
    let Some(response) = response else {
        return Err(CallError::Refused("the store does not know the command".to_owned()));
    };
    match response {
        ResponseCmd::RawPut(response) => written(response.region_error, response.error),
        ResponseCmd::RawBatchPut(response) => written(response.region_error, response.error),
        ResponseCmd::RawDelete(response) => written(response.region_error, response.error),
        ResponseCmd::RawBatchDelete(response) => written(response.region_error, response.error),
        ResponseCmd::RawDeleteRange(response) => written(response.region_error, response.error),
        ResponseCmd::RawGet(response) => {
            check(response.region_error, response.error)?;
            Ok(Reply::Read(Answer::Value((!response.not_found).then_some(response.value))))
        }
        ResponseCmd::RawBatchGet(response) => pairs(response.region_error, response.pairs),
        ResponseCmd::RawScan(response) => pairs(response.region_error, response.kvs),
        ResponseCmd::RawBatchScan(response) => pairs(response.region_error, response.kvs),
        ResponseCmd::GetHealthFeedback(_) | ResponseCmd::Empty(_) => {
            // Some stores answer so to a request that they cannot read. Whatever they did, it was not the request.
            Err(CallError::Refused("the store answers with something else".to_owned()))
        }
    }
}

/// What a store says about a compare-and-swap.
pub(super) fn decode_swap(response: wire::RawCasResponse) -> Outcomes {
    check(response.region_error, response.error)?;
    let previous = (!response.previous_not_exist).then_some(response.previous_value);
    Ok(Reply::Written(Outcome::Swapped { is_swapped: response.succeed, previous }))
}

/// What a store says about a TTL.
pub(super) fn decode_ttl(response: wire::RawGetKeyTtlResponse) -> Outcomes {
    check(response.region_error, response.error)?;
    Ok(Reply::Read(Answer::Ttl((!response.not_found).then_some(response.ttl))))
}

/// What a store says about a checksum.
pub(super) fn decode_checksum(response: wire::RawChecksumResponse) -> Outcomes {
    check(response.region_error, response.error)?;
    Ok(Reply::Read(Answer::Checksum {
        checksum: response.checksum,
        total_pairs: response.total_kvs,
        total_bytes: response.total_bytes,
    }))
}

fn written(region_error: Option<errorpb::Error>, error: String) -> Outcomes {
    check(region_error, error)?;
    Ok(Reply::Written(Outcome::Done))
}

fn pairs(region_error: Option<errorpb::Error>, pairs: Vec<KvPair>) -> Outcomes {
    check(region_error, String::new())?;
    Ok(Reply::Read(Answer::Pairs(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())))
}

fn check(region_error: Option<errorpb::Error>, error: String) -> Result<(), CallError> {
    if let Some(error) = region_error {
        return Err(CallError::Region(region_error_of(error)));
    }
    if error.is_empty() { Ok(()) } else { Err(CallError::Refused(error)) }
}

/// The protocol's errors in the client's words; what this client has no word for makes it look the region up again.
fn region_error_of(error: errorpb::Error) -> RegionError {
    if let Some(unknown) = error.undetermined_result {
        return RegionError::Undetermined(unknown.message);
    }
    if let Some(not_leader) = error.not_leader {
        // Some servers send an empty peer where they know of no leader.
        return RegionError::NotLeader {
            leader: not_leader.leader.and_then(|peer| Peer::try_from(peer).ok()),
        };
    }
    if let Some(epoch) = error.epoch_not_match {
        // A descriptor that makes no sense is as good as none: the region is looked up.
        let current = epoch.current_regions.into_iter().map(Region::try_from).collect::<Result<_, _>>();
        return RegionError::EpochNotMatch { current: current.unwrap_or_default() };
    }
    if let Some(busy) = error.server_is_busy {
        let millis = busy.backoff_ms.max(u64::from(busy.estimated_wait_ms));
        return RegionError::Busy { reason: busy.reason, retry_after: Duration::from_millis(millis) };
    }
    if let Some(too_large) = error.raft_entry_too_large {
        return RegionError::EntryTooLarge { size_bytes: too_large.entry_size };
    }
    let is = [
        (error.region_not_found.is_some(), RegionError::RegionNotFound),
        (error.key_not_in_region.is_some(), RegionError::KeyNotInRegion),
        (error.stale_command.is_some(), RegionError::StaleTerm),
        (error.store_not_match.is_some(), RegionError::StoreNotMatch),
        (error.mismatch_peer_id.is_some(), RegionError::PeerMismatch),
        (error.region_not_initialized.is_some(), RegionError::NotInitialized),
        (error.read_index_not_ready.is_some(), RegionError::ReadIndexNotReady),
        (error.disk_full.is_some(), RegionError::DiskFull),
    ];
    let known = is.into_iter().find(|(is_set, _)| *is_set).map(|(_, error)| error);
    known.unwrap_or(RegionError::Other(error.message))
}
