//! One peer of the model: the production group, its disk, and what is being written.

use std::collections::VecDeque;

use bytes::Bytes;
use types::{ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, PeerId, Term};

use crate::{
    Behaviour, InitialState, LogReader, Message, MessageBody, NotInMemory, Options, RaftGroup, Ready, Role,
    SnapshotMeta, group::timeless::MOMENT,
};

/// What can happen to one peer.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Deliver(Message),
    /// The election timeout passes, and whoever was asked has granted the pre-vote.
    Election,
    /// The election timeout passes.
    PreElection,
    /// A leader's heartbeats are due.
    Heartbeat,
    /// A leader finds that a quorum has been silent.
    StepDown,
    Propose(u8),
    Change(ConfigurationChange),
    /// A joint configuration is given up.
    Abort,
    /// The oldest write becomes durable.
    Persist,
    /// The peer dies with all that is not durable, and starts again.
    Crash,
}

/// What is durable.
#[derive(Clone, Debug, Hash)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    truncated: LogPosition,
    base_configuration: Option<(Index, ConfigurationChange)>,
    pub(super) entries: Vec<Entry>,
}

/// A Ready on its way to the disk.
#[derive(Clone, Debug, Hash)]
struct Write {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    snapshot: Option<SnapshotMeta>,
    messages: Vec<Message>,
}

/// A peer.
#[derive(Clone, Debug, Hash)]
pub(super) struct Peer {
    pub(super) group: RaftGroup,
    pub(super) disk: Disk,
    writes: VecDeque<Write>,
    pub(super) nature: Nature,
}

/// What differs from model to model.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Nature {
    /// Whether writes become durable later than they are made.
    pub(super) is_slow: bool,
    /// Whether each append holds one entry only.
    pub(super) is_piecemeal: bool,
}

impl Disk {
    /// The disk of a peer of a group that `init` or a split has created.
    pub(super) fn first(
        configuration: &ConfigurationChange,
        truncated: LogPosition,
        vote: Option<PeerId>,
    ) -> Disk {
        Disk {
            hard_state: HardState { term: truncated.term, vote, commit: truncated.index },
            truncated,
            base_configuration: Some((truncated.index, configuration.clone())),
            entries: Vec::new(),
        }
    }

    /// The disk of a peer that must be started by a snapshot.
    pub(super) fn empty() -> Disk {
        Disk {
            hard_state: HardState::default(),
            truncated: LogPosition::default(),
            base_configuration: None,
            entries: Vec::new(),
        }
    }

    pub(super) fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.truncated, Entry::position)
    }

    pub(super) fn position(&self, index: Index) -> Option<LogPosition> {
        if index == self.truncated.index {
            return Some(self.truncated);
        }
        let at = usize::try_from(index.since(self.truncated.index)).ok()?.checked_sub(1)?;
        self.entries.get(at).map(Entry::position)
    }

    fn start(&self, id: PeerId, nature: Nature) -> RaftGroup {
        let logged = self.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
        let decoded = logged.map(|entry| {
            let change =
                ConfigurationChange::decode(&entry.payload).expect("only well-formed ones are stored");
            (entry.index, change)
        });
        let configurations = self.base_configuration.clone().into_iter().chain(decoded).collect();
        let state = InitialState {
            hard_state: self.hard_state,
            truncated: self.truncated,
            last: self.last(),
            configurations,
            applied: self.truncated.index,
            vote_not_before: Instant::ZERO,
        };
        let mut options = Options::new(id, 0);
        if nature.is_piecemeal {
            options.behaviour_mut().append_bytes_max = 1;
        }
        RaftGroup::timeless(options, state)
    }

    fn apply(&mut self, write: &Write) {
        if let Some(meta) = &write.snapshot {
            self.entries.clear();
            self.truncated = meta.position;
            self.base_configuration = Some(meta.configuration.clone());
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            assert_eq!(first.index, self.last().index.next(), "a gap on disk");
        }
        self.entries.extend(write.entries.iter().cloned());
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the durable term falls");
            self.hard_state = hard_state;
        }
    }
}

impl LogReader for Disk {
    fn read_entries(
        &mut self,
        first: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory> {
        let asked = self.entries.iter().filter(|entry| entry.index >= first && entry.index <= last);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.size_bytes();
            bytes <= bytes_max || entry.index == first
        };
        let entries: Vec<_> = asked.take_while(fits).cloned().collect();
        assert_eq!(entries.first().map(|entry| entry.index), Some(first), "read of what is not durable");
        Ok(entries)
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        Ok(self.position(index).expect("only what is durable is read"))
    }
}

impl Peer {
    pub(super) fn new(id: PeerId, disk: Disk, nature: Nature) -> Peer {
        Peer { group: disk.start(id, nature), disk, writes: VecDeque::new(), nature }
    }

    /// Leads at birth, as the first leader that a split names.
    pub(super) fn lead_at_birth(&mut self) -> Vec<Message> {
        self.group.lead_at_birth(MOMENT);
        self.settle(MOMENT)
    }

    pub(super) fn is_leader(&self) -> bool {
        self.group.role() == Role::Leader
    }

    pub(super) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The log, durable or not, without what a snapshot has replaced.
    pub(super) fn log(&self) -> Vec<LogPosition> {
        let (first, last) = (self.group.truncated().index.0, self.group.last().index.0);
        let position = |index| {
            let index = Index(index);
            self.group.position_in_memory(index).or_else(|| self.disk.position(index))
        };
        (first..=last).map(|index| position(index).expect("what is not in memory is durable")).collect()
    }

    pub(super) fn durable_log(&self) -> Vec<LogPosition> {
        std::iter::once(self.disk.truncated).chain(self.disk.entries.iter().map(Entry::position)).collect()
    }

    /// The input happens; returns the messages that leave because of it.
    pub(super) fn apply(&mut self, input: Input) -> Vec<Message> {
        // A heartbeat that is made after an append shows, when it is answered, that the append is overdue.
        let late = MOMENT + self.heartbeat_interval();
        let mut sent = Vec::new();
        let mut now = MOMENT;
        match input {
            Input::Deliver(message) => self.group.step(late, message),
            Input::Election => self.group.elect_without_asking(),
            Input::PreElection => self.group.tick(MOMENT),
            Input::Heartbeat => {
                now = late;
                self.group.tick(late);
            }
            Input::StepDown => self.group.quorum_lost(MOMENT),
            Input::Propose(value) => {
                self.group.propose(MOMENT, Bytes::from(vec![value])).expect("it leads and has room");
            }
            Input::Change(change) => {
                // Refused while the leader may not change anything yet.
                let _is_refused = self.group.propose_conf_change(MOMENT, change).is_err();
            }
            Input::Abort => {
                let _is_refused = self.group.abort_change(MOMENT).is_err();
            }
            Input::Persist => sent.extend(self.persist()),
            Input::Crash => {
                self.group = self.disk.start(self.group.id(), self.nature);
                self.writes.clear();
            }
        }
        sent.extend(self.settle(now));
        for message in &sent {
            self.check_durable(message);
        }
        sent
    }

    fn heartbeat_interval(&self) -> std::time::Duration {
        Behaviour::default().heartbeat_interval
    }

    fn persist(&mut self) -> Vec<Message> {
        let Some(write) = self.writes.pop_front() else { return Vec::new() };
        self.disk.apply(&write);
        let number = self.group.oldest_ready().expect("what is written was given by a Ready");
        self.group.on_persisted(MOMENT, number);
        write.messages
    }

    /// Takes Readies until there is none; what is committed is applied at once.
    fn settle(&mut self, now: Instant) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut rounds = 0;
        while self.group.has_ready() {
            let mut ready = self.group.ready(now, &mut self.disk);
            sent.append(&mut ready.messages);
            self.take_committed(&ready);
            for peer in std::mem::take(&mut ready.snapshot_wanted) {
                sent.extend(self.snapshot(peer));
            }
            if ready.must_persist() {
                let is_snapshot = ready.snapshot.is_some();
                self.writes.push_back(Write {
                    hard_state: ready.hard_state,
                    entries: ready.entries,
                    snapshot: ready.snapshot,
                    messages: ready.messages_after_persist,
                });
                // A snapshot is installed in one piece, and its data are applied with it.
                while self.has_writes() && (!self.nature.is_slow || is_snapshot) {
                    sent.extend(self.persist());
                }
                if is_snapshot {
                    self.group.advance(MOMENT, self.group.truncated().index);
                }
            }
            rounds += 1;
            assert!(rounds < 100, "a peer is never done");
        }
        self.group.check_invariants();
        assert_eq!(self.group.chain_mismatch_count(), 0, "logs differ at equal index and term");
        self.group.forget_time();
        sent
    }

    fn take_committed(&mut self, ready: &Ready) {
        for entry in &ready.committed {
            let durable = self.disk.position(entry.index);
            assert_eq!(durable, Some(entry.position()), "handed out before it was durable");
        }
        if let Some(entry) = ready.committed.last() {
            self.group.advance(MOMENT, entry.index);
        }
    }

    /// A snapshot of all that is applied, received whole.
    fn snapshot(&self, to: PeerId) -> Option<Message> {
        let index = self.group.applied_index();
        let position = self.group.position_in_memory(index).or_else(|| self.disk.position(index))?;
        let configuration = self.group.configurations().iter().rfind(|(at, _)| *at <= index)?.clone();
        let body = MessageBody::Snapshot { meta: SnapshotMeta { position, configuration } };
        Some(Message { from: self.group.id(), to, term: self.group.term(), body })
    }

    /// What a message says of this peer is durable when it leaves.
    fn check_durable(&self, message: &Message) {
        let HardState { term, vote, .. } = self.disk.hard_state;
        let is_past = message.term < term;
        match &message.body {
            MessageBody::VoteResponse { is_pre_vote: false, is_granted: true } => {
                assert!(
                    is_past || (message.term == term && vote == Some(message.to)),
                    "a vote before it is durable"
                );
            }
            MessageBody::VoteRequest { is_pre_vote: false, .. } => {
                assert!(
                    is_past || (message.term == term && vote == Some(message.from)),
                    "votes asked for too early"
                );
            }
            MessageBody::AppendAccepted { match_index, .. } => {
                assert!(message.term <= term, "an answer before its term is durable");
                assert!(*match_index <= self.disk.last().index, "acknowledged before it is durable");
            }
            MessageBody::VoteResponse { .. } | MessageBody::VoteRequest { .. } => {}
            MessageBody::Append { .. }
            | MessageBody::AppendRejected { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::Snapshot { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexRequest { .. }
            | MessageBody::ReadIndexResponse { .. } => {
                assert!(message.term <= term, "a message of a term that is not durable");
            }
        }
    }

    pub(super) fn term(&self) -> Term {
        self.group.term()
    }
}
