//! What placement answers.

use std::pin::Pin;

use proto::{metapb, pdpb as wire, pdpb::pd_server::Pd};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use types::{Region, StoreId};

use super::{CLUSTER_ID, Cluster, State};

pub struct Placement {
    pub cluster: Cluster,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn header() -> Option<wire::ResponseHeader> {
    Some(wire::ResponseHeader { cluster_id: CLUSTER_ID, error: None })
}

fn region_response(state: &State, region: Option<Region>) -> Response<wire::GetRegionResponse> {
    let leader = region.as_ref().and_then(|region| state.leader(region)).map(Into::into);
    Response::new(wire::GetRegionResponse {
        header: header(),
        region: region.map(Into::into),
        leader,
        ..wire::GetRegionResponse::default()
    })
}

/// Methods that the client does not use.
macro_rules! unused {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl Pd for Placement {
            type TsoStream = Responses<wire::TsoResponse>;
            type QueryRegionStream = Responses<wire::QueryRegionResponse>;

            async fn get_members(
                &self,
                _request: Request<wire::GetMembersRequest>,
            ) -> Result<Response<wire::GetMembersResponse>, Status> {
                let state = self.cluster.state();
                let member = |(id, address): (&StoreId, &String)| wire::Member {
                    name: id.to_string(),
                    member_id: id.0,
                    peer_urls: Vec::new(),
                    client_urls: vec![format!("http://{address}")],
                };
                let members = state.addresses.iter().map(member).collect();
                Ok(Response::new(wire::GetMembersResponse { header: header(), members, leader: None, etcd_leader: None }))
            }

            async fn get_region(
                &self,
                request: Request<wire::GetRegionRequest>,
            ) -> Result<Response<wire::GetRegionResponse>, Status> {
                let mut state = self.cluster.state();
                state.lookup_count += 1;
                let region = state.find(&request.get_ref().region_key).cloned();
                Ok(region_response(&state, region))
            }

            async fn scan_regions(
                &self,
                request: Request<wire::ScanRegionsRequest>,
            ) -> Result<Response<wire::ScanRegionsResponse>, Status> {
                let request = request.into_inner();
                let mut state = self.cluster.state();
                state.lookup_count += 1;
                let mut regions: Vec<_> = state.regions.iter().collect();
                regions.sort_by_key(|region| &region.range.start_key);
                let range = types::KeyRange { start_key: request.start_key, end_key: request.end_key };
                let limit = usize::try_from(request.limit).unwrap();
                let limit = if limit == 0 { usize::MAX } else { limit };
                let regions = regions.into_iter().filter(|region| region.range.overlaps(&range)).take(limit);
                let regions = regions.map(|region| wire::Region {
                    region: Some(region.clone().into()),
                    leader: state.leader(region).map(Into::into),
                    ..wire::Region::default()
                });
                let regions = regions.collect();
                Ok(Response::new(wire::ScanRegionsResponse { header: header(), regions, ..Default::default() }))
            }

            async fn get_prev_region(
                &self,
                request: Request<wire::GetRegionRequest>,
            ) -> Result<Response<wire::GetRegionResponse>, Status> {
                let state = self.cluster.state();
                let start_key = state.find(&request.get_ref().region_key).map(|region| region.range.start_key.clone());
                let prev = state.regions.iter().find(|region| {
                    !region.range.end_key.is_empty() && Some(&region.range.end_key) == start_key.as_ref()
                });
                let prev = prev.cloned();
                Ok(region_response(&state, prev))
            }

            async fn get_store(
                &self,
                request: Request<wire::GetStoreRequest>,
            ) -> Result<Response<wire::GetStoreResponse>, Status> {
                let id = request.get_ref().store_id;
                let address = self.cluster.state().addresses.get(&StoreId(id)).cloned();
                let store = address.map(|address| metapb::Store { id, address, ..metapb::Store::default() });
                Ok(Response::new(wire::GetStoreResponse { header: header(), store, stats: None }))
            }

            async fn tso(
                &self,
                _request: Request<Streaming<wire::TsoRequest>>,
            ) -> Result<Response<Self::TsoStream>, Status> {
                Err(Status::unimplemented("tso"))
            }

            async fn query_region(
                &self,
                _request: Request<Streaming<wire::QueryRegionRequest>>,
            ) -> Result<Response<Self::QueryRegionStream>, Status> {
                Err(Status::unimplemented("query_region"))
            }

            $(async fn $method(&self, _request: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($method)))
            })*
        }
    };
}

unused! {
    get_region_by_id(wire::GetRegionByIdRequest) -> wire::GetRegionResponse;
    batch_scan_regions(wire::BatchScanRegionsRequest) -> wire::BatchScanRegionsResponse;
    get_all_stores(wire::GetAllStoresRequest) -> wire::GetAllStoresResponse;
    get_cluster_info(wire::GetClusterInfoRequest) -> wire::GetClusterInfoResponse;
    split_regions(wire::SplitRegionsRequest) -> wire::SplitRegionsResponse;
    scatter_region(wire::ScatterRegionRequest) -> wire::ScatterRegionResponse;
    get_operator(wire::GetOperatorRequest) -> wire::GetOperatorResponse;
}
