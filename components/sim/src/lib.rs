//! The simulator: production raft, kv, store, placement and client routing under one seed.
//!
//! ```text
//!   runner ──▶ run ──▶ scene ──▶ World::step, again and again     plan: what goes wrong, and when
//!                                │                                clients: operations, recorded in a history
//!                                ├──▶ a host: one actor's round   operator: joins, transfers, timestamps
//!                                └──▶ checks, after every event   picture: what the checkers see
//! ```
//!
//! A run has three parts: faults and operations; then no faults, and every client must be served; then no operations, and
//! all peers must become equal. Invariants are checked after every event, and at the end for each key whether some order
//! of operations explains what clients saw. `cargo sim --seed N` repeats a run, event for event.
//!
//! Nothing but [`runner`] (which runs seeds beside one another) knows threads, and nothing draws but
//! [`world::Rng`]. The simulator must not know how a store does anything: it assembles one as `server` does, from the
//! same parts, and reaches it through the same ports.
//!
//! Start reading at `run.rs`, then `scene.rs` and `world/mod.rs`.
//!
//! # Caveats
//!
//! What a round writes, it writes at one moment: a crash falls between rounds, and what a power loss leaves is drawn by
//! [`engine::mem`]. Bytes on the wire and threads are not simulated; process tests cover them.

pub mod checks;
pub mod clients;
pub mod operator;
mod picture;
pub mod plan;
pub mod run;
pub mod runner;
pub mod scene;
pub mod world;
