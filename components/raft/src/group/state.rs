//! The parts of a group's state, grouped by lifetime.

use std::{collections::VecDeque, num::NonZeroU64, time::Duration};

use types::{Configuration, HardState, Index, Instant, PeerId, Term};

use crate::{
    CampaignReason, Message, OwnOptions, ReadState, Role, SleepContract, SnapshotMeta, Stamp,
    limits::SUSPICION_DELAY_MAX, progress::Progress, quorum, random::Random,
};

/// What a peer currently is, with what it needs for that.
#[derive(Clone, Debug, Hash)]
pub(super) enum RoleState {
    Follower(Follower),
    /// Asks whether an election would succeed; changes nothing that must be durable.
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Box<Leader>),
}

/// A follower's state.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Follower {
    /// The id of whom it follows, which is never zero; `None` while it looks for a leader.
    leader: Option<NonZeroU64>,
    /// When the leader was heard last.
    pub(super) heard_at: Instant,
    /// Whether there is evidence that the leader's store is down.
    pub(super) is_suspicious: bool,
    /// Read-index requests that the leader has been asked to confirm; allocated only while there are some.
    pub(super) reads: Option<Box<ForwardedReads>>,
}

/// Forwarded reads, in the order of asking.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct ForwardedReads {
    queue: VecDeque<ForwardedRead>,
}

/// A read-index request of this peer that its leader shall confirm.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct ForwardedRead {
    /// The caller's name for it.
    pub(super) id: u64,
    /// Its name on the wire, never used twice, not even across restarts: a late answer to an earlier request must not
    /// be taken for the answer to this one.
    pub(super) wire_id: u64,
    /// When it is given up.
    pub(super) expires_at: Instant,
}

/// The answers to a candidate.
#[derive(Clone, Debug, Hash)]
pub(super) struct Ballot {
    /// Who has answered, and what.
    answers: Vec<(PeerId, bool)>,
    /// Why they were asked.
    pub(super) reason: CampaignReason,
}

/// A leader's state.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leader {
    /// One for each other peer of the configuration in force, ascending.
    pub(super) progress: Vec<Progress>,
    /// The index of the first entry of this term.
    pub(super) first_index: Index,
    /// Bytes of this term's entries that are not committed.
    pub(super) uncommitted_bytes: usize,
    pub(super) reads: LeaderReads,
    pub(super) transfer: Option<Transfer>,
    /// Whether TimeoutNow has been sent in this term: from then on another may lead at any moment, so there is no lease
    /// for the rest of the term (D10).
    pub(super) has_given_up_lease: bool,
    /// The own disk is looked at again then, if it hangs and nobody could take over.
    pub(super) disk_check_at: Instant,
    /// Check-quorum waits until then: set when this peer itself was late.
    pub(super) quorum_grace_until: Instant,
    /// What the others have been asked to sleep by.
    pub(super) offered_sleep: Option<SleepContract>,
}

/// A transfer of the leadership under way.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Transfer {
    pub(super) to: PeerId,
    /// When it is given up.
    pub(super) deadline: Instant,
    /// Whether TimeoutNow has been sent to it.
    pub(super) is_sent: bool,
}

/// An attempt to lead without a quorum.
#[derive(Clone, Debug, Hash)]
pub(super) struct Forced {
    /// The peers given up.
    pub(super) lost: Vec<PeerId>,
    /// The operation that asked for it.
    pub(super) change_id: u64,
    /// When it is given up.
    pub(super) until: Instant,
}

/// Read-index requests at the leader.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct LeaderReads {
    /// The number of the newest attempt.
    pub(super) nonce: u64,
    /// Allocated with the first request, and gone when the group sleeps.
    open: Option<Box<OpenReads>>,
}

/// Requests that are not answered.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct OpenReads {
    /// Not in an attempt yet, in the order of arrival.
    pub(super) waiting: VecDeque<LeaderRead>,
    /// Attempts not yet confirmed, in order.
    pub(super) attempts: VecDeque<ReadAttempt>,
}

/// A read-index request.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct LeaderRead {
    /// Who asks; `None`: this peer's own caller.
    pub(super) from: Option<PeerId>,
    pub(super) id: u64,
    /// When it is given up if no attempt has begun.
    pub(super) expires_at: Instant,
}

/// Requests that one round of heartbeats confirms.
#[derive(Clone, Debug, Hash)]
pub(super) struct ReadAttempt {
    pub(super) nonce: u64,
    /// The commit index when the attempt began.
    pub(super) index: Index,
    pub(super) requests: Vec<LeaderRead>,
}

/// When elections may and shall start.
#[derive(Clone, Debug, Hash)]
pub(super) struct ElectionClock {
    /// When a peer that hears no leader campaigns, or a candidate tries again.
    pub(super) deadline: Instant,
    /// No vote and no election before this, except where a transfer forces it (D10).
    pub(super) promise_until: Instant,
    /// The same for promises that an earlier run may have given.
    pub(super) vote_not_before: Instant,
    /// Rounds since a leader was heard, for backing off.
    pub(super) failed_rounds: u32,
    /// Whether the group sleeps: it keeps no deadline (D7).
    pub(super) is_asleep: bool,
    pub(super) random: Random,
}

/// What the next Ready will say, apart from the log. Allocated only while there is something: most groups are idle.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Outbox {
    queues: Option<Box<Queues>>,
}

/// The content of an [`Outbox`].
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Queues {
    pub(super) messages: Vec<Message>,
    pub(super) messages_after_persist: Vec<Message>,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) reads: Vec<ReadState>,
    pub(super) snapshot_wanted: Vec<PeerId>,
    pub(super) memory_lost: Vec<PeerId>,
    /// Messages that wait for a part of the log to be read back.
    pub(super) parked: Vec<Message>,
}

/// What has been handed out and what has come back.
#[derive(Clone, Debug, Hash)]
pub(super) struct Persistence {
    /// The number of the last Ready that had something to persist.
    pub(super) number: u64,
    /// Readies not yet persisted, in order: few.
    pub(super) in_flight: Vec<InFlightReady>,
    /// The hard state in the last Ready that had one.
    pub(super) offered: HardState,
    /// The term that is durable, with the vote in it.
    pub(super) durable_term: Term,
    /// The role that the last Ready told, and whom it follows; the term is that of `offered`.
    pub(super) told: (Role, Option<PeerId>),
}

/// A Ready that is being persisted.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct InFlightReady {
    pub(super) number: u64,
    /// When it was handed out.
    pub(super) offered_at: Instant,
    /// The last entry in it.
    pub(super) last: Option<(Index, Term)>,
    /// The position of the snapshot in it.
    pub(super) snapshot: Option<Index>,
    /// The term that is durable with it.
    pub(super) term: Term,
}

/// When work that waits for the log reader is tried again. Not an `Option`, so that a group stays small.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Retry {
    /// [`Instant::MAX`]: nothing waits.
    at: Instant,
}

impl Default for Retry {
    /// Nothing waits.
    fn default() -> Retry {
        Retry { at: Instant::MAX }
    }
}

impl Retry {
    pub(super) fn at(at: Instant) -> Retry {
        Retry { at }
    }

    pub(super) fn is_waiting(self) -> bool {
        self.at != Instant::MAX
    }

    pub(super) fn is_due(self, now: Instant) -> bool {
        self.at <= now
    }

    /// [`Instant::MAX`] if nothing waits.
    pub(super) fn deadline(self) -> Instant {
        self.at
    }
}

impl Persistence {
    /// An idle group holds no buffer (D7).
    pub(super) fn drop_empty(&mut self) {
        if self.in_flight.is_empty() {
            self.in_flight = Vec::new();
        }
    }
}

impl Follower {
    pub(super) fn of(leader: Option<PeerId>, now: Instant) -> Follower {
        let mut follower = Follower { heard_at: now, ..Follower::default() };
        follower.set_leader(leader);
        follower
    }

    pub(super) fn leader(&self) -> Option<PeerId> {
        self.leader.map(|id| PeerId(id.get()))
    }

    pub(super) fn set_leader(&mut self, leader: Option<PeerId>) {
        self.leader = leader.and_then(|leader| NonZeroU64::new(leader.0));
    }

    /// To add to the forwarded reads.
    pub(super) fn reads(&mut self) -> &mut VecDeque<ForwardedRead> {
        &mut self.reads.get_or_insert_default().queue
    }

    /// The forwarded reads, in the order of asking.
    pub(super) fn peek_reads(&self) -> impl Iterator<Item = &ForwardedRead> {
        self.reads.iter().flat_map(|reads| &reads.queue)
    }

    pub(super) fn reads_count(&self) -> usize {
        self.reads.as_ref().map_or(0, |reads| reads.queue.len())
    }

    pub(super) fn has_reads(&self) -> bool {
        self.reads.is_some()
    }

    /// The read that has this name on the wire.
    pub(super) fn take_read(&mut self, wire_id: u64) -> Option<ForwardedRead> {
        let queue = &mut self.reads.as_mut()?.queue;
        let at = queue.iter().position(|read| read.wire_id == wire_id)?;
        let read = queue.remove(at);
        self.drop_empty();
        read
    }

    /// The oldest read, if it has waited too long.
    pub(super) fn take_expired_read(&mut self, now: Instant) -> Option<ForwardedRead> {
        let read = self.reads.as_mut()?.queue.pop_front_if(|read| read.expires_at <= now);
        self.drop_empty();
        read
    }

    fn drop_empty(&mut self) {
        self.reads.take_if(|reads| reads.queue.is_empty());
    }
}

impl Ballot {
    /// A ballot in which `own` has said yes.
    pub(super) fn of(own: PeerId, reason: CampaignReason) -> Ballot {
        Ballot { answers: vec![(own, true)], reason }
    }

    /// Notes an answer; only the first of a peer counts.
    pub(super) fn record(&mut self, peer: PeerId, is_granted: bool) {
        if self.answer(peer).is_none() {
            self.answers.push((peer, is_granted));
        }
    }

    pub(super) fn result(&self, configuration: &Configuration) -> quorum::VoteResult {
        quorum::vote_result(configuration, |peer| self.answer(peer))
    }

    /// The result if every voter but the lost must say yes.
    pub(super) fn result_without(
        &self,
        configuration: &Configuration,
        lost: &[PeerId],
    ) -> quorum::VoteResult {
        let voters = configuration.voters.iter().chain(&configuration.outgoing);
        let mut is_open = false;
        for survivor in voters.filter(|voter| !lost.contains(voter)) {
            match self.answer(*survivor) {
                Some(true) => {}
                Some(false) => return quorum::VoteResult::Lost,
                None => is_open = true,
            }
        }
        if is_open { quorum::VoteResult::Open } else { quorum::VoteResult::Won }
    }

    /// In the order of ids instead of arrival: for the model check.
    #[cfg(test)]
    pub(super) fn sort(&mut self) {
        self.answers.sort_unstable();
    }

    fn answer(&self, peer: PeerId) -> Option<bool> {
        self.answers.iter().find(|(voter, _)| *voter == peer).map(|(_, is_granted)| *is_granted)
    }
}

impl Leader {
    pub(super) fn find(&mut self, peer: PeerId) -> Option<&mut Progress> {
        let at = self.progress.binary_search_by_key(&peer, |progress| progress.id).ok()?;
        self.progress.get_mut(at)
    }

    /// The highest value that a quorum has reached; `own` is this peer's, which counts only where it votes.
    pub(super) fn quorum<T: Copy + Ord + Default>(
        &self,
        configuration: &Configuration,
        (own_id, own): (PeerId, T),
        value: impl Fn(&Progress) -> T,
    ) -> T {
        quorum::joint(configuration, |peer| self.value_of(peer, (own_id, own), &value))
    }

    /// The same among these voters alone.
    pub(super) fn majority<T: Copy + Ord + Default>(
        &self,
        voters: &[PeerId],
        own: (PeerId, T),
        value: impl Fn(&Progress) -> T,
    ) -> T {
        quorum::majority(voters, |peer| self.value_of(peer, own, &value))
    }

    fn value_of<T: Default>(
        &self,
        peer: PeerId,
        (own_id, own): (PeerId, T),
        value: impl Fn(&Progress) -> T,
    ) -> T {
        if peer == own_id {
            return own;
        }
        let found = self.progress.binary_search_by_key(&peer, |progress| progress.id);
        found.map_or_else(|_| T::default(), |at| value(&self.progress[at]))
    }

    /// The stamp for a message made now.
    pub(super) fn stamp(&self, now: Instant) -> Stamp {
        Stamp { nonce: self.reads.nonce, sent_at: now }
    }
}

impl Outbox {
    /// To add to it, or to take from it.
    pub(super) fn queues(&mut self) -> &mut Queues {
        self.queues.get_or_insert_default()
    }

    /// To look at it, if there is anything.
    pub(super) fn peek(&self) -> Option<&Queues> {
        self.queues.as_deref()
    }

    /// Everything but what is parked.
    pub(super) fn take(&mut self) -> Queues {
        let mut taken = self.queues.take().map_or_else(Queues::default, |queues| *queues);
        if !taken.parked.is_empty() {
            self.queues().parked = std::mem::take(&mut taken.parked);
        }
        taken
    }

    /// What is parked.
    pub(super) fn take_parked(&mut self) -> Vec<Message> {
        self.queues.as_mut().map(|queues| std::mem::take(&mut queues.parked)).unwrap_or_default()
    }
}

impl Queues {
    /// Whether there is something to say at once. What is parked does not count.
    pub(super) fn has_output(&self) -> bool {
        !self.messages.is_empty()
            || !self.messages_after_persist.is_empty()
            || !self.reads.is_empty()
            || !self.snapshot_wanted.is_empty()
            || !self.memory_lost.is_empty()
            || self.snapshot.is_some()
    }
}

impl LeaderReads {
    /// To add to them.
    pub(super) fn open(&mut self) -> &mut OpenReads {
        self.open.get_or_insert_default()
    }

    /// To look at them, or to take from them, if there are any.
    pub(super) fn peek(&self) -> Option<&OpenReads> {
        self.open.as_deref()
    }

    pub(super) fn peek_mut(&mut self) -> Option<&mut OpenReads> {
        self.open.as_deref_mut()
    }

    pub(super) fn count(&self) -> usize {
        self.open.as_ref().map_or(0, |open| {
            open.waiting.len() + open.attempts.iter().map(|attempt| attempt.requests.len()).sum::<usize>()
        })
    }

    /// Gives back room that is empty.
    pub(super) fn shrink(&mut self) {
        self.open.take_if(|open| open.waiting.is_empty() && open.attempts.is_empty());
    }
}

impl ElectionClock {
    /// The clock of a peer that starts and remembers its last `vote`. Who voted for itself has led, or tried to: it asks
    /// first, as soon as it may, and who voted for another gives that one a timeout more. So regions that start together
    /// go back to their leaders with one election each, although their stores have not started at the same moment.
    pub(super) fn new(
        options: &OwnOptions,
        seed: u64,
        vote: Option<PeerId>,
        vote_not_before: Instant,
        now: Instant,
    ) -> ElectionClock {
        let mut clock = ElectionClock {
            deadline: now,
            promise_until: Instant::ZERO,
            vote_not_before,
            failed_rounds: 0,
            is_asleep: false,
            random: Random::new(seed),
        };
        clock.rearm(options, now);
        match vote {
            Some(own) if own == options.id => {
                let soon = now.max(vote_not_before) + clock.random.below(SUSPICION_DELAY_MAX);
                clock.deadline = clock.deadline.min(soon);
            }
            Some(_) => clock.deadline += options.behaviour.election_timeout,
            None => {}
        }
        clock
    }

    /// A whole election timeout from now, and a random part of up to as much again. Lower priority waits longer, by a
    /// tenth of the timeout for each step and one timeout at most: it never blocks an election.
    pub(super) fn rearm(&mut self, options: &OwnOptions, now: Instant) {
        let timeout = options.behaviour.election_timeout;
        let handicap = ElectionClock::handicap(options, timeout);
        let spread = timeout / options.priority.clamp(0, 10).unsigned_abs().saturating_add(1);
        self.deadline = now + timeout + handicap + self.random.below(spread);
    }

    /// What a lower priority waits beyond the others: up to `whole`.
    pub(super) fn handicap(options: &OwnOptions, whole: Duration) -> Duration {
        whole * options.priority.min(0).unsigned_abs().min(10) / 10
    }

    /// The next try after a round that has just begun or failed: soon at first, because a refusal is often only a
    /// promise about to end; then backing off to the ordinary timeout and to twice that: where nobody answers in
    /// time, there are often too many questions.
    pub(super) fn rearm_retry(&mut self, options: &OwnOptions, now: Instant) {
        if self.failed_rounds >= 3 {
            self.rearm(options, now);
            if self.failed_rounds > 3 {
                self.deadline += options.behaviour.election_timeout;
            }
        } else {
            let wait = options.behaviour.election_timeout * (1 << self.failed_rounds) / 8;
            self.deadline = now + wait + self.random.below(wait);
        }
        self.failed_rounds = self.failed_rounds.saturating_add(1);
    }

    /// An election has begun: its votes are given in writing, and late where much is written. Each round that came to
    /// nothing before doubles the patience, up to four times: a candidate that leaves its election loses the votes that
    /// are on their way, and asks for more.
    pub(super) fn await_votes(&mut self, options: &OwnOptions, now: Instant) {
        let wait =
            options.behaviour.election_timeout / 2 * (1 << self.failed_rounds.saturating_sub(1).min(2));
        self.deadline = now + wait + self.random.below(wait);
    }

    /// A leader was heard and is about to be answered.
    pub(super) fn on_leader_heard(&mut self, options: &OwnOptions, now: Instant) {
        self.promise_until = self.promise_until.max(now + options.behaviour.promise);
        self.failed_rounds = 0;
        self.rearm(options, now);
    }
}
