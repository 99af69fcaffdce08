//! The crate `raft` 0.7 with its own storage in memory as a disk.

use std::{collections::VecDeque, time::Duration};

use protobuf::Message as _;
use raft::Message;
use raft_rs::{
    Config, RawNode, StateRole,
    eraftpb::{
        self, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType,
        Snapshot,
    },
    storage::MemStorage,
};
use slog::{Discard, Logger, o};
use types::{Index, Instant, PeerId, Term};

use crate::{
    Chains, Member,
    adapter::{to_ours, to_theirs},
    ours::BEGIN,
};

/// How much time one of their ticks stands for.
const TICK: Duration = Duration::from_millis(100);

/// Their ticks in an election timeout: 600 ms, as ours.
const ELECTION_TICKS: usize = 6;

struct Write {
    number: u64,
    hard_state: Option<eraftpb::HardState>,
    entries: Vec<eraftpb::Entry>,
    messages: Vec<eraftpb::Message>,
}

/// What survives a crash. (Their storage must show what is still being written.)
#[derive(Clone)]
struct Disk {
    configuration: ConfState,
    hard_state: eraftpb::HardState,
    /// From index 2 on.
    entries: Vec<eraftpb::Entry>,
}

/// A peer of their make.
pub struct Theirs {
    group: RawNode<MemStorage>,
    disk: Disk,
    writes: VecDeque<Write>,
    ticked_at: Instant,
}

impl Theirs {
    /// A peer of the group of these voters.
    #[must_use]
    pub fn new(id: PeerId, voters: &[PeerId], learners: &[PeerId], now: Instant) -> Theirs {
        let hard_state =
            eraftpb::HardState { term: BEGIN.term.0, commit: BEGIN.index.0, ..Default::default() };
        let ids = |peers: &[PeerId]| peers.iter().map(|peer| peer.0).collect();
        let configuration = ConfState { voters: ids(voters), learners: ids(learners), ..Default::default() };
        let disk = Disk { configuration, hard_state, entries: Vec::new() };
        Theirs { group: start(id, &disk), disk, writes: VecDeque::new(), ticked_at: now }
    }

    fn convert(&self, messages: Vec<eraftpb::Message>, chains: &Chains) -> Vec<Message> {
        let last_index = Index(self.group.raft.raft_log.last_index());
        messages.into_iter().map(|message| to_ours(message, last_index, chains)).collect()
    }
}

fn start(id: PeerId, disk: &Disk) -> RawNode<MemStorage> {
    let storage = MemStorage::new();
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (BEGIN.index.0, BEGIN.term.0);
    *metadata.mut_conf_state() = disk.configuration.clone();
    storage.wl().apply_snapshot(snapshot).expect("an empty storage takes a snapshot");
    storage.wl().append(&disk.entries).expect("entries follow one another");
    let mut hard_state = disk.hard_state.clone();
    // A commit index may have been written before the entries that it speaks of were lost.
    hard_state.commit = hard_state.commit.min(disk.entries.last().map_or(BEGIN.index.0, |entry| entry.index));
    storage.wl().set_hardstate(hard_state);
    let config = Config {
        id: id.0,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: 1,
        applied: BEGIN.index.0,
        max_size_per_msg: 1 << 20,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    RawNode::new(&config, storage, &Logger::root(Discard, o!())).expect("the configuration is valid")
}

impl Member for Theirs {
    fn id(&self) -> PeerId {
        PeerId(self.group.raft.id)
    }

    fn leading(&self) -> (Term, bool) {
        (Term(self.group.raft.term), self.group.raft.state == StateRole::Leader)
    }

    fn step(&mut self, _: Instant, message: Message, _: &mut Chains) {
        // An error is a message that they refuse.
        let _is_refused = self.group.step(to_theirs(message)).is_err();
    }

    fn tick(&mut self, now: Instant) {
        while self.ticked_at + TICK <= now {
            self.ticked_at += TICK;
            self.group.tick();
        }
    }

    fn propose(&mut self, _: Instant, payload: &[u8]) -> bool {
        self.leading().1 && self.group.propose(Vec::new(), payload.to_vec()).is_ok()
    }

    fn change(&mut self, _: Instant, voters: &[PeerId]) -> bool {
        let Some((present, learners)) = self.membership() else { return false };
        let mut change = ConfChangeV2::default();
        change.set_transition(ConfChangeTransition::Implicit);
        let single = |kind, peer: &PeerId| ConfChangeSingle {
            change_type: kind,
            node_id: peer.0,
            ..Default::default()
        };
        let added = learners.iter().filter(|peer| voters.contains(peer));
        let demoted = present.iter().filter(|peer| !voters.contains(peer));
        let changes = added
            .map(|peer| single(ConfChangeType::AddNode, peer))
            .chain(demoted.map(|peer| single(ConfChangeType::AddLearnerNode, peer)));
        change.changes = changes.collect();
        !change.changes.is_empty() && self.group.propose_conf_change(Vec::new(), change).is_ok()
    }

    fn transfer(&mut self, _: Instant, to: PeerId) {
        self.group.transfer_leader(to.0);
    }

    fn membership(&self) -> Option<(Vec<PeerId>, Vec<PeerId>)> {
        let state = self.group.raft.prs().conf().to_conf_state();
        let sorted = |ids: Vec<u64>| {
            let mut peers: Vec<_> = ids.into_iter().map(PeerId).collect();
            peers.sort_unstable();
            peers
        };
        state.voters_outgoing.is_empty().then(|| (sorted(state.voters), sorted(state.learners)))
    }

    fn advance(
        &mut self,
        _: Instant,
        chains: &mut Chains,
        apply: &mut dyn FnMut(Index, Term, &[u8]),
    ) -> Vec<Message> {
        let mut sent = Vec::new();
        while self.group.has_ready() {
            let mut ready = self.group.ready();
            assert!(ready.snapshot().is_empty(), "no log is truncated here");
            let entries = ready.take_entries();
            if let Some(first) = entries.first() {
                let prev = first.index - 1;
                let term = self.group.raft.raft_log.term(prev).expect("the entry before it is there");
                chains.append((Index(prev), Term(term)), &entries);
            }
            sent.extend(self.convert(ready.take_messages(), chains));
            let committed = ready.take_committed_entries();
            for entry in &committed {
                apply(Index(entry.index), Term(entry.term), &entry.data);
                if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
                    let change = ConfChangeV2::parse_from_bytes(&entry.data).expect("it was encoded by them");
                    self.group.apply_conf_change(&change).expect("it follows from the one before");
                }
            }
            self.group.mut_store().wl().append(&entries).expect("entries follow one another");
            self.writes.push_back(Write {
                number: ready.number(),
                hard_state: ready.hs().cloned(),
                entries,
                messages: ready.take_persisted_messages(),
            });
            self.group.advance_append_async(ready);
            if let Some(entry) = committed.last() {
                self.group.advance_apply_to(entry.index);
            }
        }
        sent
    }

    fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    fn persist(&mut self, _: Instant, chains: &mut Chains) -> Vec<Message> {
        let Some(write) = self.writes.pop_front() else { return Vec::new() };
        if let Some(first) = write.entries.first() {
            self.disk.entries.retain(|entry| entry.index < first.index);
        }
        self.disk.entries.extend(write.entries);
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        self.group.on_persist_ready(write.number);
        self.convert(write.messages, chains)
    }

    fn crash(&mut self, now: Instant, _: u64) {
        self.writes.clear();
        self.ticked_at = now;
        self.group = start(self.id(), &self.disk);
    }
}
