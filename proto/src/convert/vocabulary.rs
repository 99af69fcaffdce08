//! Regions, peers, positions and configurations: `sheaf.vocabulary.v1`, and the hard state of `sheaf.disk.v1`.

use types::{
    Chain, ConfigurationChange, Epoch, HardState, Index, KeyRange, LogPosition, Peer, PeerId, PeerRole,
    Region, RegionId, StoreId, Term,
};

use super::{
    Error, Result,
    error::{non_zero, required},
};
use crate::{disk, vocabulary as wire};

impl From<KeyRange> for wire::KeyRange {
    fn from(range: KeyRange) -> wire::KeyRange {
        wire::KeyRange { start_key: range.start_key, end_key: range.end_key }
    }
}

impl From<wire::KeyRange> for KeyRange {
    fn from(range: wire::KeyRange) -> KeyRange {
        KeyRange { start_key: range.start_key, end_key: range.end_key }
    }
}

impl From<Epoch> for wire::Epoch {
    fn from(epoch: Epoch) -> wire::Epoch {
        wire::Epoch { conf_version: epoch.conf_version, version: epoch.version }
    }
}

impl From<wire::Epoch> for Epoch {
    fn from(epoch: wire::Epoch) -> Epoch {
        Epoch { conf_version: epoch.conf_version, version: epoch.version }
    }
}

impl From<PeerRole> for wire::PeerRole {
    fn from(role: PeerRole) -> wire::PeerRole {
        match role {
            PeerRole::Voter => wire::PeerRole::Voter,
            PeerRole::Learner => wire::PeerRole::Learner,
            PeerRole::IncomingVoter => wire::PeerRole::IncomingVoter,
            PeerRole::DemotingVoter => wire::PeerRole::DemotingVoter,
        }
    }
}

impl From<wire::PeerRole> for PeerRole {
    fn from(role: wire::PeerRole) -> PeerRole {
        match role {
            wire::PeerRole::Voter => PeerRole::Voter,
            wire::PeerRole::Learner => PeerRole::Learner,
            wire::PeerRole::IncomingVoter => PeerRole::IncomingVoter,
            wire::PeerRole::DemotingVoter => PeerRole::DemotingVoter,
        }
    }
}

impl From<Peer> for wire::Peer {
    fn from(peer: Peer) -> wire::Peer {
        wire::Peer { id: peer.id.0, store_id: peer.store_id.0, role: wire::PeerRole::from(peer.role).into() }
    }
}

impl TryFrom<wire::Peer> for Peer {
    type Error = Error;

    fn try_from(peer: wire::Peer) -> Result<Peer> {
        let role = wire::PeerRole::try_from(peer.role).map_err(|_| Error::UnknownNumber {
            message: "Peer",
            field: "role",
            number: peer.role.into(),
        })?;
        Ok(Peer {
            id: PeerId(non_zero(peer.id, "Peer", "id")?),
            store_id: StoreId(non_zero(peer.store_id, "Peer", "store_id")?),
            role: role.into(),
        })
    }
}

impl From<Region> for wire::Region {
    fn from(region: Region) -> wire::Region {
        wire::Region {
            id: region.id.0,
            range: Some(region.range.into()),
            epoch: Some(region.epoch.into()),
            peers: region.peers.into_iter().map(wire::Peer::from).collect(),
        }
    }
}

impl TryFrom<wire::Region> for Region {
    type Error = Error;

    fn try_from(region: wire::Region) -> Result<Region> {
        let range = KeyRange::from(required(region.range, "Region", "range")?);
        if range.is_empty() {
            return Err(Error::Inconsistent { message: "Region", reason: "its range holds no key" });
        }
        let peers = region.peers.into_iter().map(Peer::try_from).collect::<Result<Vec<_>>>()?;
        if !peers.is_sorted_by(|left, right| left.id < right.id) {
            return Err(Error::Inconsistent {
                message: "Region",
                reason: "its peers are not in ascending order",
            });
        }
        Ok(Region {
            id: RegionId(non_zero(region.id, "Region", "id")?),
            range,
            epoch: required(region.epoch, "Region", "epoch")?.into(),
            peers,
        })
    }
}

impl From<LogPosition> for wire::LogPosition {
    fn from(position: LogPosition) -> wire::LogPosition {
        let [chain_high, chain_low] = chain_to_halves(position.chain);
        wire::LogPosition { index: position.index.0, term: position.term.0, chain_high, chain_low }
    }
}

impl From<wire::LogPosition> for LogPosition {
    fn from(position: wire::LogPosition) -> LogPosition {
        let chain = (u128::from(position.chain_high) << 64) | u128::from(position.chain_low);
        LogPosition { index: Index(position.index), term: Term(position.term), chain: Chain(chain) }
    }
}

fn chain_to_halves(chain: Chain) -> [u64; 2] {
    let bytes = chain.0.to_be_bytes();
    let half = |at: usize| u64::from_be_bytes(std::array::from_fn(|offset| bytes[at + offset]));
    [half(0), half(8)]
}

impl From<(Index, ConfigurationChange)> for wire::IndexedConfiguration {
    fn from((index, change): (Index, ConfigurationChange)) -> wire::IndexedConfiguration {
        wire::IndexedConfiguration { index: index.0, change: change.encode() }
    }
}

impl TryFrom<wire::IndexedConfiguration> for (Index, ConfigurationChange) {
    type Error = Error;

    fn try_from(configuration: wire::IndexedConfiguration) -> Result<(Index, ConfigurationChange)> {
        Ok((Index(configuration.index), ConfigurationChange::decode(&configuration.change)?))
    }
}

impl From<HardState> for disk::HardState {
    fn from(state: HardState) -> disk::HardState {
        disk::HardState {
            term: state.term.0,
            vote: state.vote.map_or(0, |peer| peer.0),
            commit: state.commit.0,
        }
    }
}

impl From<disk::HardState> for HardState {
    fn from(state: disk::HardState) -> HardState {
        let vote = (state.vote != 0).then_some(PeerId(state.vote));
        HardState { term: Term(state.term), vote, commit: Index(state.commit) }
    }
}
