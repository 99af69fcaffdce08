//! The connection to one store: one stream into which everything that has come up meanwhile goes as one message.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::Stream;
use parking_lot::Mutex;
use proto::tikvpb::{
    BatchCommandsRequest, BatchCommandsResponse, batch_commands_request::Request,
    batch_commands_request::request::Cmd, tikv_client::TikvClient,
};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};
use tonic::transport::Channel;
use types::StoreId;

use super::{
    message::{self, Outcomes},
    pending::{Pending, Waiter},
    placement::Placement,
};
use crate::{core::CallError, limits};

/// A store as this client reaches it. It connects when the first call comes, and again when one comes after a break.
pub(super) struct Link {
    store_id: StoreId,
    placement: Arc<Placement>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// Calls that have not left.
    queue: VecDeque<Queued>,
    /// Calls that have.
    pending: Pending,
    /// Wakes whoever drains the queue.
    drain: Option<Waker>,
    /// Who waits for the connection itself.
    channel_waiters: Vec<oneshot::Sender<Result<Channel, String>>>,
    /// Counts connections: the request stream of an older one ends.
    generation: u64,
    task: Option<AbortHandle>,
}

#[derive(Default)]
enum State {
    #[default]
    Down,
    Connecting,
    Up(Channel),
}

struct Queued {
    cmd: Cmd,
    size_bytes: usize,
    waiter: Waiter,
}

impl Link {
    pub(super) fn new(store_id: StoreId, placement: Arc<Placement>) -> Arc<Link> {
        Arc::new(Link { store_id, placement, inner: Mutex::default() })
    }

    /// Queues a call; the answer comes within `timeout` and a little.
    pub(super) fn call(
        self: &Arc<Link>,
        cmd: Cmd,
        size_bytes: usize,
        timeout: Duration,
    ) -> oneshot::Receiver<Outcomes> {
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter { reply, deadline: Instant::now() + timeout };
        let waker = {
            let mut inner = self.inner.lock();
            inner.queue.push_back(Queued { cmd, size_bytes, waiter });
            self.connect_if_down(&mut inner);
            inner.drain.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        answer
    }

    /// The connection, for calls that travel alone.
    pub(super) async fn channel(self: &Arc<Link>) -> Result<Channel, String> {
        let answer = {
            let mut inner = self.inner.lock();
            if let State::Up(channel) = &inner.state {
                return Ok(channel.clone());
            }
            let (reply, answer) = oneshot::channel();
            inner.channel_waiters.push(reply);
            self.connect_if_down(&mut inner);
            answer
        };
        answer.await.unwrap_or_else(|_| Err("the client is closed".to_owned()))
    }

    /// Ends the connection; what is under way is not answered.
    pub(super) fn close(&self) {
        if let Some(task) = self.inner.lock().task.take() {
            task.abort();
        }
    }

    fn connect_if_down(self: &Arc<Link>, inner: &mut Inner) {
        if matches!(inner.state, State::Down) {
            inner.state = State::Connecting;
            inner.generation += 1;
            inner.task = Some(tokio::spawn(self.clone().run()).abort_handle());
        }
    }

    /// The life of one connection. Calls are answered in time from its first moment on, connected or not.
    async fn run(self: Arc<Link>) {
        let mut sweep = interval(limits::SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = pin!(self.connect_and_receive());
        let reason = loop {
            tokio::select! {
                biased;
                reason = &mut connection => break reason,
                _ = sweep.tick() => self.expire(),
            }
        };
        self.go_down(&reason);
    }

    /// Hands out answers until there is no connection any more; the reason comes back.
    async fn connect_and_receive(self: &Arc<Link>) -> String {
        let channel = match self.placement.connect(self.store_id).await {
            Ok(channel) => channel,
            Err(reason) => return reason,
        };
        let mut client =
            TikvClient::new(channel.clone()).max_decoding_message_size(limits::MESSAGE_DECODE_BYTES_MAX);
        let requests = self.go_up(&channel);
        let mut responses = match client.batch_commands(requests).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status.to_string(),
        };
        loop {
            match responses.message().await {
                Ok(Some(message)) => self.on_message(message),
                Ok(None) => return "the store has closed the stream".to_owned(),
                Err(status) => return status.to_string(),
            }
        }
    }

    /// There is a connection: the stream of requests for it comes back.
    fn go_up(self: &Arc<Link>, channel: &Channel) -> Requests {
        let (generation, waiters) = {
            let mut inner = self.inner.lock();
            inner.state = State::Up(channel.clone());
            (inner.generation, std::mem::take(&mut inner.channel_waiters))
        };
        for waiter in waiters {
            // Whoever has stopped waiting does not need it.
            drop(waiter.send(Ok(channel.clone())));
        }
        Requests { link: self.clone(), generation }
    }

    fn on_message(&self, message: BatchCommandsResponse) {
        let waiters: Vec<_> = {
            let mut inner = self.inner.lock();
            message.request_ids.iter().map(|id| inner.pending.take(*id)).collect()
        };
        for (waiter, response) in waiters.into_iter().zip(message.responses) {
            if let Some(waiter) = waiter {
                // Whoever has stopped waiting does not want the answer.
                drop(waiter.reply.send(message::decode(response.cmd)));
            }
        }
    }

    /// Answers calls whose time has passed.
    fn expire(&self) {
        let now = Instant::now();
        let (unsent, unanswered) = {
            let mut inner = self.inner.lock();
            let mut unsent = Vec::new();
            // The queue is in order of time: its deadlines differ by nothing but that.
            while inner.queue.front().is_some_and(|queued| queued.waiter.deadline <= now) {
                unsent.extend(inner.queue.pop_front().map(|queued| queued.waiter));
            }
            (unsent, inner.pending.take_expired(now))
        };
        let store = self.store_id;
        answer_all(unsent, || CallError::NotSent(format!("store {store} takes no requests")));
        answer_all(unanswered, || CallError::Unanswered(format!("store {store} is silent")));
    }

    /// Answers everything: what has left may have been done, the rest has not.
    fn go_down(&self, reason: &str) {
        let (unsent, unanswered, channel_waiters, drain) = {
            let mut inner = self.inner.lock();
            inner.state = State::Down;
            inner.generation += 1;
            let unsent: Vec<_> = inner.queue.drain(..).map(|queued| queued.waiter).collect();
            let channel_waiters = std::mem::take(&mut inner.channel_waiters);
            (unsent, inner.pending.take_all(), channel_waiters, inner.drain.take())
        };
        if let Some(drain) = drain {
            drain.wake();
        }
        let store = self.store_id;
        tracing::debug!(%store, reason, "connection lost");
        for waiter in channel_waiters {
            drop(waiter.send(Err(format!("store {store}: {reason}"))));
        }
        answer_all(unsent, || CallError::NotSent(format!("store {store}: {reason}")));
        answer_all(unanswered, || CallError::Unanswered(format!("store {store}: {reason}")));
    }
}

fn answer_all(waiters: Vec<Waiter>, error: impl Fn() -> CallError) {
    for waiter in waiters {
        // Whoever has stopped waiting does not need to know.
        drop(waiter.reply.send(Err(error())));
    }
}

/// The requests of one connection: each message takes all that is queued, up to a bound.
struct Requests {
    link: Arc<Link>,
    generation: u64,
}

impl Stream for Requests {
    type Item = BatchCommandsRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BatchCommandsRequest>> {
        let mut inner = self.link.inner.lock();
        if inner.generation != self.generation {
            return Poll::Ready(None);
        }
        if inner.queue.is_empty() {
            inner.drain = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = inner.queue.len().min(limits::MESSAGE_CALLS_MAX);
        let mut message = BatchCommandsRequest {
            requests: Vec::with_capacity(count),
            request_ids: Vec::with_capacity(count),
            client_send_time_ns: 0,
        };
        let mut size_bytes = 0;
        while message.requests.len() < count && size_bytes < limits::MESSAGE_BYTES_MAX {
            let Some(queued) = inner.queue.pop_front() else { break };
            size_bytes += queued.size_bytes;
            message.requests.push(Request { cmd: Some(queued.cmd) });
            message.request_ids.push(inner.pending.insert(queued.waiter));
        }
        Poll::Ready(Some(message))
    }
}
