//! Operations: changes of one region that placement sees through, and the goals that it tells leaders meanwhile.

use std::collections::{BTreeMap, VecDeque};

use types::{Epoch, Peer, PeerRole, Region, RegionId, StoreId, Term, WallTime};

use super::{
    api::{OperationPicture, OperationState},
    limits::OPERATIONS_ENDED_KEPT,
};

/// What a region's peers shall be; a row while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id, from the same source as all ids; also the change id of its goals.
    pub id: u64,
    /// The region.
    pub region_id: RegionId,
    /// The goal: voters only, in order of peer id.
    pub peers: Vec<Peer>,
    /// The region's epoch when it began.
    pub epoch: Epoch,
    /// When it began.
    pub created: WallTime,
}

/// What the leader of a region is told: make these the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The region.
    pub region_id: RegionId,
    /// The goal holds for this epoch; another one is refused with the current one.
    pub epoch: Epoch,
    /// Voters and learners, in order of peer id, without joint roles.
    pub peers: Vec<Peer>,
    /// Names the change: told again, it is the same change.
    pub operation_id: u64,
    /// The term in which placement is led; goals of an older one are refused.
    pub placement_term: Term,
}

/// The operations that run, at most one a region, and the last ones that ended.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    running: BTreeMap<u64, Operation>,
    by_region: BTreeMap<RegionId, u64>,
    ended: VecDeque<OperationPicture>,
}

impl Operation {
    /// Whether the region is what it should be.
    #[must_use]
    pub fn is_done(&self, region: &Region) -> bool {
        region.peers == self.peers
    }

    /// The store of a goal's peer that does not vote yet and fails `is_live`.
    #[must_use]
    pub fn find_lost_target(&self, region: &Region, is_live: impl Fn(StoreId) -> bool) -> Option<StoreId> {
        let votes = |peer: &Peer| region.find_peer(peer.id).is_some_and(|peer| peer.role == PeerRole::Voter);
        self.peers.iter().find(|peer| !votes(peer) && !is_live(peer.store_id)).map(|peer| peer.store_id)
    }

    /// What the leader of `region` is told.
    #[must_use]
    pub fn goal(&self, region: &Region, placement_term: Term) -> Goal {
        Goal {
            region_id: self.region_id,
            epoch: region.epoch,
            peers: self.peers.clone(),
            operation_id: self.id,
            placement_term,
        }
    }

    /// As others see it while it runs.
    #[must_use]
    pub fn picture(&self, region: Option<&Region>, reason: String) -> OperationPicture {
        let votes = |peer: &Peer| {
            region
                .and_then(|region| region.find_peer(peer.id))
                .is_some_and(|peer| peer.role == PeerRole::Voter)
        };
        let voting = self.peers.iter().filter(|peer| votes(peer)).count();
        let progress = voting * 100 / self.peers.len().max(1);
        OperationPicture {
            id: self.id,
            region_id: self.region_id,
            state: OperationState::Running,
            peers: self.peers.clone(),
            epoch: self.epoch,
            created: self.created,
            progress_percent: u32::try_from(progress).unwrap_or(100),
            reason,
        }
    }
}

impl Operations {
    /// Adds one that runs. There must be no other for its region.
    pub fn begin(&mut self, operation: Operation) {
        let other = self.by_region.insert(operation.region_id, operation.id);
        assert!(other.is_none(), "a region has one operation at a time");
        self.running.insert(operation.id, operation);
    }

    /// Ends one; `false` if it does not run.
    pub fn end(&mut self, id: u64, state: OperationState, region: Option<&Region>, reason: String) -> bool {
        let Some(operation) = self.running.remove(&id) else { return false };
        self.by_region.remove(&operation.region_id);
        if self.ended.len() >= OPERATIONS_ENDED_KEPT {
            self.ended.pop_front();
        }
        let mut picture = operation.picture(region, reason);
        picture.state = state;
        self.ended.push_back(picture);
        true
    }

    /// Those that run, in order of id.
    pub fn running(&self) -> impl Iterator<Item = &Operation> {
        self.running.values()
    }

    /// How many run.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// The one with this id, if it runs.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Operation> {
        self.running.get(&id)
    }

    /// The one that runs for a region.
    #[must_use]
    pub fn find_by_region(&self, region_id: RegionId) -> Option<&Operation> {
        self.by_region.get(&region_id).and_then(|id| self.running.get(id))
    }

    /// Those that ended, the last one last.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &OperationPicture> {
        self.ended.iter()
    }

    /// Takes over what an earlier look at the rows knew of ended ones.
    pub fn keep_ended_of(&mut self, other: Operations) {
        self.ended = other.ended;
    }
}
