//! What all actors of one store share: engines, ports, views, and the few counters that belong to the store as a whole.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use actor::Clock;
use engine::{KvEngine, LogEngine, StoreIdent};
use raft::Behaviour;

use crate::{
    Config,
    ledger::Ledger,
    meta::Meta,
    ports::{PlacementClient, Transport},
    router::Router,
    view::Views,
};

/// Called once when the store cannot go on; the process ends.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) config: Config,
    /// How the Raft groups of this store behave.
    pub(crate) behaviour: Arc<Behaviour>,
    pub(crate) ident: StoreIdent,
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) kv: Arc<dyn KvEngine>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) placement: Arc<dyn PlacementClient>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fatal: Fatal,
    pub(crate) router: Arc<Router>,
    pub(crate) views: Arc<Views>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) ledger: Arc<Ledger>,
    /// The sequence of the newest lifecycle record.
    pub(crate) last_record: AtomicU64,
}

impl Shared {
    /// The sequence for a new lifecycle record.
    pub(crate) fn next_record(&self) -> u64 {
        self.last_record.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Unwraps an engine's result. A failure ends the store: what the disk holds is not known any more (D12).
    pub(crate) fn or_fatal<T>(&self, doing: &str, result: engine::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(engine::Error::Poisoned) => None,
            Err(error) => {
                (self.fatal)(&format!("{doing}: {error}"));
                None
            }
        }
    }
}
