//! What an operation asks for, and how it is cut to regions.

use bytes::{BufMut, Bytes, BytesMut};
use types::{Command, CompareAndSwap, KeyRange, Pair, Query, Scan};

use crate::limits::{BATCH_BYTES_MAX, BATCH_KEYS_MAX};

/// What an application can ask for. Unlike a [`Command`] or a [`Query`], it may span several regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The value of one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// The values of several keys.
    BatchGet {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Pairs of a range.
    Scan(Scan),
    /// Seconds that a value has left.
    KeyTtl {
        /// The key.
        key: Bytes,
    },
    /// The checksum of a range.
    Checksum {
        /// The range.
        range: KeyRange,
    },
    /// Sets one key.
    Put(Pair),
    /// Sets several keys: all or none of what one call to one region holds.
    BatchPut {
        /// The last one wins where a key repeats.
        pairs: Vec<Pair>,
    },
    /// Removes one key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes several keys.
    BatchDelete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Removes every key of a range.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Changes one key if it has the expected value.
    CompareAndSwap(CompareAndSwap),
}

/// A [`Work`] in the words that stores use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A change.
    Write(Command),
    /// A question.
    Read(Query),
}

/// Where in the keyspace a region is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The region that holds this key.
    At(Bytes),
    /// The region that holds the last key before this one; empty: the last region.
    Before(Bytes),
}

impl Work {
    /// Whether it changes anything.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Work::Get { .. }
            | Work::BatchGet { .. }
            | Work::Scan(_)
            | Work::KeyTtl { .. }
            | Work::Checksum { .. } => false,
            Work::Put(_)
            | Work::BatchPut { .. }
            | Work::Delete { .. }
            | Work::BatchDelete { .. }
            | Work::DeleteRange { .. }
            | Work::CompareAndSwap(_) => true,
        }
    }

    /// Whether doing it twice in a row leaves the same state, and gives the same answer, as doing it once.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        !matches!(self, Work::CompareAndSwap(_))
    }

    /// Brings keys into the order in which they are cut to regions. Where a key repeats, its pairs keep their order.
    pub(super) fn sort(&mut self) {
        match self {
            Work::BatchGet { keys } | Work::BatchDelete { keys } => {
                keys.sort_unstable();
                keys.dedup();
            }
            Work::BatchPut { pairs } => pairs.sort_by(|left, right| left.key.cmp(&right.key)),
            Work::Get { .. }
            | Work::Scan(_)
            | Work::KeyTtl { .. }
            | Work::Checksum { .. }
            | Work::Put(_)
            | Work::Delete { .. }
            | Work::DeleteRange { .. }
            | Work::CompareAndSwap(_) => {}
        }
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Work::BatchGet { keys } | Work::BatchDelete { keys } => keys.is_empty(),
            Work::BatchPut { pairs } => pairs.is_empty(),
            Work::Scan(scan) => scan.limit == 0 || scan.range.is_empty(),
            Work::Checksum { range } | Work::DeleteRange { range } => range.is_empty(),
            Work::Get { .. }
            | Work::KeyTtl { .. }
            | Work::Put(_)
            | Work::Delete { .. }
            | Work::CompareAndSwap(_) => false,
        }
    }

    /// Where its first region is. It must not be empty and must be sorted.
    pub(super) fn position(&self) -> Position {
        let key = match self {
            Work::Get { key } | Work::KeyTtl { key } | Work::Delete { key } => key,
            Work::Put(pair) => &pair.key,
            Work::CompareAndSwap(swap) => &swap.key,
            Work::BatchGet { keys } | Work::BatchDelete { keys } => &keys[0],
            Work::BatchPut { pairs } => &pairs[0].key,
            Work::Checksum { range } | Work::DeleteRange { range } => &range.start_key,
            Work::Scan(scan) if scan.is_reverse => return Position::Before(scan.range.end_key.clone()),
            Work::Scan(scan) => &scan.range.start_key,
        };
        Position::At(key.clone())
    }

    /// Keeps what one call to the region with `range` can do, and returns the rest. The region holds [`Work::position`].
    /// A read asks for `pairs_max` pairs at the most. A scan is not cut: it is a cursor (see [`Work::page`]).
    pub(super) fn cut(&mut self, range: &KeyRange, pairs_max: u32) -> Option<Work> {
        match self {
            Work::BatchGet { keys } => {
                let keys_max = usize::try_from(pairs_max).unwrap_or(usize::MAX).min(BATCH_KEYS_MAX);
                cut_keys(keys, range, keys_max).map(|keys| Work::BatchGet { keys })
            }
            Work::BatchDelete { keys } => {
                cut_keys(keys, range, BATCH_KEYS_MAX).map(|keys| Work::BatchDelete { keys })
            }
            Work::BatchPut { pairs } => {
                let sizes = pairs.iter().map(|pair| (&pair.key, pair.key.len() + pair.value.len()));
                let count = batch_prefix(sizes, range, BATCH_KEYS_MAX);
                let rest = pairs.split_off(count);
                (!rest.is_empty()).then_some(Work::BatchPut { pairs: rest })
            }
            Work::Checksum { range: own } => cut_range(own, range).map(|range| Work::Checksum { range }),
            Work::DeleteRange { range: own } => {
                cut_range(own, range).map(|range| Work::DeleteRange { range })
            }
            Work::Get { .. }
            | Work::Scan(_)
            | Work::KeyTtl { .. }
            | Work::Put(_)
            | Work::Delete { .. }
            | Work::CompareAndSwap(_) => None,
        }
    }

    /// What the next call to the region with `range` asks: the work itself, or the next page of a scan.
    pub(super) fn page(&self, range: &KeyRange, pairs_max: u32) -> Work {
        match self {
            Work::Scan(scan) => Work::Scan(Scan {
                range: scan.range.intersection(range),
                limit: scan.limit.min(pairs_max),
                ..scan.clone()
            }),
            Work::Get { .. }
            | Work::BatchGet { .. }
            | Work::KeyTtl { .. }
            | Work::Checksum { .. }
            | Work::Put(_)
            | Work::BatchPut { .. }
            | Work::Delete { .. }
            | Work::BatchDelete { .. }
            | Work::DeleteRange { .. }
            | Work::CompareAndSwap(_) => self.clone(),
        }
    }
}

/// Moves a scan behind the page that it has got: `count` pairs up to `last_key` in answer to `page`. False: it is done.
pub(super) fn advance(scan: &mut Scan, page: &Scan, count: u32, last_key: Option<&Bytes>) -> bool {
    scan.limit = scan.limit.saturating_sub(count);
    let is_full = count >= page.limit;
    match (scan.is_reverse, last_key.filter(|_| is_full)) {
        (false, Some(last_key)) => scan.range.start_key = behind(last_key),
        (false, None) if page.range.end_key.is_empty() => return false,
        (false, None) => scan.range.start_key = page.range.end_key.clone(),
        // An empty end would mean the last region: in front of the empty key nothing is left.
        (true, Some(last_key)) if last_key.is_empty() => return false,
        (true, Some(last_key)) => scan.range.end_key = last_key.clone(),
        (true, None) if page.range.start_key.is_empty() => return false,
        (true, None) => scan.range.end_key = page.range.start_key.clone(),
    }
    scan.limit > 0 && !scan.range.is_empty()
}

/// The first key behind `key`.
fn behind(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Cuts `own` at the end of the region; the rest begins there.
fn cut_range(own: &mut KeyRange, region: &KeyRange) -> Option<KeyRange> {
    let rest = KeyRange { start_key: region.end_key.clone(), end_key: own.end_key.clone() };
    let is_inside = region.end_key.is_empty() || rest.is_empty();
    *own = own.intersection(region);
    (!is_inside).then_some(rest)
}

fn cut_keys(keys: &mut Vec<Bytes>, range: &KeyRange, keys_max: usize) -> Option<Vec<Bytes>> {
    let count = batch_prefix(keys.iter().map(|key| (key, key.len())), range, keys_max);
    let rest = keys.split_off(count);
    (!rest.is_empty()).then_some(rest)
}

/// How many of the sorted keys one call to the region takes; one at least.
fn batch_prefix<'a>(
    sizes: impl Iterator<Item = (&'a Bytes, usize)>,
    range: &KeyRange,
    keys_max: usize,
) -> usize {
    let mut size_bytes = 0;
    let fitting = sizes.take(keys_max).take_while(|(key, len)| {
        size_bytes += len;
        (size_bytes == *len || size_bytes <= BATCH_BYTES_MAX)
            && (range.end_key.is_empty() || **key < range.end_key)
    });
    fitting.count().max(1)
}

impl From<Work> for Body {
    fn from(work: Work) -> Body {
        match work {
            Work::Get { key } => Body::Read(Query::Get { key }),
            Work::BatchGet { keys } => Body::Read(Query::BatchGet { keys }),
            Work::Scan(scan) => Body::Read(Query::Scan(scan)),
            Work::KeyTtl { key } => Body::Read(Query::KeyTtl { key }),
            Work::Checksum { range } => Body::Read(Query::Checksum { ranges: vec![range] }),
            Work::Put(pair) => Body::Write(Command::Put(pair)),
            Work::BatchPut { pairs } => Body::Write(Command::BatchPut { pairs }),
            Work::Delete { key } => Body::Write(Command::Delete { key }),
            Work::BatchDelete { keys } => Body::Write(Command::BatchDelete { keys }),
            Work::DeleteRange { range } => Body::Write(Command::DeleteRange { range }),
            Work::CompareAndSwap(swap) => Body::Write(Command::CompareAndSwap(swap)),
        }
    }
}
