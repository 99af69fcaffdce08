//! Changes of the set of peers on this store (D5): each is a record in the log engine first, then an effect in the KV
//! engine together with the record's mark; and a start brings about what it finds recorded and not marked.
//!
//! ```text
//!  raft worker          log writer       apply worker              upkeep
//!   record ───────────▶ one fsync
//!      ◀── Recorded ───────┘
//!   ───────────── effect ─────────────▶ one KV batch, with the mark
//!                                         └────── RecordApplied ──▶ flush, then the record goes,
//!      ◀──────────────────────── Ended ───────────────────────────  and the log of a peer that ended
//! ```

mod destroy;
mod effect;
mod replay;
mod split;

pub(crate) use self::{
    destroy::{Ending, clearing},
    effect::{parts, write_effect},
    replay::{delete_stray_files, ending_peers, last_sequence, replay},
    split::{Birth, PendingSplit, SplitDraft},
};

/// What stands where a split wants a peer to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing, but perhaps what an early message has called for: a term and a vote, and a promise not to vote before
    /// some time.
    Free(types::HardState, types::Instant),
    /// The peer was destroyed before it was born, or a later one is there.
    Dropped,
}
