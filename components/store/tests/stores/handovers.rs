//! What becomes of writes that are under way when their leader loses the leadership: whoever sees their fate tells it.

use std::time::Duration;

use raft::MessageBody;
use store::{Error, StoreMessage};
use types::{Outcome, RegionId};

use crate::{
    FIRST,
    cluster::{Cluster, Pending},
};

/// A cluster of three voters, and a write of a leader that hears nobody and has seen that it leads no more; the others have
/// the entry, or do not.
fn deposed_leader(is_replicated: bool) -> (Cluster, Pending<Outcome>) {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    cluster.lose(move |from, to, _| to == FIRST || (from == FIRST && !is_replicated));
    let write = cluster.start_put(FIRST, "a", "1");
    cluster.advance(Duration::from_millis(50));
    cluster.lose_nothing();
    cluster.cut(FIRST);
    let leads = |cluster: &Cluster| {
        let picture = cluster.picture(FIRST, RegionId::FIRST).expect("it has a peer");
        picture.leader.is_some_and(|leader| leader.id == picture.peer.id)
    };
    for _ in 0..2_000 {
        assert!(!is_answered(&write), "nobody knows yet what becomes of it");
        if !leads(&cluster) {
            return (cluster, write);
        }
        cluster.advance(Duration::from_millis(1));
    }
    panic!("it leads for two seconds");
}

fn is_answered(write: &Pending<Outcome>) -> bool {
    write.lock().expect("no test panics here").is_some()
}

#[test]
fn a_write_that_the_next_leader_commits_is_acknowledged_by_the_one_before() {
    let (mut cluster, write) = deposed_leader(true);
    cluster.heal(FIRST);
    assert_eq!(cluster.finish(write), Ok(Outcome::Done));
    let leader = cluster.leader(RegionId::FIRST).expect("somebody leads");
    assert_eq!(cluster.stored(leader, "a").as_deref(), Some(b"1".as_slice()));
}

#[test]
fn a_write_that_the_next_leader_replaces_did_not_happen() {
    let (mut cluster, write) = deposed_leader(false);
    cluster.heal(FIRST);
    let answer = cluster.finish(write);
    assert!(matches!(answer, Err(Error::NotLeader { .. })), "{answer:?}");
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.stores().into_iter().all(|store| cluster.stored(store, "a").is_none()));
}

/// With five voters, a write may be gone from its old leader's log and happen all the same: whoever still has it is elected by
/// two that have neither it nor what has taken its place at the old leader.
#[test]
fn a_write_that_is_gone_from_the_old_leaders_log_may_still_happen() {
    let mut cluster = Cluster::with_stores(5);
    let peers: Vec<_> = cluster
        .stores()
        .into_iter()
        .map(|store| match cluster.region(FIRST).find_peer_on(FIRST) {
            Some(own) if store == FIRST => (own.id.0, store),
            _ => (store.0 + 1_000, store),
        })
        .collect();
    cluster.set_peers(FIRST, 1, &peers);
    let [_, second, third, ..] = cluster.stores()[..] else { panic!("there are five") };
    // 1. Only the third store gets the entry, and nobody says so to the first.
    cluster.lose(move |from, to, _| to == FIRST || (from == FIRST && to != third));
    let write = cluster.start_put(FIRST, "a", "1");
    cluster.advance(Duration::from_millis(50));
    let written = cluster.picture(FIRST, RegionId::FIRST).expect("it has a peer").last;
    assert_eq!(cluster.picture(third, RegionId::FIRST).expect("it has a peer").last, written);
    // 2. The second is elected by the fourth and the fifth, and only the first hears what it appends.
    cluster.cut(third);
    cluster.lose(move |from, to, message| {
        let StoreMessage::Raft(envelope) = message else { return false };
        let is_append = matches!(envelope.message.body, MessageBody::Append { .. });
        from == FIRST || (from == second && to != FIRST && is_append)
    });
    let now = cluster.message(FIRST, second, MessageBody::TimeoutNow);
    cluster.receive(second, FIRST, now);
    let replaced = cluster.picture(FIRST, RegionId::FIRST).expect("it has a peer").last;
    assert!(replaced.index == written.index && replaced.term > written.term, "{replaced:?}");
    assert!(!is_answered(&write), "nobody knows yet what becomes of it");
    // 3. The second is gone; the third, with the entry, is elected by the fourth and the fifth.
    cluster.kill(second);
    cluster.heal(third);
    cluster.lose(|from, _, _| from == FIRST);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.leader(RegionId::FIRST), Some(third));
    assert_eq!(cluster.stored(third, "a").as_deref(), Some(b"1".as_slice()));
    let answer = cluster.finish(write);
    assert!(matches!(answer, Ok(Outcome::Done) | Err(Error::Undetermined(_))), "{answer:?}");
}

#[test]
fn a_write_whose_fate_stays_unknown_is_given_up_soon() {
    let (mut cluster, write) = deposed_leader(false);
    let lost_at = cluster.now();
    assert!(matches!(cluster.finish(write), Err(Error::Undetermined(_))));
    assert!((950..=1_100).contains(&cluster.now().since(lost_at).as_millis()));
}

#[test]
fn writes_are_all_acknowledged_while_the_leadership_goes_round() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    for round in 0..30 {
        let leader = cluster.leader(RegionId::FIRST).expect("somebody leads");
        let stores = cluster.stores();
        let next = stores[(stores.iter().position(|id| *id == leader).expect("it runs") + 1) % 3];
        let write = cluster.start_put(leader, "a", &round.to_string());
        // TimeoutNow overtakes what has not been acknowledged.
        cluster.lose(move |_, to, message| {
            let StoreMessage::Raft(envelope) = message else { return false };
            to == leader && matches!(envelope.message.body, MessageBody::AppendAccepted { .. })
        });
        cluster.advance(Duration::from_millis(5));
        let now = cluster.message(leader, next, MessageBody::TimeoutNow);
        cluster.receive(next, leader, now);
        cluster.lose_nothing();
        assert_eq!(cluster.finish(write), Ok(Outcome::Done), "round {round}");
        cluster.advance(Duration::from_millis(300));
        assert_eq!(cluster.leader(RegionId::FIRST), Some(next));
    }
}
