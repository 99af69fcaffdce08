//! The data service: single requests, and the stream of [`super::batch`].

use std::sync::Arc;

use metrics::counter;
use proto::{kvrpcpb as wire, tikvpb};
use store::{Proposal, ReadRequest, Responder};
use telemetry::names;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};
use types::Query;

use super::{
    batch::BatchStream,
    calls::{Read, Response as _, Write, answered, written},
    gate::Gate,
    region_error::Refusal,
    scan::follow,
    split::split_for_client,
};
use crate::state::{Running, State};

pub(super) struct Tikv {
    state: Arc<State>,
}

impl Tikv {
    pub(super) fn new(state: Arc<State>) -> Tikv {
        Tikv { state }
    }

    fn running(&self) -> Result<(&Running, Gate), Status> {
        let running = self.state.running().ok_or_else(not_started)?;
        Ok((running, Gate { cluster_id: running.ident.cluster_id, key_mode: running.key_mode }))
    }

    async fn write<W: Write>(&self, request: Request<W>) -> Result<Response<W::Response>, Status> {
        let (running, gate) = self.running()?;
        counter!(names::SERVER_REQUESTS, "method" => W::NAME).increment(1);
        let mut request = request.into_inner();
        let context = request.take_context();
        let (context, request) = match gate.write(context, || request.command()) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Response::new(W::Response::refused(refusal))),
        };
        let region_id = context.region_id;
        let (sender, receiver) = oneshot::channel();
        // The client may have gone away.
        let responder = Responder::new(move |result| drop(sender.send(result)));
        running.store.submit(vec![Proposal { context, request, responder }]);
        let result = receiver.await.map_err(|_| Status::unavailable("the store is stopping"))?;
        Ok(Response::new(written::<W>(result.map_err(|error| Refusal::of(error, region_id)))))
    }

    async fn read<R: Read>(&self, request: Request<R>) -> Result<Response<R::Response>, Status> {
        let (running, gate) = self.running()?;
        counter!(names::SERVER_REQUESTS, "method" => R::NAME).increment(1);
        let mut request = request.into_inner();
        let context = request.take_context();
        let (context, query) = match gate.read(context, || request.query()) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Response::new(R::Response::refused(refusal))),
        };
        let region_id = context.region_id;
        let scan = if let Query::Scan(scan) = &query { Some(scan.clone()) } else { None };
        let (sender, receiver) = oneshot::channel();
        let responder = Responder::new(move |result| drop(sender.send(result)));
        running.store.read(vec![ReadRequest { context, query, responder }]);
        let result = receiver.await.map_err(|_| Status::unavailable("the store is stopping"))?;
        let result = match (result, scan) {
            (Err(refusal), Some(scan)) => follow(&running.store, &context, &scan, refusal).await,
            (result, _) => result,
        };
        let result = result.map(|answer| gate.answer(answer)).map_err(|error| Refusal::of(error, region_id));
        Ok(Response::new(answered::<R>(result)))
    }
}

/// Told by every service while there is no store to ask.
pub(super) fn not_started() -> Status {
    Status::unavailable("the store has not started yet: it waits for `sheaf init`, or for its cluster")
}

macro_rules! unary {
    ($($method:ident: $kind:ident $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl tikvpb::tikv_server::Tikv for Tikv {
            type BatchCommandsStream = BatchStream;

            async fn batch_commands(
                &self,
                request: Request<Streaming<tikvpb::BatchCommandsRequest>>,
            ) -> Result<Response<BatchStream>, Status> {
                let (running, gate) = self.running()?;
                Ok(Response::new(BatchStream::new(running.store.clone(), gate, request.into_inner())))
            }

            async fn split_region(
                &self,
                request: Request<wire::SplitRegionRequest>,
            ) -> Result<Response<wire::SplitRegionResponse>, Status> {
                let (running, gate) = self.running()?;
                counter!(names::SERVER_REQUESTS, "method" => "SplitRegion").increment(1);
                split_for_client(running, gate, request.into_inner()).await.map(Response::new)
            }

            $(
                async fn $method(
                    &self,
                    request: Request<wire::$request>,
                ) -> Result<Response<wire::$response>, Status> {
                    self.$kind(request).await
                }
            )*
        }
    };
}

unary! {
    raw_get: read RawGetRequest => RawGetResponse;
    raw_batch_get: read RawBatchGetRequest => RawBatchGetResponse;
    raw_put: write RawPutRequest => RawPutResponse;
    raw_batch_put: write RawBatchPutRequest => RawBatchPutResponse;
    raw_delete: write RawDeleteRequest => RawDeleteResponse;
    raw_batch_delete: write RawBatchDeleteRequest => RawBatchDeleteResponse;
    raw_scan: read RawScanRequest => RawScanResponse;
    raw_delete_range: write RawDeleteRangeRequest => RawDeleteRangeResponse;
    raw_batch_scan: read RawBatchScanRequest => RawBatchScanResponse;
    raw_get_key_ttl: read RawGetKeyTtlRequest => RawGetKeyTtlResponse;
    raw_compare_and_swap: write RawCasRequest => RawCasResponse;
    raw_checksum: read RawChecksumRequest => RawChecksumResponse;
}
