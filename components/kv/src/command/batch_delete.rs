//! Removes several keys, all or none.

use bytes::Bytes;
use engine::KvEngine;
use types::Outcome;

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key};
use crate::{Result, Round, keys, limits::PAIR_OVERHEAD_BYTES};

pub(super) struct BatchDelete<'a>(pub(super) &'a [Bytes]);

impl<'a> Handler<'a> for BatchDelete<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        self.0.iter().try_for_each(|key| check_key(key))
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::of_keys(self.0.iter())
    }

    fn size_bytes(&self) -> usize {
        self.0.iter().map(|key| key.len() + PAIR_OVERHEAD_BYTES).sum()
    }

    fn apply(&self, _scope: &Scope<'_>, _engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        for key in self.0 {
            round.batch_mut().delete(&keys::user_key(key));
        }
        Ok(Outcome::Done)
    }
}
