//! What must hold between any two inputs.

use super::{RaftGroup, state::RoleState};

impl RaftGroup {
    /// Panics if the state contradicts itself. Costs a pass over the entries in memory.
    pub fn check_invariants(&self) {
        self.log.check();
        let commit = self.hard_state.commit;
        assert!(self.applied <= self.handed_out.max(self.log.truncated().index));
        assert!(self.handed_out <= commit);
        assert!(commit <= self.log.last().index);
        assert!(commit >= self.log.truncated().index);
        assert!(self.log.last().term <= self.hard_state.term);
        assert!(self.configurations.index() <= self.log.last().index);
        assert_eq!(self.configurations.history().is_empty(), self.log.is_uninitialised());
        if let Some((index, _)) = self.configurations.history().get(1) {
            assert!(
                *index > self.log.truncated().index,
                "one configuration is in force at the truncation point"
            );
        }
        assert!(self.persistence.in_flight.iter().is_sorted_by(|left, right| left.number < right.number));
        assert!(self.persistence.durable_term <= self.hard_state.term);
        match &self.role {
            RoleState::Follower(_) => {}
            RoleState::PreCandidate(_) => assert!(!self.log.is_uninitialised()),
            RoleState::Candidate(_) => assert_eq!(self.hard_state.vote, Some(self.options.id)),
            RoleState::Leader(leader) => {
                assert_eq!(self.hard_state.vote, Some(self.options.id));
                assert!(leader.first_index <= self.log.last().index);
                let expected = self.configurations.in_force().peers();
                let known = leader.progress.iter().map(|progress| progress.id);
                assert!(known.eq(expected.into_iter().filter(|peer| *peer != self.options.id)));
                for progress in &leader.progress {
                    progress.check();
                    assert!(progress.match_index <= self.log.last().index);
                }
            }
        }
    }
}
