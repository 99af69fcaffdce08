//! Votes, pre-votes and the promises that forbid them.

use raft::{Message, MessageBody, Role};
use types::{Index, Instant, LogPosition, PeerId, Term};

use super::{ELECTION, Solo, append, disk, entries, granted, heartbeat, options, vote_request};
use crate::{cluster::first_position, disk::Disk};

/// jI#882, checklist row 33: a leader commits an entry in the very term in which a vote request with the log as it was
/// before is on its way. It must compare with the log as it is, and step down before it votes.
#[test]
fn a_vote_is_compared_with_the_log_of_this_moment() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1, 1]);
    let before = solo.group.last();
    solo.propose("late");
    solo.settle();
    let stamp = solo.last_stamp();
    solo.accept(3, solo.group.last().index, stamp);
    assert_eq!(solo.group.commit_index(), solo.group.last().index);
    // A leader is bound by its own promise.
    assert_eq!(granted(&solo.step(2, 3, vote_request(false, false, before))), None);
    assert_eq!(solo.group.role(), Role::Leader);
    assert_eq!(solo.group.term(), Term(2));
    // A transfer's vote is exempt from that, never from the comparison.
    assert_eq!(granted(&solo.step(2, 3, vote_request(false, true, before))), Some(false));
    assert_eq!(solo.group.role(), Role::Follower);
    assert_eq!(solo.group.hard_state().vote, None);
}

#[test]
fn a_repeated_request_is_compared_again() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1], 1));
    let last = solo.group.last();
    assert_eq!(granted(&solo.step(2, 2, vote_request(false, false, last))), Some(true));
    assert_eq!(granted(&solo.step(2, 2, vote_request(false, false, last))), Some(true));
    let shorter = entries(&[1])[0].position();
    assert_eq!(granted(&solo.step(2, 2, vote_request(false, false, shorter))), Some(false));
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, last))), Some(false));
}

/// D10: whoever acknowledges votes for nobody else for the promise, whatever it believes of the leader.
#[test]
fn a_promise_binds_until_it_ends() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let last = solo.group.last();
    solo.step(2, 1, heartbeat());
    solo.group.suspect_leader(solo.now);
    solo.wait(499);
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, last))), None, "not even an answer");
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(false));
    assert_eq!(solo.group.term(), Term(1), "a vote that is refused for a promise raises no term");
    solo.wait(1);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(true));
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, last))), Some(true));
}

#[test]
fn an_append_binds_as_a_heartbeat_does_even_if_it_is_refused() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let unknown = LogPosition { index: Index(9), ..first_position() };
    let answers = solo.step(2, 1, append(unknown, &[], 0));
    assert!(matches!(answers[0].body, MessageBody::AppendRejected { .. }));
    solo.wait(499);
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, solo.group.last()))), None);
}

#[test]
fn a_promise_binds_this_peers_own_campaign() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.step(2, 1, heartbeat());
    solo.group.suspect_leader(solo.now);
    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
    solo.wait(499);
    assert!(solo.tick().is_empty());
    assert_eq!(solo.group.role(), Role::Follower);
    solo.wait(1 + 50);
    assert!(!solo.tick().is_empty());
    assert_eq!(solo.group.role(), Role::PreCandidate);
}

#[test]
fn a_forced_vote_is_exempt() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.step(2, 1, heartbeat());
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, true, solo.group.last()))), Some(true));
    assert_eq!(solo.group.term(), Term(2));
}

#[test]
fn a_restarted_peer_keeps_the_promises_that_it_may_have_given() {
    let not_before = Instant::from_millis(501);
    let mut solo = Solo::start(options(1), disk(&[1, 2, 3], &[1], 1), not_before);
    let last = solo.group.last();
    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
    assert_eq!(solo.group.role(), Role::Follower);
    solo.now = Instant::from_millis(500);
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, last))), None);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(false));
    solo.now = not_before;
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, last))), Some(true));
}

/// Groups that start together go back to those who led them: one asks at once, the others let it.
#[test]
fn who_voted_for_itself_last_asks_first_after_a_restart() {
    let not_before = Instant::from_millis(501);
    let deadline = |vote: Option<u64>| {
        let mut remembered = disk(&[1, 2, 3], &[1], 1);
        remembered.hard_state.vote = vote.map(PeerId);
        Solo::start(options(1), remembered, not_before).group.deadline()
    };
    let own = deadline(Some(1));
    assert!(not_before <= own && own <= not_before + std::time::Duration::from_millis(50));
    assert!(deadline(Some(2)) >= Instant::from_millis(1_201), "it gives the other one a timeout more");
    assert!((601..=1_201).contains(&(deadline(None).0 / 1_000_000)));
}

/// Where votes are slow to come, a candidate that asks again and again only adds to what they wait for.
#[test]
fn a_candidate_waits_longer_each_time_that_it_came_to_nothing() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let mut waits = Vec::new();
    for _ in 0..6 {
        solo.now = solo.group.deadline();
        solo.tick();
        solo.step(
            2,
            solo.group.term().next().0,
            MessageBody::VoteResponse { is_pre_vote: true, is_granted: true },
        );
        assert_eq!(solo.group.role(), Role::Candidate);
        waits.push(solo.group.deadline().since(solo.now).as_millis());
    }
    assert!((300..=600).contains(&waits[0]), "{waits:?}");
    assert!((600..=1_200).contains(&waits[1]), "{waits:?}");
    assert!(waits[2..].iter().all(|wait| (1_200..=2_400).contains(wait)), "{waits:?}");
}

#[test]
fn the_only_voter_elects_itself_at_once() {
    let mut solo = Solo::start(options(1), disk(&[1], &[1, 1], 1), Instant::from_millis(501));
    // Nobody can hold its promises once the configuration in which it is alone is committed.
    solo.tick();
    assert_eq!(solo.group.role(), Role::Leader);
    assert_eq!(solo.group.commit_index(), Index(4));
    assert!(solo.group.lease(solo.now).is_some());
}

/// The leader that made this peer the only voter may still hold a lease on its promise until it knows that committed.
#[test]
fn the_only_voter_waits_if_it_cannot_know_that_it_is() {
    let mut solo_disk = disk(&[1, 2], &[], 1);
    let alone = crate::cluster::configuration(&[1], &[2]);
    let mut entry = types::Entry { index: Index(2), term: Term(1), ..types::Entry::default() };
    entry.kind = types::EntryKind::Configuration;
    entry.payload = alone.encode();
    entry.chain = first_position().chain.link(entry.index, entry.term, entry.kind, &entry.payload);
    solo_disk.entries.insert(entry.index, entry);
    let mut solo = Solo::start(options(1), solo_disk, Instant::from_millis(501));
    solo.tick();
    assert_eq!(solo.group.role(), Role::Follower);
    solo.now = Instant::from_millis(560);
    solo.tick();
    assert_eq!(solo.group.role(), Role::Leader);
}

#[test]
fn a_pre_vote_changes_nothing_on_either_side() {
    let mut candidate = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let before = candidate.group.hard_state();
    candidate.group.campaign(candidate.now, raft::CampaignReason::Wish);
    let requests = candidate.settle();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.term == Term(2)));
    assert_eq!(candidate.group.hard_state(), before);
    assert!(candidate.readies.iter().all(|ready| !ready.must_persist()));
    let mut voter = Solo::new(2, disk(&[1, 2, 3], &[1], 1));
    let before = voter.group.hard_state();
    let answers = voter.step(1, 2, requests[0].body.clone());
    assert_eq!(granted(&answers), Some(true));
    assert_eq!(voter.group.hard_state(), before);
    assert!(voter.readies.iter().all(|ready| !ready.must_persist()));
}

#[test]
fn a_pre_vote_is_refused_while_a_leader_is_believed_alive() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let last = solo.group.last();
    solo.step(2, 1, heartbeat());
    solo.wait(599);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(false));
    solo.group.suspect_leader(solo.now);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(true));
    let mut leader = Solo::leader(&[1, 2, 3], &[1]);
    leader.wait(2_000);
    assert_eq!(granted(&leader.step(3, 9, vote_request(true, false, last))), Some(false));
    assert_eq!(leader.group.role(), Role::Leader);
}

/// Row 27: the refusal tells a pre-candidate of a later term, but does not depose a leader.
#[test]
fn a_late_refusal_of_a_pre_vote_deposes_nobody() {
    let mut leader = Solo::leader(&[1, 2, 3], &[1]);
    leader.step(3, 9, MessageBody::VoteResponse { is_pre_vote: true, is_granted: false });
    assert_eq!(leader.group.role(), Role::Leader);
    let mut candidate = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    candidate.group.campaign(candidate.now, raft::CampaignReason::Wish);
    candidate.step(3, 9, MessageBody::VoteResponse { is_pre_vote: true, is_granted: false });
    assert_eq!(candidate.group.term(), Term(9));
    assert_eq!(candidate.group.role(), Role::Follower);
}

/// The own vote counts, and the requests for the others' leave, only when it is durable.
#[test]
fn the_own_vote_is_durable_before_anyone_hears_of_it() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
    solo.settle();
    solo.step_only(2, 2, MessageBody::VoteResponse { is_pre_vote: true, is_granted: true });
    assert_eq!(solo.group.role(), Role::Candidate);
    assert!(solo.take_ready().is_empty());
    // An answer may even overtake the news of the own write.
    solo.step_only(2, 2, MessageBody::VoteResponse { is_pre_vote: false, is_granted: true });
    assert_eq!(solo.group.role(), Role::Candidate);
    let requests = solo.write_one();
    assert_eq!(requests.len(), 2);
    assert_eq!(solo.group.role(), Role::Leader);
}

#[test]
fn a_vote_leaves_when_it_is_durable() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.step_only(2, 2, vote_request(false, false, solo.group.last()));
    assert!(solo.take_ready().is_empty());
    assert_eq!(solo.disk.hard_state.vote, None);
    let answers = solo.write_one();
    assert_eq!(granted(&answers), Some(true));
    assert_eq!(solo.disk.hard_state.vote, Some(PeerId(2)));
}

#[test]
fn an_empty_peer_answers_votes_but_not_in_term_one() {
    let mut solo = Solo::new(4, Disk::default());
    assert_eq!(solo.group.deadline(), Instant::MAX);
    assert_eq!(granted(&solo.step(2, 1, vote_request(false, false, first_position()))), Some(false));
    assert_eq!(granted(&solo.step(2, 2, vote_request(true, false, first_position()))), Some(true));
    assert_eq!(granted(&solo.step(2, 2, vote_request(false, false, first_position()))), Some(true));
    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
    assert_eq!(solo.group.role(), Role::Follower);
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.wait(100);
    solo.answer_heartbeat(2, stamp);
    // A tick each time that one is due, as a store does.
    let silent_since = solo.now;
    while solo.group.role() == Role::Leader {
        solo.now = solo.group.deadline().max(solo.now);
        solo.tick();
    }
    assert_eq!(solo.now, silent_since + ELECTION);
}

/// A process that was stopped has heard nobody, which says nothing about the others.
#[test]
fn a_leader_that_slept_asks_before_it_steps_down() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    solo.wait(5_000);
    let asked = solo.tick();
    assert_eq!(asked.len(), 2);
    assert_eq!(solo.group.role(), Role::Leader);
    let stamp = solo.last_stamp();
    solo.wait(2);
    solo.answer_heartbeat(3, stamp);
    solo.wait(590);
    solo.tick();
    assert_eq!(solo.group.role(), Role::Leader);
    solo.wait(2_000);
    solo.tick();
    solo.wait(200);
    solo.tick();
    assert_eq!(solo.group.role(), Role::Follower, "once only");
}

/// Two pre-candidates with equal logs would each grant the other and split the vote.
#[test]
fn of_two_equal_rivals_one_gives_way() {
    let ask = |id: u64, rival: u64| {
        let mut solo = Solo::new(id, disk(&[1, 2, 3], &[1], 1));
        solo.group.campaign(solo.now, raft::CampaignReason::Wish);
        solo.settle();
        granted(&solo.step(rival, 2, vote_request(true, false, solo.group.last())))
    };
    assert_eq!((ask(1, 2), ask(2, 1)), (Some(true), Some(false)));
}

#[test]
fn a_split_names_a_leader_that_leads_at_once() {
    let mut first = disk(&[1, 2, 3], &[], 1);
    first.hard_state.vote = Some(PeerId(1));
    let mut solo = Solo::new(1, first);
    solo.group.lead_at_birth(solo.now);
    let sent = solo.settle();
    assert_eq!(solo.group.role(), Role::Leader);
    assert_eq!(solo.group.term(), Term(1));
    assert_eq!(sent.len(), 2);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(2), stamp);
    assert_eq!(solo.group.commit_index(), Index(2));
}

/// What the leader sends before another peer is there finds nobody.
#[test]
fn who_begins_after_the_leaders_first_entry_gets_it_at_once() {
    let born = |id| {
        let mut first = disk(&[1, 2, 3], &[], 1);
        first.hard_state.vote = Some(PeerId(1));
        Solo::new(id, first)
    };
    let mut leader = born(1);
    leader.group.lead_at_birth(leader.now);
    let lost = leader.settle();
    leader.wait(20);
    assert!(leader.tick().is_empty(), "it waits for an answer");
    let mut late = born(2);
    late.group.greet_at_birth();
    let greeting = late.settle().pop().expect("it says that it is there");
    let sent = leader.step(2, 1, greeting.body);
    let appends = |messages: &[Message]| {
        let append = |message: &Message| match &message.body {
            MessageBody::Append { prev, entries, .. } => (message.to.0, prev.index.0, entries.len()),
            other => panic!("{other:?}"),
        };
        messages.iter().map(append).collect::<Vec<_>>()
    };
    assert_eq!((appends(&lost), appends(&sent)), (vec![(2, 1, 1), (3, 1, 1)], vec![(2, 1, 1)]));
    // The leader has nobody to greet, and who has moved on to another term does not go back to this one.
    let mut first = born(1);
    first.group.greet_at_birth();
    let mut moved = disk(&[1, 2, 3], &[], 1);
    (moved.hard_state.term, moved.hard_state.vote) = (Term(2), Some(PeerId(3)));
    let mut moved = Solo::new(2, moved);
    moved.group.greet_at_birth();
    assert!(first.settle().is_empty() && moved.settle().is_empty());
}

/// After a sleep nobody is late: not the leader's followers, not the followers' leader.
#[test]
fn who_wakes_begins_to_wait_anew() {
    let mut leader = Solo::leader(&[1, 2, 3], &[1]);
    leader.wait(60_000);
    leader.group.wake(leader.now);
    assert_eq!(leader.tick().len(), 2, "it says so to both");
    leader.wait(599);
    leader.tick();
    assert_eq!(leader.group.role(), Role::Leader);
    let mut follower = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    follower.step(2, 1, heartbeat());
    follower.wait(60_000);
    follower.group.wake(follower.now);
    follower.wait(599);
    assert!(follower.tick().is_empty());
    assert_eq!(follower.group.leader(), Some(PeerId(2)));
    follower.wait(601);
    assert_eq!(follower.tick().len(), 2);
}

/// A lower priority waits longer, and is elected all the same.
#[test]
fn priority_delays_and_never_blocks() {
    let deadline = |priority| {
        let mut options = options(1);
        options.priority = priority;
        Solo::start(options, disk(&[1, 2, 3], &[1], 1), Instant::ZERO).group.deadline()
    };
    assert!(deadline(-10) >= Instant::from_millis(1_201));
    assert!(deadline(-100) == deadline(-10));
    assert!(deadline(10) <= Instant::from_millis(656));
    assert!((601..1_201).contains(&(deadline(0).0 / 1_000_000)));
}

/// Who gives its vote away in the middle of a pre-vote of its own stops asking.
#[test]
fn a_pre_candidate_that_votes_for_another_gives_up() {
    let mut start = disk(&[1, 2, 3], &[1], 1);
    start.hard_state.term = Term(2);
    let mut solo = Solo::new(1, start);
    solo.group.campaign(solo.now, raft::CampaignReason::Wish);
    solo.settle();
    assert_eq!(granted(&solo.step(3, 2, vote_request(false, false, solo.group.last()))), Some(true));
    solo.step(2, 3, MessageBody::VoteResponse { is_pre_vote: true, is_granted: true });
    assert_eq!(solo.group.role(), Role::Follower);
}

/// Rows 32, 35 and 46: whatever a message says, a later term makes a follower of who hears it (but for pre-votes, which
/// only ask, and votes that a promise forbids), and an earlier one changes nothing but that the sender may be told.
#[test]
fn terms_decide_before_anything_else() {
    let stamp = raft::Stamp::default();
    let position = LogPosition::default();
    let bodies = [
        append(first_position(), &entries(&[1]), 9),
        MessageBody::AppendAccepted { match_index: Index(2), stamp },
        MessageBody::AppendRejected { prev_index: Index(2), last_index: Index(1), hint: position, stamp },
        heartbeat(),
        MessageBody::HeartbeatResponse { stamp, last_index: Index(2) },
        vote_request(true, false, first_position()),
        vote_request(false, true, first_position()),
        MessageBody::VoteResponse { is_pre_vote: true, is_granted: true },
        MessageBody::VoteResponse { is_pre_vote: false, is_granted: true },
        MessageBody::TimeoutNow,
        MessageBody::ReadIndexRequest { id: 1 },
        MessageBody::ReadIndexResponse { id: 1, index: Some(Index(9)) },
    ];
    for body in &bodies {
        let mut leader = Solo::leader(&[1, 2, 3], &[4]);
        leader.settle();
        let before = (leader.group.hard_state(), leader.group.last());
        leader.step(2, 3, body.clone());
        assert_eq!((leader.group.hard_state(), leader.group.last()), before, "{body:?}");
        assert_eq!(leader.group.role(), Role::Leader, "{body:?}");
        leader.step(2, 8, body.clone());
        let is_pre_vote = matches!(
            body,
            MessageBody::VoteRequest { is_pre_vote: true, .. }
                | MessageBody::VoteResponse { is_pre_vote: true, .. }
        );
        if is_pre_vote {
            assert_eq!((leader.group.role(), leader.group.term()), (Role::Leader, Term(5)), "{body:?}");
        } else {
            assert_ne!(leader.group.role(), Role::Leader, "{body:?}");
            // TimeoutNow of a later term makes it campaign in the one after.
            assert!(leader.group.term() >= Term(8), "{body:?}");
        }
    }
}
