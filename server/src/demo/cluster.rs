//! The demo's stores: child processes in a temporary directory.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::folder::Folder;
use crate::failure::{Code, Failure, Result};

/// A child that was told to end gets this long before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of a dead store's log that are shown.
const LOG_LINES_SHOWN: usize = 5;

/// Running stores. Each child watches its standard input, whose other end dies with this process: however this one ends,
/// no child outlives it. Where it is killed, the next demo removes the directory.
pub(super) struct DemoCluster {
    folder: Folder,
    addresses: Vec<String>,
    children: Vec<Child>,
}

impl DemoCluster {
    /// Starts the stores; they wait for `init`.
    pub(super) fn start(store_count: usize) -> Result<DemoCluster> {
        let failed = |what: &str, error: &std::io::Error| Failure::new(Code::Failed, what).because(error);
        let folder = Folder::create().map_err(|error| failed("make a temporary directory", &error))?;
        let addresses = free_addresses(store_count).map_err(|error| failed("find free ports", &error))?;
        let mut cluster = DemoCluster { folder, addresses, children: Vec::new() };
        for at in 0..store_count {
            let child = cluster.spawn(at).map_err(|error| failed("start a store", &error))?;
            cluster.children.push(child);
        }
        Ok(cluster)
    }

    fn spawn(&self, at: usize) -> std::io::Result<Child> {
        let log = File::create(self.log(at))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("start")
            .arg("--exit-with-parent")
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("store-{at}")));
        command.args(["--addr", &self.addresses[at]]);
        match self.addresses.as_slice() {
            [_] => command.arg("--single"),
            several => command.args(["--join", &several.join(",")]),
        };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo alone, which then ends its children.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// In the order in which they sort, so that the first one carries out `init`.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Whether every store still runs.
    pub(super) fn check(&mut self) -> Result<()> {
        for at in 0..self.children.len() {
            if let Ok(Some(status)) = self.children[at].try_wait() {
                let log = fs::read_to_string(self.log(at)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
                let cause = std::io::Error::other(last);
                return Err(Failure::new(Code::Failed, format!("store {at} ended: {status}")).because(&cause));
            }
        }
        Ok(())
    }

    /// Ends every store and removes the directory.
    pub(super) async fn stop(self) {
        let DemoCluster { folder, children, .. } = self;
        for mut child in children {
            // The end of its standard input is the child's sign.
            drop(child.stdin.take());
            if timeout(EXIT_TIMEOUT, child.wait()).await.is_err()
                && let Err(error) = child.kill().await
            {
                tracing::warn!(%error, "a store could not be ended");
            }
        }
        if let Err(error) = folder.remove() {
            tracing::warn!(%error, "the temporary directory was not removed");
        }
    }

    fn log(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("store-{at}.log"))
    }
}

/// Addresses whose ports are free now, sorted. They are let go of before the stores take them.
fn free_addresses(count: usize) -> std::io::Result<Vec<String>> {
    let listeners =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let mut addresses = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect::<std::io::Result<Vec<_>>>()?;
    addresses.sort();
    Ok(addresses)
}
