//! A cluster of child processes of this same executable, in a temporary directory, for the length of a run.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    host,
    limits::{CLUSTER_POLL, CLUSTER_WAIT_MAX},
    load::poll_until,
};

/// Lines of a store's log that are shown when it has ended early.
const LOG_TAIL_LINES: usize = 10;

/// Child stores. Dropping it ends them and removes their directory; should this process die without that, they see the
/// end of their standard input and exit.
pub(crate) struct Spawned {
    stores: Vec<StoreProcess>,
    dir: TempDir,
}

struct StoreProcess {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Spawned {
    /// Starts so many stores and makes them a cluster. `settings` are given to each as `--set`.
    pub(crate) async fn start(
        store_count: usize,
        dir: Option<&Path>,
        settings: &[String],
    ) -> Result<Spawned> {
        let executable = std::env::current_exe().context("find this executable")?;
        let dir = match dir {
            Some(dir) => TempDir::with_prefix_in("sheaf-bench-", dir),
            None => TempDir::with_prefix("sheaf-bench-"),
        };
        let dir = dir.context("make a directory for the stores")?;
        let addresses = free_addresses(store_count)?;
        let mut spawned = Spawned { stores: Vec::new(), dir };
        for (at, address) in (1..).zip(&addresses) {
            let home = spawned.dir.path().join(format!("store-{at}"));
            let log = spawned.dir.path().join(format!("store-{at}.log"));
            let output = File::create(&log).context("make a store's log file")?;
            let mut command = Command::new(&executable);
            command
                .args(["start", "--exit-with-parent", "--addr", address, "--join", &addresses.join(",")])
                .arg("--data-dir")
                .arg(home);
            for setting in settings {
                command.args(["--set", setting]);
            }
            let child = command
                .stdin(Stdio::piped())
                .stdout(output.try_clone().context("share a store's log file")?)
                .stderr(output)
                .spawn()
                .context("start a store")?;
            spawned.stores.push(StoreProcess { child, address: address.clone(), log });
        }
        spawned.initialize(&executable, &addresses[0]).await?;
        Ok(spawned)
    }

    /// Where the stores listen.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.stores.iter().map(|store| store.address.clone()).collect()
    }

    /// Where everything of theirs lies.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The CPU time that each store has used, by its address.
    pub(crate) fn cpu_times(&self) -> Vec<(String, Duration)> {
        let time =
            |store: &StoreProcess| Some((store.address.clone(), host::cpu_time(Some(store.child.id()))?));
        self.stores.iter().filter_map(time).collect()
    }

    /// The end of the log of a store that has ended, if one has.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(store) = self.stores.iter().find(|store| host::is_gone(store.child.id())) else {
            return Ok(());
        };
        let log = std::fs::read_to_string(&store.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
        bail!("store {} has ended; the end of its log:\n{tail}", store.address)
    }

    /// `init` is idempotent: it is repeated until the stores have come up.
    async fn initialize(&self, executable: &Path, address: &str) -> Result<()> {
        let deadline = Instant::now() + CLUSTER_WAIT_MAX;
        let attempt = async || {
            self.check().map_err(|error| error.to_string())?;
            let mut init = tokio::process::Command::new(executable);
            init.args(["init", "--addr", address]).stdin(Stdio::null()).kill_on_drop(true);
            let output = init.output().await.map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        };
        let made = poll_until(deadline, CLUSTER_POLL, attempt).await;
        made.map_err(|reason| anyhow::anyhow!("make the stores a cluster: {reason}"))
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        for store in &mut self.stores {
            // It may have ended by itself; its directory goes in any case.
            if store.child.kill().is_ok() {
                store.child.wait().map(drop).unwrap_or_default();
            }
        }
    }
}

/// Free ports of this machine; they are all taken at once, so that no two are the same.
fn free_addresses(count: usize) -> Result<Vec<String>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners: std::io::Result<Vec<_>> = (0..count).map(|_| TcpListener::bind(any)).collect();
    let listeners = listeners.context("find free ports")?;
    let addresses: std::io::Result<Vec<_>> =
        listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect();
    let mut addresses = addresses.context("find free ports")?;
    // The first in order is the one that `init` is carried out by.
    addresses.sort();
    Ok(addresses)
}
