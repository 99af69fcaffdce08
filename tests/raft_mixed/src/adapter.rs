//! Our messages as theirs and theirs as ours.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{Message, MessageBody, Stamp};
use raft_rs::eraftpb::{self, EntryType, MessageType};
use types::{Chain, Entry, EntryKind, Index, Instant, LogPosition, PeerId, Term};

use crate::ours::BEGIN;

/// What their vote requests carry when a leader asked for the election.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// The chain behind each entry that was ever appended by anyone. One entry at (index, term) has one chain, or logs do not
/// match: that is checked here.
#[derive(Debug)]
pub struct Chains(BTreeMap<(Index, Term), Chain>);

impl Default for Chains {
    fn default() -> Chains {
        Chains(BTreeMap::from([((BEGIN.index, BEGIN.term), BEGIN.chain)]))
    }
}

impl Chains {
    /// An entry has been appended somewhere.
    pub fn check(&mut self, entry: &Entry) {
        let known = *self.0.entry((entry.index, entry.term)).or_insert(entry.chain);
        assert_eq!(known, entry.chain, "two logs differ at ({}, {})", entry.index, entry.term);
    }

    /// One of theirs has appended entries behind (index, term).
    pub(crate) fn append(&mut self, prev: (Index, Term), entries: &[eraftpb::Entry]) {
        let mut prev = prev;
        for entry in entries {
            let entry = self.to_ours(prev, entry);
            self.check(&entry);
            prev = (entry.index, entry.term);
        }
    }

    fn position(&self, index: Index, term: Term) -> LogPosition {
        let chain = self.0.get(&(index, term)).copied();
        LogPosition { index, term, chain: chain.expect("a message names only what its sender has appended") }
    }

    fn to_ours(&self, prev: (Index, Term), entry: &eraftpb::Entry) -> Entry {
        let kind = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => EntryKind::Empty,
            EntryType::EntryNormal => EntryKind::Command,
            // Only ever between two of theirs.
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Configuration,
        };
        let (index, term) = (Index(entry.index), Term(entry.term));
        let payload = Bytes::copy_from_slice(&entry.data);
        let chain = self.position(prev.0, prev.1).chain.link(index, term, kind, &payload);
        Entry { index, term, kind, payload, chain }
    }
}

/// Ours as theirs.
pub(crate) fn to_theirs(message: Message) -> eraftpb::Message {
    let mut theirs = eraftpb::Message {
        from: message.from.0,
        to: message.to.0,
        term: message.term.0,
        ..Default::default()
    };
    match message.body {
        MessageBody::Append { prev, entries, commit, .. } => {
            theirs.set_msg_type(MessageType::MsgAppend);
            (theirs.index, theirs.log_term, theirs.commit) = (prev.index.0, prev.term.0, commit.0);
            theirs.entries = entries.into_iter().map(entry_to_theirs).collect();
        }
        MessageBody::AppendAccepted { match_index, .. } => {
            theirs.set_msg_type(MessageType::MsgAppendResponse);
            theirs.index = match_index.0;
        }
        MessageBody::AppendRejected { prev_index, hint, .. } => {
            theirs.set_msg_type(MessageType::MsgAppendResponse);
            theirs.reject = true;
            (theirs.index, theirs.reject_hint, theirs.log_term) = (prev_index.0, hint.index.0, hint.term.0);
        }
        MessageBody::Heartbeat { commit, stamp, .. } => {
            theirs.set_msg_type(MessageType::MsgHeartbeat);
            theirs.commit = commit.0;
            theirs.context = write_stamp(stamp).into();
        }
        MessageBody::HeartbeatResponse { .. } => theirs.set_msg_type(MessageType::MsgHeartbeatResponse),
        MessageBody::VoteRequest { is_pre_vote, is_forced, last_index, last_term } => {
            let (pre_vote, vote) = (MessageType::MsgRequestPreVote, MessageType::MsgRequestVote);
            theirs.set_msg_type(if is_pre_vote { pre_vote } else { vote });
            (theirs.index, theirs.log_term) = (last_index.0, last_term.0);
            if is_forced {
                theirs.context = TRANSFER.to_vec().into();
            }
        }
        MessageBody::VoteResponse { is_pre_vote, is_granted } => {
            let (pre_vote, vote) =
                (MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse);
            theirs.set_msg_type(if is_pre_vote { pre_vote } else { vote });
            theirs.reject = !is_granted;
        }
        MessageBody::TimeoutNow => theirs.set_msg_type(MessageType::MsgTimeoutNow),
        MessageBody::Snapshot { .. }
        | MessageBody::ReadIndexRequest { .. }
        | MessageBody::ReadIndexResponse { .. } => panic!("not used here: {:?}", message.body),
    }
    theirs
}

/// Theirs as ours; `last_index` is where the sender's log ends.
pub(crate) fn to_ours(theirs: eraftpb::Message, last_index: Index, chains: &Chains) -> Message {
    // Proves nothing of when its leader led, so it is of no use for leases and reads.
    let stamp = Stamp::default();
    let body = match theirs.get_msg_type() {
        MessageType::MsgAppend => {
            let prev = chains.position(Index(theirs.index), Term(theirs.log_term));
            let mut at = (prev.index, prev.term);
            let convert = |entry: &eraftpb::Entry| {
                let entry = chains.to_ours(at, entry);
                at = (entry.index, entry.term);
                entry
            };
            let entries = theirs.entries.iter().map(convert).collect();
            MessageBody::Append { prev, entries, commit: Index(theirs.commit), stamp }
        }
        MessageType::MsgAppendResponse if theirs.reject => {
            let hint = LogPosition {
                index: Index(theirs.reject_hint),
                term: Term(theirs.log_term),
                chain: Chain::default(),
            };
            MessageBody::AppendRejected { prev_index: Index(theirs.index), last_index, hint, stamp }
        }
        MessageType::MsgAppendResponse => {
            MessageBody::AppendAccepted { match_index: Index(theirs.index), stamp }
        }
        MessageType::MsgHeartbeat => {
            MessageBody::Heartbeat { commit: Index(theirs.commit), stamp, offers_sleep: false }
        }
        MessageType::MsgHeartbeatResponse => {
            MessageBody::HeartbeatResponse { stamp: read_stamp(&theirs.context), last_index }
        }
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => MessageBody::VoteRequest {
            is_pre_vote: kind == MessageType::MsgRequestPreVote,
            is_forced: theirs.context[..] == *TRANSFER,
            last_index: Index(theirs.index),
            last_term: Term(theirs.log_term),
        },
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            MessageBody::VoteResponse {
                is_pre_vote: kind == MessageType::MsgRequestPreVoteResponse,
                is_granted: !theirs.reject,
            }
        }
        MessageType::MsgTimeoutNow => MessageBody::TimeoutNow,
        other => panic!("not used here: {other:?}"),
    };
    Message { from: PeerId(theirs.from), to: PeerId(theirs.to), term: Term(theirs.term), body }
}

fn entry_to_theirs(entry: Entry) -> eraftpb::Entry {
    let is_change = entry.kind == EntryKind::Configuration;
    eraftpb::Entry {
        entry_type: if is_change { EntryType::EntryConfChangeV2 } else { EntryType::EntryNormal },
        index: entry.index.0,
        term: entry.term.0,
        data: entry.payload.to_vec().into(),
        ..Default::default()
    }
}

fn write_stamp(stamp: Stamp) -> Vec<u8> {
    [stamp.nonce.to_be_bytes(), stamp.sent_at.0.to_be_bytes()].concat()
}

fn read_stamp(context: &[u8]) -> Stamp {
    let number = |at: usize| {
        let bytes = context.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes)
    };
    match (number(0), number(8)) {
        (Some(nonce), Some(sent_at)) => Stamp { nonce, sent_at: Instant(sent_at) },
        _ => Stamp::default(),
    }
}
