//! A split on one store: the applier that reaches the entry stops and asks; the record is made durable; the applier
//! writes the effect and goes on; and the children begin.
//!
//! ```text
//! applier of P        worker of P            worker of each child     log writer
//!   reached ───────────▶ claim ───────────────▶ gives up what an early message made
//!                        ◀───────────── hard state ──┘
//!                        record, and the children's first Raft states ───▶ one fsync
//!   ◀───── effect ─────── recorded ◀─────────────────────────────────────────┘
//!   one KV batch, with the mark
//!   └──────────────────────────── born ────────▶ peer begins
//! ```

use std::{collections::BTreeMap, sync::Arc};

use actor::Now;
use engine::{BornRegion, LifecycleChange, LifecycleRecord, LogWrite, RaftState};
use raft::{InitialState, RaftGroup};
use types::{
    ConfigurationChange, HardState, Index, Instant, LogPosition, Peer as PeerIdentity, PeerId, Region,
    RegionId, StoreId, Term, WallTime,
};

use super::effect::first_position_of_child;
use crate::{
    lifecycle::Claim,
    message::{ApplyMail, RaftMail},
    peer::{Peer, PeerStart},
    round::{RaftWorker, options},
};

/// A split that an applier has reached and accepted.
#[derive(Clone, Debug)]
pub(crate) struct SplitDraft {
    /// The parent's descriptor afterwards.
    pub(crate) region: Region,
    /// The entry.
    pub(crate) position: LogPosition,
    pub(crate) region_clock: WallTime,
    pub(crate) change_id: u64,
    pub(crate) children: Vec<Region>,
    /// Of each child the store whose peer leads its first term.
    pub(crate) leader_stores: Vec<StoreId>,
}

/// A split under way, as the parent's peer knows it.
#[derive(Debug)]
pub(crate) struct PendingSplit {
    draft: SplitDraft,
    claims: BTreeMap<RegionId, Claim>,
    record: Option<Box<LifecycleRecord>>,
}

/// A peer that a split brings into being.
#[derive(Debug)]
pub(crate) struct Birth {
    region: Arc<Region>,
    me: PeerIdentity,
    hard_state: HardState,
    /// What an early message has made of the peer may have promised not to vote before this (D10).
    vote_not_before: Instant,
    first: LogPosition,
    /// Whether it leads its first term, in the run that first applied the split.
    leads: bool,
}

impl RaftWorker {
    /// An applier has reached a split.
    pub(crate) fn on_split_reached(&mut self, draft: SplitDraft) {
        let parent = draft.region.id;
        let Some(peer) = self.peers.get_mut(&parent) else { return };
        if peer.has_undecided_snapshot() {
            return self.shared.router.send_raft(parent, RaftMail::SplitReached(Box::new(draft)));
        }
        // Behind a snapshot that was accepted meanwhile the applier begins anew.
        if peer.is_installing() || peer.group.truncated().index >= draft.position.index {
            return;
        }
        for child in &draft.children {
            let Some(me) = child.find_peer_on(self.shared.ident.store_id) else { continue };
            let mail = RaftMail::Claim { parent, child: child.id, peer_id: me.id };
            self.shared.router.send_raft(child.id, mail);
        }
        peer.splitting = Some(Box::new(PendingSplit { draft, claims: BTreeMap::new(), record: None }));
    }

    /// A split wants to bring a peer into being here.
    pub(crate) fn on_claim(&mut self, parent: RegionId, child: RegionId, peer_id: PeerId) {
        if self.endings.contains_key(&child) {
            // Another peer of the region is still going.
            self.claims_waiting.push((parent, child, peer_id));
            return;
        }
        let claim = self.claim(child, peer_id);
        self.shared.router.send_raft(parent, RaftMail::Claimed { parent, child, claim });
    }

    /// Gives up what an early message has made of the peer; from now on it is only born.
    fn claim(&mut self, child: RegionId, peer_id: PeerId) -> Claim {
        if self.is_barred(child, peer_id) {
            return Claim::Dropped;
        }
        let (mut hard_state, mut promised_until) = (HardState::default(), Instant::ZERO);
        if let Some(peer) = self.peers.get(&child) {
            assert!(peer.region().is_none(), "the parent holds region {child}'s keys here");
            if peer.me.id != peer_id {
                return Claim::Dropped;
            }
            (hard_state, promised_until) = (peer.group.hard_state(), peer.group.promised_until());
            self.peers.remove(&child);
            self.shared.views.remove(child);
        }
        self.expected.insert(child);
        Claim::Free(hard_state, promised_until)
    }

    /// A child's worker has answered; when all have, the record is written.
    pub(crate) fn on_claimed(&mut self, parent: RegionId, child: RegionId, claim: Claim) {
        let store_id = self.shared.ident.store_id;
        let Some(peer) = self.peers.get_mut(&parent) else { return };
        let Some(pending) = &mut peer.splitting else { return };
        pending.claims.insert(child, claim);
        if pending.record.is_some() || pending.claims.len() < pending.draft.children.len() {
            return;
        }
        let draft = &pending.draft;
        let mut children = Vec::new();
        for (region, leader_store) in draft.children.iter().zip(&draft.leader_stores) {
            let Some(me) = region.find_peer_on(store_id) else { continue };
            let Some(claim) = pending.claims.get(&region.id) else { continue };
            let is_dropped = matches!(claim, Claim::Dropped);
            children.push(BornRegion { region: region.clone(), peer_id: me.id, is_dropped });
            if let Claim::Free(known, _) = claim {
                let first = first_position_of_child(&draft.position, region.id);
                let raft_state = first_state(region, me.id, *leader_store, first, *known);
                self.out.batch.writes.push(LogWrite {
                    region_id: region.id,
                    raft_state: Some(raft_state),
                    ..LogWrite::default()
                });
            }
        }
        let record = LifecycleRecord {
            sequence: self.shared.next_record(),
            cause: Some((parent, draft.position.index)),
            change: LifecycleChange::Split {
                region: draft.region.clone(),
                position: draft.position,
                region_clock: draft.region_clock,
                change_id: draft.change_id,
                children,
            },
        };
        pending.record = Some(Box::new(record.clone()));
        self.out.recorded.push((parent, record.sequence));
        self.out.batch.records.push(record);
        self.out.is_synced = true;
        // The commit index that the replay needs without a quorum.
        let raft_state = Some(peer.raft_state());
        self.out.batch.writes.push(LogWrite { region_id: parent, raft_state, ..LogWrite::default() });
    }

    /// The record of a split is durable.
    pub(crate) fn on_split_recorded(&mut self, parent: RegionId, sequence: u64) {
        let Some(pending) = self.peers.get(&parent).and_then(|peer| peer.splitting.as_ref()) else { return };
        if let Some(record) = pending.record.as_ref().filter(|record| record.sequence == sequence) {
            let store_id = self.shared.ident.store_id;
            let births = pending.births(store_id);
            self.out.applies.push((parent, ApplyMail::Split { record: record.clone(), births }));
        }
    }

    /// A peer begins that a split has brought into being; its rows and its view are there.
    pub(crate) fn on_born(&mut self, now: Now, birth: Birth) {
        let Birth { region, me, hard_state, vote_not_before, first, leads } = birth;
        let region_id = region.id;
        self.expected.remove(&region_id);
        let Some(view) = self.shared.views.find(region_id) else { return };
        let configuration = ConfigurationChange { peers: region.peers.clone(), change_id: 0 };
        let initial = InitialState {
            hard_state,
            truncated: first,
            last: first,
            configurations: vec![(first.index, configuration)],
            applied: first.index,
            vote_not_before: vote_not_before.max(now.monotonic),
        };
        let mut group = RaftGroup::new(options(&self.shared, me, region_id), initial, now.monotonic);
        if leads && hard_state.term == Term::FIRST && hard_state.vote == Some(me.id) {
            group.lead_at_birth(now.monotonic);
        } else {
            group.greet_at_birth();
        }
        tracing::info!(region = region_id.0, peer = me.id.0, leads, "peer is born");
        let start = PeerStart {
            region_id,
            me,
            group,
            view,
            announced_range: None,
            region: Some(region),
            applied_term: first.term,
            last_split: None,
        };
        self.peers.insert(region_id, Box::new(Peer::new(now.monotonic, start)));
        self.touch(region_id);
    }

    /// Claims that waited for the end of another peer of their region.
    pub(crate) fn retry_claims(&mut self) {
        for (parent, child, peer_id) in std::mem::take(&mut self.claims_waiting) {
            self.on_claim(parent, child, peer_id);
        }
    }
}

impl PendingSplit {
    fn births(&self, store_id: StoreId) -> Vec<Birth> {
        let draft = &self.draft;
        let children = draft.children.iter().zip(&draft.leader_stores);
        let born = children.filter_map(|(region, leader_store)| {
            let me = region.find_peer_on(store_id)?;
            let Claim::Free(known, vote_not_before) = *self.claims.get(&region.id)? else { return None };
            let first = first_position_of_child(&draft.position, region.id);
            let state = first_state(region, me.id, *leader_store, first, known);
            let (region, hard_state) = (Arc::new(region.clone()), state.hard_state);
            let leads = *leader_store == store_id;
            Some(Birth { region, me, hard_state, vote_not_before, first, leads })
        });
        born.collect()
    }
}

impl Birth {
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn me(&self) -> PeerIdentity {
        self.me
    }

    pub(crate) fn first(&self) -> LogPosition {
        self.first
    }
}

/// The Raft state that a child's peer begins with: a follower of the first leader, which has its vote; never below what
/// the peer has promised already (D5).
fn first_state(
    region: &Region,
    peer_id: PeerId,
    leader_store: StoreId,
    first: LogPosition,
    known: HardState,
) -> RaftState {
    let vote = region.find_peer_on(leader_store).map(|leader| leader.id);
    let born = HardState { term: Term::FIRST, vote, commit: first.index };
    let hard_state =
        if known.term > Term::FIRST { HardState { commit: Index::FIRST, ..known } } else { born };
    RaftState {
        peer_id,
        hard_state,
        truncated: first,
        last: first,
        configurations: vec![(
            first.index,
            ConfigurationChange { peers: region.peers.clone(), change_id: 0 },
        )],
    }
}
