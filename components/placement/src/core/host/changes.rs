//! Changes that operators ask for: checked against the region as it is, made into operations.

use actor::Now;
use types::{PeerRole, Region, StoreId};

use super::{operations::no_peer, serving::Serving, soft::Soft};
use crate::core::{
    api::{ChangeRequest, Error, RegionChange},
    limits::OPERATIONS_RUNNING_MAX,
    operation::Operation,
    record::StoreState,
    scheduler::{Wish, WishAim},
};

impl Serving {
    /// Whether a request names a change that runs or has run: it is that one, whatever else it says.
    pub(super) fn is_known_change(&self, request: &ChangeRequest) -> bool {
        request.change_id != 0 && self.operations.is_known(request.change_id)
    }

    /// The operation that somebody asked for; `None` until there are ids for it.
    pub(super) fn draft_change(
        &mut self,
        now: Now,
        request: &ChangeRequest,
        soft: &Soft,
    ) -> Result<Option<Operation>, Error> {
        let region_id = request.region_id;
        let region = self.find_region(soft, region_id).ok_or(Error::RegionNotFound(region_id))?;
        if request.change_id >= self.ids.next_row {
            return Err(Error::Invalid(format!(
                "{} was never given out as an id: ask for one",
                request.change_id
            )));
        }
        if request.epoch.is_some_and(|epoch| epoch != region.epoch) {
            return Err(Error::EpochNotMatch { region_id, current: region.epoch });
        }
        self.check_free(now, region, soft)?;
        let aim = self.resolve(now, region, &request.change, soft)?;
        if self.operations.running_count() + self.waiting.drafts.len() >= OPERATIONS_RUNNING_MAX {
            return Err(Error::Busy { reason: format!("{OPERATIONS_RUNNING_MAX} operations are running") });
        }
        self.draft(now, &Wish { region_id, aim }, request.change_id, request.deadline, soft)
    }

    /// What a change means for the region as it is.
    fn resolve(
        &self,
        now: Now,
        region: &Region,
        change: &RegionChange,
        soft: &Soft,
    ) -> Result<WishAim, Error> {
        let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let mut store_ids: Vec<StoreId> = voters.map(|peer| peer.store_id).collect();
        match change {
            RegionChange::SetStores(wanted) => store_ids.clone_from(wanted),
            RegionChange::AddPeer(id) => {
                check_none(region, *id)?;
                store_ids.push(*id);
            }
            RegionChange::RemovePeer(id) => {
                let peer = region.find_peer_on(*id).ok_or_else(|| no_peer(region.id, *id))?;
                if peer.role == PeerRole::Learner {
                    let others = self.wanted_learners(region).filter(|other| *other != peer);
                    return Ok(learners_on(others.map(|other| other.store_id)));
                }
                store_ids.retain(|store_id| store_id != id);
            }
            RegionChange::AddLearner(id) => {
                check_none(region, *id)?;
                self.check_stores(now, region, &[*id], soft)?;
                let others = self.wanted_learners(region).map(|other| other.store_id);
                return Ok(learners_on(others.chain([*id])));
            }
            RegionChange::MovePeer { from, to } => {
                region.find_peer_on(*from).ok_or_else(|| no_peer(region.id, *from))?;
                check_none(region, *to)?;
                store_ids.retain(|store_id| store_id != from);
                store_ids.push(*to);
            }
            RegionChange::PromoteLearner(id) => {
                let peer = region.find_peer_on(*id).ok_or_else(|| no_peer(region.id, *id))?;
                if peer.role != PeerRole::Learner {
                    return Err(Error::Invalid(format!("the peer on store {id} is no learner")));
                }
                store_ids.push(*id);
            }
            RegionChange::TransferLeader(id) => {
                let peer = region.find_peer_on(*id).ok_or_else(|| no_peer(region.id, *id))?;
                if peer.role != PeerRole::Voter {
                    return Err(Error::Invalid(format!("the peer on store {id} does not vote")));
                }
                self.check_live(now, *id, soft)?;
                return Ok(WishAim::Leader(*id));
            }
        }
        store_ids.sort_unstable();
        self.check_stores(now, region, &store_ids, soft)?;
        Ok(WishAim::Voters(store_ids))
    }

    fn check_stores(&self, now: Now, region: &Region, ids: &[StoreId], soft: &Soft) -> Result<(), Error> {
        let has_twice = ids.windows(2).any(|pair| pair[0] == pair[1]);
        if ids.is_empty() || has_twice {
            return Err(Error::Invalid(
                "a region needs at least one voter, and not two on one store".to_owned(),
            ));
        }
        for id in ids {
            self.check_live(now, *id, soft)?;
            if region.find_peer_on(*id).is_some() {
                continue;
            }
            let is_draining = self.registry.find(*id).is_some_and(|row| row.state == StoreState::Draining);
            if is_draining {
                return Err(Error::Invalid(format!("store {id} is being drained: it gets no peers")));
            }
            if Self::is_full(soft, *id) {
                return Err(Error::Invalid(format!("store {id} is full: it gets no peers")));
            }
        }
        Ok(())
    }

    fn check_live(&self, now: Now, id: StoreId, soft: &Soft) -> Result<(), Error> {
        let record = self.registry.find(id).ok_or(Error::StoreNotFound(id))?;
        if record.state == StoreState::Removed {
            return Err(Error::StoreRemoved(id));
        }
        if soft.is_live(now, id) {
            return Ok(());
        }
        Err(Error::Invalid(format!("store {id} has not been heard for a while: nothing can move there")))
    }
}

fn learners_on(stores: impl Iterator<Item = StoreId>) -> WishAim {
    let mut ids: Vec<StoreId> = stores.collect();
    ids.sort_unstable();
    WishAim::Learners(ids)
}

fn check_none(region: &Region, id: StoreId) -> Result<(), Error> {
    match region.find_peer_on(id) {
        None => Ok(()),
        Some(peer) => {
            Err(Error::Invalid(format!("region {} has peer {} on store {id} already", region.id, peer.id)))
        }
    }
}
