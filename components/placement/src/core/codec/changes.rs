//! Changes of regions that somebody asks for.

use std::time::Duration;

use proto::{convert, placement as wire};
use types::{Epoch, RegionId, StoreId};

use super::{Error, Result, unknown};
use crate::core::api::{ChangeRequest, RegionChange, SplitAt, SplitRequest};

pub(super) fn change_to(request: ChangeRequest) -> wire::StartOperation {
    use wire::ChangeKind as Kind;
    let (kind, store_ids) = match request.change {
        RegionChange::SetStores(store_ids) => (Kind::SetStores, store_ids),
        RegionChange::AddPeer(store_id) => (Kind::AddPeer, vec![store_id]),
        RegionChange::RemovePeer(store_id) => (Kind::RemovePeer, vec![store_id]),
        RegionChange::MovePeer { from, to } => (Kind::MovePeer, vec![from, to]),
        RegionChange::AddLearner(store_id) => (Kind::AddLearner, vec![store_id]),
        RegionChange::PromoteLearner(store_id) => (Kind::PromoteLearner, vec![store_id]),
        RegionChange::TransferLeader(store_id) => (Kind::TransferLeader, vec![store_id]),
    };
    let deadline = |deadline: Duration| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).max(1);
    wire::StartOperation {
        region_id: request.region_id.0,
        kind: kind.into(),
        store_ids: store_ids.into_iter().map(|id| id.0).collect(),
        epoch: request.epoch.map(Into::into),
        change_id: request.change_id,
        deadline_millis: request.deadline.map_or(0, deadline),
    }
}

pub(super) fn change_from(start: wire::StartOperation) -> Result<ChangeRequest> {
    use wire::ChangeKind as Kind;
    let store_ids: Vec<StoreId> = start.store_ids.iter().map(|id| StoreId(*id)).collect();
    let one = || match store_ids.as_slice() {
        [id] => Ok(*id),
        _ => Err(wrong_stores()),
    };
    let change = match Kind::try_from(start.kind) {
        Ok(Kind::SetStores) => RegionChange::SetStores(store_ids),
        Ok(Kind::AddPeer) => RegionChange::AddPeer(one()?),
        Ok(Kind::RemovePeer) => RegionChange::RemovePeer(one()?),
        Ok(Kind::MovePeer) => match store_ids.as_slice() {
            [from, to] => RegionChange::MovePeer { from: *from, to: *to },
            _ => return Err(wrong_stores()),
        },
        Ok(Kind::AddLearner) => RegionChange::AddLearner(one()?),
        Ok(Kind::PromoteLearner) => RegionChange::PromoteLearner(one()?),
        Ok(Kind::TransferLeader) => RegionChange::TransferLeader(one()?),
        Ok(Kind::Unspecified) | Err(_) => return Err(unknown("StartOperation", "kind", start.kind)),
    };
    Ok(ChangeRequest {
        region_id: RegionId(start.region_id),
        change,
        epoch: start.epoch.map(Epoch::from),
        change_id: start.change_id,
        deadline: (start.deadline_millis != 0).then(|| Duration::from_millis(start.deadline_millis)),
    })
}

pub(super) fn split_to(request: SplitRequest) -> wire::SplitRegion {
    let (keys, is_at_middle, part_count) = match request.at {
        SplitAt::Keys(keys) => (keys, false, 0),
        SplitAt::Middle => (Vec::new(), true, 0),
        SplitAt::Parts(count) => (Vec::new(), false, count),
    };
    wire::SplitRegion {
        region_id: request.region_id.0,
        keys,
        is_at_middle,
        part_count,
        epoch: request.epoch.map(Into::into),
        change_id: request.change_id,
        first_leader_store_id: request.first_leader.map_or(0, |id| id.0),
    }
}

pub(super) fn split_from(split: wire::SplitRegion) -> Result<SplitRequest> {
    let at = match (split.keys, split.is_at_middle, split.part_count) {
        (keys, false, 0) => SplitAt::Keys(keys),
        (keys, true, 0) if keys.is_empty() => SplitAt::Middle,
        (keys, false, count) if keys.is_empty() => SplitAt::Parts(count),
        _ => {
            let reason = "it says in two ways where";
            return Err(Error::Inconsistent { message: "SplitRegion", reason });
        }
    };
    Ok(SplitRequest {
        region_id: RegionId(split.region_id),
        at,
        epoch: split.epoch.map(Epoch::from),
        change_id: convert::non_zero(split.change_id, "SplitRegion", "change_id")?,
        first_leader: (split.first_leader_store_id != 0).then_some(StoreId(split.first_leader_store_id)),
    })
}

fn wrong_stores() -> Error {
    Error::Inconsistent { message: "StartOperation", reason: "it names too few stores or too many" }
}
