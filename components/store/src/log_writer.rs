//! Group commit across regions and workers (D4): one write and one fsync for everything that is queued.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor::{Now, Worker};
use engine::LogBatch;
use types::{Instant, RegionId};

use crate::{message::RaftMail, outbox::Outbox, shared::Shared};

/// What one round of one worker wants durable.
#[derive(Default)]
pub(crate) struct LogTask {
    /// Which raft worker is told.
    pub(crate) worker: usize,
    /// What is written.
    pub(crate) batch: LogBatch,
    /// Whether it must be durable before `persisted` and `messages` go out.
    pub(crate) is_synced: bool,
    /// The newest Ready of each region that is durable then.
    pub(crate) persisted: Vec<(RegionId, u64)>,
    /// Lifecycle records in `batch`, with the regions that wait for them.
    pub(crate) recorded: Vec<(RegionId, u64)>,
    /// Votes and acknowledgements: they say that something is durable.
    pub(crate) messages: Outbox,
}

/// The actor that writes logs.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
}

impl LogWriter {
    pub(crate) fn new(shared: Arc<Shared>) -> LogWriter {
        LogWriter { shared }
    }
}

impl Worker for LogWriter {
    type Mail = LogTask;

    fn round(&mut self, _: Now, mail: &mut Vec<LogTask>) {
        if mail.is_empty() {
            return;
        }
        let mut joined = join(mail);
        // 1. One write, one fsync.
        if !joined.batch.is_empty() {
            let began = self.shared.clock.monotonic();
            let result = self.shared.log.write(&joined.batch, joined.is_synced);
            if self.shared.or_fatal("write the log", result).is_none() {
                return;
            }
            count(&joined, self.shared.clock.monotonic().since(began));
        }
        // 2. What says so may leave.
        joined.messages.send(&*self.shared.transport);
        // 3. The workers learn it.
        for (worker, persisted) in joined.persisted {
            self.shared.router.raft[worker].send(RaftMail::Persisted(persisted));
        }
        // Behind what was persisted before them: a peer that ends hears of nothing later.
        for (worker, recorded) in joined.recorded {
            self.shared.router.raft[worker].send(RaftMail::Recorded(recorded));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

struct Joined {
    batch: LogBatch,
    is_synced: bool,
    persisted: BTreeMap<usize, Vec<(RegionId, u64)>>,
    recorded: BTreeMap<usize, Vec<(RegionId, u64)>>,
    messages: Outbox,
}

fn join(tasks: &mut Vec<LogTask>) -> Joined {
    let mut joined = Joined {
        batch: LogBatch::default(),
        is_synced: false,
        persisted: BTreeMap::new(),
        recorded: BTreeMap::new(),
        messages: Outbox::default(),
    };
    for task in tasks.drain(..) {
        joined.batch.writes.extend(task.batch.writes);
        joined.batch.records.extend(task.batch.records);
        joined.batch.records_removed.extend(task.batch.records_removed);
        joined.batch.local_rows.extend(task.batch.local_rows);
        joined.batch.ident = task.batch.ident.or(joined.batch.ident);
        joined.is_synced |= task.is_synced;
        if !task.persisted.is_empty() {
            joined.persisted.entry(task.worker).or_default().extend(task.persisted);
        }
        if !task.recorded.is_empty() {
            joined.recorded.entry(task.worker).or_default().extend(task.recorded);
        }
        joined.messages.absorb(task.messages);
    }
    keep_newest_raft_states(&mut joined.batch);
    joined
}

/// Only the newest Raft state of each region is worth encoding.
fn keep_newest_raft_states(batch: &mut LogBatch) {
    let mut newest = std::collections::BTreeSet::new();
    for write in batch.writes.iter_mut().rev() {
        if write.raft_state.is_some() && !newest.insert(write.region_id) {
            write.raft_state = None;
        }
        if write.is_cleared {
            // What comes before a clearing is overwritten by it, but not the other way round.
            newest.insert(write.region_id);
        }
    }
}

fn count(joined: &Joined, took: Duration) {
    use telemetry::names;
    metrics::counter!(names::LOG_BATCHES).increment(1);
    metrics::counter!(names::LOG_FSYNCS).increment(u64::from(joined.is_synced));
    if joined.is_synced {
        metrics::histogram!(names::LOG_FSYNC_SECONDS).record(took);
    }
    metrics::counter!(names::LOG_REGIONS).increment(joined.batch.writes.len() as u64);
    let entries: usize = joined.batch.writes.iter().map(|write| write.entries.len()).sum();
    metrics::counter!(names::LOG_ENTRIES).increment(entries as u64);
    metrics::counter!(names::LOG_ENTRY_BYTES).increment(joined.batch.entry_bytes() as u64);
    metrics::counter!(names::LIFECYCLE_RECORDS).increment(joined.batch.records.len() as u64);
}
