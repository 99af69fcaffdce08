//! The raft worker: one round handles every region that has mail, and hands one batch to each of the next stages.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use actor::{Now, Worker, give_back};
use kv::keys;
use raft::{Behaviour, InitialState, MessageBody, Options, RaftGroup};
use telemetry::names;
use types::{Index, Instant, LogPosition, Peer as PeerIdentity, PeerId, RegionId, StoreId, Term};

use crate::{
    Config, Error, codec,
    lifecycle::Ending,
    limits::{DRAIN_INTERVAL, LEDGER_PART, LOG_STORE_BYTES_MAX},
    liveness::{LivenessMail, Sleepers},
    log_writer::LogTask,
    message::{Admitted, AppliedNotice, LeadChanges, RaftEnvelope, RaftMail, ReadRequest, ReceivedSnapshot},
    peer::{Patience, Peer, PeerStart, RoundOutput, no_peer},
    shared::Shared,
    view::{RegionView, ViewState},
};

/// The actor that owns the peers of every n-th region.
pub(crate) struct RaftWorker {
    /// Which one this is.
    pub(crate) at: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: BTreeMap<RegionId, Box<Peer>>,
    /// Peers on their way out, whose regions have no other peer here until they are gone.
    pub(crate) endings: BTreeMap<RegionId, Ending>,
    /// Regions of which a split is about to bring a peer into being: nothing else does.
    pub(crate) expected: BTreeSet<RegionId>,
    /// Claims of splits that wait for the end of another peer: parent, child and its peer.
    pub(crate) claims_waiting: Vec<(RegionId, RegionId, PeerId)>,
    /// Peers that want a round at some time; entries that were overtaken are skipped when they come up.
    timers: BTreeSet<(Instant, RegionId)>,
    /// Peers that were awake when the round began: only they had a timer.
    awake_count: u32,
    /// Regions with a log that could be truncated, now or later.
    with_log: BTreeSet<RegionId>,
    /// Regions with something to do in this round.
    touched: Vec<RegionId>,
    pub(crate) out: RoundOutput,
    /// Wall minus monotonic time of recent rounds, for leases (D2): each from when it was first found on.
    wall_leads: VecDeque<(Instant, i64)>,
    pub(crate) sleepers: Sleepers,
    is_disk_full: bool,
    /// What placement is to hear of leaders here.
    pub(crate) lead_changes: LeadChanges,
    /// What placement was last told of its group: who leads it, and in which term if it is led here.
    told_placement: Option<(Option<StoreId>, Option<Term>)>,
    /// When a draining store tries again to hand over.
    next_drain: Option<Instant>,
}

impl Worker for RaftWorker {
    type Mail = RaftMail;

    /// One round: every peer that has mail or is due, one log batch, one hand-over to apply.
    fn round(&mut self, now: Now, mail: &mut Vec<RaftMail>) {
        self.note_wall_lead(now);
        self.awake_count = u32::try_from(self.timers.len()).unwrap_or(u32::MAX);
        // 1. Messages, proposals, completions, timers.
        for mail in mail.drain(..) {
            self.on_mail(now, mail);
        }
        self.fire_timers(now);
        // 2. Ready → messages, log batch, committed entries.
        let touched = std::mem::take(&mut self.touched);
        self.collect(now, &touched);
        self.settle_sleep(now.monotonic);
        // 3. What read workers may know, before anyone outside can know more; timers.
        self.publish(now, &touched);
        // 4. Appends leave before the own fsync (thesis 10.2.1).
        self.out.messages.send(&*self.shared.transport);
        // 5. One batch for all regions; its end comes back as mail.
        self.submit_log();
        // 6. Committed and locally durable entries, in order.
        self.submit_applies();
        // 7. Placement hears of what is led here.
        self.report();
        self.check_invariants(&touched);
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.touched.is_empty() {
            return Some(Instant::ZERO);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.next_drain, self.sleepers.deadline()].into_iter().flatten().min()
    }
}

impl RaftWorker {
    pub(crate) fn new(at: usize, shared: Arc<Shared>, peers: Vec<Peer>) -> RaftWorker {
        let mut worker = RaftWorker {
            at,
            shared,
            peers: BTreeMap::new(),
            endings: BTreeMap::new(),
            expected: BTreeSet::new(),
            claims_waiting: Vec::new(),
            timers: BTreeSet::new(),
            awake_count: 0,
            with_log: BTreeSet::new(),
            touched: Vec::new(),
            out: RoundOutput::default(),
            wall_leads: VecDeque::new(),
            sleepers: Sleepers::default(),
            is_disk_full: false,
            lead_changes: LeadChanges::default(),
            told_placement: None,
            next_drain: None,
        };
        for peer in peers {
            let region_id = peer.region_id;
            worker.peers.insert(region_id, Box::new(peer));
            worker.touch(region_id);
        }
        worker
    }

    fn on_mail(&mut self, now: Now, mail: RaftMail) {
        match mail {
            RaftMail::Propose(admitted) => {
                admitted.into_iter().for_each(|admitted| self.on_proposal(admitted))
            }
            RaftMail::Messages(envelopes) => {
                metrics::counter!(names::RAFT_MESSAGES_RECEIVED).increment(envelopes.len() as u64);
                envelopes.into_iter().for_each(|envelope| self.on_message(now.monotonic, envelope));
            }
            RaftMail::Persisted(persisted) => {
                for (region_id, number) in persisted {
                    self.with_peer(region_id, |peer, out| peer.on_persisted(now.monotonic, number, out));
                }
            }
            RaftMail::Applied(notices) => notices.into_iter().for_each(|notice| self.on_applied(now, notice)),
            RaftMail::ReadIndex(read) => self.on_read(now.monotonic, read),
            RaftMail::Admin(request) => {
                let (region_id, store_id) = (request.region_id, self.shared.ident.store_id);
                match self.peers.get_mut(&region_id) {
                    Some(peer) => peer.on_admin(now.monotonic, store_id, request),
                    None => return request.responder.reply(Err(Error::RegionNotFound(region_id))),
                }
                self.touch(region_id);
            }
            RaftMail::SnapshotReceived(received) => self.on_snapshot_received(now.monotonic, received),
            RaftMail::SnapshotSent { region_id, to, outcome } => {
                self.with_peer(region_id, |peer, _| peer.group.report_snapshot(now.monotonic, to, outcome));
            }
            RaftMail::StoreJudged(store, judgement) => self.on_judged(now.monotonic, store, judgement),
            RaftMail::Pulse(number) => {
                let pulse = LivenessMail::Pulse { worker: self.at, number, rests: self.awake_count == 0 };
                self.shared.router.liveness.send(pulse);
            }
            RaftMail::Sleep(from, message) => self.on_sleep(now.monotonic, from, message),
            RaftMail::ListSleepers(to) => self.list_sleepers(to),
            RaftMail::StoreUnreachable(store) => self.on_unreachable(now.monotonic, store),
            RaftMail::Flushed => self.on_flushed(now.monotonic),
            RaftMail::DiskFull(is_full) => self.is_disk_full = is_full,
            RaftMail::Membership(from, message) => self.on_membership(from, message),
            RaftMail::Recorded(recorded) => {
                recorded.into_iter().for_each(|(region_id, sequence)| self.on_recorded(region_id, sequence));
            }
            RaftMail::SplitReached(draft) => self.on_split_reached(*draft),
            RaftMail::TooLarge { region_id, version, keys } => {
                self.with_peer(region_id, |peer, _| peer.on_too_large(now.monotonic, version, keys));
            }
            RaftMail::Claim { parent, child, peer_id } => self.on_claim(parent, child, peer_id),
            RaftMail::Claimed { parent, child, claim } => self.on_claimed(parent, child, claim),
            RaftMail::Born(birth) => self.on_born(now, *birth),
            RaftMail::Ended { region_id, peer_id } => self.on_ended(region_id, peer_id),
            RaftMail::Relieve => self.relieve(),
            RaftMail::Drain => self.next_drain = Some(now.monotonic),
        }
    }

    fn on_proposal(&mut self, admitted: Admitted) {
        let Admitted { proposal, reservation } = admitted;
        let region_id = proposal.context.region_id;
        let Some(peer) = self.peers.get_mut(&region_id) else {
            let error = no_peer(self.shared.ident.store_id, &proposal.context);
            return proposal.responder.reply(Err(error));
        };
        if let Err(error) = peer.check_context(self.shared.ident.store_id, &proposal.context) {
            return proposal.responder.reply(Err(error));
        }
        if self.is_disk_full {
            return proposal.responder.reply(Err(Error::DiskFull(self.shared.ident.store_id)));
        }
        peer.enqueue(proposal, reservation);
        peer.touch(&mut self.touched);
    }

    fn on_message(&mut self, now: Instant, envelope: RaftEnvelope) {
        let region_id = envelope.region_id;
        if self.is_disk_full
            && matches!(&envelope.message.body, MessageBody::Append { entries, .. } if !entries.is_empty())
        {
            // Refused, not lost: the leader repeats what is not acknowledged.
            metrics::counter!(names::RAFT_MESSAGES_REFUSED, "reason" => "disk_full").increment(1);
            return;
        }
        let Some(peer) = self.peers.get_mut(&region_id) else {
            if self.create_peer(now, &envelope) {
                self.with_peer(region_id, |peer, _| peer.on_message(now, envelope));
            } else {
                metrics::counter!(names::RAFT_MESSAGES_REFUSED, "reason" => "no_peer").increment(1);
            }
            return;
        };
        if self.sleepers.is_premature(peer, &envelope) {
            metrics::counter!(names::RAFT_MESSAGES_REFUSED, "reason" => "asleep").increment(1);
            return;
        }
        peer.on_message(now, envelope);
        peer.touch(&mut self.touched);
    }

    /// A message brings a peer into being that has nothing yet: only a snapshot can start it (D5, D15).
    fn create_peer(&mut self, now: Instant, envelope: &RaftEnvelope) -> bool {
        let Some(range) = &envelope.range else { return false };
        if envelope.to.store_id != self.shared.ident.store_id {
            return false;
        }
        if envelope.region_id != RegionId::PLACEMENT
            && let Some(other) = self.shared.meta.find_overlap(range, envelope.region_id)
        {
            tracing::debug!(
                region = envelope.region_id.0,
                other = other.0,
                "another region's keys are in the way"
            );
            return false;
        }
        if self.is_barred(envelope.region_id, envelope.to.id) {
            tracing::debug!(
                region = envelope.region_id.0,
                peer = envelope.to.id.0,
                "the peer has ended here"
            );
            return false;
        }
        self.add_empty_peer(now, envelope.region_id, envelope.to, range.clone());
        true
    }

    fn add_empty_peer(
        &mut self,
        now: Instant,
        region_id: RegionId,
        me: PeerIdentity,
        range: types::KeyRange,
    ) {
        let options = options(&self.shared, me, region_id);
        let group = RaftGroup::new(options, InitialState::default(), now);
        let view = RegionView::new(ViewState::new(region_id, me));
        self.shared.views.insert(region_id, Arc::clone(&view));
        tracing::info!(region = region_id.0, peer = me.id.0, "peer begins, empty");
        let start = PeerStart {
            region_id,
            me,
            group,
            view,
            region: None,
            announced_range: Some(range),
            applied_term: Term::default(),
            last_split: None,
        };
        self.peers.insert(region_id, Box::new(Peer::new(now, start)));
    }

    fn on_applied(&mut self, now: Now, notice: AppliedNotice) {
        self.with_peer(notice.region_id, |peer, out| peer.on_applied(now, notice, out));
    }

    fn on_read(&mut self, now: Instant, read: ReadRequest) {
        let region_id = read.context.region_id;
        let Some(peer) = self.peers.get_mut(&region_id) else {
            let error = no_peer(self.shared.ident.store_id, &read.context);
            return read.responder.reply(Err(error));
        };
        match peer.check_context(self.shared.ident.store_id, &read.context) {
            Ok(()) => peer.start_read(now, read),
            Err(error) => return read.responder.reply(Err(error)),
        }
        peer.touch(&mut self.touched);
    }

    fn on_snapshot_received(&mut self, now: Instant, received: Box<ReceivedSnapshot>) {
        let header = &received.header;
        let region_id = header.region.id;
        if !self.peers.contains_key(&region_id) && !self.is_barred(region_id, header.to.id) {
            self.add_empty_peer(now, region_id, header.to, header.region.range.clone());
        }
        let is_for_me = self.peers.get(&region_id).is_some_and(|peer| peer.me.id == header.to.id);
        if !is_for_me {
            return self.drop_snapshot(received.files);
        }
        if self.peers.get(&region_id).is_some_and(|peer| !peer.can_take_snapshot()) {
            return self.drop_snapshot(received.files);
        }
        // Two snapshots may have been admitted while neither was there: the second one comes again, later.
        if !self.shared.meta.reserve(&received.header.region) {
            return self.drop_snapshot(received.files);
        }
        self.with_peer(region_id, |peer, _| peer.on_snapshot_received(now, received));
    }

    fn on_unreachable(&mut self, now: Instant, store: StoreId) {
        self.for_each_peer(|peer| {
            // Who sleeps has sent nothing.
            if peer.group.is_asleep() || !peer.is_leader() {
                return false;
            }
            let lost = peer
                .group
                .configuration()
                .peers()
                .into_iter()
                .filter(|id| peer.find_store(*id) == Some(store));
            let lost: Vec<_> = lost.collect();
            lost.iter().for_each(|id| peer.group.report_unreachable(now, *id));
            !lost.is_empty()
        });
    }

    /// One flush frees the logs of all regions; those that have none are not looked at.
    fn on_flushed(&mut self, now: Instant) {
        let with_log = std::mem::take(&mut self.with_log);
        let peers = with_log.iter().filter_map(|region_id| self.peers.get(region_id));
        let may_wait = peers.map(|peer| peer.log_bytes()).sum::<u64>() <= LOG_STORE_BYTES_MAX;
        for region_id in with_log {
            let Some(peer) = self.peers.get_mut(&region_id) else { continue };
            let row = self.shared.kv.get_flushed(&keys::apply_state_key(region_id));
            let Some(row) = self.shared.or_fatal("read the flushed apply state", row) else { return };
            let flushed = row.and_then(|row| codec::decode_apply_state(&row).ok());
            let position = flushed.map_or_else(LogPosition::default, |state| state.position);
            if position.index > Index(0) {
                peer.truncate_log(now, &self.shared, position, may_wait, &mut self.out);
            }
            peer.is_log_noted = peer.has_log();
            if peer.is_log_noted {
                self.with_log.insert(region_id);
            }
        }
    }

    /// Entries that can be read back leave memory, of every region (D12).
    fn relieve(&mut self) {
        self.shared.ledger.on_relief();
        self.peers.values_mut().for_each(|peer| peer.group.release_entries(true));
    }

    fn fire_timers(&mut self, now: Now) {
        while let Some((at, region_id)) = self.timers.first().copied()
            && at <= now.monotonic
        {
            self.timers.pop_first();
            if let Some(peer) = self.peers.get_mut(&region_id)
                && peer.scheduled == at
            {
                peer.scheduled = Instant::MAX;
                peer.tick(now);
                peer.touch(&mut self.touched);
            }
        }
        if self.next_drain.is_some_and(|at| at <= now.monotonic) {
            self.next_drain = Some(now.monotonic + DRAIN_INTERVAL);
            let sleepers = std::mem::take(&mut self.sleepers);
            self.for_each_peer(|peer| {
                peer.hand_over(now.monotonic, |store| sleepers.judge(store).is_suspected);
                peer.is_leader()
            });
            self.sleepers = sleepers;
        }
    }

    /// What the touched peers have to send, write and apply, and whether they sleep or wake. One visit for each: where
    /// thousands are touched, a peer has left the processor's cache until it is visited again.
    fn collect(&mut self, now: Now, touched: &[RegionId]) {
        metrics::counter!(names::RAFT_ROUNDS).increment(1);
        metrics::counter!(names::RAFT_ROUND_REGIONS).increment(touched.len() as u64);
        let patience = self.patience();
        for region_id in touched {
            let Some(peer) = self.peers.get_mut(region_id) else { continue };
            peer.collect_ready(now, &self.shared, &mut self.out);
            if peer.has_log() && !std::mem::replace(&mut peer.is_log_noted, true) {
                self.with_log.insert(*region_id);
            }
            self.sleepers.settle(now.monotonic, self.shared.config.heartbeat_interval, patience, peer);
        }
    }

    /// Makes known what the touched peers are now, gathers what placement is to hear of them, and sets their timers. One
    /// visit for each, as in [`RaftWorker::collect`]; removed peers that have nothing under way end here.
    fn publish(&mut self, now: Now, touched: &[RegionId]) {
        let leads = &self.wall_leads;
        let lead_at = |sent_at: Instant| {
            let at = leads.partition_point(|(at, _)| *at <= sent_at);
            leads.get(at.saturating_sub(1)).map_or(0, |(_, lead)| *lead)
        };
        let patience = self.patience();
        let mut ended = Vec::new();
        for region_id in touched {
            let Some(peer) = self.peers.get_mut(region_id) else { continue };
            peer.is_touched = false;
            peer.publish(now.monotonic, lead_at);
            if peer.can_end() {
                ended.push(*region_id);
                continue;
            }
            peer.report(now.monotonic, &mut self.lead_changes);
            let deadline = peer.deadline(patience);
            // A deadline that has moved away is left where it was: the timer fires once in vain, which costs less than
            // moving it at each message.
            if deadline < peer.scheduled {
                self.timers.remove(&(peer.scheduled, *region_id));
                peer.scheduled = deadline;
                self.timers.insert((deadline, *region_id));
            }
        }
        ended.into_iter().for_each(|region_id| self.begin_end(region_id));
        for region_id in std::mem::take(&mut self.out.unfinished) {
            self.touch(region_id);
        }
    }

    fn submit_log(&mut self) {
        let out = &mut self.out;
        if out.batch.is_empty() && out.persisted.is_empty() && out.recorded.is_empty() {
            assert!(
                out.messages_after_persist.is_empty(),
                "messages wait only for Readies that are persisted"
            );
            return;
        }
        self.shared.router.log_writer.send(LogTask {
            worker: self.at,
            batch: std::mem::take(&mut out.batch),
            is_synced: std::mem::take(&mut out.is_synced),
            persisted: std::mem::take(&mut out.persisted),
            recorded: std::mem::take(&mut out.recorded),
            messages: std::mem::take(&mut out.messages_after_persist),
        });
    }

    fn submit_applies(&mut self) {
        let router = &self.shared.router;
        let mut batches: Vec<Vec<_>> = router.apply.iter().map(|_| Vec::new()).collect();
        let count = self.out.applies.len();
        for (region_id, mail) in self.out.applies.drain(..) {
            batches[router.apply_at(region_id)].push(mail);
        }
        give_back(&mut self.out.applies, count);
        for (mailbox, batch) in router.apply.iter().zip(batches) {
            mailbox.send_all(batch);
        }
        router.snapshot.send_all(self.out.snapshots.drain(..));
    }

    fn report(&mut self) {
        if let Some(peer) = self.peers.get(&RegionId::PLACEMENT) {
            let leader = peer.leader_identity().map(|leader| leader.store_id);
            let led_here = peer.settled_term();
            self.tell_placement_leader(leader, led_here);
        }
        if self.lead_changes != LeadChanges::default() {
            self.shared.placement.report(std::mem::take(&mut self.lead_changes));
        }
    }

    /// Tells placement who leads its group, if that is news.
    pub(crate) fn tell_placement_leader(&mut self, leader: Option<StoreId>, led_here: Option<Term>) {
        let known = (leader, led_here);
        if self.told_placement.replace(known) != Some(known) {
            self.shared.placement.on_placement_leader(leader, led_here);
        }
    }

    /// How long regions stay awake: as configured among a few peers that are awake, and less the more there are. A sleeping
    /// region costs the next request nothing, and one that is awake costs as much with every heartbeat as falling asleep
    /// does.
    fn patience(&self) -> Patience {
        Patience::among(self.awake_count, &self.shared.config)
    }

    fn check_invariants(&self, touched: &[RegionId]) {
        if cfg!(debug_assertions) {
            touched.iter().filter_map(|id| self.peers.get(id)).for_each(|peer| peer.check_invariants());
        }
    }

    fn note_wall_lead(&mut self, now: Now) {
        let monotonic_ms = i64::try_from(now.monotonic.0 / 1_000_000).unwrap_or(i64::MAX);
        let lead = i64::try_from(now.wall.0).unwrap_or(i64::MAX) - monotonic_ms;
        if self.wall_leads.back().is_none_or(|(_, last)| *last != lead) {
            self.wall_leads.push_back((now.monotonic, lead));
        }
        // One reading older than every lease stays in front.
        let horizon = now.monotonic - self.shared.config.election_timeout;
        while self.wall_leads.get(1).is_some_and(|(at, _)| *at < horizon) {
            self.wall_leads.pop_front();
        }
    }

    pub(crate) fn touch(&mut self, region_id: RegionId) {
        if let Some(peer) = self.peers.get_mut(&region_id) {
            peer.touch(&mut self.touched);
        }
    }

    fn with_peer(&mut self, region_id: RegionId, act: impl FnOnce(&mut Peer, &mut RoundOutput)) {
        if let Some(peer) = self.peers.get_mut(&region_id) {
            act(peer, &mut self.out);
            peer.touch(&mut self.touched);
        }
    }

    /// Touches the peers for which `act` says so.
    pub(crate) fn for_each_peer(&mut self, mut act: impl FnMut(&mut Peer) -> bool) {
        for peer in self.peers.values_mut() {
            if act(peer) {
                peer.touch(&mut self.touched);
            }
        }
    }
}

/// How groups behave on a store.
pub(crate) fn behaviour(config: &Config) -> Behaviour {
    let defaults = Behaviour::default();
    // Where memory is small, so are messages: one must fit beside what else is there.
    let part = usize::try_from(config.memory_limit_bytes / LEDGER_PART).unwrap_or(usize::MAX);
    Behaviour {
        election_timeout: config.election_timeout,
        heartbeat_interval: config.heartbeat_interval,
        promise: config.promise(),
        lease: config.lease(),
        append_bytes_max: defaults.append_bytes_max.min(part),
        committed_bytes_max: defaults.committed_bytes_max.min(part),
        ..defaults
    }
}

/// What a peer's group is started with on this store.
pub(crate) fn options(shared: &Shared, me: PeerIdentity, region_id: RegionId) -> Options {
    Options {
        id: me.id,
        seed: seed_of(shared, me, region_id),
        priority: 0,
        behaviour: Arc::clone(&shared.behaviour),
    }
}

/// Differs from peer to peer and from run to run: an answer to a question of an earlier run must not be taken for one to
/// a question of this run, and peers that start together must not campaign together.
fn seed_of(shared: &Shared, me: PeerIdentity, region_id: RegionId) -> u64 {
    let run = [shared.config.seed, shared.ident.store_id.0, shared.ident.incarnation.0, region_id.0, me.id.0];
    let bytes: Vec<u8> = run.iter().flat_map(|number| number.to_be_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
