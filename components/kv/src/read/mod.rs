//! Queries: what they answer. One file for each kind.
//!
//! Expiry is judged by the wall time of the scope, so it is exact to the skew of the stores' clocks (D11). Scans and
//! checksums are clipped to the region: clients ask every region of a range for all of the range. An answer is whole or
//! refused, never cut short (see [`crate::limits::ANSWER_BYTES_MAX`]).
//!
//! # Caveats
//!
//! A scan reads over expired values without counting them, so its work is bounded by the region, not by its limit, until
//! the engine has dropped them.

mod answer_size;
mod checksum;
mod live;
mod placement_rows;
mod point;
mod scan;

use engine::KvSnapshot;
use types::{Answer, KeyRange, Query, RegionId, WallTime};

use crate::{Error, Result};

/// Where and when a query is answered.
#[derive(Clone, Copy, Debug)]
pub struct ReadScope<'a> {
    /// The region.
    pub region_id: RegionId,
    /// The keys that it holds in the snapshot; of no meaning for the placement group.
    pub range: &'a KeyRange,
    /// When the question is answered: values that have expired by then are not there.
    pub wall: WallTime,
}

/// Answers a query from a snapshot that holds every write the answer must show.
pub fn answer(query: &Query, scope: &ReadScope<'_>, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let is_placement = matches!(query, Query::PlacementRows { .. });
    if is_placement != (scope.region_id == RegionId::PLACEMENT) {
        return Err(Error::WrongGroup { region_id: scope.region_id });
    }
    match query {
        Query::Get { key } => point::get(key, scope, snapshot),
        Query::BatchGet { keys } => point::batch_get(keys, scope, snapshot),
        Query::Scan(scan) => scan::scan(std::slice::from_ref(scan), scope, snapshot),
        Query::BatchScan { scans } => scan::scan(scans, scope, snapshot),
        Query::KeyTtl { key } => point::key_ttl(key, scope, snapshot),
        Query::Checksum { ranges } => checksum::checksum(ranges, scope, snapshot),
        Query::PlacementRows { prefix } => placement_rows::placement_rows(prefix, snapshot),
    }
}
