//! The whole: peers, the network, what an observer remembers; and what must hold of it.
//!
//! The network is the set of all messages ever sent. Any of them may arrive, at any time, once more or never: that is
//! loss, delay, repetition and reordering in one.

use std::{collections::HashMap, hash::Hasher};

use types::{Index, LogPosition, PeerId, Term};

use super::{
    peer::{Disk, Input, Peer},
    scenarios::Bounds,
    tables::{Facts, Spread, Tables, bit, slot},
};
use crate::Message;

/// Peers of one model at the most.
pub(super) const PEERS_MAX: usize = 6;

/// Terms of one model at the most, zero included.
const TERMS_MAX: usize = 8;

/// No peer in this slot.
const NOBODY: u32 = u32::MAX;

/// A state of the whole. Peers, messages and memories are named by numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    peers: [u32; PEERS_MAX],
    memory: u32,
    pub(super) left: Left,
    /// Ascending.
    network: Box<[u32]>,
}

/// How often things may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) proposals: u8,
    pub(super) changes: u8,
    pub(super) crashes: u8,
    pub(super) heartbeats: u8,
    pub(super) aborts: u8,
    pub(super) step_downs: u8,
}

/// What an observer remembers that peers may forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    /// Who led each term; zero: nobody.
    leaders: [u8; TERMS_MAX],
    /// What has been committed, behind the first position, and by the leader of which term.
    pub(super) committed: Vec<(LogPosition, Term)>,
}

/// Something that can happen to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deliver(u32),
    Election(usize),
    Heartbeat(usize),
    StepDown(usize),
    Propose(usize),
    Change(usize),
    Abort(usize),
    Persist(usize),
    Crash(usize),
}

/// All that is needed to go from state to state.
pub(super) struct World {
    pub(super) tables: Tables,
    memories: Vec<Memory>,
    memory_numbers: HashMap<Memory, u32>,
    bounds: Bounds,
}

impl Action {
    /// A number that fits a table of paths.
    pub(super) fn encode(self) -> u32 {
        let (kind, number) = match self {
            Action::Deliver(message) => (0, message),
            Action::Election(slot) => (1, slot as u32),
            Action::Heartbeat(slot) => (2, slot as u32),
            Action::StepDown(slot) => (3, slot as u32),
            Action::Propose(slot) => (4, slot as u32),
            Action::Change(slot) => (5, slot as u32),
            Action::Persist(slot) => (6, slot as u32),
            Action::Crash(slot) => (7, slot as u32),
            Action::Abort(slot) => (8, slot as u32),
        };
        assert!(number < 1 << 28);
        kind << 28 | number
    }

    pub(super) fn decode(code: u32) -> Action {
        let number = code & ((1 << 28) - 1);
        let slot = number as usize;
        match code >> 28 {
            0 => Action::Deliver(number),
            1 => Action::Election(slot),
            2 => Action::Heartbeat(slot),
            3 => Action::StepDown(slot),
            4 => Action::Propose(slot),
            5 => Action::Change(slot),
            6 => Action::Persist(slot),
            7 => Action::Crash(slot),
            _ => Action::Abort(slot),
        }
    }
}

impl State {
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = Spread::default();
        for peer in self.peers {
            hasher.write_u32(peer);
        }
        hasher.write_u32(self.memory);
        let Left { proposals, changes, crashes, heartbeats, aborts, step_downs } = self.left;
        hasher.write_u64(u64::from_be_bytes([
            proposals, changes, crashes, heartbeats, aborts, step_downs, 0, 0,
        ]));
        for message in &self.network {
            hasher.write_u32(*message);
        }
        hasher.finish()
    }
}

impl State {
    /// Everything under way is lost.
    pub(super) fn without_network(mut self) -> State {
        self.network = Box::default();
        self
    }
}

impl World {
    /// The world and its first state: `configuration` is in force, and if the bounds say so its first peer leads term 1.
    pub(super) fn new(bounds: Bounds) -> (World, State) {
        let mut world = World {
            tables: Tables::default(),
            memories: Vec::new(),
            memory_numbers: HashMap::new(),
            bounds: bounds.clone(),
        };
        let truncated = LogPosition { index: Index(1), term: Term(1), chain: types::Chain(1) };
        let mut state =
            State { peers: [NOBODY; PEERS_MAX], memory: 0, left: bounds.left, network: Box::default() };
        let mut sent = Vec::new();
        let mut memory = Memory::default();
        let vote = bounds.has_leader.then_some(PeerId(1));
        for peer in &bounds.first.peers {
            let disk = Disk::first(&bounds.first, truncated, vote);
            let mut peer_of_model = Peer::new(peer.id, disk, bounds.nature(peer.id));
            if vote == Some(peer.id) {
                sent.extend(peer_of_model.lead_at_birth());
                memory.leaders[1] = 1;
            }
            state.peers[slot(peer.id)] = world.tables.add_peer(peer_of_model);
        }
        for peer in bounds.change.iter().flat_map(|change| &change.peers) {
            if state.peers[slot(peer.id)] == NOBODY {
                let newcomer = Peer::new(peer.id, Disk::empty(), bounds.nature(peer.id));
                state.peers[slot(peer.id)] = world.tables.add_peer(newcomer);
            }
        }
        state.network = world.tables.add_messages(sent);
        state.memory = world.add_memory(memory);
        (world, state)
    }

    pub(super) fn memory(&self, state: &State) -> &Memory {
        &self.memories[state.memory as usize]
    }

    pub(super) fn facts(&self, state: &State) -> impl Iterator<Item = (PeerId, &Facts)> {
        let peers = state.peers.iter().enumerate().filter(|(_, peer)| **peer != NOBODY);
        peers.map(|(slot, peer)| (PeerId(slot as u64 + 1), self.tables.facts(*peer)))
    }

    /// Everything that can happen now.
    pub(super) fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.clear();
        let term_max = self.bounds.term_max;
        for message in &state.network {
            let known = self.tables.message(*message);
            let is_beyond =
                known.is_timeout_now && self.tables.facts(state.peers[known.slot]).term >= term_max;
            if !is_beyond {
                actions.push(Action::Deliver(*message));
            }
        }
        for (peer, facts) in self.facts(state) {
            let slot = slot(peer);
            if facts.has_writes {
                actions.push(Action::Persist(slot));
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(slot));
            }
            if facts.is_leader {
                if state.left.step_downs > 0 {
                    actions.push(Action::StepDown(slot));
                }
                if state.left.aborts > 0 && facts.is_joint {
                    actions.push(Action::Abort(slot));
                }
                if state.left.proposals > 0 {
                    actions.push(Action::Propose(slot));
                }
                if state.left.changes > 0 && self.bounds.change.is_some() {
                    actions.push(Action::Change(slot));
                }
                if state.left.heartbeats > 0 {
                    actions.push(Action::Heartbeat(slot));
                }
            } else if facts.term < term_max {
                actions.push(Action::Election(slot));
            }
        }
    }

    /// The state after `action`; `None` if it changes nothing. Panics if one peer breaks a rule.
    pub(super) fn step(&mut self, state: &State, action: Action) -> Option<State> {
        let mut left = state.left;
        let at = self.slot(action);
        let input = {
            let bounds = &self.bounds;
            move |tables: &Tables| match action {
                Action::Deliver(message) => Input::Deliver(tables.message(message).message.clone()),
                Action::Election(_) if bounds.has_pre_votes => Input::PreElection,
                Action::Election(_) => Input::Election,
                Action::Heartbeat(_) => Input::Heartbeat,
                Action::StepDown(_) => Input::StepDown,
                Action::Propose(_) => Input::Propose(left.proposals),
                Action::Change(_) => Input::Change(bounds.change.clone().expect("it is allowed")),
                Action::Abort(_) => Input::Abort,
                Action::Persist(_) => Input::Persist,
                Action::Crash(_) => Input::Crash,
            }
        };
        // Two proposals are told apart by how many are left.
        let key = match action {
            Action::Propose(slot) => action.encode() | u32::from(left.proposals) << 8 | slot as u32,
            _ => action.encode(),
        };
        let number = self.tables.run(state.peers[at], key, input)?;
        match action {
            Action::Propose(_) => left.proposals -= 1,
            Action::Change(_) => left.changes -= 1,
            Action::Crash(_) => left.crashes -= 1,
            Action::Heartbeat(_) => left.heartbeats -= 1,
            Action::Abort(_) => left.aborts -= 1,
            Action::StepDown(_) => left.step_downs -= 1,
            Action::Deliver(_) | Action::Election(_) | Action::Persist(_) => {}
        }
        let outcome = self.tables.outcome(number);
        let mut next = State { peers: state.peers, memory: state.memory, left, network: Box::default() };
        next.peers[at] = outcome.peer;
        next.network = self.merge(&state.network, &outcome.sent, at, &next.peers);
        (next != *state).then_some(next)
    }

    /// Brings the observer's memory up to date with the peer that `action` concerned, and says what is broken.
    pub(super) fn observe(
        &mut self,
        earlier: &State,
        state: &mut State,
        action: Action,
    ) -> Result<(), String> {
        let at = self.slot(action);
        let facts = self.tables.facts(state.peers[at]);
        let earlier = self.tables.facts(earlier.peers[at]);
        // Who commits a configuration without itself leads no longer.
        let may_commit = facts.is_leader || (earlier.is_leader && earlier.term == facts.term);
        let known = &self.memories[state.memory as usize];
        let mut memory = None;
        if facts.is_leader {
            let leader = known.leaders[term_at(facts.term)];
            let own = u8::try_from(at + 1).expect("peers are few");
            if leader != 0 && leader != own {
                return Err(format!("election safety: {leader} and {own} both lead term {}", facts.term));
            }
            if leader == 0 {
                memory.get_or_insert_with(|| known.clone()).leaders[term_at(facts.term)] = own;
            }
        }
        for index in 2..=facts.commit.0 {
            // What a snapshot has replaced was compared when it was made.
            let Some(position) = facts.candidacies[0].position(Index(index)) else { continue };
            let at = usize::try_from(index - 2).expect("logs are short");
            match memory.as_ref().unwrap_or(known).committed.get(at) {
                Some((committed, _)) if *committed == position => {}
                Some((committed, _)) => {
                    return Err(format!(
                        "state machine safety: {position:?} and {committed:?} are both committed"
                    ));
                }
                None if may_commit => {
                    let term = facts.term;
                    memory.get_or_insert_with(|| known.clone()).committed.push((position, term));
                }
                None => return Err(format!("{position:?} is committed by a peer that does not lead")),
            }
        }
        if let Some(memory) = memory {
            state.memory = self.add_memory(memory);
        }
        self.check(state, at)
    }

    /// What must hold of the whole, after the peer at `changed` has changed.
    fn check(&self, state: &State, changed: usize) -> Result<(), String> {
        let committed = &self.memory(state).committed;
        let last_committed = committed.last().map(|(position, _)| *position);
        for (peer, facts) in self.facts(state) {
            if facts.is_leader {
                let earlier = committed.iter().filter(|(_, term)| *term < facts.term);
                for (position, term) in earlier {
                    if !facts.candidacies[0].has(*position) {
                        return Err(format!(
                            "leader completeness: {peer} leads term {} without {position:?} of term {term}",
                            facts.term
                        ));
                    }
                }
            }
            if let Some(position) = last_committed {
                self.check_candidacies(state, peer, position)?;
            }
        }
        self.check_matching(state, changed)
    }

    /// Nobody who lacks what is committed could win an election, now or after a crash of whoever it may be: leader
    /// completeness, one election ahead.
    fn check_candidacies(&self, state: &State, peer: PeerId, position: LogPosition) -> Result<(), String> {
        for candidacy in &self.tables.facts(state.peers[slot(peer)]).candidacies {
            if candidacy.has(position) {
                continue;
            }
            let last = candidacy.last();
            let voters = self.facts(state).filter(|(_, facts)| facts.candidacies[1].last() <= last);
            let yes = voters.fold(bit(peer), |yes, (voter, _)| yes | bit(voter));
            if candidacy.could_win(yes) {
                return Err(format!("leader completeness: {peer} lacks {position:?} and could be elected"));
            }
        }
        Ok(())
    }

    fn check_matching(&self, state: &State, changed: usize) -> Result<(), String> {
        let own = &self.tables.facts(state.peers[changed]).candidacies[0];
        for (peer, facts) in self.facts(state).filter(|(peer, _)| slot(*peer) != changed) {
            for position in &facts.candidacies[0].log {
                let matching = own.position(position.index).filter(|own| own.term == position.term);
                if matching.is_some_and(|own| own != *position) {
                    return Err(format!("log matching: {peer} and {} differ at {position:?}", changed + 1));
                }
            }
        }
        Ok(())
    }

    pub(super) fn facts_at(&self, state: &State, slot: usize) -> &Facts {
        self.tables.facts(state.peers[slot])
    }

    /// Whether sender and receiver are in this set.
    pub(super) fn is_among(&self, message: u32, peers: u8) -> bool {
        let Message { from, to, .. } = self.tables.message(message).message;
        peers & bit(from) != 0 && peers & bit(to) != 0
    }

    /// For people.
    pub(super) fn describe(&self, action: Action) -> String {
        match action {
            Action::Deliver(message) => {
                let Message { from, to, term, body } = &self.tables.message(message).message;
                format!("{from} -> {to} term {term} {body:?}")
            }
            other => {
                format!("{other:?} (peer {})", self.slot(action) + 1).replace("Action::", "")
                    + if matches!(other, Action::Crash(_)) { ", un-persisted state is lost" } else { "" }
            }
        }
    }

    pub(super) fn picture(&self, state: &State) -> String {
        let line = |(peer, facts): (PeerId, &Facts)| {
            let log = |log: &[LogPosition]| {
                log.iter()
                    .map(|position| format!("{}.{}", position.term, position.index))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            format!(
                "  {peer}: term {} vote {:?}{} commit {} log [{}] durable [{}] at term {}",
                facts.term,
                facts.vote,
                if facts.is_leader { " leads" } else { "" },
                facts.commit,
                log(&facts.candidacies[0].log),
                log(&facts.candidacies[1].log),
                self.tables.disk(state.peers[slot(peer)]).hard_state.term,
            )
        };
        self.facts(state).map(line).collect::<Vec<_>>().join("\n")
    }

    fn slot(&self, action: Action) -> usize {
        match action {
            Action::Deliver(message) => self.tables.message(message).slot,
            Action::Election(slot)
            | Action::Heartbeat(slot)
            | Action::StepDown(slot)
            | Action::Propose(slot)
            | Action::Change(slot)
            | Action::Abort(slot)
            | Action::Persist(slot)
            | Action::Crash(slot) => slot,
        }
    }

    /// The network with what was sent, without what can never again matter to the peer at `slot`.
    fn merge(&self, network: &[u32], sent: &[u32], at: usize, peers: &[u32; PEERS_MAX]) -> Box<[u32]> {
        let mut merged = Vec::with_capacity(network.len() + sent.len());
        let is_alive = |message: &u32| {
            let receiver = peers[self.tables.message(*message).slot];
            !self.tables.is_dead(*message, self.tables.facts(receiver))
        };
        let is_kept = |message: &&u32| self.tables.message(**message).slot != at || is_alive(message);
        merged.extend(network.iter().filter(is_kept));
        merged.extend(sent.iter().filter(|message| is_alive(message)));
        if !sent.is_empty() {
            merged.sort_unstable();
            merged.dedup();
        }
        merged.into_boxed_slice()
    }

    fn add_memory(&mut self, memory: Memory) -> u32 {
        if let Some(number) = self.memory_numbers.get(&memory) {
            return *number;
        }
        let number = u32::try_from(self.memories.len()).expect("there are not so many");
        self.memories.push(memory.clone());
        self.memory_numbers.insert(memory, number);
        number
    }
}

fn term_at(term: Term) -> usize {
    usize::try_from(term.0).expect("terms are few")
}
