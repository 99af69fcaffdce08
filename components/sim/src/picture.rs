//! What the checkers see of a cluster: views of the stores, and what their disks hold.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use check::cluster::{BudgetPicture, ClusterPicture, LogPicture, PeerPicture, StorePicture};
use engine::{KvSnapshot, RaftState};
use kv::keys;
use store::RegionPicture;
use types::{HardState, Index, Instant, Region, RegionId};
use xxhash_rust::xxh3::Xxh3;

use crate::world::{HostId, Moment, World};

/// What the wall clock may gain on the monotonic one while a lease stays good (D2).
const WALL_GAIN_MAX: Duration = Duration::from_millis(50);

/// Every running store.
pub(crate) fn of_cluster(world: &World) -> ClusterPicture {
    ClusterPicture { stores: world.hosts().filter_map(|host| of_store(world, host)).collect() }
}

/// The observer's time: the true one.
pub(crate) fn instant(moment: Moment) -> Instant {
    Instant(moment.0)
}

/// Whether a peer believes that it leads.
pub(crate) fn is_leader(peer: &RegionPicture) -> bool {
    peer.leader.is_some_and(|leader| leader.id == peer.peer.id)
}

/// When a peer's lease ends, in true time, if it would be used: one during which the wall clock has gained on the
/// monotonic one is refused by whoever checks it (D2).
pub(crate) fn lease_until(world: &World, host: HostId, peer: &RegionPicture) -> Option<Moment> {
    let until = peer.lease_until?;
    let clock = world.clock(host);
    let has_gained = clock.missed_since(until - world.config().lease()) > WALL_GAIN_MAX;
    (!has_gained).then(|| clock.moment_of(until))
}

fn of_store(world: &World, host: HostId) -> Option<StorePicture> {
    let store = world.store(host)?;
    let (log, kv) = world.engines(host)?;
    let states: BTreeMap<RegionId, RaftState> = log.raft_states_with_ends().ok()?.into_iter().collect();
    let snapshot = kv.snapshot();
    let peers = store.regions().into_iter().map(|peer| {
        let state = states.get(&peer.id);
        of_peer(world, host, peer, state, &*snapshot)
    });
    let ident = store.ident();
    Some(StorePicture {
        id: ident.store_id,
        incarnation: ident.incarnation,
        peers: peers.collect(),
        budget: Some(BudgetPicture {
            reserved_bytes: store.ledger().reserved_bytes(),
            limit_bytes: store.ledger().limit_bytes(),
        }),
    })
}

fn of_peer(
    world: &World,
    host: HostId,
    peer: RegionPicture,
    state: Option<&RaftState>,
    data: &dyn KvSnapshot,
) -> PeerPicture {
    let lease_until = lease_until(world, host, &peer).map(instant);
    PeerPicture {
        region_id: peer.id,
        peer_id: peer.peer.id,
        is_leader: is_leader(&peer),
        term: peer.term,
        commit_index: peer.commit_index,
        applied: peer.applied,
        lease_until,
        digest: peer.region.as_ref().and_then(|region| digest(region, data)),
        is_quarantined: false,
        log: state.and_then(|state| log_picture(&peer, state)),
        descriptor: peer.region.map(|region| (*region).clone()),
    }
}

/// The log, where memory and disk say the same of its configuration: between the two, a leader may commit by a
/// configuration that the disk does not show yet.
fn log_picture(peer: &RegionPicture, state: &RaftState) -> Option<LogPicture> {
    let (since, change) = state.configurations.last()?;
    let is_current = state.last == peer.last && state.peer_id == peer.peer.id;
    let since = if is_current { *since } else { Index(u64::MAX) };
    // The commit index is written without a sync: it may be lost.
    let durable = HardState { commit: Index(0), ..state.hard_state };
    (state.peer_id == peer.peer.id).then(|| LogPicture {
        vote: if state.hard_state.term == peer.term { state.hard_state.vote } else { None },
        durable,
        persisted_index: if is_current { state.last.index } else { state.last.index.min(peer.last.index) },
        truncated: state.truncated,
        last: peer.last,
        positions: Vec::new(),
        flushed_index: None,
        configuration: (since, change.configuration()),
    })
}

/// A digest of a region's replicated data; none of what a dead engine shows, whose store is about to stop.
fn digest(region: &Region, data: &dyn KvSnapshot) -> Option<u128> {
    let (start_key, end_key) = keys::replicated_range(region.id, &region.range);
    let mut hasher = Xxh3::new();
    let scanned = data.scan(&start_key, &end_key, false, &mut |key, value| {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value);
        ControlFlow::Continue(())
    });
    scanned.is_ok().then(|| hasher.digest128())
}
