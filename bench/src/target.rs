//! What the load goes to.

use client::{
    Cause, Client, Error,
    core::{RegionError, Reply, Work},
};
use types::Answer;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was done.
    Done {
        /// Bytes of the value that was read.
        read_bytes: u64,
    },
    /// It was a read, and the key does not exist.
    Missing,
    /// It was not done; the name says why.
    Failed(&'static str),
    /// It may have been done.
    Undetermined(&'static str),
}

/// Something that carries out operations.
pub(crate) trait Target: 'static {
    /// Carries one out.
    fn execute(&self, work: Work) -> impl Future<Output = Fate>;
}

impl Target for Client {
    async fn execute(&self, work: Work) -> Fate {
        match self.run(work).await {
            Ok(Reply::Read(Answer::Value(None))) => Fate::Missing,
            Ok(Reply::Read(Answer::Value(Some(value)))) => {
                Fate::Done { read_bytes: u64::try_from(value.len()).unwrap_or(u64::MAX) }
            }
            Ok(Reply::Read(_) | Reply::Written(_)) => Fate::Done { read_bytes: 0 },
            Err(Error::Undetermined(cause)) => Fate::Undetermined(name(&cause)),
            Err(Error::Failed(cause)) => Fate::Failed(name(&cause)),
            Err(Error::TimedOutBeforeSending(_)) => Fate::Failed("timed_out_before_sending"),
        }
    }
}

fn name(cause: &Cause) -> &'static str {
    match cause {
        Cause::Refused(_) => "refused",
        Cause::NotSent(_) => "not_sent",
        Cause::Unanswered(_) => "unanswered",
        Cause::Placement(_) => "placement",
        Cause::Malformed(_) => "malformed",
        Cause::Region(error) => match error {
            RegionError::StoreNotMatch => "store_not_match",
            RegionError::RegionNotFound => "region_not_found",
            RegionError::PeerMismatch => "peer_mismatch",
            RegionError::NotLeader { .. } => "not_leader",
            RegionError::NotInitialized => "not_initialized",
            RegionError::StaleTerm => "stale_term",
            RegionError::EpochNotMatch { .. } => "epoch_not_match",
            RegionError::KeyNotInRegion => "key_not_in_region",
            RegionError::EntryTooLarge { .. } => "entry_too_large",
            RegionError::Busy { .. } => "busy",
            RegionError::DiskFull => "disk_full",
            RegionError::ReadIndexNotReady => "read_index_not_ready",
            RegionError::Undetermined(_) => "undetermined",
            RegionError::Other(_) => "other",
        },
    }
}
