#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "I/O shell: real processes, real time"
)]
//! What the tests of real processes share: stores as child processes, and load whose history is checked.
//!
//! Nothing here sleeps for a guessed time: whatever is waited for is polled, with a deadline.

#[cfg(feature = "processes")]
mod cluster;
#[cfg(feature = "processes")]
mod load;
#[cfg(feature = "processes")]
mod observe;
#[cfg(feature = "processes")]
mod operate;
#[cfg(feature = "processes")]
mod power;
#[cfg(feature = "processes")]
mod verb;
#[cfg(feature = "processes")]
mod wire;
#[cfg(feature = "processes")]
mod wires;

#[cfg(feature = "processes")]
pub use cluster::{Cluster, Options, binary, eventually, free_address};
#[cfg(feature = "processes")]
pub use load::{Load, Tally};
#[cfg(feature = "processes")]
pub use observe::own_cpu_time;
#[cfg(feature = "processes")]
pub use operate::refusal;
#[cfg(feature = "processes")]
pub use power::{Fsync, PowerSupply};
#[cfg(feature = "processes")]
pub use verb::Verb;
#[cfg(feature = "processes")]
pub use wire::{streamed, unary};
