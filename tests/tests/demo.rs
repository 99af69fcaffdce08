#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "I/O shell: real processes, real time"
)]
//! The demo leaves nothing behind, however it ends.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::eventually;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A demo whose temporary directory is `folder`.
fn demo(folder: &Path, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(tests::binary()?);
    command.arg("demo").args(arguments).env("TMPDIR", folder);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

/// What it prints up to a line that contains these words.
async fn read_to(demo: &mut Child, words: &str) -> Result<String> {
    let mut lines = BufReader::new(demo.stdout.as_mut().context("its output")?).lines();
    let mut text = String::new();
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.context("it prints no more")??;
        let line = line.with_context(|| format!("no {words:?} in {text}"))?;
        text.push_str(&line);
        text.push('\n');
        if line.contains(words) {
            return Ok(text);
        }
    }
}

async fn ends_well(demo: &mut Child) -> Result<()> {
    let status = timeout(PATIENCE, demo.wait()).await.context("it does not end")??;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Processes whose command line names the folder.
fn processes_of(folder: &Path) -> Result<Vec<String>> {
    let name = folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Others come and go meanwhile.
        let Ok(words) = fs::read(entry?.path().join("cmdline")) else { continue };
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&name) {
            found.push(words);
        }
    }
    Ok(found)
}

fn assert_nothing_is_left(folder: &Path) -> Result<()> {
    let processes = processes_of(folder)?;
    assert!(processes.is_empty(), "{processes:?}");
    assert_eq!(fs::read_dir(folder)?.count(), 0, "a directory is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_ends_by_itself_leaves_nothing_behind() -> Result<()> {
    let folder = TempDir::new()?;
    let mut demo = demo(folder.path(), &["--load-seconds", "1", "--exit-after", "10s"])?;
    let text = read_to(&mut demo, "nothing is left behind").await?;
    ends_well(&mut demo).await?;
    for words in
        ["first write on three replicas after", "writes/s", "the cluster answers at", "sheaf status --addr"]
    {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
    assert_nothing_is_left(folder.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_interrupted_leaves_nothing_behind() -> Result<()> {
    let folder = TempDir::new()?;
    let mut demo = demo(folder.path(), &["--load-seconds", "60"])?;
    read_to(&mut demo, "writes/s").await?;
    assert_eq!(processes_of(folder.path())?.len(), 3, "three stores");
    let pid = i32::try_from(demo.id().context("it runs")?)?;
    kill_process(Pid::from_raw(pid).context("a process id")?, Signal::INT)?;
    ends_well(&mut demo).await?;
    assert_nothing_is_left(folder.path())
}

/// Nobody can clean up after a process that is killed but those that live on: its children end, and the next demo
/// removes the directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_demo_leaves_the_next_one_removes() -> Result<()> {
    let folder = TempDir::new()?;
    let mut killed = demo(folder.path(), &["--load-seconds", "60"])?;
    read_to(&mut killed, "writes/s").await?;
    killed.kill().await?;
    eventually("the stores to end", PATIENCE, async || {
        let processes = processes_of(folder.path())?;
        ensure!(processes.is_empty(), "{processes:?}");
        Ok(())
    })
    .await?;

    // One that lives is left in peace by those that start beside it.
    let mut living = demo(folder.path(), &["--stores", "1", "--load-seconds", "0"])?;
    read_to(&mut living, "the cluster answers at").await?;
    let mut beside = demo(folder.path(), &["--stores", "1", "--load-seconds", "0", "--exit-after", "1s"])?;
    ends_well(&mut beside).await?;
    assert_eq!(fs::read_dir(folder.path())?.count(), 1, "of the living one");
    assert_eq!(processes_of(folder.path())?.len(), 1, "of the living one");
    let pid = i32::try_from(living.id().context("it runs")?)?;
    kill_process(Pid::from_raw(pid).context("a process id")?, Signal::TERM)?;
    ends_well(&mut living).await?;
    assert_nothing_is_left(folder.path())
}
