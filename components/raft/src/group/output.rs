//! What a group wants done: the making of a [`Ready`].

use types::{Entry, EntryKind, Index, Instant};

use super::{
    RaftGroup,
    state::{InFlightReady, Queues, Retry, RoleState},
};
use crate::{
    LogReader, Message, Ready, RoleChange, limits::READ_RETRY, progress::ProgressState, trace::Event,
};

impl RaftGroup {
    /// Whether [`RaftGroup::ready`] has something to say.
    ///
    /// Work that waits for the [`LogReader`] does not count until [`RaftGroup::deadline`] (a few milliseconds after the
    /// reader said no) has come and [`RaftGroup::tick`] was called; `ready` itself may be called at any time, and tries
    /// again, for instance when the reader has the entries.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        let has_parked = self.outbox.peek().is_some_and(|queues| !queues.parked.is_empty());
        self.outbox.peek().is_some_and(Queues::has_output)
            || self.log.has_unoffered()
            || self.is_hard_state_urgent()
            || self.has_role_changed()
            || (has_parked && !self.retry.is_waiting())
            || self.has_committed_page()
            || self.wants_read_attempt()
            || self.wants_to_send()
    }

    /// Everything that has to be done because of the inputs since the last call. See [`Ready`] for the order in which.
    pub fn ready(&mut self, now: Instant, log: &mut dyn LogReader) -> Ready {
        self.retry = Retry::default();
        self.resume_parked(now, log);
        self.replicate(now, log);
        let queues = self.outbox.take();
        let mut ready = Ready {
            snapshot: queues.snapshot,
            entries: self.log.take_unoffered(),
            messages: queues.messages,
            reads: queues.reads,
            snapshot_wanted: queues.snapshot_wanted,
            memory_lost: queues.memory_lost,
            ..Ready::default()
        };
        let has_role_changed = self.has_role_changed();
        self.fill_hard_state(&mut ready);
        self.fill_number(now, &mut ready, queues.messages_after_persist);
        self.trace_sent(&ready);
        ready.committed = self.take_committed(now, log);
        if has_role_changed {
            let change = self.role_change();
            self.persistence.told = (change.role, change.leader);
            ready.role_change = Some(change);
        }
        self.drop_entries();
        ready
    }

    /// The hard state goes along if term or vote changed. A commit index alone costs no write: it goes along with
    /// whatever else is written, for after a restart it is only a lower bound.
    fn fill_hard_state(&mut self, ready: &mut Ready) {
        ready.is_hard_state_urgent = self.is_hard_state_urgent();
        let is_lazy = self.hard_state.commit != self.persistence.offered.commit
            && (ready.snapshot.is_some() || !ready.entries.is_empty());
        if ready.is_hard_state_urgent || is_lazy {
            ready.hard_state = Some(self.hard_state);
            self.persistence.offered = self.hard_state;
        }
    }

    /// Numbers the Ready if something must be persisted, or if messages wait for an earlier one that is not yet.
    fn fill_number(&mut self, now: Instant, ready: &mut Ready, mut after: Vec<Message>) {
        let is_written = ready.snapshot.is_some() || !ready.entries.is_empty() || ready.hard_state.is_some();
        if !is_written && self.persistence.in_flight.is_empty() {
            ready.messages.append(&mut after);
            return;
        }
        if !is_written && after.is_empty() {
            return;
        }
        ready.messages_after_persist = after;
        self.persistence.number += 1;
        ready.number = self.persistence.number;
        self.persistence.in_flight.push(InFlightReady {
            number: ready.number,
            offered_at: now,
            last: ready.entries.last().map(|entry| (entry.index, entry.term)),
            snapshot: ready.snapshot.as_ref().map(|meta| meta.position.index),
            term: self.persistence.offered.term,
        });
    }

    fn trace_sent(&self, ready: &Ready) {
        if !self.tracer.is_set() {
            return;
        }
        for message in &ready.messages {
            self.tracer.emit(Event::Sent { message, is_after_persist: false });
        }
        for message in &ready.messages_after_persist {
            self.tracer.emit(Event::Sent { message, is_after_persist: true });
        }
    }

    /// The next page of committed entries. Pages follow one another without waiting for
    /// [`advance`](RaftGroup::advance), except behind a snapshot, which must be applied first.
    fn take_committed(&mut self, now: Instant, log: &mut dyn LogReader) -> Vec<Entry> {
        let Some((first, last)) = self.committed_page() else { return Vec::new() };
        let Ok(entries) = self.log.read_entries(first, last, self.options.behaviour.committed_bytes_max, log)
        else {
            self.retry = Retry::at(now + READ_RETRY);
            return Vec::new();
        };
        if let Some(entry) = entries.last() {
            assert!(entry.index <= last, "the log reader gave more than was asked for");
            self.handed_out = entry.index;
        }
        entries
    }

    /// The first and the last index that may be handed out now.
    fn committed_page(&self) -> Option<(Index, Index)> {
        let last = self.hard_state.commit.min(self.log.persisted()).max(self.applicable_ahead());
        let is_possible = self.handed_out < last && self.applied >= self.log.truncated().index;
        is_possible.then_some((self.handed_out.next(), last))
    }

    /// Up to where entries may be handed out although they are not durable here. A change of the configuration, or of the
    /// region itself, always waits, and what is behind it.
    fn applicable_ahead(&self) -> Index {
        let (persisted, ahead_max) = (self.log.persisted(), self.options.behaviour.apply_ahead_entries_max);
        if ahead_max == 0 || persisted < self.log.truncated().index {
            return Index(0);
        }
        let last = self.hard_state.commit.min(Index(persisted.0.saturating_add(ahead_max)));
        let mut not_durable = self.log.in_memory(persisted, last);
        let change =
            not_durable.find(|entry| matches!(entry.kind, EntryKind::Configuration | EntryKind::Region));
        change.map_or(last, |entry| entry.index.prev())
    }

    fn has_committed_page(&self) -> bool {
        let is_blocked = self.retry.is_waiting() && self.handed_out < self.log.base().index;
        self.committed_page().is_some() && !is_blocked
    }

    /// Forgets entries that are durable and applied, once they have been sent to every peer that keeps up, or at all if
    /// those that wait for a slower one take too much memory: they can be read back.
    fn drop_entries(&mut self) {
        let done = self.applied.min(self.log.persisted());
        let bytes_max = self.options.behaviour.inflight_bytes_max;
        let keep_from = match &self.role {
            RoleState::Leader(leader) if self.log.bytes() <= bytes_max => {
                let keeping_up =
                    leader.progress.iter().filter(|progress| progress.state == ProgressState::Replicate);
                keeping_up.map(|progress| progress.next_index).min().unwrap_or(Index(u64::MAX))
            }
            RoleState::Leader(_)
            | RoleState::Follower(_)
            | RoleState::PreCandidate(_)
            | RoleState::Candidate(_) => Index(u64::MAX),
        };
        self.log.drop_up_to(done.min(keep_from.prev()));
    }

    /// Forgets entries that nobody needs soon; called when nothing else is to be done, so that an idle group keeps none.
    ///
    /// With `is_pressed`, all that can be read back go: what is durable, where this peer leads only as far as it is
    /// committed (what is not counts against its limit by the entries in memory).
    pub fn release_entries(&mut self, is_pressed: bool) {
        if !is_pressed {
            return self.drop_entries();
        }
        let persisted = self.log.persisted();
        self.log.drop_up_to(match self.role {
            RoleState::Leader(_) => persisted.min(self.hard_state.commit),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => persisted,
        });
    }

    fn is_hard_state_urgent(&self) -> bool {
        let offered = self.persistence.offered;
        (self.hard_state.term, self.hard_state.vote) != (offered.term, offered.vote)
    }

    /// Whether role, leader or term are not what the last Ready said.
    fn has_role_changed(&self) -> bool {
        self.persistence.told != (self.role(), self.leader())
            || self.persistence.offered.term != self.hard_state.term
    }

    pub(super) fn role_change(&self) -> RoleChange {
        RoleChange { role: self.role(), term: self.hard_state.term, leader: self.leader() }
    }
}
