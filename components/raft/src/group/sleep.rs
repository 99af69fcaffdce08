//! Sleep: a group in which nothing is open keeps no timer (D7).
//!
//! That its peers agree to sleep, and that the stores which hold them live, is the store's business. The core says when
//! nothing is open, checks each peer's side of the contract, and wakes by itself when anything arrives that needs it
//! awake.

use types::{Index, Instant, PeerId};

use super::{RaftGroup, state::RoleState};
use crate::{Error, Message, MessageBody, Result, SleepContract, progress::Progress, trace::Event};

impl RaftGroup {
    /// What this leader's peers must agree to before the group sleeps; an error says what is still open. Peers for which
    /// `is_down` says so need not have everything: they leave a debt, which the store remembers.
    pub fn sleep_contract(&self, is_down: impl Fn(PeerId) -> bool) -> Result<SleepContract> {
        let RoleState::Leader(leader) = &self.role else { return Err(Error::NotLeader) };
        self.check_idle()?;
        if !self.has_committed_in_term() || self.configurations.in_force().is_joint() {
            return Err(Error::Awake("an election or a change of the configuration is not complete"));
        }
        if leader.transfer.is_some() || leader.reads.count() > 0 {
            return Err(Error::Awake("a transfer or a read is under way"));
        }
        let contract = self.contract_here();
        let mut expected = leader.progress.iter().filter(|progress| !is_down(progress.id));
        if expected.any(|progress| progress.match_index < contract.last_index) {
            return Err(Error::Awake("a peer has not acknowledged everything"));
        }
        Ok(contract)
    }

    /// What a contract must say for this peer to be where it says.
    fn contract_here(&self) -> SleepContract {
        SleepContract { term: self.hard_state.term, last_index: self.log.last().index }
    }

    /// This leader has asked its peers to sleep by `contract`. As long as its log ends there and nobody reads, its
    /// heartbeats keep up who has not agreed yet, and do not wake who has: however long the answers take, peers that fall
    /// asleep stay asleep.
    pub fn offer_sleep(&mut self, contract: SleepContract) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.offered_sleep = Some(contract);
        }
    }

    /// The offer holds no more: the next heartbeats wake whoever has agreed.
    pub fn withdraw_sleep(&mut self) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.offered_sleep = None;
        }
    }

    /// Whether this peer leads, and such an offer holds.
    pub(super) fn offers_sleep(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let is_unchanged = |offered| offered == self.contract_here();
        leader.reads.count() == 0 && leader.offered_sleep.is_some_and(is_unchanged)
    }

    /// Sleeps, if this peer is where the contract says: no deadline until something wakes it. There is no lease in
    /// sleep; promises stand.
    pub fn sleep(&mut self, contract: SleepContract) -> Result<()> {
        if contract != self.contract_here() {
            return Err(Error::Awake("term or log are not those of the contract"));
        }
        if self.leader().is_none() {
            return Err(Error::Awake("no leader is known"));
        }
        self.check_idle()?;
        self.election.is_asleep = true;
        self.shrink();
        self.tracer.emit(Event::Slept);
        Ok(())
    }

    /// Whether the group sleeps.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.election.is_asleep
    }

    /// The group has slept, by agreement: nobody was expected to say anything, so every wait begins anew at `now`. Must
    /// come before the first tick after a sleep that the store, not [`RaftGroup::sleep`], has kept.
    pub fn wake(&mut self, now: Instant) {
        if self.election.is_asleep {
            self.election.is_asleep = false;
            self.tracer.emit(Event::Woke);
        }
        match &mut self.role {
            RoleState::Leader(leader) => {
                leader.offered_sleep = None;
                for progress in &mut leader.progress {
                    progress.on_woken(now);
                }
            }
            RoleState::Follower(follower) => {
                follower.heard_at = now;
                follower.is_suspicious = false;
                self.election.rearm(&self.options, now);
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {}
        }
    }

    /// Something has come that needs the group awake.
    pub(super) fn rouse(&mut self, now: Instant) {
        if self.election.is_asleep {
            self.wake(now);
        }
    }

    /// Wakes for a message of somebody who is awake. A late answer, and whatever is of an earlier term, is no reason; nor
    /// is a leader that only waits for the others to agree.
    pub(super) fn rouse_for(&mut self, now: Instant, message: &Message) {
        let is_answer = matches!(
            message.body,
            MessageBody::AppendAccepted { .. }
                | MessageBody::AppendRejected { .. }
                | MessageBody::HeartbeatResponse { .. }
                | MessageBody::VoteResponse { .. }
                | MessageBody::ReadIndexResponse { .. }
        );
        let term = self.hard_state.term;
        let is_waiting = matches!(
            message.body,
            MessageBody::Heartbeat { offers_sleep: true, commit, .. }
                if commit == self.hard_state.commit && self.leader() == Some(message.from)
        );
        if message.term > term || (message.term == term && !is_answer && !is_waiting) {
            self.rouse(now);
        }
    }

    /// Gives back the room of buffers that are empty: most groups sleep, and most of those for long (D7).
    fn shrink(&mut self) {
        self.log.shrink();
        self.configurations.shrink();
        if let RoleState::Leader(leader) = &mut self.role {
            leader.progress.iter_mut().for_each(Progress::shrink);
            leader.progress.shrink_to_fit();
            leader.reads.shrink();
        }
    }

    /// Whether everything in the log is committed, durable and applied, and nothing waits to be done.
    fn check_idle(&self) -> Result<()> {
        let last_index = self.log.last().index;
        let is_settled = |index: Index| index == last_index;
        if !is_settled(self.hard_state.commit) || !is_settled(self.applied) {
            return Err(Error::Awake("something is not committed or not applied"));
        }
        let has_reads = matches!(&self.role, RoleState::Follower(follower) if follower.has_reads());
        if !self.persistence.in_flight.is_empty() || self.retry.is_waiting() || has_reads || self.has_ready()
        {
            return Err(Error::Awake("something waits to be done"));
        }
        Ok(())
    }
}
