//! The placement service in PD's words. Every store answers: what only the placement leader knows, placement fetches.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, future::join_all, stream};
use placement::{PlacementAnswer, PlacementCall, RegionRoute};
use proto::pdpb::{self, pd_server};
use tonic::{Request, Response, Status, Streaming};
use types::{KeyRange, Region, RegionId, StoreId};

use super::{
    limits::{QUERY_ROUNDS_MAX, REGION_QUERIES_MAX, SCATTER_TIMEOUT, SPLIT_TIMEOUT},
    patience::time_of,
    pd_convert::{header, member, operator, queried_region, refusal, region, region_response, stats, store},
    scatter::scatter,
    split::divide,
    tikv::not_started,
};
use crate::state::{Running, State};

pub(super) struct Pd {
    state: Arc<State>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Pd {
    pub(super) fn new(state: Arc<State>) -> Pd {
        Pd { state }
    }

    /// The store, if the request is for its cluster.
    fn running(&self, header: Option<&pdpb::RequestHeader>) -> Result<&Running, Status> {
        let running = self.state.running().ok_or_else(not_started)?;
        check_cluster(running, header)?;
        Ok(running)
    }

    async fn route(&self, running: &Running, call: PlacementCall) -> Result<Option<RegionRoute>, Status> {
        let PlacementAnswer::Region(route) = running.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        Ok(route)
    }

    async fn routes(&self, running: &Running, call: PlacementCall) -> Result<Vec<RegionRoute>, Status> {
        let PlacementAnswer::Regions(routes) = running.ask(call).await.map_err(status_of)? else {
            return Err(other_answer());
        };
        Ok(routes)
    }
}

/// Whether a request with this header is for the store's cluster. Zero: the client does not know it yet.
pub(super) fn check_cluster(running: &Running, header: Option<&pdpb::RequestHeader>) -> Result<(), Status> {
    let (asked, own) = (header.map_or(0, |header| header.cluster_id), running.ident.cluster_id.0);
    if asked == 0 || asked == own {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("mismatch cluster id, need {own} but got {asked}")))
}

/// Placement's refusal as a status that clients know: those that may pass are "unavailable".
pub(super) fn status_of(error: placement::Error) -> Status {
    use placement::Error;
    let text = error.to_string();
    match error {
        Error::NotLeader { .. } | Error::Unavailable { .. } => {
            Status::unavailable(format!("no leader: {text}"))
        }
        Error::Busy { .. } => Status::resource_exhausted(text),
        Error::Invalid(_) => Status::invalid_argument(text),
        Error::StoreNotFound(_) | Error::RegionNotFound(_) | Error::OperationNotFound(_) => {
            Status::not_found(text)
        }
        Error::StoreRemoved(_) | Error::EpochNotMatch { .. } | Error::Changing { .. } => {
            Status::failed_precondition(text)
        }
    }
}

/// Placement answered another question: a defect of this binary.
pub(super) fn other_answer() -> Status {
    tracing::error!("placement answered another question");
    Status::internal("placement answered another question")
}

#[tonic::async_trait]
impl pd_server::Pd for Pd {
    type TsoStream = Answers<pdpb::TsoResponse>;
    type QueryRegionStream = Answers<pdpb::QueryRegionResponse>;

    async fn get_members(
        &self,
        request: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let running = self.running(request.into_inner().header.as_ref())?;
        let PlacementAnswer::Cluster(cluster) =
            running.ask(PlacementCall::ClusterInfo).await.map_err(status_of)?
        else {
            return Err(other_answer());
        };
        let members: Vec<_> =
            cluster.stores.iter().filter(|record| !record.address.is_empty()).map(member).collect();
        let find = |id: StoreId| members.iter().find(|member| member.member_id == id.0).cloned();
        // Any store answers, so this one will do while the leader is not known.
        let own = self.state.record(running.ident.store_id, running.ident.incarnation, 0);
        let leader = cluster.placement_leader.and_then(find).unwrap_or_else(|| member(&own));
        Ok(Response::new(pdpb::GetMembersResponse {
            header: Some(header(running.ident.cluster_id)),
            members,
            leader: Some(leader.clone()),
            etcd_leader: Some(leader),
        }))
    }

    async fn tso(
        &self,
        request: Request<Streaming<pdpb::TsoRequest>>,
    ) -> Result<Response<Self::TsoStream>, Status> {
        let state = Arc::clone(&self.state);
        let answers = stream::unfold((state, request.into_inner()), |(state, mut requests)| async move {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                Ok(None) => return None,
                Err(status) => return Some((Err(status), (state, requests))),
            };
            let answer = give_timestamps(&state, &request).await;
            Some((answer, (state, requests)))
        });
        Ok(Response::new(Box::pin(until_error(answers))))
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let route = self.route(running, PlacementCall::GetRegion { key: request.region_key }).await?;
        Ok(Response::new(region_response(header(running.ident.cluster_id), route)))
    }

    async fn get_prev_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let route = self.route(running, PlacementCall::GetPrevRegion { key: request.region_key }).await?;
        Ok(Response::new(region_response(header(running.ident.cluster_id), route)))
    }

    async fn get_region_by_id(
        &self,
        request: Request<pdpb::GetRegionByIdRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let call = PlacementCall::GetRegionById { region_id: RegionId(request.region_id) };
        let route = self.route(running, call).await?;
        Ok(Response::new(region_response(header(running.ident.cluster_id), route)))
    }

    async fn scan_regions(
        &self,
        request: Request<pdpb::ScanRegionsRequest>,
    ) -> Result<Response<pdpb::ScanRegionsResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let range = KeyRange { start_key: request.start_key, end_key: request.end_key };
        let call = PlacementCall::ScanRegions { range, limit: limit_of(request.limit) };
        let regions: Vec<_> = self.routes(running, call).await?.into_iter().map(region).collect();
        Ok(Response::new(pdpb::ScanRegionsResponse {
            header: Some(header(running.ident.cluster_id)),
            region_metas: regions.iter().filter_map(|region| region.region.clone()).collect(),
            // Older clients go by place: a region without a peer to name would have an empty one.
            leaders: regions.iter().map(|region| region.leader.unwrap_or_default()).collect(),
            regions,
        }))
    }

    async fn batch_scan_regions(
        &self,
        request: Request<pdpb::BatchScanRegionsRequest>,
    ) -> Result<Response<pdpb::BatchScanRegionsResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let ranges = request.ranges.into_iter();
        let ranges =
            ranges.map(|range| KeyRange { start_key: range.start_key, end_key: range.end_key }).collect();
        let call = PlacementCall::BatchScanRegions { ranges, limit: limit_of(request.limit) };
        let regions = self.routes(running, call).await?.into_iter().map(region).collect();
        let header = Some(header(running.ident.cluster_id));
        Ok(Response::new(pdpb::BatchScanRegionsResponse { header, regions }))
    }

    async fn query_region(
        &self,
        request: Request<Streaming<pdpb::QueryRegionRequest>>,
    ) -> Result<Response<Self::QueryRegionStream>, Status> {
        let state = Arc::clone(&self.state);
        let answers = stream::unfold((state, request.into_inner()), |(state, mut requests)| async move {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                Ok(None) => return None,
                Err(status) => return Some((Err(status), (state, requests))),
            };
            let answer = query(&state, request).await;
            Some((answer, (state, requests)))
        });
        Ok(Response::new(Box::pin(until_error(answers))))
    }

    async fn get_store(
        &self,
        request: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let cluster_id = running.ident.cluster_id;
        let call = PlacementCall::GetStore { store_id: StoreId(request.store_id) };
        let answer = match running.ask(call).await {
            Ok(answer) => answer,
            Err(placement::Error::StoreNotFound(_)) => PlacementAnswer::Store(None),
            Err(error) => return Err(status_of(error)),
        };
        let PlacementAnswer::Store(found) = answer else { return Err(other_answer()) };
        Ok(Response::new(match found {
            Some(picture) => pdpb::GetStoreResponse {
                header: Some(header(cluster_id)),
                stats: stats(&picture),
                store: Some(store(picture)),
            },
            None => {
                // Clients look for these very words.
                let text = format!("invalid store ID {}, not found", request.store_id);
                let header = refusal(cluster_id, pdpb::ErrorType::Unknown, text);
                pdpb::GetStoreResponse { header: Some(header), ..pdpb::GetStoreResponse::default() }
            }
        }))
    }

    async fn get_all_stores(
        &self,
        request: Request<pdpb::GetAllStoresRequest>,
    ) -> Result<Response<pdpb::GetAllStoresResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let call = PlacementCall::GetAllStores { is_without_removed: request.exclude_tombstone_stores };
        let answer = running.ask(call).await.map_err(status_of)?;
        let PlacementAnswer::Stores(pictures) = answer else { return Err(other_answer()) };
        let stores = pictures.into_iter().map(store).collect();
        let header = Some(header(running.ident.cluster_id));
        Ok(Response::new(pdpb::GetAllStoresResponse { header, stores }))
    }

    async fn get_cluster_info(
        &self,
        request: Request<pdpb::GetClusterInfoRequest>,
    ) -> Result<Response<pdpb::GetClusterInfoResponse>, Status> {
        let running = self.running(request.into_inner().header.as_ref())?;
        Ok(Response::new(pdpb::GetClusterInfoResponse {
            header: Some(header(running.ident.cluster_id)),
            service_modes: vec![pdpb::ServiceMode::PdSvcMode.into()],
            tso_urls: Vec::new(),
        }))
    }

    async fn split_regions(
        &self,
        request: Request<pdpb::SplitRegionsRequest>,
    ) -> Result<Response<pdpb::SplitRegionsResponse>, Status> {
        let time = time_of(request.metadata(), SPLIT_TIMEOUT);
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let done = divide(running, request.split_keys, request.retry_limit, time).await;
        let (finished_percentage, born) = done?;
        Ok(Response::new(pdpb::SplitRegionsResponse {
            header: Some(header(running.ident.cluster_id)),
            finished_percentage,
            regions_id: born.into_iter().map(|id| id.0).collect(),
        }))
    }

    async fn scatter_region(
        &self,
        request: Request<pdpb::ScatterRegionRequest>,
    ) -> Result<Response<pdpb::ScatterRegionResponse>, Status> {
        let time = time_of(request.metadata(), SCATTER_TIMEOUT);
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let cluster_id = running.ident.cluster_id;
        // Older clients name one region.
        let (one, ids) = match request.regions_id.as_slice() {
            [] => (Some(request.region_id), vec![request.region_id]),
            [..] => (None, request.regions_id),
        };
        let outcome = scatter(running, ids, &request.group, request.retry_limit, time).await?;
        let header = match one.filter(|_| !outcome.missing.is_empty()) {
            Some(id) => {
                let text = format!("region {id} not found");
                refusal(cluster_id, pdpb::ErrorType::RegionNotFound, text)
            }
            None => header(cluster_id),
        };
        let finished_percentage = outcome.finished_percentage;
        Ok(Response::new(pdpb::ScatterRegionResponse { header: Some(header), finished_percentage }))
    }

    async fn get_operator(
        &self,
        request: Request<pdpb::GetOperatorRequest>,
    ) -> Result<Response<pdpb::GetOperatorResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let cluster_id = running.ident.cluster_id;
        let call = PlacementCall::GetOperation { region_id: RegionId(request.region_id) };
        let answer = running.ask(call).await.map_err(status_of)?;
        let PlacementAnswer::Operation(found) = answer else { return Err(other_answer()) };
        Ok(Response::new(match found {
            Some(picture) => operator(header(cluster_id), &picture),
            None => {
                let text = format!("no operator of region {} is known: not found", request.region_id);
                let header = refusal(cluster_id, pdpb::ErrorType::RegionNotFound, text);
                pdpb::GetOperatorResponse { header: Some(header), ..Default::default() }
            }
        }))
    }
}

async fn give_timestamps(state: &State, request: &pdpb::TsoRequest) -> Result<pdpb::TsoResponse, Status> {
    let running = state.running().ok_or_else(not_started)?;
    check_cluster(running, request.header.as_ref())?;
    let PlacementAnswer::Timestamp(timestamp) =
        running.ask(PlacementCall::Tso { count: request.count }).await.map_err(status_of)?
    else {
        return Err(other_answer());
    };
    Ok(pdpb::TsoResponse {
        header: Some(header(running.ident.cluster_id)),
        count: request.count,
        timestamp: Some(pdpb::Timestamp {
            physical: i64::try_from(timestamp.physical_ms).unwrap_or(i64::MAX),
            logical: timestamp.logical.into(),
            suffix_bits: 0,
        }),
    })
}

/// Looks up everything that one message asks for, side by side.
async fn query(
    state: &State,
    request: pdpb::QueryRegionRequest,
) -> Result<pdpb::QueryRegionResponse, Status> {
    let running = state.running().ok_or_else(not_started)?;
    check_cluster(running, request.header.as_ref())?;
    let count = request.ids.len() + request.keys.len() + request.prev_keys.len();
    if count > REGION_QUERIES_MAX {
        return Err(Status::invalid_argument(format!(
            "{count} regions at once: the limit is {REGION_QUERIES_MAX}"
        )));
    }
    let by_id = |id: &u64| PlacementCall::GetRegionById { region_id: RegionId(*id) };
    let ids = join_all(request.ids.iter().map(|id| running.ask(by_id(id)))).await;
    let mut found = Found::default();
    for answer in ids {
        found.learn(answer)?;
    }
    let wanted = request.keys.iter().map(|key| PlacementCall::GetRegion { key: key.clone() });
    let wanted: Vec<_> = wanted
        .chain(request.prev_keys.iter().map(|key| PlacementCall::GetPrevRegion { key: key.clone() }))
        .collect();
    let mut routes: Vec<Option<Region>> = vec![None; wanted.len()];
    let mut open: Vec<usize> = (0..wanted.len()).collect();
    for _ in 0..QUERY_ROUNDS_MAX {
        let answers = join_all(open.iter().map(|at| running.ask(wanted[*at].clone()))).await;
        for (at, answer) in open.iter().zip(answers) {
            routes[*at] = found.learn(answer)?;
        }
        // A region of which another look-up has learnt that it is smaller by now does not answer for this key any more.
        open.retain(|at| routes[*at].as_ref().is_some_and(|region| !found.has(region)));
        if open.is_empty() {
            break;
        }
    }
    if !open.is_empty() {
        return Err(Status::unavailable("the regions are changing: ask again"));
    }
    let mut key_id_map: Vec<u64> =
        routes.iter().map(|region| region.as_ref().map_or(0, |region| region.id.0)).collect();
    let prev_key_id_map = key_id_map.split_off(request.keys.len());
    let regions_by_id = found.0.into_iter().map(|(id, route)| (id, queried_region(route))).collect();
    let header = Some(header(running.ident.cluster_id));
    Ok(pdpb::QueryRegionResponse { header, key_id_map, prev_key_id_map, regions_by_id })
}

/// The newest route to each region, by id: an answer has room for one.
#[derive(Default)]
struct Found(BTreeMap<u64, RegionRoute>);

impl Found {
    /// Takes an answer in; the region that it names, if there is one.
    fn learn(&mut self, answer: placement::Result<PlacementAnswer>) -> Result<Option<Region>, Status> {
        let PlacementAnswer::Region(found) = answer.map_err(status_of)? else { return Err(other_answer()) };
        let Some(route) = found else { return Ok(None) };
        let region = route.region.clone();
        match self.0.entry(region.id.0) {
            Entry::Vacant(entry) => drop(entry.insert(route)),
            Entry::Occupied(mut entry) if region.epoch.covers(entry.get().region.epoch) => {
                entry.insert(route);
            }
            Entry::Occupied(_) => {}
        }
        Ok(Some(region))
    }

    /// Whether the newest route to a region has the same keys.
    fn has(&self, region: &Region) -> bool {
        self.0.get(&region.id.0).is_some_and(|newest| newest.region.range == region.range)
    }
}

/// Ends a stream behind its first error.
fn until_error<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send {
    stream::unfold((Box::pin(answers), false), |(mut answers, has_failed)| async move {
        use futures::StreamExt;
        if has_failed {
            return None;
        }
        let answer = answers.next().await?;
        let has_failed = answer.is_err();
        Some((answer, (answers, has_failed)))
    })
}

/// Zero or less: no limit.
fn limit_of(limit: i32) -> u32 {
    u32::try_from(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use placement::PlacementAnswer;
    use types::{Epoch, Region};

    use super::*;

    fn answer(end_key: &'static str, version: u64) -> placement::Result<PlacementAnswer> {
        let range = KeyRange::new("", end_key);
        let epoch = Epoch { conf_version: 1, version };
        let region = Region { id: RegionId(7), range, epoch, peers: vec![] };
        Ok(PlacementAnswer::Region(Some(RegionRoute {
            region,
            leader: None,
            stand_in: None,
            down_peers: vec![],
            pending_peers: vec![],
            size: types::RegionSize::default(),
        })))
    }

    /// One message asks for two keys of a region that splits between the two look-ups.
    #[test]
    fn a_key_is_looked_up_again_where_its_region_has_become_smaller_meanwhile() {
        for (first, second) in [(("z", 1), ("m", 2)), (("m", 2), ("z", 1))] {
            let mut found = Found::default();
            let learnt = [first, second].map(|(end_key, version)| {
                found.learn(answer(end_key, version)).expect("a region").expect("there is one")
            });
            for region in learnt {
                assert_eq!(found.has(&region), region.epoch.version == 2, "{region:?}");
            }
            assert_eq!(found.0[&7].region.range, KeyRange::new("", "m"));
        }
    }
}
