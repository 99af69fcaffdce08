//! Sets one key.

use bytes::Bytes;
use engine::KvEngine;
use types::{Outcome, Pair};

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key};
use crate::{Result, Round, keys, limits::PAIR_OVERHEAD_BYTES, value};

pub(super) struct Put<'a>(pub(super) &'a Pair);

impl<'a> Handler<'a> for Put<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        check_key(&self.0.key)
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::Keys { first_key: &self.0.key, last_key: &self.0.key }
    }

    fn size_bytes(&self) -> usize {
        pair_bytes(self.0)
    }

    fn apply(&self, scope: &Scope<'_>, _engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        write(scope, round, &self.0.key, &self.0.value, self.0.ttl_seconds);
        Ok(Outcome::Done)
    }
}

/// Sets a key to a value that lives for `ttl_seconds` on the region clock, or for ever if that is zero.
pub(super) fn write(scope: &Scope<'_>, round: &mut Round, key: &Bytes, user_value: &Bytes, ttl_seconds: u64) {
    let header = value::header(value::expiry_after(scope.clock, ttl_seconds));
    round.batch_mut().put(&keys::user_key(key), &[header.as_slice(), user_value]);
}

/// What a pair counts in a command's size.
pub(super) fn pair_bytes(pair: &Pair) -> usize {
    pair.key.len() + pair.value.len() + PAIR_OVERHEAD_BYTES
}
