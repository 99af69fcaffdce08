//! Messages of one round, gathered by destination so that each store and lane gets one batch.

use std::collections::BTreeMap;

use raft::MessageBody;
use types::StoreId;

use crate::{
    message::{RaftEnvelope, StoreMessage},
    ports::{Lane, Transport},
};

/// Messages by destination.
#[derive(Default)]
pub(crate) struct Outbox {
    batches: BTreeMap<(StoreId, Lane), Vec<StoreMessage>>,
}

impl Outbox {
    pub(crate) fn push(&mut self, to: StoreId, lane: Lane, message: StoreMessage) {
        self.batches.entry((to, lane)).or_default().push(message);
    }

    pub(crate) fn push_raft(&mut self, envelope: RaftEnvelope) {
        let lane = lane_of(&envelope.message.body);
        self.push(envelope.to.store_id, lane, StoreMessage::Raft(envelope));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds what another round has gathered.
    pub(crate) fn absorb(&mut self, other: Outbox) {
        for (key, messages) in other.batches {
            self.batches.entry(key).or_default().extend(messages);
        }
    }

    /// Sends everything.
    pub(crate) fn send(&mut self, transport: &dyn Transport) {
        for ((to, lane), messages) in std::mem::take(&mut self.batches) {
            let is_raft = |message: &&StoreMessage| matches!(message, StoreMessage::Raft(_));
            let raft_count = messages.iter().filter(is_raft).count();
            metrics::counter!(telemetry::names::RAFT_MESSAGES_SENT).increment(raft_count as u64);
            transport.send(to, lane, messages);
        }
    }
}

/// Load never starves liveness: whatever decides who leads, or lets a leader go on, has a lane of its own.
fn lane_of(body: &MessageBody) -> Lane {
    match body {
        MessageBody::Append { .. }
        | MessageBody::AppendAccepted { .. }
        | MessageBody::AppendRejected { .. }
        | MessageBody::Snapshot { .. } => Lane::Append,
        MessageBody::Heartbeat { .. }
        | MessageBody::HeartbeatResponse { .. }
        | MessageBody::VoteRequest { .. }
        | MessageBody::VoteResponse { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ReadIndexRequest { .. }
        | MessageBody::ReadIndexResponse { .. } => Lane::Liveness,
    }
}
