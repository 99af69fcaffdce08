//! A model check of the group itself: every order of events within bounds, breadth first, each state once.
//!
//! What is explored is the production code: a peer of the model is a [`crate::RaftGroup`] with a disk whose writes become
//! durable later, or never. The network loses, delays, repeats and reorders ([`world`]). Time is taken away
//! ([`crate::group::timeless`]): any wait may end at any moment. Invariants are those of Raft's figure 3 and what the crate
//! asserts of itself.
//!
//! `make model` explores more than `cargo test` does: `RAFT_MODEL_STATES` says how many states in all.

#![allow(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test: it looks at few kinds of things, and its numbers are small"
)]

mod explore;
mod peer;
mod scenarios;
mod tables;
mod world;

use explore::{Saw, explore};
use scenarios::Scenario;

/// States that are explored by default, in all scenarios together.
const STATES: usize = 1_000_000;

fn states_max() -> usize {
    std::env::var("RAFT_MODEL_STATES").map_or(STATES, |states| states.parse().expect("a number of states"))
}

/// Explores these scenarios with half of the states.
fn explore_all(scenarios: &[Scenario]) -> Saw {
    let each = states_max().div_ceil(2 * scenarios.len());
    let mut saw = Saw::default();
    for scenario in scenarios {
        let report = explore(scenario, each);
        println!("{}: {report:?}", scenario.name);
        assert!(report.states >= each || report.is_complete);
        saw = saw.and(report.saw);
    }
    saw
}

#[test]
fn a_group_whose_configuration_stays() {
    let saw = explore_all(&scenarios::static_ones());
    assert!(saw.leader_term == 3 && saw.committed >= 3 && saw.crash, "the search went nowhere: {saw:?}");
}

#[test]
fn a_group_whose_configuration_changes() {
    let saw = explore_all(&scenarios::changing_ones());
    assert!(saw.leader_term == 3 && saw.committed >= 4 && saw.crash, "the search went nowhere: {saw:?}");
    assert!(saw.joint && saw.left_joint, "no configuration was replaced: {saw:?}");
}
