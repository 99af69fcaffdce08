//! What other threads may know of a peer: one small record per region, written by its raft and apply worker and read by
//! read workers, services and placement. It carries the lease (D10).

use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::Mutex;
use types::{Index, Instant, LogPosition, Peer, Region, RegionId, RegionSize, Term};

/// Every region's view, by id.
#[derive(Default)]
pub(crate) struct Views {
    regions: DashMap<RegionId, Arc<RegionView>>,
}

/// One region's view.
pub(crate) struct RegionView {
    state: Mutex<ViewState>,
}

/// What a view holds.
#[derive(Clone, Debug)]
pub(crate) struct ViewState {
    /// The region.
    pub(crate) region_id: RegionId,
    /// This store's peer.
    pub(crate) peer: Peer,
    /// The applied descriptor; `None` before the first snapshot.
    pub(crate) region: Option<Arc<Region>>,
    /// Who leads, as far as known.
    pub(crate) leader: Option<Peer>,
    /// The peer's term.
    pub(crate) term: Term,
    /// The lease, where this peer leads and holds one.
    pub(crate) lease: Option<LeaseView>,
    /// The highest index known committed. Written before any message that carries it leaves the store.
    pub(crate) commit_index: Index,
    /// Where the peer's log ends, in memory: not all of it may be durable.
    pub(crate) last: LogPosition,
    /// The last applied position.
    pub(crate) applied: LogPosition,
    /// How much the region holds, by estimate.
    pub(crate) size: RegionSize,
    /// Until this index is applied no lease read is served: an entry up to it changes range, epoch or membership.
    pub(crate) lease_blocked_to: Index,
    /// Until this index is applied a snapshot is being put in place: the data is between two states.
    pub(crate) installing_to: Index,
    /// Read under the lease since the peer looked last: such reads do not come to its worker, and keep it awake.
    pub(crate) was_read: bool,
    /// The peer sleeps.
    pub(crate) is_asleep: bool,
}

/// A lease as a read worker checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseView {
    /// The term in which it was won.
    pub(crate) term: Term,
    /// Invalid from here on, on this store's monotonic clock.
    pub(crate) until: Instant,
    /// Wall minus monotonic time when the acknowledged messages were made, in milliseconds: a gain since then means
    /// that the monotonic clock missed time.
    pub(crate) wall_lead_ms: i64,
}

/// A copy of what is known of a region here, for services and operators.
#[derive(Clone, Debug)]
pub struct RegionPicture {
    /// The region.
    pub id: RegionId,
    /// This store's peer.
    pub peer: Peer,
    /// The applied descriptor; `None` before the first snapshot.
    pub region: Option<Arc<Region>>,
    /// Who leads, as far as known.
    pub leader: Option<Peer>,
    /// The peer's term.
    pub term: Term,
    /// The highest index known committed.
    pub commit_index: Index,
    /// Where the peer's log ends, in memory: not all of it may be durable.
    pub last: LogPosition,
    /// The last applied position.
    pub applied: LogPosition,
    /// How much the region holds, by this peer's estimate.
    pub size: RegionSize,
    /// When the lease ends, where one is held.
    pub lease_until: Option<Instant>,
    /// Whether the peer sleeps.
    pub is_asleep: bool,
}

impl ViewState {
    /// The view of a peer that has nothing yet.
    pub(crate) fn new(region_id: RegionId, peer: Peer) -> ViewState {
        ViewState {
            region_id,
            peer,
            region: None,
            leader: None,
            term: Term::default(),
            lease: None,
            commit_index: Index::default(),
            last: LogPosition::default(),
            applied: LogPosition::default(),
            size: RegionSize::default(),
            lease_blocked_to: Index::default(),
            installing_to: Index::default(),
            was_read: false,
            is_asleep: false,
        }
    }

    /// Whether a snapshot is being put in place.
    pub(crate) fn is_installing(&self) -> bool {
        self.applied.index < self.installing_to
    }
}

impl Views {
    pub(crate) fn find(&self, id: RegionId) -> Option<Arc<RegionView>> {
        self.regions.get(&id).map(|view| Arc::clone(&view))
    }

    pub(crate) fn remove(&self, id: RegionId) {
        self.regions.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.regions.len()
    }

    pub(crate) fn insert(&self, id: RegionId, view: Arc<RegionView>) {
        self.regions.insert(id, view);
    }

    /// Every view, in order of id.
    #[allow(clippy::disallowed_methods, reason = "sorted before anyone sees the order")]
    pub(crate) fn all(&self) -> Vec<Arc<RegionView>> {
        let mut views: Vec<_> =
            self.regions.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect();
        views.sort_unstable_by_key(|(id, _)| *id);
        views.into_iter().map(|(_, view)| view).collect()
    }
}

impl RegionView {
    pub(crate) fn new(state: ViewState) -> Arc<RegionView> {
        Arc::new(RegionView { state: Mutex::new(state) })
    }

    /// Reads the state. The closure runs under the lock: it must be short and call nothing.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&ViewState) -> T) -> T {
        read(&self.state.lock())
    }

    /// Changes the state, likewise.
    pub(crate) fn update<T>(&self, update: impl FnOnce(&mut ViewState) -> T) -> T {
        update(&mut self.state.lock())
    }

    pub(crate) fn region(&self) -> Option<Arc<Region>> {
        self.read(|state| state.region.clone())
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.read(|state| state.leader.is_some_and(|leader| leader.id == state.peer.id))
    }

    pub(crate) fn picture(&self) -> RegionPicture {
        self.read(|state| RegionPicture {
            id: state.region_id,
            peer: state.peer,
            region: state.region.clone(),
            leader: state.leader,
            term: state.term,
            commit_index: state.commit_index,
            last: state.last,
            applied: state.applied,
            size: state.size,
            lease_until: state.lease.map(|lease| lease.until),
            is_asleep: state.is_asleep,
        })
    }
}
