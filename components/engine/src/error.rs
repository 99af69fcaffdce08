//! What can go wrong on a disk.

use std::fmt;

use types::RegionId;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening the files.
    Open,
    /// Reading.
    Read,
    /// Writing or syncing.
    Write,
    /// Making earlier writes durable.
    Flush,
    /// Creating, appending to, syncing or listing a staged file.
    Stage,
    /// Adding staged files to the data.
    Ingest,
}

/// A failure of the disk or of what it holds.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system or the storage library refused.
    #[error("{operation}: {message}")]
    Io {
        /// What was being done.
        operation: Operation,
        /// What it said.
        message: String,
    },
    /// The disk is full.
    #[error("{operation}: no space left on the device")]
    DiskFull {
        /// What was being done.
        operation: Operation,
    },
    /// What was read is not what was written.
    #[error("{operation}: corrupted data{}: {message}", OfRegion(*region))]
    Corruption {
        /// What was being done.
        operation: Operation,
        /// Whose data it is, where known.
        region: Option<RegionId>,
        /// How it was noticed.
        message: String,
    },
    /// An earlier write or sync failed; nothing is written any more, because what the disk holds is not known.
    #[error("refused: an earlier write failed")]
    Poisoned,
}

/// A result of an engine.
pub type Result<T> = std::result::Result<T, Error>;

struct OfRegion(Option<RegionId>);

impl fmt::Display for OfRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |region| write!(f, " of region {region}"))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Flush => "flush",
            Operation::Stage => "stage snapshot file",
            Operation::Ingest => "ingest",
        })
    }
}
