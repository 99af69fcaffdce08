//! Levels the leaders: leadership goes from a store that leads at least two regions more than another voter's store. A
//! store that drains leads nothing, as far as somebody else can.

use std::cmp::Reverse;

use types::{PeerRole, StoreId};

use super::{Picture, RegionSummary, Wish, WishAim, tie_break};
use crate::core::{limits::TRANSFERS_RUNNING_MAX, record::StoreState};

pub(super) fn level(picture: &mut Picture<'_>, wishes: &mut Vec<Wish>) {
    while picture.budget > 0
        && picture.transfers_running < TRANSFERS_RUNNING_MAX
        && let Some((at, from, to)) = find_transfer(picture)
    {
        let region = picture.regions.swap_remove(at).region;
        wishes.push(Wish { region_id: region.id, aim: WishAim::Leader(to) });
        picture.budget -= 1;
        picture.transfers_running += 1;
        if let Some(store) = picture.stores.get_mut(&from) {
            store.leader_count -= 1;
        }
        if let Some(store) = picture.stores.get_mut(&to) {
            store.leader_count += 1;
        }
    }
}

/// The region to be handed over next, and from where to where: the best is the one that levels most.
fn find_transfer(picture: &Picture<'_>) -> Option<(usize, StoreId, StoreId)> {
    let is_plain =
        |summary: &RegionSummary<'_>| summary.region.peers.iter().all(|peer| peer.role == PeerRole::Voter);
    let regions = picture.regions.iter().enumerate();
    let transfers = regions.filter(|(_, summary)| summary.is_healthy && is_plain(summary));
    let transfers = transfers.filter_map(|(at, summary)| {
        let from = summary.leader?;
        let (to, gain) = best_heir(picture, summary, from)?;
        Some((Reverse(gain), tie_break(picture.seed, summary.region.id, to), at, from, to))
    });
    transfers.min().map(|(_, _, at, from, to)| (at, from, to))
}

/// The store of a voter that leads fewest, and how many fewer than `from`, if leadership should go there.
fn best_heir(picture: &Picture<'_>, summary: &RegionSummary<'_>, from: StoreId) -> Option<(StoreId, usize)> {
    let source = picture.stores.get(&from)?;
    let others = summary.region.peers.iter().filter(|peer| peer.store_id != from);
    let heirs = others.filter_map(|peer| {
        let store = picture.stores.get(&peer.store_id)?;
        (store.is_live && store.state == StoreState::Up).then_some((store.leader_count, peer.store_id))
    });
    let (fewest, to) = heirs.min()?;
    match source.state {
        StoreState::Up => (fewest + 2 <= source.leader_count).then(|| (to, source.leader_count - fewest)),
        StoreState::Draining | StoreState::Removed => Some((to, usize::MAX)),
    }
}
