//! Clients: the production routing and retrying ([`client::core`]) over the simulated network.
//!
//! Each client has one operation under way. Values are unique, so that whoever reads one says which write it saw. An
//! operation whose fate the client does not know ends its history under that name; it goes on under a new one, because
//! the old operation may still take effect.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use check::history::{self, History};
use client::core::{
    Action, Body, CallError, Event, Operation, PartId, Position, RegionCache, RegionError, Reply,
    RetryPolicy, Work,
};
use placement::{PlacementAnswer, PlacementCall};
use store::RequestContext;
use types::{Answer, CompareAndSwap, Instant, KeyRange, Outcome, Pair, Request, Scan};

use crate::world::{
    Alarm, AnswerBody, Answered, CallBody, CallId, HostId, Moment, Rng, World, network::Site,
};

/// A question to placement is given up after this.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How many clients there are.
    pub client_count: usize,
    /// How many keys they share.
    pub key_count: u64,
    /// The longest pause between two operations of a client.
    pub think_time_max: Duration,
}

/// All clients.
pub struct Clients {
    workload: Workload,
    clients: Vec<SimClient>,
    history: History,
    rng: Rng,
    policy: RetryPolicy,
    /// The newest name in the history.
    last_name: u64,
    last_value: u64,
    finished_count: u64,
    succeeded_count: u64,
    is_stopping: bool,
}

struct SimClient {
    number: usize,
    name: u64,
    cache: RegionCache,
    running: Option<Running>,
    open_calls: BTreeMap<CallId, OpenCall>,
    reminders: BTreeMap<u64, Reminder>,
    last_reminder: u64,
    served_count: u64,
    /// What it saw last of each key: what its next compare-and-swap expects.
    seen: BTreeMap<Bytes, Option<Bytes>>,
}

struct Running {
    operation: Operation,
    work: Work,
    /// An operation of several keys is recorded as one of each.
    recorded: Vec<(Bytes, history::Call)>,
}

enum OpenCall {
    /// To the region's leader, as far as known.
    Request(PartId),
    /// To any store's placement.
    LookUp(PartId),
    /// To any store's placement, for the region that holds the keys before this one.
    LookUpBefore(PartId, Bytes),
}

enum Reminder {
    /// Begin the next operation.
    Next,
    /// A part has waited long enough.
    Wake(PartId),
    /// A call has been open for too long.
    Timeout(CallId),
}

impl Workload {
    /// A workload for a run.
    #[must_use]
    pub fn of_run(rng: &mut Rng) -> Workload {
        Workload {
            client_count: 4 + rng.place(7),
            key_count: rng.between(5, 20),
            think_time_max: rng.duration(Duration::from_millis(40), Duration::from_millis(160)),
        }
    }
}

impl Clients {
    /// Clients that have not begun yet.
    #[must_use]
    pub fn new(seed: u64, workload: Workload) -> Clients {
        let client = |number| SimClient {
            number,
            name: number as u64,
            cache: RegionCache::new(),
            running: None,
            open_calls: BTreeMap::new(),
            reminders: BTreeMap::new(),
            last_reminder: 0,
            served_count: 0,
            seen: BTreeMap::new(),
        };
        Clients {
            workload,
            clients: (0..workload.client_count).map(client).collect(),
            history: History::new(),
            rng: Rng::new(seed, "clients"),
            policy: RetryPolicy::default(),
            last_name: workload.client_count as u64,
            last_value: 0,
            finished_count: 0,
            succeeded_count: 0,
            is_stopping: false,
        }
    }

    /// Every client begins soon.
    pub fn begin(&mut self, world: &mut World) {
        (0..self.clients.len()).for_each(|at| self.begin_later(world, at));
    }

    /// No client begins another operation.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether no operation is under way.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.clients.iter().all(|client| client.running.is_none())
    }

    /// Operations that have ended, in whatever way.
    #[must_use]
    pub fn finished_count(&self) -> u64 {
        self.finished_count
    }

    /// Operations that were carried out, as far as their clients know.
    #[must_use]
    pub fn succeeded_count(&self) -> u64 {
        self.succeeded_count
    }

    /// How many operations, and pages of scans, of each client were carried out.
    #[must_use]
    pub fn served_counts(&self) -> Vec<u64> {
        self.clients.iter().map(|client| client.served_count).collect()
    }

    /// What clients asked and were answered.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// A reminder is due.
    pub fn on_alarm(&mut self, world: &mut World, at: usize, number: u64) {
        let Some(reminder) = self.clients[at].reminders.remove(&number) else { return };
        match reminder {
            Reminder::Next if self.is_stopping => {}
            Reminder::Next => self.begin_operation(world, at),
            Reminder::Wake(part) => self.feed(world, at, Event::Wake { part }),
            Reminder::Timeout(call) => match self.clients[at].open_calls.remove(&call) {
                Some(OpenCall::Request(part)) => {
                    let result = Err(CallError::Unanswered("its time has passed".to_owned()));
                    self.feed(world, at, Event::Answer { part, result });
                }
                Some(OpenCall::LookUp(part) | OpenCall::LookUpBefore(part, _)) => {
                    let result = Err("its time has passed".to_owned());
                    self.feed(world, at, Event::LookedUp { part, result });
                }
                None => {}
            },
        }
    }

    /// A call was answered.
    pub fn on_answer(&mut self, world: &mut World, at: usize, answered: Answered) {
        let client = &mut self.clients[at];
        match client.open_calls.remove(&answered.id) {
            Some(OpenCall::Request(part)) => {
                let result = reply_of(answered.body);
                // A scan of many regions takes its time: with each page of it its client is served.
                let is_scan =
                    client.running.as_ref().is_some_and(|running| matches!(running.work, Work::Scan(_)));
                client.served_count += u64::from(is_scan && result.is_ok());
                self.feed(world, at, Event::Answer { part, result });
            }
            Some(OpenCall::LookUpBefore(part, end)) if begins_at(&answered.body, &end) => {
                self.look_up(world, at, PlacementCall::GetPrevRegion { key: end }, OpenCall::LookUp(part));
            }
            Some(OpenCall::LookUp(part) | OpenCall::LookUpBefore(part, _)) => {
                let result = learn(&mut client.cache, answered.body);
                self.feed(world, at, Event::LookedUp { part, result });
            }
            None => {}
        }
    }

    fn begin_later(&mut self, world: &mut World, at: usize) {
        let pause = self.rng.duration(Duration::from_micros(100), self.workload.think_time_max);
        self.clients[at].remind(world, world.now() + pause, Reminder::Next);
    }

    fn begin_operation(&mut self, world: &mut World, at: usize) {
        let work = self.draw_work(at);
        let client = &mut self.clients[at];
        let name = history::Client(client.name);
        let now = instant(world.now());
        let history = &mut self.history;
        let recorded = recorded_operations(&work, self.workload.key_count)
            .into_iter()
            .map(|(key, operation)| (key.clone(), history.call(name, &key, operation, now)))
            .collect();
        let operation = Operation::new(work.clone(), self.policy);
        world.note(format_args!("client {at} begins {work:?}"));
        client.running = Some(Running { operation, work, recorded });
        self.feed(world, at, Event::Start);
    }

    fn draw_work(&mut self, at: usize) -> Work {
        let key = key(self.rng.below(self.workload.key_count));
        match self.rng.below(100) {
            0..36 => Work::Get { key },
            36..66 => Work::Put(self.draw_pair(at, key)),
            66..76 => Work::Delete { key },
            76..88 => {
                let expected = self.clients[at].seen.get(&key).cloned().flatten();
                let replacement = (!self.rng.happens(100)).then(|| self.draw_value(at));
                Work::CompareAndSwap(CompareAndSwap { key, expected, replacement, ttl_seconds: 0 })
            }
            88..92 => {
                let pairs = self.draw_keys().into_iter().map(|key| self.draw_pair(at, key)).collect();
                Work::BatchPut { pairs }
            }
            92..95 => Work::BatchGet { keys: self.draw_keys() },
            95..97 => Work::BatchDelete { keys: self.draw_keys() },
            _ => {
                let (range, is_reverse) = (self.draw_range(), self.rng.happens(500));
                Work::Scan(Scan { range, limit: 1_000, is_key_only: false, is_reverse })
            }
        }
    }

    /// All keys, or those from one to another.
    fn draw_range(&mut self) -> KeyRange {
        let [one, other] = [(); 2].map(|()| self.rng.below(self.workload.key_count));
        if one == other {
            return KeyRange::ALL;
        }
        KeyRange { start_key: key(one.min(other)), end_key: key(one.max(other)) }
    }

    /// Two or three different keys.
    fn draw_keys(&mut self) -> Vec<Bytes> {
        let mut numbers: Vec<_> = (0..self.workload.key_count).collect();
        self.rng.shuffle(&mut numbers);
        numbers.truncate(2 + self.rng.place(2));
        numbers.into_iter().map(key).collect()
    }

    fn draw_pair(&mut self, at: usize, key: Bytes) -> Pair {
        Pair { key, value: self.draw_value(at), ttl_seconds: 0 }
    }

    fn draw_value(&mut self, at: usize) -> Bytes {
        self.last_value += 1;
        let filling = "x".repeat(self.rng.place(100));
        Bytes::from(format!("{at}-{}-{filling}", self.last_value))
    }

    fn feed(&mut self, world: &mut World, at: usize, event: Event) {
        let client = &mut self.clients[at];
        let Some(running) = &mut client.running else { return };
        let mut actions = Vec::new();
        running.operation.step(instant(world.now()), &mut client.cache, event, &mut actions);
        for action in actions {
            // An action may have ended the operation, and with it the other parts.
            if self.clients[at].running.is_some() {
                self.carry_out(world, at, action);
            }
        }
        debug_assert!({
            self.clients[at].cache.check_invariants();
            true
        });
    }

    fn carry_out(&mut self, world: &mut World, at: usize, action: Action) {
        let client = &mut self.clients[at];
        match action {
            Action::Send { part, call } => {
                let context = RequestContext {
                    region_id: call.region.id,
                    peer: Some((call.peer.id, call.peer.store_id)),
                    epoch: Some(call.region.epoch),
                    ..RequestContext::default()
                };
                let body = match Body::from(call.work) {
                    Body::Write(command) => CallBody::Write(context, Request { session: None, command }),
                    Body::Read(query) => CallBody::Read(context, query),
                };
                let Some(host) = world.host_of(call.peer.store_id) else {
                    let result = Err(CallError::NotSent("there is no such store".to_owned()));
                    return self.feed(world, at, Event::Answer { part, result });
                };
                client.send(world, host, body, OpenCall::Request(part), self.policy.call_timeout);
            }
            Action::LookUp { part, position, newer_than } => {
                if client.cache.is_newer(&position, newer_than) {
                    return self.feed(world, at, Event::LookedUp { part, result: Ok(()) });
                }
                let (question, open) = match position {
                    Position::At(key) => (PlacementCall::GetRegion { key }, OpenCall::LookUp(part)),
                    // No key of a client is as high as this one: it lies in the last region.
                    Position::Before(end) if end.is_empty() => (
                        PlacementCall::GetRegion { key: Bytes::from_static(&[0xff]) },
                        OpenCall::LookUp(part),
                    ),
                    Position::Before(end) => {
                        let question = PlacementCall::GetRegion { key: end.clone() };
                        (question, OpenCall::LookUpBefore(part, end))
                    }
                };
                self.look_up(world, at, question, open);
            }
            Action::Wait { part, until } => client.remind(world, Moment(until.0), Reminder::Wake(part)),
            Action::Finish(result) => self.finish(world, at, result),
        }
    }

    fn look_up(&mut self, world: &mut World, at: usize, question: PlacementCall, open: OpenCall) {
        let host = HostId(self.rng.place(world.hosts().count()));
        self.clients[at].send(world, host, CallBody::Placement(question), open, LOOK_UP_TIMEOUT);
    }

    fn finish(&mut self, world: &mut World, at: usize, result: client::Result<Reply>) {
        let client = &mut self.clients[at];
        let Some(running) = client.running.take() else { return };
        // What its parts still wait for is nothing to the next operation.
        client.open_calls.clear();
        client.reminders.clear();
        world.note(format_args!("client {at} ends {:?}: {result:?}", running.work));
        self.finished_count += 1;
        let outcome = match &result {
            Ok(reply) => {
                self.succeeded_count += 1;
                client.served_count += 1;
                client.see(&running.work, reply);
                None
            }
            Err(error) if error.is_undetermined() => Some(history::Outcome::Undetermined),
            Err(_) => Some(history::Outcome::Failed),
        };
        if outcome == Some(history::Outcome::Undetermined) {
            self.last_name += 1;
            client.name = self.last_name;
        }
        for (key, call) in running.recorded {
            let of_reply =
                || result.as_ref().map_or(history::Outcome::Failed, |reply| recorded_outcome(&key, reply));
            self.history.reply(call, outcome.clone().unwrap_or_else(of_reply), instant(world.now()));
        }
        self.begin_later(world, at);
    }
}

impl SimClient {
    fn send(&mut self, world: &mut World, host: HostId, body: CallBody, kind: OpenCall, timeout: Duration) {
        let call = world.call(Site::Client(self.number), host, body);
        self.open_calls.insert(call, kind);
        self.remind(world, world.now() + timeout, Reminder::Timeout(call));
    }

    fn remind(&mut self, world: &mut World, at: Moment, reminder: Reminder) {
        self.last_reminder += 1;
        self.reminders.insert(self.last_reminder, reminder);
        world.alarm(at, Alarm::Client(self.number, self.last_reminder));
    }

    fn see(&mut self, work: &Work, reply: &Reply) {
        match (work, reply) {
            (Work::Get { key }, Reply::Read(Answer::Value(value))) => {
                self.seen.insert(key.clone(), value.clone());
            }
            (Work::Put(pair), Reply::Written(_)) => {
                self.seen.insert(pair.key.clone(), Some(pair.value.clone()));
            }
            (Work::CompareAndSwap(swap), Reply::Written(Outcome::Swapped { is_swapped, previous })) => {
                let value = if *is_swapped { &swap.replacement } else { previous };
                self.seen.insert(swap.key.clone(), value.clone());
            }
            // What it has seen only makes a compare-and-swap likely to succeed: the rest may stay old.
            (_, Reply::Read(_) | Reply::Written(_)) => {}
        }
    }
}

/// What a client makes of an answer to a request.
fn reply_of(body: AnswerBody) -> Result<Reply, CallError> {
    match body {
        AnswerBody::Written(Ok(outcome)) => Ok(Reply::Written(outcome)),
        AnswerBody::Read(Ok(answer)) => Ok(Reply::Read(answer)),
        AnswerBody::Written(Err(error)) | AnswerBody::Read(Err(error)) => Err(call_error(error)),
        AnswerBody::Refused => Err(CallError::NotSent("connection refused".to_owned())),
        AnswerBody::Broken => Err(CallError::Unanswered("connection lost".to_owned())),
        AnswerBody::Placement(_) | AnswerBody::Admin(_) => {
            Err(CallError::Unanswered("no answer to this".to_owned()))
        }
    }
}

/// A store's error as it crosses the wire.
fn call_error(error: store::Error) -> CallError {
    CallError::Region(match error {
        store::Error::StoreNotMatch { .. } => RegionError::StoreNotMatch,
        store::Error::RegionNotFound(_) => RegionError::RegionNotFound,
        store::Error::PeerMismatch { .. } => RegionError::PeerMismatch,
        store::Error::NotLeader { leader, .. } => RegionError::NotLeader { leader },
        store::Error::NotInitialized(_) => RegionError::NotInitialized,
        store::Error::StaleTerm => RegionError::StaleTerm,
        store::Error::EpochNotMatch { current } => RegionError::EpochNotMatch { current },
        store::Error::KeyNotInRegion { .. } => RegionError::KeyNotInRegion,
        store::Error::Invalid(reason) | store::Error::Refused(reason) => return CallError::Refused(reason),
        other @ store::Error::Changing { .. } => RegionError::Other(other.to_string()),
        store::Error::EntryTooLarge { size_bytes, .. } => RegionError::EntryTooLarge { size_bytes },
        store::Error::Busy { reason, retry_after } => {
            RegionError::Busy { reason: reason.to_owned(), retry_after }
        }
        store::Error::DiskFull(_) => RegionError::DiskFull,
        store::Error::ReadIndexNotReady(_) => RegionError::ReadIndexNotReady,
        store::Error::Undetermined(reason) => RegionError::Undetermined(reason.to_owned()),
        store::Error::Stopping => RegionError::Other("the store is stopping".to_owned()),
    })
}

/// Whether placement's answer is a region that begins at a key.
fn begins_at(body: &AnswerBody, key: &Bytes) -> bool {
    matches!(
        body,
        AnswerBody::Placement(Ok(PlacementAnswer::Region(Some(route)))) if route.region.range.start_key == *key
    )
}

/// Puts what placement said into the cache.
fn learn(cache: &mut RegionCache, body: AnswerBody) -> Result<(), String> {
    match body {
        AnswerBody::Placement(Ok(PlacementAnswer::Region(Some(route)))) => {
            let leader = route.leader_or_stand_in();
            cache.insert(route.region, leader);
            Ok(())
        }
        AnswerBody::Placement(Ok(_)) => Err("placement knows no region there".to_owned()),
        AnswerBody::Placement(Err(error)) => Err(error.to_string()),
        AnswerBody::Refused => Err("connection refused".to_owned()),
        AnswerBody::Written(_) | AnswerBody::Read(_) | AnswerBody::Admin(_) | AnswerBody::Broken => {
            Err("connection lost".to_owned())
        }
    }
}

fn recorded_operations(work: &Work, key_count: u64) -> Vec<(Bytes, history::Operation)> {
    let bytes = |value: &Option<Bytes>| value.as_ref().map(|value| value.to_vec());
    let put = |pair: &Pair| (pair.key.clone(), history::Operation::Put { value: pair.value.to_vec() });
    match work {
        Work::Put(pair) => vec![put(pair)],
        Work::BatchPut { pairs } => pairs.iter().map(put).collect(),
        Work::Delete { key } => vec![(key.clone(), history::Operation::Delete)],
        Work::BatchDelete { keys } => {
            keys.iter().map(|key| (key.clone(), history::Operation::Delete)).collect()
        }
        Work::CompareAndSwap(swap) => {
            let (expected, replacement) = (bytes(&swap.expected), bytes(&swap.replacement));
            vec![(swap.key.clone(), history::Operation::CompareAndSwap { expected, replacement })]
        }
        Work::Get { key } => vec![(key.clone(), history::Operation::Get)],
        Work::BatchGet { keys } => keys.iter().map(|key| (key.clone(), history::Operation::Get)).collect(),
        Work::Scan(scan) => (0..key_count)
            .map(key)
            .filter(|key| scan.range.contains_key(key))
            .map(|key| (key, history::Operation::Get))
            .collect(),
        Work::KeyTtl { .. } | Work::Checksum { .. } | Work::DeleteRange { .. } => Vec::new(),
    }
}

fn recorded_outcome(key: &Bytes, reply: &Reply) -> history::Outcome {
    let bytes = |value: Option<&Bytes>| value.map(|value| value.to_vec());
    match reply {
        Reply::Read(Answer::Value(value)) => history::Outcome::Value(bytes(value.as_ref())),
        Reply::Read(Answer::Pairs(pairs)) => history::Outcome::Value(bytes(
            pairs.iter().find(|(found, _)| found == key).map(|(_, value)| value),
        )),
        Reply::Written(Outcome::Swapped { is_swapped, previous }) => {
            history::Outcome::Swapped { is_swapped: *is_swapped, previous: bytes(previous.as_ref()) }
        }
        Reply::Read(Answer::Ttl(_) | Answer::Checksum { .. })
        | Reply::Written(Outcome::Done | Outcome::Placement { .. }) => history::Outcome::Done,
    }
}

/// The key of a number below a hundred: their order is that of the numbers.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:02}"))
}

/// Clients run on true time: their clocks do not matter to anyone.
fn instant(moment: Moment) -> Instant {
    Instant(moment.0)
}
