//! Spreads regions that somebody names over the stores, each by a look at the group that it belongs to: every store gets
//! as many peers, and as many leaders, of the group's regions as the next.
//!
//! - The regions are looked at one after the other. A voter goes from the store with most peers of the group to the one
//!   with fewest, and leadership likewise, if that brings the two closer: so whoever asks again changes nothing.
//! - Only healthy regions of voters on live stores are moved. Others are repaired first; they are told to wait, as are those
//!   for which there is no room among the operations: the limits are those of levelling.

use std::collections::{BTreeMap, BTreeSet};

use types::{PeerRole, RegionId, StoreId};

use super::{Picture, RegionSummary, StoreSummary, Wish, WishAim, tie_break};
use crate::core::{
    limits::{OPERATIONS_PER_SOURCE_MAX, TRANSFERS_RUNNING_MAX},
    record::StoreState,
};

/// Regions that shall be scattered together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scatter {
    /// Those that may move.
    pub region_ids: BTreeSet<RegionId>,
    /// What each store will have of the other regions of their group.
    pub others: BTreeMap<StoreId, Tally>,
}

/// How much of a group a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Peers.
    pub peer_count: usize,
    /// Regions that it leads.
    pub leader_count: usize,
}

/// What a look has found out about a region that shall be scattered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scattered {
    /// It is where it should be.
    Settled,
    /// There is a wish for it.
    Wished,
    /// It cannot move now.
    Later,
}

/// Where a region's voters and its leader should be.
#[derive(Debug, PartialEq, Eq)]
struct Seat {
    /// Ascending.
    voters: Vec<StoreId>,
    /// Where it is known.
    leader: Option<StoreId>,
}

pub(super) fn scatter(
    picture: &mut Picture<'_>,
    asked: Scatter,
    wishes: &mut Vec<Wish>,
) -> BTreeMap<RegionId, Scattered> {
    let Scatter { region_ids, others: mut tallies } = asked;
    let mut outcomes = BTreeMap::new();
    let regions = std::mem::take(&mut picture.regions);
    let is_asked = |summary: &RegionSummary<'_>| region_ids.contains(&summary.region.id);
    for summary in regions.iter().filter(|summary| is_asked(summary)) {
        Seat::of(summary).count(&mut tallies, |count| count + 1);
    }
    for summary in regions {
        if !is_asked(&summary) {
            picture.regions.push(summary);
            continue;
        }
        let (id, present) = (summary.region.id, Seat::of(&summary));
        present.count(&mut tallies, |count| count.saturating_sub(1));
        let better = is_ready(picture, &summary).then(|| present.improved(picture, &tallies, id));
        let outcome = match &better {
            None => Scattered::Later,
            Some(better) if *better == present => Scattered::Settled,
            Some(better) if !picture.has_room(&present, better) => Scattered::Later,
            Some(_) => Scattered::Wished,
        };
        outcomes.insert(id, outcome);
        match better.filter(|_| outcome == Scattered::Wished) {
            Some(Seat { voters, leader: Some(leader) }) => {
                let better = Seat { voters: voters.clone(), leader: Some(leader) };
                picture.count_move(&present, &better, summary.size_bytes.unwrap_or(0));
                better.count(&mut tallies, |count| count + 1);
                wishes.push(Wish { region_id: id, aim: WishAim::Scatter { voters, leader } });
            }
            // What does not move now is for the others to look at.
            Some(_) | None => {
                present.count(&mut tallies, |count| count + 1);
                picture.regions.push(summary);
            }
        }
    }
    outcomes
}

/// Whether a region can be moved: its leader counts on every peer, each votes, and on a store that stays.
fn is_ready(picture: &Picture<'_>, summary: &RegionSummary<'_>) -> bool {
    let stays =
        |id| picture.stores.get(&id).is_some_and(|store| store.is_live && store.state == StoreState::Up);
    let peers = &summary.region.peers;
    summary.is_healthy && peers.iter().all(|peer| peer.role == PeerRole::Voter && stays(peer.store_id))
}

impl Seat {
    /// Where a region is.
    fn of(summary: &RegionSummary<'_>) -> Seat {
        let mut voters: Vec<StoreId> = summary.region.peers.iter().map(|peer| peer.store_id).collect();
        voters.sort_unstable();
        Seat { voters, leader: summary.leader }
    }

    /// Counts the region for its stores, or takes it out of the count.
    fn count(&self, tallies: &mut BTreeMap<StoreId, Tally>, change: impl Fn(usize) -> usize) {
        for id in &self.voters {
            let tally = tallies.entry(*id).or_default();
            tally.peer_count = change(tally.peer_count);
        }
        if let Some(leader) = self.leader {
            let tally = tallies.entry(leader).or_default();
            tally.leader_count = change(tally.leader_count);
        }
    }

    /// A better seat, by what the stores have of the group's other regions; the same one if there is none.
    fn improved(
        &self,
        picture: &Picture<'_>,
        tallies: &BTreeMap<StoreId, Tally>,
        region_id: RegionId,
    ) -> Seat {
        let tally = |id: &StoreId| tallies.get(id).copied().unwrap_or_default();
        let tie = |id: &StoreId| tie_break(picture.seed, region_id, *id);
        let may_hold =
            |store: &StoreSummary| store.is_live && !store.is_full && store.state == StoreState::Up;
        let mut voters = self.voters.clone();
        for _ in 0..self.voters.len() {
            // Of stores that are equally full the leader's own is left last.
            let fullest = (0..voters.len()).max_by_key(|at| {
                let id = &voters[*at];
                (tally(id).peer_count, Some(*id) != self.leader, tie(id))
            });
            let empty = picture.stores.iter();
            let empty = empty.filter(|(id, store)| may_hold(store) && !voters.contains(id));
            let emptiest =
                empty.min_by_key(|(id, store)| (tally(id).peer_count, store.peer_count, tie(id), **id));
            let (Some(from), Some((to, _))) = (fullest, emptiest) else { break };
            if tally(to).peer_count >= tally(&voters[from]).peer_count {
                break;
            }
            voters[from] = *to;
        }
        voters.sort_unstable();
        let leads = |id: &StoreId| picture.stores.get(id).map_or(0, |store| store.leader_count);
        let heir = voters
            .iter()
            .min_by_key(|id| (tally(id).leader_count, Some(**id) != self.leader, leads(id), tie(id), **id));
        let leader = heir.copied();
        Seat { voters, leader }
    }

    /// The stores that this seat has and another one has not.
    fn without<'a>(&'a self, other: &'a Seat) -> impl Iterator<Item = &'a StoreId> {
        self.voters.iter().filter(|id| !other.voters.contains(id))
    }
}

impl Picture<'_> {
    /// Whether the limits allow a region to go from one seat to another.
    fn has_room(&self, from: &Seat, to: &Seat) -> bool {
        let store = |id: &StoreId| self.stores.get(id).copied().unwrap_or_default();
        let is_transfer = from.voters == to.voters;
        self.budget > 0
            && to.without(from).all(|id| store(id).may_get())
            && from.without(to).all(|id| store(id).leaving_count < OPERATIONS_PER_SOURCE_MAX)
            && (!is_transfer || self.transfers_running < TRANSFERS_RUNNING_MAX)
    }

    /// A region of this size goes from one seat to another.
    fn count_move(&mut self, from: &Seat, to: &Seat, size_bytes: u64) {
        self.budget -= 1;
        self.transfers_running += usize::from(from.voters == to.voters);
        for id in from.without(to) {
            if let Some(store) = self.stores.get_mut(id) {
                store.peer_count = store.peer_count.saturating_sub(1);
                store.size_bytes = store.size_bytes.saturating_sub(size_bytes);
                store.leaving_count += 1;
            }
        }
        for id in to.without(from) {
            if let Some(store) = self.stores.get_mut(id) {
                store.peer_count += 1;
                store.size_bytes = store.size_bytes.saturating_add(size_bytes);
                store.arriving_count += 1;
            }
        }
        if let Some(store) = from.leader.and_then(|id| self.stores.get_mut(&id)) {
            store.leader_count = store.leader_count.saturating_sub(1);
        }
        if let Some(store) = to.leader.and_then(|id| self.stores.get_mut(&id)) {
            store.leader_count += 1;
        }
    }
}
