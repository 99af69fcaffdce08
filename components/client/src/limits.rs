//! Bounds of the client, each with its unit and its reason.

use std::time::Duration;

/// Keys in one call of a batch: what is more goes into further calls, so that one entry stays small.
pub const BATCH_KEYS_MAX: usize = 1_024;
/// Bytes of keys and values in one call of a batch, save where a single pair is larger: far below the largest entry
/// that a store takes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Pairs that one call of a scan asks for: an answer of 1 KiB values stays near 1 MiB.
pub const SCAN_PAGE_MAX: u32 = 1_024;
/// Calls of one operation that are under way at once.
pub const CALLS_IN_FLIGHT_MAX: usize = 32;
/// Retries in a row without a delay: two stores that each take the other for the leader must not be asked in a loop.
pub const IMMEDIATE_RETRIES_MAX: u32 = 2;

/// Delays before an operation gives up.
pub const BACKOFFS_MAX: u32 = 10;
/// The first delay; each further one is twice as long.
pub const BACKOFF_MIN: Duration = Duration::from_millis(2);
/// The longest delay. The ten delays are 1.5 s in all.
pub const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long a call may stay without an answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long an operation is not tried again.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);
