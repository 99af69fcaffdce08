#![allow(clippy::disallowed_methods, reason = "I/O shell")]
#![allow(clippy::mem_forget, reason = "inside the expansion of self_cell")]
//! RocksDB behind [`engine::LogEngine`] and [`engine::KvEngine`]: one batched log for all regions, and the KV.
//!
//! It does not know Raft, and decides neither when to sync the log nor when to flush the KV. It is the only crate that
//! links C++, and is only ever built with `--release` (D17).
//!
//! ```text
//!  LogBatch ─▶ RocksLog ─▶ one write batch, one sync ─▶ write-ahead log ─▶ memtable ─▶ (what still lives) files
//!  KvBatch  ─▶ RocksKv  ─▶ no write-ahead log ───────────────────────────▶ memtable ─▶ flush ──────────▶ files
//! ```
//!
//! # The log's rows
//!
//! Keys begin with a byte that says what they are; integers are big-endian, so that rows are in the order of their ids.
//!
//! | key | value |
//! | --- | --- |
//! | `01` region (8) index (8) | an entry: one byte `10 + kind` (format 1; kind as in [`types::EntryKind`]), term (8), chain (16), payload |
//! | `02` region (8) | `sheaf.disk.v1.RaftState` |
//! | `03` sequence (8) | `sheaf.disk.v1.LifecycleRecord` |
//! | `04` | `sheaf.disk.v1.StoreIdent` |
//! | `05` any bytes | a local row, as given |
//!
//! # The folders
//!
//! Each engine's folder is RocksDB's, with two additions: `in-use`, a file that is locked while the engine is open, and
//! in the KV's folder `staged`, with a file `NAME.sst` for each synced staged file (empty if it has no pairs) and
//! `NAME.part` for each that is being written.
//!
//! Start reading at [`RocksLog`].

mod codec;
mod error;
mod folder;
mod kv;
mod log;
mod log_files;
mod options;
mod snapshot;
mod staged;

pub use kv::RocksKv;
pub use log::RocksLog;
pub use options::{BlockCache, Options};
