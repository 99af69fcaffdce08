//! The plan of faults: what goes wrong, when, and when it is over again.
//!
//! Which kinds of fault a run sees, and how often each, is drawn once for the run (swarm testing: a run that sees few
//! kinds reaches states that a run which sees all of them never does). Faults overlap: a majority may be down at times.

use std::{collections::BTreeMap, time::Duration};

use engine::mem::Fault as DiskFault;
use types::RegionId;

use crate::{
    operator::Operator,
    world::{Alarm, HostId, Rng, World, network::Site},
};

/// The number of the alarm for the next fault; higher ones end a fault.
const NEXT: u64 = 0;

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One process is killed.
    Crash,
    /// The process that leads some region is killed.
    CrashLeader,
    /// One machine loses power.
    PowerLoss,
    /// All machines lose power at once.
    PowerLossAll,
    /// A process is stopped and goes on.
    Pause,
    /// The leader's machine is suspended without its monotonic clock noticing.
    Suspend,
    /// Two parts cannot hear one another.
    Halves,
    /// One machine cannot reach the others, or cannot hear them.
    OneWay,
    /// The leader of some region is cut off from the other stores, and not from clients.
    IsolateLeader,
    /// Somebody who does not lead is cut off for long, so that it needs a snapshot afterwards.
    Lag,
    /// A client cannot reach a store, or cannot hear it.
    CutClient,
    /// A wall clock jumps.
    JumpClock,
    /// A monotonic clock runs fast or slow.
    DriftClock,
    /// Syncs of a disk are slow.
    SlowDisk,
    /// A sync of a disk hangs.
    HangDisk,
    /// A disk has no space left for a while.
    FullDisk,
    /// An operation of a disk fails.
    FailDisk,
    /// An operator moves a leader.
    Transfer,
    /// An operator moves a region to other stores.
    Move,
    /// An operator splits a region, or asks for what cannot be.
    Split,
}

/// Every kind with its usual weight.
const KINDS: [(Kind, u64); 20] = [
    (Kind::Crash, 10),
    (Kind::CrashLeader, 8),
    (Kind::PowerLoss, 10),
    (Kind::PowerLossAll, 5),
    (Kind::Pause, 10),
    (Kind::Suspend, 6),
    (Kind::Halves, 8),
    (Kind::OneWay, 8),
    (Kind::IsolateLeader, 8),
    (Kind::Lag, 8),
    (Kind::CutClient, 4),
    (Kind::JumpClock, 4),
    (Kind::DriftClock, 4),
    (Kind::SlowDisk, 5),
    (Kind::HangDisk, 5),
    (Kind::FullDisk, 4),
    (Kind::FailDisk, 3),
    (Kind::Transfer, 10),
    (Kind::Move, 8),
    (Kind::Split, 12),
];

/// What ends a fault.
enum Mend {
    Links(Vec<(Site, Site)>),
    Disk(HostId),
    Space(HostId),
}

/// The plan of one run.
pub struct Plan {
    rng: Rng,
    weights: Vec<(Kind, u64)>,
    interval_max: Duration,
    client_count: usize,
    mends: BTreeMap<u64, Mend>,
    last_number: u64,
    is_over: bool,
    /// Faults so far.
    pub fault_count: u64,
    /// Of these, cut networks.
    pub partition_count: u64,
    /// Faults by name.
    pub by_kind: BTreeMap<String, u64>,
}

impl Plan {
    /// The plan of a run.
    #[must_use]
    pub fn new(seed: u64, client_count: usize) -> Plan {
        let mut rng = Rng::new(seed, "faults");
        // Each kind is left out of a run with one chance in three, or is usual, or is frequent.
        let weights = KINDS.map(|(kind, weight)| (kind, weight * rng.pick(&[0, 1, 3])));
        let interval_max = rng.duration(Duration::from_millis(800), Duration::from_secs(3));
        Plan {
            weights: weights.to_vec(),
            interval_max,
            client_count,
            mends: BTreeMap::new(),
            last_number: NEXT,
            is_over: false,
            fault_count: 0,
            partition_count: 0,
            by_kind: BTreeMap::new(),
            rng,
        }
    }

    /// The first fault comes after a while: a cluster has to be there to be harmed.
    pub fn begin(&mut self, world: &mut World) {
        let wait = self.rng.duration(Duration::from_millis(500), Duration::from_secs(4));
        world.alarm(world.now() + wait, Alarm::Fault(NEXT));
    }

    /// No further fault.
    pub fn end(&mut self) {
        self.is_over = true;
        self.mends.clear();
    }

    /// Something is to go wrong, or to be mended.
    pub fn on_alarm(&mut self, world: &mut World, operator: &mut Operator, number: u64) {
        if self.is_over {
            return;
        }
        if number != NEXT {
            if let Some(mend) = self.mends.remove(&number) {
                self.mend(world, mend);
            }
            return;
        }
        let kind = self.draw_kind();
        world.note(format_args!("fault {kind:?}"));
        self.fault_count += 1;
        *self.by_kind.entry(format!("{kind:?}")).or_default() += 1;
        self.inject(world, operator, kind);
        let wait = self.rng.duration(Duration::from_millis(50), self.interval_max);
        world.alarm(world.now() + wait, Alarm::Fault(NEXT));
    }

    fn draw_kind(&mut self) -> Kind {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(total);
        for (kind, weight) in &self.weights {
            if drawn < *weight {
                return *kind;
            }
            drawn -= weight;
        }
        Kind::Crash
    }

    fn inject(&mut self, world: &mut World, operator: &mut Operator, kind: Kind) {
        match kind {
            Kind::Crash => world.crash(self.any(world), self.downtime()),
            Kind::CrashLeader => world.crash(self.leader(world), self.downtime()),
            Kind::PowerLoss => world.power_loss(&[self.any(world)], self.downtime()),
            Kind::PowerLossAll => {
                let all: Vec<_> = world.hosts().collect();
                world.power_loss(&all, self.downtime());
            }
            Kind::Pause => {
                let length = self.rng.skewed(Duration::from_millis(10), Duration::from_secs(5));
                world.pause(self.any(world), length, false);
            }
            Kind::Suspend => {
                let length = self.rng.skewed(Duration::from_millis(20), Duration::from_secs(3));
                let host = if self.rng.happens(600) { self.leader(world) } else { self.any(world) };
                world.pause(host, length, true);
            }
            Kind::Halves | Kind::OneWay | Kind::IsolateLeader | Kind::Lag | Kind::CutClient => {
                self.partition(world, kind);
            }
            Kind::JumpClock => {
                let by_ms = i64::try_from(self.rng.below(20_001)).unwrap_or(0) - 10_000;
                let host = self.any(world);
                world.note(format_args!("host {}: the wall clock jumps by {by_ms} ms", host.0));
                world.clock(host).jump_wall(by_ms);
            }
            Kind::DriftClock => self.drift(world),
            Kind::SlowDisk => {
                let host = self.any(world);
                let longest = self.rng.skewed(Duration::from_millis(10), Duration::from_millis(300));
                world.slow_disk(host, Some(longest));
                self.mend_later(world, Mend::Disk(host), Duration::from_secs(5));
            }
            Kind::HangDisk => world.hang_disk(self.any(world)),
            Kind::FullDisk => {
                let host = self.any(world);
                world.fill_disk(host, self.rng.happens(300));
                self.mend_later(world, Mend::Space(host), Duration::from_secs(4));
            }
            Kind::FailDisk => {
                let faults = [
                    DiskFault::LogWrite,
                    DiskFault::LogSync,
                    DiskFault::KvWrite,
                    DiskFault::KvFlush,
                    DiskFault::StageSync,
                ];
                let fault = self.rng.pick(&faults);
                world.fail_disk(self.any(world), fault);
            }
            Kind::Transfer => operator.transfer(world, self.region(world)),
            Kind::Move => operator.move_peer(world, self.region(world)),
            Kind::Split => operator.split(world),
        }
    }

    fn partition(&mut self, world: &mut World, kind: Kind) {
        let hosts: Vec<_> = world.hosts().collect();
        let both = |left: HostId, right: HostId| {
            [(Site::Host(left), Site::Host(right)), (Site::Host(right), Site::Host(left))]
        };
        let without = |one: HostId| hosts.iter().copied().filter(move |other| *other != one);
        let (links, longest): (Vec<_>, _) = match kind {
            Kind::Halves => {
                let mut mixed = hosts.clone();
                self.rng.shuffle(&mut mixed);
                let (left, right) = mixed.split_at(1 + self.rng.place(hosts.len() - 1));
                let links =
                    left.iter().flat_map(|left| right.iter().flat_map(|right| both(*left, *right))).collect();
                (links, Duration::from_secs(4))
            }
            Kind::OneWay => {
                let one = if self.rng.happens(500) { self.leader(world) } else { self.any(world) };
                let is_deaf = self.rng.happens(500);
                let link = |other| {
                    if is_deaf {
                        (Site::Host(other), Site::Host(one))
                    } else {
                        (Site::Host(one), Site::Host(other))
                    }
                };
                (without(one).map(link).collect(), Duration::from_secs(4))
            }
            Kind::CutClient => {
                let (client, host) =
                    (Site::Client(self.rng.place(self.client_count)), Site::Host(self.any(world)));
                let link = if self.rng.happens(500) { (client, host) } else { (host, client) };
                (vec![link], Duration::from_secs(4))
            }
            Kind::IsolateLeader => {
                let leader = self.leader(world);
                (without(leader).flat_map(|other| both(leader, other)).collect(), Duration::from_secs(4))
            }
            Kind::Crash
            | Kind::CrashLeader
            | Kind::PowerLoss
            | Kind::PowerLossAll
            | Kind::Pause
            | Kind::Suspend
            | Kind::Lag
            | Kind::JumpClock
            | Kind::DriftClock
            | Kind::SlowDisk
            | Kind::HangDisk
            | Kind::FullDisk
            | Kind::FailDisk
            | Kind::Transfer
            | Kind::Move
            | Kind::Split => {
                let leader = self.leader(world);
                let followers: Vec<_> = without(leader).collect();
                let one = self.rng.pick(&followers);
                (without(one).flat_map(|other| both(one, other)).collect(), Duration::from_secs(8))
            }
        };
        self.partition_count += u64::from(kind != Kind::CutClient);
        world.note(format_args!("cut {links:?}"));
        links.iter().for_each(|(from, to)| world.network().cut(*from, *to));
        self.mend_later(world, Mend::Links(links), longest);
    }

    fn drift(&mut self, world: &mut World) {
        // A quartz errs by 200 parts in a million at the most; what lease and promise leave room for is some per cent.
        let most_ppb = self.rng.pick(&[200_000, 1_000_000, 10_000_000, 40_000_000_i64]);
        let drawn = i64::try_from(self.rng.below(most_ppb.unsigned_abs() * 2)).unwrap_or(0);
        let host = self.any(world);
        let drift_ppb = drawn - most_ppb;
        // While a suspension is under way the clock must keep its rate: what it misses is told at the end.
        if world.is_awake(host) {
            world.note(format_args!("host {}: the clock drifts by {drift_ppb} ppb", host.0));
            world.clock(host).set_drift(drift_ppb);
        }
    }

    fn mend(&mut self, world: &mut World, mend: Mend) {
        match mend {
            Mend::Links(links) => {
                world.note(format_args!("mend {links:?}"));
                links.iter().for_each(|(from, to)| world.network().mend(*from, *to));
            }
            Mend::Disk(host) => world.slow_disk(host, None),
            Mend::Space(host) => world.clear_disk(host),
        }
    }

    fn mend_later(&mut self, world: &mut World, mend: Mend, longest: Duration) {
        self.last_number += 1;
        self.mends.insert(self.last_number, mend);
        let lasts = self.rng.duration(Duration::from_millis(100), longest);
        world.alarm(world.now() + lasts, Alarm::Fault(self.last_number));
    }

    fn any(&mut self, world: &World) -> HostId {
        let hosts: Vec<_> = world.hosts().collect();
        self.rng.pick(&hosts)
    }

    /// Mostly a region with keys, and now and then placement's own.
    fn region(&mut self, world: &World) -> RegionId {
        if self.rng.happens(800) { self.client_region(world) } else { RegionId::PLACEMENT }
    }

    fn client_region(&mut self, world: &World) -> RegionId {
        let regions = world.client_regions();
        if regions.is_empty() { RegionId::FIRST } else { self.rng.pick(&regions) }
    }

    /// The leader of a region with keys; if there is none, anyone.
    fn leader(&mut self, world: &World) -> HostId {
        let region = self.client_region(world);
        world.leader_of(region).map_or_else(|| self.any(world), |(host, _)| host)
    }

    /// Mostly short, so that the process is back while elections still go on.
    fn downtime(&mut self) -> Duration {
        self.rng.skewed(Duration::from_millis(5), Duration::from_secs(4))
    }
}
