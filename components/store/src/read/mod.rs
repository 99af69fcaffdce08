//! The read worker: linearizable reads off the raft threads (D10).
//!
//! A lease read first waits until the commit index of its arrival is applied, then takes its engine snapshot, and only
//! then checks, with a clock read of that moment, that the lease still holds: whatever another leader may have written
//! by then, it cannot have been acknowledged before this read began.
//!
//! The data of a region is in no state at all while a snapshot is put in place, or the peer ends. A read is answered
//! only if the region's view shows, before the engine snapshot and behind it, that nothing of the kind was under way.

use std::sync::Arc;

use actor::{Now, Worker};
use kv::read::ReadScope;
use types::{Answer, Index, Instant, Term};

use crate::{
    Error, Result,
    apply::from_kv,
    limits::LEASE_WALL_GAIN_MAX_MS,
    message::{ApplyMail, ConfirmedRead, RaftMail, ReadMail, ReadProof, ReadRequest, RequestContext},
    peer::{check_peer, check_term_and_epoch, no_peer},
    shared::Shared,
    view::{LeaseView, RegionView, ViewState},
};

/// The actor that answers reads.
pub(crate) struct ReadWorker {
    shared: Arc<Shared>,
    /// Reads of the round whose data is applied: one engine snapshot serves them all.
    ready: Vec<Ready>,
}

/// A read whose data is applied.
struct Ready {
    read: ConfirmedRead,
    view: Arc<RegionView>,
    /// The view's, before the engine snapshot was taken.
    installing_to: Index,
}

/// Where a read of a client goes.
enum Route {
    /// Its data is applied.
    Now(Term),
    /// Behind this index.
    Behind(Index, Term),
    /// The lease does not cover it.
    ReadIndex,
}

impl Worker for ReadWorker {
    type Mail = ReadMail;

    fn round(&mut self, now: Now, mail: &mut Vec<ReadMail>) {
        // 1. What may be answered under a lease, what must wait for apply, what needs a quorum.
        for mail in mail.drain(..) {
            match mail {
                ReadMail::Read(reads) => reads.into_iter().for_each(|read| self.route(now, read)),
                ReadMail::Applied(reads) => reads.into_iter().for_each(|read| self.admit(read)),
            }
        }
        if self.ready.is_empty() {
            return;
        }
        metrics::counter!(telemetry::names::READ_BATCHES).increment(1);
        // 2. One engine snapshot for the round.
        let snapshot = self.shared.kv.snapshot();
        // 3. The proof is checked behind it, with a clock read of its own.
        let now = self.shared.clock.now();
        for Ready { read, view, installing_to } in std::mem::take(&mut self.ready) {
            let state = view.read(Clone::clone);
            match check_proof(&state, &read, installing_to, now) {
                Ok(true) => {
                    let result = answer(&state, &read.request, now, &*snapshot);
                    count(read.proof);
                    read.request.responder.reply(result);
                }
                // The lease has ended meanwhile.
                Ok(false) => self.ask_quorum(read.request),
                Err(error) => read.request.responder.reply(Err(error)),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl ReadWorker {
    pub(crate) fn new(shared: Arc<Shared>) -> ReadWorker {
        ReadWorker { shared, ready: Vec::new() }
    }

    fn route(&mut self, now: Now, read: ReadRequest) {
        let region_id = read.context.region_id;
        let store_id = self.shared.ident.store_id;
        let Some(view) = self.shared.views.find(region_id) else {
            let error = no_peer(store_id, &read.context);
            return read.responder.reply(Err(error));
        };
        let route = view.update(|state| {
            check_peer(store_id, state.peer, &read.context)?;
            state.was_read = true;
            find_route(state, &read.context, now).map(|route| (route, state.installing_to))
        });
        let (route, installing_to) = match route {
            Ok(found) => found,
            Err(error) => return read.responder.reply(Err(error)),
        };
        match route {
            Route::Now(term) => {
                let proof = ReadProof::Lease(term);
                self.ready.push(Ready { read: ConfirmedRead { request: read, proof }, view, installing_to });
            }
            Route::Behind(index, term) => {
                let proof = ReadProof::Lease(term);
                let read = Box::new(ConfirmedRead { request: read, proof });
                self.shared.router.send_apply(region_id, ApplyMail::Await { region_id, index, read });
            }
            Route::ReadIndex => self.ask_quorum(read),
        }
    }

    fn admit(&mut self, read: ConfirmedRead) {
        let region_id = read.request.context.region_id;
        match self.shared.views.find(region_id) {
            Some(view) => {
                let installing_to = view.read(|state| state.installing_to);
                self.ready.push(Ready { read, view, installing_to });
            }
            None => read.request.responder.reply(Err(Error::RegionNotFound(region_id))),
        }
    }

    fn ask_quorum(&self, read: ReadRequest) {
        self.shared.router.send_raft(read.context.region_id, RaftMail::ReadIndex(read));
    }
}

fn find_route(state: &ViewState, context: &RequestContext, now: Now) -> Result<Route> {
    let is_leader = state.leader.is_some_and(|leader| leader.id == state.peer.id);
    if !is_leader {
        let not_leader = Error::NotLeader { region_id: state.region_id, leader: state.leader };
        return if context.is_replica_read { Ok(Route::ReadIndex) } else { Err(not_leader) };
    }
    let Some(region) = &state.region else { return Err(Error::NotInitialized(state.region_id)) };
    check_term_and_epoch(state.term, region, context)?;
    Ok(match valid_lease(state, now) {
        None => Route::ReadIndex,
        Some(lease) if state.applied.index >= state.commit_index => Route::Now(lease.term),
        Some(lease) => Route::Behind(state.commit_index, lease.term),
    })
}

/// The lease, if it allows a read at `now`.
fn valid_lease(state: &ViewState, now: Now) -> Option<LeaseView> {
    let lease = state.lease?;
    let monotonic_ms = i64::try_from(now.monotonic.0 / 1_000_000).ok()?;
    let wall_lead_ms = i64::try_from(now.wall.0).ok()? - monotonic_ms;
    // A monotonic clock that missed time (a suspended machine) shows in the wall clock gaining on it (D2).
    let wall_gain_ms = u64::try_from(wall_lead_ms - lease.wall_lead_ms).unwrap_or(0);
    let is_valid = now.monotonic < lease.until
        && wall_gain_ms <= LEASE_WALL_GAIN_MAX_MS
        && lease.term == state.term
        && state.applied.index >= state.lease_blocked_to
        && !state.is_installing();
    is_valid.then_some(lease)
}

/// Whether the read may be answered from a snapshot taken just before `now`; `false`: it needs a quorum after all.
/// `installing_to`: what the state said before that snapshot.
fn check_proof(state: &ViewState, read: &ConfirmedRead, installing_to: Index, now: Now) -> Result<bool> {
    if state.is_installing() || state.installing_to != installing_to {
        return Err(Error::ReadIndexNotReady(state.region_id));
    }
    let Some(region) = &state.region else { return Err(Error::NotInitialized(state.region_id)) };
    // The epoch once more: the descriptor may have changed while the read waited.
    let context = RequestContext { term: None, ..read.request.context };
    check_term_and_epoch(state.term, region, &context)?;
    Ok(match read.proof {
        ReadProof::ReadIndex => true,
        ReadProof::Lease(term) => valid_lease(state, now).is_some_and(|lease| lease.term == term),
    })
}

fn answer(
    state: &ViewState,
    read: &ReadRequest,
    now: Now,
    snapshot: &dyn engine::KvSnapshot,
) -> Result<Answer> {
    let Some(region) = &state.region else { return Err(Error::NotInitialized(state.region_id)) };
    let scope = ReadScope { region_id: region.id, range: &region.range, wall: now.wall };
    kv::read::answer(&read.query, &scope, snapshot).map_err(|error| from_kv(error, region))
}

fn count(proof: ReadProof) {
    match proof {
        ReadProof::Lease(_) => metrics::counter!(telemetry::names::READ_LEASE).increment(1),
        ReadProof::ReadIndex => metrics::counter!(telemetry::names::READ_INDEX).increment(1),
    }
}

#[cfg(test)]
mod tests {
    use types::{LogPosition, Peer, PeerId, PeerRole, RegionId, StoreId, WallTime};

    use super::*;

    fn at(monotonic_ms: u64, wall_ms: u64) -> Now {
        Now { monotonic: Instant::from_millis(monotonic_ms), wall: WallTime(wall_ms) }
    }

    fn leader() -> ViewState {
        let peer = Peer { id: PeerId(1), store_id: StoreId(1), role: PeerRole::Voter };
        let mut state = ViewState::new(RegionId(2), peer);
        state.leader = Some(peer);
        state.term = Term(3);
        state.commit_index = Index(10);
        state.applied = LogPosition { index: Index(10), ..LogPosition::default() };
        state.lease =
            Some(LeaseView { term: Term(3), until: Instant::from_millis(400), wall_lead_ms: 1_000 });
        state
    }

    #[test]
    fn a_lease_ends_at_its_instant() {
        assert!(valid_lease(&leader(), at(399, 1_399)).is_some());
        assert!(valid_lease(&leader(), at(400, 1_400)).is_none());
    }

    #[test]
    fn a_wall_clock_that_gains_on_the_monotonic_one_refuses_the_lease() {
        assert!(valid_lease(&leader(), at(100, 1_150)).is_some());
        assert!(valid_lease(&leader(), at(100, 1_151)).is_none());
        assert!(
            valid_lease(&leader(), at(100, 500)).is_some(),
            "a wall clock that falls behind says nothing"
        );
    }

    #[test]
    fn a_lease_of_another_term_does_not_count() {
        let state = ViewState { term: Term(4), ..leader() };
        assert!(valid_lease(&state, at(1, 1_001)).is_none());
    }

    fn confirmed() -> ConfirmedRead {
        let context = RequestContext { region_id: RegionId(2), ..RequestContext::default() };
        let query = types::Query::Get { key: bytes::Bytes::from_static(b"a") };
        let responder = crate::message::Responder::new(drop);
        ConfirmedRead { request: ReadRequest { context, query, responder }, proof: ReadProof::ReadIndex }
    }

    /// The engine snapshot may show it half done, however done it is when the view is looked at.
    #[test]
    fn a_snapshot_that_was_put_in_place_around_the_engine_snapshot_is_noticed() {
        let region = types::Region {
            id: RegionId(2),
            range: types::KeyRange::ALL,
            epoch: types::Epoch::FIRST,
            peers: Vec::new(),
        };
        let state = ViewState { region: Some(Arc::new(region)), installing_to: Index(7), ..leader() };
        assert_eq!(check_proof(&state, &confirmed(), Index(7), at(1, 1_001)), Ok(true));
        let refused = check_proof(&state, &confirmed(), Index(0), at(1, 1_001));
        assert_eq!(refused, Err(Error::ReadIndexNotReady(RegionId(2))), "it was not there before");
        let state = ViewState { installing_to: Index(11), ..state };
        let refused = check_proof(&state, &confirmed(), Index(11), at(1, 1_001));
        assert_eq!(refused, Err(Error::ReadIndexNotReady(RegionId(2))), "it is not there yet");
    }

    #[test]
    fn a_committed_change_of_peers_that_is_not_applied_blocks_the_lease() {
        let state = ViewState { lease_blocked_to: Index(11), ..leader() };
        assert!(valid_lease(&state, at(1, 1_001)).is_none());
    }
}
