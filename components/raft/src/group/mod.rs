//! The group itself: its public interface. Each subject has a file of its own.
//!
//! ```text
//!  step ──► term rules (step.rs) ──► follower.rs   appends, heartbeats, snapshots
//!  tick ──►                     ├──► election.rs   pre-votes, votes, promises
//!  propose ─► replication.rs    ├──► replication.rs answers, commit
//!                               └──► reads.rs, transfer.rs, membership.rs
//!  ready ◄── output.rs ◄── messages, entries, hard state, committed entries
//! ```
//!
//! Messages to peers about the log are not made when something happens but in [`RaftGroup::ready`]: whatever happened
//! since the last one shares them.

mod birth;
mod election;
mod follower;
mod force;
mod invariants;
mod lease;
mod membership;
mod output;
mod reads;
mod replication;
mod sleep;
mod state;
mod step;
#[cfg(test)]
pub(crate) mod timeless;
mod timers;
mod transfer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use types::{
    Configuration, ConfigurationChange, EntryKind, HardState, Index, Instant, LogPosition, PeerId, Term,
};

use crate::{
    Error, OwnOptions, PeerStatus, Result, Role, SnapshotOutcome, Status,
    configurations::Configurations,
    log::Log,
    trace::{Event, Trace, Tracer},
};

use state::{ElectionClock, Forced, Outbox, Persistence, Retry, RoleState};

/// A reason to refuse a message; counted and logged, never answered.
type Refused = std::result::Result<(), &'static str>;

/// One peer of a Raft group.
///
/// Inputs never fail on what other peers say: a message that cannot be right is refused and counted. After every batch
/// of inputs the caller takes a [`Ready`](crate::Ready) if [`RaftGroup::has_ready`].
#[derive(Clone, Debug, Hash)]
pub struct RaftGroup {
    options: OwnOptions,
    hard_state: HardState,
    role: RoleState,
    log: Log,
    configurations: Configurations,
    /// The last index handed out to be applied.
    handed_out: Index,
    /// The last index reported as applied.
    applied: Index,
    election: ElectionClock,
    outbox: Outbox,
    persistence: Persistence,
    retry: Retry,
    rejected_count: u32,
    chain_mismatch_count: u32,
    /// Set while this peer tries to lead without a quorum.
    forced: Option<Box<Forced>>,
    tracer: Tracer,
}

impl RaftGroup {
    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// This peer.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.options.id
    }

    /// What this peer is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.role {
            RoleState::Follower(_) => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// The leader of this term, if known; this peer itself if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<PeerId> {
        match &self.role {
            RoleState::Follower(follower) => follower.leader(),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
            RoleState::Leader(_) => Some(self.options.id),
        }
    }

    /// Proposes a command. It is in the log when this returns; whether it is committed is seen when an entry with this
    /// index and term is handed out, or one with another term.
    pub fn propose(&mut self, now: Instant, payload: Bytes) -> Result<(Index, Term)> {
        self.propose_as(now, EntryKind::Command, payload)
    }

    /// Proposes a change of the region itself.
    pub fn propose_region(&mut self, now: Instant, payload: Bytes) -> Result<(Index, Term)> {
        self.propose_as(now, EntryKind::Region, payload)
    }

    fn propose_as(&mut self, now: Instant, kind: EntryKind, payload: Bytes) -> Result<(Index, Term)> {
        self.rouse(now);
        let RoleState::Leader(leader) = &self.role else { return Err(Error::NotLeader) };
        if leader.transfer.is_some() {
            return Err(Error::ProposalDropped("the leadership is being transferred"));
        }
        // One proposal always fits, however large.
        let bytes_max = self.options.behaviour.uncommitted_bytes_max;
        if leader.uncommitted_bytes > 0 && leader.uncommitted_bytes.saturating_add(payload.len()) > bytes_max
        {
            return Err(Error::ProposalDropped("too many bytes are not committed yet"));
        }
        let position = self.append_own(kind, payload);
        Ok((position.index, position.term))
    }

    /// Entries have become durable: all Readies up to this number.
    pub fn on_persisted(&mut self, now: Instant, number: u64) {
        assert!(number <= self.persistence.number, "a Ready that was never given is persisted");
        let Persistence { in_flight, durable_term, .. } = &mut self.persistence;
        let count = in_flight.partition_point(|ready| ready.number <= number);
        for ready in in_flight.drain(..count) {
            *durable_term = ready.term;
            if let Some(index) = ready.snapshot {
                self.log.on_snapshot_persisted(index);
            }
            if let Some((index, term)) = ready.last {
                self.log.on_persisted(index, term);
            }
        }
        self.persistence.drop_empty();
        self.tracer.emit(Event::Persisted { number, index: self.log.persisted() });
        match &self.role {
            RoleState::Candidate(_) => self.decide_election(now),
            RoleState::Leader(_) => self.advance_commit(now),
            RoleState::Follower(_) | RoleState::PreCandidate(_) => {}
        }
    }

    /// The state machine has applied everything up to `applied`.
    pub fn advance(&mut self, _now: Instant, applied: Index) {
        assert!(applied <= self.handed_out, "what was never handed out is applied");
        self.applied = self.applied.max(applied);
    }

    /// The log has been truncated: it now begins behind `position`, which is applied and durable.
    pub fn compact(&mut self, position: LogPosition) {
        assert!(position.index <= self.applied, "the log would be truncated above what is applied");
        self.log.compact(position);
        self.configurations.prune(self.log.truncated().index);
        self.tracer.emit(Event::Begins(self.log.truncated()));
    }

    /// From now on `listener` is told of each message and each change of state.
    pub fn set_trace(&mut self, listener: Arc<dyn Trace>) {
        self.tracer = Tracer::new(listener);
    }

    /// Another election timeout, for tests that cannot wait. Promise and lease stay as they are, so this is safe at any
    /// time; peers with different ones only find a leader sooner or later than others.
    pub fn set_election_timeout(&mut self, now: Instant, election_timeout: Duration) {
        Arc::make_mut(&mut self.options.behaviour).election_timeout = election_timeout;
        self.election.rearm(&self.options, now);
    }

    /// Another priority, because placement prefers other stores by now. It counts from the next wait on.
    pub fn set_priority(&mut self, priority: i32) {
        self.options.priority = priority;
    }

    /// A message to `peer` could not be delivered: pipelining to it stops until it answers.
    pub fn report_unreachable(&mut self, _now: Instant, peer: PeerId) {
        if let RoleState::Leader(leader) = &mut self.role
            && let Some(progress) = leader.find(peer)
        {
            progress.on_unreachable();
        }
    }

    /// How the snapshot ended that [`Ready::snapshot_wanted`](crate::Ready::snapshot_wanted) asked for.
    pub fn report_snapshot(&mut self, now: Instant, peer: PeerId, outcome: SnapshotOutcome) {
        let installing_until = now + self.options.behaviour.election_timeout;
        let last_index = self.log.last().index;
        if let RoleState::Leader(leader) = &mut self.role
            && let Some(progress) = leader.find(peer)
            && progress.is_in_snapshot()
        {
            match outcome {
                SnapshotOutcome::Sent(index) => {
                    progress.on_snapshot_sent(index.min(last_index), installing_until);
                }
                SnapshotOutcome::Failed => progress.on_snapshot_failed(),
            }
        }
    }

    /// The position at `index`, if it is known in memory.
    #[must_use]
    pub fn position(&self, index: Index) -> Option<LogPosition> {
        self.log.position(index)
    }

    /// Each configuration with the index of its entry: the one in force at the truncation point and all behind it.
    #[must_use]
    pub fn configurations(&self) -> &[(Index, ConfigurationChange)] {
        self.configurations.history()
    }

    /// The configuration in force: that of the last configuration entry in the log, committed or not.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.configurations.in_force()
    }

    /// Term, vote and commit index, durable or not.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The position behind which the log begins; (0, 0) if there is no log.
    #[must_use]
    pub fn truncated(&self) -> LogPosition {
        self.log.truncated()
    }

    /// The last position of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.log.last()
    }

    /// The highest index known committed.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        self.hard_state.commit
    }

    /// The highest index reported as applied.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.applied
    }

    /// The highest index that is durable. While a snapshot is being made durable it is below the truncation point.
    #[must_use]
    pub fn persisted_index(&self) -> Index {
        self.log.persisted()
    }

    /// Whether this peer leads and an entry of its term is committed: then its commit index is that of the group.
    #[must_use]
    pub fn has_committed_in_term(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => self.hard_state.commit >= leader.first_index,
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// Whether a transfer of the leadership is under way, so that proposals are dropped.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        matches!(&self.role, RoleState::Leader(leader) if leader.transfer.is_some())
    }

    /// Bytes of entries that this leader has appended and that are not committed; zero unless leading.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        match &self.role {
            RoleState::Leader(leader) => leader.uncommitted_bytes,
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => 0,
        }
    }

    /// Bytes of entries held in memory.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Messages that were refused because they cannot be right.
    #[must_use]
    pub fn rejected_count(&self) -> u64 {
        u64::from(self.rejected_count)
    }

    /// Appends refused because the logs differ where index and term are equal (D15). Nothing was overwritten.
    #[must_use]
    pub fn chain_mismatch_count(&self) -> u64 {
        u64::from(self.chain_mismatch_count)
    }

    /// A picture of everything, for people and checkers.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            RoleState::Leader(leader) => leader.progress.iter().map(PeerStatus::from).collect(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => Vec::new(),
        };
        let empty = || ConfigurationChange { peers: Vec::new(), change_id: 0 };
        Status {
            id: self.options.id,
            role: self.role(),
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            leader: self.leader(),
            commit_index: self.hard_state.commit,
            applied_index: self.applied,
            persisted_index: self.log.persisted(),
            last: self.log.last(),
            truncated: self.log.truncated(),
            configuration: (
                self.configurations.index(),
                self.configurations.change().cloned().unwrap_or_else(empty),
            ),
            peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store holds tens of thousands of groups, most of them followers without work (D7).
    #[test]
    fn a_group_is_small() {
        let size_bytes = size_of::<RaftGroup>();
        assert!(size_bytes <= 512, "{size_bytes} bytes");
    }
}
