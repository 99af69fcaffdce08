//! Sending: from one engine snapshot, a window of chunks at a time, while apply goes on.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::KvSnapshot;
use kv::{
    export::{self, Extent},
    keys,
};
use raft::SnapshotOutcome;
use types::{ConfigurationChange, Index, Instant, Peer, RegionId, StoreId, Term};

use super::SnapshotWorker;
use crate::{
    codec,
    limits::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_STALL_MAX, SNAPSHOT_WINDOW_CHUNKS, SNAPSHOTS_MAX},
    message::{RaftMail, SnapshotAck, SnapshotChunk, SnapshotHeader, SnapshotMessage, SnapshotStatus},
};

/// A transfer that a leader asked for.
pub(super) struct Wanted {
    pub(super) region_id: RegionId,
    pub(super) from: Peer,
    pub(super) to: Peer,
    pub(super) term: Term,
}

/// A transfer under way.
pub(super) struct Sending {
    header: SnapshotHeader,
    snapshot: Box<dyn KvSnapshot>,
    stage: Stage,
    /// When it was last moved on by the receiver.
    moved_at: Instant,
}

/// How far a transfer is.
enum Stage {
    /// The receiver has not answered the header.
    Offered,
    /// Chunks are being sent.
    Streaming {
        /// The next chunk to send.
        next_chunk: u64,
        /// Chunks below this have been acknowledged.
        acked_chunk: u64,
        /// The engine key from which the next chunk goes on; `None`: the last chunk has been sent.
        resume_key: Option<Vec<u8>>,
    },
}

impl Sending {
    pub(super) fn to_store(&self) -> StoreId {
        self.header.to.store_id
    }

    pub(super) fn deadline(&self) -> Instant {
        self.moved_at + SNAPSHOT_STALL_MAX
    }
}

impl SnapshotWorker {
    pub(super) fn start_queued(&mut self, now: Instant) {
        while self.sending.len() < SNAPSHOTS_MAX
            && let Some(wanted) = self.queued.pop_front()
        {
            self.start(now, &wanted);
        }
    }

    fn start(&mut self, now: Instant, wanted: &Wanted) {
        let snapshot = self.shared.kv.snapshot();
        self.next_id += 1;
        match read_header(self.next_id, wanted, &*snapshot) {
            Ok(Some(header)) => {
                tracing::info!(
                    region = wanted.region_id.0,
                    to = wanted.to.store_id.0,
                    index = header.position.index.0,
                    "send snapshot"
                );
                self.send(wanted.to.store_id, SnapshotMessage::Header(Box::new(header.clone())));
                self.sending
                    .insert(self.next_id, Sending { header, snapshot, stage: Stage::Offered, moved_at: now });
            }
            Ok(None) => self.report(wanted.region_id, wanted.to, SnapshotOutcome::Failed),
            Err(error) => {
                (self.shared.fatal)(&format!("read region {} for a snapshot: {error}", wanted.region_id))
            }
        }
    }

    pub(super) fn on_ack(&mut self, now: Instant, from: StoreId, ack: SnapshotAck) {
        let Some(sending) = self.sending.get_mut(&ack.id) else { return };
        if sending.to_store() != from {
            return;
        }
        match ack.status {
            SnapshotStatus::Continue { next_chunk } => {
                sending.moved_at = now;
                match &mut sending.stage {
                    Stage::Offered => {
                        sending.stage =
                            Stage::Streaming { next_chunk: 0, acked_chunk: 0, resume_key: Some(Vec::new()) };
                    }
                    Stage::Streaming { acked_chunk, .. } => *acked_chunk = next_chunk.max(*acked_chunk),
                }
            }
            SnapshotStatus::Done => {
                if let Some(sending) = self.sending.remove(&ack.id) {
                    metrics::counter!(telemetry::names::SNAPSHOTS_SENT).increment(1);
                    let header = sending.header;
                    self.report(header.region.id, header.to, SnapshotOutcome::Sent(header.position.index));
                }
            }
            SnapshotStatus::Refused(reason) => self.fail(ack.id, &reason),
        }
    }

    /// Sends what the windows allow.
    pub(super) fn pump(&mut self, now: Instant) {
        let ids: Vec<_> = self.sending.keys().copied().collect();
        for id in ids {
            while let Some(chunk) = self.next_chunk(id) {
                let Some(sending) = self.sending.get_mut(&id) else { break };
                sending.moved_at = sending.moved_at.max(now);
                let to = sending.to_store();
                metrics::counter!(telemetry::names::SNAPSHOT_SENT_BYTES).increment(chunk.size_bytes() as u64);
                self.send(to, SnapshotMessage::Chunk(chunk));
            }
        }
    }

    fn next_chunk(&mut self, id: u64) -> Option<SnapshotChunk> {
        let sending = self.sending.get_mut(&id)?;
        let Stage::Streaming { next_chunk, acked_chunk, resume_key } = &mut sending.stage else {
            return None;
        };
        if *next_chunk >= *acked_chunk + SNAPSHOT_WINDOW_CHUNKS {
            return None;
        }
        let resume = resume_key.take()?;
        let header = &sending.header;
        let extent =
            Extent { region_id: header.region.id, range: &header.region.range, clock: header.region_clock };
        match read_pairs(&extent, &resume, &*sending.snapshot) {
            Ok((pairs, resume)) => {
                let number = *next_chunk;
                let checksum = SnapshotChunk::checksum_of(number, &pairs);
                *next_chunk += 1;
                let is_last = resume.is_none();
                *resume_key = resume;
                Some(SnapshotChunk { id, number, pairs, checksum, is_last })
            }
            Err(error) => {
                (self.shared.fatal)(&format!("read region {} for a snapshot: {error}", header.region.id));
                None
            }
        }
    }

    pub(super) fn fail(&mut self, id: u64, reason: &str) {
        let Some(sending) = self.sending.remove(&id) else { return };
        let header = sending.header;
        tracing::info!(
            region = header.region.id.0,
            to = header.to.store_id.0,
            reason,
            "snapshot was not sent"
        );
        metrics::counter!(telemetry::names::SNAPSHOTS_FAILED, "side" => "sender").increment(1);
        self.report(header.region.id, header.to, SnapshotOutcome::Failed);
    }

    fn report(&self, region_id: RegionId, to: Peer, outcome: SnapshotOutcome) {
        self.shared.router.send_raft(region_id, RaftMail::SnapshotSent { region_id, to: to.id, outcome });
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<_> =
            self.sending.iter().filter(|(_, sending)| sending.deadline() <= now).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.fail(id, "no answer in time"));
        self.expire_receiving(now);
    }
}

/// The header of a snapshot of what `snapshot` holds; `None` where the region has no data here.
fn read_header(
    id: u64,
    wanted: &Wanted,
    snapshot: &dyn KvSnapshot,
) -> Result<Option<SnapshotHeader>, kv::Error> {
    let region = snapshot.get(&keys::region_state_key(wanted.region_id))?;
    let state = snapshot.get(&keys::apply_state_key(wanted.region_id))?;
    let (Some(region), Some(state)) = (region, state) else { return Ok(None) };
    let (Ok(region), Ok(state)) = (codec::decode_region(&region), codec::decode_apply_state(&state)) else {
        return Ok(None);
    };
    // The applied descriptor spells the configuration at the applied index; which entry made it matters to nobody
    // behind the snapshot, so it gets the snapshot's own index.
    let configuration = ConfigurationChange { peers: region.peers.clone(), change_id: 0 };
    let index: Index = state.position.index;
    Ok(Some(SnapshotHeader {
        id,
        from: wanted.from,
        to: wanted.to,
        term: wanted.term,
        position: state.position,
        configuration: (index, configuration),
        region_clock: state.region_clock,
        region,
    }))
}

/// Pairs, and the engine key from which to go on; `None`: these are the last.
type Pairs = (Vec<(Bytes, Bytes)>, Option<Vec<u8>>);

fn read_pairs(extent: &Extent<'_>, resume: &[u8], snapshot: &dyn KvSnapshot) -> kv::Result<Pairs> {
    let mut pairs = Vec::new();
    let mut size_bytes = 0;
    let resume = export::visit(extent, Some(resume), snapshot, &mut |key, value| {
        size_bytes += key.len() + value.len();
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if size_bytes >= SNAPSHOT_CHUNK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((pairs, resume))
}
