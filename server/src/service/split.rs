//! Splits, in the words of operators and of both public services.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use placement::{
    Division, Error, KeyMode, PlacementAnswer, PlacementCall, RegionRoute, SplitRequest,
    limits::SCAN_REGIONS_MAX,
};
use proto::{errorpb, kvrpcpb};
use store::Error as StoreError;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;
use types::{Epoch, KeyRange, Region, RegionId, memcomparable};

use super::{
    gate::Gate,
    limits::{SPLIT_PAUSE, SPLIT_REQUESTS_AT_ONCE, SPLIT_RETRIES},
    pd::{other_answer, status_of},
    region_error::Refusal,
};
use crate::state::Running;

/// Splits one region; its name, and the regions.
pub(super) async fn split(
    running: &Running,
    request: SplitRequest,
) -> Result<(u64, Vec<Region>), SplitFailure> {
    match running.ask(PlacementCall::SplitRegion(request)).await {
        Ok(PlacementAnswer::Split { change_id, regions }) => Ok((change_id, regions)),
        Ok(_) => Err(SplitFailure::Other(other_answer())),
        Err(error) => Err(SplitFailure::Refused(error)),
    }
}

/// Why a region was not split.
#[derive(Debug)]
pub(super) enum SplitFailure {
    /// Placement says so.
    Refused(Error),
    /// A defect of this binary.
    Other(Status),
}

impl From<SplitFailure> for Status {
    fn from(failure: SplitFailure) -> Status {
        match failure {
            SplitFailure::Refused(error) => status_of(error),
            SplitFailure::Other(status) => status,
        }
    }
}

/// Lets regions begin at all of these keys, whichever regions hold them: how many do now in per cent, and the ids of
/// those that have come into being.
pub(super) async fn divide(
    running: &Running,
    keys: Vec<Bytes>,
    retry_limit: u64,
    time: Duration,
) -> Result<(u64, Vec<RegionId>), Status> {
    check_boundaries(running.key_mode, &keys)?;
    let deadline = Instant::now() + time;
    let mut division = Division::new(keys);
    let mut retries_left = if retry_limit == 0 { SPLIT_RETRIES } else { retry_limit };
    let mut awaited = BTreeMap::new();
    // What is done by then is told as what is done: the rest can be asked for again.
    while let Some(range) = next_range(&division)
        && let Ok(routes) = timeout_at(deadline, scan(running, range)).await
    {
        division.learn(routes?);
        let failures = timeout_at(deadline, carry_out(running, &mut division)).await.unwrap_or_default();
        let Some(failure) = failures.last() else { break };
        if let Some(newer) = newer_epochs(&failures, &mut awaited) {
            // They have been divided meanwhile, and the directory is just hearing of it.
            if timeout_at(deadline, await_regions(running, newer)).await.is_err() {
                break;
            }
        } else if retries_left == 0 {
            tracing::info!(%failure, "regions are not split as far as they were to be");
            break;
        } else {
            retries_left -= 1;
            sleep_until(deadline.min(Instant::now() + SPLIT_PAUSE)).await;
        }
    }
    Ok((division.finished_percent(), division.born().to_vec()))
}

/// The regions that had other epochs than the directory knew, with those epochs, if it was only this that failed and none of
/// them has been awaited before: so each of them has gone on, and that is not for ever.
fn newer_epochs(
    failures: &[Error],
    awaited: &mut BTreeMap<RegionId, Epoch>,
) -> Option<Vec<(RegionId, Epoch)>> {
    let epoch_of = |failure: &Error| {
        if let Error::EpochNotMatch { region_id, current } = failure {
            Some((*region_id, *current))
        } else {
            None
        }
    };
    let newer: Vec<(RegionId, Epoch)> = failures.iter().map(epoch_of).collect::<Option<_>>()?;
    let is_news = |(id, epoch): &(RegionId, Epoch)| {
        awaited.get(id).is_none_or(|known| epoch.covers(*known) && epoch != known)
    };
    let are_all_news = newer.iter().all(is_news);
    awaited.extend(newer.iter().copied());
    are_all_news.then_some(newer)
}

/// Waits until the directory has regions at these epochs, as long as placement waits for them.
async fn await_regions(running: &Running, regions: Vec<(RegionId, Epoch)>) {
    for (region_id, epoch) in regions {
        let call = PlacementCall::AwaitRegion { region_id, epoch: Some(epoch) };
        if let Err(error) = running.ask(call).await {
            tracing::debug!(region = %region_id, %error, "the directory does not tell of a region");
        }
    }
}

/// From the first key that is left to behind the last one.
fn next_range(division: &Division) -> Option<KeyRange> {
    let (first, last) = division.span()?;
    Some(KeyRange { start_key: first.clone(), end_key: [last, &[0][..]].concat().into() })
}

async fn scan(running: &Running, range: KeyRange) -> Result<Vec<RegionRoute>, Status> {
    let mut routes: Vec<RegionRoute> = Vec::new();
    let mut left = range.clone();
    loop {
        let call = PlacementCall::ScanRegions { range: left.clone(), limit: 0 };
        let PlacementAnswer::Regions(page) = running.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        let is_last = page.len() < SCAN_REGIONS_MAX;
        let end_key = page.last().map(|route| route.region.range.end_key.clone()).unwrap_or_default();
        routes.extend(page);
        if is_last || end_key.is_empty() || end_key >= range.end_key {
            return Ok(routes);
        }
        left.start_key = end_key;
    }
}

/// Splits, step by step, until nothing is left or something fails; then why.
async fn carry_out(running: &Running, division: &mut Division) -> Vec<Error> {
    loop {
        let requests = division.requests();
        if requests.is_empty() {
            return Vec::new();
        }
        let asked = stream::iter(requests).map(|request| split(running, request));
        let mut answers = asked.buffer_unordered(SPLIT_REQUESTS_AT_ONCE);
        let mut failures = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok((_, regions)) => division.on_split(regions),
                Err(SplitFailure::Refused(error)) => failures.push(error),
                Err(SplitFailure::Other(status)) => {
                    failures.push(Error::Unavailable { reason: status.message().to_owned() });
                }
            }
        }
        if !failures.is_empty() {
            return failures;
        }
    }
}

fn check_boundaries(key_mode: KeyMode, keys: &[Bytes]) -> Result<(), Status> {
    let is_boundary = |key: &Bytes| match key_mode {
        KeyMode::Raw => true,
        KeyMode::Txn | KeyMode::Keyspaces => memcomparable::decode_key(key).is_some(),
    };
    match keys.iter().find(|key| !is_boundary(key)) {
        None => Ok(()),
        Some(key) => Err(Status::invalid_argument(format!(
            "key \"{}\" cannot be a boundary: in this cluster boundaries are keys in memcomparable form",
            key.escape_ascii()
        ))),
    }
}

/// A client's wish, as the data service takes it: for one region, with the client's idea of it, and keys of users.
pub(super) async fn split_for_client(
    running: &Running,
    gate: Gate,
    mut request: kvrpcpb::SplitRegionRequest,
) -> Result<kvrpcpb::SplitRegionResponse, Status> {
    let refused = |refusal: Refusal| kvrpcpb::SplitRegionResponse {
        region_error: Some(refusal.into_region_error()),
        ..kvrpcpb::SplitRegionResponse::default()
    };
    let context = match gate.context(request.context.take()) {
        Ok(context) => context,
        Err(refusal) => return Ok(refused(refusal)),
    };
    if gate.key_mode == KeyMode::Raw && !request.is_raw_kv {
        return Err(Status::invalid_argument("the keys of this cluster are raw: say so with is_raw_kv"));
    }
    let own = running.ident.store_id;
    if let Some(peer) = context.peer.filter(|peer| peer.store_id != own) {
        let error = StoreError::StoreNotMatch { requested: peer.store_id, actual: own };
        return Ok(refused(Refusal::of(error, context.region_id)));
    }
    if request.split_keys.is_empty() {
        request.split_keys.push(request.split_key);
    }
    let keys = request.split_keys.into_iter().map(|key| match gate.key_mode {
        KeyMode::Raw => key,
        KeyMode::Txn | KeyMode::Keyspaces => memcomparable::encode_key(&key),
    });
    let mut keys: Vec<Bytes> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let request = SplitRequest { epoch: Some(context.epoch), ..SplitRequest::new(context.region_id, keys) };
    Ok(match split(running, request).await {
        Ok((_, regions)) => told(regions),
        Err(SplitFailure::Refused(error)) => refused(refusal_of(running, error, context.region_id)),
        Err(SplitFailure::Other(status)) => return Err(status),
    })
}

fn told(mut regions: Vec<Region>) -> kvrpcpb::SplitRegionResponse {
    regions.sort_unstable_by(|a, b| a.range.start_key.cmp(&b.range.start_key));
    let regions: Vec<_> = regions.into_iter().map(proto::metapb::Region::from).collect();
    let (left, right) = match regions.as_slice() {
        [left, right] => (Some(left.clone()), Some(right.clone())),
        _ => (None, None),
    };
    kvrpcpb::SplitRegionResponse { region_error: None, left, right, regions }
}

/// Placement's refusal in the words of the data service.
fn refusal_of(running: &Running, error: Error, region_id: RegionId) -> Refusal {
    let message = error.to_string();
    match error {
        Error::EpochNotMatch { .. } => {
            let current = running.store.region(region_id).and_then(|picture| picture.region);
            let current = current.into_iter().map(|region| Region::clone(&region)).collect();
            Refusal::of(StoreError::EpochNotMatch { current }, region_id)
        }
        Error::RegionNotFound(id) => Refusal::of(StoreError::RegionNotFound(id), region_id),
        Error::Busy { .. } => {
            let reason = "too many splits run";
            Refusal::of(StoreError::Busy { reason, retry_after: Duration::from_millis(50) }, region_id)
        }
        Error::NotLeader { .. }
        | Error::Unavailable { .. }
        | Error::Invalid(_)
        | Error::StoreNotFound(_)
        | Error::StoreRemoved(_)
        | Error::Changing { .. }
        | Error::OperationNotFound(_) => {
            Refusal::Region(Box::new(errorpb::Error { message, ..errorpb::Error::default() }))
        }
    }
}
