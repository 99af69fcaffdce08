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

use explore::explore;

/// States that are explored by default, in all scenarios together.
const STATES: usize = 1_000_000;

fn states_max() -> usize {
    std::env::var("RAFT_MODEL_STATES").map_or(STATES, |states| states.parse().expect("a number of states"))
}

#[test]
fn model() {
    let all = scenarios::all();
    let each = states_max().div_ceil(all.len());
    for scenario in &all {
        let report = explore(scenario, each);
        println!("{}: {report:?}", scenario.name);
        assert!(report.states >= each || report.is_complete);
    }
}
