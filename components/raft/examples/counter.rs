//! Three peers count together, in one thread and on a virtual clock: `cargo run -p raft --example counter`.
//!
//! What an embedder must do is all here: keep a log, carry messages, call [`RaftGroup::tick`] when it is due, and do
//! what each [`Ready`] says, in its order.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{InitialState, LogReader, Message, NotInMemory, Options, RaftGroup, Ready, Role};
use types::{
    Chain, ClusterId, ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, Peer,
    PeerId, PeerRole, RegionId, StoreId, Term,
};

/// A log that never forgets; a real one is on disk, and synced.
#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    hard_state: HardState,
}

impl Log {
    fn write(&mut self, ready: &mut Ready) {
        for entry in ready.entries.drain(..) {
            // The first entry has index 2; whatever was there from the new one on is overwritten.
            self.entries.retain(|earlier| earlier.index < entry.index);
            self.entries.push(entry);
        }
        self.hard_state = ready.hard_state.unwrap_or(self.hard_state);
    }
}

impl LogReader for Log {
    fn read_entries(&mut self, first: Index, last: Index, _: usize) -> Result<Vec<Entry>, NotInMemory> {
        Ok(self.entries.iter().filter(|entry| (first..=last).contains(&entry.index)).cloned().collect())
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        self.entries.iter().find(|entry| entry.index == index).map(Entry::position).ok_or(NotInMemory)
    }
}

struct Counter {
    group: RaftGroup,
    log: Log,
    count: u64,
}

impl Counter {
    fn new(id: PeerId) -> Counter {
        let first = LogPosition {
            index: Index::FIRST,
            term: Term::FIRST,
            chain: Chain::of_first_log(ClusterId(1), RegionId::FIRST),
        };
        let voter = |id| Peer { id: PeerId(id), store_id: StoreId(id), role: PeerRole::Voter };
        let configuration = ConfigurationChange { peers: (1..=3).map(voter).collect(), change_id: 0 };
        let state = InitialState {
            hard_state: HardState { term: Term::FIRST, vote: None, commit: Index::FIRST },
            truncated: first,
            last: first,
            configurations: vec![(Index::FIRST, configuration)],
            applied: Index::FIRST,
            vote_not_before: Instant::ZERO,
        };
        let group = RaftGroup::new(Options::new(id, id.0), state, Instant::ZERO);
        Counter { group, log: Log::default(), count: 0 }
    }

    /// Does what the group wants done, and returns the messages that leave.
    fn work(&mut self, now: Instant) -> Vec<Message> {
        let mut leaving = Vec::new();
        while self.group.has_ready() {
            let mut ready = self.group.ready(now, &mut self.log);
            leaving.append(&mut ready.messages);
            if ready.must_persist() {
                self.log.write(&mut ready);
                leaving.append(&mut ready.messages_after_persist);
                self.group.on_persisted(now, ready.number);
            }
            for entry in ready.committed {
                if entry.kind == EntryKind::Command {
                    self.count += u64::from(entry.payload.first().copied().unwrap_or(0));
                }
                self.group.advance(now, entry.index);
            }
        }
        leaving
    }
}

fn main() {
    let mut counters: Vec<Counter> = (1..=3).map(|id| Counter::new(PeerId(id))).collect();
    let mut network: VecDeque<Message> = VecDeque::new();
    let mut now = Instant::ZERO;
    let mut proposed = 0;
    while counters.iter().any(|counter| counter.count < 100) {
        // The next thing to happen: a message, or a peer's timer.
        if let Some(message) = network.pop_front() {
            if let Some(counter) = counters.iter_mut().find(|counter| counter.group.id() == message.to) {
                counter.group.step(now, message);
            }
        } else {
            now = counters.iter().map(|counter| counter.group.deadline()).min().unwrap_or(now).max(now);
            counters.iter_mut().for_each(|counter| counter.group.tick(now));
        }
        for counter in &mut counters {
            if counter.group.role() == Role::Leader && proposed < 100 {
                proposed += u64::from(counter.group.propose(now, Bytes::from_static(&[1])).is_ok());
            }
            network.extend(counter.work(now));
        }
    }
    for counter in &counters {
        let (id, role) = (counter.group.id(), counter.group.role());
        println!("peer {id} ({role:?}, term {}) counts {} after {now}", counter.group.term(), counter.count);
    }
}
