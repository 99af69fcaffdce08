//! Why a group refuses an input.

use types::{ConfigurationError, PeerId};

/// A refusal. The core does no I/O and so cannot fail in any other way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This peer does not lead.
    #[error("not the leader")]
    NotLeader,
    /// Leading, but not taking proposals now (a transfer is under way, or too many bytes are un-committed). Nothing was
    /// appended.
    #[error("proposal dropped: {0}")]
    ProposalDropped(&'static str),
    /// No such peer in the configuration, or one that may not do what is asked.
    #[error("peer {0} is unknown or not eligible")]
    UnknownPeer(PeerId),
    /// A configuration change is still under way, or its precondition does not hold yet.
    #[error("configuration change refused: {0}")]
    ChangeRefused(&'static str),
    /// The group cannot sleep: something is open.
    #[error("it must stay awake: {0}")]
    Awake(&'static str),
    /// A quorum is not lost, or this peer may not lead without one.
    #[error("leadership cannot be forced: {0}")]
    ForceRefused(&'static str),
    /// The configuration asked for is not well formed.
    #[error("malformed configuration: {0}")]
    Malformed(#[from] ConfigurationError),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
