//! What holds within one region, over all of its peers.

use std::collections::BTreeMap;

use types::{Chain, Configuration, Epoch, Index, Instant, PeerId, Region, Term};

use super::{
    committed::{CommittedLog, show},
    invariant::{Finding, Invariant, ensure},
    picture::{LogPicture, PeerPicture},
    trim,
};

/// What earlier pictures showed of a region.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionGhost {
    leaders: BTreeMap<Term, PeerId>,
    chains: BTreeMap<(Index, Term), Chain>,
    committed: CommittedLog,
    digests: BTreeMap<Index, (PeerId, u128)>,
    descriptors: BTreeMap<Epoch, Region>,
}

impl RegionGhost {
    /// Checks all peers of one region.
    pub(super) fn observe(&mut self, now: Instant, peers: &[&PeerPicture]) -> Result<(), Finding> {
        for peer in peers {
            check_quarantine(peer)?;
        }
        let sound: Vec<_> = peers.iter().copied().filter(|peer| !peer.is_quarantined).collect();
        for peer in &sound {
            self.check_leader(peer)?;
            self.check_positions(peer)?;
            self.check_digest(peer)?;
            self.check_descriptor(peer)?;
        }
        for peer in sound.iter().filter(|peer| peer.is_leader) {
            self.check_leaders_log(peer)?;
            check_quorum(peer, &sound)?;
        }
        check_leases(now, &sound)
    }

    fn check_leader(&mut self, peer: &PeerPicture) -> Result<(), Finding> {
        if !peer.is_leader {
            return Ok(());
        }
        let known = *self.leaders.entry(peer.term).or_insert(peer.peer_id);
        trim(&mut self.leaders);
        ensure(known == peer.peer_id, Invariant::OneLeader, || {
            format!("peers {known} and {} both lead term {}", peer.peer_id, peer.term)
        })
    }

    fn check_positions(&mut self, peer: &PeerPicture) -> Result<(), Finding> {
        for position in peer.positions() {
            let chain = *self.chains.entry((position.index, position.term)).or_insert(position.chain);
            ensure(chain == position.chain, Invariant::LogMatching, || {
                format!("peer {} has {}, another had chain {chain} there", peer.peer_id, show(position))
            })?;
            if position.index <= peer.commit_index {
                let recorded = self.committed.record(position, peer.term);
                recorded.map_err(|(invariant, message)| {
                    (invariant, format!("peer {}: {message}", peer.peer_id))
                })?;
            }
        }
        trim(&mut self.chains);
        Ok(())
    }

    fn check_digest(&mut self, peer: &PeerPicture) -> Result<(), Finding> {
        let Some(digest) = peer.digest else { return Ok(()) };
        let index = peer.applied.index;
        let (known_peer, known) = *self.digests.entry(index).or_insert((peer.peer_id, digest));
        trim(&mut self.digests);
        ensure(known == digest, Invariant::SameData, || {
            format!(
                "at {index}, peer {} has data with digest {digest:032x}, and peer {known_peer} had {known:032x}",
                peer.peer_id
            )
        })
    }

    fn check_descriptor(&mut self, peer: &PeerPicture) -> Result<(), Finding> {
        let Some(descriptor) = &peer.descriptor else { return Ok(()) };
        let known = self.descriptors.entry(descriptor.epoch).or_insert_with(|| descriptor.clone());
        ensure(known == descriptor, Invariant::Epochs, || {
            format!("peer {} has {descriptor:?}, another had {known:?} with the same epoch", peer.peer_id)
        })?;
        trim(&mut self.descriptors);
        Ok(())
    }

    /// A leader has everything that was committed in its term or before.
    fn check_leaders_log(&self, peer: &PeerPicture) -> Result<(), Finding> {
        let Some(log) = &peer.log else { return Ok(()) };
        let must_reach = self.committed.must_reach(peer.term);
        ensure(log.last.index >= must_reach, Invariant::CommittedStays, || {
            format!(
                "peer {} leads term {}, and its log ends at {} before {must_reach}, which is committed",
                peer.peer_id, peer.term, log.last.index
            )
        })?;
        peer.positions().try_for_each(|position| {
            let must_have = self.committed.must_have(position.index, peer.term).unwrap_or(position);
            ensure(must_have == position, Invariant::CommittedStays, || {
                format!(
                    "peer {} leads term {} and has {}, where {} is committed",
                    peer.peer_id,
                    peer.term,
                    show(position),
                    show(must_have)
                )
            })
        })
    }
}

fn check_quarantine(peer: &PeerPicture) -> Result<(), Finding> {
    let acts = peer.is_leader || peer.lease_until.is_some();
    ensure(!(peer.is_quarantined && acts), Invariant::Quarantine, || {
        format!("peer {} is in quarantine and leads", peer.peer_id)
    })
}

/// What the leader knows committed is durable on a quorum of each half of the configuration in force, if that is
/// committed itself: until then an earlier one may have decided.
fn check_quorum(leader: &PeerPicture, peers: &[&PeerPicture]) -> Result<(), Finding> {
    let Some(log) = &leader.log else { return Ok(()) };
    let (since, configuration) = &log.configuration;
    if *since > leader.commit_index {
        return Ok(());
    }
    let Configuration { voters, outgoing, learners: _ } = configuration;
    for half in [voters, outgoing] {
        let lacks = |voter: &&PeerId| {
            find_log(peers, **voter).is_some_and(|log| log.persisted_index < leader.commit_index)
        };
        // Of a voter that is not shown nothing is known: it may have everything.
        let lacking: Vec<_> = half.iter().filter(lacks).collect();
        ensure(lacking.len() * 2 < half.len() || half.is_empty(), Invariant::DurableQuorum, || {
            format!(
                "peer {} leads term {} and has committed {}, which is not durable on {lacking:?} of {half:?}",
                leader.peer_id, leader.term, leader.commit_index
            )
        })?;
    }
    Ok(())
}

fn find_log<'a>(peers: &[&'a PeerPicture], id: PeerId) -> Option<&'a LogPicture> {
    peers.iter().find(|peer| peer.peer_id == id).and_then(|peer| peer.log.as_ref())
}

/// Who holds a lease answers alone: its voters have promised not to elect anybody else meanwhile (D10).
fn check_leases(now: Instant, peers: &[&PeerPicture]) -> Result<(), Finding> {
    let is_held = |peer: &&PeerPicture| peer.lease_until.is_some_and(|until| now < until);
    for holder in peers.iter().copied().filter(is_held) {
        let others = peers.iter().copied().filter(|other| other.peer_id != holder.peer_id);
        for other in others {
            ensure(!is_held(&other), Invariant::OneLease, || {
                format!("peers {} and {} both hold a lease", holder.peer_id, other.peer_id)
            })?;
            ensure(!(other.is_leader && other.term > holder.term), Invariant::OneLease, || {
                format!(
                    "peer {} holds a lease of term {}, and peer {} leads term {}",
                    holder.peer_id, holder.term, other.peer_id, other.term
                )
            })?;
        }
    }
    Ok(())
}
