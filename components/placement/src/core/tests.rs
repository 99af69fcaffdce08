//! Agents and hosts of several stores, a network that loses, delays and repeats, and a placement group whose leadership
//! moves about and is sometimes nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use actor::Now;
use bytes::Bytes;
use types::{
    ClusterId, Epoch, Instant, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, RegionSize, StoreId, Term,
    WallTime,
};

use super::{
    agent::{self, Agent, AgentConfig, LocalRegion, Locals},
    api::{Error, PlacementAnswer, PlacementCall, Responder, Result},
    codec,
    host::{self, Host, HostConfig, Proposed, Tag},
    limits::CALL_DEADLINE,
    protocol::{Caller, LeaderReport, LonelyPeer},
    record::{KeyMode, StoreLoad, StoreRecord},
    rows::RowKey,
    testing::Group,
};

/// Histories that are tried.
const SEEDS: u64 = 40;

const STORES: [u64; 3] = [1_000, 1_001, 1_002];

/// Answers that callers got: (call, at, result).
type Answers = Arc<Mutex<Vec<(usize, Instant, Result<PlacementAnswer>)>>>;

struct World {
    random: u64,
    now: Instant,
    clock: Arc<Mutex<Instant>>,
    stores: BTreeMap<u64, Process>,
    group: Group,
    leader: Option<u64>,
    /// Deliveries by time, then by order of sending.
    queue: BTreeMap<(Instant, u64), Delivery>,
    sent_count: u64,
    loss_percent: u64,
    answers: Answers,
    calls: Vec<(Instant, PlacementCall)>,
}

struct Process {
    agent: Agent,
    host: Host,
    /// Added to the wall clock.
    wall_skew_ms: u64,
}

/// What arrives at a store.
enum Delivery {
    Request { to: u64, caller: Caller, body: Bytes },
    Response { to: u64, from: u64, id: u64, body: Bytes },
    Rows { to: u64, tag: Tag },
    Proposed { to: u64, tag: Tag, outcome: Proposed },
    Confirmed { to: u64, tag: Tag },
}

/// The init store has both first regions, the others nothing.
struct Here(u64);

impl Locals for Here {
    fn find(&self, key: &[u8]) -> Option<LocalRegion> {
        self.find_by_id(RegionId::FIRST).filter(|local| local.region.range.contains_key(key))
    }

    fn find_by_id(&self, id: RegionId) -> Option<LocalRegion> {
        let region = || LocalRegion { region: Arc::new(first(id)), leader: None };
        (self.0 == STORES[0] && [RegionId::PLACEMENT, RegionId::FIRST].contains(&id)).then(region)
    }

    fn lonely_peers(&self) -> Vec<LonelyPeer> {
        Vec::new()
    }
}

fn first(id: RegionId) -> Region {
    let peer = Peer { id: PeerId(2_000 + id.0), store_id: StoreId(STORES[0]), role: PeerRole::Voter };
    Region { id, range: KeyRange::ALL, epoch: Epoch::FIRST, peers: vec![peer] }
}

fn record(id: u64) -> StoreRecord {
    StoreRecord { id: StoreId(id), address: format!("store-{id}:1"), ..StoreRecord::default() }
}

impl World {
    fn new(seed: u64) -> World {
        let known_stores: Vec<_> = STORES.iter().map(|id| record(*id)).collect();
        let process = |id: u64| Process {
            agent: Agent::new(AgentConfig {
                cluster_id: ClusterId(9),
                key_mode: KeyMode::Raw,
                record: record(id),
                known_stores: known_stores.clone(),
                seed: seed.wrapping_mul(31).wrapping_add(id),
            }),
            host: Host::new(HostConfig {
                cluster_id: ClusterId(9),
                key_mode: KeyMode::Raw,
                record: record(id),
                seed,
            }),
            wall_skew_ms: 60_000 * (id - 999),
        };
        World {
            random: seed,
            now: Instant::from_millis(1),
            clock: Arc::new(Mutex::new(Instant::from_millis(1))),
            stores: STORES.iter().map(|id| (*id, process(*id))).collect(),
            group: Group::default(),
            leader: None,
            queue: BTreeMap::new(),
            sent_count: 0,
            loss_percent: 5,
            answers: Answers::default(),
            calls: Vec::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn now_of(&self, id: u64) -> Now {
        let wall = 1_000_000 + self.now.0 / 1_000_000 + self.stores[&id].wall_skew_ms;
        Now { monotonic: self.now, wall: WallTime(wall) }
    }

    /// Over the network, unless it is lost; sometimes twice.
    fn send(&mut self, make: impl Fn() -> Delivery) {
        let copies = if self.draw(100) < self.loss_percent { self.draw(3) } else { 1 };
        for _ in 0..copies {
            let delay = 200 + self.draw(3_000);
            self.deliver(Duration::from_micros(delay), make());
        }
    }

    fn deliver(&mut self, delay: Duration, delivery: Delivery) {
        self.sent_count += 1;
        self.queue.insert((self.now + delay, self.sent_count), delivery);
    }

    /// Leadership of the group goes elsewhere, or nowhere. Every store learns it, in time.
    fn move_leader(&mut self) {
        let at = self.draw(4);
        self.leader = STORES.get(usize::try_from(at).unwrap()).copied();
        // The first leader is the store that `init` ran on.
        if self.group.rows.is_empty() {
            self.leader = Some(STORES[0]);
        }
        if self.leader.is_some() {
            self.group.term = self.group.term.next();
        }
        for id in STORES {
            let now = self.now_of(id);
            let led_here = self.leader.filter(|leader| *leader == id).map(|_| self.group.term);
            // A store without a peer of the group, or a slow one, hears nothing.
            if led_here.is_some() || id == STORES[0] || self.draw(2) == 0 {
                let process = self.stores.get_mut(&id).unwrap();
                process.host.on_leader(now, self.leader.map(StoreId), led_here);
                process.agent.on_leader(now, self.leader.map(StoreId), led_here);
            }
        }
    }

    /// This store leads the group from now on, and every store knows.
    fn lead(&mut self, id: u64) {
        self.leader = Some(id);
        self.group.term = self.group.term.next();
        for store in STORES {
            let now = self.now_of(store);
            let led_here = (store == id).then_some(self.group.term);
            let process = self.stores.get_mut(&store).unwrap();
            process.host.on_leader(now, Some(StoreId(id)), led_here);
            // The others have no peer of the group.
            if store == id {
                process.agent.on_leader(now, Some(StoreId(id)), led_here);
            }
        }
    }

    fn call(&mut self, id: u64, call: PlacementCall) {
        let number = self.calls.len();
        self.calls.push((self.now, call.clone()));
        let (answers, clock) = (Arc::clone(&self.answers), Arc::clone(&self.clock));
        let responder = Responder::new(move |result| {
            let at = *clock.lock().unwrap();
            answers.lock().unwrap().push((number, at, result));
        });
        let now = self.now_of(id);
        self.stores.get_mut(&id).unwrap().agent.on_call(now, call, responder, &Here(id));
    }

    /// Goes to the next moment at which something happens, not beyond `until`.
    fn step(&mut self, until: Instant) {
        for id in STORES {
            self.settle(id);
        }
        let deadlines =
            self.stores.values().flat_map(|process| [process.agent.deadline(), process.host.deadline()]);
        let due = deadlines.flatten().chain(self.queue.keys().map(|(at, _)| *at)).min();
        self.now = due.map_or(until, |due| due.max(self.now)).min(until);
        *self.clock.lock().unwrap() = self.now;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let delivery = entry.remove();
            self.arrive(delivery);
        }
    }

    fn arrive(&mut self, delivery: Delivery) {
        match delivery {
            // Registered, but never started.
            Delivery::Request { to, .. } | Delivery::Response { to, .. }
                if !self.stores.contains_key(&to) => {}
            Delivery::Request { to, caller, body } => {
                let now = self.now_of(to);
                let request = codec::decode_request(body).unwrap();
                self.stores.get_mut(&to).unwrap().host.on_request(now, caller, request);
            }
            Delivery::Response { to, from, id, body } => {
                let now = self.now_of(to);
                let response = codec::decode_response(body).unwrap();
                let agent = &mut self.stores.get_mut(&to).unwrap().agent;
                agent.on_response(now, StoreId(from), id, response, &Here(to));
            }
            Delivery::Rows { to, tag } => {
                let rows = self.group.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                let rows = if self.is_led(to, tag.term) { Ok(rows) } else { Err("not led here".to_owned()) };
                let now = self.now_of(to);
                let local = [first(RegionId::PLACEMENT), first(RegionId::FIRST)];
                self.stores.get_mut(&to).unwrap().host.on_rows(now, tag, rows, &local);
            }
            Delivery::Proposed { to, tag, outcome } => {
                let now = self.now_of(to);
                self.stores.get_mut(&to).unwrap().host.on_proposed(now, tag, outcome);
            }
            Delivery::Confirmed { to, tag } => {
                let is_led = self.is_led(to, tag.term);
                self.stores.get_mut(&to).unwrap().host.on_confirmed(tag, is_led);
            }
        }
    }

    fn is_led(&self, id: u64, term: Term) -> bool {
        self.leader == Some(id) && self.group.term == term
    }

    /// Rounds of one store until neither half wants anything at this moment.
    fn settle(&mut self, id: u64) {
        for _ in 0..20 {
            let now = self.now_of(id);
            let process = self.stores.get_mut(&id).unwrap();
            let asked = process.agent.end_round(now, StoreLoad::default, &Here(id));
            let wanted = process.host.end_round(now);
            process.host.check_invariants();
            let is_due =
                |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now.monotonic);
            let is_quiet = asked.is_empty() && wanted.is_empty();
            if is_quiet && !is_due(process.agent.deadline()) && !is_due(process.host.deadline()) {
                return;
            }
            asked.into_iter().for_each(|effect| self.agent_effect(id, effect));
            wanted.into_iter().for_each(|effect| self.host_effect(id, effect));
        }
        panic!("store {id} does not come to rest");
    }

    fn agent_effect(&mut self, id: u64, effect: agent::Effect) {
        match effect {
            agent::Effect::Send { to, request_id, request } => {
                let caller = Caller { store_id: StoreId(id), request_id };
                let body = codec::encode_request(request);
                let (to, body) = (to.0, body);
                if to == id {
                    self.deliver(Duration::ZERO, Delivery::Request { to, caller, body });
                } else {
                    self.send(|| Delivery::Request { to, caller, body: body.clone() });
                }
            }
            agent::Effect::Reply(responder, result) => responder.reply(result),
            agent::Effect::Goal(_) | agent::Effect::Destroy(_) | agent::Effect::Stores(_) => {}
            agent::Effect::Removed => panic!("nobody was removed"),
            agent::Effect::Respond(..) | agent::Effect::Split { .. } | agent::Effect::FindKeys { .. } => {
                panic!("nobody asked for a split")
            }
        }
    }

    fn host_effect(&mut self, id: u64, effect: host::Effect) {
        let delay = Duration::from_micros(100 + self.draw(2_000));
        match effect {
            host::Effect::ReadRows(tag) => self.deliver(delay, Delivery::Rows { to: id, tag }),
            host::Effect::Confirm(tag) => self.deliver(delay, Delivery::Confirmed { to: id, tag }),
            host::Effect::Propose(tag, txn) => {
                let outcome =
                    if self.is_led(id, tag.term) { self.group.apply(&txn) } else { Proposed::Unknown };
                // Applied, but the host may not learn of it.
                let outcome = if self.draw(20) == 0 { Proposed::Unknown } else { outcome };
                self.deliver(delay, Delivery::Proposed { to: id, tag, outcome });
            }
            host::Effect::Respond(caller, response) => {
                let body = codec::encode_response(response);
                let (to, id_of) = (caller.store_id.0, caller.request_id);
                if to == id {
                    self.deliver(Duration::ZERO, Delivery::Response { to, from: id, id: id_of, body });
                } else {
                    self.send(|| Delivery::Response { to, from: id, id: id_of, body: body.clone() });
                }
            }
            host::Effect::Push(to, response) => {
                let body = codec::encode_response(response);
                self.send(|| Delivery::Response { to: to.0, from: id, id: 0, body: body.clone() });
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while self.now < until {
            self.step(until);
            steps += 1;
            assert!(steps < 100_000, "time does not pass");
        }
    }

    fn random_call(&mut self) -> PlacementCall {
        match self.draw(8) {
            0..4 => PlacementCall::Tso { count: 1 + u32::try_from(self.draw(1_000)).unwrap() },
            4 => PlacementCall::AllocateIds { count: 1 + self.draw(300) },
            5 => PlacementCall::GetRegion { key: Bytes::from("k") },
            6 => PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 },
            _ => PlacementCall::RegisterStore {
                record: StoreRecord {
                    id: StoreId(0),
                    address: format!("new-{}:1", self.draw(5)),
                    registration_nonce: 77,
                    ..StoreRecord::default()
                },
            },
        }
    }
}

#[test]
fn calls_are_answered_once_and_tell_the_truth() {
    for seed in 1..SEEDS {
        let mut world = World::new(seed);
        world.move_leader();
        let mut healed_at = Instant::MAX;
        for round in 0..60 {
            let store = STORES[usize::try_from(world.draw(3)).unwrap()];
            for _ in 0..world.draw(4) {
                let call = world.random_call();
                world.call(store, call);
            }
            if round < 50 && world.draw(8) == 0 {
                world.move_leader();
            }
            // Somebody sets a clock, forwards or back.
            if world.draw(8) == 0 {
                let (store, skew_ms) = (STORES[usize::try_from(world.draw(3)).unwrap()], world.draw(600_000));
                world.stores.get_mut(&store).unwrap().wall_skew_ms = skew_ms;
            }
            // Whatever else happens, in the end the network is good and somebody leads.
            if round == 50 {
                world.loss_percent = 0;
                healed_at = world.now;
                world.leader = None;
                while world.leader.is_none() {
                    world.move_leader();
                }
            }
            let pause = world.draw(400);
            world.run(Duration::from_millis(pause));
        }
        world.run(CALL_DEADLINE + Duration::from_millis(1));
        check_answers(seed, &world, healed_at);
    }
}

/// A new host knows all leaders and has all descriptors within half a second, however many there are.
#[test]
fn a_new_host_is_complete_within_500_ms() {
    for seed in 1..3 {
        let mut world = World::new(seed);
        world.loss_percent = 0;
        world.lead(STORES[0]);
        world.run(Duration::from_millis(50));
        for id in &STORES[1..] {
            let record = record(*id);
            world.group.rows.insert(RowKey::Store(record.id).encode(), codec::encode_store(&record));
        }
        let regions: Vec<Region> = (0..REGION_COUNT).map(region_at).collect();
        for (at, id) in STORES.into_iter().enumerate() {
            let leads = regions.iter().skip(at).step_by(STORES.len()).map(|region| LeaderReport {
                leader: region.find_peer_on(StoreId(id)).unwrap(),
                region: region.clone(),
                term: Term(3),
                down_peers: Vec::new(),
                pending_peers: Vec::new(),
                size: RegionSize::default(),
            });
            let leads = leads.collect();
            world.stores.get_mut(&id).unwrap().agent.on_leads(leads, Vec::new(), &Here(id));
        }
        for host in [STORES[2], STORES[1]] {
            world.lead(host);
            world.run(Duration::from_millis(500));
            let range = KeyRange::ALL;
            let first_call = world.calls.len();
            world.call(STORES[0], PlacementCall::ScanRegions { range, limit: 0 });
            world.run(Duration::from_millis(100));
            let answers = world.answers.lock().unwrap();
            let (_, _, result) = answers.iter().find(|(number, ..)| *number == first_call).unwrap();
            let Ok(PlacementAnswer::Regions(routes)) = result else { panic!("seed {seed}: {result:?}") };
            let known: Vec<_> = routes.iter().map(|route| route.region.clone()).collect();
            assert_eq!(known, regions, "seed {seed}");
            for (at, route) in routes.iter().enumerate() {
                let leader = route.leader.map(|leader| leader.store_id.0);
                assert_eq!(leader, Some(STORES[at % STORES.len()]), "seed {seed}: region {at}");
            }
        }
    }
}

/// More than one message of each store has room for.
const REGION_COUNT: u64 = 1_600;

/// One of so many that tile the keyspace, with a peer on every store.
fn region_at(at: u64) -> Region {
    let bound = |at: u64| {
        if at.is_multiple_of(REGION_COUNT) { Bytes::new() } else { Bytes::from(format!("{at:06}")) }
    };
    let id = if at == 0 { RegionId::FIRST } else { RegionId(10_000 + at) };
    let peer = |store_id: &u64| Peer {
        id: PeerId(100_000 + at * 10 + store_id % 10),
        store_id: StoreId(*store_id),
        role: PeerRole::Voter,
    };
    Region {
        id,
        range: KeyRange::new(bound(at), bound(at + 1)),
        epoch: Epoch { conf_version: 3, version: 2 },
        peers: STORES.iter().map(peer).collect(),
    }
}

fn check_answers(seed: u64, world: &World, healed_at: Instant) {
    let answers = world.answers.lock().unwrap();
    let numbers: BTreeSet<usize> = answers.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers.len(), world.calls.len(), "seed {seed}: every call is answered");
    assert_eq!(answers.len(), world.calls.len(), "seed {seed}: and once");
    let mut ids: BTreeMap<u64, u64> = BTreeMap::new();
    let mut registered: BTreeMap<String, StoreId> = BTreeMap::new();
    let mut timestamps: Vec<(Instant, Instant, u64, u64)> = Vec::new();
    for (number, at, result) in answers.iter() {
        let (asked, call) = &world.calls[*number];
        assert!(at.since(*asked) <= CALL_DEADLINE + Duration::from_millis(1), "seed {seed}: {call:?}");
        match (call, result) {
            (PlacementCall::Tso { count }, Ok(PlacementAnswer::Timestamp(last))) => {
                timestamps.push((*asked, *at, last.version() + 1 - u64::from(*count), last.version()));
            }
            (PlacementCall::AllocateIds { count }, Ok(PlacementAnswer::Ids { first_id, .. })) => {
                assert!(*first_id >= 1_003, "seed {seed}");
                assert_eq!(ids.insert(*first_id, *count), None, "seed {seed}");
            }
            (PlacementCall::RegisterStore { record }, Ok(PlacementAnswer::Registered { store_id, .. })) => {
                let known = registered.entry(record.address.clone()).or_insert(*store_id);
                assert_eq!(known, store_id, "seed {seed}: one address, one id");
            }
            (PlacementCall::GetRegion { .. }, Ok(PlacementAnswer::Region(Some(route)))) => {
                assert_eq!(route.region, first(RegionId::FIRST));
            }
            (PlacementCall::ScanRegions { .. }, Ok(PlacementAnswer::Regions(routes))) => {
                assert_eq!(routes.len(), 1);
            }
            (_, Err(Error::Unavailable { .. } | Error::Busy { .. })) => {
                assert!(
                    *asked < healed_at,
                    "seed {seed}: {call:?} is answered {result:?} though all is well"
                );
            }
            (call, result) => panic!("seed {seed}: {call:?} is answered {result:?}"),
        }
    }
    let mut free = 0;
    for (first_id, count) in &ids {
        assert!(*first_id >= free, "seed {seed}: ids are given once");
        free = first_id + count;
    }
    assert!(
        registered
            .values()
            .all(|id| !ids.iter().any(|(first, count)| (*first..first + count).contains(&id.0)))
    );
    for (asked, _, first, _) in &timestamps {
        let before =
            timestamps.iter().filter(|(_, answered, ..)| answered < asked).map(|(.., last)| *last).max();
        assert!(before.is_none_or(|before| before < *first), "seed {seed}: timestamps ascend in real time");
    }
    timestamps.sort_unstable_by_key(|(_, _, first, _)| *first);
    let is_disjoint = timestamps.windows(2).all(|pair| pair[0].3 < pair[1].2);
    assert!(is_disjoint, "seed {seed}: timestamps are unique");
    assert!(!timestamps.is_empty(), "seed {seed}");
}
