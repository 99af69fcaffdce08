//! What the client believes about regions and their leaders.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use types::{Peer, Region, RegionId};

use super::Position;

/// A region with the peer that is believed to lead it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The region.
    pub region: Arc<Region>,
    /// Its leader, where known.
    pub leader: Option<Peer>,
    /// Raised with every change of any route: who learns of an error compares it, so that an old route's error does not
    /// harm the route that has replaced it.
    pub stamp: u64,
    /// Whether the leader is doubted and placement is to be asked before the next call.
    pub is_stale: bool,
}

/// Routes by key. Regions in it never overlap; there may be gaps. All operations of a client share one.
#[derive(Debug, Default)]
pub struct RegionCache {
    by_start: BTreeMap<Bytes, Route>,
    starts: BTreeMap<RegionId, Bytes>,
    last_stamp: u64,
}

impl RegionCache {
    /// A cache that knows nothing.
    #[must_use]
    pub fn new() -> RegionCache {
        RegionCache::default()
    }

    /// The region at a position, where known.
    #[must_use]
    pub fn find(&self, position: &Position) -> Option<&Route> {
        match position {
            Position::At(key) => {
                let (_, route) = self
                    .by_start
                    .range::<[u8], _>((Bound::Unbounded, Bound::Included(&key[..])))
                    .next_back()?;
                route.region.range.contains_key(key).then_some(route)
            }
            Position::Before(end) if end.is_empty() => {
                let (_, route) = self.by_start.last_key_value()?;
                route.region.range.end_key.is_empty().then_some(route)
            }
            Position::Before(end) => {
                let (_, route) = self
                    .by_start
                    .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&end[..])))
                    .next_back()?;
                let region_end = &route.region.range.end_key;
                (region_end.is_empty() || region_end >= end).then_some(route)
            }
        }
    }

    /// The stamp of the newest change: a route with a higher one has been learnt since.
    #[must_use]
    pub fn last_stamp(&self) -> u64 {
        self.last_stamp
    }

    /// Whether the route at a position has been learnt after the change with this stamp, so that nobody needs to ask
    /// placement for it again.
    #[must_use]
    pub fn is_newer(&self, position: &Position, stamp: u64) -> bool {
        self.find(position).is_some_and(|route| route.stamp > stamp && !route.is_stale)
    }

    /// Learns a region, and its leader where known. Refused (false) where a newer descriptor of any of its keys is known.
    pub fn insert(&mut self, region: Region, leader: Option<Peer>) -> bool {
        let overlapping = self.overlapping(&region);
        let is_outdated = overlapping.iter().any(|start| {
            let known = &self.by_start[start].region;
            if known.id == region.id {
                !region.epoch.covers(known.epoch)
            } else {
                // A split and a merge give every region that comes out of it a higher version than any that went in.
                known.epoch.version > region.epoch.version
            }
        });
        if is_outdated || region.range.is_empty() {
            return false;
        }
        for start in overlapping {
            self.remove(&start);
        }
        // The region may have moved elsewhere in the keyspace: its older self goes too.
        if let Some(start) = self.starts.get(&region.id).cloned() {
            self.remove(&start);
        }
        let leader = leader.filter(|leader| region.find_peer(leader.id).is_some());
        let start = region.range.start_key.clone();
        let stamp = self.next_stamp();
        self.starts.insert(region.id, start.clone());
        self.by_start.insert(start, Route { region: Arc::new(region), leader, stamp, is_stale: false });
        true
    }

    /// Learns a region that nobody has asked for, where it is not known or is doubted: what is known of the others has
    /// been learnt from their stores, and is newer than what placement says. Whether it was learnt.
    pub fn fill(&mut self, region: Region, leader: Option<Peer>) -> bool {
        let is_wanted = self.overlapping(&region).iter().all(|start| self.by_start[start].is_stale);
        is_wanted && self.insert(region, leader)
    }

    /// Learns who leads a region. False: the region is not known or has no such peer.
    pub fn set_leader(&mut self, id: RegionId, leader: Peer) -> bool {
        let stamp = self.next_stamp();
        let Some(route) = self.find_by_id(id) else { return false };
        let Some(leader) = route.region.find_peer(leader.id) else { return false };
        route.leader = Some(leader);
        route.stamp = stamp;
        route.is_stale = false;
        true
    }

    /// Doubts a route, if it is still the one with this stamp: placement is asked before it is used again.
    pub fn doubt(&mut self, id: RegionId, stamp: u64) {
        if let Some(route) = self.find_by_id(id).filter(|route| route.stamp == stamp) {
            route.is_stale = true;
        }
    }

    /// Forgets a region, if its route is still the one with this stamp.
    pub fn forget(&mut self, id: RegionId, stamp: u64) {
        if self.find_by_id(id).is_some_and(|route| route.stamp == stamp) {
            let start = self.starts[&id].clone();
            self.remove(&start);
        }
    }

    /// Checks that both indexes agree and that no two regions overlap.
    pub fn check_invariants(&self) {
        assert_eq!(self.by_start.len(), self.starts.len());
        let mut end: Option<&Bytes> = None;
        for (start, route) in &self.by_start {
            assert_eq!(*start, route.region.range.start_key);
            assert_eq!(self.starts.get(&route.region.id), Some(start));
            if let Some(end) = end {
                assert!(!end.is_empty());
                assert!(end <= start);
            }
            end = Some(&route.region.range.end_key);
        }
    }

    fn find_by_id(&mut self, id: RegionId) -> Option<&mut Route> {
        self.by_start.get_mut(self.starts.get(&id)?)
    }

    fn next_stamp(&mut self) -> u64 {
        self.last_stamp += 1;
        self.last_stamp
    }

    fn remove(&mut self, start: &Bytes) {
        if let Some(route) = self.by_start.remove(start) {
            self.starts.remove(&route.region.id);
        }
    }

    /// The start keys of known regions that share a key with `region`.
    fn overlapping(&self, region: &Region) -> Vec<Bytes> {
        let range = &region.range;
        let end: Bound<&[u8]> =
            if range.end_key.is_empty() { Bound::Unbounded } else { Bound::Excluded(&range.end_key) };
        let from_start = (Bound::Unbounded, end);
        let reaches = |route: &Route| route.region.range.overlaps(range);
        // Known regions do not overlap: going down from the end, the first one that does not reach in is the last.
        self.by_start
            .range::<[u8], _>(from_start)
            .rev()
            .take_while(|(_, route)| reaches(route))
            .map(|(start, _)| start.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use types::{Epoch, KeyRange, PeerId, PeerRole, StoreId};

    use super::*;

    fn region(id: u64, start: &'static str, end: &'static str) -> Region {
        let peer =
            |store| Peer { id: PeerId(10 * id + store), store_id: StoreId(store), role: PeerRole::Voter };
        let peers = vec![peer(1), peer(2)];
        Region { id: RegionId(id), range: KeyRange::new(start, end), epoch: Epoch::FIRST, peers }
    }

    #[test]
    fn what_nobody_asked_for_replaces_only_what_is_doubted() {
        let mut cache = RegionCache::new();
        let (left, right) = (region(2, "", "m"), region(3, "m", ""));
        let leader = |region: &Region, store| region.find_peer_on(StoreId(store));
        assert!(cache.fill(left.clone(), leader(&left, 1)), "it was not known");
        cache.insert(right.clone(), leader(&right, 1));
        cache.set_leader(RegionId(3), right.peers[1]);
        // Placement may still believe in the leader before.
        assert!(!cache.fill(right.clone(), leader(&right, 1)));
        let at = |key: &'static str| Position::At(Bytes::from(key));
        let route = cache.find(&at("z")).unwrap();
        assert_eq!(route.leader, Some(right.peers[1]));
        let stamp = route.stamp;
        cache.doubt(RegionId(3), stamp);
        assert!(cache.fill(right.clone(), leader(&right, 1)));
        assert!(cache.is_newer(&at("z"), stamp));
        // A region that covers two of which one is not doubted.
        let whole = Region { epoch: types::Epoch { version: 9, ..Epoch::FIRST }, ..region(4, "", "") };
        let stamp = cache.find(&at("a")).unwrap().stamp;
        cache.doubt(RegionId(2), stamp);
        assert!(!cache.fill(whole, None));
        cache.check_invariants();
    }
}
