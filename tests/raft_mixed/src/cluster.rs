//! Peers of both makes, a network and disks that fail, under one seed; and what an observer checks after every event.

use std::collections::BTreeMap;

use raft::Message;
use types::{Index, Instant, PeerId, Term};

use crate::{Chains, Member, Ours, Theirs};

/// Whose make a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Ours,
    /// That of the crate `raft` 0.7.
    Theirs,
}

/// How much goes wrong, in thousandths of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages that are lost.
    pub drop: u64,
    /// Messages that arrive twice.
    pub duplicate: u64,
    /// Messages that arrive long after those sent later.
    pub late: u64,
    /// Rounds of the clock in which a peer crashes.
    pub crash: u64,
    /// Rounds of the clock in which a peer is cut off for a while, if none is.
    pub cut: u64,
}

enum Event {
    Deliver(Message),
    Persist(usize),
    Tick,
}

/// A cluster.
pub struct Cluster {
    members: Vec<Box<dyn Member>>,
    kinds: Vec<Kind>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    now: Instant,
    random: u64,
    chains: Chains,
    /// How much goes wrong from now on.
    pub faults: Faults,
    leaders: BTreeMap<Term, PeerId>,
    /// What has been applied by anyone.
    committed: Vec<(Term, Vec<u8>)>,
    /// How far each has applied.
    applied: Vec<Index>,
    /// Who is cut off, and until when.
    cut: (PeerId, Instant),
    proposed_count: u64,
    /// Up to how many commands a leader is given each round of the clock.
    pub proposals_max: u64,
    led_counts: [u64; 2],
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;

impl Cluster {
    /// Peers 1, 2, … of these makes, all voters, with proposals all the time.
    #[must_use]
    pub fn new(kinds: &[Kind], seed: u64) -> Cluster {
        Cluster { proposals_max: 3, ..Cluster::with_learners(kinds, kinds.len(), seed) }
    }

    /// Peers 1, 2, … of these makes, the first ones voters, the others learners; nothing is proposed.
    #[must_use]
    pub fn with_learners(kinds: &[Kind], voter_count: usize, seed: u64) -> Cluster {
        let ids: Vec<PeerId> = (1..=kinds.len() as u64).map(PeerId).collect();
        let (voters, learners) = ids.split_at(voter_count);
        let now = Instant::from_millis(1_000);
        let start = |(id, kind): (&PeerId, &Kind)| -> Box<dyn Member> {
            match kind {
                Kind::Ours => Box::new(Ours::new(*id, voters, learners, now, seed ^ id.0)),
                Kind::Theirs => Box::new(Theirs::new(*id, voters, learners, now)),
            }
        };
        let mut cluster = Cluster {
            members: ids.iter().zip(kinds).map(start).collect(),
            kinds: kinds.to_vec(),
            events: BTreeMap::new(),
            sequence: 0,
            now,
            random: seed,
            chains: Chains::default(),
            faults: Faults::default(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            applied: vec![Index(1); kinds.len()],
            cut: (PeerId(0), Instant::ZERO),
            proposed_count: 0,
            proposals_max: 0,
            led_counts: [0; 2],
        };
        cluster.schedule(0, Event::Tick);
        cluster
    }

    /// So many events happen.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(((at, _), event)) = self.events.pop_first() else { return };
            self.now = at;
            match event {
                Event::Deliver(message) if self.is_cut(&message) => {}
                Event::Deliver(message) => {
                    let to = slot(message.to);
                    self.members[to].step(self.now, message, &mut self.chains);
                    self.look_at(to);
                }
                Event::Persist(member) => self.persist(member),
                Event::Tick => self.tick(),
            }
        }
    }

    /// How many entries are committed.
    #[must_use]
    pub fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// How many terms had a leader of our make, and of theirs.
    #[must_use]
    pub fn led_counts(&self) -> [u64; 2] {
        self.led_counts
    }

    /// Whether all have applied all.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let last = Index(self.committed.len() as u64 + 1);
        self.applied.iter().all(|applied| *applied == last)
    }

    /// The leader of the latest term, if it is up.
    #[must_use]
    pub fn leader(&self) -> Option<PeerId> {
        let leaders = self.members.iter().filter(|member| member.leading().1);
        leaders.max_by_key(|member| member.leading().0).map(|member| member.id())
    }

    /// What has been applied, but for what leaders append of themselves.
    #[must_use]
    pub fn commands(&self) -> Vec<&[u8]> {
        let payloads = self.committed.iter().map(|(_, payload)| payload.as_slice());
        payloads.filter(|payload| payload.starts_with(b"command")).collect()
    }

    /// Voters and learners, if all agree on them.
    #[must_use]
    pub fn membership(&self) -> Option<(Vec<PeerId>, Vec<PeerId>)> {
        let first = self.members.first()?.membership()?;
        self.members.iter().all(|member| member.membership().as_ref() == Some(&first)).then_some(first)
    }

    /// Lets the leader do something; `false` if there is none or it refuses.
    pub fn ask(&mut self, what: impl FnOnce(&mut dyn Member, Instant) -> bool) -> bool {
        let Some(leader) = self.leader().map(slot) else { return false };
        let is_done = what(self.members[leader].as_mut(), self.now);
        self.look_at(leader);
        is_done
    }

    /// Runs until it is so; panics if that takes too long.
    pub fn run_until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        assert!(self.run_until_within(20_000, is_so), "{what}: not within 20,000 events");
    }

    /// Runs until it is so, for so many events at the most; returns whether it is so.
    pub fn run_until_within(&mut self, event_count: u32, is_so: impl Fn(&Cluster) -> bool) -> bool {
        for _ in 0..event_count {
            if is_so(self) {
                return true;
            }
            self.run(1);
        }
        is_so(self)
    }

    /// Everyone looks at the clock; someone proposes; someone may crash.
    fn tick(&mut self) {
        self.schedule(10 * MILLISECOND, Event::Tick);
        for member in 0..self.members.len() {
            self.members[member].tick(self.now);
            self.look_at(member);
        }
        let member = self.below(self.members.len() as u64);
        let member = usize::try_from(member).unwrap_or_default();
        if self.chance(self.faults.crash) {
            let seed = self.next();
            self.members[member].crash(self.now, seed);
            // It applies everything anew.
            self.applied[member] = Index(1);
            self.look_at(member);
        }
        if self.cut.1 <= self.now && self.chance(self.faults.cut) {
            let until = self.now.0 + self.below(2_000 * MILLISECOND);
            let member = self.below(self.members.len() as u64);
            self.cut = (PeerId(member + 1), Instant(until));
        }
        for member in 0..self.members.len() {
            for _ in 0..self.below(self.proposals_max + 1) {
                self.proposed_count += 1;
                let payload = self.proposed_count.to_be_bytes();
                if self.members[member].propose(self.now, &payload) {
                    self.look_at(member);
                }
            }
        }
    }

    fn is_cut(&self, message: &Message) -> bool {
        let (peer, until) = self.cut;
        self.now < until && (message.from == peer || message.to == peer)
    }

    fn persist(&mut self, member: usize) {
        let sent = self.members[member].persist(self.now, &mut self.chains);
        self.send(sent);
        self.look_at(member);
    }

    /// Does what a peer wants done, and checks it.
    fn look_at(&mut self, member: usize) {
        let had_writes = self.members[member].has_writes();
        let Cluster { members, chains, committed, applied, .. } = self;
        let applied = &mut applied[member];
        let mut apply = |index: Index, term: Term, payload: &[u8]| {
            assert_eq!(index, applied.next(), "a peer applies out of order");
            *applied = index;
            let at = usize::try_from(index.0 - 2).expect("logs are short");
            match committed.get(at) {
                Some((known_term, known)) => {
                    assert_eq!((*known_term, known.as_slice()), (term, payload), "peers differ at {index}");
                }
                None => committed.push((term, payload.to_vec())),
            }
        };
        let sent = members[member].advance(self.now, chains, &mut apply);
        self.send(sent);
        // One write follows the other, so an event for each that is new is enough.
        if self.members[member].has_writes() && (!had_writes || self.chance(500)) {
            let delay = self.below(5 * MILLISECOND);
            self.schedule(delay, Event::Persist(member));
        }
        self.check_leader(member);
    }

    fn check_leader(&mut self, member: usize) {
        let (term, is_leader) = self.members[member].leading();
        if !is_leader {
            return;
        }
        let id = self.members[member].id();
        match self.leaders.insert(term, id) {
            Some(other) => assert_eq!(other, id, "two peers lead term {term}"),
            None => self.led_counts[usize::from(self.kinds[member] == Kind::Theirs)] += 1,
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            if self.chance(self.faults.drop) {
                continue;
            }
            let is_late = self.chance(self.faults.late);
            let delay = self.below(if is_late { 2_000 * MILLISECOND } else { 3 * MILLISECOND });
            if self.chance(self.faults.duplicate) {
                let delay = self.below(100 * MILLISECOND);
                self.schedule(delay, Event::Deliver(message.clone()));
            }
            self.schedule(delay + 50 * MICROSECOND, Event::Deliver(message));
        }
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((Instant(self.now.0 + delay), self.sequence), event);
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.below(1_000) < thousandths
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn slot(peer: PeerId) -> usize {
    usize::try_from(peer.0 - 1).expect("peers are few")
}
