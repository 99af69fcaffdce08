//! What Raft peers say to one another. The model is that of etcd/raft, so that another implementation can stand beside
//! ours in one simulated cluster.

use types::{ConfigurationChange, Entry, Index, Instant, LogPosition, PeerId, Term};

/// A message from one peer of a group to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: PeerId,
    /// The receiver.
    pub to: PeerId,
    /// The sender's term; for a pre-vote request, and for its being granted, the term that the candidate would campaign
    /// in.
    pub term: Term,
    /// What it says.
    pub body: MessageBody,
}

/// Travels with every append and heartbeat and comes back with the answer, be it yes or no.
///
/// An answer in the leader's term proves that the sender recognised the leader at some moment after `sent_at`: that
/// moment feeds the lease, and the nonce tells which read-index attempts it confirms (one made after the message left
/// is not confirmed by it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The newest read-index attempt when the message was made; attempts are numbered by the leader, from 1 in each term.
    pub nonce: u64,
    /// When the leader made the message, on the leader's own clock.
    pub sent_at: Instant,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MessageBody {
    /// Leader to peer: entries behind `prev`, or none (a probe).
    Append {
        /// The position before the first entry.
        prev: LogPosition,
        /// The entries, consecutive from `prev.index + 1`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
        /// To be returned.
        stamp: Stamp,
    },
    /// Peer to leader: the log matches the leader's up to `match_index`, durably.
    AppendAccepted {
        /// The highest index that is known to match.
        match_index: Index,
        /// The stamp of the newest append answered by this.
        stamp: Stamp,
    },
    /// Peer to leader: it has no entry at `prev`, or a different one.
    AppendRejected {
        /// `prev.index` of the append that is refused.
        prev_index: Index,
        /// The last index of the log.
        last_index: Index,
        /// A hint: no index above this can match; of the newest term not above that of `prev`.
        hint: LogPosition,
        /// The stamp of the refused append.
        stamp: Stamp,
    },
    /// Leader to peer: it still leads.
    Heartbeat {
        /// The leader's commit index, capped at what the peer is known to have.
        commit: Index,
        /// To be returned.
        stamp: Stamp,
        /// Whether the leader has offered sleep and waits until all have agreed: who has, sleeps on.
        offers_sleep: bool,
    },
    /// Peer to leader: it follows.
    HeartbeatResponse {
        /// The stamp of the heartbeat.
        stamp: Stamp,
        /// The last index of the peer's log: one below what the leader believes to match makes it probe.
        last_index: Index,
    },
    /// Candidate to voter.
    VoteRequest {
        /// Whether this only asks what the answer would be; changes no state on either side.
        is_pre_vote: bool,
        /// Whether the leader asked for this election (a transfer): exempts from the promise not to vote.
        is_forced: bool,
        /// The index of the candidate's last entry.
        last_index: Index,
        /// The term of the candidate's last entry.
        last_term: Term,
    },
    /// Voter to candidate.
    VoteResponse {
        /// Which kind of request is answered.
        is_pre_vote: bool,
        /// Yes or no.
        is_granted: bool,
    },
    /// A snapshot has arrived, complete, at the receiver's store, which hands this to its peer. It never crosses the
    /// network as a Raft message: the store's snapshot lane carries header and data.
    Snapshot {
        /// What it holds.
        meta: SnapshotMeta,
    },
    /// Leader to the voter that shall lead next: campaign at once.
    TimeoutNow,
    /// Follower to leader: confirm a read index for me.
    ReadIndexRequest {
        /// The follower's name for its request.
        id: u64,
    },
    /// Leader to follower.
    ReadIndexResponse {
        /// The follower's name for its request.
        id: u64,
        /// A read is linearizable once this index is applied; `None`: the leader cannot confirm, ask again.
        index: Option<Index>,
    },
}

/// What a snapshot holds, as far as Raft must know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The log up to here is replaced by the snapshot.
    pub position: LogPosition,
    /// The configuration in force at `position` and the index of the entry that made it.
    pub configuration: (Index, ConfigurationChange),
}
