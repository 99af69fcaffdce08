//! How a peer learns that its region goes on without it, and tells others that theirs does.
//!
//! A peer that is removed is no longer sent the log, so that it seldom applies its own removal. The leader that applies
//! it says so once; who has heard no leader for a while asks; and placement may say so, from the directory. All three
//! bring an applied descriptor that is newer than the peer's own and does not name it: peer ids are never used twice, so
//! no later configuration names it either. A peer that has not applied its own addition yet is careful: a descriptor
//! without it may only be older than that.

use raft::{Message, MessageBody};
use types::{Epoch, Index, Instant, Region};

use super::{Peer, RoundOutput};
use crate::{
    Error, Result,
    limits::MEMBERSHIP_ASK_INTERVAL,
    message::{MembershipMessage, StoreMessage},
    ports::Lane,
};

impl Peer {
    /// Whether this peer ends now. A snapshot that is being put in place is waited for: its effect and that of the end
    /// go into the KV engine in the order of their records.
    pub(crate) fn can_end(&self) -> bool {
        self.is_removed && self.splitting.is_none() && !self.is_installing()
    }

    /// Whether this peer has nothing that anybody may rely on: no data, no log, no vote, and none of them under way.
    pub(crate) fn is_blank(&self) -> bool {
        let has_voted = self.group.hard_state().vote.is_some();
        self.region.is_none() && self.group.last().index == Index(0) && !has_voted && self.received.is_none()
    }

    /// Answers everyone who waits for something that this peer will not do any more.
    pub(crate) fn fail_all(&mut self) {
        let gone = Error::RegionNotFound(self.region_id);
        if let Some(requests) = &mut self.requests {
            requests.proposals.fail_all(&gone);
            requests.reads.fail_all(&gone);
        }
        self.view.update(|view| {
            view.leader = None;
            view.lease = None;
        });
    }

    pub(crate) fn region(&self) -> Option<&Region> {
        self.region.as_deref()
    }

    /// A message that only a leader sends shows that this peer is one of its region's.
    pub(super) fn note_contact(&mut self, now: Instant, message: &Message) {
        let is_of_leader = matches!(message.body, MessageBody::Append { .. } | MessageBody::Heartbeat { .. });
        if is_of_leader && message.term >= self.group.term() {
            self.contact_at = now;
            // A leader that waits for agreements may fall asleep the next moment: it has not shown itself awake.
            if !matches!(message.body, MessageBody::Heartbeat { offers_sleep: true, .. }) {
                self.sleep.leader_heard_at = now;
            }
        }
    }

    /// When to ask whether this peer still belongs to the region. Who was removed knows; what its end waits for comes by mail.
    pub(super) fn question_due(&self) -> Instant {
        if self.is_removed { Instant::MAX } else { self.contact_at + MEMBERSHIP_ASK_INTERVAL }
    }

    /// Asks in the next round, unless the last answer is hardly back yet.
    pub(super) fn hasten_question(&mut self, now: Instant) {
        let hastened = now - MEMBERSHIP_ASK_INTERVAL * 9 / 10;
        self.contact_at = self.contact_at.min(hastened);
    }

    /// Asks every store that has, or had, a peer of the region whether this peer is still one of them.
    pub(super) fn ask_membership(&mut self, now: Instant, out: &mut RoundOutput) {
        if self.is_leader() || self.sleep.is_asleep() {
            // Nobody was expected to say anything until now.
            self.contact_at = now;
        }
        if now < self.question_due() {
            return;
        }
        self.contact_at = now;
        let known = self.group.configurations().iter().flat_map(|(_, change)| &change.peers);
        let heard = self.hearsay.iter().flat_map(|hearsay| hearsay.contacts.values());
        let mut stores: Vec<_> = known.chain(heard).map(|peer| peer.store_id).collect();
        stores.sort_unstable();
        stores.dedup();
        for store in stores.into_iter().filter(|store| *store != self.me.store_id) {
            let question = MembershipMessage::Question {
                region_id: self.region_id,
                peer_id: self.me.id,
                epoch: if self.has_joined() { self.epoch() } else { Epoch::default() },
            };
            out.messages.push(store, Lane::Liveness, StoreMessage::Membership(question));
        }
    }

    /// What to answer to the question about a peer of another store.
    pub(crate) fn on_question(&self, peer_id: types::PeerId, epoch: Epoch) -> Option<MembershipMessage> {
        let region = self.region.as_deref()?;
        let is_named = region.find_peer(peer_id).is_some();
        if is_named || region.epoch.conf_version <= epoch.conf_version {
            return None;
        }
        // A peer that has not applied its own addition may be one that is only about to be added. Whoever leads, has
        // committed in its term and has no configuration that names it, knows better.
        let is_about_to_be = || {
            // The last committed configuration, and those behind it.
            let configurations = self.group.configurations();
            let commit_index = self.group.commit_index();
            let committed_count = configurations.partition_point(|(index, _)| *index <= commit_index);
            let newest = &configurations[committed_count.saturating_sub(1)..];
            newest.iter().any(|(_, change)| change.peers.iter().any(|peer| peer.id == peer_id))
        };
        if epoch == Epoch::default() && (!self.group.has_committed_in_term() || is_about_to_be()) {
            return None;
        }
        Some(MembershipMessage::Removed { peer_id, region: region.clone() })
    }

    /// Another store says that this peer was removed.
    pub(crate) fn on_removed(&mut self, peer_id: types::PeerId, region: &Region) {
        if peer_id == self.me.id
            && let Err(error) = self.on_destroy_order(region)
        {
            tracing::debug!(region = self.region_id.0, %error, "the peer stays");
        }
    }

    /// Placement, or another store, shows a descriptor by which this peer was removed.
    pub(super) fn on_destroy_order(&mut self, region: &Region) -> Result<()> {
        if region.id != self.region_id {
            return Err(Error::Refused(format!("this is region {}", self.region_id)));
        }
        if region.find_peer(self.me.id).is_some() {
            return Err(Error::Refused(format!("peer {} is one of the region's", self.me.id)));
        }
        if region.epoch.conf_version < self.removal_conf_version() {
            let current = self.region().cloned().into_iter().collect();
            return Err(Error::EpochNotMatch { current });
        }
        tracing::info!(region = self.region_id.0, peer = self.me.id.0, epoch = ?region.epoch, "peer was removed");
        self.is_removed = true;
        Ok(())
    }

    /// The leader tells the peers that the new descriptor no longer names, once; what is lost is asked for.
    pub(super) fn tell_removed(&self, region: &Region, out: &mut RoundOutput) {
        let Some(before) = self.region.as_ref().filter(|_| self.is_leader()) else { return };
        let gone = before.peers.iter().filter(|peer| region.find_peer(peer.id).is_none());
        for peer in gone.filter(|peer| peer.id != self.me.id) {
            let removed = MembershipMessage::Removed { peer_id: peer.id, region: region.clone() };
            out.messages.push(peer.store_id, Lane::Liveness, StoreMessage::Membership(removed));
        }
    }

    /// Whether this peer has applied a configuration that names it. What it applies before that may lack it because it is
    /// older than its addition.
    pub(super) fn has_joined(&self) -> bool {
        self.region().is_some_and(|region| region.find_peer(self.me.id).is_some())
    }

    /// A descriptor without this peer shows its removal only if it is as new as this.
    fn removal_conf_version(&self) -> u64 {
        let applied = self.epoch().conf_version;
        if self.has_joined() {
            return applied + 1;
        }
        // What the log of a peer that has not joined holds may be its addition. If it holds nothing, its own descriptor
        // shows the same: it came by a snapshot that was read when the removal was applied already.
        let applied_index = self.group.applied_index();
        let pending = self.group.configurations().iter().filter(|(index, _)| *index > applied_index);
        match pending.count() as u64 {
            0 => applied.max(1),
            count => applied + count + 1,
        }
    }

    fn epoch(&self) -> Epoch {
        self.region.as_ref().map_or_else(Epoch::default, |region| region.epoch)
    }
}
