//! Tests of the Raft group through its public interface: scripts, named scenarios, and random clusters.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod ghost;
#[cfg(test)]
mod node;
#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod solo;
