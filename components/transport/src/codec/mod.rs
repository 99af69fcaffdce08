//! Store messages and their wire form. Raft messages are converted by `proto`; here is what only stores say.

mod sleep;

use proto::{
    convert::{Error, PeerMessage, Result},
    raft as wire,
};
use raft::MessageBody;
use store::{
    Beat, Lane, MembershipMessage, PlacementMessage, RaftEnvelope, SleepMessage, SnapshotAck, SnapshotChunk,
    SnapshotHeader, SnapshotMessage, SnapshotStatus, StoreMessage,
};
use types::{Entry, Incarnation, Peer, PeerId, Region, RegionId, SplitTrace, Term, WallTime};
use wire::store_message::Message as Body;

/// What a message counts beside its payload: ids, positions, stamps.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// What an entry or a pair counts beside its payload.
const ITEM_OVERHEAD_BYTES: usize = 24;

/// About how many bytes a message takes, in memory and in a frame; never less than in a frame.
pub(crate) fn size_of(message: &StoreMessage) -> usize {
    let payload = match message {
        StoreMessage::Raft(envelope) => {
            let range =
                envelope.range.as_ref().map_or(0, |range| range.start_key.len() + range.end_key.len());
            match &envelope.message.body {
                MessageBody::Append { entries, .. } => range + entries.iter().map(entry_size).sum::<usize>(),
                MessageBody::AppendAccepted { .. }
                | MessageBody::AppendRejected { .. }
                | MessageBody::Heartbeat { .. }
                | MessageBody::HeartbeatResponse { .. }
                | MessageBody::VoteRequest { .. }
                | MessageBody::VoteResponse { .. }
                | MessageBody::Snapshot { .. }
                | MessageBody::TimeoutNow
                | MessageBody::ReadIndexRequest { .. }
                | MessageBody::ReadIndexResponse { .. } => range,
            }
        }
        StoreMessage::Beat(_) => 0,
        StoreMessage::Snapshot(SnapshotMessage::Header(header)) => {
            let size_of_split = |split: &SplitTrace| {
                let ends = split.past_ends.iter().map(|past| past.end_key.len() + ITEM_OVERHEAD_BYTES);
                split.regions.iter().map(size_of_region).chain(ends).sum::<usize>()
            };
            size_of_region(&header.region) + header.last_split.as_ref().map_or(0, size_of_split)
        }
        StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) => {
            chunk.size_bytes() + chunk.pairs.len() * ITEM_OVERHEAD_BYTES
        }
        StoreMessage::Snapshot(SnapshotMessage::Ack(ack)) => match &ack.status {
            SnapshotStatus::Refused(reason) => reason.len(),
            SnapshotStatus::Continue { .. } | SnapshotStatus::Done => 0,
        },
        StoreMessage::Placement(message) => message.body.len(),
        StoreMessage::Membership(MembershipMessage::Question { .. }) => 0,
        StoreMessage::Membership(MembershipMessage::Removed { region, .. }) => size_of_region(region),
        StoreMessage::Sleep(message) => sleep::size_of(message),
    };
    payload + MESSAGE_OVERHEAD_BYTES
}

/// The same without what the store's ledger counts already: payloads of entries hold their own reservations.
pub(crate) fn own_size_of(message: &StoreMessage) -> usize {
    let held = match message {
        StoreMessage::Raft(RaftEnvelope { message: raft::Message { body, .. }, .. }) => match body {
            MessageBody::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
            MessageBody::AppendAccepted { .. }
            | MessageBody::AppendRejected { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::VoteRequest { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::Snapshot { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexRequest { .. }
            | MessageBody::ReadIndexResponse { .. } => 0,
        },
        StoreMessage::Beat(_)
        | StoreMessage::Snapshot(_)
        | StoreMessage::Placement(_)
        | StoreMessage::Sleep(_)
        | StoreMessage::Membership(_) => 0,
    };
    size_of(message) - held
}

fn size_of_region(region: &Region) -> usize {
    let keys = region.range.start_key.len() + region.range.end_key.len();
    keys + (region.peers.len() + 4) * 2 * ITEM_OVERHEAD_BYTES
}

fn entry_size(entry: &Entry) -> usize {
    entry.payload.len() + ITEM_OVERHEAD_BYTES
}

/// To the wire.
pub(crate) fn encode(message: StoreMessage) -> Result<wire::StoreMessage> {
    let body = match message {
        StoreMessage::Raft(envelope) => Body::Raft(encode_raft(envelope)?),
        StoreMessage::Beat(beat) => Body::Beat(encode_beat(beat)),
        StoreMessage::Snapshot(SnapshotMessage::Header(header)) => {
            Body::SnapshotHeader(encode_header(*header))
        }
        StoreMessage::Snapshot(SnapshotMessage::Chunk(chunk)) => Body::SnapshotChunk(encode_chunk(chunk)),
        StoreMessage::Snapshot(SnapshotMessage::Ack(ack)) => Body::SnapshotAck(encode_ack(ack)),
        StoreMessage::Placement(PlacementMessage { id, is_response: false, body }) => {
            Body::PlacementRequest(wire::PlacementRequest { id, body })
        }
        StoreMessage::Placement(PlacementMessage { id, is_response: true, body }) => {
            Body::PlacementResponse(wire::PlacementResponse { id, body })
        }
        StoreMessage::Membership(MembershipMessage::Question { region_id, peer_id, epoch }) => {
            Body::MembershipQuestion(wire::MembershipQuestion {
                region_id: region_id.0,
                peer_id: peer_id.0,
                epoch: Some(epoch.into()),
            })
        }
        StoreMessage::Membership(MembershipMessage::Removed { peer_id, region }) => {
            Body::MembershipRemoved(wire::MembershipRemoved {
                peer_id: peer_id.0,
                region: Some(region.into()),
            })
        }
        StoreMessage::Sleep(message) => sleep::encode(message),
    };
    Ok(wire::StoreMessage { message: Some(body) })
}

/// From the wire.
pub(crate) fn decode(message: wire::StoreMessage) -> Result<StoreMessage> {
    let body = required(message.message, "StoreMessage", "a known message")?;
    Ok(match body {
        Body::Raft(message) => StoreMessage::Raft(decode_raft(message)?),
        Body::Beat(beat) => StoreMessage::Beat(decode_beat(beat)),
        Body::SnapshotHeader(header) => {
            StoreMessage::Snapshot(SnapshotMessage::Header(Box::new(decode_header(header)?)))
        }
        Body::SnapshotChunk(chunk) => StoreMessage::Snapshot(SnapshotMessage::Chunk(decode_chunk(chunk))),
        Body::SnapshotAck(ack) => StoreMessage::Snapshot(SnapshotMessage::Ack(decode_ack(ack)?)),
        Body::PlacementRequest(wire::PlacementRequest { id, body }) => {
            StoreMessage::Placement(PlacementMessage { id, is_response: false, body })
        }
        Body::PlacementResponse(wire::PlacementResponse { id, body }) => {
            StoreMessage::Placement(PlacementMessage { id, is_response: true, body })
        }
        Body::MembershipQuestion(question) => StoreMessage::Membership(MembershipMessage::Question {
            region_id: RegionId(non_zero(question.region_id, "MembershipQuestion", "region_id")?),
            peer_id: PeerId(non_zero(question.peer_id, "MembershipQuestion", "peer_id")?),
            epoch: required(question.epoch, "MembershipQuestion", "epoch")?.into(),
        }),
        Body::MembershipRemoved(removed) => StoreMessage::Membership(MembershipMessage::Removed {
            peer_id: PeerId(non_zero(removed.peer_id, "MembershipRemoved", "peer_id")?),
            region: required(removed.region, "MembershipRemoved", "region")?.try_into()?,
        }),
        Body::SleepOffers(offers) => StoreMessage::Sleep(sleep::decode_offers(offers)?),
        Body::SleepAgreed(agreed) => StoreMessage::Sleep(sleep::decode_agreed(agreed)?),
        Body::SleepWake(wake) => {
            StoreMessage::Sleep(SleepMessage::Wake(sleep::decode_sleepers(wake.regions)?))
        }
        Body::SleepNotLed(not_led) => {
            StoreMessage::Sleep(SleepMessage::NotLed(sleep::decode_sleepers(not_led.regions)?))
        }
        Body::SleepDigest(digest) => StoreMessage::Sleep(sleep::decode_digest(digest)),
        Body::SleepCompare(wire::SleepCompare {}) => StoreMessage::Sleep(SleepMessage::Compare),
        Body::SleeperList(list) => StoreMessage::Sleep(sleep::decode_list(list)?),
    })
}

/// A lane's number on the wire.
pub(crate) fn encode_lane(lane: Lane) -> i32 {
    match lane {
        Lane::Liveness => wire::Lane::Liveness,
        Lane::Append => wire::Lane::Append,
        Lane::Snapshot => wire::Lane::Snapshot,
    }
    .into()
}

/// The lane of a number on the wire.
pub(crate) fn decode_lane(number: i32) -> Result<Lane> {
    match wire::Lane::try_from(number) {
        Ok(wire::Lane::Liveness) => Ok(Lane::Liveness),
        Ok(wire::Lane::Append) => Ok(Lane::Append),
        Ok(wire::Lane::Snapshot) => Ok(Lane::Snapshot),
        Ok(wire::Lane::Unspecified) | Err(_) => {
            Err(Error::UnknownNumber { message: "LaneOpen", field: "lane", number: number.into() })
        }
    }
}

fn encode_raft(envelope: RaftEnvelope) -> Result<wire::RaftMessage> {
    let RaftEnvelope { region_id, from, to, range, message } = envelope;
    PeerMessage { region_id, from, to, epoch: None, range, message }.try_into()
}

fn decode_raft(message: wire::RaftMessage) -> Result<RaftEnvelope> {
    let PeerMessage { region_id, from, to, epoch: _, range, message } = message.try_into()?;
    Ok(RaftEnvelope { region_id, from, to, range, message })
}

fn encode_beat(beat: Beat) -> wire::Beat {
    wire::Beat {
        incarnation: beat.incarnation.0,
        number: beat.number,
        heard_incarnation: beat.heard_incarnation.0,
        heard_number: beat.heard_number,
    }
}

fn decode_beat(beat: wire::Beat) -> Beat {
    Beat {
        incarnation: Incarnation(beat.incarnation),
        number: beat.number,
        heard_number: beat.heard_number,
        heard_incarnation: Incarnation(beat.heard_incarnation),
    }
}

fn encode_header(header: SnapshotHeader) -> wire::SnapshotHeader {
    wire::SnapshotHeader {
        snapshot_id: header.id,
        region: Some(header.region.into()),
        from: Some(header.from.into()),
        to: Some(header.to.into()),
        term: header.term.0,
        position: Some(header.position.into()),
        configuration: Some(header.configuration.into()),
        region_clock_millis: header.region_clock.0,
        total_bytes_estimate: 0,
        last_split: header.last_split.map(Into::into),
    }
}

fn decode_header(header: wire::SnapshotHeader) -> Result<SnapshotHeader> {
    const NAME: &str = "SnapshotHeader";
    Ok(SnapshotHeader {
        id: header.snapshot_id,
        from: Peer::try_from(required(header.from, NAME, "from")?)?,
        to: Peer::try_from(required(header.to, NAME, "to")?)?,
        term: Term(header.term),
        region: required(header.region, NAME, "region")?.try_into()?,
        position: required(header.position, NAME, "position")?.into(),
        configuration: required(header.configuration, NAME, "configuration")?.try_into()?,
        region_clock: WallTime(header.region_clock_millis),
        last_split: header.last_split.map(SplitTrace::try_from).transpose()?,
    })
}

fn encode_chunk(chunk: SnapshotChunk) -> wire::SnapshotChunk {
    wire::SnapshotChunk {
        snapshot_id: chunk.id,
        number: chunk.number,
        pairs: chunk.pairs.into_iter().map(|(key, value)| wire::SnapshotPair { key, value }).collect(),
        checksum: chunk.checksum,
        is_last: chunk.is_last,
    }
}

fn decode_chunk(chunk: wire::SnapshotChunk) -> SnapshotChunk {
    SnapshotChunk {
        id: chunk.snapshot_id,
        number: chunk.number,
        pairs: chunk.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
        checksum: chunk.checksum,
        is_last: chunk.is_last,
    }
}

fn encode_ack(ack: SnapshotAck) -> wire::SnapshotAck {
    let (status, next_chunk, reason) = match ack.status {
        SnapshotStatus::Continue { next_chunk } => {
            (wire::SnapshotStatus::Continue, next_chunk, String::new())
        }
        SnapshotStatus::Done => (wire::SnapshotStatus::Done, 0, String::new()),
        SnapshotStatus::Refused(reason) => (wire::SnapshotStatus::Refused, 0, reason),
    };
    wire::SnapshotAck { snapshot_id: ack.id, next_chunk, status: status.into(), reason }
}

fn decode_ack(ack: wire::SnapshotAck) -> Result<SnapshotAck> {
    let status = match wire::SnapshotStatus::try_from(ack.status) {
        Ok(wire::SnapshotStatus::Continue) => SnapshotStatus::Continue { next_chunk: ack.next_chunk },
        Ok(wire::SnapshotStatus::Done) => SnapshotStatus::Done,
        Ok(wire::SnapshotStatus::Refused) => SnapshotStatus::Refused(ack.reason),
        Ok(wire::SnapshotStatus::Unspecified) | Err(_) => {
            let number = ack.status.into();
            return Err(Error::UnknownNumber { message: "SnapshotAck", field: "status", number });
        }
    };
    Ok(SnapshotAck { id: ack.snapshot_id, status })
}

fn non_zero(value: u64, message: &'static str, field: &'static str) -> Result<u64> {
    if value == 0 { Err(Error::Missing { message, field }) } else { Ok(value) }
}

fn required<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T> {
    value.ok_or(Error::Missing { message, field })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::Message as _;
    use raft::{Message, Stamp};
    use types::{
        Chain, ConfigurationChange, EntryKind, Epoch, Index, Instant, KeyRange, LogPosition, PeerRole,
        StoreId,
    };

    use super::*;

    fn peer(id: u64) -> Peer {
        Peer { id: PeerId(id), store_id: StoreId(1000 + id), role: PeerRole::Voter }
    }

    fn append() -> StoreMessage {
        let prev = LogPosition { index: Index(7), term: Term(2), chain: Chain(3) };
        let payload = Bytes::from_static(b"payload");
        let chain = prev.chain.link(Index(8), Term(3), EntryKind::Command, &payload);
        let entry = Entry { index: Index(8), term: Term(3), kind: EntryKind::Command, payload, chain };
        let body = MessageBody::Append {
            prev,
            entries: vec![entry],
            commit: Index(6),
            stamp: Stamp { nonce: 4, sent_at: Instant(99) },
        };
        StoreMessage::Raft(RaftEnvelope {
            region_id: RegionId(2),
            from: peer(1),
            to: peer(2),
            range: Some(KeyRange::new("a", "b")),
            message: Message { from: PeerId(1), to: PeerId(2), term: Term(3), body },
        })
    }

    fn header() -> SnapshotHeader {
        let region = Region {
            id: RegionId(2),
            range: KeyRange::ALL,
            epoch: Epoch::FIRST,
            peers: vec![peer(1), peer(2)],
        };
        SnapshotHeader {
            id: 5,
            from: peer(1),
            to: peer(2),
            term: Term(3),
            position: LogPosition { index: Index(9), term: Term(3), chain: Chain(1 << 100) },
            configuration: (Index(4), ConfigurationChange { peers: region.peers.clone(), change_id: 6 }),
            last_split: Some(SplitTrace {
                change_id: 7,
                regions: vec![region.clone(), Region { id: RegionId(3), ..region.clone() }],
                past_ends: Vec::new(),
            }),
            region,
            region_clock: WallTime(77),
        }
    }

    fn every_kind() -> Vec<StoreMessage> {
        let pairs = vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))];
        let checksum = SnapshotChunk::checksum_of(0, &pairs);
        let acks = [
            SnapshotStatus::Continue { next_chunk: 3 },
            SnapshotStatus::Done,
            SnapshotStatus::Refused("no room".to_owned()),
        ];
        let mut messages = vec![
            append(),
            StoreMessage::Beat(Beat {
                incarnation: Incarnation(2),
                number: 9,
                heard_number: 8,
                heard_incarnation: Incarnation(4),
            }),
            StoreMessage::Snapshot(SnapshotMessage::Header(Box::new(header()))),
            StoreMessage::Snapshot(SnapshotMessage::Header(Box::new(SnapshotHeader {
                last_split: None,
                ..header()
            }))),
            StoreMessage::Snapshot(SnapshotMessage::Chunk(SnapshotChunk {
                id: 5,
                number: 0,
                pairs,
                checksum,
                is_last: true,
            })),
            StoreMessage::Placement(PlacementMessage {
                id: 1,
                is_response: false,
                body: Bytes::from_static(b"q"),
            }),
            StoreMessage::Placement(PlacementMessage {
                id: 1,
                is_response: true,
                body: Bytes::from_static(b"a"),
            }),
            StoreMessage::Membership(MembershipMessage::Question {
                region_id: RegionId(2),
                peer_id: PeerId(3),
                epoch: Epoch::default(),
            }),
            StoreMessage::Membership(MembershipMessage::Removed {
                peer_id: PeerId(3),
                region: header().region,
            }),
        ];
        messages.extend(sleep::tests::every_kind().into_iter().map(StoreMessage::Sleep));
        messages.extend(
            acks.map(|status| StoreMessage::Snapshot(SnapshotMessage::Ack(SnapshotAck { id: 5, status }))),
        );
        messages
    }

    #[test]
    fn every_kind_of_message_survives_the_wire() {
        for message in every_kind() {
            let bytes = encode(message.clone()).expect("it can be encoded").encode_to_vec();
            assert!(size_of(&message) >= bytes.len(), "{message:?} takes {} bytes", bytes.len());
            let read = wire::StoreMessage::decode(Bytes::from(bytes)).expect("it can be read");
            assert_eq!(decode(read), Ok(message));
        }
    }

    #[test]
    fn an_unknown_message_is_an_error() {
        assert!(decode(wire::StoreMessage { message: None }).is_err());
        assert!(decode_lane(0).is_err());
        assert!(decode_lane(9).is_err());
        assert!(decode_ack(wire::SnapshotAck { status: 77, ..Default::default() }).is_err());
    }
}
