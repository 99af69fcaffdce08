//! Operations at the host: begun for the scheduler, told to leaders as goals, ended when a leader reports the goal, or
//! when they cannot go on.

use std::collections::BTreeMap;

use actor::Now;
use telemetry::names;
use types::{Peer, PeerId, PeerRole, Region, RegionId, StoreId, WallTime};

use super::{Effect, HostConfig, serving::Serving, soft::Soft, transact::Ending};
use crate::core::{
    api::{Error, OperationPicture, OperationState},
    limits::{
        OPERATION_DEADLINE, OPERATION_STALLED_AFTER, OPERATIONS_RUNNING_MAX, STORE_FULL_BELOW_PERCENT,
        TRANSFER_DEADLINE,
    },
    operation::{Aim, Goal, OVERTAKEN, Operation, Seen},
    protocol::{ReportAnswer, Response},
    record::StoreState,
    scheduler::{Picture, RegionSummary, StoreSummary, Wish, WishAim, plan},
};

impl Serving {
    /// Looks for what should be begun, if it is time to.
    pub(super) fn schedule(&mut self, now: Now, config: &HostConfig, soft: &Soft) {
        if !self.timers.is_schedule_due(now) || self.in_flight.is_some() {
            return;
        }
        self.timers.on_scheduled(now, self.directory.regions().len());
        if !soft.is_complete(now, self.registry.records()) {
            // Whoever reports next makes it look again.
            return;
        }
        let (wishes, scattered) = plan(self.picture(now, config, soft), self.scatters(soft));
        for wish in wishes {
            match self.draft(now, &wish, 0, None, soft) {
                Ok(Some(operation)) => self.waiting.drafts.push(operation),
                Ok(None) => {
                    // Ids come with the next transaction.
                    self.timers.schedule_soon(now);
                    break;
                }
                Err(error) => {
                    tracing::warn!(region = %wish.region_id, %error, "the scheduler's wish is refused")
                }
            }
        }
        self.answer_scatters(&scattered);
    }

    /// Ends what is done, or cannot go on.
    pub(super) fn end_operations(&mut self, now: Now, soft: &mut Soft) {
        if self.in_flight.is_some() {
            return;
        }
        metrics::gauge!(names::PLACEMENT_OPERATIONS_RUNNING).set(self.operations.running_count() as f64);
        for operation in self.operations.running() {
            let region = match operation.region_id {
                RegionId::PLACEMENT => soft.placement_group.clone(),
                id => self.directory.find_by_id(id).cloned(),
            };
            let ended = match region {
                Some(region) => how_ended(now, operation, &region, soft),
                // Its leader has not reported yet.
                None if operation.region_id == RegionId::PLACEMENT => None,
                None => Some((OperationState::Failed, "the region is gone".to_owned())),
            };
            if let Some((state, reason)) = ended {
                self.waiting.endings.push(Ending { id: operation.id, state, reason });
            }
        }
    }

    /// Tells the goals of all running operations again, and to stop where one was given up: what was told may have been
    /// lost, and the region's leader may be a new one.
    pub(super) fn repeat_goals(&mut self, now: Now, soft: &mut Soft, effects: &mut Vec<Effect>) {
        if self.timers.repeat_goals_at > now.monotonic {
            return;
        }
        self.timers.on_goals_repeated(now);
        self.announce_again(soft, effects);
        soft.forget_stopped(now);
        let running = self.operations.running().map(|operation| operation.region_id);
        let region_ids: Vec<RegionId> = running.chain(soft.stopped()).collect();
        self.push_goals(now, &region_ids, soft, effects);
    }

    /// Tells the leaders of these regions what they should become.
    pub(super) fn push_goals(
        &self,
        now: Now,
        region_ids: &[RegionId],
        soft: &Soft,
        effects: &mut Vec<Effect>,
    ) {
        let mut by_store: BTreeMap<StoreId, Vec<Goal>> = BTreeMap::new();
        for (store_id, goal) in region_ids.iter().filter_map(|id| self.goal_for(now, *id, soft)) {
            by_store.entry(store_id).or_default().push(goal);
        }
        for (store_id, goals) in by_store {
            let answer = ReportAnswer { placement_term: self.term, goals, ..ReportAnswer::default() };
            effects.push(Effect::Push(store_id, Response::Report(Box::new(answer))));
        }
    }

    /// The goal for a region's leader, and where that is: if the region has an operation, is not joint (its leader goes
    /// on by itself then), and every store of the goal is live. Without an operation, and where one was given up lately:
    /// to stay as it is, under that one's name.
    pub(super) fn goal_for(&self, now: Now, region_id: RegionId, soft: &Soft) -> Option<(StoreId, Goal)> {
        let region = self.find_region(soft, region_id)?;
        let store_id = soft.leader_store(region)?;
        if is_joint(region) {
            return None;
        }
        let Some(operation) = self.operations.find_by_region(region_id) else {
            let operation_id = soft.stopped_change(now, region_id)?;
            let goal = Goal {
                region_id,
                epoch: region.epoch,
                peers: region.peers.clone(),
                leader: None,
                operation_id,
                placement_term: self.term,
            };
            return Some((store_id, goal));
        };
        let is_possible = !operation.is_done(region, soft.seen(region))
            && !operation.is_overtaken(region)
            && operation.store_ids().all(|store_id| soft.is_live(now, store_id));
        is_possible.then(|| (store_id, operation.goal(region, self.term)))
    }

    pub(super) fn operation_of(
        &self,
        now: Now,
        region_id: RegionId,
        soft: &Soft,
    ) -> Option<OperationPicture> {
        match self.operations.find_by_region(region_id) {
            Some(operation) => Some(self.picture_of(now, operation, soft)),
            None => self.operations.ended().rev().find(|picture| picture.region_id == region_id).cloned(),
        }
    }

    pub(super) fn all_operations(&self, now: Now, soft: &Soft) -> Vec<OperationPicture> {
        let running = self.operations.running().map(|operation| self.picture_of(now, operation, soft));
        let mut all: Vec<_> = self.operations.ended().cloned().chain(running).collect();
        all.sort_unstable_by_key(|picture| picture.id);
        all
    }

    pub(super) fn picture_of(&self, now: Now, operation: &Operation, soft: &Soft) -> OperationPicture {
        let Some(region) = self.find_region(soft, operation.region_id) else {
            let reason = "the region's leader has not reported yet".to_owned();
            let picture = operation.picture(now.wall, None, Seen::default());
            return OperationPicture { reason, ..picture };
        };
        let picture = operation.picture(now.wall, Some(region), soft.seen(region));
        match operation.store_ids().find(|store_id| !soft.is_live(now, *store_id)) {
            Some(id) => {
                OperationPicture { reason: format!("store {id} has not been heard for a while"), ..picture }
            }
            None => picture,
        }
    }

    /// Makes an operation of a wish. `Ok(None)`: there are not enough ids; more are wanted from now on.
    pub(super) fn draft(
        &mut self,
        now: Now,
        wish: &Wish,
        change_id: u64,
        time: Option<std::time::Duration>,
        soft: &Soft,
    ) -> Result<Option<Operation>, Error> {
        let region = self.find_region(soft, wish.region_id).ok_or(Error::RegionNotFound(wish.region_id))?;
        self.check_free(now, region, soft)?;
        let region = region.clone();
        let own_id = u64::from(change_id == 0);
        let (aim, default_time) = match &wish.aim {
            WishAim::Voters(_) | WishAim::Learners(_) | WishAim::Scatter { .. } => {
                let wanted = self.wanted_roles(now, &wish.aim, &region, soft);
                let is_new = |(id, _): &&(StoreId, PeerRole)| region.find_peer_on(*id).is_none();
                let new_count = wanted.iter().filter(is_new).count() as u64;
                let Some(first_id) = self.take_ids(new_count + own_id) else { return Ok(None) };
                let mut new_ids = first_id..;
                let id = if change_id == 0 { new_ids.next().unwrap_or(0) } else { change_id };
                let peers = peers_of(&wanted, &region, new_ids);
                ((id, aim_of(&wish.aim, peers)), OPERATION_DEADLINE)
            }
            WishAim::Leader(store_id) => {
                let peer = region.find_peer_on(*store_id).ok_or_else(|| no_peer(region.id, *store_id))?;
                let Some(first_id) = self.take_ids(own_id) else { return Ok(None) };
                let id = if change_id == 0 { first_id } else { change_id };
                ((id, Aim::Leader(peer)), TRANSFER_DEADLINE)
            }
        };
        let time_ms = u64::try_from(time.unwrap_or(default_time).as_millis()).unwrap_or(u64::MAX);
        Ok(Some(Operation {
            id: aim.0,
            region_id: region.id,
            aim: aim.1,
            epoch: region.epoch,
            created: now.wall,
            deadline: WallTime(now.wall.0.saturating_add(time_ms)),
        }))
    }

    /// The learners of a region that somebody wants, but those on stores that shall be empty.
    pub(super) fn wanted_learners<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = Peer> + 'a {
        let is_kept = |peer: &Peer| {
            let record = self.registry.find(peer.store_id);
            region.peers.contains(peer) && record.is_some_and(|record| record.state == StoreState::Up)
        };
        self.operations.wanted_learners(region.id).filter(is_kept)
    }

    /// Which stores shall have a peer of the region, and in which role. A learner on a silent store goes: nothing waits for
    /// it.
    fn wanted_roles(
        &self,
        now: Now,
        aim: &WishAim,
        region: &Region,
        soft: &Soft,
    ) -> Vec<(StoreId, PeerRole)> {
        let voters: Vec<StoreId> = match aim {
            WishAim::Voters(ids) | WishAim::Scatter { voters: ids, .. } => ids.clone(),
            WishAim::Learners(_) | WishAim::Leader(_) => {
                let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
                voters.map(|peer| peer.store_id).collect()
            }
        };
        let learners: Vec<StoreId> = match aim {
            WishAim::Learners(ids) => ids.clone(),
            WishAim::Voters(_) | WishAim::Scatter { .. } | WishAim::Leader(_) => {
                let staying = self.wanted_learners(region).map(|peer| peer.store_id);
                staying.filter(|id| !voters.contains(id) && soft.is_live(now, *id)).collect()
            }
        };
        let voters = voters.into_iter().map(|id| (id, PeerRole::Voter));
        voters.chain(learners.into_iter().map(|id| (id, PeerRole::Learner))).collect()
    }

    /// Refuses a region that is changing.
    pub(super) fn check_free(&self, now: Now, region: &Region, soft: &Soft) -> Result<(), Error> {
        let draft = self.waiting.drafts.iter().find(|draft| draft.region_id == region.id);
        if let Some(operation) = self.operations.find_by_region(region.id).or(draft) {
            return Err(Error::Changing {
                region_id: region.id,
                operation_id: operation.id,
                stage: self.picture_of(now, operation, soft).reason,
            });
        }
        if is_joint(region) {
            return Err(Error::Busy {
                reason: format!("region {} is leaving a joint configuration", region.id),
            });
        }
        Ok(())
    }

    /// Whether nearly nothing is free on a store's device.
    pub(super) fn is_full(soft: &Soft, id: StoreId) -> bool {
        soft.stores.get(&id).is_some_and(|store| {
            let load = store.load;
            load.capacity_bytes > 0
                && u128::from(load.available_bytes) * 100
                    < u128::from(load.capacity_bytes) * u128::from(STORE_FULL_BELOW_PERCENT)
        })
    }

    fn take_ids(&mut self, count: u64) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        let first_id = self.ids.own.take(count);
        self.ids.is_short |= first_id.is_none();
        first_id
    }

    fn picture<'a>(&'a self, now: Now, config: &HostConfig, soft: &'a Soft) -> Picture<'a> {
        let summary = |id: StoreId, state| StoreSummary {
            is_live: soft.is_live(now, id),
            is_full: Self::is_full(soft, id),
            state,
            ..StoreSummary::default()
        };
        let mut stores: BTreeMap<StoreId, StoreSummary> =
            self.registry.records().map(|record| (record.id, summary(record.id, record.state))).collect();
        for region in self.directory.regions().chain(soft.placement_group.as_ref()) {
            count_region(&mut stores, region, self.operations.find_by_region(region.id), soft);
        }
        let group_operation = self.operations.find_by_region(RegionId::PLACEMENT);
        let group_changing = group_operation.map(|operation| now.wall.0.saturating_sub(operation.created.0));
        let is_free = |region: &&Region| self.operations.find_by_region(region.id).is_none();
        let is_transfer = |operation: &&Operation| match &operation.aim {
            Aim::Leader(_) => true,
            Aim::Peers(_) => false,
            Aim::Scatter { peers, .. } => {
                let region = self.directory.find_by_id(operation.region_id);
                region.is_some_and(|region| region.peers == *peers)
            }
        };
        let transfers = self.operations.running().filter(is_transfer);
        let settings = self.settings;
        let has_learners = |region: &&Region| region.peers.iter().any(|peer| peer.role == PeerRole::Learner);
        let regions = self.directory.regions().chain(soft.placement_group.as_ref()).filter(has_learners);
        let wanted_learners =
            regions.flat_map(|region| self.wanted_learners(region).map(|peer| peer.id)).collect();
        Picture {
            stores,
            placement_group: soft.placement_group.as_ref(),
            placement_group_changing: group_changing.map(std::time::Duration::from_millis),
            regions: self
                .directory
                .regions()
                .filter(is_free)
                .map(|region| RegionSummary {
                    region,
                    leader: soft.leader_store(region),
                    is_healthy: soft.is_healthy(region),
                    size_bytes: soft.size(region.id).map(|size| size.size_bytes),
                })
                .collect(),
            wanted_learners,
            voter_count: settings
                .and_then(|settings| usize::try_from(settings.voter_count).ok())
                .unwrap_or(1),
            is_balancing: settings.is_some_and(|settings| settings.is_balancing),
            budget: OPERATIONS_RUNNING_MAX.saturating_sub(self.operations.running_count()),
            transfers_running: transfers.count(),
            seed: config.seed,
        }
    }
}

/// How an operation ends, if it does now.
fn how_ended(
    now: Now,
    operation: &Operation,
    region: &Region,
    soft: &mut Soft,
) -> Option<(OperationState, String)> {
    let seen = soft.seen(region);
    if operation.is_done(region, seen) {
        return Some((OperationState::Done, String::new()));
    }
    let progress = (operation.progress_percent(Some(region), seen), region.epoch);
    let stage = operation.stage(region, seen);
    let since = soft.note_progress(now, operation.id, progress);
    if is_joint(region) {
        return None;
    }
    let reason = if operation.is_overtaken(region) {
        OVERTAKEN.to_owned()
    } else if let Some(id) = operation.find_lost_target(region, |id| soft.may_be_live(now, id)) {
        format!("store {id} has not been heard for a while, or has no voter any more")
    } else if now.wall >= operation.deadline {
        format!("its time is over: {stage}")
    } else if now.monotonic.since(since) >= OPERATION_STALLED_AFTER {
        format!("nothing has happened for {OPERATION_STALLED_AFTER:?}: {stage}")
    } else {
        return None;
    };
    Some((OperationState::Failed, reason))
}

/// Counts a region for its stores as it will be when its operation has ended.
fn count_region(
    stores: &mut BTreeMap<StoreId, StoreSummary>,
    region: &Region,
    operation: Option<&Operation>,
    soft: &Soft,
) {
    let goal_leader = operation.and_then(|operation| operation.aim.leader());
    let leader = goal_leader.map(|peer| peer.store_id).or_else(|| soft.leader_store(region));
    if region.id != RegionId::PLACEMENT
        && let Some(store) = leader.and_then(|id| stores.get_mut(&id))
    {
        store.leader_count += 1;
    }
    let aim = operation.and_then(|operation| operation.aim.peers()).unwrap_or(&region.peers);
    let size = soft.size(region.id).filter(|_| region.id != RegionId::PLACEMENT).unwrap_or_default();
    for peer in aim {
        if let Some(store) = stores.get_mut(&peer.store_id) {
            store.peer_count += 1;
            store.size_bytes = store.size_bytes.saturating_add(size.size_bytes);
            store.arriving_count += usize::from(!region.peers.contains(peer) && operation.is_some());
        }
    }
    for peer in &region.peers {
        let is_leaving = aim.iter().all(|other| other.id != peer.id);
        if let Some(store) = stores.get_mut(&peer.store_id).filter(|_| is_leaving) {
            store.leaving_count += 1;
        }
    }
}

/// A wish for peers, once they have ids.
fn aim_of(wish: &WishAim, peers: Vec<Peer>) -> Aim {
    let leader = match wish {
        WishAim::Voters(_) | WishAim::Learners(_) | WishAim::Leader(_) => None,
        WishAim::Scatter { leader, .. } => peers.iter().find(|peer| peer.store_id == *leader).copied(),
    };
    match leader {
        Some(leader) => Aim::Scatter { peers, leader },
        None => Aim::Peers(peers),
    }
}

/// The peers on these stores: those that the region has there, and new ones.
fn peers_of(
    wanted: &[(StoreId, PeerRole)],
    region: &Region,
    mut new_ids: impl Iterator<Item = u64>,
) -> Vec<Peer> {
    let mut peer = |(store_id, role): &(StoreId, PeerRole)| {
        let existing = region.find_peer_on(*store_id).map(|peer| peer.id);
        let id = existing.unwrap_or_else(|| PeerId(new_ids.next().unwrap_or(0)));
        Peer { id, store_id: *store_id, role: *role }
    };
    let mut peers: Vec<Peer> = wanted.iter().map(&mut peer).collect();
    peers.sort_unstable_by_key(|peer| peer.id);
    peers
}

pub(super) fn no_peer(region_id: RegionId, store_id: StoreId) -> Error {
    Error::Invalid(format!("region {region_id} has no peer on store {store_id}"))
}

fn is_joint(region: &Region) -> bool {
    region.configuration().is_joint()
}
