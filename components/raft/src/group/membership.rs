//! Changes of the configuration (thesis, chapter 4).
//!
//! Whatever touches voters goes through a joint configuration; learners come and go in one step. A change begins only
//! when the leader has committed an entry of its own term (without that rule two leaders can build on different
//! configurations: checklist 1B-Q5) and the change before it is committed. C_new is appended by the leader alone, as soon
//! as an entry of its own term is committed by both halves.

use types::{ConfigurationChange, EntryKind, Index, Instant, PeerId, PeerRole};

use super::{RaftGroup, state::RoleState};
use crate::{Error, Result};

impl RaftGroup {
    /// Appends a configuration, which is in force at once. From a configuration that is not joint, voters change only by
    /// a joint one whose outgoing half is all of today's voters; the leader leaves it by itself.
    pub fn propose_conf_change(&mut self, now: Instant, change: ConfigurationChange) -> Result<Index> {
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
        change.check()?;
        if let Some(present) = self.configurations.change() {
            check_change(present, &change)?;
        }
        Ok(self.append_configuration(now, change))
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

    fn append_configuration(&mut self, now: Instant, change: ConfigurationChange) -> Index {
        let position = self.append_own(EntryKind::Configuration, change.encode());
        self.configurations.append(position.index, change);
        self.sync_progress(now, position.index);
        // A smaller quorum may have been reached already.
        self.advance_commit(now);
        position.index
    }

    /// The voter that knows most.
    fn find_successor(&self) -> Option<PeerId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let voters = &self.configurations.in_force().voters;
        let candidates = leader.progress.iter().filter(|progress| voters.binary_search(&progress.id).is_ok());
        candidates
            .max_by_key(|progress| (progress.match_index, progress.heard_at))
            .map(|progress| progress.id)
    }
}

/// Whether `next` may follow `present`, which is not joint.
fn check_change(present: &ConfigurationChange, next: &ConfigurationChange) -> Result<()> {
    for peer in &next.peers {
        if present.peers.iter().any(|earlier| earlier.id == peer.id && earlier.store_id != peer.store_id) {
            return Err(Error::ChangeRefused("a peer does not move to another store"));
        }
    }
    if present.peers == next.peers {
        return Err(Error::ChangeRefused("it changes nothing"));
    }
    let (from, to) = (present.configuration(), next.configuration());
    let has_joint_roles =
        next.peers.iter().any(|peer| matches!(peer.role, PeerRole::IncomingVoter | PeerRole::DemotingVoter));
    if has_joint_roles {
        if to.outgoing != from.voters {
            return Err(Error::ChangeRefused("the outgoing half is not the voters of today"));
        }
    } else if to.voters != from.voters {
        return Err(Error::ChangeRefused("voters change through a joint configuration"));
    }
    Ok(())
}
