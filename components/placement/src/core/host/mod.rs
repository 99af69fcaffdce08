//! The host: what placement does on the store where its group is led.
//!
//! ```text
//!  leadership ──► Idle ── led, earlier entries applied ──► Loading ── rows read ──► Serving
//!                  ▲                                         ▲                        │
//!                  └────────────── led no longer ────────────┼── fate unknown ◄───────┘
//! ```
//!
//! Everything is an event with the time, and every wish an [`Effect`]; the shell carries them out. While it serves, the
//! host holds all rows; it has at most one transaction under way, which joins whatever waits: registrations, ids, the
//! timestamp bound, the directory, operations. A transaction that does not come back as committed makes the host read
//! its rows anew, so its rows are never a guess. Leaders, loads and who was heard when are soft state, and survive that.

mod awaited;
mod calls;
mod changes;
mod operations;
mod reports;
mod scatter;
mod serving;
mod soft;
mod transact;

use std::collections::VecDeque;

use actor::Now;
use bytes::Bytes;
use telemetry::names;
use types::{ClusterId, Instant, PlacementTxn, Region, StoreId, Term};

pub use self::serving::LoadError;
use self::{serving::Serving, soft::Soft};
use super::{
    api::Error,
    limits::{HOST_RELOAD_AFTER, HOST_WAITING_MAX},
    protocol::{Caller, Request, Response},
    record::{KeyMode, StoreRecord},
};

/// Who the host is.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The cluster of its store.
    pub cluster_id: ClusterId,
    /// What `init` was told about keys.
    pub key_mode: KeyMode,
    /// Its store.
    pub record: StoreRecord,
    /// Seeds the scheduler.
    pub seed: u64,
}

/// Something that was asked for; its answer names it, so that an answer to an earlier life is known as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The term in which the host led.
    pub term: Term,
    /// Counts in the host's life.
    pub number: u64,
}

/// What the host wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read every row of the placement group, linearizably and in the tag's term; [`Host::on_rows`].
    ReadRows(Tag),
    /// Show that this store still leads the placement group in the tag's term; [`Host::on_confirmed`].
    Confirm(Tag),
    /// Propose a transaction to the placement group; [`Host::on_proposed`].
    Propose(Tag, PlacementTxn),
    /// Answer a request.
    Respond(Caller, Response),
    /// Tell a store something that it did not ask for.
    Push(StoreId, Response),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Its writes are applied.
    Committed,
    /// A condition did not hold, or the term had passed: nothing changed.
    Refused,
    /// It is not known, or it was never proposed.
    Unknown,
}

/// The host of one store, whether it leads or not.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    phase: Phase,
    soft: Soft,
    /// Requests that came before there were rows to answer them with.
    early: VecDeque<(Caller, Request)>,
    /// Where placement is led, as far as known here.
    leader: Option<StoreId>,
    number: u64,
    effects: Vec<Effect>,
}

#[derive(Debug)]
enum Phase {
    /// Another store leads, or none.
    Idle,
    /// Led here; the rows are being read, or will be again.
    Loading(Loading),
    /// Led here, rows known.
    Serving(Box<Serving>),
}

#[derive(Debug)]
struct Loading {
    term: Term,
    /// What is waited for; `None`: nothing, a new attempt is made at `retry_at`.
    reading: Option<Tag>,
    retry_at: Instant,
}

impl Host {
    /// A host that does not lead yet.
    #[must_use]
    pub fn new(config: HostConfig) -> Host {
        Host {
            config,
            phase: Phase::Idle,
            soft: Soft::default(),
            early: VecDeque::new(),
            leader: None,
            number: 0,
            effects: Vec::new(),
        }
    }

    /// Where the placement group is led; `led_here`: on this store, in this term, with all entries of earlier terms
    /// applied.
    pub fn on_leader(&mut self, now: Now, leader: Option<StoreId>, led_here: Option<Term>) {
        self.leader = leader;
        if led_here == self.term() {
            return;
        }
        self.abandon();
        self.soft = Soft::default();
        if let Some(term) = led_here {
            self.soft.led_since = now.monotonic;
            self.phase = Phase::Loading(Loading { term, reading: None, retry_at: now.monotonic });
        }
    }

    /// A request, of this store's own agent or of another's.
    pub fn on_request(&mut self, now: Now, caller: Caller, request: Request) {
        match &mut self.phase {
            Phase::Idle => {
                let error = Error::NotLeader { hint: self.leader, term: Term(0) };
                self.effects.push(Effect::Respond(caller, Response::Failed(error)));
            }
            Phase::Serving(serving) if serving.settings.is_some() => {
                serving.on_request(now, caller, request, &mut self.soft, &mut self.effects);
            }
            // Until the first rows are written even the store that writes them is unknown.
            Phase::Loading(_) | Phase::Serving(_) if self.early.len() < HOST_WAITING_MAX => {
                self.early.push_back((caller, request));
            }
            Phase::Loading(_) | Phase::Serving(_) => {
                let error = Error::Busy { reason: "requests wait for placement's rows".to_owned() };
                self.effects.push(Effect::Respond(caller, Response::Failed(error)));
            }
        }
    }

    /// The rows, or why they could not be read. `local_regions` are this store's descriptors of the placement group and
    /// of the first region of the keyspace, as far as it has them: the first leader ever makes its rows of them.
    pub fn on_rows(
        &mut self,
        now: Now,
        tag: Tag,
        rows: Result<Vec<(Bytes, Bytes)>, String>,
        local_regions: &[Region],
    ) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        if loading.reading != Some(tag) {
            return;
        }
        loading.reading = None;
        loading.retry_at = now.monotonic + HOST_RELOAD_AFTER;
        let rows = match rows {
            Ok(rows) => rows,
            Err(reason) => {
                tracing::debug!(term = %tag.term, reason, "placement's rows could not be read yet");
                return;
            }
        };
        match Serving::load(&self.config, tag.term, now, rows, local_regions) {
            Ok(serving) => self.serve(now, serving),
            Err(error) => {
                tracing::error!(term = %tag.term, %error, "placement's rows make no sense");
            }
        }
    }

    /// How a transaction ended.
    pub fn on_proposed(&mut self, now: Now, tag: Tag, outcome: Proposed) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        if !serving.is_awaiting(tag) {
            return;
        }
        match outcome {
            Proposed::Committed => {
                let is_founded = !serving.on_committed(now, &mut self.soft, &mut self.effects);
                if is_founded {
                    // Whoever came early goes on waiting: the rows that answer them are there now.
                    let early = std::mem::take(&mut self.early);
                    self.reload(now, now.monotonic);
                    self.early = early;
                }
            }
            Proposed::Refused | Proposed::Unknown => {
                tracing::info!(term = %tag.term, ?outcome, "placement reads its rows again");
                self.reload(now, now.monotonic + HOST_RELOAD_AFTER);
            }
        }
    }

    /// Whether leadership was shown for timestamps that had been taken before.
    pub fn on_confirmed(&mut self, tag: Tag, is_confirmed: bool) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.on_confirmed(tag, is_confirmed, &mut self.effects);
        }
    }

    /// The end of a round: what waits is put under way. Returns everything that is to be done.
    pub fn end_round(&mut self, now: Now) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Loading(loading) => {
                if loading.reading.is_none() && loading.retry_at <= now.monotonic {
                    self.number += 1;
                    let tag = Tag { term: loading.term, number: self.number };
                    loading.reading = Some(tag);
                    self.effects.push(Effect::ReadRows(tag));
                }
            }
            Phase::Serving(serving) => {
                serving.end_round(now, &self.config, &mut self.number, &mut self.soft, &mut self.effects);
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// When it wants a round even without an event.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Loading(loading) => loading.reading.is_none().then_some(loading.retry_at),
            Phase::Serving(serving) => serving.deadline(),
        }
    }

    /// The term in which this store leads placement, as far as known.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Loading(loading) => Some(loading.term),
            Phase::Serving(serving) => Some(serving.term),
        }
    }

    /// Checks what must hold after every round; for debug builds and simulation.
    pub fn check_invariants(&self) {
        if let Phase::Serving(serving) = &self.phase {
            serving.check_invariants();
        }
    }

    fn serve(&mut self, now: Now, serving: Serving) {
        if serving.settings.is_some() {
            serving.announce(&mut self.effects);
        }
        self.phase = Phase::Serving(Box::new(serving));
        for (caller, request) in std::mem::take(&mut self.early) {
            self.on_request(now, caller, request);
        }
    }

    /// Reads the rows again, in the same term.
    fn reload(&mut self, now: Now, retry_at: Instant) {
        let Some(term) = self.term() else { return };
        self.abandon();
        // Descriptors that did not tile yet are gone with the directory.
        self.soft.want_full_reports();
        let retry_at = retry_at.max(now.monotonic);
        self.phase = Phase::Loading(Loading { term, reading: None, retry_at });
    }

    /// Answers everybody who waits: they ask again, here or where the group is led then.
    fn abandon(&mut self) {
        let mut callers: Vec<Caller> =
            std::mem::take(&mut self.early).into_iter().map(|(caller, _)| caller).collect();
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle | Phase::Loading(_) => {}
            Phase::Serving(serving) => {
                metrics::gauge!(names::PLACEMENT_OPERATIONS_RUNNING).set(0.0);
                callers.extend(serving.into_waiting());
            }
        }
        for caller in callers {
            let error = Error::Busy { reason: "placement has to find out how things stand".to_owned() };
            self.effects.push(Effect::Respond(caller, Response::Failed(error)));
        }
    }
}

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod scatter_tests;
#[cfg(test)]
mod tests;
