//! Scans of the directory, page by page, over one range or several.

use std::collections::VecDeque;

use types::KeyRange;

use crate::core::{
    api::{Error, PlacementCall, RegionRoute, Result},
    directory::end_order,
    limits::{SCAN_PAGE_REGIONS, SCAN_RANGES_MAX, SCAN_REGIONS_MAX},
};

/// A scan under way.
#[derive(Debug)]
pub(super) struct ScanJob {
    /// What is left, without empty ranges.
    ranges: VecDeque<KeyRange>,
    limit: usize,
    routes: Vec<RegionRoute>,
}

/// How many regions a limit means; zero: as many as there are, up to the most that an answer holds.
pub(super) fn limit_of(limit: u32) -> usize {
    match usize::try_from(limit) {
        Ok(0) | Err(_) => SCAN_REGIONS_MAX,
        Ok(limit) => limit.min(SCAN_REGIONS_MAX),
    }
}

/// Refuses ranges that cannot be scanned in one pass.
pub(super) fn check(ranges: &[KeyRange]) -> Result<()> {
    if ranges.len() > SCAN_RANGES_MAX {
        return Err(Error::Invalid(format!(
            "{} ranges are too many: {SCAN_RANGES_MAX} are allowed",
            ranges.len()
        )));
    }
    let is_ascending =
        ranges.windows(2).all(|pair| !pair[0].end_key.is_empty() && pair[0].end_key <= pair[1].start_key);
    if is_ascending {
        return Ok(());
    }
    Err(Error::Invalid("the ranges overlap or do not ascend: sort and join them".to_owned()))
}

impl ScanJob {
    pub(super) fn new(ranges: Vec<KeyRange>, limit: u32) -> ScanJob {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ScanJob { ranges, limit: limit_of(limit), routes: Vec::new() }
    }

    /// Whether nothing is left to ask.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty() || self.routes.len() >= self.limit
    }

    /// The next page.
    pub(super) fn request(&self) -> PlacementCall {
        let left = u32::try_from(self.limit - self.routes.len()).unwrap_or(SCAN_PAGE_REGIONS);
        let range = self.ranges.front().cloned().unwrap_or_default();
        PlacementCall::ScanRegions { range, limit: left.min(SCAN_PAGE_REGIONS) }
    }

    /// A page has come. Regions that an earlier range shares are not repeated.
    pub(super) fn take(&mut self, page: Vec<RegionRoute>) {
        let Some(range) = self.ranges.front().cloned() else { return };
        let before = self.routes.len();
        for route in page {
            let is_new = self.routes.last().is_none_or(|last| {
                !last.region.range.end_key.is_empty()
                    && last.region.range.end_key <= route.region.range.start_key
            });
            if is_new && route.region.range.overlaps(&range) && self.routes.len() < self.limit {
                self.routes.push(route);
            }
        }
        if self.routes.len() == before {
            // Nothing new lies in what is left of this range.
            self.ranges.pop_front();
        }
        self.skip_covered();
    }

    /// What was collected.
    pub(super) fn into_routes(self) -> Vec<RegionRoute> {
        self.routes
    }

    /// Cuts off what the last route covers.
    fn skip_covered(&mut self) {
        let Some(last) = self.routes.last() else { return };
        let covered = &last.region.range.end_key;
        while let Some(range) = self.ranges.front_mut() {
            if end_order(covered, &range.end_key).is_ge() {
                self.ranges.pop_front();
            } else {
                if range.start_key < covered {
                    range.start_key = covered.clone();
                }
                return;
            }
        }
    }
}
