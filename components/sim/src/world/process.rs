//! The process of a store: what `server` assembles in production, assembled for one seeded loop.

use std::sync::Arc;

use actor::{Actor, ActorId, Mailbox, Runnable, Scheduler};
use engine::{KvEngine, LogEngine, StoreIdent, mem::MemDisk};
use parking_lot::Mutex;
use placement::{Client, DiskSpace, KeyMode, PlacementEvents, PlacementSetup, PlacementWorker, StoreRecord};
use store::{AdminRequest, Lane, Proposal, ReadRequest, Store, StoreMessage, Transport};
use types::{ClusterId, Incarnation, StoreId};

use super::{
    AnswerBody, Call, CallBody,
    call::Answers,
    clock::MachineClock,
    pool::{SimPool, Wakes},
};

/// Everything that a process finds when it starts.
pub(super) struct Birth {
    pub(super) config: store::Config,
    pub(super) clock: Arc<MachineClock>,
    pub(super) disk: MemDisk,
    /// How the disk comes to have a store, if it has none yet.
    pub(super) origin: Origin,
    /// The address book.
    pub(super) known_stores: Vec<StoreRecord>,
    pub(super) address: String,
}

/// How a machine comes to have a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It makes the cluster.
    Init(ClusterId),
    /// The cluster has given it this id.
    Join(ClusterId, StoreId),
}

/// A running process.
pub(super) struct Process {
    pub(super) store: Store,
    pub(super) pool: SimPool,
    pub(super) wire: Arc<Wire>,
    pub(super) answers: Answers,
    pub(super) news: Arc<News>,
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) kv: Arc<dyn KvEngine>,
    placement: Client,
}

/// Messages that a store has sent, until the world looks.
#[derive(Default)]
pub(super) struct Wire {
    sent: Mutex<Vec<(StoreId, Lane, Vec<StoreMessage>)>>,
}

/// What a store and its placement tell their process.
#[derive(Default)]
pub(super) struct News {
    fatal: Mutex<Option<String>>,
    stores: Mutex<Option<Vec<StoreRecord>>>,
}

impl Process {
    /// Starts the store on a disk that has joined a cluster.
    pub(super) fn start(birth: Birth) -> Result<(Process, StoreId), String> {
        let (log, kv) = birth.disk.open();
        let ident = identity(&*log, birth.origin).map_err(|error| error.to_string())?;
        let wakes = Arc::new(Wakes::default());
        let scheduler: Arc<dyn Scheduler> = Arc::clone(&wakes) as Arc<dyn Scheduler>;
        let wire = Arc::new(Wire::default());
        let news = Arc::new(News::default());
        // Placement is actor 0, so that its mailbox exists before the store needs it.
        let mailbox = Mailbox::new(ActorId(0), Arc::clone(&scheduler));
        let placement = Client::new(Arc::clone(&mailbox));
        let fatal = Arc::clone(&news);
        let ports = store::Ports {
            log: Arc::clone(&log),
            kv: Arc::clone(&kv),
            transport: Arc::clone(&wire) as Arc<dyn Transport>,
            placement: Arc::new(placement.clone()),
            clock: birth.clock,
            scheduler,
            fatal: Arc::new(move |reason| *fatal.fatal.lock() = Some(reason.to_owned())),
        };
        let seed = birth.config.seed;
        let (store, actors) =
            Store::open(birth.config, ident, ports, ActorId(1)).map_err(|error| error.to_string())?;
        let worker = PlacementWorker::new(PlacementSetup {
            store: store.clone(),
            transport: Arc::clone(&wire) as Arc<dyn Transport>,
            mailbox: Arc::clone(&mailbox),
            self_record: record(birth.address, ident.store_id, ident.incarnation),
            known_stores: birth.known_stores,
            key_mode: KeyMode::Raw,
            events: Arc::clone(&news) as Arc<dyn PlacementEvents>,
            seed,
        });
        let mut all: Vec<Box<dyn Runnable>> = vec![Box::new(Actor::new("placement", mailbox, worker))];
        all.extend(actors);
        let pool = SimPool::new(wakes, all);
        let process = Process { store, pool, wire, answers: Answers::default(), news, log, kv, placement };
        Ok((process, ident.store_id))
    }

    /// Carries a client's call to where `server` would.
    pub(super) fn call(&self, call: Call) {
        let id = call.id;
        match call.body {
            CallBody::Write(context, request) => {
                let responder = self.answers.responder(id, AnswerBody::Written);
                self.store.submit(vec![Proposal { context, request, responder }]);
            }
            CallBody::Read(context, query) => {
                let responder = self.answers.responder(id, AnswerBody::Read);
                self.store.read(vec![ReadRequest { context, query, responder }]);
            }
            CallBody::Placement(call) => self.placement.call(call, self.answers.placement_responder(id)),
            CallBody::Admin(region_id, epoch, action) => {
                let responder = self.answers.responder(id, AnswerBody::Admin);
                self.store.admin(AdminRequest { region_id, epoch, action, responder });
            }
        }
    }
}

/// Who the store on this disk is, in the run that begins now.
fn identity(log: &dyn LogEngine, origin: Origin) -> engine::Result<StoreIdent> {
    let ident = match origin {
        Origin::Init(cluster_id) => store::bootstrap::init(log, cluster_id)?,
        Origin::Join(cluster_id, store_id) => store::bootstrap::join(log, cluster_id, store_id)?,
    };
    Ok(store::bootstrap::start(log)?.unwrap_or(ident))
}

/// What a store says of itself.
pub(crate) fn record(address: String, id: StoreId, incarnation: Incarnation) -> StoreRecord {
    StoreRecord {
        id,
        address,
        incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..StoreRecord::default()
    }
}

impl Wire {
    pub(super) fn take(&self) -> Vec<(StoreId, Lane, Vec<StoreMessage>)> {
        std::mem::take(&mut *self.sent.lock())
    }
}

impl Transport for Wire {
    fn send(&self, to: StoreId, lane: Lane, messages: Vec<StoreMessage>) {
        self.sent.lock().push((to, lane, messages));
    }
}

impl News {
    /// Why the store cannot go on, if it said so.
    pub(super) fn take_fatal(&self) -> Option<String> {
        self.fatal.lock().take()
    }

    /// The address book, if it has changed.
    pub(super) fn take_stores(&self) -> Option<Vec<StoreRecord>> {
        self.stores.lock().take()
    }
}

impl PlacementEvents for News {
    fn on_stores(&self, stores: Vec<StoreRecord>) {
        *self.stores.lock() = Some(stores);
    }

    fn on_removed(&self) {
        *self.fatal.lock() = Some("removed from the cluster".to_owned());
    }

    fn disk_space(&self) -> DiskSpace {
        DiskSpace { capacity_bytes: 1 << 40, available_bytes: 1 << 39 }
    }
}
