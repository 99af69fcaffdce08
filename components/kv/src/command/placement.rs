//! Changes placement's rows if its conditions hold (D8).

use engine::KvEngine;
use types::{Condition, Outcome, PlacementTxn};

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key};
use crate::{Result, Round, keys, limits::PAIR_OVERHEAD_BYTES};

pub(super) struct Transaction<'a>(pub(super) &'a PlacementTxn);

impl<'a> Handler<'a> for Transaction<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        self.0.conditions.iter().try_for_each(|condition| check_key(key_of(condition)))?;
        self.0.writes.iter().try_for_each(|(key, _)| check_key(key))
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::Placement
    }

    fn size_bytes(&self) -> usize {
        let conditions = self.0.conditions.iter().map(|condition| {
            let value_bytes = match condition {
                Condition::Absent { .. } | Condition::AtMost { .. } => 0,
                Condition::Equals { value, .. } => value.len(),
            };
            key_of(condition).len() + value_bytes + PAIR_OVERHEAD_BYTES
        });
        let writes = self.0.writes.iter().map(|(key, value)| {
            let value_bytes = value.as_ref().map_or(0, bytes::Bytes::len);
            key.len() + value_bytes + PAIR_OVERHEAD_BYTES
        });
        conditions.chain(writes).sum()
    }

    fn apply(&self, scope: &Scope<'_>, engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        // The host's view of the rows is that of its term. An entry of another term means that a leader between knew
        // rows that this host did not, or that this host is one that lost its leadership and regained it.
        if scope.term != self.0.term {
            return Ok(Outcome::Placement { is_committed: false });
        }
        for condition in &self.0.conditions {
            if !holds(condition, engine, round)? {
                return Ok(Outcome::Placement { is_committed: false });
            }
        }
        for (key, value) in &self.0.writes {
            match value {
                Some(value) => round.batch_mut().put(&keys::system_key(key), &[value]),
                None => round.batch_mut().delete(&keys::system_key(key)),
            }
        }
        Ok(Outcome::Placement { is_committed: true })
    }
}

fn key_of(condition: &Condition) -> &[u8] {
    match condition {
        Condition::Absent { key } | Condition::Equals { key, .. } | Condition::AtMost { key, .. } => key,
    }
}

/// Whether a condition holds. A row that should be a number and is none is above every bound.
fn holds(condition: &Condition, engine: &dyn KvEngine, round: &mut Round) -> Result<bool> {
    let row = round.get(engine, &keys::join(keys::system_key(key_of(condition))))?;
    Ok(match condition {
        Condition::Absent { .. } => row.is_none(),
        Condition::Equals { value, .. } => row.as_ref() == Some(value),
        Condition::AtMost { number, .. } => row.is_none_or(|row| {
            row.as_ref().try_into().is_ok_and(|bytes| u64::from_be_bytes(bytes) <= *number)
        }),
    })
}
