//! Operators' verbs. Every store takes them; what another store must do is passed on to it, once.

use std::{sync::Arc, time::Duration};

use placement::{
    ChangeRequest, PlacementAnswer, PlacementCall, RegionChange, RegionRoute, SplitAt, SplitRequest,
    StoreState, limits::SCAN_REGIONS_MAX,
};
use proto::{
    admin::{self, admin_client::AdminClient, admin_server},
    placement as wire,
};
use store::{AdminAction, AdminRequest, Responder};
use tokio::{sync::oneshot, time::timeout};
use tonic::{Request, Response, Status, metadata::MetadataValue, transport::Channel};
use transport::dial;
use types::{Epoch, KeyRange, Peer, PeerRole, Region, RegionId, RegionSize, StoreId};

use super::{
    admin_convert::{operation_row, region_view, settings_row, store_view},
    key_mode_of_number,
    limits::FORWARD_TIMEOUT,
    pd::{other_answer, status_of},
    split::split,
    tikv::not_started,
};
use crate::{
    book::{record_of, row_of},
    state::{Running, State},
};

/// Set in a request that one store passes on to another.
const FORWARDED: &str = "sheaf-forwarded";

pub(super) struct Admin {
    state: Arc<State>,
}

impl Admin {
    pub(super) fn new(state: Arc<State>) -> Admin {
        Admin { state }
    }

    fn running(&self) -> Result<&Running, Status> {
        self.state.running().ok_or_else(not_started)
    }

    /// A region with its leader; the placement group too, which no directory has.
    async fn route(&self, running: &Running, region_id: RegionId) -> Result<RegionRoute, Status> {
        if region_id == RegionId::PLACEMENT {
            let (region, leader) = self.placement_group(running).await?;
            let leader = leader.and_then(|store_id| region.find_peer_on(store_id));
            return Ok(RegionRoute {
                region,
                leader,
                stand_in: None,
                down_peers: vec![],
                pending_peers: vec![],
                size: RegionSize::default(),
            });
        }
        let answer = running.ask(PlacementCall::GetRegionById { region_id }).await.map_err(status_of)?;
        let PlacementAnswer::Region(route) = answer else { return Err(other_answer()) };
        route.ok_or_else(|| Status::not_found(format!("there is no region {region_id}")))
    }

    /// The placement group with the store that leads it: as the peer here knows it or, where there is none, as its leader
    /// does.
    async fn placement_group(&self, running: &Running) -> Result<(Region, Option<StoreId>), Status> {
        if let Some(own) = own_placement_group(running) {
            return Ok(own);
        }
        let PlacementAnswer::Cluster(cluster) =
            running.ask(PlacementCall::ClusterInfo).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        let unknown = || Status::unavailable("it is not known who leads the placement group");
        let leader = cluster.placement_leader.ok_or_else(unknown)?;
        let request = forwarded(admin::ClusterStatusRequest {});
        let mut there = self.dial(leader).await?;
        let answer = timeout(FORWARD_TIMEOUT, there.cluster_status(request)).await;
        let answer =
            answer.map_err(|_| Status::deadline_exceeded(format!("no answer of store {leader}")))??;
        let group = answer.into_inner().placement_group.ok_or_else(unknown)?;
        let group = Region::try_from(group).map_err(|error| Status::internal(error.to_string()))?;
        Ok((group, Some(leader)))
    }

    /// The operators' service of another store.
    async fn dial(&self, store_id: StoreId) -> Result<AdminClient<Channel>, Status> {
        let address = self.state.book.address_of(store_id).ok_or_else(|| {
            Status::unavailable(format!("the address of store {store_id}, which leads it, is not known"))
        })?;
        let channel = dial(self.state.credentials, &address, 1 << 20).await;
        channel.map(AdminClient::new).map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Asks placement for something that has no answer but that it is done.
    async fn ask_and_be_done(&self, call: PlacementCall) -> Result<(), Status> {
        let PlacementAnswer::Done = self.running()?.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        Ok(())
    }

    /// Has placement begin a change of a region.
    async fn change_region(
        &self,
        region_id: u64,
        change: RegionChange,
        terms: Option<admin::ChangeTerms>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let terms = terms.unwrap_or_default();
        let change = ChangeRequest {
            epoch: terms.epoch.map(Epoch::from),
            change_id: terms.change_id,
            deadline: (terms.deadline_millis > 0).then(|| Duration::from_millis(terms.deadline_millis)),
            ..ChangeRequest::new(RegionId(region_id), change)
        };
        let call = PlacementCall::ChangeRegion(change);
        let PlacementAnswer::OperationStarted { operation_id } =
            self.running()?.ask(call).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        Ok(Response::new(admin::OperationStarted { operation_id }))
    }

    /// Lets a peer of a region that is led here lead it.
    async fn transfer_here(&self, running: &Running, route: &RegionRoute, to: Peer) -> Result<(), Status> {
        let (sender, receiver) = oneshot::channel();
        running.store.admin(AdminRequest {
            region_id: route.region.id,
            epoch: None,
            action: AdminAction::TransferLeader(to.id),
            responder: Responder::new(move |result| drop(sender.send(result))),
        });
        let result = timeout(FORWARD_TIMEOUT, receiver).await.map_err(|_| {
            Status::deadline_exceeded("the transfer was not finished in time; it may still happen")
        })?;
        let result = result.map_err(|_| Status::unavailable("the store is stopping"))?;
        result.map_err(|error| Status::failed_precondition(error.to_string()))
    }

    /// Lets the store that leads the region do it.
    async fn transfer_there(
        &self,
        leader: StoreId,
        request: admin::TransferLeaderRequest,
    ) -> Result<(), Status> {
        let mut there = self.dial(leader).await?;
        let answer = timeout(FORWARD_TIMEOUT, there.transfer_leader(forwarded(request))).await;
        answer.map_err(|_| Status::deadline_exceeded(format!("no answer of store {leader}")))??;
        Ok(())
    }
}

/// The placement group, and the store that leads it, as the peer here knows it, if there is one.
fn own_placement_group(running: &Running) -> Option<(Region, Option<StoreId>)> {
    let picture = running.store.region(RegionId::PLACEMENT)?;
    let region = Arc::unwrap_or_clone(picture.region?);
    Some((region, picture.leader.map(|leader| leader.store_id)))
}

/// A request that is not passed on again.
fn forwarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    request
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn init(
        &self,
        request: Request<admin::InitRequest>,
    ) -> Result<Response<admin::InitResponse>, Status> {
        let key_mode = key_mode_of_number(request.into_inner().keys)
            .filter(|mode| *mode != placement::KeyMode::Txn)
            .ok_or_else(|| Status::invalid_argument("keys are raw or keyspaces in this version"))?;
        let (cluster_id, was_initialized) =
            self.state.init(key_mode).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(admin::InitResponse { cluster_id: cluster_id.0, was_initialized }))
    }

    async fn cluster_status(
        &self,
        request: Request<admin::ClusterStatusRequest>,
    ) -> Result<Response<admin::ClusterStatusResponse>, Status> {
        let Some(running) = self.state.running() else {
            let warnings = vec!["this store belongs to no cluster yet: run `sheaf init`".to_owned()];
            return Ok(Response::new(admin::ClusterStatusResponse { warnings, ..Default::default() }));
        };
        let PlacementAnswer::Cluster(cluster) =
            running.ask(PlacementCall::ClusterInfo).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        let call = PlacementCall::GetAllStores { is_without_removed: true };
        let PlacementAnswer::Stores(stores) = running.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        let call = PlacementCall::ScanRegions { range: KeyRange::ALL, limit: 0 };
        let PlacementAnswer::Regions(routes) = running.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        let without_leader = routes.iter().filter(|route| route.leader.is_none()).count();
        let mut warnings = Vec::new();
        for picture in stores.iter().filter(|picture| !picture.is_live) {
            warnings.push(format!(
                "store {} at {} was not heard for ten seconds",
                picture.record.id, picture.record.address
            ));
        }
        if routes.len() >= SCAN_REGIONS_MAX {
            warnings.push(format!("only the first {SCAN_REGIONS_MAX} regions are counted"));
        }
        let is_forwarded = request.metadata().contains_key(FORWARDED);
        let group = match own_placement_group(running) {
            Some((region, _)) => Some(region),
            None if is_forwarded => None,
            // Whoever knows nothing of the group still tells the rest.
            None => self.placement_group(running).await.ok().map(|(region, _)| region),
        };
        Ok(Response::new(admin::ClusterStatusResponse {
            settings: Some(settings_row(cluster.settings)),
            placement_group: group.map(Into::into),
            placement_leader_store_id: cluster.placement_leader.map_or(0, |store| store.0),
            region_count: routes.len() as u64,
            regions_without_leader_count: without_leader as u64,
            stores: stores.into_iter().map(store_view).collect(),
            warnings,
        }))
    }

    async fn list_stores(
        &self,
        request: Request<admin::ListStoresRequest>,
    ) -> Result<Response<admin::ListStoresResponse>, Status> {
        let call = PlacementCall::GetAllStores { is_without_removed: !request.into_inner().has_removed };
        let PlacementAnswer::Stores(stores) = self.running()?.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        let stores = stores.into_iter().map(store_view).collect();
        Ok(Response::new(admin::ListStoresResponse { stores }))
    }

    async fn list_regions(
        &self,
        request: Request<admin::ListRegionsRequest>,
    ) -> Result<Response<admin::ListRegionsResponse>, Status> {
        let request = request.into_inner();
        let range = request.range.map(KeyRange::from).unwrap_or_default();
        let call = PlacementCall::ScanRegions { range: range.clone(), limit: request.limit };
        let PlacementAnswer::Regions(routes) = self.running()?.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        // The last region of the page tells where the next one begins, unless it holds the end of what was asked for.
        let last_end = routes.last().map(|route| route.region.range.end_key.clone());
        let next_key = last_end
            .filter(|end_key| !end_key.is_empty() && (range.end_key.is_empty() || *end_key < range.end_key));
        let store_id = StoreId(request.store_id);
        let regions = routes
            .into_iter()
            .filter(|route| store_id.0 == 0 || route.region.find_peer_on(store_id).is_some())
            .map(region_view)
            .collect();
        Ok(Response::new(admin::ListRegionsResponse { regions, next_key }))
    }

    async fn transfer_leader(
        &self,
        request: Request<admin::TransferLeaderRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let running = self.running()?;
        let is_forwarded = request.metadata().contains_key(FORWARDED);
        let request = request.into_inner();
        let route = self.route(running, RegionId(request.region_id)).await?;
        let to = route.region.find_peer_on(StoreId(request.to_store_id)).ok_or_else(|| {
            Status::failed_precondition(format!(
                "region {} has no peer on store {}",
                request.region_id, request.to_store_id
            ))
        })?;
        if to.role != PeerRole::Voter {
            return Err(Status::failed_precondition("its peer there is not a voter yet"));
        }
        match route.leader {
            Some(leader) if leader.id == to.id => {}
            Some(leader) if leader.store_id != running.ident.store_id && !is_forwarded => {
                self.transfer_there(leader.store_id, request).await?;
            }
            Some(_) => self.transfer_here(running, &route, to).await?,
            None => {
                return Err(Status::unavailable(format!("region {} has no leader now", request.region_id)));
            }
        }
        Ok(Response::new(admin::OperationStarted { operation_id: 0 }))
    }

    async fn add_peer(
        &self,
        request: Request<admin::AddPeerRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let request = request.into_inner();
        let store_id = StoreId(request.store_id);
        let change = match request.is_learner {
            true => RegionChange::AddLearner(store_id),
            false => RegionChange::AddPeer(store_id),
        };
        self.change_region(request.region_id, change, request.terms).await
    }

    async fn promote_learner(
        &self,
        request: Request<admin::PromoteLearnerRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let request = request.into_inner();
        let change = RegionChange::PromoteLearner(StoreId(request.store_id));
        self.change_region(request.region_id, change, request.terms).await
    }

    async fn remove_peer(
        &self,
        request: Request<admin::RemovePeerRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let request = request.into_inner();
        let change = RegionChange::RemovePeer(StoreId(request.store_id));
        self.change_region(request.region_id, change, request.terms).await
    }

    async fn move_peers(
        &self,
        request: Request<admin::MovePeersRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let request = request.into_inner();
        let store_ids = request.store_ids.into_iter().map(StoreId).collect();
        self.change_region(request.region_id, RegionChange::SetStores(store_ids), request.terms).await
    }

    async fn split_region(
        &self,
        request: Request<admin::SplitRegionRequest>,
    ) -> Result<Response<admin::SplitRegionResponse>, Status> {
        let request = request.into_inner();
        let at = match (request.split_keys, request.is_at_middle, request.part_count) {
            (keys, false, None) => SplitAt::Keys(keys),
            (keys, true, None) if keys.is_empty() => SplitAt::Middle,
            (keys, false, Some(count)) if keys.is_empty() => SplitAt::Parts(count),
            _ => {
                let text = "a region is split at keys, at its middle or into parts: say one of them";
                return Err(Status::invalid_argument(text));
            }
        };
        let request = SplitRequest {
            at,
            epoch: request.epoch.map(Into::into),
            change_id: request.change_id,
            ..SplitRequest::new(RegionId(request.region_id), Vec::new())
        };
        let (change_id, regions) = split(self.running()?, request).await?;
        let regions = regions.into_iter().map(Into::into).collect();
        Ok(Response::new(admin::SplitRegionResponse { change_id, regions }))
    }

    async fn allocate_ids(
        &self,
        request: Request<wire::AllocateIds>,
    ) -> Result<Response<wire::AllocateIdsResponse>, Status> {
        let call = PlacementCall::AllocateIds { count: request.into_inner().count };
        let PlacementAnswer::Ids { first_id, count } = self.running()?.ask(call).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        Ok(Response::new(wire::AllocateIdsResponse { first_id, count }))
    }

    async fn drain(
        &self,
        request: Request<admin::DrainRequest>,
    ) -> Result<Response<admin::OperationStarted>, Status> {
        let request = request.into_inner();
        let state = if request.is_undone { StoreState::Up } else { StoreState::Draining };
        self.ask_and_be_done(PlacementCall::SetStoreState { store_id: StoreId(request.store_id), state })
            .await?;
        // Draining is what is intended with the store: the operations that follow are those of its regions.
        Ok(Response::new(admin::OperationStarted { operation_id: 0 }))
    }

    async fn forget_store(
        &self,
        request: Request<admin::ForgetStoreRequest>,
    ) -> Result<Response<admin::ForgetStoreResponse>, Status> {
        let store_id = StoreId(request.into_inner().store_id);
        self.ask_and_be_done(PlacementCall::SetStoreState { store_id, state: StoreState::Removed }).await?;
        Ok(Response::new(admin::ForgetStoreResponse {}))
    }

    async fn set_balancing(
        &self,
        request: Request<admin::SetBalancingRequest>,
    ) -> Result<Response<admin::SetBalancingResponse>, Status> {
        let is_balancing = Some(request.into_inner().is_balancing);
        self.ask_and_be_done(PlacementCall::ChangeSettings { is_balancing }).await?;
        Ok(Response::new(admin::SetBalancingResponse {}))
    }

    async fn list_operations(
        &self,
        request: Request<admin::ListOperationsRequest>,
    ) -> Result<Response<admin::ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let PlacementAnswer::Operations(operations) =
            self.running()?.ask(PlacementCall::ListOperations).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        let is_wanted = |row: &wire::OperationRow| {
            (request.operation_id == 0 || row.id == request.operation_id)
                && (request.region_id == 0 || row.region_id == request.region_id)
                && (request.has_ended || row.state == i32::from(wire::OperationState::Running))
        };
        let operations = operations.into_iter().map(operation_row).filter(is_wanted).collect();
        Ok(Response::new(admin::ListOperationsResponse { operations }))
    }

    async fn cancel_operation(
        &self,
        request: Request<admin::CancelOperationRequest>,
    ) -> Result<Response<admin::CancelOperationResponse>, Status> {
        let operation_id = request.into_inner().operation_id;
        let PlacementAnswer::Done =
            self.running()?.ask(PlacementCall::CancelOperation { operation_id }).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        Ok(Response::new(admin::CancelOperationResponse {}))
    }

    async fn register_store(
        &self,
        request: Request<wire::RegisterStore>,
    ) -> Result<Response<wire::RegisterStoreResponse>, Status> {
        let row = request.into_inner().store.ok_or_else(|| Status::invalid_argument("no store is named"))?;
        let call = PlacementCall::RegisterStore { record: record_of(row) };
        let PlacementAnswer::Registered { store_id, settings, stores } =
            self.running()?.ask(call).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        Ok(Response::new(wire::RegisterStoreResponse {
            store_id: store_id.0,
            settings: Some(settings_row(settings)),
            stores: stores.into_iter().map(row_of).collect(),
        }))
    }
}
