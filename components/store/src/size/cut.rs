//! Where a region can be divided evenly, found in one pass that does not know how much is to come.
//!
//! Every so many bytes a key is remembered, with what lies before it. When the list is full, the distance grows and the
//! keys that are too close go. So memory is bounded, the parts differ from equal ones by one distance at the most, and
//! a region of few keys can be divided at each of them.

use bytes::Bytes;
use types::RegionSize;

use crate::limits::CUTS_MAX;

/// A key at which a region can be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) key: Bytes,
    /// What lies before it.
    pub(crate) before: RegionSize,
}

/// Takes a region's pairs in order.
#[derive(Debug)]
pub(crate) struct Cutter {
    seen: RegionSize,
    cuts: Vec<Cut>,
    distance_bytes: u64,
}

/// A region, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) size: RegionSize,
    cuts: Vec<Cut>,
}

impl Cutter {
    pub(crate) fn new() -> Cutter {
        Cutter { seen: RegionSize::default(), cuts: Vec::new(), distance_bytes: 1 }
    }

    /// The next pair: its user key, and what it takes as it is stored.
    pub(crate) fn visit(&mut self, key: &[u8], size_bytes: u64) {
        let last_bytes = self.cuts.last().map_or(0, |cut| cut.before.size_bytes);
        // Never at the first key: nothing would be left of the first part.
        if self.seen.key_count > 0 && self.seen.size_bytes - last_bytes >= self.distance_bytes {
            self.cuts.push(Cut { key: Bytes::copy_from_slice(key), before: self.seen });
            if self.cuts.len() == CUTS_MAX {
                self.thin();
            }
        }
        self.seen += RegionSize { size_bytes, key_count: 1 };
    }

    pub(crate) fn finish(self) -> Counted {
        Counted { size: self.seen, cuts: self.cuts }
    }

    fn thin(&mut self) {
        while self.cuts.len() > CUTS_MAX / 2 {
            self.distance_bytes *= 2;
            let (distance_bytes, mut kept_bytes) = (self.distance_bytes, 0);
            self.cuts.retain(|cut| {
                let is_kept = cut.before.size_bytes - kept_bytes >= distance_bytes;
                kept_bytes = if is_kept { cut.before.size_bytes } else { kept_bytes };
                is_kept
            });
        }
    }
}

impl Counted {
    /// Where to divide the region into this many parts of about equal bytes: ascending; fewer where it has too few keys.
    pub(crate) fn divide(&self, part_count: u64) -> Vec<Cut> {
        let mut chosen: Vec<Cut> = Vec::new();
        let mut from = 0;
        for part in 1..part_count {
            let target = u128::from(self.size.size_bytes) * u128::from(part) / u128::from(part_count);
            let at =
                from + self.cuts[from..].partition_point(|cut| u128::from(cut.before.size_bytes) < target);
            let distance = |at: &usize| u128::from(self.cuts[*at].before.size_bytes).abs_diff(target);
            let around = at.saturating_sub(1).max(from)..(at + 1).min(self.cuts.len());
            let Some(nearest) = around.min_by_key(distance) else { break };
            chosen.push(self.cuts[nearest].clone());
            from = nearest + 1;
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(sizes: impl IntoIterator<Item = u64>) -> Counted {
        let mut cutter = Cutter::new();
        for (number, size_bytes) in sizes.into_iter().enumerate() {
            cutter.visit(format!("{number:08}").as_bytes(), size_bytes);
        }
        cutter.finish()
    }

    fn numbers(cuts: &[Cut]) -> Vec<u64> {
        cuts.iter().map(|cut| String::from_utf8_lossy(&cut.key).parse().expect("keys are numbers")).collect()
    }

    #[test]
    fn few_keys_can_be_divided_at_each() {
        assert_eq!(counted([]).divide(2), []);
        assert_eq!(counted([5]).divide(2), [], "one pair stays whole");
        assert_eq!(numbers(&counted([5, 5]).divide(2)), [1]);
        assert_eq!(numbers(&counted([1, 1, 10, 1]).divide(2)), [2], "nearer to the middle than 3");
        assert_eq!(numbers(&counted([1; 4]).divide(4)), [1, 2, 3]);
        assert_eq!(numbers(&counted([1; 3]).divide(8)), [1, 2], "fewer where there are too few keys");
        assert_eq!(numbers(&counted([100, 1, 1]).divide(3)), [1, 2], "each key once");
        assert_eq!(counted([1, 2, 3]).divide(1), []);
        assert_eq!(counted([1, 2, 3]).divide(0), []);
    }

    #[test]
    fn what_lies_before_a_cut_is_exact() {
        let sizes = [3, 1, 4, 1, 5, 9, 2, 6];
        for cut in counted(sizes).divide(5) {
            let at = usize::try_from(numbers(std::slice::from_ref(&cut))[0]).expect("it is small");
            let size_bytes = sizes[..at].iter().sum();
            assert_eq!(cut.before, RegionSize { size_bytes, key_count: at as u64 });
        }
    }

    #[test]
    fn many_keys_are_divided_into_nearly_equal_parts() {
        // Pairs of all sizes, in no order.
        let sizes: Vec<u64> = (0..100_000_u64).map(|number| 20 + number * 7_919 % 1_000).collect();
        let counted = counted(sizes.iter().copied());
        assert_eq!(counted.size, RegionSize { size_bytes: sizes.iter().sum(), key_count: 100_000 });
        assert!(counted.cuts.len() < CUTS_MAX, "memory is bounded");
        for part_count in [2, 3, 7, 32] {
            let cuts = counted.divide(part_count);
            assert_eq!(cuts.len() as u64, part_count - 1);
            let ends = cuts.iter().map(|cut| cut.before.size_bytes).chain([counted.size.size_bytes]);
            let mut start = 0;
            for end in ends {
                let part = (end - start) * part_count;
                let off = part.abs_diff(counted.size.size_bytes) * 100 / counted.size.size_bytes;
                assert!(off <= 2 * part_count, "a part of {part_count} is {off} % off");
                start = end;
            }
        }
    }
}
