//! One store: many Raft groups on shared batches. Everything that decides, in rounds, without a clock, thread, socket or
//! file of its own.
//!
//! ```text
//!            Store (handle): submit, read, admin, receive
//!                │ router: RegionId → mailbox
//!   ┌────────────▼───────────┐  log batch   ┌────────────┐
//!   │ raft workers           ├─────────────▶│ log writer │ one write, one fsync for all
//!   │ mail → Ready → messages│◀─────────────┤            │
//!   └──┬──────────────▲──────┘  persisted   └────────────┘
//!      │ committed    │ applied
//!   ┌──▼──────────────┴──────┐  reached     ┌────────────┐
//!   │ apply workers          ├─────────────▶│ read       │ lease, or read index
//!   │ one batch a round      │              │ workers    │
//!   └────────────────────────┘              └────────────┘
//!   beside them: liveness (beats), snapshot (sends, receives), upkeep (flush, free space), sizer (counts regions)
//! ```
//!
//! It must not know how many threads there are, nor that gRPC, RocksDB or tokio's runtime exist: ports carry all that.
//!
//! Start reading at `round.rs`, then `peer/ready.rs`, `log_writer.rs`, `apply/mod.rs`, `read/mod.rs`.

mod apply;
pub mod bootstrap;
mod codec;
mod command;
mod config;
mod error;
mod handle;
mod ledger;
mod lifecycle;
mod limits;
mod liveness;
mod log_writer;
mod message;
mod meta;
mod open;
mod outbox;
mod peer;
mod ports;
mod read;
mod round;
mod router;
mod shared;
mod size;
mod snapshot;
mod upkeep;
mod view;

pub use config::Config;
pub use engine::StoreIdent;
pub use error::{Error, Result};
pub use handle::Store;
pub use ledger::{Account, Ledger, Reservation};
pub use liveness::{Section, SleepDigest, SleepMessage, SleepOffer, Sleeper, SleeperList, Unreachable};
pub use message::{
    AdminAction, AdminRequest, ApplyState, Beat, LastSplit, LeadChanges, MembershipMessage, PlacementMessage,
    Proposal, RaftEnvelope, ReadRequest, RegionReport, RequestContext, Responder, SnapshotAck, SnapshotChunk,
    SnapshotHeader, SnapshotMessage, SnapshotStatus, SplitKeys, SplitKeysWish, SplitWish, StoreMessage,
};
pub use open::{OpenError, Ports};
pub use ports::{Lane, PlacementClient, Transport};
pub use shared::Fatal;
pub use view::RegionPicture;
