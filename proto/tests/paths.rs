//! The paths under which stock clients, and our stores, call: they follow from names in the definitions, which nothing else
//! would notice to be misspelt.
#![cfg(feature = "grpc")]

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tonic::{
    body::Body,
    codegen::{Service, http},
};

/// Notes the path of each call and never answers.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Service<http::Request<Body>> for Recorder {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.lock().expect("nothing panics under this lock").push(request.uri().path().to_owned());
        std::future::pending()
    }
}

/// The path that a client method calls.
fn path_of<F: Future>(call: impl FnOnce(Recorder) -> F) -> String {
    let recorder = Recorder::default();
    let future = pin!(call(recorder.clone()));
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let path = recorder.0.lock().expect("nothing panics under this lock").pop();
    path.expect("a client calls its service when it is first polled")
}

macro_rules! check {
    ($($client:path, $method:ident => $path:literal;)*) => {$(
        let path = path_of(|recorder| async move {
            type Client = $client;
            Client::new(recorder).$method(tonic::Request::new(Default::default())).await.map(drop)
        });
        assert_eq!(path, $path);
    )*};
}

type Tikv = proto::tikvpb::tikv_client::TikvClient<Recorder>;
type Pd = proto::pdpb::pd_client::PdClient<Recorder>;
type Keyspace = proto::keyspacepb::keyspace_client::KeyspaceClient<Recorder>;
type MetaStorage = proto::meta_storagepb::meta_storage_client::MetaStorageClient<Recorder>;
type Health = proto::health::health_client::HealthClient<Recorder>;
type StoreTransport = proto::raft::store_transport_client::StoreTransportClient<Recorder>;

#[test]
fn methods_have_the_names_that_clients_call() {
    check! {
        Tikv, raw_get => "/tikvpb.Tikv/RawGet";
        Tikv, raw_batch_get => "/tikvpb.Tikv/RawBatchGet";
        Tikv, raw_put => "/tikvpb.Tikv/RawPut";
        Tikv, raw_batch_put => "/tikvpb.Tikv/RawBatchPut";
        Tikv, raw_delete => "/tikvpb.Tikv/RawDelete";
        Tikv, raw_batch_delete => "/tikvpb.Tikv/RawBatchDelete";
        Tikv, raw_scan => "/tikvpb.Tikv/RawScan";
        Tikv, raw_delete_range => "/tikvpb.Tikv/RawDeleteRange";
        Tikv, raw_batch_scan => "/tikvpb.Tikv/RawBatchScan";
        Tikv, raw_get_key_ttl => "/tikvpb.Tikv/RawGetKeyTTL";
        Tikv, raw_compare_and_swap => "/tikvpb.Tikv/RawCompareAndSwap";
        Tikv, raw_checksum => "/tikvpb.Tikv/RawChecksum";
        Tikv, split_region => "/tikvpb.Tikv/SplitRegion";
        Pd, get_members => "/pdpb.PD/GetMembers";
        Pd, get_region => "/pdpb.PD/GetRegion";
        Pd, get_prev_region => "/pdpb.PD/GetPrevRegion";
        Pd, get_region_by_id => "/pdpb.PD/GetRegionByID";
        Pd, scan_regions => "/pdpb.PD/ScanRegions";
        Pd, batch_scan_regions => "/pdpb.PD/BatchScanRegions";
        Pd, get_store => "/pdpb.PD/GetStore";
        Pd, get_all_stores => "/pdpb.PD/GetAllStores";
        Pd, get_cluster_info => "/pdpb.PD/GetClusterInfo";
        Pd, split_regions => "/pdpb.PD/SplitRegions";
        Pd, scatter_region => "/pdpb.PD/ScatterRegion";
        Pd, get_operator => "/pdpb.PD/GetOperator";
        Keyspace, load_keyspace => "/keyspacepb.Keyspace/LoadKeyspace";
        MetaStorage, get => "/meta_storagepb.MetaStorage/Get";
        Health, check => "/grpc.health.v1.Health/Check";
        Health, watch => "/grpc.health.v1.Health/Watch";
        StoreTransport, hello => "/sheaf.raft.v1.StoreTransport/Hello";
    }
}

#[test]
fn streams_have_the_names_that_clients_call() {
    let path = path_of(|recorder| async move {
        Tikv::new(recorder).batch_commands(tokio_stream::empty()).await.map(drop)
    });
    assert_eq!(path, "/tikvpb.Tikv/BatchCommands");
    let path =
        path_of(|recorder| async move { Pd::new(recorder).tso(tokio_stream::empty()).await.map(drop) });
    assert_eq!(path, "/pdpb.PD/Tso");
    let path =
        path_of(
            |recorder| async move { Pd::new(recorder).query_region(tokio_stream::empty()).await.map(drop) },
        );
    assert_eq!(path, "/pdpb.PD/QueryRegion");
    let path = path_of(|recorder| async move {
        StoreTransport::new(recorder).lane(tokio_stream::empty()).await.map(drop)
    });
    assert_eq!(path, "/sheaf.raft.v1.StoreTransport/Lane");
}
