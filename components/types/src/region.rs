//! Regions and their peers.

use bytes::Bytes;

use crate::{Configuration, KeyRange, PeerId, RegionId, StoreId};

/// The version of a region's descriptor. Two descriptors of one region with equal epochs are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Raised by every applied configuration change.
    pub conf_version: u64,
    /// Raised by every applied change of the range (split, merge).
    pub version: u64,
}

impl Epoch {
    /// The epoch of a region that `init` creates.
    pub const FIRST: Epoch = Epoch { conf_version: 1, version: 1 };

    /// Whether `self` is at least as new as `other` in both parts.
    #[must_use]
    pub fn covers(self, other: Epoch) -> bool {
        self.conf_version >= other.conf_version && self.version >= other.version
    }
}

/// What a peer may do in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// Votes, in every configuration in force.
    #[default]
    Voter,
    /// Receives the log and never votes.
    Learner,
    /// In a joint configuration: votes only in the incoming half.
    IncomingVoter,
    /// In a joint configuration: votes only in the outgoing half and becomes a learner when it is left.
    DemotingVoter,
}

/// One replica of a region, on one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its name, never reused.
    pub id: PeerId,
    /// Where it lives.
    pub store_id: StoreId,
    /// What it may do.
    pub role: PeerRole,
}

/// A region's descriptor: its range, its epoch and where its peers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name, and that of its Raft group.
    pub id: RegionId,
    /// The keys it holds.
    pub range: KeyRange,
    /// The descriptor's version.
    pub epoch: Epoch,
    /// Its peers, in order of peer id; no two on one store.
    pub peers: Vec<Peer>,
}

/// How much a region holds: bytes of keys and values as they are stored, and pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionSize {
    /// Bytes of keys and values, uncompressed, with what the state machine stores around them.
    pub size_bytes: u64,
    /// Pairs.
    pub key_count: u64,
}

impl RegionSize {
    /// Bytes below which a change of size is no news.
    const STEP_BYTES: u64 = 1 << 20;

    /// Whether somebody who has heard of `known` should hear of this: it has moved by an eighth, and by a mebibyte.
    #[must_use]
    pub fn has_moved_from(&self, known: RegionSize) -> bool {
        self.size_bytes.abs_diff(known.size_bytes) > (known.size_bytes / 8).max(RegionSize::STEP_BYTES)
    }
}

impl std::ops::AddAssign for RegionSize {
    fn add_assign(&mut self, other: RegionSize) {
        self.size_bytes = self.size_bytes.saturating_add(other.size_bytes);
        self.key_count = self.key_count.saturating_add(other.key_count);
    }
}

impl std::ops::Add for RegionSize {
    type Output = RegionSize;

    fn add(mut self, other: RegionSize) -> RegionSize {
        self += other;
        self
    }
}

/// A region that is divided: what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Names the change.
    pub change_id: u64,
    /// The region's epoch; with another one the split does not happen.
    pub epoch: Epoch,
    /// The stores whose peers lead the children's first term, in turns: the first child's peer on the first of them, and so
    /// on. Never none.
    pub leader_stores: Vec<StoreId>,
    /// The new regions, in order of their keys: each begins at its key and ends where the next begins, the last one where
    /// the parent ended. The parent keeps what lies before the first.
    pub children: Vec<SplitChild>,
}

/// A new region of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitChild {
    /// Its first key.
    pub start_key: Bytes,
    /// Its id.
    pub region_id: RegionId,
    /// Its peers' ids, one for each of the parent's peers, in the order of those.
    pub peer_ids: Vec<PeerId>,
}

impl Split {
    /// The store whose peer leads the first term of the child at this place; `None` where no store is named.
    #[must_use]
    pub fn leader_store(&self, at: usize) -> Option<StoreId> {
        self.leader_stores.get(at.checked_rem(self.leader_stores.len())?).copied()
    }
}

/// How the last split of a region ended: kept, for those who ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTrace {
    /// The change.
    pub change_id: u64,
    /// The parent and its children right after it, in order of their keys.
    pub regions: Vec<Region>,
    /// Where the region ended before this split and the last ones before it, oldest first.
    pub past_ends: Vec<PastEnd>,
}

/// Where a region ended before it was split. It began where it begins now: of its parts, it keeps the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEnd {
    /// The version of its epoch then.
    pub version: u64,
    /// The first key behind it then; empty: there was none.
    pub end_key: Bytes,
}

impl Region {
    /// The peer with this id.
    #[must_use]
    pub fn find_peer(&self, id: PeerId) -> Option<Peer> {
        self.peers.iter().find(|peer| peer.id == id).copied()
    }

    /// The peer on this store.
    #[must_use]
    pub fn find_peer_on(&self, store_id: StoreId) -> Option<Peer> {
        self.peers.iter().find(|peer| peer.store_id == store_id).copied()
    }

    /// The Raft configuration that the peers' roles spell.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let with = |wanted: &[PeerRole]| {
            self.peers.iter().filter(|peer| wanted.contains(&peer.role)).map(|peer| peer.id).collect()
        };
        let is_joint = self
            .peers
            .iter()
            .any(|peer| matches!(peer.role, PeerRole::IncomingVoter | PeerRole::DemotingVoter));
        Configuration {
            voters: with(&[PeerRole::Voter, PeerRole::IncomingVoter]),
            outgoing: if is_joint { with(&[PeerRole::Voter, PeerRole::DemotingVoter]) } else { Vec::new() },
            learners: with(&[PeerRole::Learner]),
        }
    }
}
