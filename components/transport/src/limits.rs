//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

use store::Lane;

/// Bytes of one frame, beyond which the rest goes into the next: large enough to amortise its cost, small enough that
/// the receiver works on the first while the second travels.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of one message that the other side takes; the largest log entry, and room for what is around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 48 << 20;

/// Bytes of a gRPC message that a store decodes, of other stores as of clients: whole batches of large values (TiKV's
/// clients send up to 128 requests in one).
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Bytes on the way that the receiver has not acknowledged. Covers a gigabit for an eighth of a second.
pub(crate) const WINDOW_BYTES_MAX: usize = 16 << 20;

/// The receiver acknowledges when this many bytes have arrived: a small part of the window, and far fewer
/// acknowledgements than frames.
pub(crate) const ACK_EVERY_BYTES: usize = 1 << 20;

/// Opening a connection, and then a lane on it, may take this long; far less than the silence that raises suspicion.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Waiting between two attempts begins here and doubles …
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// … up to here.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An HTTP/2 ping goes out after this much silence of the connection, so that a path that swallows packets is noticed.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(2);

/// A connection whose ping is not answered for this long is broken.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A Hello may take this long.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes that wait in one lane's queue; beyond it messages are dropped. Liveness is small and worthless when late;
/// appends may pile up for as long as Raft's own windows allow; snapshots have a window of their own.
pub(crate) const fn queue_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Liveness => 8 << 20,
        Lane::Append => 64 << 20,
        Lane::Snapshot => 32 << 20,
    }
}

/// The HTTP/2 window of a lane's connection, in bytes: what travels without a word of the receiver's network layer.
pub(crate) const fn http2_window_bytes(lane: Lane) -> u32 {
    match lane {
        Lane::Liveness => 1 << 20,
        Lane::Append => 4 << 20,
        Lane::Snapshot => 8 << 20,
    }
}
