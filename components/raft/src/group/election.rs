//! Elections: promises, pre-votes, votes, and how roles change.
//!
//! A campaign has two rounds. The pre-vote asks whether the other would succeed and changes nothing on either side
//! (thesis, 9.6), so that a peer cut off for a while disturbs nobody when it returns. Only a transfer, and a peer that is
//! the only voter, skip it.

use types::{EntryKind, Index, Instant, PeerId, Term};

use super::{
    RaftGroup, Refused,
    state::{Ballot, ElectionClock, Follower, Leader, LeaderReads, RoleState},
};
use crate::{
    CampaignReason, Message, MessageBody, Role, limits::SUSPICION_DELAY_MAX, progress::Progress,
    quorum::VoteResult, trace::Event,
};

impl RaftGroup {
    /// Campaigns at once, or as soon as a promise to a leader ends. The pre-vote comes first, whatever the reason: voters
    /// who believe that a leader lives refuse it.
    pub fn campaign(&mut self, now: Instant, reason: CampaignReason) {
        self.rouse(now);
        if let RoleState::Follower(follower) = &mut self.role
            && reason == CampaignReason::LeaderGone
        {
            follower.is_suspicious = true;
        }
        match self.role() {
            Role::Follower | Role::PreCandidate => self.pre_campaign(now, reason),
            Role::Candidate | Role::Leader => {}
        }
    }

    /// There is evidence that the leader's store is down: asks for votes after a short random wait, not before the
    /// promise to that leader ends, instead of waiting for the election timeout. If the leader is heard in the meantime,
    /// nothing happens.
    pub fn suspect_leader(&mut self, now: Instant) {
        self.rouse(now);
        let RoleState::Follower(follower) = &mut self.role else { return };
        if follower.is_suspicious {
            return;
        }
        follower.is_suspicious = true;
        let earliest = now.max(self.promised_until());
        let handicap = ElectionClock::handicap(&self.options, SUSPICION_DELAY_MAX);
        let deadline = earliest + handicap + self.election.random.below(SUSPICION_DELAY_MAX);
        self.election.deadline = self.election.deadline.min(deadline);
    }

    /// A quorum of this group's stores no longer confirms that they hear this one: a leader stops leading. It stays in
    /// its term, so that nobody else is disturbed.
    pub fn quorum_lost(&mut self, now: Instant) {
        self.rouse(now);
        if matches!(self.role, RoleState::Leader(_)) {
            self.become_follower(now, self.hard_state.term, None);
        }
    }

    /// Whether this peer may not vote now, for others or for itself: a leader's lease may rest on it.
    pub(super) fn has_promised(&self, now: Instant) -> bool {
        // A leader counts itself among those who hold its lease up, for as long as it leads.
        matches!(self.role, RoleState::Leader(_)) || now < self.promised_until()
    }

    /// Until when promises bind, those of an earlier run included: whoever takes this peer's place under the same id must
    /// not vote before.
    #[must_use]
    pub fn promised_until(&self) -> Instant {
        // Who is the only voter has nobody to make promises to, once the leader that made it so has stepped down; that
        // leader does so when it commits that configuration.
        let is_alone = self.configurations.is_only_voter(self.options.id)
            && self.configurations.index() <= self.hard_state.commit;
        if is_alone {
            return self.election.promise_until;
        }
        self.election.promise_until.max(self.election.vote_not_before)
    }

    /// Whether this peer may start elections.
    pub(super) fn may_campaign(&self) -> bool {
        !self.log.is_uninitialised()
            && self.configurations.may_campaign(self.options.id, self.hard_state.commit)
    }

    /// The election clock has run out, or a campaign is asked for.
    pub(super) fn pre_campaign(&mut self, now: Instant, reason: CampaignReason) {
        if !self.may_campaign() {
            self.election.rearm(&self.options, now);
            return;
        }
        let promised_until = self.promised_until();
        if now < promised_until {
            // Not exactly then: the others' promises end at about the same time, and they campaign too.
            self.election.deadline = promised_until + self.election.random.below(SUSPICION_DELAY_MAX);
            return;
        }
        if self.should_force(now) {
            self.start_election(now, CampaignReason::Force);
            return;
        }
        if self.configurations.is_only_voter(self.options.id) {
            self.start_election(now, reason);
            return;
        }
        self.leave_role(now);
        self.role = RoleState::PreCandidate(Ballot::of(self.options.id, reason));
        self.election.rearm_retry(&self.options, now);
        let term = self.hard_state.term.next();
        self.tracer.emit(Event::Campaigned { reason, is_pre_vote: true, term });
        self.trace_role();
        for request in self.vote_requests(term, true, false) {
            // Depends on nothing that must be durable: it only asks.
            self.outbox.queues().messages.push(request);
        }
    }

    /// The real thing: a new term, the own vote, and requests for the others', which leave when the own is durable.
    pub(super) fn start_election(&mut self, now: Instant, reason: CampaignReason) {
        let term = self.hard_state.term.next();
        self.leave_role(now);
        self.tracer.emit(Event::Campaigned { reason, is_pre_vote: false, term });
        self.enter_term(term);
        self.give_vote(self.options.id);
        self.role = RoleState::Candidate(Ballot::of(self.options.id, reason));
        self.trace_role();
        self.election.await_votes(&self.options, now);
        // Only the leader itself can free its voters from their promise.
        let requests = self.vote_requests(term, false, reason == CampaignReason::Transfer);
        self.outbox.queues().messages_after_persist.extend(requests);
    }

    pub(super) fn on_pre_vote_request(
        &mut self,
        now: Instant,
        from: PeerId,
        term: Term,
        candidate_last: (Term, Index),
    ) {
        let is_granted = term > self.hard_state.term
            && !self.knows_live_leader(now)
            && self.would_elect(from, term, candidate_last);
        if is_granted {
            // Who is about to elect another should not campaign against it in the meantime.
            let wait = self.options.behaviour.election_timeout / 8;
            let deadline = now + wait + self.election.random.below(wait);
            if matches!(self.role, RoleState::Follower(_)) {
                self.election.deadline = self.election.deadline.max(deadline);
            }
        }
        let body = MessageBody::VoteResponse { is_pre_vote: true, is_granted };
        let term = if is_granted { term } else { self.hard_state.term };
        self.outbox.queues().messages.push(Message { from: self.options.id, to: from, term, body });
    }

    /// The request is of the present term. (One of a later term has raised it, or was dropped for a promise's sake.)
    pub(super) fn on_vote_request(
        &mut self,
        now: Instant,
        from: PeerId,
        is_forced: bool,
        candidate_last: (Term, Index),
    ) {
        let is_repeated = self.hard_state.vote == Some(from);
        let is_free = self.hard_state.vote.is_none()
            && self.leader().is_none()
            && (is_forced || !self.has_promised(now));
        let is_granted = (is_repeated || is_free)
            && self.is_up_to_date(candidate_last)
            && !self.is_unborn(self.hard_state.term);
        let body = MessageBody::VoteResponse { is_pre_vote: false, is_granted };
        if is_granted {
            if matches!(self.role, RoleState::PreCandidate(_)) {
                self.become_follower(now, self.hard_state.term, None);
            }
            self.give_vote(from);
            self.election.rearm(&self.options, now);
            let term = self.hard_state.term;
            self.outbox.queues().messages_after_persist.push(Message {
                from: self.options.id,
                to: from,
                term,
                body,
            });
        } else {
            self.reply(from, body);
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        now: Instant,
        from: PeerId,
        term: Term,
        is_pre_vote: bool,
        is_granted: bool,
    ) {
        // A pre-vote is granted in the term that would be entered and refused in the voter's own.
        let own_term = self.hard_state.term;
        let is_ours = if is_pre_vote && is_granted { term == own_term.next() } else { term == own_term };
        match (&mut self.role, is_pre_vote) {
            (RoleState::PreCandidate(ballot), true) | (RoleState::Candidate(ballot), false) if is_ours => {
                ballot.record(from, is_granted);
            }
            (
                RoleState::Follower(_)
                | RoleState::PreCandidate(_)
                | RoleState::Candidate(_)
                | RoleState::Leader(_),
                true | false,
            ) => return,
        }
        self.decide_election(now);
    }

    pub(super) fn on_timeout_now(&mut self, now: Instant, from: PeerId) -> Refused {
        match &self.role {
            RoleState::Follower(follower) if follower.leader().is_none_or(|leader| leader == from) => {}
            RoleState::Follower(_)
            | RoleState::PreCandidate(_)
            | RoleState::Candidate(_)
            | RoleState::Leader(_) => return Err("only the leader that is followed may ask for an election"),
        }
        if self.may_campaign() {
            self.start_election(now, CampaignReason::Transfer);
        }
        Ok(())
    }

    /// Becomes a follower in `term`, of `leader` if known.
    pub(super) fn become_follower(&mut self, now: Instant, term: Term, leader: Option<PeerId>) {
        if leader.is_some() {
            self.forced = None;
        }
        let was_follower = matches!(self.role, RoleState::Follower(_));
        if term > self.hard_state.term || self.leader() != leader || !was_follower {
            self.leave_role(now);
            self.role = RoleState::Follower(Follower::of(leader, now));
        }
        if term > self.hard_state.term {
            self.enter_term(term);
        }
        if !was_follower {
            self.election.rearm(&self.options, now);
        }
        self.trace_role();
    }

    /// Leads the present term.
    pub(super) fn become_leader(&mut self, now: Instant) {
        assert_eq!(self.hard_state.vote, Some(self.options.id));
        assert_eq!(self.persistence.durable_term, self.hard_state.term, "a leader's term is durable");
        let next_index = self.log.last().index.next();
        self.leave_role(now);
        self.election.failed_rounds = 0;
        self.role = RoleState::Leader(Box::new(Leader {
            progress: Vec::new(),
            first_index: next_index,
            uncommitted_bytes: 0,
            reads: LeaderReads::default(),
            transfer: None,
            has_given_up_lease: false,
            disk_check_at: Instant::ZERO,
            quorum_grace_until: now,
            offered_sleep: None,
        }));
        self.sync_progress(now, next_index);
        self.trace_role();
        match self.forced.take() {
            Some(forced) => {
                let change = self.forced_configuration(&forced);
                self.append_configuration(now, change);
            }
            None => {
                self.append_own(EntryKind::Empty, bytes::Bytes::new());
            }
        }
    }

    /// Adds and removes progress so that there is one for each other peer of the configuration in force.
    pub(super) fn sync_progress(&mut self, now: Instant, next_index: Index) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let peers = self.configurations.in_force().peers();
        leader.progress.retain(|progress| peers.binary_search(&progress.id).is_ok());
        for peer in peers.into_iter().filter(|peer| *peer != self.options.id) {
            if let Err(at) = leader.progress.binary_search_by_key(&peer, |progress| progress.id) {
                leader.progress.insert(at, Progress::new(peer, next_index, now));
            }
        }
    }

    /// Looks whether the election is decided, after an answer or when the own vote has become durable.
    pub(super) fn decide_election(&mut self, now: Instant) {
        let configuration = self.configurations.in_force();
        let result_of = |ballot: &Ballot| match &self.forced {
            Some(forced) => ballot.result_without(configuration, &forced.lost),
            None => ballot.result(configuration),
        };
        let (result, is_pre_vote, reason) = match &self.role {
            RoleState::PreCandidate(ballot) => (result_of(ballot), true, ballot.reason),
            // The own vote, made together with the term, counts once it is durable; an answer may overtake that.
            RoleState::Candidate(_) if self.persistence.durable_term != self.hard_state.term => return,
            RoleState::Candidate(ballot) => (result_of(ballot), false, ballot.reason),
            RoleState::Follower(_) | RoleState::Leader(_) => return,
        };
        match (result, is_pre_vote) {
            (VoteResult::Won, true) => self.start_election(now, reason),
            (VoteResult::Won, false) => self.become_leader(now),
            (VoteResult::Lost, true | false) => {
                self.become_follower(now, self.hard_state.term, None);
                self.election.rearm_retry(&self.options, now);
            }
            (VoteResult::Open, true | false) => {}
        }
    }

    fn give_vote(&mut self, candidate: PeerId) {
        self.hard_state.vote = Some(candidate);
        self.tracer.emit(Event::Voted { term: self.hard_state.term, candidate });
    }

    /// Tells a listener what this peer is now.
    pub(super) fn trace_role(&self) {
        self.tracer.emit(Event::Role(self.role_change()));
    }

    /// Moves to a later term, in which nobody has this peer's vote.
    fn enter_term(&mut self, term: Term) {
        assert!(term > self.hard_state.term, "a term is never entered again");
        self.hard_state.term = term;
        self.hard_state.vote = None;
        // Acknowledgements of the term that is left may speak of entries that are about to be truncated before they
        // were ever durable. The leader that waits for them is gone.
        self.drop_acknowledgements();
    }

    /// Whether a leader is believed to live, so that asking for another is premature. Suspicion sets the belief aside,
    /// never the promise.
    fn knows_live_leader(&self, now: Instant) -> bool {
        let is_live = match &self.role {
            RoleState::Follower(follower) => {
                follower.leader().is_some()
                    && !follower.is_suspicious
                    && now < follower.heard_at + self.options.behaviour.election_timeout
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
            RoleState::Leader(_) => true,
        };
        is_live || self.has_promised(now)
    }

    /// Whether this peer would vote for `from` in `term`, its log considered.
    fn would_elect(&self, from: PeerId, term: Term, candidate_last: (Term, Index)) -> bool {
        let last = self.log.last();
        // Two pre-candidates with equal logs would elect each other and split the vote: one of them gives way.
        let is_rival = matches!(self.role, RoleState::PreCandidate(_))
            && candidate_last == (last.term, last.index)
            && self.configurations.in_force().is_voter(self.options.id)
            && from < self.options.id;
        self.is_up_to_date(candidate_last) && !self.is_unborn(term) && !is_rival
    }

    /// Raft, 5.4.1, against the log in memory, which includes what is not durable yet: that can only refuse more.
    fn is_up_to_date(&self, candidate_last: (Term, Index)) -> bool {
        let last = self.log.last();
        candidate_last >= (last.term, last.index)
    }

    /// Term 1 of a region belongs to the first leader that its split named (D5); who knows nothing must not vote in it.
    fn is_unborn(&self, term: Term) -> bool {
        self.log.is_uninitialised() && term <= Term::FIRST
    }

    /// Requests to all voters of the configuration in force: the last in the log, committed or not.
    fn vote_requests(&self, term: Term, is_pre_vote: bool, is_forced: bool) -> Vec<Message> {
        let last = self.log.last();
        let configuration = self.configurations.in_force();
        let others = configuration.peers().into_iter().filter(|peer| *peer != self.options.id);
        let body =
            MessageBody::VoteRequest { is_pre_vote, is_forced, last_index: last.index, last_term: last.term };
        others
            .filter(|peer| configuration.is_voter(*peer))
            .map(|to| Message { from: self.options.id, to, term, body: body.clone() })
            .collect()
    }
}
