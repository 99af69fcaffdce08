//! Every metric: its name (with unit), kind, labels and meaning. Labels are bounded; none of them names a region.
//!
//! Batches are counted, not sampled: how many requests share an entry, entries a log batch, or messages a frame is the
//! quotient of two counters, which costs one addition a batch.

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name; the last word is the unit.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The labels that it carries.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: &str = $name;
        )*

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

metrics! {
    LOG_FSYNCS = "sheaf_log_fsyncs_total", Counter, [], "Fsyncs of the log engine.";
    LOG_FSYNC_SECONDS = "sheaf_log_fsync_seconds", Histogram, [], "Time of one synced write of the log engine.";
    LOG_BATCHES = "sheaf_log_batches_total", Counter, [], "Batches written by the log engine.";
    LOG_ENTRIES = "sheaf_log_entries_total", Counter, [], "Entries in these batches; by LOG_BATCHES: entries per batch.";
    LOG_REGIONS = "sheaf_log_regions_total", Counter, [], "Regions with something in these batches; by LOG_BATCHES: regions per batch.";
    LOG_ENTRY_BYTES = "sheaf_log_entry_bytes_total", Counter, [], "Bytes of these entries.";
    LOG_DISK_BYTES = "sheaf_log_disk_bytes", Gauge, [], "Bytes that the log engine's files take.";

    PROPOSE_REQUESTS = "sheaf_propose_requests_total", Counter, [], "Writes of clients that were proposed.";
    PROPOSE_ENTRIES = "sheaf_propose_entries_total", Counter, [], "Entries that these writes were joined into; their quotient is requests per entry.";

    PROPOSE_BUSY = "sheaf_propose_busy_total", Counter, [], "Writes of clients that were told to wait because the store has no room for them.";
    RAFT_ROUNDS = "sheaf_raft_rounds_total", Counter, [], "Rounds of the raft workers.";
    RAFT_ROUND_REGIONS = "sheaf_raft_round_regions_total", Counter, [], "Regions with something to do in these rounds.";
    RAFT_MESSAGES_SENT = "sheaf_raft_messages_sent_total", Counter, [], "Raft messages that left the workers.";
    RAFT_MESSAGES_RECEIVED = "sheaf_raft_messages_received_total", Counter, [], "Raft messages that reached the workers.";
    RAFT_MESSAGES_REFUSED = "sheaf_raft_messages_refused_total", Counter, ["reason"], "Raft messages that were not for any peer of this store.";
    RAFT_ELECTIONS = "sheaf_raft_elections_total", Counter, [], "Elections that peers of this store have started.";
    RAFT_ELECTIONS_WON = "sheaf_raft_elections_won_total", Counter, [], "Elections that they have won.";
    RAFT_TRANSFERS = "sheaf_raft_transfers_total", Counter, [], "Leader transfers that were started here.";

    APPLY_BATCHES = "sheaf_apply_batches_total", Counter, [], "Write batches of the apply workers.";
    APPLY_ENTRIES = "sheaf_apply_entries_total", Counter, [], "Entries applied in these batches.";
    APPLY_REQUESTS = "sheaf_apply_requests_total", Counter, [], "Requests of these entries; by APPLY_BATCHES: requests per batch.";
    APPLY_REGIONS = "sheaf_apply_regions_total", Counter, [], "Regions with entries in these batches.";
    APPLY_SECONDS = "sheaf_apply_seconds", Histogram, [], "Time of one write batch of an apply worker.";

    READ_BATCHES = "sheaf_read_batches_total", Counter, [], "Rounds of the read workers.";
    READ_LEASE = "sheaf_read_lease_total", Counter, [], "Reads answered under a lease.";
    READ_INDEX = "sheaf_read_index_total", Counter, [], "Reads answered by a read index.";

    KV_FLUSHES = "sheaf_kv_flushes_total", Counter, [], "Flushes of the KV engine.";
    KV_FLUSH_SECONDS = "sheaf_kv_flush_seconds", Histogram, [], "Time of one flush of the KV engine.";
    KV_UNFLUSHED_BYTES = "sheaf_kv_unflushed_bytes", Gauge, [], "Bytes applied that are not flushed yet: what a restart would replay.";
    KV_DISK_BYTES = "sheaf_kv_disk_bytes", Gauge, [], "Bytes that the KV engine's files take.";

    SNAPSHOTS_SENT = "sheaf_snapshots_sent_total", Counter, [], "Snapshots sent whole.";
    SNAPSHOTS_RECEIVED = "sheaf_snapshots_received_total", Counter, [], "Snapshots received whole.";
    SNAPSHOTS_FAILED = "sheaf_snapshots_failed_total", Counter, ["side"], "Snapshot transfers given up, by the side that gave up.";
    SNAPSHOT_CHUNKS_IGNORED = "sheaf_snapshot_chunks_ignored_total", Counter, [], "Chunks of snapshots that came twice, out of order, damaged, or found no room.";
    SNAPSHOT_SENT_BYTES = "sheaf_snapshot_sent_bytes_total", Counter, [], "Bytes of snapshot data sent.";
    SNAPSHOT_RECEIVED_BYTES = "sheaf_snapshot_received_bytes_total", Counter, [], "Bytes of snapshot data received.";

    LEDGER_BYTES = "sheaf_ledger_reserved_bytes", Gauge, ["account"], "Bytes in memory of proposals, entries, snapshots and messages, by purpose.";
    LEDGER_LIMIT_BYTES = "sheaf_ledger_limit_bytes", Gauge, [], "Bytes that all of these may take together: `memory_limit`.";
    LEDGER_REFUSED = "sheaf_ledger_refused_total", Counter, ["account"], "Reservations that were refused for lack of room, by purpose.";

    STORE_REGIONS = "sheaf_store_regions", Gauge, [], "Regions with a peer on this store.";
    STORE_LEADERS = "sheaf_store_leaders", Gauge, [], "Regions that are led from this store.";
    STORE_SUSPECTED = "sheaf_store_suspected_stores", Gauge, [], "Stores that this store suspects to be down.";
    STORE_BEATS_SENT = "sheaf_store_beats_sent_total", Counter, [], "Beats sent to other stores.";
    STORE_BEATS_RECEIVED = "sheaf_store_beats_received_total", Counter, [], "Beats heard from other stores.";
    SLEEPING_PEERS = "sheaf_store_sleeping_peers", Gauge, [], "Peers of this store that sleep: they cost nothing until something wakes them.";
    SLEEPS = "sheaf_store_sleeps_total", Counter, [], "Times that a peer of this store fell asleep.";
    WAKES = "sheaf_store_wakes_total", Counter, [], "Times that a peer of this store woke.";
    SLEEP_OFFERS_FAILED = "sheaf_store_sleep_offers_failed_total", Counter, [], "Times that a leader without work could not go to sleep, because somebody did not agree.";
    SLEEP_COMPARISONS = "sheaf_store_sleep_comparisons_total", Counter, [], "Times that two stores differed in what sleeps on both, and compared it region by region.";
    STORE_AVAILABLE_BYTES = "sheaf_store_available_bytes", Gauge, [], "Free bytes of the device with the data directory.";
    SIZE_COUNTS = "sheaf_size_counts_total", Counter, [], "Regions that were counted, pair by pair.";
    SIZE_COUNTED_BYTES = "sheaf_size_counted_bytes_total", Counter, [], "Bytes that were read for it.";
    SIZE_SPLITS_WANTED = "sheaf_size_splits_wanted_total", Counter, [], "How often placement was told that a region is too large.";

    LIFECYCLE_RECORDS = "sheaf_lifecycle_records_total", Counter, [], "Lifecycle records written.";
    LIFECYCLE_UNFLUSHED = "sheaf_lifecycle_unflushed_records", Gauge, [], "Lifecycle records whose effect is written and not flushed yet.";

    TRANSPORT_FRAMES_SENT = "sheaf_transport_frames_sent_total", Counter, ["lane"], "Frames sent to other stores.";
    TRANSPORT_MESSAGES_SENT = "sheaf_transport_messages_sent_total", Counter, ["lane"], "Messages in these frames; their quotient is messages per frame.";
    TRANSPORT_SENT_BYTES = "sheaf_transport_sent_bytes_total", Counter, ["lane"], "Encoded bytes of these frames.";
    TRANSPORT_FRAMES_RECEIVED = "sheaf_transport_frames_received_total", Counter, ["lane"], "Frames received from other stores.";
    TRANSPORT_MESSAGES_RECEIVED = "sheaf_transport_messages_received_total", Counter, ["lane"], "Messages in these frames.";
    TRANSPORT_RECEIVED_BYTES = "sheaf_transport_received_bytes_total", Counter, ["lane"], "Encoded bytes of these frames.";
    TRANSPORT_DROPPED = "sheaf_transport_dropped_messages_total", Counter, ["lane", "reason"], "Messages that were not sent: queue full, no room in the ledger, store unknown, store unreachable, or too large for a frame.";
    TRANSPORT_QUEUE_BYTES = "sheaf_transport_queue_bytes", Gauge, ["lane"], "Bytes of messages that wait to be sent.";
    TRANSPORT_CONNECTS = "sheaf_transport_connects_total", Counter, ["lane"], "Lanes opened to other stores.";
    TRANSPORT_FAILURES = "sheaf_transport_failures_total", Counter, ["lane", "how"], "Lanes that broke, or that could not be opened.";
    TRANSPORT_REFUSED = "sheaf_transport_refused_streams_total", Counter, ["reason"], "Streams of other stores that were refused or ended.";

    PLACEMENT_CALLS = "sheaf_placement_calls_total", Counter, [], "Requests to the placement group made by this store.";
    PLACEMENT_CALL_FAILURES = "sheaf_placement_call_failures_total", Counter, [], "Of these, requests without an answer in time.";
    PLACEMENT_REPORTS = "sheaf_placement_reports_total", Counter, [], "Region reports that the placement host took.";
    PLACEMENT_TRANSACTIONS = "sheaf_placement_transactions_total", Counter, [], "Placement transactions proposed.";
    PLACEMENT_TIMESTAMPS = "sheaf_placement_timestamps_total", Counter, [], "Timestamps given.";
    PLACEMENT_OPERATIONS = "sheaf_placement_operations_total", Counter, ["kind"], "Operations that placement has started.";
    PLACEMENT_OPERATIONS_RUNNING = "sheaf_placement_running_operations", Gauge, [], "Operations that are under way.";

    SERVER_REQUESTS = "sheaf_server_requests_total", Counter, ["method"], "Requests of clients.";
    SERVER_REFUSED = "sheaf_server_refused_total", Counter, ["error"], "Requests of clients that were answered with an error.";
    SERVER_STREAMS = "sheaf_server_streams", Gauge, [], "Open BatchCommands streams.";
    SERVER_BATCHES_RECEIVED = "sheaf_server_batches_received_total", Counter, [], "Batches of commands received.";
    SERVER_COMMANDS_RECEIVED = "sheaf_server_commands_received_total", Counter, [], "Commands in these batches.";
    SERVER_BATCHES_SENT = "sheaf_server_batches_sent_total", Counter, [], "Batches of answers sent.";
    SERVER_ANSWERS_SENT = "sheaf_server_answers_sent_total", Counter, [], "Answers in these batches.";

    PROCESS_CPU_SECONDS = "process_cpu_seconds_total", Counter, [], "User and system time of the process, in seconds.";
    PROCESS_RESIDENT_BYTES = "process_resident_memory_bytes", Gauge, [], "Resident memory of the process.";
    PROCESS_START_SECONDS = "process_start_time_seconds", Gauge, [], "When the process started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} is there twice", metric.name);
            match metric.kind {
                Kind::Counter => assert!(metric.name.ends_with("_total"), "{}", metric.name),
                Kind::Histogram => assert!(metric.name.ends_with("_seconds"), "{}", metric.name),
                Kind::Gauge => assert!(!metric.name.ends_with("_total"), "{}", metric.name),
            }
            assert!(metric.help.ends_with('.'), "{}: a sentence says what it is", metric.name);
        }
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let wanted = document();
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, &wanted).expect("docs can be written");
        }
        let found = fs::read_to_string(&path).expect("docs/metrics.md is there");
        assert_eq!(found, wanted, "run `REWRITE=1 cargo test -p telemetry`");
    }

    fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\n\
             `GET /metrics` on a store's address answers in Prometheus' text format. The table is made from\n\
             `components/telemetry/src/names.rs`. Batches are counted at each stage: requests per entry is\n\
             `sheaf_propose_requests_total / sheaf_propose_entries_total`, and so on.\n\n\
             | name | kind | labels | meaning |\n| --- | --- | --- | --- |\n",
        );
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels = metric.labels.join(", ");
            let help = by_name(metric.help);
            writeln!(text, "| `{}` | {kind} | {labels} | {help} |", metric.name).expect("a string takes all");
        }
        text
    }

    /// Constants that a help text mentions, as the names that a reader of the documentation knows.
    fn by_name(help: &str) -> String {
        help.replace("LOG_BATCHES", "`sheaf_log_batches_total`")
            .replace("APPLY_BATCHES", "`sheaf_apply_batches_total`")
    }
}
