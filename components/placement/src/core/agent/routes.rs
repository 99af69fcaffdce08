//! Routes as this store knows them: what the host answered, with the newer descriptors of this store's own regions laid
//! over it, remembered for the time when the host is silent.

use std::{cmp::Ordering, collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use types::{KeyRange, Peer, Region, RegionId, StoreId};

use super::{LocalRegion, Locals};
use crate::core::{
    api::{RegionRoute, may_lead},
    directory::{end_order, is_newer},
    limits::CACHE_ROUTES_MAX,
};

/// Routes of regions that do not overlap; there may be gaps.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_start: BTreeMap<Bytes, RegionRoute>,
    starts: BTreeMap<RegionId, Bytes>,
}

impl Routes {
    /// Remembers a route, unless it is older than one that it overlaps; and who led its region last, unless it says so.
    pub(super) fn remember(&mut self, mut route: RegionRoute) {
        if route.leader.is_none() {
            route.stand_in = route.stand_in.or_else(|| self.last_leader(&route.region));
        }
        let overlapped: Vec<Bytes> = self
            .overlapping(&route.region.range)
            .map(|known| known.region.range.start_key.clone())
            .chain(self.starts.get(&route.region.id).cloned())
            .collect();
        let is_stale = overlapped
            .iter()
            .filter_map(|start_key| self.by_start.get(start_key))
            .any(|known| is_newer(&known.region, &route.region));
        if is_stale {
            return;
        }
        for start_key in overlapped {
            self.forget(&start_key);
        }
        if self.by_start.len() >= CACHE_ROUTES_MAX
            && let Some(start_key) = self.by_start.keys().next().cloned()
        {
            self.forget(&start_key);
        }
        self.starts.insert(route.region.id, route.region.range.start_key.clone());
        self.by_start.insert(route.region.range.start_key.clone(), route);
    }

    /// The newest known route to a key.
    pub(super) fn find(&self, key: &[u8], locals: &dyn Locals) -> Option<RegionRoute> {
        let known = self.before(Bound::Included(key)).filter(|route| route.region.range.contains_key(key));
        match (known, locals.find(key)) {
            (Some(route), Some(local)) => Some(recall(route.clone(), local)),
            (Some(route), None) => Some(route.clone()),
            (None, Some(local)) => Some(route_of(local)),
            (None, None) => None,
        }
    }

    /// The route before the one to a key: `Some(None)` if that is the first.
    pub(super) fn find_previous(&self, key: &[u8], locals: &dyn Locals) -> Option<Option<RegionRoute>> {
        let current = self.find(key, locals)?;
        let start_key = &current.region.range.start_key;
        if start_key.is_empty() {
            return Some(None);
        }
        let known = self.before(Bound::Excluded(start_key.as_ref()))?;
        (known.region.range.end_key == *start_key).then(|| Some(known.clone()))
    }

    /// The newest known route to a region.
    pub(super) fn find_by_id(&self, id: RegionId, locals: &dyn Locals) -> Option<RegionRoute> {
        let known = self.starts.get(&id).and_then(|start_key| self.by_start.get(start_key)).cloned();
        match (known, locals.find_by_id(id)) {
            (Some(route), Some(local)) => Some(recall(route, local)),
            (route, local) => lay_over_id(route, local),
        }
    }

    /// The newest known routes to the keys of ascending ranges, each once, if there is no gap.
    pub(super) fn scan(
        &self,
        ranges: &[KeyRange],
        limit: usize,
        locals: &dyn Locals,
    ) -> Option<Vec<RegionRoute>> {
        let mut routes: Vec<RegionRoute> = Vec::new();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let mut cursor = range.start_key.clone();
            loop {
                if let Some(last) = routes.last() {
                    let end_key = &last.region.range.end_key;
                    if routes.len() >= limit || end_order(end_key, &range.end_key).is_ge() {
                        break;
                    }
                    cursor = cursor.max(end_key.clone());
                }
                routes.push(self.find(&cursor, locals)?);
            }
        }
        Some(routes)
    }

    /// Names somebody to ask where no leader is known: who leads the region for all that its peer here knows, who led it
    /// last by what the host says or this store remembers, the peer here, any voter.
    pub(super) fn name_stand_in(&self, route: &mut RegionRoute, this_store: StoreId, locals: &dyn Locals) {
        if route.leader.is_some() {
            return;
        }
        let region = &route.region;
        let led_by = locals.find_by_id(region.id).and_then(|local| local.leader);
        let voters = || region.peers.iter().copied().filter(|peer| may_lead(*peer));
        route.stand_in = led_by
            .and_then(|leader| region.find_peer(leader.id))
            .or(route.stand_in)
            .or_else(|| self.last_leader(region))
            .or_else(|| voters().find(|peer| peer.store_id == this_store))
            .or_else(|| voters().next());
    }

    /// Who led a region when it was heard of last, if it still has that peer.
    fn last_leader(&self, region: &Region) -> Option<Peer> {
        let known = self.by_start.get(self.starts.get(&region.id)?)?;
        region.find_peer(known.leader_or_stand_in()?.id)
    }

    fn before(&self, end: Bound<&[u8]>) -> Option<&RegionRoute> {
        self.by_start.range::<[u8], _>((Bound::Unbounded, end)).next_back().map(|(_, route)| route)
    }

    fn overlapping(&self, range: &KeyRange) -> impl Iterator<Item = &RegionRoute> {
        let first = self.before(Bound::Included(&range.start_key)).map(|route| &route.region.range.start_key);
        let first = first.unwrap_or(&range.start_key).clone();
        let (whole, end_key) = (range.clone(), range.end_key.clone());
        self.by_start
            .range(first..)
            .map(|(_, route)| route)
            .take_while(move |route| end_key.is_empty() || route.region.range.start_key < end_key)
            .filter(move |route| route.region.range.overlaps(&whole))
    }

    fn forget(&mut self, start_key: &Bytes) {
        if let Some(route) = self.by_start.remove(start_key) {
            self.starts.remove(&route.region.id);
        }
    }
}

/// A route to a key, or this store's own descriptor for that key if it is newer.
pub(super) fn lay_over(route: RegionRoute, local: Option<LocalRegion>) -> RegionRoute {
    match local {
        Some(local) if is_newer(&local.region, &route.region) => over(&local, Some(&route)),
        Some(_) | None => route,
    }
}

/// A remembered route to a region, or this store's own descriptor if that is newer. Of the leader, this store's peer has
/// heard after the host fell silent.
fn recall(route: RegionRoute, local: LocalRegion) -> RegionRoute {
    let led_by = local.leader.filter(|_| local.region.id == route.region.id);
    let mut route = lay_over(route, Some(local));
    route.leader = led_by.and_then(|leader| route.region.find_peer(leader.id)).or(route.leader);
    route
}

/// A route to a region, or this store's own descriptor of it if that is newer or the only one.
pub(super) fn lay_over_id(route: Option<RegionRoute>, local: Option<LocalRegion>) -> Option<RegionRoute> {
    match (route, local) {
        (Some(route), local) => Some(lay_over(route, local)),
        (None, local) => local.map(route_of),
    }
}

/// Routes without a gap, with this store's own newer descriptors in the place of those that they cover together: without
/// a gap again. The last of them may reach further than the last of `routes`.
pub(super) fn lay_over_all(routes: Vec<RegionRoute>, locals: &dyn Locals) -> Vec<RegionRoute> {
    let mut laid = Vec::with_capacity(routes.len());
    let mut at = 0;
    while at < routes.len() {
        match replace(&routes[at..], locals) {
            Some((newer, count)) => {
                laid.extend(newer);
                at += count;
            }
            None => {
                laid.push(routes[at].clone());
                at += 1;
            }
        }
    }
    laid
}

/// This store's own descriptors from the start of the first route to the end of some route, if all of them are newer
/// than the routes whose place they take; and how many routes those are.
fn replace(routes: &[RegionRoute], locals: &dyn Locals) -> Option<(Vec<RegionRoute>, usize)> {
    let mut newer = Vec::new();
    let mut at = 0;
    let mut cursor = routes.first()?.region.range.start_key.clone();
    loop {
        let local = locals.find(&cursor)?;
        let is_in_place = local.region.range.start_key == cursor;
        if !is_in_place || !is_newer(&local.region, &routes[at].region) {
            return None;
        }
        while end_order(&local.region.range.end_key, &routes[at].region.range.end_key) == Ordering::Greater
            && at + 1 < routes.len()
        {
            at += 1;
            if !is_newer(&local.region, &routes[at].region) {
                return None;
            }
        }
        let end_key = local.region.range.end_key.clone();
        let of_same = routes[..=at].iter().find(|route| route.region.id == local.region.id);
        newer.push(over(&local, of_same));
        if end_order(&end_key, &routes[at].region.range.end_key).is_ge() {
            return Some((newer, at + 1));
        }
        cursor = end_key;
    }
}

/// A local descriptor as a route; what an older route to the same region knows of leaders stands where this store knows
/// nothing.
fn over(local: &LocalRegion, route: Option<&RegionRoute>) -> RegionRoute {
    let route = route.filter(|route| route.region.id == local.region.id);
    let leader = local.leader.or_else(|| route.and_then(|route| route.leader));
    RegionRoute {
        leader: leader.and_then(|leader| local.region.find_peer(leader.id)),
        stand_in: route.and_then(|route| route.stand_in).and_then(|peer| local.region.find_peer(peer.id)),
        down_peers: route.map(|route| route.down_peers.clone()).unwrap_or_default(),
        pending_peers: route.map(|route| route.pending_peers.clone()).unwrap_or_default(),
        size: route.map(|route| route.size).unwrap_or_default(),
        region: Region::clone(&local.region),
    }
}

fn route_of(local: LocalRegion) -> RegionRoute {
    over(&local, None)
}
