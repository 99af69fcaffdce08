//! Changes of the configuration (thesis, chapter 4).
//!
//! Whatever touches voters goes through a joint configuration; learners come and go in one step. A change begins only
//! when the leader has committed an entry of its own term (without that rule two leaders can build on different
//! configurations: checklist 1B-Q5) and the change before it is committed. C_new is appended by the leader alone, as soon
//! as an entry of its own term is committed by both halves.

use types::{ConfigurationChange, EntryKind, Index, Instant, PeerId};

use super::{RaftGroup, state::RoleState};
use crate::{Error, Result, Role, confchange::Changer, progress::Progress, trace::Event};

impl RaftGroup {
    /// Appends a configuration, which is in force at once. From a configuration that is not joint, voters change only by
    /// a joint one whose outgoing half is all of today's voters; the leader leaves it by itself.
    pub fn propose_conf_change(&mut self, now: Instant, change: ConfigurationChange) -> Result<Index> {
        self.rouse(now);
        let RoleState::Leader(leader) = &self.role else { return Err(Error::NotLeader) };
        if leader.transfer.is_some() {
            return Err(Error::ProposalDropped("the leadership is being transferred"));
        }
        if !self.has_committed_in_term() {
            return Err(Error::ChangeRefused("no entry of this term is committed yet"));
        }
        if self.configurations.index() > self.hard_state.commit || self.configurations.in_force().is_joint() {
            return Err(Error::ChangeRefused("another change is under way"));
        }
        if let Some(present) = self.configurations.change() {
            Changer::new(present).check(&change)?;
        }
        Ok(self.append_configuration(now, change))
    }

    /// Goes back from the joint configuration in force to its outgoing half; who should have come is a learner then.
    ///
    /// Safe because no C_new that follows from this C_old,new can ever decide anything alone. A C_new is only appended by
    /// a leader of an own-term entry committed in both halves. This leader has not appended one. One of an earlier term
    /// would either be committed, then this leader, elected by both halves, would have it, or cannot be elected any
    /// more: this leader's committed entry of its own term, on a majority of both halves, is newer. A later leader needs
    /// a majority of the outgoing half whichever of the two configurations its log ends with, and finds C_old there
    /// once that is committed.
    pub fn abort_change(&mut self, now: Instant) -> Result<Index> {
        self.rouse(now);
        if self.role() != Role::Leader {
            return Err(Error::NotLeader);
        }
        if !self.has_committed_in_term() {
            return Err(Error::ChangeRefused("no entry of this term is committed yet"));
        }
        let Some(present) = self.configurations.change() else { return Err(Error::NotLeader) };
        let back = Changer::new(present).abort_joint()?;
        Ok(self.append_configuration(now, back))
    }

    /// Whether the only reason why this leader has no quorum is an incoming half that does not answer: then it goes back
    /// to the outgoing half instead of leaving the group without a leader until the newcomers return.
    pub(super) fn abort_if_incoming_is_silent(&mut self, now: Instant) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let own = (self.options.id, now);
        let configuration = self.configurations.in_force();
        let heard_at = leader.majority(&configuration.outgoing, own, |progress| progress.heard_at);
        if now >= heard_at + self.options.behaviour.election_timeout {
            return false;
        }
        self.abort_change(now).is_ok()
    }

    /// What follows from a higher commit index: a joint configuration is left, a leader that no longer votes goes.
    pub(super) fn after_commit(&mut self, now: Instant) {
        let RoleState::Leader(leader) = &self.role else { return };
        let is_settled =
            self.has_committed_in_term() && self.configurations.index() <= self.hard_state.commit;
        if !is_settled || leader.transfer.is_some() {
            return;
        }
        let configuration = self.configurations.in_force();
        if configuration.is_joint() {
            if let Some(change) = self.configurations.change() {
                let change = change.leave_joint();
                self.append_configuration(now, change);
            }
        } else if !configuration.is_voter(self.options.id) {
            if let Some(to) = self.find_successor() {
                self.send_timeout_now(to);
            }
            self.become_follower(now, self.hard_state.term, None);
        }
    }

    pub(super) fn append_configuration(&mut self, now: Instant, change: ConfigurationChange) -> Index {
        let position = self.append_own(EntryKind::Configuration, change.encode());
        self.configurations.append(position.index, change);
        self.trace_configuration();
        self.sync_progress(now, position.index);
        // A smaller quorum may have been reached already.
        self.advance_commit(now);
        position.index
    }

    /// Tells a listener what is in force now.
    pub(super) fn trace_configuration(&self) {
        if let Some(change) = self.configurations.change() {
            self.tracer.emit(Event::Configuration { index: self.configurations.index(), change });
        }
    }

    /// The voter that knows most.
    pub(super) fn find_successor(&self) -> Option<PeerId> {
        self.find_voter(|_| true)
    }

    /// The voter that knows most among those that are eligible.
    pub(super) fn find_voter(&self, is_eligible: impl Fn(&Progress) -> bool) -> Option<PeerId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let voters = &self.configurations.in_force().voters;
        let candidates = leader.progress.iter().filter(|progress| voters.binary_search(&progress.id).is_ok());
        candidates
            .filter(|progress| is_eligible(progress))
            .max_by_key(|progress| (progress.match_index, progress.heard_at))
            .map(|progress| progress.id)
    }
}
