//! Opening a store: replay of lifecycle records, then peers, then actors.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use actor::{Actor, ActorId, Clock, Mailbox, Runnable, Scheduler};
use engine::{KvEngine, LogEngine, RaftState, StoreIdent};
use kv::keys;
use raft::{InitialState, RaftGroup};
use types::{Peer as PeerIdentity, PeerId, PeerRole, RegionId};

use crate::{
    Config, Store,
    apply::ApplyWorker,
    codec,
    handle::Inner,
    ledger::Ledger,
    lifecycle::{delete_stray_files, ending_peers, last_sequence, replay},
    liveness::Liveness,
    log_writer::LogWriter,
    message::{ApplyMail, ApplyState},
    meta::Meta,
    peer::{Peer, PeerStart},
    ports::{PlacementClient, Transport},
    read::ReadWorker,
    round::{RaftWorker, behaviour, options},
    router::Router,
    shared::{Fatal, Shared},
    size::Sizer,
    snapshot::SnapshotWorker,
    upkeep::Upkeep,
    view::{RegionView, ViewState, Views},
};

/// What a store stands on.
pub struct Ports {
    /// Durable logs.
    pub log: Arc<dyn LogEngine>,
    /// Data.
    pub kv: Arc<dyn KvEngine>,
    /// To other stores.
    pub transport: Arc<dyn Transport>,
    /// The placement module on this store.
    pub placement: Arc<dyn PlacementClient>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is told that an actor has mail.
    pub scheduler: Arc<dyn Scheduler>,
    /// Called once when the store cannot go on.
    pub fatal: Fatal,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed, or holds what was not written.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The disk has lost or altered something of a region that was synced.
    #[error(
        "region {region_id}: {message}; what this store acknowledged may be lost, so it must not vote again: rebuild \
         this store under a new id"
    )]
    Corrupt {
        /// The region.
        region_id: RegionId,
        /// What is wrong.
        message: String,
    },
}

impl Store {
    /// How many actors a store has.
    #[must_use]
    pub fn actor_count(config: &Config) -> usize {
        config.raft_worker_count + config.apply_worker_count + config.read_worker_count + 5
    }

    /// Opens a store whose engines are open and whose run has begun ([`crate::bootstrap::start`]). Its actors have the
    /// ids from `first_actor` on, in the order in which they are returned; nothing happens until they are run.
    pub fn open(
        config: Config,
        ident: StoreIdent,
        ports: Ports,
        first_actor: ActorId,
    ) -> Result<(Store, Vec<Box<dyn Runnable>>), OpenError> {
        let records = ports.log.lifecycle_records()?;
        replay(&*ports.kv, &*ports.log, ident.cluster_id, &records)?;
        delete_stray_files(&*ports.kv, &records)?;
        let last_record = last_sequence(&*ports.kv, &records)?;
        let shared = share(config, ident, ports, first_actor, last_record);
        let endings = ending_peers(&records);
        let peers = load_peers(&shared, &endings)?;
        let store = Store {
            inner: Arc::new(Inner {
                ident,
                router: Arc::clone(&shared.router),
                views: Arc::clone(&shared.views),
                meta: Arc::clone(&shared.meta),
                placement: Arc::clone(&shared.placement),
                clock: Arc::clone(&shared.clock),
                kv: Arc::clone(&shared.kv),
                ledger: Arc::clone(&shared.ledger),
            }),
        };
        let upkeep = Upkeep::new(Arc::clone(&shared), records);
        Ok((store, make_actors(&shared, peers, &endings, upkeep)))
    }
}

fn share(
    config: Config,
    ident: StoreIdent,
    ports: Ports,
    first_actor: ActorId,
    last_record: u64,
) -> Arc<Shared> {
    let mut next = first_actor.0;
    let mut id = || {
        next += 1;
        ActorId(next - 1)
    };
    let scheduler = &ports.scheduler;
    let router = Arc::new(Router {
        raft: (0..config.raft_worker_count).map(|_| Mailbox::new(id(), Arc::clone(scheduler))).collect(),
        apply: (0..config.apply_worker_count).map(|_| Mailbox::new(id(), Arc::clone(scheduler))).collect(),
        read: (0..config.read_worker_count).map(|_| Mailbox::new(id(), Arc::clone(scheduler))).collect(),
        log_writer: Mailbox::new(id(), Arc::clone(scheduler)),
        snapshot: Mailbox::new(id(), Arc::clone(scheduler)),
        liveness: Mailbox::new(id(), Arc::clone(scheduler)),
        upkeep: Mailbox::new(id(), Arc::clone(scheduler)),
        sizer: Mailbox::new(id(), Arc::clone(scheduler)),
    });
    let ledger = Ledger::new(config.memory_limit_bytes);
    let shared = Shared {
        behaviour: Arc::new(behaviour(&config)),
        config,
        ident,
        log: ports.log,
        kv: ports.kv,
        transport: ports.transport,
        placement: ports.placement,
        clock: ports.clock,
        fatal: ports.fatal,
        router,
        views: Arc::new(Views::default()),
        meta: Arc::new(Meta::default()),
        ledger,
        last_record: AtomicU64::new(last_record),
    };
    Arc::new(shared)
}

fn load_peers(shared: &Shared, endings: &BTreeMap<RegionId, PeerId>) -> Result<Vec<Peer>, OpenError> {
    let mut peers = Vec::new();
    for (region_id, state) in shared.log.raft_states_with_ends()? {
        if endings.contains_key(&region_id) {
            continue;
        }
        peers.push(load_peer(shared, region_id, state)?);
    }
    Ok(peers)
}

fn load_peer(shared: &Shared, region_id: RegionId, mut state: RaftState) -> Result<Peer, OpenError> {
    let corrupt = |message: String| OpenError::Corrupt { region_id, message };
    let region = shared.kv.get(&keys::region_state_key(region_id))?;
    let region = region
        .map(|row| codec::decode_region_row(&row))
        .transpose()
        .map_err(|error| corrupt(error.to_string()))?;
    let (region, last_split) = region.unzip();
    let applied = shared.kv.get(&keys::apply_state_key(region_id))?;
    let applied = applied.map(|row| codec::decode_apply_state(&row)).transpose();
    let applied: ApplyState = applied.map_err(|error| corrupt(error.to_string()))?.unwrap_or_default();
    if applied.position.index > state.last.index || applied.position.index < state.truncated.index {
        return Err(corrupt(format!(
            "applied index {} is not between the log's ends {} and {}",
            applied.position.index, state.truncated.index, state.last.index
        )));
    }
    // Only committed entries are applied: the durable commit index may lag behind what that shows.
    state.hard_state.commit = state.hard_state.commit.max(applied.position.index);
    let me = identity_of(shared, &state);
    let region = region.map(Arc::new);
    let view = RegionView::new(ViewState {
        region: region.clone(),
        term: state.hard_state.term,
        last: state.last,
        applied: applied.position,
        size: applied.size.estimate(),
        commit_index: state.hard_state.commit,
        // What the log holds is not looked through: any of it may change the region.
        lease_blocked_to: state.last.index,
        ..ViewState::new(region_id, me)
    });
    shared.views.insert(region_id, Arc::clone(&view));
    if let Some(region) = &region {
        shared.meta.set(region);
        shared.router.send_apply(region_id, ApplyMail::Open(region_id));
    }
    let now = shared.clock.monotonic();
    let initial = InitialState {
        hard_state: state.hard_state,
        truncated: state.truncated,
        last: state.last,
        configurations: state.configurations,
        applied: applied.position.index,
        // What the run before may have promised (D10).
        vote_not_before: now + shared.config.promise(),
    };
    let group = RaftGroup::new(options(shared, me, region_id), initial, now);
    Ok(Peer::new(
        now,
        PeerStart {
            region_id,
            me,
            group,
            view,
            region,
            announced_range: None,
            applied_term: applied.position.term,
            last_split: last_split.flatten().map(|split| split.change_id),
        },
    ))
}

/// This store's peer, with the role that the last configuration of its log gives it.
fn identity_of(shared: &Shared, state: &RaftState) -> PeerIdentity {
    let last = state.configurations.last();
    let named =
        last.and_then(|(_, change)| change.peers.iter().find(|peer| peer.id == state.peer_id)).copied();
    named.unwrap_or(PeerIdentity {
        id: state.peer_id,
        store_id: shared.ident.store_id,
        role: PeerRole::Learner,
    })
}

fn make_actors(
    shared: &Arc<Shared>,
    peers: Vec<Peer>,
    endings: &BTreeMap<RegionId, PeerId>,
    upkeep: Upkeep,
) -> Vec<Box<dyn Runnable>> {
    let router = &shared.router;
    let mut actors: Vec<Box<dyn Runnable>> = Vec::new();
    let mut groups: Vec<Vec<Peer>> = router.raft.iter().map(|_| Vec::new()).collect();
    for peer in peers {
        groups[router.raft_at(peer.region_id)].push(peer);
    }
    for (at, (mailbox, peers)) in router.raft.iter().zip(groups).enumerate() {
        let mut worker = RaftWorker::new(at, Arc::clone(shared), peers);
        for (region_id, peer_id) in endings.iter().filter(|(id, _)| router.raft_at(**id) == at) {
            worker.resume_end(*region_id, *peer_id);
        }
        actors.push(Box::new(Actor::new(format!("raft-{at}"), Arc::clone(mailbox), worker)));
    }
    for (at, mailbox) in router.apply.iter().enumerate() {
        let worker = ApplyWorker::new(Arc::clone(shared));
        actors.push(Box::new(Actor::new(format!("apply-{at}"), Arc::clone(mailbox), worker)));
    }
    for (at, mailbox) in router.read.iter().enumerate() {
        let worker = ReadWorker::new(Arc::clone(shared));
        actors.push(Box::new(Actor::new(format!("read-{at}"), Arc::clone(mailbox), worker)));
    }
    let log_writer = LogWriter::new(Arc::clone(shared));
    actors.push(Box::new(Actor::new("log-writer", Arc::clone(&router.log_writer), log_writer)));
    let snapshot = SnapshotWorker::new(Arc::clone(shared));
    actors.push(Box::new(Actor::new("snapshot", Arc::clone(&router.snapshot), snapshot)));
    let liveness = Liveness::new(Arc::clone(shared));
    actors.push(Box::new(Actor::new("liveness", Arc::clone(&router.liveness), liveness)));
    actors.push(Box::new(Actor::new("upkeep", Arc::clone(&router.upkeep), upkeep)));
    let sizer = Sizer::new(Arc::clone(shared));
    actors.push(Box::new(Actor::new("sizer", Arc::clone(&router.sizer), sizer)));
    actors
}
