//! The host's transactions: one at a time, each with whatever waits when it is made.

use std::collections::VecDeque;

use actor::Now;
use bytes::Bytes;
use telemetry::names;
use types::{Region, RegionId, StoreId};

use super::{Effect, HostConfig, Tag, serving::Serving, soft::Soft};
use crate::core::{
    api::{Error, OperationPicture, OperationState, PlacementAnswer},
    bootstrap::first_free_id,
    codec,
    directory::Replacement,
    ids::IdBlock,
    limits::{ID_LEASE_COUNT, ID_LEASE_LOW, TXN_BYTES_MAX},
    operation::{Aim, Operation, Seen},
    protocol::{Caller, Response},
    record::Settings,
    registry::{Change, Verdict},
    rows::{RowKey, encode_number},
};

/// Voters of a region of a new cluster.
const VOTER_COUNT: u32 = 3;

/// The cluster version of a new cluster (D18).
const CLUSTER_VERSION: u32 = 1;

/// Rows of the directory that one transaction adds at the most: enough for any burst, small beside an entry.
const DIRECTORY_ROWS_MAX: usize = 1_024;

/// A transaction under way, or about to be.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Names its outcome; `None`: it has not been proposed yet.
    pub(super) tag: Option<Tag>,
    /// What it writes.
    pub(super) writes: Vec<(Bytes, Option<Bytes>)>,
    /// What it means.
    pub(super) parts: Vec<Part>,
}

/// One meaning of a transaction.
#[derive(Debug)]
pub(super) enum Part {
    /// The first rows ever: the host reads them back and begins.
    Bootstrap,
    /// The timestamp bound rises to this.
    Bound(u64),
    /// The id lease rises.
    Ids {
        /// To this.
        next_row: u64,
        /// What of it is the host's.
        own: IdBlock,
        /// What of it is others', each with its first id.
        grants: Vec<(Caller, u64, u64)>,
    },
    /// Store rows.
    Stores {
        /// The rows.
        change: Change,
        /// Who registers, and the id.
        caller: Option<(Caller, StoreId)>,
    },
    /// What is intended with a store.
    StoreState(Change, Caller),
    /// What is true of the cluster.
    Settings(Settings, Caller),
    /// Rows of the directory.
    Directory(Vec<Replacement>),
    /// Operations of scattered regions begin: nothing more is written for the answer to who asked.
    Scattered(PlacementAnswer, Caller),
    /// An operation begins.
    Begin(Operation, Option<Caller>),
    /// An operation ends like this, and older ones are forgotten.
    End(Box<OperationPicture>, Vec<u64>, Option<Caller>),
}

/// How an operation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) id: u64,
    pub(super) state: OperationState,
    pub(super) reason: String,
}

impl Part {
    /// Who waits for it.
    pub(super) fn into_callers(self) -> Vec<Caller> {
        match self {
            Part::Bootstrap | Part::Bound(_) | Part::Directory(_) => Vec::new(),
            Part::Ids { grants, .. } => grants.into_iter().map(|(caller, ..)| caller).collect(),
            Part::Stores { caller, .. } => caller.map(|(caller, _)| caller).into_iter().collect(),
            Part::Begin(_, caller) | Part::End(_, _, caller) => caller.into_iter().collect(),
            Part::StoreState(_, caller) | Part::Settings(_, caller) | Part::Scattered(_, caller) => {
                vec![caller]
            }
        }
    }
}

impl InFlight {
    fn new() -> InFlight {
        InFlight { tag: None, writes: Vec::new(), parts: Vec::new() }
    }

    fn add(&mut self, part: Part, writes: impl IntoIterator<Item = (RowKey, Option<Bytes>)>) {
        self.parts.push(part);
        self.writes.extend(writes.into_iter().map(|(key, value)| (key.encode(), value)));
    }

    fn size_bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| 2 * (key.len() + value.as_ref().map_or(0, Bytes::len))).sum()
    }

    fn has_room(&self) -> bool {
        self.size_bytes() < TXN_BYTES_MAX
    }
}

impl Serving {
    /// The first transaction ever: settings, this store, its first region, and where ids begin.
    pub(super) fn plan_bootstrap(&mut self, config: &HostConfig, now: Now, local_regions: &[Region]) {
        let settings = Settings {
            cluster_id: config.cluster_id,
            key_mode: config.key_mode,
            cluster_version: CLUSTER_VERSION,
            created: now.wall,
            voter_count: VOTER_COUNT,
            is_balancing: true,
        };
        let record = &config.record;
        let next_id = first_free_id(record.id, local_regions);
        let mut writes = vec![
            (RowKey::Settings, Some(codec::encode_settings(&settings))),
            (RowKey::NextId, Some(encode_number(next_id))),
            (RowKey::Store(record.id), Some(codec::encode_store(record))),
            (RowKey::Address(record.address.clone()), Some(encode_number(record.id.0))),
        ];
        for region in self.directory.regions() {
            writes.push(region_write(region));
        }
        let mut in_flight = InFlight::new();
        in_flight.add(Part::Bootstrap, writes);
        self.in_flight = Some(in_flight);
    }

    /// Proposes whatever waits, if nothing is under way.
    pub(super) fn propose(&mut self, now: Now, tag: Tag, soft: &Soft, effects: &mut Vec<Effect>) {
        if self.in_flight.is_none() && self.settings.is_some() {
            let in_flight = self.gather(now, soft, effects);
            self.in_flight = (!in_flight.writes.is_empty()).then_some(in_flight);
        }
        let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| in_flight.tag.is_none()) else {
            return;
        };
        in_flight.tag = Some(tag);
        let txn = self.mirror.transaction(self.term, &in_flight.writes);
        metrics::counter!(names::PLACEMENT_TRANSACTIONS).increment(1);
        effects.push(Effect::Propose(tag, txn));
    }

    /// The transaction under way is applied. Returns whether the host can go on with what it has.
    pub(super) fn on_committed(&mut self, now: Now, soft: &mut Soft, effects: &mut Vec<Effect>) -> bool {
        let Some(in_flight) = self.in_flight.take() else { return true };
        self.mirror.commit(in_flight.writes);
        let mut told = Vec::new();
        for part in in_flight.parts {
            match part {
                Part::Bootstrap => return false,
                Part::Bound(bound_ms) => {
                    self.timestamps.tso.set_bound(bound_ms);
                    self.timestamps.is_used = false;
                }
                Part::Ids { next_row, own, grants } => self.commit_ids(next_row, own, grants, effects),
                Part::Stores { change, caller } => self.commit_stores(now, change, caller, effects),
                Part::StoreState(change, caller) => {
                    self.commit_stores(now, change, None, effects);
                    respond(effects, Some(caller), PlacementAnswer::Done);
                }
                Part::Settings(settings, caller) => {
                    self.settings = Some(settings);
                    self.timers.schedule_soon(now);
                    self.push_address_book(effects);
                    respond(effects, Some(caller), PlacementAnswer::Done);
                }
                Part::Scattered(answer, caller) => respond(effects, Some(caller), answer),
                Part::Directory(replacements) => {
                    let added = replacements.iter().flat_map(|replacement| &replacement.added);
                    told.extend(added.map(|region| region.id));
                    self.commit_directory(&replacements, soft);
                }
                Part::Begin(operation, caller) => {
                    told.push(operation.region_id);
                    let kind = match &operation.aim {
                        Aim::Peers(_) => "move-peers",
                        Aim::Leader(_) => "transfer-leader",
                        Aim::Scatter { .. } => "scatter",
                    };
                    metrics::counter!(names::PLACEMENT_OPERATIONS, "kind" => kind).increment(1);
                    let answer = PlacementAnswer::OperationStarted { operation_id: operation.id };
                    respond(effects, caller, answer);
                    self.operations.begin(operation);
                }
                Part::End(picture, forgotten, caller) => {
                    told.push(picture.region_id);
                    soft.end_operation(now, &picture);
                    self.operations.end(*picture, &forgotten);
                    self.timers.schedule_soon(now);
                    respond(effects, caller, PlacementAnswer::Done);
                }
            }
        }
        self.push_goals(now, &told, soft, effects);
        true
    }

    /// Everything that waits, as far as it fits into one transaction.
    fn gather(&mut self, now: Now, soft: &Soft, effects: &mut Vec<Effect>) -> InFlight {
        let mut draft = InFlight::new();
        self.gather_bound(now, &mut draft);
        self.gather_registration(now, &mut draft, soft, effects);
        self.gather_store_states(now, &mut draft, soft, effects);
        self.gather_settings(&mut draft);
        self.gather_endings(now, &mut draft, soft, effects);
        self.gather_beginnings(now, &mut draft, soft, effects);
        self.gather_ids(&mut draft);
        self.gather_directory(&mut draft);
        draft
    }

    fn gather_bound(&mut self, now: Now, draft: &mut InFlight) {
        if !self.timestamps.is_used && self.timestamps.waiting.is_empty() {
            return;
        }
        if let Some(bound_ms) = self.timestamps.tso.wanted_bound(now.wall) {
            draft.add(Part::Bound(bound_ms), [(RowKey::Bound, Some(encode_number(bound_ms)))]);
        }
    }

    /// One registration that changes rows, and every one that does not.
    fn gather_registration(
        &mut self,
        now: Now,
        draft: &mut InFlight,
        soft: &Soft,
        effects: &mut Vec<Effect>,
    ) {
        while let Some((caller, record)) = self.waiting.registrations.pop_front() {
            let new_id = self.ids.own.peek().map(StoreId);
            let verdict = self.registry.register(&record, new_id, |id| soft.may_be_live(now, id));
            match verdict {
                Ok(Verdict::Known(store_id)) => {
                    if let Some(answer) = self.registered(store_id) {
                        respond(effects, caller, answer);
                    }
                }
                Ok(Verdict::Change(change)) => {
                    let store_id = if record.id == StoreId(0) {
                        StoreId(self.ids.own.take(1).expect("the id was just seen"))
                    } else {
                        record.id
                    };
                    let writes = store_writes(&change);
                    draft.add(
                        Part::Stores { change, caller: caller.map(|caller| (caller, store_id)) },
                        writes,
                    );
                    return;
                }
                Ok(Verdict::NeedsId) => {
                    self.ids.is_short = true;
                    self.waiting.registrations.push_front((caller, record));
                    return;
                }
                Err(error) => match caller {
                    Some(caller) => effects.push(Effect::Respond(caller, Response::Failed(error))),
                    None => tracing::warn!(store = %record.id, %error, "a store's row cannot be refreshed"),
                },
            }
        }
    }

    /// One store whose state changes, unless one registers in the same transaction: both may be about one row.
    fn gather_store_states(
        &mut self,
        now: Now,
        draft: &mut InFlight,
        soft: &Soft,
        effects: &mut Vec<Effect>,
    ) {
        let is_registering = draft.parts.iter().any(|part| matches!(part, Part::Stores { .. }));
        while !is_registering && let Some((caller, store_id, state)) = self.waiting.states.pop_front() {
            let may_go = !soft.may_be_live(now, store_id) || !self.has_peers(store_id, soft);
            match self.registry.set_state(store_id, state, may_go) {
                Ok(Some(change)) => {
                    let writes = store_writes(&change);
                    draft.add(Part::StoreState(change, caller), writes);
                    return;
                }
                Ok(None) => respond(effects, Some(caller), PlacementAnswer::Done),
                Err(error) => effects.push(Effect::Respond(caller, Response::Failed(error))),
            }
        }
    }

    /// One change of the settings.
    fn gather_settings(&mut self, draft: &mut InFlight) {
        let Some(settings) = self.settings else { return };
        if let Some((caller, is_balancing)) = self.waiting.settings.pop_front() {
            let settings =
                Settings { is_balancing: is_balancing.unwrap_or(settings.is_balancing), ..settings };
            let row = codec::encode_settings(&settings);
            draft.add(Part::Settings(settings, caller), [(RowKey::Settings, Some(row))]);
        }
    }

    fn has_peers(&self, store_id: StoreId, soft: &Soft) -> bool {
        let mut regions = self.directory.regions().chain(soft.placement_group.as_ref());
        regions.any(|region| region.find_peer_on(store_id).is_some())
    }

    fn gather_endings(&mut self, now: Now, draft: &mut InFlight, soft: &Soft, effects: &mut Vec<Effect>) {
        let mut endings: Vec<(Ending, Option<Caller>)> =
            std::mem::take(&mut self.waiting.endings).into_iter().map(|ending| (ending, None)).collect();
        for (caller, id) in std::mem::take(&mut self.waiting.cancels) {
            let is_ending = endings.iter().any(|(ending, _)| ending.id == id);
            if is_ending || self.operations.find(id).is_none() {
                let error = Error::OperationNotFound(id);
                effects.push(Effect::Respond(caller, Response::Failed(error)));
                continue;
            }
            let reason = "an operator gave it up".to_owned();
            endings.push((Ending { id, state: OperationState::Cancelled, reason }, Some(caller)));
        }
        for (count, (ending, caller)) in endings.into_iter().enumerate() {
            let Some(operation) = self.operations.find(ending.id) else { continue };
            let picture = OperationPicture {
                state: ending.state,
                reason: ending.reason,
                eta: None,
                ..self.picture_of(now, operation, soft)
            };
            let forgotten: Vec<u64> =
                self.operations.to_forget(count + 1).split_off(self.operations.to_forget(count).len());
            let mut writes = vec![operation_write(picture.clone())];
            writes.extend(forgotten.iter().map(|id| (RowKey::Operation(*id), None)));
            draft.add(Part::End(Box::new(picture), forgotten, caller), writes);
        }
    }

    /// Whoever is told of operations is told when they are rows.
    fn gather_scatters(&mut self, draft: &mut InFlight, effects: &mut Vec<Effect>) {
        let has_begun = !self.waiting.drafts.is_empty();
        for (caller, answer) in self.scatters.take_answers() {
            if has_begun {
                draft.add(Part::Scattered(answer, caller), []);
            } else {
                respond(effects, Some(caller), answer);
            }
        }
    }

    fn gather_beginnings(&mut self, now: Now, draft: &mut InFlight, soft: &Soft, effects: &mut Vec<Effect>) {
        self.gather_scatters(draft, effects);
        for operation in std::mem::take(&mut self.waiting.drafts) {
            let write = operation_write(operation.picture(now.wall, None, Seen::default()));
            draft.add(Part::Begin(operation, None), [write]);
        }
        let mut regions: Vec<RegionId> = draft
            .parts
            .iter()
            .filter_map(
                |part| if let Part::Begin(operation, _) = part { Some(operation.region_id) } else { None },
            )
            .collect();
        let mut later = VecDeque::new();
        for (caller, request) in std::mem::take(&mut self.waiting.changes) {
            if regions.contains(&request.region_id) || !draft.has_room() {
                later.push_back((caller, request));
                continue;
            }
            if self.is_known_change(&request) {
                let answer = PlacementAnswer::OperationStarted { operation_id: request.change_id };
                respond(effects, Some(caller), answer);
                continue;
            }
            match self.draft_change(now, &request, soft) {
                Ok(Some(operation)) => {
                    regions.push(request.region_id);
                    let write = operation_write(operation.picture(now.wall, None, Seen::default()));
                    draft.add(Part::Begin(operation, Some(caller)), [write]);
                }
                Ok(None) => later.push_back((caller, request)),
                Err(error) => effects.push(Effect::Respond(caller, Response::Failed(error))),
            }
        }
        self.waiting.changes = later;
    }

    /// Ids for everyone who waits, and for the host itself if it runs low.
    fn gather_ids(&mut self, draft: &mut InFlight) {
        let is_low = self.ids.is_short || self.ids.own.remaining() < ID_LEASE_LOW;
        if self.waiting.ids.is_empty() && !is_low {
            return;
        }
        let mut next_row = self.ids.next_row;
        let mut lease = |count: u64| {
            let first_id = next_row;
            next_row += count;
            first_id
        };
        let own =
            if is_low { IdBlock::new(lease(ID_LEASE_COUNT), ID_LEASE_COUNT) } else { IdBlock::default() };
        let grants =
            self.waiting.ids.drain(..).map(|(caller, count)| (caller, lease(count), count)).collect();
        draft.add(Part::Ids { next_row, own, grants }, [(RowKey::NextId, Some(encode_number(next_row)))]);
    }

    fn gather_directory(&mut self, draft: &mut InFlight) {
        if !self.waiting.is_directory_changed || !draft.has_room() {
            return;
        }
        let mut planned = self.directory.plan(DIRECTORY_ROWS_MAX);
        // What does not fit is planned again with the next transaction.
        let mut chosen = Vec::new();
        let mut writes = Vec::new();
        let mut room_bytes = TXN_BYTES_MAX.saturating_sub(draft.size_bytes());
        planned.retain(|replacement| {
            let new_writes = replacement_writes(replacement);
            let size_bytes: usize = new_writes
                .iter()
                .map(|(key, value)| 2 * (key.encode().len() + value.as_ref().map_or(0, Bytes::len)))
                .sum();
            // One is always taken, however large: it could not be made smaller.
            let is_taken = chosen.is_empty() || size_bytes <= room_bytes;
            if is_taken {
                room_bytes = room_bytes.saturating_sub(size_bytes);
                chosen.push(());
                writes.extend(new_writes);
            }
            is_taken
        });
        // Every commit of the directory plans again: only when nothing can be planned there is nothing to do.
        self.waiting.is_directory_changed = false;
        if !planned.is_empty() {
            draft.add(Part::Directory(planned), writes);
        }
    }

    fn commit_ids(
        &mut self,
        next_row: u64,
        own: IdBlock,
        grants: Vec<(Caller, u64, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        self.ids.next_row = next_row;
        if own.remaining() > 0 {
            self.ids.own.refill(own);
            self.ids.is_short = false;
        }
        for (caller, first_id, count) in grants {
            respond(effects, Some(caller), PlacementAnswer::Ids { first_id, count });
        }
    }

    fn commit_stores(
        &mut self,
        now: Now,
        change: Change,
        caller: Option<(Caller, StoreId)>,
        effects: &mut Vec<Effect>,
    ) {
        self.registry.commit(change);
        self.timers.schedule_soon(now);
        // First the others: the new store's first message must find them able to answer.
        self.push_address_book(effects);
        if let Some((caller, store_id)) = caller
            && let Some(answer) = self.registered(store_id)
        {
            respond(effects, Some(caller), answer);
        }
    }

    fn commit_directory(&mut self, replacements: &[Replacement], soft: &mut Soft) {
        self.directory.commit(replacements);
        for region in replacements.iter().flat_map(|replacement| &replacement.removed) {
            if self.directory.find_by_id(region.id).is_none() {
                soft.forget_region(region.id);
            }
        }
        self.waiting.is_directory_changed = true;
    }

    fn registered(&self, store_id: StoreId) -> Option<PlacementAnswer> {
        let settings = self.settings?;
        Some(PlacementAnswer::Registered { store_id, settings, stores: self.address_book() })
    }
}

fn respond(effects: &mut Vec<Effect>, caller: Option<Caller>, answer: PlacementAnswer) {
    if let Some(caller) = caller {
        effects.push(Effect::Respond(caller, Response::Answer(answer)));
    }
}

fn region_write(region: &Region) -> (RowKey, Option<Bytes>) {
    (RowKey::Region(region.id), Some(codec::encode_region(region)))
}

fn operation_write(picture: OperationPicture) -> (RowKey, Option<Bytes>) {
    (RowKey::Operation(picture.id), Some(codec::encode_operation(picture)))
}

fn store_writes(change: &Change) -> Vec<(RowKey, Option<Bytes>)> {
    let records =
        change.records.iter().map(|record| (RowKey::Store(record.id), Some(codec::encode_store(record))));
    let addresses = change
        .addresses
        .iter()
        .map(|(address, id)| (RowKey::Address(address.clone()), id.map(|id| encode_number(id.0))));
    records.chain(addresses).collect()
}

/// Rows of regions that are no more are removed; the others are overwritten.
fn replacement_writes(replacement: &Replacement) -> Vec<(RowKey, Option<Bytes>)> {
    let is_overwritten = |old: &&Region| replacement.added.iter().any(|new| new.id == old.id);
    let removed = replacement
        .removed
        .iter()
        .filter(|old| !is_overwritten(old))
        .map(|old| (RowKey::Region(old.id), None));
    removed.chain(replacement.added.iter().map(region_write)).collect()
}
