//! The snapshot worker: sends and receives regions' data in chunks, in a lane of its own.
//!
//! ```text
//! sender                         receiver
//!   Header ───────────────────────▶ admission: space, not too many, nobody else's keys
//!   ◀──────────────── Ack(Continue 0)
//!   Chunk 0 … window ─────────────▶ checksum, stage
//!   ◀──────────────── Ack(Continue n)
//!   Chunk last ───────────────────▶ stage, sync, hand to the peer
//!   ◀──────────────────── Ack(Done)
//! ```

mod rate;
mod receive;
mod send;

use std::{collections::BTreeMap, sync::Arc};

use actor::{Now, Worker};
use types::{Instant, StoreId};

use self::{rate::Rate, receive::Receiving, send::Sending};
use crate::{
    limits::SNAPSHOT_BYTES_PER_SECOND,
    message::{SnapshotMail, SnapshotMessage, StoreMessage},
    outbox::Outbox,
    ports::Lane,
    shared::Shared,
};

/// The actor for snapshots.
pub(crate) struct SnapshotWorker {
    shared: Arc<Shared>,
    /// Names this store's next transfer; begins at the incarnation, so that no two runs share a name.
    next_id: u64,
    sending: BTreeMap<u64, Sending>,
    /// Transfers that wait for a place among those being sent.
    queued: std::collections::VecDeque<send::Wanted>,
    receiving: BTreeMap<(StoreId, u64), Receiving>,
    /// The last transfers that were begun from other stores, so that none is begun twice.
    begun: std::collections::VecDeque<(StoreId, u64)>,
    /// No transfer is begun from another store.
    is_disk_full: bool,
    /// How fast chunks may leave.
    rate: Rate,
    /// The transfer whose chunk left last.
    last_served: u64,
    outbox: Outbox,
}

impl SnapshotWorker {
    pub(crate) fn new(shared: Arc<Shared>) -> SnapshotWorker {
        let next_id = shared.ident.incarnation.0 << 32;
        SnapshotWorker {
            shared,
            next_id,
            sending: BTreeMap::new(),
            queued: std::collections::VecDeque::new(),
            receiving: BTreeMap::new(),
            begun: std::collections::VecDeque::new(),
            is_disk_full: false,
            rate: Rate::new(SNAPSHOT_BYTES_PER_SECOND),
            last_served: 0,
            outbox: Outbox::default(),
        }
    }

    fn on_mail(&mut self, now: Instant, mail: SnapshotMail) {
        match mail {
            SnapshotMail::Send { region_id, from, to, term } => {
                self.queued.push_back(send::Wanted { region_id, from, to, term });
            }
            SnapshotMail::Message(from, SnapshotMessage::Header(header)) => {
                self.on_header(now, from, *header)
            }
            SnapshotMail::Message(from, SnapshotMessage::Chunk(chunk)) => self.on_chunk(now, from, chunk),
            SnapshotMail::Chunk(from, chunk, _reservation) => self.on_chunk(now, from, chunk),
            SnapshotMail::Message(from, SnapshotMessage::Ack(ack)) => self.on_ack(now, from, ack),
            SnapshotMail::Finished { files } => self.delete_files(&files),
            SnapshotMail::DiskFull(is_full) => self.is_disk_full = is_full,
        }
    }

    fn delete_files(&self, files: &[String]) {
        for file in files {
            self.shared.or_fatal("delete a snapshot's file", self.shared.kv.stage_delete(file));
        }
    }

    fn send(&mut self, to: StoreId, message: SnapshotMessage) {
        self.outbox.push(to, Lane::Snapshot, StoreMessage::Snapshot(message));
    }
}

impl Worker for SnapshotWorker {
    type Mail = SnapshotMail;

    fn round(&mut self, now: Now, mail: &mut Vec<SnapshotMail>) {
        let now = now.monotonic;
        for mail in mail.drain(..) {
            self.on_mail(now, mail);
        }
        self.expire(now);
        self.resend(now);
        self.start_queued(now);
        self.pump(now);
        self.outbox.send(&*self.shared.transport);
    }

    fn deadline(&self) -> Option<Instant> {
        let sending = self.sending.values().map(Sending::deadline);
        let receiving = self.receiving.values().map(Receiving::deadline);
        sending.chain(receiving).chain(self.rate.deadline()).min()
    }
}
