//! The crate `raft` 0.7, as the benchmarks use it.

use raft_rs::{
    Config, RawNode, StateRole,
    eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot},
    storage::MemStorage,
};
use slog::{Discard, Logger, o};

use crate::PAYLOAD_BYTES;

fn group(id: u64, logger: &Logger) -> RawNode<MemStorage> {
    let storage = MemStorage::new();
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (1, 1);
    *metadata.mut_conf_state() = ConfState { voters: vec![1, 2, 3], ..Default::default() };
    storage.wl().apply_snapshot(snapshot).expect("an empty storage takes a snapshot");
    storage.wl().set_hardstate(HardState { term: 1, commit: 1, ..Default::default() });
    let config = Config {
        id,
        election_tick: 1_000_000,
        heartbeat_tick: 1,
        applied: 1,
        max_size_per_msg: 1 << 20,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    RawNode::new(&config, storage, logger).expect("the configuration is valid")
}

fn logger() -> Logger {
    Logger::root(Discard, o!())
}

/// Does what the group wants done, and returns what it sends. What is applied is compacted, as ours does by itself.
fn settle(group: &mut RawNode<MemStorage>, sent: &mut Vec<Message>) {
    while group.has_ready() {
        let mut ready = group.ready();
        sent.extend(ready.take_messages());
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();
        if !entries.is_empty() {
            group.mut_store().wl().append(&entries).expect("entries follow one another");
        }
        if let Some(hard_state) = ready.hs() {
            group.mut_store().wl().set_hardstate(hard_state.clone());
        }
        sent.extend(ready.take_persisted_messages());
        let mut light = group.advance_append(ready);
        sent.extend(light.take_messages());
        let last = light.take_committed_entries().last().or(committed.last()).map(|entry| entry.index);
        if let Some(last) = last {
            group.advance_apply_to(last);
        }
    }
    let applied = group.raft.raft_log.applied;
    if applied > 4_000 && group.mut_store().wl().compact(applied - 1_000).is_err() {
        panic!("what is applied can be compacted");
    }
}

/// A follower alone.
pub(crate) struct Follower {
    group: RawNode<MemStorage>,
    last: (u64, u64),
    payload: Vec<u8>,
}

impl Follower {
    pub(crate) fn new() -> Follower {
        Follower { group: group(2, &logger()), last: (1, 1), payload: vec![7; PAYLOAD_BYTES] }
    }

    pub(crate) fn step(&mut self) {
        let mut message = Message { from: 1, to: 2, term: 2, ..Default::default() };
        message.set_msg_type(MessageType::MsgAppend);
        (message.index, message.log_term) = self.last;
        message.commit = self.last.0;
        let entry = Entry {
            index: self.last.0 + 1,
            term: 2,
            data: self.payload.clone().into(),
            ..Default::default()
        };
        message.entries = vec![entry].into();
        self.group.step(message).expect("it is in order");
        let mut sent = Vec::new();
        settle(&mut self.group, &mut sent);
        assert_eq!(sent.len(), 1);
        self.last = (self.last.0 + 1, 2);
    }
}

/// A group of three, the first of which leads.
pub(crate) struct Trio {
    groups: [RawNode<MemStorage>; 3],
    payload: Vec<u8>,
}

impl Trio {
    pub(crate) fn new() -> Trio {
        let logger = logger();
        let mut trio =
            Trio { groups: [1, 2, 3].map(|id| group(id, &logger)), payload: vec![7; PAYLOAD_BYTES] };
        trio.groups[0].campaign().expect("it may");
        trio.deliver();
        assert_eq!(trio.groups[0].raft.state, StateRole::Leader);
        trio
    }

    pub(crate) fn commit(&mut self, batch: u64) {
        for _ in 0..batch {
            self.groups[0].propose(Vec::new(), self.payload.clone()).expect("it leads");
        }
        self.deliver();
        let last = self.groups[0].raft.raft_log.last_index();
        assert!(self.groups.iter().all(|group| group.raft.raft_log.applied == last));
    }

    fn deliver(&mut self) {
        let mut messages = Vec::new();
        for group in &mut self.groups {
            settle(group, &mut messages);
        }
        while !messages.is_empty() {
            for message in std::mem::take(&mut messages) {
                let to = usize::try_from(message.to - 1).expect("it is small");
                self.groups[to].step(message).expect("it is in order");
            }
            for group in &mut self.groups {
                settle(group, &mut messages);
            }
        }
    }
}

/// Followers without work.
pub(crate) struct Idle {
    groups: Vec<RawNode<MemStorage>>,
    ready_count: u64,
}

impl Idle {
    pub(crate) fn new(count: u64) -> Idle {
        let logger = logger();
        let mut groups: Vec<_> = (0..count).map(|_| group(2, &logger)).collect();
        for group in &mut groups {
            settle(group, &mut Vec::new());
        }
        Idle { groups, ready_count: 0 }
    }

    pub(crate) fn tick(&mut self) {
        for group in &mut self.groups {
            group.tick();
            self.ready_count += u64::from(group.has_ready());
        }
        assert_eq!(self.ready_count, 0);
    }
}
