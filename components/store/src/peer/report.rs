//! What placement is told of a region by its leader: changes, each once.
//!
//! Between this store's workers and its placement nothing is lost, and placement repeats what the host has not
//! acknowledged. So a leader says again only what is no longer as it said, and a region of which nothing changes costs
//! nothing. No timer is behind this: a leader that is awake is looked at with its heartbeats, and one that sleeps has
//! nothing to say.

use std::sync::Arc;

use types::{Epoch, Instant, PeerId, Region, RegionSize, Term};

use super::{Peer, Rest};
use crate::{
    limits::{PEER_DOWN_AFTER, REPORT_LOOK_INTERVAL},
    message::{LeadChanges, RegionReport},
};

/// What was reported last of a leadership.
#[derive(Debug)]
pub(super) struct Reported {
    /// Its term.
    term: Term,
    /// When this leadership was reported first.
    since: Instant,
    /// The descriptor's.
    epoch: Epoch,
    /// Peers that were named as down or behind: in order of id.
    down_peers: Vec<PeerId>,
    pending_peers: Vec<PeerId>,
    /// How much the region held.
    size: RegionSize,
    /// When the region is looked at again, if nothing else has happened until then.
    look_at: Instant,
}

impl Reported {
    /// Whether a look at the region is due: soon while something is wrong with one of them, for it may be the
    /// last look before the region sleeps.
    fn is_due(&self, now: Instant, term: Term, epoch: Epoch) -> bool {
        self.term != term
            || self.epoch != epoch
            || !self.pending_peers.is_empty()
            || !self.down_peers.is_empty()
            || self.look_at <= now
    }
}

impl Peer {
    /// Adds what placement should hear of this peer's leadership.
    pub(crate) fn report(&mut self, now: Instant, changes: &mut LeadChanges) {
        if !self.is_leader() {
            return self.report_no_lead(changes);
        }
        let term = self.group.term();
        // Who falls asleep says at once what it would have come to say.
        let reported = self.reported.as_deref();
        let is_due = |epoch| {
            self.sleep.is_asleep() || reported.is_none_or(|reported| reported.is_due(now, term, epoch))
        };
        let Some(region) = self.region.as_ref().filter(|region| is_due(region.epoch)) else {
            return;
        };
        let region = Arc::clone(region);
        let reported = reported.filter(|reported| reported.term == term);
        let since = reported.map_or(now, |reported| reported.since);
        let (down_peers, pending_peers) = self.troubled_peers(now, since);
        let size = self.view.read(|view| view.size);
        let look_at = now + REPORT_LOOK_INTERVAL;
        if let Some(reported) = &mut self.reported
            && reported.term == term
            && reported.epoch == region.epoch
            && reported.down_peers == down_peers
            && reported.pending_peers == pending_peers
            && !size.has_moved_from(reported.size)
        {
            reported.look_at = look_at;
            return;
        }
        self.reported = Some(Box::new(Reported {
            term,
            since,
            epoch: region.epoch,
            down_peers: down_peers.clone(),
            pending_peers: pending_peers.clone(),
            size,
            look_at,
        }));
        changes.leads.push(RegionReport {
            leader: region.find_peer(self.me.id).unwrap_or(self.me),
            region: Region::clone(&region),
            term,
            down_peers,
            pending_peers,
            size,
        });
    }

    /// This peer leads no longer, or ends: placement hears it if it had heard of the leadership.
    pub(crate) fn report_no_lead(&mut self, changes: &mut LeadChanges) {
        if self.reported.take().is_some() {
            changes.leads_no_longer.push(self.region_id);
        }
    }

    /// Peers that have not been heard for long, and those whose log is far behind: each in order of id. Who leads since a
    /// moment ago does not know yet where the others' logs end, which says nothing about them.
    fn troubled_peers(&self, now: Instant, since: Instant) -> (Vec<PeerId>, Vec<PeerId>) {
        if let Rest::Leading(asleep) = &self.sleep.rest {
            // That it has not heard the others says nothing about them, but that it sleeps without some does.
            let has_debt =
                |id: &PeerId| self.find_store(*id).is_some_and(|store| asleep.debts.contains(&store));
            let down = self.group.configuration().peers().into_iter().filter(has_debt).collect();
            return (down, Vec::new());
        }
        let status = self.group.status();
        let others = || status.peers.iter().filter(|peer| peer.id != self.me.id);
        let is_down = |peer: &&raft::PeerStatus| now.since(peer.heard_at) > PEER_DOWN_AFTER;
        let is_new = now.since(since) < REPORT_LOOK_INTERVAL;
        let is_pending =
            |peer: &&raft::PeerStatus| peer.state != "replicate" && !(is_new && peer.state == "probe");
        (
            others().filter(is_down).map(|peer| peer.id).collect(),
            others().filter(is_pending).map(|peer| peer.id).collect(),
        )
    }
}
