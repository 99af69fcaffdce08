//! Our Raft core and the crate `raft` 0.7 in one simulated cluster, through a message adapter.
//!
//! Where both are in one cluster members are static and leases are off: that crate puts a configuration in force when it is applied, ours when it is
//! appended, so mixing the two would be unsafe and prove nothing. What the other side does not carry (the hash chain, where
//! a log ends, when a message was made) the adapter computes; it sees everything.
//!
//! Start reading at [`Cluster`].

mod adapter;
mod cluster;
mod ours;
mod theirs;

pub use adapter::Chains;
pub use cluster::{Cluster, Faults, Kind};
pub use ours::Ours;
pub use theirs::Theirs;

use types::{Index, Instant, PeerId, Term};

/// A peer of either make.
pub trait Member {
    /// Its name.
    fn id(&self) -> PeerId;

    /// Its term, and whether it leads it.
    fn leading(&self) -> (Term, bool);

    /// Takes a message.
    fn step(&mut self, now: Instant, message: raft::Message, chains: &mut Chains);

    /// Time has passed.
    fn tick(&mut self, now: Instant);

    /// Proposes, if it leads; whether it has taken the command.
    fn propose(&mut self, now: Instant, payload: &[u8]) -> bool;

    /// Makes exactly these peers voters, by a joint configuration if need be; the others are learners. Whether it is
    /// begun. Only in a cluster of one make.
    fn change(&mut self, now: Instant, voters: &[PeerId]) -> bool;

    /// Hands the leadership over.
    fn transfer(&mut self, now: Instant, to: PeerId);

    /// Voters and learners; `None` while the configuration is joint.
    fn membership(&self) -> Option<(Vec<PeerId>, Vec<PeerId>)>;

    /// Does what there is to do, but for what must first be durable: the messages that leave at once. Entries that are
    /// committed are applied, in order, by `apply`.
    fn advance(
        &mut self,
        now: Instant,
        chains: &mut Chains,
        apply: &mut dyn FnMut(Index, Term, &[u8]),
    ) -> Vec<raft::Message>;

    /// Whether something is being written.
    fn has_writes(&self) -> bool;

    /// The oldest write becomes durable; what leaves because of it.
    fn persist(&mut self, now: Instant, chains: &mut Chains) -> Vec<raft::Message>;

    /// Dies with all that is not durable, and starts again.
    fn crash(&mut self, now: Instant, seed: u64);
}
