//! Key → region, for the regions with a peer on this store: their applied descriptors never overlap.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;
use types::{KeyRange, Region, RegionId};

/// The region directory of a store.
#[derive(Default)]
pub(crate) struct Meta {
    ranges: RwLock<BTreeMap<Bytes, (KeyRange, RegionId)>>,
}

impl Meta {
    /// The region that covers `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<RegionId> {
        let ranges = self.ranges.read();
        let (_, (range, id)) = ranges
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            .next_back()?;
        range.contains_key(key).then_some(*id)
    }

    /// A region other than `except` whose keys overlap `range`.
    pub(crate) fn find_overlap(&self, range: &KeyRange, except: RegionId) -> Option<RegionId> {
        let ranges = self.ranges.read();
        ranges.values().find(|(other, id)| *id != except && other.overlaps(range)).map(|(_, id)| *id)
    }

    /// Sets the keys of a region, replacing what it covered before. The placement group has no keys here.
    pub(crate) fn set(&self, region: &Region) {
        if region.id == RegionId::PLACEMENT {
            return;
        }
        let mut ranges = self.ranges.write();
        ranges.retain(|_, (_, id)| *id != region.id);
        ranges.insert(region.range.start_key.clone(), (region.range.clone(), region.id));
    }
}
