//! Splits, as one agent carries them out or passes them on.

use std::time::Duration;

use types::{Epoch, KeyRange, memcomparable};

use super::*;
use crate::core::{
    agent::tests::{Bench, calls_of, peer, region, route},
    api::{PlacementCall, RegionRoute},
    limits::{SPLIT_KEYS_MAX, SPLIT_PARTS_MAX},
    protocol::LeaderReport,
    record::KeyMode,
};

/// Store 1's agent, with a region that it leads and ids enough.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.regions.set(region(2, "b", "t", 3), Some(peer(2)));
    lease(&mut bench, 5_000);
    bench
}

/// Answers whatever asks for ids, from `first_id` on.
fn lease(bench: &mut Bench, first_id: u64) {
    let number = bench.ask(PlacementCall::AllocateIds { count: 1 });
    let mut next_id = first_id;
    for (to, id, call) in calls_of(bench.round()) {
        let PlacementCall::AllocateIds { count } = call else { panic!("{call:?}") };
        let ids = PlacementAnswer::Ids { first_id: next_id, count };
        next_id += count;
        bench.respond(to.0, id, Response::Answer(ids));
    }
    assert!(matches!(bench.answer_of(number), Some(Ok(PlacementAnswer::Ids { .. }))));
}

fn wish(keys: &[&'static str]) -> SplitRequest {
    SplitRequest::new(RegionId(2), keys.iter().map(|key| Bytes::from(*key)).collect())
}

fn of_store(bench: &mut Bench, change_id: u64, result: Result<()>) {
    bench.agent.on_split_ended(bench.now, change_id, result, &bench.regions);
    bench.round();
}

fn splits_of(sent: Vec<(StoreId, u64, Request)>) -> Vec<(StoreId, u64, SplitRequest)> {
    let split = |(to, id, request)| match request {
        Request::Split(split) => Some((to, id, split)),
        Request::Call(_) | Request::Report(_) => None,
    };
    sent.into_iter().filter_map(split).collect()
}

fn led_by(store: u64) -> Peer {
    Peer { store_id: StoreId(store), ..peer(2) }
}

/// What the host says of region 2.
fn found_at(store: u64, version: u64) -> Response {
    let mut row = region(2, "b", "t", version);
    row.peers = vec![led_by(store)];
    let found = RegionRoute { leader: Some(led_by(store)), ..route(row) };
    Response::Answer(PlacementAnswer::Region(Some(found)))
}

#[test]
fn a_region_that_is_led_here_is_split_with_ids_of_the_leased_block() {
    let mut bench = bench();
    let number = bench.ask(PlacementCall::SplitRegion(wish(&["g", "m"])));
    assert_eq!(splits_of(bench.round()), [], "nobody is asked");
    let (region_id, split) = bench.splits.pop().expect("it is proposed");
    assert_eq!(
        (region_id, split.epoch, split.leader_stores.as_slice()),
        (RegionId(2), Epoch { conf_version: 1, version: 3 }, &[StoreId(1)][..])
    );
    let starts: Vec<_> = split.children.iter().map(|child| child.start_key.as_ref()).collect();
    assert_eq!(starts, [b"g", b"m"]);
    let mut ids: Vec<u64> = vec![split.change_id];
    for child in &split.children {
        assert_eq!(child.peer_ids.len(), 1, "as many as the region has peers");
        ids.push(child.region_id.0);
        ids.extend(child.peer_ids.iter().map(|id| id.0));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each id is given once");
    assert!(ids.iter().all(|id| *id >= 5_000), "{ids:?}");

    assert_eq!(bench.answer_of(number), None);
    bench.regions.set(region(2, "b", "g", 5), Some(peer(2)));
    bench.regions.set(region(7, "g", "m", 5), Some(peer(7)));
    bench.regions.set(region(8, "m", "t", 5), Some(peer(8)));
    of_store(&mut bench, split.change_id, Ok(()));
    let regions = vec![region(2, "b", "g", 5), region(7, "g", "m", 5), region(8, "m", "t", 5)];
    let answer = PlacementAnswer::Split { change_id: split.change_id, regions };
    assert_eq!(bench.answer_of(number), Some(Ok(answer.clone())));

    // The same name is the same split, whatever it says.
    let again =
        bench.ask(PlacementCall::SplitRegion(SplitRequest { change_id: split.change_id, ..wish(&["c"]) }));
    bench.round();
    assert!(bench.splits.is_empty());
    assert_eq!(bench.answer_of(again), Some(Ok(answer)));
    let other = SplitRequest { change_id: split.change_id, region_id: RegionId(7), ..wish(&["h"]) };
    let other = bench.ask(PlacementCall::SplitRegion(other));
    bench.round();
    assert!(matches!(bench.answer_of(other), Some(Err(Error::Invalid(_)))));
}

#[test]
fn a_repeated_wish_joins_the_one_that_runs() {
    let mut bench = bench();
    let named = SplitRequest { change_id: 77, ..wish(&["g"]) };
    let first = bench.ask(PlacementCall::SplitRegion(named.clone()));
    bench.round();
    let second = bench.ask(PlacementCall::SplitRegion(named.clone()));
    let caller = Caller { store_id: StoreId(3), request_id: 9 };
    bench.agent.on_split_request(bench.now, caller, named, &bench.regions);
    bench.round();
    assert_eq!(bench.splits.len(), 1);
    let busy =
        Error::Changing { region_id: RegionId(2), operation_id: 5, stage: "peers are added".to_owned() };
    of_store(&mut bench, 77, Err(busy.clone()));
    assert_eq!(bench.answer_of(first), Some(Err(busy.clone())));
    assert_eq!(bench.answer_of(second), Some(Err(busy.clone())));
    assert_eq!(bench.responded, [(caller, Response::Failed(busy))]);
}

#[test]
fn wishes_that_make_no_sense_are_refused_at_once() {
    let mut bench = bench();
    let many: Vec<Bytes> = (0..=SPLIT_KEYS_MAX).map(|at| Bytes::from(format!("c{at:05}"))).collect();
    let cases = [
        wish(&[]),
        wish(&["m", "g"]),
        wish(&["g", "g"]),
        SplitRequest { at: SplitAt::Keys(many), ..wish(&[]) },
        SplitRequest { region_id: RegionId::PLACEMENT, ..wish(&["g"]) },
        SplitRequest { first_leader: Some(StoreId(3)), ..wish(&["g"]) },
    ];
    for case in cases {
        let number = bench.ask(PlacementCall::SplitRegion(case.clone()));
        bench.round();
        assert!(matches!(bench.answer_of(number), Some(Err(Error::Invalid(_)))), "{case:?}");
    }
    assert!(bench.splits.is_empty());
    bench.agent.settings.key_mode = KeyMode::Keyspaces;
    let plain = bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    bench.round();
    assert!(
        matches!(bench.answer_of(plain), Some(Err(Error::Invalid(text))) if text.contains("memcomparable"))
    );
    let encoded = SplitRequest::new(RegionId(2), vec![memcomparable::encode_key(b"g")]);
    bench.ask(PlacementCall::SplitRegion(encoded));
    bench.round();
    assert_eq!(bench.splits.len(), 1);
}

#[test]
fn a_region_that_is_led_elsewhere_is_split_there() {
    let mut bench = Bench::new();
    lease(&mut bench, 5_000);
    let number = bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    let (to, id, _) = calls_of(bench.round()).pop().expect("the host is asked where it is");
    let sent = bench.respond(to.0, id, found_at(3, 4));
    let (to, id, request) = splits_of(sent).pop().expect("it is passed on");
    assert_eq!(to, StoreId(3));
    assert_ne!(request.change_id, 0, "under a name");
    assert_eq!(request.epoch, Some(Epoch { conf_version: 1, version: 4 }), "for what was found");

    // Not there: a hint is followed at once, under the same name.
    let hint = Response::Failed(Error::NotLeader { hint: Some(StoreId(2)), term: Term(0) });
    let sent = splits_of(bench.respond(3, id, hint));
    assert_eq!(sent, [(StoreId(2), id, request.clone())]);
    // Silence is met with the same wish, to whoever leads by then.
    let asked = calls_of(bench.pass(CALL_RESEND_AFTER));
    let (to, lookup, _) = asked.last().cloned().expect("the host is asked again");
    let sent = splits_of(bench.respond(to.0, lookup, found_at(3, 9)));
    assert_eq!(sent, [(StoreId(3), id, request.clone())], "an epoch is settled once");
    let regions = vec![region(2, "b", "g", 5), region(7, "g", "t", 5)];
    let answer = PlacementAnswer::Split { change_id: request.change_id, regions };
    bench.respond(3, id, Response::Answer(answer.clone()));
    assert_eq!(bench.answer_of(number), Some(Ok(answer)));
}

#[test]
fn an_epoch_that_was_only_found_gives_way_to_the_current_one() {
    let mut bench = Bench::new();
    lease(&mut bench, 5_000);
    let stale = |current| {
        Response::Failed(Error::EpochNotMatch {
            region_id: RegionId(2),
            current: Epoch { conf_version: 1, version: current },
        })
    };
    let begin = |bench: &mut Bench, request: SplitRequest| {
        let number = bench.ask(PlacementCall::SplitRegion(request));
        let (to, id, _) = calls_of(bench.round()).pop().expect("the host is asked");
        let sent = bench.respond(to.0, id, found_at(3, 4));
        (number, splits_of(sent).pop().expect("it is passed on").1)
    };
    let (number, id) = begin(&mut bench, wish(&["g"]));
    // The leader has told which epoch it is: there is nothing to wait for.
    let (to, _, again) = splits_of(bench.respond(3, id, stale(6))).pop().expect("it is tried again at once");
    assert_eq!((to, again.epoch.map(|epoch| epoch.version)), (StoreId(3), Some(6)));
    // It has not applied yet what it said itself, or it is another one: it needs a moment, and the epoch stays.
    assert_eq!(splits_of(bench.respond(3, id, stale(5))), []);
    assert_eq!(bench.answer_of(number), None);
    let (to, lookup, _) = calls_of(bench.pass(CALL_RETRY_AFTER)).pop().expect("it is tried again");
    let (_, _, again) =
        splits_of(bench.respond(to.0, lookup, found_at(3, 6))).pop().expect("it is passed on");
    assert_eq!(again.epoch.map(|epoch| epoch.version), Some(6));
    // After an attempt of unknown fate it might divide the region a second time.
    bench.respond(3, id, Response::Failed(Error::Unavailable { reason: "unknown".to_owned() }));
    bench.respond(3, id, stale(8));
    assert!(
        matches!(bench.answer_of(number), Some(Err(Error::EpochNotMatch { current, .. })) if current.version == 8)
    );

    let asked = Epoch { conf_version: 1, version: 4 };
    let (number, id) = begin(&mut bench, SplitRequest { epoch: Some(asked), ..wish(&["g"]) });
    bench.respond(3, id, stale(6));
    assert!(matches!(bench.answer_of(number), Some(Err(Error::EpochNotMatch { .. }))));
}

#[test]
fn an_unknown_region_and_one_without_a_leader_are_told_as_such() {
    let mut bench = Bench::new();
    lease(&mut bench, 5_000);
    let number = bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    let (to, id, call) = calls_of(bench.round()).pop().expect("the host is asked");
    // It may have come into being just now: the host answers when it has heard of it, or has waited long enough.
    assert_eq!(call, PlacementCall::AwaitRegion { region_id: RegionId(2), epoch: None });
    bench.respond(to.0, id, Response::Answer(PlacementAnswer::Region(None)));
    assert_eq!(bench.answer_of(number), Some(Err(Error::RegionNotFound(RegionId(2)))));

    let mut bench = Bench::new();
    lease(&mut bench, 5_000);
    let number = bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    let mut asked = calls_of(bench.round());
    for _ in 0..CALL_DEADLINE.as_millis() / 50 {
        if let Some((to, id, _)) = asked.pop() {
            let row = route(region(2, "b", "t", 3));
            bench.respond(to.0, id, Response::Answer(PlacementAnswer::Region(Some(row))));
        }
        asked = calls_of(bench.pass(Duration::from_millis(50)));
    }
    assert!(matches!(
        bench.answer_of(number),
        Some(Err(Error::Unavailable { reason })) if reason.contains("no leader")
    ));
}

#[test]
fn a_split_waits_for_its_ids() {
    let mut bench = Bench::new();
    bench.regions.set(region(2, "b", "t", 3), Some(peer(2)));
    let request = SplitRequest { change_id: 77, ..wish(&["g"]) };
    let number = bench.ask(PlacementCall::SplitRegion(request.clone()));
    let (to, id, call) = calls_of(bench.round()).pop().expect("ids are leased");
    assert!(bench.splits.is_empty());
    let PlacementCall::AllocateIds { count } = call else { panic!("{call:?}") };
    bench.respond(to.0, id, Response::Answer(PlacementAnswer::Ids { first_id: 9_000, count }));
    assert_eq!(bench.splits.len(), 1);
    assert_eq!(bench.answer_of(number), None);

    let mut starved = Bench::new();
    starved.regions.set(region(2, "b", "t", 3), Some(peer(2)));
    let caller = Caller { store_id: StoreId(3), request_id: 9 };
    starved.agent.on_split_request(starved.now, caller, request, &starved.regions);
    for _ in 0..40 {
        starved.pass(Duration::from_millis(100));
    }
    assert!(matches!(&starved.responded[..], [(_, Response::Failed(Error::Unavailable { .. }))]));
    assert!(starved.splits.is_empty());
}

#[test]
fn a_wish_without_a_name_gets_one_with_the_ids() {
    let mut bench = Bench::new();
    bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    let (to, id, call) = calls_of(bench.round()).pop().expect("ids are leased");
    let PlacementCall::AllocateIds { count } = call else { panic!("{call:?}") };
    let ids = PlacementAnswer::Ids { first_id: 9_000, count };
    let (to, id, call) = calls_of(bench.respond(to.0, id, Response::Answer(ids))).pop().expect("it goes on");
    assert_eq!(call, PlacementCall::AwaitRegion { region_id: RegionId(2), epoch: None });
    // While the host is asked nothing else is to be done: the answer is the event.
    assert!(bench.agent.deadline() > Some(bench.now.monotonic), "{:?}", bench.agent.deadline());
    assert_eq!(splits_of(bench.respond(to.0, id, found_at(3, 4))).len(), 1);
}

#[test]
fn leadership_that_is_lost_is_followed() {
    let mut bench = bench();
    let number = bench.ask(PlacementCall::SplitRegion(wish(&["g"])));
    bench.round();
    let (_, split) = bench.splits.pop().expect("it is proposed");
    bench.regions.set(region(2, "b", "t", 3), Some(led_by(3)));
    let lost = Error::NotLeader { hint: Some(StoreId(3)), term: Term(0) };
    bench.agent.on_split_ended(bench.now, split.change_id, Err(lost), &bench.regions);
    let sent = splits_of(bench.round());
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, sent[0].2.change_id), (StoreId(3), split.change_id));
    assert_eq!(bench.answer_of(number), None);
}

#[test]
fn the_stores_own_wish_takes_boundaries_that_are_some() {
    let mut bench = bench();
    bench.agent.settings.key_mode = KeyMode::Keyspaces;
    let whole = Region { range: KeyRange::ALL, ..region(2, "", "", 3) };
    bench.regions.set(whole, Some(peer(2)));
    let key = memcomparable::encode_key(b"some key");
    let mut behind = key.to_vec();
    behind.push(1);
    let keys = vec![Bytes::from(behind.clone()), Bytes::from([&behind[..], &[2]].concat())];
    let request = SplitRequest::new(RegionId(2), keys);
    bench.agent.on_split_wanted(bench.now, request.clone(), &bench.regions);
    bench.agent.on_split_wanted(bench.now, request, &bench.regions);
    bench.round();
    assert_eq!(bench.splits.len(), 1, "one at a time");
    let starts: Vec<_> = bench.splits[0].1.children.iter().map(|child| child.start_key.clone()).collect();
    assert_eq!(starts, [key]);
}

fn evenly(at: SplitAt) -> SplitRequest {
    SplitRequest { at, change_id: 77, ..wish(&[]) }
}

fn found(epoch_version: u64, keys: &[&'static str]) -> FoundKeys {
    let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::from(*key)).collect();
    let epoch = Epoch { conf_version: 1, version: epoch_version };
    FoundKeys { epoch, key_count: keys.len() as u64 + 1, keys, last_split: None }
}

fn of_sizer(bench: &mut Bench, found: Result<FoundKeys>) {
    bench.agent.on_keys_found(bench.now, 77, found, &bench.regions);
    bench.round();
}

/// A region with a voter on each of these stores, led by store 1's agent.
fn region_on(stores: &[u64]) -> Region {
    let voter = |store: &u64| Peer { id: PeerId(20 + store), ..led_by(*store) };
    Region { peers: stores.iter().map(voter).collect(), ..region(2, "b", "t", 3) }
}

#[test]
fn the_leaders_store_finds_the_keys_that_nobody_names() {
    let mut bench = bench();
    let number = bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Middle)));
    bench.round();
    assert_eq!((bench.searches.as_slice(), bench.splits.len()), (&[(77, RegionId(2), 2)][..], 0));
    of_sizer(&mut bench, Ok(found(3, &["g"])));
    let (_, split) = bench.splits.pop().expect("it is proposed");
    let starts: Vec<_> = split.children.iter().map(|child| child.start_key.as_ref()).collect();
    assert_eq!((starts, split.leader_stores), (vec![&b"g"[..]], vec![StoreId(1)]));
    bench.regions.set(region(2, "b", "g", 4), Some(peer(2)));
    bench.regions.set(region(7, "g", "t", 4), Some(peer(7)));
    of_store(&mut bench, 77, Ok(()));
    let answer = PlacementAnswer::Split {
        change_id: 77,
        regions: vec![region(2, "b", "g", 4), region(7, "g", "t", 4)],
    };
    assert_eq!(bench.answer_of(number), Some(Ok(answer.clone())));
    // The name is that of this split, however often and whatever is asked for under it.
    let again = bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Parts(9))));
    bench.round();
    assert_eq!(bench.answer_of(again), Some(Ok(answer)));
    assert_eq!((bench.searches.len(), bench.splits.len()), (1, 0));
}

#[test]
fn voters_that_answer_take_turns_to_lead_several_parts() {
    let mut bench = bench();
    let four = region_on(&[1, 2, 3, 4]);
    bench.regions.set(four.clone(), four.find_peer_on(StoreId(1)));
    let report = LeaderReport {
        leader: four.peers[0],
        term: Term(4),
        down_peers: vec![four.peers[2].id],
        pending_peers: vec![],
        size: types::RegionSize::default(),
        region: four,
    };
    bench.agent.on_leads(vec![report], vec![], &bench.regions);
    bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Parts(4))));
    bench.round();
    assert_eq!(bench.searches, [(77, RegionId(2), 4)]);
    of_sizer(&mut bench, Ok(found(3, &["d", "g", "m"])));
    let (_, split) = bench.splits.pop().expect("it is proposed");
    // The first part stays with store 1; store 3 is down.
    assert_eq!(split.leader_stores, [StoreId(2), StoreId(4), StoreId(1)]);
}

#[test]
fn a_region_that_cannot_be_divided_evenly_is_said_to_be_such() {
    let none = |key_count| FoundKeys { key_count, ..found(3, &[]) };
    let unreadable = Error::Busy { reason: "it cannot be read".to_owned() };
    let cases: [(Result<FoundKeys>, &str); 5] = [
        (Ok(none(0)), "holds no key"),
        (Ok(none(1)), "holds one key"),
        (Ok(none(2)), "no boundary lies"),
        (Ok(found(4, &["g"])), "has epoch 1.4 now"),
        (Err(unreadable), "cannot be read"),
    ];
    for (answer, text) in cases {
        let mut bench = bench();
        let epoch = Some(Epoch { conf_version: 1, version: 3 });
        let number = bench.ask(PlacementCall::SplitRegion(SplitRequest { epoch, ..evenly(SplitAt::Middle) }));
        bench.round();
        of_sizer(&mut bench, answer);
        assert!(bench.splits.is_empty());
        let error = bench.answer_of(number).expect("it is answered").expect_err("it is refused");
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut bench = bench();
    for count in [0, 1, SPLIT_PARTS_MAX + 1] {
        let number = bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Parts(count))));
        bench.round();
        assert!(
            matches!(bench.answer_of(number), Some(Err(Error::Invalid(text))) if text.contains("2 to 256"))
        );
    }
    assert!(bench.searches.is_empty());
}

#[test]
fn keys_that_are_found_are_rounded_down_to_boundaries() {
    let mut bench = bench();
    bench.agent.settings.key_mode = KeyMode::Keyspaces;
    let whole = Region { range: KeyRange::ALL, ..region(2, "", "", 3) };
    bench.regions.set(whole, Some(peer(2)));
    bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Parts(3))));
    bench.round();
    let key = memcomparable::encode_key(b"some key");
    let behind = |byte: u8| Bytes::from([&key[..], &[byte]].concat());
    of_sizer(&mut bench, Ok(FoundKeys { keys: vec![behind(1), behind(2)], ..found(3, &[]) }));
    let (_, split) = bench.splits.pop().expect("it is proposed");
    let starts: Vec<_> = split.children.iter().map(|child| child.start_key.clone()).collect();
    assert_eq!(starts, [key]);
}

/// The agent that carried it out has been restarted, or leads no longer: the region's peers remember.
#[test]
fn a_name_that_the_store_remembers_is_not_split_again() {
    let mut bench = bench();
    bench.regions.set(region(2, "b", "g", 5), Some(peer(2)));
    bench.regions.set(region(7, "g", "t", 5), Some(peer(7)));
    let number = bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Middle)));
    bench.round();
    let last_split = Some((77, vec![Bytes::from("g")]));
    of_sizer(&mut bench, Ok(FoundKeys { last_split, ..found(5, &["d"]) }));
    assert!(bench.splits.is_empty());
    let regions = vec![region(2, "b", "g", 5), region(7, "g", "t", 5)];
    assert_eq!(bench.answer_of(number), Some(Ok(PlacementAnswer::Split { change_id: 77, regions })));
}

#[test]
fn who_waits_for_keys_is_told_that_it_goes_on() {
    // Here, and at the store that passed it on: neither gives up while it goes on, and a wish that is repeated joins.
    let mut bench = bench();
    let number = bench.ask(PlacementCall::SplitRegion(evenly(SplitAt::Middle)));
    let caller = Caller { store_id: StoreId(3), request_id: 9 };
    for _ in 0..20 {
        bench.agent.on_split_request(bench.now, caller, evenly(SplitAt::Middle), &bench.regions);
        bench.pass(CALL_RESEND_AFTER);
    }
    assert_eq!((bench.searches.len(), bench.answer_of(number)), (1, None));
    let told = bench.responded.len();
    let is_going_on =
        |response: &Response| matches!(response, Response::Failed(Error::Changing { operation_id: 77, .. }));
    assert!(told >= 19 && bench.responded.iter().all(|(_, response)| is_going_on(response)));
    bench.pass(SPLIT_FIND_DEADLINE);
    assert!(matches!(bench.answer_of(number), Some(Err(Error::Unavailable { .. }))));
    assert!(matches!(&bench.responded[told..], [(_, Response::Failed(Error::Unavailable { .. }))]));
    // What is found by then is found in vain.
    of_sizer(&mut bench, Ok(found(3, &["g"])));
    assert!(bench.splits.is_empty());

    let mut other = Bench::new();
    lease(&mut other, 5_000);
    let number = other.ask(PlacementCall::SplitRegion(evenly(SplitAt::Middle)));
    let (to, id, _) = calls_of(other.round()).pop().expect("the host is asked where it is");
    other.respond(to.0, id, found_at(3, 4));
    for _ in 0..20 {
        let stage = "keys are being looked for".to_owned();
        let going_on = Error::Changing { region_id: RegionId(2), operation_id: 77, stage };
        for (to, id, _) in splits_of(other.pass(CALL_RESEND_AFTER)) {
            other.respond(to.0, id, Response::Failed(going_on.clone()));
        }
    }
    assert_eq!(other.answer_of(number), None);
}
