//! The directory: an index of the regions' own descriptors, without gap or overlap at any moment (D8).
//!
//! Rows change only in replacements: a set of rows gives way to a set with the same union, and none of the new ones is
//! older than one that it replaces. A descriptor that does not tile yet waits, and the old rows go on answering. Every
//! peer of a region would give the same descriptor for the same epoch, so it does not matter who reports it.
//!
//! Which is older: of one region, the lower epoch. Of two regions whose keys overlap, the lower version: a split and a
//! merge give every region that they leave a higher version than any region had that they began with.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use types::{KeyRange, Region, RegionId};

use super::limits::PENDING_DESCRIPTORS_MAX;

/// The rows, and the descriptors that wait to become rows.
#[derive(Clone, Debug)]
pub struct Directory {
    /// By start key; they tile the keyspace.
    rows: BTreeMap<Bytes, Region>,
    /// Where a region's row is.
    starts: BTreeMap<RegionId, Bytes>,
    /// The newest descriptor of each region that is newer than the rows that it overlaps.
    pending: BTreeMap<RegionId, Region>,
}

/// Rows that give way, and those that take their place: both ascending, with the same union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// The old rows.
    pub removed: Vec<Region>,
    /// The new rows.
    pub added: Vec<Region>,
}

/// What became of a descriptor that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The rows have it, or newer ones.
    Known,
    /// It waits for the next plan.
    Waiting,
    /// Too many wait: all of them, this one too, have been forgotten and must be reported anew.
    Overflow,
}

/// Rows that do not tile the keyspace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory has a gap or an overlap at {at:?}")]
pub struct NotTiled {
    /// Where.
    pub at: Bytes,
}

impl Directory {
    /// The directory with these rows, in any order.
    pub fn new(regions: Vec<Region>) -> Result<Directory, NotTiled> {
        let mut directory =
            Directory { rows: BTreeMap::new(), starts: BTreeMap::new(), pending: BTreeMap::new() };
        for region in regions {
            directory.insert(region);
        }
        directory.check_tiling()?;
        Ok(directory)
    }

    /// The row that holds `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> &Region {
        self.rows
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .map(|(_, region)| region)
            .expect("the rows tile the keyspace, so the first one starts at the empty key")
    }

    /// The row before the one that holds `key`; `None` before the first.
    #[must_use]
    pub fn find_previous(&self, key: &[u8]) -> Option<&Region> {
        let start_key = &self.find(key).range.start_key;
        self.rows
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(start_key.as_ref())))
            .next_back()
            .map(|(_, region)| region)
    }

    /// The row of a region.
    #[must_use]
    pub fn find_by_id(&self, id: RegionId) -> Option<&Region> {
        self.starts.get(&id).and_then(|start_key| self.rows.get(start_key))
    }

    /// The rows that hold keys of `range`, ascending.
    pub fn scan<'a>(&'a self, range: &KeyRange) -> impl Iterator<Item = &'a Region> + use<'a> {
        let first = self.find(&range.start_key).range.start_key.clone();
        let (is_empty, end_key) = (range.is_empty(), range.end_key.clone());
        self.rows
            .range(first..)
            .map(|(_, region)| region)
            .take_while(move |region| !is_empty && (end_key.is_empty() || region.range.start_key < end_key))
    }

    /// Every row, ascending.
    pub fn regions(&self) -> impl ExactSizeIterator<Item = &Region> {
        self.rows.values()
    }

    /// Takes a descriptor that some peer has applied.
    pub fn offer(&mut self, region: Region) -> Offer {
        if !self.is_newer_than_rows(&region) {
            return Offer::Known;
        }
        match self.pending.get(&region.id) {
            Some(waiting) if waiting.epoch.covers(region.epoch) => return Offer::Waiting,
            Some(_) | None => {}
        }
        if self.pending.len() >= PENDING_DESCRIPTORS_MAX && !self.pending.contains_key(&region.id) {
            self.pending.clear();
            return Offer::Overflow;
        }
        self.pending.insert(region.id, region);
        Offer::Waiting
    }

    /// The replacements that the waiting descriptors make possible now, disjoint, until they add `rows_max` rows.
    /// Nothing changes before [`Directory::commit`].
    #[must_use]
    pub fn plan(&self, rows_max: usize) -> Vec<Replacement> {
        let waiting = Waiting::new(self.pending.values());
        let mut holes = Holes::default();
        let mut planned: Vec<Replacement> = Vec::new();
        let mut taken = BTreeSet::new();
        let mut rows_count = 0;
        for (id, region) in &self.pending {
            if taken.contains(id) || rows_count >= rows_max {
                continue;
            }
            let Some(tiles) = self.tile(region, &waiting, &mut holes) else { continue };
            if tiles.removed.iter().any(|region| taken.contains(&region.id)) {
                continue;
            }
            taken.extend(tiles.removed.iter().chain(&tiles.added).map(|region| region.id));
            rows_count += tiles.added.len();
            planned.push(Replacement {
                removed: tiles.removed.into_iter().cloned().collect(),
                added: tiles.added.into_iter().cloned().collect(),
            });
        }
        planned
    }

    /// The keys whose rows cannot give way yet, for want of descriptors, to those that wait among regions for which
    /// `is_asked` holds: each once.
    #[must_use]
    pub fn untiled(&self, is_asked: impl Fn(&Region) -> bool) -> Vec<KeyRange> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let waiting = Waiting::new(self.pending.values());
        let mut holes = Holes::default();
        let mut untiled: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for region in self.pending.values().filter(|region| is_asked(region)) {
            if self.tile(region, &waiting, &mut holes).is_some() {
                continue;
            }
            let start_key = &self.find(&region.range.start_key).range.start_key;
            // The empty end key is behind every other.
            let last = self.last_row_of(&region.range);
            let end_key = untiled.entry(start_key.clone()).or_insert_with(|| last.range.end_key.clone());
            if end_order(&last.range.end_key, end_key).is_gt() {
                *end_key = last.range.end_key.clone();
            }
        }
        untiled.into_iter().map(|(start_key, end_key)| KeyRange::new(start_key, end_key)).collect()
    }

    /// Replacements have happened that were planned together.
    pub fn commit(&mut self, replacements: &[Replacement]) {
        for replacement in replacements {
            for region in &replacement.removed {
                let row = self.rows.remove(&region.range.start_key);
                debug_assert_eq!(row.as_ref(), Some(region), "replacements are planned against the rows");
                self.starts.remove(&region.id);
            }
            for region in &replacement.added {
                self.insert(region.clone());
            }
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending = pending.into_iter().filter(|(_, region)| self.is_newer_than_rows(region)).collect();
        debug_assert_eq!(self.check_tiling(), Ok(()));
    }

    /// How many descriptors wait.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Whether the rows tile the keyspace.
    pub fn check_tiling(&self) -> Result<(), NotTiled> {
        let mut at = Some(Bytes::new());
        for region in self.rows.values() {
            if at.as_ref() != Some(&region.range.start_key) || region.range.is_empty() {
                return Err(NotTiled { at: region.range.start_key.clone() });
            }
            at = Some(region.range.end_key.clone()).filter(|end_key| !end_key.is_empty());
        }
        match at {
            Some(at) => Err(NotTiled { at }),
            None if self.starts.len() == self.rows.len() => Ok(()),
            None => Err(NotTiled { at: Bytes::new() }),
        }
    }

    fn insert(&mut self, region: Region) {
        self.starts.insert(region.id, region.range.start_key.clone());
        self.rows.insert(region.range.start_key.clone(), region);
    }

    fn is_newer_than_rows(&self, region: &Region) -> bool {
        let own = self.find_by_id(region.id);
        let is_own_newer = own.is_none_or(|row| is_newer(region, row));
        is_own_newer && self.scan(&region.range).all(|row| is_newer(region, row))
    }

    /// The row that holds the last keys of a range.
    fn last_row_of(&self, range: &KeyRange) -> &Region {
        let end = if range.end_key.is_empty() { Bound::Unbounded } else { Bound::Excluded(&range.end_key) };
        self.rows
            .range::<Bytes, _>((Bound::Unbounded, end))
            .next_back()
            .map(|(_, region)| region)
            .expect("the rows tile the keyspace, so the first one starts at the empty key")
    }

    /// The smallest replacement that begins with the rows that `region` overlaps, made of waiting descriptors alone:
    /// each of those rows must give way, for `region` overlaps it and is newer.
    fn tile<'a>(
        &'a self,
        region: &Region,
        waiting: &Waiting<'a>,
        holes: &mut Holes<'a>,
    ) -> Option<Tiles<'a>> {
        let first = &self.find(&region.range.start_key).range.start_key;
        if holes.0.contains(first) {
            return None;
        }
        let mut removed: Vec<&Region> = self.scan(&region.range).collect();
        let mut added: Vec<&Region> = Vec::new();
        let mut cursor = first;
        loop {
            let Some(next) = waiting.find(cursor) else {
                holes.0.insert(first);
                return None;
            };
            added.push(next);
            let covered = removed.last()?.range.end_key.clone();
            match end_order(&next.range.end_key, &covered) {
                Ordering::Less => {}
                Ordering::Equal => break,
                Ordering::Greater => {
                    let beyond = KeyRange { start_key: covered, end_key: next.range.end_key.clone() };
                    removed.extend(self.scan(&beyond));
                    if removed.last().is_some_and(|row| row.range.end_key == next.range.end_key) {
                        break;
                    }
                }
            }
            cursor = &next.range.end_key;
        }
        let is_one_row_each = added
            .iter()
            .all(|new| self.find_by_id(new.id).is_none_or(|row| removed.iter().any(|old| old.id == row.id)));
        let is_each_once = added.iter().map(|new| new.id).collect::<BTreeSet<_>>().len() == added.len();
        (is_one_row_each && is_each_once).then_some(Tiles { removed, added })
    }
}

/// Whether `new` may take the place of `old` where both hold the same keys.
#[must_use]
pub fn is_newer(new: &Region, old: &Region) -> bool {
    if new.id == old.id {
        new.epoch.covers(old.epoch) && new.epoch != old.epoch
    } else {
        new.epoch.version > old.epoch.version
    }
}

/// Orders end keys: the empty one is behind every other.
pub(super) fn end_order(left: &Bytes, right: &Bytes) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => left.cmp(right),
    }
}

/// Rows that can give way, and what takes their place.
struct Tiles<'a> {
    removed: Vec<&'a Region>,
    added: Vec<&'a Region>,
}

/// Where rows begin behind whose start waiting descriptors leave a hole: whatever else waits over the same row meets the
/// same hole, so that a split into many parts is walked through once and not once for each part.
#[derive(Default)]
struct Holes<'a>(BTreeSet<&'a Bytes>);

/// Waiting descriptors by start key; the newest of those that start together.
struct Waiting<'a>(BTreeMap<&'a Bytes, &'a Region>);

impl<'a> Waiting<'a> {
    fn new(regions: impl Iterator<Item = &'a Region>) -> Waiting<'a> {
        let mut by_start: BTreeMap<&Bytes, &Region> = BTreeMap::new();
        for region in regions {
            let newest = by_start.entry(&region.range.start_key).or_insert(region);
            if region.epoch.version > newest.epoch.version {
                *newest = region;
            }
        }
        Waiting(by_start)
    }

    fn find(&self, start_key: &Bytes) -> Option<&'a Region> {
        self.0.get(start_key).copied()
    }
}

#[cfg(test)]
mod tests;
