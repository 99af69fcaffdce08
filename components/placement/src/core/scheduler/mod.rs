//! Scheduling: a pure, seeded function from a picture of the cluster to where the voters and leaders of its regions should
//! be. Repair comes first; then what somebody wants to be scattered; peers and leaders are levelled with what is left of
//! the budget: numbers of peers, then their bytes, then numbers of leaders.
//!
//! A scheduler sees no rows, terms or messages, and remembers nothing. To add one: a file here, a call in [`plan`],
//! a script in `testdata`.

mod balance;
mod exchange;
mod leaders;
mod movable;
mod repair;
mod scatter;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{PeerId, Region, RegionId, StoreId};

use self::movable::Movable;
pub use self::scatter::{Scatter, Scattered, Tally};
use super::{
    limits::{GROUP_ONE_HEAD_START, OPERATIONS_PER_TARGET_MAX},
    record::StoreState,
};

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
    pub regions: Vec<RegionSummary<'a>>,
    /// Learners that somebody wants where they are.
    pub wanted_learners: BTreeSet<PeerId>,
    /// Voters that a region shall have; the placement group has its own rule.
    pub voter_count: usize,
    /// Whether peers and leaders shall be levelled.
    pub is_balancing: bool,
    /// How many operations may begin.
    pub budget: usize,
    /// How many leaders are being handed over.
    pub transfers_running: usize,
    /// Decides between stores that are equally good.
    pub seed: u64,
}

/// A region as a scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub struct RegionSummary<'a> {
    /// Its descriptor.
    pub region: &'a Region,
    /// Where it is led, if that is known.
    pub leader: Option<StoreId>,
    /// Whether its leader is known and can count on every peer.
    pub is_healthy: bool,
    /// Bytes that it holds, by its leader's estimate; `None`: no leader has said.
    pub size_bytes: Option<u64>,
}

/// A store as a scheduler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSummary {
    /// Whether it was heard lately.
    pub is_live: bool,
    /// Whether it has no room for a peer.
    pub is_full: bool,
    /// What is intended with it.
    pub state: StoreState,
    /// Peers that it will have when what is under way has ended.
    pub peer_count: usize,
    /// Bytes of those, as far as known; those of the placement group do not count.
    pub size_bytes: u64,
    /// How many of those peers it is about to get.
    pub arriving_count: usize,
    /// Peers that it is about to lose.
    pub leaving_count: usize,
    /// Regions of the client keyspace that are led there, or are being handed over to it.
    pub leader_count: usize,
}

/// What a region shall become.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// The region.
    pub region_id: RegionId,
    /// What is wanted.
    pub aim: WishAim,
}

/// What is wanted of a region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WishAim {
    /// Its voters are on these stores, ascending; learners that are wanted stay, and every other peer goes.
    Voters(Vec<StoreId>),
    /// Its voters stay, and its learners are on these stores, ascending.
    Learners(Vec<StoreId>),
    /// It is led there.
    Leader(StoreId),
    /// Its voters are on these stores, ascending, and then it is led on this one of them.
    Scatter {
        /// The stores.
        voters: Vec<StoreId>,
        /// Who leads.
        leader: StoreId,
    },
}

/// What should be begun now, most important first; and what becomes of the regions that somebody wants to be scattered,
/// group by group. Those that are not named cannot move now.
#[must_use]
pub fn plan(mut picture: Picture<'_>, scatters: Vec<Scatter>) -> (Vec<Wish>, BTreeMap<RegionId, Scattered>) {
    let mut wishes = repair::repair(&mut picture);
    let mut scattered = BTreeMap::new();
    if picture.is_group_first() {
        return (wishes, scattered);
    }
    for asked in scatters {
        scattered.extend(scatter::scatter(&mut picture, asked, &mut wishes));
    }
    if picture.is_balancing {
        level_peers(&mut picture, &mut wishes);
        leaders::level(&mut picture, &mut wishes);
    }
    (wishes, scattered)
}

fn level_peers(picture: &mut Picture<'_>, wishes: &mut Vec<Wish>) {
    // While the placement group changes, its peers cannot be told from the others in the stores' counts.
    if picture.placement_group_changing.is_some() || movable::are_level(picture) {
        return;
    }
    let mut movable = Movable::new(picture);
    let repaired_count = wishes.len();
    balance::balance(picture, &mut movable, wishes);
    exchange::exchange(picture, &mut movable, wishes);
    let moving: BTreeSet<RegionId> = wishes[repaired_count..].iter().map(|wish| wish.region_id).collect();
    picture.regions.retain(|summary| !moving.contains(&summary.region.id));
}

impl Picture<'_> {
    /// Whether the others wait for the placement group's own change.
    fn is_group_first(&self) -> bool {
        self.placement_group_changing.is_some_and(|age| age < GROUP_ONE_HEAD_START)
    }
}

impl StoreSummary {
    /// Whether it may be given peers.
    fn may_get(&self) -> bool {
        self.is_live
            && !self.is_full
            && self.state == StoreState::Up
            && self.arriving_count < OPERATIONS_PER_TARGET_MAX
    }
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
