#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Stock clients in other languages, unmodified, while regions split and leaders are moved and killed. `make clients`
//! installs them.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use proto::admin::{TransferLeaderRequest, admin_client::AdminClient};
use tests::{Cluster, Options, eventually};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A client's process.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(words: &[String], addresses: Vec<String>) -> Result<Program> {
        let (program, arguments) = words.split_first().context("a program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Program { child, lines })
    }

    /// Waits until it has written some hundreds of pairs more.
    async fn go_on(&mut self) -> Result<()> {
        let mut count = 0;
        while count < 3 {
            let line = timeout(PATIENCE, self.lines.next_line()).await.context("it does not go on")??;
            // Some log to their output as well.
            count += i32::from(line.context("it has ended")? == "a hundred more");
        }
        Ok(())
    }

    /// Tells it to end, and waits until it has checked everything.
    async fn finish(mut self) -> Result<()> {
        self.child.stdin.take().context("its input")?.write_all(b"end\n").await?;
        while let Some(line) =
            timeout(PATIENCE, self.lines.next_line()).await.context("it does not end")??
        {
            if line.starts_with("end: ") {
                println!("{line}");
            }
        }
        let status = self.child.wait().await?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

async fn transfer_leader(cluster: &Cluster) -> Result<()> {
    let leader_at = cluster.leader().await?;
    let region = cluster.first_region().await?;
    let old = region.leader.context("a leader")?.store_id;
    let region = region.region.context("a region")?;
    let to = region.peers.iter().find(|peer| peer.store_id != old).context("another peer")?;
    let mut admin = AdminClient::new(cluster.channel(leader_at).await?);
    let request = TransferLeaderRequest { region_id: region.id, to_store_id: to.store_id };
    admin.transfer_leader(request).await?;
    eventually("the leader to move", PATIENCE, async || {
        let leader = cluster.first_region().await?.leader.context("a leader")?;
        ensure!(leader.store_id != old);
        Ok(())
    })
    .await
}

/// The program scans the thousand keys `PREFIX/span-NNNN` all the while, whose regions are split.
async fn work_through_failures(words: &[String], prefix: &str) -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    let mut program = Program::start(words, cluster.addresses())?;
    work_through_splits(&cluster, &mut program, prefix, 2).await?;
    for round in 2..4 {
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        split(&cluster, prefix, round).await?;
        program.go_on().await?;
        cluster.spawn(leader)?;
        program.go_on().await?;
    }
    program.finish().await
}

async fn work_through_splits(
    cluster: &Cluster,
    program: &mut Program,
    prefix: &str,
    rounds: usize,
) -> Result<()> {
    program.go_on().await?;
    for round in 0..rounds {
        transfer_leader(cluster).await?;
        split(cluster, prefix, round).await?;
        program.go_on().await?;
    }
    Ok(())
}

/// Ten regions more, among the keys that are scanned and those that are written.
async fn split(cluster: &Cluster, prefix: &str, round: usize) -> Result<()> {
    let scanned = (0..8).map(|at| format!("{prefix}/span-{:04}", 120 * at + 20 * round + 10));
    let written = [format!("{prefix}/load-{round}-"), format!("{prefix}/load-{round}-1")];
    cluster.split_at(&scanned.chain(written).collect::<Vec<_>>()).await
}

fn installed(name: &str) -> Result<String> {
    let folder = PathBuf::from(std::env::var_os("CLIENTS").context("run `make clients`")?);
    Ok(folder.join(name).display().to_string())
}

fn python(script: &str) -> Result<Vec<String>> {
    Ok(vec![
        installed("python/bin/python")?,
        format!("{}/clients/python/{script}", env!("CARGO_MANIFEST_DIR")),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_go() -> Result<()> {
    work_through_failures(&[installed("go-client")?], "go").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_tikv_client() -> Result<()> {
    work_through_failures(&python("tikv_client_0_0_4.py")?, "py").await
}

/// It takes a region error for an answer without pairs: so it must not get one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_tikv_client_scans_each_key_while_regions_split() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let mut words = vec!["env".to_owned(), "SCANS=whole".to_owned()];
    words.extend(python("tikv_client_0_0_4.py")?);
    let mut program = Program::start(&words, cluster.addresses())?;
    work_through_splits(&cluster, &mut program, "py", 5).await?;
    program.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_tikv_python() -> Result<()> {
    work_through_failures(&python("tikv_python_0_1_1.py")?, "tp").await
}
