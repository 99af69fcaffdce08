//! What a group is started with.

use std::{sync::Arc, time::Duration};

use types::{ConfigurationChange, HardState, Index, Instant, LogPosition, PeerId};

/// What one peer's group is started with, apart from its state.
#[derive(Clone, Debug, Hash)]
pub struct Options {
    /// This peer.
    pub id: PeerId,
    /// Seeds the only randomness, that of election timeouts.
    pub seed: u64,
    /// A peer of lower priority waits longer before it campaigns; never blocks an election. Default 0.
    pub priority: i32,
    /// One for all groups of a store: a store holds tens of thousands of them.
    pub behaviour: Arc<Behaviour>,
}

/// How groups behave. All peers of a cluster use the same durations.
#[derive(Clone, Debug, Hash)]
pub struct Behaviour {
    /// A follower that hears nothing for this long (plus a random part of up to as much again) pre-campaigns.
    /// Default 600 ms.
    pub election_timeout: Duration,
    /// A leader sends something to each peer at least this often. Default 100 ms.
    pub heartbeat_interval: Duration,
    /// Who acknowledges a leader votes for nobody else for this long. Default 500 ms.
    pub promise: Duration,
    /// How long a lease lasts from the moment the acknowledged message was made; below `promise` by more than clocks
    /// drift apart in that time. Default 400 ms.
    pub lease: Duration,
    /// Bytes of entries in one append. Default 1 MiB; one entry always fits.
    pub append_bytes_max: usize,
    /// Bytes of entries sent to one peer and not acknowledged. Default 8 MiB; one append always fits.
    pub inflight_bytes_max: usize,
    /// Bytes of entries appended by the leader and not committed; above it proposals are dropped. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Bytes of one page of committed entries. Default 4 MiB; one entry always fits.
    pub committed_bytes_max: usize,
    /// How many committed entries may be handed out before they are durable here. Zero unless the caller can start with
    /// more applied than its log holds, which then is a snapshot to it (D3); zero in production.
    pub apply_ahead_entries_max: u64,
}

/// What a group keeps of its [`Options`].
#[derive(Clone, Debug, Hash)]
pub(crate) struct OwnOptions {
    pub(crate) id: PeerId,
    pub(crate) priority: i32,
    pub(crate) behaviour: Arc<Behaviour>,
}

/// What a peer remembers when it starts. The default is a peer without a log, which a snapshot must start (D15).
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The position behind which the log begins.
    pub truncated: LogPosition,
    /// The last position of the log.
    pub last: LogPosition,
    /// Each configuration that matters, with the index of its entry, ascending: the one in force at `truncated` and all
    /// behind it. Empty for a peer without a log.
    pub configurations: Vec<(Index, ConfigurationChange)>,
    /// The highest index that the state machine has applied.
    pub applied: Index,
    /// No vote is granted and no election started before this: the promises that a previous run may have given.
    pub vote_not_before: Instant,
}

impl Options {
    /// The default behaviour for this peer.
    #[must_use]
    pub fn new(id: PeerId, seed: u64) -> Options {
        Options { id, seed, priority: 0, behaviour: Arc::default() }
    }

    /// To change how this group alone behaves.
    pub fn behaviour_mut(&mut self) -> &mut Behaviour {
        Arc::make_mut(&mut self.behaviour)
    }
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            election_timeout: Duration::from_millis(600),
            heartbeat_interval: Duration::from_millis(100),
            promise: Duration::from_millis(500),
            lease: Duration::from_millis(400),
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            committed_bytes_max: 4 << 20,
            apply_ahead_entries_max: 0,
        }
    }
}
