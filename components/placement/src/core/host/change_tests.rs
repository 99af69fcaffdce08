//! Changes that operators ask for, and how operations end.

use std::time::Duration;

use types::{Epoch, Peer, PeerId, PeerRole, Region, RegionId, RegionSize, StoreId};

use super::{
    tests::{Bench, begun, change, first, record, three_stores, voter},
    *,
};
use crate::core::{
    api::{ChangeRequest, OperationPicture, OperationState, PlacementAnswer, PlacementCall, RegionChange},
    limits::{OPERATION_STALLED_AFTER, OPERATIONS_ENDED_KEPT, SCHEDULE_INTERVAL},
    operation::{Goal, OVERTAKEN},
    protocol::{LonelyPeer, StoreReport},
    record::{StoreLoad, StoreState},
    rows::RowKey,
    testing::Group,
};

/// Four stores; the placement group and region 2 have voters on the first three, and the first one leads both. Nothing is
/// levelled unless a test says so.
pub(super) struct Cluster {
    pub(super) bench: Bench,
    group: Group,
    stores: Vec<StoreRecord>,
    pub(super) regions: Vec<Region>,
    pub(super) leaders: Vec<StoreId>,
    load: StoreLoad,
    number: u64,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let (mut bench, mut group) = begun();
        let mut stores = vec![record(1_000)];
        for (at, address) in ["b:1", "c:1", "d:1"].into_iter().enumerate() {
            let id = bench.register(&mut group, address, 7 + at as u64).unwrap();
            stores.push(StoreRecord { id, address: address.to_owned(), ..record(0) });
        }
        let load = StoreLoad { capacity_bytes: 1_000, available_bytes: 500, ..StoreLoad::default() };
        let leaders = vec![StoreId(1_000); 2];
        let mut cluster = Cluster { bench, group, stores, regions: Vec::new(), leaders, load, number: 0 };
        cluster.regions = [1, 2].map(|id| cluster.region(id)).to_vec();
        let off = PlacementCall::ChangeSettings { is_balancing: Some(false) };
        assert_eq!(cluster.call(off), Ok(PlacementAnswer::Done));
        cluster.report();
        assert_eq!(cluster.bench.goals, [], "everything is as it should be");
        cluster
    }

    fn region(&self, id: u64) -> Region {
        let peers = (0..3).map(|at| voter(id * 100 + at, self.store(at).0)).collect();
        Region { peers, epoch: Epoch { conf_version: 3, version: 1 }, ..first(id) }
    }

    pub(super) fn store(&self, at: u64) -> StoreId {
        self.stores[usize::try_from(at).unwrap()].id
    }

    pub(super) fn call(&mut self, call: PlacementCall) -> Result<PlacementAnswer, Error> {
        self.bench.call(&mut self.group, call)
    }

    pub(super) fn change(&mut self, region_id: u64, what: RegionChange) -> Result<u64, Error> {
        let answer = self.call(change(region_id, what))?;
        let PlacementAnswer::OperationStarted { operation_id } = answer else { panic!("{answer:?}") };
        Ok(operation_id)
    }

    /// Every store reports, the leaders what their regions are.
    pub(super) fn report(&mut self) {
        self.report_except(None);
    }

    fn report_except(&mut self, silent: Option<StoreId>) {
        self.number += 1;
        let stores = self.stores.clone();
        for store in stores.iter().filter(|store| Some(store.id) != silent) {
            let leads = self.regions.iter().zip(&self.leaders).filter(|(_, leader)| **leader == store.id);
            let leads = leads.map(|(region, leader)| super::super::protocol::LeaderReport {
                region: region.clone(),
                leader: region.find_peer_on(*leader).unwrap(),
                term: Term(5 + self.number),
                down_peers: Vec::new(),
                pending_peers: Vec::new(),
                size: RegionSize::default(),
            });
            let report = StoreReport {
                record: store.clone(),
                number: self.number,
                is_full: self.number == 1,
                load: self.load,
                leads: leads.collect(),
                ..StoreReport::default()
            };
            self.bench.send(store.id.0, Request::Report(Box::new(report)));
            self.bench.settle(&mut self.group);
        }
    }

    /// A store comes, with nothing.
    fn join(&mut self, address: &str) -> StoreId {
        let id = self.bench.register(&mut self.group, address, 55).unwrap();
        self.stores.push(StoreRecord { id, address: address.to_owned(), ..record(0) });
        self.report();
        id
    }

    /// Placement is led by another host, which knows what rows and reports tell.
    fn next_host(&mut self) {
        let mut next = Bench::new(1_000);
        next.now = self.bench.now;
        next.lead(&mut self.group);
        self.bench = next;
        self.number = 0;
        self.report();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.bench.pass(time, &mut self.group);
    }

    /// The last goal that was told.
    fn goal(&mut self) -> Goal {
        std::mem::take(&mut self.bench.goals).pop().expect("a goal was told").1
    }

    /// The leader of a region has done what it was told.
    fn carry_out(&mut self, goal: &Goal) {
        let at = self.regions.iter().position(|region| region.id == goal.region_id).unwrap();
        let region = &mut self.regions[at];
        if region.epoch != goal.epoch {
            return;
        }
        if !goal.peers.is_empty() {
            region.peers.clone_from(&goal.peers);
            region.epoch.conf_version += 3;
        }
        let leader = &mut self.leaders[at];
        if let Some(peer_id) = goal.leader {
            *leader = region.find_peer(peer_id).unwrap().store_id;
        } else if region.find_peer_on(*leader).is_none() {
            *leader = region.peers[0].store_id;
        }
        self.report();
    }

    /// The leaders do what they are told, until nobody is told anything any more.
    pub(super) fn carry_out_all(&mut self) {
        while !self.bench.goals.is_empty() {
            for (_, goal) in std::mem::take(&mut self.bench.goals) {
                self.carry_out(&goal);
            }
        }
    }

    fn operation(&mut self, id: u64) -> OperationPicture {
        match self.call(PlacementCall::ListOperations) {
            Ok(PlacementAnswer::Operations(operations)) => {
                operations.into_iter().find(|operation| operation.id == id).expect("it is remembered")
            }
            other => panic!("{other:?}"),
        }
    }

    fn voters(&self, region_id: u64) -> Vec<StoreId> {
        let region = self.regions.iter().find(|region| region.id.0 == region_id).unwrap();
        let mut stores: Vec<StoreId> = region.peers.iter().map(|peer| peer.store_id).collect();
        stores.sort_unstable();
        stores
    }
}

#[test]
fn every_change_is_an_operation_that_ends() {
    let mut cluster = Cluster::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| cluster.store(at));
    let steps = [
        (RegionChange::MovePeer { from: b, to: d }, vec![a, c, d]),
        (RegionChange::AddPeer(b), vec![a, b, c, d]),
        (RegionChange::RemovePeer(c), vec![a, b, d]),
        (RegionChange::SetStores(vec![d, c, a]), vec![a, c, d]),
    ];
    for (what, stores) in steps {
        let id = cluster.change(2, what.clone()).unwrap();
        assert_eq!(cluster.operation(id).state, OperationState::Running);
        let goal = cluster.goal();
        assert_eq!((goal.operation_id, goal.leader), (id, None));
        cluster.carry_out(&goal);
        assert_eq!(cluster.voters(2), stores, "{what:?}");
        assert_eq!(cluster.operation(id).state, OperationState::Done);
    }
    let id = cluster.change(2, RegionChange::TransferLeader(c)).unwrap();
    let goal = cluster.goal();
    assert_eq!(goal.leader, cluster.regions[1].find_peer_on(c).map(|peer| peer.id));
    assert!(goal.peers.is_empty(), "they stay as they are");
    cluster.carry_out(&goal);
    assert_eq!(cluster.operation(id).state, OperationState::Done);
    assert_eq!(cluster.bench.route(&mut cluster.group, "a").1, Some(c));
}

#[test]
fn a_learner_is_promoted() {
    let mut cluster = Cluster::new();
    let [a, d] = [0, 3].map(|at| cluster.store(at));
    assert!(matches!(cluster.change(2, RegionChange::PromoteLearner(a)), Err(Error::Invalid(_))));
    assert!(matches!(cluster.change(2, RegionChange::PromoteLearner(d)), Err(Error::Invalid(_))));
    let learner = Peer { id: PeerId(990), store_id: d, role: PeerRole::Learner };
    cluster.regions[1].peers.push(learner);
    cluster.regions[1].epoch.conf_version += 1;
    cluster.report();
    let id = cluster.change(2, RegionChange::PromoteLearner(d)).unwrap();
    let goal = cluster.goal();
    let voter = Peer { role: PeerRole::Voter, ..learner };
    assert_eq!((goal.operation_id, goal.peers.contains(&voter)), (id, true), "{goal:?}");
    cluster.carry_out(&goal);
    assert_eq!(cluster.operation(id).state, OperationState::Done);
}

/// Whatever else happens to the region, and whoever leads placement; until it is promoted or removed.
#[test]
fn a_learner_that_somebody_wants_stays() {
    let mut cluster = Cluster::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| cluster.store(at));
    let learners = |cluster: &Cluster| {
        let peers = &cluster.regions[1].peers;
        peers.iter().filter(|peer| peer.role == PeerRole::Learner).copied().collect::<Vec<_>>()
    };
    let done = |cluster: &mut Cluster, what: RegionChange| {
        let id = cluster.change(2, what.clone()).unwrap();
        let goal = cluster.goal();
        cluster.carry_out(&goal);
        assert_eq!(cluster.operation(id).state, OperationState::Done, "{what:?}");
        cluster.pass(SCHEDULE_INTERVAL);
        assert_eq!(cluster.bench.goals, [], "and so it stays");
    };
    done(&mut cluster, RegionChange::AddLearner(d));
    let learner = learners(&cluster)[0];
    assert_eq!((learner.store_id, learners(&cluster).len()), (d, 1));
    assert!(matches!(cluster.change(2, RegionChange::AddLearner(d)), Err(Error::Invalid(_))));
    assert!(matches!(cluster.change(2, RegionChange::AddLearner(a)), Err(Error::Invalid(_))));
    // Rows tell the next host of it, however much has ended since.
    for _ in 0..OPERATIONS_ENDED_KEPT + 5 {
        let id = cluster.change(1, RegionChange::MovePeer { from: b, to: d }).unwrap();
        cluster.call(PlacementCall::CancelOperation { operation_id: id }).unwrap();
    }
    cluster.bench.goals.clear();
    cluster.next_host();
    cluster.pass(SCHEDULE_INTERVAL);
    assert_eq!((cluster.bench.goals.len(), learners(&cluster)), (0, vec![learner]));
    // A voter goes elsewhere, and the learner stays; removed, it does not come back.
    let e = cluster.join("e:1");
    // The placement group gets five voters.
    while cluster.voters(1).len() < 5 {
        cluster.pass(SCHEDULE_INTERVAL);
        cluster.carry_out_all();
    }
    done(&mut cluster, RegionChange::MovePeer { from: b, to: e });
    assert_eq!((learners(&cluster), cluster.voters(2)), (vec![learner], vec![a, c, d, e]));
    done(&mut cluster, RegionChange::RemovePeer(d));
    assert_eq!(learners(&cluster), []);
    // Promoted, it is a voter like others.
    done(&mut cluster, RegionChange::AddLearner(d));
    done(&mut cluster, RegionChange::PromoteLearner(d));
    assert_eq!((learners(&cluster), cluster.voters(2)), (vec![], vec![a, c, d, e]));
    // One on a store that drains goes.
    done(&mut cluster, RegionChange::AddLearner(b));
    let drain = PlacementCall::SetStoreState { store_id: b, state: StoreState::Draining };
    assert_eq!(cluster.call(drain), Ok(PlacementAnswer::Done));
    cluster.carry_out_all();
    assert_eq!(learners(&cluster), []);
}

#[test]
fn a_silent_learner_stays_and_holds_up_no_other_change() {
    let mut cluster = Cluster::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| cluster.store(at));
    cluster.change(2, RegionChange::AddLearner(d)).unwrap();
    let goal = cluster.goal();
    cluster.carry_out(&goal);
    for _ in 0..60 {
        cluster.pass(Duration::from_secs(1));
        cluster.report_except(Some(d));
    }
    assert_eq!(cluster.bench.goals, []);
    let id = cluster.change(2, RegionChange::RemovePeer(b)).unwrap();
    let goal = cluster.goal();
    cluster.carry_out(&goal);
    assert_eq!((cluster.operation(id).state, cluster.voters(2)), (OperationState::Done, vec![a, c]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut cluster = Cluster::new();
    let [a, b, d] = [0, 1, 3].map(|at| cluster.store(at));
    let unknown = StoreId(77_777);
    let invalid = [
        RegionChange::SetStores(Vec::new()),
        RegionChange::SetStores(vec![a, a]),
        RegionChange::AddPeer(b),
        RegionChange::RemovePeer(d),
        RegionChange::MovePeer { from: d, to: a },
        RegionChange::MovePeer { from: a, to: b },
        RegionChange::TransferLeader(d),
    ];
    for what in invalid {
        let result = cluster.change(2, what.clone());
        assert!(matches!(result, Err(Error::Invalid(_))), "{what:?}: {result:?}");
    }
    for what in [RegionChange::AddPeer(unknown), RegionChange::MovePeer { from: a, to: unknown }] {
        assert_eq!(cluster.change(2, what), Err(Error::StoreNotFound(unknown)));
    }
    assert_eq!(cluster.change(3, RegionChange::AddPeer(d)), Err(Error::RegionNotFound(RegionId(3))));
    let mut stale = ChangeRequest::new(RegionId(2), RegionChange::AddPeer(d));
    stale.epoch = Some(Epoch { conf_version: 9, version: 9 });
    let current = cluster.regions[1].epoch;
    let refused = cluster.call(PlacementCall::ChangeRegion(stale.clone()));
    assert_eq!(refused, Err(Error::EpochNotMatch { region_id: RegionId(2), current }));
    let unnamed = ChangeRequest { epoch: None, change_id: 1 << 40, ..stale };
    assert!(matches!(cluster.call(PlacementCall::ChangeRegion(unnamed)), Err(Error::Invalid(_))));
    // A store that is full, one that drains, one that is silent.
    cluster.load.available_bytes = 40;
    cluster.report();
    assert!(
        matches!(cluster.change(2, RegionChange::AddPeer(d)), Err(Error::Invalid(text)) if text.contains("full"))
    );
    cluster.load.available_bytes = 500;
    cluster.report();
    let drain = PlacementCall::SetStoreState { store_id: d, state: StoreState::Draining };
    assert_eq!(cluster.call(drain), Ok(PlacementAnswer::Done));
    assert!(
        matches!(cluster.change(2, RegionChange::AddPeer(d)), Err(Error::Invalid(text)) if text.contains("drain"))
    );
    let up = PlacementCall::SetStoreState { store_id: d, state: StoreState::Up };
    assert_eq!(cluster.call(up), Ok(PlacementAnswer::Done));
    for _ in 0..11 {
        cluster.pass(Duration::from_secs(1));
        cluster.report_except(Some(d));
    }
    assert!(
        matches!(cluster.change(2, RegionChange::AddPeer(d)), Err(Error::Invalid(text)) if text.contains("heard"))
    );
    assert_eq!(cluster.bench.goals, []);
}

#[test]
fn a_change_has_one_name_and_one_outcome() {
    let mut cluster = Cluster::new();
    let [b, d] = [1, 3].map(|at| cluster.store(at));
    let change_id = cluster.bench.ids(&mut cluster.group, 1);
    let request = ChangeRequest {
        change_id,
        epoch: Some(cluster.regions[1].epoch),
        ..ChangeRequest::new(RegionId(2), RegionChange::MovePeer { from: b, to: d })
    };
    let asked = PlacementCall::ChangeRegion(request);
    let started = Ok(PlacementAnswer::OperationStarted { operation_id: change_id });
    assert_eq!(cluster.call(asked.clone()), started);
    assert_eq!(cluster.call(asked.clone()), started, "it came twice");
    match cluster.change(2, RegionChange::AddPeer(d)) {
        Err(Error::Changing { region_id: RegionId(2), operation_id, stage }) => {
            assert_eq!((operation_id, stage.as_str()), (change_id, "new peers are being added"));
        }
        other => panic!("{other:?}"),
    }
    let goal = cluster.goal();
    cluster.carry_out(&goal);
    cluster.bench.goals.clear();
    assert_eq!(cluster.call(asked.clone()), started, "late, for another epoch: but it has happened");
    assert_eq!(cluster.bench.goals, []);
    // So it is under the next host.
    let mut next = Bench::new(1_000);
    next.now = cluster.bench.now;
    next.lead(&mut cluster.group);
    assert_eq!(next.call(&mut cluster.group, asked), started);
    match next.call(&mut cluster.group, PlacementCall::GetOperation { region_id: RegionId(2) }) {
        Ok(PlacementAnswer::Operation(Some(operation))) => {
            assert_eq!((operation.id, operation.state), (change_id, OperationState::Done));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_that_is_given_up_stops() {
    let mut cluster = Cluster::new();
    let [b, d] = [1, 3].map(|at| cluster.store(at));
    let id = cluster.change(2, RegionChange::MovePeer { from: b, to: d }).unwrap();
    let told = cluster.goal();
    assert_eq!(cluster.call(PlacementCall::CancelOperation { operation_id: id }), Ok(PlacementAnswer::Done));
    let stop = cluster.goal();
    assert_eq!((stop.operation_id, &stop.peers), (id, &cluster.regions[1].peers), "stay as you are");
    assert_ne!(stop.peers, told.peers);
    // A leader that had gone a step further meanwhile is told again.
    cluster.regions[1].epoch.conf_version += 1;
    cluster.report();
    let again = cluster.goal();
    assert_eq!((again.operation_id, again.epoch), (id, cluster.regions[1].epoch));
    assert_eq!(cluster.operation(id).state, OperationState::Cancelled);
    let twice = cluster.call(PlacementCall::CancelOperation { operation_id: id });
    assert_eq!(twice, Err(Error::OperationNotFound(id)));
}

/// Peers are changed by somebody who asks the region's leader and not placement: what the operation would bring back may be
/// a peer that its store has ended for good.
#[test]
fn an_operation_ends_when_somebody_else_changes_the_peers() {
    let mut cluster = Cluster::new();
    let [b, c, d] = [1, 2, 3].map(|at| cluster.store(at));
    let bump = |cluster: &mut Cluster, by: u64| {
        cluster.regions[1].epoch.conf_version += by;
        cluster.report();
    };
    // The new peer is added, and removed again.
    let id = cluster.change(2, RegionChange::MovePeer { from: b, to: d }).unwrap();
    let told = cluster.goal();
    let new = told.peers.iter().copied().find(|peer| peer.store_id == d).unwrap();
    cluster.regions[1].peers.push(Peer { role: PeerRole::Learner, ..new });
    bump(&mut cluster, 1);
    assert_eq!(cluster.operation(id).state, OperationState::Running, "that is the way to the goal");
    assert_eq!(cluster.goal().peers, told.peers);
    cluster.bench.goals.clear();
    cluster.regions[1].peers.retain(|peer| peer.id != new.id);
    bump(&mut cluster, 1);
    let ended = cluster.operation(id);
    assert_eq!((ended.state, ended.reason.as_str()), (OperationState::Failed, OVERTAKEN));
    let goals = std::mem::take(&mut cluster.bench.goals);
    let names_it = |goal: &Goal| goal.peers.iter().any(|peer| peer.id == new.id);
    assert!(!goals.iter().any(|(_, goal)| names_it(goal)), "{goals:?}");
    let (_, stop) = goals.last().expect("its leader is told to stay as it is");
    assert_eq!((stop.operation_id, &stop.peers), (id, &cluster.regions[1].peers));
    // A peer that would stay is removed before the first step.
    let id = cluster.change(2, RegionChange::MovePeer { from: b, to: d }).unwrap();
    cluster.bench.goals.clear();
    cluster.regions[1].peers.retain(|peer| peer.store_id != c);
    bump(&mut cluster, 1);
    assert_eq!(cluster.operation(id).state, OperationState::Failed);
    // Repair begins another one, with a peer of its own.
    let repair = cluster.goal();
    assert!(repair.operation_id > id && repair.peers.len() == 3 && !names_it(&repair), "{repair:?}");
    cluster.carry_out(&repair);
    assert_eq!(cluster.operation(repair.operation_id).state, OperationState::Done);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let mut cluster = Cluster::new();
    let [b, d] = [1, 3].map(|at| cluster.store(at));
    let pass = |cluster: &mut Cluster, time: Duration| {
        for _ in 0..time.as_secs() {
            cluster.pass(Duration::from_secs(1));
            cluster.report();
        }
    };
    let mut request = ChangeRequest::new(RegionId(2), RegionChange::MovePeer { from: b, to: d });
    request.deadline = Some(Duration::from_secs(5));
    let Ok(PlacementAnswer::OperationStarted { operation_id }) =
        cluster.call(PlacementCall::ChangeRegion(request))
    else {
        panic!("it is not started");
    };
    pass(&mut cluster, Duration::from_secs(4));
    assert_eq!(cluster.operation(operation_id).state, OperationState::Running);
    pass(&mut cluster, Duration::from_secs(2));
    let ended = cluster.operation(operation_id);
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(ended.reason, "its time is over: new peers are being added");
    let stalled = cluster.change(2, RegionChange::MovePeer { from: b, to: d }).unwrap();
    pass(&mut cluster, OPERATION_STALLED_AFTER - Duration::from_secs(2));
    assert_eq!(cluster.operation(stalled).state, OperationState::Running);
    pass(&mut cluster, Duration::from_secs(4));
    let ended = cluster.operation(stalled);
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.reason.starts_with("nothing has happened for"), "{}", ended.reason);
}

#[test]
fn ended_operations_are_forgotten_one_by_one() {
    let mut cluster = Cluster::new();
    let [b, d] = [1, 3].map(|at| cluster.store(at));
    for _ in 0..OPERATIONS_ENDED_KEPT + 5 {
        let id = cluster.change(2, RegionChange::MovePeer { from: b, to: d }).unwrap();
        assert_eq!(
            cluster.call(PlacementCall::CancelOperation { operation_id: id }),
            Ok(PlacementAnswer::Done)
        );
    }
    let is_operation = |key: &&Bytes| matches!(RowKey::decode(key), Some(RowKey::Operation(_)));
    assert_eq!(cluster.group.rows.keys().filter(is_operation).count(), OPERATIONS_ENDED_KEPT);
}

#[test]
fn a_store_that_drains_is_emptied_and_may_go() {
    let mut cluster = Cluster::new();
    let [a, b] = [0, 1].map(|at| cluster.store(at));
    let set = |store_id: StoreId, state: StoreState| PlacementCall::SetStoreState { store_id, state };
    assert!(matches!(cluster.call(set(b, StoreState::Removed)), Err(Error::Invalid(_))), "it has peers");
    assert_eq!(cluster.call(set(b, StoreState::Draining)), Ok(PlacementAnswer::Done));
    cluster.carry_out_all();
    assert!(!cluster.voters(1).contains(&b) && !cluster.voters(2).contains(&b), "no goal is left");
    assert_eq!(cluster.call(set(b, StoreState::Removed)), Ok(PlacementAnswer::Done));
    assert_eq!(cluster.call(set(b, StoreState::Removed)), Ok(PlacementAnswer::Done), "it is so already");
    assert_eq!(cluster.call(set(b, StoreState::Up)), Err(Error::StoreRemoved(b)));
    assert_eq!(cluster.call(set(StoreId(5), StoreState::Up)), Err(Error::StoreNotFound(StoreId(5))));
    // Its address is free, and whoever comes there is another store.
    let next = cluster.bench.register(&mut cluster.group, "b:1", 99).unwrap();
    assert!(next != b && next != a);
}

/// A store comes back from its address with an empty disk: its id is retired, and its peers are replaced by nobody's
/// order.
#[test]
fn a_store_that_lost_its_disk_is_replaced() {
    let mut cluster = Cluster::new();
    let lost = cluster.store(2);
    for _ in 0..11 {
        cluster.pass(Duration::from_secs(1));
        cluster.report_except(Some(lost));
    }
    cluster.stores.retain(|store| store.id != lost);
    cluster.bench.goals.clear();
    let id = cluster.join("c:1");
    assert_ne!(id, lost);
    cluster.carry_out_all();
    for region_id in [1, 2] {
        let voters = cluster.voters(region_id);
        assert!(voters.len() == 3 && !voters.contains(&lost), "{voters:?}");
    }
}

#[test]
fn balancing_is_switched_off_and_on_and_then_everything_is_still() {
    let mut cluster = Cluster::new();
    let range = |start: u64, end: u64| {
        let bound =
            |at: u64| if at == 0 || at == 40 { Bytes::new() } else { Bytes::from(format!("{at:02}")) };
        types::KeyRange::new(bound(start), bound(end))
    };
    let epoch = Epoch { conf_version: 3, version: 2 };
    for at in 0..40 {
        let id = if at == 0 { 2 } else { 3 + at };
        let region = Region { range: range(at, at + 1), epoch, ..cluster.region(id) };
        if at == 0 {
            cluster.regions[1] = region;
        } else {
            cluster.regions.push(region);
            cluster.leaders.push(StoreId(1_000));
        }
    }
    cluster.report();
    cluster.pass(SCHEDULE_INTERVAL);
    assert_eq!(cluster.bench.goals, [], "it is off");
    let on = PlacementCall::ChangeSettings { is_balancing: Some(true) };
    assert_eq!(cluster.call(on), Ok(PlacementAnswer::Done));
    let mut goal_count = 0;
    while !cluster.bench.goals.is_empty() {
        for (_, goal) in std::mem::take(&mut cluster.bench.goals) {
            let at = cluster.regions.iter().position(|region| region.id == goal.region_id).unwrap();
            let region = &mut cluster.regions[at];
            if region.epoch != goal.epoch {
                continue;
            }
            goal_count += 1;
            if !goal.peers.is_empty() {
                region.peers = goal.peers;
                region.epoch.conf_version += 3;
                if region.find_peer_on(cluster.leaders[at]).is_none() {
                    cluster.leaders[at] = region.peers[0].store_id;
                }
            }
            if let Some(leader) = goal.leader {
                cluster.leaders[at] = region.find_peer(leader).unwrap().store_id;
            }
        }
        cluster.report();
    }
    assert!((30..=150).contains(&goal_count), "{goal_count} goals for 30 peers and 30 leaders");
    for store in &cluster.stores {
        let peers = cluster.regions.iter().filter(|region| region.find_peer_on(store.id).is_some()).count();
        let leaders = cluster.leaders[1..].iter().filter(|leader| **leader == store.id).count();
        assert!((30..=31).contains(&peers), "store {}: {peers} peers", store.id);
        assert!((9..=11).contains(&leaders), "store {}: {leaders} leaders", store.id);
    }
    for _ in 0..60 {
        cluster.pass(Duration::from_secs(1));
        cluster.report();
    }
    assert_eq!(cluster.bench.goals, [], "nothing moves for a minute");
}

#[test]
fn only_peers_that_were_removed_end() {
    let mut cluster = Cluster::new();
    let region = cluster.regions[1].clone();
    let peer = region.peers[1].id;
    let ask = |cluster: &mut Cluster, lonely: LonelyPeer| {
        cluster.number += 1;
        let store = cluster.stores[1].clone();
        let report = StoreReport {
            record: store.clone(),
            number: cluster.number,
            load: cluster.load,
            lonely_peers: vec![lonely],
            ..StoreReport::default()
        };
        let id = cluster.bench.send(store.id.0, Request::Report(Box::new(report)));
        cluster.bench.settle(&mut cluster.group);
        cluster.bench.report_answer(id).destroys
    };
    let epoch = |conf_version: u64| Epoch { conf_version, version: 1 };
    let lonely = LonelyPeer { region_id: RegionId(2), peer_id: peer, epoch: epoch(1) };
    let stranger = LonelyPeer { peer_id: PeerId(999), ..lonely };
    assert_eq!(ask(&mut cluster, lonely), [], "it belongs to the region");
    assert_eq!(ask(&mut cluster, stranger), std::slice::from_ref(&region));
    assert_eq!(ask(&mut cluster, LonelyPeer { epoch: region.epoch, ..stranger }), [], "it may come yet");
    assert_eq!(ask(&mut cluster, LonelyPeer { epoch: epoch(9), ..stranger }), [], "the row is older");
    assert_eq!(ask(&mut cluster, LonelyPeer { region_id: RegionId(66), ..stranger }), [], "nothing is known");
    let group = LonelyPeer { region_id: RegionId::PLACEMENT, ..stranger };
    assert_eq!(ask(&mut cluster, group), [cluster.regions[0].clone()]);
    // Who has nothing yet may be one that an operation has added, and of which the row has not heard.
    let id =
        cluster.change(2, RegionChange::MovePeer { from: region.peers[2].store_id, to: cluster.store(3) });
    let goal = cluster.goal();
    let new = goal.peers.iter().find(|peer| region.find_peer(peer.id).is_none()).expect("one is new").id;
    let empty = LonelyPeer { peer_id: new, epoch: Epoch::default(), ..stranger };
    assert_eq!(ask(&mut cluster, empty), [], "its region changes");
    assert_eq!(ask(&mut cluster, stranger), std::slice::from_ref(&region), "this one had been there");
    cluster.carry_out(&goal);
    assert_eq!(cluster.operation(id.unwrap()).state, OperationState::Done);
    assert_eq!(ask(&mut cluster, empty), [], "it is there");
    let gone = LonelyPeer { peer_id: PeerId(998), ..empty };
    assert_eq!(ask(&mut cluster, gone), [cluster.regions[1].clone()], "nobody adds this one any more");
}

#[test]
fn an_operation_of_the_scheduler_is_named_too() {
    let (mut bench, mut group, stores) = three_stores();
    let b = stores[1].id;
    match bench.call(&mut group, change(2, RegionChange::SetStores(vec![b]))) {
        Err(Error::Changing { region_id: RegionId(2), operation_id, .. }) => {
            let cancel = PlacementCall::CancelOperation { operation_id };
            assert_eq!(bench.call(&mut group, cancel), Ok(PlacementAnswer::Done));
        }
        other => panic!("{other:?}"),
    }
}
