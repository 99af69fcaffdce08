//! Removes one key; removing what is not there succeeds.

use bytes::Bytes;
use engine::KvEngine;
use types::Outcome;

use super::{Bounds, Handler, Invalid, Scope, invalid::check_key};
use crate::{Result, Round, keys, limits::PAIR_OVERHEAD_BYTES};

pub(super) struct Delete<'a>(pub(super) &'a Bytes);

impl<'a> Handler<'a> for Delete<'a> {
    fn check(&self) -> std::result::Result<(), Invalid> {
        check_key(self.0)
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::Keys { first_key: self.0, last_key: self.0 }
    }

    fn size_bytes(&self) -> usize {
        self.0.len() + PAIR_OVERHEAD_BYTES
    }

    fn apply(&self, _scope: &Scope<'_>, _engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        round.batch_mut().delete(&keys::user_key(self.0));
        Ok(Outcome::Done)
    }
}
