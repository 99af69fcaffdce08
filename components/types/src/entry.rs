//! What a Raft log holds.

use bytes::Bytes;

use crate::{Chain, Index, PeerId, Term};

/// What an entry's payload is, as far as Raft needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The first entry of a leader's term: commits what it inherited (Raft, 5.4.2). Its payload is empty.
    #[default]
    Empty = 0,
    /// A command of the state machine. Raft does not look inside.
    Command = 1,
    /// A configuration, in force from the moment it is appended (thesis, 4.1).
    Configuration = 2,
    /// A change of the region itself (a split). Raft does not look inside; whoever grants leases must know where it is.
    Region = 3,
}

/// One entry of a Raft log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What the payload is.
    pub kind: EntryKind,
    /// Encoded by whoever proposed it; for [`EntryKind::Configuration`] an encoded `ConfigurationChange`.
    pub payload: Bytes,
    /// The hash of the log up to and including this entry (D15).
    pub chain: Chain,
}

impl Entry {
    /// Bytes that this entry counts in budgets: its payload and what is stored beside it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.payload.len() + Entry::OVERHEAD_BYTES
    }

    /// What an entry costs beside its payload: index, term, kind and chain.
    pub const OVERHEAD_BYTES: usize = 48;

    /// Where this entry stands.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term, chain: self.chain }
    }
}

/// A place in a log with all that identifies the log up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// The index.
    pub index: Index,
    /// The term of the entry at `index`.
    pub term: Term,
    /// The hash of the log up to `index`.
    pub chain: Chain,
}

/// What a Raft peer must not forget (Raft, figure 2), and the commit index, which it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Who got this peer's vote in `term`.
    pub vote: Option<PeerId>,
    /// The highest index known committed when this was written.
    pub commit: Index,
}
