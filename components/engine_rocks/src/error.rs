//! RocksDB's and the operating system's failures as `engine::Error`s, and what they do to an engine.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use engine::{Error, Operation, Result};
use rocksdb::ErrorKind;

/// Whether an engine may still be used: no more once a write or sync has failed, for nobody knows what the disk holds.
#[derive(Default)]
pub(crate) struct Health {
    is_poisoned: AtomicBool,
}

impl Health {
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_poisoned.load(Ordering::Acquire) { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Poisons the engine if `result` is a failure.
    pub(crate) fn keep<T>(
        &self,
        operation: Operation,
        result: std::result::Result<T, impl Into<Failure>>,
    ) -> Result<T> {
        result.map_err(|failure| {
            self.is_poisoned.store(true, Ordering::Release);
            of(operation, failure)
        })
    }

    /// The error of a failed step on a file of its own, which does not touch the data. A full disk costs that file only;
    /// what else fails may be the device, so it poisons the engine.
    pub(crate) fn side_step(&self, operation: Operation, failure: impl Into<Failure>) -> Error {
        let error = of(operation, failure);
        if !matches!(error, Error::DiskFull { .. }) {
            self.is_poisoned.store(true, Ordering::Release);
        }
        error
    }
}

/// What a library call says when it fails.
pub(crate) enum Failure {
    Rocks(rocksdb::Error),
    System(io::Error),
}

impl From<rocksdb::Error> for Failure {
    fn from(error: rocksdb::Error) -> Failure {
        Failure::Rocks(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}

/// The error that a failure means.
pub(crate) fn of(operation: Operation, failure: impl Into<Failure>) -> Error {
    match failure.into() {
        Failure::System(error) if error.kind() == io::ErrorKind::StorageFull => Error::DiskFull { operation },
        Failure::System(error) => io_error(operation, error.to_string()),
        Failure::Rocks(error) if error.as_ref().contains("No space left on device") => {
            Error::DiskFull { operation }
        }
        Failure::Rocks(error) if error.kind() == ErrorKind::Corruption => {
            corruption(operation, error.into_string())
        }
        Failure::Rocks(error) => io_error(operation, error.into_string()),
    }
}

pub(crate) fn io_error(operation: Operation, message: impl Into<String>) -> Error {
    Error::Io { operation, message: message.into() }
}

pub(crate) fn corruption(operation: Operation, message: impl Into<String>) -> Error {
    Error::Corruption { operation, region: None, message: message.into() }
}

/// The same error; damage found while opening names the way out.
pub(crate) fn while_opening(error: Error) -> Error {
    match error {
        Error::Corruption { operation, region, message } => Error::Corruption {
            operation,
            region,
            message: format!(
                "{message}; what this store acknowledged may be lost, so it must not vote again: rebuild this store \
                 under a new id"
            ),
        },
        other @ (Error::Io { .. } | Error::DiskFull { .. } | Error::Poisoned) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_poisons_for_good() {
        let health = Health::default();
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        health.keep(Operation::Write, Ok::<_, io::Error>(())).unwrap();
        assert!(matches!(
            health.side_step(Operation::Stage, io(io::ErrorKind::StorageFull)),
            Error::DiskFull { .. }
        ));
        health.check().unwrap();
        let result = health.keep(Operation::Write, Err::<(), _>(io(io::ErrorKind::StorageFull)));
        assert!(matches!(result, Err(Error::DiskFull { operation: Operation::Write })));
        assert!(matches!(health.check(), Err(Error::Poisoned)));
        health.keep(Operation::Write, Ok::<_, io::Error>(())).unwrap();
        assert!(matches!(health.check(), Err(Error::Poisoned)));
    }

    #[test]
    fn a_failed_staged_file_poisons_unless_the_disk_is_full() {
        let health = Health::default();
        let failure = io::Error::other("device error");
        assert!(matches!(
            health.side_step(Operation::Stage, failure),
            Error::Io { operation: Operation::Stage, .. }
        ));
        assert!(matches!(health.check(), Err(Error::Poisoned)));
    }

    #[test]
    fn only_damage_names_the_rebuild() {
        let text = while_opening(corruption(Operation::Open, "flipped")).to_string();
        assert!(text.contains("flipped") && text.contains("rebuild this store under a new id"), "{text}");
        let text = while_opening(io_error(Operation::Open, "locked")).to_string();
        assert!(!text.contains("rebuild"), "{text}");
    }
}
