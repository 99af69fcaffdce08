//! Load from the load generator, while something else is measured.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;
use tests::{Cluster, binary};

/// Operations under way in the closed loop that finds out what a cluster can do.
const CONCURRENCY: &str = "512";

/// A run of `sheaf bench put` at a rate. Dropped, it ends.
pub(crate) struct Background {
    child: Child,
    report: NamedTempFile,
}

/// The puts a second that a cluster can do, in a few seconds of a closed loop.
pub(crate) fn capacity(cluster: &Cluster, regions: usize) -> Result<f64> {
    let mut command = command(cluster, regions)?;
    command.args(["--concurrency", CONCURRENCY, "--warmup", "3s", "--duration", "8s", "--output", "json"]);
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["ops"]["put"]["per_second"].as_f64().context("no throughput in the report")
}

fn command(cluster: &Cluster, regions: usize) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(["bench", "put", "--quiet", "--endpoints", &cluster.addresses().join(",")]);
    // Kept as they are: boundaries that have come up meanwhile do not matter.
    command.args(["--regions", &regions.to_string(), "--no-split"]);
    Ok(command)
}

impl Background {
    /// So many puts a second from now on.
    pub(crate) fn start(cluster: &Cluster, regions: usize, rate: f64) -> Result<Background> {
        let report = NamedTempFile::new()?;
        let mut command = command(cluster, regions)?;
        command.args([
            "--rate",
            &format!("{rate:.0}"),
            "--warmup",
            "0s",
            "--duration",
            "1h",
            "--errors-max",
            "1",
        ]);
        command.arg("--report").arg(report.path()).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Background { child: command.spawn()?, report })
    }

    /// Ends it, and says how its operations went.
    pub(crate) fn finish(mut self) -> Result<String> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process id")?;
        kill_process(pid, Signal::INT)?;
        ensure!(self.child.wait()?.success(), "the load generator failed");
        let report: Value = serde_json::from_slice(&fs::read(self.report.path())?)?;
        let puts = &report["ops"]["put"];
        Ok(format!(
            "{:.0} puts/s; p50 {:.1} ms, p99 {:.1} ms; failed {}, undetermined {}",
            puts["per_second"].as_f64().context("no throughput in the report")?,
            puts["response"]["p50_seconds"].as_f64().unwrap_or(f64::NAN) * 1e3,
            puts["response"]["p99_seconds"].as_f64().unwrap_or(f64::NAN) * 1e3,
            puts["failed"],
            puts["undetermined"],
        ))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
