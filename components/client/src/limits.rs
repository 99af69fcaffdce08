//! Bounds of the client, each with its unit and its reason.

use std::time::Duration;

/// Keys in one call of a batch: what is more goes into further calls, so that one entry stays small.
pub const BATCH_KEYS_MAX: usize = 1_024;
/// Bytes of keys and values in one call of a batch, save where a single pair is larger: far below the largest entry
/// that a store takes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Pairs that one call of a read asks for.
pub const PAIRS_MAX: u32 = 1_024;
/// Bytes that a page of a scan is meant to have, once it is known how large its pairs are: an answer that is too large for
/// one message is refused.
pub const PAGE_BYTES: usize = 1024 * 1024;
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

/// Calls in one message of a store's stream.
pub const MESSAGE_CALLS_MAX: usize = 512;
/// Bytes of keys and values after which a message takes no further call: a large one does not hold up those behind it for
/// long, and stays far below what a store decodes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The largest message that is decoded: a page of large values.
pub const MESSAGE_DECODE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How often calls are looked through for those whose time has passed.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one endpoint may take to answer a question to placement.
pub const PLACEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one endpoint may take to split regions: it gives up before, and says how far it has come.
pub const SPLIT_TIMEOUT: Duration = Duration::from_secs(70);
/// Questions to placement that are under way at once: operations that miss the same region wait for the first of them.
pub const LOOKUPS_MAX: usize = 2;
/// Regions that one lookup brings, the one that is looked for and those behind it: after the death of a store, or when
/// nothing is known yet, operations on many regions look up at once, and one answer serves many of them. About 16 KiB.
pub const LOOKUP_REGIONS_MAX: u32 = 128;
/// Bytes that may be under way on a connection, and on its stream, before the receiver has taken them.
pub const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes of the longest key that a lookup is made for.
pub const KEY_BYTES_MAX: usize = 8 * 1024;
/// How often a silent connection is probed.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe may stay without an answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
