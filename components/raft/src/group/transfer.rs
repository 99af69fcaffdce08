//! Handing the leadership over (thesis, 3.10).

use types::{Instant, PeerId};

use super::{
    RaftGroup,
    state::{Leader, RoleState, Transfer},
};
use crate::{Error, MessageBody, Result, limits::DISK_HANG_TIMEOUTS, trace::Event};

impl RaftGroup {
    /// Makes `to` the leader: proposals are dropped from now on, `to` is brought up to date and told to campaign at
    /// once. If it does not lead within an election timeout, proposals are taken again. Naming this peer itself cancels
    /// a transfer in which `to` has not been told yet.
    pub fn transfer_leader(&mut self, now: Instant, to: PeerId) -> Result<()> {
        self.rouse(now);
        let deadline = now + self.options.behaviour.election_timeout;
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
            self.tracer.emit(Event::LeaseGivenUp);
            self.reply(to, MessageBody::TimeoutNow);
        }
    }

    /// When the own disk will have been silent for too long; never while nothing is being written.
    pub(super) fn disk_deadline(&self, leader: &Leader) -> Instant {
        let patience = self.options.behaviour.election_timeout * DISK_HANG_TIMEOUTS;
        let oldest = self.persistence.in_flight.first();
        let hangs_at = oldest.map_or(Instant::MAX, |ready| ready.offered_at + patience);
        hangs_at.max(leader.disk_check_at)
    }

    /// A leader whose disk hangs can go on committing on its followers' disks, but applies nothing any more. If another
    /// voter's disk has come further than its own, that one shall lead.
    pub(super) fn yield_if_disk_hangs(&mut self, now: Instant) {
        let RoleState::Leader(leader) = &self.role else { return };
        if now < self.disk_deadline(leader) {
            return;
        }
        let (own, timeout) = (self.log.persisted(), self.options.behaviour.election_timeout);
        let successor =
            self.find_voter(|progress| progress.match_index > own && now < progress.heard_at + timeout);
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.disk_check_at = now + timeout * DISK_HANG_TIMEOUTS;
        let Some(successor) = successor.filter(|_| leader.transfer.is_none()) else { return };
        tracing::warn!(peer = %self.options.id, to = %successor, "the disk hangs, so another shall lead");
        if let Err(error) = self.transfer_leader(now, successor) {
            tracing::debug!(peer = %self.options.id, %error, "nobody takes over");
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
