//! Scans that follow their keys.
//!
//! Clients know regions as they were a while ago. Most learn from a region error what has become of one; some take it for
//! an answer without pairs. So a scan that the store would refuse for its epoch, or for being led elsewhere, is answered
//! whole where this store has peers of every part: for the keys that the region had when the client learnt of it, neither
//! less nor more, because that is where the client goes on. Each part is read linearizably, as its own region.

use std::sync::Arc;

use kv::limits::ANSWER_BYTES_MAX;
use store::{Error, ReadRequest, RequestContext, Responder, Store};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use types::{Answer, KeyRange, Query, Region, Scan};

use super::limits::{SCAN_PARTS_MAX, SCAN_PATIENCE, SCAN_PAUSE};

/// Why a scan is not whole.
enum Obstacle {
    /// Regions are changing, or one has no leader: it may be whole soon.
    Passing,
    /// It is not to be had here.
    Lasting,
}

/// Answers a scan that was refused, if this store can; else it stays refused.
pub(super) async fn follow(
    store: &Store,
    context: &RequestContext,
    scan: &Scan,
    refusal: Error,
) -> store::Result<Answer> {
    if !matches!(refusal, Error::EpochNotMatch { .. } | Error::NotLeader { .. }) {
        return Err(refusal);
    }
    let began = Instant::now();
    loop {
        match attempt(store, context, scan).await {
            Ok(pairs) => return Ok(Answer::Pairs(pairs)),
            Err(Obstacle::Passing) if began.elapsed() < SCAN_PATIENCE => sleep(SCAN_PAUSE).await,
            Err(Obstacle::Passing | Obstacle::Lasting) => return Err(refusal),
        }
    }
}

type Pairs = Vec<(bytes::Bytes, bytes::Bytes)>;

async fn attempt(store: &Store, context: &RequestContext, scan: &Scan) -> Result<Pairs, Obstacle> {
    let version = context.epoch.ok_or(Obstacle::Lasting)?.version;
    let Some(known_range) = store.range_at(context.region_id, version) else {
        let region = store.region(context.region_id).and_then(|picture| picture.region);
        // A follower that has not applied what the client has heard of.
        let is_behind = region.is_some_and(|region| region.epoch.version < version);
        return Err(if is_behind { Obstacle::Passing } else { Obstacle::Lasting });
    };
    let mut parts = parts_of(store, &scan.range.intersection(&known_range))?;
    if scan.is_reverse {
        parts.reverse();
    }
    let mut pairs = Vec::new();
    let mut bytes = 0;
    for (region, range) in parts {
        let limit = scan.limit - u32::try_from(pairs.len()).unwrap_or(u32::MAX).min(scan.limit);
        if limit == 0 {
            break;
        }
        let part = read(store, &region, Scan { range, limit, ..scan.clone() }).await?;
        bytes += part.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > ANSWER_BYTES_MAX {
            return Err(Obstacle::Lasting);
        }
        pairs.extend(part);
    }
    Ok(pairs)
}

/// The regions with peers here that cover a range, and what each holds of it, in order of keys.
fn parts_of(store: &Store, range: &KeyRange) -> Result<Vec<(Arc<Region>, KeyRange)>, Obstacle> {
    let mut parts = Vec::new();
    let mut left = range.clone();
    while !left.is_empty() {
        let region = store.find_region(&left.start_key).ok_or(Obstacle::Lasting)?;
        if parts.len() == SCAN_PARTS_MAX {
            return Err(Obstacle::Lasting);
        }
        parts.push((Arc::clone(&region), left.intersection(&region.range)));
        if region.range.end_key.is_empty() {
            break;
        }
        left.start_key = region.range.end_key.clone();
    }
    Ok(parts)
}

async fn read(store: &Store, region: &Region, scan: Scan) -> Result<Pairs, Obstacle> {
    let peer = region.find_peer_on(store.ident().store_id).ok_or(Obstacle::Lasting)?;
    let context = RequestContext {
        region_id: region.id,
        peer: Some((peer.id, peer.store_id)),
        epoch: Some(region.epoch),
        term: None,
        is_replica_read: true,
    };
    let (sender, receiver) = oneshot::channel();
    let responder = Responder::new(move |result| drop(sender.send(result)));
    store.read(vec![ReadRequest { context, query: Query::Scan(scan), responder }]);
    match receiver.await {
        Ok(Ok(Answer::Pairs(pairs))) => Ok(pairs),
        Ok(Err(
            Error::EpochNotMatch { .. }
            | Error::NotLeader { .. }
            | Error::ReadIndexNotReady(_)
            | Error::NotInitialized(_)
            | Error::RegionNotFound(_),
        )) => Err(Obstacle::Passing),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(Obstacle::Lasting),
    }
}
