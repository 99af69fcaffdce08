//! What is explored: first states, and how often things may happen.

use std::collections::BTreeSet;

use types::{ConfigurationChange, Index, Peer, PeerId, PeerRole, StoreId, Term};

use super::{
    peer::Nature,
    tables::bit,
    world::{Action, Left, State, World},
};

/// What may happen in a model.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// The configuration in force at first. Its first peer is peer 1.
    pub(super) first: ConfigurationChange,
    /// What the first configuration may be changed to.
    pub(super) change: Option<ConfigurationChange>,
    /// Whether peer 1 leads term 1 at birth.
    pub(super) has_leader: bool,
    /// Whether elections begin with a pre-vote; else as if it had been won.
    pub(super) has_pre_votes: bool,
    /// The peers, as bits, whose writes become durable later than they are made; others' do at once.
    pub(super) slow: u8,
    /// Whether each append holds one entry only.
    pub(super) is_piecemeal: bool,
    pub(super) term_max: Term,
    pub(super) left: Left,
}

impl Bounds {
    pub(super) fn nature(&self, peer: PeerId) -> Nature {
        Nature { is_slow: self.slow & bit(peer) != 0, is_piecemeal: self.is_piecemeal }
    }
}

/// Where a search begins.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) bounds: Bounds,
    /// What has happened before the search begins.
    pub(super) setup: Vec<Setup>,
}

/// A step on the way to a first state.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setup {
    Do(Action),
    /// Whatever has been sent arrives and is made durable, until nothing new comes of it.
    Settle,
    /// The same, among these peers only (a set of bits).
    SettleAmong(u8),
    /// Whatever has been sent arrives until this peer's log has this last index; what is under way stays so.
    Grow(usize, u64),
    /// This peer is elected by these (a set of bits); nothing that it sends as a leader arrives.
    Elect(usize, u8),
}

impl Setup {
    pub(super) fn apply(self, world: &mut World, state: State) -> State {
        match self {
            Setup::Do(action) => take(world, &state, action).expect("a step of the setup does something"),
            Setup::Settle => settle(world, state, ALL, |_, _| false).without_network(),
            Setup::SettleAmong(peers) => settle(world, state, peers, |_, _| false).without_network(),
            Setup::Grow(slot, last) => settle(world, state, ALL, |world, state| {
                world.facts_at(state, slot).candidacies[0].last().1 == Index(last)
            }),
            Setup::Elect(slot, peers) => {
                let state = take(world, &state, Action::Election(slot)).expect("it may campaign");
                let leads = |world: &World, state: &State| world.facts_at(state, slot).is_leader;
                settle(world, state, peers, leads).without_network()
            }
        }
    }
}

fn take(world: &mut World, state: &State, action: Action) -> Option<State> {
    let mut next = world.step(state, action)?;
    world.observe(state, &mut next, action).expect("the setup breaks no rule");
    Some(next)
}

/// Each message arrives once, until nothing is left or it `is_enough`.
fn settle(
    world: &mut World,
    mut state: State,
    among: u8,
    is_enough: impl Fn(&World, &State) -> bool,
) -> State {
    let mut actions = Vec::new();
    let mut delivered = BTreeSet::new();
    loop {
        world.actions(&state, &mut actions);
        if is_enough(world, &state) {
            return state;
        }
        let is_in = |action: &Action| match action {
            Action::Deliver(message) => world.is_among(*message, among),
            Action::Persist(slot) => among & (1 << slot) != 0,
            Action::Election(_)
            | Action::Heartbeat(_)
            | Action::StepDown(_)
            | Action::Propose(_)
            | Action::Change(_)
            | Action::Abort(_)
            | Action::Crash(_) => false,
        };
        let Some(action) = actions.iter().copied().filter(is_in).find(|action| match action {
            Action::Deliver(message) => delivered.insert(*message),
            _ => true,
        }) else {
            return state;
        };
        state = take(world, &state, action).unwrap_or(state);
    }
}

/// A configuration of peers 1 to 6 by their roles: `v` voter, `l` learner, `i` incoming, `d` demoting, `-` none.
fn configuration(roles: &str) -> ConfigurationChange {
    let role = |letter: char| match letter {
        'v' => Some(PeerRole::Voter),
        'l' => Some(PeerRole::Learner),
        'i' => Some(PeerRole::IncomingVoter),
        'd' => Some(PeerRole::DemotingVoter),
        _ => None,
    };
    let peers = (1..)
        .zip(roles.chars())
        .filter_map(|(id, letter)| Some(Peer { id: PeerId(id), store_id: StoreId(id), role: role(letter)? }));
    ConfigurationChange { peers: peers.collect(), change_id: 7 }
}

/// Every peer's bit.
const ALL: u8 = 0b11_1111;

/// Nothing may happen but messages, elections and writes.
const NOTHING: Left = Left { proposals: 0, changes: 0, crashes: 0, heartbeats: 0, aborts: 0, step_downs: 0 };

/// A group whose first peer leads term 1.
fn led(first: &str, change: Option<&str>, slow: u8, left: Left) -> Bounds {
    Bounds {
        first: configuration(first),
        change: change.map(configuration),
        has_leader: true,
        has_pre_votes: false,
        slow,
        is_piecemeal: false,
        term_max: Term(3),
        left,
    }
}

/// Searches among three voters that stay.
pub(super) fn static_ones() -> Vec<Scenario> {
    let crashing = Left { proposals: 1, crashes: 1, ..NOTHING };
    let busy = Left { proposals: 2, crashes: 1, step_downs: 1, heartbeats: 1, ..NOTHING };
    let unled = Bounds { has_leader: false, ..led("vvv", None, ALL, crashing) };
    let divergent = vec![Setup::Do(Action::StepDown(0)), Setup::Elect(1, 0b110)];
    vec![
        Scenario {
            name: "elections with pre-votes",
            bounds: Bounds { has_pre_votes: true, slow: 0, ..unled.clone() },
            setup: Vec::new(),
        },
        Scenario { name: "elections", bounds: unled, setup: Vec::new() },
        Scenario { name: "a leader", bounds: led("vvv", None, 0, busy), setup: Vec::new() },
        Scenario {
            name: "a leader with a slow disk",
            bounds: led("vvv", None, 0b001, busy),
            setup: Vec::new(),
        },
        Scenario {
            name: "followers with slow disks",
            bounds: led("vvv", None, 0b110, busy),
            setup: Vec::new(),
        },
        Scenario {
            name: "an entry of term 1 on one peer, one of term 2 on another",
            bounds: Bounds {
                is_piecemeal: true,
                ..led("vvv", None, 0, Left { step_downs: 2, crashes: 1, ..NOTHING })
            },
            setup: divergent,
        },
        Scenario {
            name: "entries of term 1 on one peer, fewer of term 2 on others",
            bounds: led("vvv", None, 0, Left { proposals: 1, step_downs: 3, heartbeats: 2, ..busy }),
            setup: vec![
                Setup::Do(Action::Propose(0)),
                Setup::Do(Action::StepDown(0)),
                Setup::Elect(1, 0b110),
                Setup::Do(Action::Heartbeat(1)),
                Setup::SettleAmong(0b110),
            ],
        },
    ]
}

/// Searches in which the configuration changes.
pub(super) fn changing_ones() -> Vec<Scenario> {
    let everything = Left { proposals: 2, changes: 1, crashes: 2, heartbeats: 1, aborts: 1, step_downs: 2 };
    let calm = Left { changes: 1, step_downs: 1, ..NOTHING };
    let joint = vec![Setup::Settle, Setup::Do(Action::Change(0))];
    vec![
        Scenario {
            name: "everything at once: three voters replaced by another peer",
            bounds: led("vvv", Some("dddi"), ALL, everything),
            setup: Vec::new(),
        },
        Scenario {
            name: "three voters replaced by a learner",
            bounds: led("vvvl", Some("dddi"), 0, calm),
            setup: vec![Setup::Settle],
        },
        Scenario {
            name: "a joint configuration",
            bounds: led("vvvl", Some("dddi"), 0, Left { crashes: 1, ..calm }),
            setup: joint.clone(),
        },
        Scenario {
            name: "a joint configuration behind a proposal",
            bounds: led("vvvl", Some("dddi"), 0, Left { proposals: 1, ..calm }),
            setup: vec![Setup::Settle, Setup::Do(Action::Propose(0)), Setup::Do(Action::Change(0))],
        },
        Scenario {
            name: "a joint configuration that may be given up",
            bounds: led("vvvl", Some("dddi"), 0, Left { aborts: 1, ..calm }),
            setup: joint.clone(),
        },
        Scenario {
            name: "given up by a leader that does not know of an earlier leader's C_new",
            bounds: led("vvvlll", Some("dddiii"), 0, Left { changes: 1, aborts: 1, ..NOTHING }),
            setup: vec![
                Setup::Settle,
                Setup::Do(Action::Change(0)),
                Setup::Grow(0, 4),
                Setup::SettleAmong(0b00_1001),
                Setup::Elect(1, 0b11_0110),
            ],
        },
        Scenario {
            name: "one of three stays",
            bounds: led("vvvll", Some("vddii"), 0, calm),
            setup: joint.clone(),
        },
        Scenario {
            name: "three voters replaced by three others",
            bounds: led("vvvlll", Some("dddiii"), 0, calm),
            setup: joint,
        },
    ]
}
