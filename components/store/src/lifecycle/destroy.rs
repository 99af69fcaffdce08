//! The end of a peer: record, effect, flush, and only then the log goes and the region may have another peer here.
//!
//! Until then messages for the region are dropped (Raft repeats what matters), so that nothing that waits for deletion is
//! given out again. The tombstone stays: an old message cannot bring the peer back.
//!
//! A peer without data, log or vote leaves no tombstone. It may be one whose addition a leader has begun and lost, and the
//! next one begins again, by the same id, for that is what placement's operation names. And if it is not, it asks again.

use engine::{LifecycleChange, LifecycleRecord, LogWrite};
use kv::keys;
use types::{PeerId, RegionId, StoreId};

use crate::{
    message::{ApplyMail, MembershipMessage, SnapshotMail, StoreMessage},
    ports::Lane,
    round::RaftWorker,
};

/// A peer on its way out.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) peer_id: PeerId,
    pub(crate) stage: EndStage,
}

/// How far its end is.
#[derive(Debug)]
pub(crate) enum EndStage {
    /// The record is being made durable.
    Recording(Box<LifecycleRecord>),
    /// It is durable; the effect is being written, flushed, and the log deleted.
    Erasing,
}

impl RaftWorker {
    /// A peer that was removed and has nothing under way ends.
    pub(crate) fn begin_end(&mut self, region_id: RegionId) {
        let Some(mut peer) = self.peers.remove(&region_id) else { return };
        peer.fail_all();
        peer.report_no_lead(&mut self.lead_changes);
        self.sleepers.remove(&peer.sleep.rest);
        let peer_id = peer.me.id;
        if peer.is_blank() {
            tracing::info!(region = region_id.0, peer = peer_id.0, "peer ends, empty as it began");
            self.shared.views.remove(region_id);
            self.out.batch.writes.push(clearing(region_id));
            return;
        }
        let range = peer.region().map(|region| region.range.clone());
        let record = LifecycleRecord {
            sequence: self.shared.next_record(),
            cause: None,
            change: LifecycleChange::Destroy { region_id, peer_id, range },
        };
        tracing::info!(region = region_id.0, peer = peer_id.0, sequence = record.sequence, "peer ends");
        self.out.recorded.push((region_id, record.sequence));
        self.out.batch.records.push(record.clone());
        self.out.is_synced = true;
        let stage = EndStage::Recording(Box::new(record));
        self.endings.insert(region_id, Ending { peer_id, stage });
        if region_id == RegionId::PLACEMENT {
            self.tell_placement_leader(None, None);
        }
    }

    /// The end of a peer began in an earlier run; upkeep finishes it.
    pub(crate) fn resume_end(&mut self, region_id: RegionId, peer_id: PeerId) {
        self.endings.insert(region_id, Ending { peer_id, stage: EndStage::Erasing });
    }

    /// A record is durable: its effect follows.
    pub(crate) fn on_recorded(&mut self, region_id: RegionId, sequence: u64) {
        if let Some(ending) = self.endings.get_mut(&region_id)
            && let EndStage::Recording(record) = &ending.stage
            && record.sequence == sequence
        {
            let record = record.clone();
            ending.stage = EndStage::Erasing;
            self.out.applies.push((region_id, ApplyMail::End(record)));
        }
        self.on_split_recorded(region_id, sequence);
    }

    /// Nothing is left of a peer but its tombstone.
    pub(crate) fn on_ended(&mut self, region_id: RegionId, peer_id: PeerId) {
        if self.endings.get(&region_id).is_some_and(|ending| ending.peer_id == peer_id) {
            tracing::info!(region = region_id.0, peer = peer_id.0, "peer has ended");
            self.endings.remove(&region_id);
            self.retry_claims();
        }
    }

    /// Whether a peer of this id must not begin here: it has been here, or what another one left is still being deleted.
    pub(crate) fn is_barred(&self, region_id: RegionId, peer_id: PeerId) -> bool {
        if self.endings.contains_key(&region_id) || self.expected.contains(&region_id) {
            return true;
        }
        let tombstone = self.shared.kv.get(&keys::tombstone_key(region_id, peer_id));
        self.shared.or_fatal("read a tombstone", tombstone).is_none_or(|row| row.is_some())
    }

    pub(crate) fn on_membership(&mut self, from: StoreId, message: MembershipMessage) {
        let region_id = message.region_id();
        let Some(peer) = self.peers.get_mut(&region_id) else { return };
        match message {
            MembershipMessage::Question { peer_id, epoch, .. } => {
                if let Some(answer) = peer.on_question(peer_id, epoch) {
                    self.out.messages.push(from, Lane::Liveness, StoreMessage::Membership(answer));
                }
            }
            MembershipMessage::Removed { peer_id, region } => peer.on_removed(peer_id, &region),
        }
        self.touch(region_id);
    }

    /// A received snapshot that nobody here can use.
    pub(crate) fn drop_snapshot(&mut self, files: Vec<String>) {
        self.out.snapshots.push(SnapshotMail::Finished { files });
    }
}

/// What deletes the log of a peer that has ended.
pub(crate) fn clearing(region_id: RegionId) -> LogWrite {
    LogWrite { region_id, is_cleared: true, ..LogWrite::default() }
}
