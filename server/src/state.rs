//! What every service of the process shares: who this process is, how far it has come, and the store once it runs.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use actor::Clock as _;
use engine::StoreIdent;
use placement::{KeyMode, PlacementAnswer, PlacementCall, StoreRecord};
use proto::raft::{Hello, StoreAddress};
use store::Store;
use telemetry::Exporter;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use transport::{CLUSTER_VERSION, Credentials};
use types::{ClusterId, Incarnation, StoreId, WallTime};

use crate::{book::AddressBook, clock::SystemClock, config::Settings};

/// How long `init` waits for a store that is being opened.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The engines are being opened.
    Opening,
    /// It belongs to no cluster yet.
    WaitingForInit,
    /// It is known which cluster it belongs to; the store is being opened.
    Starting,
    /// It serves.
    Serving,
    /// It hands everything over and stops.
    Draining,
}

/// Shared by all services.
pub(crate) struct State {
    pub(crate) settings: Settings,
    /// Where others reach this process, `host:port`.
    pub(crate) address: String,
    pub(crate) credentials: Credentials,
    pub(crate) started: WallTime,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) exporter: Exporter,
    phase: watch::Sender<Phase>,
    ident: OnceLock<StoreIdent>,
    running: OnceLock<Running>,
    init: mpsc::Sender<InitWish>,
    /// Rung when a store that belongs to a cluster says hello to this process, which belongs to none.
    pub(crate) cluster_seen: Notify,
}

/// The parts of a store that serves.
pub(crate) struct Running {
    pub(crate) ident: StoreIdent,
    pub(crate) store: Store,
    pub(crate) placement: placement::Client,
    pub(crate) key_mode: KeyMode,
}

/// Somebody wants a cluster to be.
pub(crate) struct InitWish {
    pub(crate) key_mode: KeyMode,
    /// Told the cluster, and whether it was there before; or why not.
    pub(crate) answer: oneshot::Sender<Result<(ClusterId, bool), String>>,
}

impl State {
    pub(crate) fn new(
        settings: Settings,
        address: String,
        credentials: Credentials,
        exporter: Exporter,
    ) -> (Arc<State>, mpsc::Receiver<InitWish>) {
        // A few people may run `init` at once; more than that wait at the door.
        let (init, wishes) = mpsc::channel(16);
        let clock = Arc::new(SystemClock::new());
        let state = State {
            settings,
            address,
            credentials,
            started: clock.wall(),
            clock,
            book: Arc::default(),
            exporter,
            phase: watch::Sender::new(Phase::Opening),
            ident: OnceLock::new(),
            running: OnceLock::new(),
            init,
            cluster_seen: Notify::new(),
        };
        (Arc::new(state), wishes)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on to `phase`; never back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let is_later = *current < phase;
            *current = (*current).max(phase);
            is_later
        });
    }

    /// Who this store is, once that is known.
    pub(crate) fn ident(&self) -> Option<StoreIdent> {
        self.ident.get().copied()
    }

    /// Only the first call counts.
    pub(crate) fn set_ident(&self, ident: StoreIdent) {
        if self.ident.set(ident).is_err() {
            tracing::error!("the store has an identity already");
        }
    }

    /// The store, once it runs.
    pub(crate) fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Only the first call counts.
    pub(crate) fn set_running(&self, running: Running) {
        if self.running.set(running).is_err() {
            tracing::error!("the store runs already");
        }
    }

    /// Asks the founding task for a cluster.
    pub(crate) async fn init(&self, key_mode: KeyMode) -> Result<(ClusterId, bool), String> {
        let (answer, answered) = oneshot::channel();
        let is_sent = self.init.send(InitWish { key_mode, answer }).await.is_ok();
        if is_sent && let Ok(result) = answered.await {
            return result;
        }
        // The founding task ends when there is a cluster; the store is being opened then.
        let mut phases = self.phases();
        let is_open = phases.wait_for(|phase| *phase >= Phase::Serving);
        drop(timeout(OPEN_TIMEOUT, is_open).await);
        match self.ident() {
            Some(ident) => Ok((ident.cluster_id, true)),
            None => Err("the store belongs to a cluster and is still being opened".to_owned()),
        }
    }

    /// This store as it registers.
    pub(crate) fn record(
        &self,
        id: StoreId,
        incarnation: Incarnation,
        registration_nonce: u64,
    ) -> StoreRecord {
        StoreRecord {
            id,
            address: self.address.clone(),
            status_address: self.address.clone(),
            version: VERSION.to_owned(),
            labels: self.settings.labels.clone(),
            incarnation,
            started: self.started,
            registration_nonce,
            ..StoreRecord::default()
        }
    }

    /// What this process says of itself.
    pub(crate) fn hello(&self) -> Hello {
        let ident = self.ident();
        let address_book = self.book.records().into_iter().map(|record| StoreAddress {
            store_id: record.id.0,
            address: record.address,
            incarnation: record.incarnation.0,
        });
        Hello {
            binary_version: VERSION.to_owned(),
            cluster_version_min: CLUSTER_VERSION,
            cluster_version_max: CLUSTER_VERSION,
            cluster_version: if ident.is_some() { CLUSTER_VERSION } else { 0 },
            cluster_id: ident.map_or(0, |ident| ident.cluster_id.0),
            store_id: ident.map_or(0, |ident| ident.store_id.0),
            incarnation: ident.map_or(0, |ident| ident.incarnation.0),
            address: self.address.clone(),
            address_book: if ident.is_some() { address_book.collect() } else { Vec::new() },
        }
    }

    /// Learns from another process of the same cluster where stores are; or, without a cluster, that there is one.
    pub(crate) fn on_hello(&self, hello: &Hello) {
        let Some(ident) = self.ident() else {
            if hello.cluster_id != 0 {
                self.cluster_seen.notify_one();
            }
            return;
        };
        if hello.cluster_id != ident.cluster_id.0 || hello.store_id == 0 {
            return;
        }
        let own = StoreAddress {
            store_id: hello.store_id,
            address: hello.address.clone(),
            incarnation: hello.incarnation,
        };
        for entry in hello.address_book.iter().chain([&own]) {
            let (id, incarnation) = (StoreId(entry.store_id), Incarnation(entry.incarnation));
            if id.0 != 0 && id != ident.store_id && !entry.address.is_empty() {
                self.book.learn(id, &entry.address, incarnation);
            }
        }
    }
}

impl Running {
    /// Asks placement, and waits for the answer.
    pub(crate) async fn ask(&self, call: PlacementCall) -> placement::Result<PlacementAnswer> {
        let (sender, receiver) = oneshot::channel();
        let responder = placement::Responder::new(move |result| {
            // Whoever asked may have gone away.
            drop(sender.send(result));
        });
        self.placement.call(call, responder);
        receiver.await.unwrap_or_else(|_| {
            Err(placement::Error::Unavailable { reason: "the store is stopping".to_owned() })
        })
    }
}
