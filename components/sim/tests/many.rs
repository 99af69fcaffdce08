//! Ten thousand regions on three stores: what leads again how soon, and at what cost, when a store dies or all of them
//! start again (D13). Time is virtual: what it takes to compute is measured with real processes.
#![allow(clippy::print_stdout, reason = "what was measured is worth a line")]

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use placement::{PlacementAnswer, PlacementCall};
use sim::{
    operator::Operator,
    world::{
        Alarm, AnswerBody, CallBody, HostId, Moment, Step, Trace, World,
        network::{Rates, Site},
    },
};
use store::{AdminAction, RegionPicture};
use types::{PeerId, RegionId, Split, SplitChild};

const ASKER: Site = Site::Client(0);

/// Children of one split.
const SPLIT_CHILDREN: usize = 1_000;

/// So often it is looked at what is led: what is measured is too long by this at the most.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Regions of a dead store are led again within this, 99 of 100 of a thousand, …
const LED_AGAIN_P99: Duration = Duration::from_millis(1_200);

/// … and all of ten thousand within this.
const LED_AGAIN_MAX: Duration = Duration::from_secs(2);

/// Three machines, and so many regions beside those with which a cluster begins, all asleep and led from the first one.
struct Many {
    world: World,
    operator: Operator,
    regions: BTreeSet<RegionId>,
}

/// What came of a fault.
struct Outage {
    /// How long each region had no leader that serves, ascending.
    times: Vec<Duration>,
    /// Syncs of logs meanwhile, on all stores.
    sync_count: u64,
    /// Frames meanwhile, between all stores.
    frame_count: u64,
}

impl Many {
    fn new(seed: u64, count: usize) -> Many {
        let config = store::Config { reserve_bytes: 1, region_split_bytes: 0, ..store::Config::default() };
        let mut world = World::new(seed, 3, config, Trace::new(false));
        world.network().set_rates(Rates::GOOD);
        let mut many = Many { world, operator: Operator::new(seed, 1, 1), regions: BTreeSet::new() };
        many.found();
        many.divide(count);
        many.fall_asleep();
        many
    }

    fn found(&mut self) {
        self.operator.begin(&mut self.world);
        self.advance(Duration::from_secs(20), |world| {
            let has_three = |region_id| {
                let region = world.leader_of(region_id).and_then(|(_, picture)| picture.region);
                region.is_some_and(|region| {
                    region.configuration().voters.len() == 3 && !region.configuration().is_joint()
                })
            };
            has_three(RegionId::PLACEMENT) && has_three(RegionId::FIRST)
        });
        let call = PlacementCall::ChangeSettings { is_balancing: Some(false) };
        self.ask(HostId(0), CallBody::Placement(call));
        self.lead_from_first_host(RegionId::PLACEMENT);
        self.lead_from_first_host(RegionId::FIRST);
        self.regions = BTreeSet::from([RegionId::PLACEMENT, RegionId::FIRST]);
    }

    fn lead_from_first_host(&mut self, region_id: RegionId) {
        let (leader, picture) = self.world.leader_of(region_id).expect("somebody leads");
        if leader == HostId(0) {
            return;
        }
        let store = self.world.store(HostId(0)).expect("it runs").ident().store_id;
        let target =
            picture.region.and_then(|region| region.find_peer_on(store)).expect("a peer lives there");
        let action = AdminAction::TransferLeader(target.id);
        self.ask(leader, CallBody::Admin(region_id, None, action));
        self.advance(Duration::from_secs(2), |world| {
            world.leader_of(region_id).is_some_and(|(leader, _)| leader == HostId(0))
        });
    }

    /// Splits the last region again and again. The children are led where their parent is.
    fn divide(&mut self, count: usize) {
        let mut parent = RegionId::FIRST;
        let mut next_key = 0;
        while self.regions.len() < count + 2 {
            // A split is answered when it is applied; a child leads from the next round of its raft worker on.
            self.advance(Duration::from_secs(1), |world| world.leader_of(parent).is_some());
            let picture = self.world.leader_of(parent).expect("somebody leads").1;
            let region = picture.region.expect("it has a descriptor");
            let children_count = SPLIT_CHILDREN.min(count + 2 - self.regions.len());
            let call = PlacementCall::AllocateIds { count: 4 * children_count as u64 + 1 };
            let body = self.ask(HostId(0), CallBody::Placement(call));
            let AnswerBody::Placement(Ok(PlacementAnswer::Ids { first_id, .. })) = body else {
                panic!("no ids: {body:?}")
            };
            let mut ids = first_id..;
            let mut id = || ids.next().expect("ids do not end");
            let change_id = id();
            let children: Vec<_> = (next_key..next_key + children_count)
                .map(|key| SplitChild {
                    start_key: Bytes::from(format!("{key:06}")),
                    region_id: RegionId(id()),
                    peer_ids: region.peers.iter().map(|_| PeerId(id())).collect(),
                })
                .collect();
            next_key += children_count;
            self.regions.extend(children.iter().map(|child| child.region_id));
            let leader_stores = vec![picture.peer.store_id];
            let split = Split { change_id, epoch: region.epoch, leader_stores, children };
            let next = split.children.last().expect("there are some").region_id;
            let body = self.ask(HostId(0), CallBody::Admin(parent, None, AdminAction::Split(split)));
            assert_eq!(body, AnswerBody::Admin(Ok(())));
            parent = next;
        }
    }

    /// Every peer of every region with keys sleeps.
    fn fall_asleep(&mut self) {
        let count = self.regions.len() - 1;
        self.advance(Duration::from_secs(60), |world| {
            let asleep = |host| {
                let pictures = world.store(host).map(|store| store.regions()).unwrap_or_default();
                let sleepers =
                    pictures.iter().filter(|peer| peer.is_asleep && peer.id != RegionId::PLACEMENT);
                sleepers.count()
            };
            world.hosts().all(|host| asleep(host) == count)
        });
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, host: HostId, body: CallBody) -> AnswerBody {
        let call = self.world.call(ASKER, host, body);
        let end = self.world.now() + Duration::from_secs(10);
        loop {
            match self.step(end) {
                Some(Step::Answer(answered)) if answered.id == call => return answered.body,
                Some(_) => {}
                None => panic!("no answer in ten seconds"),
            }
        }
    }

    fn advance(&mut self, longest: Duration, is_reached: impl Fn(&World) -> bool) {
        let end = self.world.now() + longest;
        while !is_reached(&self.world) {
            assert!(self.world.now() < end, "it is reached in time");
            self.pass(LOOK_INTERVAL);
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.world.now() + duration;
        // So that the world gets there, whether anything happens or not.
        self.world.alarm(end, Alarm::Client(0, 0));
        while self.step(end).is_some() {}
    }

    fn step(&mut self, end: Moment) -> Option<Step> {
        let step = self.world.step(end)?;
        match &step {
            Step::Answer(answered) if answered.to == Site::Operator => {
                let answered = (**answered).clone();
                self.operator.on_answer(&mut self.world, answered).expect("the operator is content");
            }
            Step::Alarm(Alarm::Operator(number)) => self.operator.on_alarm(&mut self.world, *number),
            Step::GaveUp(host, reason) => panic!("host {} gave up: {reason}", host.0),
            Step::Host(_) | Step::Still(_) | Step::Answer(_) | Step::Alarm(_) | Step::Started(_) => {}
        }
        Some(step)
    }

    /// Waits until every region has a leader that serves.
    fn wait_until_led(&mut self) -> Outage {
        let began = self.world.now();
        let (sync_count, frame_count) = (self.sync_count(), self.world.counters().frames);
        let mut waiting = self.regions.clone();
        let mut times = Vec::new();
        while !waiting.is_empty() {
            let passed = self.world.now().since(began);
            assert!(passed < Duration::from_secs(10), "{} of {} are led", times.len(), self.regions.len());
            self.pass(LOOK_INTERVAL);
            let passed = self.world.now().since(began);
            let stores = self.world.hosts().filter_map(|host| self.world.store(host));
            for picture in stores.flat_map(|store| store.regions()) {
                if serves(&picture) && waiting.remove(&picture.id) {
                    times.push(passed);
                }
            }
        }
        times.sort_unstable();
        Outage {
            times,
            sync_count: self.sync_count() - sync_count,
            frame_count: self.world.counters().frames - frame_count,
        }
    }

    fn sync_count(&self) -> u64 {
        self.world.hosts().map(|host| self.world.disk(host).counters().log_syncs).sum()
    }
}

impl Outage {
    fn p99(&self) -> Duration {
        self.times[self.times.len() * 99 / 100]
    }

    fn longest(&self) -> Duration {
        self.times[self.times.len() - 1]
    }
}

/// Whether a peer leads and has committed something in its term.
fn serves(picture: &RegionPicture) -> bool {
    picture.leader.is_some_and(|leader| leader.id == picture.peer.id)
        && picture.last.term == picture.term
        && picture.commit_index == picture.last.index
}

fn tell(what: &str, outage: &Outage) {
    println!(
        "{what}: {} regions led again after {:?} (median), {:?} (p99), {:?} (longest); {} syncs, {} frames",
        outage.times.len(),
        outage.times[outage.times.len() / 2],
        outage.p99(),
        outage.longest(),
        outage.sync_count,
        outage.frame_count
    );
}

#[test]
fn a_thousand_regions_of_a_store_that_is_killed_are_led_again_soon() {
    let mut many = Many::new(3, 1_000);
    many.world.crash(HostId(0), Duration::from_secs(3_600));
    let outage = many.wait_until_led();
    tell("killed", &outage);
    assert!(outage.p99() <= LED_AGAIN_P99, "{:?}", outage.p99());
}

/// Votes and first entries of a term share frames and syncs: regions by themselves would need 14 frames and 5 syncs each.
#[test]
fn ten_thousand_regions_are_led_again_soon_by_few_frames_and_syncs() {
    let mut many = Many::new(5, 10_000);
    let count = many.regions.len() as u64;
    // Nobody is told: silence has to be noticed.
    many.world.power_loss(&[HostId(0)], Duration::from_secs(10));
    let outage = many.wait_until_led();
    tell("without power", &outage);
    assert!(outage.longest() <= LED_AGAIN_MAX, "{:?}", outage.longest());
    assert!(outage.frame_count < count, "{} frames", outage.frame_count);
    assert!(outage.sync_count < count / 40, "{} syncs", outage.sync_count);

    let all: Vec<_> = many.world.hosts().collect();
    many.world.power_loss(&all[1..], Duration::from_millis(100));
    let outage = many.wait_until_led();
    tell("started again", &outage);
    // Machines need up to 600 ms to start.
    assert!(outage.longest() <= Duration::from_millis(600) + LED_AGAIN_MAX, "{:?}", outage.longest());
    assert!(outage.frame_count < 2 * count, "{} frames", outage.frame_count);
    assert!(outage.sync_count < count / 4, "{} syncs", outage.sync_count);

    // Who was gone all the while comes back, gets what it lacks, and everything falls asleep again.
    assert!(many.world.store(HostId(0)).is_none());
    many.fall_asleep();
}
