//! Sending: from one engine snapshot, a window of chunks at a time, while apply goes on.

use std::{collections::VecDeque, ops::ControlFlow};

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
    ledger::{Account, Reservation},
    limits::{
        SNAPSHOT_CHUNK_BYTES, SNAPSHOT_LEDGER_PART, SNAPSHOT_RESEND_AFTER, SNAPSHOT_STALL_MAX,
        SNAPSHOT_WINDOW_CHUNKS, SNAPSHOTS_MAX,
    },
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
    /// When the header or the oldest chunk without an answer goes out once more.
    resend_at: Instant,
    /// Room for what is under way.
    reservation: Reservation,
}

/// A chunk that was sent and is not acknowledged.
struct Unacked {
    number: u64,
    /// The engine key at which it begins.
    start_key: Vec<u8>,
    bytes: u64,
}

/// How far a transfer is.
enum Stage {
    /// The receiver has not answered the header.
    Offered,
    /// Chunks are being sent.
    Streaming {
        /// The next chunk to send.
        next_chunk: u64,
        /// Chunks that may have to be sent again, ascending.
        unacked: VecDeque<Unacked>,
        /// The engine key from which the next chunk goes on; `None`: the last chunk has been sent.
        resume_key: Option<Vec<u8>>,
    },
}

impl Sending {
    pub(super) fn to_store(&self) -> StoreId {
        self.header.to.store_id
    }

    pub(super) fn deadline(&self) -> Instant {
        self.stalls_at().min(self.resend_at)
    }

    fn stalls_at(&self) -> Instant {
        self.moved_at + SNAPSHOT_STALL_MAX
    }

    /// The receiver has staged everything below this chunk.
    fn on_staged(&mut self, now: Instant, staged: u64) {
        let Stage::Streaming { unacked, .. } = &mut self.stage else {
            self.stage =
                Stage::Streaming { next_chunk: 0, unacked: VecDeque::new(), resume_key: Some(Vec::new()) };
            (self.moved_at, self.resend_at) = (now, now + SNAPSHOT_RESEND_AFTER);
            return;
        };
        while let Some(chunk) = unacked.pop_front_if(|chunk| chunk.number < staged) {
            self.reservation.shrink_to(self.reservation.bytes().saturating_sub(chunk.bytes));
            (self.moved_at, self.resend_at) = (now, now + SNAPSHOT_RESEND_AFTER);
        }
    }

    /// What was under way may be lost: sending goes on from the oldest chunk that the receiver has not said it has. The
    /// engine snapshot is the same, and so are the chunks.
    fn rewind(&mut self) {
        if let Stage::Streaming { next_chunk, unacked, resume_key } = &mut self.stage
            && let Some(oldest) = unacked.front()
        {
            *next_chunk = oldest.number;
            *resume_key = Some(oldest.start_key.clone());
            unacked.clear();
            self.reservation.shrink_to(0);
        }
    }
}

impl SnapshotWorker {
    pub(super) fn start_queued(&mut self, now: Instant) {
        while self.sending.len() < SNAPSHOTS_MAX
            && let Some(wanted) = self.take_fairest()
        {
            self.start(now, &wanted);
        }
    }

    /// The oldest wish of the store to which the fewest snapshots are under way: one that does not answer holds up
    /// those of the others no longer than it must.
    fn take_fairest(&mut self) -> Option<Wanted> {
        let busy = |to: StoreId| self.sending.values().filter(|sending| sending.to_store() == to).count();
        let places = self.queued.iter().enumerate();
        let (at, _) = places.min_by_key(|(at, wanted)| (busy(wanted.to.store_id), *at))?;
        self.queued.remove(at)
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
                let resend_at = now + SNAPSHOT_RESEND_AFTER;
                let reservation = self.shared.ledger.empty(Account::SnapshotsSent);
                let stage = Stage::Offered;
                let sending = Sending { header, snapshot, stage, moved_at: now, resend_at, reservation };
                self.sending.insert(self.next_id, sending);
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
            SnapshotStatus::Continue { next_chunk } => sending.on_staged(now, next_chunk),
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

    /// Sends once more what was not answered for a while: the connection, the chunk or its answer may be lost, or the
    /// receiver may have had no room.
    pub(super) fn resend(&mut self, now: Instant) {
        let due = self.sending.iter_mut().filter(|(_, sending)| sending.resend_at <= now);
        let mut offers = Vec::new();
        for sending in due.map(|(_, sending)| sending) {
            sending.resend_at = now + SNAPSHOT_RESEND_AFTER;
            match sending.stage {
                Stage::Offered => offers.push(sending.header.clone()),
                Stage::Streaming { .. } => sending.rewind(),
            }
        }
        for header in offers {
            self.send(header.to.store_id, SnapshotMessage::Header(Box::new(header)));
        }
    }

    /// Sends what the windows, the rate and the ledger allow: a chunk of each transfer in turn.
    pub(super) fn pump(&mut self, now: Instant) {
        self.rate.begin();
        // Whose turn comes next: where the rate allows one chunk at a time, it is not always the same transfer's.
        let behind = self.sending.range(self.last_served.saturating_add(1)..);
        let mut ids: Vec<_> =
            behind.chain(self.sending.range(..=self.last_served)).map(|(id, _)| *id).collect();
        while !ids.is_empty() {
            ids.retain(|id| {
                let Some(chunk) = self.rate.allows(now).then(|| self.next_chunk(*id)).flatten() else {
                    return false;
                };
                let Some(sending) = self.sending.get(id) else { return false };
                let (to, bytes) = (sending.to_store(), chunk.size_bytes());
                self.rate.on_sent(bytes);
                self.last_served = *id;
                metrics::counter!(telemetry::names::SNAPSHOT_SENT_BYTES).increment(bytes as u64);
                self.send(to, SnapshotMessage::Chunk(chunk));
                true
            });
        }
    }

    fn next_chunk(&mut self, id: u64) -> Option<SnapshotChunk> {
        let part =
            usize::try_from(self.shared.ledger.limit_bytes() / SNAPSHOT_LEDGER_PART).unwrap_or(usize::MAX);
        let chunk_bytes = SNAPSHOT_CHUNK_BYTES.min(part);
        let sending = self.sending.get_mut(&id)?;
        let Stage::Streaming { next_chunk, unacked, resume_key } = &mut sending.stage else {
            return None;
        };
        // Room first: where there is none, the transfer goes on when something has been acknowledged, or after a while.
        if unacked.len() >= SNAPSHOT_WINDOW_CHUNKS || resume_key.is_none() {
            return None;
        }
        let reserved_bytes = sending.reservation.bytes();
        if !sending.reservation.grow(chunk_bytes) {
            return None;
        }
        let resume = resume_key.take()?;
        let header = &sending.header;
        let extent =
            Extent { region_id: header.region.id, range: &header.region.range, clock: header.region_clock };
        match read_pairs(&extent, &resume, &*sending.snapshot, chunk_bytes) {
            Ok((pairs, next_key)) => {
                let number = *next_chunk;
                let checksum = SnapshotChunk::checksum_of(number, &pairs);
                *next_chunk += 1;
                let is_last = next_key.is_none();
                *resume_key = next_key;
                let chunk = SnapshotChunk { id, number, pairs, checksum, is_last };
                // The last pair may exceed what was reserved, by less than a value.
                let excess_bytes = chunk.size_bytes().saturating_sub(chunk_bytes);
                if !sending.reservation.grow(excess_bytes) {
                    tracing::debug!(excess_bytes, "a chunk exceeds the ledger's share");
                }
                let bytes = sending.reservation.bytes() - reserved_bytes;
                unacked.push_back(Unacked { number, start_key: resume, bytes });
                Some(chunk)
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
        let late: Vec<_> = self
            .sending
            .iter()
            .filter(|(_, sending)| sending.stalls_at() <= now)
            .map(|(id, _)| *id)
            .collect();
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
    let (Ok((region, last_split)), Ok(state)) =
        (codec::decode_region_row(&region), codec::decode_apply_state(&state))
    else {
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
        last_split,
    }))
}

/// Pairs, and the engine key from which to go on; `None`: these are the last.
type Pairs = (Vec<(Bytes, Bytes)>, Option<Vec<u8>>);

fn read_pairs(
    extent: &Extent<'_>,
    resume: &[u8],
    snapshot: &dyn KvSnapshot,
    bytes_max: usize,
) -> kv::Result<Pairs> {
    let mut pairs = Vec::new();
    let mut size_bytes = 0;
    let resume = export::visit(extent, Some(resume), snapshot, &mut |key, value| {
        size_bytes += key.len() + value.len();
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if size_bytes >= bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((pairs, resume))
}
