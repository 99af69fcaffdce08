//! Our core with a disk.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use raft::{InitialState, LogReader, Message, NotInMemory, Options, RaftGroup, Role};
use types::{
    Chain, ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, Peer, PeerId,
    PeerRole, StoreId, Term,
};

use crate::{Chains, Member};

/// The position behind which every log begins.
pub(crate) const BEGIN: LogPosition = LogPosition { index: Index(1), term: Term(1), chain: Chain(1) };

struct Write {
    number: u64,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

struct Disk {
    hard_state: HardState,
    /// From index 2 on.
    entries: Vec<Entry>,
}

/// A peer of our make.
pub struct Ours {
    group: RaftGroup,
    disk: Disk,
    writes: VecDeque<Write>,
    configuration: ConfigurationChange,
}

impl Disk {
    fn last(&self) -> LogPosition {
        self.entries.last().map_or(BEGIN, Entry::position)
    }
}

fn offset(index: Index) -> usize {
    usize::try_from(index.0 - 2).expect("logs are short")
}

impl LogReader for Disk {
    fn read_entries(
        &mut self,
        first: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.size_bytes();
            bytes <= bytes_max || bytes == entry.size_bytes()
        };
        let entries = &self.entries[offset(first)..=offset(last)];
        Ok(entries.iter().take_while(fits).cloned().collect())
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        Ok(if index == BEGIN.index { BEGIN } else { self.entries[offset(index)].position() })
    }
}

impl Ours {
    /// A peer of the group of these voters.
    #[must_use]
    pub fn new(id: PeerId, voters: &[PeerId], learners: &[PeerId], now: Instant, seed: u64) -> Ours {
        let configuration = ConfigurationChange { peers: peers(voters, learners), change_id: 0 };
        let hard_state = HardState { term: BEGIN.term, vote: None, commit: BEGIN.index };
        let disk = Disk { hard_state, entries: Vec::new() };
        let group = start(id, &disk, &configuration, now, seed, Instant::ZERO);
        Ours { group, disk, writes: VecDeque::new(), configuration }
    }

    /// The group itself.
    #[must_use]
    pub fn group(&self) -> &RaftGroup {
        &self.group
    }
}

fn peers(voters: &[PeerId], learners: &[PeerId]) -> Vec<Peer> {
    let with = |ids: &[PeerId], role| {
        ids.iter().map(move |id| Peer { id: *id, store_id: StoreId(id.0), role }).collect::<Vec<_>>()
    };
    let mut peers = [with(voters, PeerRole::Voter), with(learners, PeerRole::Learner)].concat();
    peers.sort_unstable_by_key(|peer| peer.id);
    peers
}

fn start(
    id: PeerId,
    disk: &Disk,
    configuration: &ConfigurationChange,
    now: Instant,
    seed: u64,
    vote_not_before: Instant,
) -> RaftGroup {
    let changes = disk.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration).map(|entry| {
        let change = ConfigurationChange::decode(&entry.payload).expect("it was encoded by us");
        (entry.index, change)
    });
    let state = InitialState {
        hard_state: disk.hard_state,
        truncated: BEGIN,
        last: disk.last(),
        configurations: std::iter::once((BEGIN.index, configuration.clone())).chain(changes).collect(),
        applied: BEGIN.index,
        vote_not_before,
    };
    RaftGroup::new(Options::new(id, seed), state, now)
}

impl Member for Ours {
    fn id(&self) -> PeerId {
        self.group.id()
    }

    fn leading(&self) -> (Term, bool) {
        (self.group.term(), self.group.role() == Role::Leader)
    }

    fn step(&mut self, now: Instant, message: Message, _: &mut Chains) {
        self.group.step(now, message);
    }

    fn tick(&mut self, now: Instant) {
        if self.group.deadline() <= now {
            self.group.tick(now);
        }
    }

    fn propose(&mut self, now: Instant, payload: &[u8]) -> bool {
        self.group.propose(now, Bytes::copy_from_slice(payload)).is_ok()
    }

    fn change(&mut self, now: Instant, voters: &[PeerId]) -> bool {
        let Some((_, present)) = self.group.configurations().last() else { return false };
        let learners = present.peers.iter().map(|peer| peer.id).filter(|id| !voters.contains(id));
        let goal = peers(voters, &learners.collect::<Vec<_>>());
        let next = raft::confchange::Changer::new(present).enter_joint(&goal, 1);
        next.is_ok_and(|next| self.group.propose_conf_change(now, next).is_ok())
    }

    fn transfer(&mut self, now: Instant, to: PeerId) {
        let _is_refused = self.group.transfer_leader(now, to).is_err();
    }

    fn membership(&self) -> Option<(Vec<PeerId>, Vec<PeerId>)> {
        let configuration = self.group.configuration().clone();
        (!configuration.is_joint()).then_some((configuration.voters, configuration.learners))
    }

    fn advance(
        &mut self,
        now: Instant,
        chains: &mut Chains,
        apply: &mut dyn FnMut(Index, Term, &[u8]),
    ) -> Vec<Message> {
        let mut sent = Vec::new();
        while self.group.has_ready() {
            let mut ready = self.group.ready(now, &mut self.disk);
            sent.append(&mut ready.messages);
            for entry in &ready.entries {
                chains.check(entry);
            }
            for entry in &ready.committed {
                apply(entry.index, entry.term, &entry.payload);
            }
            if let Some(entry) = ready.committed.last() {
                self.group.advance(now, entry.index);
            }
            assert!(ready.snapshot.is_none() && ready.snapshot_wanted.is_empty(), "no log is truncated here");
            assert!(ready.memory_lost.is_empty(), "nobody loses memory here");
            if ready.must_persist() {
                self.writes.push_back(Write {
                    number: ready.number,
                    hard_state: ready.hard_state,
                    entries: ready.entries,
                    messages: ready.messages_after_persist,
                });
            }
        }
        assert_eq!(self.group.chain_mismatch_count(), 0);
        sent
    }

    fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    fn persist(&mut self, now: Instant, _: &mut Chains) -> Vec<Message> {
        let Some(write) = self.writes.pop_front() else { return Vec::new() };
        if let Some(first) = write.entries.first() {
            self.disk.entries.truncate(offset(first.index));
        }
        self.disk.entries.extend(write.entries);
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        self.group.on_persisted(now, write.number);
        write.messages
    }

    fn crash(&mut self, now: Instant, seed: u64) {
        self.writes.clear();
        let not_before = now + Duration::from_millis(500);
        self.group = start(self.id(), &self.disk, &self.configuration, now, seed, not_before);
    }
}
