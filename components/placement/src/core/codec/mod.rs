//! Rows and messages as bytes: the only file of this crate that knows protobuf. Input from disk and network is checked
//! here, once; what is malformed is an [`Error`].

mod changes;
mod rows;

use bytes::Bytes;
use proto::{Message, convert, placement as wire};
use types::{KeyRange, Peer, PeerId, Region, RegionId, RegionSize, StoreId, Term, WallTime};

use super::{
    api::{self, OperationPicture, PlacementAnswer, PlacementCall, RegionRoute, ScatterRequest, Timestamp},
    operation::Goal,
    protocol::{LeaderReport, LonelyPeer, ReportAnswer, Request, Response, StoreReport},
    record::{StoreLoad, StorePicture},
};

use self::changes::{change_from, change_to, split_from, split_to};
pub use self::rows::{
    decode_operation, decode_region, decode_settings, decode_store, encode_operation, encode_region,
    encode_settings, encode_store,
};
use self::rows::{
    operation_from, operation_to, record_from, settings_from, settings_to, state_from, state_to, store_from,
    store_to,
};
pub use proto::convert::Error;

type Result<T> = std::result::Result<T, Error>;

/// The body of a message to the host.
#[must_use]
pub fn encode_request(request: Request) -> Bytes {
    let request = match request {
        Request::Call(call) => call_to(call),
        Request::Report(report) => wire::request::Request::StoreReport(report_to(*report)),
        Request::Split(request) => wire::request::Request::SplitRegion(split_to(request)),
    };
    wire::Request { is_forwarded: true, request: Some(request) }.encode_to_vec().into()
}

/// What a message to the host says.
pub fn decode_request(body: Bytes) -> Result<Request> {
    use wire::request::Request as Wire;
    let request = convert::required(wire::Request::decode(body)?.request, "Request", "request")?;
    let call = match request {
        Wire::StoreReport(report) => return Ok(Request::Report(Box::new(report_from(report)?))),
        Wire::SplitRegion(split) => return Ok(Request::Split(split_from(split)?)),
        Wire::RegisterStore(register) => {
            let record = convert::required(register.store, "RegisterStore", "store")?;
            PlacementCall::RegisterStore { record: record_from(record)? }
        }
        Wire::AllocateIds(allocate) => PlacementCall::AllocateIds { count: allocate.count },
        Wire::AllocateTimestamps(allocate) => PlacementCall::Tso { count: allocate.count },
        Wire::GetRegion(get) => match convert::required(get.by, "GetRegion", "by")? {
            wire::get_region::By::Key(key) => PlacementCall::GetRegion { key },
            wire::get_region::By::PreviousToKey(key) => PlacementCall::GetPrevRegion { key },
            wire::get_region::By::Id(id) => PlacementCall::GetRegionById { region_id: RegionId(id) },
            wire::get_region::By::Awaited(wire::AwaitRegion { region_id, epoch }) => {
                PlacementCall::AwaitRegion { region_id: RegionId(region_id), epoch: epoch.map(Into::into) }
            }
        },
        Wire::ScanRegions(scan) => PlacementCall::ScanRegions {
            range: scan.range.map(KeyRange::from).unwrap_or_default(),
            limit: scan.limit,
        },
        Wire::GetStore(get) => PlacementCall::GetStore { store_id: StoreId(get.store_id) },
        Wire::GetAllStores(get) => PlacementCall::GetAllStores { is_without_removed: !get.has_removed },
        Wire::GetCluster(wire::GetCluster {}) => PlacementCall::ClusterInfo,
        Wire::StartOperation(start) => PlacementCall::ChangeRegion(change_from(start)?),
        Wire::ScatterRegions(scatter) => PlacementCall::ScatterRegions(ScatterRequest {
            region_ids: scatter.region_ids.into_iter().map(RegionId).collect(),
            group: scatter.group,
        }),
        Wire::SetStoreState(set) => {
            PlacementCall::SetStoreState { store_id: StoreId(set.store_id), state: state_from(set.state)? }
        }
        Wire::ChangeSettings(change) => PlacementCall::ChangeSettings { is_balancing: change.is_balancing },
        Wire::CancelOperation(cancel) => PlacementCall::CancelOperation { operation_id: cancel.operation_id },
        Wire::ListOperations(list) => match list.region_id {
            0 => PlacementCall::ListOperations,
            id => PlacementCall::GetOperation { region_id: RegionId(id) },
        },
        Wire::SplitReport(_) => return Err(unknown("Request", "request", 13)),
    };
    Ok(Request::Call(call))
}

/// The body of a message from the host.
#[must_use]
pub fn encode_response(response: Response) -> Bytes {
    use wire::response::Response as Wire;
    let response = match response {
        Response::Failed(error) => Wire::Error(error_to(error)),
        Response::Report(answer) => Wire::StoreReport(report_answer_to(*answer)),
        Response::Previous { previous, current } => Wire::GetRegion(wire::GetRegionResponse {
            region: previous.map(route_to),
            current: Some(route_to(*current)),
        }),
        Response::Answer(answer) => answer_to(answer),
    };
    wire::Response { response: Some(response) }.encode_to_vec().into()
}

/// What a message from the host says.
pub fn decode_response(body: Bytes) -> Result<Response> {
    use wire::response::Response as Wire;
    let response = convert::required(wire::Response::decode(body)?.response, "Response", "response")?;
    let answer = match response {
        Wire::Error(error) => return Ok(Response::Failed(error_from(error)?)),
        Wire::StoreReport(answer) => return Ok(Response::Report(Box::new(report_answer_from(answer)?))),
        Wire::GetRegion(wire::GetRegionResponse { region, current: Some(current) }) => {
            return Ok(Response::Previous {
                previous: region.map(route_from).transpose()?,
                current: Box::new(route_from(current)?),
            });
        }
        Wire::GetRegion(wire::GetRegionResponse { region, current: None }) => {
            PlacementAnswer::Region(region.map(route_from).transpose()?)
        }
        Wire::ScanRegions(scan) => PlacementAnswer::Regions(all(scan.regions, route_from)?),
        Wire::RegisterStore(registered) => PlacementAnswer::Registered {
            store_id: StoreId(convert::non_zero(registered.store_id, "RegisterStoreResponse", "store_id")?),
            settings: settings_from(convert::required(
                registered.settings,
                "RegisterStoreResponse",
                "settings",
            )?)?,
            stores: all(registered.stores, store_from)?,
        },
        Wire::AllocateIds(ids) => {
            let first_id = convert::non_zero(ids.first_id, "AllocateIdsResponse", "first_id")?;
            PlacementAnswer::Ids { first_id, count: ids.count }
        }
        Wire::AllocateTimestamps(given) => PlacementAnswer::Timestamp(Timestamp {
            physical_ms: given.physical_millis,
            logical: u32::try_from(given.logical).map_err(|_| Error::Inconsistent {
                message: "AllocateTimestampsResponse",
                reason: "its logical part is too large",
            })?,
        }),
        Wire::GetStore(get) => PlacementAnswer::Store(get.store.map(picture_from).transpose()?),
        Wire::GetAllStores(get) => PlacementAnswer::Stores(all(get.stores, picture_from)?),
        Wire::StartOperation(started) => {
            PlacementAnswer::OperationStarted { operation_id: started.operation_id }
        }
        Wire::CancelOperation(wire::CancelOperationResponse {}) => PlacementAnswer::Done,
        Wire::ListOperations(list) => PlacementAnswer::Operations(all(list.operations, operation_from)?),
        Wire::SplitRegion(split) => PlacementAnswer::Split {
            change_id: convert::non_zero(split.change_id, "SplitRegionResponse", "change_id")?,
            regions: all(split.regions, Region::try_from)?,
        },
        Wire::ScatterRegions(scattered) => PlacementAnswer::Scattered {
            begun: scattered.begun.into_iter().map(RegionId).collect(),
            missing: scattered.missing.into_iter().map(RegionId).collect(),
        },
        Wire::GetCluster(_) => return Err(unknown("Response", "response", 19)),
        Wire::SplitReport(_) => return Err(unknown("Response", "response", 13)),
    };
    Ok(Response::Answer(answer))
}

fn call_to(call: PlacementCall) -> wire::request::Request {
    use wire::{get_region::By, request::Request as Wire};
    let by = |by| Wire::GetRegion(wire::GetRegion { by: Some(by) });
    match call {
        PlacementCall::ClusterInfo => Wire::GetCluster(wire::GetCluster {}),
        PlacementCall::Tso { count } => Wire::AllocateTimestamps(wire::AllocateTimestamps { count }),
        PlacementCall::GetRegion { key } => by(By::Key(key)),
        PlacementCall::GetPrevRegion { key } => by(By::PreviousToKey(key)),
        PlacementCall::GetRegionById { region_id } => by(By::Id(region_id.0)),
        PlacementCall::AwaitRegion { region_id, epoch } => {
            by(By::Awaited(wire::AwaitRegion { region_id: region_id.0, epoch: epoch.map(Into::into) }))
        }
        PlacementCall::ScanRegions { range, limit } => {
            Wire::ScanRegions(wire::ScanRegions { range: Some(range.into()), limit })
        }
        // A store divides it into scans before it asks; as a message it is the scan of what the ranges span.
        PlacementCall::BatchScanRegions { ranges, limit } => {
            let start_key = ranges.first().map(|range| range.start_key.clone()).unwrap_or_default();
            let end_key = ranges.last().map(|range| range.end_key.clone()).unwrap_or_default();
            Wire::ScanRegions(wire::ScanRegions {
                range: Some(KeyRange { start_key, end_key }.into()),
                limit,
            })
        }
        PlacementCall::GetStore { store_id } => Wire::GetStore(wire::GetStore { store_id: store_id.0 }),
        PlacementCall::GetAllStores { is_without_removed } => {
            Wire::GetAllStores(wire::GetAllStores { has_removed: !is_without_removed })
        }
        PlacementCall::AllocateIds { count } => Wire::AllocateIds(wire::AllocateIds { count }),
        PlacementCall::RegisterStore { record } => {
            Wire::RegisterStore(wire::RegisterStore { store: Some(store_to(record)) })
        }
        PlacementCall::ChangeRegion(request) => Wire::StartOperation(change_to(request)),
        PlacementCall::SplitRegion(request) => Wire::SplitRegion(split_to(request)),
        PlacementCall::ScatterRegions(ScatterRequest { region_ids, group }) => {
            let region_ids = region_ids.into_iter().map(|id| id.0).collect();
            Wire::ScatterRegions(wire::ScatterRegions { region_ids, group })
        }
        PlacementCall::SetStoreState { store_id, state } => {
            Wire::SetStoreState(wire::SetStoreState { store_id: store_id.0, state: state_to(state).into() })
        }
        PlacementCall::ChangeSettings { is_balancing } => {
            Wire::ChangeSettings(wire::ChangeSettings { is_balancing })
        }
        PlacementCall::CancelOperation { operation_id } => {
            Wire::CancelOperation(wire::CancelOperation { operation_id })
        }
        PlacementCall::GetOperation { region_id } => Wire::ListOperations(wire::ListOperations {
            region_id: region_id.0,
            has_ended: true,
            ..Default::default()
        }),
        PlacementCall::ListOperations => {
            Wire::ListOperations(wire::ListOperations { has_ended: true, ..Default::default() })
        }
    }
}

fn answer_to(answer: PlacementAnswer) -> wire::response::Response {
    use wire::response::Response as Wire;
    let operations = |operations: Vec<OperationPicture>| {
        let operations = operations.into_iter().map(operation_to).collect();
        Wire::ListOperations(wire::ListOperationsResponse { operations })
    };
    match answer {
        PlacementAnswer::Cluster(cluster) => Wire::GetCluster(wire::GetClusterResponse {
            settings: Some(settings_to(&cluster.settings)),
            leader_store_id: cluster.placement_leader.map_or(0, |id| id.0),
            ..Default::default()
        }),
        PlacementAnswer::Timestamp(timestamp) => Wire::AllocateTimestamps(wire::AllocateTimestampsResponse {
            physical_millis: timestamp.physical_ms,
            logical: timestamp.logical.into(),
            count: 0,
        }),
        PlacementAnswer::Region(region) => {
            Wire::GetRegion(wire::GetRegionResponse { region: region.map(route_to), current: None })
        }
        PlacementAnswer::Regions(regions) => Wire::ScanRegions(wire::ScanRegionsResponse {
            regions: regions.into_iter().map(route_to).collect(),
        }),
        PlacementAnswer::Store(store) => {
            Wire::GetStore(wire::GetStoreResponse { store: store.map(picture_to) })
        }
        PlacementAnswer::Stores(stores) => Wire::GetAllStores(wire::GetAllStoresResponse {
            stores: stores.into_iter().map(picture_to).collect(),
        }),
        PlacementAnswer::Ids { first_id, count } => {
            Wire::AllocateIds(wire::AllocateIdsResponse { first_id, count })
        }
        PlacementAnswer::Registered { store_id, settings, stores } => {
            Wire::RegisterStore(wire::RegisterStoreResponse {
                store_id: store_id.0,
                settings: Some(settings_to(&settings)),
                stores: stores.into_iter().map(store_to).collect(),
            })
        }
        PlacementAnswer::OperationStarted { operation_id } => {
            Wire::StartOperation(wire::StartOperationResponse { operation_id })
        }
        PlacementAnswer::Split { change_id, regions } => Wire::SplitRegion(wire::SplitRegionResponse {
            change_id,
            regions: regions.into_iter().map(Into::into).collect(),
        }),
        PlacementAnswer::Scattered { begun, missing } => Wire::ScatterRegions(wire::ScatterRegionsResponse {
            begun: begun.into_iter().map(|id| id.0).collect(),
            missing: missing.into_iter().map(|id| id.0).collect(),
        }),
        PlacementAnswer::Operation(operation) => operations(operation.into_iter().collect()),
        PlacementAnswer::Operations(all) => operations(all),
        PlacementAnswer::Done => Wire::CancelOperation(wire::CancelOperationResponse {}),
    }
}

fn report_to(report: StoreReport) -> wire::StoreReport {
    wire::StoreReport {
        store_id: report.record.id.0,
        incarnation: report.record.incarnation.0,
        number: report.number,
        is_full: report.is_full,
        follows: report.follows,
        has_more: report.has_more,
        stats: Some(load_to(report.load)),
        leads: report.leads.into_iter().map(lead_to).collect(),
        leads_no_longer: report.leads_no_longer.into_iter().map(|id| id.0).collect(),
        lonely_peers: report.lonely_peers.into_iter().map(lonely_to).collect(),
        store: Some(store_to(report.record)),
        siblings: report.siblings.into_iter().map(Into::into).collect(),
    }
}

fn report_from(report: wire::StoreReport) -> Result<StoreReport> {
    Ok(StoreReport {
        record: store_from(convert::required(report.store, "StoreReport", "store")?)?,
        number: report.number,
        is_full: report.is_full,
        follows: report.follows,
        has_more: report.has_more,
        load: load_from(report.stats.unwrap_or_default()),
        leads: all(report.leads, lead_from)?,
        leads_no_longer: report.leads_no_longer.into_iter().map(RegionId).collect(),
        siblings: all(report.siblings, Region::try_from)?,
        lonely_peers: all(report.lonely_peers, lonely_from)?,
    })
}

fn lonely_to(lonely: LonelyPeer) -> wire::LonelyPeer {
    wire::LonelyPeer {
        region_id: lonely.region_id.0,
        peer_id: lonely.peer_id.0,
        epoch: Some(lonely.epoch.into()),
    }
}

fn lonely_from(lonely: wire::LonelyPeer) -> Result<LonelyPeer> {
    Ok(LonelyPeer {
        region_id: RegionId(convert::non_zero(lonely.region_id, "LonelyPeer", "region_id")?),
        peer_id: PeerId(convert::non_zero(lonely.peer_id, "LonelyPeer", "peer_id")?),
        epoch: convert::required(lonely.epoch, "LonelyPeer", "epoch")?.into(),
    })
}

fn lead_to(lead: LeaderReport) -> wire::LeaderReport {
    wire::LeaderReport {
        region: Some(lead.region.into()),
        leader_peer_id: lead.leader.id.0,
        term: lead.term.0,
        down_peers: down_to(lead.down_peers),
        pending_peers: lead.pending_peers.into_iter().map(|id| id.0).collect(),
        size_bytes: lead.size.size_bytes,
        key_count: lead.size.key_count,
        ..Default::default()
    }
}

fn lead_from(lead: wire::LeaderReport) -> Result<LeaderReport> {
    let region = Region::try_from(convert::required(lead.region, "LeaderReport", "region")?)?;
    let leader = region.find_peer(PeerId(lead.leader_peer_id)).ok_or(Error::Inconsistent {
        message: "LeaderReport",
        reason: "the leader is no peer of its region",
    })?;
    Ok(LeaderReport {
        region,
        leader,
        term: Term(lead.term),
        down_peers: down_from(lead.down_peers),
        pending_peers: lead.pending_peers.into_iter().map(PeerId).collect(),
        size: RegionSize { size_bytes: lead.size_bytes, key_count: lead.key_count },
    })
}

fn report_answer_to(answer: ReportAnswer) -> wire::StoreReportResponse {
    wire::StoreReportResponse {
        placement_term: answer.placement_term.0,
        number: answer.number,
        is_full_wanted: answer.is_full_wanted,
        goals: answer.goals.into_iter().map(goal_to).collect(),
        destroys: answer.destroys.into_iter().map(Into::into).collect(),
        wanted: answer.wanted.into_iter().map(Into::into).collect(),
        stores: answer.stores.into_iter().map(store_to).collect(),
        settings: answer.settings.as_ref().map(settings_to),
    }
}

fn report_answer_from(answer: wire::StoreReportResponse) -> Result<ReportAnswer> {
    Ok(ReportAnswer {
        placement_term: Term(answer.placement_term),
        number: answer.number,
        is_full_wanted: answer.is_full_wanted,
        goals: all(answer.goals, goal_from)?,
        destroys: all(answer.destroys, Region::try_from)?,
        wanted: answer.wanted.into_iter().map(KeyRange::from).collect(),
        stores: all(answer.stores, store_from)?,
        settings: answer.settings.map(settings_from).transpose()?,
    })
}

fn goal_to(goal: Goal) -> wire::Goal {
    wire::Goal {
        region_id: goal.region_id.0,
        expected_epoch: Some(goal.epoch.into()),
        peers: goal.peers.into_iter().map(Into::into).collect(),
        leader_peer_id: goal.leader.map_or(0, |id| id.0),
        operation_id: goal.operation_id,
        placement_term: goal.placement_term.0,
        ..Default::default()
    }
}

fn goal_from(goal: wire::Goal) -> Result<Goal> {
    Ok(Goal {
        region_id: RegionId(convert::non_zero(goal.region_id, "Goal", "region_id")?),
        epoch: convert::required(goal.expected_epoch, "Goal", "expected_epoch")?.into(),
        peers: all(goal.peers, Peer::try_from)?,
        leader: (goal.leader_peer_id != 0).then_some(PeerId(goal.leader_peer_id)),
        operation_id: convert::non_zero(goal.operation_id, "Goal", "operation_id")?,
        placement_term: Term(goal.placement_term),
    })
}

fn route_to(route: RegionRoute) -> wire::RegionView {
    wire::RegionView {
        region: Some(route.region.into()),
        leader_peer_id: route.leader.map_or(0, |leader| leader.id.0),
        stand_in_peer_id: route.stand_in.map_or(0, |peer| peer.id.0),
        down_peers: down_to(route.down_peers),
        pending_peers: route.pending_peers.into_iter().map(|id| id.0).collect(),
        size_bytes: route.size.size_bytes,
        key_count: route.size.key_count,
        ..Default::default()
    }
}

fn route_from(view: wire::RegionView) -> Result<RegionRoute> {
    let region = Region::try_from(convert::required(view.region, "RegionView", "region")?)?;
    Ok(RegionRoute {
        leader: region.find_peer(PeerId(view.leader_peer_id)),
        stand_in: region.find_peer(PeerId(view.stand_in_peer_id)),
        region,
        down_peers: down_from(view.down_peers),
        pending_peers: view.pending_peers.into_iter().map(PeerId).collect(),
        size: RegionSize { size_bytes: view.size_bytes, key_count: view.key_count },
    })
}

fn down_to(peers: Vec<PeerId>) -> Vec<wire::DownPeer> {
    peers.into_iter().map(|id| wire::DownPeer { peer_id: id.0, down_seconds: 0 }).collect()
}

fn down_from(peers: Vec<wire::DownPeer>) -> Vec<PeerId> {
    peers.into_iter().map(|peer| PeerId(peer.peer_id)).collect()
}

fn picture_to(picture: StorePicture) -> wire::StoreView {
    wire::StoreView {
        store: Some(store_to(picture.record)),
        stats: picture.load.map(load_to),
        last_report_at_millis: picture.last_heard.0,
        is_alive: picture.is_live,
    }
}

fn picture_from(view: wire::StoreView) -> Result<StorePicture> {
    Ok(StorePicture {
        record: store_from(convert::required(view.store, "StoreView", "store")?)?,
        load: view.stats.map(load_from),
        last_heard: WallTime(view.last_report_at_millis),
        is_live: view.is_alive,
    })
}

fn load_to(load: StoreLoad) -> wire::StoreStats {
    wire::StoreStats {
        capacity_bytes: load.capacity_bytes,
        available_bytes: load.available_bytes,
        peer_count: load.region_count,
        leader_count: load.leader_count,
        ..Default::default()
    }
}

fn load_from(stats: wire::StoreStats) -> StoreLoad {
    StoreLoad {
        capacity_bytes: stats.capacity_bytes,
        available_bytes: stats.available_bytes,
        region_count: stats.peer_count,
        leader_count: stats.leader_count,
    }
}

fn error_to(error: api::Error) -> wire::Error {
    use wire::ErrorKind as Kind;
    let message = error.to_string();
    let of = |kind: Kind, subject_id: u64| wire::Error {
        kind: kind.into(),
        message: message.clone(),
        subject_id,
        ..Default::default()
    };
    match error {
        api::Error::NotLeader { hint, term } => wire::Error {
            leader_store_id: hint.map_or(0, |id| id.0),
            placement_term: term.0,
            ..of(Kind::NotLeader, 0)
        },
        api::Error::Unavailable { reason } => wire::Error { message: reason, ..of(Kind::Unavailable, 0) },
        api::Error::Busy { reason } => wire::Error { message: reason, ..of(Kind::Busy, 0) },
        api::Error::Invalid(reason) => wire::Error { message: reason, ..of(Kind::Invalid, 0) },
        api::Error::StoreNotFound(id) => of(Kind::StoreNotFound, id.0),
        api::Error::StoreRemoved(id) => of(Kind::StoreRemoved, id.0),
        api::Error::RegionNotFound(id) => of(Kind::RegionNotFound, id.0),
        api::Error::OperationNotFound(id) => of(Kind::OperationNotFound, id),
        api::Error::EpochNotMatch { region_id, current } => {
            wire::Error { region_id: region_id.0, epoch: Some(current.into()), ..of(Kind::EpochNotMatch, 0) }
        }
        api::Error::Changing { region_id, operation_id, stage } => {
            wire::Error { message: stage, region_id: region_id.0, ..of(Kind::Changing, operation_id) }
        }
    }
}

fn error_from(error: wire::Error) -> Result<api::Error> {
    use wire::ErrorKind as Kind;
    let reason = error.message;
    let kind = Kind::try_from(error.kind).map_err(|_| unknown("Error", "kind", error.kind))?;
    Ok(match kind {
        Kind::NotLeader => api::Error::NotLeader {
            hint: (error.leader_store_id != 0).then_some(StoreId(error.leader_store_id)),
            term: Term(error.placement_term),
        },
        Kind::Busy => api::Error::Busy { reason },
        Kind::Invalid | Kind::NotFound => api::Error::Invalid(reason),
        Kind::StoreNotFound => api::Error::StoreNotFound(StoreId(error.subject_id)),
        Kind::StoreRemoved => api::Error::StoreRemoved(StoreId(error.subject_id)),
        Kind::RegionNotFound => api::Error::RegionNotFound(RegionId(error.subject_id)),
        Kind::OperationNotFound => api::Error::OperationNotFound(error.subject_id),
        Kind::EpochNotMatch => api::Error::EpochNotMatch {
            region_id: RegionId(error.region_id),
            current: convert::required(error.epoch, "Error", "epoch")?.into(),
        },
        Kind::Changing => api::Error::Changing {
            region_id: RegionId(error.region_id),
            operation_id: error.subject_id,
            stage: reason,
        },
        Kind::Unavailable | Kind::NotInitialized | Kind::Undetermined => api::Error::Unavailable { reason },
        Kind::Unspecified => return Err(unknown("Error", "kind", error.kind)),
    })
}

fn all<A, B>(items: Vec<A>, convert: impl Fn(A) -> Result<B>) -> Result<Vec<B>> {
    items.into_iter().map(convert).collect()
}

fn unknown(message: &'static str, field: &'static str, number: i32) -> Error {
    Error::UnknownNumber { message, field, number: number.into() }
}

#[cfg(test)]
mod tests;
