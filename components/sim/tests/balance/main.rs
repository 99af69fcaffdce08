//! A fourth, empty store joins many regions while clients write: it gets its share of peers, bytes and leaders, never has a
//! region two peers on one store, and then nothing moves any more. And regions are scattered over all four.

mod scatter;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use placement::{OperationState, PlacementAnswer, PlacementCall, SplitRequest};
use sim::{
    checks::Checks,
    world::{
        Alarm, AnswerBody, Answered, CallBody, CallId, HostId, Moment, Origin, Rng, Step, Trace, World,
        network::{Rates, Site},
    },
};
use store::{RegionPicture, RequestContext};
use types::{ClusterId, Command, Pair, Region, RegionId, Request, StoreId};

const CLUSTER: ClusterId = ClusterId(0x5EAF);

const WRITER: Site = Site::Client(0);

/// Keys of one split.
const SPLIT_KEYS: usize = 200;

/// What it must be still for.
const STILL: Duration = Duration::from_secs(60);

/// Stores whose bytes differ by less are level, as placement's limits say.
const LEVEL_BYTES: u64 = 16 << 20;

/// Steps of stores from one look at every invariant to the next.
const CATALOGUE_STEPS: u64 = 10_000;

const VALUE_BYTES: usize = 256 << 10;

enum Question {
    Join(HostId),
    Split,
    Settings,
    Operations,
    Scatter,
    /// With what has to be written again if it was not.
    Write(Option<(RegionId, Pair)>),
}

/// Machines, regions as they were asked for, and a client that writes all over them.
struct Cluster {
    world: World,
    checks: Checks,
    rng: Rng,
    open: BTreeMap<CallId, Question>,
    region_count: usize,
    /// Pairs that wait to be written, in this order, before any other.
    backlog: Vec<(RegionId, Pair)>,
    /// So many regions are written to, one after this interval.
    written_region_count: usize,
    write_interval: Duration,
    written_count: u64,
    refused_count: u64,
    /// Ids of operations that were seen, and whether one is running.
    operations: BTreeSet<u64>,
    is_running: bool,
    /// Whether a split was refused because an operation runs.
    is_busy: bool,
    /// Regions that shall be scattered and have not been said to be, or to be on their way.
    unscattered: BTreeSet<RegionId>,
    /// Since when none has begun, and none was running.
    still_since: Moment,
    step_count: u64,
}

#[test]
fn a_fourth_store_joins_three_hundred_regions() {
    let mut cluster = Cluster::new(11, 300);
    cluster.found();
    let (began, written_count) = (cluster.world.now(), cluster.written_count);
    cluster.join(HostId(3));
    cluster.advance(Duration::from_secs(120), "an even share", Cluster::is_level);
    let (took, written_count) = (cluster.world.now().since(began), cluster.written_count - written_count);
    let operation_count = cluster.operations.len();
    cluster.be_still();
    println!(
        "level after {took:?}, {operation_count} operations and {written_count} writes; later {} writes; {} refused in all",
        cluster.written_count - written_count,
        cluster.refused_count,
    );
    assert!(operation_count >= 225, "{operation_count} operations");
    assert!(written_count >= 200, "{written_count} writes meanwhile");
}

/// Numbers are level when clients begin to fill the regions of which the fourth store has none.
#[test]
fn regions_of_very_unequal_size_are_levelled_by_bytes() {
    let mut cluster = Cluster::new(12, 48);
    cluster.found();
    cluster.join(HostId(3));
    cluster.advance(Duration::from_secs(60), "an even share", Cluster::is_level);
    cluster.set_balancing(false);
    let fourth = cluster.store_id(HostId(3));
    let without = |region: &Region| region.find_peer_on(fourth).is_none();
    let large: Vec<Region> = cluster.descriptors().into_iter().filter(without).collect();
    assert_eq!(large.len(), 12);
    for (number, region) in large.iter().cycle().take(large.len() * 16).enumerate() {
        let key = Bytes::from([&region.range.start_key, format!("-{number:04}").as_bytes()].concat());
        let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        cluster.backlog.push((region.id, Pair { key, value, ttl_seconds: 0 }));
    }
    cluster.advance(Duration::from_secs(60), "the large values", |cluster| cluster.backlog.is_empty());
    let before = cluster.bytes();
    let (most, fewest) = (before.values().max().unwrap(), before.values().min().unwrap());
    assert!(most - fewest > 2 * LEVEL_BYTES, "{before:?}");
    cluster.set_balancing(true);
    cluster.advance(Duration::from_secs(120), "even bytes", Cluster::is_level);
    cluster.be_still();
    let still_there = large.iter().filter(|region| {
        cluster.leader(region.id).is_some_and(|picture| picture.region.is_some_and(|now| without(&now)))
    });
    let moved_count = large.len() - still_there.count();
    println!("{before:?} became {:?}: {moved_count} large regions moved", cluster.bytes());
    assert!((2..=9).contains(&moved_count), "{moved_count} of 12 large regions moved");
}

impl Cluster {
    fn new(seed: u64, region_count: usize) -> Cluster {
        let config = store::Config { reserve_bytes: 1, ..store::Config::default() };
        let mut world = World::new(seed, 4, config, Trace::new(false));
        world.network().set_rates(Rates::GOOD);
        Cluster {
            world,
            checks: Checks::new(),
            rng: Rng::new(seed, "writer"),
            open: BTreeMap::new(),
            region_count,
            backlog: Vec::new(),
            written_region_count: usize::MAX,
            write_interval: Duration::from_millis(1),
            written_count: 0,
            refused_count: 0,
            operations: BTreeSet::new(),
            is_running: false,
            is_busy: false,
            unscattered: BTreeSet::new(),
            still_since: Moment::ZERO,
            step_count: 0,
        }
    }

    /// Three stores with a voter of each region, and a client that writes.
    fn found(&mut self) {
        self.world.found(HostId(0), Origin::Init(CLUSTER), Vec::new());
        self.world.alarm(self.world.now() + Duration::from_millis(100), Alarm::Operator(0));
        self.advance(Duration::from_secs(5), "the first leader", |cluster| {
            cluster.world.leader_of(RegionId::FIRST).is_some()
        });
        self.join(HostId(1));
        self.join(HostId(2));
        self.advance(Duration::from_secs(20), "three voters", |cluster| cluster.has_three_voters(1));
        let mut done_count = 1;
        while done_count < self.region_count {
            // The last region is divided further.
            let last = self
                .descriptors()
                .into_iter()
                .max_by(|one, other| one.range.start_key.cmp(&other.range.start_key));
            let end = self.region_count.min(done_count + SPLIT_KEYS);
            let keys = (done_count..end).map(|at| Bytes::from(format!("{at:05}"))).collect();
            let split = SplitRequest::new(last.expect("there is a region").id, keys);
            self.is_busy = false;
            self.ask(HostId(0), CallBody::Placement(PlacementCall::SplitRegion(split)), Question::Split);
            self.advance(Duration::from_secs(20), "the split", |cluster| {
                cluster.is_busy || cluster.has_three_voters(end)
            });
            if !self.is_busy {
                done_count = end;
            }
        }
        self.world.alarm(self.world.now(), Alarm::Client(0, 0));
    }

    fn has_three_voters(&self, region_count: usize) -> bool {
        let is_whole = |region: &Region| region.peers.len() == 3 && !region.configuration().is_joint();
        let group = self.leader(RegionId::PLACEMENT).and_then(|picture| picture.region);
        let regions = self.descriptors();
        group.is_some_and(|group| is_whole(&group))
            && regions.len() == region_count
            && regions.iter().all(is_whole)
    }

    fn join(&mut self, host: HostId) {
        let record = self.world.applicant(host);
        let body = CallBody::Placement(PlacementCall::RegisterStore { record });
        self.ask(HostId(0), body, Question::Join(host));
    }

    fn ask(&mut self, host: HostId, body: CallBody, question: Question) {
        let call = self.world.call(WRITER, host, body);
        self.open.insert(call, question);
    }

    /// A store that answers.
    fn door(&self) -> HostId {
        self.world.hosts().find(|host| self.world.store(*host).is_some()).expect("somebody runs")
    }

    fn leader(&self, region_id: RegionId) -> Option<RegionPicture> {
        self.world.leader_of(region_id).map(|(_, picture)| picture)
    }

    /// What the leaders of the regions with keys have applied.
    fn descriptors(&self) -> Vec<Region> {
        let regions = self.world.client_regions();
        let leaders = regions.into_iter().filter_map(|id| self.leader(id)?.region);
        leaders.map(|region| (*region).clone()).collect()
    }

    fn store_id(&self, host: HostId) -> StoreId {
        self.world.store(host).expect("it runs").ident().store_id
    }

    fn per_store(&self, of: impl Fn(&RegionPicture, StoreId) -> u64) -> BTreeMap<StoreId, u64> {
        let mut sums: BTreeMap<StoreId, u64> = self.world.stores().into_iter().map(|id| (id, 0)).collect();
        let regions = self.world.client_regions();
        for picture in regions.into_iter().filter_map(|id| self.leader(id)) {
            sums.iter_mut().for_each(|(id, sum)| *sum += of(&picture, *id));
        }
        sums
    }

    fn peers(&self) -> BTreeMap<StoreId, u64> {
        self.per_store(|picture, id| u64::from(has_peer(picture, id)))
    }

    fn bytes(&self) -> BTreeMap<StoreId, u64> {
        self.per_store(|picture, id| if has_peer(picture, id) { picture.size.size_bytes } else { 0 })
    }

    fn leaders(&self) -> BTreeMap<StoreId, u64> {
        self.per_store(|picture, id| u64::from(picture.peer.store_id == id))
    }

    /// Everybody has the same number of peers and leaders, but for one, and the same bytes, within the tolerance.
    fn is_level(&self) -> bool {
        let apart = |sums: BTreeMap<StoreId, u64>| {
            let (most, fewest) = (sums.values().max(), sums.values().min());
            most.zip(fewest).map_or(0, |(most, fewest)| most - fewest)
        };
        self.world.stores().len() == 4
            && self.has_three_voters(self.region_count)
            && apart(self.peers()) <= 1
            && apart(self.leaders()) <= 1
            && apart(self.bytes()) <= LEVEL_BYTES
            && !self.is_running
    }

    fn set_balancing(&mut self, is_balancing: bool) {
        let call = PlacementCall::ChangeSettings { is_balancing: Some(is_balancing) };
        self.ask(HostId(0), CallBody::Placement(call), Question::Settings);
    }

    /// For a minute no operation begins, while clients write to a few regions, and everything stays level.
    fn be_still(&mut self) {
        (self.written_region_count, self.write_interval) = (20, Duration::from_millis(20));
        // Little is left to do by now.
        self.advance(STILL + Duration::from_secs(5), "a minute without operations", |cluster| {
            cluster.world.now().since(cluster.still_since) >= STILL
        });
        assert!(self.is_level(), "{:?} {:?} {:?}", self.peers(), self.leaders(), self.bytes());
    }

    fn advance(&mut self, longest: Duration, what: &str, is_reached: impl Fn(&Cluster) -> bool) {
        let end = self.world.now() + longest;
        let mut next_look = Moment::ZERO;
        loop {
            if self.world.now() >= next_look {
                if is_reached(self) {
                    return;
                }
                next_look = self.world.now() + Duration::from_millis(100);
            }
            let Some(step) = self.world.step(end) else {
                panic!("{what} is not reached: {:?} {:?} {:?}", self.peers(), self.leaders(), self.bytes());
            };
            match step {
                Step::Host(host) => self.check(host),
                Step::Answer(answered) => self.on_answer(*answered),
                Step::Alarm(Alarm::Client(..)) => self.write(),
                Step::Alarm(Alarm::Operator(_)) => self.list_operations(),
                Step::GaveUp(host, reason) => panic!("host {} gave up: {reason}", host.0),
                Step::Still(_) | Step::Started(_) | Step::Alarm(Alarm::Fault(_)) => {}
            }
        }
    }

    /// No region has two peers on one store, in what any peer has applied; and the catalogue of invariants, now and then: it
    /// reads whole logs.
    fn check(&mut self, host: HostId) {
        self.step_count += 1;
        if self.step_count.is_multiple_of(32)
            && let Some(store) = self.world.store(host)
        {
            for region in store.regions().into_iter().filter_map(|picture| picture.region) {
                let stores: BTreeSet<_> = region.peers.iter().map(|peer| peer.store_id).collect();
                assert_eq!(stores.len(), region.peers.len(), "two peers on one store: {region:?}");
            }
        }
        if self.step_count.is_multiple_of(CATALOGUE_STEPS)
            && let Err(violation) = self.checks.look(&self.world)
        {
            panic!("{violation}");
        }
    }

    fn list_operations(&mut self) {
        self.world.alarm(self.world.now() + Duration::from_millis(200), Alarm::Operator(0));
        let body = CallBody::Placement(PlacementCall::ListOperations);
        self.ask(self.door(), body, Question::Operations);
    }

    /// Writes what waits, or a small value somewhere.
    fn write(&mut self) {
        let waiting = self.backlog.pop();
        let (region_id, pair) = match waiting.clone() {
            Some(waiting) => waiting,
            None => {
                let regions = self.world.client_regions();
                let id = self.rng.pick(&regions[..regions.len().min(self.written_region_count)]);
                let Some(region) = self.leader(id).and_then(|picture| picture.region) else {
                    return self.write_later();
                };
                let key = [&region.range.start_key[..], b"-small"].concat();
                let value = Bytes::from(format!("{}", self.written_count));
                (id, Pair { key: Bytes::from(key), value, ttl_seconds: 0 })
            }
        };
        let Some((host, picture)) = self.world.leader_of(region_id) else {
            self.backlog.extend(waiting);
            return self.write_later();
        };
        let context = RequestContext {
            region_id,
            epoch: picture.region.map(|region| region.epoch),
            ..RequestContext::default()
        };
        let request = Request { session: None, command: Command::Put(pair) };
        self.ask(host, CallBody::Write(context, request), Question::Write(waiting));
        self.write_later();
    }

    fn write_later(&mut self) {
        self.world.alarm(self.world.now() + self.write_interval, Alarm::Client(0, 0));
    }

    fn on_answer(&mut self, answered: Answered) {
        let Some(question) = self.open.remove(&answered.id) else { return };
        match (question, answered.body) {
            (Question::Write(_), AnswerBody::Written(Ok(_))) => self.written_count += 1,
            // The leader has just changed, or the peers have, or it is dead.
            (
                Question::Write(waiting),
                AnswerBody::Written(Err(_)) | AnswerBody::Refused | AnswerBody::Broken,
            ) => {
                self.refused_count += 1;
                self.backlog.extend(waiting);
            }
            (
                Question::Join(host),
                AnswerBody::Placement(Ok(PlacementAnswer::Registered { store_id, settings, stores })),
            ) => self.world.found(host, Origin::Join(settings.cluster_id, store_id), stores),
            (Question::Split, AnswerBody::Placement(Ok(PlacementAnswer::Split { .. })))
            | (Question::Settings, AnswerBody::Placement(Ok(PlacementAnswer::Done))) => {}
            // The operation that placed the third voter a moment ago has not heard so: it is asked again.
            (Question::Split, AnswerBody::Placement(Err(placement::Error::Changing { .. }))) => {
                self.is_busy = true;
            }
            (Question::Operations, AnswerBody::Placement(Ok(PlacementAnswer::Operations(operations)))) => {
                self.is_running = operations.iter().any(|one| one.state == OperationState::Running);
                let known_count = self.operations.len();
                self.operations.extend(operations.iter().map(|one| one.id));
                if self.is_running || self.operations.len() > known_count {
                    self.still_since = self.world.now();
                }
            }
            (Question::Scatter, AnswerBody::Placement(Ok(PlacementAnswer::Scattered { begun, missing }))) => {
                assert_eq!(missing, [], "all are known");
                begun.iter().for_each(|id| {
                    self.unscattered.remove(id);
                });
            }
            // It is asked again, and of somebody else.
            (
                Question::Operations | Question::Scatter,
                AnswerBody::Placement(Err(_)) | AnswerBody::Refused | AnswerBody::Broken,
            ) => {}
            (
                Question::Join(_)
                | Question::Split
                | Question::Settings
                | Question::Operations
                | Question::Scatter
                | Question::Write(_),
                body,
            ) => {
                panic!("{body:?} is no answer to this")
            }
        }
    }
}

fn has_peer(picture: &RegionPicture, id: StoreId) -> bool {
    picture.region.as_ref().is_some_and(|region| region.find_peer_on(id).is_some())
}
