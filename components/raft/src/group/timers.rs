//! What happens because time passes.

use types::Instant;

use super::{
    RaftGroup,
    state::{Leader, Retry, RoleState},
};
use crate::CampaignReason;

impl RaftGroup {
    /// Does what is due at `now`, and nothing else; may be called at any time.
    pub fn tick(&mut self, now: Instant) {
        if self.election.is_asleep {
            return;
        }
        if self.retry.is_due(now) {
            self.retry = Retry::default();
        }
        self.expire_reads(now);
        match &self.role {
            RoleState::Leader(_) => self.tick_leader(now),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                if self.election.deadline <= now {
                    self.pre_campaign(now, CampaignReason::Silence);
                }
            }
        }
    }

    /// When [`RaftGroup::tick`] has something to do next; [`Instant::MAX`] if never.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if self.election.is_asleep {
            return Instant::MAX;
        }
        let role_deadline = match &self.role {
            RoleState::Leader(leader) => self.leader_deadline(leader),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                if self.may_campaign() { self.election.deadline } else { Instant::MAX }
            }
        };
        role_deadline.min(self.reads_deadline()).min(self.retry.deadline())
    }

    fn tick_leader(&mut self, now: Instant) {
        self.expire_transfer(now);
        self.check_quorum(now);
        self.yield_if_disk_hangs(now);
        let interval = self.options.behaviour.heartbeat_interval;
        let RoleState::Leader(leader) = &mut self.role else { return };
        for progress in &mut leader.progress {
            progress.wants_heartbeat |= progress.heartbeat_due(interval) <= now;
        }
    }

    fn leader_deadline(&self, leader: &Leader) -> Instant {
        let interval = self.options.behaviour.heartbeat_interval;
        let idle = leader.progress.iter().filter(|progress| !progress.wants_heartbeat);
        let heartbeat = idle.map(|progress| progress.heartbeat_due(interval)).min().unwrap_or(Instant::MAX);
        let transfer = leader.transfer.map_or(Instant::MAX, |transfer| transfer.deadline);
        heartbeat.min(transfer).min(self.quorum_deadline(leader)).min(self.disk_deadline(leader))
    }

    /// A leader that a quorum has not answered for an election timeout steps down: its clients had better look
    /// elsewhere. If this peer itself was asleep, it may only have missed the answers: it asks again, once.
    fn check_quorum(&mut self, now: Instant) {
        let RoleState::Leader(leader) = &self.role else { return };
        let due = self.quorum_deadline(leader);
        if now < due {
            return;
        }
        let interval = self.options.behaviour.heartbeat_interval;
        let silent_at = self.quorum_heard_at(leader) + self.options.behaviour.election_timeout;
        let RoleState::Leader(leader) = &mut self.role else { return };
        if now < due + interval || leader.quorum_grace_until > silent_at {
            if self.abort_if_incoming_is_silent(now) {
                return;
            }
            self.become_follower(now, self.hard_state.term, None);
            return;
        }
        leader.quorum_grace_until = now + 2 * interval;
        for progress in &mut leader.progress {
            progress.wants_heartbeat = true;
        }
    }

    fn quorum_deadline(&self, leader: &Leader) -> Instant {
        (self.quorum_heard_at(leader) + self.options.behaviour.election_timeout)
            .max(leader.quorum_grace_until)
    }

    /// When a quorum was heard last.
    fn quorum_heard_at(&self, leader: &Leader) -> Instant {
        let own = (self.options.id, Instant::MAX);
        leader.quorum(self.configurations.in_force(), own, |progress| progress.heard_at)
    }
}
