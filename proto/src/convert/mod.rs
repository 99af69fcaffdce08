//! The only place that knows both vocabularies: generated messages and domain types.
//!
//! One file per subject. What can fail is a `TryFrom` with [`Error`]; conversions take their input by value, and keys and
//! values stay slices of the bytes that were received.

mod command;
mod error;
mod raft;
mod vocabulary;

pub use command::{decode_command, encode_command};
pub use error::{Error, Result};
pub use raft::{PeerMessage, snapshot_meta};
