//! What holds on one store, and of each of its peers from one picture to the next.

use std::collections::{BTreeMap, BTreeSet};

use types::{Epoch, HardState, Incarnation, Index, LogPosition, PeerId, RegionId, StoreId, Term};

use super::{
    invariant::{Finding, Invariant, ensure},
    picture::{LogPicture, PeerPicture, StorePicture},
};

/// What earlier pictures showed of all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerGhosts {
    peers: BTreeMap<(StoreId, RegionId), PeerGhost>,
    homes: BTreeMap<PeerId, (StoreId, RegionId)>,
    /// Peers that had data and were destroyed.
    destroyed: BTreeSet<PeerId>,
}

/// What a peer had reached.
#[derive(Clone, Copy, Debug)]
struct PeerGhost {
    peer_id: PeerId,
    incarnation: Incarnation,
    has_data: bool,
    term: Term,
    vote: Option<PeerId>,
    commit_index: Index,
    applied_index: Index,
    epoch: Epoch,
    durable: HardState,
    flushed_index: Index,
}

impl PeerGhosts {
    /// Checks a store's peers against what they were, one after the other. A finding names its region.
    pub(super) fn observe(&mut self, store: &StorePicture) -> Result<(), (RegionId, Finding)> {
        self.note_destroyed(store);
        for peer in &store.peers {
            self.check_identity(store, peer).map_err(|finding| (peer.region_id, finding))?;
            if peer.is_quarantined {
                continue;
            }
            check_log_and_data(peer).map_err(|finding| (peer.region_id, finding))?;
            let key = (store.id, peer.region_id);
            let new = PeerGhost::new(store.incarnation, peer);
            if let Some(old) = self.peers.get(&key).filter(|old| old.peer_id == peer.peer_id) {
                check_progress(old, &new, peer).map_err(|finding| (peer.region_id, finding))?;
                self.peers.insert(key, new.with_durable_of(old, peer));
            } else {
                self.peers.insert(key, new);
            }
        }
        Ok(())
    }

    /// A peer with data that is gone, without a restart between, was destroyed. (After a restart it may be waiting for
    /// its repair.)
    fn note_destroyed(&mut self, store: &StorePicture) {
        let present: BTreeSet<_> = store.peers.iter().map(|peer| peer.peer_id).collect();
        let range = (store.id, RegionId(0))..=(store.id, RegionId(u64::MAX));
        let gone =
            |ghost: &PeerGhost| !present.contains(&ghost.peer_id) && ghost.incarnation == store.incarnation;
        let gone: Vec<_> =
            self.peers.range(range).filter(|(_, ghost)| gone(ghost)).map(|(key, _)| *key).collect();
        for key in gone {
            let ghost = self.peers.remove(&key).expect("the key was just found");
            if ghost.has_data {
                self.destroyed.insert(ghost.peer_id);
            }
        }
    }

    fn check_identity(&mut self, store: &StorePicture, peer: &PeerPicture) -> Result<(), Finding> {
        let home = *self.homes.entry(peer.peer_id).or_insert((store.id, peer.region_id));
        ensure(home == (store.id, peer.region_id), Invariant::NoReturn, || {
            format!(
                "peer {} is on store {}, and it was of region {} on store {}",
                peer.peer_id, store.id, home.1, home.0
            )
        })?;
        let has_returned = peer.descriptor.is_some() && self.destroyed.contains(&peer.peer_id);
        ensure(!has_returned, Invariant::NoReturn, || {
            format!("peer {} was destroyed on store {} and is back", peer.peer_id, store.id)
        })
    }
}

impl PeerGhost {
    fn new(incarnation: Incarnation, peer: &PeerPicture) -> PeerGhost {
        let log = peer.log.as_ref();
        PeerGhost {
            peer_id: peer.peer_id,
            incarnation,
            has_data: peer.descriptor.is_some(),
            term: peer.term,
            vote: log.and_then(|log| log.vote),
            commit_index: peer.commit_index,
            applied_index: peer.applied.index,
            epoch: peer.descriptor.as_ref().map_or_else(Epoch::default, |descriptor| descriptor.epoch),
            durable: log.map_or_else(HardState::default, |log| log.durable),
            flushed_index: log.and_then(|log| log.flushed_index).unwrap_or_default(),
        }
    }

    /// Keeps what is known to be durable where a picture does not show it.
    fn with_durable_of(self, old: &PeerGhost, peer: &PeerPicture) -> PeerGhost {
        match &peer.log {
            Some(log) if log.flushed_index.is_some() => self,
            Some(_) => PeerGhost { flushed_index: old.flushed_index, ..self },
            None => {
                PeerGhost { durable: old.durable, flushed_index: old.flushed_index, vote: old.vote, ..self }
            }
        }
    }
}

/// Checks what a store shows of itself.
pub(super) fn check_store(store: &StorePicture) -> Result<(), Finding> {
    if let Some(budget) = store.budget {
        ensure(budget.reserved_bytes <= budget.limit_bytes, Invariant::Budget, || {
            format!(
                "store {} has reserved {} of {} bytes",
                store.id, budget.reserved_bytes, budget.limit_bytes
            )
        })?;
    }
    let mut regions = BTreeMap::new();
    for peer in &store.peers {
        if let Some(other) = regions.insert(peer.region_id, peer.peer_id) {
            let message = format!(
                "region {} has peers {other} and {} on store {}",
                peer.region_id, peer.peer_id, store.id
            );
            return Err((Invariant::NoReturn, message));
        }
    }
    check_overlaps(store)
}

fn check_overlaps(store: &StorePicture) -> Result<(), Finding> {
    let with_range = store.peers.iter().filter(|peer| peer.has_range());
    let mut regions: Vec<_> = with_range.filter_map(|peer| peer.descriptor.as_ref()).collect();
    regions.retain(|region| !region.range.is_empty());
    regions.sort_by(|left, right| left.range.start_key.cmp(&right.range.start_key));
    // In order of their starts, the first two that overlap are neighbours.
    for pair in regions.windows(2) {
        ensure(!pair[0].range.overlaps(&pair[1].range), Invariant::Tiling, || {
            format!(
                "on store {}, region {} with {:?} overlaps region {} with {:?}",
                store.id, pair[0].id, pair[0].range, pair[1].id, pair[1].range
            )
        })?;
    }
    Ok(())
}

fn check_progress(old: &PeerGhost, new: &PeerGhost, peer: &PeerPicture) -> Result<(), Finding> {
    let id = new.peer_id;
    let not_below = |what: &str, before: u64, after: u64| {
        ensure(before <= after, Invariant::NoStepBack, || {
            format!("peer {id}: {what} went back from {before} to {after}")
        })
    };
    let keeps_vote = |before: (Term, Option<PeerId>), after: (Term, Option<PeerId>)| {
        let is_kept = before.0 != after.0 || before.1.is_none() || before.1 == after.1;
        ensure(is_kept, Invariant::NoStepBack, || {
            format!("peer {id}: in term {}, its vote for {:?} became {:?}", after.0, before.1, after.1)
        })
    };
    // What is durable survives everything.
    not_below("the term", old.durable.term.0, new.term.0)?;
    not_below("the commit index", old.durable.commit.0, new.commit_index.0)?;
    not_below("the applied index", old.flushed_index.0, new.applied_index.0)?;
    if let Some(LogPicture { vote, durable, flushed_index, .. }) = &peer.log {
        not_below("the durable term", old.durable.term.0, durable.term.0)?;
        not_below("the flushed index", old.flushed_index.0, flushed_index.unwrap_or(old.flushed_index).0)?;
        keeps_vote((old.durable.term, old.durable.vote), (durable.term, durable.vote))?;
        keeps_vote((old.durable.term, old.durable.vote), (new.term, *vote))?;
        if old.incarnation == new.incarnation {
            keeps_vote((old.term, old.vote), (new.term, *vote))?;
        }
    }
    // The rest may be learnt again after a restart (D5).
    if old.incarnation != new.incarnation {
        return ensure(old.incarnation < new.incarnation, Invariant::NoStepBack, || {
            format!(
                "peer {id}: its store's incarnation went back from {} to {}",
                old.incarnation, new.incarnation
            )
        });
    }
    not_below("the term", old.term.0, new.term.0)?;
    not_below("the commit index", old.commit_index.0, new.commit_index.0)?;
    not_below("the applied index", old.applied_index.0, new.applied_index.0)?;
    ensure(new.epoch.covers(old.epoch), Invariant::Epochs, || {
        format!("peer {id}: the epoch went back from {:?} to {:?}", old.epoch, new.epoch)
    })
}

/// Flushed up to applied up to committed up to the log's end; and what is not flushed can be applied again.
fn check_log_and_data(peer: &PeerPicture) -> Result<(), Finding> {
    let id = peer.peer_id;
    let in_order = |low: (&str, Index), high: (&str, Index)| {
        ensure(low.1 <= high.1, Invariant::LogAndData, || {
            format!("peer {id}: {} {} is above {} {}", low.0, low.1, high.0, high.1)
        })
    };
    let LogPosition { index: applied_index, .. } = peer.applied;
    in_order(("applied", applied_index), ("committed", peer.commit_index))?;
    let Some(log) = &peer.log else { return Ok(()) };
    in_order(("committed", peer.commit_index), ("the log's end", log.last.index))?;
    in_order(("persisted", log.persisted_index), ("the log's end", log.last.index))?;
    in_order(("truncated", log.truncated.index), ("the log's end", log.last.index))?;
    ensure(log.durable.term <= peer.term, Invariant::LogAndData, || {
        format!("peer {id}: the durable term {} is above the term {}", log.durable.term, peer.term)
    })?;
    let Some(flushed_index) = log.flushed_index else { return Ok(()) };
    in_order(("flushed", flushed_index), ("applied", applied_index))?;
    in_order(("truncated", log.truncated.index), ("flushed", flushed_index))
}
