//! Splits: what a child is, who leads it first, what is refused, and what a crash leaves of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use raft::MessageBody;
use store::{AdminAction, Error, LastSplit, RaftEnvelope, SplitKeysWish, StoreMessage};
use types::{Outcome, PeerId, PeerRole, RegionId, Split, SplitChild, StoreId, Term};

use crate::{
    CHILD, FIRST,
    cluster::{Cluster, STORES},
};

fn of_child() -> store::RequestContext {
    store::RequestContext { region_id: CHILD, ..store::RequestContext::default() }
}

fn put_of(key: &'static str, value: &'static str) -> types::Command {
    types::Command::Put(types::Pair { key: key.into(), value: value.into(), ttl_seconds: 0 })
}

pub(crate) fn halves() -> Vec<(RegionId, types::KeyRange)> {
    vec![(RegionId::FIRST, types::KeyRange::new("", "m")), (CHILD, types::KeyRange::new("m", ""))]
}

/// What its row says of a region's last split is written anew with each change of peers.
#[test]
fn a_split_is_remembered_over_a_change_of_peers() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split.clone()), Ok(()));
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.pop();
    let action = AdminAction::SetPeers { peers: peers.clone(), change_id: 8 };
    assert_eq!(cluster.admin(FIRST, action), Ok(()));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.region(FIRST).peers, peers);
    let found = cluster.find_split_keys(FIRST, RegionId::FIRST, SplitKeysWish::Middle);
    let last_split = LastSplit { change_id: 7, keys: vec![Bytes::from("m")] };
    assert_eq!(found.map(|found| found.last_split), Ok(Some(last_split)));
    assert_eq!(cluster.admin(FIRST, split), Ok(()), "it has been carried out");
}

/// A region is remembered as it was before each of its last splits, on every store and over a restart.
#[test]
fn a_region_is_remembered_as_it_was() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    for at in (0..70).rev() {
        let region = cluster.region(FIRST);
        let child = SplitChild {
            start_key: Bytes::from(format!("k{at:02}")),
            region_id: RegionId(5_000 + at),
            peer_ids: region.peers.iter().map(|peer| PeerId(10 * (5_000 + at) + peer.store_id.0)).collect(),
        };
        let leader_stores = vec![FIRST];
        let split = Split { change_id: 100 + at, epoch: region.epoch, leader_stores, children: vec![child] };
        assert_eq!(cluster.admin(FIRST, AdminAction::Split(split)), Ok(()));
    }
    cluster.advance(Duration::from_secs(1));
    cluster.restart(FIRST);
    cluster.advance(Duration::from_secs(2));
    let last_version = cluster.region(FIRST).epoch.version;
    assert_eq!(last_version, 71);
    for store in STORES {
        let end_at = |version| cluster.range_at(store, version).map(|range| range.end_key);
        assert_eq!(end_at(last_version), Some("k00".into()));
        assert_eq!(end_at(last_version - 1), Some("k01".into()));
        assert_eq!(end_at(last_version - 64), Some("k64".into()));
        assert_eq!(end_at(last_version - 65), None, "not for ever");
        assert_eq!(end_at(last_version + 1), None);
    }
}

/// A leader whose store has just started knows it by the row of its region, before it has applied anything in this run.
#[test]
fn a_split_is_remembered_from_the_start_of_a_store_on() {
    let mut cluster = Cluster::with_stores(1);
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split.clone()), Ok(()));
    // The split's effect is flushed, and a new leader's first entry is not applied.
    cluster.advance(Duration::from_secs(1));
    cluster.restart(FIRST);
    cluster.hang(FIRST, "apply-0");
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.leader(RegionId::FIRST), Some(FIRST));
    assert_eq!(cluster.region(FIRST).range, halves()[0].1);
    assert_eq!(cluster.admin(FIRST, split), Ok(()), "it has been carried out");
}

#[test]
fn a_child_serves_at_once_and_everywhere() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
    let split = cluster.split_at(FIRST, "m", 7);
    let before = cluster.region(FIRST);
    assert_eq!(cluster.admin(FIRST, split.clone()), Ok(()));
    // The leader that the entry names leads the first term, without an election.
    assert_eq!(cluster.picture(FIRST, CHILD).map(|child| child.term), Some(types::Term(1)));
    assert_eq!(cluster.submit(FIRST, of_child(), put_of("y", "2")), Ok(Outcome::Done));
    assert_eq!(cluster.put(FIRST, "a", "2"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(200));
    for store in cluster.stores() {
        assert_eq!(cluster.ranges(store), halves(), "store {store}");
        assert_eq!(cluster.find_region(store, "m"), Some(CHILD));
        assert_eq!(cluster.find_region(store, "lz"), Some(RegionId::FIRST));
        assert_eq!(cluster.stored(store, "y").as_deref(), Some(b"2".as_slice()), "store {store}");
        assert_eq!(cluster.stored(store, "z").as_deref(), Some(b"1".as_slice()), "store {store}");
    }
    // The same change again is the same; another for the old epoch is refused with the new one.
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    let types::Epoch { conf_version, version } = cluster.region(FIRST).epoch;
    assert_eq!((conf_version, version), (before.epoch.conf_version, before.epoch.version + 1));
    let AdminAction::Split(mut stale) = cluster.split_at(FIRST, "c", 8) else { panic!("it is a split") };
    stale.epoch = before.epoch;
    let refused = cluster.try_admin(FIRST, AdminAction::Split(stale));
    assert_eq!(refused, Err(Error::EpochNotMatch { current: vec![(*cluster.region(FIRST)).clone()] }));
    // What is written to the parent's old keys is told where they are.
    let misplaced = cluster.put(FIRST, "z", "3");
    assert!(matches!(misplaced, Err(Error::KeyNotInRegion { .. })), "{misplaced:?}");
}

#[test]
fn named_stores_take_turns_to_lead_the_children_first() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let turns = vec![StoreId(1_001), StoreId(1_002), FIRST];
    let children = cluster.split_in_turns(FIRST, 7, turns.clone());
    for (child, store) in children.into_iter().zip(turns.into_iter().cycle()) {
        let picture = cluster.picture(store, child).expect("it is there");
        // In the first term: nobody was elected.
        assert_eq!((cluster.leader(child), picture.term), (Some(store), types::Term(1)), "region {child}");
    }
}

#[test]
fn splits_at_impossible_keys_are_refused() {
    let mut cluster = Cluster::with_stores(1);
    for key in ["m", "z"] {
        let split = cluster.split_at(FIRST, "m", 1);
        let AdminAction::Split(mut split) = split else { panic!("it is a split") };
        split.children[0].start_key = Bytes::from(key);
        if key == "m" {
            assert_eq!(cluster.try_admin(FIRST, AdminAction::Split(split)), Ok(()));
        } else {
            split.change_id = 2;
            let refused = cluster.try_admin(FIRST, AdminAction::Split(split));
            assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        }
    }
    let at_start = cluster.split_at(FIRST, "", 3);
    assert!(matches!(cluster.try_admin(FIRST, at_start), Err(Error::Invalid(_))));
}

#[test]
fn a_write_that_a_split_overtakes_is_not_applied_and_told_of_the_siblings() {
    let mut cluster = Cluster::with_stores(1);
    cluster.put(FIRST, "a", "1").expect("the store serves");
    let split = cluster.split_at(FIRST, "m", 1);
    // Both are in the log before either is applied.
    cluster.hang(FIRST, "apply-0");
    let split = cluster.start_admin(FIRST, split);
    let late = cluster.start_put(FIRST, "z", "late");
    cluster.resume(FIRST, "apply-0");
    assert_eq!(cluster.finish(split), Ok(()));
    match cluster.finish(late) {
        Err(Error::EpochNotMatch { current }) => {
            let ids: Vec<_> = current.iter().map(|region| region.id).collect();
            assert_eq!(ids, [RegionId::FIRST, CHILD]);
        }
        other => panic!("{other:?}"),
    }
    assert!(cluster.stored(FIRST, "z").is_none(), "it was not applied");
}

#[test]
fn a_split_goes_on_after_a_power_loss_at_any_step_on_one_store_or_on_all() {
    for is_everywhere in [false, true] {
        for hangs in ["raft-0", "log-writer", "apply-0", "upkeep", "none"] {
            let mut cluster = Cluster::with_stores(3);
            cluster.grow_to_three_voters();
            let third = StoreId(1_002);
            assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
            assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
            cluster.advance(Duration::from_millis(300));
            let stores = if is_everywhere { cluster.stores() } else { vec![third] };
            let split = cluster.split_at(FIRST, "m", 7);
            let pending = cluster.start_admin(FIRST, split);
            if is_everywhere && hangs == "raft-0" {
                cluster.hang(third, hangs);
            } else {
                stores.iter().for_each(|store| cluster.hang(*store, hangs));
            }
            cluster.advance(Duration::from_millis(100));
            stores.iter().for_each(|store| cluster.restart(*store));
            stores.iter().for_each(|store| cluster.resume(*store, hangs));
            cluster.resume(third, hangs);
            cluster.advance(Duration::from_secs(4));
            drop(pending);
            let all = cluster.ranges(FIRST);
            if !is_everywhere {
                assert_eq!(all, halves(), "the others had a quorum; {hangs} hung");
            }
            for store in cluster.stores() {
                assert_eq!(cluster.ranges(store), all, "store {store}, {hangs} hung, all: {is_everywhere}");
                assert_eq!(cluster.stored(store, "z").as_deref(), Some(b"1".as_slice()));
            }
            let key_holder = if all.len() == 2 { CHILD } else { RegionId::FIRST };
            let leader = cluster.stores().into_iter().find(|store| {
                let picture = cluster.picture(*store, key_holder);
                picture
                    .is_some_and(|picture| picture.leader.is_some_and(|leader| leader.id == picture.peer.id))
            });
            let leader = leader.expect("somebody leads");
            let context = store::RequestContext { region_id: key_holder, ..store::RequestContext::default() };
            assert_eq!(cluster.submit(leader, context, put_of("y", "2")), Ok(Outcome::Done), "{hangs}");
        }
    }
}

/// Who leads a child without an election has been named once: after a restart it might be anybody's term.
#[test]
fn the_named_leader_leads_the_first_term_only_in_the_run_that_applied_the_split() {
    // The effect of the split is not written; it is, and lost with the power; it is durable.
    for hangs in ["apply-0", "upkeep", "none"] {
        let mut cluster = Cluster::with_stores(3);
        cluster.grow_to_three_voters();
        assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
        cluster.advance(Duration::from_millis(300));
        let split = cluster.split_at(FIRST, "m", 7);
        cluster.hang(FIRST, "apply-0");
        drop(cluster.start_admin(FIRST, split));
        cluster.advance(Duration::from_millis(20));
        // The applier reaches the split, then its record becomes durable.
        cluster.hang(FIRST, "log-writer");
        cluster.resume(FIRST, "apply-0");
        cluster.advance(Duration::from_millis(5));
        cluster.hang(FIRST, hangs);
        cluster.resume(FIRST, "log-writer");
        cluster.advance(Duration::from_millis(20));
        assert_eq!(cluster.leader(CHILD) == Some(FIRST), hangs != "apply-0", "{hangs} hung");
        cluster.lose_power(&[FIRST], &[FIRST]);
        cluster.resume(FIRST, hangs);
        for _ in 0..3_000 {
            cluster.advance(Duration::from_millis(1));
            let picture = cluster.picture(FIRST, CHILD);
            let leads = |picture: &store::RegionPicture| {
                picture.leader.is_some_and(|leader| leader.id == picture.peer.id)
            };
            let is_first = picture.is_some_and(|picture| leads(&picture) && picture.term == types::Term(1));
            assert!(!is_first, "{hangs} hung");
        }
        assert_eq!(cluster.put_to(CHILD, "z", "2"), Ok(Outcome::Done), "{hangs} hung");
    }
}

/// A child's leader has had an answer of a peer that was there before the split was: its lease may rest on it (D10).
#[test]
fn a_peer_that_is_born_keeps_what_it_has_promised_before() {
    let mut cluster = Cluster::with_stores(4);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "z", "1"), Ok(Outcome::Done));
    let fourth = StoreId(1_003);
    // The parent's snapshot is made before the split and arrives behind it.
    cluster.hang(fourth, "snapshot");
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.push(types::Peer { id: PeerId(2_003), store_id: fourth, role: PeerRole::Learner });
    assert_eq!(cluster.admin(FIRST, AdminAction::SetPeers { peers, change_id: 2 }), Ok(()));
    cluster.advance(Duration::from_millis(300));
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.advance(Duration::from_millis(300));
    let early = cluster.picture(fourth, CHILD).expect("the child's leader has called for its peer");
    assert!(early.region.is_none());
    // From here on the child's leader says nothing more.
    let is_silent = Arc::new(AtomicBool::new(false));
    let silence = Arc::clone(&is_silent);
    cluster.lose(move |_, to, message| {
        let is_of_child = matches!(message, StoreMessage::Raft(envelope) if envelope.region_id == CHILD);
        is_of_child && to == fourth && silence.load(Ordering::Relaxed)
    });
    is_silent.store(true, Ordering::Relaxed);
    cluster.resume(fourth, "snapshot");
    cluster.settle();
    let born = cluster.picture(fourth, CHILD).expect("it is there");
    assert!(born.region.is_some(), "the split has brought it into being");
    // Another voter, which does not hear the leader, wants to lead; as if it had not promised anything itself.
    let child = cluster.picture(FIRST, CHILD).and_then(|picture| picture.region).expect("it leads");
    let find = |store| child.find_peer_on(store).expect("it has a peer");
    let (from, to) = (find(StoreId(1_001)), find(fourth));
    let ask = |is_pre_vote| {
        let last = child_last();
        let body = MessageBody::VoteRequest {
            is_pre_vote,
            is_forced: false,
            last_index: types::Index(last),
            last_term: Term(1),
        };
        let message = raft::Message { from: from.id, to: to.id, term: Term(2), body };
        StoreMessage::Raft(RaftEnvelope { region_id: CHILD, from, to, range: None, message })
    };
    cluster.sent.clear();
    for is_pre_vote in [true, false] {
        cluster.receive(fourth, StoreId(1_001), ask(is_pre_vote));
    }
    let granted = cluster.sent.iter().filter(|(_, message)| {
        let StoreMessage::Raft(envelope) = message else { return false };
        let is_granted = matches!(envelope.message.body, MessageBody::VoteResponse { is_granted: true, .. });
        is_granted && envelope.region_id == CHILD
    });
    assert_eq!(granted.count(), 0, "its promise has not ended");
    // When it has, the peer votes.
    cluster.advance(Duration::from_millis(500));
    cluster.sent.clear();
    cluster.receive(fourth, StoreId(1_001), ask(false));
    let granted = cluster.sent.iter().any(|(_, message)| {
        matches!(message, StoreMessage::Raft(envelope) if matches!(envelope.message.body, MessageBody::VoteResponse { is_granted: true, .. }))
    });
    assert!(granted);
}

/// Longer than any log of these tests.
fn child_last() -> u64 {
    1_000
}
