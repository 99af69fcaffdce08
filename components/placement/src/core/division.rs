//! Many split keys over many regions: which splits there are to be, and how far they have come.
//!
//! A region that gets many keys is divided in two steps: into as many pieces as its stores can share evenly, and then each
//! piece, all at one time, each with another store to lead its parts first. So neither one entry nor one store carries
//! everything.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::{PeerRole, Region, RegionId, StoreId};

use super::api::{RegionRoute, SplitRequest};

/// A region that gets more keys than this is cut into pieces first. Each piece is one entry, and one fsync on each store.
const PIECE_KEYS_MAX: usize = 128;

/// Keys at which regions shall begin.
#[derive(Debug)]
pub struct Division {
    key_count: usize,
    /// No region begins there yet, as far as it is known.
    pending: BTreeSet<Bytes>,
    /// Regions as they are known, by their first key, without overlaps.
    regions: BTreeMap<Bytes, Known>,
    /// Regions that have come into being.
    born: Vec<RegionId>,
    /// Whose turn it is to lead.
    turn: usize,
}

#[derive(Debug)]
struct Known {
    region: Region,
    /// The stores whose voters have answered their leader of late.
    voters: Vec<StoreId>,
    /// Whether it was made by an earlier step: then it is not shared again.
    is_piece: bool,
}

impl Division {
    /// Of a cluster that is not known yet.
    #[must_use]
    pub fn new(keys: Vec<Bytes>) -> Division {
        let pending: BTreeSet<Bytes> = keys.into_iter().collect();
        Division { key_count: pending.len(), pending, regions: BTreeMap::new(), born: Vec::new(), turn: 0 }
    }

    /// The first and the last key at which no region begins yet.
    #[must_use]
    pub fn span(&self) -> Option<(&Bytes, &Bytes)> {
        Some((self.pending.first()?, self.pending.last()?))
    }

    /// Regions as the directory has them. What was known of their keys is void.
    pub fn learn(&mut self, routes: Vec<RegionRoute>) {
        for route in routes {
            let is_up = |id| !route.down_peers.contains(&id);
            let voters = route.region.peers.iter();
            let voters = voters.filter(|peer| peer.role == PeerRole::Voter && is_up(peer.id));
            let voters = voters.map(|peer| peer.store_id).collect();
            self.insert(Known { region: route.region, voters, is_piece: false });
        }
    }

    /// The splits that bring it on from here: one of each region that holds a key.
    pub fn requests(&mut self) -> Vec<SplitRequest> {
        let mut requests = Vec::new();
        for known in self.regions.values() {
            let range = &known.region.range;
            let from = (std::ops::Bound::Excluded(range.start_key.clone()), std::ops::Bound::Unbounded);
            let keys = self.pending.range::<Bytes, _>(from);
            let keys: Vec<Bytes> = keys.take_while(|key| range.contains_key(key)).cloned().collect();
            if keys.is_empty() {
                continue;
            }
            let voter_count = known.voters.len().max(1);
            let keys_before = keys.len();
            let keys = first_cuts(keys, voter_count, known.is_piece);
            let is_whole = keys.len() == keys_before;
            let mut request = SplitRequest::new(known.region.id, keys);
            request.epoch = Some(known.region.epoch);
            // A region that is whole after this step, and one of several: their leaders take turns.
            if is_whole && keys_before > 1 {
                request.first_leader = known.voters.get(self.turn % voter_count).copied();
                self.turn += 1;
            }
            requests.push(request);
        }
        requests
    }

    /// A split has been carried out: the region that was divided comes first.
    pub fn on_split(&mut self, regions: Vec<Region>) {
        let mut regions = regions.into_iter();
        let Some(parent) = regions.next() else { return };
        let known = self.regions.get(&parent.range.start_key);
        let voters = known.map(|known| known.voters.clone()).unwrap_or_default();
        self.insert(Known { region: parent, voters: voters.clone(), is_piece: true });
        for region in regions {
            self.born.push(region.id);
            self.insert(Known { region, voters: voters.clone(), is_piece: true });
        }
    }

    /// The keys at which regions begin now, in per cent; of none, all of them.
    #[must_use]
    pub fn finished_percent(&self) -> u64 {
        let done = self.key_count - self.pending.len();
        (100 * done).checked_div(self.key_count).unwrap_or(100) as u64
    }

    /// The regions that have come into being.
    #[must_use]
    pub fn born(&self) -> &[RegionId] {
        &self.born
    }

    fn insert(&mut self, known: Known) {
        let range = known.region.range.clone();
        let before = self.regions.range::<Bytes, _>(..&range.start_key).next_back();
        let first = before.map_or(&range.start_key, |(start_key, _)| start_key).clone();
        let overlapped = self.regions.range(first..);
        let overlapped = overlapped
            .take_while(|(start_key, _)| range.end_key.is_empty() || **start_key < range.end_key)
            .filter(|(_, old)| old.region.range.overlaps(&range));
        let overlapped: Vec<Bytes> = overlapped.map(|(start_key, _)| start_key.clone()).collect();
        overlapped.iter().for_each(|start_key| drop(self.regions.remove(start_key)));
        self.pending.remove(&range.start_key);
        self.regions.insert(range.start_key, known);
    }
}

/// The keys that are cut at first, of those that lie in one region: all, where they are few, or where this is a piece.
fn first_cuts(keys: Vec<Bytes>, voter_count: usize, is_piece: bool) -> Vec<Bytes> {
    let is_shared = !is_piece && voter_count > 1 && keys.len() >= 2 * voter_count;
    if keys.len() <= PIECE_KEYS_MAX && !is_shared {
        return keys;
    }
    let piece_count = keys.len().div_ceil(PIECE_KEYS_MAX).next_multiple_of(voter_count);
    let piece_count = piece_count.min(super::limits::SPLIT_KEYS_MAX);
    // The parts are one more than the keys, and the pieces share them evenly.
    let parts = keys.len() + 1;
    (1..piece_count).map(|piece| keys[piece * parts / piece_count - 1].clone()).collect()
}

#[cfg(test)]
mod tests {
    use types::{Epoch, KeyRange, Peer, PeerId, RegionSize};

    use super::*;
    use crate::core::{api::SplitAt, limits::SPLIT_KEYS_MAX};

    fn region(id: u64, start_key: &Bytes, end_key: &Bytes, version: u64) -> Region {
        let peer =
            |store| Peer { id: PeerId(10 * id + store), store_id: StoreId(store), role: PeerRole::Voter };
        Region {
            id: RegionId(id),
            range: KeyRange { start_key: start_key.clone(), end_key: end_key.clone() },
            epoch: Epoch { conf_version: 1, version },
            peers: (1..=3).map(peer).collect(),
        }
    }

    fn route(region: Region) -> RegionRoute {
        RegionRoute {
            region,
            leader: None,
            stand_in: None,
            down_peers: Vec::new(),
            pending_peers: Vec::new(),
            size: RegionSize::default(),
        }
    }

    fn key(at: usize) -> Bytes {
        Bytes::from(format!("k{at:05}"))
    }

    fn keys_of(request: &SplitRequest) -> &[Bytes] {
        let SplitAt::Keys(keys) = &request.at else { panic!("keys are named: {request:?}") };
        keys
    }

    /// A cluster that does what it is told.
    struct Cluster {
        regions: BTreeMap<RegionId, Region>,
        next_id: u64,
        led: BTreeMap<StoreId, usize>,
    }

    impl Cluster {
        fn new(count: usize) -> Cluster {
            let none = Bytes::new();
            let bounds: Vec<Bytes> =
                (0..count).map(|at| if at == 0 { none.clone() } else { key(1_000 * at) }).collect();
            let ends = bounds.iter().skip(1).chain([&none]);
            let regions = bounds
                .iter()
                .zip(ends)
                .zip(2..)
                .map(|((start, end), id)| (RegionId(id), region(id, start, end, 1)));
            Cluster { regions: regions.collect(), next_id: 1_000, led: BTreeMap::new() }
        }

        fn split(&mut self, request: &SplitRequest) -> Vec<Region> {
            let keys = keys_of(request);
            assert!((1..=SPLIT_KEYS_MAX).contains(&keys.len()));
            let parent = self.regions[&request.region_id].clone();
            assert_eq!(request.epoch, Some(parent.epoch));
            let is_inside = |key: &Bytes| *key > parent.range.start_key && parent.range.contains_key(key);
            assert!(keys.iter().all(is_inside));
            let version = parent.epoch.version + keys.len() as u64;
            let starts = [&parent.range.start_key].into_iter().chain(keys);
            let ends = keys.iter().chain([&parent.range.end_key]);
            let mut parts = Vec::new();
            for (start, end) in starts.zip(ends) {
                let id = if parts.is_empty() { parent.id.0 } else { self.next_id };
                self.next_id += 1;
                parts.push(region(id, start, end, version));
            }
            if let Some(store) = request.first_leader {
                *self.led.entry(store).or_default() += keys.len();
            }
            self.regions.extend(parts.iter().map(|part| (part.id, part.clone())));
            parts
        }
    }

    #[test]
    fn many_keys_become_regions_in_a_few_steps_with_leaders_on_every_store() {
        for (region_count, key_count, steps_max) in
            [(1, 1, 1), (1, 5, 1), (1, 31, 2), (1, 999, 2), (1, 9_999, 2), (1, 40_000, 3), (7, 3_000, 2)]
        {
            let mut cluster = Cluster::new(region_count);
            let keys: Vec<Bytes> = (1..=key_count).map(key).collect();
            let mut division = Division::new(keys.clone());
            division.learn(cluster.regions.values().cloned().map(route).collect());
            let mut steps = 0;
            loop {
                let requests = division.requests();
                if requests.is_empty() {
                    break;
                }
                steps += 1;
                for request in requests {
                    division.on_split(cluster.split(&request));
                }
            }
            assert!(steps <= steps_max, "{key_count} keys took {steps} steps");
            assert_eq!((division.finished_percent(), division.span()), (100, None));
            let starts: BTreeSet<_> =
                cluster.regions.values().map(|region| region.range.start_key.clone()).collect();
            assert!(keys.iter().all(|key| starts.contains(key)));
            assert_eq!(division.born().len(), cluster.regions.len() - region_count);
            if key_count > 30 {
                let counts: Vec<usize> = cluster.led.values().copied().collect();
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(counts.len() == 3 && most - least <= most / 3, "{key_count} keys: {counts:?}");
            }
        }
    }

    #[test]
    fn what_begins_a_region_already_is_done() {
        let mut cluster = Cluster::new(3);
        let mut division = Division::new(vec![Bytes::new(), key(1_000), key(1_500), key(1_500)]);
        assert_eq!(division.finished_percent(), 0);
        division.learn(cluster.regions.values().cloned().map(route).collect());
        assert_eq!(division.finished_percent(), 66);
        let requests = division.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].region_id, keys_of(&requests[0])), (RegionId(3), &[key(1_500)][..]));
        // It was refused; somebody else has split the region meanwhile.
        let other = SplitRequest { at: SplitAt::Keys(vec![key(1_200)]), ..requests[0].clone() };
        let parts = cluster.split(&other);
        division.learn(parts.into_iter().map(route).collect());
        let requests = division.requests();
        assert_eq!((requests.len(), requests[0].region_id), (1, RegionId(1_001)));
        division.on_split(cluster.split(&requests[0]));
        assert_eq!((division.finished_percent(), division.born().len()), (100, 1));
        assert_eq!(Division::new(Vec::new()).finished_percent(), 100);
    }

    #[test]
    fn a_store_that_does_not_answer_leads_nothing() {
        let mut division = Division::new((1..=30).map(key).collect());
        let whole = region(2, &Bytes::new(), &Bytes::new(), 1);
        let down_peers = vec![whole.peers[1].id];
        division.learn(vec![RegionRoute { down_peers, ..route(whole.clone()) }]);
        let mut cluster = Cluster::new(1);
        loop {
            let requests = division.requests();
            if requests.is_empty() {
                break;
            }
            for request in requests {
                assert_ne!(request.first_leader, Some(StoreId(2)));
                division.on_split(cluster.split(&request));
            }
        }
        assert_eq!(cluster.led.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 3]);
    }
}
