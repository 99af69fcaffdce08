//! A Raft group as a pure state machine: inputs in ([`RaftGroup::step`], [`RaftGroup::tick`], [`RaftGroup::propose`]),
//! a [`Ready`] out. No clock, disk, network or unseeded randomness; every input carries `now`.
//!
//! It must not know regions, stores beyond what a configuration entry names, bytes on disk, or wall time. What is not in
//! memory it asks of a [`LogReader`], and asks again.
//!
//! Start reading at [`RaftGroup`].

mod configurations;
mod error;
mod group;
mod limits;
mod log;
mod log_reader;
mod message;
mod options;
mod progress;
mod quorum;
mod random;
mod ready;
mod status;

pub use error::{Error, Result};
pub use group::RaftGroup;
pub use log_reader::{LogReader, NoLog, NotInMemory};
pub use message::{Message, MessageBody, SnapshotMeta, Stamp};
pub use options::{InitialState, Options};
pub use ready::{ReadState, Ready, RoleChange};
pub use status::{Lease, PeerStatus, Role, SnapshotOutcome, Status};
