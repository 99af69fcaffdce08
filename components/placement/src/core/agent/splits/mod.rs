//! Splits. The store that is asked finds the store that leads the region and passes the wish on to its agent, under one
//! name however often it is sent. That agent takes ids from its leased block, lets the store propose, and answers with the
//! regions.
//!
//! ```text
//!   caller ──▶ agent ── where is it led? ──▶ host
//!                └──── Request::Split ─────▶ agent of the leader's store ──▶ store: find keys, if none are named
//!                                                                        ──▶ store: propose, apply
//!                ◀──── the regions ───────────────┘
//! ```

mod keys;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use actor::Now;
use bytes::Bytes;
use telemetry::names;
use types::{Instant, Peer, PeerId, PeerRole, Region, RegionId, Split, SplitChild, StoreId, Term};

pub use self::keys::FoundKeys;
use self::keys::{check_wish, settle_keys};
use super::{Agent, Effect, Locals};
use crate::core::{
    api::{Error, PlacementAnswer, Responder, Result, SplitAt, SplitRequest},
    limits::{
        CALL_DEADLINE, CALL_RESEND_AFTER, CALL_RETRY_AFTER, CALLS_WAITING_MAX, SPLIT_FIND_DEADLINE,
        SPLITS_ENDED_KEPT, SPLITS_RUNNING_MAX,
    },
    protocol::{Caller, Request, Response},
};

/// A wish follows so many hints at once; then it pauses, for the stores do not agree yet.
const HOPS_MAX: u8 = 3;

/// The splits that were asked of this store, and those that it carries out.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// Asked here, by request id.
    asked: BTreeMap<u64, Asked>,
    /// Of regions that are led here, by change id.
    running: BTreeMap<u64, Running>,
    /// The last ones that were carried out here, oldest first.
    ended: VecDeque<Ended>,
}

/// A split that somebody on this store wants.
#[derive(Debug)]
struct Asked {
    /// Its change id is zero until there is one for it.
    request: SplitRequest,
    responder: Responder,
    deadline: Instant,
    /// When it is sent, or looked at again.
    send_at: Instant,
    /// Whether the epoch is the caller's, and not what was found when the region was looked for.
    is_epoch_asked: bool,
    /// Whether an attempt has ended without a word about its fate.
    is_uncertain: bool,
    /// The store that is said to lead the region, where it is not known better here.
    hint: Option<StoreId>,
    hops: u8,
    /// Whether the host is being asked where the region is led.
    is_looked_up: bool,
    failure: Option<Error>,
}

/// A split that this store carries out.
#[derive(Debug)]
struct Running {
    request: SplitRequest,
    /// Who waits for it: those who asked here, and other stores. Nobody, where the store wanted it itself.
    waiters: Vec<Waiter>,
    stage: Stage,
    /// It is given up then, unless the store has it.
    deadline: Instant,
}

/// How far a split is that this store carries out.
#[derive(Debug)]
enum Stage {
    /// The store looks for keys.
    Finding,
    /// There are to be ids for the parts that begin at these keys.
    Waiting(Vec<Bytes>),
    /// The store has it.
    Proposed(Vec<Bytes>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Here(u64),
    There(Caller),
}

#[derive(Debug)]
struct Ended {
    change_id: u64,
    region_id: RegionId,
    keys: Vec<Bytes>,
}

impl Splits {
    pub(super) fn is_awaiting(&self, request_id: u64) -> bool {
        self.asked.contains_key(&request_id)
    }

    /// There are ids: whatever waits for a name is named now.
    pub(super) fn on_ids(&mut self, now: Instant) {
        for asked in self.asked.values_mut().filter(|asked| asked.request.change_id == 0) {
            asked.send_at = asked.send_at.min(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // What is being looked up goes on with the answer, not with the time.
        let asked = self.asked.values().map(|asked| match asked.is_looked_up {
            true => asked.deadline,
            false => asked.send_at.min(asked.deadline),
        });
        let unproposed = self.running.values().filter(|running| !running.is_proposed());
        asked.chain(unproposed.map(|running| running.deadline)).min()
    }
}

impl Running {
    fn is_proposed(&self) -> bool {
        match self.stage {
            Stage::Finding | Stage::Waiting(_) => false,
            Stage::Proposed(_) => true,
        }
    }

    /// Refuses whoever asks again meanwhile, and will be answered all the same: it goes on.
    fn being_looked_at(&self) -> Error {
        let stage = "the keys at which it is divided are being looked for".to_owned();
        let SplitRequest { region_id, change_id, .. } = self.request;
        Error::Changing { region_id, operation_id: change_id, stage }
    }
}

impl Asked {
    /// Another store leads the region: the wish goes there at once, and after a pause where it went about too long.
    fn follow(&mut self, now: Instant, hint: Option<StoreId>) {
        self.hint = hint;
        self.hops += 1;
        if hint.is_some() && self.hops <= HOPS_MAX {
            self.send_at = now;
            return;
        }
        self.hops = 0;
        self.failure = Some(no_leader(self.request.region_id));
        self.send_at = now + CALL_RETRY_AFTER;
    }
}

impl Agent {
    /// Somebody on this store wants a split.
    pub(super) fn on_split_call(&mut self, now: Now, request: SplitRequest, responder: Responder) {
        let checked = check_wish(&request, self.settings.key_mode).and_then(|()| {
            let is_full = self.splits.asked.len() >= CALLS_WAITING_MAX;
            let full = || Error::Busy { reason: format!("{CALLS_WAITING_MAX} splits wait") };
            if is_full { Err(full()) } else { Ok(()) }
        });
        if let Err(error) = checked {
            self.effects.push(Effect::Reply(responder, Err(error)));
            return;
        }
        metrics::counter!(names::PLACEMENT_CALLS).increment(1);
        let id = self.new_request_id();
        let asked = Asked {
            is_epoch_asked: request.epoch.is_some(),
            is_uncertain: false,
            request,
            responder,
            deadline: now.monotonic + CALL_DEADLINE,
            send_at: now.monotonic,
            hint: None,
            hops: 0,
            is_looked_up: false,
            failure: None,
        };
        self.splits.asked.insert(id, asked);
    }

    /// The host has said where a region is that shall be split, or that there is none.
    pub(super) fn on_split_route(&mut self, now: Now, id: u64, result: Result<PlacementAnswer>) {
        let Some(asked) = self.splits.asked.get_mut(&id) else { return };
        asked.is_looked_up = false;
        asked.send_at = now.monotonic + CALL_RETRY_AFTER;
        match result {
            Ok(PlacementAnswer::Region(Some(route))) => {
                // An epoch is settled before the first attempt, so that a second one cannot divide the region again.
                asked.request.epoch.get_or_insert(route.region.epoch);
                asked.hint = route.leader.map(|leader| leader.store_id);
                match asked.hint {
                    Some(_) => asked.send_at = now.monotonic,
                    None => asked.failure = Some(no_leader(asked.request.region_id)),
                }
            }
            Ok(_) => {
                let error = Error::RegionNotFound(asked.request.region_id);
                self.finish_asked(id, Err(error));
            }
            Err(error) => asked.failure = Some(error),
        }
    }

    /// The answer of the store that was asked to split.
    pub(super) fn on_split_answer(&mut self, now: Now, from: StoreId, id: u64, response: Response) {
        let Some(asked) = self.splits.asked.get_mut(&id) else { return };
        match response {
            Response::Failed(Error::NotLeader { hint, .. }) => {
                asked.follow(now.monotonic, hint.filter(|hint| *hint != from));
            }
            Response::Failed(error) => self.on_split_refused(now, id, from, error),
            Response::Answer(answer @ PlacementAnswer::Split { .. }) => self.finish_asked(id, Ok(answer)),
            Response::Answer(_) | Response::Previous { .. } | Response::Report(_) => {
                asked.send_at = now.monotonic + CALL_RETRY_AFTER;
                asked.failure =
                    Some(Error::Unavailable { reason: "the store answered another question".to_owned() });
            }
        }
    }

    /// Another store's agent wants a region to be split that is led here, as far as it knows.
    pub fn on_split_request(&mut self, now: Now, caller: Caller, request: SplitRequest, locals: &dyn Locals) {
        self.begin_split(now, request, Some(Waiter::There(caller)), locals);
    }

    /// The store wants a region to be split that it leads. Where nothing comes of it, it will say so again.
    pub fn on_split_wanted(&mut self, now: Now, request: SplitRequest, locals: &dyn Locals) {
        let is_running =
            self.splits.running.values().any(|running| running.request.region_id == request.region_id);
        if is_running {
            return;
        }
        let Some(local) = locals.find_by_id(request.region_id) else { return };
        let SplitAt::Keys(keys) = &request.at else { return };
        let keys = settle_keys(keys, self.settings.key_mode, &local.region);
        if keys.is_empty() {
            return;
        }
        let request = SplitRequest { at: SplitAt::Keys(keys), ..request };
        let Some(request) = self.name_split(now, request) else { return };
        self.begin_split(now, request, None, locals);
    }

    /// The store has carried a split out, or has not.
    pub fn on_split_ended(&mut self, now: Now, change_id: u64, result: Result<()>, locals: &dyn Locals) {
        let Some(running) = self.splits.running.remove(&change_id) else { return };
        let Running { request, waiters, stage, .. } = running;
        let result = match result {
            Ok(()) => {
                let keys = match stage {
                    Stage::Finding => Vec::new(),
                    Stage::Waiting(keys) | Stage::Proposed(keys) => keys,
                };
                let ended = Ended { change_id, region_id: request.region_id, keys };
                let answer = answer_of(&ended, locals);
                self.splits.ended.push_back(ended);
                if self.splits.ended.len() > SPLITS_ENDED_KEPT {
                    self.splits.ended.pop_front();
                }
                answer
            }
            Err(error) => Err(error),
        };
        for waiter in waiters {
            self.answer_split(now, waiter, result.clone());
        }
    }

    /// Sends what is due, proposes what has got its ids, gives up what has waited too long.
    pub(super) fn drive_splits(&mut self, now: Now, locals: &dyn Locals) {
        self.give_up_splits(now);
        let is_due = |asked: &Asked| asked.send_at <= now.monotonic && !asked.is_looked_up;
        let due: Vec<u64> =
            self.splits.asked.iter().filter(|(_, asked)| is_due(asked)).map(|(id, _)| *id).collect();
        for id in due {
            self.send_split(now, id, locals);
        }
        let waiting: Vec<u64> = self
            .splits
            .running
            .iter()
            .filter(|(_, running)| matches!(running.stage, Stage::Waiting(_)))
            .map(|(id, _)| *id)
            .collect();
        for change_id in waiting {
            self.propose_split(now, change_id, locals);
        }
    }

    fn give_up_splits(&mut self, now: Now) {
        let is_over = |asked: &Asked| asked.deadline <= now.monotonic;
        for (_, asked) in self.splits.asked.extract_if(.., |_, asked| is_over(asked)).collect::<Vec<_>>() {
            metrics::counter!(names::PLACEMENT_CALL_FAILURES).increment(1);
            let region_id = asked.request.region_id;
            let error = asked.failure.unwrap_or_else(|| Error::Unavailable {
                reason: format!(
                    "no answer of the leader of region {region_id} within {CALL_DEADLINE:?}; it may still be split"
                ),
            });
            self.effects.push(Effect::Reply(asked.responder, Err(error)));
        }
        let is_over = |running: &Running| !running.is_proposed() && running.deadline <= now.monotonic;
        for (_, running) in
            self.splits.running.extract_if(.., |_, running| is_over(running)).collect::<Vec<_>>()
        {
            let reason = match running.stage {
                Stage::Finding => format!("no keys were found within {SPLIT_FIND_DEADLINE:?}"),
                Stage::Waiting(_) | Stage::Proposed(_) => "there are no ids for the new regions".to_owned(),
            };
            for waiter in running.waiters {
                self.answer_split(now, waiter, Err(Error::Unavailable { reason: reason.clone() }));
            }
        }
    }

    /// Passes a wish on to whoever leads the region, which may be this store.
    fn send_split(&mut self, now: Now, id: u64, locals: &dyn Locals) {
        let Some(request) = self.splits.asked.get(&id).map(|asked| asked.request.clone()) else { return };
        let named = self.name_split(now, request);
        let Some(asked) = self.splits.asked.get_mut(&id) else { return };
        let Some(named) = named else {
            asked.send_at = now.monotonic + CALL_RETRY_AFTER;
            asked.failure = Some(Error::Unavailable { reason: "there are no ids for the change".to_owned() });
            return;
        };
        asked.request = named;
        let local = locals.find_by_id(asked.request.region_id);
        let led_by = local.as_ref().and_then(|local| local.leader).map(|leader| leader.store_id);
        if led_by == Some(self.record.id)
            && let Some(local) = local
        {
            asked.request.epoch.get_or_insert(local.region.epoch);
            asked.send_at = now.monotonic + CALL_RESEND_AFTER;
            let request = asked.request.clone();
            self.begin_split(now, request, Some(Waiter::Here(id)), locals);
            return;
        }
        match asked.hint.take().or(led_by) {
            // What this store knows of its own peers is newer than a hint.
            Some(to) if to == self.record.id => {
                asked.failure = Some(no_leader(asked.request.region_id));
                asked.send_at = now.monotonic + CALL_RETRY_AFTER;
            }
            Some(to) if asked.request.epoch.is_some() || led_by.is_some() => {
                if let Some(local) = local {
                    asked.request.epoch.get_or_insert(local.region.epoch);
                }
                asked.send_at = now.monotonic + CALL_RESEND_AFTER;
                let request = Request::Split(asked.request.clone());
                self.effects.push(Effect::Send { to, request_id: id, request });
            }
            Some(_) | None => {
                asked.is_looked_up = true;
                let region_id = asked.request.region_id;
                self.look_up_for_split(now, id, region_id);
            }
        }
    }

    /// Begins a split of a region that is led here, or joins one that runs or has ended under the same name.
    fn begin_split(&mut self, now: Now, request: SplitRequest, waiter: Option<Waiter>, locals: &dyn Locals) {
        let change_id = request.change_id;
        if let Some(ended) = self.splits.ended.iter().find(|ended| ended.change_id == change_id) {
            let answer = match ended.region_id == request.region_id {
                true => answer_of(ended, locals),
                false => Err(of_another(change_id, ended.region_id)),
            };
            waiter.into_iter().for_each(|waiter| self.answer_split(now, waiter, answer.clone()));
            return;
        }
        if let Some(running) = self.splits.running.get_mut(&change_id) {
            let Some(waiter) = waiter else { return };
            if running.request.region_id != request.region_id {
                let error = of_another(change_id, running.request.region_id);
                return self.answer_split(now, waiter, Err(error));
            }
            if !running.waiters.contains(&waiter) {
                running.waiters.push(waiter);
            }
            if let Stage::Finding = running.stage {
                let error = running.being_looked_at();
                self.answer_split(now, waiter, Err(error));
            }
            return;
        }
        let checked = check_wish(&request, self.settings.key_mode)
            .and_then(|()| self.check_led(&request, locals).map(|_| ()))
            .and_then(|()| {
                let is_full = self.splits.running.len() >= SPLITS_RUNNING_MAX;
                let full = || Error::Busy { reason: format!("{SPLITS_RUNNING_MAX} splits run here") };
                if is_full { Err(full()) } else { Ok(()) }
            });
        if let Err(error) = checked {
            waiter.into_iter().for_each(|waiter| self.answer_split(now, waiter, Err(error.clone())));
            return;
        }
        let (stage, time) = match &request.at {
            SplitAt::Keys(keys) => (Stage::Waiting(keys.clone()), CALL_DEADLINE),
            SplitAt::Middle | SplitAt::Parts(_) => (Stage::Finding, SPLIT_FIND_DEADLINE),
        };
        if let Some(part_count) = request.at.part_count() {
            let region_id = request.region_id;
            self.effects.push(Effect::FindKeys { change_id, region_id, part_count });
        }
        let waiters = waiter.into_iter().collect();
        let running = Running { request, waiters, stage, deadline: now.monotonic + time };
        self.splits.running.insert(change_id, running);
        self.propose_split(now, change_id, locals);
    }

    /// Gives a split to the store, if there are ids for it.
    fn propose_split(&mut self, now: Now, change_id: u64, locals: &dyn Locals) {
        let Some(running) = self.splits.running.get(&change_id) else { return };
        let Stage::Waiting(keys) = &running.stage else { return };
        let (request, keys) = (running.request.clone(), keys.clone());
        let region = match self.check_led(&request, locals) {
            Ok(region) => region,
            Err(error) => return self.on_split_ended(now, change_id, Err(error), locals),
        };
        let ids_per_child = 1 + region.peers.len() as u64;
        let Some(first_id) = self.take_or_lease(now, keys.len() as u64 * ids_per_child) else {
            return;
        };
        let leader_stores = self.first_leaders(&request, &keys, &region);
        let children = keys.clone().into_iter().zip((first_id..).step_by(1 + region.peers.len()));
        let children = children.map(|(start_key, region_id)| SplitChild {
            start_key,
            region_id: RegionId(region_id),
            peer_ids: (region_id + 1..region_id + ids_per_child).map(PeerId).collect(),
        });
        let split = Split {
            change_id,
            epoch: request.epoch.unwrap_or(region.epoch),
            leader_stores,
            children: children.collect(),
        };
        if let Some(running) = self.splits.running.get_mut(&change_id) {
            running.stage = Stage::Proposed(keys);
        }
        self.effects.push(Effect::Split { region_id: region.id, split });
    }

    /// The stores whose voters lead the new regions first.
    fn first_leaders(&self, request: &SplitRequest, keys: &[Bytes], region: &Region) -> Vec<StoreId> {
        match (request.first_leader, &request.at) {
            (Some(id), _) => vec![id],
            (None, SplitAt::Parts(_)) if keys.len() > 1 => self.turns(region),
            (None, SplitAt::Keys(_) | SplitAt::Middle | SplitAt::Parts(_)) => vec![self.record.id],
        }
    }

    /// The region as it is here, if it is led here. Whether epoch and keys fit it, the store judges: it knows whether this
    /// very change has divided the region already.
    fn check_led(&self, request: &SplitRequest, locals: &dyn Locals) -> Result<std::sync::Arc<Region>> {
        let not_leader = |leader: Option<Peer>| Error::NotLeader {
            hint: leader.map(|leader| leader.store_id),
            term: Term(0),
        };
        let local = locals.find_by_id(request.region_id).ok_or_else(|| not_leader(None))?;
        if local.leader.is_none_or(|leader| leader.store_id != self.record.id) {
            return Err(not_leader(local.leader));
        }
        let region = local.region;
        let first_leader = request.first_leader.unwrap_or(self.record.id);
        if region.find_peer_on(first_leader).is_none_or(|peer| peer.role != PeerRole::Voter) {
            return Err(Error::Invalid(format!("region {} has no voter on store {first_leader}", region.id)));
        }
        Ok(region)
    }

    fn name_split(&mut self, now: Now, request: SplitRequest) -> Option<SplitRequest> {
        if request.change_id != 0 {
            return Some(request);
        }
        let change_id = self.take_or_lease(now, 1)?;
        Some(SplitRequest { change_id, ..request })
    }

    fn answer_split(&mut self, now: Now, waiter: Waiter, result: Result<PlacementAnswer>) {
        match (waiter, result) {
            (Waiter::There(caller), Ok(answer)) => {
                self.effects.push(Effect::Respond(caller, Response::Answer(answer)));
            }
            (Waiter::There(caller), Err(error)) => {
                self.effects.push(Effect::Respond(caller, Response::Failed(error)));
            }
            (Waiter::Here(id), Err(Error::NotLeader { hint, .. })) => {
                let hint = hint.filter(|hint| *hint != self.record.id);
                if let Some(asked) = self.splits.asked.get_mut(&id) {
                    asked.follow(now.monotonic, hint);
                }
            }
            (Waiter::Here(id), Err(error)) => self.on_split_refused(now, id, self.record.id, error),
            (Waiter::Here(id), Ok(answer)) => self.finish_asked(id, Ok(answer)),
        }
    }

    /// A leader's store has refused, or does not know.
    fn on_split_refused(&mut self, now: Now, id: u64, from: StoreId, error: Error) {
        let Some(asked) = self.splits.asked.get_mut(&id) else { return };
        match error {
            Error::Unavailable { .. } => {
                asked.hint = None;
                asked.is_uncertain = true;
                asked.failure = Some(error);
                asked.send_at = now.monotonic + CALL_RETRY_AFTER;
            }
            // Its own: whoever leads the region is at it, and will answer.
            Error::Changing { operation_id, .. } if operation_id == asked.request.change_id => {
                asked.failure = None;
                asked.send_at = now.monotonic + CALL_RESEND_AFTER;
                asked.deadline = now.monotonic + CALL_DEADLINE;
            }
            // The epoch that was found was an old one, and nothing has been done at it. Nothing is to be waited for where the
            // leader names a newer one; a leader that has not applied yet what was found elsewhere needs a moment.
            Error::EpochNotMatch { current, .. } if !asked.is_epoch_asked && !asked.is_uncertain => {
                let is_newer =
                    asked.request.epoch.is_none_or(|found| current.covers(found) && current != found);
                if is_newer {
                    asked.request.epoch = Some(current);
                    asked.hint = Some(from);
                }
                asked.failure = Some(error);
                asked.send_at = now.monotonic + if is_newer { Duration::ZERO } else { CALL_RETRY_AFTER };
            }
            Error::EpochNotMatch { .. }
            | Error::NotLeader { .. }
            | Error::Busy { .. }
            | Error::Invalid(_)
            | Error::StoreNotFound(_)
            | Error::StoreRemoved(_)
            | Error::RegionNotFound(_)
            | Error::Changing { .. }
            | Error::OperationNotFound(_) => self.finish_asked(id, Err(error)),
        }
    }

    fn finish_asked(&mut self, id: u64, result: Result<PlacementAnswer>) {
        if let Some(asked) = self.splits.asked.remove(&id) {
            self.effects.push(Effect::Reply(asked.responder, result));
        }
    }
}

/// The parts of a region that was split, as they are now: the parent first.
fn answer_of(ended: &Ended, locals: &dyn Locals) -> Result<PlacementAnswer> {
    let parent = locals.find_by_id(ended.region_id).map(|local| local.region);
    let children = ended.keys.iter().filter_map(|key| {
        locals.find(key).map(|local| local.region).filter(|region| region.range.start_key == *key)
    });
    let regions = parent.into_iter().chain(children).map(|region| Region::clone(&region)).collect();
    Ok(PlacementAnswer::Split { change_id: ended.change_id, regions })
}

fn no_leader(region_id: RegionId) -> Error {
    Error::Unavailable { reason: format!("region {region_id} has no leader now") }
}

fn of_another(change_id: u64, region_id: RegionId) -> Error {
    Error::Invalid(format!("change {change_id} is a split of region {region_id}"))
}

#[cfg(test)]
mod tests;
