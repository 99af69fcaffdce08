//! What a follower does with appends, heartbeats and snapshots.

use types::{ConfigurationChange, Entry, EntryKind, Index, Instant, LogPosition, PeerId, Term};

use super::{RaftGroup, Refused, state::Retry};
use crate::{
    LogReader, Message, MessageBody, SnapshotMeta, Stamp,
    limits::{INDEX_MAX, PARKED_MAX},
    log::Search,
    trace::Event,
};

/// How an append relates to the log.
enum Fit {
    /// It continues the log: its entries from this one on are new, those before it are in the log already.
    NewFrom(usize),
    /// The log has no entry at `prev`, or one of another term.
    Conflict,
    /// Index and term are equal, content is not.
    ChainMismatch,
    /// It cannot be told without reading the log back.
    NotInMemory,
}

impl RaftGroup {
    /// An append of the leader that this peer follows.
    pub(super) fn on_append(
        &mut self,
        from: PeerId,
        prev: LogPosition,
        entries: Vec<Entry>,
        commit: Index,
        stamp: Stamp,
    ) -> Refused {
        check_received(prev, &entries, self.hard_state.term)?;
        let last_sent = entries.last().map_or(prev.index, |entry| entry.index);
        if self.log.is_uninitialised() {
            self.reject_append(from, prev, LogPosition::default(), stamp);
            return Ok(());
        }
        if last_sent <= self.hard_state.commit && prev.index < self.hard_state.commit {
            // Committed here, so equal there (leader completeness): nothing to compare.
            self.accept_append(from, self.hard_state.commit.min(self.log.persisted()), stamp);
            return Ok(());
        }
        match self.fit(prev, &entries)? {
            Fit::NewFrom(start) => {
                self.append_received(entries, start)?;
                // Only what this message has verified may be committed by it.
                self.set_commit(commit.min(last_sent));
                self.accept_append(from, last_sent, stamp);
            }
            Fit::Conflict => match self.conflict_hint(prev) {
                Some(hint) => self.reject_append(from, prev, hint, stamp),
                None => self.park(from, MessageBody::Append { prev, entries, commit, stamp }),
            },
            Fit::ChainMismatch => {
                // No answer: a rejection would make the leader probe below the difference and match there (D15).
                self.chain_mismatch_count = self.chain_mismatch_count.saturating_add(1);
                tracing::warn!(peer = %self.options.id, %from, index = %prev.index, "the logs differ at equal index and term");
            }
            Fit::NotInMemory => self.park(from, MessageBody::Append { prev, entries, commit, stamp }),
        }
        Ok(())
    }

    pub(super) fn on_heartbeat(&mut self, from: PeerId, commit: Index, stamp: Stamp) {
        let last_index = self.log.last().index;
        // The leader has capped it at what this peer has acknowledged in this term; a peer that has less than that has
        // lost it, and its answer tells.
        if commit <= last_index {
            self.set_commit(commit);
        }
        self.reply(from, MessageBody::HeartbeatResponse { stamp, last_index });
    }

    /// A snapshot has arrived at the local store.
    pub(super) fn on_snapshot(&mut self, from: PeerId, meta: SnapshotMeta) -> Refused {
        if matches!(self.role, super::RoleState::Leader(_)) {
            return Err("a leader installs no snapshot");
        }
        let position = meta.position;
        if position.index == Index(0)
            || position.index >= Index(INDEX_MAX)
            || position.term > self.hard_state.term
        {
            return Err("no snapshot has such a position");
        }
        if meta.configuration.0 > position.index || meta.configuration.1.check().is_err() {
            return Err("the snapshot's configuration is not well formed");
        }
        if position.index <= self.hard_state.commit {
            self.accept_snapshot(self.hard_state.commit.min(self.log.persisted()));
            return Ok(());
        }
        match self.log.position(position.index) {
            Some(own) if own.term == position.term => {
                if own.chain != position.chain {
                    self.chain_mismatch_count = self.chain_mismatch_count.saturating_add(1);
                    return Err("the logs differ at equal index and term");
                }
                self.set_commit(position.index);
                self.accept_snapshot(position.index.min(self.log.persisted()));
            }
            // What lies above it in an equal log has been acknowledged, perhaps, and must not be dropped with it.
            None if position.index <= self.log.last().index => {
                self.park(from, MessageBody::Snapshot { meta })
            }
            Some(_) | None => {
                self.install(meta);
                self.accept_snapshot(position.index);
            }
        }
        Ok(())
    }

    /// Of a snapshot of which it could not be decided yet whether it is wanted, the local store has given up the data: it
    /// must come again.
    pub fn forget_parked_snapshots(&mut self) {
        if self.outbox.peek().is_some_and(|queues| !queues.parked.is_empty()) {
            let parked = &mut self.outbox.queues().parked;
            parked.retain(|message| !matches!(message.body, MessageBody::Snapshot { .. }));
        }
    }

    /// Steps again what could not be decided without the disk.
    pub(super) fn resume_parked(&mut self, now: Instant, reader: &mut dyn LogReader) {
        // Nothing below the commit index is asked about, and mostly little above it: there may be no room in memory for
        // all that is not committed yet, and it may be this very append that lets it be committed.
        for is_all in [false, true] {
            let Some(lowest) = self.lowest_parked() else { return };
            let commit = self.hard_state.commit;
            if self.log.load_from(if is_all { commit } else { lowest.max(commit) }, reader).is_err() {
                self.retry = Retry::at(now + crate::limits::READ_RETRY);
                return;
            }
            for message in self.outbox.take_parked() {
                self.step(now, message);
            }
        }
    }

    /// The lowest index in the log that a parked message asks about by itself, if there are any.
    fn lowest_parked(&self) -> Option<Index> {
        let last_index = self.log.last().index;
        let asked = |message: &Message| {
            if let MessageBody::Append { prev, .. } = &message.body {
                prev.index.min(last_index)
            } else {
                self.hard_state.commit
            }
        };
        self.outbox.peek().and_then(|queues| queues.parked.iter().map(asked).min())
    }

    /// Raises the commit index to `commit`, if that is higher.
    pub(super) fn set_commit(&mut self, commit: Index) {
        if commit > self.hard_state.commit {
            assert!(commit <= self.log.last().index, "what is not in the log is not committed");
            self.hard_state.commit = commit;
            self.tracer.emit(Event::Committed(commit));
        }
    }

    fn install(&mut self, meta: SnapshotMeta) {
        let position = meta.position;
        self.log.reset(position, self.hard_state.commit);
        self.hard_state.commit = position.index;
        self.handed_out = position.index;
        self.configurations = crate::configurations::Configurations::new(vec![meta.configuration.clone()]);
        // What was acknowledged above is gone with the log that it spoke of.
        self.drop_acknowledgements();
        self.outbox.queues().snapshot = Some(meta);
        self.tracer.emit(Event::Begins(position));
        self.trace_configuration();
    }

    fn fit(&self, prev: LogPosition, entries: &[Entry]) -> Result<Fit, &'static str> {
        let commit = self.hard_state.commit;
        let last = self.log.last();
        if prev.index > last.index {
            return Ok(Fit::Conflict);
        }
        // What lies below the commit index is equal; the comparison starts there.
        let Some(anchor) = self.log.position(prev.index.max(commit)) else { return Ok(Fit::NotInMemory) };
        let start = usize::try_from(anchor.index.since(prev.index)).map_err(|_| "it is too long")?;
        if start == 0 {
            if anchor.term != prev.term {
                return if prev.index == commit {
                    Err("it contradicts what is committed")
                } else {
                    Ok(Fit::Conflict)
                };
            }
            if anchor.chain != prev.chain {
                return Ok(Fit::ChainMismatch);
            }
        } else if entries.get(start - 1).is_none_or(|entry| entry.term != anchor.term) {
            return Err("it contradicts what is committed");
        }
        let mut chain = anchor.chain;
        for (at, entry) in entries.iter().enumerate().skip(start) {
            if entry.index > last.index {
                return Ok(Fit::NewFrom(at));
            }
            let Some(own) = self.log.position(entry.index) else { return Ok(Fit::NotInMemory) };
            if own.term != entry.term {
                // To truncate here, the position before must be known too.
                let is_in_memory = entry.index > self.log.base().index;
                return Ok(if is_in_memory { Fit::NewFrom(at) } else { Fit::NotInMemory });
            }
            chain = chain.link(entry.index, entry.term, entry.kind, &entry.payload);
            if own.chain != chain {
                return Ok(Fit::ChainMismatch);
            }
        }
        Ok(Fit::NewFrom(entries.len()))
    }

    /// Appends the entries from `start` on, and removes what they replace.
    fn append_received(&mut self, entries: Vec<Entry>, start: usize) -> Refused {
        let new = entries.get(start..).unwrap_or_default();
        let mut changes = Vec::new();
        for entry in new.iter().filter(|entry| entry.kind == EntryKind::Configuration) {
            let change = ConfigurationChange::decode(&entry.payload)
                .map_err(|_| "it holds a malformed configuration")?;
            changes.push((entry.index, change));
        }
        let Some(first) = new.first() else { return Ok(()) };
        if first.index <= self.log.last().index {
            self.log.truncate_from(first.index, self.hard_state.commit);
            self.tracer.emit(Event::Truncated { from: first.index });
            if self.configurations.truncate_from(first.index) {
                self.trace_configuration();
            }
        }
        let first_index = first.index;
        for entry in entries.into_iter().skip(start) {
            self.log.append_received(entry);
        }
        for (index, change) in changes {
            self.configurations.append(index, change);
            self.trace_configuration();
        }
        self.tracer.emit(Event::Appended { first: first_index, last: self.log.last() });
        Ok(())
    }

    /// No index above the hint can match: either the log has none, or its term there is higher than the leader's can
    /// be. `None`: the log must be read back to tell.
    fn conflict_hint(&self, prev: LogPosition) -> Option<LogPosition> {
        let commit = self.hard_state.commit;
        match self.log.search(prev.index.prev(), prev.term) {
            Search::Found(hint) if hint.index >= commit => Some(hint),
            // The committed part matches, so there is no need to look further down.
            Search::Found(_) => self.log.position(commit),
            Search::Below(index) if index <= commit => self.log.position(commit),
            Search::Below(_) => None,
        }
    }

    fn accept_append(&mut self, to: PeerId, match_index: Index, stamp: Stamp) {
        let body = MessageBody::AppendAccepted { match_index, stamp };
        if match_index <= self.log.persisted() {
            self.reply(to, body);
            return;
        }
        // Several acknowledgements that wait for the disk are one.
        if let Some(Message { to: waiting_to, term, body: waiting, .. }) =
            self.outbox.queues().messages_after_persist.last_mut()
            && *waiting_to == to
            && *term == self.hard_state.term
            && let MessageBody::AppendAccepted { match_index: waiting_match, stamp: waiting_stamp } = waiting
        {
            *waiting_match = match_index.max(*waiting_match);
            waiting_stamp.nonce = waiting_stamp.nonce.max(stamp.nonce);
            waiting_stamp.sent_at = waiting_stamp.sent_at.max(stamp.sent_at);
            return;
        }
        let message = Message { from: self.options.id, to, term: self.hard_state.term, body };
        self.outbox.queues().messages_after_persist.push(message);
    }

    fn reject_append(&mut self, to: PeerId, prev: LogPosition, hint: LogPosition, stamp: Stamp) {
        let last_index = self.log.last().index;
        self.reply(to, MessageBody::AppendRejected { prev_index: prev.index, last_index, hint, stamp });
    }

    /// Tells the leader, if there is one, where the log stands after a snapshot.
    fn accept_snapshot(&mut self, match_index: Index) {
        if let Some(leader) = self.leader().filter(|leader| *leader != self.options.id) {
            self.accept_append(leader, match_index, Stamp::default());
        }
    }

    fn park(&mut self, from: PeerId, body: MessageBody) {
        if self.outbox.peek().is_none_or(|queues| queues.parked.len() < PARKED_MAX) {
            let message = Message { from, to: self.options.id, term: self.hard_state.term, body };
            self.outbox.queues().parked.push(message);
        }
    }

    /// Forgets acknowledgements that have not left: they may speak of entries that will never be durable here.
    pub(super) fn drop_acknowledgements(&mut self) {
        if self.outbox.peek().is_some() {
            let waiting = &mut self.outbox.queues().messages_after_persist;
            waiting.retain(|message| !matches!(message.body, MessageBody::AppendAccepted { .. }));
        }
    }
}

/// Whether an append is well formed, whatever the log holds.
fn check_received(prev: LogPosition, entries: &[Entry], term: Term) -> Refused {
    if prev.index >= Index(INDEX_MAX) || prev.term > term {
        return Err("no leader of this term has such a log");
    }
    let mut last = (prev.index, prev.term);
    for entry in entries {
        if entry.index != last.0.next() || entry.term < last.1 || entry.term > term {
            return Err("its entries do not follow one another");
        }
        last = (entry.index, entry.term);
    }
    Ok(())
}
