//! The death of a store that leads many regions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use client::{Client, Options as ClientOptions, core::RetryPolicy};
use rustix::process::Signal;
use tests::{Options as Stores, own_cpu_time};

use crate::{crowd::Crowd, probe::first_successes};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions; each of the three stores leads a third.
    #[arg(long, default_value_t = 3_060)]
    regions: usize,
    /// Let the regions fall asleep before; otherwise each was written to just now.
    #[arg(long)]
    asleep: bool,
    /// Try again as often as this, in milliseconds; otherwise as the client does by default.
    #[arg(long)]
    retry_millis: Option<u64>,
    /// How many times.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

impl Options {
    fn client_options(&self) -> ClientOptions {
        let Some(millis) = self.retry_millis else { return ClientOptions::default() };
        let delay = Duration::from_millis(millis);
        let retry = RetryPolicy {
            backoffs_max: 10_000,
            backoff_min: delay,
            backoff_max: delay,
            ..RetryPolicy::default()
        };
        ClientOptions { retry, ..ClientOptions::default() }
    }
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut crowd = Crowd::start(Stores::default(), options.regions).await?;
    crowd.describe();
    crowd.client = Client::connect_with(&crowd.cluster.addresses(), options.client_options()).await?;
    for run in 0..options.runs {
        let at = run % 3;
        let id = crowd.cluster.store_id(at).await?;
        let keys = crowd.wait_until_spread().await?.remove(&id).context("the store leads nothing")?;
        // So that the client knows every leader, and no region is asleep yet.
        crowd.write_all().await?;
        if options.asleep {
            crowd.wait_until_asleep().await?;
        }
        let led = keys.len();
        let (before, own) = (crowd.cpu_times()?, own_cpu_time()?);
        let since = Instant::now();
        crowd.cluster.signal(at, Signal::KILL)?;
        let figures = first_successes(&crowd.client, keys, since).await?;
        let own = (own_cpu_time()? - own).as_secs_f64();
        let used =
            crowd.cpu_times()?.into_iter().zip(before).map(|(after, before)| after.saturating_sub(before));
        let used: Vec<_> = used.map(|used| used.as_secs_f64()).collect();
        println!("from the kill of a store that led {led} regions: the first write to each {figures}");
        println!("  CPU until then, in s: stores {used:.2?}, client {own:.2}");
        crowd.cluster.wait(at)?;
        crowd.cluster.spawn(at)?;
        crowd.cluster.whole(3).await?;
    }
    Ok(())
}
