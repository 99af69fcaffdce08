//! What the first store of a cluster begins with.

use types::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId};

use super::limits::FIRST_ID;

/// Which of the addresses that `--join` names carries out `init`: the one that sorts first, so that two clusters cannot
/// come to be. `None` if there is none.
#[must_use]
pub fn first_address<'a>(addresses: &[&'a str]) -> Option<&'a str> {
    addresses.iter().min().copied()
}

/// The id of the store that carries out `init`.
#[must_use]
pub fn first_store_id() -> StoreId {
    StoreId(FIRST_ID)
}

/// The regions that `init` creates: the placement group, and one region over every key, with the first store as only
/// voter of each.
#[must_use]
pub fn first_regions() -> [Region; 2] {
    let first = |id: RegionId, peer_id: u64| Region {
        id,
        range: KeyRange::ALL,
        epoch: Epoch::FIRST,
        peers: vec![Peer { id: PeerId(peer_id), store_id: first_store_id(), role: PeerRole::Voter }],
    };
    [first(RegionId::PLACEMENT, FIRST_ID + 1), first(RegionId::FIRST, FIRST_ID + 2)]
}

/// The first id that nothing of this has.
#[must_use]
pub fn first_free_id<'a>(store_id: StoreId, regions: impl IntoIterator<Item = &'a Region>) -> u64 {
    let used = regions.into_iter().flat_map(|region| {
        region.peers.iter().flat_map(|peer| [peer.id.0, peer.store_id.0]).chain([region.id.0])
    });
    used.chain([store_id.0, FIRST_ID - 1]).max().unwrap_or(FIRST_ID - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ids_begin_above_everything() {
        assert_eq!(first_free_id(first_store_id(), &first_regions()), FIRST_ID + 3);
        assert_eq!(first_free_id(StoreId(5_000), &first_regions()), 5_001);
        assert_eq!(first_free_id(StoreId(0), []), FIRST_ID);
    }

    #[test]
    fn the_address_that_sorts_first_carries_out_init() {
        assert_eq!(first_address(&["b:1", "a:2", "a:10"]), Some("a:10"));
        assert_eq!(first_address(&[]), None);
    }
}
