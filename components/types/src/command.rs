//! What clients ask for, what the log holds of it, and what they are answered.

use bytes::Bytes;

use crate::{KeyRange, Term, WallTime};

/// A change of one region's data. Keys are user keys without the kind byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets one key.
    Put(Pair),
    /// Sets several keys, all or none.
    BatchPut {
        /// In the caller's order; the last one wins where a key repeats.
        pairs: Vec<Pair>,
    },
    /// Removes one key; removing what is not there succeeds.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes several keys, all or none.
    BatchDelete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Removes every key of a range, clipped to the region before it is proposed.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Changes one key if it has the expected value.
    CompareAndSwap(CompareAndSwap),
    /// Changes rows of the placement group; refused by every other region.
    Placement(PlacementTxn),
}

/// A key with the value it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value; may be empty.
    pub value: Bytes,
    /// Seconds until the value expires, counted on the region clock from the moment it is applied; zero: never.
    pub ttl_seconds: u64,
}

/// A conditional change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareAndSwap {
    /// The key.
    pub key: Bytes,
    /// The value it must have; `None`: it must not exist (an expired value does not exist).
    pub expected: Option<Bytes>,
    /// What it becomes; `None`: it is removed.
    pub replacement: Option<Bytes>,
    /// Seconds until the replacement expires; zero: never.
    pub ttl_seconds: u64,
}

/// A transaction on placement's rows: all conditions hold and all writes happen, or nothing does (D8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementTxn {
    /// The term in which the host leads group 1; apply refuses the transaction if its entry has another term.
    pub term: Term,
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// Rows to set (`Some`) or remove (`None`), keys without the kind byte.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

/// A condition on one placement row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The row does not exist.
    Absent {
        /// Its key.
        key: Bytes,
    },
    /// The row has exactly this value.
    Equals {
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The row does not exist, or holds an 8-byte big-endian number not above this one: a bound that never goes back.
    AtMost {
        /// Its key.
        key: Bytes,
        /// The bound.
        number: u64,
    },
}

/// Names a request of a session so that a retry gets the first answer (D11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStamp {
    /// The session.
    pub client_id: u64,
    /// The request's number in the session.
    pub sequence: u64,
    /// Every request below this number has been answered to the client and may be forgotten.
    pub low_water_mark: u64,
}

/// One request inside a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The session it belongs to, if any.
    pub session: Option<SessionStamp>,
    /// What to do.
    pub command: Command,
}

/// What the payload of an [`crate::EntryKind::Command`] entry says: every request that one proposal joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCommand {
    /// The proposer's wall clock; apply raises the region clock to it (D11).
    pub wall: WallTime,
    /// The requests, applied in order, each answered for itself.
    pub requests: Vec<Request>,
}

/// What a command answered, once applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done,
    /// A compare-and-swap was decided.
    Swapped {
        /// Whether the key had the expected value and was changed.
        is_swapped: bool,
        /// The value that the key had before; `None`: it did not exist.
        previous: Option<Bytes>,
    },
    /// A placement transaction was decided; `false`: a condition did not hold or the term had passed, nothing changed.
    Placement {
        /// Whether the writes happened.
        is_committed: bool,
    },
}

/// A question about one region's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The value of one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// The values of several keys; absent ones are left out of the answer.
    BatchGet {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Pairs of a range in key order, or against it.
    Scan(Scan),
    /// Several scans over one region's data at one moment.
    BatchScan {
        /// The scans.
        scans: Vec<Scan>,
    },
    /// Seconds that a value has left.
    KeyTtl {
        /// The key.
        key: Bytes,
    },
    /// CRC-64/XZ over key and value of each pair, XOR-ed, with counts.
    Checksum {
        /// The ranges.
        ranges: Vec<KeyRange>,
    },
    /// Every placement row whose key has a prefix; refused by every region but the placement group.
    PlacementRows {
        /// The prefix.
        prefix: Bytes,
    },
}

/// A scan: clipped to its region before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The keys asked for, in ascending form also where `is_reverse`.
    pub range: KeyRange,
    /// Pairs at the most; zero answers nothing.
    pub limit: u32,
    /// Whether values are left out.
    pub is_key_only: bool,
    /// Whether pairs come in descending order.
    pub is_reverse: bool,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Get`.
    Value(Option<Bytes>),
    /// To `BatchGet`, `Scan`, `BatchScan` (concatenated in the order of the scans) and `PlacementRows`.
    Pairs(Vec<(Bytes, Bytes)>),
    /// To `KeyTtl`: `None` where the key does not exist, zero where the value never expires.
    Ttl(Option<u64>),
    /// To `Checksum`.
    Checksum {
        /// XOR of the pairs' checksums.
        checksum: u64,
        /// Pairs counted.
        total_pairs: u64,
        /// Bytes of keys and values.
        total_bytes: u64,
    },
}
