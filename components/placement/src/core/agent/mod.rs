//! The agent: what placement does on every store. It passes calls on to the host, wherever that is, answers each of them
//! exactly once, tells the host what its store knows, and remembers enough to answer when the host is silent.
//!
//! Every event comes with the time and, where needed, with a look at this store's own regions; what is to be done comes
//! back as [`Effect`]s. The host on the same store is asked like one elsewhere.

mod calls;
mod finder;
mod reports;
mod routes;
mod scan;
mod splits;

use std::{collections::BTreeMap, sync::Arc};

use actor::Now;
use telemetry::names;
use types::{ClusterId, Instant, Peer, Region, RegionId, Split, StoreId, Term};

pub use self::splits::FoundKeys;
use self::{calls::Calls, finder::Finder, reports::Reports, routes::Routes, splits::Splits};
use super::{
    api::{ChangeRequest, ClusterPicture, Error, PlacementAnswer, PlacementCall, Responder, Result},
    ids::IdBlock,
    limits::{CACHE_ROUTES_MAX, CALLS_WAITING_MAX, HOST_SILENT_AFTER, LONELY_INTERVAL, REPORT_REGIONS_MAX},
    operation::Goal,
    protocol::{Caller, LeaderReport, LonelyPeer, ReportAnswer, Request, Response, StoreReport},
    record::{KeyMode, Settings, StoreLoad, StorePicture, StoreRecord, StoreState},
};

/// Who the agent is.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The cluster of its store.
    pub cluster_id: ClusterId,
    /// What `init` was told about keys.
    pub key_mode: KeyMode,
    /// Its store.
    pub record: StoreRecord,
    /// The address book as it was persisted.
    pub known_stores: Vec<StoreRecord>,
    /// Where request ids begin.
    pub seed: u64,
}

/// This store's own regions: applied descriptors.
pub trait Locals {
    /// The region that holds a key, the placement group never.
    fn find(&self, key: &[u8]) -> Option<LocalRegion>;

    /// A region by its id, the placement group too.
    fn find_by_id(&self, id: RegionId) -> Option<LocalRegion>;

    /// Peers that know no leader.
    fn lonely_peers(&self) -> Vec<LonelyPeer>;
}

/// A region with a peer on this store.
#[derive(Clone, Debug)]
pub struct LocalRegion {
    /// The applied descriptor.
    pub region: Arc<Region>,
    /// Who leads it, as far as this peer knows.
    pub leader: Option<Peer>,
}

/// What the agent wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send a request to a store, which may be this one.
    Send {
        /// Where.
        to: StoreId,
        /// Its name; the response carries it.
        request_id: u64,
        /// What.
        request: Request,
    },
    /// Answer a call.
    Reply(Responder, Result<PlacementAnswer>),
    /// Answer the agent of another store.
    Respond(Caller, Response),
    /// Let the leader of a region, which is here, split it; [`Agent::on_split_ended`] wants to hear of it.
    Split {
        /// The region.
        region_id: RegionId,
        /// How.
        split: Split,
    },
    /// Let the store look for keys that divide a region evenly; [`Agent::on_keys_found`] wants to hear of them.
    FindKeys {
        /// The split that wants them.
        change_id: u64,
        /// The region.
        region_id: RegionId,
        /// Into how many parts.
        part_count: u32,
    },
    /// Let the leader of a region, which is here, carry out a goal.
    Goal(Goal),
    /// End this store's peer of a region, which was removed, as this descriptor shows.
    Destroy(Region),
    /// The address book has changed.
    Stores(Vec<StoreRecord>),
    /// This store was removed from the cluster.
    Removed,
}

/// The agent of one store.
#[derive(Debug)]
pub struct Agent {
    record: StoreRecord,
    settings: Settings,
    stores: BTreeMap<StoreId, StoreRecord>,
    finder: Finder,
    calls: Calls,
    reports: Reports,
    routes: Routes,
    splits: Splits,
    ids: IdBlock,
    /// The request that leases ids, if one is under way.
    leasing: Option<u64>,
    /// The highest term in which placement was led, as far as known here; goals of lower ones are refused.
    placement_term: Term,
    is_removed: bool,
    /// The last change of peers that each region's leader here was told.
    told: BTreeMap<RegionId, u64>,
    /// When peers without a leader are listed next. What a host says of them is asked for anew each time.
    lonely_at: Instant,
    /// As counted for the last heartbeat.
    load: StoreLoad,
    next_request_id: u64,
    effects: Vec<Effect>,
}

impl Agent {
    /// An agent that knows nobody but the stores in its address book.
    #[must_use]
    pub fn new(config: AgentConfig) -> Agent {
        let AgentConfig { cluster_id, key_mode, record, known_stores, seed } = config;
        let mut stores: BTreeMap<_, _> = known_stores.into_iter().map(|record| (record.id, record)).collect();
        stores.insert(record.id, record.clone());
        Agent {
            finder: Finder::new(record.id),
            settings: Settings {
                cluster_id,
                key_mode,
                cluster_version: 0,
                created: types::WallTime(0),
                voter_count: 0,
                is_balancing: true,
            },
            record,
            stores,
            calls: Calls::default(),
            reports: Reports::default(),
            routes: Routes::default(),
            splits: Splits::default(),
            ids: IdBlock::default(),
            leasing: None,
            placement_term: Term(0),
            is_removed: false,
            told: BTreeMap::new(),
            lonely_at: Instant::ZERO + LONELY_INTERVAL,
            load: StoreLoad::default(),
            // Ids of different lives of a store must not meet: an answer to the last life is none to this one.
            next_request_id: (seed >> 1) | 1,
            effects: Vec::new(),
        }
    }

    /// Somebody on this store asks.
    pub fn on_call(&mut self, now: Now, call: PlacementCall, responder: Responder, locals: &dyn Locals) {
        if let PlacementCall::SplitRegion(request) = call {
            return self.on_split_call(now, request, responder);
        }
        let answer = match &call {
            PlacementCall::ClusterInfo => Some(Ok(PlacementAnswer::Cluster(self.cluster()))),
            // Clients never see the placement group.
            PlacementCall::GetRegionById { region_id: RegionId::PLACEMENT }
            | PlacementCall::AwaitRegion { region_id: RegionId::PLACEMENT, .. } => {
                Some(Ok(PlacementAnswer::Region(None)))
            }
            PlacementCall::AllocateIds { count } => self.take_ids(now, *count),
            PlacementCall::BatchScanRegions { ranges, .. } => scan::check(ranges).err().map(Err),
            PlacementCall::Tso { .. }
            | PlacementCall::GetRegion { .. }
            | PlacementCall::GetPrevRegion { .. }
            | PlacementCall::GetRegionById { .. }
            | PlacementCall::AwaitRegion { .. }
            | PlacementCall::ScanRegions { .. }
            | PlacementCall::GetStore { .. }
            | PlacementCall::GetAllStores { .. }
            | PlacementCall::RegisterStore { .. }
            | PlacementCall::ChangeRegion(_)
            | PlacementCall::SplitRegion(_)
            | PlacementCall::ScatterRegions(_)
            | PlacementCall::SetStoreState { .. }
            | PlacementCall::ChangeSettings { .. }
            | PlacementCall::CancelOperation { .. }
            | PlacementCall::GetOperation { .. }
            | PlacementCall::ListOperations => None,
        };
        let call = self.name_change(now, call);
        let answer = answer.or_else(|| {
            let is_silent = self.finder.is_silent(now.monotonic);
            is_silent.then(|| self.answer_from_memory(&call, locals)).flatten().map(Ok)
        });
        match answer {
            Some(answer) => self.effects.push(Effect::Reply(responder, answer)),
            None if self.calls.len() >= CALLS_WAITING_MAX => {
                let error = Error::Busy { reason: format!("{CALLS_WAITING_MAX} calls wait") };
                self.effects.push(Effect::Reply(responder, Err(error)));
            }
            None => {
                metrics::counter!(names::PLACEMENT_CALLS).increment(1);
                let id = self.new_request_id();
                self.calls.add(now.monotonic, id, call, responder);
            }
        }
    }

    /// What has changed about the regions that are led from here.
    pub fn on_leads(
        &mut self,
        leads: Vec<LeaderReport>,
        leads_no_longer: Vec<RegionId>,
        locals: &dyn Locals,
    ) {
        leads.into_iter().for_each(|report| self.reports.add(report, locals));
        leads_no_longer.into_iter().for_each(|id| self.reports.remove(id));
    }

    /// The placement group's leader as this store's own peer of the group knows it; `led_here`: in which term it leads.
    pub fn on_leader(&mut self, now: Now, leader: Option<StoreId>, led_here: Option<Term>) {
        if let Some(term) = led_here {
            self.placement_term = self.placement_term.max(term);
        }
        if self.finder.on_local(leader, led_here) && leader.is_some() {
            // Whatever waits asks again at once, of the new one.
            self.calls.retry_all(now.monotonic);
            self.reports.retry(now.monotonic);
        }
    }

    /// A message of a host.
    pub fn on_response(
        &mut self,
        now: Now,
        from: StoreId,
        request_id: u64,
        response: Response,
        locals: &dyn Locals,
    ) {
        if self.splits.is_awaiting(request_id) {
            return self.on_split_answer(now, from, request_id, response);
        }
        match response {
            Response::Failed(Error::NotLeader { hint, .. }) => {
                self.finder.on_not_leader(from, hint);
                self.calls.redirect(now.monotonic, request_id, self.finder.leader() != Some(from));
                self.reports.on_failed(now.monotonic, request_id);
            }
            // Of a host that does not know yet that another one has followed it.
            Response::Report(answer) if answer.placement_term < self.placement_term => {
                self.finder.on_not_leader(from, None);
                self.reports.on_failed(now.monotonic, request_id);
            }
            Response::Report(answer) => {
                self.on_report_answer(now, request_id, *answer, locals);
                self.finder.on_answer(now.monotonic, from, self.calls.has_unanswered());
            }
            Response::Failed(error) if self.reports.is_awaiting(request_id) => {
                self.on_report_refused(now, request_id, error);
                self.finder.on_answer(now.monotonic, from, self.calls.has_unanswered());
            }
            response @ (Response::Answer(_) | Response::Previous { .. } | Response::Failed(_)) => {
                self.on_answer(now, request_id, response, locals);
                self.finder.on_answer(now.monotonic, from, self.calls.has_unanswered());
            }
        }
    }

    /// The end of a round: sends what waits, gives up what has waited too long. Returns everything that is to be done.
    pub fn end_round(
        &mut self,
        now: Now,
        load: impl FnOnce() -> StoreLoad,
        locals: &dyn Locals,
    ) -> Vec<Effect> {
        self.give_up(now, locals);
        let is_unanswered = self.calls.timed_out_count(now.monotonic) > 0;
        if is_unanswered || self.reports.is_timed_out(now.monotonic) {
            self.finder.on_timeout();
        }
        self.answer_in_silence(now, locals);
        self.drive_splits(now, locals);
        self.send_calls(now, locals);
        self.send_report(now, load, locals);
        std::mem::take(&mut self.effects)
    }

    /// When it wants a round even without an event.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let silent_at = self.finder.unanswered_since().map(|since| since + HOST_SILENT_AFTER);
        let silent_at = silent_at.filter(|_| self.calls.has_untried());
        let reports_at = (!self.is_removed).then(|| self.reports.deadline());
        let splits_at = self.splits.deadline();
        self.calls.deadline().into_iter().chain(silent_at).chain(reports_at).chain(splits_at).min()
    }

    fn cluster(&self) -> ClusterPicture {
        ClusterPicture {
            settings: self.settings,
            this_store: self.record.id,
            placement_leader: self.finder.leader(),
            stores: self.stores.values().cloned().collect(),
        }
    }

    fn new_request_id(&mut self) -> u64 {
        self.next_request_id += 1;
        self.next_request_id
    }

    fn send(&mut self, now: Now, request_id: u64, request: Request, locals: &dyn Locals) -> StoreId {
        let group = locals.find_by_id(RegionId::PLACEMENT).map(|local| local.region);
        let to = self.finder.target(group.as_deref(), &self.stores);
        self.finder.on_sent(now.monotonic);
        self.effects.push(Effect::Send { to, request_id, request });
        to
    }

    fn send_report(&mut self, now: Now, load: impl FnOnce() -> StoreLoad, locals: &dyn Locals) {
        if self.is_removed || !self.reports.is_due(now.monotonic) {
            return;
        }
        let request_id = self.new_request_id();
        if self.reports.is_heartbeat_due(now.monotonic) {
            self.load = StoreLoad { leader_count: self.reports.lead_count() as u64, ..load() };
        }
        let mut lonely_peers = Vec::new();
        if self.lonely_at <= now.monotonic {
            self.lonely_at = now.monotonic + LONELY_INTERVAL;
            lonely_peers = locals.lonely_peers();
            lonely_peers.truncate(REPORT_REGIONS_MAX);
        }
        let report = self.reports.make(now.monotonic, request_id, self.record.clone(), self.load);
        let report = StoreReport { lonely_peers, ..report };
        self.send(now, request_id, Request::Report(Box::new(report)), locals);
    }

    fn on_report_answer(&mut self, now: Now, request_id: u64, answer: ReportAnswer, locals: &dyn Locals) {
        let ReportAnswer {
            placement_term,
            number,
            is_full_wanted,
            goals,
            destroys,
            wanted,
            stores,
            settings,
        } = answer;
        self.placement_term = placement_term;
        if self.reports.is_awaiting(request_id) {
            self.reports.on_acknowledged(now.monotonic, request_id, number, placement_term, is_full_wanted);
        } else if is_full_wanted {
            self.reports.want_full(now.monotonic);
        }
        wanted.iter().for_each(|range| self.reports.add_siblings(range, locals));
        goals.into_iter().for_each(|goal| self.tell(goal, locals));
        self.effects.extend(destroys.into_iter().map(Effect::Destroy));
        self.settings = settings.unwrap_or(self.settings);
        self.take_stores(stores);
    }

    /// Passes a goal on. A region that was told another change of its peers stops there first: placement has given that
    /// one up, and the leader refuses a second one.
    fn tell(&mut self, goal: Goal, locals: &dyn Locals) {
        if goal.leader.is_some() {
            self.effects.push(Effect::Goal(goal));
            return;
        }
        if self.told.len() >= CACHE_ROUTES_MAX {
            self.told.clear();
        }
        let earlier = self.told.insert(goal.region_id, goal.operation_id);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != goal.operation_id)
            && let Some(local) = locals.find_by_id(goal.region_id)
        {
            let (epoch, peers) = (local.region.epoch, local.region.peers.clone());
            self.effects.push(Effect::Goal(Goal { epoch, peers, operation_id: earlier, ..goal.clone() }));
        }
        self.effects.push(Effect::Goal(goal));
    }

    /// Gives a change a name here, so that it is one change however often it is sent.
    fn name_change(&mut self, now: Now, call: PlacementCall) -> PlacementCall {
        if let PlacementCall::ChangeRegion(request) = &call
            && request.change_id == 0
            && let Some(Ok(PlacementAnswer::Ids { first_id, .. })) = self.take_ids(now, 1)
        {
            return PlacementCall::ChangeRegion(ChangeRequest { change_id: first_id, ..request.clone() });
        }
        call
    }

    fn on_report_refused(&mut self, now: Now, request_id: u64, error: Error) {
        self.reports.on_failed(now.monotonic, request_id);
        match error {
            Error::StoreRemoved(id) if id == self.record.id && !self.is_removed => {
                self.is_removed = true;
                self.effects.push(Effect::Removed);
            }
            Error::Busy { .. } | Error::Unavailable { .. } => {}
            Error::StoreRemoved(_)
            | Error::NotLeader { .. }
            | Error::Invalid(_)
            | Error::StoreNotFound(_)
            | Error::RegionNotFound(_)
            | Error::EpochNotMatch { .. }
            | Error::Changing { .. }
            | Error::OperationNotFound(_) => tracing::warn!(%error, "placement refuses this store's report"),
        }
    }

    /// A new address book, unless it is none or the same.
    fn take_stores(&mut self, stores: Vec<StoreRecord>) {
        let stores: BTreeMap<_, _> = stores.into_iter().map(|record| (record.id, record)).collect();
        if stores.is_empty() || stores == self.stores {
            return;
        }
        self.stores = stores;
        self.effects.push(Effect::Stores(self.stores.values().cloned().collect()));
    }

    /// Names somebody to ask for each region without a known leader.
    fn name_stand_ins(&self, mut answer: PlacementAnswer, locals: &dyn Locals) -> PlacementAnswer {
        for route in answer.routes_mut() {
            self.routes.name_stand_in(route, self.record.id, locals);
        }
        answer
    }

    /// What a call can be answered with while the host is silent.
    fn answer_from_memory(&self, call: &PlacementCall, locals: &dyn Locals) -> Option<PlacementAnswer> {
        self.recall(call, locals).map(|answer| self.name_stand_ins(answer, locals))
    }

    fn recall(&self, call: &PlacementCall, locals: &dyn Locals) -> Option<PlacementAnswer> {
        let picture =
            |record: &StoreRecord| StorePicture { record: record.clone(), ..StorePicture::default() };
        match call {
            PlacementCall::GetStore { store_id } => {
                self.stores.get(store_id).map(|record| PlacementAnswer::Store(Some(picture(record))))
            }
            PlacementCall::GetAllStores { is_without_removed } => {
                let is_wanted =
                    |record: &&StoreRecord| !is_without_removed || record.state != StoreState::Removed;
                let stores = self.stores.values().filter(is_wanted).map(picture).collect();
                Some(PlacementAnswer::Stores(stores))
            }
            PlacementCall::GetRegion { key } => {
                self.routes.find(key, locals).map(|route| PlacementAnswer::Region(Some(route)))
            }
            PlacementCall::GetPrevRegion { key } => {
                self.routes.find_previous(key, locals).map(PlacementAnswer::Region)
            }
            PlacementCall::GetRegionById { region_id } => {
                self.routes.find_by_id(*region_id, locals).map(|route| PlacementAnswer::Region(Some(route)))
            }
            PlacementCall::AwaitRegion { region_id, epoch } => self
                .routes
                .find_by_id(*region_id, locals)
                .filter(|route| route.is_as_awaited(*epoch))
                .map(|route| PlacementAnswer::Region(Some(route))),
            PlacementCall::ScanRegions { range, limit } => self
                .routes
                .scan(std::slice::from_ref(range), scan::limit_of(*limit), locals)
                .map(PlacementAnswer::Regions),
            PlacementCall::BatchScanRegions { ranges, limit } => {
                self.routes.scan(ranges, scan::limit_of(*limit), locals).map(PlacementAnswer::Regions)
            }
            PlacementCall::ClusterInfo
            | PlacementCall::Tso { .. }
            | PlacementCall::AllocateIds { .. }
            | PlacementCall::RegisterStore { .. }
            | PlacementCall::ChangeRegion(_)
            | PlacementCall::SplitRegion(_)
            | PlacementCall::ScatterRegions(_)
            | PlacementCall::SetStoreState { .. }
            | PlacementCall::ChangeSettings { .. }
            | PlacementCall::CancelOperation { .. }
            | PlacementCall::GetOperation { .. }
            | PlacementCall::ListOperations => None,
        }
    }
}

#[cfg(test)]
mod tests;
