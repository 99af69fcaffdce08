//! The host beside a placement group that is one map: what it asks for is done at once, or goes wrong on purpose.

use std::{collections::BTreeMap, time::Duration};

use types::{Epoch, Incarnation, KeyRange, Peer, PeerId, PeerRole, RegionId, RegionSize, WallTime};

use super::*;
use crate::core::{
    api::{
        ChangeRequest, OperationState, PlacementAnswer, PlacementCall, RegionChange, RegionRoute, Timestamp,
    },
    limits::{GOAL_REPEAT_INTERVAL, STORE_LIVE_WITHIN},
    operation::Goal,
    protocol::{LeaderReport, ReportAnswer, StoreReport},
    record::{StoreLoad, StoreState},
    rows::RowKey,
    testing::Group,
};

/// One host with its clock; answers and pushes are collected.
pub(super) struct Bench {
    pub(super) host: Host,
    pub(super) now: Now,
    store_id: StoreId,
    request_id: u64,
    answers: BTreeMap<u64, Response>,
    pub(super) goals: Vec<(StoreId, Goal)>,
    pub(super) pushes: Vec<(StoreId, ReportAnswer)>,
}

impl Bench {
    pub(super) fn new(store_id: u64) -> Bench {
        let config = HostConfig {
            cluster_id: ClusterId(9),
            key_mode: KeyMode::Raw,
            record: record(store_id),
            seed: 3,
        };
        Bench {
            host: Host::new(config),
            now: Now { monotonic: Instant::from_millis(1), wall: WallTime(1_000_000) },
            store_id: StoreId(store_id),
            request_id: 0,
            answers: BTreeMap::new(),
            goals: Vec::new(),
            pushes: Vec::new(),
        }
    }

    /// The group is led here, in the next term.
    pub(super) fn lead(&mut self, group: &mut Group) {
        group.term = group.term.next();
        self.host.on_leader(self.now, Some(self.store_id), Some(group.term));
        self.settle(group);
    }

    pub(super) fn pass(&mut self, time: Duration, group: &mut Group) {
        self.now.monotonic += time;
        self.now.wall.0 += u64::try_from(time.as_millis()).unwrap();
        self.settle(group);
    }

    /// Rounds until nothing is wanted any more.
    pub(super) fn settle(&mut self, group: &mut Group) {
        for _ in 0..100 {
            let effects = self.host.end_round(self.now);
            self.host.check_invariants();
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.carry_out(effect, group));
        }
        panic!("the host does not come to rest");
    }

    pub(super) fn carry_out(&mut self, effect: Effect, group: &mut Group) {
        match effect {
            Effect::ReadRows(tag) => {
                let is_led = tag.term == group.term && !group.is_unconfirmed;
                let rows = group.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                let rows = if is_led { Ok(rows) } else { Err("not led here".to_owned()) };
                self.host.on_rows(self.now, tag, rows, &[first(1), first(2)]);
            }
            Effect::Confirm(tag) => {
                self.host.on_confirmed(tag, tag.term == group.term && !group.is_unconfirmed);
            }
            Effect::Propose(tag, txn) => {
                let outcome = group.apply(&txn);
                self.host.on_proposed(self.now, tag, outcome);
            }
            Effect::Respond(caller, response) => {
                self.take_goals(caller.store_id, &response);
                let other = self.answers.insert(caller.request_id, response);
                assert!(other.is_none(), "request {} is answered once", caller.request_id);
            }
            Effect::Push(store_id, response) => {
                self.take_goals(store_id, &response);
                if let Response::Report(answer) = response {
                    self.pushes.push((store_id, *answer));
                }
            }
        }
    }

    pub(super) fn take_goals(&mut self, store_id: StoreId, response: &Response) {
        if let Response::Report(answer) = response {
            self.goals.extend(answer.goals.iter().map(|goal| (store_id, goal.clone())));
        }
    }

    pub(super) fn send(&mut self, store_id: u64, request: Request) -> u64 {
        self.request_id += 1;
        let caller = Caller { store_id: StoreId(store_id), request_id: self.request_id };
        self.host.on_request(self.now, caller, request);
        self.request_id
    }

    pub(super) fn call(&mut self, group: &mut Group, call: PlacementCall) -> Result<PlacementAnswer, Error> {
        let id = self.send(7, Request::Call(call));
        self.settle(group);
        match self.answers.remove(&id).expect("every call is answered") {
            Response::Answer(answer) => Ok(answer),
            Response::Failed(error) => Err(error),
            other @ (Response::Previous { .. } | Response::Report(_)) => panic!("{other:?} answers no call"),
        }
    }

    pub(super) fn tso(&mut self, group: &mut Group, count: u32) -> Result<Timestamp, Error> {
        let answer = self.call(group, PlacementCall::Tso { count })?;
        let PlacementAnswer::Timestamp(timestamp) = answer else { panic!("{answer:?}") };
        Ok(timestamp)
    }

    pub(super) fn ids(&mut self, group: &mut Group, count: u64) -> u64 {
        match self.call(group, PlacementCall::AllocateIds { count }) {
            Ok(PlacementAnswer::Ids { first_id, count: given }) if given == count => first_id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn register(
        &mut self,
        group: &mut Group,
        address: &str,
        nonce: u64,
    ) -> Result<StoreId, Error> {
        let record = StoreRecord {
            id: StoreId(0),
            address: address.to_owned(),
            registration_nonce: nonce,
            ..record(0)
        };
        let answer = self.call(group, PlacementCall::RegisterStore { record })?;
        let PlacementAnswer::Registered { store_id, stores, .. } = answer else { panic!("{answer:?}") };
        assert!(stores.iter().any(|store| store.id == store_id));
        Ok(store_id)
    }

    pub(super) fn route(&mut self, group: &mut Group, key: &'static str) -> (Region, Option<StoreId>) {
        match self.call(group, PlacementCall::GetRegion { key: Bytes::from(key) }) {
            Ok(PlacementAnswer::Region(Some(route))) => {
                (route.region, route.leader.map(|leader| leader.store_id))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a request, if there is one by now.
    pub(super) fn take(&mut self, request_id: u64) -> Option<Response> {
        self.answers.remove(&request_id)
    }

    /// Who is named for a region that nobody leads, and on which store.
    fn stand_in(&mut self, group: &mut Group, key: &'static str) -> Option<StoreId> {
        match self.call(group, PlacementCall::GetRegion { key: Bytes::from(key) }) {
            Ok(PlacementAnswer::Region(Some(RegionRoute { leader: None, stand_in, .. }))) => {
                stand_in.map(|peer| peer.store_id)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn report_answer(&mut self, id: u64) -> ReportAnswer {
        match self.answers.remove(&id) {
            Some(Response::Report(answer)) => *answer,
            other => panic!("{other:?} answers no report"),
        }
    }

    /// A store reports; returns what it is answered.
    pub(super) fn report(
        &mut self,
        group: &mut Group,
        record: &StoreRecord,
        number: u64,
        regions: &[Region],
    ) -> Result<ReportAnswer, Error> {
        let leads = regions
            .iter()
            .map(|region| LeaderReport {
                leader: region.find_peer_on(record.id).unwrap(),
                region: region.clone(),
                term: Term(5),
                down_peers: Vec::new(),
                pending_peers: Vec::new(),
                size: RegionSize::default(),
            })
            .collect();
        let report = StoreReport {
            record: record.clone(),
            number,
            follows: number - 1,
            is_full: number == 1,
            load: StoreLoad { region_count: 2, ..StoreLoad::default() },
            leads,
            ..StoreReport::default()
        };
        let id = self.send(record.id.0, Request::Report(Box::new(report)));
        self.settle(group);
        match self.answers.remove(&id).expect("every report is answered") {
            Response::Report(answer) => Ok(*answer),
            Response::Failed(error) => Err(error),
            other @ (Response::Answer(_) | Response::Previous { .. }) => {
                panic!("{other:?} answers no report")
            }
        }
    }
}

pub(super) fn record(id: u64) -> StoreRecord {
    StoreRecord {
        id: StoreId(id),
        address: format!("store-{id}:1"),
        incarnation: Incarnation(1),
        ..StoreRecord::default()
    }
}

pub(super) fn change(region_id: u64, change: RegionChange) -> PlacementCall {
    PlacementCall::ChangeRegion(ChangeRequest::new(RegionId(region_id), change))
}

pub(super) fn voter(id: u64, store_id: u64) -> Peer {
    Peer { id: PeerId(id), store_id: StoreId(store_id), role: PeerRole::Voter }
}

/// What `init` makes on store 1000.
pub(super) fn first(id: u64) -> Region {
    Region {
        id: RegionId(id),
        range: KeyRange::ALL,
        epoch: Epoch::FIRST,
        peers: vec![voter(1_000 + id, 1_000)],
    }
}

pub(super) fn with(region: &Region, start_key: &'static str, end_key: &'static str, version: u64) -> Region {
    let epoch = Epoch { version, ..region.epoch };
    Region { range: KeyRange::new(start_key, end_key), epoch, ..region.clone() }
}

/// A host that has begun a cluster.
pub(super) fn begun() -> (Bench, Group) {
    let (mut bench, mut group) = (Bench::new(1_000), Group::default());
    bench.lead(&mut group);
    (bench, group)
}

#[test]
fn the_first_leader_ever_writes_the_first_rows() {
    let (mut bench, mut group) = begun();
    let keys: Vec<_> = group.rows.keys().filter_map(RowKey::decode).collect();
    for key in [
        RowKey::Settings,
        RowKey::NextId,
        RowKey::Store(StoreId(1_000)),
        RowKey::Address("store-1000:1".to_owned()),
        RowKey::Region(RegionId(2)),
    ] {
        assert!(keys.contains(&key), "{key:?}");
    }
    assert_eq!(bench.route(&mut group, "k").0, first(2));
    // Above the store and the peers of both regions, and above what the host leased for itself.
    assert!(bench.ids(&mut group, 1) >= 1_003);
    assert!(!group.rows.contains_key(&RowKey::Bound.encode()), "nobody asked for the time");
    let rows = group.rows.clone();
    bench.lead(&mut group);
    bench.settle(&mut group);
    let is_lease = |key: &Bytes| *key == RowKey::NextId.encode();
    let changed: Vec<_> = rows.iter().filter(|(key, value)| group.rows.get(*key) != Some(*value)).collect();
    assert!(changed.iter().all(|(key, _)| is_lease(key)), "a second leader begins nothing: {changed:?}");
}

#[test]
fn a_host_that_does_not_lead_says_who_does() {
    let mut bench = Bench::new(1_000);
    let mut group = Group::default();
    bench.host.on_leader(bench.now, Some(StoreId(5)), None);
    assert_eq!(
        bench.call(&mut group, PlacementCall::Tso { count: 1 }),
        Err(Error::NotLeader { hint: Some(StoreId(5)), term: Term(0) })
    );
    assert_eq!(bench.host.deadline(), None, "it sleeps");
}

#[test]
fn requests_wait_until_the_rows_are_read() {
    let (mut bench, mut group) = begun();
    group.is_unconfirmed = true;
    bench.lead(&mut group);
    let id = bench.send(7, Request::Call(PlacementCall::GetRegion { key: Bytes::new() }));
    bench.settle(&mut group);
    assert!(!bench.answers.contains_key(&id));
    group.is_unconfirmed = false;
    bench.pass(HOST_RELOAD_AFTER, &mut group);
    assert!(matches!(bench.answers.remove(&id), Some(Response::Answer(PlacementAnswer::Region(Some(_))))));
}

#[test]
fn a_report_that_comes_before_the_first_rows_waits_for_them() {
    let (mut bench, mut group) = (Bench::new(1_000), Group::default());
    group.term = Term(2);
    bench.host.on_leader(bench.now, Some(StoreId(1_000)), Some(Term(2)));
    let report = StoreReport { record: record(1_000), number: 1, is_full: true, ..StoreReport::default() };
    // One before the rows are read, and one while the first ones are written.
    let before = bench.send(1_000, Request::Report(Box::new(report.clone())));
    let effects = bench.host.end_round(bench.now);
    effects.into_iter().for_each(|effect| bench.carry_out(effect, &mut group));
    let during = bench.send(1_000, Request::Report(Box::new(report)));
    bench.settle(&mut group);
    for id in [before, during] {
        let answer = bench.answers.remove(&id);
        assert!(matches!(answer, Some(Response::Report(_))), "{answer:?}");
    }
}

#[test]
fn a_new_host_asks_every_store_and_waits_for_their_reports() {
    let (_, mut group, stores) = three_stores();
    let mut next = Bench::new(1_000);
    next.lead(&mut group);
    let asked = |bench: &mut Bench| {
        let asked = std::mem::take(&mut bench.pushes).into_iter().filter(|(_, answer)| answer.is_full_wanted);
        asked.map(|(store_id, _)| store_id).collect::<Vec<_>>()
    };
    let all: Vec<StoreId> = stores.iter().map(|store| store.id).collect();
    assert_eq!(asked(&mut next), all);
    next.report(&mut group, &stores[0], 1, &[first(1), first(2)]).unwrap();
    next.report(&mut group, &stores[1], 1, &[]).unwrap();
    next.pass(GOAL_REPEAT_INTERVAL, &mut group);
    assert_eq!(asked(&mut next), [all[2]], "it may not have heard");
    let is_grown = |bench: &Bench| bench.goals.iter().any(|(_, goal)| goal.region_id == RegionId(1));
    assert!(!is_grown(&next), "a store that has not reported yet may be where a peer belongs");
    let part = StoreReport {
        record: stores[2].clone(),
        number: 1,
        is_full: true,
        has_more: true,
        ..StoreReport::default()
    };
    next.send(stores[2].id.0, Request::Report(Box::new(part)));
    next.settle(&mut group);
    assert!(!is_grown(&next), "it has not said everything yet");
    next.report(&mut group, &stores[2], 2, &[]).unwrap();
    assert!(is_grown(&next));
}

/// Looking costs time for each region: with many of them not every event is worth a look of its own.
#[test]
fn looks_at_many_regions_are_followed_by_a_pause() {
    let (mut bench, mut group) = begun();
    let Phase::Serving(serving) = &mut bench.host.phase else { panic!("it serves") };
    let (timers, now) = (&mut serving.timers, bench.now);
    timers.on_scheduled(now, 10_064);
    timers.schedule_soon(now);
    assert!(!timers.is_schedule_due(now));
    let later = |millis: u64| Now { monotonic: now.monotonic + Duration::from_millis(millis), ..now };
    assert!(!timers.is_schedule_due(later(199)));
    assert!(timers.is_schedule_due(later(200)), "an event is answered then");
    timers.on_scheduled(now, 10_064);
    assert!(!timers.is_schedule_due(later(4_999)) && timers.is_schedule_due(later(5_000)), "nothing happens");
    timers.on_scheduled(now, 64);
    timers.schedule_soon(now);
    assert!(timers.is_schedule_due(now), "a small cluster waits for nothing");
    bench.settle(&mut group);
}

#[test]
fn leadership_lost_answers_everyone() {
    let (mut bench, mut group) = begun();
    let id = bench.send(7, Request::Call(PlacementCall::AllocateIds { count: 1 }));
    bench.host.on_leader(bench.now, None, None);
    bench.settle(&mut group);
    assert!(matches!(bench.answers.remove(&id), Some(Response::Failed(Error::Busy { .. }))));
    assert!(matches!(bench.tso(&mut group, 1), Err(Error::NotLeader { hint: None, .. })));
}

#[test]
fn timestamps_ascend_over_leaders_whose_clocks_run_back() {
    let mut group = Group::default();
    let mut highest = Timestamp::default();
    for leader in 0..10 {
        let mut bench = Bench::new(1_000);
        bench.now.wall = WallTime(9_000_000 - leader * 60_000);
        bench.lead(&mut group);
        for count in [1, 5, 1 << 18, 1 << 18, 3] {
            let last = bench.tso(&mut group, count).unwrap();
            assert!(last.version() >= highest.version() + u64::from(count), "{last:?} after {highest:?}");
            highest = last;
            bench.pass(Duration::from_millis(700), &mut group);
        }
        let bound = u64::from_be_bytes(group.rows[&RowKey::Bound.encode()].as_ref().try_into().unwrap());
        assert!(bound > highest.physical_ms);
        assert!(bound <= bench.now.wall.0.max(highest.physical_ms) + 3_001);
    }
}

#[test]
fn timestamps_without_proof_of_leadership_are_not_given() {
    let (mut bench, mut group) = begun();
    let before = bench.tso(&mut group, 1).unwrap();
    group.is_unconfirmed = true;
    assert!(matches!(bench.tso(&mut group, 1), Err(Error::NotLeader { hint: None, .. })));
    group.is_unconfirmed = false;
    assert!(bench.tso(&mut group, 1).unwrap() > before);
}

#[test]
fn calls_of_a_round_share_one_proof() {
    let (mut bench, mut group) = begun();
    bench.tso(&mut group, 1).unwrap();
    let ids: Vec<_> =
        (0..10).map(|_| bench.send(7, Request::Call(PlacementCall::Tso { count: 2 }))).collect();
    let effects = bench.host.end_round(bench.now);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Confirm(_))).count(), 1);
    effects.into_iter().for_each(|effect| bench.carry_out(effect, &mut group));
    bench.settle(&mut group);
    let mut given: Vec<_> = ids
        .iter()
        .map(|id| match bench.answers.remove(id) {
            Some(Response::Answer(PlacementAnswer::Timestamp(timestamp))) => timestamp.version(),
            other => panic!("{other:?}"),
        })
        .collect();
    given.dedup();
    assert_eq!(given.len(), 10);
    assert!(given.is_sorted_by(|left, right| left + 1 < *right), "the batches do not overlap");
}

#[test]
fn an_idle_host_writes_nothing() {
    let (mut bench, mut group) = begun();
    bench.tso(&mut group, 1).unwrap();
    bench.pass(Duration::from_secs(2), &mut group);
    let applied_count = group.applied_count;
    for _ in 0..100 {
        bench.pass(Duration::from_millis(500), &mut group);
    }
    assert!(group.applied_count <= applied_count + 1, "the bound is left alone once nobody asks");
    assert!(bench.tso(&mut group, 1).unwrap().physical_ms >= bench.now.wall.0);
}

#[test]
fn a_transaction_of_unknown_fate_is_found_out_about() {
    let (mut bench, mut group) = begun();
    let before = bench.ids(&mut group, 10);
    group.is_silent = true;
    let id = bench.send(7, Request::Call(PlacementCall::AllocateIds { count: 10 }));
    let effects = bench.host.end_round(bench.now);
    effects.into_iter().for_each(|effect| bench.carry_out(effect, &mut group));
    group.is_silent = false;
    bench.settle(&mut group);
    assert!(matches!(bench.answers.remove(&id), Some(Response::Failed(Error::Busy { .. }))));
    bench.pass(HOST_RELOAD_AFTER, &mut group);
    // The block of the lost answer is lost too: nobody gets it again.
    assert!(bench.ids(&mut group, 1) >= before + 20);
}

#[test]
fn a_host_of_an_older_term_changes_nothing() {
    let (mut old, mut group) = begun();
    let mut new = Bench::new(1_001);
    new.now = old.now;
    let taken = old.ids(&mut group, 5);
    new.lead(&mut group);
    // The old one does not know it yet.
    let id = old.send(7, Request::Call(PlacementCall::AllocateIds { count: 5 }));
    old.settle(&mut group);
    assert!(matches!(old.answers.remove(&id), Some(Response::Failed(Error::Busy { .. }))));
    assert!(matches!(old.host.phase, Phase::Loading(_)), "it cannot read either");
    assert!(new.ids(&mut group, 5) >= taken + 5);
}

#[test]
fn one_address_has_one_id() {
    let (mut bench, mut group) = begun();
    let id = bench.register(&mut group, "b:1", 7).unwrap();
    assert!(id.0 >= 1_003);
    assert_eq!(bench.register(&mut group, "b:1", 7), Ok(id), "its answer was lost");
    let other = bench.register(&mut group, "c:1", 8).unwrap();
    assert_ne!(other, id);
    assert!(
        matches!(bench.register(&mut group, "b:1", 9), Err(Error::Busy { .. })),
        "the old one may be alive"
    );
    bench.pass(Duration::from_secs(11), &mut group);
    let anew = bench.register(&mut group, "b:1", 9).unwrap();
    assert_ne!(anew, id);
    match bench.call(&mut group, PlacementCall::GetStore { store_id: id }) {
        Ok(PlacementAnswer::Store(Some(picture))) => assert_eq!(picture.record.state, StoreState::Removed),
        other => panic!("{other:?}"),
    }
    let old = StoreRecord { id, address: "b:1".to_owned(), ..record(id.0) };
    assert_eq!(bench.report(&mut group, &old, 1, &[]).map(drop), Err(Error::StoreRemoved(id)));
    match bench.call(&mut group, PlacementCall::GetAllStores { is_without_removed: true }) {
        Ok(PlacementAnswer::Stores(stores)) => {
            let ids: Vec<_> = stores.iter().map(|store| store.record.id).collect();
            assert_eq!(ids, [StoreId(1_000), other, anew]);
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn a_report_refreshes_the_row_and_brings_the_address_book() {
    let (mut bench, mut group) = begun();
    let moved =
        StoreRecord { address: "elsewhere:1".to_owned(), incarnation: Incarnation(2), ..record(1_000) };
    bench.report(&mut group, &moved, 1, &[first(2)]).unwrap();
    let answer = bench.report(&mut group, &moved, 2, &[]).unwrap();
    assert_eq!(answer.stores, std::slice::from_ref(&moved));
    assert_eq!(answer.settings.map(|settings| settings.cluster_id), Some(ClusterId(9)));
    assert_eq!(bench.route(&mut group, "").1, Some(StoreId(1_000)));
    // Of a life that is over.
    assert!(matches!(bench.report(&mut group, &record(1_000), 3, &[]), Err(Error::Invalid(_))));
    assert!(matches!(bench.report(&mut group, &record(4_444), 1, &[]), Err(Error::StoreNotFound(_))));
}

#[test]
fn a_gap_in_the_reports_asks_for_everything() {
    let (mut bench, mut group) = begun();
    let store = record(1_000);
    assert!(bench.report(&mut group, &store, 5, &[]).unwrap().is_full_wanted, "a new host knows nothing");
    assert!(!bench.report(&mut group, &store, 1, &[first(2)]).unwrap().is_full_wanted);
    assert!(!bench.report(&mut group, &store, 2, &[]).unwrap().is_full_wanted);
    assert!(!bench.report(&mut group, &store, 2, &[]).unwrap().is_full_wanted, "it came twice");
    assert!(
        bench.report(&mut group, &store, 4, &[]).unwrap().is_full_wanted,
        "it follows one that never came"
    );
}

/// The network delays a report until the store has said something newer.
#[test]
fn a_late_report_changes_nothing() {
    let (mut bench, mut group) = begun();
    let store = record(1_000);
    bench.report(&mut group, &store, 1, &[]).unwrap();
    let newer = StoreReport {
        record: store.clone(),
        number: 3,
        follows: 1,
        leads_no_longer: vec![RegionId(2)],
        ..StoreReport::default()
    };
    let id = bench.send(1_000, Request::Report(Box::new(newer)));
    bench.settle(&mut group);
    assert_eq!(bench.report_answer(id).number, 3);
    assert_eq!(bench.report(&mut group, &store, 2, &[first(2)]).unwrap().number, 2, "it is done with");
    assert_eq!(bench.route(&mut group, "k").1, None, "nobody is believed to lead");
    bench.report(&mut group, &store, 4, &[first(2)]).unwrap();
    assert_eq!(bench.route(&mut group, "k").1, Some(StoreId(1_000)));
    // Another start of the store counts from one again.
    let restarted = StoreRecord { incarnation: Incarnation(2), ..store.clone() };
    assert!(!bench.report(&mut group, &restarted, 1, &[first(2)]).unwrap().is_full_wanted);
    assert!(bench.report(&mut group, &store, 5, &[]).is_err(), "this one is over");
}

/// Some clients never ask again for a region that has no leader when they ask.
#[test]
fn who_led_a_region_last_is_named_while_nobody_does() {
    let (mut bench, mut group, stores) = three_stores();
    let [a, b, c] = stores.each_ref().map(|store| store.id);
    let learner = Peer { role: PeerRole::Learner, ..voter(11, a.0) };
    let peers = vec![learner, voter(12, b.0), voter(13, c.0)];
    let grown = Region { epoch: Epoch { conf_version: 2, version: 1 }, peers, ..first(2) };
    bench.report(&mut group, &stores[2], 2, std::slice::from_ref(&grown)).unwrap();
    assert_eq!(bench.route(&mut group, "k"), (grown.clone(), Some(c)));
    let leads_no_longer = |number| {
        let leads_no_longer = vec![RegionId(2)];
        let report =
            StoreReport { record: stores[2].clone(), number, follows: number - 1, ..Default::default() };
        Request::Report(Box::new(StoreReport { leads_no_longer, ..report }))
    };
    bench.send(c.0, leads_no_longer(3));
    bench.settle(&mut group);
    assert_eq!(bench.stand_in(&mut group, "k"), Some(c));
    // It led last, but has gone silent, and another voter's store has not.
    bench.pass(STORE_LIVE_WITHIN, &mut group);
    assert_eq!(bench.stand_in(&mut group, "k"), Some(c), "all are silent");
    bench.report(&mut group, &stores[1], 2, &[]).unwrap();
    assert_eq!(bench.stand_in(&mut group, "k"), Some(b));
    // It has no peer any more.
    let peers = vec![learner, voter(12, b.0)];
    let moved = Region { epoch: Epoch { conf_version: 3, version: 1 }, peers, ..first(2) };
    let siblings = vec![moved.clone()];
    let report =
        StoreReport { record: stores[2].clone(), number: 4, follows: 3, siblings, ..Default::default() };
    bench.send(c.0, Request::Report(Box::new(report)));
    bench.settle(&mut group);
    assert_eq!(bench.route(&mut group, "k"), (moved, None));
    assert_eq!(bench.stand_in(&mut group, "k"), Some(b));
    // A new host has heard nothing yet: whoever asks it knows as much. A learner is nobody to ask.
    let mut next = Bench::new(1_000);
    next.now = bench.now;
    next.lead(&mut group);
    assert_eq!(next.stand_in(&mut group, "k"), None);
    next.report(&mut group, &stores[2], 5, &[]).unwrap();
    next.report(&mut group, &stores[0], 1, &[]).unwrap();
    assert_eq!(next.stand_in(&mut group, "k"), None, "no live store has a voter");
    next.report(&mut group, &stores[1], 3, &[]).unwrap();
    assert_eq!(next.stand_in(&mut group, "k"), Some(b));
}

#[test]
fn a_split_is_visible_when_it_tiles() {
    let (mut bench, mut group) = begun();
    let store = record(1_000);
    let left = with(&first(2), "", "m", 2);
    let right = Region { id: RegionId(77), peers: vec![voter(78, 1_000)], ..with(&first(2), "m", "", 2) };
    bench.report(&mut group, &store, 1, std::slice::from_ref(&right)).unwrap();
    assert_eq!(bench.route(&mut group, "z").0, first(2));
    bench.report(&mut group, &store, 2, std::slice::from_ref(&left)).unwrap();
    assert_eq!(bench.route(&mut group, "z"), (right.clone(), Some(StoreId(1_000))));
    assert_eq!(bench.route(&mut group, "a"), (left.clone(), Some(StoreId(1_000))));
    let regions = |answer| match answer {
        Ok(PlacementAnswer::Regions(routes)) => {
            routes.into_iter().map(|route: RegionRoute| route.region.id.0).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let all = PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 };
    assert_eq!(regions(bench.call(&mut group, all)), [2, 77]);
    let one = PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 1 };
    assert_eq!(regions(bench.call(&mut group, one)), [2]);
    // The rows survive the leader, its knowledge of leaders does not.
    let mut next = Bench::new(1_000);
    next.lead(&mut group);
    assert_eq!(next.route(&mut group, "z"), (right, None));
}

#[test]
fn a_split_whose_child_has_no_leader_is_asked_for() {
    let (mut bench, mut group) = begun();
    let store = record(1_000);
    let left = with(&first(2), "", "m", 2);
    let right = with(&Region { id: RegionId(77), ..first(2) }, "m", "", 2);
    let answer = bench.report(&mut group, &store, 1, std::slice::from_ref(&left)).unwrap();
    assert_eq!(answer.wanted, [KeyRange::ALL], "the row that cannot give way yet");
    assert_eq!(bench.route(&mut group, "z").0.id, RegionId(2), "it answers meanwhile");
    let answer = bench.report(&mut group, &store, 2, &[]).unwrap();
    assert_eq!(answer.wanted, [KeyRange::ALL], "asked again with each heartbeat");
    let report = StoreReport {
        record: store.clone(),
        number: 3,
        follows: 2,
        siblings: vec![right.clone()],
        ..StoreReport::default()
    };
    let id = bench.send(1_000, Request::Report(Box::new(report)));
    bench.settle(&mut group);
    let Some(Response::Report(answer)) = bench.answers.remove(&id) else { panic!("no answer") };
    assert_eq!(answer.wanted, []);
    assert_eq!(bench.route(&mut group, "z"), (right, None));
    assert_eq!(bench.report(&mut group, &store, 4, &[]).unwrap().wanted, []);
}

/// A key has up to 8 KiB, and a region may start at any of them.
#[test]
fn a_region_may_start_at_the_longest_key() {
    let (mut bench, mut group) = begun();
    let middle = Bytes::from(vec![b'k'; 8 << 10]);
    let bounds = |start_key: &Bytes, end_key: &Bytes| KeyRange::new(start_key.clone(), end_key.clone());
    let epoch = Epoch { conf_version: 1, version: 2 };
    let left = Region { range: bounds(&Bytes::new(), &middle), epoch, ..first(2) };
    let right = Region { id: RegionId(77), range: bounds(&middle, &Bytes::new()), epoch, ..first(2) };
    bench.report(&mut group, &record(1_000), 1, &[left.clone(), right.clone()]).unwrap();
    assert!(group.rows.keys().all(|key| key.len() <= 8 << 10), "the group takes no longer keys");
    assert_eq!(bench.route(&mut group, "z").0, right);
    let mut next = Bench::new(1_000);
    next.lead(&mut group);
    assert_eq!((next.route(&mut group, "a").0, next.route(&mut group, "z").0), (left, right));
}

/// Three stores: the placement group grows, then region 2; the leaders report what they were told. Each step follows from
/// the one before: no time passes.
#[test]
fn regions_grow_to_three_voters_and_wait_for_no_clock() {
    let (mut bench, mut group) = begun();
    let ids = [bench.register(&mut group, "b:1", 7).unwrap(), bench.register(&mut group, "c:1", 8).unwrap()];
    let stores = [
        record(1_000),
        StoreRecord { id: ids[0], address: "b:1".to_owned(), ..record(0) },
        StoreRecord { id: ids[1], address: "c:1".to_owned(), ..record(0) },
    ];
    let mut regions = [first(1), first(2)];
    bench.report(&mut group, &stores[0], 1, &regions).unwrap();
    bench.report(&mut group, &stores[1], 1, &[]).unwrap();
    assert!(bench.goals.is_empty(), "the third store has registered and will report");
    bench.report(&mut group, &stores[2], 1, &[]).unwrap();
    let mut changed = Vec::new();
    for number in 2..6 {
        for (store_id, goal) in std::mem::take(&mut bench.goals) {
            assert_eq!(store_id, StoreId(1_000), "goals go to leaders");
            let region = regions.iter_mut().find(|region| region.id == goal.region_id).unwrap();
            if region.epoch == goal.epoch {
                region.peers = goal.peers;
                region.epoch.conf_version += 3;
                changed.push(region.id.0);
            }
        }
        bench.report(&mut group, &stores[0], number, &regions).unwrap();
    }
    assert_eq!(changed, [1, 2], "the placement group goes first");
    for region in &regions {
        let on: Vec<_> = region.peers.iter().map(|peer| peer.store_id).collect();
        assert_eq!(on.len(), 3);
        assert!(stores.iter().all(|store| on.contains(&store.id)));
    }
    let mut peer_ids: Vec<_> = regions.iter().flat_map(|region| &region.peers).map(|peer| peer.id).collect();
    peer_ids.sort_unstable();
    peer_ids.dedup();
    assert_eq!(peer_ids.len(), 6, "no id is given twice");
    match bench.call(&mut group, PlacementCall::ListOperations) {
        Ok(PlacementAnswer::Operations(operations)) => {
            assert_eq!(operations.len(), 2);
            assert!(operations.iter().all(|operation| operation.state == OperationState::Done));
        }
        other => panic!("{other:?}"),
    }
}

/// Store 1000 with two others that have reported.
pub(super) fn three_stores() -> (Bench, Group, [StoreRecord; 3]) {
    let (mut bench, mut group) = begun();
    let ids = [bench.register(&mut group, "b:1", 7).unwrap(), bench.register(&mut group, "c:1", 8).unwrap()];
    let stores = [
        record(1_000),
        StoreRecord { id: ids[0], address: "b:1".to_owned(), ..record(0) },
        StoreRecord { id: ids[1], address: "c:1".to_owned(), ..record(0) },
    ];
    // The placement group is complete, so that nothing but region 2 is to be done.
    let peers = vec![voter(5, ids[0].0), voter(6, ids[1].0), voter(1_001, 1_000)];
    let complete = Region { peers, ..first(1) };
    bench.report(&mut group, &stores[0], 1, &[complete, first(2)]).unwrap();
    bench.report(&mut group, &stores[1], 1, &[]).unwrap();
    bench.report(&mut group, &stores[2], 1, &[]).unwrap();
    (bench, group, stores)
}

#[test]
fn an_operation_survives_its_placement_leader() {
    let (mut bench, mut group, stores) = three_stores();
    bench.pass(Duration::from_millis(500), &mut group);
    let (_, goal) = bench.goals.pop().expect("region 2 is told to grow");
    let mut next = Bench::new(1_000);
    next.now = bench.now;
    next.lead(&mut group);
    assert!(next.goals.is_empty(), "nobody has reported to it yet");
    let mut grown = Region { epoch: Epoch { conf_version: 2, version: 1 }, ..first(2) };
    let new = goal.peers.iter().filter(|peer| grown.find_peer(peer.id).is_none());
    let learners: Vec<Peer> = new.map(|peer| Peer { role: PeerRole::Learner, ..*peer }).collect();
    grown.peers.extend(learners);
    for (store, regions) in stores.iter().zip([&[grown.clone()][..], &[], &[]]) {
        next.report(&mut group, store, 1, regions).unwrap();
    }
    next.pass(GOAL_REPEAT_INTERVAL, &mut group);
    let (store_id, again) = next.goals.pop().expect("the goal is told again");
    assert_eq!(store_id, StoreId(1_000));
    assert_eq!((again.operation_id, &again.peers), (goal.operation_id, &goal.peers));
    assert_eq!(again.epoch, grown.epoch, "for the epoch that the leader reported");
    assert!(again.placement_term > goal.placement_term);
}

#[test]
fn a_goal_is_told_only_while_its_stores_are_live_and_given_up_when_they_are_gone() {
    let (mut bench, mut group, stores) = three_stores();
    bench.pass(Duration::from_millis(500), &mut group);
    assert!(!bench.goals.is_empty());
    // The leaders are told to stop for a while after it was given up.
    for second in 2..60 {
        bench.goals.clear();
        bench.pass(Duration::from_secs(1), &mut group);
        bench.report(&mut group, &stores[0], second, &[]).unwrap();
        bench.report(&mut group, &stores[1], second, &[]).unwrap();
    }
    assert!(bench.goals.is_empty());
    match bench.call(&mut group, PlacementCall::GetOperation { region_id: RegionId(2) }) {
        Ok(PlacementAnswer::Operation(Some(operation))) => {
            assert_eq!(operation.state, OperationState::Failed);
            assert!(operation.reason.contains("has not been heard"), "{}", operation.reason);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_are_checked() {
    let (mut bench, mut group) = begun();
    for count in [0, (1 << 18) + 1] {
        assert!(matches!(bench.tso(&mut group, count), Err(Error::Invalid(_))));
    }
    for count in [0, 1_000_000] {
        let call = PlacementCall::AllocateIds { count };
        assert!(matches!(bench.call(&mut group, call), Err(Error::Invalid(_))));
    }
}

#[test]
fn rows_that_make_no_sense_are_not_served() {
    let (_, mut group) = begun();
    group.rows.insert(Bytes::from_static(b"z"), Bytes::new());
    let mut bench = Bench::new(1_000);
    bench.lead(&mut group);
    assert!(matches!(bench.host.phase, Phase::Loading(_)));
    group.rows.remove(&b"z"[..]);
    bench.pass(HOST_RELOAD_AFTER, &mut group);
    assert!(matches!(bench.host.phase, Phase::Serving(_)));
    // A region that starts at the gap.
    let mut bench = Bench::new(1_000);
    group.rows.remove(&RowKey::Region(RegionId(2)).encode());
    bench.lead(&mut group);
    assert!(matches!(bench.host.phase, Phase::Loading(_)));
}
