//! The shell: carries out what [`crate::core`] decides, on tokio and tonic.
//!
//! An operation is driven by the task that awaits it; there is one further task for each connection. Calls to a store
//! wait in one queue until its stream can take them, so that a message holds what has come up meanwhile, without delay
//! and without a timer for each call.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "I/O shell")]

mod link;
mod message;
mod pending;
mod placement;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
pub use placement::{Credentials, Split};
use proto::tikvpb::tikv_client::TikvClient;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use types::{ClusterId, KeyRange, Peer, Region, StoreId};

use self::{
    link::Link,
    message::{Outcomes, Outgoing, Unary},
    placement::Placement,
};
use crate::{
    Cause, Error, Result,
    core::{Action, Call, CallError, Event, Operation, Position, RegionCache, Reply, RetryPolicy, Work},
    limits,
};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When operations are tried again.
    pub retry: RetryPolicy,
    /// Connections to each store, each with one stream; one carries about half a million small writes a second.
    pub streams_per_store: usize,
    /// Whom to trust.
    pub credentials: Credentials,
}

impl Default for Options {
    fn default() -> Self {
        Options { retry: RetryPolicy::default(), streams_per_store: 1, credentials: Credentials::default() }
    }
}

/// Carries out operations.
pub(crate) struct Driver {
    options: Options,
    started: Instant,
    placement: Arc<Placement>,
    cache: Mutex<RegionCache>,
    stores: RwLock<BTreeMap<StoreId, Vec<Arc<Link>>>>,
    /// Deals calls out to the streams of a store.
    turn: AtomicUsize,
}

impl Driver {
    /// Asks the given addresses for the cluster.
    pub(crate) async fn connect(addresses: &[String], options: Options) -> Result<Driver> {
        let joined = Placement::join(addresses, options.credentials).await;
        let placement = joined.map_err(|reason| Error::TimedOutBeforeSending(Cause::Placement(reason)))?;
        Ok(Driver {
            options,
            started: Instant::now(),
            placement: Arc::new(placement),
            cache: Mutex::default(),
            stores: RwLock::default(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The cluster that it speaks to.
    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.placement.cluster_id()
    }

    /// Every address of the cluster, as far as is known.
    pub(crate) fn endpoints(&self) -> &[String] {
        self.placement.endpoints()
    }

    /// The region that holds a key, as placement knows it.
    pub(crate) async fn find_region(&self, key: Bytes) -> Result<Region> {
        let found = self.placement.region(&Position::At(key)).await;
        Ok(found.map_err(|reason| Error::Failed(Cause::Placement(reason)))?.0)
    }

    /// The regions of a range, as placement knows them.
    pub(crate) async fn regions(&self, range: KeyRange) -> Result<Vec<(Region, Option<Peer>)>> {
        self.placement.regions(range).await.map_err(|reason| Error::Failed(Cause::Placement(reason)))
    }

    /// Lets regions begin at these keys.
    pub(crate) async fn split(&self, keys: Vec<Bytes>) -> Result<Split> {
        self.placement.split(keys).await.map_err(|reason| Error::Undetermined(Cause::Placement(reason)))
    }

    /// Carries out one operation.
    pub(crate) async fn run(&self, work: Work) -> Result<Reply> {
        let mut operation = Operation::new(work, self.options.retry);
        let mut actions = Vec::with_capacity(1);
        let mut event = Event::Start;
        // Nearly every operation has one thing under way at a time, and needs no set of futures for it.
        loop {
            self.step(&mut operation, event, &mut actions);
            match actions.pop() {
                Some(Action::Finish(result)) => return result,
                Some(action) if actions.is_empty() => event = self.perform(action).await,
                Some(action) => {
                    actions.push(action);
                    return Box::pin(self.run_parts(operation, actions)).await;
                }
                None => unreachable!("an operation with nothing under way has finished"),
            }
        }
    }

    /// Carries out an operation with several things under way.
    async fn run_parts(&self, mut operation: Operation, mut actions: Vec<Action>) -> Result<Reply> {
        let mut under_way = FuturesUnordered::new();
        loop {
            for action in actions.drain(..) {
                match action {
                    Action::Finish(result) => return result,
                    Action::Send { .. } | Action::LookUp { .. } | Action::Wait { .. } => {
                        under_way.push(self.perform(action));
                    }
                }
            }
            let event = under_way.next().await.expect("an operation with nothing under way has finished");
            self.step(&mut operation, event, &mut actions);
        }
    }

    fn step(&self, operation: &mut Operation, event: Event, actions: &mut Vec<Action>) {
        operation.step(self.now(), &mut self.cache.lock(), event, actions);
    }

    fn now(&self) -> types::Instant {
        types::Instant::ZERO + self.started.elapsed()
    }

    /// Does what an operation wants done, and says what came of it.
    async fn perform(&self, action: Action) -> Event {
        match action {
            Action::Send { part, call } => Event::Answer { part, result: self.send(call).await },
            Action::LookUp { part, position, newer_than } => {
                let result = Box::pin(self.look_up(&position, newer_than)).await;
                Event::LookedUp { part, result }
            }
            Action::Wait { part, until } => {
                sleep(until.since(self.now())).await;
                Event::Wake { part }
            }
            Action::Finish(_) => unreachable!("it is taken out before"),
        }
    }

    async fn send(&self, call: Call) -> Outcomes {
        let link = self.link(call.peer.store_id);
        let call_timeout = self.options.retry.call_timeout;
        let size_bytes = message::size_bytes(&call.work);
        match message::encode(call, self.placement.cluster_id()) {
            Outgoing::Batched(cmd) => {
                let answer = link.call(cmd, size_bytes, call_timeout);
                answer.await.unwrap_or_else(|_| Err(CallError::Unanswered("the client is closed".to_owned())))
            }
            Outgoing::Alone(unary) => {
                let answer = Box::pin(timeout(call_timeout, send_alone(&link, unary)));
                let silent = || Err(CallError::Unanswered("the store is silent".to_owned()));
                answer.await.unwrap_or_else(|_| silent())
            }
        }
    }

    /// Asks placement for a region, unless another operation has learnt of it meanwhile.
    async fn look_up(&self, position: &Position, newer_than: u64) -> std::result::Result<(), String> {
        let _permit = self.placement.lookups.acquire().await.map_err(|error| error.to_string())?;
        if self.cache.lock().is_newer(position, newer_than) {
            return Ok(());
        }
        let (found, others) = self.placement.region_and_others(position).await?;
        let mut cache = self.cache.lock();
        cache.insert(found.0, found.1);
        for (region, leader) in others {
            cache.fill(region, leader);
        }
        Ok(())
    }

    fn link(&self, store_id: StoreId) -> Arc<Link> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(links) = self.stores.read().get(&store_id) {
            return links[turn % links.len()].clone();
        }
        let mut stores = self.stores.write();
        let new_link = || Link::new(store_id, self.placement.clone());
        let count = self.options.streams_per_store.max(1);
        let links =
            stores.entry(store_id).or_insert_with(|| std::iter::repeat_with(new_link).take(count).collect());
        links[turn % links.len()].clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for link in self.stores.get_mut().values().flatten() {
            link.close();
        }
    }
}

async fn send_alone(link: &Arc<Link>, unary: Unary) -> Outcomes {
    let channel = link.channel().await.map_err(CallError::NotSent)?;
    let mut client = TikvClient::new(channel).max_decoding_message_size(limits::MESSAGE_DECODE_BYTES_MAX);
    match unary {
        Unary::CompareAndSwap(request) => {
            let response =
                client.raw_compare_and_swap(request).await.map_err(|status| call_error(&status))?;
            message::decode_swap(response.into_inner())
        }
        Unary::KeyTtl(request) => {
            let response = client.raw_get_key_ttl(request).await.map_err(|status| call_error(&status))?;
            message::decode_ttl(response.into_inner())
        }
        Unary::Checksum(request) => {
            let response = client.raw_checksum(request).await.map_err(|status| call_error(&status))?;
            message::decode_checksum(response.into_inner())
        }
    }
}

/// What a status says about the fate of a request.
fn call_error(status: &Status) -> CallError {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return CallError::NotSent(status.message().to_owned());
        }
        source = error.source();
    }
    let refusals =
        [Code::InvalidArgument, Code::Unimplemented, Code::PermissionDenied, Code::Unauthenticated];
    if refusals.contains(&status.code()) {
        return CallError::Refused(status.message().to_owned());
    }
    CallError::Unanswered(status.to_string())
}
