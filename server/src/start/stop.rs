//! How a run ends: readiness off, leaderships handed over, everything flushed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};

use super::open::{Threads, blocking};
use crate::{
    exit,
    failure::{Code, Failure, Result},
    state::{Phase, State},
};

/// How often it is looked whether every leadership has been handed over.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A drain that makes no progress for this long will make none: nobody is there to take over.
const DRAIN_STALL_MAX: Duration = Duration::from_secs(3);

/// Signals that end the process.
pub(super) struct Signals {
    received: watch::Receiver<(u32, &'static str)>,
}

impl Signals {
    /// Takes the signals over from now on; with `ends_with_parent` the end of standard input counts as one.
    pub(super) fn listen(ends_with_parent: bool) -> Result<Signals> {
        let (sender, received) = watch::channel((0, ""));
        for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
            let mut stream = signal(kind)
                .map_err(|error| Failure::new(Code::Failed, format!("listen for {name}")).because(&error))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    sender.send_modify(|(count, last)| {
                        *count += 1;
                        *last = name;
                    });
                }
            });
        }
        if ends_with_parent {
            std::thread::Builder::new()
                .name("parent".to_owned())
                .spawn(exit_with_parent)
                .map_err(|error| Failure::new(Code::Failed, "watch the parent process").because(&error))?;
        }
        Ok(Signals { received })
    }

    /// Waits for the first signal.
    pub(super) async fn first(&self) -> &'static str {
        self.wait_for(1).await
    }

    /// Waits for a second one.
    pub(super) async fn next(&self) -> &'static str {
        self.wait_for(2).await
    }

    async fn wait_for(&self, wanted: u32) -> &'static str {
        let mut received = self.received.clone();
        match received.wait_for(|(count, _)| *count >= wanted).await {
            Ok(last) => last.1,
            // The tasks that send live as long as the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Blocks until standard input ends, which is when the parent has died; then so does this process, at once: its data
/// directory may be gone already.
fn exit_with_parent() {
    let mut sink = std::io::sink();
    drop(std::io::copy(&mut std::io::stdin().lock(), &mut sink));
    exit::at_once(0);
}

/// Hands over, stops the threads, flushes.
pub(super) async fn drain_and_stop(state: &Arc<State>, threads: Threads) -> Result<()> {
    state.enter(Phase::Draining);
    drain(state).await;
    let Some(running) = state.running() else { return Ok(()) };
    let store = running.store.clone();
    let flushed = blocking(move || {
        threads.pool.stop();
        store.flush()
    })
    .await?;
    flushed.map_err(|error| Failure::new(Code::Failed, "flush the data").because(&error))?;
    tracing::info!("stopped");
    Ok(())
}

/// Asks every leader of this store to hand over, and waits while they do.
async fn drain(state: &State) {
    let Some(running) = state.running() else { return };
    if state.book.records().len() < 2 {
        // Nobody is there to take over.
        return;
    }
    running.store.drain();
    let began = Instant::now();
    let mut least = usize::MAX;
    let mut progress_at = began;
    loop {
        let leader_count = running.store.leader_count();
        if leader_count == 0 {
            return;
        }
        if leader_count < least {
            least = leader_count;
            progress_at = Instant::now();
        }
        if began.elapsed() > state.settings.drain_timeout || progress_at.elapsed() > DRAIN_STALL_MAX {
            tracing::warn!(leader_count, "stopping with leaderships that nobody took over");
            return;
        }
        sleep(DRAIN_POLL_INTERVAL).await;
    }
}
