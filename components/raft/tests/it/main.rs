//! Tests of the Raft group through its public interface: scripts, named scenarios, and random clusters.
#![allow(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests look at few kinds of messages, and their numbers are small"
)]

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod ghost;
#[cfg(test)]
mod host;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod peer_script;
#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod solo;
