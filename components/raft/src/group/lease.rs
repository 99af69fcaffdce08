//! The lease: reads without asking anyone, because nobody else can have been elected yet (thesis, 6.4.1).
//!
//! Who answers a message of this leader grants no vote for `promise` from then on. So for `promise` after the moment
//! when a quorum's answered messages were *made*, no quorum can vote for another. The lease is shorter than the promise
//! by more than clocks can drift apart in that time.

use types::Instant;

use super::{RaftGroup, state::RoleState};
use crate::Lease;

impl RaftGroup {
    /// The lease, if this peer leads, has committed an entry of its term, has not sent TimeoutNow in it, and a quorum
    /// has answered recently enough.
    #[must_use]
    pub fn lease(&self, now: Instant) -> Option<Lease> {
        let RoleState::Leader(leader) = &self.role else { return None };
        if self.election.is_asleep || leader.has_given_up_lease || !self.has_committed_in_term() {
            return None;
        }
        let own = (self.options.id, now);
        let sent_at = leader.quorum(self.configurations.in_force(), own, |progress| progress.stamp.sent_at);
        let until = sent_at + self.options.behaviour.lease;
        // Zero is the stamp of who has never answered.
        let is_valid = sent_at > Instant::ZERO && now < until;
        is_valid.then_some(Lease { term: self.hard_state.term, sent_at, until })
    }
}
