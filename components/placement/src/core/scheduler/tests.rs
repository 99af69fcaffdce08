//! Scripts in `testdata/`: a picture of a cluster, `----`, and what is begun. `REWRITE=1` writes down what is begun now.
//!
//! A line is a word and its arguments: `stores 1 2! 3d 4x` (silent: `!`, draining: `d`, removed: `x`; `5*8` has eight
//! peers beside those in the picture), `region 7: 1 2l 3i` (a peer on each store; learner: `l`, joining: `i`, leaving:
//! `o`; peer ids follow from region and store), `changing 200` (the placement group's operation is so many milliseconds
//! old), `voters 3`, `budget 64`.

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
    let (mut changing, mut voter_count, mut budget) = (None, 3, 64);
    for line in input.lines().filter(|line| !line.starts_with('%')) {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "stores" => stores.extend(rest.split(' ').map(store)),
            "region" => regions.push(region(rest)),
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
    let picture = Picture {
        stores,
        placement_group: regions.iter().find(|region| region.id == RegionId::PLACEMENT),
        placement_group_changing: changing,
        regions: regions.iter().filter(|region| region.id != RegionId::PLACEMENT).collect(),
        voter_count,
        budget,
        seed: 1,
    };
    let shown = schedule(picture).into_iter().map(|wish| {
        let stores: Vec<_> = wish.store_ids.iter().map(StoreId::to_string).collect();
        format!("region {}: {}\n", wish.region_id, stores.join(" "))
    });
    shown.collect()
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
    (StoreId(id.parse().unwrap()), StoreSummary { is_live, state, peer_count, arriving_count: 0 })
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
