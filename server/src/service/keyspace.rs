//! Keyspaces: there is one, `DEFAULT`, in a cluster whose keys have keyspaces.

use std::sync::Arc;

use placement::KeyMode;
use proto::{
    keyspacepb::{KeyspaceMeta, KeyspaceState, LoadKeyspaceRequest, LoadKeyspaceResponse, keyspace_server},
    pdpb::{Error, ErrorType},
};
use tonic::{Request, Response, Status};

use super::{pd::check_cluster, pd_convert::header, tikv::not_started};
use crate::state::State;

/// The keyspace that is always there.
const DEFAULT_NAME: &str = "DEFAULT";

pub(super) struct Keyspace {
    state: Arc<State>,
}

impl Keyspace {
    pub(super) fn new(state: Arc<State>) -> Keyspace {
        Keyspace { state }
    }
}

#[tonic::async_trait]
impl keyspace_server::Keyspace for Keyspace {
    async fn load_keyspace(
        &self,
        request: Request<LoadKeyspaceRequest>,
    ) -> Result<Response<LoadKeyspaceResponse>, Status> {
        let running = self.state.running().ok_or_else(not_started)?;
        let request = request.into_inner();
        check_cluster(running, request.header.as_ref())?;
        let mut header = header(running.ident.cluster_id);
        let refusal = match running.key_mode {
            KeyMode::Keyspaces if request.name == DEFAULT_NAME => None,
            KeyMode::Keyspaces => {
                Some(format!("keyspace {:?} does not exist: only {DEFAULT_NAME:?} does", request.name))
            }
            KeyMode::Raw | KeyMode::Txn => {
                Some("this cluster has no keyspaces (API V1): connect without one".to_owned())
            }
        };
        let keyspace = match refusal {
            None => Some(KeyspaceMeta {
                id: 0,
                name: DEFAULT_NAME.to_owned(),
                state: KeyspaceState::Enabled.into(),
                ..KeyspaceMeta::default()
            }),
            Some(message) => {
                header.error = Some(Error { r#type: ErrorType::Unknown.into(), message });
                None
            }
        };
        Ok(Response::new(LoadKeyspaceResponse { header: Some(header), keyspace }))
    }
}
