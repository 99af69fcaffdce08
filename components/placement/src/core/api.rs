//! What the rest of the process asks of placement, and what it is answered.

use std::time::Duration;

use bytes::Bytes;
use types::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, RegionSize, StoreId, Term, WallTime};

use super::record::{Settings, StorePicture, StoreRecord, StoreState};

/// A request to placement. Any store takes any of them; what only the placement leader can answer is passed on to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementCall {
    /// Who is here and who leads placement: what PD's `GetMembers` and `GetClusterInfo` need. Answered at once from what
    /// this store knows, with [`PlacementAnswer::Cluster`].
    ClusterInfo,
    /// Timestamps, above every one given before by anyone; [`PlacementAnswer::Timestamp`].
    Tso {
        /// How many; from 1 to [`super::limits::TSO_BATCH_MAX`].
        count: u32,
    },
    /// The region that holds a key; [`PlacementAnswer::Region`], never `None`.
    GetRegion {
        /// The key; any bytes, of any length.
        key: Bytes,
    },
    /// The region before the one that holds a key; [`PlacementAnswer::Region`], `None` before the first.
    GetPrevRegion {
        /// The key.
        key: Bytes,
    },
    /// A region by its id, the placement group never; [`PlacementAnswer::Region`], `None` if there is none.
    GetRegionById {
        /// The id.
        region_id: RegionId,
    },
    /// A region by its id, as soon as it is known with a leader, at this epoch or a later one; what is known of it after
    /// [`super::limits::REGION_AWAITED_MAX`]. [`PlacementAnswer::Region`].
    AwaitRegion {
        /// The id.
        region_id: RegionId,
        /// `None`: whatever it is.
        epoch: Option<Epoch>,
    },
    /// The regions that hold keys of a range, ascending and without a gap; [`PlacementAnswer::Regions`].
    ScanRegions {
        /// The keys.
        range: KeyRange,
        /// Regions at the most; zero: as many as there are, up to [`super::limits::SCAN_REGIONS_MAX`].
        limit: u32,
    },
    /// The regions that hold keys of any of several ranges, each region once, ascending; [`PlacementAnswer::Regions`].
    BatchScanRegions {
        /// The ranges, at most [`super::limits::SCAN_RANGES_MAX`], ascending and not overlapping.
        ranges: Vec<KeyRange>,
        /// Regions at the most; zero: as many as there are, up to [`super::limits::SCAN_REGIONS_MAX`].
        limit: u32,
    },
    /// One store; [`PlacementAnswer::Store`], `None` if there never was one with this id.
    GetStore {
        /// Its id.
        store_id: StoreId,
    },
    /// Every store, in order of id; [`PlacementAnswer::Stores`].
    GetAllStores {
        /// Whether removed ones are left out.
        is_without_removed: bool,
    },
    /// Ids that nothing else has or will have; [`PlacementAnswer::Ids`].
    AllocateIds {
        /// How many, one behind the other; from 1 to [`super::limits::IDS_PER_CALL_MAX`].
        count: u64,
    },
    /// A process asks for a store id (record's id zero), or a store refreshes its row; [`PlacementAnswer::Registered`].
    /// Repeating it with the same nonce gives the same id.
    RegisterStore {
        /// Who it is.
        record: StoreRecord,
    },
    /// What an operator wants of one region, the placement group included; [`PlacementAnswer::OperationStarted`].
    ChangeRegion(ChangeRequest),
    /// Divides a region, or shows the outcome of the split of this name; [`PlacementAnswer::Split`].
    SplitRegion(SplitRequest),
    /// Spreads the peers and leaders of regions over the stores, as far as there is room for operations now;
    /// [`PlacementAnswer::Scattered`].
    ScatterRegions(ScatterRequest),
    /// What is intended with a store: to drain it, to use it again, or to give it up for good, which is refused while it
    /// is alive and has peers; [`PlacementAnswer::Done`].
    SetStoreState {
        /// The store.
        store_id: StoreId,
        /// What is intended.
        state: StoreState,
    },
    /// Changes what is true of the whole cluster; [`PlacementAnswer::Done`].
    ChangeSettings {
        /// Whether placement levels peers and leaders; `None`: as it is. Repair never stops.
        is_balancing: Option<bool>,
    },
    /// Gives up an operation: what has happened stays, the rest does not happen; [`PlacementAnswer::Done`].
    CancelOperation {
        /// The operation.
        operation_id: u64,
    },
    /// The last operation on a region, running or ended; [`PlacementAnswer::Operation`], `None` if none is remembered.
    GetOperation {
        /// The region.
        region_id: RegionId,
    },
    /// The operations that run, and the last ones that ended, in order of id; [`PlacementAnswer::Operations`].
    ListOperations,
}

/// The answer to a [`PlacementCall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementAnswer {
    /// To `ClusterInfo`.
    Cluster(ClusterPicture),
    /// To `Tso`: the last timestamp of the batch. Those before it have the same physical part.
    Timestamp(Timestamp),
    /// To `GetRegion`, `GetPrevRegion`, `GetRegionById` and `AwaitRegion`.
    Region(Option<RegionRoute>),
    /// To `ScanRegions` and `BatchScanRegions`.
    Regions(Vec<RegionRoute>),
    /// To `GetStore`.
    Store(Option<StorePicture>),
    /// To `GetAllStores`.
    Stores(Vec<StorePicture>),
    /// To `AllocateIds`.
    Ids {
        /// The first one; the others follow it.
        first_id: u64,
        /// How many.
        count: u64,
    },
    /// To `RegisterStore`.
    Registered {
        /// The store's id.
        store_id: StoreId,
        /// What is true of the cluster.
        settings: Settings,
        /// The stores so far, this one included: a first address book.
        stores: Vec<StoreRecord>,
    },
    /// To `ChangeRegion`.
    OperationStarted {
        /// Its id.
        operation_id: u64,
    },
    /// To `SplitRegion`.
    Split {
        /// The name under which the same split can be asked for again.
        change_id: u64,
        /// The region that was divided, and those that begin at the keys, as far as they are still there.
        regions: Vec<Region>,
    },
    /// To `ScatterRegions`. Regions that are named nowhere could not move now: ask again.
    Scattered {
        /// Those that are where they should be, or whose operation runs.
        begun: Vec<RegionId>,
        /// Those that do not exist.
        missing: Vec<RegionId>,
    },
    /// To `GetOperation`.
    Operation(Option<OperationPicture>),
    /// To `ListOperations`.
    Operations(Vec<OperationPicture>),
    /// To `CancelOperation`, `SetStoreState` and `ChangeSettings`.
    Done,
}

/// A change of one region that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The region.
    pub region_id: RegionId,
    /// What is to change.
    pub change: RegionChange,
    /// The epoch for which it is meant: a region with another one is left alone. `None`: whatever it is.
    pub epoch: Option<Epoch>,
    /// Names the change, from `AllocateIds`: asked again it is the same change, also when it has ended. Zero: the store
    /// that is asked names it.
    pub change_id: u64,
    /// It is given up after this; `None`: after [`super::limits::OPERATION_DEADLINE`].
    pub deadline: Option<Duration>,
}

/// What is to change about a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionChange {
    /// Its voters are on exactly these stores.
    SetStores(Vec<StoreId>),
    /// A store gets a voter.
    AddPeer(StoreId),
    /// A store has no peer any more.
    RemovePeer(StoreId),
    /// A store's voter is replaced by one on another store.
    MovePeer {
        /// Whose goes.
        from: StoreId,
        /// Who gets one.
        to: StoreId,
    },
    /// A store gets a learner, which stays until it is promoted or removed.
    AddLearner(StoreId),
    /// A store's learner votes.
    PromoteLearner(StoreId),
    /// A store's voter leads.
    TransferLeader(StoreId),
}

impl RegionRoute {
    /// Whom a client asks: some of them never ask again for a region that has nobody to be asked.
    #[must_use]
    pub fn leader_or_stand_in(&self) -> Option<Peer> {
        self.leader.or(self.stand_in)
    }

    /// Whether it is what somebody waits for who named this epoch.
    pub(super) fn is_as_awaited(&self, epoch: Option<Epoch>) -> bool {
        self.leader.is_some() && epoch.is_none_or(|epoch| self.region.epoch.covers(epoch))
    }
}

impl PlacementAnswer {
    /// The routes in it.
    pub(super) fn routes_mut(&mut self) -> &mut [RegionRoute] {
        match self {
            PlacementAnswer::Region(route) => route.as_mut_slice(),
            PlacementAnswer::Regions(routes) => routes,
            PlacementAnswer::Cluster(_)
            | PlacementAnswer::Timestamp(_)
            | PlacementAnswer::Store(_)
            | PlacementAnswer::Stores(_)
            | PlacementAnswer::Ids { .. }
            | PlacementAnswer::Registered { .. }
            | PlacementAnswer::OperationStarted { .. }
            | PlacementAnswer::Split { .. }
            | PlacementAnswer::Scattered { .. }
            | PlacementAnswer::Operation(_)
            | PlacementAnswer::Operations(_)
            | PlacementAnswer::Done => &mut [],
        }
    }
}

impl ChangeRequest {
    /// Of a region as it is now, under a new name, with time enough.
    #[must_use]
    pub fn new(region_id: RegionId, change: RegionChange) -> ChangeRequest {
        ChangeRequest { region_id, change, epoch: None, change_id: 0, deadline: None }
    }
}

/// A region that somebody wants to be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRequest {
    /// The region.
    pub region_id: RegionId,
    /// Where.
    pub at: SplitAt,
    /// The epoch for which it is meant: a region with another one is left alone. `None`: whatever it is.
    pub epoch: Option<Epoch>,
    /// Names the change, from `AllocateIds`: asked again it is the same split, also when it has ended. Zero: the store
    /// that is asked names it.
    pub change_id: u64,
    /// The store whose voters lead the new regions first. `None`: the one that leads the region; where it is to become
    /// several parts, its voters in turns.
    pub first_leader: Option<StoreId>,
}

/// Regions that somebody wants to be spread over the stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScatterRequest {
    /// The regions; from 1 to [`super::limits::SCATTER_REGIONS_MAX`].
    pub region_ids: Vec<RegionId>,
    /// What they belong to: they are spread among those that were named with the same group of late.
    pub group: String,
}

/// Where a region is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitAt {
    /// At these keys: ascending, inside the region and not at its start, at most [`super::limits::SPLIT_KEYS_MAX`]. They are
    /// boundaries as the directory has them.
    Keys(Vec<Bytes>),
    /// Where half of its bytes lie on each side. The store that leads it finds the key.
    Middle,
    /// Into so many parts of about equal bytes, from 2 to [`super::limits::SPLIT_PARTS_MAX`]; fewer, where it has too few
    /// keys. The store that leads it finds them.
    Parts(u32),
}

impl SplitAt {
    /// Into how many parts, where the keys are not named.
    #[must_use]
    pub fn part_count(&self) -> Option<u32> {
        match self {
            SplitAt::Keys(_) => None,
            SplitAt::Middle => Some(2),
            SplitAt::Parts(count) => Some(*count),
        }
    }
}

impl SplitRequest {
    /// Of a region as it is now, at keys, under a new name.
    #[must_use]
    pub fn new(region_id: RegionId, keys: Vec<Bytes>) -> SplitRequest {
        let at = SplitAt::Keys(keys);
        SplitRequest { region_id, at, epoch: None, change_id: 0, first_leader: None }
    }
}

/// What every store knows of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPicture {
    /// What is true of the whole cluster, as far as this store has been told; the cluster id and the key mode always are.
    pub settings: Settings,
    /// This store.
    pub this_store: StoreId,
    /// The store on which the placement group is led, where known.
    pub placement_leader: Option<StoreId>,
    /// The address book: every store that is not removed, this one included, in order of id.
    pub stores: Vec<StoreRecord>,
}

/// A timestamp: unique in the cluster, and above every one that was given before it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Milliseconds since 1970.
    pub physical_ms: u64,
    /// Counts within a millisecond; 18 bits.
    pub logical: u32,
}

/// A region with what a client needs to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionRoute {
    /// The descriptor.
    pub region: Region,
    /// Who leads it, where known; always one of its peers.
    pub leader: Option<Peer>,
    /// Whom to ask while no leader is known: who led it last, as far as anybody remembers, else a voter that may lead it
    /// or know who does; always one of its peers.
    pub stand_in: Option<Peer>,
    /// Peers that have not answered their leader for a while.
    pub down_peers: Vec<PeerId>,
    /// Peers that lag too far behind to count on.
    pub pending_peers: Vec<PeerId>,
    /// How much it holds, by its leader's estimate; zero where that is not known.
    pub size: RegionSize,
}

/// An operation: a change of one region that placement sees through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationPicture {
    /// Its id; also the change id of its goals.
    pub id: u64,
    /// The region.
    pub region_id: RegionId,
    /// How it stands.
    pub state: OperationState,
    /// What the region's peers shall be; none where only its leader shall be another one.
    pub peers: Vec<Peer>,
    /// Who shall lead it, if that is what it is about; of a region that is scattered, afterwards.
    pub leader: Option<Peer>,
    /// The region's epoch when it began.
    pub epoch: Epoch,
    /// When it began.
    pub created: WallTime,
    /// When it is given up.
    pub deadline: WallTime,
    /// Peers of the goal that vote already, in per cent; those on their way in part.
    pub progress_percent: u32,
    /// How long it may still take, by how long it took so far; `None`: nothing has happened to judge by.
    pub eta: Option<Duration>,
    /// What it waits for, or how it ended; for people.
    pub reason: String,
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    /// The region's peers.
    MovePeers,
    /// Who leads it.
    TransferLeader,
    /// Both, because somebody wants regions to be spread.
    Scatter,
}

impl OperationPicture {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> OperationKind {
        match self.leader {
            None => OperationKind::MovePeers,
            Some(_) if self.peers.is_empty() => OperationKind::TransferLeader,
            Some(_) => OperationKind::Scatter,
        }
    }
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationState {
    /// The region is on its way.
    Running,
    /// The region's peers are the goal.
    Done,
    /// Somebody gave it up.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// Whether a peer may lead its region.
pub(super) fn may_lead(peer: Peer) -> bool {
    peer.role != PeerRole::Learner
}

/// Why placement did not answer. Unless a variant says otherwise, nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This store does not lead placement. Calls never end with it: they go on to the leader until their deadline.
    #[error("this store does not lead placement")]
    NotLeader {
        /// Who does, where known.
        hint: Option<StoreId>,
        /// The term in which it was known; zero: not known.
        term: Term,
    },
    /// Nobody could answer within the deadline. A registration or an allocation may have happened: repeat it.
    #[error("placement is not available: {reason}")]
    Unavailable {
        /// What was waited for.
        reason: String,
    },
    /// Too much waits already.
    #[error("placement is busy: {reason}")]
    Busy {
        /// Of what there is too much.
        reason: String,
    },
    /// The request makes no sense; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// No store has this id.
    #[error("there is no store {0}")]
    StoreNotFound(StoreId),
    /// The store was removed and never comes back under this id.
    #[error("store {0} was removed")]
    StoreRemoved(StoreId),
    /// There is no such region.
    #[error("there is no region {0}")]
    RegionNotFound(RegionId),
    /// The region is not the one that the request was made for.
    #[error("region {region_id} has epoch {}.{} now", current.conf_version, current.version)]
    EpochNotMatch {
        /// The region.
        region_id: RegionId,
        /// Its epoch.
        current: Epoch,
    },
    /// The region is changing already.
    #[error("operation {operation_id} on region {region_id} is running: {stage}")]
    Changing {
        /// The region.
        region_id: RegionId,
        /// What changes it.
        operation_id: u64,
        /// How far that is.
        stage: String,
    },
    /// There is no such operation, or it has ended.
    #[error("no operation {0} is running")]
    OperationNotFound(u64),
}

/// A result of placement.
pub type Result<T> = std::result::Result<T, Error>;

/// Answers one call, exactly once: by [`Responder::reply`], or by being dropped, which answers [`Error::Unavailable`].
pub struct Responder(Option<Box<dyn FnOnce(Result<PlacementAnswer>) + Send>>);

impl Responder {
    /// Calls `answer` with the result. It runs on the thread of placement's actor and must not block.
    pub fn new(answer: impl FnOnce(Result<PlacementAnswer>) + Send + 'static) -> Responder {
        Responder(Some(Box::new(answer)))
    }

    /// Answers.
    pub fn reply(mut self, result: Result<PlacementAnswer>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(Error::Unavailable { reason: "the store stopped before it could answer".to_owned() }));
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder")
    }
}

impl Timestamp {
    /// Bits of the logical part.
    pub const LOGICAL_BITS: u32 = 18;

    /// The one number that TiKV's clients make of it.
    #[must_use]
    pub fn version(self) -> u64 {
        (self.physical_ms << Timestamp::LOGICAL_BITS) | u64::from(self.logical)
    }
}
