//! What several tests share.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{Condition, PlacementTxn, Term};

use super::host::Proposed;

/// The placement group: its rows, and the term in which it is led.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
    pub(crate) term: Term,
    /// Transactions are applied, but their host does not learn of it.
    pub(crate) is_silent: bool,
    /// Reads fail, and so does proof of leadership.
    pub(crate) is_unconfirmed: bool,
    pub(crate) applied_count: usize,
}

impl Group {
    pub(crate) fn apply(&mut self, txn: &PlacementTxn) -> Proposed {
        if txn.term != self.term {
            return Proposed::Refused;
        }
        let holds = |condition: &Condition| match condition {
            Condition::Absent { key } => !self.rows.contains_key(key),
            Condition::Equals { key, value } => self.rows.get(key) == Some(value),
            Condition::AtMost { key, number } => self
                .rows
                .get(key)
                .is_none_or(|row| u64::from_be_bytes(row.as_ref().try_into().unwrap()) <= *number),
        };
        if !txn.conditions.iter().all(holds) {
            return Proposed::Refused;
        }
        for (key, value) in &txn.writes {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
        self.applied_count += 1;
        if self.is_silent { Proposed::Unknown } else { Proposed::Committed }
    }
}
