//! A store loses its disk under load and comes back at its address, under a new id. Nobody does anything; its peers are
//! replaced, and then any other store may be lost: nothing that was acknowledged is.
#![allow(clippy::print_stdout, reason = "what a run has seen is worth a line")]

use std::{collections::BTreeSet, time::Duration};

use sim::{
    checks,
    clients::{Clients, Workload},
    operator::Operator,
    plan::Plan,
    scene::Scene,
    world::{Alarm, HostId, Trace, World},
};
use types::RegionId;

/// Regions with keys.
const REGIONS_COUNT: usize = 10;

/// As the cluster is divided, so that most keys have a region of their own.
const WORKLOAD: Workload =
    Workload { client_count: 4, key_count: 20, think_time_max: Duration::from_millis(100) };

/// Whoever does not come back in a run is away for so long.
const FOR_GOOD: Duration = Duration::from_secs(3_600);

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
        let mut scene = start(seed);
        found(&mut scene);
        let old_id = scene.world.store(lost).expect("it runs").ident().store_id;
        lose_disk(&mut scene, lost);
        let wiped_at = scene.world.now();
        reach(&mut scene, Duration::from_secs(60), "three live voters of every region", |scene| {
            scene.world.store(lost).is_some() && has_three_live_voters(scene)
        });
        let took = scene.world.now().since(wiped_at);
        let new_id = scene.world.store(lost).expect("it runs").ident().store_id;
        assert_ne!(new_id, old_id, "its id is retired");
        scene.world.crash(gone, FOR_GOOD);
        let succeeded_count = scene.clients.succeeded_count();
        // Everything is read many times, of the new store and one of the old ones.
        serve(&mut scene, 400);
        end(&mut scene);
        println!("seed {seed}: whole again after {took:?}, {succeeded_count} operations by then");
    }
}

/// Who does not wait until then loses the quorum of each region: the others need it.
#[test]
fn before_it_is_filled_no_other_may_go() {
    let (lost, gone) = PAIRS[0];
    let mut scene = start(31);
    found(&mut scene);
    lose_disk(&mut scene, lost);
    scene.world.crash(gone, FOR_GOOD);
    let before = scene.clients.succeeded_count();
    let end = scene.world.now() + Duration::from_secs(30);
    scene.advance(end, |_| false).expect("nothing is violated");
    // What was under way may have ended.
    assert!(scene.clients.succeeded_count() - before <= WORKLOAD.client_count as u64);
}

/// Three stores and their clients; nothing goes wrong but what a test does.
fn start(seed: u64) -> Scene {
    let config = store::Config {
        flush_bytes: 2 << 10,
        log_kept_entries: 16,
        log_lag_entries_max: 64,
        reserve_bytes: 1,
        sleep_after: Duration::from_millis(500),
        region_split_bytes: 0,
        ..store::Config::default()
    };
    let world = World::new(seed, 3, config, Trace::new(false));
    let operator = Operator::new(seed, WORKLOAD.key_count, REGIONS_COUNT);
    let plan = Plan::new(seed, WORKLOAD.client_count);
    Scene::new(world, Clients::new(seed, WORKLOAD), operator, plan)
}

/// Every region has its three voters, and every client has written.
fn found(scene: &mut Scene) {
    scene.operator.begin(&mut scene.world);
    scene.clients.begin(&mut scene.world);
    reach(scene, Duration::from_secs(60), "three voters of every region", |scene| {
        scene.world.client_regions().len() >= REGIONS_COUNT && has_three_live_voters(scene)
    });
    scene.operator.end_divisions();
    serve(scene, 200);
}

fn lose_disk(scene: &mut Scene, host: HostId) {
    scene.world.wipe(host);
    let back_at = scene.world.now() + Duration::from_millis(700);
    scene.world.alarm(back_at, Alarm::Operator(host.0 as u64));
}

/// What an operator sees: each leader's descriptor names three voters, on stores that scene.
fn has_three_live_voters(scene: &Scene) -> bool {
    let live = scene.world.hosts().filter_map(|host| scene.world.store(host));
    let live: BTreeSet<_> = live.map(|store| store.ident().store_id).collect();
    let mut regions = scene.world.client_regions();
    regions.push(RegionId::PLACEMENT);
    regions.into_iter().all(|region_id| {
        let region = scene.world.leader_of(region_id).and_then(|(_, picture)| picture.region);
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
fn serve(scene: &mut Scene, count: u64) {
    let (done, each) = (scene.clients.succeeded_count() + count, scene.clients.served_counts());
    reach(scene, Duration::from_secs(60), "operations", |scene| {
        let served = scene.clients.served_counts();
        scene.clients.succeeded_count() >= done && served.iter().zip(&each).all(|(now, then)| now > then)
    });
}

fn reach(scene: &mut Scene, longest: Duration, what: &str, is_reached: impl Fn(&Scene) -> bool) {
    let end = scene.world.now() + longest;
    match scene.advance(end, is_reached) {
        Ok(true) => {}
        Ok(false) => panic!("{what}: not within {longest:?}\n{}", checks::show(&scene.world)),
        Err(violation) => panic!("{violation}"),
    }
}

/// What clients were told can be explained, and every invariant holds.
fn end(scene: &mut Scene) {
    scene.clients.stop();
    reach(scene, Duration::from_secs(20), "the last answers", |scene| scene.clients.are_idle());
    if let Err(violation) = scene.checks.look(&scene.world) {
        panic!("{violation}");
    }
    if let Err(violation) = scene.clients.history().check() {
        panic!("{violation}");
    }
}
