//! The store's port to the network.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock};
use store::{Lane, Store, StoreMessage, Transport, Unreachable};
use tokio::{runtime::Handle, sync::watch};
use types::{ClusterId, Incarnation, StoreId};

use crate::{
    Credentials, Membership,
    lane_metrics::{DropReason, LaneMetrics, place_of},
    link::Link,
    queue::LaneQueue,
};

/// Whose transport it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; messages of others are refused.
    pub cluster_id: ClusterId,
    /// The store.
    pub store_id: StoreId,
    /// Its run.
    pub incarnation: Incarnation,
}

/// Carries the store's messages to the others, on one connection per store and lane. Clones share it.
#[derive(Clone)]
pub struct GrpcTransport {
    pub(crate) shared: Arc<Shared>,
}

/// What every lane shares.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) credentials: Credentials,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) metrics: [Arc<LaneMetrics>; Lane::ALL.len()],
    runtime: Handle,
    links: RwLock<BTreeMap<StoreId, StoreLinks>>,
    store: OnceLock<Store>,
    /// The newest incarnation of each store that has opened a lane to this one.
    incarnations: Mutex<BTreeMap<StoreId, Incarnation>>,
}

/// The lanes to one store. Its tasks end when this is dropped.
struct StoreLinks {
    address: watch::Sender<String>,
    /// Counts the signs of life of the store, each of which ends a pause between two attempts.
    signs: watch::Sender<u64>,
    queues: [Arc<LaneQueue>; Lane::ALL.len()],
}

impl GrpcTransport {
    /// A transport of the store `identity`, which knows no other store yet; its tasks run on `runtime`.
    #[must_use]
    pub fn new(
        identity: Identity,
        credentials: Credentials,
        membership: Arc<dyn Membership>,
        runtime: Handle,
    ) -> GrpcTransport {
        let shared = Shared {
            identity,
            credentials,
            membership,
            metrics: Lane::ALL.map(|lane| Arc::new(LaneMetrics::new(lane))),
            runtime,
            links: RwLock::default(),
            store: OnceLock::new(),
            incarnations: Mutex::default(),
        };
        GrpcTransport { shared: Arc::new(shared) }
    }

    /// Gives the transport the store that received messages are for; until then lanes of others are refused. Only the
    /// first call counts.
    pub fn attach(&self, store: Store) {
        if self.shared.store.set(store).is_err() {
            tracing::error!("the transport has a store already");
        }
    }

    /// Where the other stores are, `host:port`: lanes are opened to new ones, re-opened to those that have moved, and
    /// closed to those that are not named any more.
    pub fn set_addresses(&self, addresses: Vec<(StoreId, String)>) {
        let mut links = self.shared.links.write();
        let own_id = self.shared.identity.store_id;
        let wanted: BTreeMap<_, _> = addresses.into_iter().filter(|(id, _)| *id != own_id).collect();
        links.retain(|id, _| wanted.contains_key(id));
        for (id, address) in wanted {
            match links.get(&id) {
                Some(link) => {
                    link.address.send_if_modified(|current| {
                        let has_moved = *current != address;
                        *current = address;
                        has_moved
                    });
                }
                None => {
                    links.insert(id, self.start(id, address));
                }
            }
        }
    }

    fn start(&self, to: StoreId, address: String) -> StoreLinks {
        let (sender, receiver) = watch::channel(address);
        let signs = watch::Sender::new(0);
        let queues = Lane::ALL.map(|lane| {
            let metrics = Arc::clone(&self.shared.metrics[place_of(lane)]);
            let queue = Arc::new(LaneQueue::new(lane, Arc::clone(&metrics)));
            let link = Link {
                shared: Arc::clone(&self.shared),
                to,
                lane,
                queue: Arc::clone(&queue),
                metrics,
                address: receiver.clone(),
                signs: signs.subscribe(),
            };
            self.shared.runtime.spawn(link.run());
            queue
        });
        StoreLinks { address: sender, signs, queues }
    }
}

impl Transport for GrpcTransport {
    fn send(&self, to: StoreId, lane: Lane, messages: Vec<StoreMessage>) {
        let queue = self.shared.links.read().get(&to).map(|link| Arc::clone(&link.queues[place_of(lane)]));
        match queue {
            Some(queue) => queue.push(messages, self.shared.store().map(Store::ledger)),
            None => self.shared.metrics[place_of(lane)].on_dropped(DropReason::Unknown, messages.len()),
        }
    }
}

impl Shared {
    /// The store, once there is one.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    pub(crate) fn on_unreachable(&self, to: StoreId, how: Unreachable) {
        if let Some(store) = self.store.get() {
            store.on_unreachable(to, how);
        }
    }

    /// Whether an address of a store is known.
    pub(crate) fn knows(&self, id: StoreId) -> bool {
        self.links.read().contains_key(&id)
    }

    /// A store that has opened a lane to this one can be reached: nobody waits for the next attempt.
    pub(crate) fn on_sign_of_life(&self, from: StoreId) {
        if let Some(link) = self.links.read().get(&from) {
            link.signs.send_modify(|count| *count += 1);
        }
    }

    /// Notes an incarnation of another store; `false` if a newer one has been here.
    pub(crate) fn admit(&self, from: StoreId, incarnation: Incarnation) -> bool {
        let mut incarnations = self.incarnations.lock();
        let newest = incarnations.entry(from).or_insert(incarnation);
        *newest = (*newest).max(incarnation);
        *newest == incarnation
    }
}
