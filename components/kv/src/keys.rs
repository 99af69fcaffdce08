//! The keys of the KV engine, byte by byte.
//!
//! Each key is one kind byte and a body, so that no request of a client can reach anything but clients' data. Numbers
//! are big-endian: the order of the bytes is the order of the numbers.
//!
//! | key | bytes | value |
//! | --- | --- | --- |
//! | lifecycle mark | `6c` `6d` sequence:8 | the store's: the record with this sequence has taken effect (D5) |
//! | tombstone | `6c` `74` region:8 peer:8 | the store's: this peer was destroyed here and never comes back; empty |
//! | apply state | `72` region:8 `61` | the store's: the position up to which the region's log is applied |
//! | region state | `72` region:8 `73` | the store's: the region's descriptor and what is done with its peer here |
//! | placement row | `73` row key | placement's: see its table of rows (D8); the bytes of the row and nothing else |
//! | user pair | `75` user key | flags, expiry, user value: see [`crate::value`] |
//!
//! The kind bytes are the letters `l` (store-local), `r` (region-local), `s` (system) and `u` (user); the row bytes are
//! the letters `m`, `t`, `a` and `s`. Kinds and rows that are not listed do not occur. User keys are stored as they come.

use types::{KeyRange, PeerId, RegionId};

/// Rows of this store, which no other store has.
const KIND_LOCAL: u8 = b'l';
/// Rows of one region's peer on this store.
const KIND_REGION: u8 = b'r';
/// Rows of the placement group.
const KIND_SYSTEM: u8 = b's';
/// Clients' pairs.
const KIND_USER: u8 = b'u';

const ROW_LIFECYCLE_MARK: u8 = b'm';
const ROW_TOMBSTONE: u8 = b't';
const ROW_APPLY_STATE: u8 = b'a';
const ROW_REGION_STATE: u8 = b's';

/// The length of the keys that hold a row byte and a number.
const FIXED_LEN: usize = 10;

/// The length of the keys that hold a row byte and two numbers.
const PAIR_LEN: usize = 18;

/// A key of the KV engine, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// The mark of the lifecycle record with this sequence.
    LifecycleMark(u64),
    /// The tombstone of a peer.
    Tombstone(RegionId, PeerId),
    /// The apply state of a region.
    ApplyState(RegionId),
    /// The region state of a region.
    RegionState(RegionId),
    /// A placement row; its key without the kind byte.
    System(&'a [u8]),
    /// A client's pair; the user key.
    User(&'a [u8]),
}

/// The key of a client's pair, in parts for [`engine::KvBatch`].
#[must_use]
pub fn user_key(key: &[u8]) -> [&[u8]; 2] {
    [&[KIND_USER], key]
}

/// The key of a placement row, in parts for [`engine::KvBatch`].
#[must_use]
pub fn system_key(row_key: &[u8]) -> [&[u8]; 2] {
    [&[KIND_SYSTEM], row_key]
}

/// The parts of a key in one piece, for reading.
#[must_use]
pub fn join(parts: [&[u8]; 2]) -> Vec<u8> {
    parts.concat()
}

/// The key of the row that describes a region and its peer on this store.
#[must_use]
pub fn region_state_key(region_id: RegionId) -> [u8; FIXED_LEN] {
    region_row(region_id, ROW_REGION_STATE)
}

/// The key of the row that says how far a region's log is applied.
#[must_use]
pub fn apply_state_key(region_id: RegionId) -> [u8; FIXED_LEN] {
    region_row(region_id, ROW_APPLY_STATE)
}

/// The key of the mark of a lifecycle record.
#[must_use]
pub fn lifecycle_mark_key(sequence: u64) -> [u8; FIXED_LEN] {
    let mut key = [0; FIXED_LEN];
    key[..2].copy_from_slice(&[KIND_LOCAL, ROW_LIFECYCLE_MARK]);
    key[2..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The key of the row that says that a peer was destroyed on this store.
#[must_use]
pub fn tombstone_key(region_id: RegionId, peer_id: PeerId) -> [u8; PAIR_LEN] {
    let mut key = [0; PAIR_LEN];
    key[..2].copy_from_slice(&[KIND_LOCAL, ROW_TOMBSTONE]);
    key[2..10].copy_from_slice(&region_id.0.to_be_bytes());
    key[10..].copy_from_slice(&peer_id.0.to_be_bytes());
    key
}

/// The engine keys `[start, end)` of the user keys in `range`; nothing lies in them if `range` is empty.
#[must_use]
pub fn user_range(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let end = if range.end_key.is_empty() { vec![KIND_USER + 1] } else { join(user_key(&range.end_key)) };
    (join(user_key(&range.start_key)), end)
}

/// The engine keys `[start, end)` of the placement rows whose key has a prefix.
#[must_use]
pub fn system_range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let start = join(system_key(prefix));
    let end = prefix_end(&start);
    (start, end)
}

/// The engine keys `[start, end)` that a region replicates: what a snapshot carries, and what goes with the region. For
/// the placement group that is every placement row, whatever its descriptor says of its range.
#[must_use]
pub fn replicated_range(region_id: RegionId, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    if region_id == RegionId::PLACEMENT { system_range(&[]) } else { user_range(range) }
}

/// The engine keys `[start, end)` of the region-local rows of one region.
#[must_use]
pub fn region_local_range(region_id: RegionId) -> (Vec<u8>, Vec<u8>) {
    let start = [&[KIND_REGION][..], &region_id.0.to_be_bytes()].concat();
    let end = prefix_end(&start);
    (start, end)
}

/// The engine keys `[start, end)` of every region-local row of this store.
#[must_use]
pub fn every_region_local_range() -> (Vec<u8>, Vec<u8>) {
    (vec![KIND_REGION], vec![KIND_REGION + 1])
}

/// The engine keys `[start, end)` of every lifecycle mark.
#[must_use]
pub fn lifecycle_mark_range() -> (Vec<u8>, Vec<u8>) {
    let start = vec![KIND_LOCAL, ROW_LIFECYCLE_MARK];
    let end = prefix_end(&start);
    (start, end)
}

/// Takes a key of the KV engine apart; `None` if no function of this module makes such a key.
#[must_use]
pub fn parse(key: &[u8]) -> Option<Key<'_>> {
    let (kind, body) = key.split_first()?;
    match *kind {
        KIND_LOCAL => match body.split_first()? {
            (&ROW_LIFECYCLE_MARK, sequence) => Some(Key::LifecycleMark(number(sequence)?)),
            (&ROW_TOMBSTONE, ids) => {
                let (region_id, peer_id) = ids.split_at_checked(8)?;
                Some(Key::Tombstone(RegionId(number(region_id)?), PeerId(number(peer_id)?)))
            }
            _ => None,
        },
        KIND_REGION => {
            let (row, region_id) = body.split_last()?;
            let region_id = RegionId(number(region_id)?);
            match *row {
                ROW_APPLY_STATE => Some(Key::ApplyState(region_id)),
                ROW_REGION_STATE => Some(Key::RegionState(region_id)),
                _ => None,
            }
        }
        KIND_SYSTEM => Some(Key::System(body)),
        KIND_USER => Some(Key::User(body)),
        _ => None,
    }
}

/// The user key in an engine key; `None` if it is no user key.
#[must_use]
pub fn parse_user(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[KIND_USER])
}

/// The key of a placement row in an engine key; `None` if it is none.
#[must_use]
pub fn parse_system(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[KIND_SYSTEM])
}

fn region_row(region_id: RegionId, row: u8) -> [u8; FIXED_LEN] {
    let mut key = [0; FIXED_LEN];
    key[0] = KIND_REGION;
    key[1..9].copy_from_slice(&region_id.0.to_be_bytes());
    key[9] = row;
    key
}

/// The first key behind all keys that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX);
    let last = last.expect("a prefix begins with a kind byte, and no kind byte is 0xff");
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_does_not_change() {
        assert_eq!(join(user_key(b"k")), b"uk");
        assert_eq!(join(user_key(b"")), b"u");
        assert_eq!(join(system_key(b"k")), b"sk");
        assert_eq!(&apply_state_key(RegionId(0x0102)), b"r\0\0\0\0\0\0\x01\x02a");
        assert_eq!(&region_state_key(RegionId(0x0102)), b"r\0\0\0\0\0\0\x01\x02s");
        assert_eq!(&lifecycle_mark_key(0x0102), b"lm\0\0\0\0\0\0\x01\x02");
        let tombstone = tombstone_key(RegionId(0x0102), PeerId(0x0304));
        assert_eq!(&tombstone, b"lt\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04");
    }

    #[test]
    fn what_is_made_is_parsed() {
        assert_eq!(parse(b"uk"), Some(Key::User(b"k")));
        assert_eq!(parse(b"u"), Some(Key::User(b"")));
        assert_eq!(parse(b"sk"), Some(Key::System(b"k")));
        assert_eq!(parse(&apply_state_key(RegionId(u64::MAX))), Some(Key::ApplyState(RegionId(u64::MAX))));
        assert_eq!(parse(&region_state_key(RegionId(7))), Some(Key::RegionState(RegionId(7))));
        assert_eq!(parse(&lifecycle_mark_key(9)), Some(Key::LifecycleMark(9)));
        let tombstone = tombstone_key(RegionId(7), PeerId(u64::MAX));
        assert_eq!(parse(&tombstone), Some(Key::Tombstone(RegionId(7), PeerId(u64::MAX))));
        assert_eq!(parse_user(b"uk"), Some(&b"k"[..]));
        assert_eq!(parse_user(b"sk"), None);
        assert_eq!(parse_system(b"sk"), Some(&b"k"[..]));
        assert_eq!(parse_system(b"uk"), None);
    }

    #[test]
    fn what_is_not_made_is_not_parsed() {
        for key in [
            &b""[..],
            b"x",
            b"l",
            b"lm",
            b"lx\0\0\0\0\0\0\0\0",
            b"r",
            b"r\0\0\0\0\0\0\0\x01",
            b"lm\0\0\0\0\0\0\0\0\0",
            b"lt\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(parse(key), None, "{key:?}");
        }
        assert_eq!(parse(b"r\0\0\0\0\0\0\0\x01x"), None);
        assert_eq!(parse(b"r\0\0\0\0\0\0\0\0\x01a"), None);
    }

    #[test]
    fn each_range_holds_its_keys_and_no_others() {
        let keys: Vec<Vec<u8>> = vec![
            lifecycle_mark_key(0).to_vec(),
            lifecycle_mark_key(u64::MAX).to_vec(),
            apply_state_key(RegionId(1)).to_vec(),
            region_state_key(RegionId(1)).to_vec(),
            region_state_key(RegionId(u64::MAX)).to_vec(),
            join(system_key(b"")),
            join(system_key(b"\xff")),
            join(system_key(b"\xff\xff")),
            join(user_key(b"")),
            join(user_key(b"b")),
            join(user_key(&[0xff; 9000])),
        ];
        let inside = |(start, end): (Vec<u8>, Vec<u8>)| -> Vec<usize> {
            (0..keys.len()).filter(|place| start <= keys[*place] && keys[*place] < end).collect()
        };
        assert_eq!(inside(lifecycle_mark_range()), [0, 1]);
        assert_eq!(inside(every_region_local_range()), [2, 3, 4]);
        assert_eq!(inside(region_local_range(RegionId(1))), [2, 3]);
        assert_eq!(inside(region_local_range(RegionId(u64::MAX))), [4]);
        assert_eq!(inside(system_range(b"")), [5, 6, 7]);
        assert_eq!(inside(system_range(b"\xff")), [6, 7]);
        assert_eq!(inside(user_range(&KeyRange::ALL)), [8, 9, 10]);
        assert_eq!(inside(user_range(&KeyRange::new("a", "b"))), [0; 0]);
        assert_eq!(inside(user_range(&KeyRange::new("b", ""))), [9, 10]);
        assert_eq!(inside(replicated_range(RegionId::PLACEMENT, &KeyRange::ALL)), [5, 6, 7]);
        assert_eq!(inside(replicated_range(RegionId(2), &KeyRange::ALL)), [8, 9, 10]);
    }
}
