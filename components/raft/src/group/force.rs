//! Leading without a quorum, when one is lost for good. What only the lost have committed is lost with them; nothing
//! else can be.
//!
//! Fences:
//! - Only by an explicit call, which names the peers given up; a quorum of the others is refused, they elect as usual.
//! - *Every* surviving voter must vote for this peer, and votes only for a log at least as long as its own: so the
//!   longest of the survivors' logs is the one that lives, and no two of them can do this at once.
//! - The requests go to the lost too. Any sign of life of one of them ends it.
//! - It ends by itself after a few elections, when a leader is heard, and with the process.
//! - The first entry of the new term is a configuration without the lost: from then on everything is as usual.
//!
//! The caller sees to it that no peer that was given up ever takes part again (its id is dead). Two that came back could
//! be a majority of what they remember.

use types::{ConfigurationChange, Instant, Peer, PeerId, PeerRole};

use super::{
    RaftGroup,
    state::{Forced, RoleState},
};
use crate::{CampaignReason, Error, Result, limits::FORCE_TIMEOUTS, quorum, trace::Event};

impl RaftGroup {
    /// Makes this peer campaign for the vote of every voter not in `lost`, and go on without those in `lost` if it gets
    /// them. Whether it did is seen from its role, and from a configuration with this `change_id`.
    pub fn force_leader(&mut self, now: Instant, lost: &[PeerId], change_id: u64) -> Result<()> {
        self.rouse(now);
        let configuration = self.configurations.in_force();
        let is_known = |peer: &PeerId| configuration.is_voter(*peer) || configuration.is_learner(*peer);
        if let Some(unknown) = lost.iter().find(|peer| !is_known(peer) || **peer == self.options.id) {
            return Err(Error::UnknownPeer(*unknown));
        }
        if !configuration.is_voter(self.options.id) || self.log.is_uninitialised() {
            return Err(Error::ForceRefused("this peer has no vote"));
        }
        if quorum::joint(configuration, |peer| !lost.contains(&peer)) {
            return Err(Error::ForceRefused("a quorum is left"));
        }
        if self.leader().is_some() || self.has_promised(now) {
            return Err(Error::ForceRefused("a leader may still live"));
        }
        let until = now + self.options.behaviour.election_timeout * FORCE_TIMEOUTS;
        self.forced = Some(Box::new(Forced { lost: lost.to_vec(), change_id, until }));
        self.tracer.emit(Event::Forcing { lost });
        self.start_election(now, CampaignReason::Force);
        Ok(())
    }

    /// Whether [`RaftGroup::force_leader`] is under way.
    #[must_use]
    pub fn is_forcing(&self) -> bool {
        self.forced.is_some()
    }

    /// Gives [`RaftGroup::force_leader`] up.
    pub fn cancel_force(&mut self, now: Instant) {
        if self.forced.take().is_some() && matches!(self.role, RoleState::Candidate(_)) {
            self.become_follower(now, self.hard_state.term, None);
        }
    }

    /// A message has come: one of who was given up proves that giving up was wrong.
    pub(super) fn check_fence(&mut self, now: Instant, from: PeerId) {
        if self.forced.as_ref().is_some_and(|forced| forced.lost.contains(&from)) {
            tracing::warn!(peer = %self.options.id, %from, "a peer that was given up is alive");
            self.cancel_force(now);
        }
    }

    /// Whether an election is to be forced now.
    pub(super) fn should_force(&mut self, now: Instant) -> bool {
        self.forced.take_if(|forced| forced.until <= now);
        self.forced.is_some()
    }

    /// The configuration without the lost: who votes in either half is a voter.
    pub(super) fn forced_configuration(&self, forced: &Forced) -> ConfigurationChange {
        let present = self.configurations.change().map(|change| change.peers.as_slice()).unwrap_or_default();
        let survivors = present.iter().filter(|peer| !forced.lost.contains(&peer.id)).map(|peer| {
            let role = match peer.role {
                PeerRole::Voter | PeerRole::IncomingVoter | PeerRole::DemotingVoter => PeerRole::Voter,
                PeerRole::Learner => PeerRole::Learner,
            };
            Peer { role, ..*peer }
        });
        ConfigurationChange { peers: survivors.collect(), change_id: forced.change_id }
    }
}
