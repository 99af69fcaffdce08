//! For the model check: a group that has no sense of time, so that states which differ in nothing else are one state.
//!
//! After each input every instant is moved to one of two places, such that no wait hides a behaviour: promises are over,
//! elections are due, leaders have been silent for long; heartbeats and check-quorum are not due until the model says so.
//! What a promise would forbid is explored as the loss of the message that it would refuse.

use types::{Index, Instant, LogPosition};

use super::{RaftGroup, state::RoleState};
use crate::{CampaignReason, InitialState, Options, progress::Progress, random::Random};

/// When everything happens.
pub(crate) const MOMENT: Instant = Instant::from_millis(10_000);

impl RaftGroup {
    /// A group for the model; it promises as little as is possible.
    pub(crate) fn timeless(mut options: Options, state: InitialState) -> RaftGroup {
        options.behaviour_mut().promise = std::time::Duration::from_nanos(1);
        options.behaviour_mut().lease = std::time::Duration::ZERO;
        let mut group = RaftGroup::new(options, state, MOMENT);
        group.forget_time();
        group
    }

    /// Moves every instant, forgets what was counted, and numbers the Readies under way from 1.
    pub(crate) fn forget_time(&mut self) {
        self.rejected_count = 0;
        self.election.deadline = MOMENT;
        self.election.promise_until = Instant::ZERO;
        self.election.vote_not_before = Instant::ZERO;
        self.election.failed_rounds = 0;
        self.election.random = Random::new(0);
        for (at, ready) in self.persistence.in_flight.iter_mut().enumerate() {
            ready.number = at as u64 + 1;
            ready.offered_at = MOMENT;
        }
        self.persistence.number = self.persistence.in_flight.len() as u64;
        match &mut self.role {
            RoleState::Follower(follower) => follower.heard_at = Instant::ZERO,
            RoleState::PreCandidate(ballot) | RoleState::Candidate(ballot) => ballot.sort(),
            RoleState::Leader(leader) => {
                leader.quorum_grace_until = Instant::ZERO;
                leader.reads.shrink();
                leader.progress.iter_mut().for_each(Progress::forget_time);
            }
        }
    }

    /// An election as if its pre-vote had been won: a pre-vote only ever delays one.
    pub(crate) fn elect_without_asking(&mut self) {
        if self.may_campaign() {
            self.start_election(MOMENT, CampaignReason::Silence);
        }
    }

    /// Whether this peer may start elections.
    pub(crate) fn is_eligible(&self) -> bool {
        self.may_campaign()
    }

    /// The number of the oldest Ready that is not persisted.
    pub(crate) fn oldest_ready(&self) -> Option<u64> {
        self.persistence.in_flight.first().map(|ready| ready.number)
    }

    /// The position at `index`, if it is above what the disk alone knows.
    pub(crate) fn position_in_memory(&self, index: Index) -> Option<LogPosition> {
        self.log.position(index)
    }
}
