//! Levels the bytes of peers, where their numbers are level: a store gives another one a voter of a large region for a
//! voter of a smaller one. So no number changes. Where it has one peer more, it may give one for nothing.
//!
//! - Stores are level as soon as none has much more than another: a tenth of the average, or what reports leave open. An
//!   exchange is chosen to leave half of that between two stores at the most, so that it takes a good deal of writing,
//!   and no mere drift of estimates, until there is a next one.
//! - What is gained must be worth what is copied.
//! - Where sizes are not known, the numbers of peers are all that is levelled. Those of a few regions may be missing (they
//!   have no leader): they count nothing, and stay.

use std::cmp::Ordering;

use types::StoreId;

use super::{
    Picture, RegionSummary, StoreSummary, Wish,
    movable::{Movable, Move, Potential, are_counts_level, by_bytes, may_give, tolerance_bytes},
    tie_break,
};
use crate::core::limits::{EXCHANGE_WORTH_PERCENT, SIZE_STEP_BYTES, SIZES_UNKNOWN_PERCENT};

/// Two moves between two stores; the second one, back, may be missing.
struct Exchange<'a> {
    large: Move<'a>,
    small: Option<Move<'a>>,
}

pub(super) fn exchange<'a>(picture: &mut Picture<'a>, movable: &mut Movable<'a>, wishes: &mut Vec<Wish>) {
    if !are_counts_level(picture) || !are_sizes_known(picture) {
        return;
    }
    while picture.budget >= 2
        && let Some(found) = find_exchange(picture, movable)
    {
        let before = Potential::of(picture);
        movable.wish(picture, wishes, found.large);
        if let Some(small) = found.small {
            movable.wish(picture, wishes, small);
        }
        debug_assert!(Potential::of(picture) < before, "an exchange brings two stores closer");
        debug_assert!(are_counts_level(picture), "an exchange changes no number");
    }
}

fn are_sizes_known(picture: &Picture<'_>) -> bool {
    let unknown_count = picture.regions.iter().filter(|summary| summary.size_bytes.is_none()).count();
    unknown_count * 100 <= picture.regions.len() * SIZES_UNKNOWN_PERCENT
}

/// Between the store with the most bytes and the one with the fewest, if they differ by too much and have regions to
/// exchange; else between the next ones.
fn find_exchange<'a>(picture: &Picture<'_>, movable: &Movable<'a>) -> Option<Exchange<'a>> {
    let stores = by_bytes(picture);
    let tolerance_bytes = tolerance_bytes(&stores);
    for (more, from) in stores.iter().rev().copied() {
        let is_apart = |(fewer, _): &(u64, StoreId)| more.saturating_sub(*fewer) > tolerance_bytes;
        for (fewer, to) in stores.iter().copied().take_while(is_apart) {
            let between = Between { picture, from, to, apart_bytes: more - fewer };
            if let Some(found) = between.find_exchange(movable) {
                return Some(found);
            }
        }
    }
    None
}

/// Two stores that are too far apart.
struct Between<'a> {
    picture: &'a Picture<'a>,
    from: StoreId,
    to: StoreId,
    apart_bytes: u64,
}

/// How good an exchange is: the least is the best.
type Rank = (u64, usize, u64, u64, u64);

impl Between<'_> {
    fn find_exchange<'a>(&self, movable: &Movable<'a>) -> Option<Exchange<'a>> {
        let (from, to) = (self.store(self.from)?, self.store(self.to)?);
        if !may_give(from) || !to.may_get() {
            return None;
        }
        let mut smaller: Vec<Side<'_, 'a>> = Vec::new();
        if may_give(to) && from.may_get() {
            smaller.extend(self.side(movable, self.to, self.from));
        }
        if self.picture.counted(self.from) == self.picture.counted(self.to) + 1 {
            smaller.push(Side::NOTHING);
        }
        let larger: Vec<Side<'_, 'a>> = self.side(movable, self.from, self.to).collect();
        if larger.iter().all(|large| large.size_bytes <= self.apart_bytes / 2) {
            // For each of them the smallest is the best: there is no need to sort.
            smaller = smaller.into_iter().min_by(Side::order).into_iter().collect();
        }
        smaller.sort_unstable_by(Side::order);
        let pairs = larger.into_iter().flat_map(|large| {
            // The two whose difference comes closest to half of what the stores are apart.
            let wanted = large.size_bytes.saturating_sub(self.apart_bytes / 2);
            let at = smaller.partition_point(|small| small.size_bytes < wanted);
            let nearest = [at.checked_sub(1), Some(at)].into_iter().flatten();
            let nearest = nearest.filter_map(|at| smaller.get(at));
            nearest.filter_map(move |small| Some((self.rank(&large, small)?, large, small)))
        });
        let (_, large, small) = pairs.min_by_key(|(rank, ..)| *rank)?;
        Some(Exchange {
            large: Move { summary: *large.summary?, from: self.from, to: self.to },
            small: small.summary.map(|summary| Move { summary: *summary, from: self.to, to: self.from }),
        })
    }

    fn store(&self, id: StoreId) -> Option<&StoreSummary> {
        self.picture.stores.get(&id)
    }

    /// What one store could give the other.
    fn side<'b, 'a>(
        &self,
        movable: &'b Movable<'a>,
        from: StoreId,
        to: StoreId,
    ) -> impl Iterator<Item = Side<'b, 'a>> {
        let seed = self.picture.seed;
        movable.between(from, to).filter_map(move |summary| {
            Some(Side {
                size_bytes: summary.size_bytes?,
                is_led: summary.leader == Some(from),
                tie_break: tie_break(seed, summary.region.id, from),
                summary: Some(summary),
            })
        })
    }

    /// `None`: it is not worth it, or would leave the stores apart as much the other way.
    fn rank(&self, large: &Side<'_, '_>, small: &Side<'_, '_>) -> Option<Rank> {
        let gained =
            large.size_bytes.checked_sub(small.size_bytes).filter(|gained| *gained >= SIZE_STEP_BYTES)?;
        let copied = u128::from(large.size_bytes) + u128::from(small.size_bytes);
        let is_worth_it = u128::from(gained) * 100 >= copied * u128::from(EXCHANGE_WORTH_PERCENT);
        let is_closer = u128::from(gained) * 4 <= u128::from(self.apart_bytes) * 3;
        if !is_worth_it || !is_closer {
            return None;
        }
        let misfit = gained.abs_diff(self.apart_bytes / 2);
        let eighths = misfit / (self.apart_bytes / 8).max(1);
        let led_count = usize::from(large.is_led) + usize::from(small.is_led);
        let copied = u64::try_from(copied).unwrap_or(u64::MAX);
        Some((eighths, led_count, misfit, copied, large.tie_break ^ small.tie_break))
    }
}

/// A region that a store could give; or nothing.
#[derive(Clone, Copy)]
struct Side<'b, 'a> {
    size_bytes: u64,
    is_led: bool,
    tie_break: u64,
    summary: Option<&'b RegionSummary<'a>>,
}

impl Side<'_, '_> {
    const NOTHING: Side<'static, 'static> =
        Side { size_bytes: 0, is_led: false, tie_break: 0, summary: None };

    /// The smallest first; of equals nothing, which costs nothing, then what is not led.
    fn order(one: &Self, other: &Self) -> Ordering {
        let key = |side: &Self| (side.size_bytes, side.summary.is_some(), side.is_led, side.tie_break);
        key(one).cmp(&key(other))
    }
}
