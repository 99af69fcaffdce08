//! The client: finds the region of a key, sends the request to its leader, and tries again where that is safe.
//!
//! ```text
//!   kv::Client ──▶ core::Operation ──▶ Send, LookUp, Wait, Finish
//!  (feature grpc)   │ pure: an event in, actions out     │
//!                   ▼                                    ▼
//!              core::RegionCache            grpc: one stream per store, placement
//! ```
//!
//! [`core`] decides everything and knows no clock, socket, runtime or protobuf message; the simulator drives it as it is.
//! The shell behind feature `grpc` carries the actions out and decides nothing. What the client must not know: anything of
//! `store`. It mirrors the store's errors in [`core::RegionError`] because that is all that crosses the wire.
//!
//! Start with [`core::Operation`]; the interface for applications is `Client`.

pub mod core;
mod error;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "grpc")]
mod kv;
pub mod limits;

pub use error::{Cause, Error, Result};
#[cfg(feature = "grpc")]
pub use grpc::{Credentials, Options, Split};
#[cfg(feature = "grpc")]
pub use kv::{Checksum, Client, Swap, Ttl};
pub use types::KeyRange;
