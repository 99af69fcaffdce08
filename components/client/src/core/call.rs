//! One request to one peer, and what comes back.

use std::{sync::Arc, time::Duration};

use types::{Answer, Outcome, Peer, Region};

use super::Work;

/// A request to one peer of one region; every key in it belongs to that region as far as the client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The region whose epoch the request names.
    pub region: Arc<Region>,
    /// Whom to ask; `peer.store_id` says where.
    pub peer: Peer,
    /// What for.
    pub work: Work,
}

/// A store's answer to a call that it carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a write.
    Written(Outcome),
    /// To a read.
    Read(Answer),
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The store says why it did not do it (or, in one case, that it does not know whether it did).
    Region(RegionError),
    /// The store will never do it: the request is not well formed, or not allowed. Not applied.
    Refused(String),
    /// The request did not leave the client. Not applied.
    NotSent(String),
    /// The request left, and its connection broke or its time passed before an answer came. It may have been applied.
    Unanswered(String),
}

/// What a store answers when it does not do what it is asked. All but [`RegionError::Undetermined`] say "not applied".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// Another store listens at this address.
    #[error("another store listens at this address")]
    StoreNotMatch,
    /// The store has no peer of the region.
    #[error("the store has no peer of the region")]
    RegionNotFound,
    /// The store's peer of the region has another id.
    #[error("the store's peer of the region has another id")]
    PeerMismatch,
    /// The peer does not lead.
    #[error("the peer does not lead its region")]
    NotLeader {
        /// Who does, where the peer knows.
        leader: Option<Peer>,
    },
    /// The peer waits for its first snapshot.
    #[error("the peer waits for its first snapshot")]
    NotInitialized,
    /// The request was made for another term.
    #[error("the term has passed")]
    StaleTerm,
    /// The region's range or peers have changed.
    #[error("the epoch of the region has changed")]
    EpochNotMatch {
        /// The region now, and its new siblings; may be empty.
        current: Vec<Region>,
    },
    /// A key of the request is outside the region.
    #[error("a key of the request is not in the region")]
    KeyNotInRegion,
    /// The write is too large for one entry.
    #[error("the write has {size_bytes} bytes, which is too large for one entry")]
    EntryTooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// The store has too much to do.
    #[error("the store is busy: {reason}")]
    Busy {
        /// Which limit.
        reason: String,
        /// How long to wait at least.
        retry_after: Duration,
    },
    /// The disk has too little space left for writes.
    #[error("the disk is full")]
    DiskFull,
    /// No quorum confirmed the read in time.
    #[error("no quorum confirmed the read in time")]
    ReadIndexNotReady,
    /// The write may have been applied, and this store will not learn whether it was.
    #[error("the store does not know: {0}")]
    Undetermined(String),
    /// An error that this client does not know; the region is looked up again.
    #[error("{0}")]
    Other(String),
}
