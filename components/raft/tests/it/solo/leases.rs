//! Leases and read indexes.

use raft::{MessageBody, ReadState, Stamp};
use types::{Index, Instant, PeerId};

use super::{Solo, disk, heartbeat};
use crate::cluster::change_to;

fn reads(solo: &mut Solo) -> Vec<ReadState> {
    solo.readies.iter_mut().flat_map(|ready| std::mem::take(&mut ready.reads)).collect()
}

/// A leader of three with its first entry committed.
fn committed_leader() -> Solo {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, solo.group.last().index, stamp);
    solo
}

#[test]
fn a_lease_needs_an_own_entry_committed() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.answer_heartbeat(2, stamp);
    assert_eq!(solo.group.lease(solo.now), None);
    solo.accept(2, solo.group.last().index, stamp);
    assert!(solo.group.lease(solo.now).is_some());
}

#[test]
fn a_lease_counts_from_when_the_message_was_made() {
    let mut solo = committed_leader();
    solo.wait(100);
    solo.tick();
    let stamp = solo.last_stamp();
    assert_eq!(stamp.sent_at, solo.now);
    solo.wait(150);
    solo.answer_heartbeat(3, stamp);
    let lease = solo.group.lease(solo.now).expect("a quorum has answered");
    assert_eq!(lease.sent_at, stamp.sent_at);
    assert_eq!(lease.until, stamp.sent_at + std::time::Duration::from_millis(400));
    // Not `until`, and not later.
    assert!(solo.group.lease(Instant(lease.until.0 - 1)).is_some());
    assert_eq!(solo.group.lease(lease.until), None);
}

#[test]
fn a_refusal_upholds_the_lease_as_consent_does() {
    let mut solo = committed_leader();
    solo.wait(300);
    solo.tick();
    let stamp = solo.last_stamp();
    let (prev_index, last_index) = (Index(3), Index(2));
    let hint = solo.group.truncated();
    solo.step(3, 2, MessageBody::AppendRejected { prev_index, last_index, hint, stamp });
    assert_eq!(solo.group.lease(solo.now).map(|lease| lease.sent_at), Some(stamp.sent_at));
}

#[test]
fn no_lease_from_timeout_now_on_for_the_rest_of_the_term() {
    let mut solo = committed_leader();
    assert!(solo.group.lease(solo.now).is_some());
    let stamp = solo.last_stamp();
    solo.accept(3, solo.group.last().index, stamp);
    solo.group.transfer_leader(solo.now, PeerId(3)).expect("it may");
    // Before the message has even left.
    assert_eq!(solo.group.lease(solo.now), None);
    let sent = solo.settle();
    assert!(sent.iter().any(|message| message.body == MessageBody::TimeoutNow));
    assert!(solo.group.propose(solo.now, bytes::Bytes::new()).is_err());
    for _ in 0..7 {
        solo.wait(100);
        solo.tick();
        let stamp = solo.last_stamp();
        solo.answer_heartbeat(2, stamp);
    }
    assert!(!solo.group.is_transferring(), "given up");
    assert!(solo.group.propose(solo.now, bytes::Bytes::new()).is_ok());
    assert_eq!(solo.group.lease(solo.now), None);
}

#[test]
fn a_transfer_to_who_lags_keeps_the_lease_until_it_is_told() {
    let mut solo = committed_leader();
    solo.group.transfer_leader(solo.now, PeerId(3)).expect("it may");
    assert!(solo.settle().iter().all(|message| message.body != MessageBody::TimeoutNow));
    assert!(solo.group.lease(solo.now).is_some());
    let stamp = solo.last_stamp();
    solo.accept(3, solo.group.last().index, stamp);
    assert_eq!(solo.group.lease(solo.now), None);
}

/// In a joint configuration both halves uphold it, and who only leads upholds nothing.
#[test]
fn a_joint_lease_needs_both_halves() {
    let mut solo = committed_leader();
    let present = solo.group.status().configuration.1;
    let change = change_to(&present, &[4, 5, 6], &[]);
    solo.group.propose_conf_change(solo.now, change).expect("it may");
    solo.settle();
    assert_eq!(solo.group.lease(solo.now), None);
    let stamp = solo.last_stamp();
    for peer in [2, 3, 4] {
        solo.answer_heartbeat(peer, stamp);
        assert_eq!(solo.group.lease(solo.now), None, "{peer}");
    }
    solo.answer_heartbeat(5, stamp);
    assert!(solo.group.lease(solo.now).is_some());
}

#[test]
fn a_stamp_from_the_future_is_refused() {
    let mut solo = committed_leader();
    solo.wait(390);
    let before = solo.group.lease(solo.now);
    let stamp = Stamp { nonce: 0, sent_at: Instant(solo.now.0 + 1) };
    solo.answer_heartbeat(3, stamp);
    let stamp = Stamp { nonce: 1, sent_at: solo.now };
    solo.answer_heartbeat(3, stamp);
    assert_eq!(solo.group.lease(solo.now), before);
    assert_eq!(solo.group.rejected_count(), 2);
}

#[test]
fn a_read_waits_for_an_own_entry_and_for_an_answer_made_after_it() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1, 1]);
    solo.group.read_index(solo.now, 7);
    solo.group.read_index(solo.now, 8);
    assert!(solo.settle().is_empty(), "nothing to ask before an own entry is committed");
    let before = solo.last_stamp();
    solo.accept(2, solo.group.last().index, before);
    assert!(reads(&mut solo).is_empty());
    let attempt = solo.last_stamp();
    assert_eq!(attempt.nonce, 1, "both share an attempt");
    solo.answer_heartbeat(3, before);
    assert!(reads(&mut solo).is_empty(), "made before the attempt");
    solo.answer_heartbeat(3, attempt);
    let index = Some(solo.group.last().index);
    assert_eq!(reads(&mut solo), [ReadState { id: 7, index }, ReadState { id: 8, index }]);
}

#[test]
fn a_read_of_the_only_voter_needs_nobody() {
    let mut solo = Solo::leader(&[1], &[]);
    solo.group.read_index(solo.now, 7);
    solo.settle();
    assert_eq!(reads(&mut solo), [ReadState { id: 7, index: Some(Index(2)) }]);
}

#[test]
fn reads_of_a_leader_that_steps_down_are_answered() {
    let mut solo = committed_leader();
    solo.group.read_index(solo.now, 7);
    solo.settle();
    solo.group.read_index(solo.now, 8);
    solo.group.quorum_lost(solo.now);
    solo.settle();
    assert_eq!(reads(&mut solo), [ReadState { id: 7, index: None }, ReadState { id: 8, index: None }]);
}

#[test]
fn a_follower_forwards_and_believes_only_the_answer_to_its_own_question() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.group.read_index(solo.now, 6);
    solo.settle();
    assert_eq!(reads(&mut solo), [ReadState { id: 6, index: None }], "no leader known");
    solo.step(2, 1, heartbeat());
    solo.group.read_index(solo.now, 7);
    let sent = solo.settle();
    let MessageBody::ReadIndexRequest { id } = sent[0].body else { panic!("{sent:?}") };
    assert_ne!(id, 7, "the caller's names may repeat after a restart");
    solo.step(2, 1, MessageBody::ReadIndexResponse { id: 7, index: Some(Index(5)) });
    assert!(reads(&mut solo).is_empty());
    solo.step(2, 1, MessageBody::ReadIndexResponse { id, index: Some(Index(9)) });
    assert_eq!(reads(&mut solo), [ReadState { id: 7, index: Some(Index(9)) }]);
    solo.group.read_index(solo.now, 8);
    solo.settle();
    while reads(&mut solo).is_empty() {
        solo.now = solo.group.deadline();
        solo.tick();
        assert!(solo.now <= Instant::from_millis(601));
    }
}

#[test]
fn a_leader_answers_a_followers_read() {
    let mut solo = committed_leader();
    solo.step(3, 2, MessageBody::ReadIndexRequest { id: 99 });
    let stamp = solo.last_stamp();
    let sent = solo.answer_heartbeat(2, stamp);
    let index = Some(solo.group.commit_index());
    assert!(sent.iter().any(|message| {
        message.to == PeerId(3) && message.body == MessageBody::ReadIndexResponse { id: 99, index }
    }));
}
