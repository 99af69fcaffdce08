//! What holds once a cluster has come to rest: every store runs, nothing fails, nobody asks for anything.

use std::collections::BTreeMap;

use types::{Instant, Region, RegionId, StoreId};

use super::{
    by_region,
    invariant::{Finding, Invariant, Violation, ensure},
    picture::{ClusterPicture, PeerPicture},
};

/// Checks a cluster at rest: the regions tile the keys; each has one leader, its peers are where its descriptor says and
/// have all that the leader has. A caller that waits for rest asks until this holds.
pub fn check_settled(now: Instant, picture: &ClusterPicture) -> Result<(), Violation> {
    let mut newest = Vec::new();
    for (region_id, peers) in by_region(picture) {
        let violation =
            |(invariant, message)| Violation { invariant, region_id: Some(region_id), at: now, message };
        let region = check_region(&peers).map_err(violation)?;
        if region_id != RegionId::PLACEMENT {
            newest.push(region);
        }
    }
    check_tiles(newest).map_err(|(invariant, message)| Violation {
        invariant,
        region_id: None,
        at: now,
        message,
    })
}

/// Checks one region, and answers with its descriptor.
fn check_region<'a>(peers: &BTreeMap<StoreId, &'a PeerPicture>) -> Result<&'a Region, Finding> {
    let unserved = |message: String| (Invariant::Served, message);
    let mut leaders = peers.values().filter(|peer| peer.is_leader);
    let leader = leaders.next().ok_or_else(|| unserved("it has no leader".to_owned()))?;
    if let Some(other) = leaders.next() {
        return Err(unserved(format!("peers {} and {} both lead", leader.peer_id, other.peer_id)));
    }
    let region = leader.descriptor.as_ref().ok_or_else(|| unserved("its leader has no data".to_owned()))?;
    ensure(!region.configuration().is_joint(), Invariant::Served, || {
        format!("its configuration is joint: {:?}", region.peers)
    })?;
    for (store_id, peer) in peers {
        let is_member = region.find_peer(peer.peer_id).is_some_and(|member| member.store_id == *store_id);
        ensure(is_member, Invariant::Served, || {
            format!("peer {} on store {store_id} does not belong to {:?}", peer.peer_id, region.peers)
        })?;
        let is_equal = peer.applied == leader.applied && peer.descriptor == leader.descriptor;
        ensure(is_equal && peer.applied.index == peer.commit_index, Invariant::Served, || {
            format!(
                "peer {} has applied {} of {}, and its leader {}",
                peer.peer_id, peer.applied.index, peer.commit_index, leader.applied.index
            )
        })?;
        ensure(!peer.is_quarantined, Invariant::Served, || {
            format!("peer {} is in quarantine", peer.peer_id)
        })?;
    }
    ensure(peers.len() == region.peers.len(), Invariant::Served, || {
        format!("{} of its peers {:?} are there", peers.len(), region.peers)
    })?;
    Ok(region)
}

fn check_tiles(mut regions: Vec<&Region>) -> Result<(), Finding> {
    regions.sort_by(|left, right| left.range.start_key.cmp(&right.range.start_key));
    let mut start_key: &[u8] = &[];
    let count = regions.len();
    for (place, region) in regions.into_iter().enumerate() {
        let is_last = place + 1 == count;
        let fits = region.range.start_key == start_key && region.range.end_key.is_empty() == is_last;
        ensure(fits, Invariant::Tiling, || {
            format!(
                "region {} with {:?} should begin at \"{}\"{}",
                region.id,
                region.range,
                start_key.escape_ascii(),
                if is_last { " and be the last" } else { "" }
            )
        })?;
        start_key = &region.range.end_key;
    }
    ensure(count > 0, Invariant::Tiling, || "there is no region".to_owned())
}
