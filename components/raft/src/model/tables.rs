//! Peers, messages and what inputs do to peers, each kept once and named by a number. The group is deterministic, so the
//! same input to the same peer has the same outcome in every state of the whole: it is computed once.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

use types::{Configuration, Index, LogPosition, PeerId, Term};

use super::peer::{Disk, Input, Peer};
use crate::{Message, MessageBody, RaftGroup};

/// Spreads a number that is a key already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mut z = (self.0 ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}

pub(super) type Numbers<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// A half or both of a configuration as sets of peers.
#[derive(Clone, Copy, Debug)]
struct Voters {
    incoming: u8,
    outgoing: u8,
}

/// What a peer would bring to an election: its log, and whom it would ask.
#[derive(Clone, Debug)]
pub(super) struct Candidacy {
    pub(super) log: Vec<LogPosition>,
    is_eligible: bool,
    voters: Voters,
}

/// What the invariants must know of a peer.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) term: Term,
    pub(super) vote: Option<PeerId>,
    pub(super) is_leader: bool,
    pub(super) commit: Index,
    pub(super) durable_term: Term,
    pub(super) has_writes: bool,
    pub(super) is_joint: bool,
    /// Whether the configuration in force is a committed one that ended a joint one.
    pub(super) has_left_joint: bool,
    /// As it is now, and as it would be after a crash.
    pub(super) candidacies: [Candidacy; 2],
}

/// What an input does to a peer.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) peer: u32,
    pub(super) sent: Box<[u32]>,
}

/// A message with what must be known of it without looking inside.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) message: Message,
    pub(super) slot: usize,
    pub(super) is_timeout_now: bool,
    /// Says nothing to whoever is in a later term.
    is_answer: bool,
}

/// All that has been met.
#[derive(Default)]
pub(super) struct Tables {
    peers: Vec<(Peer, Facts)>,
    peer_numbers: HashMap<u128, u32>,
    messages: Vec<Known>,
    message_numbers: HashMap<Message, u32>,
    outcomes: Vec<Outcome>,
    outcome_numbers: Numbers<u64, u32>,
}

/// The number of an outcome that changes nothing.
const NOTHING: u32 = u32::MAX;

impl Voters {
    fn of(configuration: &Configuration) -> Voters {
        let set = |peers: &[PeerId]| peers.iter().fold(0, |set, peer| set | bit(*peer));
        Voters { incoming: set(&configuration.voters), outgoing: set(&configuration.outgoing) }
    }

    fn have_quorum(self, yes: u8) -> bool {
        let majority = |half: u8| half == 0 || (half & yes).count_ones() * 2 > half.count_ones();
        self.incoming != 0 && majority(self.incoming) && majority(self.outgoing)
    }
}

impl Candidacy {
    fn of(peer: &Peer, log: Vec<LogPosition>) -> Candidacy {
        let voters = Voters::of(peer.group.configuration());
        Candidacy { log, is_eligible: peer.group.is_eligible(), voters }
    }

    pub(super) fn last(&self) -> (Term, Index) {
        self.log.last().map_or((Term(0), Index(0)), |position| (position.term, position.index))
    }

    pub(super) fn position(&self, index: Index) -> Option<LogPosition> {
        let first = self.log.first()?.index;
        (index >= first).then(|| self.log.get(usize::try_from(index.since(first)).ok()?).copied())?
    }

    /// Whether `committed` is in this log, or below where it begins.
    pub(super) fn has(&self, committed: LogPosition) -> bool {
        let is_below = self.log.first().is_some_and(|first| first.index > committed.index);
        is_below || self.position(committed.index) == Some(committed)
    }

    /// Whether this peer could win an election if exactly these voted for it.
    pub(super) fn could_win(&self, yes: u8) -> bool {
        self.is_eligible && self.voters.have_quorum(yes)
    }
}

impl Facts {
    fn of(peer: &Peer) -> Facts {
        let restarted = Peer::new(peer.group.id(), peer.disk.clone(), peer.nature);
        Facts {
            term: peer.term(),
            vote: peer.group.hard_state().vote,
            is_leader: peer.is_leader(),
            commit: peer.group.commit_index(),
            durable_term: peer.disk.hard_state.term,
            has_writes: peer.has_writes(),
            is_joint: peer.group.configuration().is_joint(),
            has_left_joint: has_left_joint(&peer.group),
            candidacies: [Candidacy::of(peer, peer.log()), Candidacy::of(&restarted, peer.durable_log())],
        }
    }
}

impl Tables {
    pub(super) fn facts(&self, peer: u32) -> &Facts {
        &self.peers[peer as usize].1
    }

    pub(super) fn message(&self, message: u32) -> &Known {
        &self.messages[message as usize]
    }

    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn outcome(&self, number: u32) -> &Outcome {
        &self.outcomes[number as usize]
    }

    /// Whether a message will never again say anything to this peer: it answers what was said in an earlier term.
    pub(super) fn is_dead(&self, message: u32, receiver: &Facts) -> bool {
        let known = self.message(message);
        known.is_answer && known.message.term < receiver.durable_term
    }

    pub(super) fn add_peer(&mut self, peer: Peer) -> u32 {
        let key = fingerprint(&peer);
        if let Some(number) = self.peer_numbers.get(&key) {
            return *number;
        }
        let number = u32::try_from(self.peers.len()).expect("there are not so many");
        let facts = Facts::of(&peer);
        self.peers.push((peer, facts));
        self.peer_numbers.insert(key, number);
        number
    }

    pub(super) fn add_messages(&mut self, messages: Vec<Message>) -> Box<[u32]> {
        let mut numbers: Vec<_> = messages.into_iter().map(|message| self.add_message(message)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_boxed_slice()
    }

    /// What an input does to a peer; `None` if nothing. `key` names the input.
    pub(super) fn run(&mut self, number: u32, key: u32, input: impl FnOnce(&Tables) -> Input) -> Option<u32> {
        let key = u64::from(number) << 32 | u64::from(key);
        if let Some(outcome) = self.outcome_numbers.get(&key) {
            return (*outcome != NOTHING).then_some(*outcome);
        }
        let input = input(self);
        let earlier = &self.peers[number as usize];
        let is_crash = matches!(input, Input::Crash);
        let mut peer = earlier.0.clone();
        let sent = peer.apply(input);
        let after = self.add_peer(peer);
        if !is_crash {
            check_step(&self.peers[number as usize].1, &self.peers[after as usize].1);
        }
        let sent = self.add_messages(sent);
        let outcome = if after == number && sent.is_empty() {
            NOTHING
        } else {
            self.outcomes.push(Outcome { peer: after, sent });
            u32::try_from(self.outcomes.len() - 1).expect("there are not so many")
        };
        self.outcome_numbers.insert(key, outcome);
        (outcome != NOTHING).then_some(outcome)
    }

    pub(super) fn disk(&self, peer: u32) -> &Disk {
        &self.peers[peer as usize].0.disk
    }

    fn add_message(&mut self, message: Message) -> u32 {
        if let Some(number) = self.message_numbers.get(&message) {
            return *number;
        }
        let number = u32::try_from(self.messages.len()).expect("there are not so many");
        let is_answer = matches!(
            message.body,
            MessageBody::AppendAccepted { .. }
                | MessageBody::AppendRejected { .. }
                | MessageBody::HeartbeatResponse { .. }
                | MessageBody::VoteResponse { .. }
                | MessageBody::TimeoutNow
        );
        self.messages.push(Known {
            slot: slot(message.to),
            is_timeout_now: matches!(message.body, MessageBody::TimeoutNow),
            is_answer,
            message: message.clone(),
        });
        self.message_numbers.insert(message, number);
        number
    }
}

fn has_left_joint(group: &RaftGroup) -> bool {
    match group.configurations() {
        [.., (_, joint), (last, _)] => {
            joint.configuration().is_joint()
                && *last <= group.commit_index()
                && !group.configuration().is_joint()
        }
        [..] => false,
    }
}

/// What holds of one peer between two moments of one run of it.
fn check_step(earlier: &Facts, later: &Facts) {
    assert!(later.term >= earlier.term, "the term falls");
    assert!(later.commit >= earlier.commit, "the commit index falls");
    if later.term == earlier.term && earlier.vote.is_some() {
        assert_eq!(later.vote, earlier.vote, "two votes in one term");
    }
    let (earlier_log, later_log) = (&earlier.candidacies[0], &later.candidacies[0]);
    if earlier.is_leader && later.is_leader && later.term == earlier.term {
        assert!(later_log.log.starts_with(&earlier_log.log), "a leader changes its own log");
    }
    let committed = earlier_log.position(earlier.commit);
    assert!(committed.is_none_or(|committed| later_log.has(committed)), "what was committed is truncated");
}

pub(super) fn slot(peer: PeerId) -> usize {
    usize::try_from(peer.0 - 1).expect("peers are few")
}

pub(super) fn bit(peer: PeerId) -> u8 {
    1 << slot(peer)
}

/// 128 bits: two of a million peers are not taken for one.
fn fingerprint(peer: &Peer) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        peer.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}
