#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "I/O shell: real processes, real time"
)]
//! Measures, with real processes on this machine, what stores with many regions do when they are divided, idle, killed,
//! restarted, and when an operator changes them. `sheaf bench` measures what is only load.
//!
//! It prints figures and judges none. It fails where something is wrong: a region that nobody can write to, an operation
//! that does not end. `docs/benchmarks.md` has the figures.

mod background;
mod change;
mod crowd;
mod figures;
mod idle;
mod kill;
mod moving;
mod presplit;
mod probe;
mod restart;
mod visible;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
enum Verb {
    /// Divide an empty keyspace: until it is divided, until leaders are spread, until every region takes a write.
    Presplit(presplit::Options),
    /// Many regions without work: CPU and memory.
    Idle(idle::Options),
    /// Restart every store at once: until every region takes a write.
    Restart(restart::Options),
    /// Kill a store that leads many regions: until each of them takes a write.
    Kill(kill::Options),
    /// Transfer leaders, split and move regions under half the load that the cluster can take: how long a region does not
    /// answer.
    Change(change::Options),
    /// Move regions to an empty store: bytes a second.
    Moving(moving::Options),
    /// Split regions: until the directory shows it.
    Visible(visible::Options),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Presplit(options) => presplit::measure(&options).await,
        Verb::Idle(options) => idle::measure(&options).await,
        Verb::Restart(options) => restart::measure(&options).await,
        Verb::Kill(options) => kill::measure(&options).await,
        Verb::Change(options) => change::measure(&options).await,
        Verb::Moving(options) => moving::measure(&options).await,
        Verb::Visible(options) => visible::measure(&options).await,
    }
}
