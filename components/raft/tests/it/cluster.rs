//! A cluster in memory: a network, clocks and disks that can misbehave, and an observer that checks safety.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use raft::{
    CampaignReason, Message, MessageBody, Options, RaftGroup, Ready, Role, SnapshotMeta, SnapshotOutcome,
    confchange::Changer,
};
use types::{
    Chain, ClusterId, ConfigurationChange, Index, Instant, LogPosition, Peer, PeerId, PeerRole, RegionId,
    StoreId, Term,
};

use crate::{
    disk::{Disk, Write},
    ghost::Ghost,
    host::{Applied, Host},
};

/// How badly the world behaves. Chances are in thousandths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) delay_min: Duration,
    pub(crate) delay_max: Duration,
    pub(crate) write_max: Duration,
    pub(crate) ready_max: Duration,
    pub(crate) not_in_memory: u64,
}

impl Faults {
    /// One millisecond each way, half a millisecond for a write.
    pub(crate) const NONE: Faults = Faults {
        drop: 0,
        duplicate: 0,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1),
        write_max: Duration::from_micros(500),
        ready_max: Duration::ZERO,
        not_in_memory: 0,
    };
}

/// All of it.
pub(crate) struct Cluster {
    pub(crate) now: Instant,
    pub(crate) hosts: BTreeMap<PeerId, Host>,
    pub(crate) faults: Faults,
    /// Directed pairs between which nothing passes.
    pub(crate) blocked: BTreeSet<(PeerId, PeerId)>,
    /// Whether a message is kept back by a test.
    pub(crate) filter: Option<fn(&Message) -> bool>,
    pub(crate) ghost: Ghost,
    /// What happened, for scripts.
    pub(crate) trace: Vec<String>,
    /// How many messages of each kind were delivered.
    pub(crate) delivered: BTreeMap<&'static str, u64>,
    /// Who said of whom that it has lost what it acknowledged.
    pub(crate) memory_lost: Vec<(PeerId, PeerId)>,
    /// The configuration that the group began with.
    pub(crate) first: ConfigurationChange,
    network: BTreeMap<(Instant, u64), Message>,
    sequence: u64,
    random: u64,
    is_verbose: bool,
}

/// The truncation point of every test's group.
pub(crate) fn first_position() -> LogPosition {
    LogPosition {
        index: Index::FIRST,
        term: Term::FIRST,
        chain: Chain::of_first_log(ClusterId(7), RegionId(2)),
    }
}

/// A configuration in which each peer has its own store.
pub(crate) fn configuration(voters: &[u64], learners: &[u64]) -> ConfigurationChange {
    let with = |ids: &[u64], role| ids.iter().map(move |id| peer(*id, role)).collect::<Vec<_>>();
    let mut peers = with(voters, PeerRole::Voter);
    peers.extend(with(learners, PeerRole::Learner));
    peers.sort_by_key(|peer| peer.id);
    ConfigurationChange { peers, change_id: 1 }
}

pub(crate) fn peer(id: u64, role: PeerRole) -> Peer {
    Peer { id: PeerId(id), store_id: StoreId(id), role }
}

/// The change that leads from `present` to these voters and learners: joint if voters change, and then who no longer
/// votes becomes a learner.
pub(crate) fn change_to(
    present: &ConfigurationChange,
    voters: &[u64],
    learners: &[u64],
) -> ConfigurationChange {
    let goal = configuration(voters, learners).peers;
    let changer = Changer::new(present);
    let voters: Vec<_> = voters.iter().map(|id| PeerId(*id)).collect();
    let change = if present.configuration().voters == voters {
        changer.simple(&goal, 2)
    } else {
        changer.enter_joint(&goal, 2)
    };
    // What may not follow is proposed all the same: the group shall refuse it.
    change.unwrap_or(ConfigurationChange { peers: goal, change_id: 2 })
}

impl Cluster {
    /// Peers `1..=peer_count`, of which `voters` and `learners` form the group; the others are empty.
    pub(crate) fn new(
        seed: u64,
        peer_count: u64,
        voters: &[u64],
        learners: &[u64],
        options: &Options,
    ) -> Cluster {
        let now = Instant::from_millis(1_000);
        let first = configuration(voters, learners);
        let hosts = (1..=peer_count).map(|id| {
            let is_member = voters.contains(&id) || learners.contains(&id);
            let disk = if is_member { Disk::first(&first, first_position()) } else { Disk::default() };
            let options = Options { id: PeerId(id), seed: seed.wrapping_mul(31) + id, ..options.clone() };
            (PeerId(id), Host::new(options, disk, now))
        });
        let mut cluster = Cluster {
            now,
            hosts: hosts.collect(),
            faults: Faults::NONE,
            blocked: BTreeSet::new(),
            filter: None,
            ghost: Ghost::default(),
            trace: Vec::new(),
            delivered: BTreeMap::new(),
            memory_lost: Vec::new(),
            first,
            network: BTreeMap::new(),
            sequence: 0,
            random: seed,
            is_verbose: std::env::var_os("RAFT_TRACE").is_some(),
        };
        cluster.ghost.on_committed(PeerId(0), first_position());
        cluster
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn chance(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.random() % 1_000 < thousandths
    }

    pub(crate) fn host(&self, id: u64) -> &Host {
        &self.hosts[&PeerId(id)]
    }

    pub(crate) fn group(&self, id: u64) -> &RaftGroup {
        self.host(id).group.as_ref().expect("it is up")
    }

    /// Calls the group of a peer, if it is up, and sees to what comes of it.
    pub(crate) fn with<R>(&mut self, id: u64, call: impl FnOnce(&mut RaftGroup, Instant) -> R) -> Option<R> {
        let now = self.now;
        let host = self.hosts.get_mut(&PeerId(id)).expect("it exists");
        let local = host.clock(now);
        let result = host.group.as_mut().map(|group| call(group, local))?;
        self.after_input(PeerId(id));
        Some(result)
    }

    pub(crate) fn propose(&mut self, id: u64, payload: &str) -> Option<raft::Result<(Index, Term)>> {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.with(id, |group, now| group.propose(now, payload))
    }

    pub(crate) fn change(
        &mut self,
        id: u64,
        voters: &[u64],
        learners: &[u64],
    ) -> Option<raft::Result<Index>> {
        let present = self.host(id).group.as_ref()?.status().configuration.1;
        let change = change_to(&present, voters, learners);
        self.with(id, |group, now| group.propose_conf_change(now, change))
    }

    /// Asks for a read index, and remembers what it must not be below.
    pub(crate) fn read(&mut self, id: u64, read_id: u64) {
        let committed = self.ghost.last_committed();
        if self.host(id).group.is_some() {
            self.hosts.get_mut(&PeerId(id)).expect("it exists").reads.insert(read_id, committed);
            self.with(id, |group, now| group.read_index(now, read_id));
        }
    }

    pub(crate) fn crash(&mut self, id: u64) {
        let kept = self.random() as usize % 4;
        self.log(|| format!("{id} crashes, {kept} writes kept of {:?}", self.host(id).writes));
        self.hosts.get_mut(&PeerId(id)).expect("it exists").crash(kept);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let now = self.now;
        let host = self.hosts.get_mut(&PeerId(id)).expect("it exists");
        if host.group.is_none() {
            host.start(now, false);
            self.log(|| format!("{id} restarts: {}", self.picture()));
            self.after_input(PeerId(id));
        }
    }

    /// Truncates the log of a peer up to what it has applied, durably.
    pub(crate) fn compact(&mut self, id: u64) {
        let host = self.hosts.get_mut(&PeerId(id)).expect("it exists");
        let Some(group) = &mut host.group else { return };
        // The machine may be ahead of what the group has been told.
        let index = host.machine.0.min(group.applied_index()).min(group.persisted_index());
        let Some(position) = group.position(index).or_else(|| host.disk.position(index)) else { return };
        let is_on_disk = host.disk.last().index >= index && host.disk.truncated.index < index;
        if is_on_disk && host.machine.0 == index {
            host.flushed = host.machine;
            host.disk.compact(position);
            group.compact(position);
        }
    }

    /// Nothing passes between the groups of peers.
    pub(crate) fn partition(&mut self, sides: &[&[u64]]) {
        self.blocked.clear();
        for (at, side) in sides.iter().enumerate() {
            for other in
                sides.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, other)| *other)
            {
                self.blocked.extend(side.iter().map(|id| (PeerId(*id), PeerId(*other))));
            }
        }
    }

    /// Peers that believe they lead.
    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leads = |host: &&Host| host.group.as_ref().is_some_and(|group| group.role() == Role::Leader);
        self.hosts.values().filter(leads).map(|host| host.id.0).collect()
    }

    /// The leader of the highest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.leaders().into_iter().max_by_key(|id| self.group(*id).term())
    }

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.next_event() <= end {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `is_done`, and fails the test if that takes longer than `millis`.
    pub(crate) fn run_until(&mut self, millis: u64, is_done: impl Fn(&Cluster) -> bool) {
        let end = self.now + Duration::from_millis(millis);
        while !is_done(self) {
            assert!(self.next_event() <= end, "not done after {millis} ms:\n{}", self.picture());
            self.step();
        }
    }

    /// Makes a peer campaign, and runs until it leads and has committed an entry of its own.
    pub(crate) fn elect(&mut self, id: u64) {
        self.with(id, |group, now| group.campaign(now, CampaignReason::Wish));
        self.run_until(1_000, |cluster| cluster.group(id).has_committed_in_term());
    }

    /// Whether one of `voters` leads, they are the whole configuration, and everything is committed.
    pub(crate) fn is_settled(&self, voters: &[u64]) -> bool {
        let voters: Vec<_> = voters.iter().map(|id| PeerId(*id)).collect();
        self.leader().is_some_and(|id| {
            let group = self.group(id);
            group.configuration().voters == voters
                && !group.configuration().is_joint()
                && group.commit_index() == group.last().index
                && voters.contains(&PeerId(id))
        })
    }

    fn next_event(&self) -> Instant {
        let message = self.network.keys().next().map_or(Instant::MAX, |(at, _)| *at);
        let host = self.hosts.values().map(|host| host.next_event(self.now)).min().unwrap_or(Instant::MAX);
        message.min(host).max(self.now)
    }

    /// The next thing happens.
    pub(crate) fn step(&mut self) {
        self.now = self.next_event();
        if self.network.keys().next().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, message)) = self.network.pop_first() {
                self.deliver(message);
            }
            return;
        }
        let due = self.hosts.values().find(|host| host.next_event(self.now) <= self.now).map(|host| host.id);
        if let Some(id) = due {
            self.run_host(id);
        }
    }

    fn run_host(&mut self, id: PeerId) {
        let now = self.now;
        let host = self.hosts.get_mut(&id).expect("it exists");
        let local = host.clock(now);
        let group = host.group.as_mut().expect("only who is up has events");
        if host.ready_at.is_some_and(|at| at <= now) {
            self.take_ready(id);
            return;
        }
        if host.writes.front().is_some_and(|write| write.due <= now) {
            self.finish_write(id);
            return;
        }
        if host.persisted.front().is_some_and(|(due, _)| *due <= now) {
            let (_, number) = host.persisted.pop_front().expect("it is there");
            group.on_persisted(local, number);
        } else if host.applies.front().is_some_and(|(due, _)| *due <= now) {
            let (_, applied) = host.applies.pop_front().expect("it is there");
            let index = host.apply(applied);
            host.group.as_mut().expect("it is up").advance(local, index);
        } else {
            group.tick(local);
        }
        self.after_input(id);
    }

    fn deliver(&mut self, message: Message) {
        let to = message.to;
        self.log(|| format!("{} -> {} term {} {:?}", message.from, message.to, message.term, message.body));
        *self.delivered.entry(kind(&message.body)).or_default() += 1;
        let snapshot = match &message.body {
            MessageBody::Snapshot { meta } => Some(meta.position.index),
            _ => None,
        };
        let from = message.from.0;
        let is_up = self.with(to.0, |group, now| group.step(now, message)).is_some();
        if let Some(index) = snapshot {
            let outcome = if is_up { SnapshotOutcome::Sent(index) } else { SnapshotOutcome::Failed };
            self.with(from, |group, now| group.report_snapshot(now, to, outcome));
        }
    }

    fn finish_write(&mut self, id: PeerId) {
        let late = Duration::from_nanos(self.random() % (self.faults.write_max.as_nanos() as u64 + 1));
        let now = self.now;
        let host = self.hosts.get_mut(&id).expect("it exists");
        let write = host.writes.pop_front().expect("it is there");
        host.disk.apply(&write);
        let number = write.number;
        let due = host.persisted.back().map_or(now, |(due, _)| *due).max(now + late);
        host.persisted.push_back((due, write.number));
        if let Some(meta) = &write.snapshot {
            host.flushed = (meta.position.index, meta.position.chain);
            host.applies.push_back((due, Applied::Snapshot(meta.position)));
        }
        self.log(|| format!("{id} has written {number}"));
        for message in write.messages {
            self.send(message);
        }
    }

    fn take_ready(&mut self, id: PeerId) {
        let refusals = self.faults.not_in_memory;
        let mut salt = self.random();
        let refuse = move || {
            salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            refusals > 0 && (salt >> 33) % 1_000 < refusals
        };
        let now = self.now;
        let host = self.hosts.get_mut(&id).expect("it exists");
        host.ready_at = None;
        let mut ready = host.take_ready(now, refuse);
        for entry in &ready.entries {
            self.ghost.on_appended(id, entry);
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(message);
        }
        if ready.must_persist() {
            let due = self.now
                + Duration::from_nanos(self.random() % (self.faults.write_max.as_nanos() as u64 + 1));
            let host = self.hosts.get_mut(&id).expect("it exists");
            let due = host.writes.back().map_or(due, |write| write.due.max(due));
            host.writes.push_back(Write::of(&mut ready, due));
        } else {
            assert!(ready.hard_state.is_none() && ready.entries.is_empty() && ready.snapshot.is_none());
            assert!(ready.messages_after_persist.is_empty());
        }
        self.hand_over(id, ready);
        self.after_input(id);
    }

    fn hand_over(&mut self, id: PeerId, ready: Ready) {
        let late = Duration::from_nanos(self.random() % (self.faults.write_max.as_nanos() as u64 + 1));
        if let Some(change) = ready.role_change {
            let leader = change.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            self.log(|| format!("{id} is {change:?}"));
            self.trace.push(format!("{id}: {:?} term {} leader {leader}", change.role, change.term));
        }
        let host = self.hosts.get_mut(&id).expect("it exists");
        for read in ready.reads {
            let asked = host.reads.remove(&read.id).expect("each read is answered once");
            if let Some(index) = read.index {
                assert!(index >= asked, "peer {id} reads at {index} what was committed up to {asked} before");
            }
            host.answers.push((read.id, read.index));
        }
        if !ready.committed.is_empty() {
            for entry in &ready.committed {
                assert!(
                    host.disk.position(entry.index) == Some(entry.position()),
                    "handed out before it was durable"
                );
            }
            let due = host.applies.back().map_or(self.now, |(due, _)| *due).max(self.now + late);
            host.applies.push_back((due, Applied::Entries(ready.committed)));
        }
        self.memory_lost.extend(ready.memory_lost.iter().map(|peer| (id, *peer)));
        for peer in ready.snapshot_wanted {
            self.send_snapshot(id, peer);
        }
    }

    /// A snapshot of what the leader has applied.
    fn send_snapshot(&mut self, from: PeerId, to: PeerId) {
        let host = &self.hosts[&from];
        let group = host.group.as_ref().expect("it is up");
        let index = host.machine.0;
        let in_force = group.configurations().iter().rfind(|(at, _)| *at <= index).cloned();
        if let (Some(position), Some(configuration)) = (host.position(index), in_force) {
            let body = MessageBody::Snapshot { meta: SnapshotMeta { position, configuration } };
            self.send(Message { from, to, term: group.term(), body });
        } else {
            self.with(from.0, |group, now| group.report_snapshot(now, to, SnapshotOutcome::Failed));
        }
    }

    fn send(&mut self, message: Message) {
        let is_lost = self.blocked.contains(&(message.from, message.to))
            || self.filter.is_some_and(|filter| filter(&message))
            || self.chance(self.faults.drop);
        if is_lost {
            if matches!(message.body, MessageBody::Snapshot { .. }) {
                let (from, to) = (message.from.0, message.to);
                self.with(from, |group, now| group.report_snapshot(now, to, SnapshotOutcome::Failed));
            }
            return;
        }
        if self.chance(self.faults.duplicate) && !matches!(message.body, MessageBody::Snapshot { .. }) {
            self.enqueue(message.clone());
        }
        self.enqueue(message);
    }

    fn enqueue(&mut self, message: Message) {
        let spread = (self.faults.delay_max - self.faults.delay_min).as_nanos() as u64;
        let delay = self.faults.delay_min + Duration::from_nanos(self.random() % (spread + 1));
        self.sequence += 1;
        self.network.insert((self.now + delay, self.sequence), message);
    }

    /// Looks at a peer after an input, and sees to it that its Ready is taken.
    fn after_input(&mut self, id: PeerId) {
        let wait = Duration::from_nanos(self.random() % (self.faults.ready_max.as_nanos() as u64 + 1));
        let host = self.hosts.get_mut(&id).expect("it exists");
        let Some(group) = &host.group else { return };
        group.check_invariants();
        if group.has_ready() && host.ready_at.is_none() {
            host.ready_at = Some(self.now + wait);
        }
        self.observe(id);
    }

    fn observe(&mut self, id: PeerId) {
        let host = &self.hosts[&id];
        let Some(group) = &host.group else { return };
        if group.role() == Role::Leader && host.seen_leading != group.term() {
            self.ghost.on_leader(id, group.term(), |index| host.position(index));
        }
        let leading = if group.role() == Role::Leader { group.term() } else { Term(0) };
        let commit = group.commit_index();
        for index in (host.seen_commit.0 + 1..=commit.0).map(Index) {
            if let Some(position) = host.position(index) {
                self.ghost.on_committed(id, position);
            }
        }
        // Whoever has a lease reads what is committed; so nothing may be committed that it does not know of.
        let last_committed = self.ghost.last_committed();
        for holder in self.hosts.values() {
            if let Some(group) = &holder.group
                && group.lease(holder.clock(self.now)).is_some()
            {
                let known = group.commit_index();
                assert!(
                    known >= last_committed,
                    "{} has a lease, knows {known} of {last_committed}",
                    holder.id
                );
            }
        }
        let host = self.hosts.get_mut(&id).expect("it exists");
        host.seen_commit = commit;
        host.seen_leading = leading;
    }

    /// With `RAFT_TRACE` set, says what happens.
    fn log(&self, text: impl FnOnce() -> String) {
        if self.is_verbose {
            println!("{} {}", self.now, text());
        }
    }

    /// One line for each peer.
    pub(crate) fn picture(&self) -> String {
        let line = |host: &Host| match &host.group {
            None => format!("{}: down", host.id),
            Some(group) => {
                let status = group.status();
                let (index, change) = &status.configuration;
                let configuration = change.configuration();
                let ids =
                    |peers: &[PeerId]| peers.iter().map(PeerId::to_string).collect::<Vec<_>>().join(",");
                let mut text = format!(
                    "{}: {:?} term {} log ({}, {}..{}] commit {} applied {} voters {}",
                    host.id,
                    status.role,
                    status.term,
                    status.truncated.index,
                    status.last.term,
                    status.last.index,
                    status.commit_index,
                    status.applied_index,
                    ids(&configuration.voters)
                );
                if configuration.is_joint() {
                    text += &format!(" outgoing {}", ids(&configuration.outgoing));
                }
                if !configuration.learners.is_empty() {
                    text += &format!(" learners {}", ids(&configuration.learners));
                }
                text + &format!(" @{index}")
            }
        };
        self.hosts.values().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The name of a kind of message.
pub(crate) fn kind(body: &MessageBody) -> &'static str {
    match body {
        MessageBody::Append { .. } => "append",
        MessageBody::AppendAccepted { .. } => "accepted",
        MessageBody::AppendRejected { .. } => "rejected",
        MessageBody::Heartbeat { .. } => "heartbeat",
        MessageBody::HeartbeatResponse { .. } => "alive",
        MessageBody::VoteRequest { is_pre_vote: true, .. } => "pre-vote?",
        MessageBody::VoteRequest { is_pre_vote: false, .. } => "vote?",
        MessageBody::VoteResponse { is_pre_vote: true, .. } => "pre-vote",
        MessageBody::VoteResponse { is_pre_vote: false, .. } => "vote",
        MessageBody::Snapshot { .. } => "snapshot",
        MessageBody::TimeoutNow => "timeout-now",
        MessageBody::ReadIndexRequest { .. } => "read?",
        MessageBody::ReadIndexResponse { .. } => "read",
    }
}
