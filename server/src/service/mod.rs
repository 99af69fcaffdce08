//! The services of the one port: decode, ask store or placement, encode. Nothing is decided here.

mod admin;
mod admin_convert;
mod batch;
mod calls;
mod gate;
mod health;
mod keyspace;
mod keyspace_codec;
mod limits;
mod meta_storage;
mod patience;
mod pd;
mod pd_convert;
mod region_error;
mod scan;
mod scatter;
mod sink;
mod split;
mod tikv;

use std::sync::Arc;

use axum::Router;
use placement::KeyMode;
use proto::placement::KeysMode;
use tonic::service::Routes;
use transport::{REQUEST_BYTES_MAX, Service as TransportService};

use crate::{http, state::State};

/// Every service of the process.
pub(crate) struct Services {
    /// Lanes of other stores.
    pub(crate) transport: TransportService,
}

impl Services {
    pub(crate) fn new(state: &Arc<State>) -> Services {
        let hello_state = Arc::clone(state);
        let transport = TransportService::new(Arc::new(move |other| {
            hello_state.on_hello(&other);
            hello_state.hello()
        }));
        Services { transport }
    }

    /// gRPC and HTTP in one.
    pub(crate) fn router(&self, state: &Arc<State>) -> Router {
        use proto::{
            admin::admin_server::AdminServer, health::health_server::HealthServer,
            keyspacepb::keyspace_server::KeyspaceServer,
            meta_storagepb::meta_storage_server::MetaStorageServer, pdpb::pd_server::PdServer,
            tikvpb::tikv_server::TikvServer,
        };
        let state = || Arc::clone(state);
        let tikv = TikvServer::new(tikv::Tikv::new(state()))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let pd = PdServer::new(pd::Pd::new(state()))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let routes = Routes::from(http::router(state()))
            .add_service(tikv)
            .add_service(pd)
            .add_service(KeyspaceServer::new(keyspace::Keyspace::new(state())))
            .add_service(MetaStorageServer::new(meta_storage::MetaStorage::new(state())))
            .add_service(HealthServer::new(health::Health::new(state())))
            .add_service(AdminServer::new(admin::Admin::new(state())))
            .add_service(self.transport.clone().into_server());
        routes.into_axum_router()
    }
}

/// A key mode's number on the wire.
pub(crate) fn key_mode_to_number(key_mode: KeyMode) -> i32 {
    match key_mode {
        KeyMode::Raw => KeysMode::Raw,
        KeyMode::Txn => KeysMode::Txn,
        KeyMode::Keyspaces => KeysMode::Keyspaces,
    }
    .into()
}

/// The key mode of a number on the wire; unspecified is raw.
pub(crate) fn key_mode_of_number(number: i32) -> Option<KeyMode> {
    match KeysMode::try_from(number) {
        Ok(KeysMode::Unspecified | KeysMode::Raw) => Some(KeyMode::Raw),
        Ok(KeysMode::Txn) => Some(KeyMode::Txn),
        Ok(KeysMode::Keyspaces) => Some(KeyMode::Keyspaces),
        Err(_) => None,
    }
}
