//! Ready → messages, log writes, committed entries: what one peer adds to its worker's round.

use actor::Now;
use engine::{LifecycleChange, LifecycleRecord, LogBatch, LogWrite, RaftState};
use raft::{LogReader, NotInMemory, Ready, RoleChange};
use types::{Entry, Index, Instant, LogPosition, RegionId};

use super::{InstallStage, Peer};
use crate::{
    ledger::Account,
    limits::{READIES_PER_ROUND_MAX, REREAD_BYTES_MAX},
    message::{ApplyMail, CommittedEntries, RaftEnvelope, SnapshotInstall, SnapshotMail},
    outbox::Outbox,
    shared::Shared,
    view::LeaseView,
};

/// What one round of a raft worker hands on; one of each, however many regions it touched.
#[derive(Default)]
pub(crate) struct RoundOutput {
    /// To be sent at once.
    pub(crate) messages: Outbox,
    /// To be written.
    pub(crate) batch: LogBatch,
    /// Whether something in `batch` must be durable before anyone is told.
    pub(crate) is_synced: bool,
    /// The newest Ready of each region in `batch`.
    pub(crate) persisted: Vec<(RegionId, u64)>,
    /// Lifecycle records in `batch`, with the regions that wait for them.
    pub(crate) recorded: Vec<(RegionId, u64)>,
    /// To be sent once `batch` is durable.
    pub(crate) messages_after_persist: Outbox,
    /// To the apply workers, in order.
    pub(crate) applies: Vec<(RegionId, ApplyMail)>,
    /// To the snapshot worker.
    pub(crate) snapshots: Vec<SnapshotMail>,
    /// Regions of which more is ready than one round takes.
    pub(crate) unfinished: Vec<RegionId>,
}

/// The log of one region, read where the group asks for what it no longer holds in memory.
struct EngineLog<'a> {
    shared: &'a Shared,
    region_id: RegionId,
    failure: Option<engine::Error>,
}

impl LogReader for EngineLog<'_> {
    fn read_entries(
        &mut self,
        first: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory> {
        // Where there is no room the group asks again a little later.
        let ledger = &self.shared.ledger;
        let bytes_max = bytes_max.min(REREAD_BYTES_MAX).min(ledger.room(Account::Reread));
        let mut reservation = ledger.reserve(Account::Reread, bytes_max).ok_or(NotInMemory)?;
        let mut entries = self.read(first, last, bytes_max)?;
        let size_bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        // One entry comes however large it is.
        if !reservation.grow(size_bytes.saturating_sub(bytes_max)) {
            return Err(NotInMemory);
        }
        for entry in &mut entries {
            let part = reservation.split(entry.size_bytes() as u64).ok_or(NotInMemory)?;
            entry.payload = part.hold(std::mem::take(&mut entry.payload));
        }
        Ok(entries)
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        self.read(index, index, usize::MAX).map(|entries| entries[0].position())
    }
}

impl EngineLog<'_> {
    /// At least one entry.
    fn read(&mut self, first: Index, last: Index, bytes_max: usize) -> Result<Vec<Entry>, NotInMemory> {
        match self.shared.log.read_entries(self.region_id, first, last, bytes_max) {
            Ok(entries) if !entries.is_empty() => Ok(entries),
            Ok(_) => Err(NotInMemory),
            Err(error) => {
                self.failure = Some(error);
                Err(NotInMemory)
            }
        }
    }
}

impl Peer {
    /// Adds to `out` everything that this peer has to send, write, apply or ask.
    pub(crate) fn collect_ready(&mut self, now: Now, shared: &Shared, out: &mut RoundOutput) {
        self.propose_waiting(now, &shared.ledger);
        for _ in 0..READIES_PER_ROUND_MAX {
            if !self.group.has_ready() {
                break;
            }
            let mut log = EngineLog { shared, region_id: self.region_id, failure: None };
            let ready = self.group.ready(now.monotonic, &mut log);
            if let Some(failure) = log.failure {
                shared.or_fatal::<()>("read the log", Err(failure));
            }
            self.on_ready(now.monotonic, shared, ready, out);
        }
        if self.group.has_ready() {
            out.unfinished.push(self.region_id);
        }
        self.group.release_entries(shared.ledger.is_tight());
        self.tell_wish(now.monotonic, &*shared.placement);
        self.drop_refused_snapshot(shared, out);
        self.ask_membership(now.monotonic, out);
    }

    fn on_ready(&mut self, now: Instant, shared: &Shared, ready: Ready, out: &mut RoundOutput) {
        if let Some(change) = ready.role_change {
            self.on_role_change(now, change);
        }
        for message in &ready.messages {
            self.send(message, &mut out.messages);
        }
        for message in &ready.messages_after_persist {
            self.send(message, &mut out.messages_after_persist);
        }
        for state in &ready.reads {
            if let Some((index, read)) = self.on_read_state(*state) {
                let read = Box::new(read);
                out.applies
                    .push((self.region_id, ApplyMail::Await { region_id: self.region_id, index, read }));
            }
        }
        for to in &ready.snapshot_wanted {
            if let Some(to) = self.find_identity(*to) {
                let (from, term) = (self.me, self.group.term());
                out.snapshots.push(SnapshotMail::Send { region_id: self.region_id, from, to, term });
            }
        }
        for lost in &ready.memory_lost {
            tracing::error!(
                region = self.region_id.0,
                peer = lost.0,
                "a peer has lost what it acknowledged: replace it under another id"
            );
        }
        let committed =
            if ready.must_persist() { self.persist(now, shared, ready, out) } else { ready.committed };
        self.hand_over_committed(committed, out);
    }

    /// Adds the Ready's durable part to the round's batch; gives back what is committed.
    fn persist(&mut self, now: Instant, shared: &Shared, ready: Ready, out: &mut RoundOutput) -> Vec<Entry> {
        let is_changed = ready.hard_state.is_some() || !ready.entries.is_empty() || ready.snapshot.is_some();
        if is_changed {
            let mut write = LogWrite {
                region_id: self.region_id,
                previous_last_index: self.written_index,
                raft_state: self.needs_state_written(&ready).then(|| self.raft_state()),
                ..LogWrite::default()
            };
            out.is_synced |=
                ready.is_hard_state_urgent || !ready.entries.is_empty() || ready.snapshot.is_some();
            if let Some(meta) = ready.snapshot {
                write.is_cleared = true;
                write.previous_last_index = Index(0);
                self.written_index = meta.position.index;
                self.log_age.on_truncated(Index(u64::MAX));
                if let Some(requests) = &mut self.requests {
                    requests.proposals.give_up_orphans();
                }
                if let Some(install) = self.snapshot_record(shared, &meta) {
                    out.batch.records.push(install.record.clone());
                    let stage = InstallStage::Recording(ready.number, Box::new(install));
                    self.installing = Some(Box::new((meta.position.index, stage)));
                }
            }
            self.note_region_entries(&ready.entries);
            self.log_age.on_written(now, &ready.entries);
            if let Some(last) = ready.entries.last() {
                self.written_index = last.index;
            }
            write.entries = ready.entries;
            out.batch.writes.push(write);
        }
        out.persisted.push((self.region_id, ready.number));
        ready.committed
    }

    /// Whether a start must know more of what this Ready changes than the entries themselves say. Entries that only extend
    /// the log say where it ends, and the commit index is a lower bound that the next state brings up to date. A
    /// configuration besides the one that the log begins with may not be committed as far as the last state says: each
    /// state says it once more until the log is truncated behind it.
    fn needs_state_written(&self, ready: &Ready) -> bool {
        let extends = ready.entries.first().is_some_and(|first| first.index == self.written_index.next());
        ready.is_hard_state_urgent
            || ready.snapshot.is_some()
            || !extends
            || self.group.configurations().len() > 1
    }

    /// The record of the snapshot that Raft has just accepted (D5). Every earlier record of this region is flushed
    /// first: the snapshot empties the log that its replay would need.
    fn snapshot_record(&mut self, shared: &Shared, meta: &raft::SnapshotMeta) -> Option<SnapshotInstall> {
        let received = self.received.take()?;
        assert_eq!(received.header.position, meta.position, "Raft accepts the snapshot that was stepped in");
        shared.or_fatal("flush before a snapshot", shared.kv.flush())?;
        let replaced_range = self.region.as_ref().map(|region| region.range.clone());
        self.view.update(|view| view.installing_to = meta.position.index);
        let record = LifecycleRecord {
            sequence: shared.next_record(),
            cause: None,
            change: LifecycleChange::Snapshot {
                region: received.header.region,
                peer_id: self.me.id,
                position: meta.position,
                configuration: meta.configuration.clone(),
                region_clock: received.header.region_clock,
                files: received.files,
                replaced_range,
                last_split: received.header.last_split,
            },
        };
        Some(SnapshotInstall { record, size: received.size })
    }

    /// A snapshot that Raft did not want (it is behind the log, or from an old term), or of which it could not say so for
    /// want of memory to read the log: its data goes, and Raft must not take it later, without.
    fn drop_refused_snapshot(&mut self, shared: &Shared, out: &mut RoundOutput) {
        if let Some(received) = self.received.take() {
            self.group.forget_parked_snapshots();
            shared.meta.release(self.region_id);
            tracing::debug!(index = received.header.position.index.0, "received snapshot is not needed");
            out.snapshots.push(SnapshotMail::Finished { files: received.files });
        }
    }

    /// A batch is durable.
    pub(crate) fn on_persisted(&mut self, now: Instant, number: u64, out: &mut RoundOutput) {
        self.group.on_persisted(now, number);
        if let Some((_, stage)) = self.installing.as_deref_mut()
            && matches!(stage, InstallStage::Recording(waits_for, _) if *waits_for <= number)
            && let InstallStage::Recording(_, install) = std::mem::replace(stage, InstallStage::Applying)
        {
            out.applies.push((self.region_id, ApplyMail::Install(install)));
        }
    }

    fn hand_over_committed(&mut self, entries: Vec<Entry>, out: &mut RoundOutput) {
        if entries.is_empty() {
            return;
        }
        let proposals = self.take_committed(&entries);
        let committed = CommittedEntries { region_id: self.region_id, entries, proposals };
        out.applies.push((self.region_id, ApplyMail::Commit(committed)));
    }

    fn on_role_change(&mut self, now: Instant, change: RoleChange) {
        let (is_campaign, is_victory) =
            (change.role == raft::Role::Candidate, change.role == raft::Role::Leader);
        metrics::counter!(telemetry::names::RAFT_ELECTIONS).increment(u64::from(is_campaign));
        metrics::counter!(telemetry::names::RAFT_ELECTIONS_WON).increment(u64::from(is_victory));
        // Not louder: a store that starts has thousands of these.
        tracing::debug!(
            region = self.region_id.0,
            peer = self.me.id.0,
            term = change.term.0,
            leader = change.leader.map(|leader| leader.0),
            "role is {:?}",
            change.role
        );
        if change.role != raft::Role::Leader {
            let not_leader = self.not_leader();
            if let Some(requests) = &mut self.requests {
                requests.proposals.on_leadership_lost(now, &not_leader);
            }
            self.drop_change();
            self.drop_proposed_split();
        }
        self.sleep.stay_awake(now);
    }

    fn send(&self, message: &raft::Message, outbox: &mut Outbox) {
        let Some(to) = self.find_identity(message.to) else {
            tracing::debug!(to = message.to.0, "nobody has said where this peer lives");
            return;
        };
        let range = (!self.has_answered(message.to)).then(|| self.range());
        outbox.push_raft(RaftEnvelope {
            region_id: self.region_id,
            from: self.me,
            to,
            range,
            message: message.clone(),
        });
    }

    /// What a start needs to know of this peer's log.
    pub(crate) fn raft_state(&self) -> RaftState {
        RaftState {
            peer_id: self.me.id,
            hard_state: self.group.hard_state(),
            truncated: self.group.truncated(),
            last: self.group.last(),
            configurations: self.group.configurations().to_vec(),
        }
    }

    /// Writes what other threads may know, before anything of this round leaves the store.
    pub(crate) fn publish(&mut self, now: Instant, wall_lead_ms: impl Fn(Instant) -> i64) {
        self.refresh_identity();
        let leader = self.leader_identity();
        let term = self.group.term();
        let commit_index = self.group.commit_index();
        let applied_index = self.group.applied_index();
        let lease = self.group.lease(now).map(|lease| LeaseView {
            term: lease.term,
            until: lease.until,
            wall_lead_ms: wall_lead_ms(lease.sent_at),
        });
        let changes = self.group.configurations().iter().rev().map(|(index, _)| *index);
        let blocked = changes.into_iter().find(|index| *index > applied_index && *index <= commit_index);
        let blocked = blocked.max(self.blocking_region_entry());
        let (me, last, is_asleep) = (self.me, self.group.last(), self.group.is_asleep());
        self.view.update(|view| {
            view.peer = me;
            view.last = last;
            view.is_asleep = is_asleep;
            view.leader = leader;
            view.term = term;
            view.commit_index = commit_index;
            view.lease = lease;
            view.lease_blocked_to = view.lease_blocked_to.max(blocked.unwrap_or(Index(0)));
        });
    }

    /// This peer's role follows the last configuration in its log.
    fn refresh_identity(&mut self) {
        let last = self.group.configurations().last();
        if let Some(me) = last.and_then(|(_, change)| change.peers.iter().find(|peer| peer.id == self.me.id))
        {
            self.me = *me;
        }
    }
}
