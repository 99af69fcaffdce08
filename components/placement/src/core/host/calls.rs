//! Requests, as they come: what the rows answer is answered at once, the rest waits for a transaction or for proof.

use actor::Now;
use types::{KeyRange, StoreId};

use super::{Effect, serving::Serving, soft::Soft};
use crate::core::{
    api::{Error, PlacementAnswer, PlacementCall, RegionRoute},
    limits::{HOST_WAITING_MAX, IDS_PER_CALL_MAX, SCAN_PAGE_REGIONS, TSO_BATCH_MAX},
    protocol::{Caller, Request, Response},
    record::{StorePicture, StoreState},
};

/// What a call comes to.
enum Reply {
    /// It is answered.
    Now(Box<Response>),
    /// It waits.
    Later,
}

impl Serving {
    pub(super) fn on_request(
        &mut self,
        now: Now,
        caller: Caller,
        request: Request,
        soft: &mut Soft,
        effects: &mut Vec<Effect>,
    ) {
        let reply = match request {
            Request::Call(call) => self.on_call(now, caller, call, soft),
            Request::Report(report) => self
                .on_report(now, caller.store_id, *report, soft)
                .map(|answer| Reply::Now(Box::new(Response::Report(Box::new(answer))))),
            Request::Split(_) => Err(of_agent()),
        };
        match reply {
            Ok(Reply::Now(response)) => effects.push(Effect::Respond(caller, *response)),
            Ok(Reply::Later) => {}
            Err(error) => effects.push(Effect::Respond(caller, Response::Failed(error))),
        }
    }

    fn on_call(
        &mut self,
        now: Now,
        caller: Caller,
        call: PlacementCall,
        soft: &Soft,
    ) -> Result<Reply, Error> {
        let answer = match call {
            PlacementCall::Tso { count } => return self.wait_for_timestamps(caller, count),
            PlacementCall::AllocateIds { count } => return self.wait_for_ids(caller, count),
            PlacementCall::RegisterStore { record } => {
                check_room(self.waiting.registrations.len())?;
                self.waiting.registrations.push_back((Some(caller), record));
                return Ok(Reply::Later);
            }
            PlacementCall::ChangeRegion(request) => {
                check_room(self.waiting.changes.len())?;
                self.waiting.changes.push_back((caller, request));
                return Ok(Reply::Later);
            }
            PlacementCall::ScatterRegions(request) => {
                check_room(self.scatters.waiting_count())?;
                self.scatters.add(now, caller, request)?;
                self.timers.schedule_soon(now);
                return Ok(Reply::Later);
            }
            PlacementCall::SetStoreState { store_id, state } => {
                check_room(self.waiting.states.len())?;
                self.waiting.states.push_back((caller, store_id, state));
                return Ok(Reply::Later);
            }
            PlacementCall::ChangeSettings { is_balancing } => {
                check_room(self.waiting.settings.len())?;
                self.waiting.settings.push_back((caller, is_balancing));
                return Ok(Reply::Later);
            }
            PlacementCall::CancelOperation { operation_id } => {
                check_room(self.waiting.cancels.len())?;
                self.waiting.cancels.push_back((caller, operation_id));
                return Ok(Reply::Later);
            }
            PlacementCall::AwaitRegion { region_id, epoch } => {
                self.await_region(now, caller, region_id, epoch)?;
                return Ok(Reply::Later);
            }
            PlacementCall::GetPrevRegion { key } => {
                return Ok(Reply::Now(Box::new(Response::Previous {
                    previous: self.directory.find_previous(&key).map(|region| soft.route(now, region)),
                    current: Box::new(soft.route(now, self.directory.find(&key))),
                })));
            }
            PlacementCall::ClusterInfo
            | PlacementCall::BatchScanRegions { .. }
            | PlacementCall::SplitRegion(_) => return Err(of_agent()),
            PlacementCall::GetRegion { key } => {
                PlacementAnswer::Region(Some(soft.route(now, self.directory.find(&key))))
            }
            PlacementCall::GetRegionById { region_id } => PlacementAnswer::Region(
                self.directory.find_by_id(region_id).map(|region| soft.route(now, region)),
            ),
            PlacementCall::ScanRegions { range, limit } => {
                PlacementAnswer::Regions(self.scan(now, &range, limit, soft))
            }
            PlacementCall::GetStore { store_id } => PlacementAnswer::Store(self.store(now, store_id, soft)),
            PlacementCall::GetAllStores { is_without_removed } => {
                PlacementAnswer::Stores(self.stores(now, is_without_removed, soft))
            }
            PlacementCall::GetOperation { region_id } => {
                PlacementAnswer::Operation(self.operation_of(now, region_id, soft))
            }
            PlacementCall::ListOperations => PlacementAnswer::Operations(self.all_operations(now, soft)),
        };
        Ok(Reply::Now(Box::new(Response::Answer(answer))))
    }

    fn wait_for_timestamps(&mut self, caller: Caller, count: u32) -> Result<Reply, Error> {
        check_count(u64::from(count), u64::from(TSO_BATCH_MAX), "timestamps")?;
        check_room(self.timestamps.waiting.len())?;
        self.timestamps.waiting.push((caller, count));
        self.timestamps.is_used = true;
        Ok(Reply::Later)
    }

    fn wait_for_ids(&mut self, caller: Caller, count: u64) -> Result<Reply, Error> {
        check_count(count, IDS_PER_CALL_MAX, "ids")?;
        check_room(self.waiting.ids.len())?;
        self.waiting.ids.push_back((caller, count));
        Ok(Reply::Later)
    }

    fn scan(&self, now: Now, range: &KeyRange, limit: u32, soft: &Soft) -> Vec<RegionRoute> {
        let limit = if limit == 0 { SCAN_PAGE_REGIONS } else { limit.min(SCAN_PAGE_REGIONS) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.directory.scan(range).take(limit).map(|region| soft.route(now, region)).collect()
    }

    fn store(&self, now: Now, store_id: StoreId, soft: &Soft) -> Option<StorePicture> {
        self.registry.find(store_id).map(|record| soft.store_picture(now, record))
    }

    fn stores(&self, now: Now, is_without_removed: bool, soft: &Soft) -> Vec<StorePicture> {
        self.registry
            .records()
            .filter(|record| !is_without_removed || record.state != StoreState::Removed)
            .map(|record| soft.store_picture(now, record))
            .collect()
    }
}

fn of_agent() -> Error {
    Error::Invalid("every store answers this call itself".to_owned())
}

fn check_count(count: u64, count_max: u64, what: &str) -> Result<(), Error> {
    if (1..=count_max).contains(&count) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{count} {what} cannot be given at once: ask for 1 to {count_max}")))
}

pub(super) fn check_room(waiting_count: usize) -> Result<(), Error> {
    if waiting_count < HOST_WAITING_MAX {
        return Ok(());
    }
    Err(Error::Busy { reason: format!("{waiting_count} requests wait at the placement leader") })
}
