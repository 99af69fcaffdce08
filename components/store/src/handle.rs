//! The store as the rest of the process sees it: every call enqueues and returns.

use std::sync::Arc;

use actor::{Clock, Now};
use engine::{KvEngine, StoreIdent};
use kv::keys;
use raft::MessageBody;
use types::{Entry, KeyRange, Region, RegionId, StoreId};

use crate::{
    Error, codec,
    ledger::{Account, Ledger},
    limits::PROPOSAL_OVERHEAD_BYTES,
    liveness::{LivenessMail, Unreachable},
    message::{
        AdminRequest, Admitted, Proposal, RaftEnvelope, RaftMail, ReadMail, ReadRequest, Responder,
        SnapshotChunk, SnapshotMail, SnapshotMessage, SplitKeys, SplitKeysWish, StoreMessage,
    },
    meta::Meta,
    ports::PlacementClient,
    router::Router,
    size::SizeMail,
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
    pub(crate) ledger: Arc<Ledger>,
}

impl Store {
    /// Who this store is.
    #[must_use]
    pub fn ident(&self) -> StoreIdent {
        self.inner.ident
    }

    /// Proposes writes; each is answered by its responder once it is applied, or refused: at once, where the store has no
    /// room for it.
    pub fn submit(&self, proposals: Vec<Proposal>) {
        let router = &self.inner.router;
        let admitted = proposals.into_iter().filter_map(|proposal| self.admit(proposal)).collect();
        for (at, group) in
            Router::by_worker(router.raft.len(), admitted, |admitted| admitted.proposal.context.region_id)
        {
            router.raft[at].send(RaftMail::Propose(group));
        }
    }

    /// Reserves room for a write before anyone works for it (D12).
    fn admit(&self, proposal: Proposal) -> Option<Admitted> {
        let is_control = proposal.context.region_id == RegionId::PLACEMENT;
        let account = if is_control { Account::Control } else { Account::Proposals };
        let bytes = kv::command::size_bytes(&proposal.request.command) + PROPOSAL_OVERHEAD_BYTES;
        let Some(reservation) = self.inner.ledger.reserve(account, bytes) else {
            metrics::counter!(telemetry::names::PROPOSE_BUSY).increment(1);
            proposal.responder.reply(Err(Error::busy("too many bytes are under way on this store")));
            return None;
        };
        Some(Admitted { proposal, reservation })
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

    /// Looks for keys at which a region with a peer here can be divided evenly. It reads the whole region, a slice at a
    /// time, so the answer may take seconds; it does not hold up anything else.
    pub fn find_split_keys(&self, region_id: RegionId, wish: SplitKeysWish, responder: Responder<SplitKeys>) {
        self.inner.router.sizer.send(SizeMail::Find { region_id, wish, responder });
    }

    /// Takes a batch of messages from another store.
    pub fn receive(&self, from: StoreId, messages: Vec<StoreMessage>) {
        let router = &self.inner.router;
        let mut envelopes = Vec::new();
        for message in messages {
            match message {
                StoreMessage::Raft(envelope) => envelopes.extend(self.take_in(envelope)),
                StoreMessage::Beat(beat) => router.liveness.send(LivenessMail::Beat { from, beat }),
                StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) => self.take_chunk(from, chunk),
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

    /// Reserves room for a part of a snapshot. One for which there is none comes again.
    fn take_chunk(&self, from: StoreId, chunk: SnapshotChunk) {
        match self.inner.ledger.reserve(Account::SnapshotsReceived, chunk.size_bytes()) {
            Some(reservation) => {
                self.inner.router.snapshot.send(SnapshotMail::Chunk(from, chunk, reservation));
            }
            None => metrics::counter!(telemetry::names::SNAPSHOT_CHUNKS_IGNORED).increment(1),
        }
    }

    /// Reserves room for the entries of an append. Those for which there is none are refused, not lost: their leader
    /// repeats what is not acknowledged.
    fn take_in(&self, mut envelope: RaftEnvelope) -> Option<RaftEnvelope> {
        let MessageBody::Append { entries, .. } = &mut envelope.message.body else { return Some(envelope) };
        let ledger = &self.inner.ledger;
        for at in 0..entries.len() {
            let entry = &mut entries[at];
            let Some(payload) = ledger.copy(Account::Received, &entry.payload, Entry::OVERHEAD_BYTES) else {
                metrics::counter!(telemetry::names::RAFT_MESSAGES_REFUSED, "reason" => "busy").increment(1);
                if ledger.ask_relief() {
                    self.inner.router.broadcast_raft(|| RaftMail::Relieve);
                }
                // A leader may just as well have sent fewer.
                entries.truncate(at);
                return (at > 0).then_some(envelope);
            };
            entry.payload = payload;
        }
        Some(envelope)
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

    /// The keys of a region with a peer here, as they were at a version of its epoch; `None` where that is not known here,
    /// any more or yet. It reads the engine.
    #[must_use]
    pub fn range_at(&self, region_id: RegionId, version: u64) -> Option<KeyRange> {
        let row = self.inner.kv.get(&keys::region_state_key(region_id)).ok()??;
        let (region, last_split) = codec::decode_region_row(&row).ok()?;
        if region.epoch.version == version {
            return Some(region.range);
        }
        let past = last_split?.past_ends.into_iter().find(|past| past.version == version)?;
        Some(KeyRange { start_key: region.range.start_key, end_key: past.end_key })
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

    /// What this store has in memory of proposals, entries, snapshots and messages.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// Makes all data durable, so that a restart replays nothing. Blocks.
    pub fn flush(&self) -> engine::Result<()> {
        self.inner.kv.flush()
    }
}
