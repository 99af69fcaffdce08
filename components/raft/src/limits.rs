//! Bounds of queues and waits, each with its reason.

use std::time::Duration;

/// Bytes of entries in a probe: enough for a leader's first entry and a few commands, so that an election costs no
/// extra round trip; little enough that a probe which fails wastes nothing worth counting.
pub(crate) const PROBE_BYTES_MAX: usize = 16 << 10;

/// Appends sent to one peer and not acknowledged, whatever their size: bounds the bookkeeping when entries are tiny.
pub(crate) const INFLIGHT_APPENDS_MAX: usize = 256;

/// Read-index requests that wait in one group, forwarded ones included; more are answered "ask again".
pub(crate) const READS_MAX: usize = 16_384;

/// Read-index attempts under way at once. Requests that find as many wait and share the next one, so that a flood of
/// reads costs a bounded number of heartbeats; more than one, so that a single slow answer does not halve the rate.
pub(crate) const READ_ATTEMPTS_MAX: usize = 4;

/// Messages that wait for a part of the log to be read back from disk; more are dropped, as a network would.
pub(crate) const PARKED_MAX: usize = 8;

/// Bytes of entries that are asked for at once when a part of the log is read back into memory.
pub(crate) const LOAD_BYTES_MAX: usize = 1 << 20;

/// How long a group waits before it asks its [`crate::LogReader`] again for what was not in memory.
pub(crate) const READ_RETRY: Duration = Duration::from_millis(2);

/// Terms from here on are not believed: no cluster lives so long, and `term + 1` must not overflow.
pub(crate) const TERM_MAX: u64 = u64::MAX / 2;

/// Indexes from here on are not believed, for the same reason.
pub(crate) const INDEX_MAX: u64 = u64::MAX / 2;

/// A leader whose oldest write has not ended for so many election timeouts gives the leadership to a peer whose disk
/// works: more than a slow fsync takes, less than a client's patience (checklist, row 106).
pub(crate) const DISK_HANG_TIMEOUTS: u32 = 2;

/// An attempt to lead without a quorum is given up after so many election timeouts: long enough for all survivors to
/// be reached, short enough that nobody forgets it.
pub(crate) const FORCE_TIMEOUTS: u32 = 10;

/// The longest that a peer which suspects its leader waits before it pre-campaigns: peers that suspect at the same
/// moment must not all ask at the same moment.
pub(crate) const SUSPICION_DELAY_MAX: Duration = Duration::from_millis(50);
