//! Splits, as an operator asks for them: of any region, at one key or several; the same again, while it is under way or
//! after it; and such as must be refused, because they are stale or make no sense.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use placement::{PlacementAnswer, PlacementCall};
use store::AdminAction;
use types::{Epoch, PeerId, Region, RegionId, Split, SplitChild};

use crate::{
    checks::Violation,
    clients::key,
    world::{Alarm, AnswerBody, CallBody, CallId, HostId, Moment, Rng, World, network::Site},
};

/// A cluster has no more regions with keys than this.
pub(crate) const REGIONS_MAX: usize = 200;

/// Children of one split.
const CHILDREN_MAX: u64 = 4;

/// Children of one split while a run begins with a quick division into many regions.
const CHILDREN_AT_ONCE_MAX: usize = 24;

/// How often it is looked at whether that division is done.
const DIVISION_INTERVAL: Duration = Duration::from_millis(50);

/// Splits of that division under way at once ...
const DIVISIONS_RUNNING_MAX: usize = 4;

/// ... unless nothing has been asked for so long: what is still open then was lost.
const DIVISION_LOST_AFTER: Duration = Duration::from_millis(500);

/// Peers of a region for which ids are taken: whoever has more is not divided.
const PEERS_MAX: usize = 7;

/// Everything about splits.
pub(super) struct Splits {
    rng: Rng,
    key_count: u64,
    /// How many regions the run is to begin with, until it has them.
    wanted: usize,
    /// When a split was asked for last for their sake.
    divided_at: Moment,
    allocating: BTreeMap<CallId, usize>,
    calls: BTreeMap<CallId, usize>,
    /// Every split that was ever asked for.
    asked: Vec<Asked>,
    /// Ids that placement has given, by the first of each block, with the one behind the last.
    given: BTreeMap<u64, u64>,
    pub(super) split_count: u64,
    pub(super) repeat_count: u64,
}

/// A split that was asked for, once or more often.
struct Asked {
    region_id: RegionId,
    split: Split,
    /// Why it cannot be.
    is_impossible: bool,
    call_count: usize,
    /// Answers that say that it is not done, by whoever would know.
    refusal_count: usize,
    is_done: bool,
}

impl Splits {
    pub(super) fn new(seed: u64, key_count: u64, wanted: usize) -> Splits {
        Splits {
            rng: Rng::new(seed, "splits"),
            key_count,
            wanted,
            divided_at: Moment::ZERO,
            allocating: BTreeMap::new(),
            calls: BTreeMap::new(),
            asked: Vec::new(),
            given: BTreeMap::new(),
            split_count: 0,
            repeat_count: 0,
        }
    }

    /// The division with which the run begins goes on, if it is not done.
    pub(super) fn divide(&mut self, world: &mut World, alarm: u64) {
        let regions = world.client_regions();
        if regions.len() >= self.wanted {
            return;
        }
        // Mostly when the regions have all their peers; else each region gets its own later.
        let is_grown = regions.iter().any(|region_id| {
            let leader = world.leader_of(*region_id).and_then(|(_, picture)| picture.region);
            leader.is_some_and(|region| region.peers.len() >= 3)
        });
        let has_room = self.allocating.len() + self.calls.len() < DIVISIONS_RUNNING_MAX
            || world.now().since(self.divided_at) >= DIVISION_LOST_AFTER;
        if (is_grown || self.rng.happens(10)) && has_room {
            self.divided_at = world.now();
            let count = (self.wanted - regions.len()).min(CHILDREN_AT_ONCE_MAX);
            self.allocate(world, count);
        }
        world.alarm(world.now() + DIVISION_INTERVAL, Alarm::Operator(alarm));
    }

    /// The run does not wait for its regions any longer.
    pub(super) fn end_division(&mut self) {
        self.wanted = 0;
    }

    /// Asks for a split of some region, or for one that was asked for before.
    pub(super) fn act(&mut self, world: &mut World) {
        let known = (!self.asked.is_empty()).then(|| self.rng.place(self.asked.len()));
        match (self.rng.below(100), known) {
            (0..25, Some(at)) => self.repeat(world, at),
            (25..35, Some(at)) => self.ask_stale(world, at),
            _ => {
                let children_count = 1 + self.rng.place(usize::try_from(CHILDREN_MAX).unwrap_or(1));
                self.allocate(world, children_count);
            }
        }
    }

    fn allocate(&mut self, world: &mut World, children_count: usize) {
        let hosts: Vec<_> = world.hosts().collect();
        let count = 1 + (children_count * (1 + PEERS_MAX)) as u64;
        let body = CallBody::Placement(PlacementCall::AllocateIds { count });
        let call = world.call(Site::Operator, self.rng.pick(&hosts), body);
        self.allocating.insert(call, children_count);
    }

    /// The same again, of whoever leads the region now.
    fn repeat(&mut self, world: &mut World, at: usize) {
        if let Some((leader, _)) = world.leader_of(self.asked[at].region_id) {
            self.repeat_count += 1;
            self.send(world, leader, at);
        }
    }

    /// A split that was done, under another name: whoever asks has not heard of it.
    fn ask_stale(&mut self, world: &mut World, at: usize) {
        let done = &self.asked[at];
        if !done.is_done {
            return;
        }
        let Some((leader, _)) = world.leader_of(done.region_id) else { return };
        let split = Split { change_id: self.rng.draw(), ..done.split.clone() };
        let region_id = done.region_id;
        let at = self.add(region_id, split, true);
        self.send(world, leader, at);
    }

    fn add(&mut self, region_id: RegionId, split: Split, is_impossible: bool) -> usize {
        let (call_count, refusal_count, is_done) = (0, 0, false);
        self.asked.push(Asked { region_id, split, is_impossible, call_count, refusal_count, is_done });
        self.asked.len() - 1
    }

    fn send(&mut self, world: &mut World, to: HostId, at: usize) {
        let asked = &mut self.asked[at];
        asked.call_count += 1;
        let epoch = self.rng.happens(500).then_some(asked.split.epoch);
        let body = CallBody::Admin(asked.region_id, epoch, AdminAction::Split(asked.split.clone()));
        let call = world.call(Site::Operator, to, body);
        self.calls.insert(call, at);
    }

    /// An answer has come; `true`: it was one of these.
    pub(super) fn on_answer(
        &mut self,
        world: &mut World,
        call: CallId,
        body: &AnswerBody,
    ) -> Result<bool, Violation> {
        if let Some(children_count) = self.allocating.remove(&call) {
            if let AnswerBody::Placement(Ok(PlacementAnswer::Ids { first_id, count })) = body {
                self.note_given(*first_id, first_id + count)?;
                self.ask(world, *first_id, children_count);
            }
            return Ok(true);
        }
        let Some(at) = self.calls.remove(&call) else { return Ok(false) };
        self.judge(at, body)?;
        Ok(true)
    }

    /// Nothing else has these ids, or had them.
    fn note_given(&mut self, first: u64, end: u64) -> Result<(), Violation> {
        let before = self.given.range(..end).next_back();
        if let Some((_, known_end)) = before
            && *known_end > first
        {
            let text = format!("ids from {first} to {end} were given twice");
            return Err(Violation::Misinformed(text));
        }
        self.given.insert(first, end);
        Ok(())
    }

    fn judge(&mut self, at: usize, body: &AnswerBody) -> Result<(), Violation> {
        let asked = &mut self.asked[at];
        match body {
            AnswerBody::Admin(Ok(())) if asked.is_impossible => {
                let text = format!("{:?} of region {} cannot be done", asked.split, asked.region_id);
                return Err(Violation::Misinformed(text));
            }
            AnswerBody::Admin(Ok(())) => {
                self.split_count += u64::from(!asked.is_done);
                asked.is_done = true;
            }
            AnswerBody::Admin(Err(error)) if !error.is_undetermined() => asked.refusal_count += 1,
            AnswerBody::Refused => asked.refusal_count += 1,
            AnswerBody::Admin(Err(_))
            | AnswerBody::Broken
            | AnswerBody::Written(_)
            | AnswerBody::Read(_)
            | AnswerBody::Placement(_) => {}
        }
        Ok(())
    }

    /// The ids are there: some region is divided.
    fn ask(&mut self, world: &mut World, first_id: u64, children_count: usize) {
        let regions = world.client_regions();
        if regions.is_empty() || regions.len() + children_count > REGIONS_MAX {
            return;
        }
        let region_id = self.rng.pick(&regions);
        let Some((leader, picture)) = world.leader_of(region_id) else { return };
        let Some(region) = picture.region.filter(|region| region.peers.len() <= PEERS_MAX) else { return };
        let is_impossible = self.rng.happens(60);
        let keys = if is_impossible { self.bad_keys(&region) } else { self.keys_in(&region, children_count) };
        if keys.is_empty() {
            return;
        }
        let mut split = self.make(&region, picture.peer.store_id, first_id, keys);
        let is_stale = self.rng.happens(40);
        if is_stale {
            split.epoch = Epoch { version: split.epoch.version - 1, ..split.epoch };
        }
        let at = self.add(region_id, split, is_impossible || is_stale);
        self.send(world, leader, at);
        if self.rng.happens(150) {
            self.send(world, leader, at);
        }
    }

    fn make(
        &mut self,
        region: &Region,
        leader_store: types::StoreId,
        first_id: u64,
        keys: Vec<Bytes>,
    ) -> Split {
        let mut next_id = first_id;
        let mut id = || {
            next_id += 1;
            next_id - 1
        };
        let change_id = id();
        let children = keys.into_iter().map(|start_key| SplitChild {
            start_key,
            region_id: RegionId(id()),
            peer_ids: region.peers.iter().map(|_| PeerId(id())).collect(),
        });
        let children = children.collect();
        // Usually the leader's store; any other may be named as well, or several that take turns.
        let mut leader_stores: Vec<_> = region.peers.iter().map(|peer| peer.store_id).collect();
        if self.rng.happens(750) {
            leader_stores = vec![leader_store];
        } else if self.rng.happens(500) {
            leader_stores = vec![self.rng.pick(&leader_stores)];
        }
        Split { change_id, epoch: region.epoch, leader_stores, children }
    }

    /// Up to so many keys at which the region can be divided, ascending.
    fn keys_in(&mut self, region: &Region, count: usize) -> Vec<Bytes> {
        let mut keys: Vec<_> = (0..count * 8)
            .map(|_| self.draw_key())
            .filter(|key| *key != region.range.start_key && region.range.contains_key(key))
            .collect();
        keys.truncate(count);
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Keys at which the region cannot be divided.
    fn bad_keys(&mut self, region: &Region) -> Vec<Bytes> {
        let (start_key, end_key) = (region.range.start_key.clone(), region.range.end_key.clone());
        let inside = self.keys_in(region, 2);
        match self.rng.below(4) {
            0 => vec![start_key],
            1 if !end_key.is_empty() => vec![end_key],
            2 if inside.len() == 2 => vec![inside[1].clone(), inside[0].clone()],
            _ => inside.first().map_or_else(Vec::new, |key| vec![key.clone(), key.clone()]),
        }
    }

    /// A client's key, or one between two of them.
    fn draw_key(&mut self) -> Bytes {
        let of_client = key(self.rng.below(self.key_count));
        if self.rng.happens(400) {
            return of_client;
        }
        let behind = self.rng.below(1_000);
        Bytes::from([&of_client[..], format!("-{behind:03}").as_bytes()].concat())
    }

    /// Regions that no split made for which an operator has asked.
    pub(super) fn own_count(&self, regions: &[RegionId]) -> u64 {
        let is_asked = |id: &RegionId| {
            self.asked.iter().any(|asked| asked.split.children.iter().any(|child| child.region_id == *id))
        };
        regions.iter().filter(|id| **id != RegionId::FIRST && !is_asked(id)).count() as u64
    }

    /// What was answered holds: the children of a split that was done are there, and no others.
    pub(super) fn check(&self, regions: &[RegionId]) -> Result<(), Violation> {
        for asked in &self.asked {
            let is_never = asked.refusal_count == asked.call_count && !asked.is_impossible;
            for child in &asked.split.children {
                let is_there = regions.contains(&child.region_id);
                if (asked.is_done && !is_there) || (is_never && is_there) {
                    let Asked { region_id, split, is_done, .. } = asked;
                    let text = format!("{split:?} of region {region_id}, done: {is_done}, there: {is_there}");
                    return Err(Violation::Misinformed(text));
                }
            }
        }
        Ok(())
    }
}
