//! Every bound of this crate, with its unit and its reason.

/// Bytes of one key: what stock clients' own tests go up to, and small enough that an index block holds some keys.
pub const KEY_BYTES_MAX: usize = 8 << 10;

/// Bytes of one command: the largest value that a stock client writes (4 MiB) with room beside it, and small enough that
/// one entry never delays a region for long.
pub const COMMAND_BYTES_MAX: usize = 6 << 20;

/// Bytes of one answer. Clients take fewer pairs than they asked for as the end of the region, so an answer is never cut
/// short: it is whole, up to this size, or refused. As large as the largest request that the server takes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What one pair counts beside its key and value, in a command or an answer: lengths, expiry, framing.
pub const PAIR_OVERHEAD_BYTES: usize = 16;
