//! Every key of a store's configuration.

use super::{
    Settings,
    value::{addresses, boolean, count, duration, labels, size},
};

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    /// What is allowed.
    pub(crate) range: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Key {
    /// The environment variable that sets it.
    pub(crate) fn environment(&self) -> String {
        format!("SHEAF_{}", self.name.to_uppercase())
    }
}

/// What belongs to the cluster, and how it is set there.
pub(crate) const CLUSTER_SETTINGS: &[(&str, &str)] = &[
    ("keys", "it is fixed for ever by `sheaf init --keys raw|keyspaces`"),
    ("key_mode", "it is fixed for ever by `sheaf init --keys raw|keyspaces`"),
    ("api_version", "it is fixed for ever by `sheaf init --keys raw|keyspaces`"),
    ("cluster_id", "it is drawn by `sheaf init`"),
    ("cluster_version", "there is one version so far, so nothing is to be set"),
    ("voter_count", "every region has three voters where there are three stores"),
    ("max_replicas", "every region has three voters where there are three stores"),
    ("replication_factor", "every region has three voters where there are three stores"),
];

/// Every key, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        default: "none",
        range: "a path",
        doc: "Where everything is kept; a directory of its own.",
        set: |settings, text| {
            settings.data_dir = Some(text.into());
            Ok(())
        },
    },
    Key {
        name: "addr",
        default: "127.0.0.1:20160",
        range: "host:port",
        doc: "Where it listens; port 0 takes a free one.",
        set: |settings, text| addresses(text).and_then(one).map(|addr| settings.addr = addr),
    },
    Key {
        name: "advertise_addr",
        default: "none",
        range: "host:port",
        doc: "Where others reach it; without it, `addr`.",
        set: |settings, text| addresses(text).and_then(one).map(|addr| settings.advertise_addr = Some(addr)),
    },
    Key {
        name: "join",
        default: "none",
        range: "host:port, separated by commas",
        doc: "The stores that found the cluster, itself included, or any that belong to it: the same list for all.",
        set: |settings, text| addresses(text).map(|join| settings.join = join),
    },
    Key {
        name: "single",
        default: "false",
        range: "true or false",
        doc: "It founds a cluster alone; others may join it later.",
        set: |settings, text| boolean(text).map(|single| settings.is_single = single),
    },
    Key {
        name: "insecure",
        default: "false",
        range: "true or false",
        doc: "Plaintext is allowed beyond the loopback interface.",
        set: |settings, text| boolean(text).map(|insecure| settings.is_insecure = insecure),
    },
    Key {
        name: "labels",
        default: "none",
        range: "key=value, separated by commas",
        doc: "Where the store is (zone, host …), for people and for placement.",
        set: |settings, text| labels(text).map(|labels| settings.labels = labels),
    },
    Key {
        name: "log_format",
        default: "text",
        range: "text or json",
        doc: "How log lines on standard error look.",
        set: |settings, text| text.parse().map(|format| settings.log_format = format),
    },
    Key {
        name: "log_filter",
        default: "info",
        range: "error, warn, info, debug, or a list like warn,store=debug",
        doc: "Which log lines are written.",
        set: |settings, text| {
            settings.log_filter = text.to_owned();
            Ok(())
        },
    },
    Key {
        name: "runtime_threads",
        default: "2",
        range: "1 to 64",
        doc: "Threads for sockets, encoding and decoding.",
        set: |settings, text| count(text, 1, 64).map(|count| settings.runtime_thread_count = count),
    },
    Key {
        name: "raft_workers",
        default: "1",
        range: "1 to 64",
        doc: "Threads that run the Raft groups.",
        set: |settings, text| count(text, 1, 64).map(|count| settings.store.raft_worker_count = count),
    },
    Key {
        name: "apply_workers",
        default: "1",
        range: "1 to 64",
        doc: "Threads that apply committed entries.",
        set: |settings, text| count(text, 1, 64).map(|count| settings.store.apply_worker_count = count),
    },
    Key {
        name: "read_workers",
        default: "1",
        range: "1 to 64",
        doc: "Threads that answer reads.",
        set: |settings, text| count(text, 1, 64).map(|count| settings.store.read_worker_count = count),
    },
    Key {
        name: "election_timeout",
        default: "600ms",
        range: "100ms to 60s",
        doc: "Silence of a leader after which its followers look for another; the same for all stores.",
        set: |settings, text| {
            duration(text, 100, 60_000).map(|timeout| settings.store.election_timeout = timeout)
        },
    },
    Key {
        name: "heartbeat_interval",
        default: "100ms",
        range: "10ms to 20s, at most a third of election_timeout",
        doc: "A leader's heartbeat, and a store's beat (200 ms at the most).",
        set: |settings, text| {
            duration(text, 10, 20_000).map(|interval| settings.store.heartbeat_interval = interval)
        },
    },
    Key {
        name: "flush_size",
        default: "128MiB",
        range: "1MiB to 64GiB",
        doc: "Applied bytes after which the data is flushed: what a restart replays at the most.",
        set: |settings, text| size(text, 1 << 20, 64 << 30).map(|bytes| settings.store.flush_bytes = bytes),
    },
    Key {
        name: "log_kept_entries",
        default: "1024",
        range: "0 to 1000000",
        doc: "Flushed log entries that a region keeps for followers that are briefly behind.",
        set: |settings, text| {
            count(text, 0, 1_000_000).map(|count| settings.store.log_kept_entries = count as u64)
        },
    },
    Key {
        name: "log_lag_entries_max",
        default: "100000",
        range: "1000 to 100000000",
        doc: "Log entries beyond which a follower that is behind gets a snapshot instead.",
        set: |settings, text| {
            count(text, 1_000, 100_000_000).map(|count| settings.store.log_lag_entries_max = count as u64)
        },
    },
    Key {
        name: "region_split_size",
        default: "96MiB",
        range: "0B to 1024GiB",
        doc: "A region that holds more is split; 0B: never. The same for all stores: that of a region's leader counts.",
        set: |settings, text| size(text, 0, 1 << 40).map(|bytes| settings.store.region_split_bytes = bytes),
    },
    Key {
        name: "region_split_keys",
        default: "1000000",
        range: "0 to 1000000000000",
        doc: "A region with more keys is split; 0: never. Likewise.",
        set: |settings, text| {
            count(text, 0, 1_000_000_000_000).map(|count| settings.store.region_split_keys = count as u64)
        },
    },
    Key {
        name: "reserve_space",
        default: "256MiB",
        range: "0MiB to 1024GiB",
        doc: "Writes are refused while the device has less than this free.",
        set: |settings, text| size(text, 0, 1 << 40).map(|bytes| settings.store.reserve_bytes = bytes),
    },
    Key {
        name: "memory_limit",
        default: "512MiB",
        range: "64MiB to 1024GiB",
        doc: "Bytes in memory of writes, log entries, snapshots and messages under way; from half of it on new writes are told to wait.",
        set: |settings, text| {
            size(text, 64 << 20, 1 << 40).map(|bytes| settings.store.memory_limit_bytes = bytes)
        },
    },
    Key {
        name: "block_cache_size",
        default: "256MiB",
        range: "1MiB to 1024GiB",
        doc: "Memory for blocks read from disk, of both engines together.",
        set: |settings, text| {
            memory(text, 1 << 20, 1 << 40).map(|bytes| settings.engines.block_cache_bytes = bytes)
        },
    },
    Key {
        name: "log_memtable_size",
        default: "64MiB",
        range: "1MiB to 4GiB",
        doc: "Memory of one memtable of the log; there are up to four.",
        set: |settings, text| {
            memory(text, 1 << 20, 4 << 30).map(|bytes| settings.engines.log_memtable_bytes = bytes)
        },
    },
    Key {
        name: "kv_memtable_size",
        default: "64MiB",
        range: "1MiB to 4GiB",
        doc: "Memory of one memtable of the data; there are up to four.",
        set: |settings, text| {
            memory(text, 1 << 20, 4 << 30).map(|bytes| settings.engines.kv_memtable_bytes = bytes)
        },
    },
    Key {
        name: "open_files_max",
        default: "100",
        range: "20 to 65535",
        doc: "Files that each engine keeps open.",
        set: |settings, text| {
            let count = count(text, 20, 65_535)?;
            settings.engines.open_files_max = u16::try_from(count).map_err(|error| error.to_string())?;
            Ok(())
        },
    },
    Key {
        name: "drain_timeout",
        default: "10s",
        range: "0s to 600s",
        doc: "How long a stop waits for others to take over leaderships.",
        set: |settings, text| duration(text, 0, 600_000).map(|timeout| settings.drain_timeout = timeout),
    },
];

fn one(addresses: Vec<String>) -> Result<String, String> {
    match <[String; 1]>::try_from(addresses) {
        Ok([address]) => Ok(address),
        Err(_) => Err("one address is wanted".to_owned()),
    }
}

fn memory(text: &str, min: u64, max: u64) -> Result<usize, String> {
    size(text, min, max).and_then(|bytes| usize::try_from(bytes).map_err(|error| error.to_string()))
}
