//! Regions, peers, positions and configurations: `sheaf.vocabulary.v1`, and the hard state of `sheaf.disk.v1`.

use types::{
    Chain, ConfigurationChange, Epoch, HardState, Index, KeyRange, LogPosition, PastEnd, Peer, PeerId,
    PeerRole, Region, RegionId, SplitTrace, StoreId, Term,
};

use super::{
    Error, Result,
    error::{non_zero, required},
};
use crate::{disk, vocabulary as wire};

same_fields! {
    KeyRange { start_key, end_key }
    Epoch { conf_version, version }
}

impl From<Peer> for wire::Peer {
    fn from(peer: Peer) -> wire::Peer {
        wire::Peer { id: peer.id.0, store_id: peer.store_id.0, role: role_to_number(peer.role) }
    }
}

impl TryFrom<wire::Peer> for Peer {
    type Error = Error;

    fn try_from(peer: wire::Peer) -> Result<Peer> {
        Ok(Peer {
            id: PeerId(non_zero(peer.id, "Peer", "id")?),
            store_id: StoreId(non_zero(peer.store_id, "Peer", "store_id")?),
            role: role_from_number(peer.role)?,
        })
    }
}

/// The number of a role; the public protocol has the same ones.
pub(super) fn role_to_number(role: PeerRole) -> i32 {
    let role = match role {
        PeerRole::Voter => wire::PeerRole::Voter,
        PeerRole::Learner => wire::PeerRole::Learner,
        PeerRole::IncomingVoter => wire::PeerRole::IncomingVoter,
        PeerRole::DemotingVoter => wire::PeerRole::DemotingVoter,
    };
    role.into()
}

/// The role that has a number.
pub(super) fn role_from_number(number: i32) -> Result<PeerRole> {
    match wire::PeerRole::try_from(number) {
        Ok(wire::PeerRole::Voter) => Ok(PeerRole::Voter),
        Ok(wire::PeerRole::Learner) => Ok(PeerRole::Learner),
        Ok(wire::PeerRole::IncomingVoter) => Ok(PeerRole::IncomingVoter),
        Ok(wire::PeerRole::DemotingVoter) => Ok(PeerRole::DemotingVoter),
        Err(_) => Err(Error::UnknownNumber { message: "Peer", field: "role", number: number.into() }),
    }
}

/// In a buffer that has room for them and no more: a store keeps the descriptors of all its regions.
pub(crate) fn peers_from(peers: Vec<wire::Peer>) -> Result<Vec<Peer>> {
    let mut converted = Vec::with_capacity(peers.len());
    for peer in peers {
        converted.push(Peer::try_from(peer)?);
    }
    Ok(converted)
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
        let peers = peers_from(region.peers)?;
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

impl From<SplitTrace> for wire::SplitTrace {
    fn from(trace: SplitTrace) -> wire::SplitTrace {
        let regions = trace.regions.into_iter().map(wire::Region::from).collect();
        let past_ends = trace.past_ends.into_iter();
        let past_ends = past_ends.map(|past| wire::PastEnd { version: past.version, end_key: past.end_key });
        wire::SplitTrace { change_id: trace.change_id, regions, past_ends: past_ends.collect() }
    }
}

impl TryFrom<wire::SplitTrace> for SplitTrace {
    type Error = Error;

    fn try_from(trace: wire::SplitTrace) -> Result<SplitTrace> {
        let regions = trace.regions.into_iter().map(Region::try_from).collect::<Result<_>>()?;
        let past_ends = trace.past_ends.into_iter();
        let past_ends = past_ends.map(|past| PastEnd { version: past.version, end_key: past.end_key });
        Ok(SplitTrace { change_id: trace.change_id, regions, past_ends: past_ends.collect() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        let peer = |id, role| Peer { id: PeerId(id), store_id: StoreId(id + 100), role };
        let roles = [PeerRole::Voter, PeerRole::Learner, PeerRole::IncomingVoter, PeerRole::DemotingVoter];
        Region {
            id: RegionId(2),
            range: KeyRange::new("a", "b"),
            epoch: Epoch { conf_version: 3, version: 4 },
            peers: (1..).zip(roles).map(|(id, role)| peer(id, role)).collect(),
        }
    }

    #[test]
    fn regions_round_trip() {
        assert_eq!(Region::try_from(wire::Region::from(region())), Ok(region()));
    }

    #[test]
    fn malformed_regions_are_refused() {
        let breaks: [fn(&mut wire::Region); 9] = [
            |region| region.id = 0,
            |region| region.range = None,
            |region| region.epoch = None,
            |region| region.range = Some(KeyRange::new("b", "a").into()),
            |region| region.peers.swap(0, 1),
            |region| region.peers[1] = region.peers[0],
            |region| region.peers[0].id = 0,
            |region| region.peers[0].store_id = 0,
            |region| region.peers[0].role = 4,
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let mut broken = wire::Region::from(region());
            break_it(&mut broken);
            assert!(Region::try_from(broken).is_err(), "case {at}");
        }
    }

    #[test]
    fn traces_of_splits_round_trip_and_are_checked() {
        let trace = SplitTrace {
            change_id: 7,
            regions: vec![region(), Region { id: RegionId(3), ..region() }],
            past_ends: vec![PastEnd { version: 4, end_key: "z".into() }],
        };
        let encoded = wire::SplitTrace::from(trace.clone());
        assert_eq!(SplitTrace::try_from(encoded.clone()), Ok(trace));
        let mut broken = encoded;
        broken.regions[1].id = 0;
        assert!(SplitTrace::try_from(broken).is_err());
    }

    #[test]
    fn positions_keep_both_halves_of_the_chain() {
        let chain = Chain(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let position = LogPosition { index: Index(u64::MAX), term: Term(2), chain };
        let encoded = wire::LogPosition::from(position);
        assert_eq!(encoded.chain_high, 0x0123_4567_89ab_cdef);
        assert_eq!(LogPosition::from(encoded), position);
    }

    #[test]
    fn configurations_round_trip_and_are_checked() {
        let configuration = (Index(9), ConfigurationChange { peers: region().peers, change_id: 5 });
        let encoded = wire::IndexedConfiguration::from(configuration.clone());
        assert_eq!(<(Index, ConfigurationChange)>::try_from(encoded.clone()), Ok(configuration));
        let cut = wire::IndexedConfiguration { change: encoded.change.slice(1..), ..encoded };
        assert!(matches!(<(Index, ConfigurationChange)>::try_from(cut), Err(Error::Configuration(_))));
    }

    #[test]
    fn hard_states_round_trip() {
        for vote in [None, Some(PeerId(3))] {
            let state = HardState { term: Term(1), vote, commit: Index(2) };
            assert_eq!(HardState::from(disk::HardState::from(state)), state);
        }
    }
}
