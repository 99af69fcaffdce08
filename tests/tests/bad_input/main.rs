#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O shell: real processes, real time"
)]
//! What must not work, tried on real stores: each is refused in words that say what to do, and harms nothing else.

mod clusters;
mod disk;
mod messages;
mod moves;
mod requests;
mod splits;
mod start;
