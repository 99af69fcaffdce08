//! Scripts in `testdata/`: a picture of a cluster, `----`, and what is begun. `REWRITE=1` writes down what is begun now.
//!
//! A line is a word and its arguments: `stores 1 2! 3d 4x` (silent: `!`, draining: `d`, removed: `x`; `5*8` has eight
//! peers beside those in the picture), `region 7: 1 2l 3i` (a peer on each store; learner: `l`, joining: `i`, leaving:
//! `o`; leading: `*`; without any the first one leads; peer ids follow from region and store; `region 7: 1 2 3 = 40`: it
//! holds so many MiB; without that nobody knows), `changing 200` (the placement group's operation is so many milliseconds
//! old), `voters 3`, `budget 64`, `off` (nothing is levelled), `scatter 7 8 | 9` (regions 7 and 8 shall be scattered; 9 is of
//! their group, too).

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
    let (mut leaders, mut sizes) = (BTreeMap::new(), BTreeMap::new());
    let (mut changing, mut voter_count, mut budget, mut is_balancing) = (None, 3, 64, true);
    let mut groups: Vec<[Vec<RegionId>; 2]> = Vec::new();
    let mut wanted_learners = BTreeSet::new();
    for line in input.lines().filter(|line| !line.starts_with('%')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "stores" => stores.extend(rest.split(' ').map(store)),
            "region" => {
                let (rest, size) =
                    rest.split_once(" = ").map_or((rest, None), |(rest, size)| (rest, Some(size)));
                let leading = rest.split(' ').skip(1).find(|word| word.ends_with('*'));
                regions.push(region(&rest.replace('*', "")));
                let region = &regions[regions.len() - 1];
                let wanted = rest.split(' ').filter_map(|word| word.strip_suffix('w')).map(|id| store(id).0);
                wanted_learners.extend(wanted.filter_map(|id| region.find_peer_on(id)).map(|peer| peer.id));
                let first = region.peers[0].store_id;
                let leader =
                    leading.map_or(first, |word| StoreId(word.trim_end_matches('*').parse().unwrap()));
                leaders.insert(region.id, leader);
                sizes.extend(size.map(|size| (region.id, size.parse::<u64>().unwrap() << 20)));
            }
            "off" => is_balancing = false,
            "changing" => changing = Some(Duration::from_millis(rest.parse().unwrap())),
            "scatter" => {
                let (asked, others) = rest.split_once(" | ").unwrap_or((rest, ""));
                groups.push([asked, others].map(region_ids));
            }
            "voters" => voter_count = rest.parse().unwrap(),
            "budget" => budget = rest.parse().unwrap(),
            other => panic!("unknown word {other}"),
        }
    }
    for region in &regions {
        for peer in &region.peers {
            if let Some(store) = stores.get_mut(&peer.store_id) {
                store.peer_count += 1;
                store.size_bytes += sizes.get(&region.id).unwrap_or(&0);
            }
        }
    }
    for (region_id, leader) in &leaders {
        if *region_id != RegionId::PLACEMENT {
            stores.get_mut(leader).unwrap().leader_count += 1;
        }
    }
    let summary = |region| summary_of(region, &stores, &leaders, &sizes);
    let picture = Picture {
        stores: stores.clone(),
        placement_group: regions.iter().find(|region| region.id == RegionId::PLACEMENT),
        placement_group_changing: changing,
        regions: regions.iter().filter(|region| region.id != RegionId::PLACEMENT).map(summary).collect(),
        wanted_learners,
        voter_count,
        is_balancing,
        budget,
        transfers_running: 0,
        seed: 1,
    };
    let groups = groups.into_iter().map(|[asked, others]| group_of(asked, &others, &regions, &leaders));
    let (wishes, scattered) = plan(picture, groups.collect());
    let wishes = wishes.into_iter().map(show);
    let outcomes = scattered.into_iter().filter_map(|(id, outcome)| match outcome {
        Scattered::Wished => None,
        Scattered::Settled => Some(format!("region {id} is where it should be\n")),
        Scattered::Later => Some(format!("region {id} waits\n")),
    });
    wishes.chain(outcomes).collect()
}

fn show(wish: Wish) -> String {
    let stores = |ids: &[StoreId]| ids.iter().map(StoreId::to_string).collect::<Vec<_>>().join(" ");
    match wish.aim {
        WishAim::Voters(ids) => format!("region {}: {}\n", wish.region_id, stores(&ids)),
        WishAim::Learners(_) => panic!("no scheduler wants learners"),
        WishAim::Leader(id) => format!("region {}: led by {id}\n", wish.region_id),
        WishAim::Scatter { voters, leader } => {
            format!("region {}: {}, led by {leader}\n", wish.region_id, stores(&voters))
        }
    }
}

fn region_ids(text: &str) -> Vec<RegionId> {
    text.split_whitespace().map(|word| RegionId(word.parse().unwrap())).collect()
}

fn group_of(
    asked: Vec<RegionId>,
    others: &[RegionId],
    regions: &[Region],
    leaders: &BTreeMap<RegionId, StoreId>,
) -> Scatter {
    let mut tallies: BTreeMap<StoreId, Tally> = BTreeMap::new();
    for region in regions.iter().filter(|region| others.contains(&region.id)) {
        region.peers.iter().for_each(|peer| tallies.entry(peer.store_id).or_default().peer_count += 1);
        tallies.entry(leaders[&region.id]).or_default().leader_count += 1;
    }
    Scatter { region_ids: asked.into_iter().collect(), others: tallies }
}

/// Where nobody wants anything to be scattered.
fn schedule(picture: Picture<'_>) -> Vec<Wish> {
    plan(picture, Vec::new()).0
}

/// Healthy where every store is live.
fn summary_of<'a>(
    region: &'a Region,
    stores: &BTreeMap<StoreId, StoreSummary>,
    leaders: &BTreeMap<RegionId, StoreId>,
    sizes: &BTreeMap<RegionId, u64>,
) -> RegionSummary<'a> {
    let is_live = |id: &StoreId| stores.get(id).is_some_and(|store| store.is_live);
    RegionSummary {
        region,
        leader: leaders.get(&region.id).copied().filter(is_live),
        is_healthy: region.peers.iter().all(|peer| is_live(&peer.store_id)),
        size_bytes: sizes.get(&region.id).copied(),
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
            Some('l' | 'w') => PeerRole::Learner,
            Some('i') => PeerRole::IncomingVoter,
            Some('o') => PeerRole::DemotingVoter,
            _ => PeerRole::Voter,
        };
        let store_id: u64 = word.trim_end_matches(['l', 'w', 'i', 'o']).parse().unwrap();
        Peer { id: PeerId(id * 100 + store_id), store_id: StoreId(store_id), role }
    };
    Region {
        id: RegionId(id),
        range: KeyRange::ALL,
        epoch: Epoch::FIRST,
        peers: peers.split(' ').map(peer).collect(),
    }
}

mod convergence;
