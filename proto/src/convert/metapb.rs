//! Regions and peers in the public protocol's words.

use types::{Epoch, KeyRange, Peer, PeerId, Region, RegionId, StoreId};

use super::{
    Error, Result,
    error::{non_zero, required},
    vocabulary::{role_from_number, role_to_number},
};
use crate::metapb as wire;

impl From<Epoch> for wire::RegionEpoch {
    fn from(epoch: Epoch) -> wire::RegionEpoch {
        wire::RegionEpoch { conf_ver: epoch.conf_version, version: epoch.version }
    }
}

impl From<wire::RegionEpoch> for Epoch {
    fn from(epoch: wire::RegionEpoch) -> Epoch {
        Epoch { conf_version: epoch.conf_ver, version: epoch.version }
    }
}

impl From<Peer> for wire::Peer {
    fn from(peer: Peer) -> wire::Peer {
        let role = role_to_number(peer.role);
        wire::Peer { id: peer.id.0, store_id: peer.store_id.0, role, is_witness: false }
    }
}

impl TryFrom<wire::Peer> for Peer {
    type Error = Error;

    fn try_from(peer: wire::Peer) -> Result<Peer> {
        const NAME: &str = "metapb.Peer";
        Ok(Peer {
            id: PeerId(non_zero(peer.id, NAME, "id")?),
            store_id: StoreId(non_zero(peer.store_id, NAME, "store_id")?),
            role: role_from_number(peer.role)?,
        })
    }
}

impl From<Region> for wire::Region {
    fn from(region: Region) -> wire::Region {
        wire::Region {
            id: region.id.0,
            start_key: region.range.start_key,
            end_key: region.range.end_key,
            region_epoch: Some(region.epoch.into()),
            peers: region.peers.into_iter().map(wire::Peer::from).collect(),
        }
    }
}

impl TryFrom<wire::Region> for Region {
    type Error = Error;

    /// The public protocol promises no order of peers: they are sorted here.
    fn try_from(region: wire::Region) -> Result<Region> {
        const NAME: &str = "metapb.Region";
        let mut peers = region.peers.into_iter().map(Peer::try_from).collect::<Result<Vec<_>>>()?;
        peers.sort_unstable();
        if !peers.is_sorted_by(|left, right| left.id < right.id) {
            return Err(Error::Inconsistent { message: NAME, reason: "two of its peers have the same id" });
        }
        let range = KeyRange { start_key: region.start_key, end_key: region.end_key };
        if range.is_empty() {
            return Err(Error::Inconsistent { message: NAME, reason: "its range holds no key" });
        }
        let epoch = required(region.region_epoch, NAME, "region_epoch")?.into();
        Ok(Region { id: RegionId(non_zero(region.id, NAME, "id")?), range, epoch, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::PeerRole;

    fn region() -> Region {
        let peer = |id, role| Peer { id: PeerId(id), store_id: StoreId(id + 100), role };
        Region {
            id: RegionId(2),
            range: KeyRange::new("a", ""),
            epoch: Epoch { conf_version: 3, version: 4 },
            peers: vec![peer(1, PeerRole::Voter), peer(2, PeerRole::DemotingVoter)],
        }
    }

    #[test]
    fn regions_round_trip_in_any_order_of_peers() {
        let mut encoded = wire::Region::from(region());
        encoded.peers.reverse();
        assert_eq!(Region::try_from(encoded), Ok(region()));
    }

    #[test]
    fn malformed_regions_are_refused() {
        let breaks: [fn(&mut wire::Region); 6] = [
            |region| region.id = 0,
            |region| region.region_epoch = None,
            |region| region.end_key = "a".into(),
            |region| region.peers[1].id = 1,
            |region| region.peers[0].store_id = 0,
            |region| region.peers[0].role = -1,
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let mut broken = wire::Region::from(region());
            break_it(&mut broken);
            assert!(Region::try_from(broken).is_err(), "case {at}");
        }
    }
}
