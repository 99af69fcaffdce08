//! The disk as the store sees it: two small, batch-oriented ports, an implementation in memory that can lose power, and
//! the suite that every implementation passes.
//!
//! - [`LogEngine`] holds every region's Raft log and state; what it acknowledges is durable.
//! - [`KvEngine`] holds data; its writes are redone from the logs after a crash, so they need no fsync of their own (D5).
//!
//! It does not know Raft's semantics: it stores entries and keys, atomically per batch.
//!
//! Start reading at [`LogBatch`] and [`KvBatch`]; what a crash does to both is in [`mem`].

#[cfg(feature = "testing")]
pub mod conformance;
mod entry_run;
mod error;
mod kv;
mod lifecycle;
mod log;
pub mod mem;

pub use entry_run::EntryRun;
pub use error::{Error, Operation, Result};
pub use kv::{KvBatch, KvEngine, KvOp, KvSnapshot, StagedFile, Visit};
pub use lifecycle::{BornRegion, LifecycleChange, LifecycleRecord};
pub use log::{LogBatch, LogEngine, LogWrite, RaftState, StoreIdent};
