//! Routing and retrying, without I/O.
//!
//! [`Operation`] is one request of the application under way: it is fed [`Event`]s and emits [`Action`]s, with the
//! [`RegionCache`] that all operations of a client share. [`Work`] is what it asks for; a [`Call`] is the part of it that
//! one region can do.

mod cache;
mod call;
mod gather;
mod operation;
mod retry;
mod work;

pub use cache::{RegionCache, Route};
pub use call::{Call, CallError, RegionError, Reply};
pub use operation::{Action, Event, Operation, PartId};
pub use retry::RetryPolicy;
pub use work::{Body, Position, Work};
