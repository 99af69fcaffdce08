//! A cluster in one process that keeps its pairs in a map and can be told to misbehave: enough of the public protocol for
//! the client to be tested against, and to be measured without a store's cost.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_enum_variant,
    clippy::too_many_lines,
    reason = "for tests and measurements; each uses a part"
)]

mod placement;
mod store;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use proto::{pdpb::pd_server::PdServer, tikvpb::tikv_server::TikvServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use types::{Epoch, KeyRange, Peer, PeerId, PeerRole, Region, RegionId, StoreId};

pub const CLUSTER_ID: u64 = 77;

/// What a store does with the next command that carries a key, instead of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers that it is busy, for so many milliseconds.
    Busy(u64),
    /// Answers that it does not know whether it did it.
    Undetermined,
    /// Ends the stream before it does it.
    Break,
    /// Does it and ends the stream.
    ApplyAndBreak,
    /// Does not answer.
    Silence,
    /// Answers that another leads, and does not say who.
    NoHint,
}

/// The cluster; stores share it.
#[derive(Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    pub regions: Vec<Region>,
    /// The store that leads a region.
    pub leaders: BTreeMap<RegionId, StoreId>,
    pub addresses: BTreeMap<StoreId, String>,
    pub pairs: BTreeMap<Bytes, Bytes>,
    pub faults: VecDeque<Fault>,
    /// How many commands each message of a stream brought.
    pub message_sizes: Vec<usize>,
    /// Regions that placement was asked for.
    pub lookup_count: usize,
}

impl Cluster {
    /// A cluster with so many stores, on free ports of this machine, and one region per entry: where each begins.
    pub async fn start(store_count: u64, starts: &[&'static str]) -> Cluster {
        let cluster = Cluster::default();
        for at in 1..=store_count {
            cluster.serve(StoreId(at), SocketAddr::from(([127, 0, 0, 1], 0))).await;
        }
        let mut state = cluster.state();
        for (at, start) in (0..).zip(starts) {
            let end = starts.get(usize::try_from(at).unwrap() + 1).copied().unwrap_or_default();
            let peers = (1..=store_count).map(|store| peer(at * 10 + store, store));
            let region = Region {
                id: RegionId(at + 2),
                range: KeyRange::new(*start, end),
                epoch: Epoch::FIRST,
                peers: peers.collect(),
            };
            state.leaders.insert(region.id, StoreId(at % store_count + 1));
            state.regions.push(region);
        }
        drop(state);
        cluster
    }

    /// Starts one store.
    pub async fn serve(&self, id: StoreId, address: SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        self.state().addresses.insert(id, listener.local_addr().unwrap().to_string());
        let incoming = TcpListenerStream::new(listener);
        let service = Server::builder()
            .initial_stream_window_size(16 << 20)
            .initial_connection_window_size(16 << 20)
            .add_service(PdServer::new(placement::Placement { cluster: self.clone() }))
            .add_service(TikvServer::new(store::Store { id, cluster: self.clone() }))
            .serve_with_incoming(incoming);
        tokio::spawn(service);
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// One region over every key, on store 1.
    pub fn add_region(&mut self) {
        let region =
            Region { id: RegionId(2), range: KeyRange::ALL, epoch: Epoch::FIRST, peers: vec![peer(1, 1)] };
        self.leaders.insert(region.id, StoreId(1));
        self.regions.push(region);
    }

    /// The addresses to give to a client.
    pub fn seeds(&self) -> Vec<String> {
        self.addresses.values().cloned().collect()
    }

    pub fn find(&self, key: &[u8]) -> Option<&Region> {
        self.regions.iter().find(|region| region.range.contains_key(key))
    }

    pub fn leader(&self, region: &Region) -> Option<Peer> {
        self.leaders.get(&region.id).and_then(|store| region.find_peer_on(*store))
    }

    /// Splits the region that holds a key at this key: the right half keeps its id.
    pub fn split(&mut self, key: &'static str) {
        let at = self.regions.iter().position(|region| region.range.contains_key(key.as_bytes())).unwrap();
        let child_id = RegionId(self.regions.iter().map(|region| region.id.0).max().unwrap() + 1);
        let parent = &mut self.regions[at];
        parent.epoch.version += 1;
        let mut child = parent.clone();
        child.id = child_id;
        for peer in &mut child.peers {
            peer.id.0 += 1_000;
        }
        child.range.end_key = Bytes::from_static(key.as_bytes());
        parent.range.start_key = Bytes::from_static(key.as_bytes());
        let leader = self.leaders[&parent.id];
        self.leaders.insert(child_id, leader);
        self.regions.push(child);
    }
}

fn peer(id: u64, store: u64) -> Peer {
    Peer { id: PeerId(id), store_id: StoreId(store), role: PeerRole::Voter }
}
