//! Engines, store, placement and threads.

use std::sync::Arc;

use actor::{
    Actor, ActorId, Clock, Mailbox, Scheduler,
    pool::{Pool, ThreadScheduler},
};
use engine::{KvEngine, LogEngine, StoreIdent};
use engine_rocks::{BlockCache, Options, RocksKv, RocksLog};
use placement::{Client, PlacementSetup, PlacementWorker};
use store::{Ports, Store, Transport};
use tokio::{runtime::Handle, task::spawn_blocking};
use transport::{GrpcTransport, Identity, Membership};

use super::{events::Events, fatal};
use crate::{
    book::LocalRows,
    config::EngineSettings,
    data_dir::DataDir,
    failure::{Code, Failure, Result},
    random::random_number,
    service::Services,
    state::{Running, State},
};

/// Both engines, and what the log's local rows held when it was opened.
#[derive(Clone)]
pub(super) struct Engines {
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) kv: Arc<dyn KvEngine>,
}

/// The threads of a running store.
pub(super) struct Threads {
    pub(super) ident: StoreIdent,
    pub(super) pool: Pool,
}

/// Opens both engines.
pub(super) async fn engines(state: &State, data_dir: &DataDir) -> Result<Engines> {
    let options = options(&state.settings.engines);
    let (log_path, kv_path) = (data_dir.log(), data_dir.kv());
    let failed = |what: &str, error: &engine::Error| {
        Failure::new(Code::Failed, format!("open the {what} engine in {}", data_dir.path().display()))
            .because(error)
            .hint(
                "if the disk is damaged, start the store with an empty data directory under a new id: its peers have the data",
            )
    };
    let (log, kv) = blocking(move || {
        let log = RocksLog::open(&log_path, &options);
        let kv = RocksKv::open(&kv_path, &options);
        (log, kv)
    })
    .await?;
    let log = log.map_err(|error| failed("log", &error))?;
    let kv = kv.map_err(|error| failed("data", &error))?;
    Ok(Engines { log: Arc::new(log), kv: Arc::new(kv) })
}

/// Begins a run of the store: its incarnation, its actors and their threads, and the lanes of the others.
pub(super) async fn store(
    state: &Arc<State>,
    engines: &Engines,
    data_dir: &DataDir,
    services: &Services,
) -> Result<Threads> {
    let runtime = Handle::current();
    let parts = Parts {
        state: Arc::clone(state),
        engines: engines.clone(),
        path: data_dir.path().to_owned(),
        runtime: runtime.clone(),
    };
    let (threads, running, transport) = blocking(move || parts.open()).await??;
    state.set_ident(threads.ident);
    services.transport.attach(transport.clone());
    runtime.spawn(keep_book(Arc::clone(state), running.store.clone(), transport, Arc::clone(&engines.log)));
    state.set_running(running);
    Ok(threads)
}

/// What a store is made of.
struct Parts {
    state: Arc<State>,
    engines: Engines,
    path: std::path::PathBuf,
    runtime: Handle,
}

impl Parts {
    fn open(self) -> Result<(Threads, Running, GrpcTransport)> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(Code::Failed, format!("open the store in {}", self.path.display())).because(error)
        };
        let ident = store::bootstrap::start(&*self.engines.log)
            .map_err(|error| failed(&error))?
            .ok_or_else(|| Failure::new(Code::Failed, "the store has no identity"))?;
        let rows = LocalRows::read(&*self.engines.log).map_err(|error| failed(&error))?;
        let config = store::Config { seed: random_number(), ..self.state.settings.store.clone() };
        let actor_count = Store::actor_count(&config);
        let scheduler = ThreadScheduler::new(actor_count + 1);
        let clock: Arc<dyn Clock> = Arc::clone(&self.state.clock) as Arc<dyn Clock>;
        let identity = Identity {
            cluster_id: ident.cluster_id,
            store_id: ident.store_id,
            incarnation: ident.incarnation,
        };
        let events = Arc::new(Events { state: Arc::clone(&self.state), path: self.path.clone() });
        let membership = Arc::clone(&events) as Arc<dyn Membership>;
        let transport =
            GrpcTransport::new(identity, self.state.credentials, membership, self.runtime.clone());
        let placement_id = ActorId(actor_count);
        let mailbox = Mailbox::new(placement_id, Arc::clone(&scheduler) as Arc<dyn Scheduler>);
        let client = Client::new(Arc::clone(&mailbox));
        let fatal_path = self.path.clone();
        let ports = Ports {
            log: Arc::clone(&self.engines.log),
            kv: Arc::clone(&self.engines.kv),
            transport: Arc::new(transport.clone()),
            placement: Arc::new(client.clone()),
            clock: Arc::clone(&clock),
            scheduler: Arc::clone(&scheduler) as Arc<dyn Scheduler>,
            fatal: Arc::new(move |message: &str| fatal(&fatal_path, message)),
        };
        let (store, mut actors) =
            Store::open(config, ident, ports, ActorId(0)).map_err(|error| failed(&error))?;
        let key_mode = rows.key_mode.unwrap_or_default();
        self.state.book.load(rows.records.clone());
        let worker = PlacementWorker::new(PlacementSetup {
            store: store.clone(),
            transport: Arc::new(transport.clone()) as Arc<dyn Transport>,
            mailbox: Arc::clone(&mailbox),
            self_record: self.state.record(
                ident.store_id,
                ident.incarnation,
                rows.registration_nonce.unwrap_or_default(),
            ),
            known_stores: rows.records,
            key_mode,
            events,
            seed: random_number(),
        });
        actors.push(Box::new(Actor::new("placement", mailbox, worker)));
        transport.attach(store.clone());
        transport.set_addresses(self.state.book.addresses());
        let pool = Pool::start(scheduler, &clock, actors).map_err(|error| failed(&error))?;
        let running = Running { ident, store, placement: client, key_mode };
        Ok((Threads { ident, pool }, running, transport))
    }
}

/// Follows the address book: tells the transport and the store, and writes it down.
async fn keep_book(state: Arc<State>, store: Store, transport: GrpcTransport, log: Arc<dyn LogEngine>) {
    let mut changes = state.book.changes();
    loop {
        transport.set_addresses(state.book.addresses());
        store.set_stores(state.book.records().into_iter().map(|record| record.id).collect());
        let (book, log) = (Arc::clone(&state.book), Arc::clone(&log));
        match spawn_blocking(move || book.persist(&*log)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the address book was not written"),
            Err(error) => tracing::error!(%error, "the task that writes the address book failed"),
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn options(settings: &EngineSettings) -> Options {
    Options {
        block_cache: BlockCache::new(settings.block_cache_bytes),
        log_memtable_bytes: settings.log_memtable_bytes,
        kv_memtable_bytes: settings.kv_memtable_bytes,
        open_files_max: settings.open_files_max,
        ..Options::default()
    }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Failure::new(Code::Failed, "run a task").because(&error))
}
