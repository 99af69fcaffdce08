//! The receiving half: who speaks, and what it says.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use futures::{Stream, stream};
use metrics::counter;
use proto::{
    Message,
    raft::{
        Frame, FrameAck, Hello, HelloRequest, HelloResponse, LaneOpen,
        store_transport_server::{StoreTransport, StoreTransportServer},
    },
};
use store::StoreMessage;
use telemetry::names;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use types::{Incarnation, StoreId};

use crate::{
    codec::{decode, decode_lane},
    hello::CLUSTER_VERSION,
    lane_metrics::{LaneMetrics, name_of, place_of},
    limits::{ACK_EVERY_BYTES, CONNECT_TIMEOUT, REQUEST_BYTES_MAX},
    membership::{Doubt, removed},
    transport::{GrpcTransport, Shared},
};

/// Answers a Hello: takes what the other side says of itself, gives what this one is.
pub type HelloAnswer = Arc<dyn Fn(Hello) -> Hello + Send + Sync>;

/// The service `StoreTransport`. It answers Hello from the first moment, and takes lanes once a transport is attached.
#[derive(Clone)]
pub struct Service {
    hello: HelloAnswer,
    transport: Arc<OnceLock<GrpcTransport>>,
}

/// A lane of another store.
struct Receiver {
    shared: Arc<Shared>,
    metrics: Arc<LaneMetrics>,
    from: StoreId,
    incarnation: Incarnation,
    sequence: u64,
    unacknowledged_bytes: usize,
    frames: Streaming<Frame>,
    doubt: Doubt,
    has_ended: bool,
}

type Acks = Pin<Box<dyn Stream<Item = Result<FrameAck, Status>> + Send>>;

impl Service {
    /// A service that answers Hello with `hello`.
    #[must_use]
    pub fn new(hello: HelloAnswer) -> Service {
        Service { hello, transport: Arc::default() }
    }

    /// From now on lanes are taken, for `transport`'s store. Only the first call counts.
    pub fn attach(&self, transport: GrpcTransport) {
        if self.transport.set(transport).is_err() {
            tracing::error!("the service has a transport already");
        }
    }

    /// As a gRPC service.
    #[must_use]
    pub fn into_server(self) -> StoreTransportServer<Service> {
        StoreTransportServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl StoreTransport for Service {
    type LaneStream = Acks;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let other = request.into_inner().hello.unwrap_or_default();
        Ok(Response::new(HelloResponse { hello: Some((self.hello)(other)) }))
    }

    async fn lane(&self, request: Request<Streaming<Frame>>) -> Result<Response<Acks>, Status> {
        let shared = match self.transport.get() {
            Some(transport) if transport.shared.store().is_some() => Arc::clone(&transport.shared),
            Some(_) | None => {
                return Err(refuse("not_started", Status::unavailable("the store has not started yet")));
            }
        };
        let mut frames = request.into_inner();
        let first = timeout(CONNECT_TIMEOUT, frames.message())
            .await
            .map_err(|_| refuse("silent", Status::deadline_exceeded("no frame came")))??
            .ok_or_else(|| refuse("empty", Status::invalid_argument("the stream has no frame")))?;
        let receiver = Receiver::accept(shared, frames, first)?;
        Ok(Response::new(Box::pin(receiver.into_stream())))
    }
}

impl Receiver {
    /// Checks whose stream it is by its first frame.
    fn accept(shared: Arc<Shared>, frames: Streaming<Frame>, first: Frame) -> Result<Receiver, Status> {
        let open = first
            .open
            .ok_or_else(|| refuse("unnamed", Status::invalid_argument("the first frame names nobody")))?;
        let lane = decode_lane(open.lane)
            .map_err(|error| refuse("malformed", Status::invalid_argument(error.to_string())))?;
        check(&shared, &open).map_err(|(reason, text)| refuse(reason, Status::failed_precondition(text)))?;
        let from = StoreId(open.from_store_id);
        let incarnation = Incarnation(open.from_incarnation);
        tracing::debug!(
            store = from.0,
            incarnation = incarnation.0,
            lane = name_of(lane),
            "lane of another store"
        );
        shared.on_sign_of_life(from);
        let mut receiver = Receiver {
            metrics: Arc::clone(&shared.metrics[place_of(lane)]),
            shared,
            from,
            incarnation,
            sequence: 0,
            unacknowledged_bytes: 0,
            frames,
            doubt: Doubt::None,
            has_ended: false,
        };
        receiver.take(Frame { open: None, ..first })?;
        Ok(receiver)
    }

    /// Acknowledgements, as reading goes on; the last item says why it ended, if it was not the other side's wish.
    fn into_stream(self) -> impl Stream<Item = Result<FrameAck, Status>> + Send {
        stream::unfold(self, |mut receiver| async move {
            if receiver.has_ended {
                return None;
            }
            match receiver.read().await {
                Ok(Some(ack)) => Some((Ok(ack), receiver)),
                Ok(None) => None,
                Err(status) => {
                    receiver.has_ended = true;
                    Some((Err(status), receiver))
                }
            }
        })
    }

    /// Reads until something is to be acknowledged.
    async fn read(&mut self) -> Result<Option<FrameAck>, Status> {
        loop {
            let frame = tokio::select! {
                frame = self.frames.message() => frame?,
                () = self.doubt.confirmed() => return Err(refuse("removed", self.removed())),
            };
            let Some(frame) = frame else { return Ok(None) };
            self.take(frame)?;
            if self.unacknowledged_bytes >= ACK_EVERY_BYTES {
                self.unacknowledged_bytes = 0;
                return Ok(Some(FrameAck { sequence: self.sequence }));
            }
        }
    }

    fn removed(&self) -> Status {
        removed(self.shared.identity.cluster_id, self.from)
    }

    /// Hands a frame's messages to the store. What is well formed arrives even beside what is not.
    fn take(&mut self, frame: Frame) -> Result<(), Status> {
        if frame.sequence != self.sequence + 1 {
            let text = format!("frame {} follows frame {}", frame.sequence, self.sequence);
            return Err(refuse("out_of_sequence", Status::invalid_argument(text)));
        }
        if frame.open.is_some() {
            return Err(refuse("malformed", Status::invalid_argument("a lane is opened once")));
        }
        if !self.shared.admit(self.from, self.incarnation) {
            let text = "a newer incarnation of the store has been here";
            return Err(refuse("old_incarnation", Status::failed_precondition(text)));
        }
        self.doubt.on_heard(self.from, self.shared.knows(self.from), &*self.shared.membership);
        self.sequence = frame.sequence;
        let bytes = frame.encoded_len();
        self.unacknowledged_bytes += bytes;
        self.metrics.frames_received.increment(1);
        self.metrics.messages_received.increment(frame.messages.len() as u64);
        self.metrics.bytes_received.increment(bytes as u64);
        let mut malformed = None;
        let mut messages = Vec::with_capacity(frame.messages.len());
        for message in frame.messages {
            match decode(message) {
                Ok(message) => messages.push(message),
                Err(error) => malformed = Some(error),
            }
        }
        self.deliver(messages);
        match malformed {
            None => Ok(()),
            Some(error) => Err(refuse("malformed", Status::invalid_argument(error.to_string()))),
        }
    }

    fn deliver(&self, messages: Vec<StoreMessage>) {
        if let Some(store) = self.shared.store()
            && !messages.is_empty()
        {
            store.receive(self.from, messages);
        }
    }
}

/// Whether the stream is meant for this store; if not, why.
fn check(shared: &Shared, open: &LaneOpen) -> Result<(), (&'static str, String)> {
    let own = shared.identity;
    if open.cluster_id != own.cluster_id.0 {
        let text =
            format!("this store belongs to cluster {}, not to cluster {}", own.cluster_id, open.cluster_id);
        return Err(("other_cluster", text));
    }
    if open.to_store_id != own.store_id.0 {
        return Err((
            "other_store",
            format!("this is store {}, not store {}", own.store_id, open.to_store_id),
        ));
    }
    if open.from_store_id == own.store_id.0 || open.from_store_id == 0 {
        return Err(("other_store", format!("store {} cannot speak to this one", open.from_store_id)));
    }
    if open.cluster_version != CLUSTER_VERSION {
        let text =
            format!("this store takes messages of version {CLUSTER_VERSION}, not {}", open.cluster_version);
        return Err(("other_version", text));
    }
    if !shared.admit(StoreId(open.from_store_id), Incarnation(open.from_incarnation)) {
        return Err(("old_incarnation", "a newer incarnation of the store has been here".to_owned()));
    }
    Ok(())
}

/// Counts a refusal, and passes it on.
fn refuse(reason: &'static str, status: Status) -> Status {
    counter!(names::TRANSPORT_REFUSED, "reason" => reason).increment(1);
    status
}
