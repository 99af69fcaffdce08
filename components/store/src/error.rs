//! What a store answers when it does not do what it is asked; each variant is something that a client can act on.

use std::time::Duration;

use bytes::Bytes;
use types::{KeyRange, Peer, PeerId, Region, RegionId, StoreId};

use crate::limits::BUSY_RETRY_AFTER;

/// Why a request was not answered with a result. The order of the variants is the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request names another store.
    #[error("this is store {actual}, not store {requested}")]
    StoreNotMatch {
        /// Asked for.
        requested: StoreId,
        /// This store.
        actual: StoreId,
    },
    /// The region has no peer on this store.
    #[error("region {0} has no peer on this store")]
    RegionNotFound(RegionId),
    /// The region's peer on this store has another id.
    #[error("peer {actual} lives on this store, not peer {requested}")]
    PeerMismatch {
        /// Asked for.
        requested: PeerId,
        /// This store's peer.
        actual: PeerId,
    },
    /// Another peer leads the region, or none does.
    #[error("not the leader of region {region_id}")]
    NotLeader {
        /// The region.
        region_id: RegionId,
        /// Who leads, where known.
        leader: Option<Peer>,
    },
    /// The peer has no data yet.
    #[error("the peer of region {0} on this store has not received its first snapshot yet")]
    NotInitialized(RegionId),
    /// The request was made for another term.
    #[error("the term has passed")]
    StaleTerm,
    /// The region's range or peers have changed since the request was made.
    #[error("the epoch of the region has changed")]
    EpochNotMatch {
        /// The region now, and its new siblings.
        current: Vec<Region>,
    },
    /// The key does not belong to the region.
    #[error("key is not in region {region_id}")]
    KeyNotInRegion {
        /// The region.
        region_id: RegionId,
        /// The key.
        key: Bytes,
        /// The region's keys.
        range: KeyRange,
    },
    /// The request is not well formed; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// The entry would be larger than is allowed.
    #[error("an entry of {size_bytes} bytes is over the limit of {limit_bytes} bytes")]
    EntryTooLarge {
        /// The region.
        region_id: RegionId,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Over a limit: try again after a while. Nothing was done.
    #[error("busy: {reason}")]
    Busy {
        /// Which limit.
        reason: &'static str,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The disk has too little space left; writes are refused until there is more. Nothing was done.
    #[error("the disk of store {0} is full")]
    DiskFull(StoreId),
    /// No quorum confirmed the read in time; nothing is wrong with asking again.
    #[error("read index of region {0} is not ready")]
    ReadIndexNotReady(RegionId),
    /// The region as it is does not allow this change.
    #[error("refused: {0}")]
    Refused(String),
    /// Another change of the region is under way.
    #[error("change {change_id} of region {region_id} is under way: {stage}")]
    Changing {
        /// The region.
        region_id: RegionId,
        /// Names the change.
        change_id: u64,
        /// What is being done.
        stage: &'static str,
    },
    /// It is not known whether the write happened, and this store will not learn it.
    #[error("it is not known whether the write happened: {0}")]
    Undetermined(&'static str),
    /// The store is stopping. Nothing was done.
    #[error("the store is stopping")]
    Stopping,
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Over a limit of this store.
    pub(crate) fn busy(reason: &'static str) -> Error {
        Error::Busy { reason, retry_after: BUSY_RETRY_AFTER }
    }

    /// Whether the request may have had an effect.
    #[must_use]
    pub fn is_undetermined(&self) -> bool {
        matches!(self, Error::Undetermined(_))
    }
}
