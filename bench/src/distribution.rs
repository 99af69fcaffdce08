//! Which key comes next.

use std::{fmt, str::FromStr};

use crate::random::Random;

/// How often each key is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// All alike.
    Uniform,
    /// The key of rank k in proportion to k^-theta.
    Zipfian { theta: f64 },
    /// One after the other, then from the beginning.
    Sequential,
    /// Reads prefer the newest writes, with a zipfian distribution of 0.99; writes go one after the other.
    Latest,
    /// A fraction of the keys gets a fraction of the operations.
    Hotspot { key_fraction: f64, operation_fraction: f64 },
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Distribution, String> {
        let (name, parameter) = text.split_once(':').unwrap_or((text, ""));
        let fraction = |text: &str| {
            let number = text.parse::<f64>().map_err(|error| format!("{text:?}: {error}"))?;
            if number > 0.0 && number < 1.0 {
                Ok(number)
            } else {
                Err(format!("{text} is not between 0 and 1"))
            }
        };
        match (name, parameter) {
            ("uniform", "") => Ok(Distribution::Uniform),
            ("sequential", "") => Ok(Distribution::Sequential),
            ("latest", "") => Ok(Distribution::Latest),
            ("zipfian", "") => Ok(Distribution::Zipfian { theta: 0.99 }),
            ("zipfian", theta) => Ok(Distribution::Zipfian { theta: fraction(theta)? }),
            ("hotspot", "") => Ok(Distribution::Hotspot { key_fraction: 0.2, operation_fraction: 0.8 }),
            ("hotspot", both) => {
                let (keys, operations) = both.split_once('/').ok_or("hotspot wants KEYS/OPERATIONS")?;
                let (key_fraction, operation_fraction) = (fraction(keys)?, fraction(operations)?);
                Ok(Distribution::Hotspot { key_fraction, operation_fraction })
            }
            _ => Err("it is uniform, zipfian[:0.99], sequential, latest or hotspot[:0.2/0.8]".to_owned()),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => f.write_str("uniform"),
            Distribution::Zipfian { theta } => write!(f, "zipfian:{theta}"),
            Distribution::Sequential => f.write_str("sequential"),
            Distribution::Latest => f.write_str("latest"),
            Distribution::Hotspot { key_fraction, operation_fraction } => {
                write!(f, "hotspot:{key_fraction}/{operation_fraction}")
            }
        }
    }
}

/// Chooses keys, as numbers below `key_count`.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    key_count: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipfian(Zipf),
    Sequential { next: u64 },
    Latest { zipf: Zipf, newest: u64 },
    Hotspot { hot_count: u64, operation_fraction: f64 },
}

impl Chooser {
    /// `key_count` must not be zero.
    pub(crate) fn new(distribution: Distribution, key_count: u64) -> Chooser {
        assert!(key_count > 0);
        let kind = match distribution {
            Distribution::Uniform => Kind::Uniform,
            Distribution::Zipfian { theta } => Kind::Zipfian(Zipf::new(key_count, theta)),
            Distribution::Sequential => Kind::Sequential { next: 0 },
            Distribution::Latest => Kind::Latest { zipf: Zipf::new(key_count, 0.99), newest: key_count - 1 },
            Distribution::Hotspot { key_fraction, operation_fraction } => {
                let hot_count = floor(float(key_count) * key_fraction).clamp(1, key_count);
                Kind::Hotspot { hot_count, operation_fraction }
            }
        };
        Chooser { key_count, kind }
    }

    /// The next key for a write or a read.
    pub(crate) fn next(&mut self, random: &mut Random, is_write: bool) -> u64 {
        let key_count = self.key_count;
        match &mut self.kind {
            Kind::Uniform => random.below(key_count),
            Kind::Zipfian(zipf) => zipf.next(random),
            Kind::Sequential { next } => {
                let key = *next;
                *next = (key + 1) % key_count;
                key
            }
            Kind::Latest { newest, .. } if is_write => {
                *newest = (*newest + 1) % key_count;
                *newest
            }
            Kind::Latest { zipf, newest } => (*newest + key_count - zipf.next(random)) % key_count,
            Kind::Hotspot { hot_count, operation_fraction } => {
                let cold_count = key_count - *hot_count;
                if cold_count == 0 || random.fraction() < *operation_fraction {
                    random.below(*hot_count)
                } else {
                    *hot_count + random.below(cold_count)
                }
            }
        }
    }
}

/// Zipfian ranks in constant time (Gray et al., "Quickly generating billion-record synthetic databases", 1994).
#[derive(Clone, Debug)]
struct Zipf {
    count: u64,
    zeta: f64,
    /// Where the second rank ends, on the scale of `zeta`.
    second_end: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64, theta: f64) -> Zipf {
        let zeta = zeta(count, theta);
        let second_end = 1.0 + 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / float(count)).powf(1.0 - theta)) / (1.0 - second_end / zeta);
        Zipf { count, zeta, second_end, alpha: 1.0 / (1.0 - theta), eta }
    }

    fn next(&self, random: &mut Random) -> u64 {
        let fraction = random.fraction();
        let at = fraction * self.zeta;
        if at < 1.0 || self.count == 1 {
            return 0;
        }
        if at < self.second_end {
            return 1;
        }
        let rank = float(self.count) * (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        floor(rank).min(self.count - 1)
    }
}

/// The sum of k^-theta for k from 1 to `count`: its first terms exactly, the rest by the Euler–Maclaurin formula, so that
/// a billion keys cost no more than ten thousand.
fn zeta(count: u64, theta: f64) -> f64 {
    const EXACT: u64 = 10_000;
    let exact: f64 = (1..=count.min(EXACT)).map(|k| float(k).powf(-theta)).sum();
    if count <= EXACT {
        return exact;
    }
    let (from, to) = (float(EXACT), float(count));
    let integral = (to.powf(1.0 - theta) - from.powf(1.0 - theta)) / (1.0 - theta);
    exact + integral + (to.powf(-theta) - from.powf(-theta)) / 2.0
}

#[expect(clippy::cast_precision_loss, reason = "numbers of keys are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a floor, of no negative number"
)]
fn floor(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 400_000;

    fn counts(distribution: &str, key_count: u64) -> Vec<u32> {
        let mut chooser = Chooser::new(distribution.parse().unwrap(), key_count);
        let mut random = Random::new(7);
        let mut counts = vec![0; usize::try_from(key_count).unwrap()];
        for _ in 0..DRAWS {
            counts[usize::try_from(chooser.next(&mut random, false)).unwrap()] += 1;
        }
        counts
    }

    /// Pearson's statistic over the cells that are expected to be hit.
    fn chi_square(counts: &[u32], expected: impl Fn(usize) -> f64) -> f64 {
        counts
            .iter()
            .enumerate()
            .map(|(at, count)| (f64::from(*count) - expected(at)).powi(2) / expected(at))
            .sum()
    }

    #[test]
    fn uniform_is_uniform() {
        let counts = counts("uniform", 100);
        // 99 degrees of freedom: 148 is exceeded once in a thousand seeds.
        let statistic = chi_square(&counts, |_| f64::from(DRAWS) / 100.0);
        assert!(statistic < 148.0, "{statistic}");
    }

    #[test]
    fn zipfian_frequencies_follow_the_law() {
        for theta in [0.5_f64, 0.99] {
            let counts = counts(&format!("zipfian:{theta}"), 1_000);
            let zeta: f64 = (1..=1_000).map(|k| f64::from(k).powf(-theta)).sum();
            for rank in [1_u32, 2, 3, 10, 100] {
                // The method is exact for the first two ranks and an approximation by a continuous law behind them.
                let tolerance = if rank <= 2 { 0.03 } else { 0.3 };
                let expected = f64::from(DRAWS) * f64::from(rank).powf(-theta) / zeta;
                let actual = f64::from(counts[rank as usize - 1]);
                assert!(
                    (actual / expected - 1.0).abs() < tolerance,
                    "theta {theta} rank {rank}: {actual} of {expected}"
                );
            }
        }
    }

    #[test]
    fn zeta_of_many_keys_equals_the_sum() {
        for theta in [0.2, 0.99] {
            let sum: f64 = (1..=300_000_u32).map(|k| f64::from(k).powf(-theta)).sum();
            assert!((zeta(300_000, theta) / sum - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_hotspot_is_hot() {
        let counts = counts("hotspot:0.1/0.7", 1_000);
        let hot: u32 = counts[..100].iter().sum();
        assert!((f64::from(hot) / f64::from(DRAWS) - 0.7).abs() < 0.01);
        assert!(counts.iter().all(|count| *count > 0));
    }

    #[test]
    fn sequential_comes_round() {
        let mut chooser = Chooser::new(Distribution::Sequential, 3);
        let mut random = Random::new(1);
        let keys: Vec<_> = (0..7).map(|_| chooser.next(&mut random, true)).collect();
        assert_eq!(keys, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn latest_reads_what_was_just_written() {
        let mut chooser = Chooser::new(Distribution::Latest, 1_000);
        let mut random = Random::new(1);
        for _ in 0..300 {
            chooser.next(&mut random, true);
        }
        // The newest key is number 299; half of the reads go to some thirty keys at and before it.
        let near = (0..10_000).filter(|_| {
            let age = (299 + 1_000 - chooser.next(&mut random, false)) % 1_000;
            age < 30
        });
        let near = near.count();
        assert!((4_500..7_000).contains(&near), "{near}");
    }

    #[test]
    fn one_key_is_enough() {
        let mut random = Random::new(1);
        for name in ["uniform", "zipfian", "sequential", "latest", "hotspot"] {
            let mut chooser = Chooser::new(name.parse().unwrap(), 1);
            for is_write in [true, false] {
                assert_eq!(chooser.next(&mut random, is_write), 0, "{name}");
            }
        }
    }

    #[test]
    fn names_are_checked_and_printed() {
        for text in ["uniform", "zipfian:0.5", "sequential", "latest", "hotspot:0.2/0.8"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipfian:1", "zipfian:x", "uniform:2", "hotspot:0.2", "hotspot:0/1"] {
            text.parse::<Distribution>().unwrap_err();
        }
    }
}
