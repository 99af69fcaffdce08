//! What a cluster looks like at one moment: plain data, filled in by whoever can see it.

use types::{
    Configuration, HardState, Incarnation, Index, Instant, LogPosition, PeerId, Region, RegionId, StoreId,
    Term,
};

/// The running stores at one moment. A store that is left out is taken for one that is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPicture {
    /// The stores.
    pub stores: Vec<StorePicture>,
}

/// A running store, with all of its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorePicture {
    /// Its id.
    pub id: StoreId,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Its peers.
    pub peers: Vec<PeerPicture>,
    /// Its byte budget, if it is shown.
    pub budget: Option<BudgetPicture>,
}

/// A store's byte budget (D12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetPicture {
    /// Bytes reserved.
    pub reserved_bytes: u64,
    /// Bytes that may be.
    pub limit_bytes: u64,
}

/// A peer of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPicture {
    /// The region.
    pub region_id: RegionId,
    /// The peer.
    pub peer_id: PeerId,
    /// Whether it believes that it leads.
    pub is_leader: bool,
    /// Its term.
    pub term: Term,
    /// The highest index that it knows committed.
    pub commit_index: Index,
    /// What it has applied.
    pub applied: LogPosition,
    /// The descriptor that it has applied; `None` as long as it has no data.
    pub descriptor: Option<Region>,
    /// When its lease ends, if it holds one: in the time of the picture, which is that of an observer and of no store.
    pub lease_until: Option<Instant>,
    /// A digest of its data at `applied`, if one was made: equal data, equal digests.
    pub digest: Option<u128>,
    /// Whether it is in quarantine (D15): then its log and data are not what they should be, and nobody relies on it.
    pub is_quarantined: bool,
    /// Its log and what is durable of it, if that is shown.
    pub log: Option<LogPicture>,
}

/// A peer's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPicture {
    /// Whom it has voted for in its term.
    pub vote: Option<PeerId>,
    /// Its hard state as far as that is durable.
    pub durable: HardState,
    /// The highest index up to which its log is durable.
    pub persisted_index: Index,
    /// Behind which its log begins.
    pub truncated: LogPosition,
    /// Where its log ends.
    pub last: LogPosition,
    /// Any other positions of its log.
    pub positions: Vec<LogPosition>,
    /// The index up to which what it has applied is durable in the KV engine; `None` where the state that it began with,
    /// or the last snapshot that it got, is not: then a lifecycle record stands for it.
    pub flushed_index: Option<Index>,
    /// The configuration in force and the index of its entry.
    pub configuration: (Index, Configuration),
}

impl PeerPicture {
    /// Every position of its log that is shown.
    pub(super) fn positions(&self) -> impl Iterator<Item = LogPosition> {
        let log = self
            .log
            .iter()
            .flat_map(|log| [log.truncated, log.last].into_iter().chain(log.positions.iter().copied()));
        // A peer without a log shows zeros, which are no position.
        std::iter::once(self.applied).chain(log).filter(|position| position.index != Index(0))
    }

    /// Whether it takes part in a region's range: it has data, and the region has a range.
    pub(super) fn has_range(&self) -> bool {
        self.descriptor.is_some() && self.region_id != RegionId::PLACEMENT
    }
}
