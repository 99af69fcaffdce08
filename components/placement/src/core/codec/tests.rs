use types::{ClusterId, Epoch, Incarnation, PeerRole, RegionSize};

use super::*;
use crate::core::{
    api::{ChangeRequest, OperationState, RegionChange, SplitAt, SplitRequest},
    operation::{Aim, Operation, Seen},
    record::{KeyMode, Settings, StoreRecord, StoreState},
};

fn region(id: u64) -> Region {
    let peer =
        |id: u64, store_id: u64, role: PeerRole| Peer { id: PeerId(id), store_id: StoreId(store_id), role };
    Region {
        id: RegionId(id),
        range: KeyRange::new("a", "m"),
        epoch: Epoch { conf_version: 3, version: 4 },
        peers: vec![
            peer(11, 1, PeerRole::Voter),
            peer(12, 2, PeerRole::Learner),
            peer(13, 3, PeerRole::IncomingVoter),
        ],
    }
}

fn record(id: u64) -> StoreRecord {
    StoreRecord {
        id: StoreId(id),
        address: "host:20160".to_owned(),
        status_address: "host:20180".to_owned(),
        version: "1.2.3".to_owned(),
        labels: vec![("zone".to_owned(), "z1".to_owned())],
        incarnation: Incarnation(4),
        started: WallTime(5),
        state: StoreState::Draining,
        registration_nonce: 6,
    }
}

fn settings() -> Settings {
    Settings {
        cluster_id: ClusterId(9),
        key_mode: KeyMode::Keyspaces,
        cluster_version: 1,
        created: WallTime(77),
        voter_count: 3,
        is_balancing: false,
    }
}

fn operation() -> Operation {
    Operation {
        id: 1_500,
        region_id: RegionId(7),
        aim: Aim::Peers(vec![region(7).peers[0]]),
        epoch: Epoch::FIRST,
        created: WallTime(8),
        deadline: WallTime(9_000),
    }
}

fn transfer() -> Operation {
    Operation { aim: Aim::Leader(region(7).peers[0]), ..operation() }
}

fn scatter() -> Operation {
    let region = region(7);
    Operation { aim: Aim::Scatter { leader: region.peers[1], peers: region.peers }, ..operation() }
}

fn change(change: RegionChange) -> PlacementCall {
    PlacementCall::ChangeRegion(ChangeRequest {
        epoch: Some(Epoch { conf_version: 3, version: 4 }),
        change_id: 1_700,
        deadline: Some(std::time::Duration::from_millis(77)),
        ..ChangeRequest::new(RegionId(3), change)
    })
}

fn route(id: u64) -> RegionRoute {
    let region = region(id);
    RegionRoute {
        leader: Some(region.peers[0]),
        stand_in: None,
        region,
        down_peers: vec![PeerId(12)],
        pending_peers: vec![PeerId(13)],
        size: RegionSize { size_bytes: 14, key_count: 15 },
    }
}

#[test]
fn rows_come_back() {
    assert_eq!(decode_settings(&encode_settings(&settings())), Ok(settings()));
    assert_eq!(decode_store(&encode_store(&record(1))), Ok(record(1)));
    assert_eq!(decode_region(&encode_region(&region(2))), Ok(region(2)));
    for operation in [operation(), transfer()] {
        let picture = operation.picture(WallTime(108), Some(&region(7)), Seen::default());
        let row = decode_operation(&encode_operation(picture.clone()));
        assert_eq!(row, Ok(picture.clone()));
        assert_eq!(Operation::try_from(picture.clone()), Ok(operation));
        let ended = OperationPicture { state: OperationState::Failed, ..picture };
        let row = decode_operation(&encode_operation(ended.clone())).unwrap();
        assert_eq!(Operation::try_from(row), Err(ended), "what has ended does not run again");
    }
}

fn splits() -> Vec<Request> {
    let named = SplitRequest { change_id: 1_700, ..SplitRequest::new(RegionId(3), vec!["a".into()]) };
    let (epoch, first_leader) = (Some(Epoch { conf_version: 3, version: 4 }), Some(StoreId(5)));
    let told = SplitRequest { epoch, first_leader, ..named.clone() };
    let evenly = [SplitAt::Middle, SplitAt::Parts(7)];
    let evenly = evenly.map(|at| SplitRequest { at, ..named.clone() });
    [told, named].into_iter().chain(evenly).map(Request::Split).collect()
}

#[test]
fn requests_come_back() {
    let lead = LeaderReport {
        region: region(7),
        leader: region(7).peers[0],
        term: Term(5),
        down_peers: vec![PeerId(12)],
        pending_peers: vec![PeerId(13)],
        size: RegionSize { size_bytes: 14, key_count: 15 },
    };
    let report = StoreReport {
        record: record(1),
        number: 3,
        follows: 2,
        is_full: true,
        has_more: true,
        load: StoreLoad { capacity_bytes: 1, available_bytes: 2, region_count: 3, leader_count: 4 },
        leads: vec![lead],
        leads_no_longer: vec![RegionId(8)],
        siblings: vec![region(9)],
        lonely_peers: vec![LonelyPeer {
            region_id: RegionId(10),
            peer_id: PeerId(14),
            epoch: Epoch { conf_version: 5, version: 6 },
        }],
    };
    let key = Bytes::from_static(b"\x00key");
    let calls = [
        PlacementCall::Tso { count: 4 },
        PlacementCall::GetRegion { key: key.clone() },
        PlacementCall::GetRegion { key: Bytes::new() },
        PlacementCall::GetPrevRegion { key: key.clone() },
        PlacementCall::GetRegionById { region_id: RegionId(3) },
        PlacementCall::AwaitRegion { region_id: RegionId(3), epoch: None },
        PlacementCall::AwaitRegion {
            region_id: RegionId(3),
            epoch: Some(Epoch { conf_version: 1, version: 2 }),
        },
        PlacementCall::ScanRegions { range: KeyRange::new(key, ""), limit: 5 },
        PlacementCall::GetStore { store_id: StoreId(1) },
        PlacementCall::GetAllStores { is_without_removed: true },
        PlacementCall::GetAllStores { is_without_removed: false },
        PlacementCall::AllocateIds { count: 6 },
        PlacementCall::RegisterStore { record: record(0) },
        change(RegionChange::SetStores(vec![StoreId(1), StoreId(2)])),
        change(RegionChange::AddPeer(StoreId(1))),
        change(RegionChange::RemovePeer(StoreId(1))),
        change(RegionChange::MovePeer { from: StoreId(1), to: StoreId(2) }),
        change(RegionChange::AddLearner(StoreId(1))),
        change(RegionChange::PromoteLearner(StoreId(1))),
        PlacementCall::ChangeRegion(ChangeRequest::new(
            RegionId(3),
            RegionChange::TransferLeader(StoreId(1)),
        )),
        PlacementCall::SetStoreState { store_id: StoreId(4), state: StoreState::Draining },
        PlacementCall::ChangeSettings { is_balancing: Some(false) },
        PlacementCall::ChangeSettings { is_balancing: None },
        PlacementCall::CancelOperation { operation_id: 9 },
        PlacementCall::GetOperation { region_id: RegionId(3) },
        PlacementCall::ListOperations,
        PlacementCall::ScatterRegions(ScatterRequest {
            region_ids: vec![RegionId(3), RegionId(4)],
            group: "table".to_owned(),
        }),
    ];
    let requests = calls.into_iter().map(Request::Call);
    let requests = requests.chain([Request::Report(Box::new(report))]).chain(splits());
    for request in requests {
        assert_eq!(decode_request(encode_request(request.clone())), Ok(request));
    }
}

#[test]
fn responses_come_back() {
    let picture = StorePicture {
        record: record(1),
        load: Some(StoreLoad { capacity_bytes: 1, ..StoreLoad::default() }),
        last_heard: WallTime(3),
        is_live: true,
    };
    let goal = operation().goal(&region(7), Term(4));
    let report = ReportAnswer {
        placement_term: Term(4),
        number: 5,
        is_full_wanted: true,
        goals: vec![goal, transfer().goal(&region(7), Term(4)), scatter().goal(&region(8), Term(4))],
        destroys: vec![region(10)],
        wanted: vec![KeyRange::new("a", "m"), KeyRange::ALL],
        stores: vec![record(1), record(2)],
        settings: Some(settings()),
    };
    let running = operation().picture(WallTime(20), Some(&region(7)), Seen::default());
    let mut ended = transfer().picture(WallTime(20), None, Seen::default());
    let scattered = scatter().picture(WallTime(20), None, Seen::default());
    (ended.state, ended.reason) = (OperationState::Cancelled, "because".to_owned());
    let answers = [
        PlacementAnswer::Timestamp(Timestamp { physical_ms: 1 << 40, logical: 77 }),
        PlacementAnswer::Region(None),
        PlacementAnswer::Region(Some(route(2))),
        PlacementAnswer::Region(Some(RegionRoute { leader: None, ..route(2) })),
        PlacementAnswer::Region(Some(RegionRoute {
            leader: None,
            stand_in: Some(region(2).peers[1]),
            ..route(2)
        })),
        PlacementAnswer::Regions(vec![route(2), route(3)]),
        PlacementAnswer::Store(None),
        PlacementAnswer::Store(Some(picture.clone())),
        PlacementAnswer::Stores(vec![picture]),
        PlacementAnswer::Ids { first_id: 1_003, count: 10 },
        PlacementAnswer::Registered { store_id: StoreId(4), settings: settings(), stores: vec![record(4)] },
        PlacementAnswer::OperationStarted { operation_id: 5 },
        PlacementAnswer::Operations(vec![running, ended, scattered]),
        PlacementAnswer::Scattered { begun: vec![RegionId(3)], missing: vec![RegionId(4), RegionId(5)] },
        PlacementAnswer::Split { change_id: 7, regions: vec![region(7), region(8)] },
        PlacementAnswer::Done,
    ];
    let errors = [
        api::Error::NotLeader { hint: Some(StoreId(3)), term: Term(4) },
        api::Error::NotLeader { hint: None, term: Term(0) },
        api::Error::Unavailable { reason: "x".to_owned() },
        api::Error::Busy { reason: "y".to_owned() },
        api::Error::Invalid("z".to_owned()),
        api::Error::StoreNotFound(StoreId(5)),
        api::Error::StoreRemoved(StoreId(6)),
        api::Error::RegionNotFound(RegionId(7)),
        api::Error::OperationNotFound(8),
        api::Error::EpochNotMatch { region_id: RegionId(7), current: Epoch { conf_version: 1, version: 2 } },
        api::Error::Changing { region_id: RegionId(7), operation_id: 9, stage: "s".to_owned() },
    ];
    let previous = [
        Response::Previous { previous: None, current: Box::new(route(2)) },
        Response::Previous { previous: Some(route(2)), current: Box::new(route(3)) },
    ];
    let responses = answers
        .into_iter()
        .map(Response::Answer)
        .chain(errors.into_iter().map(Response::Failed))
        .chain(previous)
        .chain([Response::Report(Box::new(report))]);
    for response in responses {
        assert_eq!(decode_response(encode_response(response.clone())), Ok(response));
    }
}

#[test]
fn what_is_malformed_is_refused() {
    assert!(decode_request(Bytes::from_static(b"\xff\xff")).is_err());
    assert!(decode_request(Bytes::new()).is_err(), "a request asks something");
    assert!(decode_response(Bytes::new()).is_err());
    let row = wire::StoreRow { id: 1, state: 99, ..wire::StoreRow::default() };
    assert!(decode_store(&row.encode_to_vec().into()).is_err());
    let row = wire::StoreRow::default();
    assert!(decode_store(&row.encode_to_vec().into()).is_err(), "a row has an id");
    let row = wire::SettingsRow { cluster_id: 1, ..wire::SettingsRow::default() };
    assert!(decode_settings(&row.encode_to_vec().into()).is_err(), "a cluster has a key mode");
    let stranger = wire::LeaderReport {
        region: Some(region(7).into()),
        leader_peer_id: 99,
        ..wire::LeaderReport::default()
    };
    assert!(lead_from(stranger).is_err());
    let unnamed = Request::Split(SplitRequest::new(RegionId(3), vec!["a".into()]));
    assert!(decode_request(encode_request(unnamed)).is_err(), "a split has a name before it is passed on");
    let both = wire::SplitRegion {
        keys: vec!["a".into()],
        is_at_middle: true,
        change_id: 1,
        ..wire::SplitRegion::default()
    };
    assert!(changes::split_from(both).is_err(), "a split says in one way where");
    let leaderless = wire::OperationRow {
        goal_leader: 99,
        ..rows::operation_to(scatter().picture(WallTime(20), None, Seen::default()))
    };
    assert!(operation_from(leaderless).is_err(), "a region is led by one of its peers");
    // Every byte of a real message cut or changed is an error or another message, never a panic.
    let body = encode_response(Response::Answer(PlacementAnswer::Regions(vec![route(2)])));
    for at in 0..body.len() {
        drop(decode_response(body.slice(..at)));
        let mut changed = body.to_vec();
        changed[at] ^= 0x55;
        drop(decode_response(changed.into()));
    }
}
