//! Sets several keys, all or none.

use engine::KvEngine;
use types::{Outcome, Pair};

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key, put};
use crate::{Result, Round};

pub(super) struct BatchPut<'a>(pub(super) &'a [Pair]);

impl<'a> Handler<'a> for BatchPut<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        self.0.iter().try_for_each(|pair| check_key(&pair.key))
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::of_keys(self.0.iter().map(|pair| &pair.key))
    }

    fn size_bytes(&self) -> usize {
        self.0.iter().map(put::pair_bytes).sum()
    }

    fn apply(&self, scope: &Scope<'_>, _engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        // The engine applies writes in order, so the last pair wins where a key repeats.
        for pair in self.0 {
            put::write(scope, round, &pair.key, &pair.value, pair.ttl_seconds);
        }
        Ok(Outcome::Done)
    }
}
