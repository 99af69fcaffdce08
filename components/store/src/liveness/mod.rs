//! Liveness belongs to stores, not regions (D7): beats, silence, suspicion.
//!
//! A suspicion only starts elections; it never releases a promise, so neither safety nor leases rest on it (D10).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor::{Now, Worker};
use telemetry::names;
use types::{Incarnation, Instant, StoreId};

use crate::{
    limits::SUSPECT_AFTER,
    message::{Beat, RaftMail, StoreMessage},
    outbox::Outbox,
    ports::Lane,
    shared::Shared,
};

/// How a store could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The connection broke or timed out.
    Broken,
    /// A new connection was refused: no process listens there.
    Refused,
}

/// Mail of the liveness worker.
pub(crate) enum LivenessMail {
    /// From another store.
    Beat { from: StoreId, beat: Beat },
    /// The transport could not deliver.
    Unreachable { store: StoreId, how: Unreachable },
    /// The stores of the cluster.
    Stores(Vec<StoreId>),
}

/// Sends beats and judges silence.
pub(crate) struct Liveness {
    shared: Arc<Shared>,
    stores: BTreeMap<StoreId, OtherStore>,
    next_beat: Instant,
}

/// What is known of another store by its beats.
struct OtherStore {
    sent_number: u64,
    heard_number: u64,
    heard_incarnation: Incarnation,
    /// Silence counts from here.
    heard_at: Instant,
    is_suspected: bool,
}

impl Liveness {
    pub(crate) fn new(shared: Arc<Shared>) -> Liveness {
        Liveness { shared, stores: BTreeMap::new(), next_beat: Instant::ZERO }
    }

    fn on_mail(&mut self, now: Instant, mail: LivenessMail) {
        match mail {
            LivenessMail::Beat { from, beat } => self.on_beat(now, from, beat),
            LivenessMail::Unreachable { store, how: Unreachable::Refused } => self.suspect(store),
            // A broken connection is tried again first; only a refusal says that nobody is there.
            LivenessMail::Unreachable { how: Unreachable::Broken, .. } => {}
            LivenessMail::Stores(stores) => self.on_stores(now, &stores),
        }
    }

    fn on_stores(&mut self, now: Instant, stores: &[StoreId]) {
        self.stores.retain(|id, _| stores.contains(id));
        for id in stores.iter().filter(|id| **id != self.shared.ident.store_id) {
            self.stores.entry(*id).or_insert(OtherStore {
                sent_number: 0,
                heard_number: 0,
                heard_incarnation: Incarnation(0),
                heard_at: now,
                is_suspected: false,
            });
        }
    }

    fn on_beat(&mut self, now: Instant, from: StoreId, beat: Beat) {
        let Some(store) = self.stores.get_mut(&from) else { return };
        let is_newer = (beat.incarnation, beat.number) > (store.heard_incarnation, store.heard_number);
        metrics::counter!(names::STORE_BEATS_RECEIVED).increment(1);
        if is_newer {
            store.heard_incarnation = beat.incarnation;
            store.heard_number = beat.number;
            store.heard_at = now;
            store.is_suspected = false;
        }
    }

    fn suspect(&mut self, id: StoreId) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        if !store.is_suspected {
            store.is_suspected = true;
            tracing::info!(store = id.0, "store is suspected to be down");
            self.shared.router.broadcast_raft(|| RaftMail::StoreSuspected(id));
        }
    }

    fn beat(&mut self) {
        let mut outbox = Outbox::default();
        for (id, store) in &mut self.stores {
            store.sent_number += 1;
            let beat = Beat {
                incarnation: self.shared.ident.incarnation,
                number: store.sent_number,
                heard_number: store.heard_number,
                heard_incarnation: store.heard_incarnation,
            };
            outbox.push(*id, Lane::Liveness, StoreMessage::Beat(beat));
        }
        outbox.send(&*self.shared.transport);
        metrics::counter!(names::STORE_BEATS_SENT).increment(self.stores.len() as u64);
        let suspected_count = self.stores.values().filter(|store| store.is_suspected).count();
        metrics::gauge!(names::STORE_SUSPECTED).set(u32::try_from(suspected_count).unwrap_or(u32::MAX));
    }

    /// A store that was itself stalled has no evidence against others: its windows grow by the time it was late.
    fn forgive(&mut self, lateness: Duration) {
        let lateness = lateness.min(SUSPECT_AFTER);
        for store in self.stores.values_mut() {
            store.heard_at += lateness;
        }
    }
}

impl Worker for Liveness {
    type Mail = LivenessMail;

    fn round(&mut self, now: Now, mail: &mut Vec<LivenessMail>) {
        let now = now.monotonic;
        let interval = self.shared.config.heartbeat_interval;
        // 1. Mail first: what came while this store was stalled counts.
        for mail in mail.drain(..) {
            self.on_mail(now, mail);
        }
        if now < self.next_beat {
            return;
        }
        // 2. Lateness of this store is no silence of the others.
        if self.next_beat != Instant::ZERO && now.since(self.next_beat) > interval {
            self.forgive(now.since(self.next_beat));
        }
        // 3. Beat.
        self.next_beat = now + interval;
        self.beat();
        // 4. Judge silence.
        let silent: Vec<_> = self
            .stores
            .iter()
            .filter(|(_, store)| now.since(store.heard_at) > SUSPECT_AFTER)
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.suspect(id);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next_beat)
    }
}
