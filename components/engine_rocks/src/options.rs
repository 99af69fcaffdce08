//! How both databases are opened.

use engine::{Operation, Result};
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode};

use crate::error;

/// Memory for blocks of data read from disk; clones share it.
#[derive(Clone)]
pub struct BlockCache(Cache);

/// How a store's two engines are opened.
#[derive(Clone)]
pub struct Options {
    /// Memory for blocks read; may be shared by every engine of the process.
    pub block_cache: BlockCache,
    /// Bytes of one memtable of the log. Most entries are truncated before theirs is full, and never reach a file.
    pub log_memtable_bytes: usize,
    /// Memtables of the log, the one being written included, before writers wait for flushes.
    pub log_memtable_count: u8,
    /// Bytes of one memtable of the KV.
    pub kv_memtable_bytes: usize,
    /// Memtables of the KV, the one being written included, before writers wait for flushes.
    pub kv_memtable_count: u8,
    /// Files that each engine keeps open at the most, apart from a dozen of its own.
    pub open_files_max: u16,
}

impl BlockCache {
    /// A cache of at most `capacity_bytes`.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> BlockCache {
        BlockCache(Cache::new_lru_cache(capacity_bytes))
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            block_cache: BlockCache::new(256 << 20),
            log_memtable_bytes: 64 << 20,
            log_memtable_count: 4,
            kv_memtable_bytes: 64 << 20,
            kv_memtable_count: 4,
            // Three stores of a demo in one process stay below the usual limit of 1,024.
            open_files_max: 100,
        }
    }
}

impl Options {
    /// How the log is opened.
    pub(crate) fn log(&self) -> Result<rocksdb::Options> {
        // A row's place in the memtable is searched from that of the last row with the same nine bytes (kind and region)
        // on, as entries are appended. This takes a quarter off the CPU time of small batches.
        let mut options = self.shared("memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.9")?;
        // RocksDB's default would drop everything behind the first damage, of every region, and say nothing.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_recycle_log_file_num(0);
        options.set_manual_wal_flush(false);
        // One thread writes: locks and waits for the sake of several only cost.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_pipelined_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        // `RocksLog` changes memtables itself, before this is reached (see there).
        options.set_write_buffer_size(self.log_memtable_bytes.saturating_mul(2));
        options.set_max_write_buffer_number(self.log_memtable_count.into());
        let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
        options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
        options.set_block_based_table_factory(&self.table());
        Ok(options)
    }

    /// How the KV is opened.
    pub(crate) fn kv(&self) -> Result<rocksdb::Options> {
        let mut options = self.staged()?;
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        Ok(options)
    }

    /// How staged files are written: without the compression of the last level, which takes more than half of the time
    /// of the thread that receives them. Compactions see to it when they come to these files.
    pub(crate) fn staged(&self) -> Result<rocksdb::Options> {
        // Without this a drop would flush. It would do no harm, but a stop that was not graceful had better be the same
        // as a crash in every respect that tests can see. The other bound keeps reads fast among many deleted ranges.
        let mut options =
            self.shared("avoid_flush_during_shutdown=true;memtable_max_range_deletions=2000")?;
        options.set_write_buffer_size(self.kv_memtable_bytes);
        options.set_max_write_buffer_number(self.kv_memtable_count.into());
        options.set_compression_type(DBCompressionType::Lz4);
        let mut table = self.table();
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        options.set_block_based_table_factory(&table);
        Ok(options)
    }

    fn shared(&self, extra: &str) -> Result<rocksdb::Options> {
        let mut options = rocksdb::Options::default()
            .get_options_from_string(extra)
            .map_err(|failure| error::of(Operation::Open, failure))?;
        options.create_if_missing(true);
        options.set_max_open_files(self.open_files_max.into());
        options.set_bytes_per_sync(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_skip_stats_update_on_db_open(true);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 << 20);
        Ok(options)
    }

    fn table(&self) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_block_size(16 << 10);
        table.set_block_cache(&self.block_cache.0);
        // Index and filter blocks count against the cache, so that memory stays bounded however many files there are.
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table
    }
}
