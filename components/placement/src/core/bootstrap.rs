//! Who begins a cluster, and where its ids begin.

use types::{Region, StoreId};

use super::limits::FIRST_ID;

/// Which of the addresses that `--join` names carries out `init`: the one that sorts first, so that two clusters cannot
/// come to be. `None` if there is none.
#[must_use]
pub fn first_address<'a>(addresses: &[&'a str]) -> Option<&'a str> {
    addresses.iter().min().copied()
}

/// The first id above those of the first store and its regions.
#[must_use]
pub fn first_free_id(store_id: StoreId, regions: &[Region]) -> u64 {
    let used = regions.iter().flat_map(|region| {
        region.peers.iter().flat_map(|peer| [peer.id.0, peer.store_id.0]).chain([region.id.0])
    });
    used.chain([store_id.0]).fold(FIRST_ID - 1, u64::max) + 1
}

#[cfg(test)]
mod tests {
    use types::{Epoch, KeyRange, Peer, PeerId, PeerRole, RegionId};

    use super::*;

    #[test]
    fn free_ids_begin_above_everything() {
        let region = |id: u64, peer_id: u64| Region {
            id: RegionId(id),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![Peer { id: PeerId(peer_id), store_id: StoreId(1_000), role: PeerRole::Voter }],
        };
        assert_eq!(first_free_id(StoreId(1_000), &[region(1, 1_001), region(2, 1_002)]), 1_003);
        assert_eq!(first_free_id(StoreId(5_000), &[region(1, 1_001)]), 5_001);
        assert_eq!(first_free_id(StoreId(0), &[]), FIRST_ID);
    }

    #[test]
    fn the_address_that_sorts_first_carries_out_init() {
        assert_eq!(first_address(&["b:1", "a:2", "a:10"]), Some("a:10"));
        assert_eq!(first_address(&[]), None);
    }
}
