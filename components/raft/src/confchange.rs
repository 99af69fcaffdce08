//! Which configuration may follow which, as pure functions: nothing here knows a log or a term.
//!
//! ```text
//!                 simple                       (learners only)
//!   C_old ──────────────────────────► C_old'
//!     │  ▲
//!     │  └──────── abort_joint ───────┐
//!     └─ enter_joint ─► C_old,new ────┴─ leave_joint ─► C_new
//! ```
//!
//! When a leader may append what is made here is in `group/membership.rs`.

use types::{ConfigurationChange, Peer, PeerId, PeerRole};

use crate::{Error, Result};

/// Makes the configurations that may follow a present one. A *goal* is a list of voters and learners.
#[derive(Clone, Copy, Debug)]
pub struct Changer<'a> {
    present: &'a ConfigurationChange,
}

impl<'a> Changer<'a> {
    /// For what may follow `present`.
    #[must_use]
    pub fn new(present: &'a ConfigurationChange) -> Changer<'a> {
        Changer { present }
    }

    /// The goal in one step: its voters are those of today.
    pub fn simple(&self, goal: &[Peer], change_id: u64) -> Result<ConfigurationChange> {
        check_goal(goal)?;
        let next = ConfigurationChange { peers: sorted(goal.iter().copied()), change_id };
        self.check(&next)?;
        Ok(next)
    }

    /// The joint configuration on the way to the goal. Who votes today and not in the goal is demoted: it hears that it
    /// is out, as a learner, before it is dropped.
    pub fn enter_joint(&self, goal: &[Peer], change_id: u64) -> Result<ConfigurationChange> {
        check_goal(goal)?;
        let present = self.present.peers.iter();
        let staying =
            present.filter(|peer| votes(&self.present.peers, peer.id) && find(goal, peer.id).is_none());
        let peers = staying.chain(goal).map(|peer| {
            let role = match (votes(&self.present.peers, peer.id), votes(goal, peer.id)) {
                (true, true) => PeerRole::Voter,
                (true, false) => PeerRole::DemotingVoter,
                (false, true) => PeerRole::IncomingVoter,
                (false, false) => PeerRole::Learner,
            };
            Peer { role, ..*peer }
        });
        let next = ConfigurationChange { peers: sorted(peers), change_id };
        if !next.configuration().is_joint() {
            return Err(Error::ChangeRefused("no voter changes"));
        }
        self.check(&next)?;
        Ok(next)
    }

    /// The end of a joint configuration: its incoming half votes, who was demoted is a learner.
    pub fn leave_joint(&self) -> Result<ConfigurationChange> {
        self.check_is_joint()?;
        Ok(self.present.leave_joint())
    }

    /// The way back from a joint configuration: its outgoing half votes, who should have come is a learner.
    pub fn abort_joint(&self) -> Result<ConfigurationChange> {
        self.check_is_joint()?;
        let peers = self.present.peers.iter().map(|peer| {
            let role = match peer.role {
                PeerRole::Voter | PeerRole::DemotingVoter => PeerRole::Voter,
                PeerRole::IncomingVoter | PeerRole::Learner => PeerRole::Learner,
            };
            Peer { role, ..*peer }
        });
        Ok(ConfigurationChange { peers: peers.collect(), change_id: 0 })
    }

    /// Who should lead before voters change to those of `goal`, if `leader` should not: one that votes before and after.
    /// `None` if it may stay, or if nobody votes in both.
    #[must_use]
    pub fn heir(&self, goal: &[Peer], leader: PeerId) -> Option<PeerId> {
        if votes(goal, leader) {
            return None;
        }
        let both = |peer: &&Peer| votes(&self.present.peers, peer.id) && votes(goal, peer.id);
        goal.iter().find(both).map(|peer| peer.id)
    }

    /// Whether `next` may follow the present configuration, which must not be joint (a joint one is left, or abandoned,
    /// by its leader alone).
    pub fn check(&self, next: &ConfigurationChange) -> Result<()> {
        next.check()?;
        let (from, to) = (self.present.configuration(), next.configuration());
        if from.is_joint() {
            return Err(Error::ChangeRefused("a joint configuration is left by its leader alone"));
        }
        for peer in &next.peers {
            if find(&self.present.peers, peer.id).is_some_and(|earlier| earlier.store_id != peer.store_id) {
                return Err(Error::ChangeRefused("a peer does not move to another store"));
            }
        }
        if self.present.peers == next.peers {
            return Err(Error::ChangeRefused("it changes nothing"));
        }
        if to.is_joint() {
            if to.outgoing != from.voters {
                return Err(Error::ChangeRefused("the outgoing half is not the voters of today"));
            }
        } else if to.voters != from.voters {
            return Err(Error::ChangeRefused("voters change through a joint configuration"));
        }
        Ok(())
    }

    fn check_is_joint(&self) -> Result<()> {
        let is_joint = self.present.configuration().is_joint();
        if is_joint { Ok(()) } else { Err(Error::ChangeRefused("the configuration is not joint")) }
    }
}

fn check_goal(goal: &[Peer]) -> Result<()> {
    let is_plain = goal.iter().all(|peer| matches!(peer.role, PeerRole::Voter | PeerRole::Learner));
    if is_plain { Ok(()) } else { Err(Error::ChangeRefused("a goal names voters and learners only")) }
}

fn find(peers: &[Peer], id: PeerId) -> Option<&Peer> {
    peers.iter().find(|peer| peer.id == id)
}

fn votes(peers: &[Peer], id: PeerId) -> bool {
    find(peers, id).is_some_and(|peer| peer.role == PeerRole::Voter)
}

fn sorted(peers: impl Iterator<Item = Peer>) -> Vec<Peer> {
    let mut peers: Vec<_> = peers.collect();
    peers.sort_unstable_by_key(|peer| peer.id);
    peers
}

#[cfg(test)]
mod tests {
    use types::StoreId;

    use super::*;

    fn peers(voters: &[u64], learners: &[u64]) -> Vec<Peer> {
        let with = |ids: &[u64], role| {
            let peer = move |id: &u64| Peer { id: PeerId(*id), store_id: StoreId(*id), role };
            ids.iter().map(peer).collect::<Vec<_>>()
        };
        sorted(with(voters, PeerRole::Voter).into_iter().chain(with(learners, PeerRole::Learner)))
    }

    fn of(voters: &[u64], learners: &[u64]) -> ConfigurationChange {
        ConfigurationChange { peers: peers(voters, learners), change_id: 0 }
    }

    fn ids(ids: &[u64]) -> Vec<PeerId> {
        ids.iter().map(|id| PeerId(*id)).collect()
    }

    #[test]
    fn a_joint_configuration_is_entered_and_left_or_abandoned() {
        let old = of(&[1, 2, 3], &[4, 5]);
        let joint = Changer::new(&old).enter_joint(&peers(&[1, 4, 5], &[]), 7).expect("it may");
        let configuration = joint.configuration();
        assert_eq!((configuration.voters, configuration.outgoing), (ids(&[1, 4, 5]), ids(&[1, 2, 3])));
        let new = Changer::new(&joint).leave_joint().expect("it is joint");
        assert_eq!(new, of(&[1, 4, 5], &[2, 3]));
        let back = Changer::new(&joint).abort_joint().expect("it is joint");
        assert_eq!(back, old, "who should have come is a learner, as before");
        for plain in [&old, &new] {
            assert!(Changer::new(plain).leave_joint().is_err());
            assert!(Changer::new(plain).abort_joint().is_err());
        }
        assert!(Changer::new(&joint).check(&new).is_err(), "only its leader leaves it");
    }

    /// Every way from one set of voters among four to another: the halves are what they should be.
    #[test]
    fn every_change_of_voters_goes_through_both_halves() {
        let sets: Vec<Vec<u64>> =
            (1_u64..16).map(|mask| (1..=4).filter(|id| mask >> (id - 1) & 1 == 1).collect()).collect();
        for from in &sets {
            for to in &sets {
                let (present, goal) = (of(from, &[]), peers(to, &[]));
                let joint = Changer::new(&present).enter_joint(&goal, 1);
                if from == to {
                    assert!(joint.is_err());
                    continue;
                }
                assert!(Changer::new(&present).simple(&goal, 1).is_err(), "never in one step");
                let joint = joint.expect("it may");
                assert_eq!(joint.configuration().outgoing, ids(from));
                assert_eq!(joint.configuration().voters, ids(to));
                let left = Changer::new(&joint).leave_joint().expect("it is joint").configuration();
                assert_eq!(left.voters, ids(to));
                let gone: Vec<_> = from.iter().copied().filter(|id| !to.contains(id)).collect();
                assert_eq!(left.learners, ids(&gone));
                let back = Changer::new(&joint).abort_joint().expect("it is joint").configuration();
                assert_eq!(back.voters, ids(from));
            }
        }
    }

    #[test]
    fn learners_come_and_go_in_one_step() {
        let present = of(&[1, 2, 3], &[4]);
        let next = Changer::new(&present).simple(&peers(&[1, 2, 3], &[5]), 9).expect("it may");
        assert_eq!(next.configuration().learners, ids(&[5]));
        assert!(Changer::new(&present).simple(&peers(&[1, 2, 3], &[4]), 9).is_err(), "it changes nothing");
        let mut moved = peers(&[1, 2, 3], &[4]);
        moved[3].store_id = StoreId(9);
        assert!(Changer::new(&present).simple(&moved, 9).is_err());
        let mut joint = peers(&[1, 2, 3], &[4]);
        joint[3].role = PeerRole::IncomingVoter;
        assert!(Changer::new(&present).simple(&joint, 9).is_err());
    }

    #[test]
    fn the_heir_votes_before_and_after() {
        let present = of(&[1, 2, 3], &[4, 5]);
        let changer = Changer::new(&present);
        assert_eq!(changer.heir(&peers(&[1, 4, 5], &[]), PeerId(2)), Some(PeerId(1)));
        assert_eq!(changer.heir(&peers(&[2, 4, 5], &[]), PeerId(2)), None);
        assert_eq!(changer.heir(&peers(&[4, 5], &[]), PeerId(2)), None);
    }
}
