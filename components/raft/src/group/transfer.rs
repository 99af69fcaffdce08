//! Handing the leadership over (thesis, 3.10).

use types::{Instant, PeerId};

use super::{
    RaftGroup,
    state::{RoleState, Transfer},
};
use crate::{Error, MessageBody, Result};

impl RaftGroup {
    /// Makes `to` the leader: proposals are dropped from now on, `to` is brought up to date and told to campaign at
    /// once. If it does not lead within an election timeout, proposals are taken again. Naming this peer itself cancels
    /// a transfer in which `to` has not been told yet.
    pub fn transfer_leader(&mut self, now: Instant, to: PeerId) -> Result<()> {
        let deadline = now + self.options.election_timeout;
        let RoleState::Leader(leader) = &mut self.role else { return Err(Error::NotLeader) };
        if to == self.options.id {
            leader.transfer = leader.transfer.filter(|transfer| transfer.is_sent);
            self.after_commit(now);
            return Ok(());
        }
        // Whoever leads should still vote when a joint configuration is left.
        if self.configurations.in_force().voters.binary_search(&to).is_err() {
            return Err(Error::UnknownPeer(to));
        }
        match leader.transfer {
            Some(transfer) if transfer.to == to => return Ok(()),
            Some(_) => return Err(Error::ProposalDropped("another transfer is under way")),
            None => leader.transfer = Some(Transfer { to, deadline, is_sent: false }),
        }
        self.continue_transfer(now);
        Ok(())
    }

    /// Tells the target to campaign once it has the whole log.
    pub(super) fn continue_transfer(&mut self, _now: Instant) {
        let last_index = self.log.last().index;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(Transfer { to, is_sent: false, .. }) = leader.transfer else { return };
        if leader.find(to).is_some_and(|progress| progress.match_index == last_index) {
            leader.transfer = leader.transfer.map(|transfer| Transfer { is_sent: true, ..transfer });
            self.send_timeout_now(to);
        }
    }

    /// From here on another may be elected at any moment, whatever was promised: the lease ends first.
    pub(super) fn send_timeout_now(&mut self, to: PeerId) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.has_given_up_lease = true;
            self.reply(to, MessageBody::TimeoutNow);
        }
    }

    /// Gives a transfer up that has taken too long.
    pub(super) fn expire_transfer(&mut self, now: Instant) {
        if let RoleState::Leader(leader) = &mut self.role
            && leader.transfer.is_some_and(|transfer| transfer.deadline <= now)
        {
            leader.transfer = None;
            // What had to wait for it.
            self.after_commit(now);
        }
    }
}
