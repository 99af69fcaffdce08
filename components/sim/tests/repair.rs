//! A store loses its disk under load and comes back at its address, under a new id. Nobody does anything; its peers are
//! replaced, and then any other store may be lost: nothing that was acknowledged is.
#![allow(clippy::print_stdout, reason = "what a run has seen is worth a line")]

use std::{collections::BTreeSet, time::Duration};

use sim::{
    checks::{self, Checks, Violation},
    clients::{Clients, Workload},
    operator::Operator,
    world::{Alarm, HostId, Moment, Step, Trace, World, network::Site},
};
use types::RegionId;

/// Regions with keys.
const REGIONS_COUNT: usize = 10;

/// As the cluster is divided, so that most keys have a region of their own.
const WORKLOAD: Workload =
    Workload { client_count: 4, key_count: 20, think_time_max: Duration::from_millis(100) };

/// Whoever does not come back in a run is away for so long.
const FOR_GOOD: Duration = Duration::from_secs(3_600);

/// Three stores and their clients.
struct Run {
    world: World,
    clients: Clients,
    operator: Operator,
    checks: Checks,
    step_count: u64,
}

/// Which machine loses its disk, and which one is gone afterwards: everyone, and everyone else.
const PAIRS: [(HostId, HostId); 6] = [
    (HostId(0), HostId(1)),
    (HostId(0), HostId(2)),
    (HostId(1), HostId(0)),
    (HostId(1), HostId(2)),
    (HostId(2), HostId(0)),
    (HostId(2), HostId(1)),
];

#[test]
fn a_store_that_lost_its_disk_is_filled_again_and_any_other_may_go() {
    for (seed, (lost, gone)) in (21..).zip(PAIRS) {
        let mut run = Run::new(seed);
        run.found();
        let old_id = run.world.store(lost).expect("it runs").ident().store_id;
        run.lose_disk(lost);
        let wiped_at = run.world.now();
        run.reach(Duration::from_secs(60), "three live voters of every region", |run| {
            run.world.store(lost).is_some() && run.has_three_live_voters()
        });
        let took = run.world.now().since(wiped_at);
        let new_id = run.world.store(lost).expect("it runs").ident().store_id;
        assert_ne!(new_id, old_id, "its id is retired");
        run.world.crash(gone, FOR_GOOD);
        let succeeded_count = run.clients.succeeded_count();
        // Everything is read many times, of the new store and one of the old ones.
        run.serve(400);
        run.end();
        println!("seed {seed}: whole again after {took:?}, {succeeded_count} operations by then");
    }
}

/// Who does not wait until then loses the quorum of each region: the others need it.
#[test]
fn before_it_is_filled_no_other_may_go() {
    let (lost, gone) = PAIRS[0];
    let mut run = Run::new(31);
    run.found();
    run.lose_disk(lost);
    run.world.crash(gone, FOR_GOOD);
    let before = run.clients.succeeded_count();
    let end = run.world.now() + Duration::from_secs(30);
    run.advance(end, |_| false).expect("nothing is violated");
    // What was under way may have ended.
    assert!(run.clients.succeeded_count() - before <= WORKLOAD.client_count as u64);
}

impl Run {
    fn new(seed: u64) -> Run {
        let config = store::Config {
            flush_bytes: 2 << 10,
            log_kept_entries: 16,
            log_lag_entries_max: 64,
            reserve_bytes: 1,
            sleep_after: Duration::from_millis(500),
            region_split_bytes: 0,
            ..store::Config::default()
        };
        Run {
            world: World::new(seed, 3, config, Trace::new(false)),
            clients: Clients::new(seed, WORKLOAD),
            operator: Operator::new(seed, WORKLOAD.key_count, REGIONS_COUNT),
            checks: Checks::new(),
            step_count: 0,
        }
    }

    /// Every region has its three voters, and every client has written.
    fn found(&mut self) {
        self.operator.begin(&mut self.world);
        self.clients.begin(&mut self.world);
        self.reach(Duration::from_secs(60), "three voters of every region", |run| {
            run.world.client_regions().len() >= REGIONS_COUNT && run.has_three_live_voters()
        });
        self.operator.end_divisions();
        self.serve(200);
    }

    fn lose_disk(&mut self, host: HostId) {
        self.world.wipe(host);
        let back_at = self.world.now() + Duration::from_millis(700);
        self.world.alarm(back_at, Alarm::Operator(host.0 as u64));
    }

    /// What an operator sees: each leader's descriptor names three voters, on stores that run.
    fn has_three_live_voters(&self) -> bool {
        let live = self.world.hosts().filter_map(|host| self.world.store(host));
        let live: BTreeSet<_> = live.map(|store| store.ident().store_id).collect();
        let mut regions = self.world.client_regions();
        regions.push(RegionId::PLACEMENT);
        regions.into_iter().all(|region_id| {
            let region = self.world.leader_of(region_id).and_then(|(_, picture)| picture.region);
            region.is_some_and(|region| {
                let configuration = region.configuration();
                let is_live = |peer: &types::Peer| live.contains(&peer.store_id);
                !configuration.is_joint()
                    && configuration.voters.len() == 3
                    && region.peers.len() == 3
                    && region.peers.iter().all(is_live)
            })
        })
    }

    /// Until so many operations more have been carried out, some of every client.
    fn serve(&mut self, count: u64) {
        let (done, each) = (self.clients.succeeded_count() + count, self.clients.served_counts());
        self.reach(Duration::from_secs(60), "operations", |run| {
            let served = run.clients.served_counts();
            run.clients.succeeded_count() >= done && served.iter().zip(&each).all(|(now, then)| now > then)
        });
    }

    fn reach(&mut self, longest: Duration, what: &str, is_reached: impl Fn(&Run) -> bool) {
        let end = self.world.now() + longest;
        match self.advance(end, is_reached) {
            Ok(true) => {}
            Ok(false) => panic!("{what}: not within {longest:?}\n{}", checks::show(&self.world)),
            Err(violation) => panic!("{violation}"),
        }
    }

    fn advance(&mut self, end: Moment, is_reached: impl Fn(&Run) -> bool) -> Result<bool, Violation> {
        let mut next_look = self.step_count;
        loop {
            if self.step_count >= next_look {
                if is_reached(self) {
                    return Ok(true);
                }
                next_look = self.step_count + 64;
            }
            let Some(step) = self.world.step(end) else { return Ok(is_reached(self)) };
            self.step_count += 1;
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
                Step::Alarm(Alarm::Fault(_)) => {}
            }
        }
    }

    /// What clients were told can be explained, and every invariant holds.
    fn end(&mut self) {
        self.clients.stop();
        self.reach(Duration::from_secs(20), "the last answers", |run| run.clients.are_idle());
        if let Err(violation) = self.checks.look(&self.world) {
            panic!("{violation}");
        }
        if let Err(violation) = self.clients.history().check() {
            panic!("{violation}");
        }
    }
}
