//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

/// Bytes of one joined entry. Requests are joined up to here; a single larger one goes alone, up to
/// [`kv::command::SIZE_BYTES_MAX`]. Large enough that encoding and fsync amortise, small enough that a follower's
/// acknowledgement is never far away.
pub const ENTRY_JOINED_BYTES_MAX: usize = 512 << 10;

/// Bytes of proposals of one region that wait for the entry before them; beyond it they are answered `Busy`.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// Bytes of un-applied committed entries of one region in an apply worker's queue; beyond it no further page is handed
/// over.
pub const APPLY_QUEUE_BYTES_MAX: usize = 32 << 20;

/// Log entries that a region keeps behind its flushed applied index for followers that are briefly behind.
pub const LOG_KEPT_ENTRIES: u64 = 1_024;

/// Log entries beyond which a lagging follower no longer holds truncation back; it gets a snapshot.
pub const LOG_LAG_ENTRIES_MAX: u64 = 100_000;

/// How often a leader reports each of its regions to placement even without a change.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A peer that a leader has not heard for this long is reported as down.
pub const PEER_DOWN_AFTER: Duration = Duration::from_secs(10);

/// A read index that is not confirmed for this long is answered `ReadIndexNotReady`.
pub const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(2);

/// How much the wall clock may gain on the monotonic one before a lease is refused (D2).
pub const LEASE_WALL_GAIN_MAX_MS: u64 = 50;

/// Bytes of one snapshot chunk: large enough to amortise a frame, small enough not to delay others in its lane.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;

/// Chunks of one transfer that may be under way.
pub const SNAPSHOT_WINDOW_CHUNKS: u64 = 8;

/// A transfer that makes no progress for this long is given up.
pub const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(10);

/// Snapshots sent, and snapshots received, at one time.
pub const SNAPSHOTS_MAX: usize = 2;

/// A peer whose snapshot failed is not sent another before this has passed.
pub const SNAPSHOT_RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often stores beat.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(100);

/// Silence after which a store is suspected.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(600);

/// How often free space is looked at.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The KV engine is flushed at the latest when this has passed since the last flush and something was written (D4).
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(60);
