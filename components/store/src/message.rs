//! Everything that actors of a store, and stores, say to one another: closed enums, one per actor.

use std::sync::Arc;

use bytes::Bytes;
use types::{
    Answer, ConfigurationChange, Entry, Epoch, Incarnation, Index, KeyRange, LogPosition, Outcome, Peer,
    PeerId, Query, Region, RegionId, RegionSize, Request, Split, SplitTrace, StoreId, Term, WallTime,
};

use crate::{
    Error, Result,
    ledger::Reservation,
    lifecycle::{Birth, Claim, SplitDraft},
    liveness::{Judgement, SleepMessage},
    size::{Measured, SizeEstimate},
};

/// Where a client believes that its request belongs; checked in the order of [`Error`]'s variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The region.
    pub region_id: RegionId,
    /// The peer and store, if the client names one.
    pub peer: Option<(PeerId, StoreId)>,
    /// The region's epoch as the client knows it; `None`: not checked (requests of the store's own placement).
    pub epoch: Option<Epoch>,
    /// The term, if the client names one.
    pub term: Option<Term>,
    /// Whether a follower may answer, by read index.
    pub is_replica_read: bool,
}

/// Answers one request, exactly once: by [`Responder::reply`], or by being dropped, which answers "undetermined".
pub struct Responder<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> Responder<T> {
    /// Calls `answer` with the result. It runs on the thread of the actor that answers and must not block.
    pub fn new(answer: impl FnOnce(Result<T>) + Send + 'static) -> Responder<T> {
        Responder(Some(Box::new(answer)))
    }

    /// Answers.
    pub fn reply(mut self, result: Result<T>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(Error::Undetermined("the store stopped before it could answer")));
        }
    }
}

/// A write on its way into a log.
pub struct Proposal {
    /// Where it belongs.
    pub context: RequestContext,
    /// What to do.
    pub request: Request,
    /// Who is answered, after it was applied.
    pub responder: Responder<Outcome>,
}

/// A write for which there is room.
pub(crate) struct Admitted {
    /// The write.
    pub(crate) proposal: Proposal,
    /// Its place in the ledger.
    pub(crate) reservation: Reservation,
}

/// A read on its way to data.
pub struct ReadRequest {
    /// Where it belongs.
    pub context: RequestContext,
    /// What is asked.
    pub query: Query,
    /// Who is answered.
    pub responder: Responder<Answer>,
}

/// What one store says to another.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreMessage {
    /// Between two peers of a region.
    Raft(RaftEnvelope),
    /// Between the stores themselves: I live.
    Beat(Beat),
    /// A part of a snapshot transfer.
    Snapshot(SnapshotMessage),
    /// Between placement's clients and its host; only placement looks inside.
    Placement(PlacementMessage),
    /// Whether a peer still belongs to its region.
    Membership(MembershipMessage),
    /// About regions that sleep.
    Sleep(SleepMessage),
}

/// How a peer learns that it was removed: nobody sends it the log any more that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipMessage {
    /// Is this peer of the sending store still one of the region's? It has heard no leader for a while.
    Question {
        /// The region.
        region_id: RegionId,
        /// The peer.
        peer_id: PeerId,
        /// The epoch that it has applied; zero: none.
        epoch: Epoch,
    },
    /// The peer is not.
    Removed {
        /// The peer.
        peer_id: PeerId,
        /// An applied descriptor without it.
        region: Region,
    },
}

/// A Raft message with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftEnvelope {
    /// The region.
    pub region_id: RegionId,
    /// The sending peer.
    pub from: Peer,
    /// The receiving peer; one that does not exist yet is created by a message of its leader.
    pub to: Peer,
    /// The keys of the region, where the receiver may have to create the peer (to a peer that has not answered yet).
    pub range: Option<KeyRange>,
    /// What Raft says.
    pub message: raft::Message,
}

/// The directed beat of a pair of stores (D7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The sender's.
    pub incarnation: Incarnation,
    /// Counts the sender's beats to this receiver.
    pub number: u64,
    /// The newest beat that the sender has heard from the receiver; zero if none.
    pub heard_number: u64,
    /// The incarnation of the receiver in that beat.
    pub heard_incarnation: Incarnation,
}

/// Snapshot transfer: header, then chunks within a window of acknowledgements.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotMessage {
    /// Sender: may I?
    Header(Box<SnapshotHeader>),
    /// Sender: a part of the data.
    Chunk(SnapshotChunk),
    /// Receiver: go on behind this, or stop.
    Ack(SnapshotAck),
}

/// What a snapshot will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The sender's name for this transfer; unique per sender and incarnation.
    pub id: u64,
    /// The sending peer.
    pub from: Peer,
    /// The receiving peer.
    pub to: Peer,
    /// The sender's term.
    pub term: Term,
    /// The descriptor at `position`.
    pub region: Region,
    /// The log up to here is replaced.
    pub position: LogPosition,
    /// The configuration in force at `position` and the index of its entry.
    pub configuration: (Index, ConfigurationChange),
    /// The region clock at `position`.
    pub region_clock: WallTime,
    /// How the region's last split ended, if it was split before `position`.
    pub last_split: Option<SplitTrace>,
}

/// A part of a snapshot's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The transfer.
    pub id: u64,
    /// From zero on.
    pub number: u64,
    /// Pairs of the KV engine, ascending, also across chunks.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// xxh3 over number, keys and values: what [`SnapshotChunk::checksum_of`] gives.
    pub checksum: u64,
    /// Whether this is the last one.
    pub is_last: bool,
}

/// The receiver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAck {
    /// The transfer.
    pub id: u64,
    /// How far it got, or why it ends.
    pub status: SnapshotStatus,
}

/// How a transfer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// Chunks below this number have been staged.
    Continue {
        /// The next chunk expected.
        next_chunk: u64,
    },
    /// All data is staged and handed to the peer.
    Done,
    /// The receiver cannot take it; the text says why.
    Refused(String),
}

/// A message of placement's own protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementMessage {
    /// Names the request; the response carries the same.
    pub id: u64,
    /// Whether this answers a request.
    pub is_response: bool,
    /// Encoded by placement.
    pub body: Bytes,
}

/// Mail of a raft worker.
pub(crate) enum RaftMail {
    /// Writes of clients, for any of the worker's regions.
    Propose(Vec<Admitted>),
    /// Messages from other stores, for any of the worker's regions.
    Messages(Vec<RaftEnvelope>),
    /// Log batches are durable: the newest Ready of each region that is.
    Persisted(Vec<(RegionId, u64)>),
    /// An apply round has ended.
    Applied(Vec<AppliedNotice>),
    /// A read that the lease did not cover.
    ReadIndex(ReadRequest),
    /// An operator's or placement's wish.
    Admin(AdminRequest),
    /// A snapshot has been received whole.
    SnapshotReceived(Box<ReceivedSnapshot>),
    /// A snapshot transfer has ended.
    SnapshotSent {
        /// The region.
        region_id: RegionId,
        /// The receiving peer.
        to: PeerId,
        /// How.
        outcome: raft::SnapshotOutcome,
    },
    /// What liveness thinks of another store has changed.
    StoreJudged(StoreId, Judgement),
    /// Is the worker at work? It answers with the same number.
    Pulse(u64),
    /// From another store: about regions that sleep.
    Sleep(StoreId, SleepMessage),
    /// Another store wants to know which regions sleep here, led here, by its agreement.
    ListSleepers(StoreId),
    /// Messages to a store could not be delivered.
    StoreUnreachable(StoreId),
    /// The KV engine was flushed: logs may be truncated.
    Flushed,
    /// The disk has (`true`) or has no longer too little space.
    DiskFull(bool),
    /// Entries in memory that can be read back are in the way.
    Relieve,
    /// Hand every leadership over; the store stops.
    Drain,
    /// From another store: whether a peer belongs to its region.
    Membership(StoreId, MembershipMessage),
    /// Lifecycle records are durable: the regions that wait for them, with the records' sequences.
    Recorded(Vec<(RegionId, u64)>),
    /// An applier has reached a split, and waits.
    SplitReached(Box<SplitDraft>),
    /// A region was counted and is too large.
    TooLarge {
        /// The region.
        region_id: RegionId,
        /// Its version then: with another one it has another range.
        version: u64,
        /// Where it can be divided.
        keys: Vec<Bytes>,
    },
    /// A split wants to bring a peer into being.
    Claim {
        /// The region that is divided.
        parent: RegionId,
        /// The new region.
        child: RegionId,
        /// Its peer here.
        peer_id: PeerId,
    },
    /// The answer to a claim.
    Claimed {
        /// The region that is divided.
        parent: RegionId,
        /// The new region.
        child: RegionId,
        /// The answer.
        claim: Claim,
    },
    /// A split has brought a peer into being.
    Born(Box<Birth>),
    /// The end of a peer is durable and its log is gone: the region may have another peer here.
    Ended {
        /// The region.
        region_id: RegionId,
        /// The peer.
        peer_id: PeerId,
    },
}

/// What one region applied in a round.
#[derive(Clone, Debug)]
pub(crate) struct AppliedNotice {
    /// The region.
    pub(crate) region_id: RegionId,
    /// Up to here.
    pub(crate) position: LogPosition,
    /// The descriptor, if it changed.
    pub(crate) region: Option<Arc<Region>>,
    /// The name of the region's last split, if there was one.
    pub(crate) last_split: Option<u64>,
}

/// A snapshot whose data is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedSnapshot {
    /// As the sender announced it.
    pub(crate) header: SnapshotHeader,
    /// The staged files with the data.
    pub(crate) files: Vec<String>,
    /// What was counted while it came.
    pub(crate) size: RegionSize,
}

/// A wish about one region.
pub struct AdminRequest {
    /// The region.
    pub region_id: RegionId,
    /// The epoch for which it was made; another one is refused with the current one.
    pub epoch: Option<Epoch>,
    /// What to do.
    pub action: AdminAction,
    /// Answered once it is under way (a change of peers) or done (a transfer).
    pub responder: Responder<()>,
}

/// What can be wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAction {
    /// Let this peer lead.
    TransferLeader(PeerId),
    /// These shall be the peers: voters and learners, without joint roles. The leader drives the change, one safe step
    /// at a time, and leaves a joint configuration by itself.
    SetPeers {
        /// The goal, in order of peer id.
        peers: Vec<Peer>,
        /// Names the change.
        change_id: u64,
    },
    /// Divide the region. Answered when that is done here; asked again under the same id, it is the same.
    Split(Split),
    /// End the peer on this store, which need not lead: it was removed, as this newer descriptor shows. Refused if the
    /// descriptor is not newer than the peer's own, or names the peer.
    DestroyPeer(Region),
}

/// What has changed about the regions that are led from a store; of one region in one batch the last word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeadChanges {
    /// Regions that are led here and were not, or of which something is new.
    pub leads: Vec<RegionReport>,
    /// Regions that were reported and are not led here any more.
    pub leads_no_longer: Vec<RegionId>,
}

/// What a region's leader tells placement about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionReport {
    /// The applied descriptor.
    pub region: Region,
    /// The leading peer.
    pub leader: Peer,
    /// Its term.
    pub term: Term,
    /// Peers that have not answered for a while.
    pub down_peers: Vec<PeerId>,
    /// Peers whose log is far behind, or which wait for a snapshot.
    pub pending_peers: Vec<PeerId>,
    /// How much it holds: an estimate (see `docs/life-of-a-split.md`).
    pub size: RegionSize,
}

/// For what keys are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitKeysWish {
    /// One, with half of the bytes on each side.
    Middle,
    /// Those that divide the region into so many parts of about equal bytes: 2 to 256.
    Parts(u32),
}

/// Keys at which a region can be divided into nearly equal parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitKeys {
    /// The region as it was counted.
    pub region: Region,
    /// As they are stored; ascending, inside the region and not at its start. Fewer than wanted, or none, where it has too
    /// few keys.
    pub keys: Vec<Bytes>,
    /// What the region held.
    pub size: RegionSize,
    /// The region's last split, if this peer knows one: who asks for that one again needs no keys.
    pub last_split: Option<LastSplit>,
}

/// The last split of a region, as its peers remember it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSplit {
    /// Its name.
    pub change_id: u64,
    /// Where the new regions began, ascending.
    pub keys: Vec<Bytes>,
}

/// A region that is led here and too large. Whoever takes the wish gives ids and lets it be split; if nothing comes of it,
/// it is said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitWish {
    /// The region.
    pub region_id: RegionId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where it should be divided, as keys are stored; never none.
    pub keys: Vec<Bytes>,
}

/// Mail of an apply worker.
pub(crate) enum ApplyMail {
    /// Committed and locally durable entries.
    Commit(CommittedEntries),
    /// A snapshot whose record is durable.
    Install(Box<SnapshotInstall>),
    /// A split takes effect, by a record that is durable.
    Split {
        /// The record.
        record: Box<engine::LifecycleRecord>,
        /// The peers that begin here.
        births: Vec<Birth>,
    },
    /// A peer ends, by a record that is durable.
    End(Box<engine::LifecycleRecord>),
    /// A region begins on this store, at the state that the KV engine holds.
    Open(RegionId),
    /// A region was counted; `None`: it could not be.
    Measured {
        /// The region.
        region_id: RegionId,
        /// What came of it.
        measured: Option<Box<Measured>>,
    },
    /// Hand the read back to a read worker once the region has applied `index`.
    Await {
        /// The region.
        region_id: RegionId,
        /// The index.
        index: Index,
        /// The read.
        read: Box<ConfirmedRead>,
    },
}

/// Entries to apply, with the answers that wait for them.
pub(crate) struct CommittedEntries {
    /// The region.
    pub(crate) region_id: RegionId,
    /// In order, behind what was handed over before.
    pub(crate) entries: Vec<Entry>,
    /// Proposals of this store among them, ascending.
    pub(crate) proposals: Vec<InFlight>,
}

/// A proposal that has a place in the log.
pub(crate) struct InFlight {
    /// Its index.
    pub(crate) index: Index,
    /// The term in which it was proposed; an entry of another term at this index is not it.
    pub(crate) term: Term,
    /// Answers to its requests, in their order.
    pub(crate) responders: Vec<Responder<Outcome>>,
}

impl InFlight {
    /// The same answer to each of its requests.
    pub(crate) fn answer(self, error: &Error) {
        self.responders.into_iter().for_each(|responder| responder.reply(Err(error.clone())));
    }
}

/// A snapshot to be put in place.
pub(crate) struct SnapshotInstall {
    /// The record that is durable.
    pub(crate) record: engine::LifecycleRecord,
    /// What was counted while the snapshot came.
    pub(crate) size: RegionSize,
}

/// A read of which is known from which index on it is linearizable.
pub(crate) struct ConfirmedRead {
    /// The read.
    pub(crate) request: ReadRequest,
    /// How its right to be answered was shown.
    pub(crate) proof: ReadProof,
}

/// Why a read may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadProof {
    /// The lease of this term must still hold after the engine snapshot was taken.
    Lease(Term),
    /// A quorum confirmed the index after the read had come.
    ReadIndex,
}

/// Mail of a read worker.
pub(crate) enum ReadMail {
    /// Reads of clients.
    Read(Vec<ReadRequest>),
    /// Reads whose index has been applied.
    Applied(Vec<ConfirmedRead>),
}

/// Mail of the snapshot worker.
pub(crate) enum SnapshotMail {
    /// Send a snapshot of this region.
    Send {
        /// The region.
        region_id: RegionId,
        /// The sending peer.
        from: Peer,
        /// The receiving peer.
        to: Peer,
        /// The sender's term.
        term: Term,
    },
    /// From another store.
    Message(StoreId, SnapshotMessage),
    /// A part of a snapshot, for which there is room.
    Chunk(StoreId, SnapshotChunk, Reservation),
    /// A received snapshot was put in place, or refused by its peer: its files are not needed any more.
    Finished {
        /// Its staged files.
        files: Vec<String>,
    },
    /// Whether the disk is full: what comes needs space.
    DiskFull(bool),
}

impl MembershipMessage {
    /// The region that it is about.
    #[must_use]
    pub fn region_id(&self) -> RegionId {
        match self {
            MembershipMessage::Question { region_id, .. } => *region_id,
            MembershipMessage::Removed { region, .. } => region.id,
        }
    }
}

impl SnapshotChunk {
    /// The checksum of a chunk's content.
    #[must_use]
    pub fn checksum_of(number: u64, pairs: &[(Bytes, Bytes)]) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(number);
        for (key, value) in pairs {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        }
        hasher.digest()
    }

    /// How much of a region it is.
    #[must_use]
    pub fn size(&self) -> RegionSize {
        RegionSize { size_bytes: self.size_bytes() as u64, key_count: self.pairs.len() as u64 }
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// The state that an applied region keeps beside its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyState {
    /// The last applied position.
    pub position: LogPosition,
    /// The region clock (D11).
    pub region_clock: WallTime,
    /// How much the region holds, as this peer knows it.
    pub(crate) size: SizeEstimate,
}
