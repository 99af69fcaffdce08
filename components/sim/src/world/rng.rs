//! One seed, many independent streams: a draw more in one place does not shift the draws of another.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A named stream of draws (SplitMix64: small, and the same on every machine and in every version).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of this name under a seed.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Rng {
        Rng { state: xxh3_64_with_seed(name.as_bytes(), seed) }
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product of two u64 fits into one")
    }

    /// A place in something of this length; zero if it is empty.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("a number below a length fits its type")
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// Whether something that happens `permille` times in a thousand happens now.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.place(of.len())]
    }

    /// A duration between two, each equally likely.
    pub fn duration(&mut self, first: Duration, last: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(first), nanos(last)))
    }

    /// A duration between two whose order of magnitude is drawn first: most are short, and a few are near `last`.
    pub fn skewed(&mut self, first: Duration, last: Duration) -> Duration {
        let (first, last) = (nanos(first).max(1), nanos(last).max(1));
        let doublings = u64::from((last / first).max(1).ilog2());
        let ceiling = first << self.between(0, doublings);
        Duration::from_nanos(self.between(first, ceiling.saturating_mul(2).min(last).max(first)))
    }

    /// Puts a list into a drawn order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.place(at + 1));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_name_and_seed() {
        let first = |seed, name| Rng::new(seed, name).draw();
        assert_eq!(first(1, "network"), first(1, "network"));
        assert_ne!(first(1, "network"), first(1, "disk"));
        assert_ne!(first(1, "network"), first(2, "network"));
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_them() {
        let mut rng = Rng::new(7, "bounds");
        let draws: Vec<_> = (0..1_000).map(|_| rng.between(3, 6)).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&3), Some(&6)));
        let (short, long) = (Duration::from_micros(10), Duration::from_millis(100));
        let skewed: Vec<_> = (0..1_000).map(|_| rng.skewed(short, long)).collect();
        assert!(skewed.iter().all(|drawn| (short..=long).contains(drawn)));
        assert!(skewed.iter().any(|drawn| *drawn < short * 10));
        assert!(skewed.iter().any(|drawn| *drawn > long / 4));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut list: Vec<_> = (0..50).collect();
        Rng::new(3, "shuffle").shuffle(&mut list);
        assert_ne!(list, (0..50).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
    }
}
