//! Gives every region as many voters as it should have, one per store: the placement group first, because everything
//! else needs it.
//!
//! - The number of voters is odd: an even number survives no more failures than the odd one below and costs a copy more.
//!   So a cluster of two stores keeps one voter a region.
//! - The placement group has three voters, and five from five live stores on.
//! - A voter on a store that drains or was removed is replaced; until there is a store for its replacement it stays.
//! - A voter on a store that is merely silent stays: it may come back, and what it has is worth more than a new copy.
//! - Peers that do not vote, belong to no operation and are wanted by nobody are left-overs of one that was given up: they
//!   go.

use std::time::Duration;

use types::{Peer, PeerRole, Region, RegionId, StoreId};

use super::{Picture, Wish, WishAim, tie_break};
use crate::core::record::StoreState;

const PLACEMENT_VOTERS_MIN: usize = 3;
const PLACEMENT_VOTERS_MAX: usize = 5;

pub(super) fn repair(picture: &mut Picture<'_>) -> Vec<Wish> {
    let mut wishes = Vec::new();
    if picture.is_group_first() {
        return wishes;
    }
    if picture.placement_group_changing.is_none()
        && let Some(group) = picture.placement_group
        && let Some(wish) = wish_for(group, picture)
    {
        // Alone: its head start begins now.
        picture.placement_group_changing = Some(Duration::ZERO);
        return vec![wish];
    }
    let mut left = Vec::new();
    for summary in std::mem::take(&mut picture.regions) {
        if picture.budget == 0 {
            break;
        }
        match wish_for(summary.region, picture) {
            Some(wish) => {
                picture.budget -= 1;
                wishes.push(wish);
            }
            None => left.push(summary),
        }
    }
    picture.regions = left;
    wishes
}

/// Where the region's voters should be, if that is not where they are, and if every store of them is live.
fn wish_for(region: &Region, picture: &mut Picture<'_>) -> Option<Wish> {
    let is_joint = region.peers.iter().any(|peer| match peer.role {
        PeerRole::IncomingVoter | PeerRole::DemotingVoter => true,
        PeerRole::Voter | PeerRole::Learner => false,
    });
    if is_joint {
        return None;
    }
    let voters: Vec<StoreId> =
        region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).map(|peer| peer.store_id).collect();
    let is_staying = |id: &StoreId| picture.stores.get(id).is_some_and(|store| store.state == StoreState::Up);
    let (mut goal, leaving): (Vec<StoreId>, Vec<StoreId>) = voters.iter().copied().partition(is_staying);
    let candidates = candidates(region, &voters, picture);
    let wanted = wanted_count(region.id, picture);
    let reachable = wanted.min(goal.len() + candidates.len());
    // Odd, but never fewer than there are.
    let count =
        if reachable.is_multiple_of(2) { reachable.saturating_sub(1) } else { reachable }.max(voters.len());
    let missing = count.saturating_sub(goal.len()).min(candidates.len());
    let arriving = &candidates[..missing];
    goal.extend(arriving);
    goal.extend(leaving.iter().take(count.saturating_sub(goal.len())));
    goal.sort_unstable();
    let is_wanted = |peer: &Peer| peer.role == PeerRole::Voter || picture.wanted_learners.contains(&peer.id);
    let is_as_it_is = goal.len() == voters.len()
        && goal.iter().all(|id| voters.contains(id))
        && region.peers.iter().all(is_wanted);
    let is_live = |id: &StoreId| picture.stores.get(id).is_some_and(|store| store.is_live);
    if is_as_it_is || goal.is_empty() || !goal.iter().all(is_live) {
        return None;
    }
    for id in arriving {
        if let Some(store) = picture.stores.get_mut(id) {
            store.peer_count += 1;
            store.arriving_count += 1;
        }
    }
    Some(Wish { region_id: region.id, aim: WishAim::Voters(goal) })
}

/// Stores that may get a voter of the region, the best first: a store with a learner of it has the data already.
fn candidates(region: &Region, voters: &[StoreId], picture: &Picture<'_>) -> Vec<StoreId> {
    let mut candidates: Vec<_> = picture
        .stores
        .iter()
        .filter(|(id, store)| store.may_get() && !voters.contains(id))
        .map(|(id, store)| {
            let has_learner = region.find_peer_on(*id).is_some();
            (!has_learner, store.peer_count, tie_break(picture.seed, region.id, *id), *id)
        })
        .collect();
    candidates.sort_unstable();
    candidates.into_iter().map(|(.., id)| id).collect()
}

fn wanted_count(region_id: RegionId, picture: &Picture<'_>) -> usize {
    if region_id != RegionId::PLACEMENT {
        return picture.voter_count;
    }
    let live_count =
        picture.stores.values().filter(|store| store.is_live && store.state == StoreState::Up).count();
    if live_count >= PLACEMENT_VOTERS_MAX { PLACEMENT_VOTERS_MAX } else { PLACEMENT_VOTERS_MIN }
}
