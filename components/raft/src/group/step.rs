//! The entrance for messages: what each says by its term alone, and who handles it.

use types::{Instant, PeerId, Term};

use super::{RaftGroup, Refused, state::RoleState};
use crate::{Message, MessageBody, limits::TERM_MAX, trace::Event};

impl RaftGroup {
    /// Takes a message from another peer, or a snapshot from the local store. Never fails on what it says: what cannot
    /// be right is refused and counted.
    pub fn step(&mut self, now: Instant, message: Message) {
        let from = message.from;
        self.tracer.emit(Event::Received(&message));
        if let Err(reason) = self.accept(now, message) {
            self.rejected_count = self.rejected_count.saturating_add(1);
            self.tracer.emit(Event::Refused { from, reason });
            tracing::debug!(peer = %self.options.id, %from, reason, "message refused");
        }
    }

    fn accept(&mut self, now: Instant, message: Message) -> Refused {
        if message.to != self.options.id {
            return Err("it is for another peer");
        }
        if message.from == self.options.id || message.from == PeerId(0) {
            return Err("it is from nobody else");
        }
        if message.term >= Term(TERM_MAX) {
            return Err("no term is that high");
        }
        self.rouse_for(now, &message);
        self.check_fence(now, message.from);
        if message.term < self.hard_state.term {
            return self.on_earlier_term(message);
        }
        if message.term > self.hard_state.term && !self.on_later_term(now, &message) {
            return Ok(());
        }
        self.dispatch(now, message)
    }

    /// The sender is behind. Whoever might take itself for a leader or candidate is told so; the rest is too old to
    /// matter.
    fn on_earlier_term(&mut self, message: Message) -> Refused {
        match message.body {
            MessageBody::Append { stamp, .. } | MessageBody::Heartbeat { stamp, .. } => {
                let last_index = self.log.last().index;
                self.reply(message.from, MessageBody::HeartbeatResponse { stamp, last_index });
            }
            MessageBody::VoteRequest { is_pre_vote, .. } => {
                self.reply(message.from, MessageBody::VoteResponse { is_pre_vote, is_granted: false });
            }
            // What a snapshot holds is committed, whoever sent it and when.
            MessageBody::Snapshot { meta } => return self.on_snapshot(message.from, meta),
            MessageBody::AppendAccepted { .. }
            | MessageBody::AppendRejected { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexRequest { .. }
            | MessageBody::ReadIndexResponse { .. } => {}
        }
        Ok(())
    }

    /// The sender is ahead. Returns whether the message is still of interest.
    fn on_later_term(&mut self, now: Instant, message: &Message) -> bool {
        match &message.body {
            // A pre-vote changes nothing on either side: neither request nor answer is a reason to move on, but for a
            // pre-candidate, which could not win in its term.
            MessageBody::VoteRequest { is_pre_vote: true, .. } => true,
            MessageBody::VoteResponse { is_pre_vote: true, is_granted } => {
                if !is_granted && matches!(self.role, RoleState::PreCandidate(_)) {
                    self.become_follower(now, message.term, None);
                }
                *is_granted
            }
            // A vote that a promise forbids must not even raise the term: it would depose the leader whose lease rests
            // on the promise.
            MessageBody::VoteRequest { is_forced, .. } => {
                let may_vote = *is_forced || !self.has_promised(now);
                if may_vote {
                    self.become_follower(now, message.term, None);
                }
                may_vote
            }
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } | MessageBody::Snapshot { .. } => {
                self.become_follower(now, message.term, Some(message.from));
                true
            }
            MessageBody::AppendAccepted { .. }
            | MessageBody::AppendRejected { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexRequest { .. }
            | MessageBody::ReadIndexResponse { .. } => {
                self.become_follower(now, message.term, None);
                true
            }
        }
    }

    fn dispatch(&mut self, now: Instant, message: Message) -> Refused {
        let Message { from, term, body, .. } = message;
        match body {
            MessageBody::Append { prev, entries, commit, stamp } => {
                self.recognise(now, from)?;
                self.on_append(from, prev, entries, commit, stamp)
            }
            MessageBody::Heartbeat { commit, stamp, .. } => {
                self.recognise(now, from)?;
                self.on_heartbeat(from, commit, stamp);
                Ok(())
            }
            MessageBody::Snapshot { meta } => {
                self.recognise(now, from)?;
                self.on_snapshot(from, meta)
            }
            MessageBody::AppendAccepted { match_index, stamp } => {
                self.on_append_accepted(now, from, match_index, stamp)
            }
            MessageBody::AppendRejected { prev_index, last_index, hint, stamp } => {
                self.on_append_rejected(now, from, (prev_index, last_index, hint), stamp)
            }
            MessageBody::HeartbeatResponse { stamp, last_index } => {
                self.on_heartbeat_response(now, from, stamp, last_index)
            }
            MessageBody::VoteRequest { is_pre_vote: true, last_index, last_term, .. } => {
                self.on_pre_vote_request(now, from, term, (last_term, last_index));
                Ok(())
            }
            MessageBody::VoteRequest { is_pre_vote: false, is_forced, last_index, last_term } => {
                self.on_vote_request(now, from, is_forced, (last_term, last_index));
                Ok(())
            }
            MessageBody::VoteResponse { is_pre_vote, is_granted } => {
                self.on_vote_response(now, from, term, is_pre_vote, is_granted);
                Ok(())
            }
            MessageBody::TimeoutNow => self.on_timeout_now(now, from),
            MessageBody::ReadIndexRequest { id } => self.on_read_index_request(now, from, id),
            MessageBody::ReadIndexResponse { id, index } => self.on_read_index_response(from, id, index),
        }
    }

    /// The sender leads this term: follow it, and keep still for as long as its lease may rest on the answer.
    fn recognise(&mut self, now: Instant, from: PeerId) -> Refused {
        match &mut self.role {
            RoleState::Leader(_) => return Err("two leaders in one term"),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.become_follower(now, self.hard_state.term, Some(from));
            }
            RoleState::Follower(follower) => match follower.leader() {
                Some(leader) if leader != from => return Err("two leaders in one term"),
                Some(_) => {}
                None => {
                    follower.set_leader(Some(from));
                    self.forced = None;
                    self.trace_role();
                }
            },
        }
        if let RoleState::Follower(follower) = &mut self.role {
            follower.heard_at = now;
            follower.is_suspicious = false;
        }
        self.election.on_leader_heard(&self.options, now);
        Ok(())
    }

    /// Answers in the present term.
    pub(super) fn reply(&mut self, to: PeerId, body: MessageBody) {
        self.send(Message { from: self.options.id, to, term: self.hard_state.term, body });
    }

    /// Queues a message that depends on nothing but the term: it leaves at once if that is durable.
    pub(super) fn send(&mut self, message: Message) {
        if message.term > self.persistence.durable_term {
            self.outbox.queues().messages_after_persist.push(message);
        } else {
            self.outbox.queues().messages.push(message);
        }
    }
}
