//! One run: a cluster, its clients and its faults under one seed, from the first store to the last check.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    checks::{self, Violation},
    clients::{Clients, Workload},
    operator::{Operator, REGIONS_MAX},
    plan::Plan,
    scene::Scene,
    world::{Moment, Rng, Trace, World},
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
    /// Changes of regions' peers that began.
    pub moves: u64,
    /// Of these, learners that come, or begin to vote.
    pub learners: u64,
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
    let clients = Clients::new(seed, workload);
    let operator = Operator::new(seed, workload.key_count, region_count);
    let mut scene = Scene::new(world, clients, operator, Plan::new(seed, workload.client_count));
    let mut time = Duration::ZERO;
    let outcome = play(&mut scene, goal, &mut time);
    let failure = outcome.err();
    if let Some(violation) = &failure {
        scene.world.note(format_args!("violation: {violation}"));
    }
    let totals = Totals::of(&scene, time);
    let trace = scene.world.into_trace();
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

fn play(scene: &mut Scene, goal: Goal, time: &mut Duration) -> Result<(), Violation> {
    scene.operator.begin(&mut scene.world);
    scene.clients.begin(&mut scene.world);
    scene.plan.begin(&mut scene.world);
    // 1. Faults, until there were enough of everything.
    let end = Moment::ZERO + goal.time;
    let is_enough = |scene: &Scene| {
        scene.world.now() >= end
            && scene.clients.finished_count() >= goal.operations
            && scene.plan.fault_count >= goal.faults
    };
    scene.advance(end + EXTRA, is_enough)?;
    *time = scene.world.now().since(Moment::ZERO);
    // 2. No faults: the cluster recovers, and serves everyone.
    scene.plan.end();
    scene.operator.end_divisions();
    scene.world.calm();
    scene.world.note(format_args!("calm"));
    let served_before = scene.clients.served_counts();
    let is_served = |scene: &Scene| {
        scene.clients.served_counts().iter().zip(&served_before).all(|(now, before)| now > before)
    };
    if !scene.advance(scene.world.now() + RECOVERY_MAX, is_served)? {
        return Err(Violation::NotServed { within: RECOVERY_MAX, pictures: checks::show(&scene.world) });
    }
    // 3. No requests: all peers become equal.
    scene.clients.stop();
    let deadline = scene.world.now() + CONVERGENCE_MAX;
    scene.advance(deadline, |scene| scene.clients.are_idle() && checks::unsettled(&scene.world).is_none())?;
    scene.checks.at_end(&scene.world)?;
    scene.operator.check_splits(&scene.world)?;
    let hosts: Vec<_> = scene.world.hosts().collect();
    hosts.into_iter().for_each(|host| scene.world.count_refusals(host));
    // 4. What clients saw can be explained.
    scene.clients.history().check().map_err(|violation| Violation::History(Box::new(violation)))?;
    Ok(())
}

impl Totals {
    /// The names of the columns of [`Totals`]' display.
    pub const HEADER: &str = "   time    steps    ops     ok faults crash power pause  part trans moves learn split again  regs   own retur  snap elect sleep  wake    ts  stop";

    fn of(scene: &Scene, time: Duration) -> Totals {
        let counters = scene.world.counters();
        Totals {
            time,
            steps: scene.step_count,
            operations: scene.clients.finished_count(),
            succeeded: scene.clients.succeeded_count(),
            faults: scene.plan.fault_count,
            crashes: counters.crashes,
            power_losses: counters.power_losses,
            pauses: counters.pauses,
            partitions: scene.plan.partition_count,
            transfers: scene.operator.transfer_count,
            moves: scene.operator.move_count,
            learners: scene.operator.learner_count,
            splits: scene.operator.split_count(),
            repeats: scene.operator.repeat_count(),
            regions: scene.world.client_regions().len() as u64,
            own_regions: scene.operator.own_region_count(&scene.world),
            returns: scene.checks.return_count(),
            snapshots: counters.snapshots,
            elections: scene.checks.election_count(),
            sleeps: scene.checks.sleep_count(),
            wakes: scene.checks.wake_count(),
            timestamps: scene.operator.timestamp_count,
            stops: counters.stops,
            refusals: counters.refusals,
            by_kind: scene.plan.by_kind.clone(),
        }
    }

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
        self.learners += other.learners;
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
            "{:6.1}s {:8} {:6} {:6} {:6} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5} {:5}",
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
            self.learners,
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
