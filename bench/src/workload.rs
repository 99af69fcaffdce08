//! Keys, values and the order of operations, all from one seed.

use bytes::{BufMut, Bytes, BytesMut};
use client::core::Work;
use types::Pair;

use crate::{
    distribution::{Chooser, Distribution},
    limits::VALUE_POOL_BYTES,
    random::Random,
};

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
}

/// One operation to carry out.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Bytes of its key and value.
    pub(crate) size_bytes: u64,
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
        if self.value_bytes > VALUE_POOL_BYTES {
            return Err(format!("--value-size must be {VALUE_POOL_BYTES} at the most"));
        }
        Ok(())
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
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.digits();
        let number = match self.key_order {
            KeyOrder::Hashed => scatter(number, 4 * u32::try_from(digits).expect("16 at the most")),
            KeyOrder::Ordered => number,
        };
        let mut key = BytesMut::with_capacity(self.key_bytes);
        for digit in (0..digits).rev() {
            key.put_u8(DIGITS[usize::try_from((number >> (4 * digit)) & 15).expect("four bits")]);
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
        let key = self.workload.key(number);
        let key_bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
        if is_get {
            return Operation { kind: Kind::Get, size_bytes: key_bytes, work: Work::Get { key } };
        }
        let value = self.value();
        let size_bytes = key_bytes + u64::try_from(value.len()).unwrap_or(u64::MAX);
        Operation { kind: Kind::Put, size_bytes, work: Work::Put(Pair { key, value, ttl_seconds: 0 }) }
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
