//! Cluster metadata that newer clients ask for at their start: there is none, and they are content with that.

use std::sync::Arc;

use proto::meta_storagepb::{GetRequest, GetResponse, ResponseHeader, meta_storage_server};
use tonic::{Request, Response, Status};

use super::tikv::not_started;
use crate::state::State;

pub(super) struct MetaStorage {
    state: Arc<State>,
}

impl MetaStorage {
    pub(super) fn new(state: Arc<State>) -> MetaStorage {
        MetaStorage { state }
    }
}

#[tonic::async_trait]
impl meta_storage_server::MetaStorage for MetaStorage {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let running = self.state.running().ok_or_else(not_started)?;
        let header = ResponseHeader { cluster_id: running.ident.cluster_id.0, revision: 1 };
        Ok(Response::new(GetResponse { header: Some(header), ..GetResponse::default() }))
    }
}
