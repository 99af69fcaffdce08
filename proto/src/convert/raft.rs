//! Raft messages on their way between stores: `sheaf.raft.v1`.

use raft::{Message, MessageBody, Stamp};
use types::{Entry, EntryKind, Epoch, Index, Instant, KeyRange, LogPosition, Peer, RegionId, Term};

use super::{
    Error, Result,
    error::{non_zero, required},
};
use crate::raft as wire;

/// A Raft message with what the stores at both ends must know to deliver it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The region.
    pub region_id: RegionId,
    /// The sender; its id is `message.from`.
    pub from: Peer,
    /// The receiver; its id is `message.to`.
    pub to: Peer,
    /// The sender's epoch of the region, where the receiver shall know it.
    pub epoch: Option<Epoch>,
    /// The sender's range of the region, in messages that may create the receiving peer.
    pub range: Option<KeyRange>,
    /// What one peer says to the other.
    pub message: Message,
}

impl TryFrom<PeerMessage> for wire::RaftMessage {
    type Error = Error;

    /// Fails only for [`MessageBody::Snapshot`], which the snapshot lane carries in another form.
    fn try_from(message: PeerMessage) -> Result<wire::RaftMessage> {
        debug_assert_eq!(message.from.id, message.message.from);
        debug_assert_eq!(message.to.id, message.message.to);
        Ok(wire::RaftMessage {
            region_id: message.region_id.0,
            from: Some(message.from.into()),
            to: Some(message.to.into()),
            epoch: message.epoch.map(Into::into),
            range: message.range.map(Into::into),
            term: message.message.term.0,
            body: Some(message.message.body.try_into()?),
        })
    }
}

impl TryFrom<wire::RaftMessage> for PeerMessage {
    type Error = Error;

    fn try_from(message: wire::RaftMessage) -> Result<PeerMessage> {
        const NAME: &str = "RaftMessage";
        let from = Peer::try_from(required(message.from, NAME, "from")?)?;
        let to = Peer::try_from(required(message.to, NAME, "to")?)?;
        let body = required(message.body, NAME, "a known body")?.try_into()?;
        Ok(PeerMessage {
            region_id: RegionId(non_zero(message.region_id, NAME, "region_id")?),
            from,
            to,
            epoch: message.epoch.map(Into::into),
            range: message.range.map(Into::into),
            message: Message { from: from.id, to: to.id, term: Term(message.term), body },
        })
    }
}

impl TryFrom<MessageBody> for wire::raft_message::Body {
    type Error = Error;

    fn try_from(body: MessageBody) -> Result<wire::raft_message::Body> {
        use wire::raft_message::Body;
        Ok(match body {
            MessageBody::Append { prev, entries, commit, stamp } => Body::Append(wire::Append {
                prev: Some(prev.into()),
                entries: entries.into_iter().map(wire::Entry::from).collect(),
                commit: commit.0,
                stamp: Some(stamp.into()),
            }),
            MessageBody::AppendAccepted { match_index, stamp } => {
                Body::AppendAccepted(wire::AppendAccepted {
                    match_index: match_index.0,
                    stamp: Some(stamp.into()),
                })
            }
            MessageBody::AppendRejected { prev_index, last_index, hint, stamp } => {
                Body::AppendRejected(wire::AppendRejected {
                    prev_index: prev_index.0,
                    last_index: last_index.0,
                    hint: Some(hint.into()),
                    stamp: Some(stamp.into()),
                })
            }
            MessageBody::Heartbeat { commit, stamp } => {
                Body::Heartbeat(wire::Heartbeat { commit: commit.0, stamp: Some(stamp.into()) })
            }
            MessageBody::HeartbeatResponse { stamp, last_index } => {
                Body::HeartbeatResponse(wire::HeartbeatResponse {
                    stamp: Some(stamp.into()),
                    last_index: last_index.0,
                })
            }
            MessageBody::VoteRequest { is_pre_vote, is_forced, last_index, last_term } => {
                let (last_index, last_term) = (last_index.0, last_term.0);
                Body::VoteRequest(wire::VoteRequest { is_pre_vote, is_forced, last_index, last_term })
            }
            MessageBody::VoteResponse { is_pre_vote, is_granted } => {
                Body::VoteResponse(wire::VoteResponse { is_pre_vote, is_granted })
            }
            MessageBody::Snapshot { .. } => {
                let reason = "a snapshot travels in the snapshot lane";
                return Err(Error::Inconsistent { message: "RaftMessage", reason });
            }
            MessageBody::TimeoutNow => Body::TimeoutNow(wire::TimeoutNow {}),
            MessageBody::ReadIndexRequest { id } => Body::ReadIndexRequest(wire::ReadIndexRequest { id }),
            MessageBody::ReadIndexResponse { id, index } => {
                Body::ReadIndexResponse(wire::ReadIndexResponse { id, index: index.map(|index| index.0) })
            }
        })
    }
}

impl TryFrom<wire::raft_message::Body> for MessageBody {
    type Error = Error;

    fn try_from(body: wire::raft_message::Body) -> Result<MessageBody> {
        use wire::raft_message::Body;
        Ok(match body {
            Body::Append(append) => {
                let prev = required(append.prev, "Append", "prev")?.into();
                MessageBody::Append {
                    prev,
                    entries: entries_behind(prev, append.entries)?,
                    commit: Index(append.commit),
                    stamp: stamp_of(append.stamp, "Append")?,
                }
            }
            Body::AppendAccepted(answer) => MessageBody::AppendAccepted {
                match_index: Index(answer.match_index),
                stamp: stamp_of(answer.stamp, "AppendAccepted")?,
            },
            Body::AppendRejected(answer) => MessageBody::AppendRejected {
                prev_index: Index(answer.prev_index),
                last_index: Index(answer.last_index),
                hint: required(answer.hint, "AppendRejected", "hint")?.into(),
                stamp: stamp_of(answer.stamp, "AppendRejected")?,
            },
            Body::Heartbeat(heartbeat) => MessageBody::Heartbeat {
                commit: Index(heartbeat.commit),
                stamp: stamp_of(heartbeat.stamp, "Heartbeat")?,
            },
            Body::HeartbeatResponse(answer) => MessageBody::HeartbeatResponse {
                stamp: stamp_of(answer.stamp, "HeartbeatResponse")?,
                last_index: Index(answer.last_index),
            },
            Body::VoteRequest(request) => MessageBody::VoteRequest {
                is_pre_vote: request.is_pre_vote,
                is_forced: request.is_forced,
                last_index: Index(request.last_index),
                last_term: Term(request.last_term),
            },
            Body::VoteResponse(wire::VoteResponse { is_pre_vote, is_granted }) => {
                MessageBody::VoteResponse { is_pre_vote, is_granted }
            }
            Body::TimeoutNow(wire::TimeoutNow {}) => MessageBody::TimeoutNow,
            Body::ReadIndexRequest(request) => MessageBody::ReadIndexRequest { id: request.id },
            Body::ReadIndexResponse(answer) => {
                MessageBody::ReadIndexResponse { id: answer.id, index: answer.index.map(Index) }
            }
        })
    }
}

impl From<Entry> for wire::Entry {
    fn from(entry: Entry) -> wire::Entry {
        let kind = match entry.kind {
            EntryKind::Empty => wire::EntryKind::Empty,
            EntryKind::Command => wire::EntryKind::Command,
            EntryKind::Configuration => wire::EntryKind::Configuration,
        };
        wire::Entry { term: entry.term.0, kind: kind.into(), payload: entry.payload }
    }
}

/// Entries with the indexes that follow `prev` and the chains that follow from its chain (D15): a sender cannot claim
/// another chain than its entries have.
fn entries_behind(prev: LogPosition, entries: Vec<wire::Entry>) -> Result<Vec<Entry>> {
    const NAME: &str = "Entry";
    let LogPosition { mut index, term: mut term_min, mut chain } = prev;
    entries
        .into_iter()
        .map(|entry| {
            let kind = match wire::EntryKind::try_from(entry.kind) {
                Ok(wire::EntryKind::Empty) => EntryKind::Empty,
                Ok(wire::EntryKind::Command) => EntryKind::Command,
                Ok(wire::EntryKind::Configuration) => EntryKind::Configuration,
                Err(_) => {
                    let number = entry.kind.into();
                    return Err(Error::UnknownNumber { message: NAME, field: "kind", number });
                }
            };
            let term = Term(entry.term);
            if term < term_min {
                return Err(Error::Inconsistent {
                    message: NAME,
                    reason: "its term is below that of the one before",
                });
            }
            term_min = term;
            let next = index.0.checked_add(1);
            index = Index(
                next.ok_or(Error::Inconsistent { message: NAME, reason: "its index is out of range" })?,
            );
            chain = chain.link(index, term, kind, &entry.payload);
            Ok(Entry { index, term, kind, payload: entry.payload, chain })
        })
        .collect()
}

impl From<Stamp> for wire::Stamp {
    fn from(stamp: Stamp) -> wire::Stamp {
        wire::Stamp { nonce: stamp.nonce, sent_at_nanos: stamp.sent_at.0 }
    }
}

/// A stamp always travels: without it an answer could not feed a lease.
fn stamp_of(stamp: Option<wire::Stamp>, message: &'static str) -> Result<Stamp> {
    let stamp = required(stamp, message, "stamp")?;
    Ok(Stamp { nonce: stamp.nonce, sent_at: Instant(stamp.sent_at_nanos) })
}
