//! Scripts in `testdata/`: a picture of a cluster, `----`, and what is begun. `REWRITE=1` writes down what is begun now.
//!
//! A line is a word and its arguments: `stores 1 2! 3d 4x` (silent: `!`, draining: `d`, removed: `x`; `5*8` has eight
//! peers beside those in the picture), `region 7: 1 2l 3i` (a peer on each store; learner: `l`, joining: `i`, leaving:
//! `o`; leading: `*`; without any the first one leads; peer ids follow from region and store), `changing 200` (the placement group's operation is so many milliseconds
//! old), `voters 3`, `budget 64`,
//! `off` (nothing is levelled).

use std::{fs, path::Path};

use types::{Epoch, KeyRange, Peer, PeerId, PeerRole};

use super::*;

#[test]
fn scripts_begin_what_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().for_each(|path| check(path));
}

fn check(path: &Path) {
    let written = fs::read_to_string(path).unwrap();
    let blocks = written.split("\n\n").map(|block| {
        let input = block.trim_matches('\n').split("\n----").next().unwrap_or_default();
        format!("{input}\n----\n{}", run(input)).trim_end().to_owned()
    });
    let actual = blocks.collect::<Vec<_>>().join("\n\n") + "\n";
    if std::env::var_os("REWRITE").is_some() {
        fs::write(path, actual).unwrap();
    } else {
        assert_eq!(written, actual, "{}: REWRITE=1 accepts the new answers", path.display());
    }
}

fn run(input: &str) -> String {
    let mut stores = BTreeMap::new();
    let mut regions: Vec<Region> = Vec::new();
    let mut leaders = BTreeMap::new();
    let (mut changing, mut voter_count, mut budget, mut is_balancing) = (None, 3, 64, true);
    for line in input.lines().filter(|line| !line.starts_with('%')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "stores" => stores.extend(rest.split(' ').map(store)),
            "region" => {
                let leading = rest.split(' ').skip(1).find(|word| word.ends_with('*'));
                regions.push(region(&rest.replace('*', "")));
                let region = &regions[regions.len() - 1];
                let first = region.peers[0].store_id;
                let leader =
                    leading.map_or(first, |word| StoreId(word.trim_end_matches('*').parse().unwrap()));
                leaders.insert(region.id, leader);
            }
            "off" => is_balancing = false,
            "changing" => changing = Some(Duration::from_millis(rest.parse().unwrap())),
            "voters" => voter_count = rest.parse().unwrap(),
            "budget" => budget = rest.parse().unwrap(),
            other => panic!("unknown word {other}"),
        }
    }
    for peer in regions.iter().flat_map(|region| &region.peers) {
        if let Some(store) = stores.get_mut(&peer.store_id) {
            store.peer_count += 1;
        }
    }
    for (region_id, leader) in &leaders {
        if *region_id != RegionId::PLACEMENT {
            stores.get_mut(leader).unwrap().leader_count += 1;
        }
    }
    let summary = |region| summary_of(region, &stores, &leaders);
    let picture = Picture {
        stores: stores.clone(),
        placement_group: regions.iter().find(|region| region.id == RegionId::PLACEMENT),
        placement_group_changing: changing,
        regions: regions.iter().filter(|region| region.id != RegionId::PLACEMENT).map(summary).collect(),
        voter_count,
        is_balancing,
        budget,
        transfers_running: 0,
        seed: 1,
    };
    let shown = schedule(picture).into_iter().map(|wish| match wish.aim {
        WishAim::Voters(ids) => {
            let stores: Vec<_> = ids.iter().map(StoreId::to_string).collect();
            format!("region {}: {}\n", wish.region_id, stores.join(" "))
        }
        WishAim::Leader(id) => format!("region {}: led by {id}\n", wish.region_id),
    });
    shown.collect()
}

/// Healthy where every store is live.
fn summary_of<'a>(
    region: &'a Region,
    stores: &BTreeMap<StoreId, StoreSummary>,
    leaders: &BTreeMap<RegionId, StoreId>,
) -> RegionSummary<'a> {
    let is_live = |id: &StoreId| stores.get(id).is_some_and(|store| store.is_live);
    RegionSummary {
        region,
        leader: leaders.get(&region.id).copied().filter(is_live),
        is_healthy: region.peers.iter().all(|peer| is_live(&peer.store_id)),
    }
}

fn store(word: &str) -> (StoreId, StoreSummary) {
    let (word, peer_count) = match word.split_once('*') {
        Some((word, count)) => (word, count.parse().unwrap()),
        None => (word, 0),
    };
    let id = word.trim_end_matches(['!', 'd', 'x']);
    let state = match word.chars().last() {
        Some('d') => StoreState::Draining,
        Some('x') => StoreState::Removed,
        _ => StoreState::Up,
    };
    let is_live = !word.ends_with(['!', 'x']);
    (StoreId(id.parse().unwrap()), StoreSummary { is_live, state, peer_count, ..StoreSummary::default() })
}

fn region(rest: &str) -> Region {
    let (id, peers) = rest.split_once(": ").unwrap();
    let id: u64 = id.parse().unwrap();
    let peer = |word: &str| {
        let role = match word.chars().last() {
            Some('l') => PeerRole::Learner,
            Some('i') => PeerRole::IncomingVoter,
            Some('o') => PeerRole::DemotingVoter,
            _ => PeerRole::Voter,
        };
        let store_id: u64 = word.trim_end_matches(['l', 'i', 'o']).parse().unwrap();
        Peer { id: PeerId(id * 100 + store_id), store_id: StoreId(store_id), role }
    };
    Region {
        id: RegionId(id),
        range: KeyRange::ALL,
        epoch: Epoch::FIRST,
        peers: peers.split(' ').map(peer).collect(),
    }
}

/// A cluster in which every wish comes true at once.
struct Cluster {
    stores: BTreeMap<StoreId, StoreSummary>,
    regions: Vec<Region>,
    leaders: BTreeMap<RegionId, StoreId>,
}

impl Cluster {
    /// Stores 1 to 3 with a peer of every region, all led by store 1, and an empty store 4.
    fn with_an_empty_store(region_count: u64) -> Cluster {
        let live = StoreSummary { is_live: true, ..StoreSummary::default() };
        let regions: Vec<Region> =
            (0..region_count).map(|at| region(&format!("{}: 1 2 3", 10 + at))).collect();
        Cluster {
            stores: (1..=4).map(|id| (StoreId(id), live)).collect(),
            leaders: regions.iter().map(|region| (region.id, StoreId(1))).collect(),
            regions,
        }
    }

    fn count(&mut self) {
        for (id, store) in &mut self.stores {
            let has_peer = |region: &&Region| region.find_peer_on(*id).is_some();
            store.peer_count = self.regions.iter().filter(has_peer).count();
            store.leader_count = self.leaders.values().filter(|leader| *leader == id).count();
        }
    }

    /// Schedules once; returns how many wishes there were.
    fn step(&mut self, seed: u64) -> usize {
        self.count();
        let wishes = schedule(Picture {
            stores: self.stores.clone(),
            placement_group: None,
            placement_group_changing: None,
            regions: self
                .regions
                .iter()
                .map(|region| summary_of(region, &self.stores, &self.leaders))
                .collect(),
            voter_count: 3,
            is_balancing: true,
            budget: 64,
            transfers_running: 0,
            seed,
        });
        let count = wishes.len();
        self.check_limits(&wishes);
        wishes.into_iter().for_each(|wish| self.fulfil(wish));
        count
    }

    fn check_limits(&self, wishes: &[Wish]) {
        let mut arriving: BTreeMap<StoreId, usize> = BTreeMap::new();
        let mut transfers = 0;
        for wish in wishes {
            let region = self.regions.iter().find(|region| region.id == wish.region_id).unwrap();
            match &wish.aim {
                WishAim::Voters(ids) => {
                    let new = ids.iter().filter(|id| region.find_peer_on(**id).is_none());
                    new.for_each(|id| *arriving.entry(*id).or_default() += 1);
                }
                WishAim::Leader(_) => transfers += 1,
            }
        }
        assert!(arriving.values().all(|count| *count <= OPERATIONS_PER_TARGET_MAX), "{arriving:?}");
        assert!(transfers <= crate::core::limits::TRANSFERS_RUNNING_MAX);
    }

    fn fulfil(&mut self, wish: Wish) {
        let region = self.regions.iter_mut().find(|region| region.id == wish.region_id).unwrap();
        match wish.aim {
            WishAim::Voters(ids) => {
                assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "one voter a store: {ids:?}");
                assert_eq!(ids.len(), 3);
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
        }
    }

    /// Until nothing is wished; then it must stay like that.
    fn settle(&mut self) {
        for seed in 0..1_000 {
            if self.step(seed) == 0 {
                let is_still = (0..120).all(|look| self.step(seed + look) == 0);
                assert!(is_still, "the cluster is still");
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    fn counts(&mut self, of: impl Fn(&StoreSummary) -> usize) -> Vec<usize> {
        self.count();
        self.stores.values().map(of).collect()
    }
}

#[test]
fn an_empty_store_gets_its_share_and_then_nothing_moves() {
    let mut cluster = Cluster::with_an_empty_store(300);
    cluster.settle();
    assert_eq!(cluster.counts(|store| store.peer_count), [225; 4]);
    let leaders = cluster.counts(|store| store.leader_count);
    assert_eq!(leaders.iter().sum::<usize>(), 300);
    assert!(leaders.iter().all(|count| (73..=77).contains(count)), "{leaders:?}");
}

#[test]
fn a_store_that_drains_loses_everything_and_one_that_is_used_again_gets_its_share() {
    let mut cluster = Cluster::with_an_empty_store(100);
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
    let mut cluster = Cluster::with_an_empty_store(100);
    let gone = cluster.stores.get_mut(&StoreId(3)).unwrap();
    (gone.state, gone.is_live) = (StoreState::Removed, false);
    cluster.settle();
    assert_eq!(cluster.counts(|store| store.peer_count), [100, 100, 0, 100]);
}
