//! Actors: who runs when.
//!
//! A [`Worker`] is plain synchronous code that is given its mail and the time and runs one round. A [`Mailbox`] collects
//! mail and tells a [`Scheduler`] when a worker that had none has some. Worker and mailbox together are an [`Actor`];
//! [`pool`] runs actors on threads, a simulator runs them one after the other from a seed.
//!
//! It does not know what actors do. Everything but `pool` is deterministic.

mod actor;
mod clock;
mod mailbox;
pub mod pool;

pub use actor::{Actor, Runnable, Worker, give_back};
pub use clock::{Clock, Now};
pub use mailbox::{ActorId, Mailbox, Scheduler};
