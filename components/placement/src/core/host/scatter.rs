//! Regions that somebody wants to be scattered: who waits for it, and what belongs together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use actor::Now;
use types::{Instant, Region, RegionId, StoreId};

use super::{serving::Serving, soft::Soft};
use crate::core::{
    api::{Error, PlacementAnswer, ScatterRequest},
    limits::{
        SCATTER_GROUP_BYTES_MAX, SCATTER_GROUP_KEPT, SCATTER_GROUP_REGIONS_MAX, SCATTER_GROUPS_MAX,
        SCATTER_REGIONS_MAX,
    },
    operation::{Aim, Operation},
    protocol::Caller,
    scheduler::{Scatter, Scattered, Tally},
};

/// Who waits for the scheduler's next look, and what it answered them.
#[derive(Debug, Default)]
pub(super) struct Scatters {
    waiting: VecDeque<(Caller, ScatterRequest)>,
    answers: Vec<(Caller, PlacementAnswer)>,
    groups: BTreeMap<String, Group>,
}

/// Regions that were named together of late. Whoever scatters one at a time wants them spread among each other.
#[derive(Debug, Default)]
struct Group {
    region_ids: BTreeSet<RegionId>,
    named_at: Instant,
}

impl Scatters {
    /// Somebody waits for the next look. One who asks again waits once.
    pub(super) fn add(&mut self, now: Now, caller: Caller, request: ScatterRequest) -> Result<(), Error> {
        let (count, bytes) = (request.region_ids.len(), request.group.len());
        if !(1..=SCATTER_REGIONS_MAX).contains(&count) {
            return Err(Error::Invalid(format!(
                "{count} regions cannot be scattered at once: name 1 to {SCATTER_REGIONS_MAX}"
            )));
        }
        if bytes > SCATTER_GROUP_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the name of a group has at most {SCATTER_GROUP_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        self.remember(now, &request);
        self.waiting.retain(|(waiting, _)| *waiting != caller);
        self.waiting.push_back((caller, request));
        Ok(())
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Everybody who waits.
    pub(super) fn callers(&self) -> impl Iterator<Item = Caller> {
        let waiting = self.waiting.iter().map(|(caller, _)| *caller);
        waiting.chain(self.answers.iter().map(|(caller, _)| *caller))
    }

    /// What the last look has answered.
    pub(super) fn take_answers(&mut self) -> Vec<(Caller, PlacementAnswer)> {
        std::mem::take(&mut self.answers)
    }

    fn remember(&mut self, now: Now, request: &ScatterRequest) {
        self.groups.retain(|_, group| now.monotonic.since(group.named_at) < SCATTER_GROUP_KEPT);
        if !self.groups.contains_key(&request.group) && self.groups.len() >= SCATTER_GROUPS_MAX {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.named_at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.groups.remove(&name);
            }
        }
        let group = self.groups.entry(request.group.clone()).or_default();
        group.named_at = now.monotonic;
        if group.region_ids.len() + request.region_ids.len() > SCATTER_GROUP_REGIONS_MAX {
            group.region_ids.clear();
        }
        group.region_ids.extend(&request.region_ids);
    }
}

impl Serving {
    /// What the next look shall scatter, group by group.
    pub(super) fn scatters(&self, soft: &Soft) -> Vec<Scatter> {
        let mut asked: BTreeMap<&str, BTreeSet<RegionId>> = BTreeMap::new();
        for (_, request) in &self.scatters.waiting {
            asked.entry(&request.group).or_default().extend(&request.region_ids);
        }
        let groups = asked.into_iter().map(|(name, region_ids)| {
            // Those whose operations run are where those will bring them.
            let is_free = |id: &RegionId| self.operations.find_by_region(*id).is_none();
            let (region_ids, busy): (BTreeSet<_>, BTreeSet<_>) = region_ids.into_iter().partition(is_free);
            let members = self.scatters.groups.get(name).into_iter().flat_map(|group| &group.region_ids);
            let others = members.filter(|id| !region_ids.contains(id)).chain(&busy);
            let others: BTreeSet<RegionId> = others.copied().collect();
            let mut tallies = BTreeMap::new();
            for region in others.iter().filter_map(|id| self.directory.find_by_id(*id)) {
                count(&mut tallies, region, self.operations.find_by_region(region.id), soft);
            }
            Scatter { region_ids, others: tallies }
        });
        groups.collect()
    }

    /// A look is over: whoever waits is told which of the regions are where they should be, or on their way.
    pub(super) fn answer_scatters(&mut self, scattered: &BTreeMap<RegionId, Scattered>) {
        for (caller, request) in std::mem::take(&mut self.scatters.waiting) {
            let is_begun = |id: &RegionId| {
                let draft = self.waiting.drafts.iter().find(|draft| draft.region_id == *id);
                let operation = self.operations.find_by_region(*id).or(draft);
                match operation.map(|operation| &operation.aim) {
                    Some(Aim::Scatter { .. }) => true,
                    Some(Aim::Peers(_) | Aim::Leader(_)) => false,
                    None => scattered.get(id) == Some(&Scattered::Settled),
                }
            };
            let (known, missing): (Vec<_>, Vec<_>) =
                request.region_ids.into_iter().partition(|id| self.directory.find_by_id(*id).is_some());
            let begun = known.into_iter().filter(is_begun).collect();
            self.scatters.answers.push((caller, PlacementAnswer::Scattered { begun, missing }));
        }
    }
}

/// Counts a region of a group as it will be when its operation has ended.
fn count(
    tallies: &mut BTreeMap<StoreId, Tally>,
    region: &Region,
    operation: Option<&Operation>,
    soft: &Soft,
) {
    let aim = operation.map(|operation| &operation.aim);
    for peer in aim.and_then(Aim::peers).unwrap_or(&region.peers) {
        tallies.entry(peer.store_id).or_default().peer_count += 1;
    }
    let leader = aim.and_then(Aim::leader).map(|peer| peer.store_id);
    if let Some(id) = leader.or_else(|| soft.leader_store(region)) {
        tallies.entry(id).or_default().leader_count += 1;
    }
}
