//! One agent: what it sends is looked at, what it is sent is made up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use types::{Epoch, KeyRange, PeerId, PeerRole, RegionSize, WallTime};

use super::*;
use crate::core::{
    api::{RegionRoute, Timestamp},
    limits::{
        CALL_DEADLINE, CALL_RESEND_AFTER, HEARTBEAT_INTERVAL, REPORT_REGIONS_MAX, REPORT_RESEND_AFTER,
        SCAN_PAGE_REGIONS,
    },
    protocol::{LonelyPeer, StoreReport},
};

/// This store's regions.
#[derive(Default)]
pub(super) struct Regions(BTreeMap<RegionId, LocalRegion>, Vec<LonelyPeer>);

impl Regions {
    pub(super) fn set(&mut self, region: Region, leader: Option<Peer>) {
        self.0.insert(region.id, LocalRegion { region: Arc::new(region), leader });
    }
}

impl Locals for Regions {
    fn find(&self, key: &[u8]) -> Option<LocalRegion> {
        let holds = |local: &&LocalRegion| {
            local.region.id != RegionId::PLACEMENT && local.region.range.contains_key(key)
        };
        self.0.values().find(holds).cloned()
    }

    fn find_by_id(&self, id: RegionId) -> Option<LocalRegion> {
        self.0.get(&id).cloned()
    }

    fn lonely_peers(&self) -> Vec<LonelyPeer> {
        self.1.clone()
    }
}

type Answers = Arc<Mutex<Vec<(u64, Result<PlacementAnswer>)>>>;

pub(super) struct Bench {
    pub(super) agent: Agent,
    pub(super) now: Now,
    pub(super) regions: Regions,
    call_count: u64,
    answers: Answers,
    sent: Vec<(StoreId, u64, Request)>,
    pub(super) responded: Vec<(Caller, Response)>,
    pub(super) splits: Vec<(RegionId, Split)>,
    pub(super) searches: Vec<(u64, RegionId, u32)>,
    goals: Vec<Goal>,
    destroyed: Vec<Region>,
    stores: Vec<Vec<StoreRecord>>,
    removed_count: usize,
}

impl Bench {
    /// The agent of store 1, with stores 2 and 3 in its address book. Its first report is acknowledged by store 2.
    pub(super) fn new() -> Bench {
        let mut bench = Bench::fresh();
        let (to, id, _) = bench.round().pop().expect("it reports at once");
        assert!([1, 2, 3].contains(&to.0));
        bench.acknowledge(2, id, 1, 5);
        assert_eq!(bench.agent.finder.leader(), Some(StoreId(2)));
        bench
    }

    fn fresh() -> Bench {
        let agent = Agent::new(AgentConfig {
            cluster_id: ClusterId(9),
            key_mode: KeyMode::Raw,
            record: record(1),
            known_stores: vec![record(1), record(2), record(3)],
            seed: 4,
        });
        Bench {
            agent,
            now: Now { monotonic: Instant::from_millis(1), wall: WallTime(1) },
            regions: Regions::default(),
            call_count: 0,
            answers: Answers::default(),
            sent: Vec::new(),
            responded: Vec::new(),
            splits: Vec::new(),
            searches: Vec::new(),
            goals: Vec::new(),
            destroyed: Vec::new(),
            stores: Vec::new(),
            removed_count: 0,
        }
    }

    /// One round; returns what it sent.
    pub(super) fn round(&mut self) -> Vec<(StoreId, u64, Request)> {
        let effects = self.agent.end_round(self.now, StoreLoad::default, &self.regions);
        for effect in effects {
            match effect {
                Effect::Send { to, request_id, request } => self.sent.push((to, request_id, request)),
                Effect::Reply(responder, result) => responder.reply(result),
                Effect::Respond(caller, response) => self.responded.push((caller, response)),
                Effect::Split { region_id, split } => self.splits.push((region_id, split)),
                Effect::FindKeys { change_id, region_id, part_count } => {
                    self.searches.push((change_id, region_id, part_count));
                }
                Effect::Goal(goal) => self.goals.push(goal),
                Effect::Destroy(region) => self.destroyed.push(region),
                Effect::Stores(stores) => self.stores.push(stores),
                Effect::Removed => self.removed_count += 1,
            }
        }
        std::mem::take(&mut self.sent)
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<(StoreId, u64, Request)> {
        self.now.monotonic += time;
        self.round()
    }

    /// Makes a call and runs a round; returns the call's number and what was sent for it.
    fn call(&mut self, call: PlacementCall) -> (u64, Option<(StoreId, u64, PlacementCall)>) {
        let number = self.ask(call);
        let sent = calls_of(self.round()).pop();
        (number, sent)
    }

    /// Makes a call and returns its number.
    pub(super) fn ask(&mut self, call: PlacementCall) -> u64 {
        self.call_count += 1;
        let (number, answers) = (self.call_count, Arc::clone(&self.answers));
        let responder = Responder::new(move |result| answers.lock().unwrap().push((number, result)));
        self.agent.on_call(self.now, call, responder, &self.regions);
        number
    }

    pub(super) fn respond(&mut self, from: u64, id: u64, response: Response) -> Vec<(StoreId, u64, Request)> {
        self.agent.on_response(self.now, StoreId(from), id, response, &self.regions);
        self.round()
    }

    fn acknowledge(&mut self, from: u64, id: u64, number: u64, term: u64) -> Vec<(StoreId, u64, Request)> {
        let answer = ReportAnswer { placement_term: Term(term), number, ..ReportAnswer::default() };
        self.respond(from, id, Response::Report(Box::new(answer)))
    }

    pub(super) fn answer_of(&self, number: u64) -> Option<Result<PlacementAnswer>> {
        let answers = self.answers.lock().unwrap();
        let mut own = answers.iter().filter(|(of, _)| *of == number).map(|(_, result)| result.clone());
        let first = own.next();
        assert_eq!(own.next(), None, "a call is answered once");
        first
    }

    /// Asks for a region as the host knows it; returns what the caller gets.
    fn route(&mut self, key: &'static str, row: RegionRoute) -> RegionRoute {
        let (number, sent) = self.call(PlacementCall::GetRegion { key: Bytes::from(key) });
        let (to, id, _) = sent.expect("the host is asked");
        self.respond(to.0, id, Response::Answer(PlacementAnswer::Region(Some(row))));
        match self.answer_of(number) {
            Some(Ok(PlacementAnswer::Region(Some(route)))) => route,
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, regions: &[Region]) {
        let leads = regions.iter().map(|region| lead(region.clone())).collect();
        self.agent.on_leads(leads, Vec::new(), &self.regions);
    }
}

pub(super) fn calls_of(sent: Vec<(StoreId, u64, Request)>) -> Vec<(StoreId, u64, PlacementCall)> {
    let call = |(to, id, request)| match request {
        Request::Call(call) => Some((to, id, call)),
        Request::Report(_) | Request::Split(_) => None,
    };
    sent.into_iter().filter_map(call).collect()
}

fn reports_of(sent: Vec<(StoreId, u64, Request)>) -> Vec<(u64, StoreReport)> {
    let report = |(_, id, request)| match request {
        Request::Call(_) | Request::Split(_) => None,
        Request::Report(report) => Some((id, *report)),
    };
    sent.into_iter().filter_map(report).collect()
}

pub(super) fn record(id: u64) -> StoreRecord {
    StoreRecord { id: StoreId(id), address: format!("store-{id}:1"), ..StoreRecord::default() }
}

pub(super) fn peer(region_id: u64) -> Peer {
    Peer { id: PeerId(region_id * 10), store_id: StoreId(1), role: PeerRole::Voter }
}

pub(super) fn region(id: u64, start_key: &str, end_key: &str, version: u64) -> Region {
    Region {
        id: RegionId(id),
        range: KeyRange::new(start_key.to_owned(), end_key.to_owned()),
        epoch: Epoch { conf_version: 1, version },
        peers: vec![peer(id)],
    }
}

pub(super) fn route(region: Region) -> RegionRoute {
    RegionRoute {
        leader: None,
        stand_in: region.peers.first().copied(),
        region,
        down_peers: Vec::new(),
        pending_peers: Vec::new(),
        size: RegionSize::default(),
    }
}

fn lead(region: Region) -> LeaderReport {
    let leader = region.peers[0];
    LeaderReport {
        region,
        leader,
        term: Term(1),
        down_peers: Vec::new(),
        pending_peers: Vec::new(),
        size: RegionSize::default(),
    }
}

fn not_leader(hint: Option<u64>) -> Response {
    Response::Failed(Error::NotLeader { hint: hint.map(StoreId), term: Term(0) })
}

fn timestamp(physical_ms: u64) -> PlacementAnswer {
    PlacementAnswer::Timestamp(Timestamp { physical_ms, logical: 0 })
}

const TSO: PlacementCall = PlacementCall::Tso { count: 1 };

#[test]
fn a_call_follows_the_hint_and_is_answered_once() {
    let mut bench = Bench::new();
    let (number, sent) = bench.call(TSO);
    let (to, id, _) = sent.unwrap();
    assert_eq!(to, StoreId(2));
    let again = calls_of(bench.respond(2, id, not_leader(Some(3))));
    assert_eq!(again, [(StoreId(3), id, TSO)]);
    bench.respond(3, id, Response::Answer(timestamp(7)));
    bench.respond(3, id, Response::Answer(timestamp(8)));
    assert_eq!(bench.answer_of(number), Some(Ok(timestamp(7))));
    assert_eq!(bench.call(TSO).1.unwrap().0, StoreId(3), "the next one goes there at once");
}

#[test]
fn stores_that_name_each_other_are_not_asked_in_a_loop() {
    let mut bench = Bench::new();
    let (_, sent) = bench.call(TSO);
    let (mut to, id, _) = sent.unwrap();
    let mut hops = 0;
    loop {
        let other = 5 - to.0;
        match calls_of(bench.respond(to.0, id, not_leader(Some(other)))).pop() {
            Some((next, _, _)) => to = next,
            None => break,
        }
        hops += 1;
        assert!(hops < 10);
    }
    assert_eq!(
        calls_of(bench.pass(crate::core::limits::CALL_RETRY_AFTER)).len(),
        1,
        "after a pause it goes on"
    );
}

#[test]
fn nobody_answers_and_the_caller_is_told() {
    let mut bench = Bench::new();
    let (number, sent) = bench.call(TSO);
    let mut targets = vec![sent.unwrap().0];
    let step = Duration::from_millis(100);
    for _ in 0..CALL_DEADLINE.as_millis() / step.as_millis() {
        assert_eq!(bench.answer_of(number), None);
        targets.extend(calls_of(bench.pass(step)).into_iter().map(|(to, ..)| to));
    }
    assert!(matches!(bench.answer_of(number), Some(Err(Error::Unavailable { .. }))));
    assert!((10..=30).contains(&targets.len()), "{targets:?}");
    for id in [2, 3] {
        assert!(targets.contains(&StoreId(id)), "everybody else is asked: {targets:?}");
    }
    assert!(!targets.contains(&StoreId(1)), "a store without a peer of the group cannot lead it");
}

#[test]
fn a_busy_host_is_asked_again() {
    let mut bench = Bench::new();
    let (number, sent) = bench.call(TSO);
    let (_, id, _) = sent.unwrap();
    let busy = Response::Failed(Error::Busy { reason: "later".to_owned() });
    assert_eq!(calls_of(bench.respond(2, id, busy.clone())).len(), 0);
    assert_eq!(calls_of(bench.pass(Duration::from_millis(50))), [(StoreId(2), id, TSO)]);
    bench.respond(2, id, busy);
    bench.pass(CALL_DEADLINE);
    assert_eq!(bench.answer_of(number), Some(Err(Error::Busy { reason: "later".to_owned() })));
    let (number, sent) = bench.call(PlacementCall::AllocateIds { count: 0 });
    assert!(sent.is_none());
    assert!(matches!(bench.answer_of(number), Some(Err(Error::Invalid(_)))));
}

#[test]
fn a_new_leader_is_asked_at_once() {
    let mut bench = Bench::new();
    let (_, sent) = bench.call(TSO);
    let (_, id, _) = sent.unwrap();
    bench.agent.on_leader(bench.now, Some(StoreId(3)), None);
    assert_eq!(calls_of(bench.round()), [(StoreId(3), id, TSO)]);
    // Told twice is told once.
    bench.agent.on_leader(bench.now, Some(StoreId(3)), None);
    assert_eq!(bench.round().len(), 0);
}

#[test]
fn what_is_known_answers_while_the_host_is_silent() {
    let mut bench = Bench::new();
    let row = route(region(2, "", "m", 2));
    bench.route("a", row.clone());
    bench.regions.set(region(3, "m", "", 2), Some(peer(3)));
    let (first, sent) = bench.call(PlacementCall::GetRegion { key: Bytes::from("b") });
    let (_, id, _) = sent.unwrap();
    let (tso, _) = bench.call(TSO);
    bench.pass(Duration::from_millis(299));
    assert_eq!(bench.answer_of(first), None);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.answer_of(first), Some(Ok(PlacementAnswer::Region(Some(row.clone())))));
    assert_eq!(bench.answer_of(tso), None, "time is not remembered");
    // From now on without waiting: from memory, from this store's own regions, from both.
    let (own, sent) = bench.call(PlacementCall::GetRegion { key: Bytes::from("z") });
    assert_eq!(sent, None);
    let local = RegionRoute { leader: Some(peer(3)), stand_in: None, ..route(region(3, "m", "", 2)) };
    assert_eq!(bench.answer_of(own), Some(Ok(PlacementAnswer::Region(Some(local.clone())))));
    let (scan, _) = bench.call(PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 });
    assert_eq!(bench.answer_of(scan), Some(Ok(PlacementAnswer::Regions(vec![row.clone(), local]))));
    let (previous, _) = bench.call(PlacementCall::GetPrevRegion { key: Bytes::from("x") });
    assert_eq!(bench.answer_of(previous), Some(Ok(PlacementAnswer::Region(Some(row.clone())))));
    let (none, _) = bench.call(PlacementCall::GetPrevRegion { key: Bytes::from("b") });
    assert_eq!(bench.answer_of(none), Some(Ok(PlacementAnswer::Region(None))));
    let (store, _) = bench.call(PlacementCall::GetStore { store_id: StoreId(3) });
    assert!(matches!(bench.answer_of(store), Some(Ok(PlacementAnswer::Store(Some(_))))));
    // The host speaks again: it is asked again.
    bench.respond(2, id, Response::Answer(PlacementAnswer::Region(Some(row.clone()))));
    for (to, id, call) in calls_of(bench.pass(CALL_RESEND_AFTER)) {
        assert_eq!(call, TSO);
        bench.respond(to.0, id, Response::Answer(timestamp(9)));
    }
    assert!(bench.call(PlacementCall::GetRegion { key: Bytes::from("b") }).1.is_some());
}

/// Some clients never ask again for a region that has no leader when they ask.
#[test]
fn whoever_asks_for_a_region_gets_somebody_to_ask() {
    let mut bench = Bench::new();
    let on = |store| Peer { id: PeerId(20 + store), store_id: StoreId(store), role: PeerRole::Voter };
    let learner = Peer { role: PeerRole::Learner, ..on(4) };
    let three = Region { peers: vec![learner, on(2), on(1), on(3)], ..region(2, "", "", 2) };
    let unled = RegionRoute { stand_in: None, ..route(three.clone()) };
    let named = |route: RegionRoute| (route.leader, route.stand_in);
    // Nothing is known: this store is live, and has a voter. Without one, any voter will do.
    assert_eq!(named(bench.route("a", unled.clone())), (None, Some(on(1))));
    let elsewhere = Region { peers: vec![learner, on(2), on(3)], ..three.clone() };
    assert_eq!(
        named(bench.route("a", RegionRoute { region: elsewhere, ..unled.clone() })),
        (None, Some(on(2)))
    );
    // What the host remembers counts for more.
    let last = RegionRoute { stand_in: Some(on(3)), ..unled.clone() };
    assert_eq!(named(bench.route("a", last)), (None, Some(on(3))));
    // The next host has heard nothing yet, but this store remembers, while the region has that peer.
    let led = RegionRoute { leader: Some(on(2)), ..unled.clone() };
    assert_eq!(named(bench.route("a", led)), (Some(on(2)), None));
    assert_eq!(named(bench.route("a", unled.clone())), (None, Some(on(2))));
    assert_eq!(named(bench.route("a", unled.clone())), (None, Some(on(2))), "still");
    let epoch = Epoch { conf_version: 2, version: 2 };
    let moved = Region { peers: vec![on(1), on(3)], epoch, ..three.clone() };
    assert_eq!(named(bench.route("a", RegionRoute { region: moved.clone(), ..unled })), (None, Some(on(1))));
    // This store's own peer knows more than it remembers, also when the host says nothing at all.
    bench.regions.set(moved.clone(), Some(on(3)));
    let unled = RegionRoute { stand_in: Some(on(1)), ..route(moved.clone()) };
    assert_eq!(named(bench.route("a", unled.clone())), (None, Some(on(3))));
    let led = RegionRoute { leader: Some(on(1)), stand_in: None, ..unled };
    assert_eq!(named(bench.route("a", led)), (Some(on(1)), None), "the host knows");
    let (number, _) = bench.call(PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 });
    bench.pass(Duration::from_millis(300));
    match bench.answer_of(number) {
        Some(Ok(PlacementAnswer::Regions(routes))) => {
            assert_eq!(routes.into_iter().map(|route| route.leader).collect::<Vec<_>>(), [Some(on(3))]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_with_a_gap_does_not_answer_a_scan() {
    let mut bench = Bench::new();
    bench.route("a", route(region(2, "", "c", 2)));
    bench.route("n", route(region(3, "m", "", 2)));
    let (number, _) = bench.call(PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 });
    let (head, _) = bench.call(PlacementCall::ScanRegions { range: KeyRange::new("", "c"), limit: 0 });
    bench.pass(Duration::from_millis(300));
    assert_eq!(bench.answer_of(number), None);
    assert!(matches!(bench.answer_of(head), Some(Ok(PlacementAnswer::Regions(routes))) if routes.len() == 1));
    bench.pass(CALL_DEADLINE);
    assert!(matches!(bench.answer_of(number), Some(Err(Error::Unavailable { .. }))));
}

#[test]
fn newer_descriptors_of_this_store_are_laid_over() {
    let mut bench = Bench::new();
    let old = RegionRoute { leader: Some(peer(2)), ..route(region(2, "", "", 1)) };
    bench.regions.set(region(2, "", "m", 2), None);
    bench.regions.set(region(3, "m", "", 2), Some(peer(3)));
    let left = bench.route("a", old.clone());
    assert_eq!(left.region, region(2, "", "m", 2));
    assert_eq!(left.leader, Some(peer(2)), "who led it then leads it still, for all this store knows");
    assert_eq!(bench.route("z", old.clone()).region.id, RegionId(3));
    // An older one is not.
    let newer = route(region(9, "m", "", 3));
    assert_eq!(bench.route("z", newer.clone()), newer);
    // By id, also what the directory does not have yet.
    for (id, row, expected) in [(2, Some(old.clone()), 2), (3, None, 3)] {
        let (number, sent) = bench.call(PlacementCall::GetRegionById { region_id: RegionId(id) });
        let (to, request_id, _) = sent.unwrap();
        bench.respond(to.0, request_id, Response::Answer(PlacementAnswer::Region(row)));
        match bench.answer_of(number) {
            Some(Ok(PlacementAnswer::Region(Some(route)))) => {
                assert_eq!((route.region.id.0, route.region.epoch.version), (expected, 2));
            }
            other => panic!("{other:?}"),
        }
    }
    let (number, sent) = bench.call(PlacementCall::GetPrevRegion { key: Bytes::from("x") });
    let (to, id, _) = sent.unwrap();
    bench.respond(to.0, id, Response::Previous { previous: None, current: Box::new(old) });
    match bench.answer_of(number) {
        Some(Ok(PlacementAnswer::Region(Some(route)))) => assert_eq!(route.region, region(2, "", "m", 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scan_is_laid_over_where_it_tiles() {
    let rows = |regions: &[Region]| regions.iter().cloned().map(route).collect::<Vec<_>>();
    let cases = [
        // A split of which this store has both parts.
        (vec![region(2, "", "", 1)], vec![region(2, "", "m", 2), region(3, "m", "", 2)], "2 3"),
        // Of which it has the right part only: the old row stands.
        (vec![region(2, "", "", 1)], vec![region(3, "m", "", 2)], "2"),
        // A merge of two rows.
        (vec![region(2, "", "m", 1), region(3, "m", "", 1)], vec![region(2, "", "", 2)], "2"),
        // A merge that reaches beyond the page.
        (vec![region(2, "", "m", 1), region(3, "m", "t", 1)], vec![region(3, "m", "", 2)], "2 3"),
        // What this store has is older.
        (vec![region(2, "", "m", 3), region(3, "m", "", 3)], vec![region(2, "", "", 2)], "2 3"),
        // Older than one of the rows that it covers.
        (vec![region(2, "", "m", 1), region(3, "m", "", 3)], vec![region(2, "", "", 2)], "2 3"),
        // A split in the middle of others.
        (
            vec![region(2, "", "d", 1), region(3, "d", "t", 1), region(4, "t", "", 1)],
            vec![region(3, "d", "h", 2), region(5, "h", "t", 2)],
            "2 3 5 4",
        ),
    ];
    for (rows_of_host, own, expected) in cases {
        let mut regions = Regions::default();
        own.iter().for_each(|region| regions.set(region.clone(), None));
        let laid = routes::lay_over_all(rows(&rows_of_host), &regions);
        let ids: Vec<_> = laid.iter().map(|route| route.region.id.to_string()).collect();
        assert_eq!(ids.join(" "), expected, "{rows_of_host:?} under {own:?}");
        let is_gapless =
            laid.windows(2).all(|pair| pair[0].region.range.end_key == pair[1].region.range.start_key);
        assert!(is_gapless, "{laid:?}");
    }
}

#[test]
fn a_long_scan_comes_in_pages() {
    let mut bench = Bench::new();
    let page = SCAN_PAGE_REGIONS as usize;
    let count = page * 2 + 10;
    let key = |at: usize| if at == 0 || at == count { String::new() } else { format!("{at:06}") };
    let rows: Vec<_> = (0..count).map(|at| route(region(at as u64 + 2, &key(at), &key(at + 1), 1))).collect();
    for (limit, expected) in [(0, count), (SCAN_PAGE_REGIONS + 5, page + 5), (3, 3)] {
        let (number, sent) = bench.call(PlacementCall::ScanRegions { range: KeyRange::ALL, limit });
        let mut next = sent;
        while let Some((to, id, call)) = next.take() {
            let PlacementCall::ScanRegions { range, limit } = call else { panic!("{call:?}") };
            assert!(limit <= SCAN_PAGE_REGIONS);
            let found = rows.iter().filter(|route| route.region.range.overlaps(&range));
            let found = found.take(limit as usize).cloned().collect();
            let answer = Response::Answer(PlacementAnswer::Regions(found));
            next = calls_of(bench.respond(to.0, id, answer)).pop();
        }
        match bench.answer_of(number) {
            Some(Ok(PlacementAnswer::Regions(routes))) => assert_eq!(routes, rows[..expected]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn several_ranges_name_a_region_once() {
    let mut bench = Bench::new();
    let rows = [region(2, "", "d", 1), region(3, "d", "m", 1), region(4, "m", "t", 1), region(5, "t", "", 1)];
    let range = |start_key: &'static str, end_key: &'static str| KeyRange::new(start_key, end_key);
    let cases = [
        (vec![range("a", "b"), range("b", "c"), range("n", "z")], 0, vec![2, 4, 5]),
        (vec![range("a", "e"), range("f", "n")], 0, vec![2, 3, 4]),
        (vec![range("a", "e"), range("f", "n")], 2, vec![2, 3]),
        (vec![range("c", "c"), range("u", "")], 0, vec![5]),
        (vec![], 0, vec![]),
    ];
    for (ranges, limit, expected) in cases {
        let (number, sent) = bench.call(PlacementCall::BatchScanRegions { ranges, limit });
        let mut next = sent;
        let mut steps = 0;
        while let Some((to, id, call)) = next.take() {
            steps += 1;
            assert!(steps < 10);
            let PlacementCall::ScanRegions { range, limit } = call else { panic!("{call:?}") };
            let found = rows.iter().filter(|region| region.range.overlaps(&range)).take(limit as usize);
            let answer = Response::Answer(PlacementAnswer::Regions(found.cloned().map(route).collect()));
            next = calls_of(bench.respond(to.0, id, answer)).pop();
        }
        match bench.answer_of(number) {
            Some(Ok(PlacementAnswer::Regions(routes))) => {
                assert_eq!(routes.iter().map(|route| route.region.id.0).collect::<Vec<_>>(), expected);
            }
            other => panic!("{other:?}"),
        }
    }
    let (number, _) = bench
        .call(PlacementCall::BatchScanRegions { ranges: vec![range("m", ""), range("a", "b")], limit: 0 });
    assert!(matches!(bench.answer_of(number), Some(Err(Error::Invalid(_)))));
}

#[test]
fn ids_come_from_a_leased_block() {
    let mut bench = Bench::new();
    let (first, _) = bench.call(PlacementCall::AllocateIds { count: 3 });
    let mut leases = 0;
    let pending = bench.agent.calls.len();
    assert_eq!(pending, 2, "the call itself, and a lease");
    for (to, id, call) in calls_of(bench.pass(CALL_RESEND_AFTER)) {
        let PlacementCall::AllocateIds { count } = call else { panic!("{call:?}") };
        leases += usize::from(count > 3);
        let ids = PlacementAnswer::Ids { first_id: if count > 3 { 5_000 } else { 4_000 }, count };
        bench.respond(to.0, id, Response::Answer(ids));
    }
    assert_eq!(leases, 1);
    assert_eq!(bench.answer_of(first), Some(Ok(PlacementAnswer::Ids { first_id: 4_000, count: 3 })));
    let (second, sent) = bench.call(PlacementCall::AllocateIds { count: 10 });
    assert_eq!(sent, None, "no round trip");
    assert_eq!(bench.answer_of(second), Some(Ok(PlacementAnswer::Ids { first_id: 5_000, count: 10 })));
    let (third, _) = bench.call(PlacementCall::AllocateIds { count: 1 });
    assert_eq!(bench.answer_of(third), Some(Ok(PlacementAnswer::Ids { first_id: 5_010, count: 1 })));
}

#[test]
fn reports_are_changes_and_heartbeats() {
    let mut bench = Bench::new();
    assert_eq!(bench.round().len(), 0, "nothing is new");
    bench.report(&[region(2, "", "", 1)]);
    let (id, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!((report.number, report.is_full, report.leads.len()), (2, false, 1));
    // What changes meanwhile comes with the next one; what is said again is not said again.
    bench.report(&[region(2, "", "", 1), region(3, "x", "", 1)]);
    assert_eq!(bench.round().len(), 0, "one at a time");
    let (id, report) = reports_of(bench.acknowledge(2, id, 2, 5))
        .pop()
        .map(|(next, report)| {
            assert_ne!(next, id);
            (next, report)
        })
        .unwrap();
    assert_eq!(report.leads.iter().map(|lead| lead.region.id.0).collect::<Vec<_>>(), [3]);
    assert_eq!(bench.acknowledge(2, id, 3, 5).len(), 0);
    bench.report(&[region(2, "", "", 1)]);
    assert_eq!(bench.round().len(), 0);
    let (_, heartbeat) = reports_of(bench.pass(HEARTBEAT_INTERVAL)).pop().unwrap();
    assert_eq!((heartbeat.number, heartbeat.leads.len()), (4, 0));
    assert_eq!(heartbeat.record, record(1));
}

#[test]
fn a_lost_report_is_said_again() {
    let mut bench = Bench::new();
    bench.report(&[region(2, "", "", 1)]);
    let (lost, _) = reports_of(bench.round()).pop().unwrap();
    bench.report(&[region(3, "x", "", 1)]);
    let (id, report) = reports_of(bench.pass(REPORT_RESEND_AFTER)).pop().unwrap();
    assert_eq!((report.number, report.follows, report.leads.len()), (3, 1, 2), "all since the first one");
    bench.acknowledge(2, lost, 2, 5);
    assert!(bench.agent.reports.is_awaiting(id), "a late acknowledgement is of what it was sent for");
    bench.respond(2, id, not_leader(None));
    assert_eq!(reports_of(bench.pass(Duration::from_millis(50))).pop().unwrap().1.leads.len(), 2);
}

#[test]
fn a_new_host_is_told_everything() {
    let mut bench = Bench::new();
    let count = REPORT_REGIONS_MAX + 10;
    let regions: Vec<_> = (0..count as u64)
        .map(|at| region(at + 2, &format!("{at:05}"), &format!("{:05}", at + 1), 1))
        .collect();
    bench.report(&regions);
    let (id, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!((report.leads.len(), report.has_more), (REPORT_REGIONS_MAX, true));
    let (id, report) = reports_of(bench.acknowledge(2, id, 2, 5)).pop().unwrap();
    assert_eq!((report.leads.len(), report.has_more), (10, false));
    bench.acknowledge(2, id, 3, 5);
    // The next heartbeat meets the host of a later term.
    let (id, heartbeat) = reports_of(bench.pass(HEARTBEAT_INTERVAL)).pop().unwrap();
    assert!(!heartbeat.is_full);
    let (id, full) = reports_of(bench.acknowledge(3, id, 4, 6)).pop().unwrap();
    assert!(full.is_full);
    assert_eq!(full.leads.len(), REPORT_REGIONS_MAX);
    let (id, rest) = reports_of(bench.acknowledge(3, id, 5, 6)).pop().unwrap();
    assert!(!rest.is_full && full.has_more && !rest.has_more);
    assert_eq!(rest.leads.len(), 10);
    assert_eq!(bench.acknowledge(3, id, 6, 6).len(), 0);
}

#[test]
fn a_host_that_begins_is_told_everything_at_once() {
    let mut bench = Bench::new();
    bench.report(&[region(2, "", "m", 1), region(3, "m", "", 1)]);
    let (id, _) = reports_of(bench.round()).pop().unwrap();
    assert!(reports_of(bench.acknowledge(2, id, 2, 5)).is_empty());
    let begins = ReportAnswer { placement_term: Term(6), is_full_wanted: true, ..ReportAnswer::default() };
    bench.agent.on_response(bench.now, StoreId(3), 0, Response::Report(Box::new(begins)), &bench.regions);
    let sent = bench.round();
    assert!(sent.iter().all(|(to, ..)| *to == StoreId(3)), "it is known where the host is: {sent:?}");
    let (id, report) = reports_of(sent).pop().expect("no heartbeat has to pass");
    assert!(report.is_full);
    assert_eq!(report.leads.len(), 2);
    assert!(reports_of(bench.acknowledge(3, id, 3, 6)).is_empty(), "once is enough");
}

#[test]
fn a_split_is_reported_as_one_set() {
    let mut bench = Bench::new();
    bench.report(&[region(2, "", "", 1)]);
    let (id, _) = reports_of(bench.round()).pop().unwrap();
    bench.acknowledge(2, id, 2, 5);
    bench.regions.set(region(2, "", "d", 3), Some(peer(2)));
    bench.regions.set(region(3, "d", "m", 3), None);
    bench.regions.set(region(4, "m", "", 2), None);
    bench.report(&[region(2, "", "d", 3)]);
    let (_, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!(report.leads[0].region, region(2, "", "d", 3));
    assert_eq!(report.siblings, [region(3, "d", "m", 3), region(4, "m", "", 2)]);
}

/// The parent is led by a store that had not led it before the split: what was split off is asked for.
#[test]
fn descriptors_that_the_host_lacks_are_reported() {
    let mut bench = Bench::new();
    bench.regions.set(region(2, "", "g", 2), Some(peer(2)));
    bench.regions.set(region(7, "g", "m", 2), None);
    bench.report(&[region(2, "", "g", 2)]);
    let (id, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!(report.siblings, []);
    let answer = ReportAnswer {
        number: 2,
        placement_term: Term(5),
        wanted: vec![KeyRange::new("", "m")],
        ..ReportAnswer::default()
    };
    let (_, report) = reports_of(bench.respond(2, id, Response::Report(Box::new(answer)))).pop().unwrap();
    assert_eq!(report.siblings, [region(2, "", "g", 2), region(7, "g", "m", 2)]);
}

#[test]
fn a_lost_leadership_is_said_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.report(&[region(2, "", "m", 1), region(3, "m", "", 1)]);
    let (id, _) = reports_of(bench.round()).pop().unwrap();
    bench.acknowledge(2, id, 2, 5);
    bench.agent.on_leads(Vec::new(), vec![RegionId(2), RegionId(9)], &bench.regions);
    let (_, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!(report.leads_no_longer, [RegionId(2)], "the other one was never reported");
    let (id, report) = reports_of(bench.pass(REPORT_RESEND_AFTER)).pop().unwrap();
    assert_eq!(report.leads_no_longer, [RegionId(2)]);
    assert!(bench.acknowledge(2, id, 4, 5).is_empty());
    // Led again before it could be said, it is only led.
    bench.agent.on_leads(Vec::new(), vec![RegionId(3)], &bench.regions);
    bench.report(&[region(3, "m", "", 1)]);
    let (_, report) = reports_of(bench.round()).pop().unwrap();
    assert_eq!((report.leads_no_longer.len(), report.leads.len()), (0, 1));
}

/// However many regions are led here, a store that has nothing new to say says it in one small message a second.
#[test]
fn regions_that_do_not_change_are_not_mentioned() {
    let mut bench = Bench::new();
    let regions: Vec<_> =
        (0..2_000_u64).map(|at| region(at + 2, &format!("{at:05}"), &format!("{:05}", at + 1), 1)).collect();
    bench.report(&regions);
    let mut sent = reports_of(bench.round());
    while let Some((id, report)) = sent.pop() {
        sent = reports_of(bench.acknowledge(2, id, report.number, 5));
    }
    for _ in 0..600 {
        let mut sent = reports_of(bench.pass(Duration::from_millis(100)));
        assert!(sent.len() <= 1);
        if let Some((id, report)) = sent.pop() {
            assert_eq!((report.leads.len(), report.leads_no_longer.len(), report.siblings.len()), (0, 0, 0));
            assert_eq!(report.load.leader_count, 2_000);
            bench.acknowledge(2, id, report.number, 5);
        }
    }
}

#[test]
fn goals_of_an_older_term_are_refused() {
    let mut bench = Bench::new();
    let goal = |term: u64| Goal {
        leader: None,
        region_id: RegionId(2),
        epoch: Epoch::FIRST,
        peers: vec![peer(2)],
        operation_id: 7,
        placement_term: Term(term),
    };
    let push = |term: u64| {
        let answer =
            ReportAnswer { placement_term: Term(term), goals: vec![goal(term)], ..ReportAnswer::default() };
        Response::Report(Box::new(answer))
    };
    bench.respond(2, 0, push(6));
    assert_eq!(std::mem::take(&mut bench.goals), [goal(6)]);
    bench.respond(2, 0, push(5));
    assert_eq!(bench.goals, []);
}

#[test]
fn peers_without_a_leader_are_listed_every_minute_and_end_when_they_were_removed() {
    let mut bench = Bench::new();
    let lonely = LonelyPeer { region_id: RegionId(7), peer_id: PeerId(71), epoch: Epoch::FIRST };
    bench.regions.1.push(lonely);
    let mut listed = Vec::new();
    for second in 0..130_u64 {
        for (id, report) in reports_of(bench.pass(HEARTBEAT_INTERVAL)) {
            if !report.lonely_peers.is_empty() {
                assert_eq!(report.lonely_peers, [lonely]);
                listed.push(second);
            }
            let destroys = if listed.len() == 2 { vec![region(7, "a", "b", 2)] } else { Vec::new() };
            let answer = ReportAnswer {
                placement_term: Term(5),
                number: report.number,
                destroys,
                ..ReportAnswer::default()
            };
            bench.respond(2, id, Response::Report(Box::new(answer)));
            if listed.len() == 2 {
                listed.push(second);
            }
        }
    }
    assert_eq!(listed, [59, 119, 119]);
    assert_eq!(bench.destroyed, [region(7, "a", "b", 2)]);
}

#[test]
fn the_address_book_is_told_once_and_removal_too() {
    let mut bench = Bench::new();
    let book = |ids: &[u64]| {
        let stores = ids.iter().map(|id| record(*id)).collect();
        let answer = ReportAnswer { placement_term: Term(5), stores, ..ReportAnswer::default() };
        Response::Report(Box::new(answer))
    };
    bench.respond(2, 0, book(&[1, 2, 3]));
    assert_eq!(bench.stores.len(), 0, "that was known");
    bench.respond(2, 0, book(&[1, 2, 4]));
    bench.respond(2, 0, book(&[1, 2, 4]));
    bench.respond(2, 0, book(&[]));
    assert_eq!(bench.stores, [vec![record(1), record(2), record(4)]]);
    let (number, sent) = bench.call(PlacementCall::ClusterInfo);
    assert_eq!(sent, None);
    match bench.answer_of(number) {
        Some(Ok(PlacementAnswer::Cluster(cluster))) => {
            assert_eq!(cluster.settings.cluster_id, ClusterId(9));
            assert_eq!(cluster.placement_leader, Some(StoreId(2)));
            assert_eq!(cluster.stores.len(), 3);
        }
        other => panic!("{other:?}"),
    }
    for _ in 0..2 {
        let Some((id, _)) = reports_of(bench.pass(HEARTBEAT_INTERVAL)).pop() else { break };
        bench.respond(2, id, Response::Failed(Error::StoreRemoved(StoreId(1))));
    }
    assert_eq!(bench.removed_count, 1);
    assert_eq!(bench.pass(HEARTBEAT_INTERVAL * 5).len(), 0, "a removed store is quiet");
}

#[test]
fn clients_never_see_the_placement_group() {
    let mut bench = Bench::new();
    bench.regions.set(region(1, "", "", 1), None);
    let (number, sent) = bench.call(PlacementCall::GetRegionById { region_id: RegionId::PLACEMENT });
    assert_eq!(sent, None);
    assert_eq!(bench.answer_of(number), Some(Ok(PlacementAnswer::Region(None))));
}
