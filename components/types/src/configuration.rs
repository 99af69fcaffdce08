//! Raft configurations: who votes, in one half or in two.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Peer, PeerId, PeerRole, StoreId};

/// The voters and learners of a Raft group. Joint while `outgoing` is not empty: then every decision needs a majority
/// of `voters` *and* one of `outgoing` (Ongaro's thesis, 4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Configuration {
    /// The voters, or in a joint configuration those of C_new; ascending, no duplicates.
    pub voters: Vec<PeerId>,
    /// The voters of C_old while the configuration is joint, else empty; ascending, no duplicates.
    pub outgoing: Vec<PeerId>,
    /// Peers that receive the log without a vote; ascending, disjoint from both halves. (A voter of C_old that C_new
    /// makes a learner is listed in `outgoing` alone until the joint configuration is left.)
    pub learners: Vec<PeerId>,
}

/// What a configuration entry says: the whole configuration that is in force from this entry on, and where each of its
/// peers lives, so that an entry alone is enough to know and reach everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigurationChange {
    /// Every peer with its role in the new configuration, in order of peer id.
    pub peers: Vec<Peer>,
    /// The operation that asked for it, so that a repeated request finds the recorded outcome; zero for the leader's
    /// own entries (leaving a joint configuration).
    pub change_id: u64,
}

/// Why a configuration is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// A half without voters could never decide anything.
    #[error("a configuration needs at least one voter")]
    NoVoters,
    /// A list is not ascending or names a peer twice.
    #[error("peers are not in ascending order without repetition")]
    Unordered,
    /// A peer is a voter and a learner at once.
    #[error("peer {0} is both voter and learner")]
    VoterAndLearner(PeerId),
    /// The bytes of a configuration entry are not what [`ConfigurationChange::encode`] writes.
    #[error("malformed configuration entry")]
    Malformed,
    /// Two peers on one store.
    #[error("peers {0} and {1} are on the same store")]
    SameStore(PeerId, PeerId),
}

impl Configuration {
    /// A plain configuration of voters.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = PeerId>) -> Configuration {
        let mut voters: Vec<_> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Configuration { voters, ..Configuration::default() }
    }

    /// Whether decisions need both halves.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether no peer votes: the configuration of a peer that has no log yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// Whether `peer` votes in either half.
    #[must_use]
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.binary_search(&peer).is_ok() || self.outgoing.binary_search(&peer).is_ok()
    }

    /// Whether `peer` receives the log without a vote.
    #[must_use]
    pub fn is_learner(&self, peer: PeerId) -> bool {
        self.learners.binary_search(&peer).is_ok()
    }

    /// Every peer once, ascending.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<_> =
            self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Checks the rules stated at the fields.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        if self.voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        for list in [&self.voters, &self.outgoing, &self.learners] {
            if !list.is_sorted_by(|left, right| left < right) {
                return Err(ConfigurationError::Unordered);
            }
        }
        match self.learners.iter().find(|peer| self.is_voter(**peer)) {
            Some(peer) => Err(ConfigurationError::VoterAndLearner(*peer)),
            None => Ok(()),
        }
    }
}

impl ConfigurationChange {
    /// The configuration that the roles spell.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        crate::Region {
            id: crate::RegionId(0),
            range: crate::KeyRange::ALL,
            epoch: crate::Epoch::default(),
            peers: self.peers.clone(),
        }
        .configuration()
    }

    /// The change that leaves this joint configuration: incoming voters vote, demoted voters are learners.
    #[must_use]
    pub fn leave_joint(&self) -> ConfigurationChange {
        let peers = self
            .peers
            .iter()
            .map(|peer| {
                let role = match peer.role {
                    PeerRole::IncomingVoter | PeerRole::Voter => PeerRole::Voter,
                    PeerRole::DemotingVoter | PeerRole::Learner => PeerRole::Learner,
                };
                Peer { role, ..*peer }
            })
            .collect();
        ConfigurationChange { peers, change_id: 0 }
    }

    /// The payload of a configuration entry: a version byte (1), the change id, the number of peers (u32), and for each
    /// peer its id, its store and a role byte; integers are big-endian u64 where nothing else is said.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(13 + self.peers.len() * 17);
        bytes.put_u8(1);
        bytes.put_u64(self.change_id);
        bytes.put_u32(u32::try_from(self.peers.len()).unwrap_or(u32::MAX));
        for peer in &self.peers {
            bytes.put_u64(peer.id.0);
            bytes.put_u64(peer.store_id.0);
            bytes.put_u8(match peer.role {
                PeerRole::Voter => 0,
                PeerRole::Learner => 1,
                PeerRole::IncomingVoter => 2,
                PeerRole::DemotingVoter => 3,
            });
        }
        bytes.freeze()
    }

    /// Reads what [`ConfigurationChange::encode`] wrote, and checks it.
    pub fn decode(mut bytes: &[u8]) -> Result<ConfigurationChange, ConfigurationError> {
        let malformed = ConfigurationError::Malformed;
        if bytes.len() < 13 || bytes.get_u8() != 1 {
            return Err(malformed);
        }
        let change_id = bytes.get_u64();
        let peer_count = bytes.get_u32() as usize;
        if bytes.len() != peer_count.saturating_mul(17) {
            return Err(malformed);
        }
        let mut peers = Vec::with_capacity(peer_count);
        while bytes.has_remaining() {
            let id = PeerId(bytes.get_u64());
            let store_id = StoreId(bytes.get_u64());
            let role = match bytes.get_u8() {
                0 => PeerRole::Voter,
                1 => PeerRole::Learner,
                2 => PeerRole::IncomingVoter,
                3 => PeerRole::DemotingVoter,
                _ => return Err(malformed),
            };
            peers.push(Peer { id, store_id, role });
        }
        let change = ConfigurationChange { peers, change_id };
        change.check()?;
        Ok(change)
    }

    /// Checks that the configuration is well formed and no two peers share a store.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        if !self.peers.is_sorted_by(|left, right| left.id < right.id) {
            return Err(ConfigurationError::Unordered);
        }
        for (at, peer) in self.peers.iter().enumerate() {
            if let Some(other) = self.peers[..at].iter().find(|other| other.store_id == peer.store_id) {
                return Err(ConfigurationError::SameStore(other.id, peer.id));
            }
        }
        self.configuration().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(roles: &[PeerRole]) -> ConfigurationChange {
        let peer = |(at, role): (usize, &PeerRole)| Peer {
            id: PeerId(at as u64 + 10),
            store_id: StoreId(at as u64 + 1),
            role: *role,
        };
        ConfigurationChange { peers: roles.iter().enumerate().map(peer).collect(), change_id: 7 }
    }

    #[test]
    fn roles_spell_both_halves() {
        use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let joint = change(&[Voter, DemotingVoter, IncomingVoter, Learner]);
        let configuration = joint.configuration();
        assert_eq!(configuration.voters, [PeerId(10), PeerId(12)]);
        assert_eq!(configuration.outgoing, [PeerId(10), PeerId(11)]);
        assert_eq!(configuration.learners, [PeerId(13)]);
        let left = joint.leave_joint().configuration();
        assert!(!left.is_joint());
        assert_eq!(left.voters, [PeerId(10), PeerId(12)]);
        assert_eq!(left.learners, [PeerId(11), PeerId(13)]);
    }

    #[test]
    fn encoding_round_trips_and_refuses_what_is_cut_short() {
        let original = change(&[PeerRole::Voter, PeerRole::DemotingVoter, PeerRole::IncomingVoter]);
        let bytes = original.encode();
        assert_eq!(ConfigurationChange::decode(&bytes), Ok(original));
        for end in 0..bytes.len() {
            assert_eq!(ConfigurationChange::decode(&bytes[..end]), Err(ConfigurationError::Malformed));
        }
    }

    #[test]
    fn malformed_configurations_are_refused() {
        let mut same_store = change(&[PeerRole::Voter, PeerRole::Voter]);
        same_store.peers[1].store_id = same_store.peers[0].store_id;
        assert_eq!(same_store.check(), Err(ConfigurationError::SameStore(PeerId(10), PeerId(11))));
        assert_eq!(change(&[PeerRole::Learner]).check(), Err(ConfigurationError::NoVoters));
    }
}
