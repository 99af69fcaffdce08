//! Levels the numbers of peers: a voter moves from a store that has at least two more than another one. So every move
//! brings the two closer, and when no two stores differ by more than one there is nothing left to do.
//!
//! Which voter moves: one that does not lead before one that does; then one whose size brings the two stores' bytes closer
//! as well, by this move's part of what they differ by. Where sizes are not known, or all the same, the seed decides.

use std::cmp::Reverse;

use types::StoreId;

use super::{
    Picture, RegionSummary, Wish,
    movable::{Movable, Move, Potential, may_give},
    tie_break,
};
use crate::core::limits::SIZE_STEP_BYTES;

pub(super) fn balance<'a>(picture: &mut Picture<'a>, movable: &mut Movable<'a>, wishes: &mut Vec<Wish>) {
    while picture.budget > 0
        && let Some(change) = find_move(picture, movable)
    {
        let before = Potential::of(picture);
        movable.wish(picture, wishes, change);
        debug_assert!(Potential::of(picture) < before, "a move brings two stores closer");
    }
}

/// From the store with the most peers that has a region to the one with the fewest that can take it.
fn find_move<'a>(picture: &Picture<'_>, movable: &Movable<'a>) -> Option<Move<'a>> {
    let mut sources = picture.by_count(may_give);
    sources.sort_by_key(|(count, _)| Reverse(*count));
    let targets = picture.by_count(|store| store.may_get());
    for (more, from) in sources {
        for (fewer, to) in targets.iter().copied().take_while(|(fewer, _)| fewer + 2 <= more) {
            let best = BestSize::new(picture, from, to, more - fewer);
            let rank = |summary: &&RegionSummary<'_>| {
                let is_led_here = summary.leader == Some(from);
                (is_led_here, best.misfit(summary), tie_break(picture.seed, summary.region.id, from))
            };
            if let Some(summary) = movable.between(from, to).min_by_key(rank) {
                return Some(Move { summary: *summary, from, to });
            }
        }
    }
    None
}

/// The size of which so many regions would level the bytes of two stores while they level the numbers.
struct BestSize {
    best_bytes: u64,
    /// Sizes are not known better than this, and nothing depends on it.
    step_bytes: u64,
}

impl BestSize {
    fn new(picture: &Picture<'_>, from: StoreId, to: StoreId, count_difference: usize) -> BestSize {
        let bytes = |id| picture.stores.get(&id).map_or(0, |store| store.size_bytes);
        let best_bytes = bytes(from).saturating_sub(bytes(to)) / count_difference as u64;
        BestSize { best_bytes, step_bytes: SIZE_STEP_BYTES.max(best_bytes / 4) }
    }

    /// How far a region is from it, in steps.
    fn misfit(&self, summary: &RegionSummary<'_>) -> u64 {
        summary.size_bytes.map_or(0, |size_bytes| size_bytes.abs_diff(self.best_bytes) / self.step_bytes)
    }
}
