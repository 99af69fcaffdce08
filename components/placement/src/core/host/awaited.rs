//! Regions that somebody waits for: whoever knows of a split before the directory does asks for its child too early, and is
//! answered by the report, not by a clock.

use actor::Now;
use types::{Epoch, Instant, RegionId};

use super::{Effect, serving::Serving, soft::Soft};
use crate::core::{
    api::{Error, PlacementAnswer, RegionRoute},
    limits::REGION_AWAITED_MAX,
    protocol::{Caller, Response},
};

/// A region that somebody waits for.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) caller: Caller,
    region_id: RegionId,
    epoch: Option<Epoch>,
    /// What is known then has to do.
    pub(super) until: Instant,
}

impl Serving {
    /// Somebody asks for a region, and waits for it where it is not what was hoped for.
    pub(super) fn await_region(
        &mut self,
        now: Now,
        caller: Caller,
        region_id: RegionId,
        epoch: Option<Epoch>,
    ) -> Result<(), Error> {
        // A call that is sent again goes on waiting.
        if self.awaited.iter().any(|awaited| awaited.caller == caller) {
            return Ok(());
        }
        super::calls::check_room(self.awaited.len())?;
        self.awaited.push(Awaited { caller, region_id, epoch, until: now.monotonic + REGION_AWAITED_MAX });
        Ok(())
    }

    /// Answers those whose region is known by now, and those whose time is over.
    pub(super) fn answer_awaited(&mut self, now: Now, soft: &Soft, effects: &mut Vec<Effect>) {
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|Awaited { caller, region_id, epoch, until }| {
            let region = self.directory.find_by_id(*region_id);
            let route = region.map(|region| soft.route(now, region));
            let is_here = route.as_ref().is_some_and(|route: &RegionRoute| route.is_as_awaited(*epoch));
            let is_over = is_here || *until <= now.monotonic;
            if is_over {
                let answer = Response::Answer(PlacementAnswer::Region(route));
                effects.push(Effect::Respond(*caller, answer));
            }
            !is_over
        });
        self.awaited = awaited;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::{Region, StoreId};

    use super::{
        super::tests::{begun, first, record, voter, with},
        *,
    };
    use crate::core::{api::PlacementCall, protocol::Request};

    fn wait_for(region_id: u64, version: Option<u64>) -> Request {
        let epoch = version.map(|version| Epoch { conf_version: 1, version });
        Request::Call(PlacementCall::AwaitRegion { region_id: RegionId(region_id), epoch })
    }

    fn found(response: Option<Response>) -> Option<(RegionId, u64, Option<StoreId>)> {
        let Some(Response::Answer(PlacementAnswer::Region(route))) = response else { panic!("{response:?}") };
        route.map(|RegionRoute { region, leader, .. }| {
            (region.id, region.epoch.version, leader.map(|leader| leader.store_id))
        })
    }

    #[test]
    fn a_child_is_told_with_the_report_that_brings_it() {
        let (mut bench, mut group) = begun();
        let store = record(1_000);
        bench.report(&mut group, &store, 1, &[first(2)]).unwrap();
        let left = with(&first(2), "", "m", 2);
        let right = Region { id: RegionId(77), peers: vec![voter(78, 1_000)], ..with(&first(2), "m", "", 2) };
        let child = bench.send(1, wait_for(77, None));
        let parent = bench.send(2, wait_for(2, Some(2)));
        let known = bench.send(3, wait_for(2, Some(1)));
        bench.settle(&mut group);
        let led_by = Some(StoreId(1_000));
        assert_eq!(found(bench.take(known)), Some((RegionId(2), 1, led_by)), "what is known is told at once");
        assert_eq!((bench.take(child), bench.take(parent)), (None, None));
        bench.report(&mut group, &store, 2, &[left, right]).unwrap();
        assert_eq!(found(bench.take(child)), Some((RegionId(77), 2, led_by)));
        assert_eq!(found(bench.take(parent)), Some((RegionId(2), 2, led_by)));
    }

    #[test]
    fn who_waits_in_vain_is_told_what_is_known() {
        let (mut bench, mut group) = begun();
        let unknown = bench.send(1, wait_for(77, None));
        let unled = bench.send(2, wait_for(2, None));
        bench.pass(REGION_AWAITED_MAX - Duration::from_millis(1), &mut group);
        assert_eq!((bench.take(unknown), bench.take(unled)), (None, None));
        assert!(bench.host.deadline() <= Some(bench.now.monotonic + Duration::from_millis(1)));
        bench.pass(Duration::from_millis(1), &mut group);
        assert_eq!(found(bench.take(unknown)), None);
        assert_eq!(found(bench.take(unled)), Some((RegionId(2), 1, None)));
        // Leadership is lost: whoever waits asks again.
        let caller = bench.send(1, wait_for(77, None));
        bench.settle(&mut group);
        bench.host.on_leader(bench.now, None, None);
        bench.settle(&mut group);
        assert!(matches!(bench.take(caller), Some(Response::Failed(Error::Busy { .. }))));
    }
}
