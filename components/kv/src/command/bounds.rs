//! Which keys a command touches.

use bytes::Bytes;
use types::{KeyRange, RegionId};

use crate::{Error, Result};

/// The keys that a command reads or writes, as far as it takes to tell whether they are a region's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds<'a> {
    /// No key: an empty batch or an empty range.
    Nothing,
    /// Keys of clients. A region's keys are consecutive: if it holds these two, it holds all.
    Keys {
        /// The smallest.
        first_key: &'a Bytes,
        /// The largest.
        last_key: &'a Bytes,
    },
    /// Every key of a range, which is not empty.
    Range(&'a KeyRange),
    /// Rows of placement.
    Placement,
}

impl<'a> Bounds<'a> {
    /// The bounds of some keys.
    pub(super) fn of_keys(keys: impl Iterator<Item = &'a Bytes>) -> Bounds<'a> {
        let ends = keys.fold(None, |ends: Option<(&Bytes, &Bytes)>, key| match ends {
            None => Some((key, key)),
            Some((first_key, last_key)) => Some((first_key.min(key), last_key.max(key))),
        });
        ends.map_or(Bounds::Nothing, |(first_key, last_key)| Bounds::Keys { first_key, last_key })
    }

    /// The bounds of a range.
    pub(super) fn of_range(range: &'a KeyRange) -> Bounds<'a> {
        if range.is_empty() { Bounds::Nothing } else { Bounds::Range(range) }
    }

    /// Refuses bounds that do not lie wholly within a region that holds the keys of `range`. The placement group takes
    /// placement's rows and nothing else, and no other region takes them.
    pub fn check_within(&self, region_id: RegionId, range: &KeyRange) -> Result<()> {
        let is_placement = matches!(self, Bounds::Placement);
        if is_placement != (region_id == RegionId::PLACEMENT) {
            return Err(Error::WrongGroup { region_id });
        }
        match self.find_outside(range) {
            None => Ok(()),
            Some(key) => Err(Error::NotInRegion { key: key.clone(), region_id, range: range.clone() }),
        }
    }

    /// A key that `range` does not hold.
    fn find_outside<'b>(&self, range: &'b KeyRange) -> Option<&'b Bytes>
    where
        'a: 'b,
    {
        match *self {
            Bounds::Nothing | Bounds::Placement => None,
            Bounds::Keys { first_key, last_key } => {
                [first_key, last_key].into_iter().find(|key| !range.contains_key(key))
            }
            Bounds::Range(wanted) if range.contains_range(wanted) => None,
            Bounds::Range(wanted) if !range.contains_key(&wanted.start_key) => Some(&wanted.start_key),
            Bounds::Range(_) => Some(&range.end_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(2);

    /// The key that is named as outside of [b, d).
    fn outside(bounds: Bounds<'_>) -> Option<Bytes> {
        match bounds.check_within(REGION, &KeyRange::new("b", "d")) {
            Ok(()) => None,
            Err(Error::NotInRegion { key, region_id: REGION, .. }) => Some(key),
            Err(other) => panic!("{other}"),
        }
    }

    fn outside_keys(keys: &[&'static str]) -> Option<Bytes> {
        let keys: Vec<_> = keys.iter().copied().map(Bytes::from).collect();
        outside(Bounds::of_keys(keys.iter()))
    }

    #[test]
    fn keys_lie_within_if_the_extremes_do() {
        assert_eq!(outside_keys(&[]), None);
        assert_eq!(outside_keys(&["b"]), None);
        assert_eq!(outside_keys(&["cc", "b", "c"]), None);
        assert_eq!(outside_keys(&["c", "a", "b"]), Some(Bytes::from("a")));
        assert_eq!(outside_keys(&["c", "d", "b"]), Some(Bytes::from("d")));
    }

    #[test]
    fn ranges_lie_within_if_both_ends_do() {
        let named =
            |start: &'static str, end: &'static str| outside(Bounds::of_range(&KeyRange::new(start, end)));
        assert_eq!(named("b", "d"), None);
        assert_eq!(named("c", "cc"), None);
        assert_eq!(named("z", "y"), None);
        assert_eq!(named("a", "c"), Some(Bytes::from("a")));
        assert_eq!(named("d", "e"), Some(Bytes::from("d")));
        assert_eq!(named("c", "e"), Some(Bytes::from("d")));
        assert_eq!(named("c", ""), Some(Bytes::from("d")));
    }

    #[test]
    fn placement_stays_for_itself() {
        let key = Bytes::from("b");
        let keys = Bounds::of_keys(std::iter::once(&key));
        for (bounds, is_placement) in [(Bounds::Placement, true), (keys, false), (Bounds::Nothing, false)] {
            assert_eq!(bounds.check_within(RegionId::PLACEMENT, &KeyRange::ALL).is_ok(), is_placement);
            assert_eq!(bounds.check_within(REGION, &KeyRange::ALL).is_ok(), !is_placement);
        }
    }
}
