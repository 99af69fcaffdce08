//! The store as the rest of the process sees it: every call enqueues and returns.

use std::sync::Arc;

use actor::{Clock, Now};
use engine::{KvEngine, StoreIdent};
use types::{Region, RegionId, StoreId};

use crate::{
    liveness::{LivenessMail, Unreachable},
    message::{AdminRequest, Proposal, RaftMail, ReadMail, ReadRequest, SnapshotMail, StoreMessage},
    meta::Meta,
    ports::PlacementClient,
    router::Router,
    view::{RegionPicture, Views},
};

/// A running store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) ident: StoreIdent,
    pub(crate) router: Arc<Router>,
    pub(crate) views: Arc<Views>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) placement: Arc<dyn PlacementClient>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) kv: Arc<dyn KvEngine>,
}

impl Store {
    /// Who this store is.
    #[must_use]
    pub fn ident(&self) -> StoreIdent {
        self.inner.ident
    }

    /// Proposes writes; each is answered by its responder once it is applied, or refused.
    pub fn submit(&self, proposals: Vec<Proposal>) {
        let router = &self.inner.router;
        for (at, group) in
            Router::by_worker(router.raft.len(), proposals, |proposal| proposal.context.region_id)
        {
            router.raft[at].send(RaftMail::Propose(group));
        }
    }

    /// Answers reads, linearizably: under the lease where it holds, else by read index.
    pub fn read(&self, reads: Vec<ReadRequest>) {
        let router = &self.inner.router;
        for (at, group) in Router::by_worker(router.read.len(), reads, |read| read.context.region_id) {
            router.read[at].send(ReadMail::Read(group));
        }
    }

    /// Carries out an operator's or placement's wish about a region that is led here.
    pub fn admin(&self, request: AdminRequest) {
        self.inner.router.send_raft(request.region_id, RaftMail::Admin(request));
    }

    /// Takes a batch of messages from another store.
    pub fn receive(&self, from: StoreId, messages: Vec<StoreMessage>) {
        let router = &self.inner.router;
        let mut envelopes = Vec::new();
        for message in messages {
            match message {
                StoreMessage::Raft(envelope) => envelopes.push(envelope),
                StoreMessage::Beat(beat) => router.liveness.send(LivenessMail::Beat { from, beat }),
                StoreMessage::Snapshot(message) => router.snapshot.send(SnapshotMail::Message(from, message)),
                StoreMessage::Membership(message) => {
                    router.send_raft(message.region_id(), RaftMail::Membership(from, message));
                }
                StoreMessage::Sleep(message) => router.send_sleep(from, message),
                StoreMessage::Placement(message) => self.inner.placement.receive(from, message),
            }
        }
        for (at, group) in Router::by_worker(router.raft.len(), envelopes, |envelope| envelope.region_id) {
            if !group.is_empty() {
                router.raft[at].send(RaftMail::Messages(group));
            }
        }
    }

    /// The transport could not deliver to a store. A refused reconnect is evidence that it is down.
    pub fn on_unreachable(&self, store: StoreId, how: Unreachable) {
        self.inner.router.on_unreachable(store);
        self.inner.router.liveness.send(LivenessMail::Unreachable { store, how });
    }

    /// The stores of the cluster, this one included or not: who exchanges beats with this one.
    pub fn set_stores(&self, stores: Vec<StoreId>) {
        self.inner.router.liveness.send(LivenessMail::Stores(stores));
    }

    /// The applied descriptor that covers `key` among the regions with a peer here.
    #[must_use]
    pub fn find_region(&self, key: &[u8]) -> Option<Arc<Region>> {
        self.inner.meta.find(key).and_then(|id| self.inner.views.find(id)).and_then(|view| view.region())
    }

    /// A region with a peer here.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<RegionPicture> {
        self.inner.views.find(id).map(|view| view.picture())
    }

    /// Every region with a peer here, in order of id.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionPicture> {
        self.inner.views.all().iter().map(|view| view.picture()).collect()
    }

    /// How many regions have a peer here.
    #[must_use]
    pub fn region_count(&self) -> usize {
        self.inner.views.len()
    }

    /// Both clocks, now.
    #[must_use]
    pub fn now(&self) -> Now {
        self.inner.clock.now()
    }

    /// Asks every leader here to hand over; poll [`Store::leader_count`] for the end.
    pub fn drain(&self) {
        self.inner.router.broadcast_raft(|| RaftMail::Drain);
    }

    /// Regions that are led here.
    #[must_use]
    pub fn leader_count(&self) -> usize {
        self.inner.views.all().iter().filter(|view| view.is_leader()).count()
    }

    /// Makes all data durable, so that a restart replays nothing. Blocks.
    pub fn flush(&self) -> engine::Result<()> {
        self.inner.kv.flush()
    }
}
