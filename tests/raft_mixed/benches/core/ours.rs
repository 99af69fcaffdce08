//! Our core, as the benchmarks use it.

use bytes::Bytes;
use raft::{InitialState, Message, MessageBody, NoLog, Options, RaftGroup, Role, Stamp};
use types::{
    Chain, ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, Peer, PeerId,
    PeerRole, StoreId, Term,
};

use crate::PAYLOAD_BYTES;

const BEGIN: LogPosition = LogPosition { index: Index(1), term: Term(1), chain: Chain(1) };

const NOW: Instant = Instant::from_millis(10_000);

fn group(id: u64) -> RaftGroup {
    let peers = (1..=3).map(|id| Peer { id: PeerId(id), store_id: StoreId(id), role: PeerRole::Voter });
    let configuration = ConfigurationChange { peers: peers.collect(), change_id: 0 };
    let state = InitialState {
        hard_state: HardState { term: BEGIN.term, vote: None, commit: BEGIN.index },
        truncated: BEGIN,
        last: BEGIN,
        configurations: vec![(BEGIN.index, configuration)],
        applied: BEGIN.index,
        vote_not_before: Instant::ZERO,
    };
    RaftGroup::new(Options::new(PeerId(id), id), state, NOW)
}

/// A group with what stands for its disk.
struct Host {
    group: RaftGroup,
    disk: Vec<Entry>,
    applied_bytes: usize,
}

impl Host {
    /// Does what the group wants done, and returns what it sends.
    fn settle(&mut self, sent: &mut Vec<Message>) {
        while self.group.has_ready() {
            let mut ready = self.group.ready(NOW, &mut NoLog);
            sent.append(&mut ready.messages);
            self.disk.append(&mut ready.entries);
            sent.append(&mut ready.messages_after_persist);
            if ready.number != 0 {
                self.group.on_persisted(NOW, ready.number);
            }
            if let Some(last) = ready.committed.last() {
                self.applied_bytes += ready.committed.iter().map(|entry| entry.payload.len()).sum::<usize>();
                self.group.advance(NOW, last.index);
            }
        }
        self.disk.clear();
    }
}

/// A follower alone.
pub(crate) struct Follower {
    host: Host,
    last: LogPosition,
    payload: Bytes,
}

impl Follower {
    pub(crate) fn new() -> Follower {
        let host = Host { group: group(2), disk: Vec::new(), applied_bytes: 0 };
        Follower { host, last: BEGIN, payload: vec![7; PAYLOAD_BYTES].into() }
    }

    pub(crate) fn step(&mut self) {
        let (index, term, kind) = (self.last.index.next(), Term(2), EntryKind::Command);
        let payload = self.payload.clone();
        let entry = Entry { index, term, kind, payload, chain: Chain::default() };
        let stamp = Stamp { nonce: 0, sent_at: NOW };
        let body =
            MessageBody::Append { prev: self.last, entries: vec![entry], commit: self.last.index, stamp };
        self.host.group.step(NOW, Message { from: PeerId(1), to: PeerId(2), term, body });
        let mut sent = Vec::new();
        self.host.settle(&mut sent);
        assert!(matches!(sent[..], [Message { body: MessageBody::AppendAccepted { .. }, .. }]));
        self.last = self.host.group.last();
    }
}

/// A group of three, the first of which leads.
pub(crate) struct Trio {
    hosts: [Host; 3],
    payload: Bytes,
}

impl Trio {
    pub(crate) fn new() -> Trio {
        let hosts = [1, 2, 3].map(|id| Host { group: group(id), disk: Vec::new(), applied_bytes: 0 });
        let mut trio = Trio { hosts, payload: vec![7; PAYLOAD_BYTES].into() };
        trio.hosts[0].group.campaign(NOW, raft::CampaignReason::Wish);
        trio.deliver();
        assert_eq!(trio.hosts[0].group.role(), Role::Leader);
        trio
    }

    pub(crate) fn commit(&mut self, batch: u64) {
        for _ in 0..batch {
            self.hosts[0].group.propose(NOW, self.payload.clone()).expect("it leads");
        }
        self.deliver();
        let last = self.hosts[0].group.last().index;
        assert!(self.hosts.iter().all(|host| host.group.applied_index() == last));
    }

    fn deliver(&mut self) {
        let mut messages = Vec::new();
        for host in &mut self.hosts {
            host.settle(&mut messages);
        }
        while !messages.is_empty() {
            for message in std::mem::take(&mut messages) {
                let to = usize::try_from(message.to.0 - 1).expect("it is small");
                self.hosts[to].group.step(NOW, message);
            }
            for host in &mut self.hosts {
                host.settle(&mut messages);
            }
        }
    }
}

/// Followers without work.
pub(crate) struct Idle {
    groups: Vec<RaftGroup>,
    ready_count: u64,
}

impl Idle {
    pub(crate) fn new(count: u64) -> Idle {
        Idle { groups: (0..count).map(|_| group(2)).collect(), ready_count: 0 }
    }

    pub(crate) fn tick(&mut self) {
        for group in &mut self.groups {
            group.tick(NOW);
            self.ready_count += u64::from(group.has_ready());
        }
        assert_eq!(self.ready_count, 0);
    }
}
