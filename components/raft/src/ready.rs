//! What a group wants done: the output of [`crate::RaftGroup::ready`].

use types::{Entry, HardState, Index, PeerId, Term};

use crate::{Message, Role, SnapshotMeta};

/// One batch of work. Readies are numbered from 1 and must be persisted in order; several may be under way at once.
///
/// The caller
/// 1. sends `messages` at once, before anything is persisted (thesis, 10.2.1);
/// 2. makes `snapshot`, `entries` and `hard_state` durable, atomically and in the order of the numbers;
/// 3. then sends `messages_after_persist` and calls [`crate::RaftGroup::on_persisted`] with the number;
/// 4. applies `committed` in order and calls [`crate::RaftGroup::advance`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The number to give to `on_persisted`; zero if nothing needs to be persisted.
    pub number: u64,
    /// To be sent at once, in this order.
    pub messages: Vec<Message>,
    /// The hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Whether `hard_state` differs in more than the commit index, so that it must be fsynced.
    pub is_hard_state_urgent: bool,
    /// Entries to append; whatever the log holds from the first one's index on is overwritten.
    pub entries: Vec<Entry>,
    /// A snapshot that replaces the log and the data; the store has received its data already.
    pub snapshot: Option<SnapshotMeta>,
    /// To be sent once all of the above is durable.
    pub messages_after_persist: Vec<Message>,
    /// Entries that are committed and locally durable, in order, a page at a time.
    pub committed: Vec<Entry>,
    /// Read-index requests that are decided.
    pub reads: Vec<ReadState>,
    /// Peers that need a snapshot; each is named once until [`crate::RaftGroup::report_snapshot`].
    pub snapshot_wanted: Vec<PeerId>,
    /// Peers that have lost what they acknowledged as durable: to be replaced under new ids (D15). Each is named once for
    /// each time that it shows it.
    pub memory_lost: Vec<PeerId>,
    /// Set if role, term or leader changed.
    pub role_change: Option<RoleChange>,
}

/// A read-index request's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadState {
    /// As given to [`crate::RaftGroup::read_index`].
    pub id: u64,
    /// The read is linearizable once this index is applied; `None`: not confirmed (no leader, leadership lost), ask again.
    pub index: Option<Index>,
}

/// The role of a peer, and whom it follows, after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange {
    /// What it is now.
    pub role: Role,
    /// In which term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<PeerId>,
}

impl Ready {
    /// Whether something must be persisted before `messages_after_persist` may leave.
    #[must_use]
    pub fn must_persist(&self) -> bool {
        self.number != 0
    }
}
