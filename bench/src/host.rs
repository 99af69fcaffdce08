//! What the run happened on: the machine, the disk, and the CPU that processes used.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{limits::FSYNC_PROBES, record::Latencies};

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) cpu_model: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
}

impl Host {
    pub(crate) fn look() -> Host {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = memory.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        Host {
            cpu_model: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_bytes: kibibytes.unwrap_or(0) * 1_024,
        }
    }
}

/// How long a small synced write takes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FsyncProbe {
    pub(crate) p50_seconds: f64,
    pub(crate) p99_seconds: f64,
}

/// Writes 4 KiB and syncs them, again and again, in a file of its own in `dir`.
pub(crate) fn probe_fsync(dir: &Path) -> std::io::Result<FsyncProbe> {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path)?;
    let mut latencies = Latencies::new();
    for _ in 0..FSYNC_PROBES {
        file.seek(SeekFrom::Start(0))?;
        let started = Instant::now();
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        latencies.record(started.elapsed());
    }
    fs::remove_file(path)?;
    let seconds = |fraction| latencies.quantile_of_few(fraction).as_secs_f64();
    Ok(FsyncProbe { p50_seconds: seconds(0.5), p99_seconds: seconds(0.99) })
}

/// User and system time that a process has used; none where it is gone. `None` is this process.
pub(crate) fn cpu_time(process: Option<u32>) -> Option<Duration> {
    let path = process.map_or_else(|| "/proc/self/stat".to_owned(), |id| format!("/proc/{id}/stat"));
    parse_stat(&fs::read_to_string(path).ok()?)
}

/// Whether a process has ended.
pub(crate) fn is_gone(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}

/// `/proc/<id>/stat`: the name may hold anything, so fields are counted from its closing parenthesis. Times are in
/// hundredths of a second on every Linux that programs see.
fn parse_stat(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat =
            "5768 (a ) b) R 9986 9986 9986 0 -1 4194368 107 0 0 0 250 50 0 0 20 0 1 0 309187 6082560 850";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("nonsense"), None);
        assert!(cpu_time(None).is_some());
        assert!(!is_gone(std::process::id()));
        assert!(is_gone(u32::MAX));
    }

    #[test]
    fn the_disk_is_probed_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        let probe = probe_fsync(dir.path()).unwrap();
        assert!(probe.p50_seconds > 0.0);
        assert!(probe.p50_seconds <= probe.p99_seconds);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
