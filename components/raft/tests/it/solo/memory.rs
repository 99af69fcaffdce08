//! Peers that have lost what they acknowledged (D15), and leading without a quorum.

use raft::{Error, MessageBody, Role, Stamp};
use types::{Index, PeerId, Term};

use super::{Solo, disk, entries, granted, heartbeat, vote_request};
use crate::cluster::first_position;

/// A leader of three at 100 ms past its election, all of it acknowledged by both.
fn leader() -> (Solo, Stamp) {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let before = solo.last_stamp();
    solo.wait(10);
    for peer in [2, 3] {
        solo.accept(peer, Index(3), before);
    }
    solo.wait(100);
    solo.tick();
    (solo, before)
}

fn lost(solo: &mut Solo) -> Vec<PeerId> {
    solo.readies.iter_mut().flat_map(|ready| std::mem::take(&mut ready.memory_lost)).collect()
}

#[test]
fn a_peer_that_lost_what_it_acknowledged_is_reported() {
    let (mut solo, _) = leader();
    let stamp = solo.last_stamp();
    solo.step(2, 2, MessageBody::HeartbeatResponse { stamp, last_index: Index(2) });
    assert_eq!(lost(&mut solo), [PeerId(2)]);
    assert_eq!(solo.group.status().peers[0].match_index, Index(0), "it counts for what it acknowledges anew");
    // A refusal shows it as well.
    let (mut solo, _) = leader();
    let index = solo.propose("x");
    solo.settle();
    let stamp = solo.last_stamp();
    let hint = first_position();
    let reject = MessageBody::AppendRejected { prev_index: index.prev(), last_index: Index(2), hint, stamp };
    solo.step(3, 2, reject);
    assert_eq!(lost(&mut solo), [PeerId(3)]);
}

#[test]
fn an_old_answer_proves_no_loss() {
    let (mut solo, before) = leader();
    solo.step(2, 2, MessageBody::HeartbeatResponse { stamp: before, last_index: Index(2) });
    let hint = first_position();
    let (prev_index, last_index, stamp) = (Index(3), Index(2), before);
    solo.step(2, 2, MessageBody::AppendRejected { prev_index, last_index, hint, stamp });
    assert_eq!(lost(&mut solo), []);
    // One made at the very moment when the acknowledgement arrived may have been answered before it.
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    solo.step(2, 2, MessageBody::HeartbeatResponse { stamp, last_index: Index(2) });
    assert_eq!(lost(&mut solo), []);
    assert_eq!(solo.group.status().peers[0].match_index, Index(3));
}

/// An acknowledgement from before the loss, delayed, does not undo it.
#[test]
fn what_was_acknowledged_before_the_loss_counts_no_more() {
    let (mut solo, before) = leader();
    let stamp = solo.last_stamp();
    solo.step(2, 2, MessageBody::HeartbeatResponse { stamp, last_index: Index(2) });
    solo.accept(2, Index(3), before);
    assert_eq!(solo.group.status().peers[0].match_index, Index(0));
    assert_eq!(solo.group.rejected_count(), 1);
    solo.wait(1);
    solo.tick();
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    assert_eq!(solo.group.status().peers[0].match_index, Index(3));
}

/// Five voters, three lost for good; peer 1 knows the most of those left.
fn survivor() -> Solo {
    Solo::new(1, disk(&[1, 2, 3, 4, 5], &[1, 1], 1))
}

const LOST: [PeerId; 3] = [PeerId(3), PeerId(4), PeerId(5)];

fn vote(is_granted: bool) -> MessageBody {
    MessageBody::VoteResponse { is_pre_vote: false, is_granted }
}

#[test]
fn leading_without_a_quorum_takes_every_survivor() {
    let mut solo = survivor();
    solo.group.force_leader(solo.now, &LOST, 77).expect("a quorum is lost");
    let asked: Vec<_> = solo.settle().iter().map(|message| message.to.0).collect();
    assert_eq!(asked, [2, 3, 4, 5], "the lost too: they may be alive");
    assert_eq!(solo.group.role(), Role::Candidate);
    solo.step(2, 2, vote(true));
    assert_eq!(solo.group.role(), Role::Leader);
    assert_eq!(solo.group.configuration().voters, [PeerId(1), PeerId(2)]);
    assert_eq!(solo.group.status().configuration.1.change_id, 77);
    let stamp = solo.last_stamp();
    assert!(!solo.group.has_committed_in_term());
    solo.accept(2, solo.group.last().index, stamp);
    assert!(solo.group.has_committed_in_term(), "by the survivors' majority");
    assert!(!solo.group.is_forcing());
}

#[test]
fn a_survivor_that_refuses_stops_it() {
    let mut solo = survivor();
    solo.group.force_leader(solo.now, &LOST[1..], 77).expect_err("three of five are a quorum");
    solo.group.force_leader(solo.now, &LOST, 77).expect("a quorum is lost");
    solo.settle();
    solo.step(2, 2, vote(false));
    assert_eq!(solo.group.role(), Role::Follower);
    // It tries again for a while, then no more.
    assert!(solo.group.is_forcing());
    for _ in 0..200 {
        solo.wait(100);
        solo.tick();
    }
    assert!(!solo.group.is_forcing());
    assert_ne!(solo.group.role(), Role::Leader);
}

#[test]
fn a_sign_of_life_of_the_lost_stops_it() {
    let mut solo = survivor();
    solo.group.force_leader(solo.now, &LOST, 77).expect("a quorum is lost");
    solo.settle();
    solo.step(4, 1, MessageBody::VoteResponse { is_pre_vote: true, is_granted: false });
    assert!(!solo.group.is_forcing());
    solo.step(2, 2, vote(true));
    assert_eq!(solo.group.role(), Role::Follower);
    // So does a leader.
    let mut solo = survivor();
    solo.group.force_leader(solo.now, &LOST, 77).expect("a quorum is lost");
    solo.settle();
    solo.step(2, 2, heartbeat());
    assert!(!solo.group.is_forcing());
}

#[test]
fn leading_without_a_quorum_is_refused_where_it_may_be_wrong() {
    let mut solo = survivor();
    let now = solo.now;
    assert_eq!(solo.group.force_leader(now, &[PeerId(9)], 1), Err(Error::UnknownPeer(PeerId(9))));
    assert_eq!(solo.group.force_leader(now, &[PeerId(1)], 1), Err(Error::UnknownPeer(PeerId(1))));
    assert!(matches!(solo.group.force_leader(now, &[], 1), Err(Error::ForceRefused(_))));
    solo.step(2, 1, heartbeat());
    assert!(matches!(solo.group.force_leader(now, &LOST, 1), Err(Error::ForceRefused(_))), "a leader lives");
    solo.group.quorum_lost(now);
    assert_eq!(solo.group.term(), Term(1));
    let mut learner = Solo::new(9, disk(&[1, 2, 3], &[1], 1));
    assert!(matches!(
        learner.group.force_leader(now, &[PeerId(2), PeerId(3)], 1),
        Err(Error::ForceRefused(_))
    ));
}

/// The other survivor votes only for a log at least as long as its own.
#[test]
fn the_longest_log_of_the_survivors_lives() {
    let mut other = Solo::new(2, disk(&[1, 2, 3, 4, 5], &[1, 1, 1], 1));
    let shorter = entries(&[1, 1])[1].position();
    assert_eq!(granted(&other.step(1, 2, vote_request(false, false, shorter))), Some(false));
    let equal = other.group.last();
    assert_eq!(granted(&other.step(1, 3, vote_request(false, false, equal))), Some(true));
}
