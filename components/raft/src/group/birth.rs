//! How a group starts.

use types::{HardState, Instant, Term};

use super::{
    RaftGroup,
    state::{ElectionClock, Follower, Outbox, Persistence, Retry, RoleState},
};
use crate::{
    InitialState, MessageBody, Options, OwnOptions, Role, Stamp, configurations::Configurations, log::Log,
    trace::Tracer,
};

impl RaftGroup {
    /// A peer with what it remembers, as a follower that knows no leader. A peer that is the only voter campaigns at
    /// once.
    ///
    /// `options.seed` must differ from run to run of the same peer: it names forwarded read-index requests, so that
    /// answers to an earlier run's are not taken for answers to this one's.
    #[must_use]
    pub fn new(options: Options, state: InitialState, now: Instant) -> RaftGroup {
        let InitialState { mut hard_state, truncated, last, configurations, applied, vote_not_before } =
            state;
        assert!(applied <= last.index, "more is applied than the log holds");
        assert!(
            options.behaviour.lease < options.behaviour.promise,
            "a lease must end before the promises that it rests on"
        );
        hard_state.commit = hard_state.commit.max(truncated.index).max(applied);
        assert!(hard_state.commit <= last.index, "more is committed than the log holds");
        assert!(hard_state.term >= last.term, "the log holds an entry of a term that was never entered");
        let Options { id, seed, priority, behaviour } = options;
        let options = OwnOptions { id, priority, behaviour };
        let election = ElectionClock::new(&options, seed, hard_state.vote, vote_not_before, now);
        let persistence = Persistence {
            number: 0,
            in_flight: Vec::new(),
            offered: hard_state,
            durable_term: hard_state.term,
            told: (Role::Follower, None),
        };
        let mut group = RaftGroup {
            options,
            hard_state,
            role: RoleState::Follower(Follower::default()),
            log: Log::new(truncated, last),
            configurations: Configurations::new(configurations),
            handed_out: applied.max(truncated.index),
            applied,
            election,
            outbox: Outbox::default(),
            persistence,
            retry: Retry::default(),
            rejected_count: 0,
            chain_mismatch_count: 0,
            forced: None,
            tracer: Tracer::default(),
        };
        if group.configurations.is_only_voter(group.options.id) {
            group.election.deadline = now;
        }
        group
    }

    /// Makes this peer the leader of the term it starts in, without an election: for the first leader that a split
    /// names, only in the run that first applied the split (D5). Every other peer of the new group starts with a durable
    /// vote for it in term 1, as this one does itself, and an uninitialised peer grants no vote in term 1, so nobody
    /// else can win that term.
    pub fn lead_at_birth(&mut self, now: Instant) {
        let HardState { term, vote, .. } = self.hard_state;
        assert_eq!(term, Term::FIRST);
        assert_eq!(vote, Some(self.options.id));
        assert_eq!(self.log.last(), self.log.truncated());
        assert_eq!(self.role(), Role::Follower);
        self.become_leader(now);
    }

    /// Tells the first leader that a split names that this peer has begun: what came from it before that found nobody, and
    /// it would send nothing again before its next heartbeat. It answers no message, so neither lease nor reads rest on it.
    pub fn greet_at_birth(&mut self) {
        let HardState { term, vote, .. } = self.hard_state;
        let Some(leader) = vote.filter(|vote| term == Term::FIRST && *vote != self.options.id) else {
            return;
        };
        let last_index = self.log.last().index;
        self.reply(leader, MessageBody::HeartbeatResponse { stamp: Stamp::default(), last_index });
    }
}
