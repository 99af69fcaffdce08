//! Where the host is, as far as this store knows.

use std::collections::BTreeMap;

use types::{Instant, Region, StoreId, Term};

use crate::core::{limits::HOST_SILENT_AFTER, record::StoreRecord};

/// Finds the host, and notices when it is silent.
#[derive(Debug)]
pub(super) struct Finder {
    this_store: StoreId,
    leader: Option<StoreId>,
    /// What this store's own peer of the group said last.
    local: (Option<StoreId>, Option<Term>),
    /// Whom to ask next while the leader is not known.
    turn: usize,
    /// When the first request was sent that nobody who leads has answered since.
    unanswered_since: Option<Instant>,
}

impl Finder {
    pub(super) fn new(this_store: StoreId) -> Finder {
        Finder { this_store, leader: None, local: (None, None), turn: 0, unanswered_since: None }
    }

    /// The store that is believed to lead placement.
    pub(super) fn leader(&self) -> Option<StoreId> {
        self.leader
    }

    /// Whom to ask: the leader; else in turn the stores with a peer of the group as far as known here, and then every
    /// other one in the address book, for what is known here may be old.
    pub(super) fn target(
        &mut self,
        group: Option<&Region>,
        stores: &BTreeMap<StoreId, StoreRecord>,
    ) -> StoreId {
        if let Some(leader) = self.leader {
            return leader;
        }
        let peers = group.map(|group| group.peers.as_slice()).unwrap_or_default();
        let mut candidates: Vec<StoreId> = peers.iter().map(|peer| peer.store_id).collect();
        // A store without a peer of the group cannot lead it.
        let is_other = |id: &&StoreId| **id != self.this_store;
        candidates.extend(
            stores.keys().filter(is_other).filter(|id| !peers.iter().any(|peer| peer.store_id == **id)),
        );
        let target = candidates.get(self.turn % candidates.len().max(1)).copied();
        self.turn += 1;
        target.unwrap_or(self.this_store)
    }

    /// What this store's own peer of the group knows of its leader. Returns whether that is new.
    pub(super) fn on_local(&mut self, leader: Option<StoreId>, led_here: Option<Term>) -> bool {
        if self.local == (leader, led_here) {
            return false;
        }
        self.local = (leader, led_here);
        self.leader = leader;
        true
    }

    /// A store does not lead; it may know who does.
    pub(super) fn on_not_leader(&mut self, from: StoreId, hint: Option<StoreId>) {
        if self.leader.is_none() || self.leader == Some(from) {
            self.leader = hint.filter(|hint| *hint != from);
        }
    }

    /// A store has answered as one that leads; `has_unanswered`: other requests still wait.
    pub(super) fn on_answer(&mut self, now: Instant, from: StoreId, has_unanswered: bool) {
        self.leader = Some(from);
        self.unanswered_since = has_unanswered.then_some(now);
    }

    /// A request has been sent.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
    }

    /// A request was not answered in time: it is somebody else's turn.
    pub(super) fn on_timeout(&mut self) {
        self.leader = None;
    }

    /// Since when nobody who leads has answered.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// Whether nobody who leads has answered for so long that what is remembered must do.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.unanswered_since.is_some_and(|since| now.since(since) >= HOST_SILENT_AFTER)
    }
}
