//! Clusters in which every wish comes true at once: they come to rest, level, and whatever changes costs no more moves than
//! it must.

use super::*;
use crate::core::limits::{
    LEVEL_TOLERANCE_BYTES_MIN, LEVEL_TOLERANCE_PERCENT, OPERATIONS_PER_SOURCE_MAX, TRANSFERS_RUNNING_MAX,
};

const MIB: u64 = 1 << 20;

struct Cluster {
    stores: BTreeMap<StoreId, StoreSummary>,
    regions: Vec<Region>,
    leaders: BTreeMap<RegionId, StoreId>,
    /// Those that are known.
    sizes: BTreeMap<RegionId, u64>,
    /// Voters that were copied, and their bytes.
    moved: (usize, u64),
}

impl Cluster {
    /// Stores 1 to 3 with a peer of every region, all led by store 1, and empty stores up to this one.
    fn with_empty_stores(region_count: u64, store_count: u64) -> Cluster {
        let live = StoreSummary { is_live: true, ..StoreSummary::default() };
        let regions: Vec<Region> =
            (0..region_count).map(|at| region(&format!("{}: 1 2 3", 10 + at))).collect();
        Cluster {
            stores: (1..=store_count).map(|id| (StoreId(id), live)).collect(),
            leaders: regions.iter().map(|region| (region.id, StoreId(1))).collect(),
            regions,
            sizes: BTreeMap::new(),
            moved: (0, 0),
        }
    }

    fn with_sizes(mut self, mut size: impl FnMut(u64) -> u64) -> Cluster {
        self.sizes = self.regions.iter().map(|region| (region.id, size(region.id.0 - 10))).collect();
        self
    }

    fn count(&mut self) {
        for (id, store) in &mut self.stores {
            let peers = self.regions.iter().filter(|region| region.find_peer_on(*id).is_some());
            store.peer_count = peers.clone().count();
            store.size_bytes = peers.filter_map(|region| self.sizes.get(&region.id)).sum();
            store.leader_count = self.leaders.values().filter(|leader| *leader == id).count();
        }
    }

    fn picture(&mut self, seed: u64) -> Picture<'_> {
        self.count();
        let summary = |region| summary_of(region, &self.stores, &self.leaders, &self.sizes);
        Picture {
            stores: self.stores.clone(),
            placement_group: None,
            placement_group_changing: None,
            regions: self.regions.iter().map(summary).collect(),
            wanted_learners: BTreeSet::new(),
            voter_count: 3,
            is_balancing: true,
            budget: 64,
            transfers_running: 0,
            seed,
        }
    }

    /// Schedules once; returns how many wishes there were.
    fn step(&mut self, seed: u64) -> usize {
        let wishes = schedule(self.picture(seed));
        self.check_limits(&wishes);
        let count = wishes.len();
        wishes.into_iter().for_each(|wish| self.fulfil(wish));
        count
    }

    fn check_limits(&self, wishes: &[Wish]) {
        let (mut arriving, mut leaving) = (BTreeMap::new(), BTreeMap::new());
        let mut transfers = 0;
        for wish in wishes {
            let region = self.regions.iter().find(|region| region.id == wish.region_id).unwrap();
            match &wish.aim {
                WishAim::Voters(ids) => {
                    let new = ids.iter().filter(|id| region.find_peer_on(**id).is_none());
                    new.for_each(|id| *arriving.entry(*id).or_insert(0) += 1);
                    let old = region.peers.iter().map(|peer| peer.store_id);
                    let up = old.filter(|id| self.stores[id].state == StoreState::Up && !ids.contains(id));
                    up.for_each(|id| *leaving.entry(id).or_insert(0) += 1);
                }
                WishAim::Leader(_) => transfers += 1,
                WishAim::Learners(_) | WishAim::Scatter { .. } => panic!("nobody wants that"),
            }
        }
        assert!(arriving.values().all(|count| *count <= OPERATIONS_PER_TARGET_MAX), "{arriving:?}");
        assert!(leaving.values().all(|count| *count <= OPERATIONS_PER_SOURCE_MAX), "{leaving:?}");
        assert!(transfers <= TRANSFERS_RUNNING_MAX);
    }

    fn fulfil(&mut self, wish: Wish) {
        let region = self.regions.iter_mut().find(|region| region.id == wish.region_id).unwrap();
        match wish.aim {
            WishAim::Voters(ids) => {
                assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "one voter a store: {ids:?}");
                assert_eq!(ids.len(), 3);
                let new_count = ids.iter().filter(|id| region.find_peer_on(**id).is_none()).count();
                self.moved.0 += new_count;
                self.moved.1 += new_count as u64 * self.sizes.get(&region.id).unwrap_or(&0);
                let peer = |store_id: &StoreId| Peer {
                    id: PeerId(region.id.0 * 100 + store_id.0),
                    store_id: *store_id,
                    role: PeerRole::Voter,
                };
                region.peers = ids.iter().map(peer).collect();
                if !ids.contains(&self.leaders[&wish.region_id]) {
                    self.leaders.insert(wish.region_id, ids[0]);
                }
            }
            WishAim::Leader(id) => {
                assert!(region.find_peer_on(id).is_some(), "a voter leads");
                self.leaders.insert(wish.region_id, id);
            }
            WishAim::Learners(_) | WishAim::Scatter { .. } => panic!("nobody wants that"),
        }
    }

    /// Until nothing is wished; then it must stay like that. Returns how many voters were moved.
    fn settle(&mut self) -> usize {
        let moved_count = self.moved.0;
        for seed in 0..2_000 {
            if self.step(seed) == 0 {
                let is_still = (0..20).all(|look| self.step(seed + look) == 0);
                assert!(is_still, "the cluster is still");
                return self.moved.0 - moved_count;
            }
        }
        panic!("the cluster does not come to rest: {:?}", self.stores);
    }

    fn counts(&mut self, of: impl Fn(&StoreSummary) -> usize) -> Vec<usize> {
        self.count();
        self.stores.values().map(of).collect()
    }

    /// How far stores that take part are apart, in peers, leaders and bytes; and how far they may be, in bytes.
    fn spread(&mut self) -> (usize, usize, u64, u64) {
        self.count();
        let up = || self.stores.values().filter(|store| store.is_live && store.state == StoreState::Up);
        fn apart<T: Ord + Copy + std::ops::Sub<Output = T>>(of: impl Iterator<Item = T> + Clone) -> T {
            of.clone().max().unwrap() - of.min().unwrap()
        }
        let sum: u64 = up().map(|store| store.size_bytes).sum();
        let allowed = sum / up().count() as u64 * LEVEL_TOLERANCE_PERCENT / 100;
        // What an exchange would leave is at most half of what it finds; so one region may be too much to move.
        let largest = self.sizes.values().max().unwrap_or(&0) * 4 / 3;
        let peers = up().map(|store| store.peer_count).collect::<Vec<_>>();
        let leaders = up().map(|store| store.leader_count).collect::<Vec<_>>();
        let bytes = up().map(|store| store.size_bytes).collect::<Vec<_>>();
        (
            apart(peers.into_iter()),
            apart(leaders.into_iter()),
            apart(bytes.into_iter()),
            allowed.max(LEVEL_TOLERANCE_BYTES_MIN).max(largest),
        )
    }

    fn check_level(&mut self, context: &str) {
        let (peers, leaders, bytes, allowed_bytes) = self.spread();
        assert!(peers <= 1, "{context}: {peers} peers apart");
        assert!(leaders <= 1, "{context}: {leaders} leaders apart");
        assert!(bytes <= allowed_bytes, "{context}: {bytes} bytes apart, {allowed_bytes} would do");
    }
}

/// Numbers as if drawn (splitmix64, as the scheduler's own).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        tie_break(self.0, RegionId(7), StoreId(9)) % end
    }

    /// Most regions are small, some large, a few are 96 MiB.
    fn size(&mut self) -> u64 {
        match self.below(10) {
            0..5 => self.below(MIB),
            5..8 => self.below(16 * MIB),
            8 => self.below(64 * MIB),
            _ => 64 * MIB + self.below(32 * MIB),
        }
    }
}

#[test]
fn an_empty_store_gets_its_share_and_then_nothing_moves() {
    let mut cluster = Cluster::with_empty_stores(300, 4);
    assert_eq!(cluster.settle(), 225, "no move too many");
    assert_eq!(cluster.counts(|store| store.peer_count), [225; 4]);
    assert_eq!(cluster.counts(|store| store.leader_count), [75; 4]);
}

#[test]
fn a_store_that_drains_loses_everything_and_one_that_is_used_again_gets_its_share() {
    let mut cluster = Cluster::with_empty_stores(100, 4);
    cluster.settle();
    cluster.stores.get_mut(&StoreId(2)).unwrap().state = StoreState::Draining;
    cluster.settle();
    assert_eq!(cluster.counts(|store| store.peer_count), [100, 0, 100, 100]);
    assert_eq!(cluster.counts(|store| store.leader_count)[1], 0);
    cluster.stores.get_mut(&StoreId(2)).unwrap().state = StoreState::Up;
    cluster.settle();
    assert_eq!(cluster.counts(|store| store.peer_count), [75; 4]);
}

/// A store has lost its disk and is back under a new id.
#[test]
fn a_retired_store_is_replaced() {
    let mut cluster = Cluster::with_empty_stores(100, 4);
    let gone = cluster.stores.get_mut(&StoreId(3)).unwrap();
    (gone.state, gone.is_live) = (StoreState::Removed, false);
    cluster.settle();
    assert_eq!(cluster.counts(|store| store.peer_count), [100, 100, 0, 100]);
}

/// What has to move for the numbers levels the bytes as well, as far as it can.
#[test]
fn an_empty_store_gets_its_share_of_bytes() {
    let mut draw = Draw(1);
    let mut cluster = Cluster::with_empty_stores(300, 4).with_sizes(|_| draw.size());
    let moved_count = cluster.settle();
    cluster.check_level("a fourth store");
    assert!((225..250).contains(&moved_count), "{moved_count} voters for 225");
    let (sum, moved) = (cluster.sizes.values().sum::<u64>() * 3 / 4, cluster.moved.1);
    assert!(moved < sum * 5 / 4, "{moved} bytes for {sum}");
}

/// Stores differ by bytes alone: every large region is on stores 1 to 3.
#[test]
fn bytes_are_levelled_where_numbers_are_level() {
    let mut cluster = Cluster::with_empty_stores(200, 6).with_sizes(|at| if at < 100 { 64 * MIB } else { 0 });
    for region in &mut cluster.regions[100..] {
        *region = super::region(&format!("{}: 4 5 6", region.id));
        cluster.leaders.insert(region.id, StoreId(4));
    }
    let moved_count = cluster.settle();
    cluster.check_level("six stores");
    assert!(
        (270..=300).contains(&moved_count),
        "{moved_count}: half of the large ones for as many small ones"
    );
}

/// No region is much larger than another one, and yet the stores differ.
#[test]
fn regions_that_differ_little_level_much() {
    let mut cluster =
        Cluster::with_empty_stores(200, 6).with_sizes(|at| if at < 100 { 12 * MIB } else { 9 * MIB });
    for region in &mut cluster.regions[100..] {
        *region = super::region(&format!("{}: 4 5 6", region.id));
        cluster.leaders.insert(region.id, StoreId(4));
    }
    cluster.settle();
    cluster.check_level("six stores");
}

/// Random sizes, random stores that come, drain, die and return: the cluster always comes to rest, level.
#[test]
fn whatever_happens_the_cluster_comes_to_rest() {
    for seed in 0..40 {
        let mut draw = Draw(seed * 1_000);
        let store_count = 4 + draw.below(5);
        let region_count = 40 + draw.below(200);
        let mut cluster = Cluster::with_empty_stores(region_count, store_count);
        for round in 0..6 {
            match draw.below(5) {
                0 => cluster.sizes = cluster.regions.iter().map(|region| (region.id, draw.size())).collect(),
                1 => cluster.sizes.values_mut().for_each(|size| *size = *size * (75 + draw.below(50)) / 100),
                2 => {
                    let id = StoreId(cluster.stores.len() as u64 + 1);
                    let live = StoreSummary { is_live: true, ..StoreSummary::default() };
                    cluster.stores.insert(id, live);
                }
                3 => {
                    cluster.stores.values_mut().for_each(|store| store.state = StoreState::Up);
                    let id = StoreId(1 + draw.below(cluster.stores.len() as u64));
                    cluster.stores.get_mut(&id).unwrap().state = StoreState::Draining;
                }
                _ => {
                    let id = StoreId(1 + draw.below(cluster.stores.len() as u64));
                    let store = cluster.stores.get_mut(&id).unwrap();
                    store.is_full ^= true;
                }
            }
            cluster.settle();
            let is_any_full = cluster.stores.values().any(|store| store.is_full);
            if !is_any_full {
                cluster.check_level(&format!("seed {seed}, round {round}"));
            }
        }
    }
}

/// Sizes move by a few per cent at every look, as clients write: what is level stays where it is.
#[test]
fn sizes_that_drift_move_nothing() {
    for seed in 0..20 {
        let mut draw = Draw(seed * 1_000);
        let mut cluster = Cluster::with_empty_stores(200, 5).with_sizes(|_| draw.size());
        cluster.settle();
        let settled = cluster.sizes.clone();
        let moved_count = cluster.moved.0;
        for look in 0..200 {
            for (id, size) in &mut cluster.sizes {
                let step = (settled[id] / 8).max(MIB);
                *size = (settled[id] + draw.below(2 * step)).saturating_sub(step);
            }
            cluster.step(look);
        }
        let moved_count = cluster.moved.0 - moved_count;
        assert!(moved_count <= 4, "seed {seed}: {moved_count} voters");
    }
}

/// Sizes are known of some regions only, of none, or all are zero: numbers decide, and nothing is exchanged.
#[test]
fn sizes_that_are_not_known_move_nothing() {
    for known_count in [0, 100, 180] {
        let mut draw = Draw(known_count);
        let mut cluster = Cluster::with_empty_stores(200, 4).with_sizes(|_| draw.size());
        cluster.sizes.retain(|id, _| id.0 - 10 < known_count);
        assert_eq!(cluster.settle(), 150, "{known_count} known");
    }
    let mut cluster = Cluster::with_empty_stores(200, 4).with_sizes(|_| 0);
    assert_eq!(cluster.settle(), 150);
}
