//! How soon the directory shows a split.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use proto::{
    admin::{SplitRegionRequest, admin_client::AdminClient},
    pdpb::{GetRegionRequest, RequestHeader, pd_client::PdClient},
};
use tests::{Cluster, Options as Stores};
use tonic::transport::Channel;

use crate::{
    background::{self, Background},
    crowd::{Crowd, first_key},
    figures::Figures,
};

/// A split that the directory does not show after this long never is.
const NEVER: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many splits.
    #[arg(long, default_value_t = 1_000)]
    splits: usize,
    /// The load meanwhile, of what the cluster can do.
    #[arg(long, default_value_t = 0.0)]
    load: f64,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut crowd = Crowd::start(Stores::default(), 1).await?;
    crowd.cluster.set_balancing(false).await?;
    // It has no peer of any region, so what it answers is the directory's answer alone.
    let outsider = crowd.cluster.add_store()?;
    crowd.cluster.store_id(outsider).await?;
    let load = if options.load > 0.0 {
        let rate = background::capacity(&crowd.cluster, 1)? * options.load;
        println!("load: {rate:.0} puts/s");
        Some(Background::start(&crowd.cluster, 1, rate)?)
    } else {
        None
    };
    let (mut from_asked, mut answered_after, mut shown_at) = (Vec::new(), Vec::new(), Vec::new());
    let mut directory = PdClient::new(crowd.cluster.channel(outsider).await?);
    for part in 1..=options.splits {
        let key = first_key(part, options.splits + 1);
        let region = crowd.client.find_region(key.clone()).await?;
        // Whoever leads it is asked by whoever is asked.
        let mut admin = AdminClient::new(crowd.cluster.channel(part % 3).await?);
        let request = SplitRegionRequest {
            region_id: region.id.0,
            split_keys: vec![key.clone().into()],
            ..SplitRegionRequest::default()
        };
        let asked = Instant::now();
        let split = async {
            admin.split_region(request).await?;
            anyhow::Ok(Instant::now())
        };
        let (answered, shown) = tokio::try_join!(split, shown(&mut directory, &key))?;
        answered_after.push(answered - asked);
        from_asked.push(shown - asked);
        shown_at.push((region.id.0, time_of_day(SystemTime::now() - shown.elapsed())?));
    }
    if let Some(load) = load {
        println!("load: {}", load.finish()?);
    }
    let applied = applied_at(&crowd.cluster)?;
    // The region that is divided is another one each time.
    let from_applied: Result<Figures> = shown_at
        .into_iter()
        .map(|(region_id, shown)| {
            let applied = applied.get(&region_id).context("a split that no store has logged")?;
            Ok(shown.saturating_sub(*applied))
        })
        .collect();
    println!("a split was answered, from the request {}", Figures::from_iter(answered_after));
    println!("the directory showed it, from the request {}", Figures::from_iter(from_asked));
    println!("the directory showed it, from its being applied by the first store {}", from_applied?);
    check(&crowd.cluster, options.splits).await
}

/// When the directory shows a region that begins at a key.
async fn shown(directory: &mut PdClient<Channel>, key: &str) -> Result<Instant> {
    let request = GetRegionRequest {
        header: Some(RequestHeader::default()),
        region_key: key.to_owned().into(),
        ..GetRegionRequest::default()
    };
    let started = Instant::now();
    loop {
        let region = directory.get_region(request.clone()).await?.into_inner().region;
        if region.context("no region")?.start_key == key.as_bytes() {
            return Ok(Instant::now());
        }
        ensure!(started.elapsed() < NEVER, "the directory does not show the region that begins at {key}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// When the first store applied the split of each region, by its id, as the stores' logs say it.
fn applied_at(cluster: &Cluster) -> Result<BTreeMap<u64, Duration>> {
    let mut applied: BTreeMap<u64, Duration> = BTreeMap::new();
    for at in 0..cluster.addresses().len() {
        let log = cluster.log(at);
        for line in log.lines().filter(|line| line.contains("region is split")) {
            let time = line.split(['T', 'Z']).nth(1).context("no time")?;
            let mut parts = time.split(':').map(str::parse::<f64>);
            let mut part = || parts.next().context("no time of day");
            let seconds = part()?? * 3_600.0 + part()?? * 60.0 + part()??;
            let id = line.split_whitespace().find_map(|word| word.strip_prefix("region="));
            let id = id.context("no region")?.parse()?;
            let time = Duration::from_secs_f64(seconds);
            let first = applied.entry(id).or_insert(time);
            *first = time.min(*first);
        }
    }
    Ok(applied)
}

/// The time since midnight, as logs have it.
fn time_of_day(time: SystemTime) -> Result<Duration> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Duration::new(since.as_secs() % 86_400, since.subsec_nanos()))
}

/// Whether every split is there in the end.
async fn check(cluster: &Cluster, splits: usize) -> Result<()> {
    let count = cluster.regions().await?.len();
    ensure!(count == splits + 1, "{count} regions after {splits} splits");
    Ok(())
}
