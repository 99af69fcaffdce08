//! Receiving: chunks are checked and staged as they come; the peer hears of it when all is durable.

use types::{Instant, RegionId, RegionSize, StoreId};

use super::SnapshotWorker;
use crate::{
    limits::{SNAPSHOT_STALL_MAX, SNAPSHOTS_MAX, SNAPSHOTS_REMEMBERED_MAX},
    message::{
        RaftMail, ReceivedSnapshot, SnapshotAck, SnapshotChunk, SnapshotHeader, SnapshotMessage,
        SnapshotStatus,
    },
};

/// A transfer under way.
pub(super) struct Receiving {
    header: SnapshotHeader,
    file: String,
    next_chunk: u64,
    /// What has come.
    size: RegionSize,
    moved_at: Instant,
}

impl Receiving {
    pub(super) fn deadline(&self) -> Instant {
        self.moved_at + SNAPSHOT_STALL_MAX
    }
}

impl SnapshotWorker {
    pub(super) fn on_header(&mut self, now: Instant, from: StoreId, header: SnapshotHeader) {
        let id = header.id;
        // A header that arrives twice must not begin anew: its file may be complete already, and wait to be put in place.
        if let Some(receiving) = self.receiving.get(&(from, id)) {
            let next_chunk = receiving.next_chunk;
            return self.ack(from, id, SnapshotStatus::Continue { next_chunk });
        }
        if self.begun.contains(&(from, id)) {
            return;
        }
        if let Err(reason) = self.admit(&header) {
            return self.ack(from, id, SnapshotStatus::Refused(reason));
        }
        let file = format!("snapshot-{}-{}-{}", header.region.id, from, id);
        let created = self.shared.kv.stage_create(&file);
        if let Err(error) = created {
            return self.ack(from, id, SnapshotStatus::Refused(error.to_string()));
        }
        tracing::info!(region = header.region.id.0, from = from.0, "receive snapshot");
        if self.begun.len() == SNAPSHOTS_REMEMBERED_MAX {
            self.begun.pop_front();
        }
        self.begun.push_back((from, id));
        self.receiving.insert(
            (from, id),
            Receiving { header, file, next_chunk: 0, size: RegionSize::default(), moved_at: now },
        );
        self.ack(from, id, SnapshotStatus::Continue { next_chunk: 0 });
    }

    /// Before a byte is sent: is there space and a place, and does nobody else have these keys (D5)?
    fn admit(&mut self, header: &SnapshotHeader) -> Result<(), String> {
        if header.to.store_id != self.shared.ident.store_id {
            return Err(format!("this is store {}", self.shared.ident.store_id));
        }
        // What is left is for what this store has taken on already, like entries that are refused then.
        if self.is_disk_full {
            return Err("the disk is full".to_owned());
        }
        let region_id = header.region.id;
        if let Some(view) = self.shared.views.find(region_id) {
            let mine = view.read(|state| state.peer.id);
            if mine != header.to.id {
                return Err(format!("peer {mine} of the region lives here"));
            }
        }
        if region_id != RegionId::PLACEMENT
            && let Some(other) = self.shared.meta.find_overlap(&header.region.range, region_id)
        {
            return Err(format!("region {other} has some of these keys here"));
        }
        // A newer transfer for the same peer replaces an older one that will not go on.
        let same = |receiving: &Receiving| receiving.header.to.id == header.to.id;
        let older: Vec<_> =
            self.receiving.iter().filter(|(_, other)| same(other)).map(|(key, _)| *key).collect();
        older.into_iter().for_each(|key| self.give_up(key));
        if self.receiving.len() >= SNAPSHOTS_MAX {
            return Err("too many snapshots are being received".to_owned());
        }
        Ok(())
    }

    pub(super) fn on_chunk(&mut self, now: Instant, from: StoreId, chunk: SnapshotChunk) {
        let key = (from, chunk.id);
        let Some(receiving) = self.receiving.get_mut(&key) else {
            return self.ack(from, chunk.id, SnapshotStatus::Refused("no such transfer".to_owned()));
        };
        let is_whole = chunk.checksum == SnapshotChunk::checksum_of(chunk.number, &chunk.pairs);
        if chunk.number != receiving.next_chunk || !is_whole {
            // Staged already, or behind one that was lost; the sender goes on from here after a while.
            metrics::counter!(telemetry::names::SNAPSHOT_CHUNKS_IGNORED).increment(1);
            let next_chunk = receiving.next_chunk;
            return self.ack(from, chunk.id, SnapshotStatus::Continue { next_chunk });
        }
        let file = receiving.file.clone();
        receiving.next_chunk += 1;
        receiving.size += chunk.size();
        receiving.moved_at = now;
        let next_chunk = receiving.next_chunk;
        metrics::counter!(telemetry::names::SNAPSHOT_RECEIVED_BYTES).increment(chunk.size_bytes() as u64);
        let staged = self
            .shared
            .kv
            .stage_append(&file, &chunk.pairs)
            .and_then(|()| if chunk.is_last { self.shared.kv.stage_sync(&file) } else { Ok(()) });
        if let Err(error) = staged {
            if !matches!(error, engine::Error::DiskFull { .. }) {
                // The engine is poisoned: a store that goes on would acknowledge what it cannot apply.
                (self.shared.fatal)(&format!("stage a snapshot: {error}"));
            }
            self.give_up(key);
            return self.ack(from, chunk.id, SnapshotStatus::Refused(error.to_string()));
        }
        if chunk.is_last {
            self.finish(key);
        } else {
            self.ack(from, chunk.id, SnapshotStatus::Continue { next_chunk });
        }
    }

    /// All data is durable: the peer takes it from here.
    fn finish(&mut self, key: (StoreId, u64)) {
        let Some(receiving) = self.receiving.remove(&key) else { return };
        metrics::counter!(telemetry::names::SNAPSHOTS_RECEIVED).increment(1);
        let region_id = receiving.header.region.id;
        let Receiving { header, file, size, .. } = receiving;
        let received = ReceivedSnapshot { header, files: vec![file], size };
        self.shared.router.send_raft(region_id, RaftMail::SnapshotReceived(Box::new(received)));
        self.ack(key.0, key.1, SnapshotStatus::Done);
    }

    fn give_up(&mut self, key: (StoreId, u64)) {
        if let Some(receiving) = self.receiving.remove(&key) {
            metrics::counter!(telemetry::names::SNAPSHOTS_FAILED, "side" => "receiver").increment(1);
            self.delete_files(&[receiving.file]);
        }
    }

    pub(super) fn expire_receiving(&mut self, now: Instant) {
        let late: Vec<_> = self
            .receiving
            .iter()
            .filter(|(_, receiving)| receiving.deadline() <= now)
            .map(|(key, _)| *key)
            .collect();
        late.into_iter().for_each(|key| self.give_up(key));
    }

    fn ack(&mut self, to: StoreId, id: u64, status: SnapshotStatus) {
        self.send(to, SnapshotMessage::Ack(SnapshotAck { id, status }));
    }
}
