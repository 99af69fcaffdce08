//! Placement's rows as bytes: their keys, a mirror of them, and the transactions that change them.
//!
//! | key | value | written by |
//! | --- | --- | --- |
//! | `a` address | store id:8 | with the store row |
//! | `i` | next id:8, every id below is given out in blocks | the id lease |
//! | `m` | `SettingsRow` | the first leader ever, once |
//! | `o` id:8 | `OperationRow` | beginning of an operation; removed at its end |
//! | `r` id:8 | `RegionRow` | replacements of the directory |
//! | `s` id:8 | `StoreRow` | registration, change of address, removal |
//! | `t` | bound in milliseconds:8 | the timestamp window |
//!
//! Keys are those behind the KV engine's kind byte; numbers are big-endian. Each transaction is conditional on the value
//! that every key that it writes had (`Equals` or `Absent`); the timestamp bound alone has the condition `AtMost`. So a
//! host whose mirror is not what the group holds can change nothing.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use types::{Condition, PlacementTxn, RegionId, StoreId, Term};

const ADDRESS: u8 = b'a';
const NEXT_ID: u8 = b'i';
const SETTINGS: u8 = b'm';
const OPERATION: u8 = b'o';
const REGION: u8 = b'r';
const STORE: u8 = b's';
const BOUND: u8 = b't';

/// A row's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKey {
    /// Which live store an address belongs to.
    Address(String),
    /// The id lease.
    NextId,
    /// What is true of the cluster.
    Settings,
    /// A running operation.
    Operation(u64),
    /// A region. Not by start key: the longest one, behind a byte that says what row it is, would be no key any more.
    Region(RegionId),
    /// A store.
    Store(StoreId),
    /// The timestamp bound.
    Bound,
}

impl RowKey {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            RowKey::Address(address) => join(ADDRESS, address.as_bytes()),
            RowKey::NextId => join(NEXT_ID, &[]),
            RowKey::Settings => join(SETTINGS, &[]),
            RowKey::Operation(id) => join(OPERATION, &id.to_be_bytes()),
            RowKey::Region(id) => join(REGION, &id.0.to_be_bytes()),
            RowKey::Store(id) => join(STORE, &id.0.to_be_bytes()),
            RowKey::Bound => join(BOUND, &[]),
        }
    }

    /// The key with these bytes; `None` if no row has it.
    #[must_use]
    pub fn decode(key: &Bytes) -> Option<RowKey> {
        let (kind, body) = key.split_first()?;
        match *kind {
            ADDRESS => Some(RowKey::Address(std::str::from_utf8(body).ok()?.to_owned())),
            NEXT_ID if body.is_empty() => Some(RowKey::NextId),
            SETTINGS if body.is_empty() => Some(RowKey::Settings),
            OPERATION => Some(RowKey::Operation(decode_number(body)?)),
            REGION => Some(RowKey::Region(RegionId(decode_number(body)?))),
            STORE => Some(RowKey::Store(StoreId(decode_number(body)?))),
            BOUND if body.is_empty() => Some(RowKey::Bound),
            _ => None,
        }
    }
}

/// The rows as last read and committed, byte for byte: what a transaction's conditions are made of.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    rows: BTreeMap<Bytes, Bytes>,
}

impl Mirror {
    /// A mirror of these rows.
    #[must_use]
    pub fn new(rows: Vec<(Bytes, Bytes)>) -> Mirror {
        Mirror { rows: rows.into_iter().collect() }
    }

    /// The transaction that makes `writes` if every row is as mirrored.
    #[must_use]
    pub fn transaction(&self, term: Term, writes: &[(Bytes, Option<Bytes>)]) -> PlacementTxn {
        let conditions = writes.iter().map(|(key, value)| self.condition(key, value.as_ref())).collect();
        PlacementTxn { term, conditions, writes: writes.to_vec() }
    }

    /// A transaction has happened.
    pub fn commit(&mut self, writes: Vec<(Bytes, Option<Bytes>)>) {
        for (key, value) in writes {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }

    fn condition(&self, key: &Bytes, value: Option<&Bytes>) -> Condition {
        let bound = value.and_then(|value| decode_number(value)).filter(|_| key.as_ref() == [BOUND]);
        match (bound, self.rows.get(key)) {
            (Some(number), _) => Condition::AtMost { key: key.clone(), number },
            (None, Some(value)) => Condition::Equals { key: key.clone(), value: value.clone() },
            (None, None) => Condition::Absent { key: key.clone() },
        }
    }
}

/// The value of a row that is a number.
#[must_use]
pub fn encode_number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// The number that a row is.
#[must_use]
pub fn decode_number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

fn join(kind: u8, body: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + body.len());
    key.put_u8(kind);
    key.put_slice(body);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let keys = [
            RowKey::Address("a:1".to_owned()),
            RowKey::NextId,
            RowKey::Settings,
            RowKey::Operation(7),
            RowKey::Region(RegionId(2)),
            RowKey::Region(RegionId(u64::MAX)),
            RowKey::Store(StoreId(1_000)),
            RowKey::Bound,
        ];
        let encoded: Vec<_> = keys.iter().map(RowKey::encode).collect();
        assert!(encoded.is_sorted());
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(RowKey::decode(bytes).as_ref(), Some(key));
        }
        for bytes in [&b""[..], b"ix", b"o123", b"r", b"z", b"a\xff"] {
            assert_eq!(RowKey::decode(&Bytes::copy_from_slice(bytes)), None);
        }
    }

    #[test]
    fn a_transaction_is_conditional_on_what_it_overwrites() {
        let (key, old, new) = (RowKey::Settings.encode(), Bytes::from("old"), Bytes::from("new"));
        let mut mirror = Mirror::default();
        let write = vec![(key.clone(), Some(old.clone()))];
        let txn = mirror.transaction(Term(3), &write);
        assert_eq!(txn.term, Term(3));
        assert_eq!(txn.conditions, [Condition::Absent { key: key.clone() }]);
        mirror.commit(write);
        let txn = mirror.transaction(Term(3), &[(key.clone(), Some(new))]);
        assert_eq!(txn.conditions, [Condition::Equals { key: key.clone(), value: old }]);
        mirror.commit(vec![(key.clone(), None)]);
        assert_eq!(
            mirror.transaction(Term(3), &[(key.clone(), None)]).conditions,
            [Condition::Absent { key }]
        );
    }

    #[test]
    fn the_bound_only_has_to_rise() {
        let key = RowKey::Bound.encode();
        let txn = Mirror::default().transaction(Term(1), &[(key.clone(), Some(encode_number(9)))]);
        assert_eq!(txn.conditions, [Condition::AtMost { key, number: 9 }]);
    }
}
