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

/// A request that one store passes on to another may take this long.
pub(super) const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
