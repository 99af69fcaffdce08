//! The actor of a store's placement, and how the rest of the process reaches it.

use std::sync::Arc;

use actor::{Mailbox, Now, Worker};
use store::{
    RegionReport, Store,
    message::PlacementMessage,
    ports::{PlacementClient, Transport},
};
use types::{Instant, StoreId, Term};

use crate::core::{
    api::{PlacementCall, Responder},
    record::{KeyMode, StoreRecord},
};

/// Mail of a [`PlacementWorker`].
#[derive(Debug)]
pub enum PlacementMail {
    /// The process asks.
    Call(PlacementCall, Responder),
    /// Regions that are led from this store.
    Reports(Vec<RegionReport>),
    /// Where the placement group is led.
    PlacementLeader {
        /// The store, where known.
        leader: Option<StoreId>,
        /// If it is this one: the term, with every entry of earlier terms applied.
        led_here: Option<Term>,
    },
    /// From the placement of another store.
    Message(StoreId, PlacementMessage),
}

/// What placement tells the process beside answers, and asks of it. Calls must not block.
pub trait PlacementEvents: Send + Sync {
    /// The address book has changed: every store that is not removed, in order of id, this one included. To be done:
    /// tell the transport, [`Store::set_stores`], and persist it.
    fn on_stores(&self, stores: Vec<StoreRecord>);

    /// This store was removed from the cluster: it must not go on under its id.
    fn on_removed(&self);

    /// The space on this store's device, for its heartbeat.
    fn disk_space(&self) -> DiskSpace;
}

/// Space on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Bytes free.
    pub available_bytes: u64,
}

/// What a [`PlacementWorker`] is made of.
pub struct PlacementSetup {
    /// The store.
    pub store: Store,
    /// To the other stores.
    pub transport: Arc<dyn Transport>,
    /// The worker's own mailbox: answers of the store arrive there.
    pub mailbox: Arc<Mailbox<PlacementMail>>,
    /// This store, with its id and incarnation.
    pub self_record: StoreRecord,
    /// The address book as persisted; it may be empty and may contain this store.
    pub known_stores: Vec<StoreRecord>,
    /// What `init` was told; the settings row takes it from the first leader.
    pub key_mode: KeyMode,
    /// Who hears of stores.
    pub events: Arc<dyn PlacementEvents>,
    /// Seeds request ids and the scheduler.
    pub seed: u64,
}

/// Reaches the placement of this store. Clones share it; it is also the store's `PlacementClient` port.
#[derive(Clone)]
pub struct Client {
    mailbox: Arc<Mailbox<PlacementMail>>,
}

impl Client {
    /// The client of the worker behind `mailbox`.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox<PlacementMail>>) -> Client {
        Client { mailbox }
    }

    /// Asks. The responder is called exactly once, within about three seconds.
    pub fn call(&self, call: PlacementCall, responder: Responder) {
        self.mailbox.send(PlacementMail::Call(call, responder));
    }
}

impl PlacementClient for Client {
    fn report(&self, reports: Vec<RegionReport>) {
        self.mailbox.send(PlacementMail::Reports(reports));
    }

    fn on_placement_leader(&self, leader: Option<StoreId>, led_here: Option<Term>) {
        self.mailbox.send(PlacementMail::PlacementLeader { leader, led_here });
    }

    fn receive(&self, from: StoreId, message: PlacementMessage) {
        self.mailbox.send(PlacementMail::Message(from, message));
    }
}
