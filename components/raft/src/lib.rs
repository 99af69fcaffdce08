//! A Raft group as a pure state machine: inputs in ([`RaftGroup::step`], [`RaftGroup::tick`], [`RaftGroup::propose`]),
//! a [`Ready`] out. No clock, disk, network or unseeded randomness; every input carries `now`.
//!
//! It must not know regions, stores beyond what a configuration entry names, bytes on disk, or wall time. What is not in
//! memory it asks of a [`LogReader`], and asks again.
//!
//! ```text
//!            step, tick, propose, read_index, …                        on_persisted, advance
//!                          │                                                 ▲
//!                     ┌────▼──────┐   ready    ┌─────────────────────────────┴──────┐
//!     LogReader ◄─────┤ RaftGroup ├──────────► │ messages │ entries, hard state,    │
//!                     └───────────┘            │ (at once)│ snapshot → messages     │
//!                                              │          │ after persist           │
//!                                              │ committed entries │ reads │ …      │
//!                                              └────────────────────────────────────┘
//! ```
//!
//! Start reading at [`RaftGroup`]; `examples/counter.rs` is a whole embedder. [`quorum`] and [`confchange`] are pure
//! functions that stand alone.
//!
//! # What its safety rests on
//!
//! - Readies are persisted in the order of their numbers, each atomically; `messages_after_persist` leave only then.
//! - `now` never runs back within one run of a process, and all clocks run at nearly the same speed: while one shows that
//!   [`Behaviour::lease`] has passed, none shows [`Behaviour::promise`].
//! - A peer that restarts sets [`InitialState::vote_not_before`] a whole promise ahead, and [`Options::seed`] to another
//!   value than in its earlier runs.
//! - Whoever loses what it acknowledged as durable returns under another peer id.
//!
//! # Caveats
//!
//! - A peer that has lost its memory is reported ([`Ready::memory_lost`]), repaired, and counts for what it acknowledges
//!   anew; it is not expelled: replacing it is the caller's (D15).
//! - Entries are applied only when durable here, unless [`Behaviour::apply_ahead_entries_max`] says otherwise (D3).
//! - After [`RaftGroup::force_leader`] what only the lost peers had committed is gone.
//! - While a commit index is all that is new it is not written; it goes along with the next write.

pub mod confchange;
mod configurations;
mod error;
mod group;
mod limits;
mod log;
mod log_reader;
mod message;
#[cfg(test)]
mod model;
mod options;
mod progress;
pub mod quorum;
mod random;
mod ready;
mod status;
mod trace;

pub use error::{Error, Result};
pub use group::RaftGroup;
pub use log_reader::{LogReader, NoLog, NotInMemory};
pub use message::{Message, MessageBody, SnapshotMeta, Stamp};
use options::OwnOptions;
pub use options::{Behaviour, InitialState, Options};
pub use ready::{ReadState, Ready, RoleChange};
pub use status::{CampaignReason, Lease, PeerStatus, Role, SleepContract, SnapshotOutcome, Status};
pub use trace::{Event, Trace};
