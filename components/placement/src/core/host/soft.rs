//! What the host knows from reports: gone with its leadership, complete again when every store has reported.

use std::collections::BTreeMap;

use actor::Now;
use types::{
    Epoch, Incarnation, Instant, Peer, PeerId, Region, RegionId, RegionSize, StoreId, Term, WallTime,
};

use crate::core::{
    api::{OperationPicture, OperationState, RegionRoute, may_lead},
    limits::{SOFT_STATE_WAIT, STOP_REPEAT, STORE_LIVE_WITHIN},
    operation::Seen,
    protocol::LeaderReport,
    record::{StoreLoad, StorePicture, StoreRecord, StoreState},
};

/// The soft state of one leadership.
#[derive(Debug, Default)]
pub(super) struct Soft {
    /// When this leadership began.
    pub(super) led_since: Instant,
    /// Stores that have reported.
    pub(super) stores: BTreeMap<StoreId, StoreSoft>,
    /// Leaders of regions.
    leaders: BTreeMap<RegionId, LeaderSoft>,
    /// The last leader of each region and what it said: true enough while there is none.
    last: BTreeMap<RegionId, LastSoft>,
    /// The placement group's own descriptor.
    pub(super) placement_group: Option<Region>,
    /// Operations that run: how far they were, and since when.
    progress: BTreeMap<u64, (Progress, Instant)>,
    /// Changes of peers that were given up: their leaders may still be at it.
    stopped: BTreeMap<RegionId, (u64, Instant)>,
}

/// What a store reported of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreSoft {
    pub(super) heard_at: Instant,
    pub(super) heard_at_wall: WallTime,
    pub(super) load: StoreLoad,
    pub(super) incarnation: Incarnation,
    /// The last report that was taken.
    pub(super) report_number: u64,
    /// Whether everything that it leads is known: not between the parts of a full report.
    pub(super) is_complete: bool,
    /// Everything must be reported anew.
    pub(super) is_full_wanted: bool,
}

/// What counts as having come further.
pub(super) type Progress = (u32, Epoch);

#[derive(Clone, Debug)]
struct LeaderSoft {
    peer: Peer,
    term: Term,
    down_peers: Vec<PeerId>,
    pending_peers: Vec<PeerId>,
}

#[derive(Clone, Copy, Debug)]
struct LastSoft {
    leader: Peer,
    size: RegionSize,
}

impl Soft {
    /// Whether a store was heard lately.
    pub(super) fn is_live(&self, now: Now, id: StoreId) -> bool {
        self.stores.get(&id).is_some_and(|store| now.monotonic.since(store.heard_at) < STORE_LIVE_WITHIN)
    }

    /// Whether a store was heard lately, or might have been by the leader before this one.
    pub(super) fn may_be_live(&self, now: Now, id: StoreId) -> bool {
        self.is_live(now, id) || now.monotonic.since(self.led_since) < STORE_LIVE_WITHIN
    }

    /// Whether every store has reported that is going to: what is not known by now is not there.
    pub(super) fn is_complete<'a>(&self, now: Now, records: impl Iterator<Item = &'a StoreRecord>) -> bool {
        let is_over = now.monotonic.since(self.led_since) >= SOFT_STATE_WAIT;
        is_over
            || records
                .filter(|record| record.state != StoreState::Removed)
                .all(|record| self.has_all_of(record.id))
    }

    /// Whether a store has said everything, up to its last report.
    pub(super) fn has_all_of(&self, id: StoreId) -> bool {
        self.stores.get(&id).is_some_and(|store| store.is_complete)
    }

    /// The store on which a region is led, as far as known.
    pub(super) fn leader_store(&self, region: &Region) -> Option<StoreId> {
        self.leader_of(region).map(|leader| leader.peer.store_id)
    }

    /// Whether a store has said that it leads a region, and nobody in a later term.
    pub(super) fn leads(&self, store_id: StoreId, region_id: RegionId) -> bool {
        self.leaders.get(&region_id).is_some_and(|leader| leader.peer.store_id == store_id)
    }

    /// Takes what a leader says. Of two that claim a region the one with the higher term leads it.
    pub(super) fn set_leader(&mut self, report: LeaderReport) {
        let LeaderReport { region, leader, term, down_peers, pending_peers, size } = report;
        if self.leaders.get(&region.id).is_some_and(|known| known.term > term) {
            return;
        }
        self.leaders.insert(region.id, LeaderSoft { peer: leader, term, down_peers, pending_peers });
        self.last.insert(region.id, LastSoft { leader, size });
    }

    /// A store does not lead a region any more.
    pub(super) fn clear_leader(&mut self, region_id: RegionId, store_id: StoreId) {
        if self.leaders.get(&region_id).is_some_and(|leader| leader.peer.store_id == store_id) {
            self.leaders.remove(&region_id);
        }
    }

    /// A store will report anew whatever it leads.
    pub(super) fn clear_leaders_on(&mut self, store_id: StoreId) {
        self.leaders.retain(|_, leader| leader.peer.store_id != store_id);
    }

    /// A region is no more.
    pub(super) fn forget_region(&mut self, region_id: RegionId) {
        self.leaders.remove(&region_id);
        self.last.remove(&region_id);
    }

    /// How much a region holds; `None`: no leader has said.
    pub(super) fn size(&self, region_id: RegionId) -> Option<RegionSize> {
        self.last.get(&region_id).map(|last| last.size)
    }

    /// What is known of a region beside its descriptor.
    pub(super) fn seen(&self, region: &Region) -> Seen<'_> {
        match self.leader_of(region) {
            Some(leader) => Seen { leader: Some(leader.peer.id), pending_peers: &leader.pending_peers },
            None => Seen::default(),
        }
    }

    /// Whether a region's leader counts on every peer.
    pub(super) fn is_healthy(&self, region: &Region) -> bool {
        self.leader_of(region)
            .is_some_and(|leader| leader.down_peers.is_empty() && leader.pending_peers.is_empty())
    }

    /// Notes how far an operation is; returns since when.
    pub(super) fn note_progress(&mut self, now: Now, id: u64, progress: Progress) -> Instant {
        let (known, since) = self.progress.entry(id).or_insert((progress, now.monotonic));
        if *known != progress {
            (*known, *since) = (progress, now.monotonic);
        }
        *since
    }

    /// An operation has ended.
    pub(super) fn end_operation(&mut self, now: Now, picture: &OperationPicture) {
        self.progress.remove(&picture.id);
        if picture.state != OperationState::Done && !picture.peers.is_empty() {
            self.stopped.insert(picture.region_id, (picture.id, now.monotonic));
        }
    }

    /// Regions whose changes were given up lately.
    pub(super) fn stopped(&self) -> impl Iterator<Item = RegionId> {
        self.stopped.keys().copied()
    }

    /// The change of a region's peers that was given up lately.
    pub(super) fn stopped_change(&self, now: Now, region_id: RegionId) -> Option<u64> {
        let (id, at) = self.stopped.get(&region_id)?;
        (now.monotonic.since(*at) < STOP_REPEAT).then_some(*id)
    }

    /// A row with what is known of its leader.
    pub(super) fn route(&self, now: Now, region: &Region) -> RegionRoute {
        let leader = self.leader_of(region);
        RegionRoute {
            region: region.clone(),
            leader: leader.and_then(|leader| region.find_peer(leader.peer.id)),
            stand_in: if leader.is_none() { self.stand_in(now, region) } else { None },
            down_peers: leader.map(|leader| leader.down_peers.clone()).unwrap_or_default(),
            pending_peers: leader.map(|leader| leader.pending_peers.clone()).unwrap_or_default(),
            size: self.size(region.id).unwrap_or_default(),
        }
    }

    /// Forgets changes that were given up long ago.
    pub(super) fn forget_stopped(&mut self, now: Now) {
        self.stopped.retain(|_, (_, at)| now.monotonic.since(*at) < STOP_REPEAT);
    }

    /// A store's row with what is known of its present.
    pub(super) fn store_picture(&self, now: Now, record: &StoreRecord) -> StorePicture {
        let soft = self.stores.get(&record.id);
        StorePicture {
            record: record.clone(),
            load: soft.map(|store| store.load),
            last_heard: soft.map_or(WallTime(0), |store| store.heard_at_wall),
            is_live: self.is_live(now, record.id),
        }
    }

    /// Every store has to report everything.
    pub(super) fn want_full_reports(&mut self) {
        self.stores.values_mut().for_each(|store| store.is_full_wanted = true);
    }

    /// Whom to ask of a region without a known leader: who led it last; where that store is silent, a voter on one that is
    /// not.
    fn stand_in(&self, now: Now, region: &Region) -> Option<Peer> {
        let last = self.last.get(&region.id).and_then(|last| region.find_peer(last.leader.id));
        let is_live = |peer: &Peer| self.is_live(now, peer.store_id);
        let live_voter = || region.peers.iter().copied().find(|peer| may_lead(*peer) && is_live(peer));
        last.filter(is_live).or_else(live_voter).or(last)
    }

    fn leader_of(&self, region: &Region) -> Option<&LeaderSoft> {
        self.leaders.get(&region.id).filter(|leader| region.find_peer(leader.peer.id).is_some())
    }
}
