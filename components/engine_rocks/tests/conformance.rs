//! Both engines on RocksDB pass the suite.

use std::sync::Arc;

use engine::{KvEngine, LogEngine, conformance::Fixture};
use engine_rocks::{BlockCache, Options, RocksKv, RocksLog};
use tempfile::TempDir;

struct RocksFixture {
    folder: TempDir,
    options: Options,
}

impl RocksFixture {
    fn new(options: Options) -> RocksFixture {
        let folder = tempfile::tempdir().expect("the system has room for a folder");
        RocksFixture { folder, options: Options { block_cache: BlockCache::new(8 << 20), ..options } }
    }
}

impl Fixture for RocksFixture {
    fn open(&mut self) -> (Arc<dyn LogEngine>, Arc<dyn KvEngine>) {
        let log = RocksLog::open(&self.folder.path().join("log"), &self.options);
        let kv = RocksKv::open(&self.folder.path().join("kv"), &self.options);
        (Arc::new(log.expect("the log opens")), Arc::new(kv.expect("the KV opens")))
    }

    /// The handles are dropped, and no drop writes anything.
    fn crash(&mut self) {}
}

mod big_memtables {
    engine::conformance_suite!(|| super::RocksFixture::new(super::Options::default()));
}

/// Memtables are changed and written out all the time.
mod small_memtables {
    engine::conformance_suite!(|| super::RocksFixture::new(super::Options {
        log_memtable_bytes: 1 << 10,
        kv_memtable_bytes: 64 << 10,
        ..super::Options::default()
    }));
}
