//! The host while it serves: rows as typed state, and what waits.

use std::collections::VecDeque;

use actor::Now;
use bytes::Bytes;
use telemetry::names;
use types::{Instant, KeyRange, Region, RegionId, StoreId, Term};

use super::{
    Effect, HostConfig, Tag,
    awaited::Awaited,
    scatter::Scatters,
    soft::Soft,
    transact::{Ending, InFlight, Part},
};
use crate::core::{
    api::{ChangeRequest, Error, OperationPicture, PlacementAnswer, Timestamp},
    codec,
    directory::{Directory, NotTiled},
    ids::IdBlock,
    limits::{
        GOAL_REPEAT_INTERVAL, SCHEDULE_FREE_REGIONS, SCHEDULE_INTERVAL, SCHEDULE_PAUSE_PER_REGION,
        SCHEDULE_PAUSES_IDLE,
    },
    operation::{Operation, Operations},
    protocol::{Caller, Response},
    record::{Settings, StoreRecord, StoreState},
    registry::Registry,
    rows::{Mirror, RowKey, decode_number},
    tso::Tso,
};

/// Rows that cannot be those of a placement group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A row that this version does not know.
    #[error("unknown row {0:?}")]
    UnknownRow(Bytes),
    /// A row whose value cannot be decoded.
    #[error("row {key:?}: {reason}")]
    BadRow {
        /// Its key.
        key: Bytes,
        /// Why.
        reason: String,
    },
    /// The directory does not tile the keyspace.
    #[error(transparent)]
    Directory(#[from] NotTiled),
    /// There are no settings, and this store does not have what the first leader ever makes them of.
    #[error("there are no rows yet, and this store has no region over the whole keyspace to begin with")]
    NothingToBeginWith,
}

/// The rows of one leadership, and what waits for it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) term: Term,
    /// The rows as bytes.
    pub(super) mirror: Mirror,
    /// What is true of the cluster; `None` until the first leader ever has written it.
    pub(super) settings: Option<Settings>,
    pub(super) registry: Registry,
    pub(super) directory: Directory,
    pub(super) operations: Operations,
    pub(super) ids: HostIds,
    pub(super) timestamps: Timestamps,
    /// The transaction under way.
    pub(super) in_flight: Option<InFlight>,
    pub(super) waiting: Waiting,
    pub(super) scatters: Scatters,
    pub(super) awaited: Vec<Awaited>,
    pub(super) timers: Timers,
}

/// Ids, as the host gives them out.
#[derive(Debug, Default)]
pub(super) struct HostIds {
    /// The row: everything below is given out.
    pub(super) next_row: u64,
    /// What the host has leased for itself.
    pub(super) own: IdBlock,
    /// Whether more are wanted for itself than it has.
    pub(super) is_short: bool,
}

/// Timestamps, and who waits for some.
#[derive(Debug)]
pub(super) struct Timestamps {
    pub(super) tso: Tso,
    pub(super) waiting: Vec<(Caller, u32)>,
    /// Taken, and given as soon as leadership is shown.
    pub(super) confirming: Option<(Tag, Vec<(Caller, Timestamp)>)>,
    /// Calls that came since the bound was raised last: without any, it is left alone, so that an idle cluster sleeps.
    pub(super) is_used: bool,
}

/// Who waits for the next transaction.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) ids: VecDeque<(Caller, u64)>,
    /// Without caller: a store that reports another address, version or start than its row says.
    pub(super) registrations: VecDeque<(Option<Caller>, StoreRecord)>,
    pub(super) changes: VecDeque<(Caller, ChangeRequest)>,
    pub(super) states: VecDeque<(Caller, StoreId, StoreState)>,
    pub(super) settings: VecDeque<(Caller, Option<bool>)>,
    pub(super) cancels: VecDeque<(Caller, u64)>,
    /// Operations that the scheduler wants.
    pub(super) drafts: Vec<Operation>,
    /// Operations that are done or cannot go on.
    pub(super) endings: Vec<Ending>,
    /// Whether descriptors have come, or rows changed, since the directory was planned last.
    pub(super) is_directory_changed: bool,
}

/// When what is due.
#[derive(Debug)]
pub(super) struct Timers {
    schedule_at: Instant,
    /// Not before, so that looking costs a bounded part of a core however many regions there are.
    schedule_not_before: Instant,
    pub(super) repeat_goals_at: Instant,
}

impl Serving {
    /// What the rows say. Without any, the first leader ever begins with this store's own regions.
    pub(super) fn load(
        config: &HostConfig,
        term: Term,
        now: Now,
        rows: Vec<(Bytes, Bytes)>,
        local_regions: &[Region],
    ) -> Result<Serving, LoadError> {
        let loaded = Loaded::new(&rows)?;
        let first_region =
            local_regions.iter().find(|region| region.id == RegionId::FIRST && region.range == KeyRange::ALL);
        let regions = match (&loaded.settings, first_region) {
            (Some(_), _) => loaded.regions,
            (None, Some(region)) => vec![region.clone()],
            (None, None) => return Err(LoadError::NothingToBeginWith),
        };
        let mut serving = Serving {
            term,
            mirror: Mirror::new(rows),
            settings: loaded.settings,
            registry: Registry::new(loaded.records, loaded.addresses),
            directory: Directory::new(regions)?,
            operations: Operations::new(loaded.operations, loaded.ended),
            ids: HostIds { next_row: loaded.next_id, ..HostIds::default() },
            timestamps: Timestamps {
                tso: Tso::new(loaded.bound_ms),
                waiting: Vec::new(),
                confirming: None,
                is_used: false,
            },
            in_flight: None,
            waiting: Waiting::default(),
            scatters: Scatters::default(),
            awaited: Vec::new(),
            timers: Timers {
                schedule_at: now.monotonic,
                schedule_not_before: now.monotonic,
                repeat_goals_at: now.monotonic + GOAL_REPEAT_INTERVAL,
            },
        };
        if serving.settings.is_none() {
            serving.waiting.is_directory_changed = false;
            serving.plan_bootstrap(config, now, local_regions);
        }
        Ok(serving)
    }

    pub(super) fn end_round(
        &mut self,
        now: Now,
        config: &HostConfig,
        number: &mut u64,
        soft: &mut Soft,
        effects: &mut Vec<Effect>,
    ) {
        let mut next_tag = || {
            *number += 1;
            Tag { term: self.term, number: *number }
        };
        let confirm_tag = next_tag();
        let propose_tag = next_tag();
        self.give_timestamps(now, confirm_tag, effects);
        if self.settings.is_some() {
            self.end_operations(now, soft);
            self.schedule(now, config, soft);
            self.repeat_goals(now, soft, effects);
        }
        self.propose(now, propose_tag, soft, effects);
        self.answer_awaited(now, soft, effects);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // Before the first rows are written nothing is due.
        self.settings?;
        // While a transaction is under way nothing is scheduled: its end is an event.
        let schedule_at = self.in_flight.is_none().then_some(self.timers.schedule_at);
        let awaited_until = self.awaited.iter().map(|awaited| awaited.until);
        schedule_at.into_iter().chain([self.timers.repeat_goals_at]).chain(awaited_until).min()
    }

    /// Whether the transaction under way has this tag.
    pub(super) fn is_awaiting(&self, tag: Tag) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.tag == Some(tag))
    }

    /// Leadership was shown, or not, for the timestamps taken under `tag`.
    pub(super) fn on_confirmed(&mut self, tag: Tag, is_confirmed: bool, effects: &mut Vec<Effect>) {
        let Some((_, given)) = self.timestamps.confirming.take_if(|(awaited, _)| *awaited == tag) else {
            return;
        };
        for (caller, timestamp) in given {
            let response = if is_confirmed {
                Response::Answer(PlacementAnswer::Timestamp(timestamp))
            } else {
                // They are lost. The caller asks around: if another host has followed this one, it is found.
                Response::Failed(Error::NotLeader { hint: None, term: Term(0) })
            };
            effects.push(Effect::Respond(caller, response));
        }
    }

    /// Everybody who waits.
    pub(super) fn into_waiting(self) -> Vec<Caller> {
        let mut callers: Vec<Caller> = self.timestamps.waiting.iter().map(|(caller, _)| *caller).collect();
        let confirming = self.timestamps.confirming.into_iter().flat_map(|(_, given)| given);
        callers.extend(confirming.map(|(caller, _)| caller));
        callers.extend(self.waiting.ids.iter().map(|(caller, _)| *caller));
        callers.extend(self.waiting.registrations.iter().filter_map(|(caller, _)| *caller));
        callers.extend(self.waiting.changes.iter().map(|(caller, _)| *caller));
        callers.extend(self.waiting.states.iter().map(|(caller, ..)| *caller));
        callers.extend(self.waiting.settings.iter().map(|(caller, _)| *caller));
        callers.extend(self.waiting.cancels.iter().map(|(caller, _)| *caller));
        callers.extend(self.scatters.callers());
        callers.extend(self.awaited.iter().map(|awaited| awaited.caller));
        callers.extend(
            self.in_flight.into_iter().flat_map(|in_flight| in_flight.parts).flat_map(Part::into_callers),
        );
        callers
    }

    /// The descriptor of a region: the placement group's own, or a row.
    pub(super) fn find_region<'a>(&'a self, soft: &'a Soft, id: RegionId) -> Option<&'a Region> {
        if id == RegionId::PLACEMENT { soft.placement_group.as_ref() } else { self.directory.find_by_id(id) }
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.directory.check_tiling(), Ok(()), "the directory has no gap");
        for operation in self.operations.running() {
            assert!(operation.id < self.ids.next_row, "operations have ids that were given out");
        }
    }

    /// Takes timestamps for everyone who waits, as far as the bound allows, and asks for proof of leadership *after*
    /// that: what is proved then is that no later leader had begun when they were taken.
    fn give_timestamps(&mut self, now: Now, tag: Tag, effects: &mut Vec<Effect>) {
        let timestamps = &mut self.timestamps;
        if timestamps.confirming.is_some() || timestamps.waiting.is_empty() {
            return;
        }
        let mut given = Vec::new();
        timestamps.waiting.retain(|(caller, count)| match timestamps.tso.take(now.wall, *count) {
            Some(timestamp) => {
                given.push((*caller, timestamp));
                false
            }
            None => true,
        });
        if !given.is_empty() {
            metrics::counter!(names::PLACEMENT_TIMESTAMPS).increment(given.len() as u64);
            timestamps.confirming = Some((tag, given));
            effects.push(Effect::Confirm(tag));
        }
    }
}

impl Timers {
    /// Whether the scheduler should look now.
    pub(super) fn is_schedule_due(&self, now: Now) -> bool {
        self.schedule_at <= now.monotonic
    }

    /// Something has happened that the scheduler may want to answer.
    pub(super) fn schedule_soon(&mut self, now: Now) {
        self.schedule_at = self.schedule_at.min(self.schedule_not_before.max(now.monotonic));
    }

    /// The scheduler looks at so many regions.
    pub(super) fn on_scheduled(&mut self, now: Now, region_count: usize) {
        let counted = region_count.saturating_sub(SCHEDULE_FREE_REGIONS);
        let pause = SCHEDULE_PAUSE_PER_REGION * u32::try_from(counted).unwrap_or(u32::MAX);
        self.schedule_not_before = now.monotonic + pause;
        self.schedule_at = now.monotonic + SCHEDULE_INTERVAL.max(pause * SCHEDULE_PAUSES_IDLE);
    }

    pub(super) fn on_goals_repeated(&mut self, now: Now) {
        self.repeat_goals_at = now.monotonic + GOAL_REPEAT_INTERVAL;
    }
}

/// Rows, decoded.
#[derive(Default)]
struct Loaded {
    settings: Option<Settings>,
    records: Vec<StoreRecord>,
    addresses: Vec<(String, StoreId)>,
    regions: Vec<Region>,
    operations: Vec<Operation>,
    ended: Vec<OperationPicture>,
    next_id: u64,
    bound_ms: u64,
}

impl Loaded {
    fn new(rows: &[(Bytes, Bytes)]) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        for (key, value) in rows {
            let kind = RowKey::decode(key).ok_or_else(|| LoadError::UnknownRow(key.clone()))?;
            loaded.take(kind, value).map_err(|reason| LoadError::BadRow { key: key.clone(), reason })?;
        }
        Ok(loaded)
    }

    fn take(&mut self, key: RowKey, value: &Bytes) -> Result<(), String> {
        let number = || decode_number(value).ok_or_else(|| "it is no number".to_owned());
        let text = |error: codec::Error| error.to_string();
        match key {
            RowKey::Address(address) => self.addresses.push((address, StoreId(number()?))),
            RowKey::NextId => self.next_id = number()?,
            RowKey::Settings => self.settings = Some(codec::decode_settings(value).map_err(text)?),
            RowKey::Operation(_) => {
                let picture = codec::decode_operation(value).map_err(text)?;
                match Operation::try_from(picture) {
                    Ok(operation) => self.operations.push(operation),
                    Err(picture) => self.ended.push(picture),
                }
            }
            RowKey::Region(_) => self.regions.push(codec::decode_region(value).map_err(text)?),
            RowKey::Store(_) => self.records.push(codec::decode_store(value).map_err(text)?),
            RowKey::Bound => self.bound_ms = number()?,
        }
        Ok(())
    }
}
