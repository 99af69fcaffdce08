//! Invariants as code (D16): whether what clients saw, and what a cluster looks like, can be right.
//!
//! ```text
//!  clients ── call, reply ──► history::History ── check ──► linearizable, key by key? (I6, I7, I13)
//!  stores  ── pictures ─────► cluster::Checker ── observe ► the other invariants, from one picture to the next
//! ```
//!
//! Everything here works on plain data that somebody else collected: a simulator after every event, a test at its end, a
//! running cluster when an operator asks. So this crate must not know engines, Raft groups, workers or networks, and it
//! never asks anything: what is not in a picture is not checked.
//!
//! Start reading at [`history::History`] and [`cluster::Invariant`].

pub mod cluster;
pub mod history;
