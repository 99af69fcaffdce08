#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "I/O shell: sockets and real time")]
//! Lanes between two stores, over real sockets: what is sent arrives, in order, and only where it belongs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actor::{ActorId, Clock, Scheduler};
use bytes::Bytes;
use engine::{StoreIdent, mem::MemDisk};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use store::{
    Config, Lane, LeadChanges, PlacementClient, PlacementMessage, Ports, SplitWish, Store, StoreMessage,
    Transport,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};
use tonic::service::Routes;
use transport::{Credentials, GrpcTransport, Identity, Membership, Service};
use types::{ClusterId, Incarnation, StoreId, Term, WallTime};

const DEADLINE: Duration = Duration::from_secs(20);

/// Notes what arrives.
#[derive(Default)]
struct Inbox(Mutex<Vec<(StoreId, u64)>>);

impl PlacementClient for Inbox {
    fn report(&self, _: LeadChanges) {}

    fn on_placement_leader(&self, _: Option<StoreId>, _: Option<Term>) {}

    fn split_wanted(&self, _: SplitWish) {}

    fn receive(&self, from: StoreId, message: PlacementMessage) {
        self.0.lock().push((from, message.id));
    }
}

/// Which stores were removed, and what comes of it.
#[derive(Default)]
struct Members {
    removed: Mutex<Vec<StoreId>>,
    asked_about: Mutex<Vec<StoreId>>,
    told_count: AtomicUsize,
}

impl Membership for Members {
    fn was_removed(&self, store_id: StoreId) -> BoxFuture<'static, bool> {
        self.asked_about.lock().push(store_id);
        let is_removed = self.removed.lock().contains(&store_id);
        Box::pin(async move { is_removed })
    }

    fn on_removed(&self) {
        self.told_count.fetch_add(1, Ordering::Relaxed);
    }
}

/// No actor runs: messages of placement's protocol reach the inbox without one.
struct Nobody;

impl Scheduler for Nobody {
    fn wake(&self, _: ActorId) {}
}

impl Clock for Nobody {
    fn monotonic(&self) -> types::Instant {
        types::Instant(1)
    }

    fn wall(&self) -> WallTime {
        WallTime(1)
    }
}

/// A store as far as the network sees it.
struct Host {
    transport: GrpcTransport,
    inbox: Arc<Inbox>,
    members: Arc<Members>,
    address: String,
    listener: JoinHandle<()>,
}

impl Host {
    async fn start(address: &str, cluster: u64, id: u64, incarnation: u64) -> Host {
        let ident = StoreIdent {
            cluster_id: ClusterId(cluster),
            store_id: StoreId(id),
            incarnation: Incarnation(incarnation),
        };
        let identity = Identity {
            cluster_id: ident.cluster_id,
            store_id: ident.store_id,
            incarnation: ident.incarnation,
        };
        let members = Arc::new(Members::default());
        let membership = Arc::clone(&members) as Arc<dyn Membership>;
        let transport =
            GrpcTransport::new(identity, Credentials::plaintext(false), membership, Handle::current());
        let inbox = Arc::new(Inbox::default());
        let (log, kv) = MemDisk::new().open();
        let ports = Ports {
            log,
            kv,
            transport: Arc::new(transport.clone()),
            placement: Arc::clone(&inbox) as Arc<dyn PlacementClient>,
            clock: Arc::new(Nobody),
            scheduler: Arc::new(Nobody),
            fatal: Arc::new(|message: &str| panic!("{message}")),
        };
        let (store, _) =
            Store::open(Config::default(), ident, ports, ActorId(0)).expect("an empty store opens");
        transport.attach(store);
        let service = Service::new(Arc::new(|hello| hello));
        service.attach(transport.clone());
        let socket = TcpListener::bind(address).await.expect("the port is free");
        let address = socket.local_addr().expect("it is bound").to_string();
        let router = Routes::new(service.into_server()).into_axum_router();
        let listener = tokio::spawn(async move {
            axum::serve(socket, router).await.expect("it serves");
        });
        Host { transport, inbox, members, address, listener }
    }

    fn send(&self, to: u64, lane: Lane, ids: impl IntoIterator<Item = u64>) {
        let message =
            |id| StoreMessage::Placement(PlacementMessage { id, is_response: false, body: Bytes::new() });
        self.transport.send(StoreId(to), lane, ids.into_iter().map(message).collect());
    }

    fn received(&self) -> Vec<(StoreId, u64)> {
        self.inbox.0.lock().clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.listener.abort();
        self.transport.set_addresses(Vec::new());
    }
}

/// Repeats `attempt` until it says so; sent messages may be lost while a lane is not open.
async fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let began = Instant::now();
    while !attempt() {
        assert!(began.elapsed() < DEADLINE, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_on_every_lane() {
    let (left, right) =
        (Host::start("127.0.0.1:0", 7, 1, 1).await, Host::start("127.0.0.1:0", 7, 2, 1).await);
    left.transport.set_addresses(vec![(StoreId(2), right.address.clone())]);
    for (at, lane) in Lane::ALL.into_iter().enumerate() {
        let before = right.received().len();
        left.send(2, lane, 0..100);
        left.send(2, lane, 100..1_000);
        until("arrival", || right.received().len() == before + 1_000).await;
        let ids: Vec<u64> = right.received()[at * 1_000..].iter().map(|(_, id)| *id).collect();
        assert!(ids.iter().copied().eq(0..1_000), "lane {lane:?}");
    }
    assert!(right.received().iter().all(|(from, _)| *from == StoreId(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_pass_the_window() {
    let (left, right) =
        (Host::start("127.0.0.1:0", 7, 1, 1).await, Host::start("127.0.0.1:0", 7, 2, 1).await);
    left.transport.set_addresses(vec![(StoreId(2), right.address.clone())]);
    let body = Bytes::from(vec![7; 3 << 20]);
    let message =
        |id| StoreMessage::Placement(PlacementMessage { id, is_response: false, body: body.clone() });
    // Twice the window, in pieces that fit into the queue.
    for part in 0..4 {
        left.transport.send(StoreId(2), Lane::Append, (part * 4..part * 4 + 4).map(message).collect());
        until("arrival", || right.received().len() as u64 == part * 4 + 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_cluster_or_id_hears_nothing() {
    let (left, other) =
        (Host::start("127.0.0.1:0", 7, 1, 1).await, Host::start("127.0.0.1:0", 8, 2, 1).await);
    let named = Host::start("127.0.0.1:0", 7, 3, 1).await;
    let right = Host::start("127.0.0.1:0", 7, 5, 1).await;
    left.transport.set_addresses(vec![
        (StoreId(2), other.address.clone()),
        (StoreId(4), named.address.clone()),
        (StoreId(5), right.address.clone()),
    ]);
    left.send(2, Lane::Append, [1]);
    left.send(4, Lane::Append, [2]);
    until("arrival at the right store", || {
        left.send(5, Lane::Append, [3]);
        !right.received().is_empty()
    })
    .await;
    assert!(other.received().is_empty(), "another cluster's store was spoken to");
    assert!(named.received().is_empty(), "a store took messages for another id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_store_is_reached_again_and_its_old_run_is_not_heard() {
    let left = Host::start("127.0.0.1:0", 7, 1, 1).await;
    let right = Host::start("127.0.0.1:0", 7, 2, 1).await;
    let address = right.address.clone();
    left.transport.set_addresses(vec![(StoreId(2), address.clone())]);
    until("first arrival", || {
        left.send(2, Lane::Liveness, [1]);
        !right.received().is_empty()
    })
    .await;
    drop(right);
    let moved = Host::start("127.0.0.1:0", 7, 2, 2).await;
    left.transport.set_addresses(vec![(StoreId(2), moved.address.clone())]);
    until("arrival at the new run", || {
        left.send(2, Lane::Liveness, [2]);
        !moved.received().is_empty()
    })
    .await;

    // A new run of the sender ends what an older one has to say.
    let newer = Host::start("127.0.0.1:0", 7, 1, 2).await;
    newer.transport.set_addresses(vec![(StoreId(2), moved.address.clone())]);
    until("arrival from the newer run", || {
        newer.send(2, Lane::Liveness, [3]);
        moved.received().iter().any(|(_, id)| *id == 3)
    })
    .await;
    left.send(2, Lane::Liveness, [4]);
    until("another arrival from the newer run", || {
        left.send(2, Lane::Liveness, [4]);
        newer.send(2, Lane::Liveness, [5]);
        moved.received().iter().filter(|(_, id)| *id == 5).count() > 3
    })
    .await;
    assert!(moved.received().iter().all(|(_, id)| *id != 4), "an incarnation that is over was heard");
}

/// The others know no address of it, so they could not answer what it says: its lanes end with the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_removed_is_told_so_and_a_stranger_is_heard() {
    let right = Host::start("127.0.0.1:0", 7, 1, 1).await;
    let [removed, stranger, known] = [
        Host::start("127.0.0.1:0", 7, 2, 1).await,
        Host::start("127.0.0.1:0", 7, 3, 1).await,
        Host::start("127.0.0.1:0", 7, 4, 1).await,
    ];
    right.members.removed.lock().extend([StoreId(2), StoreId(4)]);
    right.transport.set_addresses(vec![(StoreId(4), known.address.clone())]);
    for host in [&removed, &stranger, &known] {
        host.transport.set_addresses(vec![(StoreId(1), right.address.clone())]);
    }
    until("the end of a lane", || removed.members.told_count.load(Ordering::Relaxed) > 0).await;
    for (host, id) in [(&stranger, 3), (&known, 4)] {
        until("arrival", || {
            host.send(1, Lane::Liveness, [id]);
            right.received().contains(&(StoreId(id), id))
        })
        .await;
        assert_eq!(host.members.told_count.load(Ordering::Relaxed), 0, "store {id} belongs to the cluster");
    }
    assert!(!right.members.asked_about.lock().contains(&StoreId(4)), "whose address is known");
    // A lane that is open already ends with the next frame.
    right.transport.set_addresses(Vec::new());
    until("the end of an open lane", || {
        known.send(1, Lane::Liveness, [5]);
        known.members.told_count.load(Ordering::Relaxed) > 0
    })
    .await;
}
