#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O shell: sockets, tasks and time-outs"
)]
//! Moves messages between stores on gRPC streams.
//!
//! For each other store and lane there is one connection with one stream of frames; nothing is ever sent on the
//! connection of another lane, so a snapshot never delays a vote. What is queued while a frame is written goes out
//! together in the next one.
//!
//! ```text
//! store ── send(to, lane, messages) ──▶ LaneQueue ──▶ frames ──▶ one HTTP/2 connection ──▶ Service ── receive ──▶ store
//!          (never blocks, bounded)                   (one task for each lane)              (checks who speaks)
//! ```
//!
//! It must not know what the messages mean; it may lose them, and tells the store when it cannot reach another one.
//! The sockets' security has its place in [`Credentials`].
//!
//! Start with [`GrpcTransport`], then `link.rs` (sending) and [`Service`] (receiving).

mod codec;
mod credentials;
mod frames;
mod hello;
mod lane_metrics;
mod limits;
mod link;
mod membership;
mod queue;
mod service;
mod transport;

pub use credentials::{Credentials, CredentialsError};
pub use hello::{CLUSTER_VERSION, HelloError, hello};
pub use limits::REQUEST_BYTES_MAX;
pub use link::{DialError, dial};
pub use membership::Membership;
pub use service::{HelloAnswer, Service};
pub use transport::{GrpcTransport, Identity};
