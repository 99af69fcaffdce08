//! One lane to one other store: connect, open, send, and all over again.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::raft::{self as wire, store_transport_client::StoreTransportClient};
use store::{Lane, Unreachable};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use types::StoreId;

use crate::{
    Credentials,
    codec::encode_lane,
    frames::{FrameMaker, Window},
    hello::CLUSTER_VERSION,
    lane_metrics::{LaneMetrics, name_of},
    limits::{BACKOFF_MAX, BACKOFF_MIN, CONNECT_TIMEOUT, PING_INTERVAL, PING_TIMEOUT, http2_window_bytes},
    membership::says_removed,
    queue::LaneQueue,
    transport::Shared,
};

/// Why no connection came to be.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The operating system, or the credentials, said no.
    #[error("connect to {address}: {source}")]
    Io {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("connect to {address}: no answer within {CONNECT_TIMEOUT:?}")]
    TimedOut {
        /// Where to.
        address: String,
    },
    /// What listens there does not speak HTTP/2.
    #[error("connect to {address}: {source}")]
    Handshake {
        /// Where to.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// Whether nobody listens there.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, DialError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// Opens one HTTP/2 connection to `host:port`, whose streams may have `window_bytes` on the way.
pub async fn dial(credentials: Credentials, address: &str, window_bytes: u32) -> Result<Channel, DialError> {
    let timed_out = || DialError::TimedOut { address: address.to_owned() };
    let failed = |source| DialError::Io { address: address.to_owned(), source };
    let stream = timeout(CONNECT_TIMEOUT, credentials.connect(address))
        .await
        .map_err(|_| timed_out())?
        .map_err(failed)?;
    let mut stream = Some(TokioIo::new(stream));
    // The channel is given up with its connection, so the connector is asked once.
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| DialError::Handshake { address: address.to_owned(), source })?
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(window_bytes)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| timed_out())?
        .map_err(|source| DialError::Handshake { address: address.to_owned(), source })
}

/// The task behind one lane to one store.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) to: StoreId,
    pub(crate) lane: Lane,
    pub(crate) queue: Arc<LaneQueue>,
    pub(crate) metrics: Arc<LaneMetrics>,
    /// Where the store is; closed when it is forgotten.
    pub(crate) address: watch::Receiver<String>,
    /// Changes when the store has shown that it lives.
    pub(crate) signs: watch::Receiver<u64>,
}

/// Why a connection ended.
enum End {
    /// The store has moved or was forgotten.
    Moved,
    /// It never opened.
    NotOpened(DialError),
    /// It was open, or opening, and broke.
    Broken { status: Box<Status>, was_open: bool },
}

impl Link {
    /// Runs until the store is forgotten.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let address = self.address.borrow_and_update().clone();
            self.signs.mark_unchanged();
            let end = self.connect_and_send(&address).await;
            if self.address.has_changed().is_err() {
                return;
            }
            self.queue.on_down();
            let pause = self.on_end(&address, end, &mut backoff);
            // A store that has moved, or has just been heard, is tried at once.
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.address.changed() => {}
                Ok(()) = self.signs.changed() => backoff.reset(),
            }
        }
    }

    async fn connect_and_send(&mut self, address: &str) -> End {
        let generation = self.queue.on_connecting();
        let channel = match dial(self.shared.credentials, address, http2_window_bytes(self.lane)).await {
            Ok(channel) => channel,
            Err(error) => return End::NotOpened(error),
        };
        let window = Arc::new(Window::default());
        let frames = FrameMaker::new(
            Arc::clone(&self.queue),
            Arc::clone(&self.metrics),
            Arc::clone(&window),
            generation,
            self.open(),
        );
        let mut client = StoreTransportClient::new(channel);
        let opened = timeout(CONNECT_TIMEOUT, client.lane(Request::new(frames.into_stream()))).await;
        let mut acks = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return End::Broken { status: Box::new(status), was_open: false },
            Err(_) => {
                let status = Box::new(Status::deadline_exceeded("the lane was not opened in time"));
                return End::Broken { status, was_open: false };
            }
        };
        self.queue.on_open();
        self.metrics.connects.increment(1);
        tracing::debug!(store = self.to.0, lane = name_of(self.lane), address, "lane is open");
        loop {
            let ack = tokio::select! {
                ack = acks.message() => ack,
                _ = self.address.changed() => return End::Moved,
            };
            match ack {
                Ok(Some(ack)) => window.on_acknowledged(ack.sequence),
                Ok(None) => {
                    let status = Box::new(Status::unavailable("the other store has closed the lane"));
                    return End::Broken { status, was_open: true };
                }
                Err(status) => return End::Broken { status: Box::new(status), was_open: true },
            }
        }
    }

    fn open(&self) -> wire::LaneOpen {
        wire::LaneOpen {
            lane: encode_lane(self.lane),
            cluster_id: self.shared.identity.cluster_id.0,
            from_store_id: self.shared.identity.store_id.0,
            from_incarnation: self.shared.identity.incarnation.0,
            to_store_id: self.to.0,
            to_incarnation: 0,
            cluster_version: CLUSTER_VERSION,
        }
    }

    /// Tells the store, and says how long to wait before the next attempt.
    fn on_end(&self, address: &str, end: End, backoff: &mut Backoff) -> Duration {
        let (how, was_open) = match &end {
            End::Moved => return Duration::ZERO,
            End::NotOpened(error) if error.is_refused() => (Unreachable::Refused, false),
            End::NotOpened(_) => (Unreachable::Broken, false),
            End::Broken { was_open, .. } => (Unreachable::Broken, *was_open),
        };
        self.metrics.on_failure(match how {
            Unreachable::Refused => "refused",
            Unreachable::Broken => "broken",
        });
        let lane = name_of(self.lane);
        // The store's own words are worth more than the network's: they say what is set up wrong.
        match &end {
            End::Broken { status, .. } if says_removed(status, &self.shared.identity) => {
                self.shared.membership.on_removed();
            }
            End::Broken { status, .. } if is_refusal(status) => {
                if backoff.is_first() {
                    tracing::warn!(
                        store = self.to.0,
                        lane,
                        address,
                        reason = status.message(),
                        "lane refused"
                    );
                }
            }
            End::Broken { status, .. } => {
                tracing::debug!(store = self.to.0, lane, address, reason = status.message(), "lane broke");
            }
            End::NotOpened(error) => tracing::debug!(store = self.to.0, lane, %error, "lane not opened"),
            End::Moved => {}
        }
        self.shared.on_unreachable(self.to, how);
        if was_open {
            // Whether the other side is still there is best told by trying at once.
            backoff.reset();
            return Duration::ZERO;
        }
        backoff.next()
    }
}

/// Whether the other store has looked at the stream and does not want it.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument)
}

/// Doubles, with jitter, so that the lanes of many stores do not try in step.
struct Backoff {
    attempt_count: u32,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff { attempt_count: 0 }
    }

    fn reset(&mut self) {
        self.attempt_count = 0;
    }

    fn is_first(&self) -> bool {
        self.attempt_count == 0
    }

    fn next(&mut self) -> Duration {
        let pause = BACKOFF_MIN.saturating_mul(1 << self.attempt_count.min(16)).min(BACKOFF_MAX);
        self.attempt_count = self.attempt_count.saturating_add(1);
        // Half of it is drawn: the keys of a hasher come from the operating system.
        let random = RandomState::new().build_hasher().finish();
        pause / 2 + pause.mul_f64(random as f64 / u64::MAX as f64 / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next()).collect();
        for (at, pause) in pauses.iter().enumerate() {
            let full = BACKOFF_MIN.saturating_mul(1 << at).min(BACKOFF_MAX);
            assert!(*pause >= full / 2 && *pause <= full, "{pause:?} at {at}");
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
