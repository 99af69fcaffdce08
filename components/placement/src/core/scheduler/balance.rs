//! Levels the peers: a voter moves from a store that has at least two more than another one. So every move brings the
//! two closer, and when no two stores differ by more than one there is nothing left to do.
//!
//! - Only voters of healthy regions move, which have as many as they should: a copy more is read from a region that can
//!   spare the work.
//! - A voter that does not lead is moved before one that does.
//! - The placement group stays where it is and does not count: where its peers are is not for balance to make up for.

use types::{PeerRole, StoreId};

use super::{Picture, RegionSummary, Wish, WishAim, tie_break};
use crate::core::{limits::OPERATIONS_PER_SOURCE_MAX, record::StoreState};

pub(super) fn balance(picture: &mut Picture<'_>, wishes: &mut Vec<Wish>) {
    // While the placement group changes, its peers cannot be told from the others in the stores' counts.
    while picture.budget > 0
        && picture.placement_group_changing.is_none()
        && let Some((at, from, to)) = find_move(picture)
    {
        let region = picture.regions.swap_remove(at).region;
        let voters = region.peers.iter().map(|peer| peer.store_id).filter(|id| *id != from);
        let mut store_ids: Vec<StoreId> = voters.chain([to]).collect();
        store_ids.sort_unstable();
        wishes.push(Wish { region_id: region.id, aim: WishAim::Voters(store_ids) });
        picture.budget -= 1;
        if let Some(store) = picture.stores.get_mut(&from) {
            store.peer_count -= 1;
            store.leaving_count += 1;
        }
        if let Some(store) = picture.stores.get_mut(&to) {
            store.peer_count += 1;
            store.arriving_count += 1;
        }
    }
}

/// The region to move next, and from where to where: from the fullest store that has one to the emptiest that can take it.
fn find_move(picture: &Picture<'_>) -> Option<(usize, StoreId, StoreId)> {
    let group = picture.placement_group;
    let counted = |(id, store): (&StoreId, &super::StoreSummary)| {
        let of_group = group.is_some_and(|group| group.find_peer_on(*id).is_some());
        (store.peer_count.saturating_sub(usize::from(of_group)), *id)
    };
    let can_give = |store: &super::StoreSummary| {
        store.is_live && store.state == StoreState::Up && store.leaving_count < OPERATIONS_PER_SOURCE_MAX
    };
    let mut sources: Vec<_> =
        picture.stores.iter().filter(|(_, store)| can_give(store)).map(counted).collect();
    let mut targets: Vec<_> =
        picture.stores.iter().filter(|(_, store)| store.may_get()).map(counted).collect();
    sources.sort_unstable_by_key(|(count, id)| (std::cmp::Reverse(*count), *id));
    targets.sort_unstable();
    for (more, from) in &sources {
        for (fewer, to) in targets.iter().take_while(|(fewer, _)| fewer + 2 <= *more) {
            debug_assert!(fewer < more, "a move brings two stores closer");
            if let Some(at) = find_region(picture, *from, *to) {
                return Some((at, *from, *to));
            }
        }
    }
    None
}

fn find_region(picture: &Picture<'_>, from: StoreId, to: StoreId) -> Option<usize> {
    let may_move = |summary: &RegionSummary<'_>| {
        let region = summary.region;
        let is_live = |id| picture.stores.get(&id).is_some_and(|store| store.is_live);
        summary.is_healthy
            && region.find_peer_on(from).is_some()
            && region.find_peer_on(to).is_none()
            && region.peers.len() >= picture.voter_count
            && region.peers.iter().all(|peer| peer.role == PeerRole::Voter && is_live(peer.store_id))
    };
    let candidates = picture.regions.iter().enumerate().filter(|(_, summary)| may_move(summary));
    candidates
        .min_by_key(|(_, summary)| {
            (summary.leader == Some(from), tie_break(picture.seed, summary.region.id, from))
        })
        .map(|(at, _)| at)
}
