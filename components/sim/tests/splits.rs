//! One split after the other, each of the region that the last one has made or left: each is answered as soon as it is applied,
//! whichever store is asked. Nothing in between waits for a clock.

#![allow(clippy::print_stdout, reason = "what was measured is worth a line")]

use std::time::Duration;

use bytes::Bytes;
use placement::{PlacementAnswer, PlacementCall, SplitRequest};
use sim::{
    operator::Operator,
    world::{
        Alarm, AnswerBody, CallBody, HostId, Moment, Rng, Step, Trace, World,
        network::{Rates, Site},
    },
};
use types::{Region, RegionId};

const SPLIT_COUNT: usize = 300;

/// A split is answered within this, from the request: messages take up to 2 ms, and there are about six of them in a row.
const ANSWERED_WITHIN: Duration = Duration::from_millis(40);

const ASKER: Site = Site::Client(0);

struct Asker {
    world: World,
    operator: Operator,
    rng: Rng,
    answer: Option<AnswerBody>,
}

impl Asker {
    fn new(seed: u64) -> Asker {
        let config = store::Config { reserve_bytes: 1, ..store::Config::default() };
        let mut world = World::new(seed, 3, config, Trace::new(false));
        world.network().set_rates(Rates::GOOD);
        let mut asker =
            Asker { world, operator: Operator::new(seed, 1, 1), rng: Rng::new(seed, "asker"), answer: None };
        asker.operator.begin(&mut asker.world);
        asker.advance(Duration::from_secs(20), |asker| {
            let has_three = |region_id| {
                let leader = asker.world.leader_of(region_id).and_then(|(_, picture)| picture.region);
                leader.is_some_and(|region| {
                    region.configuration().voters.len() == 3 && !region.configuration().is_joint()
                })
            };
            asker.world.stores().len() == 3 && has_three(RegionId::PLACEMENT) && has_three(RegionId::FIRST)
        });
        asker.ask(PlacementCall::ChangeSettings { is_balancing: Some(false) });
        asker
    }

    fn advance(&mut self, longest: Duration, is_reached: impl Fn(&Asker) -> bool) {
        let end = self.world.now() + longest;
        while !is_reached(self) {
            match self.world.step(end).expect("it is reached in time") {
                Step::Answer(answered) if answered.to == ASKER => self.answer = Some(answered.body),
                Step::Answer(answered) => {
                    self.operator.on_answer(&mut self.world, *answered).expect("the operator is content");
                }
                Step::Alarm(Alarm::Operator(number)) => self.operator.on_alarm(&mut self.world, number),
                Step::GaveUp(host, reason) => panic!("host {} gave up: {reason}", host.0),
                Step::Host(_) | Step::Still(_) | Step::Started(_) | Step::Alarm(_) => {}
            }
        }
    }

    /// Asks some store, and waits for its answer.
    fn ask(&mut self, call: PlacementCall) -> PlacementAnswer {
        let host = HostId(self.rng.place(3));
        self.world.call(ASKER, host, CallBody::Placement(call));
        self.advance(Duration::from_secs(10), |asker| asker.answer.is_some());
        match self.answer.take() {
            Some(AnswerBody::Placement(Ok(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Splits a region; the parts, and how long it took.
    fn split(&mut self, region_id: RegionId, at: Bytes) -> (Vec<Region>, Duration) {
        let asked: Moment = self.world.now();
        let answer = self.ask(PlacementCall::SplitRegion(SplitRequest::new(region_id, vec![at])));
        let PlacementAnswer::Split { regions, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(regions.len(), 2);
        (regions, self.world.now().since(asked))
    }
}

fn check(mut took: Vec<Duration>) {
    let slow = took.iter().filter(|took| **took > ANSWERED_WITHIN).count();
    took.sort_unstable();
    println!("{:?} (median), {:?} (longest), {slow} slow", took[took.len() / 2], took[took.len() - 1]);
    assert_eq!(slow, 0, "{took:?}");
}

#[test]
fn a_region_that_is_split_again_and_again_is_split_at_once() {
    let mut asker = Asker::new(3);
    let took = (0..SPLIT_COUNT).rev().map(|at| {
        let (_, took) = asker.split(RegionId::FIRST, Bytes::from(format!("k{at:04}")));
        took
    });
    check(took.collect());
}

#[test]
fn a_region_that_a_split_has_made_is_split_at_once() {
    let mut asker = Asker::new(4);
    let mut last = RegionId::FIRST;
    let took = (0..SPLIT_COUNT).map(|at| {
        let (regions, took) = asker.split(last, Bytes::from(format!("k{at:04}")));
        last = regions[1].id;
        took
    });
    check(took.collect());
}
