//! The vocabulary of Sheaf: identifiers, regions, entries, configurations, commands and instants.
//!
//! Everything here is plain data with the rules that make it well formed. This crate knows no clock, disk, network
//! or protobuf; every other crate may import it, and it imports none of ours.
//!
//! Start with [`Region`] (what a key range and its peers are), then [`Entry`] (what a log holds) and [`Command`]
//! (what an entry asks the state machine to do).

mod chain;
mod command;
mod configuration;
mod entry;
mod id;
mod instant;
pub mod memcomparable;
mod range;
mod region;

pub use chain::Chain;
pub use command::{
    Answer, Command, CompareAndSwap, Condition, LogCommand, Outcome, Pair, PlacementTxn, Query, Request,
    Scan, SessionStamp,
};
pub use configuration::{Configuration, ConfigurationChange, ConfigurationError};
pub use entry::{Entry, EntryKind, HardState, LogPosition};
pub use id::{ClusterId, Incarnation, Index, PeerId, RegionId, StoreId, Term};
pub use instant::{Instant, WallTime};
pub use range::KeyRange;
pub use region::{Epoch, PastEnd, Peer, PeerRole, Region, RegionSize, Split, SplitChild, SplitTrace};
