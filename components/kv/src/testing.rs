//! What the tests of this crate share: an engine with some pairs, and reproducible random numbers.

use std::sync::Arc;

use engine::{KvBatch, KvEngine, mem::MemDisk};

/// An engine in memory that holds these engine keys and values.
pub(crate) fn engine_with<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Arc<dyn KvEngine> {
    let (_, engine) = MemDisk::new().open();
    for (key, value) in pairs {
        put(engine.as_ref(), key, value);
    }
    engine
}

pub(crate) fn put(engine: &dyn KvEngine, key: &[u8], value: &[u8]) {
    let mut batch = KvBatch::new();
    batch.put(&[key], &[value]);
    engine.write(&batch).unwrap();
}

/// A sequence of numbers that depends on the seed only (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn byte_below(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(u64::from(bound))).unwrap()
    }
}
