//! What stores say to the host of placement and back. `codec.rs` has the bytes.

use types::{Epoch, Incarnation, KeyRange, Peer, PeerId, Region, RegionId, RegionSize, StoreId, Term};

use super::{
    api::{Error, PlacementAnswer, PlacementCall, RegionRoute, SplitRequest},
    operation::Goal,
    record::{Settings, StoreLoad, StoreRecord},
};

/// To the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A call that somebody made on the sender's store.
    Call(PlacementCall),
    /// What the sender knows; soft state.
    Report(Box<StoreReport>),
    /// To the agent of the store that leads a region: to divide it.
    Split(SplitRequest),
}

/// From the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a call.
    Answer(PlacementAnswer),
    /// To `GetPrevRegion`: with the region that holds the key, so that the receiver can lay newer descriptors over both.
    Previous {
        /// The region before it, if there is one.
        previous: Option<RegionRoute>,
        /// The region that holds the key.
        current: Box<RegionRoute>,
    },
    /// To a report; also sent without one, when there are goals.
    Report(Box<ReportAnswer>),
    /// To anything.
    Failed(Error),
}

/// What a store knows, as a change against its last report that this host acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Who it is: refreshes its row if that differs.
    pub record: StoreRecord,
    /// Counts what this incarnation has sent, so that a report that comes late is known as such.
    pub number: u64,
    /// The last report that was acknowledged: this one says all that has changed since. Where the host has not even that
    /// one, it asks for everything.
    pub follows: u64,
    /// Not a change: what the host knew of leaders on this store is void.
    pub is_full: bool,
    /// There was no room for all that has changed: the rest follows at once.
    pub has_more: bool,
    /// How it is doing.
    pub load: StoreLoad,
    /// Regions that it leads, where something changed.
    pub leads: Vec<LeaderReport>,
    /// Regions that it reported and does not lead any more.
    pub leads_no_longer: Vec<RegionId>,
    /// Applied descriptors of regions that it does not lead, which belong to those that it leads: the rest of a split.
    pub siblings: Vec<Region>,
    /// Peers here that know no leader; once a minute.
    pub lonely_peers: Vec<LonelyPeer>,
}

/// A peer that knows no leader: it may have been removed without hearing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LonelyPeer {
    /// Its region.
    pub region_id: RegionId,
    /// The peer.
    pub peer_id: PeerId,
    /// The epoch that it has applied; zero: none.
    pub epoch: Epoch,
}

/// What a region's leader says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderReport {
    /// The applied descriptor.
    pub region: Region,
    /// The leading peer.
    pub leader: Peer,
    /// Its term.
    pub term: Term,
    /// Peers that have not answered for a while.
    pub down_peers: Vec<PeerId>,
    /// Peers that lag too far behind to count on.
    pub pending_peers: Vec<PeerId>,
    /// How much it holds, by its leader's estimate.
    pub size: RegionSize,
}

/// The answer to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportAnswer {
    /// The term in which the host leads.
    pub placement_term: Term,
    /// The report that is acknowledged; zero: none.
    pub number: u64,
    /// The next report must be full.
    pub is_full_wanted: bool,
    /// For regions that the receiver leads.
    pub goals: Vec<Goal>,
    /// Descriptors that are newer than those of lonely peers and do not name them: they were removed, and shall end.
    pub destroys: Vec<Region>,
    /// Keys of regions that the receiver leads, whose descriptors do not tile with those of other regions: whatever it
    /// holds of them is wanted.
    pub wanted: Vec<KeyRange>,
    /// The address book: every store that is not removed; empty in a message that only has goals.
    pub stores: Vec<StoreRecord>,
    /// What is true of the cluster; likewise.
    pub settings: Option<Settings>,
}

/// Who asked the host: where the response goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The asking store; the host's own too.
    pub store_id: StoreId,
    /// Its name for the request.
    pub request_id: u64,
}

impl LeaderReport {
    /// Whether the host should hear it, if `known` is what it has heard. A size that has moved by less than an eighth,
    /// or a mebibyte, can wait for something else to be told.
    #[must_use]
    pub fn is_news_after(&self, known: &LeaderReport) -> bool {
        self.size.has_moved_from(known.size) || LeaderReport { size: known.size, ..self.clone() } != *known
    }
}

impl StoreReport {
    /// The incarnation that reports.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }
}
