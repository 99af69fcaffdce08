//! One run: a cluster, its clients and its faults under one seed, from the first store to the last check.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    checks::{self, Checks, Violation},
    clients::{Clients, Workload},
    operator::{Operator, REGIONS_MAX},
    plan::Plan,
    world::{Alarm, Moment, Rng, Step, Trace, World, network::Site},
};

/// How long a run may take beyond its minimum until it has seen enough operations and faults.
const EXTRA: Duration = Duration::from_secs(300);

/// Without faults, every client must get an operation done within this.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// Without faults and operations, all peers of a region must be equal within this.
const CONVERGENCE_MAX: Duration = Duration::from_secs(15);

/// What a run must reach at least.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Virtual time with faults.
    pub time: Duration,
    /// Operations that ended.
    pub operations: u64,
    /// Faults.
    pub faults: u64,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Virtual time with faults.
    pub time: Duration,
    /// Steps of the world.
    pub steps: u64,
    /// Operations of clients that ended.
    pub operations: u64,
    /// Of these, those that were carried out.
    pub succeeded: u64,
    /// Faults.
    pub faults: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Machines that lost power.
    pub power_losses: u64,
    /// Processes paused, or machines suspended.
    pub pauses: u64,
    /// Networks cut.
    pub partitions: u64,
    /// Leader transfers that succeeded.
    pub transfers: u64,
    /// Moves of regions to other stores that began.
    pub moves: u64,
    /// Splits of regions that were done.
    pub splits: u64,
    /// Splits that were asked for again.
    pub repeats: u64,
    /// Regions with keys at the end.
    pub regions: u64,
    /// Of these, regions that stores had made because others were too large.
    pub own_regions: u64,
    /// Regions that came back to a store that they had left, under a new peer id.
    pub returns: u64,
    /// Snapshots that were received whole.
    pub snapshots: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Peers that were seen to fall asleep.
    pub sleeps: u64,
    /// Peers that were seen to wake.
    pub wakes: u64,
    /// Timestamps that placement gave.
    pub timestamps: u64,
    /// Stores that stopped by themselves because their disk failed.
    pub stops: u64,
    /// Times that a store had no room in memory for somebody.
    pub refusals: u64,
    /// Faults by kind.
    pub by_kind: BTreeMap<String, u64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// What happened.
    pub totals: Totals,
    /// The hash of the trace.
    pub digest: u64,
    /// The trace, if it was kept.
    pub trace: Option<String>,
    /// What was wrong.
    pub failure: Option<Violation>,
}

impl Default for Goal {
    fn default() -> Goal {
        Goal { time: Duration::from_secs(20), operations: 1_000, faults: 5 }
    }
}

struct Run {
    world: World,
    clients: Clients,
    operator: Operator,
    plan: Plan,
    checks: Checks,
    steps: u64,
}

/// Carries out a run.
#[must_use]
pub fn run(seed: u64, goal: Goal, is_trace_kept: bool) -> Report {
    let mut rng = Rng::new(seed, "run");
    let host_count = if rng.happens(750) { 3 } else { 5 };
    let workload = Workload::of_run(&mut rng);
    let config = draw_config(&mut rng);
    let region_count = draw_region_count(&mut rng);
    let mut world = World::new(seed, host_count, config.clone(), Trace::new(is_trace_kept));
    world.note(format_args!(
        "seed {seed}: {host_count} machines, {region_count} regions, {workload:?}, {config:?}"
    ));
    let mut run = Run {
        world,
        clients: Clients::new(seed, workload),
        operator: Operator::new(seed, workload.key_count, region_count),
        plan: Plan::new(seed, workload.client_count),
        checks: Checks::new(),
        steps: 0,
    };
    let mut time = Duration::ZERO;
    let outcome = run.play(goal, &mut time);
    let failure = outcome.err();
    if let Some(violation) = &failure {
        run.world.note(format_args!("violation: {violation}"));
    }
    let totals = run.totals(time);
    let trace = run.world.into_trace();
    Report { totals, digest: trace.digest(), trace: trace.into_text(), failure }
}

/// Settings that make rare things happen often: flushes after a few hundred bytes, logs of a few dozen entries.
fn draw_config(rng: &mut Rng) -> store::Config {
    store::Config {
        seed: 0,
        raft_worker_count: 1 + rng.place(2),
        apply_worker_count: 1 + rng.place(2),
        read_worker_count: 1 + rng.place(2),
        flush_bytes: rng.between(200, 8 << 10),
        log_kept_entries: rng.between(4, 64),
        log_lag_entries_max: rng.between(16, 128),
        reserve_bytes: 1,
        sleep_after: rng.skewed(Duration::from_millis(20), Duration::from_secs(3)),
        // From one that a few writes fill to one that nothing fills.
        memory_limit_bytes: rng.pick(&[4 << 10, 8 << 10, 64 << 10, 64 << 20]),
        // In some runs regions are split by themselves, down to their last key in a few.
        region_split_bytes: if rng.happens(300) { rng.between(40, 1 << 10) } else { 0 },
        ..store::Config::default()
    }
}

/// With how many regions a run begins: mostly with the one that a cluster has, now and then with many.
fn draw_region_count(rng: &mut Rng) -> usize {
    if rng.happens(880) {
        return 1;
    }
    // Each order of magnitude as likely as any other, ...
    let at_most: usize = 1 << rng.between(2, 8);
    let count = at_most / 2 + rng.place(at_most / 2);
    // ... and in some runs as many as there may be.
    if rng.happens(250) { REGIONS_MAX } else { count.min(REGIONS_MAX) }
}

impl Run {
    fn play(&mut self, goal: Goal, time: &mut Duration) -> Result<(), Violation> {
        self.operator.begin(&mut self.world);
        self.clients.begin(&mut self.world);
        self.plan.begin(&mut self.world);
        // 1. Faults, until there were enough of everything.
        let end = Moment::ZERO + goal.time;
        let is_enough = |run: &Run| {
            run.world.now() >= end
                && run.clients.finished_count() >= goal.operations
                && run.plan.fault_count >= goal.faults
        };
        self.advance(end + EXTRA, is_enough)?;
        *time = self.world.now().since(Moment::ZERO);
        // 2. No faults: the cluster recovers, and serves everyone.
        self.plan.end();
        self.operator.end_divisions();
        self.world.calm();
        self.world.note(format_args!("calm"));
        let served_before = self.clients.served_counts();
        let is_served = |run: &Run| {
            run.clients.served_counts().iter().zip(&served_before).all(|(now, before)| now > before)
        };
        if !self.advance(self.world.now() + RECOVERY_MAX, is_served)? {
            return Err(Violation::NotServed { within: RECOVERY_MAX, pictures: checks::show(&self.world) });
        }
        // 3. No requests: all peers become equal.
        self.clients.stop();
        let deadline = self.world.now() + CONVERGENCE_MAX;
        self.advance(deadline, |run| run.clients.are_idle() && checks::unsettled(&run.world).is_none())?;
        self.checks.at_end(&self.world)?;
        self.operator.check_splits(&self.world)?;
        let hosts: Vec<_> = self.world.hosts().collect();
        hosts.into_iter().for_each(|host| self.world.count_refusals(host));
        // 4. What clients saw can be explained.
        self.clients.history().check().map_err(|violation| Violation::History(Box::new(violation)))?;
        Ok(())
    }

    /// Runs until something is reached (`true`), or a moment.
    fn advance(&mut self, end: Moment, is_reached: impl Fn(&Run) -> bool) -> Result<bool, Violation> {
        let mut next_look = self.steps;
        loop {
            if self.steps >= next_look {
                if is_reached(self) {
                    return Ok(true);
                }
                next_look = self.steps + 64;
            }
            let Some(step) = self.world.step(end) else { return Ok(is_reached(self)) };
            self.steps += 1;
            match step {
                Step::Host(host) => self.checks.after_round(&self.world, host)?,
                Step::Still(_) => self.checks.after_event(&self.world)?,
                Step::Started(host) => self.checks.on_start(&self.world, host)?,
                Step::GaveUp(host, reason) => return Err(Violation::GaveUp { host, reason }),
                Step::Answer(answered) => match answered.to {
                    Site::Client(at) => self.clients.on_answer(&mut self.world, at, *answered),
                    Site::Operator => self.operator.on_answer(&mut self.world, *answered)?,
                    Site::Host(_) => {}
                },
                Step::Alarm(Alarm::Client(at, number)) => self.clients.on_alarm(&mut self.world, at, number),
                Step::Alarm(Alarm::Operator(number)) => self.operator.on_alarm(&mut self.world, number),
                Step::Alarm(Alarm::Fault(number)) => {
                    self.plan.on_alarm(&mut self.world, &mut self.operator, number)
                }
            }
        }
    }

    fn totals(&self, time: Duration) -> Totals {
        let counters = self.world.counters();
        Totals {
            time,
            steps: self.steps,
            operations: self.clients.finished_count(),
            succeeded: self.clients.succeeded_count(),
            faults: self.plan.fault_count,
            crashes: counters.crashes,
            power_losses: counters.power_losses,
            pauses: counters.pauses,
            partitions: self.plan.partition_count,
            transfers: self.operator.transfer_count,
            moves: self.operator.move_count,
            splits: self.operator.split_count(),
            repeats: self.operator.repeat_count(),
            regions: self.world.client_regions().len() as u64,
            own_regions: self.operator.own_region_count(&self.world),
            returns: self.checks.return_count(),
            snapshots: counters.snapshots,
            elections: self.checks.election_count(),
            sleeps: self.checks.sleep_count(),
            wakes: self.checks.wake_count(),
            timestamps: self.operator.timestamp_count,
            stops: counters.stops,
            refusals: counters.refusals,
            by_kind: self.plan.by_kind.clone(),
        }
    }
}

impl Totals {
    /// The names of the columns of [`Totals`]' display.
    pub const HEADER: &str = "   time    steps    ops     ok faults crash power pause  part trans moves split again  regs   own retur  snap elect sleep  wake    ts  stop";

    /// Adds another run's.
    pub fn add(&mut self, other: &Totals) {
        self.time += other.time;
        self.steps += other.steps;
        self.operations += other.operations;
        self.succeeded += other.succeeded;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.power_losses += other.power_losses;
        self.pauses += other.pauses;
        self.partitions += other.partitions;
        self.transfers += other.transfers;
        self.moves += other.moves;
        self.splits += other.splits;
        self.repeats += other.repeats;
        self.regions += other.regions;
        self.own_regions += other.own_regions;
        self.returns += other.returns;
        self.snapshots += other.snapshots;
        self.elections += other.elections;
        self.sleeps += other.sleeps;
        self.wakes += other.wakes;
        self.timestamps += other.timestamps;
        self.stops += other.stops;
        self.refusals += other.refusals;
        for (kind, count) in &other.by_kind {
            *self.by_kind.entry(kind.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.1}s {:8} {:6} {:6} {:6} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5}",
            self.time.as_secs_f64(),
            self.steps,
            self.operations,
            self.succeeded,
            self.faults,
            self.crashes,
            self.power_losses,
            self.pauses,
            self.partitions,
            self.transfers,
            self.moves,
            self.splits,
            self.repeats,
            self.regions,
            self.own_regions,
            self.returns,
            self.snapshots,
            self.elections,
            self.sleeps,
            self.wakes,
            self.timestamps,
            self.stops
        )
    }
}
