//! `sheaf bench put|get|mixed`.

mod regions;
mod units;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use client::{Client, Credentials, Options as ClientOptions, core::RetryPolicy};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    distribution::Distribution,
    host::{self, Host},
    limits::{
        CLUSTER_POLL, CLUSTER_WAIT_MAX, PRELOAD_BATCH_BYTES_MAX, PRELOAD_BATCH_KEYS_MAX, PRELOAD_CONCURRENCY,
    },
    live::Live,
    load::{self, Extent, Load, Outcome, Pace},
    report::{Facts, Meta, Phase, Report, SCHEMA, Servers},
    scrape,
    spawn::Spawned,
    workload::{Generator, KeyOrder, Workload},
};

/// Voters that a region has where there are enough stores.
const VOTERS: usize = 3;

/// Put load on a cluster and measure it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: sheaf bench put --spawn 3 --duration 30s --warmup 5s --concurrency 512")]
pub struct Args {
    #[command(subcommand)]
    load: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Writes only.
    #[command(
        after_help = "Example: sheaf bench put --endpoints 127.0.0.1:20160 --rate 20k --report run.json"
    )]
    Put(Options),
    /// Point reads only; all keys are written before.
    #[command(after_help = "Example: sheaf bench get --spawn 3 --dist zipfian:0.99 --keys 100k")]
    Get(Options),
    /// Reads and writes; all keys are written before.
    #[command(after_help = "Example: sheaf bench mixed --spawn 3 --get-ratio 95%")]
    Mixed {
        /// How many operations of all are reads.
        #[arg(long, value_name = "RATIO", default_value = "50%", value_parser = units::fraction)]
        get_ratio: f64,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Stores of the cluster to put load on.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', required_unless_present = "spawn")]
    endpoints: Vec<String>,
    /// Start so many stores for the run, as child processes.
    #[arg(long, value_name = "N", conflicts_with = "endpoints", value_parser = clap::value_parser!(u8).range(1..=9))]
    spawn: Option<u8>,
    /// Where the stores that are started keep their files; below it, everything is removed afterwards.
    #[arg(long, value_name = "DIR", requires = "spawn", conflicts_with = "endpoints")]
    spawn_dir: Option<PathBuf>,
    /// A configuration key of the stores that are started.
    #[arg(long, value_name = "KEY=VALUE", requires = "spawn", conflicts_with = "endpoints")]
    store_set: Vec<String>,
    /// How long to measure.
    #[arg(long, default_value = "60s", value_parser = units::duration, conflicts_with = "ops")]
    duration: Duration,
    /// How many operations to measure, instead.
    #[arg(long, value_name = "N", value_parser = units::count)]
    ops: Option<u64>,
    /// How long to run before measuring; what happens in it is in no figure.
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    warmup: Duration,
    /// Closed loop: so many operations are under way at all times.
    #[arg(long, value_name = "N", default_value = "64", value_parser = units::count, conflicts_with = "rate")]
    concurrency: u64,
    /// Open loop: so many operations are due each second, whatever becomes of those before them.
    #[arg(long, value_name = "N", value_parser = units::rate)]
    rate: Option<f64>,
    /// Open loop: so many operations are under way at the most; the others wait, and their latency counts on.
    #[arg(long, value_name = "N", default_value = "10k", value_parser = units::count)]
    in_flight_max: u64,
    /// How many different keys.
    #[arg(long, value_name = "N", default_value = "1M", value_parser = units::count)]
    keys: u64,
    /// Bytes of each key.
    #[arg(long, value_name = "BYTES", default_value = "16", value_parser = units::bytes)]
    key_len: usize,
    /// Whether neighbours in number are neighbours in the keyspace.
    #[arg(long, value_enum, default_value_t = KeyOrder::Hashed)]
    key_order: KeyOrder,
    /// Bytes of each value; they cannot be compressed.
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = units::bytes)]
    value_size: usize,
    /// Divide the keyspace into so many regions before, and wait until every store leads its share.
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::count)]
    regions: u64,
    /// Do not divide the keyspace: it is divided into `--regions` already.
    #[arg(long)]
    no_split: bool,
    /// Put load on so many of the regions only; they lie evenly among the others. Default: on all.
    #[arg(long, value_name = "N", value_parser = units::count)]
    active: Option<u64>,
    /// Which keys: uniform, zipfian[:0.99], sequential, latest, hotspot[:0.2/0.8].
    #[arg(long, default_value = "uniform")]
    dist: Distribution,
    /// What all random choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not write the keys before reading them: they are there.
    #[arg(long)]
    no_preload: bool,
    /// Streams to each store.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    streams: u8,
    /// Repeat puts whose fate is not known.
    #[arg(long)]
    retry_writes: bool,
    /// Failed and undetermined operations, of all, beyond which the exit code is 1.
    #[arg(long, value_name = "RATIO", default_value = "0", value_parser = units::fraction)]
    errors_max: f64,
    /// What goes to standard output in the end.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Write the JSON report to a file, too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// No line each second.
    #[arg(long)]
    quiet: bool,
    /// Allow plaintext beyond the loopback interface.
    #[arg(long)]
    insecure: bool,
    /// Measure although this is a debug build.
    #[arg(long)]
    allow_debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs a benchmark to its end, outside of any runtime: 0 if it went well, 1 if it could not be run or if more operations
/// failed than are allowed.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    match try_run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody reads it if it cannot be written.
            writeln!(io::stderr(), "error: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: Args) -> Result<bool> {
    let (get_fraction, options) = match args.load {
        Verb::Put(options) => (0.0, options),
        Verb::Get(options) => (1.0, options),
        Verb::Mixed { get_ratio, options } => (get_ratio, options),
    };
    if cfg!(debug_assertions) && !options.allow_debug {
        bail!("this is a debug build, its figures mean nothing: build with --release, or say --allow-debug");
    }
    let workload = options.workload(get_fraction);
    workload.check().map_err(|reason| anyhow!(reason))?;
    // One thread: what the generator uses, the stores on the same machine lack, and the kernel's wake-ups between two
    // threads would cost more than the second one brings.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(measure(&options, workload))?;
    let json = serde_json::to_string_pretty(&report).context("spell the report")?;
    if let Some(path) = &options.report {
        std::fs::write(path, &json).with_context(|| format!("write {}", path.display()))?;
    }
    let text = match options.output {
        Output::Text => report.text(),
        Output::Json => json + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("print the report")?;
    Ok(report.verdict.is_within_errors)
}

/// A cluster to put load on.
struct Cluster {
    client: Client,
    spawned: Option<Spawned>,
    addresses: Vec<String>,
}

async fn measure(options: &Options, workload: Workload) -> Result<Report> {
    let cluster = options.cluster().await?;
    let fsync = match &cluster.spawned {
        Some(spawned) => Some(host::probe_fsync(spawned.dir()).context("probe the disk")?),
        None => None,
    };
    let mut phases = Vec::new();
    if workload.region_count > 1 && !options.no_split {
        phases.extend(regions::divide(&cluster.client, &workload, cluster.addresses.len()).await?);
    }
    if workload.get_fraction > 0.0 && !options.no_preload {
        let started = Instant::now();
        preload(&cluster.client, &workload).await?;
        phases.push(Phase { name: "preload", seconds: started.elapsed().as_secs_f64() });
    }
    let before = scrape::scrape_all(&cluster.addresses).await;
    let cpu_before = cluster.spawned.as_ref().map(Spawned::cpu_times).unwrap_or_default();
    let client_before = host::cpu_time(None).unwrap_or_default();
    let started = Instant::now();

    let mut live = Live::new(!options.quiet);
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let generator = Generator::new(workload.clone());
    let load = options.load();
    let outcome = load::run(
        cluster.client.clone(),
        generator,
        load.clone(),
        |second| live.on_second(second),
        interrupt,
    )
    .await;

    let elapsed = started.elapsed();
    let client_cpu = host::cpu_time(None).unwrap_or_default().saturating_sub(client_before);
    let servers = cluster.servers(&before, &cpu_before).await;
    if let Some(spawned) = &cluster.spawned {
        spawned.check()?;
    }
    phases.push(Phase { name: "warmup", seconds: load.warmup.min(elapsed).as_secs_f64() });
    phases.push(Phase { name: "run", seconds: outcome.measured.as_secs_f64() });
    let host = Host::look();
    let is_one_machine = cluster.addresses.iter().all(|address| is_here(address));
    let facts = Facts {
        outcome: &outcome,
        is_open: options.rate.is_some(),
        client_cpu,
        elapsed,
        error_ratio_max: options.errors_max,
        is_one_machine,
        cores: host.cores,
    };
    let meta = Meta { fsync, ..options.meta(&workload, &cluster, host, is_one_machine) };
    Ok(report(meta, phases, servers, &facts, &outcome))
}

fn report(meta: Meta, phases: Vec<Phase>, servers: Servers, facts: &Facts<'_>, outcome: &Outcome) -> Report {
    Report {
        schema: SCHEMA,
        meta,
        phases,
        ops: facts.operations(),
        region_gaps: facts.region_gaps(),
        schedule_lag: facts.schedule_lag(),
        series: outcome.recorder.series.clone(),
        servers,
        client: facts.client(),
        verdict: facts.verdict(),
    }
}

impl Options {
    fn workload(&self, get_fraction: f64) -> Workload {
        Workload {
            get_fraction,
            key_count: self.keys,
            key_bytes: self.key_len,
            key_order: self.key_order,
            value_bytes: self.value_size,
            distribution: self.dist,
            seed: self.seed,
            region_count: self.regions,
            active_count: self.active.unwrap_or(self.regions),
        }
    }

    fn load(&self) -> Load {
        let count = |number: u64| usize::try_from(number.max(1)).unwrap_or(usize::MAX);
        Load {
            pace: match self.rate {
                Some(per_second) => {
                    Pace::Open { per_second, in_flight_max: count(self.in_flight_max), has_pacer: true }
                }
                None => Pace::Closed { concurrency: count(self.concurrency) },
            },
            warmup: self.warmup,
            extent: self.ops.map_or(Extent::Duration(self.duration), Extent::Operations),
        }
    }

    fn client_options(&self) -> ClientOptions {
        ClientOptions {
            retry: RetryPolicy { retry_idempotent: self.retry_writes, ..RetryPolicy::default() },
            streams_per_store: self.streams.into(),
            credentials: if self.insecure { Credentials::Insecure } else { Credentials::Loopback },
        }
    }

    /// Starts a cluster or finds the given one, and waits until it is whole.
    async fn cluster(&self) -> Result<Cluster> {
        let deadline = Instant::now() + CLUSTER_WAIT_MAX;
        let Some(store_count) = self.spawn else {
            let client = self.connect(&self.endpoints, deadline).await?;
            let addresses = client.endpoints().to_vec();
            return Ok(Cluster { client, spawned: None, addresses });
        };
        let store_count = usize::from(store_count);
        let spawned = Spawned::start(store_count, self.spawn_dir.as_deref(), &self.store_set).await?;
        let addresses = spawned.addresses();
        let client = self.connect(&addresses, deadline).await?;
        // Writes to a region that is not replicated yet would be cheaper than they are.
        let replicated = load::poll_until(deadline, CLUSTER_POLL, async || {
            spawned.check().map_err(|error| error.to_string())?;
            let region = client.find_region(Vec::new()).await.map_err(|error| error.to_string())?;
            let voter_count = region.configuration().voters.len();
            if voter_count >= store_count.min(VOTERS) && region.configuration().outgoing.is_empty() {
                return Ok(());
            }
            Err(format!("the first region has {voter_count} voters"))
        });
        replicated.await.map_err(|reason| anyhow!("wait for replication: {reason}"))?;
        Ok(Cluster { client, spawned: Some(spawned), addresses })
    }

    async fn connect(&self, addresses: &[String], deadline: Instant) -> Result<Client> {
        let attempt = async || {
            let connected = Client::connect_with(addresses, self.client_options()).await;
            connected.map_err(|error| error.to_string())
        };
        let connected = load::poll_until(deadline, CLUSTER_POLL, attempt).await;
        connected.map_err(|reason| anyhow!("connect to {}: {reason}", addresses.join(", ")))
    }

    fn meta(&self, workload: &Workload, cluster: &Cluster, host: Host, is_one_machine: bool) -> Meta {
        Meta {
            argv: std::env::args().collect(),
            version: env!("CARGO_PKG_VERSION"),
            profile: env!("BENCH_PROFILE"),
            rustc: env!("BENCH_RUSTC"),
            seed: workload.seed,
            loop_kind: match self.rate {
                Some(rate) => format!("open, {rate} a second"),
                None => format!("closed, {} at a time", self.concurrency),
            },
            distribution: workload.distribution.to_string(),
            keys: workload.key_count,
            key_bytes: workload.key_bytes,
            value_bytes: workload.value_bytes,
            regions: workload.region_count,
            active_regions: workload.active_count,
            cluster: if cluster.spawned.is_some() { "spawned" } else { "given" },
            stores: cluster.addresses.clone(),
            store_settings: self.store_set.clone(),
            host,
            fsync: None,
            is_one_machine,
        }
    }
}

impl Cluster {
    /// What the stores have counted since then.
    async fn servers(
        &self,
        before: &std::collections::BTreeMap<String, scrape::Counters>,
        cpu_before: &[(String, Duration)],
    ) -> Servers {
        let after = scrape::scrape_all(&self.addresses).await;
        let nothing = scrape::Counters::new();
        let counted = after.iter().map(|(address, after)| {
            (address.clone(), scrape::difference(before.get(address).unwrap_or(&nothing), after))
        });
        let stores: std::collections::BTreeMap<_, _> = counted.collect();
        let cpu_after = self.spawned.as_ref().map(Spawned::cpu_times).unwrap_or_default();
        let used = cpu_after.into_iter().filter_map(|(address, after)| {
            let (_, before) = cpu_before.iter().find(|(other, _)| *other == address)?;
            Some((address, after.saturating_sub(*before).as_secs_f64()))
        });
        Servers {
            total: scrape::total(&stores.values().collect::<Vec<_>>()),
            cpu_seconds: used.collect(),
            stores,
        }
    }
}

/// Writes every key once.
async fn preload(client: &Client, workload: &Workload) -> Result<()> {
    let pair_bytes = u64::try_from(workload.key_bytes + workload.value_bytes).unwrap_or(u64::MAX).max(1);
    let step = (PRELOAD_BATCH_BYTES_MAX / pair_bytes).clamp(1, PRELOAD_BATCH_KEYS_MAX);
    let mut generator = Generator::new(workload.clone());
    let batch_count = workload.key_count.div_ceil(step);
    let batches = (0..batch_count).map(|batch| {
        let work = generator.pairs(batch * step..((batch + 1) * step).min(workload.key_count));
        client.run(work)
    });
    let mut results = stream::iter(batches).buffer_unordered(PRELOAD_CONCURRENCY);
    while let Some(result) = results.next().await {
        result.map_err(Arc::new).context("write the keys before the run")?;
    }
    Ok(())
}

fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> std::result::Result<Args, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_shape_the_load() {
        let args = parse("bench put --endpoints a:1,b:2 --rate 20k --duration 30s --warmup 2s").unwrap();
        let Verb::Put(options) = args.load else { panic!("another verb") };
        assert_eq!(options.endpoints, ["a:1", "b:2"]);
        let load = options.load();
        assert!(matches!(load.pace, Pace::Open { per_second: 20_000.0, in_flight_max: 10_000, .. }));
        assert!(matches!(load.extent, Extent::Duration(length) if length == Duration::from_secs(30)));
        assert_eq!(load.warmup, Duration::from_secs(2));

        let args = parse("bench put --spawn 3 --regions 10k --active 10").unwrap();
        let Verb::Put(options) = args.load else { panic!("another verb") };
        let workload = options.workload(0.0);
        assert_eq!((workload.region_count, workload.active_count), (10_000, 10));
        workload.check().unwrap();

        let args = parse("bench mixed --spawn 3 --get-ratio 95% --ops 1M --dist hotspot:0.1/0.9").unwrap();
        let Verb::Mixed { get_ratio, options } = args.load else { panic!("another verb") };
        assert!((get_ratio - 0.95).abs() < 1e-9);
        let load = options.load();
        assert!(matches!(load.pace, Pace::Closed { concurrency: 64 }));
        assert!(matches!(load.extent, Extent::Operations(1_000_000)));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "bench put",
            "bench put --spawn 3 --endpoints a:1",
            "bench put --spawn 3 --rate 1k --concurrency 5",
            "bench put --spawn 3 --ops 5 --duration 1s",
            "bench put --spawn 0",
            "bench put --spawn-dir /tmp --endpoints a:1",
            "bench put --spawn 3 --dist zipf",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_debug_build_measures_nothing_unasked() {
        let args = parse("bench put --endpoints 127.0.0.1:1").unwrap();
        if cfg!(debug_assertions) {
            assert!(try_run(args).unwrap_err().to_string().contains("debug build"));
        }
    }
}
