//! How a store is set up.

use std::time::Duration;

/// Settings of a store, fixed at its start. Everything else is a constant (see `limits.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A region without a request for this long goes to sleep (D7). 10 ms or more.
    pub sleep_after: Duration,
    /// Un-flushed bytes of the KV engine that start a flush.
    pub flush_bytes: u64,
    /// Log entries that a region keeps behind its flushed applied index for followers that are briefly behind.
    pub log_kept_entries: u64,
    /// Log entries beyond which a lagging follower no longer holds truncation back; it gets a snapshot instead.
    pub log_lag_entries_max: u64,
    /// A region that holds more, in bytes of keys and values as they are stored, is split; zero: never.
    pub region_split_bytes: u64,
    /// A region that holds more pairs is split; zero: never.
    pub region_split_keys: u64,
    /// Writes are refused while the device has less than this free, in bytes.
    pub reserve_bytes: u64,
    /// Bytes of proposals, entries, snapshots and messages that may be in memory at one time (see [`crate::Ledger`]).
    /// Half of it holds any one command, so 64 MiB or more outside of tests.
    pub memory_limit_bytes: u64,
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
            sleep_after: Duration::from_secs(3),
            flush_bytes: 128 << 20,
            log_kept_entries: 1_024,
            log_lag_entries_max: 100_000,
            region_split_bytes: 96 << 20,
            region_split_keys: 1_000_000,
            reserve_bytes: 256 << 20,
            memory_limit_bytes: 512 << 20,
        }
    }
}

impl Config {
    /// How long a peer that acknowledged a leader votes for nobody else (D10): five sixths of the election timeout.
    #[must_use]
    pub fn promise(&self) -> Duration {
        self.election_timeout * 5 / 6
    }

    /// How long a lease lasts: four fifths of the promise. The difference is for clocks that drift or jump.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.promise() * 4 / 5
    }
}
