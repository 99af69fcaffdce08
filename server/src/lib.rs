#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "I/O shell: the process itself")]
//! The process: one executable that is storage node, placement service, demo and operator's tool.
//!
//! ```text
//!   one port ── gRPC ──▶ service/ ── decode ──▶ Store, placement ── answer ──▶ encode
//!            └─ HTTP/1 ─▶ http.rs (metrics, health, configuration)
//!
//!   start.rs: data directory → engines → (init or join) → store, placement, threads → services
//! ```
//!
//! It decides nothing: what can go wrong in a cluster is the business of `store` and `placement`, which are simulated.
//! Here are sockets, files, threads, and the words of the command line.
//!
//! Start with [`cli::run`], then `start/mod.rs`, then `service/batch.rs` (the way of nearly every request).

mod book;
pub mod cli;
mod clock;
mod config;
mod data_dir;
mod demo;
mod exit;
mod failure;
mod http;
mod listener;
mod operate;
mod random;
mod service;
mod start;
mod state;
