//! The simulator: production raft, kv, store, placement and client routing under one seed.
pub mod checks;
pub mod clients;
pub mod operator;
mod picture;
pub mod plan;
pub mod run;
pub mod runner;
pub mod world;
