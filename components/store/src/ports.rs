//! What the store needs from outside, beside engines and clocks.

use types::{StoreId, Term};

use crate::{LeadChanges, SplitWish, StoreMessage, message::PlacementMessage};

/// Which stream a message takes; one lane never waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Beats, heartbeats, votes, read indexes, placement: small, and must not wait.
    Liveness,
    /// Appends and their answers.
    Append,
    /// Snapshots.
    Snapshot,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 3] = [Lane::Liveness, Lane::Append, Lane::Snapshot];
}

/// Carries messages to other stores. It may lose, delay and reorder them, and never blocks; per pair of stores and lane
/// it usually keeps their order.
pub trait Transport: Send + Sync {
    /// Sends a batch; all of it goes out in as few frames as possible. Messages to an unknown or unreachable store, or
    /// beyond the lane's byte bound, are dropped: Raft repeats what matters.
    fn send(&self, to: StoreId, lane: Lane, messages: Vec<StoreMessage>);
}

/// The placement module on this store, as the store sees it. Calls only enqueue.
pub trait PlacementClient: Send + Sync {
    /// What has changed about the regions that are led from this store. Nothing is said twice: whoever takes it keeps it.
    fn report(&self, changes: LeadChanges);

    /// The leader of the placement group as known here: the store it is on, and if that is this store, in which term it
    /// leads with every entry of earlier terms applied.
    fn on_placement_leader(&self, leader: Option<StoreId>, led_here: Option<Term>);

    /// A region that is led here should be split. Said again after a while if nothing comes of it.
    fn split_wanted(&self, wish: SplitWish);

    /// A message of placement's protocol from another store.
    fn receive(&self, from: StoreId, message: PlacementMessage);
}
