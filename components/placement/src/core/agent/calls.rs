//! Calls that wait for the host: sent, redirected, sent again, answered once.

use std::collections::BTreeMap;

use actor::Now;
use telemetry::names;
use types::{Instant, RegionId, StoreId};

use super::{Agent, Effect, Locals, routes, scan::ScanJob};
use crate::core::{
    api::{Error, PlacementAnswer, PlacementCall, RegionRoute, Responder, Result},
    ids::IdBlock,
    limits::{
        CALL_ASK_NEXT_AFTER, CALL_DEADLINE, CALL_RESEND_AFTER, CALL_RETRY_AFTER, ID_LEASE_COUNT,
        ID_LEASE_LOW, IDS_PER_CALL_MAX,
    },
    protocol::{Request, Response},
};

/// A call follows so many hints at once; then it pauses, for the stores do not agree yet.
const HOPS_MAX: u8 = 2;

/// The calls that wait, by request id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    asker: Asker,
    deadline: Instant,
    /// When it is sent, or sent again.
    send_at: Instant,
    /// Whether it has been sent since then and not been answered.
    is_sent: bool,
    hops: u8,
    /// Whether it was tried to answer it from memory in this silence.
    is_tried: bool,
    /// Why the last attempt failed.
    failure: Option<Error>,
}

/// Who wants the answer.
#[derive(Debug)]
enum Asker {
    Caller(Responder),
    /// The agent itself, for ids.
    Ids,
    /// A split, with this request id: where its region is led.
    Split(u64),
}

#[derive(Debug)]
enum Job {
    /// One request, one answer.
    One(PlacementCall),
    /// Page by page.
    Scan(PlacementCall, ScanJob),
}

/// What an answer to a call comes to.
enum Progress {
    Reply(Result<PlacementAnswer>),
    /// The next page.
    Continue(Job),
    /// Not now.
    Retry(Error),
}

impl Job {
    fn new(call: PlacementCall) -> Job {
        match &call {
            PlacementCall::ScanRegions { range, limit } => {
                let scan = ScanJob::new(vec![range.clone()], *limit);
                Job::Scan(call, scan)
            }
            PlacementCall::BatchScanRegions { ranges, limit } => {
                let scan = ScanJob::new(ranges.clone(), *limit);
                Job::Scan(call, scan)
            }
            PlacementCall::ClusterInfo
            | PlacementCall::Tso { .. }
            | PlacementCall::GetRegion { .. }
            | PlacementCall::GetPrevRegion { .. }
            | PlacementCall::GetRegionById { .. }
            | PlacementCall::AwaitRegion { .. }
            | PlacementCall::GetStore { .. }
            | PlacementCall::GetAllStores { .. }
            | PlacementCall::AllocateIds { .. }
            | PlacementCall::RegisterStore { .. }
            | PlacementCall::ChangeRegion(_)
            | PlacementCall::SplitRegion(_)
            | PlacementCall::ScatterRegions(_)
            | PlacementCall::SetStoreState { .. }
            | PlacementCall::ChangeSettings { .. }
            | PlacementCall::CancelOperation { .. }
            | PlacementCall::GetOperation { .. }
            | PlacementCall::ListOperations => Job::One(call),
        }
    }

    fn call(&self) -> &PlacementCall {
        match self {
            Job::One(call) | Job::Scan(call, _) => call,
        }
    }

    fn request(&self) -> PlacementCall {
        match self {
            Job::One(call) => call.clone(),
            Job::Scan(_, scan) => scan.request(),
        }
    }
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, now: Instant, id: u64, call: PlacementCall, responder: Responder) {
        self.insert(now, id, Job::new(call), Asker::Caller(responder), now + CALL_DEADLINE);
    }

    /// A store does not lead. With another one to ask, the call goes there at once, else after a pause.
    pub(super) fn redirect(&mut self, now: Instant, id: u64, has_other: bool) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        waiting.is_sent = false;
        if has_other && waiting.hops < HOPS_MAX {
            waiting.hops += 1;
            waiting.send_at = now;
        } else {
            waiting.hops = 0;
            waiting.send_at = now + CALL_RETRY_AFTER;
        }
    }

    /// Everything is sent again.
    pub(super) fn retry_all(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.is_sent = false;
            waiting.send_at = now;
        }
    }

    /// Calls that were sent and not answered in time.
    pub(super) fn timed_out_count(&self, now: Instant) -> usize {
        self.waiting.values().filter(|waiting| waiting.is_sent && waiting.send_at <= now).count()
    }

    /// Whether a call was sent and is not answered.
    pub(super) fn has_unanswered(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.is_sent)
    }

    /// Whether there are calls that memory was not asked about in this silence.
    pub(super) fn has_untried(&self) -> bool {
        self.waiting.values().any(|waiting| !waiting.is_tried)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.send_at.min(waiting.deadline)).min()
    }

    fn insert(&mut self, now: Instant, id: u64, job: Job, asker: Asker, deadline: Instant) {
        let waiting = Waiting {
            job,
            asker,
            deadline,
            send_at: now,
            is_sent: false,
            hops: 0,
            is_tried: false,
            failure: None,
        };
        self.waiting.insert(id, waiting);
    }
}

impl Agent {
    /// Ids from the block that this store has leased. `None`: the host has to be asked.
    pub(super) fn take_ids(&mut self, now: Now, count: u64) -> Option<Result<PlacementAnswer>> {
        if !(1..=IDS_PER_CALL_MAX).contains(&count) {
            let text = format!("{count} ids cannot be given at once: ask for 1 to {IDS_PER_CALL_MAX}");
            return Some(Err(Error::Invalid(text)));
        }
        self.take_or_lease(now, count).map(|first_id| Ok(PlacementAnswer::Ids { first_id, count }))
    }

    /// The first of `count` ids. `None`: they are being leased. Whoever takes many will want as many again.
    pub(super) fn take_or_lease(&mut self, now: Now, count: u64) -> Option<u64> {
        let first_id = self.ids.take(count);
        if self.ids.remaining() < ID_LEASE_LOW.max(count) && self.leasing.is_none() {
            let id = self.new_request_id();
            let wanted = (2 * count + ID_LEASE_LOW).clamp(ID_LEASE_COUNT, IDS_PER_CALL_MAX);
            let job = Job::One(PlacementCall::AllocateIds { count: wanted });
            self.calls.insert(now.monotonic, id, job, Asker::Ids, now.monotonic + CALL_DEADLINE);
            self.leasing = Some(id);
        }
        first_id
    }

    /// Asks the host where a region is led that shall be split. It may be the child of a split that the host is just hearing
    /// of.
    pub(super) fn look_up_for_split(&mut self, now: Now, split: u64, region_id: RegionId) {
        let id = self.new_request_id();
        let job = Job::One(PlacementCall::AwaitRegion { region_id, epoch: None });
        self.calls.insert(now.monotonic, id, job, Asker::Split(split), now.monotonic + CALL_DEADLINE);
    }

    fn answer(&mut self, now: Now, asker: Asker, result: Result<PlacementAnswer>) {
        match asker {
            Asker::Caller(responder) => self.effects.push(Effect::Reply(responder, result)),
            Asker::Split(split) => self.on_split_route(now, split, result),
            Asker::Ids => {}
        }
    }

    /// An answer, or a failure that is not about who leads.
    pub(super) fn on_answer(&mut self, now: Now, id: u64, response: Response, locals: &dyn Locals) {
        let Some(mut waiting) = self.calls.waiting.remove(&id) else { return };
        if self.leasing == Some(id) {
            self.leasing = None;
            if let Response::Answer(PlacementAnswer::Ids { first_id, count }) = response {
                self.ids.refill(IdBlock::new(first_id, count));
                self.splits.on_ids(now.monotonic);
            }
            return;
        }
        let job = std::mem::replace(&mut waiting.job, Job::One(PlacementCall::ClusterInfo));
        let call = job.call().clone();
        match self.progress(job, response, locals) {
            Progress::Reply(result) => {
                let result = result.map(|answer| self.name_stand_ins(answer, locals));
                self.answer(now, waiting.asker, result);
            }
            Progress::Continue(job) => {
                // Under a new id: a page that comes twice must not be taken for the next one.
                let id = self.new_request_id();
                self.calls.insert(now.monotonic, id, job, waiting.asker, waiting.deadline);
            }
            Progress::Retry(error) => {
                waiting.job = Job::new(call);
                waiting.is_sent = false;
                waiting.send_at = now.monotonic + CALL_RETRY_AFTER;
                waiting.failure = Some(error);
                self.calls.waiting.insert(id, waiting);
            }
        }
    }

    /// Answers calls whose time is over.
    pub(super) fn give_up(&mut self, now: Now, locals: &dyn Locals) {
        let is_over = |waiting: &Waiting| waiting.deadline <= now.monotonic;
        for (id, waiting) in
            self.calls.waiting.extract_if(.., |_, waiting| is_over(waiting)).collect::<Vec<_>>()
        {
            self.leasing = self.leasing.filter(|leasing| *leasing != id);
            if matches!(waiting.asker, Asker::Ids) {
                continue;
            }
            let result = match self.answer_from_memory(waiting.job.call(), locals) {
                Some(answer) => Ok(answer),
                None => {
                    metrics::counter!(names::PLACEMENT_CALL_FAILURES).increment(1);
                    Err(waiting.failure.unwrap_or_else(|| Error::Unavailable {
                        reason: format!("no answer of a placement leader within {CALL_DEADLINE:?}"),
                    }))
                }
            };
            self.answer(now, waiting.asker, result);
        }
    }

    /// Answers from memory what can be, once the host is silent.
    pub(super) fn answer_in_silence(&mut self, now: Now, locals: &dyn Locals) {
        if !self.finder.is_silent(now.monotonic) {
            return;
        }
        let untried: Vec<u64> = self
            .calls
            .waiting
            .iter_mut()
            .filter_map(|(id, waiting)| (!std::mem::replace(&mut waiting.is_tried, true)).then_some(*id))
            .collect();
        for id in untried {
            let call = self.calls.waiting.get(&id).map(|waiting| waiting.job.call().clone());
            let Some(answer) = call.and_then(|call| self.answer_from_memory(&call, locals)) else { continue };
            if let Some(waiting) = self.calls.waiting.remove(&id) {
                self.answer(now, waiting.asker, Ok(answer));
            }
        }
    }

    /// Sends what is due, for the first time or again.
    pub(super) fn send_calls(&mut self, now: Now, locals: &dyn Locals) {
        let is_leader_known = self.finder.leader().is_some();
        let send_again = if is_leader_known { CALL_RESEND_AFTER } else { CALL_ASK_NEXT_AFTER };
        let mut due = Vec::new();
        for (id, waiting) in &mut self.calls.waiting {
            if waiting.send_at <= now.monotonic {
                waiting.is_sent = true;
                waiting.is_tried = false;
                waiting.send_at = now.monotonic + send_again;
                due.push((*id, waiting.job.request()));
            }
        }
        let mut last_target: Option<StoreId> = None;
        for (id, call) in due {
            // All of a round go to one store, also while the leader is not known.
            let to = match last_target {
                Some(to) => {
                    self.effects.push(Effect::Send { to, request_id: id, request: Request::Call(call) });
                    to
                }
                None => self.send(now, id, Request::Call(call), locals),
            };
            last_target = Some(to);
        }
    }

    fn progress(&mut self, job: Job, response: Response, locals: &dyn Locals) -> Progress {
        let answer = match response {
            Response::Failed(error @ (Error::Busy { .. } | Error::Unavailable { .. })) => {
                return Progress::Retry(error);
            }
            Response::Failed(error) => return Progress::Reply(Err(error)),
            Response::Previous { previous, current } => {
                return Progress::Reply(self.previous(job.call(), previous, *current, locals));
            }
            Response::Answer(answer) => answer,
            Response::Report(_) => return Progress::Retry(other_answer()),
        };
        match (job, answer) {
            (Job::Scan(call, mut scan), PlacementAnswer::Regions(page)) => {
                page.iter().for_each(|route| self.routes.remember(route.clone()));
                scan.take(routes::lay_over_all(page, locals));
                if scan.is_done() {
                    Progress::Reply(Ok(PlacementAnswer::Regions(scan.into_routes())))
                } else {
                    Progress::Continue(Job::Scan(call, scan))
                }
            }
            (Job::One(call), answer) => Progress::Reply(self.finish(&call, answer, locals)),
            (Job::Scan(..), _) => Progress::Retry(other_answer()),
        }
    }

    fn finish(
        &mut self,
        call: &PlacementCall,
        answer: PlacementAnswer,
        locals: &dyn Locals,
    ) -> Result<PlacementAnswer> {
        match (call, answer) {
            (PlacementCall::GetRegion { key }, PlacementAnswer::Region(Some(route))) => {
                self.routes.remember(route.clone());
                Ok(PlacementAnswer::Region(Some(routes::lay_over(route, locals.find(key)))))
            }
            (
                PlacementCall::GetRegionById { region_id } | PlacementCall::AwaitRegion { region_id, .. },
                PlacementAnswer::Region(route),
            ) => {
                route.iter().for_each(|route| self.routes.remember(route.clone()));
                let local = locals.find_by_id(*region_id);
                Ok(PlacementAnswer::Region(routes::lay_over_id(route, local)))
            }
            (PlacementCall::GetOperation { .. }, PlacementAnswer::Operations(mut operations)) => {
                Ok(PlacementAnswer::Operation(operations.pop()))
            }
            (PlacementCall::RegisterStore { .. }, answer) => {
                if let PlacementAnswer::Registered { settings, .. } = &answer {
                    self.settings = *settings;
                }
                Ok(answer)
            }
            (_, answer) => Ok(answer),
        }
    }

    /// The region before a key's, of the two that the host named, with newer descriptors laid over both.
    fn previous(
        &mut self,
        call: &PlacementCall,
        previous: Option<RegionRoute>,
        current: RegionRoute,
        locals: &dyn Locals,
    ) -> Result<PlacementAnswer> {
        let PlacementCall::GetPrevRegion { key } = call else { return Err(other_answer()) };
        let both: Vec<RegionRoute> = previous.iter().cloned().chain([current]).collect();
        both.iter().for_each(|route| self.routes.remember(route.clone()));
        let laid = routes::lay_over_all(both, locals);
        let at = laid.iter().position(|route| route.region.range.contains_key(key));
        let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| laid.get(at).cloned());
        // Where both have become one region, what was before them is not known here: the older answer stands.
        let first_is_first = laid.first().is_some_and(|route| route.region.range.start_key.is_empty());
        let is_merged = before.is_none() && !first_is_first;
        Ok(PlacementAnswer::Region(if is_merged { previous } else { before }))
    }
}

fn other_answer() -> Error {
    Error::Unavailable { reason: "the placement leader answered another question".to_owned() }
}
