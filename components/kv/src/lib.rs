//! The KV state machine: what the keys and values of the KV engine look like, what each command writes, and what each
//! query answers.
//!
//! ```text
//!  Command ── check, clip ──► (the store proposes it, Raft agrees) ──► command::apply ──► Round ──► KvEngine::write
//!  Query ───────────────────► (the store proves it may be answered) ─► read::answer  ◄── KvSnapshot
//!  snapshots, digests ◄─────────────────────────────────────────────── export::visit ◄── KvSnapshot
//! ```
//!
//! Applying is deterministic: the same commands, in the same order, with the same scopes, give the same writes and the
//! same outcomes on every peer. So this crate has no clock (the region clock and the wall time are arguments), draws no
//! random numbers, and never reads anything but the keys that a command names. It must not know Raft, peers, who leads,
//! or how a command came here; a region is a range and an id to it.
//!
//! Start reading at [`keys`] and [`value`] (the disk format), then [`Round`], then `command/put.rs`.

pub mod command;
mod error;
pub mod export;
pub mod keys;
pub mod limits;
pub mod read;
mod round;
pub mod value;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use command::Invalid;
pub use error::{Error, Result};
pub use round::Round;
