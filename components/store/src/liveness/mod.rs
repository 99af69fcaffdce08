//! Liveness belongs to stores, not regions (D7): beats, silence, suspicion, and what stores tell each other about
//! regions that sleep (docs/life-of-a-sleep.md).
//!
//! A suspicion only starts elections; it never releases a promise, so neither safety nor leases rest on it (D10).

mod message;
mod pair;
mod sleepers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor::{Now, Worker};
use telemetry::names;
use types::{Instant, StoreId};

pub use self::message::{Section, SleepDigest, SleepMessage, SleepOffer, Sleeper, SleeperList};
use self::pair::OtherStore;
pub(crate) use self::{pair::Judgement, sleepers::Sleepers};
use crate::{
    limits::{BEAT_INTERVAL_MAX, DIGEST_INTERVAL, PULSE_INTERVAL, WEDGED_AFTER},
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
    /// A raft worker is at work, and says whether all its regions sleep.
    Pulse { worker: usize, number: u64, rests: bool },
    /// Peers of a raft worker have fallen asleep, or have woken.
    Slept(Vec<(StoreId, SleepChange)>),
    /// From another store: what sleeps there, led there, by this store's agreement.
    Digest { from: StoreId, digest: SleepDigest },
    /// Another store wants to compare.
    Compare { from: StoreId },
}

/// How the digests of a pair change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SleepChange {
    /// Of what is led here.
    pub(crate) leading: SleepDigest,
    /// Of what is led there.
    pub(crate) following: SleepDigest,
}

/// Sends beats and judges silence.
pub(crate) struct Liveness {
    shared: Arc<Shared>,
    stores: BTreeMap<StoreId, OtherStore>,
    next_beat: Instant,
    /// What each raft worker was asked last, and what it has answered.
    pulses: Vec<Pulse>,
}

/// Whether a raft worker is at work, and whether it has any.
#[derive(Clone, Copy)]
struct Pulse {
    sent_number: u64,
    sent_at: Instant,
    answered_number: u64,
    rests: bool,
}

impl Liveness {
    pub(crate) fn new(shared: Arc<Shared>) -> Liveness {
        let now = shared.clock.monotonic();
        let pulse = Pulse { sent_number: 0, sent_at: now, answered_number: 0, rests: false };
        let pulses = vec![pulse; shared.config.raft_worker_count];
        Liveness { shared, stores: BTreeMap::new(), next_beat: Instant::ZERO, pulses }
    }

    fn on_mail(&mut self, now: Instant, mail: LivenessMail) {
        match mail {
            LivenessMail::Beat { from, beat } => self.on_beat(now, from, beat),
            LivenessMail::Unreachable { store, how: Unreachable::Refused } => self.suspect(now, store),
            // A broken connection is tried again first; only a refusal says that nobody is there.
            LivenessMail::Unreachable { how: Unreachable::Broken, .. } => {}
            LivenessMail::Stores(stores) => self.on_stores(now, &stores),
            LivenessMail::Pulse { worker, number, rests } => {
                if let Some(pulse) = self.pulses.get_mut(worker) {
                    pulse.answered_number = pulse.answered_number.max(number);
                    pulse.rests = rests;
                }
            }
            LivenessMail::Slept(changes) => {
                for (id, change) in changes {
                    if let Some(store) = self.stores.get_mut(&id) {
                        store.leading.join(change.leading);
                        store.following.join(change.following);
                    }
                }
            }
            LivenessMail::Digest { from, digest } => self.on_digest(from, digest),
            LivenessMail::Compare { from } => {
                self.shared.router.broadcast_raft(|| RaftMail::ListSleepers(from));
            }
        }
    }

    fn on_stores(&mut self, now: Instant, stores: &[StoreId]) {
        let gone: Vec<_> = self.stores.keys().filter(|id| !stores.contains(id)).copied().collect();
        for id in gone {
            // Nobody sleeps on the word of a store that is not listened to.
            self.suspect(now, id);
            self.tell(now, id);
            self.stores.remove(&id);
        }
        for id in stores.iter().filter(|id| **id != self.shared.ident.store_id) {
            self.stores.entry(*id).or_insert_with(|| OtherStore::new(now, now + DIGEST_INTERVAL));
        }
    }

    fn on_beat(&mut self, now: Instant, from: StoreId, beat: Beat) {
        let Some(store) = self.stores.get_mut(&from) else { return };
        metrics::counter!(names::STORE_BEATS_RECEIVED).increment(1);
        store.on_beat(now, self.shared.ident.incarnation, beat);
        self.tell(now, from);
    }

    fn suspect(&mut self, now: Instant, id: StoreId) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        if !store.is_suspected() {
            tracing::info!(store = id.0, "store is suspected to be down");
        }
        store.suspect(now);
        self.tell(now, id);
    }

    /// Tells the raft workers what is thought of a store, if that is news.
    fn tell(&mut self, now: Instant, id: StoreId) {
        let judgement = self.stores.get_mut(&id).and_then(|store| store.judge(now));
        if let Some(judgement) = judgement {
            self.shared.router.broadcast_raft(|| RaftMail::StoreJudged(id, judgement));
        }
    }

    /// What another store believes to sleep here must be what does: else somebody sleeps whose leader is not there.
    fn on_digest(&mut self, from: StoreId, digest: SleepDigest) {
        let Some(store) = self.stores.get(&from) else { return };
        if store.following == digest {
            return;
        }
        tracing::debug!(store = from.0, theirs = ?digest, ours = ?store.following, "sleepers are compared");
        metrics::counter!(names::SLEEP_COMPARISONS).increment(1);
        let mut outbox = Outbox::default();
        outbox.push(from, Lane::Liveness, StoreMessage::Sleep(SleepMessage::Compare));
        outbox.send(&*self.shared.transport);
    }

    fn beat(&mut self, now: Instant) {
        let own = self.shared.ident.incarnation;
        let mut outbox = Outbox::default();
        let is_wedged = self.is_wedged(now);
        for (id, store) in self.stores.iter_mut().filter(|_| !is_wedged) {
            outbox.push(*id, Lane::Liveness, StoreMessage::Beat(store.next_beat(own)));
            metrics::counter!(names::STORE_BEATS_SENT).increment(1);
            if store.next_digest <= now {
                store.next_digest = now + DIGEST_INTERVAL;
                let digest = SleepMessage::Digest(store.leading);
                outbox.push(*id, Lane::Liveness, StoreMessage::Sleep(digest));
            }
        }
        outbox.send(&*self.shared.transport);
        for (pulse, mailbox) in self.pulses.iter_mut().zip(&self.shared.router.raft) {
            // One question at a time: a worker that does not come to its mail shall not find thousands.
            if pulse.answered_number == pulse.sent_number && now.since(pulse.sent_at) >= PULSE_INTERVAL {
                pulse.sent_number += 1;
                pulse.sent_at = now;
                mailbox.send(RaftMail::Pulse(pulse.sent_number));
            }
        }
        let suspected_count = self.stores.values().filter(|store| store.is_suspected()).count();
        metrics::gauge!(names::STORE_SUSPECTED).set(u32::try_from(suspected_count).unwrap_or(u32::MAX));
    }

    /// Whether some raft worker does nothing any more. Then this store must not be taken for alive: those who sleep
    /// under its beat would rely on a leader that does not answer.
    fn is_wedged(&self, now: Instant) -> bool {
        self.pulses
            .iter()
            .any(|pulse| pulse.answered_number < pulse.sent_number && now.since(pulse.sent_at) > WEDGED_AFTER)
    }

    /// How long after a beat the next one follows.
    fn interval(&self) -> Duration {
        let is_at_rest = self.pulses.iter().all(|pulse| pulse.rests);
        if is_at_rest && self.stores.values().all(OtherStore::is_live) {
            BEAT_INTERVAL_MAX
        } else {
            self.shared.config.heartbeat_interval.min(BEAT_INTERVAL_MAX)
        }
    }

    /// A store that was itself stalled has no evidence against others: its windows grow by the time it was late.
    fn forgive(&mut self, lateness: Duration) {
        self.stores.values_mut().for_each(|store| store.forgive(lateness));
    }
}

impl Worker for Liveness {
    type Mail = LivenessMail;

    fn round(&mut self, now: Now, mail: &mut Vec<LivenessMail>) {
        let now = now.monotonic;
        // 1. Mail first: what came while this store was stalled counts.
        for mail in mail.drain(..) {
            self.on_mail(now, mail);
        }
        if now < self.next_beat {
            return;
        }
        // 2. Lateness of this store is no silence of the others.
        let interval = self.interval();
        if self.next_beat != Instant::ZERO && now.since(self.next_beat) > interval {
            self.forgive(now.since(self.next_beat));
        }
        // 3. Beat.
        self.next_beat = now + interval;
        self.beat(now);
        // 4. Judge silence.
        let ids: Vec<_> = self.stores.keys().copied().collect();
        for id in ids {
            if self.stores.get(&id).is_some_and(|store| store.is_silent(now) && !store.is_suspected()) {
                self.suspect(now, id);
            }
            self.tell(now, id);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next_beat)
    }
}
