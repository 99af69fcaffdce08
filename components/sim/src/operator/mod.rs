//! The operator: adds stores to the cluster, asks for leader transfers, moves and splits, and watches the timestamps that
//! placement gives.

mod splits;

use std::{collections::BTreeMap, time::Duration};

use placement::{ChangeRequest, PlacementAnswer, PlacementCall, RegionChange};
use store::AdminAction;
use types::{ClusterId, Peer, PeerRole, RegionId};

pub(crate) use self::splits::REGIONS_MAX;
use self::splits::Splits;
use crate::checks::Violation;
use crate::world::{
    Alarm, AnswerBody, Answered, CallBody, CallId, HostId, Origin, Rng, World, network::Site,
};

/// An unanswered registration is repeated after this.
const REPEAT_AFTER: Duration = Duration::from_millis(500);

/// Timestamps are asked for so often.
const TIMESTAMP_INTERVAL: Duration = Duration::from_millis(100);

/// The number of the alarm for timestamps; the low ones are those of machines.
const TIMESTAMP: u64 = u64::MAX;

/// The number of the alarm for the division with which a run begins.
const DIVISION: u64 = u64::MAX - 1;

/// The cluster's name, the same in each run.
const CLUSTER: ClusterId = ClusterId(0x5EAF);

/// The operator.
pub struct Operator {
    rng: Rng,
    joining: BTreeMap<CallId, HostId>,
    transfers: BTreeMap<CallId, RegionId>,
    moves: BTreeMap<CallId, RegionChange>,
    splits: Splits,
    /// For each open question for a timestamp, the highest that had been received when it was asked.
    asked_behind: BTreeMap<CallId, u64>,
    last_timestamp: u64,
    /// Timestamps received.
    pub timestamp_count: u64,
    /// Leader transfers that have ended as wished.
    pub transfer_count: u64,
    /// Changes of peers that placement has taken on.
    pub move_count: u64,
    /// Of these, learners that come, or begin to vote.
    pub learner_count: u64,
}

impl Operator {
    /// An operator who has not done anything yet, and will divide the keys of so many clients' keys into as many regions
    /// as are wanted at the beginning.
    #[must_use]
    pub fn new(seed: u64, key_count: u64, region_count: usize) -> Operator {
        Operator {
            rng: Rng::new(seed, "operator"),
            joining: BTreeMap::new(),
            transfers: BTreeMap::new(),
            moves: BTreeMap::new(),
            splits: Splits::new(seed, key_count, region_count),
            asked_behind: BTreeMap::new(),
            last_timestamp: 0,
            timestamp_count: 0,
            transfer_count: 0,
            move_count: 0,
            learner_count: 0,
        }
    }

    /// Makes a cluster on the first machine; the others ask to join it.
    pub fn begin(&mut self, world: &mut World) {
        world.found(HostId(0), Origin::Init(CLUSTER), Vec::new());
        for host in world.hosts().skip(1) {
            let wait = self.rng.skewed(Duration::from_millis(1), Duration::from_millis(800));
            world.alarm(world.now() + wait, Alarm::Operator(host.0 as u64));
        }
        world.alarm(world.now() + TIMESTAMP_INTERVAL, Alarm::Operator(TIMESTAMP));
        world.alarm(world.now() + TIMESTAMP_INTERVAL, Alarm::Operator(DIVISION));
    }

    /// No region is divided any more.
    pub fn end_divisions(&mut self) {
        self.splits.end_division();
    }

    /// Splits that were done.
    #[must_use]
    pub fn split_count(&self) -> u64 {
        self.splits.split_count
    }

    /// Splits that were asked for again.
    #[must_use]
    pub fn repeat_count(&self) -> u64 {
        self.splits.repeat_count
    }

    /// Regions that no operator has asked for.
    pub fn own_region_count(&self, world: &World) -> u64 {
        self.splits.own_count(&world.client_regions())
    }

    /// What was answered of splits holds, now that the cluster is at rest.
    pub fn check_splits(&self, world: &World) -> Result<(), Violation> {
        self.splits.check(&world.client_regions())
    }

    /// Asks for a split, a good one or a bad one.
    pub fn split(&mut self, world: &mut World) {
        self.splits.act(world);
    }

    /// Asks for a timestamp, or lets a machine without a store ask (again) for an id.
    pub fn on_alarm(&mut self, world: &mut World, number: u64) {
        if number == TIMESTAMP {
            return self.ask_timestamp(world);
        }
        if number == DIVISION {
            return self.splits.divide(world, DIVISION);
        }
        let Some(host) = world.hosts().find(|host| host.0 as u64 == number) else { return };
        if world.has_origin(host) {
            return;
        }
        let asked: Vec<_> = world.hosts().filter(|host| world.store(*host).is_some()).collect();
        if !asked.is_empty() {
            let record = world.applicant(host);
            let body = CallBody::Placement(PlacementCall::RegisterStore { record });
            let call = world.call(Site::Operator, self.rng.pick(&asked), body);
            self.joining.insert(call, host);
        }
        world.alarm(world.now() + REPEAT_AFTER, Alarm::Operator(number));
    }

    fn ask_timestamp(&mut self, world: &mut World) {
        let hosts: Vec<_> = world.hosts().collect();
        let count = u32::try_from(self.rng.between(1, 10)).unwrap_or(1);
        let body = CallBody::Placement(PlacementCall::Tso { count });
        let call = world.call(Site::Operator, self.rng.pick(&hosts), body);
        self.asked_behind.insert(call, self.last_timestamp);
        world.alarm(world.now() + TIMESTAMP_INTERVAL, Alarm::Operator(TIMESTAMP));
    }

    /// Asks the leader of a region to hand over to some other voter.
    pub fn transfer(&mut self, world: &mut World, region_id: RegionId) {
        let Some((leader, picture)) = world.leader_of(region_id) else { return };
        let Some(region) = &picture.region else { return };
        let others: Vec<_> =
            region.configuration().voters.into_iter().filter(|peer| *peer != picture.peer.id).collect();
        if others.is_empty() {
            return;
        }
        let action = AdminAction::TransferLeader(self.rng.pick(&others));
        let call = world.call(Site::Operator, leader, CallBody::Admin(region_id, None, action));
        self.transfers.insert(call, region_id);
    }

    /// Asks placement to change a region's peers: it goes on without one of its voters, on another store or (until placement
    /// repairs that) on one store less; or it gets a learner, or loses one, or the learner votes.
    pub fn move_peer(&mut self, world: &mut World, region_id: RegionId) {
        let Some((_, picture)) = world.leader_of(region_id) else { return };
        let Some(region) = &picture.region else { return };
        if region.peers.len() < 3 {
            return;
        }
        let (learners, voters): (Vec<&Peer>, Vec<&Peer>) =
            region.peers.iter().partition(|peer| peer.role == PeerRole::Learner);
        let others: Vec<_> =
            world.stores().into_iter().filter(|id| region.find_peer_on(*id).is_none()).collect();
        let change = match learners.first() {
            Some(learner) if self.rng.happens(300) => RegionChange::PromoteLearner(learner.store_id),
            Some(learner) if self.rng.happens(300) => RegionChange::RemovePeer(learner.store_id),
            None if !others.is_empty() && self.rng.happens(300) => {
                RegionChange::AddLearner(self.rng.pick(&others))
            }
            Some(_) | None => {
                let mut store_ids: Vec<_> = voters.iter().map(|peer| peer.store_id).collect();
                let leaves = self.rng.pick(&store_ids);
                store_ids.retain(|id| *id != leaves);
                if !others.is_empty() && self.rng.happens(700) {
                    store_ids.push(self.rng.pick(&others));
                }
                RegionChange::SetStores(store_ids)
            }
        };
        let hosts: Vec<_> = world.hosts().collect();
        let request = ChangeRequest::new(region_id, change.clone());
        let body = CallBody::Placement(PlacementCall::ChangeRegion(request));
        let call = world.call(Site::Operator, self.rng.pick(&hosts), body);
        self.moves.insert(call, change);
    }

    /// An answer has come.
    pub fn on_answer(&mut self, world: &mut World, answered: Answered) -> Result<(), Violation> {
        if let Some(before) = self.asked_behind.remove(&answered.id) {
            return self.on_timestamp(before, &answered.body);
        }
        if self.transfers.remove(&answered.id).is_some() {
            self.transfer_count += u64::from(answered.body == AnswerBody::Admin(Ok(())));
            return Ok(());
        }
        if let Some(change) = self.moves.remove(&answered.id) {
            let is_begun =
                matches!(answered.body, AnswerBody::Placement(Ok(PlacementAnswer::OperationStarted { .. })));
            self.move_count += u64::from(is_begun);
            let is_learner = matches!(change, RegionChange::AddLearner(_) | RegionChange::PromoteLearner(_));
            self.learner_count += u64::from(is_begun && is_learner);
            return Ok(());
        }
        if self.splits.on_answer(world, answered.id, &answered.body)? {
            return Ok(());
        }
        let Some(host) = self.joining.remove(&answered.id) else { return Ok(()) };
        if let AnswerBody::Placement(Ok(PlacementAnswer::Registered { store_id, settings, stores })) =
            answered.body
            && !world.has_origin(host)
        {
            world.found(host, Origin::Join(settings.cluster_id, store_id), stores);
        }
        Ok(())
    }

    /// A timestamp is above every one that had been received when it was asked for (D8).
    fn on_timestamp(&mut self, before: u64, body: &AnswerBody) -> Result<(), Violation> {
        let AnswerBody::Placement(Ok(PlacementAnswer::Timestamp(timestamp))) = body else { return Ok(()) };
        let after = timestamp.version();
        if after <= before {
            return Err(Violation::TimestampWentBack { before, after });
        }
        self.last_timestamp = self.last_timestamp.max(after);
        self.timestamp_count += 1;
        Ok(())
    }
}
