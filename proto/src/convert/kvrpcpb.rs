//! Requests of the public data service become commands and queries, outcomes and answers become its responses. A
//! request's context is taken out before ([`super::RequestContext`]); region errors are put into a response by the server.

use bytes::Bytes;
use types::{Answer, Command, CompareAndSwap, KeyRange, Outcome, Pair, Query, Scan};

use super::{Error, Result};
use crate::kvrpcpb as wire;

impl TryFrom<wire::RawPutRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawPutRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        let key = stored_key(request.key)?;
        Ok(Command::Put(Pair { key, value: request.value, ttl_seconds: request.ttl }))
    }
}

impl TryFrom<wire::RawBatchPutRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawBatchPutRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        let (ttls, pair_count) = (request.ttls, request.pairs.len());
        if !ttls.is_empty() && ttls.len() != 1 && ttls.len() != pair_count {
            return Err(Error::TtlCount { ttl_count: ttls.len(), pair_count });
        }
        // The older field stands for all pairs where the newer one is empty.
        let ttl_of_all = ttls.first().copied().unwrap_or(request.ttl);
        let pairs = request.pairs.into_iter().enumerate().map(|(at, pair)| {
            let ttl_seconds = ttls.get(at).copied().unwrap_or(ttl_of_all);
            Ok(Pair { key: stored_key(pair.key)?, value: pair.value, ttl_seconds })
        });
        Ok(Command::BatchPut { pairs: pairs.collect::<Result<_>>()? })
    }
}

impl TryFrom<wire::RawDeleteRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawDeleteRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        Ok(Command::Delete { key: request.key })
    }
}

impl TryFrom<wire::RawBatchDeleteRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawBatchDeleteRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        Ok(Command::BatchDelete { keys: request.keys })
    }
}

impl TryFrom<wire::RawDeleteRangeRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawDeleteRangeRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        Ok(Command::DeleteRange {
            range: KeyRange { start_key: request.start_key, end_key: request.end_key },
        })
    }
}

impl TryFrom<wire::RawCasRequest> for Command {
    type Error = Error;

    fn try_from(request: wire::RawCasRequest) -> Result<Command> {
        check_column_family(request.cf)?;
        Ok(Command::CompareAndSwap(CompareAndSwap {
            key: stored_key(request.key)?,
            expected: (!request.previous_not_exist).then_some(request.previous_value),
            replacement: (!request.delete).then_some(request.value),
            ttl_seconds: request.ttl,
        }))
    }
}

impl TryFrom<wire::RawGetRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawGetRequest) -> Result<Query> {
        check_column_family(request.cf)?;
        Ok(Query::Get { key: request.key })
    }
}

impl TryFrom<wire::RawBatchGetRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawBatchGetRequest) -> Result<Query> {
        check_column_family(request.cf)?;
        Ok(Query::BatchGet { keys: request.keys })
    }
}

impl TryFrom<wire::RawScanRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawScanRequest) -> Result<Query> {
        check_column_family(request.cf)?;
        Ok(Query::Scan(Scan {
            range: ascending(request.start_key, request.end_key, request.reverse),
            limit: request.limit,
            is_key_only: request.key_only,
            is_reverse: request.reverse,
        }))
    }
}

impl TryFrom<wire::RawBatchScanRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawBatchScanRequest) -> Result<Query> {
        check_column_family(request.cf)?;
        let scans = request.ranges.into_iter().map(|range| Scan {
            range: ascending(range.start_key, range.end_key, request.reverse),
            limit: request.each_limit,
            is_key_only: request.key_only,
            is_reverse: request.reverse,
        });
        Ok(Query::BatchScan { scans: scans.collect() })
    }
}

impl TryFrom<wire::RawGetKeyTtlRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawGetKeyTtlRequest) -> Result<Query> {
        check_column_family(request.cf)?;
        Ok(Query::KeyTtl { key: request.key })
    }
}

impl TryFrom<wire::RawChecksumRequest> for Query {
    type Error = Error;

    fn try_from(request: wire::RawChecksumRequest) -> Result<Query> {
        let Ok(wire::ChecksumAlgorithm::Crc64Xor) = wire::ChecksumAlgorithm::try_from(request.algorithm)
        else {
            let number = request.algorithm.into();
            return Err(Error::UnknownNumber { message: "RawChecksumRequest", field: "algorithm", number });
        };
        let ranges = request.ranges.into_iter().map(|range| ascending(range.start_key, range.end_key, false));
        Ok(Query::Checksum { ranges: ranges.collect() })
    }
}

/// There is one column family; older clients name it, newer ones leave the name out.
fn check_column_family(name: String) -> Result<()> {
    if name.is_empty() || name == "default" { Ok(()) } else { Err(Error::ColumnFamily(name)) }
}

/// Clients that warm up their connections write an empty key: it must not be kept.
fn stored_key(key: Bytes) -> Result<Bytes> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(key) }
}

/// A reverse scan names its upper bound first.
fn ascending(start_key: Bytes, end_key: Bytes, is_reverse: bool) -> KeyRange {
    if is_reverse {
        KeyRange { start_key: end_key, end_key: start_key }
    } else {
        KeyRange { start_key, end_key }
    }
}

/// `Response: Kind = the outcome or answer it needs => its fields`; every other one is the caller's defect.
macro_rules! responses {
    ($($response:ident: $kind:ident = $pattern:pat => { $($field:ident: $value:expr),* })*) => {$(
        impl TryFrom<$kind> for wire::$response {
            type Error = Error;

            fn try_from(answer: $kind) -> Result<wire::$response> {
                let $pattern = answer else {
                    return Err(Error::OtherAnswer { response: stringify!($response) });
                };
                Ok(wire::$response { $($field: $value,)* ..wire::$response::default() })
            }
        }
    )*};
}

responses! {
    RawPutResponse: Outcome = Outcome::Done => {}
    RawBatchPutResponse: Outcome = Outcome::Done => {}
    RawDeleteResponse: Outcome = Outcome::Done => {}
    RawBatchDeleteResponse: Outcome = Outcome::Done => {}
    RawDeleteRangeResponse: Outcome = Outcome::Done => {}
    RawCasResponse: Outcome = Outcome::Swapped { is_swapped, previous } => {
        succeed: is_swapped,
        previous_not_exist: previous.is_none(),
        previous_value: previous.unwrap_or_default()
    }
    RawGetResponse: Answer = Answer::Value(value) => {
        not_found: value.is_none(),
        value: value.unwrap_or_default()
    }
    RawBatchGetResponse: Answer = Answer::Pairs(pairs) => { pairs: pairs_of(pairs) }
    RawScanResponse: Answer = Answer::Pairs(pairs) => { kvs: pairs_of(pairs) }
    RawBatchScanResponse: Answer = Answer::Pairs(pairs) => { kvs: pairs_of(pairs) }
    RawGetKeyTtlResponse: Answer = Answer::Ttl(ttl) => {
        not_found: ttl.is_none(),
        ttl: ttl.unwrap_or_default()
    }
    RawChecksumResponse: Answer = Answer::Checksum { checksum, total_pairs, total_bytes } => {
        checksum: checksum,
        total_kvs: total_pairs,
        total_bytes: total_bytes
    }
}

fn pairs_of(pairs: Vec<(Bytes, Bytes)>) -> Vec<wire::KvPair> {
    pairs.into_iter().map(|(key, value)| wire::KvPair { key, value, ..wire::KvPair::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_put(pair_count: usize, ttl: u64, ttls: &[u64]) -> Result<Vec<u64>> {
        let pair = wire::KvPair { key: "k".into(), ..wire::KvPair::default() };
        let pairs = vec![pair; pair_count];
        let request = wire::RawBatchPutRequest {
            pairs,
            ttl,
            ttls: ttls.to_vec(),
            ..wire::RawBatchPutRequest::default()
        };
        let command = Command::try_from(request)?;
        let Command::BatchPut { pairs } = command else { panic!("{command:?}") };
        Ok(pairs.iter().map(|pair| pair.ttl_seconds).collect())
    }

    #[test]
    fn ttls_of_a_batch_are_none_one_or_one_each() {
        assert_eq!(batch_put(3, 0, &[]), Ok(vec![0, 0, 0]));
        assert_eq!(batch_put(3, 7, &[]), Ok(vec![7, 7, 7]));
        assert_eq!(batch_put(3, 7, &[5]), Ok(vec![5, 5, 5]));
        assert_eq!(batch_put(3, 7, &[1, 0, 3]), Ok(vec![1, 0, 3]));
        assert_eq!(batch_put(3, 0, &[1, 2]), Err(Error::TtlCount { ttl_count: 2, pair_count: 3 }));
        assert_eq!(batch_put(0, 0, &[1, 2]), Err(Error::TtlCount { ttl_count: 2, pair_count: 0 }));
    }

    #[test]
    fn there_is_one_column_family() {
        let get = |cf: &str| wire::RawGetRequest { cf: cf.into(), ..wire::RawGetRequest::default() };
        assert!(Query::try_from(get("")).is_ok());
        assert!(Query::try_from(get("default")).is_ok());
        let refused = Query::try_from(get("write")).unwrap_err();
        assert_eq!(refused.to_string(), "column family \"write\" does not exist: only \"default\" does");
    }

    #[test]
    fn empty_keys_are_not_stored() {
        assert_eq!(Command::try_from(wire::RawPutRequest::default()), Err(Error::EmptyKey));
        assert_eq!(Command::try_from(wire::RawCasRequest::default()), Err(Error::EmptyKey));
        assert!(Command::try_from(wire::RawDeleteRequest::default()).is_ok());
        assert!(Query::try_from(wire::RawGetRequest::default()).is_ok());
    }

    #[test]
    fn reverse_scans_name_their_upper_bound_first() {
        let (start_key, end_key) = (Bytes::from("m"), Bytes::from("c"));
        let ranges = vec![wire::KeyRange { start_key: start_key.clone(), end_key: end_key.clone() }];
        let one = wire::RawScanRequest { start_key, end_key, limit: 9, reverse: true, ..Default::default() };
        let expected =
            Scan { range: KeyRange::new("c", "m"), limit: 9, is_key_only: false, is_reverse: true };
        assert_eq!(Query::try_from(one), Ok(Query::Scan(expected.clone())));
        let many = wire::RawBatchScanRequest { ranges, each_limit: 9, reverse: true, ..Default::default() };
        assert_eq!(Query::try_from(many), Ok(Query::BatchScan { scans: vec![expected] }));
    }

    #[test]
    fn swaps_say_what_is_expected_and_what_becomes_of_the_key() {
        let swap = |request: wire::RawCasRequest| {
            let command = Command::try_from(request).unwrap();
            let Command::CompareAndSwap(swap) = command else { panic!("{command:?}") };
            (swap.expected, swap.replacement)
        };
        let plain = wire::RawCasRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        assert_eq!(swap(plain.clone()), (Some(Bytes::new()), Some("v".into())));
        let create = wire::RawCasRequest { previous_not_exist: true, ..plain.clone() };
        assert_eq!(swap(create), (None, Some("v".into())));
        let remove = wire::RawCasRequest { previous_value: "p".into(), delete: true, ..plain };
        assert_eq!(swap(remove), (Some("p".into()), None));
    }

    #[test]
    fn answers_tell_empty_from_absent() {
        let get = |value| wire::RawGetResponse::try_from(Answer::Value(value)).unwrap();
        assert!(get(None).not_found);
        assert!(!get(Some(Bytes::new())).not_found);
        let ttl = |left| wire::RawGetKeyTtlResponse::try_from(Answer::Ttl(left)).unwrap();
        assert_eq!((ttl(None).not_found, ttl(Some(0)).not_found, ttl(Some(8)).ttl), (true, false, 8));
        let swapped = |previous| Outcome::Swapped { is_swapped: false, previous };
        let swap = |previous| wire::RawCasResponse::try_from(swapped(previous)).unwrap();
        assert!(swap(None).previous_not_exist);
        assert_eq!(swap(Some("p".into())).previous_value, "p");
        assert!(!swap(Some(Bytes::new())).previous_not_exist);
    }

    #[test]
    fn answers_to_other_questions_are_refused() {
        let refused = wire::RawScanResponse::try_from(Answer::Value(None));
        assert_eq!(refused, Err(Error::OtherAnswer { response: "RawScanResponse" }));
        let swapped = Outcome::Swapped { is_swapped: true, previous: None };
        assert_eq!(
            wire::RawPutResponse::try_from(swapped),
            Err(Error::OtherAnswer { response: "RawPutResponse" })
        );
    }
}
