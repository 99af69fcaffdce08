//! Levels the leaders: leadership goes from a store that leads at least two regions more than another voter's store. So
//! every transfer brings the two closer. Where the two have no region in common that could change hands, leadership goes
//! by way of other stores, which lead as many as before. A store that drains leads nothing, as far as somebody else can.
//!
//! Only their number counts. What a leader costs is work, not room, and bytes do not tell how much of it; and a region's
//! size is what its leader holds it to be: handed over, it would be another one, and levelling by it need not end.

use std::{cmp::Reverse, collections::BTreeMap};

use types::{PeerRole, RegionId, StoreId};

use super::{Picture, RegionSummary, StoreSummary, Wish, WishAim, tie_break};
use crate::core::{limits::TRANSFERS_RUNNING_MAX, record::StoreState};

pub(super) fn level(picture: &mut Picture<'_>, wishes: &mut Vec<Wish>) {
    if are_level(picture) {
        return;
    }
    let mut led = Led::new(picture);
    while let Some(path) = find_path(picture, &led) {
        let before = Potential::of(picture);
        for Transfer { region_id, from, to } in path {
            led.remove(from, region_id);
            wishes.push(Wish { region_id, aim: WishAim::Leader(to) });
            picture.budget -= 1;
            picture.transfers_running += 1;
            if let Some(store) = picture.stores.get_mut(&from) {
                store.leader_count -= 1;
            }
            if let Some(store) = picture.stores.get_mut(&to) {
                store.leader_count += 1;
            }
        }
        debug_assert!(Potential::of(picture) < before, "transfers bring two stores closer");
    }
}

/// How far leaders are from being level: first those on stores that should lead nothing. Whatever is handed over makes it
/// less.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Potential {
    misplaced_count: usize,
    counts_squared: u128,
}

/// A region that is handed over.
#[derive(Clone, Copy)]
struct Transfer {
    region_id: RegionId,
    from: StoreId,
    to: StoreId,
}

/// The regions that could be handed over, by the store that leads them.
struct Led<'a>(BTreeMap<StoreId, Vec<RegionSummary<'a>>>);

impl Potential {
    fn of(picture: &Picture<'_>) -> Potential {
        let counts = |is_up: bool| {
            let stores = picture.stores.values().filter(move |store| is_used(store) == is_up);
            stores.map(|store| store.leader_count)
        };
        Potential {
            misplaced_count: counts(false).sum(),
            counts_squared: counts(true).map(|count| (count as u128).pow(2)).sum(),
        }
    }
}

impl<'a> Led<'a> {
    fn new(picture: &Picture<'a>) -> Led<'a> {
        let mut by_store: BTreeMap<StoreId, Vec<RegionSummary<'a>>> = BTreeMap::new();
        for summary in &picture.regions {
            let is_plain = summary.region.peers.iter().all(|peer| peer.role == PeerRole::Voter);
            if let Some(leader) = summary.leader.filter(|_| summary.is_healthy && is_plain) {
                by_store.entry(leader).or_default().push(*summary);
            }
        }
        Led(by_store)
    }

    fn remove(&mut self, leader: StoreId, region_id: RegionId) {
        if let Some(regions) = self.0.get_mut(&leader) {
            regions.retain(|summary| summary.region.id != region_id);
        }
    }

    /// The stores to which a store could hand over a region, each with one such region.
    fn heirs(&self, picture: &Picture<'_>, from: StoreId) -> BTreeMap<StoreId, RegionId> {
        let mut heirs: BTreeMap<StoreId, (u64, RegionId)> = BTreeMap::new();
        for RegionSummary { region, .. } in self.0.get(&from).into_iter().flatten() {
            for to in region.peers.iter().map(|peer| peer.store_id).filter(|to| *to != from) {
                if picture.stores.get(&to).is_some_and(|store| store.is_live && is_used(store)) {
                    let choice = (tie_break(picture.seed, region.id, to), region.id);
                    let best = heirs.entry(to).or_insert(choice);
                    *best = choice.min(*best);
                }
            }
        }
        heirs.into_iter().map(|(to, (_, region_id))| (to, region_id)).collect()
    }
}

/// Whether a store may lead.
fn is_used(store: &StoreSummary) -> bool {
    store.state == StoreState::Up
}

/// Whether there is nothing to do, without a look at the regions.
fn are_level(picture: &Picture<'_>) -> bool {
    let stores = || picture.stores.values();
    let used = || stores().filter(|store| is_used(store));
    let most = used().map(|store| store.leader_count).max();
    let fewest = used().filter(|store| store.is_live).map(|store| store.leader_count).min();
    stores().all(|store| is_used(store) || store.leader_count == 0)
        && most.zip(fewest).is_none_or(|(most, fewest)| most < fewest + 2)
}

/// What is to be handed over next, one behind the other: from a store that should lead nothing, or else from the one that
/// leads most and can.
fn find_path(picture: &Picture<'_>, led: &Led<'_>) -> Option<Vec<Transfer>> {
    let steps_max = picture.budget.min(TRANSFERS_RUNNING_MAX.saturating_sub(picture.transfers_running));
    let mut sources: Vec<(&StoreId, &StoreSummary)> =
        picture.stores.iter().filter(|(_, store)| store.leader_count > 0).collect();
    sources.sort_by_key(|(_, store)| (is_used(store), Reverse(store.leader_count)));
    sources.into_iter().find_map(|(id, _)| find_path_from(picture, led, *id, steps_max))
}

/// The shortest way to a store that leads fewer; of several stores to the one that leads fewest.
fn find_path_from(
    picture: &Picture<'_>,
    led: &Led<'_>,
    source: StoreId,
    steps_max: usize,
) -> Option<Vec<Transfer>> {
    let store = picture.stores.get(&source)?;
    let count = |id: &StoreId| picture.stores.get(id).map_or(0, |store| store.leader_count);
    let is_wanted = |id: &&StoreId| !is_used(store) || count(id) + 2 <= store.leader_count;
    // How each store is reached.
    let mut steps: BTreeMap<StoreId, Transfer> = BTreeMap::new();
    let mut reached = vec![source];
    for _ in 0..steps_max {
        let mut next = Vec::new();
        for from in reached {
            for (to, region_id) in led.heirs(picture, from) {
                if to != source && !steps.contains_key(&to) {
                    steps.insert(to, Transfer { region_id, from, to });
                    next.push(to);
                }
            }
        }
        if let Some(target) = next.iter().filter(is_wanted).min_by_key(|id| (count(id), **id)) {
            let mut path = vec![*steps.get(target)?];
            while let Some(step) = path.last().and_then(|last| steps.get(&last.from)) {
                path.push(*step);
            }
            path.reverse();
            return Some(path);
        }
        reached = next;
    }
    None
}
