//! One peer under the microscope: messages made by hand, every answer looked at.

use std::time::Duration;

use bytes::Bytes;
use raft::{Message, MessageBody, Options, RaftGroup, Ready, Role, Stamp};
use types::{Entry, EntryKind, HardState, Index, Instant, LogPosition, PeerId, Term};

use crate::{
    cluster::{configuration, first_position},
    disk::{Disk, DiskReader, Write},
};

mod elections;
mod interface;
mod leases;
mod logs;
mod memory;
mod robustness;

/// A peer whose disk is as slow as the test wants.
pub(crate) struct Solo {
    pub(crate) group: RaftGroup,
    pub(crate) now: Instant,
    pub(crate) disk: Disk,
    /// Readies not yet written.
    pub(crate) writes: Vec<Write>,
    /// What left for other peers.
    pub(crate) sent: Vec<Message>,
    /// What was handed out to be applied.
    pub(crate) committed: Vec<Entry>,
    /// The other parts of the Readies.
    pub(crate) readies: Vec<Ready>,
}

pub(crate) const ELECTION: Duration = Duration::from_millis(600);

/// Options with the default durations.
pub(crate) fn options(id: u64) -> Options {
    Options::new(PeerId(id), 11)
}

/// A log behind the first position with entries of these terms.
pub(crate) fn entries(terms: &[u64]) -> Vec<Entry> {
    let mut prev = first_position();
    let mut entries = Vec::new();
    for term in terms {
        let (index, term, kind) = (prev.index.next(), Term(*term), EntryKind::Command);
        let payload = Bytes::from(format!("{term}.{index}"));
        let chain = prev.chain.link(index, term, kind, &payload);
        let entry = Entry { index, term, kind, payload, chain };
        prev = entry.position();
        entries.push(entry);
    }
    entries
}

/// A disk with such a log.
pub(crate) fn disk(voters: &[u64], terms: &[u64], term: u64) -> Disk {
    let mut disk = Disk::first(&configuration(voters, &[]), first_position());
    disk.entries.extend(entries(terms).into_iter().map(|entry| (entry.index, entry)));
    disk.hard_state = HardState { term: Term(term), vote: None, commit: Index::FIRST };
    disk
}

impl Solo {
    pub(crate) fn new(id: u64, disk: Disk) -> Solo {
        Solo::start(options(id), disk, Instant::ZERO)
    }

    pub(crate) fn start(options: Options, disk: Disk, vote_not_before: Instant) -> Solo {
        let now = Instant::from_millis(1);
        let state = disk.initial_state(disk.truncated.index, vote_not_before);
        let group = RaftGroup::new(options, state, now);
        Solo { group, now, disk, writes: vec![], sent: vec![], committed: vec![], readies: vec![] }
    }

    /// Peer 1 of these voters, elected by the next of them, its first entry not acknowledged by anyone else.
    pub(crate) fn leader(voters: &[u64], terms: &[u64]) -> Solo {
        let term = terms.last().copied().unwrap_or(1);
        let mut solo = Solo::new(1, disk(voters, terms, term));
        solo.elect(voters);
        solo
    }

    pub(crate) fn elect(&mut self, voters: &[u64]) {
        self.group.campaign(self.now, raft::CampaignReason::Wish);
        self.settle();
        let term = self.group.term().next();
        for voter in &voters[1..] {
            let body = MessageBody::VoteResponse { is_pre_vote: true, is_granted: true };
            self.step(*voter, term.0, body);
        }
        for voter in &voters[1..] {
            let body = MessageBody::VoteResponse { is_pre_vote: false, is_granted: true };
            self.step(*voter, term.0, body);
        }
        assert_eq!(self.group.role(), Role::Leader);
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// A message arrives, and everything that it causes is done at once. What leaves is returned.
    pub(crate) fn step(&mut self, from: u64, term: u64, body: MessageBody) -> Vec<Message> {
        self.step_only(from, term, body);
        self.settle()
    }

    pub(crate) fn step_only(&mut self, from: u64, term: u64, body: MessageBody) {
        let message = Message { from: PeerId(from), to: self.group.id(), term: Term(term), body };
        self.group.step(self.now, message);
        self.group.check_invariants();
    }

    pub(crate) fn tick(&mut self) -> Vec<Message> {
        self.group.tick(self.now);
        self.settle()
    }

    /// Takes one Ready; what is to be persisted waits in `writes`.
    pub(crate) fn take_ready(&mut self) -> Vec<Message> {
        let mut never = || false;
        let mut reader = DiskReader { disk: &self.disk, refuse: &mut never };
        let mut ready = self.group.ready(self.now, &mut reader);
        let messages = std::mem::take(&mut ready.messages);
        if ready.must_persist() {
            self.writes.push(Write::of(&mut ready, self.now));
        }
        self.committed.append(&mut ready.committed);
        self.readies.push(ready);
        self.sent.extend(messages.iter().cloned());
        self.group.check_invariants();
        messages
    }

    /// The oldest write ends.
    pub(crate) fn write_one(&mut self) -> Vec<Message> {
        let write = self.writes.remove(0);
        self.disk.apply(&write);
        self.group.on_persisted(self.now, write.number);
        self.group.check_invariants();
        self.sent.extend(write.messages.iter().cloned());
        write.messages
    }

    /// Until nothing is left to do: Readies, writes, and applying.
    pub(crate) fn settle(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while self.group.has_ready() || !self.writes.is_empty() {
            if self.group.has_ready() {
                messages.extend(self.take_ready());
            }
            while !self.writes.is_empty() {
                messages.extend(self.write_one());
            }
            if let Some(entry) = self.committed.last() {
                self.group.advance(self.now, entry.index);
            }
        }
        messages
    }

    pub(crate) fn propose(&mut self, payload: &'static str) -> Index {
        self.group.propose(self.now, Bytes::from_static(payload.as_bytes())).expect("it leads").0
    }

    /// The leader's newest stamp: of the last append or heartbeat that left.
    pub(crate) fn last_stamp(&self) -> Stamp {
        let stamp = |message: &Message| match message.body {
            MessageBody::Append { stamp, .. } | MessageBody::Heartbeat { stamp, .. } => Some(stamp),
            _ => None,
        };
        self.sent.iter().rev().find_map(stamp).expect("something was sent")
    }

    pub(crate) fn accept(&mut self, from: u64, index: Index, stamp: Stamp) -> Vec<Message> {
        let term = self.group.term().0;
        self.step(from, term, MessageBody::AppendAccepted { match_index: index, stamp })
    }

    pub(crate) fn answer_heartbeat(&mut self, from: u64, stamp: Stamp) -> Vec<Message> {
        let (term, last_index) = (self.group.term().0, self.group.last().index);
        self.step(from, term, MessageBody::HeartbeatResponse { stamp, last_index })
    }
}

/// An append behind `prev`.
pub(crate) fn append(prev: LogPosition, entries: &[Entry], commit: u64) -> MessageBody {
    MessageBody::Append { prev, entries: entries.to_vec(), commit: Index(commit), stamp: Stamp::default() }
}

pub(crate) fn heartbeat() -> MessageBody {
    MessageBody::Heartbeat { commit: Index(0), stamp: Stamp::default(), offers_sleep: false }
}

pub(crate) fn vote_request(is_pre_vote: bool, is_forced: bool, last: LogPosition) -> MessageBody {
    MessageBody::VoteRequest { is_pre_vote, is_forced, last_index: last.index, last_term: last.term }
}

/// Whether a vote was granted by these messages; `None` if none of them says.
pub(crate) fn granted(messages: &[Message]) -> Option<bool> {
    messages.iter().find_map(|message| match message.body {
        MessageBody::VoteResponse { is_granted, .. } => Some(is_granted),
        _ => None,
    })
}
