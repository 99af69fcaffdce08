//! What can go wrong when a command is applied or a query answered.

use bytes::Bytes;
use types::{KeyRange, RegionId};

use crate::value::Malformed;

/// Why a command was not applied, or a query not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key, or a part of a range, does not lie in the region. Of a command, nothing was applied.
    #[error("key {key:?} is not in region {region_id} with range {range:?}")]
    NotInRegion {
        /// The key; for a range the part of it that is outside begins here.
        key: Bytes,
        /// The region that was asked.
        region_id: RegionId,
        /// The keys that it holds.
        range: KeyRange,
    },
    /// Placement's rows were looked for outside the placement group, or clients' keys inside it.
    #[error(
        "region {region_id} does not hold this kind of key: placement's rows live in region 1 and nothing else does"
    )]
    WrongGroup {
        /// The region that was asked.
        region_id: RegionId,
    },
    /// The answer would take more memory than one query may use.
    #[error("the answer exceeds {bytes_max} bytes: ask for fewer keys or a smaller limit")]
    AnswerTooLarge {
        /// The most that one answer may take.
        bytes_max: usize,
    },
    /// A stored value is not one that this crate wrote: this peer's data is damaged (D15).
    #[error("value of key {key:?} in region {region_id} is corrupted: {reason}")]
    Corruption {
        /// The region whose data it is.
        region_id: RegionId,
        /// The user key.
        key: Bytes,
        /// How it was noticed.
        reason: &'static str,
    },
    /// The engine failed.
    #[error("read the KV engine")]
    Engine(#[from] engine::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn corruption(region_id: RegionId, key: &[u8], malformed: Malformed) -> Error {
        Error::Corruption { region_id, key: Bytes::copy_from_slice(key), reason: malformed.reason }
    }

    /// Whether every peer that applies the same command meets the same error, so that it is a result for the client and
    /// not a fault of this store.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        match self {
            Error::NotInRegion { .. } | Error::WrongGroup { .. } | Error::AnswerTooLarge { .. } => true,
            Error::Corruption { .. } | Error::Engine(_) => false,
        }
    }
}
