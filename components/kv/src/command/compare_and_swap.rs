//! Changes one key if it has the expected value.

use bytes::Bytes;
use engine::KvEngine;
use types::{CompareAndSwap, Outcome};

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key, put};
use crate::{Error, Result, Round, keys, limits::PAIR_OVERHEAD_BYTES, value};

pub(super) struct Swap<'a>(pub(super) &'a CompareAndSwap);

impl<'a> Handler<'a> for Swap<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        check_key(&self.0.key)
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::Keys { first_key: &self.0.key, last_key: &self.0.key }
    }

    fn size_bytes(&self) -> usize {
        let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        self.0.key.len()
            + value_bytes(&self.0.expected)
            + value_bytes(&self.0.replacement)
            + PAIR_OVERHEAD_BYTES
    }

    fn apply(&self, scope: &Scope<'_>, engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        let swap = self.0;
        let previous = self.current(scope, engine, round)?;
        let is_swapped = previous == swap.expected;
        if is_swapped {
            match &swap.replacement {
                Some(replacement) => put::write(scope, round, &swap.key, replacement, swap.ttl_seconds),
                None => round.batch_mut().delete(&keys::user_key(&swap.key)),
            }
        }
        Ok(Outcome::Swapped { is_swapped, previous })
    }
}

impl Swap<'_> {
    /// The value that the key has. The region clock alone decides whether it has expired, so that every peer, and every
    /// replay, decides alike (D11).
    fn current(&self, scope: &Scope<'_>, engine: &dyn KvEngine, round: &mut Round) -> Result<Option<Bytes>> {
        let Some(bytes) = round.get(engine, &keys::join(keys::user_key(&self.0.key)))? else {
            return Ok(None);
        };
        let stored = value::decode(&bytes)
            .map_err(|malformed| Error::corruption(scope.region_id, &self.0.key, malformed))?;
        let is_live = !value::is_expired(stored.expiry, scope.clock);
        Ok(is_live.then(|| bytes.slice_ref(stored.user_value)))
    }
}

#[cfg(test)]
mod tests {
    use types::{Command, KeyRange, RegionId, Term, WallTime};

    use super::*;
    use crate::{command, testing::engine_with};

    #[test]
    fn a_damaged_value_is_this_peers_fault_only() {
        let engine = engine_with([(&b"uk"[..], &b"\xff"[..])]);
        let swap = CompareAndSwap { key: "k".into(), expected: None, replacement: None, ttl_seconds: 0 };
        let scope =
            Scope { region_id: RegionId(2), range: &KeyRange::ALL, term: Term(1), clock: WallTime(0) };
        let mut round = Round::new();
        let error =
            command::apply(&Command::CompareAndSwap(swap), &scope, engine.as_ref(), &mut round).unwrap_err();
        assert!(matches!(error, Error::Corruption { region_id: RegionId(2), .. }));
        assert!(!error.is_deterministic());
        assert!(round.batch().is_empty());
    }
}
