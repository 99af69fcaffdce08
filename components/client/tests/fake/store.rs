//! What a store answers: the checks of routing, a map, and the faults that were asked for.

use std::{ops::Bound, pin::Pin};

use bytes::Bytes;
use proto::{
    convert::RequestContext,
    errorpb, kvrpcpb as wire,
    tikvpb::{
        BatchCommandsRequest, BatchCommandsResponse,
        batch_commands_request::request::Cmd,
        batch_commands_response::{Response as BatchResponse, response::Cmd as ResponseCmd},
        tikv_server::Tikv,
    },
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use types::{Answer, Command, KeyRange, Outcome, Query, StoreId};

use super::{Cluster, Fault, State};

pub struct Store {
    pub id: StoreId,
    pub cluster: Cluster,
}

/// What becomes of the stream.
enum Step {
    Answer(ResponseCmd),
    Silence,
    Break,
}

#[tonic::async_trait]
impl Tikv for Store {
    type BatchCommandsStream = Pin<Box<dyn Stream<Item = Result<BatchCommandsResponse, Status>> + Send>>;

    async fn batch_commands(
        &self,
        request: Request<Streaming<BatchCommandsRequest>>,
    ) -> Result<Response<Self::BatchCommandsStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, responses) = tokio::sync::mpsc::channel(16);
        let (id, cluster) = (self.id, self.cluster.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                let Some(response) = answer_message(&mut cluster.state(), id, message) else { return };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn raw_compare_and_swap(
        &self,
        request: Request<wire::RawCasRequest>,
    ) -> Result<Response<wire::RawCasResponse>, Status> {
        let mut request = request.into_inner();
        let (key, context) = (request.key.clone(), request.context.take());
        let mut state = self.cluster.state();
        if state.faults.pop_front().is_some() {
            return Err(Status::unavailable("it broke"));
        }
        if let Some(region_error) = check(&state, self.id, context, &key) {
            return Ok(Response::new(wire::RawCasResponse {
                region_error: Some(region_error),
                ..Default::default()
            }));
        }
        let outcome = write(&mut state, request.try_into().unwrap());
        Ok(Response::new(outcome.try_into().unwrap()))
    }

    async fn raw_get_key_ttl(
        &self,
        request: Request<wire::RawGetKeyTtlRequest>,
    ) -> Result<Response<wire::RawGetKeyTtlResponse>, Status> {
        let has_key = self.cluster.state().pairs.contains_key(&request.get_ref().key);
        Ok(Response::new(Answer::Ttl(has_key.then_some(0)).try_into().unwrap()))
    }

    async fn split_region(
        &self,
        _: Request<wire::SplitRegionRequest>,
    ) -> Result<Response<wire::SplitRegionResponse>, Status> {
        Err(Status::unimplemented("the client asks placement to split"))
    }

    /// Not a checksum: it counts, and adds the lengths.
    async fn raw_checksum(
        &self,
        request: Request<wire::RawChecksumRequest>,
    ) -> Result<Response<wire::RawChecksumResponse>, Status> {
        let mut request = request.into_inner();
        let context = RequestContext::try_from(request.context.take()).unwrap();
        let state = self.cluster.state();
        let region = state.regions.iter().find(|region| region.id == context.region_id).unwrap();
        let range = request.ranges.pop().unwrap();
        let range = KeyRange::new(range.start_key, range.end_key);
        assert!(region.range.contains_range(&range));
        let pairs: Vec<_> = state.pairs.iter().filter(|(key, _)| range.contains_key(key)).collect();
        let total_pairs = u64::try_from(pairs.len()).unwrap();
        let answer =
            Answer::Checksum { checksum: 1 << region.id.0, total_pairs, total_bytes: 2 * total_pairs };
        Ok(Response::new(answer.try_into().unwrap()))
    }

    async fn raw_get(
        &self,
        _: Request<wire::RawGetRequest>,
    ) -> Result<Response<wire::RawGetResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_batch_get(
        &self,
        _: Request<wire::RawBatchGetRequest>,
    ) -> Result<Response<wire::RawBatchGetResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_put(
        &self,
        _: Request<wire::RawPutRequest>,
    ) -> Result<Response<wire::RawPutResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_batch_put(
        &self,
        _: Request<wire::RawBatchPutRequest>,
    ) -> Result<Response<wire::RawBatchPutResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_delete(
        &self,
        _: Request<wire::RawDeleteRequest>,
    ) -> Result<Response<wire::RawDeleteResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_batch_delete(
        &self,
        _: Request<wire::RawBatchDeleteRequest>,
    ) -> Result<Response<wire::RawBatchDeleteResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_scan(
        &self,
        _: Request<wire::RawScanRequest>,
    ) -> Result<Response<wire::RawScanResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_delete_range(
        &self,
        _: Request<wire::RawDeleteRangeRequest>,
    ) -> Result<Response<wire::RawDeleteRangeResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
    async fn raw_batch_scan(
        &self,
        _: Request<wire::RawBatchScanRequest>,
    ) -> Result<Response<wire::RawBatchScanResponse>, Status> {
        Err(Status::unimplemented("the client batches"))
    }
}

/// None: the stream ends.
fn answer_message(
    state: &mut State,
    id: StoreId,
    message: BatchCommandsRequest,
) -> Option<BatchCommandsResponse> {
    state.message_sizes.push(message.requests.len());
    let mut response = BatchCommandsResponse::default();
    for (number, request) in message.request_ids.into_iter().zip(message.requests) {
        match step(state, id, request.cmd.unwrap()) {
            Step::Answer(cmd) => {
                response.responses.push(BatchResponse { cmd: Some(cmd) });
                response.request_ids.push(number);
            }
            Step::Silence => {}
            Step::Break => return None,
        }
    }
    Some(response)
}

/// Command or query, its context, a key by which its region is found, and the response that a region error goes into.
macro_rules! dispatch {
    ($state:ident, $id:ident, $request:ident, $do:ident, $arm:ident, $response:ident, $key:expr) => {{
        let mut request = $request;
        let key: Bytes = $key(&request);
        let fault = $state.faults.pop_front();
        let error = fault.as_ref().and_then(|fault| error_of($state, $id, fault, &key));
        let error = error.or_else(|| check($state, $id, request.context.take(), &key));
        if fault == Some(Fault::Silence) {
            return Step::Silence;
        }
        if fault == Some(Fault::Break) {
            return Step::Break;
        }
        let response = match error {
            Some(region_error) => wire::$response { region_error: Some(region_error), ..Default::default() },
            None => $do($state, request.try_into().unwrap()).try_into().unwrap(),
        };
        if fault == Some(Fault::ApplyAndBreak) {
            return Step::Break;
        }
        Step::Answer(ResponseCmd::$arm(response))
    }};
}

fn step(state: &mut State, id: StoreId, cmd: Cmd) -> Step {
    match cmd {
        Cmd::RawGet(request) => {
            dispatch!(state, id, request, read, RawGet, RawGetResponse, |r: &wire::RawGetRequest| r
                .key
                .clone())
        }
        Cmd::RawBatchGet(request) => {
            dispatch!(
                state,
                id,
                request,
                read,
                RawBatchGet,
                RawBatchGetResponse,
                |r: &wire::RawBatchGetRequest| r.keys[0].clone()
            )
        }
        Cmd::RawPut(request) if request.key.is_empty() => {
            let error = "a key must not be empty".to_owned();
            Step::Answer(ResponseCmd::RawPut(wire::RawPutResponse { error, ..Default::default() }))
        }
        Cmd::RawPut(request) => {
            dispatch!(state, id, request, write, RawPut, RawPutResponse, |r: &wire::RawPutRequest| r
                .key
                .clone())
        }
        Cmd::RawBatchPut(request) => {
            dispatch!(
                state,
                id,
                request,
                write,
                RawBatchPut,
                RawBatchPutResponse,
                |r: &wire::RawBatchPutRequest| r.pairs[0].key.clone()
            )
        }
        Cmd::RawDelete(request) => {
            dispatch!(
                state,
                id,
                request,
                write,
                RawDelete,
                RawDeleteResponse,
                |r: &wire::RawDeleteRequest| r.key.clone()
            )
        }
        Cmd::RawBatchDelete(request) => {
            dispatch!(
                state,
                id,
                request,
                write,
                RawBatchDelete,
                RawBatchDeleteResponse,
                |r: &wire::RawBatchDeleteRequest| { r.keys[0].clone() }
            )
        }
        Cmd::RawScan(request) => {
            dispatch!(state, id, request, read, RawScan, RawScanResponse, |r: &wire::RawScanRequest| {
                if r.reverse { r.end_key.clone() } else { r.start_key.clone() }
            })
        }
        Cmd::RawDeleteRange(request) => {
            dispatch!(
                state,
                id,
                request,
                write,
                RawDeleteRange,
                RawDeleteRangeResponse,
                |r: &wire::RawDeleteRangeRequest| { r.start_key.clone() }
            )
        }
        Cmd::RawBatchScan(_) | Cmd::GetHealthFeedback(_) | Cmd::Empty(_) => Step::Silence,
    }
}

fn error_of(state: &State, _id: StoreId, fault: &Fault, key: &[u8]) -> Option<errorpb::Error> {
    let mut error = errorpb::Error { message: "as asked".to_owned(), ..Default::default() };
    match fault {
        Fault::Busy(backoff_ms) => {
            error.server_is_busy = Some(errorpb::ServerIsBusy {
                reason: "ledger".to_owned(),
                backoff_ms: *backoff_ms,
                ..Default::default()
            });
        }
        Fault::Undetermined => error.undetermined_result = Some(errorpb::UndeterminedResult::default()),
        Fault::NoHint => {
            let region_id = state.find(key).unwrap().id.0;
            error.not_leader = Some(errorpb::NotLeader { region_id, leader: None });
        }
        Fault::Break | Fault::ApplyAndBreak | Fault::Silence => return None,
    }
    Some(error)
}

/// Whether the client came to the right place.
fn check(state: &State, id: StoreId, context: Option<wire::Context>, key: &[u8]) -> Option<errorpb::Error> {
    let context = RequestContext::try_from(context).unwrap();
    assert_eq!(context.cluster_id.unwrap().0, super::CLUSTER_ID);
    assert_eq!(context.peer.unwrap().store_id, id);
    let mut error = errorpb::Error { message: "no".to_owned(), ..Default::default() };
    let Some(region) = state.regions.iter().find(|region| region.id == context.region_id) else {
        error.region_not_found = Some(errorpb::RegionNotFound { region_id: context.region_id.0 });
        return Some(error);
    };
    let leader = state.leader(region);
    if leader.is_none_or(|leader| leader.store_id != id) {
        error.not_leader =
            Some(errorpb::NotLeader { region_id: region.id.0, leader: leader.map(Into::into) });
        return Some(error);
    }
    if region.epoch != context.epoch {
        let mut current_regions = vec![region.clone().into()];
        let neighbours = state.regions.iter().filter(|other| other.range.end_key == region.range.start_key);
        current_regions.extend(neighbours.cloned().map(Into::into));
        error.epoch_not_match = Some(errorpb::EpochNotMatch { current_regions });
        return Some(error);
    }
    assert!(region.range.contains_key(key));
    None
}

fn write(state: &mut State, command: Command) -> Outcome {
    match command {
        Command::Put(pair) => drop(state.pairs.insert(pair.key, pair.value)),
        Command::BatchPut { pairs } => {
            state.pairs.extend(pairs.into_iter().map(|pair| (pair.key, pair.value)))
        }
        Command::Delete { key } => drop(state.pairs.remove(&key)),
        Command::BatchDelete { keys } => state.pairs.retain(|key, _| !keys.contains(key)),
        Command::DeleteRange { range } => state.pairs.retain(|key, _| !range.contains_key(key)),
        Command::CompareAndSwap(swap) => {
            let previous = state.pairs.get(&swap.key).cloned();
            let is_swapped = previous == swap.expected;
            if is_swapped {
                match swap.replacement {
                    Some(value) => drop(state.pairs.insert(swap.key, value)),
                    None => drop(state.pairs.remove(&swap.key)),
                }
            }
            return Outcome::Swapped { is_swapped, previous };
        }
        Command::Placement(_) => unreachable!("clients do not send it"),
    }
    Outcome::Done
}

fn read(state: &mut State, query: Query) -> Answer {
    match query {
        Query::Get { key } => Answer::Value(state.pairs.get(&key).cloned()),
        Query::BatchGet { keys } => {
            let found = keys
                .into_iter()
                .filter_map(|key| state.pairs.get(&key).map(|value| (key.clone(), value.clone())));
            Answer::Pairs(found.collect())
        }
        Query::Scan(scan) => {
            let from = Bound::Included(scan.range.start_key.clone());
            let pairs =
                state.pairs.range((from, Bound::Unbounded)).map(|(key, value)| (key.clone(), value.clone()));
            let mut pairs: Vec<_> = pairs.take_while(|(key, _)| scan.range.contains_key(key)).collect();
            if scan.is_reverse {
                pairs.reverse();
            }
            pairs.truncate(scan.limit as usize);
            Answer::Pairs(pairs)
        }
        Query::BatchScan { .. }
        | Query::KeyTtl { .. }
        | Query::Checksum { .. }
        | Query::PlacementRows { .. } => {
            unreachable!("not asked here")
        }
    }
}
