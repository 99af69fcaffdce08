//! What a group says about itself.

use types::{ConfigurationChange, Index, Instant, LogPosition, PeerId, Term};

/// What a peer currently is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows, or looks for a leader.
    #[default]
    Follower,
    /// Asks whether an election would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a peer campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CampaignReason {
    /// It has heard no leader for too long.
    Silence,
    /// Its caller wishes it.
    Wish,
    /// Its caller knows that the leader is gone: a quick election, as soon as the promise to it ends.
    LeaderGone,
    /// The leader hands over to it.
    Transfer,
    /// A quorum is lost for good, and it was chosen among the survivors.
    Force,
}

/// What the peers of a sleeping group agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SleepContract {
    /// The term in which all follow one leader.
    pub term: Term,
    /// Where every log ends; all of it is committed.
    pub last_index: Index,
}

/// How a snapshot transfer to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The peer's store has received it whole, at this index.
    Sent(Index),
    /// It failed; the group will ask again.
    Failed,
}

/// A leader's right to answer reads alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leader's term.
    pub term: Term,
    /// When the messages were made that a quorum has acknowledged, on the leader's clock.
    pub sent_at: Instant,
    /// `sent_at` plus the lease's length: invalid from here on.
    pub until: Instant,
}

/// A leader's view of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: PeerId,
    /// The highest index known to match, durably.
    pub match_index: Index,
    /// The next index to send.
    pub next_index: Index,
    /// Whether it is being probed, replicated to, or waits for a snapshot: "probe", "replicate", "snapshot".
    pub state: &'static str,
    /// Bytes of entries sent to it and not acknowledged.
    pub inflight_bytes: usize,
    /// When it last answered, on the leader's clock.
    pub heard_at: Instant,
}

/// A picture of a group for operators, checkers and placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This peer.
    pub id: PeerId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in this term.
    pub vote: Option<PeerId>,
    /// Whom it follows.
    pub leader: Option<PeerId>,
    /// The highest index known committed.
    pub commit_index: Index,
    /// The highest index applied.
    pub applied_index: Index,
    /// The highest index that is durable here.
    pub persisted_index: Index,
    /// The last position of the log.
    pub last: LogPosition,
    /// The position behind which the log begins.
    pub truncated: LogPosition,
    /// The configuration in force and the index of its entry.
    pub configuration: (Index, ConfigurationChange),
    /// Progress per peer, in id order; empty unless leading.
    pub peers: Vec<PeerStatus>,
}
