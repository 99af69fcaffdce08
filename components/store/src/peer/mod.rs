//! One peer: a region's replica on this store, as its raft worker sees it.

mod change;
mod compaction;
mod proposals;
mod reads;
mod ready;
mod removal;
mod report;
mod sleep;
mod split;
mod wish;

use std::{collections::BTreeMap, sync::Arc};

use actor::Now;
use raft::{MessageBody, RaftGroup, Role};
use types::{Index, Instant, KeyRange, Peer as PeerIdentity, PeerId, Region, RegionId, StoreId, Term};

pub(crate) use ready::RoundOutput;
pub(crate) use sleep::{Patience, Rest};

use self::{
    change::PeersChange,
    compaction::LogAge,
    proposals::Proposals,
    reads::WaitingReads,
    report::Reported,
    sleep::Sleep,
    split::{ProposedSplit, RegionEntries},
    wish::PendingWish,
};
use crate::{
    Error, Result,
    lifecycle::PendingSplit,
    message::{
        AdminAction, AdminRequest, AppliedNotice, RaftEnvelope, ReceivedSnapshot, RequestContext,
        SnapshotInstall,
    },
    view::RegionView,
};

/// A peer. Its raft worker owns it; others see its [`RegionView`].
///
/// A store holds tens of thousands of them, most of which sleep (D7): what few peers have at any time is in boxes.
pub(crate) struct Peer {
    pub(crate) region_id: RegionId,
    /// This store's peer, with the role in the last configuration of its log.
    pub(crate) me: PeerIdentity,
    pub(crate) group: RaftGroup,
    pub(crate) view: Arc<RegionView>,
    /// The applied descriptor; `None` before the first snapshot.
    region: Option<Arc<Region>>,
    /// Peers that have shown a log in this run, so that they need not be told how to come into being.
    answered: Vec<PeerId>,
    hearsay: Option<Box<Hearsay>>,
    /// The term of the last applied entry.
    applied_term: Term,
    /// The last index that was written to the log engine.
    written_index: Index,
    log_age: LogAge,
    /// Whether the worker has this peer among those with a log to truncate.
    pub(crate) is_log_noted: bool,
    requests: Option<Box<Requests>>,
    change: Option<Box<PeersChange>>,
    /// A snapshot whose data is here, on its way through Raft.
    received: Option<Box<ReceivedSnapshot>>,
    /// The record of a snapshot that is being made durable, and the Ready that carries it.
    installing: Option<Box<(Index, InstallStage)>>,
    /// A split that the applier waits for.
    pub(crate) splitting: Option<Box<PendingSplit>>,
    /// Entries that change the region itself and are not applied yet, if there are any.
    region_entries: Option<Box<RegionEntries>>,
    /// A split that this peer has proposed.
    proposed_split: Option<Box<ProposedSplit>>,
    /// The name of the last split that was applied.
    last_split: Option<u64>,
    /// Where the region should be divided, for it is too large.
    wish: Option<Box<PendingWish>>,
    /// When a change wants a look.
    next_look: Instant,
    /// What placement was told last of this leadership, if anything.
    reported: Option<Box<Reported>>,
    /// When a leader was heard last, or the others were asked whether this peer still belongs to the region.
    contact_at: Instant,
    pub(crate) sleep: Sleep,
    /// The region goes on without this peer, by an applied configuration: it ends as soon as nothing is under way.
    is_removed: bool,
    /// Whether this peer is already in the round's list.
    pub(crate) is_touched: bool,
    /// When the worker's timers have this peer.
    pub(crate) scheduled: Instant,
}

/// What messages have said that the log does not.
#[derive(Default)]
struct Hearsay {
    /// Where senders live that no configuration of the log names (a leader that this log does not know yet).
    contacts: BTreeMap<PeerId, PeerIdentity>,
    /// The keys of the region, as the messages that created this peer named them; for the time without a descriptor.
    range: Option<KeyRange>,
}

/// What clients have asked for. Allocated with the first request; it stays until the peer sleeps.
#[derive(Default)]
struct Requests {
    proposals: Proposals,
    reads: WaitingReads,
}

impl Requests {
    fn has_any(&self) -> bool {
        self.proposals.has_any() || self.reads.has_any()
    }

    fn deadline(&self) -> Instant {
        self.proposals.deadline().min(self.reads.deadline())
    }
}

/// Whether a message shows that its sender has a log. One that has none has nothing durable: a restart of its store ends it,
/// and it has to come into being once more.
fn shows_log(body: &MessageBody) -> bool {
    match body {
        MessageBody::AppendRejected { last_index, .. }
        | MessageBody::HeartbeatResponse { last_index, .. }
        | MessageBody::VoteRequest { last_index, .. } => *last_index > Index(0),
        MessageBody::Append { .. }
        | MessageBody::AppendAccepted { .. }
        | MessageBody::Heartbeat { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ReadIndexResponse { .. } => true,
        MessageBody::VoteResponse { .. }
        | MessageBody::Snapshot { .. }
        | MessageBody::ReadIndexRequest { .. } => false,
    }
}

/// A snapshot on its way from Raft's acceptance into the data.
enum InstallStage {
    /// Its record becomes durable with the Ready of this number.
    Recording(u64, Box<SnapshotInstall>),
    /// The applier has it.
    Applying,
}

/// What a peer is made from.
pub(crate) struct PeerStart {
    pub(crate) region_id: RegionId,
    pub(crate) me: PeerIdentity,
    pub(crate) group: RaftGroup,
    pub(crate) view: Arc<RegionView>,
    pub(crate) region: Option<Arc<Region>>,
    pub(crate) announced_range: Option<KeyRange>,
    pub(crate) applied_term: Term,
    pub(crate) last_split: Option<u64>,
}

impl Peer {
    pub(crate) fn new(now: Instant, start: PeerStart) -> Peer {
        let written_index = start.group.last().index;
        Peer {
            region_id: start.region_id,
            me: start.me,
            group: start.group,
            view: start.view,
            region: start.region,
            answered: Vec::new(),
            hearsay: start
                .announced_range
                .map(|range| Box::new(Hearsay { range: Some(range), ..Hearsay::default() })),
            applied_term: start.applied_term,
            written_index,
            log_age: LogAge::default(),
            is_log_noted: false,
            requests: None,
            change: None,
            received: None,
            installing: None,
            splitting: None,
            region_entries: None,
            proposed_split: None,
            last_split: start.last_split,
            wish: None,
            next_look: Instant::MAX,
            reported: None,
            contact_at: now,
            sleep: Sleep::new(now),
            is_removed: false,
            is_touched: false,
            scheduled: Instant::MAX,
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.group.role() == Role::Leader
    }

    /// Puts this peer into the round's list, once.
    pub(crate) fn touch(&mut self, touched: &mut Vec<RegionId>) {
        if !std::mem::replace(&mut self.is_touched, true) {
            touched.push(self.region_id);
        }
    }

    /// When this peer wants a round even without mail; never while it sleeps.
    pub(crate) fn deadline(&self, patience: Patience) -> Instant {
        let rest = self.sleep_deadline(patience);
        if self.sleep.is_asleep() && self.group.is_asleep() {
            return Instant::MAX;
        }
        let question = if self.is_leader() { Instant::MAX } else { self.question_due() };
        let wish = self.wish.as_ref().map_or(Instant::MAX, |wish| wish.tell_at());
        let requests = self.requests.as_ref().map_or(Instant::MAX, |requests| requests.deadline());
        let soonest = self.group.deadline().min(self.next_look).min(requests);
        soonest.min(question).min(rest).min(wish)
    }

    /// Whatever is due at `now`.
    pub(crate) fn tick(&mut self, now: Now) {
        self.group.tick(now.monotonic);
        if let Some(requests) = &mut self.requests {
            requests.reads.expire(now.monotonic, self.region_id);
            requests.proposals.expire(now.monotonic);
        }
        if now.monotonic >= self.next_look {
            self.next_look = Instant::MAX;
            self.drive_change(now.monotonic);
        }
    }

    /// A message from another store's peer.
    pub(crate) fn on_message(&mut self, now: Instant, envelope: RaftEnvelope) {
        if envelope.to.id != self.me.id {
            tracing::debug!(to = envelope.to.id.0, "message for another peer of this store is dropped");
            // Whoever wants to have another peer here may know that this one was removed.
            self.note_sender(envelope.from);
            self.hasten_question(now);
            return;
        }
        if envelope.message.from != envelope.from.id || envelope.message.to != self.me.id {
            return;
        }
        if !self.has_answered(envelope.from.id) && shows_log(&envelope.message.body) {
            self.answered.push(envelope.from.id);
        }
        if self.find_store(envelope.from.id) != Some(envelope.from.store_id) {
            self.note_sender(envelope.from);
        }
        if let (None, Some(range)) = (&self.region, envelope.range) {
            self.hearsay.get_or_insert_default().range = Some(range);
        }
        if matches!(envelope.message.body, MessageBody::Snapshot { .. }) {
            // Only this store's own snapshot worker may say that a snapshot is here.
            return;
        }
        self.note_contact(now, &envelope.message);
        self.group.step(now, envelope.message);
    }

    /// A snapshot's data is staged on this store.
    pub(crate) fn on_snapshot_received(&mut self, now: Instant, received: Box<ReceivedSnapshot>) {
        let header = &received.header;
        let meta =
            raft::SnapshotMeta { position: header.position, configuration: header.configuration.clone() };
        let message = raft::Message {
            from: header.from.id,
            to: header.to.id,
            term: header.term,
            body: MessageBody::Snapshot { meta },
        };
        let from = header.from;
        self.received = Some(received);
        self.note_sender(from);
        self.group.step(now, message);
    }

    /// The round's end of an apply worker.
    pub(crate) fn on_applied(&mut self, now: Now, notice: AppliedNotice, out: &mut RoundOutput) {
        self.applied_term = notice.position.term;
        self.group.advance(now.monotonic, notice.position.index);
        self.installing.take_if(|installing| installing.0 <= notice.position.index);
        self.on_split_applied(&notice);
        if let Some(region) = notice.region {
            self.tell_removed(&region, out);
            self.is_removed |= self.has_joined() && region.find_peer(self.me.id).is_none();
            self.region = Some(region);
            self.drive_change(now.monotonic);
        }
    }

    /// Checks a client's idea of this region, in the order of [`Error`]'s variants.
    pub(crate) fn check_context(&self, store_id: StoreId, context: &RequestContext) -> Result<()> {
        check_peer(store_id, self.me, context)?;
        if !self.is_leader() && !context.is_replica_read {
            return Err(self.not_leader());
        }
        let Some(region) = &self.region else { return Err(Error::NotInitialized(self.region_id)) };
        check_term_and_epoch(self.group.term(), region, context)
    }

    pub(crate) fn not_leader(&self) -> Error {
        Error::NotLeader { region_id: self.region_id, leader: self.leader_identity() }
    }

    /// The leader with its store, where both are known.
    pub(crate) fn leader_identity(&self) -> Option<PeerIdentity> {
        self.group.leader().and_then(|id| self.find_identity(id))
    }

    /// The store of a peer, by the configurations in the log, else by what senders said.
    pub(crate) fn find_store(&self, id: PeerId) -> Option<StoreId> {
        self.find_identity(id).map(|peer| peer.store_id)
    }

    fn find_identity(&self, id: PeerId) -> Option<PeerIdentity> {
        if id == self.me.id {
            return Some(self.me);
        }
        let configurations = self.group.configurations();
        let mut peers = configurations.iter().rev().flat_map(|(_, change)| &change.peers);
        let heard = || self.hearsay.as_ref().and_then(|hearsay| hearsay.contacts.get(&id));
        peers.find(|peer| peer.id == id).or_else(heard).copied()
    }

    /// No configuration of the log may name whoever has sent something.
    fn note_sender(&mut self, from: PeerIdentity) {
        self.hearsay.get_or_insert_default().contacts.insert(from.id, from);
    }

    /// A peer that falls asleep keeps no room for what may never come (D7), nor what its log knows better.
    fn shrink(&mut self) {
        self.log_age.shrink();
        self.answered.shrink_to_fit();
        // It has no work: all of them are answered.
        self.requests = None;
        let known = self.group.configurations();
        let is_named =
            |id: PeerId| known.iter().any(|(_, change)| change.peers.iter().any(|peer| peer.id == id));
        if let Some(hearsay) = &mut self.hearsay {
            hearsay.range.take_if(|_| self.region.is_some());
            hearsay.contacts.retain(|id, _| !is_named(*id));
        }
        self.hearsay.take_if(|hearsay| hearsay.range.is_none() && hearsay.contacts.is_empty());
    }

    fn has_answered(&self, id: PeerId) -> bool {
        self.answered.contains(&id)
    }

    /// The range to name to a peer that may not exist yet.
    fn range(&self) -> KeyRange {
        match (&self.region, &self.hearsay) {
            (Some(region), _) => region.range.clone(),
            (None, Some(hearsay)) => hearsay.range.clone().unwrap_or_default(),
            (None, None) => KeyRange::default(),
        }
    }

    fn check_leads(&self, store_id: StoreId) -> Result<()> {
        self.check_context(
            store_id,
            &RequestContext { region_id: self.region_id, ..RequestContext::default() },
        )
    }

    /// Whether a snapshot is being put in place.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Whether another snapshot could be taken now: one after the other, and none while a split waits, for the effects of
    /// their records enter the KV engine in the order of the records. What is not taken comes again.
    pub(crate) fn can_take_snapshot(&self) -> bool {
        self.received.is_none() && !self.is_installing() && self.splitting.is_none()
    }

    /// Whether a snapshot is here of which Raft has not said yet whether it is wanted.
    pub(crate) fn has_undecided_snapshot(&self) -> bool {
        self.received.is_some()
    }

    /// A wish of an operator or of placement.
    pub(crate) fn on_admin(&mut self, now: Instant, store_id: StoreId, request: AdminRequest) {
        self.sleep.note_request(now);
        let context =
            RequestContext { region_id: self.region_id, epoch: request.epoch, ..RequestContext::default() };
        if let AdminAction::Split(split) = request.action {
            return match self.check_leads(store_id) {
                Ok(()) => self.propose_split(now, split, request.responder),
                Err(error) => request.responder.reply(Err(error)),
            };
        }
        let is_for_anyone = matches!(request.action, AdminAction::DestroyPeer(_));
        let checked = if is_for_anyone { Ok(()) } else { self.check_context(store_id, &context) };
        let result = checked.and_then(|()| match request.action {
            AdminAction::TransferLeader(to) => {
                self.transfer_leader(now, to).map_err(|error| Error::Refused(error.to_string()))
            }
            AdminAction::SetPeers { peers, change_id } => {
                self.start_change(now, request.epoch, peers, change_id)
            }
            AdminAction::DestroyPeer(region) => self.on_destroy_order(&region),
            AdminAction::Split(_) => Err(Error::Refused("a split has a way of its own".to_owned())),
        });
        request.responder.reply(result);
    }

    /// Hands leadership to the voter that is furthest, if there is one to take it.
    pub(crate) fn hand_over(&mut self, now: Instant, is_suspected: impl Fn(StoreId) -> bool) {
        if !self.is_leader() || self.group.is_transferring() {
            return;
        }
        let status = self.group.status();
        let configuration = self.group.configuration();
        let best = status
            .peers
            .iter()
            .filter(|peer| peer.id != self.me.id && configuration.voters.binary_search(&peer.id).is_ok())
            .filter(|peer| self.find_store(peer.id).is_some_and(|store| !is_suspected(store)))
            .max_by_key(|peer| (peer.match_index, peer.heard_at, peer.id));
        if let Some(peer) = best
            && let Err(error) = self.transfer_leader(now, peer.id)
        {
            tracing::debug!(%error, "leader cannot be handed over yet");
        }
    }

    fn transfer_leader(&mut self, now: Instant, to: PeerId) -> raft::Result<()> {
        self.group.transfer_leader(now, to)?;
        metrics::counter!(telemetry::names::RAFT_TRANSFERS).increment(1);
        Ok(())
    }

    /// The term in which this peer leads with every entry of earlier terms applied, if it does.
    pub(crate) fn settled_term(&self) -> Option<Term> {
        (self.is_leader() && self.applied_term == self.group.term()).then(|| self.group.term())
    }

    pub(crate) fn check_invariants(&self) {
        self.group.check_invariants();
        assert_eq!(self.group.is_asleep(), self.sleep.is_asleep(), "peer and group sleep and wake together");
        if self.sleep.is_asleep() {
            assert!(!self.has_work(), "who sleeps has nothing to do");
        }
        assert!(self.group.applied_index() <= self.group.commit_index(), "applied entries are committed");
        assert!(self.written_index >= self.group.persisted_index(), "what is durable was written");
        if let Some(region) = &self.region {
            assert_eq!(region.id, self.region_id, "a peer keeps its region");
        }
    }
}

/// Why a request finds no peer here: it was meant for another store, or the region is not on this one. The first comes
/// first, for a client whose address of a store is wrong must not take the region for lost.
pub(crate) fn no_peer(store_id: StoreId, context: &RequestContext) -> Error {
    check_store(store_id, context).err().unwrap_or(Error::RegionNotFound(context.region_id))
}

/// The checks that need no role: is it this store, this peer?
pub(crate) fn check_peer(store_id: StoreId, me: PeerIdentity, context: &RequestContext) -> Result<()> {
    check_store(store_id, context)?;
    let Some((requested_peer, _)) = context.peer else { return Ok(()) };
    if requested_peer != me.id {
        return Err(Error::PeerMismatch { requested: requested_peer, actual: me.id });
    }
    Ok(())
}

fn check_store(store_id: StoreId, context: &RequestContext) -> Result<()> {
    match context.peer {
        Some((_, requested)) if requested != store_id => {
            Err(Error::StoreNotMatch { requested, actual: store_id })
        }
        Some(_) | None => Ok(()),
    }
}

/// The checks against an applied descriptor.
pub(crate) fn check_term_and_epoch(term: Term, region: &Arc<Region>, context: &RequestContext) -> Result<()> {
    // A client names the term in which it learned the leader; only a newer one makes that knowledge stale.
    if context.term.is_some_and(|requested| requested < term) {
        return Err(Error::StaleTerm);
    }
    // The configuration may change under a client's feet: only the range decides whether its keys are in the right place.
    if context.epoch.is_some_and(|epoch| epoch.version != region.epoch.version) {
        return Err(Error::EpochNotMatch { current: vec![(**region).clone()] });
    }
    Ok(())
}
