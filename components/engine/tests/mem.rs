//! The disk in memory passes the suite, whatever it keeps of what a crash may take.

use std::sync::Arc;

use engine::{KvEngine, LogEngine, conformance::Fixture, mem::MemDisk};

/// A disk whose crashes draw from a small generator.
struct MemFixture {
    disk: MemDisk,
    seed: u64,
}

impl Fixture for MemFixture {
    fn open(&mut self) -> (Arc<dyn LogEngine>, Arc<dyn KvEngine>) {
        self.disk.open()
    }

    fn crash(&mut self) {
        let mut draw = |bound: u64| {
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.seed >> 33) % bound
        };
        self.disk.crash(&mut draw);
    }
}

mod crash_by_seed_1 {
    engine::conformance_suite!(|| super::MemFixture { disk: super::MemDisk::new(), seed: 1 });
}

mod crash_by_seed_2 {
    engine::conformance_suite!(|| super::MemFixture { disk: super::MemDisk::new(), seed: 2 });
}
