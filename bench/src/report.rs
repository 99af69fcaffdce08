//! What a run says in the end: as text, and as JSON of the schema `sheaf.bench.run/v1`, in which fields are only added.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    host::{FsyncProbe, Host},
    limits::{CLIENT_CORES_MAX, LAG_MAX},
    live::short,
    load::Outcome,
    record::{Latencies, Percentiles, Second, Tally},
};

/// The schema's name.
pub(crate) const SCHEMA: &str = "sheaf.bench.run/v1";

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) meta: Meta,
    pub(crate) phases: Vec<Phase>,
    pub(crate) ops: BTreeMap<&'static str, Operations>,
    /// For each region, the longest time between two successes in it; where there are several.
    pub(crate) region_gaps: Option<Percentiles>,
    /// How late operations of an open loop were sent.
    pub(crate) schedule_lag: Option<Percentiles>,
    pub(crate) series: Vec<Second>,
    pub(crate) servers: Servers,
    pub(crate) client: ClientUse,
    pub(crate) verdict: Verdict,
}

/// What was run, with what, where.
#[derive(Debug, Serialize)]
pub(crate) struct Meta {
    pub(crate) argv: Vec<String>,
    pub(crate) version: &'static str,
    pub(crate) profile: &'static str,
    pub(crate) rustc: &'static str,
    pub(crate) seed: u64,
    /// `closed, 64 at a time`, or `open, 20000 a second`.
    pub(crate) loop_kind: String,
    pub(crate) distribution: String,
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    /// Regions that the keyspace was divided into; one: it was left as it was.
    pub(crate) regions: u64,
    /// Of these, regions that got operations.
    pub(crate) active_regions: u64,
    /// `spawned` or `given`.
    pub(crate) cluster: &'static str,
    pub(crate) stores: Vec<String>,
    pub(crate) store_settings: Vec<String>,
    pub(crate) host: Host,
    /// Of the disk below the stores; only where this process started them.
    pub(crate) fsync: Option<FsyncProbe>,
    /// Client and servers share the cores.
    pub(crate) is_one_machine: bool,
}

/// One part of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
}

/// What became of the operations of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct Operations {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// Reads of keys that do not exist; they are among `count`.
    pub(crate) missing: u64,
    pub(crate) bytes: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) undetermined: BTreeMap<&'static str, u64>,
    pub(crate) response: Option<Percentiles>,
    pub(crate) service: Option<Percentiles>,
}

/// What the stores counted while it ran.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Servers {
    pub(crate) total: BTreeMap<&'static str, f64>,
    pub(crate) stores: BTreeMap<String, BTreeMap<&'static str, f64>>,
    /// From the kernel, of stores that this process started.
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
}

/// What the generator used.
#[derive(Debug, Serialize)]
pub(crate) struct ClientUse {
    pub(crate) cpu_seconds: f64,
    /// On average, of the one that its thread can use.
    pub(crate) cores: f64,
    pub(crate) cpu_micros_per_op: f64,
}

/// What to think of the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) is_client_limited: bool,
    pub(crate) is_rate_kept: bool,
    pub(crate) was_interrupted: bool,
    /// Operations that were due and never sent.
    pub(crate) unsent: u64,
    /// Failed and undetermined, of all that ended.
    pub(crate) error_ratio: f64,
    pub(crate) error_ratio_max: f64,
    pub(crate) is_within_errors: bool,
    pub(crate) notes: Vec<String>,
}

/// What the parts that depend on the outcome are made of.
pub(crate) struct Facts<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) is_open: bool,
    pub(crate) client_cpu: Duration,
    /// From the start to the end of the load, the warm-up included: what `client_cpu` was used in.
    pub(crate) elapsed: Duration,
    pub(crate) error_ratio_max: f64,
    pub(crate) is_one_machine: bool,
    pub(crate) cores: usize,
}

impl Facts<'_> {
    /// Operations by kind.
    pub(crate) fn operations(&self) -> BTreeMap<&'static str, Operations> {
        let seconds = self.outcome.measured.as_secs_f64().max(1e-9);
        let tallies = self.outcome.recorder.tallies();
        tallies.iter().map(|(kind, tally)| (kind.name(), operations(tally, seconds))).collect()
    }

    /// How long regions were without a success.
    pub(crate) fn region_gaps(&self) -> Option<Percentiles> {
        let gaps = self.outcome.recorder.longest_gaps();
        gaps.percentiles().filter(|_| gaps.count() > 1)
    }

    /// How late the schedule was.
    pub(crate) fn schedule_lag(&self) -> Option<Percentiles> {
        self.outcome.recorder.lag.percentiles().filter(|_| self.is_open)
    }

    /// What the generator used.
    pub(crate) fn client(&self) -> ClientUse {
        let ended: u64 = self
            .outcome
            .recorder
            .series
            .iter()
            .map(|second| second.done_count + second.failed_count + second.undetermined_count)
            .sum();
        let cpu_seconds = self.client_cpu.as_secs_f64();
        ClientUse {
            cpu_seconds,
            cores: cpu_seconds / self.elapsed.as_secs_f64().max(1e-9),
            cpu_micros_per_op: cpu_seconds * 1e6 / float(ended).max(1.0),
        }
    }

    /// What to think of it.
    pub(crate) fn verdict(&self) -> Verdict {
        let tallies = || self.outcome.recorder.tallies().values();
        let done: u64 = tallies().map(|tally| tally.done_count).sum();
        let errors: u64 = tallies().map(|tally| tally.failed_count() + tally.undetermined_count()).sum();
        let missing: u64 = tallies().map(|tally| tally.missing_count).sum();
        let error_ratio = float(errors) / float(done + errors).max(1.0);
        let client = self.client();
        let lag_p99 = self.lag_p99();
        let unsent = self.outcome.unsent_count;
        let mut notes = Vec::new();
        if client.cores >= CLIENT_CORES_MAX {
            notes.push(format!("client-limited: the generator used {:.2} of its one core", client.cores));
        }
        if let Some(lag) = lag_p99.filter(|lag| *lag > LAG_MAX) {
            notes.push(format!("operations were sent up to {} late (p99)", short(lag)));
        }
        if unsent > 0 {
            notes.push(format!("the rate was not kept: {unsent} operations were due and never sent"));
        }
        if self.is_one_machine {
            notes.push(format!("same machine: client and servers share {} cores", self.cores));
        }
        if missing > 0 {
            notes.push(format!("{missing} reads found nothing"));
        }
        if self.outcome.was_interrupted {
            notes.push("interrupted".to_owned());
        }
        if done == 0 {
            notes.push("no operation was done".to_owned());
        }
        Verdict {
            is_client_limited: client.cores >= CLIENT_CORES_MAX,
            is_rate_kept: unsent == 0 && lag_p99.is_none_or(|lag| lag <= LAG_MAX),
            was_interrupted: self.outcome.was_interrupted,
            unsent,
            error_ratio,
            error_ratio_max: self.error_ratio_max,
            is_within_errors: done > 0 && error_ratio <= self.error_ratio_max,
            notes,
        }
    }

    fn lag_p99(&self) -> Option<Duration> {
        let lag: &Latencies = &self.outcome.recorder.lag;
        (self.is_open && lag.count() > 0).then(|| lag.quantile_of_few(0.99))
    }
}

fn operations(tally: &Tally, seconds: f64) -> Operations {
    Operations {
        count: tally.done_count,
        per_second: float(tally.done_count) / seconds,
        missing: tally.missing_count,
        bytes: tally.bytes,
        failed: tally.failed.clone(),
        undetermined: tally.undetermined.clone(),
        response: tally.response.percentiles(),
        service: tally.service.percentiles(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of operations are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

impl Report {
    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut print = |line: String| writeln!(out, "{line}").expect("a string takes all");
        let meta = &self.meta;
        print(format!(
            "{} stores ({}), {}, {} keys {}, {}-byte keys, {}-byte values, seed {}",
            meta.stores.len(),
            meta.cluster,
            meta.loop_kind,
            meta.keys,
            meta.distribution,
            meta.key_bytes,
            meta.value_bytes,
            meta.seed
        ));
        if meta.regions > 1 {
            let find = |name: &str| self.phases.iter().find(|phase| phase.name == name);
            let length = |name: &str| {
                let phase = find(name).map(|phase| short(Duration::from_secs_f64(phase.seconds)));
                phase.unwrap_or_else(|| "-".to_owned())
            };
            print(format!(
                "{} regions, load on {} of them; split in {}, led from every store after {} more",
                meta.regions,
                meta.active_regions,
                length("split"),
                length("spread")
            ));
        }
        print(format!("{} × {}, {} build", meta.host.cores, meta.host.cpu_model, meta.profile));
        if let Some(fsync) = &meta.fsync {
            let latency = |seconds| short(Duration::from_secs_f64(seconds));
            print(format!("fsync p50 {}, p99 {}", latency(fsync.p50_seconds), latency(fsync.p99_seconds)));
        }
        for (name, operations) in &self.ops {
            print(String::new());
            operations.print(name, &mut print);
        }
        if let Some(gaps) = &self.region_gaps {
            let cell = |seconds| short(Duration::from_secs_f64(seconds));
            print(format!(
                "a region's longest time without a success: p50 {}, p99 {}, max {}",
                cell(gaps.p50_seconds),
                gaps.p99_seconds.map_or_else(|| "-".to_owned(), cell),
                cell(gaps.max_seconds)
            ));
        }
        print(String::new());
        self.print_servers(&mut print);
        let client = &self.client;
        print(format!(
            "client     {:.2} cores, {:.1} µs of CPU per operation",
            client.cores, client.cpu_micros_per_op
        ));
        let verdict = &self.verdict;
        let errors = if verdict.is_within_errors { "ok" } else { "too many errors" };
        print(format!(
            "verdict    {errors}: {} of all operations failed, {} may",
            verdict.error_ratio, verdict.error_ratio_max
        ));
        for note in &verdict.notes {
            print(format!("           {note}"));
        }
        out
    }

    fn print_servers(&self, print: &mut impl FnMut(String)) {
        let total = &self.servers.total;
        let of = |key: &str| total.get(key).map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"));
        if !total.is_empty() {
            print(format!(
                "stores     fsyncs {}, log batches {}, entries per log batch {}, requests per entry {}",
                of("fsyncs"),
                of("log_batches"),
                of("entries_per_log_batch"),
                of("requests_per_entry")
            ));
            print(format!(
                "           frames {}, messages per frame {}, requests per apply batch {}",
                of("frames_sent"),
                of("messages_per_frame"),
                of("requests_per_apply_batch")
            ));
            print(format!(
                "           requests per log batch {}, commands per client batch {}, elections {}",
                of("requests_per_log_batch"),
                of("commands_per_client_batch"),
                of("elections")
            ));
        }
        let cpu_seconds: f64 = self.servers.cpu_seconds.values().sum();
        if cpu_seconds > 0.0 {
            let ended = self.client.cpu_seconds * 1e6 / self.client.cpu_micros_per_op.max(1e-9);
            print(format!(
                "           {cpu_seconds:.1} s of CPU, {:.1} µs per operation",
                cpu_seconds * 1e6 / ended.max(1.0)
            ));
        }
    }
}

impl Operations {
    fn print(&self, name: &str, print: &mut impl FnMut(String)) {
        let count = |errors: &BTreeMap<&str, u64>| {
            let total: u64 = errors.values().sum();
            let names: Vec<_> = errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if names.is_empty() { total.to_string() } else { format!("{total} ({})", names.join(", ")) }
        };
        print(format!(
            "{name}: {:.0} ops/s, {:.1} MB/s; {} done, {} failed, {} undetermined",
            self.per_second,
            self.per_second * float(self.bytes) / float(self.count).max(1.0) / 1e6,
            self.count,
            count(&self.failed),
            count(&self.undetermined)
        ));
        print(format!(
            "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "mean", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max"
        ));
        for (label, percentiles) in [("response", &self.response), ("service", &self.service)] {
            let Some(percentiles) = percentiles else { continue };
            let cell = |seconds: Option<f64>| {
                seconds.map_or_else(|| "-".to_owned(), |seconds| short(Duration::from_secs_f64(seconds)))
            };
            print(format!(
                "{label:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
                cell(Some(percentiles.mean_seconds)),
                cell(Some(percentiles.p50_seconds)),
                cell(percentiles.p90_seconds),
                cell(percentiles.p95_seconds),
                cell(percentiles.p99_seconds),
                cell(percentiles.p999_seconds),
                cell(percentiles.p9999_seconds),
                cell(Some(percentiles.max_seconds))
            ));
        }
    }
}
