//! Operations: changes of one region that placement sees through, and the goals that it tells leaders meanwhile.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use types::{Epoch, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term, WallTime};

use super::{
    api::{OperationPicture, OperationState},
    limits::OPERATIONS_ENDED_KEPT,
};

/// Why an operation ends whose region was changed by somebody else.
pub const OVERTAKEN: &str = "somebody else has changed the region's peers";

/// What a region shall become; a row while it runs and for a while afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id, from the same source as all ids; also the change id of its goals.
    pub id: u64,
    /// The region.
    pub region_id: RegionId,
    /// What it shall become.
    pub aim: Aim,
    /// The region's epoch when it began.
    pub epoch: Epoch,
    /// When it began.
    pub created: WallTime,
    /// It is given up then.
    pub deadline: WallTime,
}

/// What an operation aims at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// These are the peers: voters, and learners that somebody wants to have, in order of peer id.
    Peers(Vec<Peer>),
    /// This voter leads.
    Leader(Peer),
    /// A region that is scattered: these are the peers, as above, and then this one of them leads.
    Scatter {
        /// The peers.
        peers: Vec<Peer>,
        /// Who leads.
        leader: Peer,
    },
}

/// What the leader of a region is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The region.
    pub region_id: RegionId,
    /// The goal holds for this epoch; another one is refused with the current one.
    pub epoch: Epoch,
    /// Voters and learners, in order of peer id, without joint roles. None: as they are.
    pub peers: Vec<Peer>,
    /// Who shall lead; `None`: whoever does.
    pub leader: Option<PeerId>,
    /// Names the change: told again, it is the same change.
    pub operation_id: u64,
    /// The term in which placement is led; goals of an older one are refused.
    pub placement_term: Term,
}

/// How far a region is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nobody is known to lead it.
    Leaderless,
    /// Its leader has not added every new peer yet.
    Adding,
    /// A new peer is being brought up to date.
    CatchingUp,
    /// The new voters take over from the old ones.
    Switching,
    /// Peers that go are being dropped.
    Dropping,
    /// Leadership is being handed over.
    HandingOver,
    /// It is what it should be.
    Done,
}

/// What placement knows of a region beside its descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Who leads it, as far as known.
    pub leader: Option<PeerId>,
    /// Peers that lag too far behind to count on.
    pub pending_peers: &'a [PeerId],
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
    pub fn is_done(&self, region: &Region, seen: Seen<'_>) -> bool {
        self.stage(region, seen) == Stage::Done
    }

    /// How far the region is.
    #[must_use]
    pub fn stage(&self, region: &Region, seen: Seen<'_>) -> Stage {
        let (peers, leader) = (self.aim.peers(), self.aim.leader());
        let has_peers = peers.is_none_or(|peers| region.peers == *peers);
        let has_leader = leader.is_none_or(|leader| seen.leader == Some(leader.id));
        let peers = match peers {
            _ if has_peers && has_leader => return Stage::Done,
            _ if seen.leader.is_none() => return Stage::Leaderless,
            Some(peers) if !has_peers => peers,
            Some(_) | None => return Stage::HandingOver,
        };
        if region.configuration().is_joint() {
            return Stage::Switching;
        }
        if peers.iter().any(|peer| region.find_peer(peer.id).is_none()) {
            return Stage::Adding;
        }
        let mut changing = peers.iter().filter(|peer| !has_role(region, peer)).peekable();
        if changing.peek().is_none() {
            return Stage::Dropping;
        }
        let is_pending = changing.any(|peer| seen.pending_peers.contains(&peer.id));
        if is_pending { Stage::CatchingUp } else { Stage::Switching }
    }

    /// Whether somebody else has changed the region's peers since it began. Its own first step adds every peer that the
    /// goal names and the region lacks, and no later one takes any of them away; so if one is missing behind another
    /// change it was removed, and its id, or that of a peer that was meant to stay, is used up: a store never takes a peer
    /// back.
    #[must_use]
    pub fn is_overtaken(&self, region: &Region) -> bool {
        let has_changed = region.epoch.conf_version > self.epoch.conf_version;
        let is_missing = |peer: &Peer| region.find_peer(peer.id).is_none();
        has_changed && self.aim.peers().is_some_and(|peers| peers.iter().any(is_missing))
    }

    /// The store of a peer that is not yet what it shall be, or shall lead, and fails `is_live`.
    #[must_use]
    pub fn find_lost_target(&self, region: &Region, is_live: impl Fn(StoreId) -> bool) -> Option<StoreId> {
        let lost = |peers: &[Peer]| {
            let mut changing = peers.iter().filter(|peer| !has_role(region, peer));
            changing.find(|peer| !is_live(peer.store_id)).map(|peer| peer.store_id)
        };
        match &self.aim {
            Aim::Peers(peers) => lost(peers),
            Aim::Leader(peer) => {
                (!has_role(region, peer) || !is_live(peer.store_id)).then_some(peer.store_id)
            }
            Aim::Scatter { peers, leader } => {
                lost(peers).or_else(|| (!is_live(leader.store_id)).then_some(leader.store_id))
            }
        }
    }

    /// The stores that take part in what it aims at.
    pub fn store_ids(&self) -> impl Iterator<Item = StoreId> {
        let peers = match &self.aim {
            Aim::Peers(peers) | Aim::Scatter { peers, .. } => peers.as_slice(),
            Aim::Leader(peer) => std::slice::from_ref(peer),
        };
        peers.iter().map(|peer| peer.store_id)
    }

    /// What the leader of `region` is told.
    #[must_use]
    pub fn goal(&self, region: &Region, placement_term: Term) -> Goal {
        let (peers, leader) = match &self.aim {
            // One thing at a time: who leads is for the region's peers as they are in the end.
            Aim::Scatter { peers, leader } if region.peers == *peers => (Vec::new(), Some(leader.id)),
            Aim::Peers(peers) | Aim::Scatter { peers, .. } => (peers.clone(), None),
            Aim::Leader(peer) => (Vec::new(), Some(peer.id)),
        };
        let (region_id, epoch) = (self.region_id, region.epoch);
        Goal { region_id, epoch, peers, leader, operation_id: self.id, placement_term }
    }

    /// Peers that are what they shall be count whole, those that only have to take their vote three quarters, those that
    /// lag a quarter, per cent.
    #[must_use]
    pub fn progress_percent(&self, region: Option<&Region>, seen: Seen<'_>) -> u32 {
        let Some(peers) = self.aim.peers() else { return 0 };
        let worth = |peer: &Peer| match region.and_then(|region| region.find_peer(peer.id)) {
            Some(current) if current.role == peer.role => 100,
            Some(current) if seen.pending_peers.contains(&current.id) => 25,
            Some(_) => 75,
            None => 0,
        };
        let sum: usize = peers.iter().map(worth).sum();
        u32::try_from(sum / peers.len().max(1)).unwrap_or(100)
    }

    /// As others see it while it runs.
    #[must_use]
    pub fn picture(&self, now: WallTime, region: Option<&Region>, seen: Seen<'_>) -> OperationPicture {
        let progress_percent = self.progress_percent(region, seen);
        let passed = Duration::from_millis(now.0.saturating_sub(self.created.0));
        OperationPicture {
            id: self.id,
            region_id: self.region_id,
            state: OperationState::Running,
            peers: self.aim.peers().cloned().unwrap_or_default(),
            leader: self.aim.leader(),
            epoch: self.epoch,
            created: self.created,
            deadline: self.deadline,
            progress_percent,
            eta: (1..100)
                .contains(&progress_percent)
                .then(|| passed * (100 - progress_percent) / progress_percent),
            reason: region.map(|region| self.stage(region, seen).to_string()).unwrap_or_default(),
        }
    }
}

fn is_learner(peer: &Peer) -> bool {
    peer.role == PeerRole::Learner
}

/// Whether a region has a peer in the role that it is meant to have.
fn has_role(region: &Region, peer: &Peer) -> bool {
    region.find_peer(peer.id).is_some_and(|current| current.role == peer.role)
}

impl Aim {
    /// Which peers the region shall have; `None`: those that it has.
    #[must_use]
    pub fn peers(&self) -> Option<&Vec<Peer>> {
        match self {
            Aim::Peers(peers) | Aim::Scatter { peers, .. } => Some(peers),
            Aim::Leader(_) => None,
        }
    }

    /// Who shall lead it; `None`: whoever does.
    #[must_use]
    pub fn leader(&self) -> Option<Peer> {
        match self {
            Aim::Peers(_) => None,
            Aim::Leader(leader) | Aim::Scatter { leader, .. } => Some(*leader),
        }
    }
}

impl TryFrom<OperationPicture> for Operation {
    /// The picture of one that has ended.
    type Error = OperationPicture;

    fn try_from(picture: OperationPicture) -> Result<Operation, OperationPicture> {
        if picture.state != OperationState::Running {
            return Err(picture);
        }
        let OperationPicture { id, region_id, peers, leader, epoch, created, deadline, .. } = picture;
        let aim = match leader {
            None => Aim::Peers(peers),
            Some(leader) if peers.is_empty() => Aim::Leader(leader),
            Some(leader) => Aim::Scatter { peers, leader },
        };
        Ok(Operation { id, region_id, aim, epoch, created, deadline })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Leaderless => "the region has no known leader",
            Stage::Adding => "new peers are being added",
            Stage::CatchingUp => "a new peer is being brought up to date",
            Stage::Switching => "the voters are being exchanged",
            Stage::Dropping => "peers are being dropped",
            Stage::HandingOver => "leadership is being handed over",
            Stage::Done => "",
        })
    }
}

impl Operations {
    /// Those that rows speak of.
    #[must_use]
    pub fn new(running: Vec<Operation>, mut ended: Vec<OperationPicture>) -> Operations {
        let mut operations = Operations::default();
        for operation in running {
            if operations.find_by_region(operation.region_id).is_none() {
                operations.begin(operation);
            }
        }
        ended.sort_unstable_by_key(|picture| picture.id);
        operations.ended = ended.into();
        operations
    }

    /// Adds one that runs. There must be no other for its region.
    pub fn begin(&mut self, operation: Operation) {
        let other = self.by_region.insert(operation.region_id, operation.id);
        assert!(other.is_none(), "a region has one operation at a time");
        self.running.insert(operation.id, operation);
    }

    /// Ends one, as `picture` says, and forgets those for which there is no room.
    pub fn end(&mut self, picture: OperationPicture, forgotten: &[u64]) {
        if let Some(operation) = self.running.remove(&picture.id) {
            self.by_region.remove(&operation.region_id);
        }
        self.ended.retain(|old| !forgotten.contains(&old.id));
        self.ended.push_back(picture);
    }

    /// The ended ones, oldest first, for which there is no room when `more` have ended. Those that say which learners are
    /// wanted are needed, and do not count.
    pub fn to_forget(&self, more: usize) -> Vec<u64> {
        let is_needed = |picture: &OperationPicture| {
            picture.peers.iter().any(is_learner)
                && self.last_done(picture.region_id).is_some_and(|last| last.id == picture.id)
        };
        let others: Vec<u64> =
            self.ended.iter().filter(|picture| !is_needed(picture)).map(|picture| picture.id).collect();
        let count = (others.len() + more).saturating_sub(OPERATIONS_ENDED_KEPT);
        others[..count.min(others.len())].to_vec()
    }

    /// The learners that somebody wants a region to have: those of the peers that the last operation was to bring about,
    /// and did. All others are left-overs.
    pub fn wanted_learners(&self, region_id: RegionId) -> impl Iterator<Item = Peer> {
        let peers = self.last_done(region_id).map_or(&[][..], |picture| picture.peers.as_slice());
        peers.iter().filter(|peer| is_learner(peer)).copied()
    }

    /// The last change of a region's peers that was carried out. Each moves the epoch.
    fn last_done(&self, region_id: RegionId) -> Option<&OperationPicture> {
        let is_one = |picture: &&OperationPicture| {
            picture.region_id == region_id
                && picture.state == OperationState::Done
                && !picture.peers.is_empty()
        };
        self.ended.iter().filter(is_one).max_by_key(|picture| picture.epoch.conf_version)
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

    /// Whether one with this id runs, or is remembered.
    #[must_use]
    pub fn is_known(&self, id: u64) -> bool {
        self.running.contains_key(&id) || self.ended.iter().any(|picture| picture.id == id)
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
}
