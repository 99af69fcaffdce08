//! Keys, values and the order of operations, all from one seed.

use bytes::{BufMut, Bytes, BytesMut};
use client::core::Work;
use types::Pair;

use crate::{
    distribution::{Chooser, Distribution},
    limits::VALUE_POOL_BYTES,
    random::Random,
};

/// Digits that keys must have to be squeezed into a few parts: there are keys enough in each then.
const SCALED_DIGITS_MIN: usize = 12;

/// What is measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Writes of one key.
    Put,
    /// Reads of one key.
    Get,
}

impl Kind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Get => "get",
        }
    }
}

/// Whether neighbours in number are neighbours in the keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyOrder {
    /// No: keys are spread over the whole keyspace.
    Hashed,
    /// Yes.
    Ordered,
}

/// What keys and values look like and which come how often.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) get_fraction: f64,
    pub(crate) key_count: u64,
    pub(crate) key_bytes: usize,
    pub(crate) key_order: KeyOrder,
    pub(crate) value_bytes: usize,
    pub(crate) distribution: Distribution,
    pub(crate) seed: u64,
    /// Equal parts of the keyspace, of which each is a region; one: nothing is known of regions.
    pub(crate) region_count: u64,
    /// Parts that get operations, evenly among the others.
    pub(crate) active_count: u64,
}

/// One operation to carry out.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Bytes of its key and value.
    pub(crate) size_bytes: u64,
    /// The part of the keyspace that its key lies in.
    pub(crate) part: usize,
    pub(crate) work: Work,
}

/// The source of operations.
pub(crate) struct Generator {
    workload: Workload,
    chooser: Chooser,
    random: Random,
    /// Random bytes; values are slices of it, so that they cost nothing to make and nothing compresses them.
    pool: Bytes,
}

impl Workload {
    /// What makes it impossible.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.key_count == 0 {
            return Err("--keys must be one at least".to_owned());
        }
        if self.key_count > self.domain() {
            let digits = format!("{:x}", self.key_count - 1).len();
            return Err(format!("--key-len must be {digits} at least for {} different keys", self.key_count));
        }
        if self.region_count == 0 || self.region_count > self.places() {
            return Err(format!("--regions must be from 1 to {}, the number of keys", self.places()));
        }
        if self.active_count == 0 || self.active_count > self.region_count {
            return Err("--active must be from 1 to --regions".to_owned());
        }
        let is_scaled = self.active_count < self.region_count;
        if is_scaled && (self.key_order != KeyOrder::Hashed || self.digits() < SCALED_DIGITS_MIN) {
            return Err(format!(
                "--active needs --key-order hashed and --key-len {SCALED_DIGITS_MIN}: other keys are too few in a part"
            ));
        }
        if self.value_bytes > VALUE_POOL_BYTES {
            return Err(format!("--value-size must be {VALUE_POOL_BYTES} at the most"));
        }
        Ok(())
    }

    /// The keys at which regions begin, the first one's left out: they divide the keyspace evenly.
    pub(crate) fn boundaries(&self) -> Vec<Bytes> {
        (1..self.region_count).map(|part| self.spell(self.place_of_part(part))).collect()
    }

    /// How many places there are, from the first key to the last.
    fn places(&self) -> u64 {
        match self.key_order {
            KeyOrder::Hashed => self.domain(),
            KeyOrder::Ordered => self.key_count,
        }
    }

    /// The first place of a part. A place lies in the last part that does not begin behind it.
    fn place_of_part(&self, part: u64) -> u64 {
        let place = (u128::from(self.places()) * u128::from(part)).div_ceil(u128::from(self.region_count));
        u64::try_from(place).unwrap_or(u64::MAX)
    }

    /// The part that a place lies in.
    fn part_of(&self, place: u64) -> usize {
        let part = u128::from(place) * u128::from(self.region_count) / u128::from(self.places());
        usize::try_from(part).unwrap_or(usize::MAX)
    }

    /// The place of the key with a number: squeezed into the active parts, where these are not all.
    fn place(&self, number: u64) -> u64 {
        let place = match self.key_order {
            KeyOrder::Hashed => scatter(number, 4 * u32::try_from(self.digits()).expect("16 at the most")),
            KeyOrder::Ordered => number,
        };
        if self.active_count == self.region_count {
            return place;
        }
        let places = u128::from(self.places());
        let (place, active) = (u128::from(place), u128::from(self.active_count));
        let turn = place * active / places;
        let into_turn = place - (turn * places).div_ceil(active);
        let part = u64::try_from(turn * u128::from(self.region_count) / active).unwrap_or(0);
        let squeezed = into_turn * active / u128::from(self.region_count);
        let first = self.place_of_part(part);
        // Rounding must not lead out of the part.
        (first + u64::try_from(squeezed).unwrap_or(0)).min(self.last_place_of(part))
    }

    fn last_place_of(&self, part: u64) -> u64 {
        if part + 1 == self.region_count { self.places() - 1 } else { self.place_of_part(part + 1) - 1 }
    }

    /// How many different keys of the given length there are, in hexadecimal digits.
    fn domain(&self) -> u64 {
        16_u64.checked_pow(u32::try_from(self.digits()).expect("16 at the most")).unwrap_or(u64::MAX)
    }

    fn digits(&self) -> usize {
        self.key_bytes.min(16)
    }

    /// The key with a number.
    pub(crate) fn key(&self, number: u64) -> Bytes {
        self.spell(self.place(number))
    }

    /// The key at a place.
    fn spell(&self, place: u64) -> Bytes {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.digits();
        let mut key = BytesMut::with_capacity(self.key_bytes);
        for digit in (0..digits).rev() {
            key.put_u8(DIGITS[usize::try_from((place >> (4 * digit)) & 15).expect("four bits")]);
        }
        key.put_bytes(b'-', self.key_bytes - digits);
        key.freeze()
    }
}

/// A permutation of the numbers of so many bits: an odd factor permutes them, and so does a shift to the right that is
/// XOR-ed in; together they leave no neighbours together.
fn scatter(number: u64, bits: u32) -> u64 {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let mut mixed = number & mask;
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb, 0x9e37_79b9_7f4a_7c15] {
        mixed = mixed.wrapping_mul(factor) & mask;
        mixed ^= mixed >> (bits / 2);
    }
    mixed
}

impl Generator {
    pub(crate) fn new(workload: Workload) -> Generator {
        let mut random = Random::new(workload.seed);
        let mut pool = BytesMut::with_capacity(VALUE_POOL_BYTES);
        while pool.len() < VALUE_POOL_BYTES {
            pool.put_u64(random.next());
        }
        let chooser = Chooser::new(workload.distribution, workload.key_count);
        Generator { workload, chooser, random, pool: pool.freeze() }
    }

    /// The next operation.
    pub(crate) fn next(&mut self) -> Operation {
        let is_get = self.workload.get_fraction > 0.0 && self.random.fraction() < self.workload.get_fraction;
        let number = self.chooser.next(&mut self.random, !is_get);
        let place = self.workload.place(number);
        let (key, part) = (self.workload.spell(place), self.workload.part_of(place));
        let key_bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
        if is_get {
            return Operation { kind: Kind::Get, size_bytes: key_bytes, part, work: Work::Get { key } };
        }
        let value = self.value();
        let size_bytes = key_bytes + u64::try_from(value.len()).unwrap_or(u64::MAX);
        Operation { kind: Kind::Put, size_bytes, part, work: Work::Put(Pair { key, value, ttl_seconds: 0 }) }
    }

    /// Pairs with the keys of these numbers, for the preload.
    pub(crate) fn pairs(&mut self, numbers: std::ops::Range<u64>) -> Work {
        let pair = |number| Pair { key: self.workload.key(number), value: self.value(), ttl_seconds: 0 };
        Work::BatchPut { pairs: numbers.map(pair).collect() }
    }

    fn value(&mut self) -> Bytes {
        let len = self.workload.value_bytes;
        let spare = u64::try_from(self.pool.len() - len).unwrap_or(u64::MAX);
        let from = usize::try_from(self.random.below(spare + 1)).expect("it is an offset into the pool");
        self.pool.slice(from..from + len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn workload(key_bytes: usize, key_count: u64, key_order: KeyOrder) -> Workload {
        Workload {
            get_fraction: 0.5,
            key_count,
            key_bytes,
            key_order,
            value_bytes: 100,
            distribution: Distribution::Uniform,
            seed: 1,
            region_count: 1,
            active_count: 1,
        }
    }

    #[test]
    fn parts_are_even_and_named_by_their_boundaries() {
        for (key_bytes, key_order) in
            [(16, KeyOrder::Hashed), (12, KeyOrder::Hashed), (16, KeyOrder::Ordered)]
        {
            let workload =
                Workload { region_count: 300, active_count: 300, ..workload(key_bytes, 60_000, key_order) };
            workload.check().unwrap();
            let boundaries = workload.boundaries();
            assert_eq!(boundaries.len(), 299);
            assert!(boundaries.is_sorted());
            let mut counts = vec![0; 300];
            for number in 0..60_000 {
                let place = workload.place(number);
                let part = boundaries.partition_point(|boundary| *boundary <= workload.spell(place));
                assert_eq!(part, workload.part_of(place));
                counts[part] += 1;
            }
            assert!(counts.iter().all(|count| (120..300).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn active_parts_get_everything_and_lie_apart() {
        let workload =
            Workload { region_count: 10_000, active_count: 10, ..workload(16, 20_000, KeyOrder::Hashed) };
        workload.check().unwrap();
        let mut counts = std::collections::BTreeMap::new();
        let mut keys = BTreeSet::new();
        for number in 0..20_000 {
            *counts.entry(workload.part_of(workload.place(number))).or_insert(0) += 1;
            keys.insert(workload.key(number));
        }
        assert_eq!(keys.len(), 20_000, "keys stay different");
        assert!(counts.keys().copied().eq((0..10).map(|turn| turn * 1_000)), "{counts:?}");
        assert!(counts.values().all(|count| (1_600..2_400).contains(count)), "{counts:?}");
        for wrong in [
            Workload { active_count: 11_000, ..workload.clone() },
            Workload { active_count: 0, ..workload.clone() },
            Workload { region_count: 0, ..workload.clone() },
            Workload { key_bytes: 4, ..workload.clone() },
            Workload { key_order: KeyOrder::Ordered, ..workload },
        ] {
            wrong.check().unwrap_err();
        }
    }

    #[test]
    fn different_numbers_have_different_keys_of_the_given_length() {
        for (key_bytes, key_count) in [(1, 16), (3, 4_096), (8, 20_000), (16, 20_000), (40, 20_000)] {
            for key_order in [KeyOrder::Hashed, KeyOrder::Ordered] {
                let workload = workload(key_bytes, key_count, key_order);
                workload.check().unwrap();
                let keys: BTreeSet<_> = (0..key_count).map(|number| workload.key(number)).collect();
                assert_eq!(keys.len(), usize::try_from(key_count).unwrap());
                assert!(keys.iter().all(|key| key.len() == key_bytes));
                let is_sorted = (0..key_count).map(|number| workload.key(number)).is_sorted();
                assert_eq!(is_sorted, key_order == KeyOrder::Ordered);
            }
        }
        workload(3, 4_097, KeyOrder::Hashed).check().unwrap_err();
        workload(3, 0, KeyOrder::Hashed).check().unwrap_err();
    }

    #[test]
    fn hashed_keys_fill_the_keyspace_evenly() {
        let workload = workload(16, 100_000, KeyOrder::Hashed);
        let mut buckets = [0_u32; 16];
        for number in 0..100_000 {
            let digit = char::from(workload.key(number)[0]).to_digit(16).unwrap();
            buckets[digit as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (5_500..7_000).contains(count)), "{buckets:?}");
    }

    #[test]
    fn a_seed_fixes_every_operation() {
        let mut left = Generator::new(workload(16, 1_000, KeyOrder::Hashed));
        let mut right = Generator::new(workload(16, 1_000, KeyOrder::Hashed));
        let mut get_count = 0;
        for _ in 0..2_000 {
            let (one, other) = (left.next(), right.next());
            assert_eq!(one.work, other.work);
            get_count += u32::from(one.kind == Kind::Get);
        }
        assert!((900..1_100).contains(&get_count));
    }
}
