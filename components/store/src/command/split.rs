//! Split: a region's range is divided, and each part but the first becomes a region of its own, with peers where the
//! parent has them.

use bytes::Bytes;
use types::{KeyRange, Peer, PeerRole, Region, Split, StoreId};

use crate::{
    Error, Result,
    limits::{SPLIT_CHILDREN_MAX, SPLIT_KEYS_BYTES_MAX},
};

/// Refuses a split that cannot be one of this region; the same before it is proposed and where it is applied.
pub(crate) fn check(split: &Split, region: &Region) -> Result<()> {
    if split.epoch != region.epoch {
        return Err(Error::EpochNotMatch { current: vec![region.clone()] });
    }
    if region.configuration().is_joint() {
        return Err(Error::Refused("the region's peers are being changed".to_owned()));
    }
    if split.children.is_empty() {
        return Err(Error::Invalid("a split names at least one key".to_owned()));
    }
    let (count, bytes) =
        (split.children.len(), split.children.iter().map(|child| child.start_key.len()).sum::<usize>());
    if count > SPLIT_CHILDREN_MAX || bytes > SPLIT_KEYS_BYTES_MAX {
        let text = format!(
            "a split has at most {SPLIT_CHILDREN_MAX} keys of {SPLIT_KEYS_BYTES_MAX} bytes together: not {count} of {bytes}"
        );
        return Err(Error::Invalid(text));
    }
    let mut last_key = &region.range.start_key;
    for child in &split.children {
        let key = &child.start_key;
        if let Some(text) = fault_of(key, last_key, region) {
            return Err(Error::Invalid(text));
        }
        if child.peer_ids.len() != region.peers.len() {
            let text = format!("a child needs {} peer ids", region.peers.len());
            return Err(Error::Invalid(text));
        }
        last_key = key;
    }
    let has_voter = |id: &StoreId| region.find_peer_on(*id).is_some_and(|peer| peer.role == PeerRole::Voter);
    match split.leader_stores.iter().find(|id| !has_voter(id)) {
        Some(id) => Err(Error::Invalid(format!("no voter lives on store {id}"))),
        None if split.leader_stores.is_empty() => {
            Err(Error::Invalid("a split names who leads the new regions first".to_owned()))
        }
        None => Ok(()),
    }
}

/// What is wrong with a split key.
fn fault_of(key: &Bytes, last_key: &Bytes, region: &Region) -> Option<String> {
    let (id, range) = (region.id, &region.range);
    let shown = key.escape_ascii();
    if *key == range.start_key {
        return Some(format!("region {id} begins at key \"{shown}\" already"));
    }
    if !range.contains_key(key) {
        let (start_key, end_key) = (range.start_key.escape_ascii(), range.end_key.escape_ascii());
        return Some(format!(
            "key \"{shown}\" is not inside region {id}, which goes from \"{start_key}\" to \"{end_key}\""
        ));
    }
    (key <= last_key).then(|| format!("split keys ascend, each once: not \"{shown}\""))
}

/// The descriptors after a split that passed [`check`]: the parent's, and its children's in order of their keys.
pub(crate) fn divide(split: &Split, region: &Region) -> (Region, Vec<Region>) {
    let mut epoch = region.epoch;
    // As many versions as there are parts: no descriptor of an earlier division has the same.
    epoch.version += split.children.len() as u64;
    let ends = split.children.iter().skip(1).map(|child| &child.start_key).chain([&region.range.end_key]);
    let children = split.children.iter().zip(ends).map(|(child, end_key)| {
        let ids = child.peer_ids.iter().zip(&region.peers);
        let mut peers: Vec<_> = ids.map(|(id, peer)| Peer { id: *id, ..*peer }).collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        let range = KeyRange { start_key: child.start_key.clone(), end_key: end_key.clone() };
        Region { id: child.region_id, range, epoch, peers }
    });
    let children: Vec<_> = children.collect();
    let range =
        KeyRange { start_key: region.range.start_key.clone(), end_key: split.children[0].start_key.clone() };
    (Region { range, epoch, ..region.clone() }, children)
}

#[cfg(test)]
mod tests {
    use types::{Epoch, PeerId, RegionId, SplitChild};

    use super::*;

    fn region() -> Region {
        let peer = |id| Peer { id: PeerId(id), store_id: StoreId(100 + id), role: PeerRole::Voter };
        Region {
            id: RegionId(2),
            range: KeyRange::new("b", "m"),
            epoch: Epoch { conf_version: 3, version: 5 },
            peers: vec![peer(1), peer(2)],
        }
    }

    fn split(keys: &[&'static str]) -> Split {
        let child = |(at, key): (usize, &&'static str)| {
            let id = 10 * (at as u64 + 1);
            SplitChild {
                start_key: (*key).into(),
                region_id: RegionId(id),
                peer_ids: vec![PeerId(id + 2), PeerId(id + 1)],
            }
        };
        Split {
            change_id: 1,
            epoch: region().epoch,
            leader_stores: vec![StoreId(101), StoreId(102)],
            children: keys.iter().enumerate().map(child).collect(),
        }
    }

    #[test]
    fn what_divides_the_range_is_taken_and_nothing_else() {
        for (keys, is_good) in [
            (&["c"][..], true),
            (&["c", "d", "l"], true),
            (&[], false),
            (&["b"], false),
            (&["m"], false),
            (&["a"], false),
            (&["d", "c"], false),
            (&["c", "c"], false),
        ] {
            let checked = check(&split(keys), &region());
            assert_eq!(checked.is_ok(), is_good, "{keys:?}: {checked:?}");
        }
        let mut many = split(&["c"]);
        many.children = vec![many.children[0].clone(); SPLIT_CHILDREN_MAX + 1];
        assert!(check(&many, &region()).is_err_and(|error| error.to_string().contains("at most")));
        let mut long = split(&["c"]);
        long.children[0].start_key = vec![b'c'; SPLIT_KEYS_BYTES_MAX + 1].into();
        assert!(check(&long, &region()).is_err_and(|error| error.to_string().contains("at most")));
        let mut stale = split(&["c"]);
        stale.epoch.version -= 1;
        assert!(matches!(check(&stale, &region()), Err(Error::EpochNotMatch { .. })));
        let mut led_by_learner = region();
        led_by_learner.peers[0].role = PeerRole::Learner;
        assert!(matches!(check(&split(&["c"]), &led_by_learner), Err(Error::Invalid(_))));
        for leader_stores in [vec![], vec![StoreId(101), StoreId(103)]] {
            let led_from_nowhere = Split { leader_stores, ..split(&["c"]) };
            assert!(matches!(check(&led_from_nowhere, &region()), Err(Error::Invalid(_))));
        }
        let mut lonely = split(&["c"]);
        lonely.children[0].peer_ids.pop();
        assert!(matches!(check(&lonely, &region()), Err(Error::Invalid(_))));
    }

    #[test]
    fn the_parts_tile_the_range_and_keep_the_stores() {
        let (parent, children) = divide(&split(&["c", "h"]), &region());
        assert_eq!(parent.range, KeyRange::new("b", "c"));
        assert_eq!(children[0].range, KeyRange::new("c", "h"));
        assert_eq!(children[1].range, KeyRange::new("h", "m"));
        assert_eq!(parent.epoch, Epoch { conf_version: 3, version: 7 });
        for child in &children {
            assert_eq!(child.epoch, parent.epoch);
            for peer in &region().peers {
                assert!(child.find_peer_on(peer.store_id).is_some());
            }
            assert!(child.peers.is_sorted_by_key(|peer| peer.id));
        }
    }
}
