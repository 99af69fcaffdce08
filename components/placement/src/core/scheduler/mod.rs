//! Scheduling: a pure, seeded function from a picture of the cluster to where the voters of its regions should be.
//!
//! A scheduler sees no rows, terms or messages, and remembers nothing. To add one: a file here, a call in [`schedule`],
//! a script in `testdata`.

mod repair;

use std::{collections::BTreeMap, time::Duration};

use types::{Region, RegionId, StoreId};

use super::record::StoreState;

/// What a scheduler sees.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// Every store, in order of id.
    pub stores: BTreeMap<StoreId, StoreSummary>,
    /// The placement group, if its descriptor is known.
    pub placement_group: Option<&'a Region>,
    /// For how long the placement group's operation has been running; `None`: it has none.
    pub placement_group_changing: Option<Duration>,
    /// The other regions that have no operation, in key order.
    pub regions: Vec<&'a Region>,
    /// Voters that a region shall have; the placement group has its own rule.
    pub voter_count: usize,
    /// How many operations may begin.
    pub budget: usize,
    /// Decides between stores that are equally good.
    pub seed: u64,
}

/// A store as a scheduler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSummary {
    /// Whether it was heard lately.
    pub is_live: bool,
    /// What is intended with it.
    pub state: StoreState,
    /// Peers that it has or is about to get.
    pub peer_count: usize,
    /// How many of those it is about to get.
    pub arriving_count: usize,
}

/// Where the voters of a region shall be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// The region.
    pub region_id: RegionId,
    /// The stores of its voters, ascending; every other peer goes.
    pub store_ids: Vec<StoreId>,
}

/// What should be begun now, most important first.
#[must_use]
pub fn schedule(mut picture: Picture<'_>) -> Vec<Wish> {
    repair::repair(&mut picture)
}

/// Spreads choices that are equally good: the same for the same arguments, different for each region (splitmix64).
fn tie_break(seed: u64, region_id: RegionId, store_id: StoreId) -> u64 {
    let mut mixed = seed ^ region_id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ store_id.0.rotate_left(32);
    for multiplier in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(multiplier);
    }
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
