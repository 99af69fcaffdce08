#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "I/O shell: it measures time")]
//! The load generator, `sheaf bench`.
//!
//! ```text
//!   cli ─▶ spawn (child stores) ─▶ load: generator ─▶ Target (the client) ─▶ Recorder ─▶ live line, report
//!                                   closed: N workers    open: an op each 1/R, latency from when it was due
//! ```
//!
//! It speaks to a cluster through the client only, as an application does, plus `GET /metrics` of each store. It must not
//! know a store's internals, and it must not flatter: failed and undetermined operations are counted apart and never in a
//! latency, the warm-up is in no figure, an open loop never leaves an operation out, and a run in which the generator was
//! the limit says so.
//!
//! Start with [`cli::run`], then `load.rs`.

pub mod cli;
mod distribution;
mod host;
mod limits;
mod live;
mod load;
mod random;
mod record;
mod report;
mod scrape;
mod spawn;
mod target;
mod workload;
