//! `BatchCommands`: the way of nearly every request. What one message brings goes to the store in one call, and what is
//! answered while a message is on its way out goes into the next one.
//!
//! Each request is answered for itself: one that is malformed gets its own error, and one of a kind that this version
//! does not know an answer without a command, which clients report as "unknown command response" for this request alone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use metrics::{Counter, Gauge, counter, gauge};
use proto::{
    kvrpcpb::{GetHealthFeedbackResponse, HealthFeedback},
    tikvpb::{
        BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse,
        batch_commands_request::request::Cmd as Ask, batch_commands_response::response::Cmd as Tell,
    },
};
use store::{Proposal, ReadRequest, Responder, Store};
use telemetry::names;
use tokio::time::sleep;
use tonic::{Status, Streaming};

use super::{
    calls::{Read, Response, Write, answered, written},
    gate::Gate,
    limits::{EMPTY_DELAY_MAX, STREAM_WAITING_MAX},
    region_error::Refusal,
    sink::{Batch, Sink},
};

/// One stream of a client: requests in, answers out. Polled by the connection, it needs no task of its own.
pub(super) struct BatchStream {
    store: Store,
    gate: Gate,
    requests: Streaming<BatchCommandsRequest>,
    sink: Arc<Sink>,
    state: StreamState,
    /// Answers are there, and others were given the chance to join them.
    has_yielded: bool,
    metrics: StreamMetrics,
}

enum StreamState {
    /// Requests may come.
    Open,
    /// The client has said everything; answers are still due.
    HalfClosed,
    /// The client sent what cannot be read: it is told so once every answer is out.
    Broken(Option<Status>),
}

/// Counted over all streams.
struct StreamMetrics {
    streams: Gauge,
    batches_received: Counter,
    commands_received: Counter,
    batches_sent: Counter,
    answers_sent: Counter,
}

/// What one message asks of the store.
#[derive(Default)]
struct Work {
    proposals: Vec<Proposal>,
    reads: Vec<ReadRequest>,
}

impl BatchStream {
    pub(super) fn new(store: Store, gate: Gate, requests: Streaming<BatchCommandsRequest>) -> BatchStream {
        let metrics = StreamMetrics {
            streams: gauge!(names::SERVER_STREAMS),
            batches_received: counter!(names::SERVER_BATCHES_RECEIVED),
            commands_received: counter!(names::SERVER_COMMANDS_RECEIVED),
            batches_sent: counter!(names::SERVER_BATCHES_SENT),
            answers_sent: counter!(names::SERVER_ANSWERS_SENT),
        };
        metrics.streams.increment(1);
        let (sink, state) = (Arc::default(), StreamState::Open);
        BatchStream { store, gate, requests, sink, state, has_yielded: false, metrics }
    }

    /// Takes in every message that has arrived, within the bound on what waits.
    fn poll_requests(&mut self, context: &mut Context<'_>) {
        while matches!(self.state, StreamState::Open) && self.sink.waiting() < STREAM_WAITING_MAX {
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(batch))) => self.on_batch(batch),
                Poll::Ready(Some(Err(status))) => self.state = StreamState::Broken(Some(status)),
                Poll::Ready(None) => self.state = StreamState::HalfClosed,
            }
        }
    }

    fn on_batch(&mut self, batch: BatchCommandsRequest) {
        if batch.requests.len() != batch.request_ids.len() {
            let text = format!("{} requests with {} ids", batch.requests.len(), batch.request_ids.len());
            self.state = StreamState::Broken(Some(Status::invalid_argument(text)));
            return;
        }
        self.metrics.batches_received.increment(1);
        self.metrics.commands_received.increment(batch.requests.len() as u64);
        self.sink.expect(batch.requests.len());
        let mut work = Work::default();
        for (request, id) in batch.requests.into_iter().zip(batch.request_ids) {
            self.on_request(id, request.cmd, &mut work);
        }
        if !work.proposals.is_empty() {
            self.store.submit(work.proposals);
        }
        if !work.reads.is_empty() {
            self.store.read(work.reads);
        }
    }

    fn on_request(&self, id: u64, cmd: Option<Ask>, work: &mut Work) {
        match cmd {
            Some(Ask::RawGet(request)) => self.read(id, request, Tell::RawGet, work),
            Some(Ask::RawBatchGet(request)) => self.read(id, request, Tell::RawBatchGet, work),
            Some(Ask::RawPut(request)) => self.write(id, request, Tell::RawPut, work),
            Some(Ask::RawBatchPut(request)) => self.write(id, request, Tell::RawBatchPut, work),
            Some(Ask::RawDelete(request)) => self.write(id, request, Tell::RawDelete, work),
            Some(Ask::RawBatchDelete(request)) => self.write(id, request, Tell::RawBatchDelete, work),
            Some(Ask::RawScan(request)) => self.read(id, request, Tell::RawScan, work),
            Some(Ask::RawDeleteRange(request)) => self.write(id, request, Tell::RawDeleteRange, work),
            Some(Ask::RawBatchScan(request)) => self.read(id, request, Tell::RawBatchScan, work),
            Some(Ask::GetHealthFeedback(_)) => {
                let health_feedback =
                    HealthFeedback { store_id: self.store.ident().store_id.0, ..HealthFeedback::default() };
                let response = GetHealthFeedbackResponse {
                    health_feedback: Some(health_feedback),
                    ..GetHealthFeedbackResponse::default()
                };
                self.sink.push(id, Some(Tell::GetHealthFeedback(response)));
            }
            Some(Ask::Empty(request)) => {
                let response = Tell::Empty(BatchCommandsEmptyResponse { test_id: request.test_id });
                let delay = std::time::Duration::from_millis(request.delay_time).min(EMPTY_DELAY_MAX);
                if delay.is_zero() {
                    self.sink.push(id, Some(response));
                } else {
                    let sink = Arc::clone(&self.sink);
                    tokio::spawn(async move {
                        sleep(delay).await;
                        sink.push(id, Some(response));
                    });
                }
            }
            None => self.sink.push(id, None),
        }
    }

    fn write<W: Write>(&self, id: u64, mut request: W, tell: fn(W::Response) -> Tell, work: &mut Work) {
        let context = request.take_context();
        match self.gate.write(context, || request.command()) {
            Ok((context, request)) => {
                let (sink, region_id) = (Arc::clone(&self.sink), context.region_id);
                let responder = Responder::new(move |result: store::Result<_>| {
                    let result = result.map_err(|error| Refusal::of(error, region_id));
                    sink.push(id, Some(tell(written::<W>(result))));
                });
                work.proposals.push(Proposal { context, request, responder });
            }
            Err(refusal) => self.sink.push(id, Some(tell(W::Response::refused(refusal)))),
        }
    }

    fn read<R: Read>(&self, id: u64, mut request: R, tell: fn(R::Response) -> Tell, work: &mut Work) {
        let context = request.take_context();
        match self.gate.read(context, || request.query()) {
            Ok((context, query)) => {
                let (sink, region_id, gate) = (Arc::clone(&self.sink), context.region_id, self.gate);
                let responder = Responder::new(move |result: store::Result<_>| {
                    let result = result
                        .map(|answer| gate.answer(answer))
                        .map_err(|error| Refusal::of(error, region_id));
                    sink.push(id, Some(tell(answered::<R>(result))));
                });
                work.reads.push(ReadRequest { context, query, responder });
            }
            Err(refusal) => self.sink.push(id, Some(tell(R::Response::refused(refusal)))),
        }
    }

    fn on_answers(&mut self, batch: Batch) -> BatchCommandsResponse {
        self.has_yielded = false;
        self.metrics.batches_sent.increment(1);
        self.metrics.answers_sent.increment(batch.request_ids.len() as u64);
        BatchCommandsResponse {
            responses: batch.responses,
            request_ids: batch.request_ids,
            ..BatchCommandsResponse::default()
        }
    }
}

impl Stream for BatchStream {
    type Item = Result<BatchCommandsResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.poll_requests(context);
        if !this.has_yielded && this.sink.has_answers() {
            // The store answers a whole round at once: one turn of the runtime later more of it is there.
            this.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.sink.poll_take(context) {
            Poll::Ready(batch) => Poll::Ready(Some(Ok(this.on_answers(batch)))),
            Poll::Pending => match &mut this.state {
                StreamState::Open => Poll::Pending,
                StreamState::HalfClosed | StreamState::Broken(_) if this.sink.waiting() > 0 => Poll::Pending,
                StreamState::HalfClosed => Poll::Ready(None),
                StreamState::Broken(status) => Poll::Ready(status.take().map(Err)),
            },
        }
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        self.metrics.streams.decrement(1);
    }
}
