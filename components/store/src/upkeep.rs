//! Upkeep of a store's disk: flushes the KV engine, lets go of what a flush made unnecessary, and watches free space.

use std::{sync::Arc, time::Duration};

use actor::{Now, Worker};
use engine::{LifecycleChange, LifecycleRecord, LogBatch};
use kv::keys;
use telemetry::names;
use types::Instant;

use crate::{
    ledger::Account,
    lifecycle::clearing,
    limits::{DISK_CHECK_INTERVAL, DISK_CHECK_INTERVAL_LOW, FLUSH_INTERVAL, SPACE_AMPLE_BYTES},
    log_writer::LogTask,
    message::{RaftMail, SnapshotMail},
    shared::Shared,
};

/// Mail of the upkeep worker.
pub(crate) enum UpkeepMail {
    /// A lifecycle record has taken effect, un-flushed.
    RecordApplied(Box<LifecycleRecord>),
}

/// The actor for slow disk work that no region waits for.
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    next_check: Instant,
    next_count: Instant,
    last_flush: Instant,
    is_disk_full: bool,
    /// Records whose effect is written; the flush behind it makes them unnecessary.
    applied_records: Vec<LifecycleRecord>,
}

impl Upkeep {
    pub(crate) fn new(shared: Arc<Shared>, applied_records: Vec<LifecycleRecord>) -> Upkeep {
        Upkeep {
            shared,
            next_check: Instant::ZERO,
            next_count: Instant::ZERO,
            last_flush: Instant::ZERO,
            is_disk_full: false,
            applied_records,
        }
    }

    fn flush(&mut self, now: Instant) {
        self.last_flush = now;
        let records = std::mem::take(&mut self.applied_records);
        let began = self.shared.clock.monotonic();
        let result = self.shared.kv.flush();
        if self.shared.or_fatal("flush the data", result).is_none() {
            return;
        }
        metrics::counter!(names::KV_FLUSHES).increment(1);
        metrics::histogram!(names::KV_FLUSH_SECONDS).record(self.shared.clock.monotonic().since(began));
        self.forget(records);
        self.shared.router.broadcast_raft(|| RaftMail::Flushed);
    }

    /// Removes records whose mark is flushed, and then the files that only their replay needed.
    fn forget(&mut self, records: Vec<LifecycleRecord>) {
        let mut removed = Vec::new();
        for record in records {
            let mark = self.shared.kv.get_flushed(&keys::lifecycle_mark_key(record.sequence));
            match self.shared.or_fatal("read a lifecycle mark", mark) {
                Some(Some(_)) => removed.push(record),
                Some(None) => self.applied_records.push(record),
                None => return,
            }
        }
        if removed.is_empty() {
            return;
        }
        let mut batch = LogBatch::default();
        for record in &removed {
            batch.records_removed.push(record.sequence);
            if let LifecycleChange::Destroy { region_id, .. } = &record.change {
                batch.writes.push(clearing(*region_id));
            }
        }
        // Not synced: a record that comes back after a crash finds its mark and is removed again.
        self.shared.router.log_writer.send(LogTask { batch, ..LogTask::default() });
        // Behind the deletion, so that whatever a region's worker now writes comes after it.
        for record in removed {
            match record.change {
                LifecycleChange::Snapshot { files, .. } => {
                    self.shared.router.snapshot.send(SnapshotMail::Finished { files });
                }
                LifecycleChange::Destroy { region_id, peer_id, .. } => {
                    self.shared.router.send_raft(region_id, RaftMail::Ended { region_id, peer_id });
                }
                LifecycleChange::Create { .. } | LifecycleChange::Split { .. } => {}
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes may be off by one in 2^53")]
    fn count(&self, unflushed_bytes: u64) {
        let (log, kv) = (&self.shared.log, &self.shared.kv);
        metrics::gauge!(names::KV_UNFLUSHED_BYTES).set(unflushed_bytes as f64);
        metrics::gauge!(names::KV_DISK_BYTES).set(kv.disk_bytes() as f64);
        metrics::gauge!(names::LOG_DISK_BYTES).set(log.disk_bytes() as f64);
        metrics::gauge!(names::STORE_AVAILABLE_BYTES).set(kv.free_bytes() as f64);
        let ledger = &self.shared.ledger;
        metrics::gauge!(names::LEDGER_LIMIT_BYTES).set(ledger.limit_bytes() as f64);
        for account in Account::ALL {
            metrics::gauge!(names::LEDGER_BYTES, "account" => account.name())
                .set(ledger.account_bytes(account) as f64);
            metrics::counter!(names::LEDGER_REFUSED, "account" => account.name())
                .absolute(ledger.refusal_count(account));
        }
        metrics::gauge!(names::LIFECYCLE_UNFLUSHED).set(self.applied_records.len() as f64);
    }

    /// Looks at the free space; returns when to look again.
    fn check_space(&mut self) -> Duration {
        let reserve = self.shared.config.reserve_bytes;
        let free = self.shared.kv.free_bytes();
        // What is in memory takes its room sooner or later, and is promised already: the reserve comes on top of it.
        let needed = reserve.saturating_add(self.shared.kv.unflushed_bytes());
        // Hysteresis: writes come back only when there is clearly more room than when they were stopped.
        let is_full = if self.is_disk_full { free < needed + reserve / 4 } else { free < needed };
        if is_full != self.is_disk_full {
            self.is_disk_full = is_full;
            tracing::warn!(
                free_bytes = free,
                reserve_bytes = reserve,
                is_full,
                "free space of the data directory"
            );
            self.shared.router.broadcast_raft(|| RaftMail::DiskFull(is_full));
            self.shared.router.snapshot.send(SnapshotMail::DiskFull(is_full));
        }
        if free < needed.saturating_add(SPACE_AMPLE_BYTES) {
            DISK_CHECK_INTERVAL_LOW
        } else {
            DISK_CHECK_INTERVAL
        }
    }
}

impl Worker for Upkeep {
    type Mail = UpkeepMail;

    fn round(&mut self, now: Now, mail: &mut Vec<UpkeepMail>) {
        let now = now.monotonic;
        let mut is_flush_due = false;
        for mail in mail.drain(..) {
            match mail {
                UpkeepMail::RecordApplied(record) => self.applied_records.push(*record),
            }
        }
        if now >= self.next_check {
            let was_full = self.is_disk_full;
            self.next_check = now + self.check_space();
            let unflushed = self.shared.kv.unflushed_bytes();
            if now >= self.next_count {
                self.next_count = now + DISK_CHECK_INTERVAL;
                self.count(unflushed);
            }
            is_flush_due |= unflushed >= self.shared.config.flush_bytes;
            is_flush_due |= now.since(self.last_flush) >= FLUSH_INTERVAL && unflushed > 0;
            is_flush_due |= !self.applied_records.is_empty();
            // The log may let go of what is flushed.
            is_flush_due |= self.is_disk_full && !was_full && unflushed > 0;
        }
        if is_flush_due {
            self.flush(now);
        } else if now.since(self.last_flush) >= FLUSH_INTERVAL {
            // Nothing was written; but what logs keep has grown older.
            self.last_flush = now;
            self.shared.router.broadcast_raft(|| RaftMail::Flushed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next_check)
    }
}
