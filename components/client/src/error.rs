//! What an operation ends with when it has no result.

use crate::core::RegionError;

/// Why an operation has no result. What matters to the caller is what it says about the effect of a write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It did not happen, and the client has stopped trying.
    #[error("failed: {0}")]
    Failed(Cause),
    /// No attempt left the client: no store or no placement could be reached in time. It did not happen.
    #[error("timed out before sending: {0}")]
    TimedOutBeforeSending(Cause),
    /// The write may have happened, wholly or, where it spans several regions, in some of them.
    #[error("it is not known whether the write happened: {0}")]
    Undetermined(Cause),
}

impl Error {
    /// Whether the write may have happened.
    #[must_use]
    pub fn is_undetermined(&self) -> bool {
        matches!(self, Error::Undetermined(_))
    }

    /// What the last attempt met.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Error::Failed(cause) | Error::TimedOutBeforeSending(cause) | Error::Undetermined(cause) => cause,
        }
    }
}

/// What an attempt met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The store answered with a region error.
    #[error(transparent)]
    Region(RegionError),
    /// The store refused the request; the text is its own.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The request did not leave: there is no connection to the store.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request left, and no answer came.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// Placement did not say which region holds the key, or where its store is.
    #[error("look up the region: {0}")]
    Placement(String),
    /// The answer does not belong to the request.
    #[error("the answer does not fit the request: {0}")]
    Malformed(&'static str),
}

/// A result of the client.
pub type Result<T> = std::result::Result<T, Error>;
