//! What a write costs the engines: `cargo run --release -p engine_rocks --example write_path [FOLDER]`.
//!
//! One thread drives three stores, as if each had a replica of every region: each batch is synced on all three in turn.
//! Printed are the CPU time of the whole process per entry, on all three stores together (RocksDB's own threads
//! included), and the time of one synced batch on one store.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures, and prints what it measured"
)]

use std::{
    env,
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{KvBatch, KvEngine, LogBatch, LogEngine, LogWrite, RaftState};
use engine_rocks::{Options, RocksKv, RocksLog};
use rustix::time::{ClockId, clock_gettime};
use types::{Entry, EntryKind, HardState, Index, LogPosition, PeerId, RegionId, Term};

const STORE_COUNT: u64 = 3;
const REGION_COUNT: u64 = 16;
const PAYLOAD_LEN: usize = 256;
const ENTRY_COUNT: u64 = 300_000;
/// Entries between two flushes of the KV and truncations of the log: half the log's memtables.
const ENTRIES_PER_FLUSH: u64 = 400_000;

/// One store's engines.
struct Store {
    log: RocksLog,
    kv: Option<RocksKv>,
}

/// Where the regions' logs are.
struct Logs {
    last: Vec<LogPosition>,
    truncated: Vec<Index>,
    payload: Bytes,
}

fn main() -> Result<(), Box<dyn Error>> {
    let parent = env::args_os().nth(1).map_or_else(env::temp_dir, Into::into);
    println!("three stores, {REGION_COUNT} regions, payloads of {PAYLOAD_LEN} bytes, {}", parent.display());
    for has_kv in [false, true] {
        for batch_len in [128, 1_024] {
            let folder = tempfile::tempdir_in(&parent)?;
            measure(folder.path(), batch_len, has_kv)?;
        }
    }
    Ok(())
}

fn measure(folder: &Path, batch_len: u64, has_kv: bool) -> Result<(), Box<dyn Error>> {
    let options = Options::default();
    let open = |number: u64| -> engine::Result<Store> {
        let kv = has_kv.then(|| RocksKv::open(&folder.join(format!("kv{number}")), &options)).transpose()?;
        Ok(Store { log: RocksLog::open(&folder.join(format!("log{number}")), &options)?, kv })
    };
    let stores = (0..STORE_COUNT).map(open).collect::<engine::Result<Vec<_>>>()?;
    let mut logs = Logs::new();
    let mut flushed_count = 0;
    let (cpu_before, before) = (cpu_time(), Instant::now());
    let mut entry_count = 0;
    while entry_count < ENTRY_COUNT * if batch_len > 500 { 4 } else { 1 } {
        let is_flush_due = entry_count - flushed_count >= ENTRIES_PER_FLUSH;
        let log_batch = logs.next_batch(batch_len, is_flush_due);
        let kv_batch = kv_batch(&log_batch);
        for store in &stores {
            store.log.write(&log_batch, true)?;
            if let Some(kv) = &store.kv {
                kv.write(&kv_batch)?;
                if is_flush_due {
                    kv.flush()?;
                }
            }
        }
        entry_count += batch_len;
        flushed_count = if is_flush_due { entry_count } else { flushed_count };
    }
    let (cpu, elapsed) = (cpu_time() - cpu_before, before.elapsed());
    let per_entry = |time: Duration| time.as_secs_f64() * 1e6 / entry_count as f64;
    println!(
        "{}, {batch_len} entries a batch: {:.1} µs of CPU per entry, {:.0} µs per synced batch, {:.0} entries/s",
        if has_kv { "log and KV" } else { "log only" },
        per_entry(cpu),
        per_entry(elapsed) * batch_len as f64 / STORE_COUNT as f64,
        entry_count as f64 / elapsed.as_secs_f64(),
    );
    Ok(())
}

impl Logs {
    fn new() -> Logs {
        let begin = LogPosition { index: Index(1), term: Term(1), ..LogPosition::default() };
        let regions = usize::try_from(REGION_COUNT).unwrap_or(0);
        let payload =
            (0..PAYLOAD_LEN).map(|at| u8::try_from(at * 151 % 251).unwrap_or(0)).collect::<Vec<_>>();
        Logs { last: vec![begin; regions], truncated: vec![Index(1); regions], payload: payload.into() }
    }

    /// The next entries of every region, and their Raft states.
    fn next_batch(&mut self, batch_len: u64, is_truncated: bool) -> LogBatch {
        let per_region = batch_len / REGION_COUNT;
        let regions = (1..=REGION_COUNT).zip(self.last.iter_mut().zip(&mut self.truncated));
        let writes = regions.map(|(region, (last, truncated))| {
            let previous = *last;
            let entry = |_| {
                let index = last.index.next();
                let chain = last.chain.link(index, Term(1), EntryKind::Command, &self.payload);
                *last = LogPosition { index, term: Term(1), chain };
                Entry { index, term: Term(1), kind: EntryKind::Command, payload: self.payload.clone(), chain }
            };
            let entries = (0..per_region).map(entry).collect();
            let raft_state = RaftState {
                peer_id: PeerId(region),
                hard_state: HardState { term: Term(1), vote: None, commit: previous.index },
                last: *last,
                ..RaftState::default()
            };
            let truncate_from = truncated.next();
            if is_truncated {
                *truncated = previous.index;
            }
            LogWrite {
                region_id: RegionId(region),
                entries,
                previous_last_index: previous.index,
                raft_state: Some(raft_state),
                truncate_to: is_truncated.then_some(previous.index),
                truncate_from,
                truncated_bytes: 0,
                is_cleared: false,
            }
        });
        LogBatch { writes: writes.collect(), ..LogBatch::default() }
    }
}

/// What applying the entries writes: 16-byte keys spread over the key space, and each region's applied index.
fn kv_batch(batch: &LogBatch) -> KvBatch {
    let mut rows = KvBatch::new();
    for write in &batch.writes {
        let region = write.region_id.0.to_be_bytes();
        for entry in &write.entries {
            let spread = entry.index.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            rows.put(&[&region, &spread], &[&entry.payload]);
        }
        let last = write.entries.last().map_or(0, |entry| entry.index.0);
        rows.put(&[b"applied", &region], &[&last.to_be_bytes()]);
    }
    rows
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
