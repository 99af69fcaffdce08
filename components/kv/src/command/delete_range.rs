//! Removes every key of a range.

use engine::KvEngine;
use types::{KeyRange, Outcome};

use super::{Bounds, Handler, Invalid, Scope};
use crate::{Result, Round, keys, limits::PAIR_OVERHEAD_BYTES};

pub(super) struct DeleteRange<'a>(pub(super) &'a KeyRange);

impl<'a> Handler<'a> for DeleteRange<'a> {
    /// Any bound will do: the empty ones mean "no bound", and clients mark ends with keys that are longer than allowed.
    fn check(&self) -> std::result::Result<(), Invalid> {
        Ok(())
    }

    fn bounds(&self) -> Bounds<'a> {
        Bounds::of_range(self.0)
    }

    fn size_bytes(&self) -> usize {
        self.0.start_key.len() + self.0.end_key.len() + PAIR_OVERHEAD_BYTES
    }

    fn apply(&self, _scope: &Scope<'_>, _engine: &dyn KvEngine, round: &mut Round) -> Result<Outcome> {
        let (start_key, end_key) = keys::user_range(self.0);
        round.batch_mut().delete_range(&[&start_key], &[&end_key]);
        Ok(Outcome::Done)
    }
}

/// Cuts a range that begins in `region` and reaches beyond it; any other stays.
pub(super) fn clip(deleted: &mut KeyRange, region: &KeyRange) {
    if region.contains_key(&deleted.start_key) {
        deleted.end_key = deleted.intersection(region).end_key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipped(start: &'static str, end: &'static str, region: &KeyRange) -> KeyRange {
        let mut range = KeyRange::new(start, end);
        clip(&mut range, region);
        range
    }

    #[test]
    fn only_the_end_is_cut() {
        let region = KeyRange::new("b", "d");
        assert_eq!(clipped("b", "c", &region), KeyRange::new("b", "c"));
        assert_eq!(clipped("c", "e", &region), KeyRange::new("c", "d"));
        assert_eq!(clipped("c", "", &region), KeyRange::new("c", "d"));
        assert_eq!(clipped("c", "b", &region), KeyRange::new("c", "b"));
        assert_eq!(clipped("a", "c", &region), KeyRange::new("a", "c"));
        assert_eq!(clipped("d", "e", &region), KeyRange::new("d", "e"));
        assert_eq!(clipped("c", "", &KeyRange::ALL), KeyRange::new("c", ""));
    }
}
