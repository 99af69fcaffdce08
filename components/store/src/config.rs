//! How a store is set up.

use std::time::Duration;

/// Settings of a store, fixed at its start. Everything else is a constant (see `limits.rs`).
#[derive(Clone, Debug)]
pub struct Config {
    /// Seeds every random choice of the store.
    pub seed: u64,
    /// Raft workers; regions are spread over them by id. 1 to 64.
    pub raft_worker_count: usize,
    /// Apply workers; regions are spread over them by id. 1 to 64.
    pub apply_worker_count: usize,
    /// Read workers. 1 to 64.
    pub read_worker_count: usize,
    /// Silence of a leader after which its followers look for another. 100 ms to 60 s.
    pub election_timeout: Duration,
    /// A leader's heartbeat, and a store's beat. 10 ms to a tenth of the election timeout or more.
    pub heartbeat_interval: Duration,
    /// Un-flushed bytes of the KV engine that start a flush.
    pub flush_bytes: u64,
    /// Writes are refused while the device has less than this free, in bytes.
    pub reserve_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 0,
            raft_worker_count: 1,
            apply_worker_count: 1,
            read_worker_count: 1,
            election_timeout: Duration::from_millis(600),
            heartbeat_interval: Duration::from_millis(100),
            flush_bytes: 128 << 20,
            reserve_bytes: 256 << 20,
        }
    }
}
