//! Key → region, for the regions with a peer on this store: their applied descriptors never overlap.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use parking_lot::RwLock;
use types::{KeyRange, Region, RegionId};

/// The region directory of a store.
#[derive(Default)]
pub(crate) struct Meta {
    ranges: RwLock<Ranges>,
}

#[derive(Default)]
struct Ranges {
    /// By first key. No two overlap.
    by_key: BTreeSet<ByKey>,
    /// The same by id.
    by_id: BTreeMap<RegionId, Arc<Region>>,
    /// Keys that a region is about to get by a snapshot: few at any time.
    reserved: BTreeMap<RegionId, KeyRange>,
}

/// A descriptor in the order of first keys. It is the one that peer, view and applier have, not a copy: a region that
/// sleeps should cost little.
struct ByKey(Arc<Region>);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        &self.0.range.start_key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &ByKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &ByKey) -> Ordering {
        self.0.range.start_key.cmp(&other.0.range.start_key)
    }
}

impl Meta {
    /// The region that covers `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<RegionId> {
        let ranges = self.ranges.read();
        let ByKey(region) = ranges.by_key.range::<[u8], _>((Unbounded, Included(key))).next_back()?;
        region.range.contains_key(key).then_some(region.id)
    }

    /// A region other than `except` whose keys overlap `range`.
    pub(crate) fn find_overlap(&self, range: &KeyRange, except: RegionId) -> Option<RegionId> {
        self.ranges.read().find_overlap(range, except)
    }

    /// Sets the keys of a region, replacing what it covered before. The placement group has no keys here. What the region
    /// has reserved stays reserved: a change that it applies before its snapshot is in place says nothing about that.
    pub(crate) fn set(&self, region: &Arc<Region>) {
        if region.id == RegionId::PLACEMENT {
            return;
        }
        let mut ranges = self.ranges.write();
        ranges.remove(region.id);
        ranges.insert(region);
    }

    /// Sets the keys of several regions at once: nobody sees a gap between a parent and its children.
    pub(crate) fn set_all<'a>(&self, regions: impl Iterator<Item = &'a Arc<Region>> + Clone) {
        let mut ranges = self.ranges.write();
        let with_keys = regions.filter(|region| region.id != RegionId::PLACEMENT);
        with_keys.clone().for_each(|region| ranges.remove(region.id));
        with_keys.for_each(|region| ranges.insert(region));
    }

    /// Keeps keys for a region whose snapshot is about to be put in place, so that no other region gets any of them
    /// meanwhile; `false` if another one has, or waits for, some of them.
    pub(crate) fn reserve(&self, region: &Region) -> bool {
        let mut ranges = self.ranges.write();
        if region.id == RegionId::PLACEMENT {
            return true;
        }
        let is_free = ranges.find_overlap(&region.range, region.id).is_none();
        if is_free {
            ranges.reserved.insert(region.id, region.range.clone());
        }
        is_free
    }

    /// The snapshot is in place, or will not be.
    pub(crate) fn release(&self, id: RegionId) {
        self.ranges.write().reserved.remove(&id);
    }

    /// A region has no keys here any more.
    pub(crate) fn remove(&self, id: RegionId) {
        let mut ranges = self.ranges.write();
        ranges.reserved.remove(&id);
        ranges.remove(id);
    }
}

impl Ranges {
    fn find_overlap(&self, range: &KeyRange, except: RegionId) -> Option<RegionId> {
        if range.is_empty() {
            return None;
        }
        // Ranges are disjoint: only the last that begins at or before the first key may reach into it, ...
        let start_key: &[u8] = &range.start_key;
        let below = self.by_key.range::<[u8], _>((Unbounded, Included(start_key))).next_back();
        // ... and every other one that overlaps begins inside.
        let end = if range.end_key.is_empty() { Unbounded } else { Excluded(range.end_key.as_ref()) };
        let inside = self.by_key.range::<[u8], _>((Excluded(start_key), end));
        let mut found = below.into_iter().chain(inside).map(|ByKey(region)| region);
        let held =
            found.find(|other| other.id != except && other.range.overlaps(range)).map(|other| other.id);
        let is_reserved = |(id, other): &(&RegionId, &KeyRange)| **id != except && other.overlaps(range);
        held.or_else(|| self.reserved.iter().find(is_reserved).map(|(id, _)| *id))
    }

    fn remove(&mut self, id: RegionId) {
        if let Some(region) = self.by_id.remove(&id) {
            self.by_key.remove::<[u8]>(&region.range.start_key);
        }
    }

    fn insert(&mut self, region: &Arc<Region>) {
        if let Some(other) = self.find_overlap(&region.range, region.id) {
            panic!("regions {} and {other} both hold keys of {:?} on this store", region.id, region.range);
        }
        self.by_id.insert(region.id, Arc::clone(region));
        self.by_key.insert(ByKey(Arc::clone(region)));
    }
}

#[cfg(test)]
mod tests {
    use types::Epoch;

    use super::*;

    fn region(id: u64, start_key: &'static str, end_key: &'static str) -> Arc<Region> {
        Arc::new(Region {
            id: RegionId(id),
            range: KeyRange::new(start_key, end_key),
            epoch: Epoch::FIRST,
            peers: Vec::new(),
        })
    }

    fn meta(regions: &[(u64, &'static str, &'static str)]) -> Meta {
        let meta = Meta::default();
        regions.iter().for_each(|(id, start_key, end_key)| meta.set(&region(*id, start_key, end_key)));
        meta
    }

    #[test]
    fn a_key_is_found_in_its_region_or_in_none() {
        let meta = meta(&[(2, "", "b"), (3, "c", "e"), (4, "e", "")]);
        for (key, expected) in [
            ("", Some(2)),
            ("a", Some(2)),
            ("b", None),
            ("c", Some(3)),
            ("dz", Some(3)),
            ("e", Some(4)),
            ("z", Some(4)),
        ] {
            assert_eq!(meta.find(key.as_bytes()), expected.map(RegionId), "{key}");
        }
    }

    #[test]
    fn a_region_that_shrinks_or_moves_leaves_nothing_behind() {
        let meta = meta(&[(2, "", "")]);
        meta.set(&region(2, "", "m"));
        assert_eq!(meta.find(b"m"), None);
        meta.set(&region(3, "m", ""));
        meta.set(&region(2, "b", "c"));
        assert_eq!(
            (meta.find(b"a"), meta.find(b"b"), meta.find(b"z")),
            (None, Some(RegionId(2)), Some(RegionId(3)))
        );
    }

    #[test]
    fn the_placement_group_holds_no_keys() {
        let meta = meta(&[(1, "", ""), (2, "", "")]);
        assert_eq!(meta.find(b"a"), Some(RegionId::FIRST));
    }

    #[test]
    fn keys_that_are_reserved_are_nobody_elses() {
        let meta = meta(&[(2, "", "m")]);
        assert!(!meta.reserve(&region(3, "c", "")), "region 2 holds some of them");
        assert!(meta.reserve(&region(3, "m", "")));
        assert!(!meta.reserve(&region(4, "x", "z")));
        assert_eq!(meta.find_overlap(&KeyRange::new("x", ""), RegionId(4)), Some(RegionId(3)));
        meta.release(RegionId(3));
        assert!(meta.reserve(&region(4, "x", "z")));
        meta.set(&region(4, "s", "t"));
        assert!(!meta.reserve(&region(5, "y", "")), "a change that came first frees nothing");
        meta.set(&region(4, "x", "z"));
        meta.release(RegionId(4));
        assert!(meta.reserve(&region(5, "z", "")));
        assert_eq!(meta.find(b"y"), Some(RegionId(4)));
    }

    #[test]
    #[should_panic(expected = "both hold keys")]
    fn two_regions_do_not_hold_one_key() {
        meta(&[(2, "", "c"), (3, "b", "d")]);
    }

    /// The answer of a look at every region.
    #[test]
    fn overlaps_are_found_as_by_looking_at_all() {
        let held = [(2, "b", "c"), (3, "d", "f"), (4, "f", "g"), (5, "i", "")];
        let meta = meta(&held);
        let bounds = ["", "a", "b", "bb", "c", "d", "e", "f", "g", "h", "i", "j"];
        for start_key in bounds {
            for end_key in bounds {
                for except in 1..6 {
                    let wanted = KeyRange::new(start_key, end_key);
                    let expected: Vec<_> = held
                        .iter()
                        .filter(|(id, start, end)| {
                            *id != except && KeyRange::new(*start, *end).overlaps(&wanted)
                        })
                        .map(|(id, ..)| RegionId(*id))
                        .collect();
                    let found = meta.find_overlap(&wanted, RegionId(except));
                    assert_eq!(found, expected.first().copied(), "{wanted:?} without {except}");
                }
            }
        }
    }
}
