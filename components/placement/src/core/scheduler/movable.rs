//! What the schedulers that level peers know in common: which regions can spare a voter, how full stores are, and what
//! makes one picture more level than another.
//!
//! - Only voters of healthy regions move, which have as many as they should: a copy more is read from a region that can
//!   spare the work.
//! - The placement group stays where it is and does not count: where its peers are is not for balance to make up for.

use std::collections::BTreeMap;

use types::{PeerRole, StoreId};

use super::{Picture, RegionSummary, StoreSummary, Wish, WishAim};
use crate::core::{
    limits::{LEVEL_TOLERANCE_BYTES_MIN, LEVEL_TOLERANCE_PERCENT, OPERATIONS_PER_SOURCE_MAX},
    record::StoreState,
};

/// Regions that can spare a voter, for each store that has one, in the picture's order.
pub(super) struct Movable<'a>(BTreeMap<StoreId, Vec<RegionSummary<'a>>>);

/// A voter that goes from one store to another.
#[derive(Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) summary: RegionSummary<'a>,
    pub(super) from: StoreId,
    pub(super) to: StoreId,
}

/// How far peers are from being level, over the stores that take part: every move must make it less. Numbers of peers
/// come first, so levelling bytes never undoes what levelling numbers has done, and the other way round only where it
/// must. There are finitely many ways to place peers, so whatever the sizes are, as long as they stay the same, moves end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Potential {
    counts_squared: u128,
    bytes_squared: u128,
}

impl<'a> Movable<'a> {
    pub(super) fn new(picture: &Picture<'a>) -> Movable<'a> {
        let mut by_store: BTreeMap<StoreId, Vec<RegionSummary<'a>>> = BTreeMap::new();
        for summary in &picture.regions {
            let peers = &summary.region.peers;
            let is_live = |id| picture.stores.get(&id).is_some_and(|store| store.is_live);
            let may_move = summary.is_healthy
                && peers.len() >= picture.voter_count
                && peers.iter().all(|peer| peer.role == PeerRole::Voter && is_live(peer.store_id));
            for peer in peers.iter().filter(|_| may_move) {
                by_store.entry(peer.store_id).or_default().push(*summary);
            }
        }
        Movable(by_store)
    }

    /// The regions with a voter on `from` and none on `to`.
    pub(super) fn between(&self, from: StoreId, to: StoreId) -> impl Iterator<Item = &RegionSummary<'a>> {
        let regions = self.0.get(&from).into_iter().flatten();
        regions.filter(move |summary| summary.region.find_peer_on(to).is_none())
    }

    /// Wishes for a move, and counts with it from now on: the region does not move again.
    pub(super) fn wish(&mut self, picture: &mut Picture<'_>, wishes: &mut Vec<Wish>, change: Move<'a>) {
        let Move { summary, from, to } = change;
        let region = summary.region;
        for peer in &region.peers {
            if let Some(regions) = self.0.get_mut(&peer.store_id) {
                // By address: the descriptors of all the others would have to be fetched otherwise.
                regions.retain(|other| !std::ptr::eq(other.region, region));
            }
        }
        let voters = region.peers.iter().map(|peer| peer.store_id).filter(|id| *id != from);
        let mut store_ids: Vec<StoreId> = voters.chain([to]).collect();
        store_ids.sort_unstable();
        wishes.push(Wish { region_id: region.id, aim: WishAim::Voters(store_ids) });
        picture.budget -= 1;
        let size_bytes = summary.size_bytes.unwrap_or(0);
        if let Some(store) = picture.stores.get_mut(&from) {
            store.peer_count -= 1;
            store.size_bytes = store.size_bytes.saturating_sub(size_bytes);
            store.leaving_count += 1;
        }
        if let Some(store) = picture.stores.get_mut(&to) {
            store.peer_count += 1;
            store.size_bytes = store.size_bytes.saturating_add(size_bytes);
            store.arriving_count += 1;
        }
    }
}

impl Potential {
    pub(super) fn of(picture: &Picture<'_>) -> Potential {
        let square = |number: u128| number * number;
        let stores = || picture.stores.iter().filter(|(_, store)| takes_part(store));
        Potential {
            counts_squared: stores().map(|(id, _)| square(picture.counted(*id) as u128)).sum(),
            bytes_squared: stores().map(|(_, store)| square(u128::from(store.size_bytes))).sum(),
        }
    }
}

/// Whether there is nothing to do, without a look at the regions.
pub(super) fn are_level(picture: &Picture<'_>) -> bool {
    let stores = by_bytes(picture);
    let bytes = |at: Option<&(u64, StoreId)>| at.map_or(0, |(size_bytes, _)| *size_bytes);
    let apart_bytes = bytes(stores.last()) - bytes(stores.first());
    are_counts_level(picture) && apart_bytes <= tolerance_bytes(&stores)
}

/// Whether no store that may get peers has two fewer than another one, now or when what is under way has ended.
pub(super) fn are_counts_level(picture: &Picture<'_>) -> bool {
    let most = picture.by_count(takes_part).pop();
    let fewest = picture.by_count(|store| takes_part(store) && !store.is_full).into_iter().next();
    most.zip(fewest).is_none_or(|((most, _), (fewest, _))| most < fewest + 2)
}

/// The stores that take part, those with the fewest bytes first.
pub(super) fn by_bytes(picture: &Picture<'_>) -> Vec<(u64, StoreId)> {
    let stores = picture.stores.iter().filter(|(_, store)| takes_part(store));
    let mut stores: Vec<_> = stores.map(|(id, store)| (store.size_bytes, *id)).collect();
    stores.sort_unstable();
    stores
}

/// How far two stores may be apart.
pub(super) fn tolerance_bytes(stores: &[(u64, StoreId)]) -> u64 {
    let sum: u128 = stores.iter().map(|(size_bytes, _)| u128::from(*size_bytes)).sum();
    let part = sum * u128::from(LEVEL_TOLERANCE_PERCENT) / (100 * stores.len().max(1) as u128);
    u64::try_from(part).unwrap_or(u64::MAX).max(LEVEL_TOLERANCE_BYTES_MIN)
}

/// Whether peers are levelled over a store.
pub(super) fn takes_part(store: &StoreSummary) -> bool {
    store.is_live && store.state == StoreState::Up
}

/// Whether a store that takes part may give one more peer now.
pub(super) fn may_give(store: &StoreSummary) -> bool {
    takes_part(store) && store.leaving_count < OPERATIONS_PER_SOURCE_MAX
}

impl Picture<'_> {
    /// The peers that count on a store: those of the placement group do not.
    pub(super) fn counted(&self, id: StoreId) -> usize {
        let of_group = self.placement_group.is_some_and(|group| group.find_peer_on(id).is_some());
        let count = self.stores.get(&id).map_or(0, |store| store.peer_count);
        count.saturating_sub(usize::from(of_group))
    }

    /// The stores of which `is_wanted` holds, those with the fewest peers first.
    pub(super) fn by_count(&self, is_wanted: impl Fn(&StoreSummary) -> bool) -> Vec<(usize, StoreId)> {
        let wanted = self.stores.iter().filter(|(_, store)| is_wanted(store));
        let mut stores: Vec<_> = wanted.map(|(id, _)| (self.counted(*id), *id)).collect();
        stores.sort_unstable();
        stores
    }
}
