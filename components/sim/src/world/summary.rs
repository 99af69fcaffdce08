//! Messages in a few words, for the trace.

use std::fmt;

use raft::MessageBody;
use store::{RaftEnvelope, SnapshotMessage, SnapshotStatus, StoreMessage};

/// Prints a batch of messages: enough to follow a run and to tell two runs apart.
pub(super) struct Summary<'a>(pub(super) &'a [StoreMessage]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, message) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            match message {
                StoreMessage::Raft(envelope) => raft(f, envelope)?,
                StoreMessage::Beat(beat) => write!(f, "beat {}/{}", beat.incarnation, beat.number)?,
                StoreMessage::Snapshot(message) => snapshot(f, message)?,
                StoreMessage::Membership(message) => write!(f, "{message:?}")?,
                StoreMessage::Sleep(message) => write!(f, "sleep {message:?}")?,
                StoreMessage::Placement(message) => {
                    let kind = if message.is_response { "response" } else { "request" };
                    write!(f, "placement {kind} {} of {} bytes", message.id, message.body.len())?;
                }
            }
        }
        Ok(())
    }
}

fn raft(f: &mut fmt::Formatter<'_>, envelope: &RaftEnvelope) -> fmt::Result {
    let message = &envelope.message;
    write!(f, "r{} {}>{} t{} ", envelope.region_id, message.from, message.to, message.term)?;
    match &message.body {
        MessageBody::Append { prev, entries, commit, stamp } => {
            let last = entries.last().map_or(prev.index, |entry| entry.index);
            let chain = entries.last().map_or(prev.chain, |entry| entry.chain);
            write!(f, "append ({}, {last}] c{commit} n{} {:08x}", prev.index, stamp.nonce, chain.0 >> 96)
        }
        MessageBody::AppendAccepted { match_index, stamp } => {
            write!(f, "accepted {match_index} n{}", stamp.nonce)
        }
        MessageBody::AppendRejected { prev_index, last_index, hint, .. } => {
            write!(f, "rejected {prev_index}, last {last_index}, hint {}", hint.index)
        }
        MessageBody::Heartbeat { commit, stamp, .. } => write!(f, "heartbeat c{commit} n{}", stamp.nonce),
        MessageBody::HeartbeatResponse { stamp, last_index } => {
            write!(f, "follows n{} l{last_index}", stamp.nonce)
        }
        MessageBody::VoteRequest { is_pre_vote, is_forced, last_index, last_term } => {
            write!(f, "vote? pre {is_pre_vote} forced {is_forced} last {last_index}@{last_term}")
        }
        MessageBody::VoteResponse { is_pre_vote, is_granted } => {
            write!(f, "vote {is_granted} pre {is_pre_vote}")
        }
        MessageBody::Snapshot { meta } => write!(f, "snapshot {}", meta.position.index),
        MessageBody::TimeoutNow => f.write_str("timeout now"),
        MessageBody::ReadIndexRequest { id } => write!(f, "read index? {id}"),
        MessageBody::ReadIndexResponse { id, index } => write!(f, "read index {id} {index:?}"),
    }
}

fn snapshot(f: &mut fmt::Formatter<'_>, message: &SnapshotMessage) -> fmt::Result {
    match message {
        SnapshotMessage::Header(header) => {
            write!(f, "snapshot {} of r{} at {}", header.id, header.region.id, header.position.index)
        }
        SnapshotMessage::Chunk(chunk) => {
            write!(f, "chunk {}/{} last {}: {:016x}", chunk.id, chunk.number, chunk.is_last, chunk.checksum)
        }
        SnapshotMessage::Ack(ack) => match &ack.status {
            SnapshotStatus::Continue { next_chunk } => {
                write!(f, "snapshot {}: go on from {next_chunk}", ack.id)
            }
            SnapshotStatus::Done => write!(f, "snapshot {}: done", ack.id),
            SnapshotStatus::Refused(reason) => write!(f, "snapshot {}: refused, {reason}", ack.id),
        },
    }
}
