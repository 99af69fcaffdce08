//! Bytes as the life of one group: messages that anyone may have sent, calls of its owner, and a disk.
//!
//! What arrives in messages is arbitrary. What the owner does keeps to the contract of the crate: time does not run back,
//! Readies become durable in order, only what was handed out is applied. After every step the group's own invariants are
//! checked; a panic is a find.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use raft::{
    CampaignReason, InitialState, LogReader, Message, MessageBody, NotInMemory, Options, RaftGroup,
    SnapshotMeta, SnapshotOutcome, Stamp,
};
use types::{
    Chain, ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, Peer, PeerId,
    PeerRole, StoreId, Term,
};

/// This peer.
const OWN: PeerId = PeerId(1);

const BEGIN: LogPosition = LogPosition { index: Index(1), term: Term(1), chain: Chain(1) };

/// Steps of one life at the most.
const STEPS_MAX: usize = 400;

/// Reads bytes as what is wanted; zeros behind their end.
struct Bits<'a>(&'a [u8]);

impl Bits<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Mostly small, sometimes absurd.
    fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=239 => u64::from(small % 12),
            240..=243 => u64::MAX,
            244..=246 => u64::MAX - 1,
            247..=249 => u64::MAX / 2,
            250..=252 => u64::MAX / 2 - 1,
            253..=255 => u64::from(self.byte()) << 32 | u64::from(self.byte()),
        }
    }

    /// One that is known to the group, or any.
    fn position(&mut self, group: &RaftGroup) -> LogPosition {
        match self.byte() % 6 {
            0 => group.truncated(),
            1 | 2 => group.last(),
            3 => group.position(group.commit_index()).unwrap_or_default(),
            4 => group.position(Index(self.number())).unwrap_or_default(),
            _ => LogPosition {
                index: Index(self.number()),
                term: Term(self.number()),
                chain: Chain(u128::from(self.byte() % 3)),
            },
        }
    }

    fn entries(&mut self, prev: LogPosition, term: Term) -> Vec<Entry> {
        let count = u64::from(self.byte() % 4);
        let entry = |at: u64| {
            let is_odd = self.byte() == 255;
            let index = if is_odd { self.number() } else { prev.index.0.wrapping_add(at) };
            let entry_term = if self.byte() > 200 { Term(self.number()) } else { term.max(prev.term) };
            let (kind, payload) = match self.byte() % 8 {
                0 => (EntryKind::Empty, Bytes::new()),
                1 => (EntryKind::Configuration, self.change().encode()),
                2 => (EntryKind::Configuration, Bytes::copy_from_slice(&[self.byte(); 14])),
                _ => (EntryKind::Command, Bytes::copy_from_slice(&[self.byte()])),
            };
            Entry { index: Index(index), term: entry_term, kind, payload, chain: Chain(0) }
        };
        (1..=count).map(entry).collect()
    }

    fn change(&mut self) -> ConfigurationChange {
        let roles = [PeerRole::Voter, PeerRole::Learner, PeerRole::IncomingVoter, PeerRole::DemotingVoter];
        let mut peers = Vec::new();
        for id in 1..=5 {
            let choice = self.byte();
            if !choice.is_multiple_of(3) {
                let role = roles[usize::from(choice / 16) % roles.len()];
                peers.push(Peer { id: PeerId(id), store_id: StoreId(id), role });
            }
        }
        ConfigurationChange { peers, change_id: 0 }
    }

    fn stamp(&mut self, now: Instant) -> Stamp {
        let sent_at = if self.flag() { now } else { Instant(self.number()) };
        Stamp { nonce: self.number(), sent_at }
    }

    fn message(&mut self, group: &RaftGroup, now: Instant) -> Message {
        let term = match self.byte() {
            0..=140 => group.term(),
            141..=220 => Term(group.term().0.wrapping_add(1)),
            _ => Term(self.number()),
        };
        let from = PeerId(if self.byte() > 250 { self.number() } else { u64::from(self.byte() % 6) });
        let to = if self.byte() > 250 { PeerId(self.number()) } else { OWN };
        Message { from, to, term, body: self.body(group, now, term) }
    }

    fn body(&mut self, group: &RaftGroup, now: Instant, term: Term) -> MessageBody {
        match self.byte() % 15 {
            0..=3 => {
                let prev = self.position(group);
                let entries = self.entries(prev, term);
                MessageBody::Append { prev, entries, commit: Index(self.number()), stamp: self.stamp(now) }
            }
            4 | 5 => MessageBody::AppendAccepted {
                match_index: self.position(group).index,
                stamp: self.stamp(now),
            },
            6 => MessageBody::AppendRejected {
                prev_index: self.position(group).index,
                last_index: Index(self.number()),
                hint: self.position(group),
                stamp: self.stamp(now),
            },
            7 => MessageBody::Heartbeat {
                commit: Index(self.number()),
                stamp: self.stamp(now),
                offers_sleep: false,
            },
            8 => MessageBody::HeartbeatResponse { stamp: self.stamp(now), last_index: Index(self.number()) },
            9 => {
                let last = self.position(group);
                MessageBody::VoteRequest {
                    is_pre_vote: self.flag(),
                    is_forced: self.flag(),
                    last_index: last.index,
                    last_term: last.term,
                }
            }
            10 | 11 => MessageBody::VoteResponse { is_pre_vote: self.flag(), is_granted: !self.flag() },
            12 => {
                let position = self.position(group);
                let configuration = (Index(self.number()), self.change());
                MessageBody::Snapshot { meta: SnapshotMeta { position, configuration } }
            }
            13 => MessageBody::TimeoutNow,
            _ if self.flag() => MessageBody::ReadIndexRequest { id: self.number() },
            _ => {
                let index = self.flag().then(|| Index(self.number()));
                MessageBody::ReadIndexResponse { id: self.number(), index }
            }
        }
    }
}

struct Write {
    number: u64,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
}

struct Disk {
    hard_state: HardState,
    truncated: LogPosition,
    configuration: Option<(Index, ConfigurationChange)>,
    /// From behind `truncated` on.
    entries: Vec<Entry>,
    refuses: bool,
}

impl Disk {
    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.truncated, Entry::position)
    }

    fn position(&self, index: Index) -> Option<LogPosition> {
        if index == self.truncated.index {
            return Some(self.truncated);
        }
        self.entries.iter().find(|entry| entry.index == index).map(Entry::position)
    }

    fn configurations(&self) -> Vec<(Index, ConfigurationChange)> {
        let logged = self.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
        let decoded = logged.map(|entry| {
            let change = ConfigurationChange::decode(&entry.payload).expect("the group has checked it");
            (entry.index, change)
        });
        self.configuration.clone().into_iter().chain(decoded).collect()
    }

    fn apply(&mut self, write: &Write) {
        if let Some(meta) = &write.snapshot {
            self.entries.clear();
            self.truncated = meta.position;
            self.configuration = Some(meta.configuration.clone());
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            assert_eq!(first.index, self.last().index.next(), "a gap on disk");
        }
        self.entries.extend(write.entries.iter().cloned());
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }
}

impl LogReader for Disk {
    fn read_entries(&mut self, first: Index, last: Index, _: usize) -> Result<Vec<Entry>, NotInMemory> {
        if self.refuses {
            return Err(NotInMemory);
        }
        let wanted = self.entries.iter().filter(|entry| entry.index >= first && entry.index <= last);
        let entries: Vec<_> = wanted.cloned().collect();
        assert_eq!(entries.first().map(|entry| entry.index), Some(first), "read of what is not durable");
        Ok(entries)
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        if self.refuses {
            return Err(NotInMemory);
        }
        Ok(self.position(index).expect("only what is durable is read"))
    }
}

struct Host {
    group: RaftGroup,
    disk: Disk,
    writes: VecDeque<Write>,
    now: Instant,
    start_count: u64,
}

/// What a life was like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    pub(crate) has_led: bool,
    pub(crate) committed_count: u64,
    pub(crate) refused_count: u64,
}

/// Lives through these bytes.
pub(crate) fn run(bytes: &[u8]) -> Life {
    let mut bits = Bits(bytes);
    let mut host = Host::new(&mut bits);
    let mut life = Life::default();
    for _ in 0..STEPS_MAX {
        if bits.0.is_empty() {
            break;
        }
        host.step(&mut bits);
        host.group.check_invariants();
        life.has_led |= host.group.role() == raft::Role::Leader;
        life.committed_count = life.committed_count.max(host.group.commit_index().0);
        life.refused_count = life.refused_count.max(host.group.rejected_count());
    }
    life
}

impl Host {
    fn new(bits: &mut Bits<'_>) -> Host {
        let voters = u64::from(bits.byte() % 4);
        let peers =
            (1..=voters).map(|id| Peer { id: PeerId(id), store_id: StoreId(id), role: PeerRole::Voter });
        let configuration = ConfigurationChange { peers: peers.collect(), change_id: 0 };
        let mut disk = Disk {
            hard_state: HardState { term: BEGIN.term, vote: None, commit: BEGIN.index },
            truncated: BEGIN,
            configuration: Some((BEGIN.index, configuration)),
            entries: Vec::new(),
            refuses: false,
        };
        if voters == 0 {
            // A peer without a log.
            disk = Disk {
                hard_state: HardState::default(),
                truncated: LogPosition::default(),
                configuration: None,
                ..disk
            };
        }
        let now = Instant::from_millis(1_000);
        let group = start(&disk, now, 0);
        Host { group, disk, writes: VecDeque::new(), now, start_count: 0 }
    }

    fn step(&mut self, bits: &mut Bits<'_>) {
        match bits.byte() % 16 {
            0..=5 => {
                let message = bits.message(&self.group, self.now);
                self.group.step(self.now, message);
            }
            6 => {
                self.now += Duration::from_millis(u64::from(bits.byte()) * 8);
                self.group.tick(self.now);
            }
            7 | 8 => self.take_ready(bits),
            9 | 10 => self.persist(),
            11 => self.group.campaign(self.now, CampaignReason::Wish),
            12 => {
                self.settle();
                // Refused unless it leads, which is as good.
                let _is_refused =
                    self.group.propose(self.now, Bytes::copy_from_slice(&[bits.byte()])).is_err();
            }
            13 => self.ask(bits),
            14 => self.compact(),
            _ => self.restart(),
        }
    }

    /// What an owner may ask for at any time.
    fn ask(&mut self, bits: &mut Bits<'_>) {
        let (now, peer) = (self.now, PeerId(u64::from(bits.byte() % 6)));
        let _is_refused = match bits.byte() % 12 {
            0 => self.group.propose_conf_change(now, bits.change()).is_err(),
            1 => self.group.transfer_leader(now, peer).is_err(),
            2 => self.group.abort_change(now).is_err(),
            3 => self.group.force_leader(now, &[peer], 7).is_err(),
            4 => {
                let contract = self.group.sleep_contract(|_| false);
                contract.and_then(|contract| self.group.sleep(contract)).is_err()
            }
            5 => {
                self.group.wake(now);
                false
            }
            6 => {
                self.group.read_index(now, bits.number());
                false
            }
            7 => {
                self.group.report_unreachable(now, peer);
                false
            }
            8 => {
                let outcome = match bits.flag() {
                    true => SnapshotOutcome::Sent(self.group.commit_index()),
                    false => SnapshotOutcome::Failed,
                };
                self.group.report_snapshot(now, peer, outcome);
                false
            }
            9 => {
                self.group.suspect_leader(now);
                false
            }
            10 => {
                self.group.quorum_lost(now);
                false
            }
            _ => self.group.lease(now).is_none() && self.group.status().peers.is_empty(),
        };
    }

    fn take_ready(&mut self, bits: &mut Bits<'_>) {
        self.disk.refuses = bits.byte() > 200;
        self.one_ready();
        self.disk.refuses = false;
    }

    fn one_ready(&mut self) {
        let ready = self.group.ready(self.now, &mut self.disk);
        for entry in &ready.committed {
            assert_eq!(
                self.disk.position(entry.index),
                Some(entry.position()),
                "handed out before it was durable"
            );
        }
        if let Some(entry) = ready.committed.last() {
            self.group.advance(self.now, entry.index);
        }
        if ready.must_persist() {
            let raft::Ready { number, hard_state, entries, snapshot, .. } = ready;
            self.writes.push_back(Write { number, hard_state, entries, snapshot });
        }
    }

    fn persist(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        self.disk.apply(&write);
        self.group.on_persisted(self.now, write.number);
        // Its data are the disk's with it. A later one may have replaced it in the group already.
        if let Some(meta) = write.snapshot
            && self.group.truncated() == meta.position
        {
            self.group.advance(self.now, meta.position.index);
        }
    }

    /// Does all that is to be done.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if !self.group.has_ready() && self.writes.is_empty() {
                return;
            }
            self.one_ready();
            while !self.writes.is_empty() {
                self.persist();
            }
        }
        panic!("it is never done");
    }

    fn compact(&mut self) {
        self.settle();
        let index = self.group.applied_index();
        let Some(position) = self.disk.position(index).filter(|_| index > self.disk.truncated.index) else {
            return;
        };
        let in_force = self.disk.configurations().into_iter().rfind(|(at, _)| *at <= index);
        self.disk.configuration = in_force;
        self.disk.entries.retain(|entry| entry.index > index);
        self.disk.truncated = position;
        self.group.compact(position);
    }

    /// Dies with what is not durable, and starts again.
    fn restart(&mut self) {
        self.writes.clear();
        self.start_count += 1;
        self.group = start(&self.disk, self.now, self.start_count);
    }
}

fn start(disk: &Disk, now: Instant, start_count: u64) -> RaftGroup {
    let mut hard_state = disk.hard_state;
    hard_state.commit = hard_state.commit.min(disk.last().index);
    let state = InitialState {
        hard_state,
        truncated: disk.truncated,
        last: disk.last(),
        configurations: disk.configurations(),
        applied: disk.truncated.index,
        vote_not_before: if start_count == 0 { Instant::ZERO } else { now + Duration::from_millis(500) },
    };
    RaftGroup::new(Options::new(OWN, start_count), state, now)
}
