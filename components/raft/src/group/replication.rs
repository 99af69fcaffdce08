//! What a leader does to make its log everyone's: its own entries, answers from peers, the commit index, and the
//! messages that a Ready takes along.

use bytes::Bytes;
use types::{Entry, EntryKind, Index, Instant, LogPosition, PeerId};

use super::{
    RaftGroup, Refused,
    state::{Leader, Outbox, Retry, RoleState},
};
use crate::{
    LogReader, Message, MessageBody, NotInMemory, OwnOptions, Stamp,
    limits::READ_RETRY,
    log::{Log, Search},
    progress::{Progress, ProgressState, Rejected},
    trace::Event,
};

impl RaftGroup {
    /// Appends an entry of this leader's own making.
    pub(super) fn append_own(&mut self, kind: EntryKind, payload: Bytes) -> LogPosition {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += payload.len() + Entry::OVERHEAD_BYTES;
        }
        let last = self.log.append(self.hard_state.term, kind, payload);
        self.tracer.emit(Event::Appended { first: last.index, last });
        last
    }

    pub(super) fn on_append_accepted(
        &mut self,
        now: Instant,
        from: PeerId,
        match_index: Index,
        stamp: Stamp,
    ) -> Refused {
        if match_index > self.log.last().index {
            return Err("it acknowledges what was never sent");
        }
        let truncated = self.log.truncated().index;
        let Some(progress) = self.heard(now, from, stamp)? else { return Ok(()) };
        if progress.has_forgotten_since(stamp) {
            return Err("the peer has lost since what it acknowledges here");
        }
        if progress.on_accepted(now, match_index, truncated) {
            self.advance_commit(now);
            self.continue_transfer(now);
        }
        self.confirm_reads();
        Ok(())
    }

    pub(super) fn on_append_rejected(
        &mut self,
        now: Instant,
        from: PeerId,
        (prev_index, last_index, hint): (Index, Index, LogPosition),
        stamp: Stamp,
    ) -> Refused {
        let truncated = self.log.truncated().index;
        let Some(progress) = self.heard(now, from, stamp)? else { return Ok(()) };
        match progress.on_rejected(prev_index, last_index, hint, stamp, truncated) {
            Rejected::Stale | Rejected::Probe => {}
            Rejected::Forgotten => self.report_memory_loss(from),
            Rejected::Empty => {
                progress.become_snapshot();
                self.outbox.queues().snapshot_wanted.push(from);
            }
        }
        // A refusal of this term proves the leadership as well as consent does.
        self.confirm_reads();
        Ok(())
    }

    pub(super) fn on_heartbeat_response(
        &mut self,
        now: Instant,
        from: PeerId,
        stamp: Stamp,
        last_index: Index,
    ) -> Refused {
        let interval = self.options.behaviour.heartbeat_interval;
        let Some(progress) = self.heard(now, from, stamp)? else { return Ok(()) };
        if progress.on_heartbeat_answered(now, stamp, last_index, interval) {
            self.report_memory_loss(from);
        }
        self.confirm_reads();
        Ok(())
    }

    /// A peer has shown that it no longer has what it acknowledged (D15). It counts for what it acknowledges anew.
    fn report_memory_loss(&mut self, peer: PeerId) {
        tracing::warn!(peer = %self.options.id, from = %peer, "a peer has lost what it acknowledged");
        self.tracer.emit(Event::MemoryLost(peer));
        self.outbox.queues().memory_lost.push(peer);
    }

    /// Commits what a quorum has made durable, if its last entry is of this term (Raft, 5.4.2: an older entry on a
    /// majority may still be overwritten). The own log counts as far as it is durable, and only where this peer votes.
    pub(super) fn advance_commit(&mut self, now: Instant) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let own = (self.options.id, self.log.persisted());
        let commit = leader.quorum(self.configurations.in_force(), own, |progress| progress.match_index);
        let earlier = self.hard_state.commit;
        if commit < leader.first_index || commit <= earlier {
            return;
        }
        let own_after = earlier.max(leader.first_index.prev());
        let committed_bytes: usize = self.log.in_memory(own_after, commit).map(Entry::size_bytes).sum();
        leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(committed_bytes);
        self.set_commit(commit);
        self.after_commit(now);
    }

    /// Whether a Ready would hold messages about the log.
    pub(super) fn wants_to_send(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let wants = |progress: &Progress| {
            let is_on_disk = progress.search.is_some() || progress.next_index.prev() < self.log.base().index;
            progress.wants_heartbeat
                || (wants_append(&self.options, &self.log, progress)
                    && !(is_on_disk && self.retry.is_waiting()))
                || (progress.search.is_some() && !self.retry.is_waiting())
                || wants_commit(progress, self.hard_state.commit)
        };
        leader.progress.iter().any(wants)
    }

    /// Makes the messages that peers need now, in order of their ids.
    pub(super) fn replicate(&mut self, now: Instant, reader: &mut dyn LogReader) {
        self.begin_read_attempt();
        let offers_sleep = self.offers_sleep();
        let RoleState::Leader(leader) = &mut self.role else { return };
        let stamp = leader.stamp(now);
        let mut sender = Sender {
            options: &self.options,
            term: self.hard_state.term,
            commit: self.hard_state.commit,
            log: &self.log,
            reader,
            outbox: &mut self.outbox,
            stamp,
            offers_sleep,
            now,
        };
        let mut is_waiting = false;
        for progress in &mut leader.progress {
            is_waiting |= sender.send_to(progress).is_err();
        }
        if is_waiting {
            self.retry = Retry::at(now + READ_RETRY);
        }
    }

    /// A peer has answered in this term. `None`: this peer does not lead.
    fn heard(
        &mut self,
        now: Instant,
        from: PeerId,
        stamp: Stamp,
    ) -> Result<Option<&mut Progress>, &'static str> {
        let RoleState::Leader(leader) = &mut self.role else { return Ok(None) };
        if stamp.sent_at > now || stamp.nonce > leader.reads.nonce {
            return Err("it answers a message that was never sent");
        }
        let Leader { progress, .. } = &mut **leader;
        let Ok(at) = progress.binary_search_by_key(&from, |progress| progress.id) else {
            return Err("it is from outside the configuration");
        };
        progress[at].on_heard(now, stamp);
        Ok(progress.get_mut(at))
    }
}

/// Whether there is something to append at this peer, or to be asked with an empty append.
fn wants_append(options: &OwnOptions, log: &Log, progress: &Progress) -> bool {
    let may_append = progress
        .append_bytes_max(options.behaviour.append_bytes_max, options.behaviour.inflight_bytes_max)
        .is_some();
    match progress.state {
        ProgressState::Probe { .. } => may_append,
        ProgressState::Replicate => {
            progress.wants_nudge || (may_append && progress.next_index <= log.last().index)
        }
        ProgressState::Snapshot => false,
    }
}

/// Whether the peer could commit more if it were told so. While appends to it are under way there is more to come,
/// which tells it too: under load no message is spent on the commit index alone.
fn wants_commit(progress: &Progress, commit: Index) -> bool {
    let is_idle = progress.state == ProgressState::Replicate && !progress.has_inflight();
    is_idle && progress.match_index.min(commit) > progress.commit_sent
}

/// Makes one leader's messages.
struct Sender<'a> {
    options: &'a OwnOptions,
    term: types::Term,
    commit: Index,
    log: &'a Log,
    reader: &'a mut dyn LogReader,
    outbox: &'a mut Outbox,
    stamp: Stamp,
    offers_sleep: bool,
    now: Instant,
}

impl Sender<'_> {
    /// Everything that one peer needs now. An error: a part of it waits for the log reader.
    fn send_to(&mut self, progress: &mut Progress) -> Result<(), NotInMemory> {
        let appended = self.send_appends(progress);
        if progress.wants_heartbeat || wants_commit(progress, self.commit) {
            self.send_heartbeat(progress);
        }
        appended
    }

    fn send_appends(&mut self, progress: &mut Progress) -> Result<(), NotInMemory> {
        self.resolve_search(progress)?;
        while wants_append(self.options, self.log, progress) {
            let prev_index = progress.next_index.prev();
            if prev_index < self.log.truncated().index {
                progress.become_snapshot();
                self.outbox.queues().snapshot_wanted.push(progress.id);
                break;
            }
            let prev = self.log.read_position(prev_index, self.reader)?;
            let bytes_max = progress.append_bytes_max(
                self.options.behaviour.append_bytes_max,
                self.options.behaviour.inflight_bytes_max,
            );
            let entries = match bytes_max {
                Some(bytes_max) if progress.next_index <= self.log.last().index => {
                    let (first, last) = (progress.next_index, self.log.last().index);
                    self.log.read_entries(first, last, bytes_max, self.reader)?
                }
                Some(_) | None => Vec::new(),
            };
            let last = entries.last().map_or(prev_index, |entry| entry.index);
            let bytes = entries.iter().map(Entry::size_bytes).sum();
            let body = MessageBody::Append { prev, entries, commit: self.commit, stamp: self.stamp };
            self.push(progress.id, body);
            progress.on_append_sent(self.now, last, bytes, self.commit);
        }
        Ok(())
    }

    /// A heartbeat must not commit more than the peer is known to have.
    fn send_heartbeat(&mut self, progress: &mut Progress) {
        let commit = self.commit.min(progress.match_index);
        let offers_sleep = self.offers_sleep;
        self.push(progress.id, MessageBody::Heartbeat { commit, stamp: self.stamp, offers_sleep });
        progress.on_heartbeat_sent(self.now, commit);
    }

    /// Looks a rejection's hint up in the log: the last position whose term is not above the hint's is where the logs
    /// may meet. By halves, because terms ascend.
    fn resolve_search(&mut self, progress: &mut Progress) -> Result<(), NotInMemory> {
        let Some(search) = &mut progress.search else { return Ok(()) };
        let mut high = search.high.min(self.log.last().index);
        let low = search.low.max(self.log.truncated().index);
        match self.log.search(high, search.term) {
            Search::Found(position) => high = position.index,
            Search::Below(index) => {
                high = index;
                let mut reached = low;
                while reached < high {
                    let middle = Index(high.0 - (high.0 - reached.0) / 2);
                    if self.log.read_position(middle, self.reader)?.term <= search.term {
                        reached = middle;
                    } else {
                        high = middle.prev();
                        search.high = high;
                    }
                }
            }
        }
        // Below `low` the search would only end in what is known to match, or before the log begins: if even the hint
        // lies there, the peer needs a snapshot.
        let is_behind = high < self.log.truncated().index;
        progress.next_index = if is_behind { high.next() } else { high.max(low).next() };
        progress.search = None;
        Ok(())
    }

    fn push(&mut self, to: PeerId, body: MessageBody) {
        self.outbox.queues().messages.push(Message { from: self.options.id, to, term: self.term, body });
    }
}
