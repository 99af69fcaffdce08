//! Writes that find out when keys can be written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use client::Client;
use tokio::task::{JoinHandle, JoinSet};

use crate::figures::Figures;

/// A region that takes no write for this long will never take one.
const NEVER: Duration = Duration::from_secs(60);

/// Writes each key, again and again until it succeeds: how long after `since` that was.
pub(crate) async fn first_successes(client: &Client, keys: Vec<String>, since: Instant) -> Result<Figures> {
    let mut tasks = JoinSet::new();
    for key in keys {
        let client = client.clone();
        tasks.spawn(async move {
            loop {
                let result = client.put(key.clone(), "value").await;
                match result {
                    Ok(()) => return Ok(since.elapsed()),
                    Err(error) if since.elapsed() > NEVER => bail!("{key} cannot be written: {error:?}"),
                    Err(_) => {}
                }
            }
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Writers, one for each of a few keys, that never stop.
pub(crate) struct Probe {
    is_stopping: Arc<AtomicBool>,
    errors: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Duration>>,
}

impl Probe {
    pub(crate) fn start(client: &Client, keys: &[String]) -> Probe {
        let (is_stopping, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let write = |key: &String| {
            let (client, key) = (client.clone(), key.clone());
            let (is_stopping, errors) = (is_stopping.clone(), errors.clone());
            tokio::spawn(async move {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !is_stopping.load(Ordering::Relaxed) && last.elapsed() < NEVER {
                    match client.put(key.clone(), "value").await {
                        Ok(()) => {
                            longest = longest.max(last.elapsed());
                            last = Instant::now();
                        }
                        Err(_) => {
                            errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                longest.max(last.elapsed())
            })
        };
        let writers = keys.iter().map(write).collect();
        Probe { is_stopping, errors, writers }
    }

    /// Stops, and tells the longest time that one key was without a success, and how many writes failed.
    pub(crate) async fn finish(self) -> Result<(Duration, u64)> {
        self.is_stopping.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for writer in self.writers {
            longest = longest.max(writer.await.context("a writer panicked")?);
        }
        if longest >= NEVER {
            bail!("a key could not be written for {NEVER:?}");
        }
        Ok((longest, self.errors.load(Ordering::Relaxed)))
    }
}
