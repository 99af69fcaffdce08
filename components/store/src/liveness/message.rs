//! What stores say to one another about regions that sleep (docs/life-of-a-sleep.md). Each message is about many regions:
//! a pair of stores never exchanges one message a region.

use types::{Incarnation, Index, PeerId, RegionId, Term};

use crate::limits::SLEEP_ITEMS_MAX;

/// A message about sleepers. *Leader* and *follower* are the stores that hold a region's leader and another of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SleepMessage {
    /// Leader to follower: these could sleep, if you are where I am.
    Offer {
        /// Of the sender. The contract ends with it.
        incarnation: Incarnation,
        /// One for each region.
        offers: Vec<SleepOffer>,
    },
    /// Follower to leader: my peers sleep now.
    Agreed {
        /// Of the receiver, as it was offered.
        leader_incarnation: Incarnation,
        /// Of the sender: what it agreed to in an earlier run is worth nothing.
        follower_incarnation: Incarnation,
        /// The offers that are agreed to.
        offers: Vec<SleepOffer>,
    },
    /// Follower to leader: my peers are awake; wake yours.
    Wake(Vec<Sleeper>),
    /// Leader to follower, about what it was told to wake: it leads none of these in that term.
    NotLed(Vec<Sleeper>),
    /// Leader to follower: all that sleep here, led here, by your agreement.
    Digest(SleepDigest),
    /// Follower to leader: that is not what sleeps here; which are they?
    Compare,
    /// Leader to follower: of the regions in this section, exactly these sleep here, led here, by your agreement.
    Sleepers(SleeperList),
}

/// A contract, as one store offers it to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepOffer {
    /// The region.
    pub region_id: RegionId,
    /// Its leader.
    pub leader: PeerId,
    /// The peer on the other store.
    pub follower: PeerId,
    /// The leader's term.
    pub term: Term,
    /// Where every log ends; all of it is committed.
    pub last_index: Index,
    /// The leader's name for it: another offer of the same region has another one, whatever else it says. Never zero.
    pub number: u64,
}

/// A region that sleeps, or shall not, in this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sleeper {
    /// The region.
    pub region_id: RegionId,
    /// The term.
    pub term: Term,
}

/// What a set of sleepers comes to: equal sets have equal digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SleepDigest {
    /// How many there are.
    pub count: u64,
    /// The sum of their hashes.
    pub sum: u64,
}

/// A part of a store's sleepers that is complete in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SleeperList {
    /// Which regions it tells about.
    pub section: Section,
    /// Those of them that sleep, ascending.
    pub sleepers: Vec<Sleeper>,
}

/// Regions by id: from `first` to `last`, and of these every `count`-th, beginning with the remainder `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The lowest id.
    pub first: RegionId,
    /// The highest id.
    pub last: RegionId,
    /// The remainder.
    pub at: u64,
    /// The divisor; not zero.
    pub count: u64,
}

impl Section {
    /// Whether the section tells about a region.
    #[must_use]
    pub fn contains(&self, region_id: RegionId) -> bool {
        (self.first..=self.last).contains(&region_id) && region_id.0.checked_rem(self.count) == Some(self.at)
    }
}

impl SleeperList {
    /// All sleepers of every `count`-th region from `at` on, in lists of bounded size that leave no region out.
    pub(crate) fn of(at: u64, count: u64, sleepers: &[Sleeper]) -> Vec<SleeperList> {
        let mut lists = Vec::new();
        let mut first = RegionId(0);
        let mut rest = sleepers;
        loop {
            let (chunk, behind) = rest.split_at(rest.len().min(SLEEP_ITEMS_MAX));
            rest = behind;
            let end = if rest.is_empty() { None } else { chunk.last() };
            let last = end.map_or(RegionId(u64::MAX), |sleeper| sleeper.region_id);
            let section = Section { first, last, at, count };
            lists.push(SleeperList { section, sleepers: chunk.to_vec() });
            if end.is_none() {
                return lists;
            }
            first = RegionId(last.0.saturating_add(1));
        }
    }

    /// Whether it names this region in this term.
    pub(crate) fn contains(&self, sleeper: Sleeper) -> bool {
        self.sleepers.binary_search(&sleeper).is_ok()
    }
}

impl SleepDigest {
    /// A sleeper more.
    pub(crate) fn add(&mut self, sleeper: Sleeper) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(sleeper));
    }

    /// A sleeper less.
    pub(crate) fn remove(&mut self, sleeper: Sleeper) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(sleeper));
    }

    /// The sleepers of both; they have none in common.
    pub(crate) fn join(&mut self, other: SleepDigest) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

fn hash(sleeper: Sleeper) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sleeper.region_id.0.to_be_bytes());
    bytes[8..].copy_from_slice(&sleeper.term.0.to_be_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleepers(ids: impl Iterator<Item = u64>) -> Vec<Sleeper> {
        ids.map(|id| Sleeper { region_id: RegionId(id), term: Term(3) }).collect()
    }

    #[test]
    fn the_order_of_coming_and_going_makes_no_difference_to_a_digest() {
        let [one, two, three] = [1, 2, 3].map(|id| Sleeper { region_id: RegionId(id), term: Term(7) });
        let mut left = SleepDigest::default();
        [one, two, three].into_iter().for_each(|sleeper| left.add(sleeper));
        left.remove(two);
        let mut right = SleepDigest::default();
        right.add(three);
        let mut rest = SleepDigest::default();
        rest.add(one);
        right.join(rest);
        assert_eq!(left, right);
        right.remove(one);
        right.add(Sleeper { term: Term(8), ..one });
        assert_ne!(left, right, "another term is another sleeper");
    }

    #[test]
    fn lists_name_every_region_of_their_sections_and_leave_none_out() {
        let step = 3;
        let all = sleepers((0..SLEEP_ITEMS_MAX as u64 * 2 + 5).map(|at| 4 + at * step));
        let lists = SleeperList::of(1, step, &all);
        assert_eq!(lists.iter().map(|list| list.sleepers.len()).sum::<usize>(), all.len());
        assert!(lists.iter().all(|list| list.sleepers.len() <= SLEEP_ITEMS_MAX));
        for id in (0..60_000).chain([u64::MAX]) {
            let region_id = RegionId(id);
            let telling = lists.iter().filter(|list| list.section.contains(region_id)).count();
            assert_eq!(telling, usize::from(id % step == 1), "region {id}");
        }
        assert_eq!(SleeperList::of(0, 1, &[]).len(), 1, "that nobody sleeps is said too");
    }
}
