//! Changes of a region's peers: a goal, reached one safe step at a time (D3, thesis 4.2 and 4.3).
//!
//! ```text
//! add the missing peers as learners → wait until they have caught up → one joint entry → (left by itself) → drop
//! ```
//!
//! The steps are derived from the configuration in force, so that a new leader that is given the same goal goes on where
//! the old one stopped.

use raft::confchange::Changer;
use types::{ConfigurationChange, Epoch, Index, Instant, Peer as PeerIdentity, PeerId, PeerRole};

use super::Peer;
use crate::{
    Error, Result,
    limits::{CAUGHT_UP_ENTRIES, CHANGE_INTERVAL, SILENT_AFTER},
};

/// A goal that is being driven to.
#[derive(Clone, Debug)]
pub(crate) struct PeersChange {
    goal: Vec<PeerIdentity>,
    change_id: u64,
}

/// The next step towards a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SafeStep {
    /// The configuration is the goal.
    Reached,
    /// A learner lags, or a joint configuration is being left.
    Wait,
    /// Propose this.
    Propose(Vec<PeerIdentity>),
    /// The leader is no voter of the goal: let this one lead first.
    HandOver(PeerId),
}

impl SafeStep {
    /// What to do next, given the peers of the configuration in force and how far each peer's log matches.
    pub(crate) fn towards(
        goal: &[PeerIdentity],
        current: &[PeerIdentity],
        leader: PeerId,
        has_caught_up: impl Fn(PeerId) -> bool,
    ) -> SafeStep {
        let is_joint =
            current.iter().any(|peer| matches!(peer.role, PeerRole::IncomingVoter | PeerRole::DemotingVoter));
        if is_joint {
            return SafeStep::Wait;
        }
        let find = |peers: &[PeerIdentity], id: PeerId| peers.iter().find(|peer| peer.id == id).copied();
        let missing = goal.iter().filter(|peer| find(current, peer.id).is_none());
        let learners: Vec<_> =
            missing.map(|peer| PeerIdentity { role: PeerRole::Learner, ..*peer }).collect();
        if !learners.is_empty() {
            return SafeStep::Propose(sorted(current.iter().copied().chain(learners)));
        }
        let is_voter =
            |peers: &[PeerIdentity], id| find(peers, id).is_some_and(|peer| peer.role == PeerRole::Voter);
        let promoted: Vec<_> =
            goal.iter().filter(|peer| is_voter(goal, peer.id) && !is_voter(current, peer.id)).collect();
        let demoted = current.iter().any(|peer| is_voter(current, peer.id) && !is_voter(goal, peer.id));
        if !promoted.is_empty() || demoted {
            if !promoted.iter().all(|peer| has_caught_up(peer.id)) {
                return SafeStep::Wait;
            }
            let present = ConfigurationChange { peers: current.to_vec(), change_id: 0 };
            let changer = Changer::new(&present);
            // Leadership moves into old ∩ new before the joint entry; where that is empty, the old leader leads on.
            if let Some(heir) = changer.heir(goal, leader) {
                return SafeStep::HandOver(heir);
            }
            // What the core would refuse never becomes possible by waiting, but does no harm either.
            return changer
                .enter_joint(goal, 0)
                .map_or(SafeStep::Wait, |joint| SafeStep::Propose(joint.peers));
        }
        let kept = current.iter().filter(|peer| find(goal, peer.id).is_some()).copied();
        let kept = sorted(kept);
        if kept.len() < current.len() { SafeStep::Propose(kept) } else { SafeStep::Reached }
    }
}

fn sorted(peers: impl Iterator<Item = PeerIdentity>) -> Vec<PeerIdentity> {
    let mut peers: Vec<_> = peers.collect();
    peers.sort_unstable_by_key(|peer| peer.id);
    peers
}

impl Peer {
    /// Takes on a goal. The same change again is the same, unless it has another goal by now (who gives a change up wants
    /// the region to stay as it is); another one waits until this one is done.
    pub(super) fn start_change(
        &mut self,
        now: Instant,
        epoch: Option<Epoch>,
        goal: Vec<PeerIdentity>,
        change_id: u64,
    ) -> Result<()> {
        if let Some(running) = &self.change {
            if running.change_id != change_id {
                return Err(self.changing_peers(running));
            }
            if running.goal == goal {
                // The epoch moves with each of its steps.
                return Ok(());
            }
        }
        if let Some(region) = self.region()
            && (epoch.is_some_and(|epoch| epoch != region.epoch) || self.lets_go_of_any(&goal))
        {
            // Whoever made this goal saw other peers: it might bring one back that was removed since.
            return Err(Error::EpochNotMatch { current: vec![region.clone()] });
        }
        if let Some(proposed) = &self.proposed_split {
            return Err(self.being_split(proposed.change_id));
        }
        let change = ConfigurationChange { peers: goal.clone(), change_id };
        change.check().map_err(|error| Error::Refused(error.to_string()))?;
        let is_plain = goal.iter().all(|peer| matches!(peer.role, PeerRole::Voter | PeerRole::Learner));
        if !is_plain {
            return Err(Error::Refused("a goal names voters and learners only".to_owned()));
        }
        self.change = Some(Box::new(PeersChange { goal, change_id }));
        self.drive_change(now);
        Ok(())
    }

    /// Whether the last configuration in the log, applied or not, lacks one of these peers that the applied one has.
    fn lets_go_of_any(&self, peers: &[PeerIdentity]) -> bool {
        let (Some(region), Some((_, last))) = (self.region(), self.group.configurations().last()) else {
            return false;
        };
        let is_in_last = |id: PeerId| last.peers.iter().any(|peer| peer.id == id);
        peers.iter().any(|peer| region.find_peer(peer.id).is_some() && !is_in_last(peer.id))
    }

    /// Refuses another change while the peers are being changed.
    pub(super) fn changing_peers(&self, running: &PeersChange) -> Error {
        let stage = if self.group.configuration().is_joint() {
            "the voters are being exchanged"
        } else {
            "peers are being added, caught up or dropped"
        };
        Error::Changing { region_id: self.region_id, change_id: running.change_id, stage }
    }

    /// Takes the next step of the change under way, if it can be taken now.
    pub(super) fn drive_change(&mut self, now: Instant) {
        let Some(change) = self.change.clone() else { return };
        if !self.is_leader() {
            self.change = None;
            return;
        }
        let Some((index, current)) = self.group.configurations().last() else { return };
        if *index > self.group.applied_index() {
            self.next_look = self.next_look.min(now + CHANGE_INTERVAL);
            return;
        }
        let status = self.group.status();
        let commit_index = self.group.commit_index();
        // Who has everything and is silent could not help to commit the joint entry. Who has acknowledged nothing in this
        // term may have no data at all, however short the log is, and may never have been heard.
        let has_caught_up = |id: PeerId| {
            let of_id = status.peers.iter().find(|peer| peer.id == id);
            of_id.is_some_and(|peer| {
                peer.match_index > Index(0)
                    && commit_index.since(peer.match_index) <= CAUGHT_UP_ENTRIES
                    && now.since(peer.heard_at) <= SILENT_AFTER
            })
        };
        let step = SafeStep::towards(&change.goal, &current.peers, self.me.id, has_caught_up);
        self.take_step(now, &change, step);
    }

    fn take_step(&mut self, now: Instant, change: &PeersChange, step: SafeStep) {
        let result = match step {
            SafeStep::Reached => {
                tracing::info!(change = change.change_id, "the region's peers are as wished");
                self.change = None;
                return;
            }
            SafeStep::Wait => Ok(()),
            SafeStep::HandOver(to) => self.transfer_leader(now, to),
            SafeStep::Propose(peers) => {
                let proposal = ConfigurationChange { peers, change_id: change.change_id };
                tracing::info!(change = change.change_id, peers = ?proposal.peers, "propose peers");
                self.group.propose_conf_change(now, proposal).map(|_| ())
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, change = change.change_id, "step of a change is not possible yet");
        }
        self.next_look = self.next_look.min(now + CHANGE_INTERVAL);
    }

    /// Leadership is lost: whoever leads next is given the goal anew.
    pub(super) fn drop_change(&mut self) {
        self.change = None;
    }
}

#[cfg(test)]
mod tests {
    use types::StoreId;

    use super::*;

    fn peers(spec: &[(u64, PeerRole)]) -> Vec<PeerIdentity> {
        spec.iter()
            .map(|(id, role)| PeerIdentity { id: PeerId(*id), store_id: StoreId(*id), role: *role })
            .collect()
    }

    #[test]
    fn replacing_everyone_goes_through_learners_and_one_joint_step() {
        use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let goal = peers(&[(1, Voter), (4, Voter), (5, Voter)]);
        let start = peers(&[(1, Voter), (2, Voter), (3, Voter)]);
        let added = SafeStep::towards(&goal, &start, PeerId(2), |_| false);
        let learning = peers(&[(1, Voter), (2, Voter), (3, Voter), (4, Learner), (5, Learner)]);
        assert_eq!(added, SafeStep::Propose(learning.clone()));
        assert_eq!(SafeStep::towards(&goal, &learning, PeerId(2), |id| id == PeerId(4)), SafeStep::Wait);
        assert_eq!(SafeStep::towards(&goal, &learning, PeerId(2), |_| true), SafeStep::HandOver(PeerId(1)));
        let joint = peers(&[
            (1, Voter),
            (2, DemotingVoter),
            (3, DemotingVoter),
            (4, IncomingVoter),
            (5, IncomingVoter),
        ]);
        assert_eq!(
            SafeStep::towards(&goal, &learning, PeerId(1), |_| true),
            SafeStep::Propose(joint.clone())
        );
        assert_eq!(SafeStep::towards(&goal, &joint, PeerId(1), |_| true), SafeStep::Wait);
        let left = peers(&[(1, Voter), (2, Learner), (3, Learner), (4, Voter), (5, Voter)]);
        assert_eq!(SafeStep::towards(&goal, &left, PeerId(1), |_| true), SafeStep::Propose(goal.clone()));
        assert_eq!(SafeStep::towards(&goal, &goal, PeerId(1), |_| true), SafeStep::Reached);
    }
}
