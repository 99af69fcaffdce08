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
            MessageBody::Heartbeat { commit, stamp, offers_sleep } => {
                Body::Heartbeat(wire::Heartbeat { commit: commit.0, stamp: Some(stamp.into()), offers_sleep })
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
                offers_sleep: heartbeat.offers_sleep,
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
            EntryKind::Region => wire::EntryKind::Region,
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
                Ok(wire::EntryKind::Region) => EntryKind::Region,
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message as _;
    use types::{Chain, PeerId, PeerRole, StoreId};

    const STAMP: Stamp = Stamp { nonce: 4, sent_at: Instant(u64::MAX) };
    const PREV: LogPosition = LogPosition { index: Index(6), term: Term(2), chain: Chain(77 << 80) };

    fn entries() -> Vec<Entry> {
        let mut position = PREV;
        let kinds =
            [(2, EntryKind::Command, "x"), (3, EntryKind::Empty, ""), (3, EntryKind::Configuration, "c")];
        kinds
            .map(|(term, kind, payload)| {
                let (index, term) = (position.index.next(), Term(term));
                let chain = position.chain.link(index, term, kind, payload.as_bytes());
                position = LogPosition { index, term, chain };
                Entry { index, term, kind, payload: payload.into(), chain }
            })
            .to_vec()
    }

    fn append(entries: Vec<Entry>) -> MessageBody {
        MessageBody::Append { prev: PREV, entries, commit: Index(5), stamp: STAMP }
    }

    fn message(body: MessageBody) -> PeerMessage {
        let peer = |id| Peer { id: PeerId(id), store_id: StoreId(id * 10), role: PeerRole::Voter };
        PeerMessage {
            region_id: RegionId(2),
            from: peer(1),
            to: peer(2),
            epoch: Some(Epoch::FIRST),
            range: Some(KeyRange::ALL),
            message: Message { from: PeerId(1), to: PeerId(2), term: Term(9), body },
        }
    }

    #[test]
    fn every_body_round_trips_through_bytes() {
        let (last_index, last_term, commit) = (Index(8), Term(3), Index(5));
        let bodies = [
            append(entries()),
            append(Vec::new()),
            MessageBody::AppendAccepted { match_index: Index(7), stamp: STAMP },
            MessageBody::AppendRejected { prev_index: Index(6), last_index, hint: PREV, stamp: STAMP },
            MessageBody::Heartbeat { commit, stamp: STAMP, offers_sleep: true },
            MessageBody::HeartbeatResponse { stamp: Stamp::default(), last_index },
            MessageBody::VoteRequest { is_pre_vote: true, is_forced: false, last_index, last_term },
            MessageBody::VoteRequest { is_pre_vote: false, is_forced: true, last_index, last_term },
            MessageBody::VoteResponse { is_pre_vote: true, is_granted: false },
            MessageBody::VoteResponse { is_pre_vote: false, is_granted: true },
            MessageBody::TimeoutNow,
            MessageBody::ReadIndexRequest { id: 3 },
            MessageBody::ReadIndexResponse { id: 3, index: None },
            MessageBody::ReadIndexResponse { id: 3, index: Some(Index(0)) },
        ];
        for body in bodies {
            let message = message(body);
            let bytes = Bytes::from(wire::RaftMessage::try_from(message.clone()).unwrap().encode_to_vec());
            let decoded = wire::RaftMessage::decode(bytes).unwrap();
            assert_eq!(PeerMessage::try_from(decoded), Ok(message));
        }
    }

    #[test]
    fn snapshots_do_not_travel_as_raft_messages() {
        let change = types::ConfigurationChange { peers: Vec::new(), change_id: 0 };
        let meta = raft::SnapshotMeta { position: PREV, configuration: (Index(1), change) };
        let refused = wire::RaftMessage::try_from(message(MessageBody::Snapshot { meta }));
        assert!(matches!(refused, Err(Error::Inconsistent { .. })));
    }

    #[test]
    fn incomplete_messages_are_refused() {
        let breaks: [fn(&mut wire::RaftMessage); 4] = [
            |message| message.region_id = 0,
            |message| message.from = None,
            |message| message.to = None,
            |message| message.body = None,
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let mut broken = wire::RaftMessage::try_from(message(append(entries()))).unwrap();
            break_it(&mut broken);
            assert!(PeerMessage::try_from(broken).is_err(), "case {at}");
        }
    }

    #[test]
    fn malformed_appends_are_refused() {
        let breaks: [fn(&mut wire::Append); 5] = [
            |append| append.prev = None,
            |append| append.stamp = None,
            |append| append.entries[1].kind = 9,
            |append| append.entries[1].term = 1,
            |append| append.prev = Some(LogPosition { index: Index(u64::MAX - 1), ..PREV }.into()),
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let body = wire::raft_message::Body::try_from(append(entries())).unwrap();
            let wire::raft_message::Body::Append(mut broken) = body else { panic!("{body:?}") };
            break_it(&mut broken);
            let refused = MessageBody::try_from(wire::raft_message::Body::Append(broken));
            assert!(refused.is_err(), "case {at}: {refused:?}");
        }
    }
}
