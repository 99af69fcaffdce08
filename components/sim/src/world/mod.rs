//! The world in which stores run: time, network, disks, processes, and the order of everything.
//!
//! ```text
//!   Agenda ──▶ World::step ──▶ one Host: one look, round, frame or call
//!     ▲                             │ mail, messages, answers, deadlines
//!     └──────── draws ◀─────────────┘
//! ```

mod agenda;
mod call;
pub mod clock;
mod faults;
mod host;
pub mod network;
pub mod pool;
mod process;
mod rng;
mod summary;
mod time;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use engine::{KvEngine, LogEngine};
use placement::StoreRecord;
use raft::MessageBody;
use store::{Lane, RegionPicture, SnapshotMessage, SnapshotStatus, Store, StoreMessage, Unreachable};
use types::{Incarnation, RegionId, StoreId};

pub use self::{
    agenda::Alarm,
    call::{AnswerBody, Answered, Call, CallBody, CallId},
    faults::Counters,
    process::Origin,
    rng::Rng,
    time::Moment,
    trace::Trace,
};
use self::{
    agenda::{Agenda, Event, HostEvent},
    clock::MachineClock,
    host::Host,
    network::{Fate, Network, Rates, Site},
    pool::{Next, Ticket, draw_mail_max, draw_wake_delay},
    process::{Birth, Process},
    summary::Summary,
};

/// Names a machine, from zero on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub usize);

/// A frame of an earlier connection arrives in a new process once in so many thousand times.
const GHOST_PERMILLE: u64 = 100;

/// Everything there is.
pub struct World {
    now: Moment,
    agenda: Agenda,
    network: Network,
    hosts: Vec<Host>,
    host_of: BTreeMap<StoreId, HostId>,
    config: store::Config,
    rng: Rng,
    disk_rng: Rng,
    seed: u64,
    last_call: CallId,
    trace: Trace,
    counters: Counters,
    is_calm: bool,
}

/// What one step did.
#[derive(Debug)]
pub enum Step {
    /// Something at a host, of which only checks want to know.
    Host(HostId),
    /// Something at a host that changes none of its peers: an actor looks into its mailbox, a message arrives.
    Still(HostId),
    /// A client or an operator is answered.
    Answer(Box<Answered>),
    /// A reminder is due.
    Alarm(Alarm),
    /// A store's process has started.
    Started(HostId),
    /// A store gave up by itself, saying why, though its disk was told to do nothing wrong.
    GaveUp(HostId, String),
}

impl World {
    /// A world with so many machines, each without a store yet.
    #[must_use]
    pub fn new(seed: u64, host_count: usize, config: store::Config, trace: Trace) -> World {
        let mut rng = Rng::new(seed, "world");
        let rates = Rates::of_run(&mut rng);
        let hosts = (0..host_count).map(|_| Host::new(MachineClock::new(&mut rng))).collect();
        World {
            now: Moment::ZERO,
            agenda: Agenda::default(),
            network: Network::new(Rng::new(seed, "network"), rates),
            hosts,
            host_of: BTreeMap::new(),
            config,
            rng,
            disk_rng: Rng::new(seed, "disk"),
            seed,
            last_call: CallId(0),
            trace,
            counters: Counters::default(),
            is_calm: false,
        }
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The network.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Every machine.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len()).map(HostId)
    }

    /// Every store that has started and has not lost its disk, in order of id.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreId> {
        self.host_of.keys().copied().collect()
    }

    /// The machine of a store.
    #[must_use]
    pub fn host_of(&self, store: StoreId) -> Option<HostId> {
        self.host_of.get(&store).copied()
    }

    /// The store of a machine, while its process runs (also while it is paused).
    #[must_use]
    pub fn store(&self, host: HostId) -> Option<&Store> {
        self.hosts[host.0].process.as_ref().map(|process| &process.store)
    }

    /// Whether it is settled how a machine comes to have a store.
    #[must_use]
    pub fn has_origin(&self, host: HostId) -> bool {
        self.hosts[host.0].origin.is_some()
    }

    /// Who leads a region, as far as the leader itself believes; of several the one of the highest term.
    #[must_use]
    pub fn leader_of(&self, region_id: RegionId) -> Option<(HostId, RegionPicture)> {
        let pictures = self.hosts().filter_map(|host| Some((host, self.store(host)?.region(region_id)?)));
        let leaders =
            pictures.filter(|(_, picture)| picture.leader.is_some_and(|leader| leader.id == picture.peer.id));
        leaders.max_by_key(|(_, picture)| picture.term)
    }

    /// The regions with keys of which some running store has a peer with data, in order of id.
    #[must_use]
    pub fn client_regions(&self) -> Vec<RegionId> {
        let pictures = self.hosts().filter_map(|host| self.store(host)).flat_map(|store| store.regions());
        let with_keys = pictures.filter(|peer| peer.id != RegionId::PLACEMENT && peer.region.is_some());
        with_keys.map(|peer| peer.id).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the running process of a machine reads and writes.
    #[must_use]
    pub fn engines(&self, host: HostId) -> Option<(&dyn LogEngine, &dyn KvEngine)> {
        self.hosts[host.0].process.as_ref().map(|process| (&*process.log, &*process.kv))
    }

    /// The disk of a machine.
    #[must_use]
    pub fn disk(&self, host: HostId) -> &engine::mem::MemDisk {
        &self.hosts[host.0].disk
    }

    /// How stores are set up.
    #[must_use]
    pub fn config(&self) -> &store::Config {
        &self.config
    }

    /// The clocks of a machine.
    #[must_use]
    pub fn clock(&self, host: HostId) -> &MachineClock {
        &self.hosts[host.0].clock
    }

    /// Counts the processes that a machine has had.
    #[must_use]
    pub fn generation(&self, host: HostId) -> u64 {
        self.hosts[host.0].generation
    }

    /// What has gone wrong so far, by kind.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    /// The trace.
    #[must_use]
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// Reminds of something at a moment.
    pub fn alarm(&mut self, at: Moment, alarm: Alarm) {
        self.agenda.add(at.max(self.now), Event::Alarm(alarm));
    }

    /// Sends a call over the network. It may never be answered.
    pub fn call(&mut self, from: Site, to: HostId, body: CallBody) -> CallId {
        self.last_call = CallId(self.last_call.0 + 1);
        let id = self.last_call;
        self.trace.line(self.now, format_args!("call {} from {from:?} to {}: {body:?}", id.0, to.0));
        match self.network.send(self.now, from, Site::Host(to), Lane::Append) {
            // A call is never repeated by the network: a connection that breaks ends it.
            Fate::Arrives(arrivals) => {
                let call = Call { id, from, body };
                self.agenda.add(arrivals[0], Event::Host(to, HostEvent::Call(Box::new(call))));
            }
            Fate::Lost | Fate::Cut => {}
        }
        id
    }

    /// Gives a machine a store and starts it.
    pub fn found(&mut self, host: HostId, origin: Origin, known_stores: Vec<StoreRecord>) {
        self.hosts[host.0].origin = Some(origin);
        self.hosts[host.0].known_stores = known_stores;
        self.agenda.add(self.now, Event::Start(host));
    }

    /// What a machine says of itself when it asks for a store id.
    #[must_use]
    pub fn applicant(&self, host: HostId) -> StoreRecord {
        let record = process::record(address(host), StoreId(0), Incarnation(0));
        // Another one whenever the machine has lost its store.
        let registration_nonce = (self.hosts[host.0].lost_generation << 32) + host.0 as u64 + 1;
        StoreRecord { registration_nonce, ..record }
    }

    /// Lets the next thing happen; `None` if there is nothing left, or nothing before `end`.
    pub fn step(&mut self, end: Moment) -> Option<Step> {
        if self.agenda.first_at()? > end {
            return None;
        }
        let (at, event) = self.agenda.take_first()?;
        self.set_now(at);
        let step = match event {
            Event::Host(host, event) => self.at_host(host, event),
            Event::Start(host) => self.start(host),
            Event::Resume(host, number) => self.resume(host, number),
            Event::Answer(answered) => {
                self.trace
                    .line(self.now, format_args!("answer to call {}: {:?}", answered.id.0, answered.body));
                Step::Answer(answered)
            }
            Event::Alarm(alarm) => Step::Alarm(alarm),
        };
        Some(step)
    }

    fn set_now(&mut self, now: Moment) {
        self.now = now;
        self.hosts.iter().for_each(|host| host.clock.set_true_now(now));
    }

    fn at_host(&mut self, id: HostId, event: HostEvent) -> Step {
        if let Some(pause) = &mut self.hosts[id.0].pause {
            pause.held.push(event);
            return Step::Still(id);
        }
        let is_round = matches!(event, HostEvent::Round { .. });
        match event {
            HostEvent::Look { generation, ticket } => self.look(id, generation, ticket),
            HostEvent::Round { generation, ticket } => self.round(id, generation, ticket),
            HostEvent::Frame { generation, from, messages } => self.frame(id, generation, from, messages),
            HostEvent::Unreachable { generation, store, how } => {
                if let Some(process) = self.hosts[id.0].process_of(generation) {
                    self.trace
                        .line(self.now, format_args!("host {} cannot reach store {store}: {how:?}", id.0));
                    process.store.on_unreachable(store, how);
                }
            }
            HostEvent::Call(call) => self.arrive(id, *call),
        }
        let step = self.settle(id);
        if !is_round && matches!(step, Step::Host(_)) { Step::Still(id) } else { step }
    }

    fn look(&mut self, id: HostId, generation: u64, ticket: Ticket) {
        let host = &mut self.hosts[id.0];
        let clock = Arc::clone(&host.clock);
        let mail_max = draw_mail_max(&mut self.rng);
        let Some(process) = host.process_of(generation) else { return };
        match process.pool.look(ticket, mail_max, &*clock) {
            Some(Next::Works(ticket)) => {
                let work = process.pool.work(ticket.actor);
                let took = host.draw_service_time(&mut self.rng, work);
                self.agenda.add(self.now + took, Event::Host(id, HostEvent::Round { generation, ticket }));
            }
            Some(Next::Sleeps(ticket, Some(deadline))) => {
                let at = clock.moment_of(deadline).max(Moment(self.now.0 + 1));
                self.agenda.add(at, Event::Host(id, HostEvent::Look { generation, ticket }));
            }
            Some(Next::Sleeps(_, None)) | None => {}
        }
    }

    fn round(&mut self, id: HostId, generation: u64, ticket: Ticket) {
        let Some(process) = self.hosts[id.0].process_of(generation) else { return };
        self.trace.line(self.now, format_args!("host {} {}", id.0, process.pool.name(ticket.actor)));
        if let Some(ticket) = process.pool.run(ticket) {
            self.agenda.add(self.now, Event::Host(id, HostEvent::Look { generation, ticket }));
        }
    }

    fn frame(&mut self, id: HostId, generation: u64, from: StoreId, messages: Vec<StoreMessage>) {
        let host = &mut self.hosts[id.0];
        let is_ghost = host.generation != generation;
        // A connection names the store that it leads to: none leads to another one.
        if is_ghost && (generation <= host.lost_generation || !self.rng.happens(GHOST_PERMILLE)) {
            return;
        }
        if let Some(process) = &host.process {
            self.trace
                .line(self.now, format_args!("host {} hears store {from}: {}", id.0, Summary(&messages)));
            process.store.receive(from, messages);
            return;
        }
        let refusing = host.store_id.filter(|_| host.is_powered);
        if let (Some(sender), Some(store)) = (self.host_of(from), refusing) {
            self.tell_unreachable(sender, store, Unreachable::Refused, Duration::from_millis(5));
        }
    }

    fn arrive(&mut self, id: HostId, call: Call) {
        let host = &mut self.hosts[id.0];
        if let Some(process) = &mut host.process {
            self.trace.line(self.now, format_args!("host {} gets call {}", id.0, call.id.0));
            host.open_calls.insert(call.id, call.from);
            return process.call(call);
        }
        if host.is_powered {
            self.answer(id, call.id, call.from, AnswerBody::Refused);
        }
    }

    /// Takes out of a process what the last event left in it.
    fn settle(&mut self, id: HostId) -> Step {
        let host = &mut self.hosts[id.0];
        let Some(process) = &mut host.process else { return Step::Host(id) };
        for ticket in process.pool.take_woken() {
            let at = self.now + draw_wake_delay(&mut self.rng);
            let event = HostEvent::Look { generation: host.generation, ticket };
            self.agenda.add(at, Event::Host(id, event));
        }
        debug_assert_eq!(process.pool.find_forgotten(), None, "an actor with mail was not woken");
        if let Some(stores) = process.news.take_stores() {
            process.store.set_stores(stores.iter().map(|store| store.id).collect());
            host.known_stores = stores;
        }
        let (sent, answers, fatal) = (process.wire.take(), process.answers.take(), process.news.take_fatal());
        let from = host.store_id;
        for (to, lane, messages) in sent {
            if let Some(from) = from {
                self.transmit(id, from, to, lane, messages);
            }
        }
        for (call, body) in answers {
            if let Some(client) = self.hosts[id.0].open_calls.remove(&call) {
                self.answer(id, call, client, body);
            }
        }
        match fatal {
            Some(reason) => self.give_up(id, reason),
            None => Step::Host(id),
        }
    }

    fn transmit(&mut self, id: HostId, from: StoreId, to: StoreId, lane: Lane, messages: Vec<StoreMessage>) {
        let Some(target) = self.host_of(to) else { return };
        self.counters.frames += 1;
        self.counters.snapshots += messages.iter().filter(|message| is_snapshot_end(message)).count() as u64;
        let generation = self.hosts[target.0].generation;
        match self.network.send(self.now, Site::Host(id), Site::Host(target), lane) {
            Fate::Arrives(arrivals) => {
                for at in arrivals {
                    let event = HostEvent::Frame {
                        generation,
                        from,
                        messages: messages.iter().map(carried).collect(),
                    };
                    self.agenda.add(at, Event::Host(target, event));
                }
            }
            Fate::Lost => {}
            // Keep-alives notice a cut sooner or later; a frame or two are enough of a sample.
            Fate::Cut if self.rng.happens(20) => {
                self.tell_unreachable(id, to, Unreachable::Broken, Duration::from_secs(2));
            }
            Fate::Cut => {}
        }
    }

    fn tell_unreachable(&mut self, id: HostId, store: StoreId, how: Unreachable, at_last: Duration) {
        let at = self.now + self.rng.skewed(Duration::from_micros(200), at_last);
        let generation = self.hosts[id.0].generation;
        self.agenda.add(at, Event::Host(id, HostEvent::Unreachable { generation, store, how }));
    }

    fn answer(&mut self, from: HostId, id: CallId, to: Site, body: AnswerBody) {
        if let Fate::Arrives(arrivals) = self.network.send(self.now, Site::Host(from), to, Lane::Append) {
            self.agenda.add(arrivals[0], Event::Answer(Box::new(Answered { id, to, from, body })));
        }
    }

    fn start(&mut self, id: HostId) -> Step {
        let host = &mut self.hosts[id.0];
        let Some(origin) = host.origin.filter(|_| host.process.is_none()) else { return Step::Host(id) };
        host.is_powered = true;
        host.generation += 1;
        host.clock.restart();
        let seed = self.seed ^ ((id.0 as u64) << 32) ^ host.generation;
        let config = store::Config { seed, ..self.config.clone() };
        let birth = Birth {
            config,
            clock: Arc::clone(&host.clock),
            disk: host.disk.clone(),
            origin,
            known_stores: host.known_stores.clone(),
            address: address(id),
        };
        match Process::start(birth) {
            Ok((process, store_id)) => {
                self.trace.line(self.now, format_args!("host {} starts store {store_id}", id.0));
                host.store_id = Some(store_id);
                self.host_of.insert(store_id, id);
                self.adopt(id, process);
                Step::Started(id)
            }
            Err(reason) => {
                self.trace.line(self.now, format_args!("host {} does not start: {reason}", id.0));
                self.give_up(id, reason)
            }
        }
    }

    fn adopt(&mut self, id: HostId, process: Process) {
        let host = &mut self.hosts[id.0];
        let generation = host.generation;
        let process = host.process.insert(process);
        for ticket in process.pool.wake_all() {
            let at = self.now + draw_wake_delay(&mut self.rng);
            self.agenda.add(at, Event::Host(id, HostEvent::Look { generation, ticket }));
        }
    }
}

/// Where the store of a machine listens.
fn address(id: HostId) -> String {
    format!("host-{}:20160", id.0)
}

/// A message as it arrives: its bytes are the receiver's own, and say nothing of how long the sender keeps its.
fn carried(message: &StoreMessage) -> StoreMessage {
    let mut message = message.clone();
    if let StoreMessage::Raft(envelope) = &mut message
        && let MessageBody::Append { entries, .. } = &mut envelope.message.body
    {
        entries.iter_mut().for_each(|entry| entry.payload = Bytes::copy_from_slice(&entry.payload));
    }
    message
}

/// Whether a message says that a snapshot was received whole.
fn is_snapshot_end(message: &StoreMessage) -> bool {
    matches!(message, StoreMessage::Snapshot(SnapshotMessage::Ack(ack)) if ack.status == SnapshotStatus::Done)
}
