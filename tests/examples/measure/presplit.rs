//! Division of an empty keyspace.

use std::time::Instant;

use anyhow::Result;
use tests::Options as Stores;

use crate::{crowd::Crowd, probe::first_successes};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many regions.
    #[arg(long, default_value_t = 1_000)]
    regions: usize,
    /// How many times, each with new stores.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    for _ in 0..options.runs {
        let crowd = Crowd::start(Stores::default(), options.regions).await?;
        crowd.describe();
        let since = Instant::now();
        let figures = first_successes(&crowd.client, crowd.keys().collect(), since).await?;
        println!("  a write to each region, all at once {figures}");
    }
    Ok(())
}
