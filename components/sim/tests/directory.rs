//! A thousand splits, leaders killed all the while, and stores asked without pause where keys are: every answer holds the
//! key and names somebody to ask, no scan has a hole, and a split is visible soon after it was applied, also on a store that
//! has no part of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use placement::{PlacementAnswer, PlacementCall, RegionRoute};
use sim::{
    operator::Operator,
    world::{
        Alarm, AnswerBody, Answered, CallBody, CallId, HostId, Moment, Rng, Step, Trace, World,
        network::{Rates, Site},
    },
};
use store::AdminAction;
use types::{KeyRange, PeerId, PeerRole, RegionId, Split, SplitChild};

const SPLIT_COUNT: usize = 1_000;

/// Leaders killed meanwhile, at least.
const KILL_COUNT: u64 = 10;

/// Splits under way at a time.
const AT_ONCE: usize = 6;

/// Keys are numbers below this, as hexadecimal digits.
const KEYS: u64 = 1 << 32;

/// A split is visible within this, for 99 of 100 of those that a placement leader in office hears of.
const VISIBLE_P99: Duration = Duration::from_millis(100);

/// A new placement leader knows everything within this.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

const ASKER: Site = Site::Client(0);

/// What the asker is reminded of.
mod reminder {
    pub(super) const PROBE: u64 = 1;
    pub(super) const SPLIT: u64 = 2;
    pub(super) const KILL: u64 = 3;
}

enum Question {
    /// Ids for all splits.
    Ids,
    /// No balancing: it would move regions, which is another test's subject.
    Settings,
    Split(usize),
    /// Is this split visible on a store that has no part of it?
    Look(usize),
    Key(Bytes),
    Scan(KeyRange, usize),
}

/// A region as this test has made it.
#[derive(Clone)]
struct Part {
    id: RegionId,
    first: u64,
    end: u64,
    is_splitting: bool,
}

struct OneSplit {
    parent: RegionId,
    at: u64,
    split: Split,
    applied_at: Option<Moment>,
    is_done: bool,
    is_asked: bool,
    visible_at: Option<Moment>,
    /// Placement had no leader at some time between, or one that did not know everything yet.
    is_unheard: bool,
}

struct Asker {
    world: World,
    operator: Operator,
    rng: Rng,
    next_id: u64,
    parts: Vec<Part>,
    splits: Vec<OneSplit>,
    open: BTreeMap<CallId, Question>,
    /// Since when placement has had a leader that goes on.
    led_since: Option<Moment>,
    killed_leaders: u64,
    /// Regions in answers that nobody was known to lead.
    unled_count: u64,
    answers: u64,
    errors: Vec<String>,
}

fn key(number: u64) -> Bytes {
    if number == 0 { Bytes::new() } else { Bytes::from(format!("{number:08x}")) }
}

fn end_key(number: u64) -> Bytes {
    if number == KEYS { Bytes::new() } else { key(number) }
}

#[test]
fn a_thousand_splits_leave_no_hole_and_are_soon_visible() {
    let mut asker = Asker::new(7);
    asker.found();
    asker.run();
    let took = |is_unheard: bool| {
        let of_kind = asker.splits.iter().filter(move |split| split.is_unheard == is_unheard);
        let mut took: Vec<_> = of_kind
            .map(|split| {
                let applied = split.applied_at.expect("every split was applied");
                split.visible_at.expect("every split became visible").since(applied)
            })
            .collect();
        took.sort_unstable();
        took
    };
    let (heard, unheard) = (took(false), took(true));
    assert!(heard.len() > SPLIT_COUNT / 4, "{} of {}", heard.len(), asker.world.now());
    let p99 = heard[heard.len() * 99 / 100];
    println!(
        "{} splits in {} s, {} leaders killed, {} answers, {} regions in them unled; visible after {:?} (median), {p99:?} (p99), {:?} (longest); \
         {} without a placement leader: {:?} (longest)",
        asker.splits.len(),
        asker.world.now(),
        asker.killed_leaders,
        asker.answers,
        asker.unled_count,
        heard[heard.len() / 2],
        heard[heard.len() - 1],
        unheard.len(),
        unheard.last()
    );
    assert_eq!(asker.splits.len(), SPLIT_COUNT);
    assert_eq!(asker.errors, Vec::<String>::new());
    assert!(asker.answers > 10_000, "{}", asker.answers);
    assert!(asker.unled_count > 100, "{}", asker.unled_count);
    assert!(p99 <= VISIBLE_P99, "{p99:?}");
    assert!(unheard.last().is_none_or(|longest| *longest < Duration::from_secs(4)), "{unheard:?}");
}

impl Asker {
    fn new(seed: u64) -> Asker {
        let config = store::Config { reserve_bytes: 1, ..store::Config::default() };
        let mut world = World::new(seed, 4, config, Trace::new(false));
        world.network().set_rates(Rates::GOOD);
        Asker {
            world,
            operator: Operator::new(seed, 1, 1),
            rng: Rng::new(seed, "asker"),
            next_id: 0,
            parts: vec![Part { id: RegionId::FIRST, first: 0, end: KEYS, is_splitting: false }],
            splits: Vec::new(),
            open: BTreeMap::new(),
            led_since: None,
            killed_leaders: 0,
            unled_count: 0,
            answers: 0,
            errors: Vec::new(),
        }
    }

    /// Four stores, three voters of each group, and ids for everything.
    fn found(&mut self) {
        self.operator.begin(&mut self.world);
        self.advance(Duration::from_secs(20), |asker| {
            let has_three = |region_id| {
                let leader = asker.world.leader_of(region_id).and_then(|(_, picture)| picture.region);
                leader.is_some_and(|region| {
                    region.configuration().voters.len() == 3 && !region.configuration().is_joint()
                })
            };
            asker.world.stores().len() == 4 && has_three(RegionId::PLACEMENT) && has_three(RegionId::FIRST)
        });
        self.ask(HostId(0), PlacementCall::ChangeSettings { is_balancing: Some(false) }, Question::Settings);
        self.ask(HostId(0), PlacementCall::AllocateIds { count: 10_000 }, Question::Ids);
        self.advance(Duration::from_secs(5), |asker| asker.next_id > 0 && asker.open.is_empty());
        self.led_since = Some(self.world.now());
    }

    fn run(&mut self) {
        for (number, wait) in [(reminder::PROBE, 1), (reminder::SPLIT, 2), (reminder::KILL, 500)] {
            self.remind(number, Duration::from_millis(wait));
        }
        self.advance(Duration::from_secs(200), |asker| {
            asker.killed_leaders >= KILL_COUNT
                && asker.splits.len() == SPLIT_COUNT
                && asker.splits.iter().all(|split| split.visible_at.is_some())
        });
    }

    fn remind(&mut self, number: u64, wait: Duration) {
        self.world.alarm(self.world.now() + wait, Alarm::Client(0, number));
    }

    fn ask(&mut self, host: HostId, call: PlacementCall, question: Question) {
        let call = self.world.call(ASKER, host, CallBody::Placement(call));
        self.open.insert(call, question);
    }

    fn advance(&mut self, longest: Duration, is_reached: impl Fn(&Asker) -> bool) {
        let end = self.world.now() + longest;
        let mut next_look = 0;
        for step_count in 0_u64.. {
            if step_count >= next_look {
                if is_reached(self) {
                    return;
                }
                next_look = step_count + 64;
            }
            let step = self.world.step(end).expect("it is reached in time");
            match step {
                Step::Host(host) => self.note_applied(host),
                Step::Answer(answered) if answered.to == ASKER => self.on_answer(*answered),
                Step::Answer(answered) => {
                    self.operator.on_answer(&mut self.world, *answered).expect("the operator is content");
                }
                Step::Alarm(Alarm::Operator(number)) => self.operator.on_alarm(&mut self.world, number),
                Step::Alarm(Alarm::Client(_, reminder::PROBE)) => self.probe(),
                Step::Alarm(Alarm::Client(_, reminder::SPLIT)) => self.split(),
                Step::Alarm(Alarm::Client(..)) => self.kill(),
                Step::GaveUp(host, reason) => panic!("host {} gave up: {reason}", host.0),
                Step::Still(_) | Step::Started(_) | Step::Alarm(Alarm::Fault(_)) => {}
            }
        }
    }

    /// The first store that has a child has applied the split.
    fn note_applied(&mut self, host: HostId) {
        let Some(store) = self.world.store(host) else { return };
        let now = self.world.now();
        let is_led = self.led_since.is_some_and(|since| now.since(since) >= SETTLED_AFTER);
        let asked = self.splits.iter_mut().filter(|split| !split.is_done && split.applied_at.is_none());
        for split in asked {
            let child = split.split.children[0].region_id;
            if store.region(child).is_some_and(|picture| picture.region.is_some()) {
                split.applied_at = Some(now);
                split.is_unheard = !is_led;
            }
        }
    }

    /// Placement is led by a process that runs, or it is not.
    fn note_placement(&mut self) {
        let leader = self.world.leader_of(RegionId::PLACEMENT);
        let is_led = leader.is_some_and(|(host, _)| self.world.is_awake(host));
        if !is_led {
            self.led_since = None;
            let waiting = |split: &&mut OneSplit| split.applied_at.is_some() && split.visible_at.is_none();
            self.splits.iter_mut().filter(waiting).for_each(|split| split.is_unheard = true);
        } else if self.led_since.is_none() {
            self.led_since = Some(self.world.now());
        }
    }

    /// Asks some store where some key is, or which regions hold a range.
    fn probe(&mut self) {
        self.remind(reminder::PROBE, Duration::from_millis(1));
        let host = HostId(self.rng.place(4));
        let part = self.parts[self.rng.place(self.parts.len())].clone();
        match self.rng.below(10) {
            0..3 => {
                let number = self.rng.below(KEYS);
                self.look_up(host, number);
            }
            // Both sides of a boundary.
            3..6 => {
                self.look_up(host, part.first);
                self.look_up(host, part.first.saturating_sub(1));
            }
            _ => {
                let start_key = key(part.first);
                let end = if self.rng.happens(300) { KEYS } else { part.end + self.rng.below(KEYS >> 4) };
                let range = KeyRange { start_key, end_key: end_key(end.min(KEYS)) };
                let limit = self.rng.place(80);
                let call = PlacementCall::ScanRegions {
                    range: range.clone(),
                    limit: u32::try_from(limit).unwrap_or(0),
                };
                self.ask(host, call, Question::Scan(range, limit));
            }
        }
    }

    fn look_up(&mut self, host: HostId, number: u64) {
        let key = key(number);
        self.ask(host, PlacementCall::GetRegion { key: key.clone() }, Question::Key(key));
    }

    /// Goes on with splits: begins some, repeats those whose fate is not known, looks whether they are visible.
    fn split(&mut self) {
        self.remind(reminder::SPLIT, Duration::from_millis(2));
        self.note_placement();
        let under_way = self.splits.iter().filter(|split| !split.is_done).count();
        if under_way < AT_ONCE && self.splits.len() < SPLIT_COUNT && self.rng.happens(150) {
            self.begin_split();
        }
        for at in 0..self.splits.len() {
            if !self.splits[at].is_done && !self.splits[at].is_asked {
                self.send_split(at);
            }
            if self.splits[at].applied_at.is_some() && self.splits[at].visible_at.is_none() {
                self.look_for(at);
            }
        }
    }

    fn begin_split(&mut self) {
        let at = self.rng.place(self.parts.len());
        let Part { id, first, end, is_splitting } = self.parts[at].clone();
        if is_splitting || end - first < 2 {
            return;
        }
        let Some((_, picture)) = self.world.leader_of(id) else { return };
        let Some(region) = picture.region else { return };
        let mut id = || {
            self.next_id += 1;
            self.next_id - 1
        };
        let number = first + 1 + self.rng.below(end - first - 1);
        let change_id = id();
        let child = SplitChild {
            start_key: key(number),
            region_id: RegionId(id()),
            peer_ids: region.peers.iter().map(|_| PeerId(id())).collect(),
        };
        let split = Split {
            change_id,
            epoch: region.epoch,
            leader_stores: vec![picture.peer.store_id],
            children: vec![child],
        };
        self.parts[at].is_splitting = true;
        self.splits.push(OneSplit {
            parent: region.id,
            at: number,
            split,
            applied_at: None,
            is_done: false,
            is_asked: false,
            visible_at: None,
            is_unheard: false,
        });
    }

    fn send_split(&mut self, at: usize) {
        let split = &mut self.splits[at];
        let Some((leader, _)) = self.world.leader_of(split.parent) else { return };
        split.is_asked = true;
        let body = CallBody::Admin(split.parent, None, AdminAction::Split(split.split.clone()));
        let call = self.world.call(ASKER, leader, body);
        self.open.insert(call, Question::Split(at));
    }

    /// Asks a store that has no part of the split, and so knows nothing of it but what placement says.
    fn look_for(&mut self, at: usize) {
        let split = &self.splits[at];
        let has_no_part =
            |host: &HostId| self.world.store(*host).is_some_and(|store| store.region(split.parent).is_none());
        let Some(host) = self.world.hosts().find(has_no_part) else { return };
        let call = PlacementCall::GetRegion { key: key(split.at) };
        self.ask(host, call, Question::Look(at));
    }

    /// Kills who leads placement, or some region; one at a time.
    fn kill(&mut self) {
        let wait = self.rng.duration(Duration::from_millis(800), Duration::from_millis(2_500));
        self.remind(reminder::KILL, wait);
        if self.world.hosts().any(|host| !self.world.is_awake(host)) {
            return;
        }
        let part = self.parts[self.rng.place(self.parts.len())].id;
        let region_id = if self.rng.happens(300) { RegionId::PLACEMENT } else { part };
        let Some((leader, _)) = self.world.leader_of(region_id) else { return };
        self.killed_leaders += 1;
        let down = self.rng.duration(Duration::from_millis(50), Duration::from_millis(700));
        self.world.crash(leader, down);
        self.note_placement();
    }

    fn on_answer(&mut self, answered: Answered) {
        let Some(question) = self.open.remove(&answered.id) else { return };
        let now = self.world.now();
        match (question, answered.body) {
            (Question::Ids, AnswerBody::Placement(Ok(PlacementAnswer::Ids { first_id, .. }))) => {
                self.next_id = first_id;
            }
            (Question::Split(at), body) => self.on_split(at, &body),
            (Question::Look(at), AnswerBody::Placement(Ok(PlacementAnswer::Region(Some(route))))) => {
                let split = &mut self.splits[at];
                if route.region.id == split.split.children[0].region_id {
                    split.visible_at.get_or_insert(now);
                }
            }
            (Question::Key(key), AnswerBody::Placement(Ok(PlacementAnswer::Region(found)))) => {
                self.answers += 1;
                let holds = |route: &RegionRoute| route.region.range.contains_key(&key);
                if !found.as_ref().is_some_and(holds) {
                    self.errors.push(format!("{key:?} is not in {found:?}"));
                }
                self.check_named(found.as_slice());
            }
            (Question::Scan(range, limit), AnswerBody::Placement(Ok(PlacementAnswer::Regions(found)))) => {
                self.answers += 1;
                if let Err(text) = check_scan(&range, limit, &found) {
                    self.errors.push(format!("{range:?} up to {limit}: {text}: {found:?}"));
                }
                self.check_named(&found);
            }
            (Question::Key(_) | Question::Scan(..) | Question::Look(_), AnswerBody::Placement(answer)) => {
                self.errors.push(format!("{answer:?}"));
            }
            // The store was killed, or is.
            (_, AnswerBody::Refused | AnswerBody::Broken) | (Question::Settings, _) => {}
            (Question::Ids | Question::Look(_) | Question::Key(_) | Question::Scan(..), body) => {
                panic!("{body:?} is no answer to this")
            }
        }
    }

    /// Every region has a voter to ask, also while nobody leads it.
    fn check_named(&mut self, found: &[RegionRoute]) {
        for route in found {
            let named = route.leader_or_stand_in().and_then(|peer| route.region.find_peer(peer.id));
            if named.is_none_or(|peer| peer.role == PeerRole::Learner) {
                self.errors.push(format!("{route:?} names nobody to ask"));
            }
            self.unled_count += u64::from(route.leader.is_none());
        }
    }

    fn on_split(&mut self, at: usize, body: &AnswerBody) {
        let split = &mut self.splits[at];
        let is_stale = matches!(body, AnswerBody::Admin(Err(store::Error::EpochNotMatch { .. })));
        if *body != AnswerBody::Admin(Ok(())) && !(is_stale && split.applied_at.is_some()) {
            split.is_asked = false;
            return;
        }
        split.is_done = true;
        let (parent, number, child) = (split.parent, split.at, split.split.children[0].region_id);
        let place = self.parts.iter().position(|part| part.id == parent).expect("it was split");
        let end = self.parts[place].end;
        self.parts[place].end = number;
        self.parts[place].is_splitting = false;
        self.parts.push(Part { id: child, first: number, end, is_splitting: false });
    }
}

/// No hole, nothing twice, and everything that was asked for.
fn check_scan(range: &KeyRange, limit: usize, found: &[RegionRoute]) -> Result<(), &'static str> {
    let first = found.first().ok_or("no region")?;
    if !first.region.range.contains_key(&range.start_key) {
        return Err("the first key is in none");
    }
    if found.windows(2).any(|pair| pair[0].region.range.end_key != pair[1].region.range.start_key) {
        return Err("there is a hole or an overlap");
    }
    let last_key = &found[found.len() - 1].region.range.end_key;
    let is_whole = last_key.is_empty() || (!range.end_key.is_empty() && *last_key >= range.end_key);
    let is_full = limit > 0 && found.len() >= limit;
    if is_whole || is_full || (limit == 0 && found.len() >= 100) { Ok(()) } else { Err("it ends too early") }
}
