//! Stores side by side, with disks in memory, a network that loses nothing and a clock that is moved by hand: what a
//! store does where nothing goes wrong, and what exactly it costs. (What it does when things go wrong is the simulator's
//! subject.)

mod cluster;
mod crashes;
mod handovers;
mod leases;
mod ledger;
mod memory;
mod mortal;
mod reports;
mod sizes;
mod sleep;
mod slow_kv;
mod snapshots;
mod splits;
mod steps;

use std::time::Duration;

use bytes::Bytes;
use raft::MessageBody;
use store::{AdminAction, Error, Lane, StoreMessage};
use types::{Answer, Outcome, Peer, PeerId, PeerRole, Query, RegionId, StoreId};

use self::cluster::{CHILD, Cluster};

const FIRST: StoreId = StoreId(1_000);

fn get(key: &'static str) -> Query {
    Query::Get { key: Bytes::from_static(key.as_bytes()) }
}

fn value(text: &'static str) -> store::Result<Answer> {
    Ok(Answer::Value(Some(Bytes::from_static(text.as_bytes()))))
}

#[test]
fn one_store_serves_after_init() {
    let mut cluster = Cluster::with_stores(1);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    assert_eq!(cluster.read(FIRST, get("a")), value("1"));
    assert_eq!(cluster.read(FIRST, get("b")), Ok(Answer::Value(None)));
}

#[test]
fn new_peers_start_by_snapshot_and_then_vote() {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.grow_to_three_voters();
    let region = cluster.region(FIRST);
    assert_eq!(region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).count(), 3);
    // A write needs two of three from now on, and reaches everyone.
    assert_eq!(cluster.put(FIRST, "b", "2"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(200));
    for store in cluster.stores() {
        assert_eq!(cluster.stored(store, "a").as_deref(), Some(b"1".as_slice()), "store {store}");
        assert_eq!(cluster.stored(store, "b").as_deref(), Some(b"2".as_slice()), "store {store}");
    }
}

/// The log of a young region is short, and that says nothing about its data: whoever has none of it is not counted on.
#[test]
fn a_peer_that_has_no_data_yet_does_not_become_a_voter() {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    let third = StoreId(1_002);
    // It is heard, and gets no snapshot.
    cluster.lose(move |_, to, message| to == third && matches!(message, StoreMessage::Snapshot(_)));
    let peer = |id: u64, store: u64| Peer { id: PeerId(id), store_id: StoreId(store), role: PeerRole::Voter };
    let first = cluster.region(FIRST).peers[0];
    let peers = vec![first, peer(2_001, 1_001), peer(2_002, 1_002)];
    let action = AdminAction::SetPeers { peers: peers.clone(), change_id: 1 };
    assert_eq!(cluster.admin(FIRST, action), Ok(()));
    cluster.advance(Duration::from_secs(3));
    let role = |cluster: &Cluster| cluster.region(FIRST).find_peer_on(third).map(|peer| peer.role);
    assert_eq!(role(&cluster), Some(PeerRole::Learner));
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.region(FIRST).peers, peers);
    assert_eq!(cluster.stored(third, "a").as_deref(), Some(b"1".as_slice()));
}

/// Nor does one whose store was never heard: that it was added a moment ago says nothing about it. A joint entry could
/// not be committed without it.
#[test]
fn a_peer_that_was_never_heard_does_not_become_a_voter() {
    let mut cluster = Cluster::with_stores(3);
    cluster.cut(StoreId(1_002));
    let peers = [cluster.region(FIRST).peers.clone(), voters(&[2_002])].concat();
    let action = AdminAction::SetPeers { peers: peers.clone(), change_id: 1 };
    assert_eq!(cluster.admin(FIRST, action), Ok(()));
    for _ in 0..20 {
        let put = cluster.start_put(FIRST, "a", "1");
        cluster.advance(Duration::from_millis(50));
        let answer = put.lock().expect("no test panics here").take();
        assert_eq!(answer, Some(Ok(Outcome::Done)), "the region goes on meanwhile");
    }
    cluster.heal(StoreId(1_002));
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.region(FIRST).peers, peers);
}

fn voters(ids: &[u64]) -> Vec<Peer> {
    let peer = |id: &u64| Peer { id: PeerId(*id), store_id: StoreId(*id - 1_000), role: PeerRole::Voter };
    ids.iter().map(peer).collect()
}

/// Who gave a change up says so under its name: the region stays as it is, and may then be changed in another way.
#[test]
fn a_change_that_is_given_up_stops() {
    let mut cluster = Cluster::with_stores(3);
    let first = cluster.region(FIRST).peers.clone();
    let third = StoreId(1_002);
    cluster.cut(third);
    let peers = [first.clone(), voters(&[2_001, 2_002])].concat();
    let action = AdminAction::SetPeers { peers, change_id: 1 };
    assert_eq!(cluster.admin(FIRST, action.clone()), Ok(()));
    cluster.advance(Duration::from_secs(1));
    let is_learner = |cluster: &Cluster| {
        cluster.region(FIRST).find_peer_on(third).is_some_and(|peer| peer.role == PeerRole::Learner)
    };
    assert!(is_learner(&cluster), "it waits for the third store");
    let others = AdminAction::SetPeers { peers: first.clone(), change_id: 2 };
    let refused = cluster.try_admin(FIRST, others.clone());
    assert!(matches!(refused, Err(Error::Changing { change_id: 1, .. })), "{refused:?}");
    // The same once more changes nothing.
    assert_eq!(cluster.admin(FIRST, action), Ok(()));
    let as_it_is = AdminAction::SetPeers { peers: cluster.region(FIRST).peers.clone(), change_id: 1 };
    assert_eq!(cluster.admin(FIRST, as_it_is), Ok(()));
    cluster.heal(third);
    cluster.advance(Duration::from_secs(1));
    assert!(is_learner(&cluster), "nobody wants it to vote any more");
    assert_eq!(cluster.admin(FIRST, others), Ok(()));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.region(FIRST).peers, first);
}

/// A peer that the log lets go is not called back by somebody who has not heard of it: its id is dead.
#[test]
fn a_peer_whose_removal_is_under_way_is_not_added_again() {
    let mut cluster = Cluster::with_stores(3);
    let first = cluster.region(FIRST).peers.clone();
    let third = Peer { role: PeerRole::Learner, ..voters(&[2_002])[0] };
    let with_third = [first.clone(), voters(&[2_001]), vec![third]].concat();
    assert_eq!(
        cluster.admin(FIRST, AdminAction::SetPeers { peers: with_third.clone(), change_id: 1 }),
        Ok(())
    );
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.region(FIRST).peers, with_third);
    cluster.hang(FIRST, "apply-0");
    let without_third = [first, voters(&[2_001])].concat();
    let change = AdminAction::SetPeers { peers: without_third.clone(), change_id: 2 };
    assert_eq!(cluster.admin(FIRST, change), Ok(()));
    cluster.advance(Duration::from_millis(100));
    let as_it_was = AdminAction::SetPeers { peers: with_third, change_id: 2 };
    let refused = cluster.try_admin(FIRST, as_it_was);
    assert!(matches!(refused, Err(Error::EpochNotMatch { .. })), "{refused:?}");
    cluster.resume(FIRST, "apply-0");
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.region(FIRST).peers, without_third);
}

#[test]
fn gets_of_a_hot_key_append_nothing_and_send_nothing() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "hot", "1"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(200));
    let last = cluster.last_index(FIRST);
    cluster.sent.clear();
    for _ in 0..10_000 {
        assert_eq!(cluster.read(FIRST, get("hot")), value("1"));
    }
    assert_eq!(cluster.last_index(FIRST), last, "a read appends nothing");
    let raft = cluster.sent.iter().filter(|(_, message)| matches!(message, StoreMessage::Raft(_))).count();
    assert_eq!(raft, 0, "a read under a lease asks nobody");
}

#[test]
fn an_entry_commits_while_the_leaders_fsync_hangs() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    let before = cluster.commit_index(FIRST);
    cluster.hang(FIRST, "log-writer");
    let pending = cluster.start_put(FIRST, "a", "2");
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.commit_index(FIRST) > before, "two followers are a quorum");
    assert!(cluster.commit_index(StoreId(1_001)) > before, "and they learn of it");
    cluster.resume(FIRST, "log-writer");
    assert_eq!(cluster.finish(pending), Ok(Outcome::Done));
}

#[test]
fn leadership_moves_on_request_and_requests_are_sent_on() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let target = cluster.region(FIRST).find_peer_on(StoreId(1_001)).expect("a peer on the second store");
    assert_eq!(cluster.admin(FIRST, AdminAction::TransferLeader(target.id)), Ok(()));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(
        cluster.put(FIRST, "a", "1"),
        Err(Error::NotLeader { region_id: RegionId::FIRST, leader: Some(target) })
    );
    assert_eq!(cluster.put(StoreId(1_001), "a", "1"), Ok(Outcome::Done));
}

#[test]
fn a_write_waits_while_the_leadership_is_handed_over() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    // The successor hears nothing, so the transfer is given up after a while, and the write is done here after all.
    cluster.cut(StoreId(1_001));
    cluster.admin(FIRST, AdminAction::TransferLeader(PeerId(2_001))).expect("it is begun");
    let last = cluster.last_index(FIRST);
    let put = cluster.start_put(FIRST, "a", "1");
    assert_eq!(cluster.last_index(FIRST), last, "it waits");
    assert_eq!(cluster.finish(put), Ok(Outcome::Done));

    // A transfer that succeeds sends it on to the new leader.
    cluster.heal(StoreId(1_001));
    cluster.advance(Duration::from_secs(1));
    cluster.hang(StoreId(1_002), "raft");
    cluster.admin(FIRST, AdminAction::TransferLeader(PeerId(2_002))).expect("it is begun");
    let put = cluster.start_put(FIRST, "b", "2");
    cluster.resume(StoreId(1_002), "raft");
    let sent_on = cluster.finish(put);
    assert!(matches!(sent_on, Err(Error::NotLeader { .. })), "{sent_on:?}");
}

#[test]
fn a_restarted_store_has_what_it_acknowledged() {
    let mut cluster = Cluster::with_stores(1);
    for number in 0..100 {
        assert_eq!(cluster.put(FIRST, "a", ["x", "y", "z"][number % 3]), Ok(Outcome::Done));
    }
    cluster.restart(FIRST);
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.read(FIRST, get("a")), value("x"));
}

#[test]
fn a_store_that_was_away_catches_up_by_snapshot_once_the_log_is_gone() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.cut(StoreId(1_002));
    for number in 0..200 {
        assert_eq!(cluster.put(FIRST, ["a", "b", "c"][number % 3], "later"), Ok(Outcome::Done));
    }
    // Upkeep flushes, and the flush frees the log.
    cluster.advance(Duration::from_secs(1));
    cluster.sent.clear();
    cluster.heal(StoreId(1_002));
    cluster.advance(Duration::from_secs(3));
    assert!(cluster.sent.iter().any(|(lane, _)| *lane == Lane::Snapshot), "the log no longer reaches back");
    assert_eq!(cluster.stored(StoreId(1_002), "c").as_deref(), Some(b"later".as_slice()));
}

#[test]
fn a_follower_answers_when_asked_to_by_read_index() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    assert_eq!(cluster.read_replica(StoreId(1_001), get("a")), value("1"));
    assert!(matches!(cluster.read(StoreId(1_001), get("a")), Err(Error::NotLeader { .. })));
    let asked = |message: &StoreMessage| matches!(message, StoreMessage::Raft(envelope) if matches!(envelope.message.body, MessageBody::ReadIndexRequest { .. }));
    assert!(cluster.sent.iter().any(|(_, message)| asked(message)));
}

#[test]
fn malformed_and_misplaced_writes_are_refused_before_the_log() {
    let mut cluster = Cluster::with_stores(1);
    cluster.put(FIRST, "a", "1").expect("the store serves");
    let last = cluster.last_index(FIRST);
    assert!(matches!(cluster.put(FIRST, "", "1"), Err(Error::Invalid(_))));
    let wrong_peer = cluster.put_to_peer(FIRST, PeerId(7), FIRST);
    assert!(matches!(wrong_peer, Err(Error::PeerMismatch { .. })), "{wrong_peer:?}");
    let wrong_store = cluster.put_to_peer(FIRST, PeerId(1_002), StoreId(9));
    assert!(matches!(wrong_store, Err(Error::StoreNotMatch { .. })), "{wrong_store:?}");
    assert_eq!(cluster.last_index(FIRST), last);
}

#[test]
fn a_second_change_waits_for_the_first() {
    let mut cluster = Cluster::with_stores(3);
    cluster.put(FIRST, "a", "1").expect("the store serves");
    let mut goal = cluster.region(FIRST).peers.clone();
    goal.push(Peer { id: PeerId(2_001), store_id: StoreId(1_001), role: PeerRole::Voter });
    // The new peer never catches up, so the change stays under way.
    cluster.cut(StoreId(1_001));
    let first = AdminAction::SetPeers { peers: goal.clone(), change_id: 7 };
    assert_eq!(cluster.admin(FIRST, first.clone()), Ok(()));
    assert_eq!(cluster.admin(FIRST, first), Ok(()), "the same change again is the same");
    let other = AdminAction::SetPeers { peers: goal, change_id: 8 };
    let refused = cluster.try_admin(FIRST, other);
    assert!(matches!(refused, Err(Error::Changing { change_id: 7, .. })), "{refused:?}");
}

#[test]
fn placement_hears_of_its_leader_when_that_changes_and_not_with_every_write() {
    let mut cluster = Cluster::with_stores(1);
    let told = |cluster: &Cluster| cluster.placement.leaders.lock().expect("no test panics here").clone();
    assert_eq!(told(&cluster).last(), Some(&(Some(FIRST), Some(types::Term(2)))));
    let before = told(&cluster).len();
    assert!(before <= 4, "{before} times, for one election");
    let context =
        store::RequestContext { region_id: RegionId::PLACEMENT, ..store::RequestContext::default() };
    for number in 0..100 {
        let key = Bytes::from(format!("row-{number}"));
        let txn = types::PlacementTxn {
            term: types::Term(2),
            conditions: Vec::new(),
            writes: vec![(key, Some(Bytes::new()))],
        };
        let outcome = cluster.submit(FIRST, context, types::Command::Placement(txn));
        assert_eq!(outcome, Ok(Outcome::Placement { is_committed: true }));
    }
    cluster.advance(Duration::from_secs(10));
    assert_eq!(told(&cluster).len(), before, "the leader is the same");
}

#[test]
fn a_removed_peer_ends_and_the_region_can_come_back_under_another_id() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let (second, third) = (StoreId(1_001), StoreId(1_002));
    let first_peer = cluster.region(FIRST).find_peer_on(FIRST).expect("it has a peer there").id.0;
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.set_peers(FIRST, 2, &[(first_peer, FIRST), (2_001, second)]);
    assert!(!cluster.has_remains(third), "log, rows and data are gone");
    assert!(cluster.has_remains(second));
    // The peer does not come back, whoever asks for it ...
    let region = cluster.region(FIRST);
    let leader = region.find_peer_on(FIRST).expect("it has a peer there");
    let old = Peer { id: PeerId(2_002), store_id: third, role: PeerRole::Voter };
    let heartbeat = raft::Message {
        from: leader.id,
        to: old.id,
        term: types::Term(9),
        body: MessageBody::Heartbeat {
            commit: types::Index(0),
            stamp: raft::Stamp::default(),
            offers_sleep: false,
        },
    };
    let envelope = store::RaftEnvelope {
        region_id: RegionId::FIRST,
        from: leader,
        to: old,
        range: Some(region.range.clone()),
        message: heartbeat,
    };
    cluster.receive(third, FIRST, StoreMessage::Raft(envelope));
    assert!(!cluster.has_remains(third), "an old message brings nothing back");
    // ... but another one may live there, also after a restart of its store.
    cluster.set_peers(FIRST, 3, &[(first_peer, FIRST), (2_001, second), (3_002, third)]);
    assert_eq!(cluster.put(FIRST, "a", "2"), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(200));
    assert_eq!(cluster.stored(third, "a").as_deref(), Some(b"2".as_slice()));
    cluster.restart(third);
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.stored(third, "a").as_deref(), Some(b"2".as_slice()));
}

/// The leader loses the entry that adds a peer, after others have heard of it. The peer, which has nothing, asks, and is told
/// that the region has no such peer; placement's operation goes on and names it again.
#[test]
fn a_peer_whose_addition_was_lost_may_be_added_again() {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.hang(FIRST, "log-writer");
    cluster.lose(|_, _, message| matches!(message, StoreMessage::Snapshot(_)));
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.push(Peer { id: PeerId(2_001), store_id: StoreId(1_001), role: PeerRole::Voter });
    let addition = AdminAction::SetPeers { peers, change_id: 1 };
    drop(cluster.start_admin(FIRST, addition.clone()));
    cluster.advance(Duration::from_millis(5));
    cluster.lose_power(&[FIRST], &[FIRST]);
    cluster.resume(FIRST, "log-writer");
    assert!(cluster.picture(StoreId(1_001), RegionId::FIRST).is_some(), "it has begun, empty");
    // Long enough to ask.
    cluster.advance(Duration::from_secs(7));
    cluster.lose_nothing();
    assert!(cluster.picture(StoreId(1_001), RegionId::FIRST).is_none(), "nobody has added it");
    assert_eq!(cluster.admin(FIRST, addition), Ok(()));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.stored(StoreId(1_001), "a").as_deref(), Some(b"1".as_slice()));
    assert_eq!(cluster.region(FIRST).peers.len(), 2);
}

/// A region may be born with much data and has a short log then: that a new peer lacks few entries says nothing.
#[test]
fn a_peer_without_data_gets_no_vote_however_short_the_log_is() {
    let mut cluster = Cluster::with_stores(3);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    cluster.lose(|_, _, message| matches!(message, StoreMessage::Snapshot(_)));
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.push(Peer { id: PeerId(2_001), store_id: StoreId(1_001), role: PeerRole::Voter });
    assert_eq!(cluster.admin(FIRST, AdminAction::SetPeers { peers, change_id: 1 }), Ok(()));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.put(FIRST, "a", "2"), Ok(Outcome::Done), "the new peer is not needed for that");
    cluster.lose_nothing();
    cluster.advance(Duration::from_secs(15));
    assert_eq!(cluster.region(FIRST).configuration().voters.len(), 2);
}

/// A leader has heard of an empty peer, which has ended since: who has no log has to be told again how to come into being.
#[test]
fn an_empty_peer_that_has_ended_comes_into_being_again() {
    let mut cluster = Cluster::with_stores(4);
    cluster.grow_to_three_voters();
    let fourth = StoreId(1_003);
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    // The leader is cut off when it adds a peer, and so the others go on without either of them.
    for other in [StoreId(1_001), StoreId(1_002)] {
        cluster.cut_link(FIRST, other);
        cluster.cut_link(other, FIRST);
    }
    cluster.lose(|_, _, message| matches!(message, StoreMessage::Snapshot(_)));
    let own = cluster.region(FIRST).find_peer_on(FIRST).expect("it has a peer there").id;
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.push(Peer { id: PeerId(2_003), store_id: fourth, role: PeerRole::Voter });
    let addition = AdminAction::SetPeers { peers, change_id: 2 };
    drop(cluster.start_admin(FIRST, addition.clone()));
    cluster.advance(Duration::from_secs(3));
    assert!(cluster.picture(fourth, RegionId::FIRST).is_some(), "it has begun, empty");
    for other in [StoreId(1_001), StoreId(1_002)] {
        cluster.heal_link(FIRST, other);
        cluster.heal_link(other, FIRST);
    }
    cluster.advance(Duration::from_secs(1));
    let leader = cluster.leader(RegionId::FIRST).expect("somebody leads");
    assert_ne!(leader, FIRST);
    assert_eq!(cluster.admin(leader, AdminAction::TransferLeader(own)), Ok(()));
    // Long enough to ask.
    cluster.advance(Duration::from_secs(11));
    assert!(cluster.picture(fourth, RegionId::FIRST).is_none(), "nobody has added it");
    cluster.lose_nothing();
    assert_eq!(cluster.admin(FIRST, addition), Ok(()));
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.stored(fourth, "a").as_deref(), Some(b"1".as_slice()));
}

/// A transfer is asked for before a peer is removed, and read after that: all that the peer ever sees is a region without it.
#[test]
fn a_peer_that_gets_a_snapshot_of_its_region_without_it_ends() {
    let mut cluster = Cluster::with_stores(3);
    let (second, third) = (StoreId(1_001), StoreId(1_002));
    let first_peer = cluster.region(FIRST).find_peer_on(FIRST).expect("it has a peer there").id.0;
    assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
    let remaining = [(first_peer, FIRST), (2_001, second)];
    cluster.set_peers(FIRST, 1, &remaining);
    cluster.hang(FIRST, "snapshot");
    [FIRST, second].into_iter().for_each(|store| cluster.cut_link(third, store));
    let mut peers = cluster.region(FIRST).peers.clone();
    peers.push(Peer { id: PeerId(2_002), store_id: third, role: PeerRole::Voter });
    assert_eq!(cluster.admin(FIRST, AdminAction::SetPeers { peers, change_id: 2 }), Ok(()));
    cluster.advance(Duration::from_millis(300));
    // A new leader does not go on with that by itself. The peer never hears that it is removed.
    cluster.lose(|_, _, message| matches!(message, StoreMessage::Membership(_)));
    for (leader, next) in [(FIRST, 2_001), (second, first_peer)] {
        assert_eq!(cluster.admin(leader, AdminAction::TransferLeader(PeerId(next))), Ok(()));
        cluster.advance(Duration::from_secs(1));
    }
    // It asks for its data just before it is removed.
    [FIRST, second].into_iter().for_each(|store| cluster.heal_link(third, store));
    cluster.advance(Duration::from_millis(300));
    cluster.set_peers(FIRST, 3, &remaining);
    cluster.resume(FIRST, "snapshot");
    cluster.advance(Duration::from_millis(300));
    let region = cluster.picture(third, RegionId::FIRST).and_then(|picture| picture.region);
    assert_eq!(region.map(|region| region.peers.len()), Some(2), "it has seen the region without it");
    cluster.lose_nothing();
    // Long enough to ask.
    cluster.advance(Duration::from_secs(7));
    assert!(!cluster.has_remains(third));
}

#[test]
fn the_end_of_a_peer_goes_on_after_a_power_loss_at_any_step() {
    // Everything behind the actor that hangs is lost with the power; of the KV engine, all that was not flushed.
    for (hangs, follows) in [
        ("raft-0", "the removal was never heard of"),
        ("log-writer", "the record is lost"),
        ("apply-0", "the effect is lost"),
        ("upkeep", "nothing is flushed"),
        ("none", "all is done"),
    ] {
        let mut cluster = Cluster::with_stores(3);
        cluster.grow_to_three_voters();
        let (second, third) = (StoreId(1_001), StoreId(1_002));
        let first_peer = cluster.region(FIRST).find_peer_on(FIRST).expect("it has a peer there").id.0;
        assert_eq!(cluster.put(FIRST, "a", "1"), Ok(Outcome::Done));
        cluster.advance(Duration::from_secs(1));
        cluster.hang(third, hangs);
        cluster.set_peers(FIRST, 2, &[(first_peer, FIRST), (2_001, second)]);
        cluster.restart(third);
        cluster.resume(third, hangs);
        // Long enough to ask the others.
        cluster.advance(Duration::from_secs(7));
        assert!(!cluster.has_remains(third), "{follows}");
        cluster.set_peers(FIRST, 3, &[(first_peer, FIRST), (2_001, second), (3_002, third)]);
        cluster.advance(Duration::from_millis(200));
        assert_eq!(cluster.stored(third, "a").as_deref(), Some(b"1".as_slice()), "{follows}");
    }
}

#[test]
fn a_peer_is_destroyed_by_order_only_where_the_order_is_newer_and_lacks_it() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    let third = StoreId(1_002);
    let region = cluster.region(FIRST);
    let order = |change: &dyn Fn(&mut types::Region)| {
        let mut region = (*region).clone();
        change(&mut region);
        AdminAction::DestroyPeer(region)
    };
    let named = cluster.try_admin(third, order(&|region| region.epoch.conf_version += 1));
    assert!(matches!(named, Err(Error::Refused(_))), "{named:?}");
    let old = cluster.try_admin(third, order(&|region| region.peers.retain(|peer| peer.store_id != third)));
    assert!(matches!(old, Err(Error::EpochNotMatch { .. })), "{old:?}");
    assert!(cluster.has_remains(third));
    let newer = order(&|region| {
        region.epoch.conf_version += 1;
        region.peers.retain(|peer| peer.store_id != third);
    });
    assert_eq!(cluster.try_admin(third, newer), Ok(()));
    cluster.advance(Duration::from_secs(1));
    assert!(!cluster.has_remains(third));
}

/// What it waits for comes by mail: while it waits it wants no round.
#[test]
fn a_removed_peer_that_waits_for_its_last_split_or_snapshot_does_nothing_meanwhile() {
    for has_split in [true, false] {
        let mut cluster = Cluster::with_stores(3);
        cluster.grow_to_three_voters();
        let third = StoreId(1_002);
        if has_split {
            cluster.hang(third, "log-writer");
            let split = cluster.split_at(FIRST, "m", 7);
            assert_eq!(cluster.admin(FIRST, split), Ok(()));
        } else {
            cluster.cut(third);
            for _ in 0..200 {
                assert_eq!(cluster.put(FIRST, "a", "later"), Ok(Outcome::Done));
            }
            cluster.advance(Duration::from_secs(1));
            cluster.hang(third, "log-writer");
            cluster.heal(third);
        }
        cluster.advance(Duration::from_millis(500));
        cluster.cut(third);
        let mut region = (*cluster.region(FIRST)).clone();
        region.epoch.conf_version += 1;
        region.peers.retain(|peer| peer.store_id != third);
        assert_eq!(cluster.try_admin(third, AdminAction::DestroyPeer(region)), Ok(()));
        cluster.advance(Duration::from_secs(10));
        assert!(cluster.has_remains(third), "it waits; for a split: {has_split}");
        let wanted = cluster.deadline(third, "raft-0");
        assert!(wanted.is_none_or(|wanted| wanted > cluster.now()), "it works on; for a split: {has_split}");
        cluster.resume(third, "log-writer");
        cluster.advance(Duration::from_secs(1));
        assert!(!cluster.has_remains(third), "it has ended; after a split: {has_split}");
    }
}
