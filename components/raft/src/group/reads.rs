//! Read index: a read is linearizable once everything is applied that was committed when it arrived, if the leader then
//! still led (thesis, 6.4).
//!
//! The leader makes a number for each attempt, a nonce, which its messages carry and the answers bring back. An attempt
//! is confirmed when a quorum has answered messages that were made after it began: the caller's own names for requests
//! prove nothing, they may repeat.

use types::{Index, Instant, PeerId};

use super::{
    RaftGroup, Refused,
    state::{ForwardedRead, LeaderRead, OpenReads, ReadAttempt, RoleState},
};
use crate::{
    MessageBody, ReadState,
    limits::{INDEX_MAX, READ_ATTEMPTS_MAX, READS_MAX},
    trace::Event,
};

impl RaftGroup {
    /// Asks for a read index; the answer comes in [`Ready::reads`](crate::Ready::reads) under the same `id`. A follower
    /// asks its leader; without a leader the answer is "ask again" at once.
    pub fn read_index(&mut self, now: Instant, id: u64) {
        self.rouse(now);
        let expires_at = now + self.options.behaviour.election_timeout;
        match &mut self.role {
            RoleState::Leader(_) => self.queue_read(now, None, id),
            RoleState::Follower(follower) => match follower.leader() {
                Some(leader) if follower.reads_count() < READS_MAX => {
                    let wire_id = self.election.random.next();
                    follower.reads().push_back(ForwardedRead { id, wire_id, expires_at });
                    self.reply(leader, MessageBody::ReadIndexRequest { id: wire_id });
                }
                Some(_) | None => self.outbox.queues().reads.push(ReadState { id, index: None }),
            },
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.outbox.queues().reads.push(ReadState { id, index: None });
            }
        }
    }

    pub(super) fn on_read_index_request(&mut self, now: Instant, from: PeerId, id: u64) -> Refused {
        if !matches!(self.role, RoleState::Leader(_)) {
            self.reply(from, MessageBody::ReadIndexResponse { id, index: None });
            return Ok(());
        }
        let configuration = self.configurations.in_force();
        if !configuration.is_voter(from) && !configuration.is_learner(from) {
            return Err("it is from outside the configuration");
        }
        self.queue_read(now, Some(from), id);
        Ok(())
    }

    pub(super) fn on_read_index_response(&mut self, from: PeerId, id: u64, index: Option<Index>) -> Refused {
        if index.is_some_and(|index| index >= Index(INDEX_MAX)) {
            return Err("no read waits for such an index");
        }
        if let RoleState::Follower(follower) = &mut self.role
            && follower.leader() == Some(from)
            && let Some(read) = follower.take_read(id)
        {
            self.outbox.queues().reads.push(ReadState { id: read.id, index });
        }
        Ok(())
    }

    /// Whether an attempt would begin with the next Ready.
    pub(super) fn wants_read_attempt(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => {
                let may_begin =
                    |open: &OpenReads| open.attempts.len() < READ_ATTEMPTS_MAX && !open.waiting.is_empty();
                leader.reads.peek().is_some_and(may_begin) && self.has_committed_in_term()
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// Begins an attempt with all requests that wait, once an entry of this term is committed: before that, the commit
    /// index may be behind what an earlier leader has told its clients.
    pub(super) fn begin_read_attempt(&mut self) {
        if !self.wants_read_attempt() {
            return;
        }
        let index = self.hard_state.commit;
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.reads.nonce += 1;
        let nonce = leader.reads.nonce;
        let open = leader.reads.open();
        let requests = open.waiting.drain(..).collect();
        open.attempts.push_back(ReadAttempt { nonce, index, requests });
        self.tracer.emit(Event::ReadAttempt { nonce, index });
        let configuration = self.configurations.in_force();
        for progress in leader.progress.iter_mut().filter(|progress| configuration.is_voter(progress.id)) {
            // Besides any append, which is answered only when it is durable.
            progress.wants_heartbeat = true;
        }
        // Who decides alone has decided.
        self.confirm_reads();
    }

    /// Answers the attempts that a quorum has confirmed.
    pub(super) fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.reads.peek().is_none_or(|open| open.attempts.is_empty()) {
            return;
        }
        let own = (self.options.id, leader.reads.nonce);
        let confirmed = leader.quorum(self.configurations.in_force(), own, |progress| progress.stamp.nonce);
        let open = leader.reads.open();
        let count = open.attempts.partition_point(|attempt| attempt.nonce <= confirmed);
        let attempts: Vec<_> = open.attempts.drain(..count).collect();
        for attempt in attempts {
            for request in attempt.requests {
                self.answer_read(request, Some(attempt.index));
            }
        }
    }

    /// Gives up requests that have waited too long: a leader's that no attempt has taken, a follower's without answer.
    pub(super) fn expire_reads(&mut self, now: Instant) {
        loop {
            match &mut self.role {
                RoleState::Leader(leader) => {
                    let open = leader.reads.peek_mut();
                    let is_due = |read: &mut LeaderRead| read.expires_at <= now;
                    let Some(read) = open.and_then(|open| open.waiting.pop_front_if(is_due)) else {
                        break;
                    };
                    self.answer_read(read, None);
                }
                RoleState::Follower(follower) => {
                    let Some(read) = follower.take_expired_read(now) else {
                        break;
                    };
                    self.outbox.queues().reads.push(ReadState { id: read.id, index: None });
                }
                RoleState::PreCandidate(_) | RoleState::Candidate(_) => break,
            }
        }
    }

    /// When the next request is given up.
    pub(super) fn reads_deadline(&self) -> Instant {
        let first = match &self.role {
            RoleState::Leader(leader) => {
                leader.reads.peek().and_then(|open| open.waiting.front()).map(|read| read.expires_at)
            }
            RoleState::Follower(follower) => follower.peek_reads().next().map(|read| read.expires_at),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        first.unwrap_or(Instant::MAX)
    }

    /// The present role ends: nobody will answer its requests. Other peers' are left to their own timeouts.
    pub(super) fn leave_role(&mut self, _now: Instant) {
        let ids: Vec<u64> = match &mut self.role {
            RoleState::Leader(leader) => {
                if self.outbox.peek().is_some() {
                    self.outbox.queues().snapshot_wanted.clear();
                }
                let open = leader.reads.peek();
                let attempts = open.into_iter().flat_map(|open| &open.attempts);
                let in_attempts = attempts.flat_map(|attempt| &attempt.requests);
                let all = in_attempts.chain(open.into_iter().flat_map(|open| &open.waiting));
                all.filter(|read| read.from.is_none()).map(|read| read.id).collect()
            }
            RoleState::Follower(follower) => follower.peek_reads().map(|read| read.id).collect(),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => Vec::new(),
        };
        self.role = RoleState::Follower(super::state::Follower::default());
        for id in ids {
            self.outbox.queues().reads.push(ReadState { id, index: None });
        }
    }

    fn queue_read(&mut self, now: Instant, from: Option<PeerId>, id: u64) {
        let expires_at = now + 2 * self.options.behaviour.election_timeout;
        let read = LeaderRead { from, id, expires_at };
        match &mut self.role {
            RoleState::Leader(leader) if leader.reads.count() < READS_MAX => {
                leader.reads.open().waiting.push_back(read)
            }
            RoleState::Leader(_)
            | RoleState::Follower(_)
            | RoleState::PreCandidate(_)
            | RoleState::Candidate(_) => self.answer_read(read, None),
        }
    }

    fn answer_read(&mut self, read: LeaderRead, index: Option<Index>) {
        match read.from {
            Some(peer) => self.reply(peer, MessageBody::ReadIndexResponse { id: read.id, index }),
            None => self.outbox.queues().reads.push(ReadState { id: read.id, index }),
        }
    }
}
