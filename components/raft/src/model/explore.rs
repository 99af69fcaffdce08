//! The search: breadth first, each state once, so that what breaks a rule is found by a shortest path.

use std::{
    collections::{HashSet, VecDeque},
    hash::BuildHasherDefault,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::{
    scenarios::Scenario,
    tables::Spread,
    world::{Action, State, World},
};

/// What a search has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) states: usize,
    pub(super) depth: usize,
    pub(super) transitions: usize,
    pub(super) peers: usize,
    /// Whether there was nothing left to look at.
    pub(super) is_complete: bool,
    pub(super) saw: Saw,
}

/// That a search went where it was meant to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saw {
    /// The highest term that had a leader.
    pub(super) leader_term: u64,
    /// The most entries committed.
    pub(super) committed: usize,
    /// Whether a joint configuration was in force somewhere, and whether all that followed a joint one was left again.
    pub(super) joint: bool,
    pub(super) left_joint: bool,
    pub(super) crash: bool,
}

impl Saw {
    pub(super) fn and(self, other: Saw) -> Saw {
        Saw {
            leader_term: self.leader_term.max(other.leader_term),
            committed: self.committed.max(other.committed),
            joint: self.joint || other.joint,
            left_joint: self.left_joint || other.left_joint,
            crash: self.crash || other.crash,
        }
    }
}

struct Search {
    world: World,
    seen: HashSet<u64, BuildHasherDefault<Spread>>,
    /// For each state in order of discovery: that from which it was reached, and by what.
    paths: Vec<(u32, u32)>,
    frontier: VecDeque<(u32, State)>,
    report: Report,
}

/// Explores up to so many states. Panics, and prints how it came about, if a rule is broken.
pub(super) fn explore(scenario: &Scenario, states_max: usize) -> Report {
    let (mut world, mut first) = World::new(scenario.bounds.clone());
    for step in &scenario.setup {
        first = step.apply(&mut world, first);
    }
    let mut search = Search {
        world,
        seen: HashSet::default(),
        paths: Vec::new(),
        frontier: VecDeque::new(),
        report: Report::default(),
    };
    search.seen.insert(first.fingerprint());
    search.paths.push((0, 0));
    search.frontier.push_back((0, first));
    let mut actions = Vec::new();
    let mut level_end = 1;
    while let Some((number, state)) = search.frontier.pop_front() {
        if number == level_end {
            search.report.depth += 1;
            level_end = search.count();
        }
        search.world.actions(&state, &mut actions);
        for action in &actions {
            search.take(number, &state, *action);
        }
        if search.paths.len() >= states_max {
            break;
        }
    }
    search.report.is_complete = search.frontier.is_empty();
    search.report.states = search.paths.len();
    search.report.peers = search.world.tables.peer_count();
    search.report
}

impl Search {
    fn count(&self) -> u32 {
        u32::try_from(self.paths.len()).expect("there is not that much memory")
    }

    fn take(&mut self, number: u32, state: &State, action: Action) {
        self.report.transitions += 1;
        let world = &mut self.world;
        let next = match catch_unwind(AssertUnwindSafe(|| world.step(state, action))) {
            Ok(Some(next)) => next,
            Ok(None) => return,
            Err(panic) => {
                println!("{}", self.story(number, state, action));
                resume_unwind(panic);
            }
        };
        let mut next = next;
        if let Err(broken) = self.world.observe(state, &mut next, action) {
            let story = self.story(number, &next, action);
            panic!("{broken}\n{story}");
        }
        if !self.seen.insert(next.fingerprint()) {
            return;
        }
        self.note(&next, action);
        let count = self.count();
        self.paths.push((number, action.encode()));
        self.frontier.push_back((count, next));
    }

    fn note(&mut self, state: &State, action: Action) {
        let saw = &mut self.report.saw;
        saw.crash |= matches!(action, Action::Crash(_));
        saw.committed = saw.committed.max(self.world.memory(state).committed.len());
        for (_, facts) in self.world.facts(state) {
            if facts.is_leader {
                saw.leader_term = saw.leader_term.max(facts.term.0);
            }
            saw.joint |= facts.is_joint;
            saw.left_joint |= facts.has_left_joint;
        }
    }

    /// How the state with this number came about, what happened then, and what it led to.
    fn story(&self, number: u32, state: &State, action: Action) -> String {
        let mut steps = vec![self.world.describe(action)];
        let mut at = number;
        while at != 0 {
            let (earlier, code) = self.paths[at as usize];
            steps.push(self.world.describe(Action::decode(code)));
            at = earlier;
        }
        steps.reverse();
        let lines: Vec<_> =
            steps.iter().enumerate().map(|(at, step)| format!("{:3} {step}", at + 1)).collect();
        format!("{}\n{}", lines.join("\n"), self.world.picture(state))
    }
}
