//! The stores, and the loop that runs them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actor::{ActorId, Clock, Runnable, Scheduler};
use bytes::Bytes;
use engine::{KvEngine, LogEngine, mem::MemDisk};
use raft::MessageBody;
use store::{
    AdminAction, AdminRequest, Config, Lane, LeadChanges, Ledger, PlacementClient, PlacementMessage, Ports,
    Proposal, ReadRequest, RegionPicture, RequestContext, Responder, Result, SplitKeys, SplitKeysWish,
    SplitWish, Store, StoreMessage, Transport, bootstrap,
};
use types::{
    Answer, ClusterId, Command, Index, Instant, KeyRange, Outcome, Pair, Peer, PeerId, PeerRole, Query,
    Region, RegionId, Request, Split, SplitChild, StoreId, Term, WallTime,
};

use crate::{
    memory::held_bytes,
    mortal::{Fuse, MortalLog},
    slow_kv::{SlowKv, SnapshotDelay},
};

/// The limit of each store's ledger.
pub(crate) const LEDGER_BYTES: u64 = 1 << 20;

const CLUSTER: ClusterId = ClusterId(77);

/// Rounds of everybody at one moment: far more than any of these tests needs.
const SETTLE_ROUNDS_MAX: usize = 10_000;

type Frame = (StoreId, StoreId, Lane, Vec<StoreMessage>);
/// Whether a message from one store to another is lost.
type Loses = dyn FnMut(StoreId, StoreId, &StoreMessage) -> bool;
/// What becomes of messages on their way.
type Alters = dyn FnMut(&mut StoreMessage);
/// An answer that may not have come yet.
pub(crate) type Pending<T> = Arc<Mutex<Option<Result<T>>>>;

/// Stores, their disks and the wire between them.
pub(crate) struct Cluster {
    stores: BTreeMap<StoreId, Running>,
    wire: Arc<Mutex<VecDeque<Frame>>>,
    clock: Arc<HandClock>,
    snapshot_delay: Arc<SnapshotDelay>,
    compared_commits: Arc<AtomicU64>,
    cut: BTreeSet<StoreId>,
    /// Links that lose everything, each in one direction.
    cut_links: BTreeSet<(StoreId, StoreId)>,
    /// Says which messages are lost.
    loses: Option<Box<Loses>>,
    alters: Option<Box<Alters>>,
    stalled: Option<StoreId>,
    hanging: BTreeSet<(StoreId, &'static str)>,
    /// Whether nothing of what is delivered is kept: what is kept stays in its sender's ledger.
    pub(crate) is_forgetful: bool,
    /// Regions that hold more are split.
    region_split_bytes: u64,
    /// Everything that was delivered.
    pub(crate) sent: Vec<(Lane, StoreMessage)>,
    /// The placement module, one for all stores.
    pub(crate) placement: Arc<Placement>,
}

struct Running {
    store: Store,
    disk: MemDisk,
    log: Arc<dyn LogEngine>,
    kv: Arc<dyn KvEngine>,
    actors: Vec<Box<dyn Runnable>>,
    fuse: Arc<Fuse>,
}

#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn monotonic(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(1_000_000 + self.0.load(Ordering::Relaxed) / 1_000_000)
    }
}

struct Wire {
    from: StoreId,
    frames: Arc<Mutex<VecDeque<Frame>>>,
    /// The sender, once it is open.
    store: Arc<OnceLock<Store>>,
    compared_commits: Arc<AtomicU64>,
    fuse: Arc<Fuse>,
}

impl Transport for Wire {
    fn send(&self, to: StoreId, lane: Lane, messages: Vec<StoreMessage>) {
        if self.fuse.is_dead() {
            return;
        }
        messages.iter().for_each(|message| self.check_commit(message));
        self.frames.lock().expect("no test panics here").push_back((self.from, to, lane, messages));
    }
}

impl Wire {
    /// What others may act on, the sender's own read workers know: else a lease read could follow a change that
    /// another store has already applied (D10).
    fn check_commit(&self, message: &StoreMessage) {
        let StoreMessage::Raft(envelope) = message else { return };
        let (MessageBody::Append { commit, .. } | MessageBody::Heartbeat { commit, .. }) =
            &envelope.message.body
        else {
            return;
        };
        let Some(picture) = self.store.get().and_then(|store| store.region(envelope.region_id)) else {
            return;
        };
        assert!(picture.commit_index >= *commit, "{commit:?} left before {:?} was published", picture.id);
        self.compared_commits.fetch_add(1, Ordering::Relaxed);
    }
}

/// Remembers what stores tell placement.
#[derive(Default)]
pub(crate) struct Placement {
    /// Who leads the placement group, as each store has said: since the start of the cluster.
    pub(crate) leaders: Mutex<Vec<(Option<StoreId>, Option<Term>)>>,
    /// The splits that stores wanted.
    pub(crate) wishes: Mutex<Vec<SplitWish>>,
    /// What stores have said of the regions that they lead.
    pub(crate) changes: Mutex<Vec<LeadChanges>>,
}

impl PlacementClient for Placement {
    fn report(&self, changes: LeadChanges) {
        self.changes.lock().expect("no test panics here").push(changes);
    }

    fn on_placement_leader(&self, leader: Option<StoreId>, led_here: Option<Term>) {
        self.leaders.lock().expect("no test panics here").push((leader, led_here));
    }

    fn split_wanted(&self, wish: SplitWish) {
        self.wishes.lock().expect("no test panics here").push(wish);
    }

    fn receive(&self, _: StoreId, _: PlacementMessage) {}
}

/// The loop looks at every mailbox.
struct Unscheduled;

impl Scheduler for Unscheduled {
    fn wake(&self, _: ActorId) {}
}

impl Cluster {
    /// `count` stores; the first one is initialised and leads.
    pub(crate) fn with_stores(count: u64) -> Cluster {
        Cluster::with_stores_that_split(count, 0)
    }

    /// Which want regions to be split that hold more bytes; zero: never.
    pub(crate) fn with_stores_that_split(count: u64, region_split_bytes: u64) -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.region_split_bytes = region_split_bytes;
        for id in (1_000..1_000 + count).map(StoreId) {
            cluster.start(id, MemDisk::new());
        }
        let ids = cluster.stores();
        cluster.stores.values().for_each(|running| running.store.set_stores(ids.clone()));
        cluster.advance(Duration::from_secs(2));
        cluster
    }

    fn start(&mut self, id: StoreId, disk: MemDisk) {
        let (log, kv) = disk.open();
        let fuse = Arc::<Fuse>::default();
        let log: Arc<dyn LogEngine> = Arc::new(MortalLog { engine: log, fuse: Arc::clone(&fuse) });
        let clock = Arc::clone(&self.clock);
        let kv: Arc<dyn KvEngine> = Arc::new(SlowKv {
            engine: kv,
            delay: Arc::clone(&self.snapshot_delay),
            pass: Box::new(move |nanos| {
                clock.0.fetch_add(nanos, Ordering::Relaxed);
            }),
            fuse: Arc::clone(&fuse),
        });
        let opened = Arc::default();
        if id == StoreId(bootstrap::FIRST_ID) {
            bootstrap::init(&*log, CLUSTER).expect("memory does not fail");
        } else {
            bootstrap::join(&*log, CLUSTER, id).expect("memory does not fail");
        }
        let ident =
            bootstrap::start(&*log).expect("memory does not fail").expect("the store has an identity");
        let config = Config {
            seed: id.0,
            log_kept_entries: 10,
            log_lag_entries_max: 50,
            flush_bytes: 1,
            memory_limit_bytes: LEDGER_BYTES,
            region_split_bytes: self.region_split_bytes,
            ..Config::default()
        };
        let ports = Ports {
            log: Arc::clone(&log),
            kv: Arc::clone(&kv),
            transport: Arc::new(Wire {
                from: id,
                frames: Arc::clone(&self.wire),
                store: Arc::clone(&opened),
                compared_commits: Arc::clone(&self.compared_commits),
                fuse: Arc::clone(&fuse),
            }),
            placement: Arc::clone(&self.placement) as Arc<dyn PlacementClient>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            scheduler: Arc::new(Unscheduled),
            fatal: fatal(Arc::clone(&fuse)),
        };
        let (store, actors) = Store::open(config, ident, ports, ActorId(0)).expect("the store opens");
        assert!(opened.set(store.clone()).is_ok(), "a wire has one sender");
        self.stores.insert(id, Running { store, disk, log, kv, actors, fuse });
    }

    /// Kills a store and starts it again.
    pub(crate) fn restart(&mut self, id: StoreId) {
        let running = self.stores.remove(&id).expect("the store runs");
        running.disk.crash(&mut |_| 0);
        let disk = running.disk.clone();
        drop(running);
        self.start(id, disk);
        let ids = self.stores();
        self.stores[&id].store.set_stores(ids);
    }

    /// Cuts the power of stores at once; what was not synced is gone. Those that return start again.
    pub(crate) fn lose_power(&mut self, ids: &[StoreId], returning: &[StoreId]) {
        self.lose_power_but(0, ids, returning);
    }

    /// The same, but so many of the writes that nobody has synced have reached the disk all the same.
    pub(crate) fn lose_power_but(&mut self, kept: u64, ids: &[StoreId], returning: &[StoreId]) {
        let mut disks = BTreeMap::new();
        for id in ids {
            let running = self.stores.remove(id).expect("the store runs");
            running.disk.power_loss(&mut |bound| kept.min(bound - 1));
            disks.insert(*id, running.disk);
        }
        for (id, disk) in disks {
            if returning.contains(&id) {
                self.start(id, disk);
            }
        }
        let ids = self.stores();
        self.stores.values().for_each(|running| running.store.set_stores(ids.clone()));
    }

    /// What a store makes its disk do, and when it dies.
    pub(crate) fn fuse(&self, id: StoreId) -> &Fuse {
        &self.stores[&id].fuse
    }

    /// The first store, just initialised: nothing has run.
    pub(crate) fn founded() -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.start(FIRST_STORE, MemDisk::new());
        cluster
    }

    fn empty() -> Cluster {
        Cluster {
            stores: BTreeMap::new(),
            wire: Arc::default(),
            clock: Arc::default(),
            snapshot_delay: Arc::default(),
            compared_commits: Arc::default(),
            cut: BTreeSet::new(),
            cut_links: BTreeSet::new(),
            loses: None,
            alters: None,
            stalled: None,
            hanging: BTreeSet::new(),
            is_forgetful: false,
            region_split_bytes: 0,
            sent: Vec::new(),
            placement: Arc::default(),
        }
    }

    /// From now on.
    pub(crate) fn snapshots_take(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).expect("it is short");
        self.snapshot_delay.0.store(nanos, Ordering::Relaxed);
    }

    /// How many commit indexes on the wire were compared with what their sender had published.
    pub(crate) fn compared_commits(&self) -> u64 {
        self.compared_commits.load(Ordering::Relaxed)
    }

    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.stores.keys().copied().collect()
    }

    /// Runs everything that is to be done now.
    pub(crate) fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let mut is_idle = !self.deliver();
            let now = self.clock.now();
            let stalled = self.stalled;
            for (id, running) in self.stores.iter_mut().filter(|(id, _)| stalled != Some(**id)) {
                for actor in &mut running.actors {
                    if running.fuse.is_dead() {
                        break;
                    }
                    let is_hanging =
                        self.hanging.iter().any(|(store, name)| store == id && *name == actor.name());
                    if is_hanging {
                        continue;
                    }
                    let has_mail = actor.take_mail(usize::MAX);
                    if has_mail || actor.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
                        actor.run(now);
                        is_idle = false;
                    }
                }
            }
            if is_idle {
                return;
            }
        }
        panic!("somebody has work without end");
    }

    fn deliver(&mut self) -> bool {
        let frames: Vec<_> = self.wire.lock().expect("no test panics here").drain(..).collect();
        let is_busy = !frames.is_empty();
        for (from, to, lane, mut messages) in frames {
            if self.cut.contains(&from) || self.cut.contains(&to) || self.cut_links.contains(&(from, to)) {
                continue;
            }
            if let Some(loses) = &mut self.loses {
                messages.retain(|message| !loses(from, to, message));
            }
            if let Some(alter) = &mut self.alters {
                messages.iter_mut().for_each(alter);
            }
            self.sent.extend(
                messages.iter().filter(|_| !self.is_forgetful).map(|message| (lane, message.clone())),
            );
            if let Some(running) = self.stores.get(&to) {
                running.store.receive(from, messages);
            }
        }
        is_busy
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn advance(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() {
            self.settle();
            self.clock.0.fetch_add(1_000_000, Ordering::Relaxed);
        }
        self.settle();
    }

    /// Lets much time pass, in steps as long as a heartbeat needs.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..duration.as_millis() / step.as_millis() {
            self.settle();
            self.clock.0.fetch_add(50_000_000, Ordering::Relaxed);
        }
        self.settle();
    }

    /// What a store holds in memory.
    pub(crate) fn ledger(&self, id: StoreId) -> Arc<Ledger> {
        Arc::clone(self.stores[&id].store.ledger())
    }

    /// Bytes of a store's logs on disk.
    pub(crate) fn log_bytes(&self, id: StoreId) -> u64 {
        self.stores[&id].log.disk_bytes()
    }

    /// The index up to which the log of a region is truncated on a store.
    pub(crate) fn truncated(&self, id: StoreId, region_id: RegionId) -> Index {
        let states = self.stores[&id].log.raft_states().expect("memory does not fail");
        let state = states.into_iter().find(|(known, _)| *known == region_id);
        state.expect("the region lives here").1.truncated.index
    }

    /// From now on a store's disk has this much space.
    pub(crate) fn set_free_bytes(&self, id: StoreId, bytes: u64) {
        self.stores[&id].disk.set_free_bytes(bytes);
    }

    pub(crate) fn hang(&mut self, id: StoreId, actor: &'static str) {
        self.hanging.insert((id, actor));
    }

    pub(crate) fn resume(&mut self, id: StoreId, actor: &'static str) {
        self.hanging.remove(&(id, actor));
    }

    pub(crate) fn cut(&mut self, id: StoreId) {
        self.cut.insert(id);
    }

    pub(crate) fn heal(&mut self, id: StoreId) {
        self.cut.remove(&id);
    }

    pub(crate) fn cut_link(&mut self, from: StoreId, to: StoreId) {
        self.cut_links.insert((from, to));
    }

    pub(crate) fn heal_link(&mut self, from: StoreId, to: StoreId) {
        self.cut_links.remove(&(from, to));
    }

    /// From now on.
    pub(crate) fn lose(&mut self, loses: impl FnMut(StoreId, StoreId, &StoreMessage) -> bool + 'static) {
        self.loses = Some(Box::new(loses));
    }

    /// From now on.
    pub(crate) fn alter(&mut self, alters: impl FnMut(&mut StoreMessage) + 'static) {
        self.alters = Some(Box::new(alters));
    }

    /// From now on.
    pub(crate) fn lose_nothing(&mut self) {
        self.loses = None;
    }

    /// Kills a store; it does not come back by itself.
    pub(crate) fn kill(&mut self, id: StoreId) -> MemDisk {
        let running = self.stores.remove(&id).expect("the store runs");
        running.disk.crash(&mut |_| 0);
        running.disk.clone()
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.monotonic()
    }

    /// When an actor of a store wants a round, without mail.
    pub(crate) fn deadline(&self, id: StoreId, name: &str) -> Option<Instant> {
        let actor = self.stores[&id].actors.iter().find(|actor| actor.name() == name);
        actor.expect("there is such an actor").deadline()
    }

    /// Ends a store for good: what it held in memory.
    pub(crate) fn end(&mut self, id: StoreId) -> usize {
        let Running { store, disk, log, kv, actors, .. } = self.stores.remove(&id).expect("the store runs");
        let before = held_bytes();
        drop((store, actors));
        let held = before - held_bytes();
        // These stand for what is on a disk.
        drop((disk, log, kv));
        held
    }

    /// Starts a killed store again.
    pub(crate) fn revive(&mut self, id: StoreId, disk: MemDisk) {
        self.start(id, disk);
        self.stores[&id].store.set_stores(STORES.to_vec());
    }

    /// Time passes while a store does nothing at all; what is sent to it waits.
    pub(crate) fn stall(&mut self, id: StoreId, duration: Duration) {
        self.stalled = Some(id);
        self.advance(duration);
        self.stalled = None;
    }

    /// A message comes from nowhere.
    pub(crate) fn receive(&mut self, to: StoreId, from: StoreId, message: StoreMessage) {
        self.stores[&to].store.receive(from, vec![message]);
        self.advance(Duration::from_millis(100));
    }

    pub(crate) fn start_put(&mut self, to: StoreId, key: &str, value: &str) -> Pending<Outcome> {
        self.start_put_with(
            to,
            RequestContext { region_id: RegionId::FIRST, ..RequestContext::default() },
            key,
            value,
        )
    }

    fn start_put_with(
        &mut self,
        to: StoreId,
        context: RequestContext,
        key: &str,
        value: &str,
    ) -> Pending<Outcome> {
        let pair = Pair {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ttl_seconds: 0,
        };
        self.start_submit(to, context, Command::Put(pair))
    }

    fn start_submit(&mut self, to: StoreId, context: RequestContext, command: Command) -> Pending<Outcome> {
        let (pending, responder) = pending();
        let request = Request { session: None, command };
        self.stores[&to].store.submit(vec![Proposal { context, request, responder }]);
        self.settle();
        pending
    }

    pub(crate) fn submit(
        &mut self,
        to: StoreId,
        context: RequestContext,
        command: Command,
    ) -> Result<Outcome> {
        let pending = self.start_submit(to, context, command);
        self.finish(pending)
    }

    pub(crate) fn put(&mut self, to: StoreId, key: &str, value: &str) -> Result<Outcome> {
        let pending = self.start_put(to, key, value);
        self.finish(pending)
    }

    pub(crate) fn put_to_peer(&mut self, to: StoreId, peer: PeerId, store: StoreId) -> Result<Outcome> {
        let context = RequestContext {
            region_id: RegionId::FIRST,
            peer: Some((peer, store)),
            ..RequestContext::default()
        };
        let pending = self.start_put_with(to, context, "a", "1");
        self.finish(pending)
    }

    pub(crate) fn read(&mut self, to: StoreId, query: Query) -> Result<Answer> {
        self.read_with(to, query, false)
    }

    pub(crate) fn read_replica(&mut self, to: StoreId, query: Query) -> Result<Answer> {
        self.read_with(to, query, true)
    }

    pub(crate) fn start_read(&mut self, to: StoreId, query: Query) -> Pending<Answer> {
        self.start_read_with(to, query, false)
    }

    pub(crate) fn start_read_at_replica(&mut self, to: StoreId, query: Query) -> Pending<Answer> {
        self.start_read_with(to, query, true)
    }

    /// A heartbeat of region 2's present leader that comes late.
    pub(crate) fn late_heartbeat(&self, leader: StoreId, follower: StoreId) -> StoreMessage {
        let body = MessageBody::Heartbeat {
            commit: self.commit_index(leader),
            stamp: raft::Stamp::default(),
            offers_sleep: false,
        };
        self.message(leader, follower, body)
    }

    /// A message of region 2's present leader.
    pub(crate) fn message(&self, leader: StoreId, follower: StoreId, body: MessageBody) -> StoreMessage {
        let region = self.region(leader);
        let find = |store| region.find_peer_on(store).expect("it has a peer");
        let (from, to) = (find(leader), find(follower));
        let term = self.stores[&leader].store.region(RegionId::FIRST).expect("region 2 lives here").term;
        let message = raft::Message { from: from.id, to: to.id, term, body };
        StoreMessage::Raft(store::RaftEnvelope { region_id: RegionId::FIRST, from, to, range: None, message })
    }

    fn read_with(&mut self, to: StoreId, query: Query, is_replica_read: bool) -> Result<Answer> {
        let pending = self.start_read_with(to, query, is_replica_read);
        self.finish(pending)
    }

    fn start_read_with(&mut self, to: StoreId, query: Query, is_replica_read: bool) -> Pending<Answer> {
        let (pending, responder) = pending();
        let context =
            RequestContext { region_id: RegionId::FIRST, is_replica_read, ..RequestContext::default() };
        self.stores[&to].store.read(vec![ReadRequest { context, query, responder }]);
        self.settle();
        pending
    }

    pub(crate) fn try_admin(&mut self, to: StoreId, action: AdminAction) -> Result<()> {
        let (pending, responder) = pending();
        self.stores[&to].store.admin(AdminRequest {
            region_id: RegionId::FIRST,
            epoch: None,
            action,
            responder,
        });
        self.settle();
        self.finish(pending)
    }

    pub(crate) fn admin(&mut self, to: StoreId, action: AdminAction) -> Result<()> {
        self.try_admin(to, action)
    }

    /// Asks the leader of a region for these peers, and waits until it has them.
    pub(crate) fn move_region(&mut self, region_id: RegionId, change_id: u64, peers: &[(u64, StoreId)]) {
        let peers: Vec<_> = peers
            .iter()
            .map(|(id, store_id)| Peer { id: PeerId(*id), store_id: *store_id, role: PeerRole::Voter })
            .collect();
        let leader = self.leader(region_id).expect("somebody leads");
        let action = AdminAction::SetPeers { peers: peers.clone(), change_id };
        let (pending, responder) = pending();
        self.stores[&leader].store.admin(AdminRequest { region_id, epoch: None, action, responder });
        assert_eq!(self.finish(pending), Ok(()));
        self.advance(Duration::from_secs(2));
        let leader = self.leader(region_id).expect("somebody leads");
        let region = self.picture(leader, region_id).and_then(|picture| picture.region);
        assert_eq!(region.expect("it leads").peers, peers);
    }

    /// The store whose peer leads a region, as far as it knows itself.
    pub(crate) fn leader(&self, region_id: RegionId) -> Option<StoreId> {
        let pictures = self.stores().into_iter().filter_map(|id| Some((id, self.picture(id, region_id)?)));
        let leads =
            |picture: &RegionPicture| picture.leader.is_some_and(|leader| leader.id == picture.peer.id);
        let leaders = pictures.filter(|(_, picture)| leads(picture));
        leaders.max_by_key(|(_, picture)| picture.term).map(|(id, _)| id)
    }

    /// Writes through whoever leads a region.
    pub(crate) fn put_to(&mut self, region_id: RegionId, key: &str, value: &str) -> Result<Outcome> {
        let leader = self.leader(region_id).expect("somebody leads");
        let context = RequestContext { region_id, ..RequestContext::default() };
        let pending = self.start_put_with(leader, context, key, value);
        self.finish(pending)
    }

    /// Writes one pair to each of these regions that [`Cluster::split_into`] has made, through whoever leads it.
    pub(crate) fn put_to_each(&mut self, regions: &[RegionId]) {
        let mut answers = Vec::new();
        for region_id in regions {
            let leader = self.leader(*region_id).expect("somebody leads");
            let (answer, responder) = pending();
            answers.push(answer);
            let key = Bytes::from(format!("k{:06}", region_id.0));
            let command = Command::Put(Pair { key, value: Bytes::from_static(b"value"), ttl_seconds: 0 });
            let context = RequestContext { region_id: *region_id, ..RequestContext::default() };
            let request = Request { session: None, command };
            self.stores[&leader].store.submit(vec![Proposal { context, request, responder }]);
        }
        answers.into_iter().for_each(|answer| assert_eq!(self.finish(answer), Ok(Outcome::Done)));
    }

    /// Waits for an answer, at most five seconds.
    pub(crate) fn finish<T>(&mut self, pending: Pending<T>) -> Result<T> {
        for _ in 0..5_000 {
            if let Some(result) = pending.lock().expect("no test panics here").take() {
                return result;
            }
            self.advance(Duration::from_millis(1));
        }
        panic!("no answer in five seconds");
    }

    /// Region 2 gets a voter on each of three stores.
    pub(crate) fn grow_to_three_voters(&mut self) {
        let mut peers = self.region(FIRST_STORE).peers.clone();
        peers.extend([1_001, 1_002].map(|store| Peer {
            id: PeerId(store + 1_000),
            store_id: StoreId(store),
            role: PeerRole::Voter,
        }));
        let action = AdminAction::SetPeers { peers: peers.clone(), change_id: 1 };
        self.admin(FIRST_STORE, action).expect("the leader takes the change on");
        self.advance(Duration::from_secs(2));
        assert_eq!(self.region(FIRST_STORE).peers, peers);
    }

    /// What divides region 2 at a key: the child is region 10, its peers' ids are 10 above their stores'.
    pub(crate) fn split_at(&self, leader: StoreId, key: &'static str, change_id: u64) -> AdminAction {
        let region = self.region(leader);
        let peer_ids = region.peers.iter().map(|peer| PeerId(peer.store_id.0 * 10)).collect();
        let child = SplitChild { start_key: Bytes::from(key), region_id: CHILD, peer_ids };
        AdminAction::Split(Split {
            change_id,
            epoch: region.epoch,
            leader_stores: vec![leader],
            children: vec![child],
        })
    }

    /// The first region's keys as a store remembers them of a version of its epoch.
    pub(crate) fn range_at(&self, store: StoreId, version: u64) -> Option<KeyRange> {
        self.stores[&store].store.range_at(RegionId::FIRST, version)
    }

    pub(crate) fn find_split_keys(
        &mut self,
        to: StoreId,
        region_id: RegionId,
        wish: SplitKeysWish,
    ) -> Result<SplitKeys> {
        let (pending, responder) = pending();
        self.stores[&to].store.find_split_keys(region_id, wish, responder);
        self.finish(pending)
    }

    /// The splits that stores wanted since this was asked last.
    pub(crate) fn take_wishes(&self) -> Vec<SplitWish> {
        std::mem::take(&mut *self.placement.wishes.lock().expect("no test panics here"))
    }

    /// The ranges of the regions on a store, but for the placement group, in order of their keys.
    pub(crate) fn ranges(&self, id: StoreId) -> Vec<(RegionId, KeyRange)> {
        let regions = self.stores[&id].store.regions().into_iter().filter_map(|picture| picture.region);
        let mut ranges: Vec<_> = regions
            .filter(|region| region.id != RegionId::PLACEMENT)
            .map(|region| (region.id, region.range.clone()))
            .collect();
        ranges.sort_by(|left, right| left.1.start_key.cmp(&right.1.start_key));
        ranges
    }

    /// Divides region 2, led on `leader`, so that there are `count` more regions, which are led there, too, and waits until
    /// all their peers are there.
    pub(crate) fn split_into(&mut self, leader: StoreId, count: u64) -> Vec<RegionId> {
        if count == 0 {
            return Vec::new();
        }
        self.split_in_turns(leader, count, vec![leader])
    }

    /// The same, with stores that take turns to lead the new regions first.
    pub(crate) fn split_in_turns(
        &mut self,
        leader: StoreId,
        count: u64,
        leader_stores: Vec<StoreId>,
    ) -> Vec<RegionId> {
        let region = self.region(leader);
        let ids: Vec<_> = (0..count).map(|at| RegionId(100 + at)).collect();
        let child = |id: &RegionId| SplitChild {
            start_key: Bytes::from(format!("k{:06}", id.0)),
            region_id: *id,
            peer_ids: region.peers.iter().map(|peer| PeerId(id.0 * 10_000 + peer.store_id.0)).collect(),
        };
        let split = Split {
            change_id: 99,
            epoch: region.epoch,
            leader_stores,
            children: ids.iter().map(child).collect(),
        };
        self.admin(leader, AdminAction::Split(split)).expect("the split is carried out");
        self.advance(Duration::from_millis(200));
        ids
    }

    /// How many peers sleep on a store.
    pub(crate) fn asleep_count(&self, id: StoreId) -> usize {
        self.stores[&id].store.regions().iter().filter(|picture| picture.is_asleep).count()
    }

    /// Who leads a region, by what its leader itself believes.
    pub(crate) fn leaders(&self, region_id: RegionId) -> Vec<StoreId> {
        let leads = |running: &Running| {
            let picture = running.store.region(region_id);
            picture.is_some_and(|picture| picture.leader.is_some_and(|leader| leader.id == picture.peer.id))
        };
        self.stores.iter().filter(|(_, running)| leads(running)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn picture(&self, id: StoreId, region_id: RegionId) -> Option<RegionPicture> {
        self.stores[&id].store.region(region_id)
    }

    pub(crate) fn find_region(&self, id: StoreId, key: &str) -> Option<RegionId> {
        self.stores[&id].store.find_region(key.as_bytes()).map(|region| region.id)
    }

    pub(crate) fn start_admin(&mut self, to: StoreId, action: AdminAction) -> Pending<()> {
        let (pending, responder) = pending();
        let request = AdminRequest { region_id: RegionId::FIRST, epoch: None, action, responder };
        self.stores[&to].store.admin(request);
        pending
    }

    /// Goes on with these peers of region 2.
    pub(crate) fn set_peers(&mut self, leader: StoreId, change_id: u64, peers: &[(u64, StoreId)]) {
        let peers: Vec<_> = peers
            .iter()
            .map(|(id, store_id)| Peer { id: PeerId(*id), store_id: *store_id, role: PeerRole::Voter })
            .collect();
        let action = AdminAction::SetPeers { peers: peers.clone(), change_id };
        self.admin(leader, action).expect("the leader takes the change on");
        self.advance(Duration::from_secs(2));
        assert_eq!(self.region(leader).peers, peers);
    }

    /// Whether anything of region 2 is left on a store, but for the tombstone: a peer, a log, rows or data.
    pub(crate) fn has_remains(&self, id: StoreId) -> bool {
        let running = &self.stores[&id];
        let has_log = running.log.raft_states().expect("memory does not fail");
        let has_row = |key: &[u8]| running.kv.get(key).expect("memory does not fail").is_some();
        running.store.region(RegionId::FIRST).is_some()
            || has_log.iter().any(|(region_id, _)| *region_id == RegionId::FIRST)
            || has_row(&kv::keys::apply_state_key(RegionId::FIRST))
            || has_row(&kv::keys::region_state_key(RegionId::FIRST))
            || self.stored(id, "a").is_some()
    }

    pub(crate) fn region(&self, id: StoreId) -> Arc<Region> {
        let picture = self.stores[&id].store.region(RegionId::FIRST).expect("region 2 lives here");
        picture.region.expect("it has a descriptor")
    }

    pub(crate) fn commit_index(&self, id: StoreId) -> Index {
        self.stores[&id].store.region(RegionId::FIRST).expect("region 2 lives here").commit_index
    }

    pub(crate) fn last_index(&self, id: StoreId) -> Index {
        self.stores[&id].store.region(RegionId::FIRST).expect("region 2 lives here").applied.index
    }

    /// The value in a store's KV engine, whoever leads.
    pub(crate) fn stored(&self, id: StoreId, key: &str) -> Option<Vec<u8>> {
        let key = kv::keys::join(kv::keys::user_key(key.as_bytes()));
        let stored = self.stores[&id].kv.get(&key).expect("memory does not fail")?;
        // One byte of flags, no expiry.
        Some(stored[1..].to_vec())
    }
}

/// A store does not stop by itself in these tests, but for one that is dead already.
fn fatal(fuse: Arc<Fuse>) -> store::Fatal {
    Arc::new(move |reason| assert!(fuse.is_dead(), "the store stops: {reason}"))
}

/// The region that splits of these tests make.
pub(crate) const CHILD: RegionId = RegionId(10);

/// The stores of a cluster of three.
pub(crate) const STORES: [StoreId; 3] = [StoreId(1_000), StoreId(1_001), StoreId(1_002)];

const FIRST_STORE: StoreId = StoreId(bootstrap::FIRST_ID);

fn pending<T: Send + 'static>() -> (Pending<T>, Responder<T>) {
    let pending: Pending<T> = Arc::default();
    let answer = Arc::clone(&pending);
    (pending, Responder::new(move |result| *answer.lock().expect("no test panics here") = Some(result)))
}
