//! Reads that wait for a read index.

use std::collections::BTreeMap;

use raft::ReadState;
use types::{Index, Instant, RegionId};

use super::Peer;
use crate::{
    Error,
    limits::{READ_INDEX_TIMEOUT, WAITING_READS_MAX},
    message::{ConfirmedRead, ReadProof, ReadRequest},
};

#[derive(Default)]
pub(super) struct WaitingReads {
    /// Counts from zero again behind a sleep: no read of before is under way then.
    last_id: u64,
    /// By id, and so by age.
    waiting: BTreeMap<u64, (ReadRequest, Instant)>,
}

impl WaitingReads {
    pub(super) fn has_any(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.waiting.first_key_value().map_or(Instant::MAX, |(_, (_, deadline))| *deadline)
    }

    /// Answers all of them.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for (read, _) in std::mem::take(&mut self.waiting).into_values() {
            read.responder.reply(Err(error.clone()));
        }
    }

    pub(super) fn expire(&mut self, now: Instant, region_id: RegionId) {
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().1 <= now
        {
            let (read, _) = oldest.remove();
            read.responder.reply(Err(Error::ReadIndexNotReady(region_id)));
        }
    }
}

impl Peer {
    /// Starts a read index for a read that has passed the checks of its context.
    pub(crate) fn start_read(&mut self, now: Instant, read: ReadRequest) {
        let reads = &mut self.requests.get_or_insert_default().reads;
        if reads.waiting.len() >= WAITING_READS_MAX {
            read.responder.reply(Err(Error::ReadIndexNotReady(self.region_id)));
            return;
        }
        self.sleep.note_request(now);
        reads.last_id += 1;
        reads.waiting.insert(reads.last_id, (read, now + READ_INDEX_TIMEOUT));
        self.group.read_index(now, reads.last_id);
    }

    /// A read index is decided: the read goes on to where it waits for apply, or is answered that it cannot be.
    pub(super) fn on_read_state(&mut self, state: ReadState) -> Option<(Index, ConfirmedRead)> {
        let (request, _) = self.requests.as_mut()?.reads.waiting.remove(&state.id)?;
        match state.index {
            Some(index) => Some((index, ConfirmedRead { request, proof: ReadProof::ReadIndex })),
            None if self.is_leader() => {
                request.responder.reply(Err(Error::ReadIndexNotReady(self.region_id)));
                None
            }
            None => {
                request.responder.reply(Err(self.not_leader()));
                None
            }
        }
    }
}
