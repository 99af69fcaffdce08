//! Operations at the host: begun for the scheduler or an operator, told to leaders as goals, ended when a leader reports
//! the goal, or when they cannot go on.

use actor::Now;
use std::collections::BTreeMap;
use types::{Peer, PeerId, PeerRole, Region, RegionId, StoreId};

use super::{Effect, HostConfig, serving::Serving, soft::Soft, transact::Ending};
use crate::core::{
    api::{Error, OperationPicture, OperationState},
    limits::OPERATIONS_RUNNING_MAX,
    operation::{Goal, Operation},
    protocol::{ReportAnswer, Response},
    record::StoreState,
    scheduler::{Picture, StoreSummary, Wish, schedule},
};

impl Serving {
    /// Looks for what should be begun, if it is time to.
    pub(super) fn schedule(&mut self, now: Now, config: &HostConfig, soft: &Soft) {
        if self.timers.schedule_at > now.monotonic || self.in_flight.is_some() {
            return;
        }
        self.timers.on_scheduled(now);
        if !soft.is_complete(now, self.registry.records()) {
            // Whoever reports next makes it look again.
            return;
        }
        let wishes = schedule(self.picture(now, config, soft));
        for wish in wishes {
            match self.draft(now, &wish, soft) {
                Ok(Some(operation)) => self.waiting.drafts.push(operation),
                Ok(None) => {
                    // Ids come with the next transaction.
                    self.timers.schedule_at = now.monotonic;
                    break;
                }
                Err(error) => {
                    tracing::warn!(region = %wish.region_id, %error, "the scheduler's wish is refused")
                }
            }
        }
    }

    /// The operation that an operator asked for; `None` until there are ids for it.
    pub(super) fn draft_move(
        &mut self,
        now: Now,
        region_id: RegionId,
        store_ids: &[StoreId],
        soft: &Soft,
    ) -> Result<Option<Operation>, Error> {
        let mut store_ids = store_ids.to_vec();
        store_ids.sort_unstable();
        let has_twice = store_ids.windows(2).any(|pair| pair[0] == pair[1]);
        if store_ids.is_empty() || has_twice {
            return Err(Error::Invalid("name at least one store, and each store once".to_owned()));
        }
        for id in &store_ids {
            let record = self.registry.find(*id).ok_or(Error::StoreNotFound(*id))?;
            if record.state == StoreState::Removed {
                return Err(Error::StoreRemoved(*id));
            }
            if !soft.is_live(now, *id) {
                return Err(Error::Invalid(format!(
                    "store {id} has not been heard for a while: no peer can move there"
                )));
            }
        }
        if self.operations.running_count() + self.waiting.drafts.len() >= OPERATIONS_RUNNING_MAX {
            return Err(Error::Busy { reason: format!("{OPERATIONS_RUNNING_MAX} operations are running") });
        }
        self.draft(now, &Wish { region_id, store_ids }, soft)
    }

    /// Ends what is done, or cannot go on.
    pub(super) fn end_operations(&mut self, now: Now, soft: &Soft) {
        if self.in_flight.is_some() {
            return;
        }
        for operation in self.operations.running() {
            let region = self.find_region(soft, operation.region_id);
            let is_live = |id| soft.may_be_live(now, id);
            let (state, reason) = match region {
                Some(region) if operation.is_done(region) => (OperationState::Done, String::new()),
                Some(region) => match operation.find_lost_target(region, is_live) {
                    Some(id) if !is_joint(region) => {
                        (OperationState::Cancelled, format!("store {id} has not been heard for a while"))
                    }
                    Some(_) | None => continue,
                },
                // Its leader has not reported yet.
                None if operation.region_id == RegionId::PLACEMENT => continue,
                None => (OperationState::Cancelled, "the region is gone".to_owned()),
            };
            self.waiting.endings.push(Ending { id: operation.id, state, reason });
        }
    }

    /// Tells the goals of all running operations again: the region's leader may be a new one.
    pub(super) fn repeat_goals(&mut self, now: Now, soft: &Soft, effects: &mut Vec<Effect>) {
        if self.timers.repeat_goals_at > now.monotonic {
            return;
        }
        self.timers.on_goals_repeated(now);
        self.announce_again(soft, effects);
        let region_ids: Vec<RegionId> =
            self.operations.running().map(|operation| operation.region_id).collect();
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
    /// on by itself then), and every store of the goal is live.
    pub(super) fn goal_for(&self, now: Now, region_id: RegionId, soft: &Soft) -> Option<(StoreId, Goal)> {
        let operation = self.operations.find_by_region(region_id)?;
        let region = self.find_region(soft, region_id)?;
        let store_id = soft.leader_store(region)?;
        let is_possible = !is_joint(region)
            && !operation.is_done(region)
            && operation.peers.iter().all(|peer| soft.is_live(now, peer.store_id));
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

    fn picture_of(&self, now: Now, operation: &Operation, soft: &Soft) -> OperationPicture {
        let region = self.find_region(soft, operation.region_id);
        let reason = match region {
            None => "the region's leader has not reported yet".to_owned(),
            Some(region) if soft.leader_store(region).is_none() => {
                "the region has no known leader".to_owned()
            }
            Some(_) => match operation.peers.iter().find(|peer| !soft.is_live(now, peer.store_id)) {
                Some(peer) => format!("store {} has not been heard for a while", peer.store_id),
                None => String::new(),
            },
        };
        operation.picture(region, reason)
    }

    /// Makes an operation of a wish. `Ok(None)`: there are not enough ids; more are wanted from now on.
    fn draft(&mut self, now: Now, wish: &Wish, soft: &Soft) -> Result<Option<Operation>, Error> {
        let region = self.find_region(soft, wish.region_id).ok_or(Error::RegionNotFound(wish.region_id))?;
        let is_busy = self.operations.find_by_region(wish.region_id).is_some()
            || self.waiting.drafts.iter().any(|draft| draft.region_id == wish.region_id);
        if is_busy || is_joint(region) {
            return Err(Error::Busy { reason: format!("region {} is changing already", wish.region_id) });
        }
        let epoch = region.epoch;
        let existing: Vec<Option<Peer>> = wish.store_ids.iter().map(|id| region.find_peer_on(*id)).collect();
        let new_count = existing.iter().filter(|peer| peer.is_none()).count() as u64;
        let Some(first_id) = self.ids.own.take(new_count + 1) else {
            self.ids.is_short = true;
            return Ok(None);
        };
        let mut new_ids = first_id + 1..;
        let mut peers: Vec<Peer> = wish
            .store_ids
            .iter()
            .zip(existing)
            .map(|(store_id, peer)| Peer {
                id: peer.map_or_else(|| PeerId(new_ids.next().unwrap_or(0)), |peer| peer.id),
                store_id: *store_id,
                role: PeerRole::Voter,
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        Ok(Some(Operation { id: first_id, region_id: wish.region_id, peers, epoch, created: now.wall }))
    }

    fn picture<'a>(&'a self, now: Now, config: &HostConfig, soft: &'a Soft) -> Picture<'a> {
        let mut stores: BTreeMap<StoreId, StoreSummary> = self
            .registry
            .records()
            .map(|record| {
                let is_live = soft.is_live(now, record.id);
                (record.id, StoreSummary { is_live, state: record.state, ..StoreSummary::default() })
            })
            .collect();
        let all = self.directory.regions().chain(soft.placement_group.as_ref());
        for peer in all.flat_map(|region| &region.peers) {
            if let Some(store) = stores.get_mut(&peer.store_id) {
                store.peer_count += 1;
            }
        }
        let mut group_changing = None;
        for operation in self.operations.running() {
            if operation.region_id == RegionId::PLACEMENT {
                group_changing = Some(now.wall.0.saturating_sub(operation.created.0));
            }
            let region = self.find_region(soft, operation.region_id);
            for peer in &operation.peers {
                if region.is_none_or(|region| {
                    region.find_peer(peer.id).is_none_or(|peer| peer.role != PeerRole::Voter)
                }) && let Some(store) = stores.get_mut(&peer.store_id)
                {
                    store.arriving_count += 1;
                    // A learner is counted as a peer already.
                    store.peer_count +=
                        usize::from(region.is_none_or(|region| region.find_peer(peer.id).is_none()));
                }
            }
        }
        let is_free = |region: &&Region| self.operations.find_by_region(region.id).is_none();
        Picture {
            stores,
            placement_group: soft.placement_group.as_ref(),
            placement_group_changing: group_changing.map(std::time::Duration::from_millis),
            regions: self.directory.regions().filter(is_free).collect(),
            voter_count: self
                .settings
                .and_then(|settings| usize::try_from(settings.voter_count).ok())
                .unwrap_or(1),
            budget: OPERATIONS_RUNNING_MAX.saturating_sub(self.operations.running_count()),
            seed: config.seed,
        }
    }
}

fn is_joint(region: &Region) -> bool {
    region.configuration().is_joint()
}
