//! Every bound of the services, with its unit and its reason.

use std::time::Duration;

/// Answers of one `BatchCommandsResponse`: clients send up to 128 requests at once, over several connections.
pub(super) const ANSWERS_PER_BATCH_MAX: usize = 1_024;

/// Bytes of one `BatchCommandsResponse`, beyond which the rest goes into the next: below the 4 MiB that gRPC clients
/// take by default. A single larger answer goes alone.
pub(super) const BATCH_BYTES_MAX: usize = 2 << 20;

/// Requests of one stream that wait for an answer; beyond it nothing more is read from the stream.
pub(super) const STREAM_WAITING_MAX: usize = 65_536;

/// The longest time that a client may ask an `Empty` command to be delayed.
pub(super) const EMPTY_DELAY_MAX: Duration = Duration::from_secs(10);

/// Requests to placement of one message that wait for their answers together.
pub(super) const REGION_QUERIES_MAX: usize = 16_384;

/// Times that a key of such a message is looked up while its region goes on splitting.
pub(super) const QUERY_ROUNDS_MAX: usize = 8;

/// Splits of one `SplitRegions` that are asked for at one time: each is an entry, and an fsync on every store.
pub(super) const SPLIT_REQUESTS_AT_ONCE: usize = 8;

/// What is left of a `SplitRegions` is tried again so many times, where the client does not say.
pub(super) const SPLIT_RETRIES: u64 = 5;

/// It is tried again after this: an election takes about as long as a few of these.
pub(super) const SPLIT_PAUSE: Duration = Duration::from_millis(100);

/// A `SplitRegions` is answered after this with what has been done, or sooner, if the client does not wait so long.
pub(super) const SPLIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Regions of a store that answer one scan together, where the client knows them as the one that they were.
pub(super) const SCAN_PARTS_MAX: usize = 1_024;

/// A scan whose regions are changing or have no leader is tried again for so long, while it lasts ...
pub(super) const SCAN_PATIENCE: Duration = Duration::from_millis(500);

/// ... after so long each time.
pub(super) const SCAN_PAUSE: Duration = Duration::from_millis(10);

/// Regions of one `ScatterRegion`.
pub(super) const SCATTER_REGIONS_ASKED_MAX: usize = 16_384;

/// Where nothing of a `ScatterRegion` goes on any more, it is tried again so many times, if the client does not say.
pub(super) const SCATTER_RETRIES: u64 = 5;

/// It is tried again after this while it goes on: an operation takes about as long ...
pub(super) const SCATTER_PAUSE: Duration = Duration::from_millis(100);

/// ... and after twice as long each time, up to this, while it does not.
pub(super) const SCATTER_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A region that the directory does not know may be so new that it will know it soon: for so long it is asked again.
pub(super) const UNKNOWN_REGION_PATIENCE: Duration = Duration::from_secs(1);

/// A `ScatterRegion` is answered after this with what has been done, or sooner, if the client does not wait so long.
pub(super) const SCATTER_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that one store passes on to another may take this long.
pub(super) const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
