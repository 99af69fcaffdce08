//! Logs: what is appended, acknowledged, committed, handed out, kept and forgotten.

use raft::{LogReader, Message, MessageBody, NotInMemory, SnapshotMeta, SnapshotOutcome};
use types::{Chain, Entry, Index, LogPosition, PeerId, Term};

use super::{Solo, append, disk, entries, heartbeat};
use crate::{
    cluster::{configuration, first_position},
    disk::{Disk, DiskReader},
};

fn accepted(messages: &[Message]) -> Vec<u64> {
    let index = |message: &Message| match message.body {
        MessageBody::AppendAccepted { match_index, .. } => Some(match_index.0),
        _ => None,
    };
    messages.iter().filter_map(index).collect()
}

/// Raft, figure 8: an entry of an earlier term on a majority is not committed; with one of this term behind it, it is.
#[test]
fn figure_8() {
    let mut solo = Solo::leader(&[1, 2, 3, 4, 5], &[1, 2]);
    assert_eq!(solo.group.last().index, Index(4));
    let stamp = solo.last_stamp();
    for peer in [2, 3, 4] {
        solo.accept(peer, Index(3), stamp);
        assert_eq!(solo.group.commit_index(), Index(1), "entry 3 is of term 2, the leader's is 3");
    }
    solo.accept(2, Index(4), stamp);
    solo.accept(3, Index(4), stamp);
    assert_eq!(solo.group.commit_index(), Index(4));
}

#[test]
fn proposals_between_two_readies_share_an_append() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, solo.group.last().index, stamp);
    solo.accept(3, solo.group.last().index, stamp);
    for _ in 0..100 {
        solo.propose("x");
    }
    let sent = solo.take_ready();
    let sizes = sent.iter().map(|message| match &message.body {
        MessageBody::Append { entries, .. } => entries.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [100, 100]);
}

/// Row 106: two followers' disks commit what the leader's own has not written; it is not handed out before.
#[test]
fn followers_commit_while_the_leaders_disk_hangs() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    solo.accept(3, Index(3), stamp);
    let index = solo.propose("x");
    assert_eq!(solo.take_ready().len(), 2, "appends leave before the own write");
    assert_eq!(solo.writes.len(), 1);
    let stamp = solo.last_stamp();
    let accept = MessageBody::AppendAccepted { match_index: index, stamp };
    solo.step_only(2, 2, accept.clone());
    assert_eq!(solo.group.commit_index(), Index(3), "the own log counts as far as it is durable");
    solo.step_only(3, 2, accept);
    assert_eq!(solo.group.commit_index(), index);
    solo.take_ready();
    assert_eq!(solo.committed.last().map(|entry| entry.index), Some(Index(3)));
    solo.write_one();
    solo.take_ready();
    assert_eq!(solo.committed.last().map(|entry| entry.index), Some(index));
}

/// A newer Ready truncates what an older one, not yet persisted, has appended. The older one's completion says nothing
/// about the present log.
#[test]
fn the_completion_of_a_truncated_write_counts_for_nothing() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let old = entries(&[1, 1, 1, 1]);
    solo.step_only(2, 1, append(old[0].position(), &old[1..], 1));
    assert!(solo.take_ready().is_empty());
    let new = entries(&[1, 1, 2, 2]);
    solo.step_only(3, 2, append(new[1].position(), &new[2..], 1));
    assert!(solo.take_ready().is_empty());
    assert_eq!(solo.writes.len(), 2);
    assert_eq!(accepted(&solo.write_one()), [5], "what waits for the first write leaves with it");
    assert!(solo.group.persisted_index() <= Index(3));
    assert_eq!(accepted(&solo.write_one()), [5]);
    assert_eq!(solo.group.persisted_index(), Index(5));
}

#[test]
fn acknowledgements_that_wait_for_one_write_are_one() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let log = entries(&[1, 1, 1]);
    solo.step_only(2, 1, append(log[0].position(), &log[1..2], 1));
    solo.step_only(2, 1, append(log[1].position(), &log[2..], 1));
    assert_eq!(accepted(&solo.settle()), [4]);
    // What is durable already is acknowledged without a write.
    solo.step_only(2, 1, append(log[1].position(), &log[2..], 1));
    assert_eq!(accepted(&solo.take_ready()), [4]);
    assert!(solo.writes.is_empty());
}

#[test]
fn a_commit_index_counts_only_up_to_what_the_message_verified() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1, 1], 1));
    let log = entries(&[1, 1, 1]);
    // Entry 4 may differ from the leader's: this message says nothing about it.
    solo.step(2, 2, append(log[0].position(), &log[1..2], 9));
    assert_eq!(solo.group.commit_index(), Index(3));
}

#[test]
fn a_bare_commit_index_costs_no_write() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1], 1));
    solo.step_only(
        2,
        1,
        MessageBody::Heartbeat { commit: Index(3), stamp: Default::default(), offers_sleep: false },
    );
    solo.take_ready();
    assert!(solo.writes.is_empty());
    assert_eq!(solo.committed.len(), 2);
    let log = entries(&[1, 1, 1]);
    solo.step_only(2, 1, append(log[1].position(), &log[2..], 3));
    solo.take_ready();
    let hard_state = solo.readies.last().and_then(|ready| ready.hard_state);
    assert_eq!(hard_state.map(|state| state.commit), Some(Index(3)));
    assert!(!solo.readies.last().is_some_and(|ready| ready.is_hard_state_urgent));
}

/// When commit advances and nothing else is to be sent, followers are told at once.
#[test]
fn idle_followers_hear_of_a_commit_at_once() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    let sent = solo.accept(2, Index(3), stamp);
    assert!(sent.iter().any(|message| {
        message.to == PeerId(2) && matches!(message.body, MessageBody::Heartbeat { commit: Index(3), .. })
    }));
    assert!(sent.iter().all(|message| message.to != PeerId(3)), "it could make no use of it");
    let sent = solo.accept(3, Index(3), stamp);
    assert!(matches!(
        sent[..],
        [Message { to: PeerId(3), body: MessageBody::Heartbeat { commit: Index(3), .. }, .. }]
    ));
}

/// D15: equal index and term with another content is neither overwritten nor acknowledged.
#[test]
fn another_content_at_equal_index_and_term_is_refused() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1], 1));
    let before = solo.group.last();
    let mut prev = before;
    prev.chain = Chain(1);
    let next = Entry { index: Index(4), term: Term(1), ..Entry::default() };
    assert!(solo.step(2, 1, append(prev, std::slice::from_ref(&next), 1)).is_empty());
    // The same among the entries of a message.
    let log = entries(&[1]);
    let mut other = entries(&[1, 1])[1].clone();
    other.payload = bytes::Bytes::from_static(b"another");
    assert!(solo.step(2, 1, append(log[0].position(), &[other, next], 1)).is_empty());
    assert_eq!(solo.group.chain_mismatch_count(), 2);
    assert_eq!(solo.group.last(), before);
}

#[test]
fn an_empty_peer_refuses_every_append() {
    let mut solo = Solo::new(4, Disk::default());
    let zero = Default::default();
    let entry = Entry { index: Index(1), term: Term(1), ..Entry::default() };
    for body in [append(zero, &[entry], 1), append(zero, &[], 0), append(first_position(), &entries(&[1]), 1)]
    {
        let sent = solo.step(1, 1, body);
        assert!(matches!(
            sent[..],
            [Message { body: MessageBody::AppendRejected { last_index: Index(0), .. }, .. }]
        ));
    }
    assert_eq!(solo.group.last().index, Index(0));
}

#[test]
fn a_leader_asks_once_for_a_snapshot_and_then_waits() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    let reject = MessageBody::AppendRejected {
        prev_index: Index(2),
        last_index: Index(0),
        hint: Default::default(),
        stamp,
    };
    let wanted = |solo: &mut Solo| {
        let wanted = solo.readies.iter_mut().flat_map(|ready| std::mem::take(&mut ready.snapshot_wanted));
        wanted.collect::<Vec<_>>()
    };
    solo.step(3, 2, reject.clone());
    solo.step(3, 2, reject.clone());
    assert_eq!(wanted(&mut solo), [PeerId(3)]);
    solo.propose("x");
    assert!(solo.settle().iter().all(|message| message.to != PeerId(3)));
    // A failure is no reason to ask again at once, only when the peer is heard.
    solo.group.report_snapshot(solo.now, PeerId(3), SnapshotOutcome::Failed);
    solo.settle();
    assert!(wanted(&mut solo).is_empty());
    solo.answer_heartbeat(3, stamp);
    assert_eq!(wanted(&mut solo), [PeerId(3)]);
    solo.group.report_snapshot(solo.now, PeerId(3), SnapshotOutcome::Sent(Index(3)));
}

#[test]
fn a_snapshot_is_acknowledged_when_durable_and_applied_before_anything_behind_it() {
    let mut solo = Solo::new(4, Disk::default());
    let log = entries(&[1, 1, 1]);
    let position = log[1].position();
    let meta = SnapshotMeta { position, configuration: (Index(1), configuration(&[1, 2, 3], &[4])) };
    solo.step_only(1, 1, MessageBody::Snapshot { meta: meta.clone() });
    solo.step_only(1, 1, append(position, &log[2..], 4));
    assert!(accepted(&solo.take_ready()).is_empty());
    assert_eq!(solo.readies.last().and_then(|ready| ready.snapshot.clone()), Some(meta.clone()));
    assert_eq!(accepted(&solo.write_one()), [4]);
    solo.take_ready();
    assert!(solo.committed.is_empty());
    solo.group.advance(solo.now, Index(3));
    solo.settle();
    assert_eq!(solo.committed.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [4]);
    // One that brings nothing new only tells where the log stands.
    assert_eq!(accepted(&solo.step(1, 1, MessageBody::Snapshot { meta })), [4]);
    assert_eq!(solo.group.truncated(), position);
    assert_eq!(solo.group.last().index, Index(4));
}

#[test]
fn a_snapshot_within_the_log_only_commits() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1, 1], 1));
    // In memory, so that the position can be compared.
    let log = entries(&[1, 1, 1, 1]);
    solo.step(2, 1, append(log[2].position(), &log[3..], 1));
    let meta = SnapshotMeta {
        position: log[3].position(),
        configuration: (Index(1), configuration(&[1, 2, 3], &[])),
    };
    assert_eq!(accepted(&solo.step(2, 1, MessageBody::Snapshot { meta })), [5]);
    assert_eq!(solo.group.commit_index(), Index(5));
    assert_eq!(solo.group.truncated(), first_position());
    assert_eq!(solo.committed.len(), 4);
}

/// A restarted peer cannot tell from memory whether its log contains the snapshot's position. If it does, what lies
/// above may have been acknowledged, and counted.
#[test]
fn a_snapshot_within_the_log_of_a_restarted_peer_drops_nothing() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1, 1, 1], 1));
    let position = entries(&[1, 1])[1].position();
    let meta = SnapshotMeta { position, configuration: (Index(1), configuration(&[1, 2, 3], &[])) };
    assert_eq!(accepted(&solo.step(2, 1, MessageBody::Snapshot { meta })), [3]);
    assert_eq!(solo.group.last().index, Index(5));
    assert_eq!(solo.group.truncated(), first_position());
    // Another log at the same index is replaced as a whole.
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1, 1, 1], 1));
    let position = entries(&[1, 2])[1].position();
    let meta = SnapshotMeta { position, configuration: (Index(1), configuration(&[1, 2, 3], &[])) };
    assert_eq!(accepted(&solo.step(2, 2, MessageBody::Snapshot { meta })), [3]);
    assert_eq!((solo.group.last(), solo.group.truncated()), (position, position));
}

/// Row 56: many divergent entries of few terms are skipped a term at a time, whether the leader has its log in memory
/// or must read it; by the leader where its terms are the higher ones, by the follower where its own are.
#[test]
fn divergent_logs_meet_within_a_round_trip_per_term() {
    for (leader_terms, follower_terms) in [
        ([1, 4, 6, 8, 10], [1, 3, 5, 7, 9]),
        ([1, 2, 2, 2, 10], [1, 3, 4, 5, 6]),
        ([1, 7, 8, 9, 10], [1, 2, 2, 2, 6]),
    ] {
        let stretch = |terms: &[u64]| terms.iter().flat_map(|term| [*term; 2_000]).collect::<Vec<_>>();
        let voters = [1, 2, 3];
        let mut in_memory = Solo::new(1, disk(&voters, &[], 10));
        in_memory.step(3, 10, append(first_position(), &entries(&stretch(&leader_terms)), 1));
        in_memory.wait(1_200);
        in_memory.elect(&voters);
        for leader in [Solo::leader(&voters, &stretch(&leader_terms)), in_memory] {
            let follower = Solo::new(2, disk(&voters, &stretch(&follower_terms), 10));
            let round_trips = round_trips_until_they_meet(leader, follower);
            assert!(round_trips <= follower_terms.len() + 2, "{round_trips}");
        }
    }
}

fn round_trips_until_they_meet(mut leader: Solo, mut follower: Solo) -> usize {
    let mut requests: Vec<Message> = leader.sent.clone();
    for round_trips in 0..100 {
        if leader.group.status().peers[0].match_index > Index(2_001) {
            return round_trips;
        }
        requests
            .retain(|message| message.to == PeerId(2) && matches!(message.body, MessageBody::Append { .. }));
        let mut answers = Vec::new();
        for request in std::mem::take(&mut requests) {
            answers.extend(follower.step(1, request.term.0, request.body));
        }
        for answer in answers {
            requests.extend(leader.step(2, answer.term.0, answer.body));
        }
    }
    100
}

/// A restarted peer has nothing in memory: what a message asks about is read back first.
#[test]
fn a_restarted_peer_reads_its_tail_back_when_asked_about_it() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1, 1, 1], 1));
    let new = entries(&[1, 1, 2]);
    solo.step_only(2, 2, append(new[1].position(), &new[2..], 1));
    assert_eq!(solo.group.last().index, Index(5), "not decided yet");
    assert!(solo.group.has_ready());
    // The reader refuses: not ready until the retry is due.
    let ready = solo.group.ready(solo.now, &mut raft::NoLog);
    assert!(ready.messages.is_empty());
    let deadline = solo.group.deadline();
    assert!(deadline <= solo.now + std::time::Duration::from_millis(10));
    solo.now = deadline;
    assert_eq!(accepted(&solo.tick()), [4]);
    assert_eq!(solo.group.last().term, Term(2));
}

#[test]
fn committed_entries_come_in_pages_that_need_not_be_applied_first() {
    let mut options = super::options(1);
    options.behaviour_mut().committed_bytes_max = 150;
    let mut solo = Solo::start(options, disk(&[1, 2, 3], &[1; 8], 1), types::Instant::ZERO);
    solo.step_only(
        2,
        1,
        MessageBody::Heartbeat { commit: Index(9), stamp: Default::default(), offers_sleep: false },
    );
    let mut pages = Vec::new();
    while solo.group.has_ready() {
        let before = solo.committed.len();
        solo.take_ready();
        pages.push(solo.committed.len() - before);
    }
    assert_eq!(solo.committed.len(), 8);
    assert!(pages.len() > 2, "{pages:?}");
    assert_eq!(solo.group.applied_index(), Index(1));
    solo.group.advance(solo.now, Index(9));
}

#[test]
fn an_idle_peer_holds_no_entries() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    solo.propose("x");
    solo.settle();
    let stamp = solo.last_stamp();
    for peer in [2, 3] {
        solo.accept(peer, solo.group.last().index, stamp);
    }
    solo.propose("y");
    solo.settle();
    assert!(solo.group.entry_bytes() > 0);
    assert!(solo.group.uncommitted_bytes() > 0);
    let stamp = solo.last_stamp();
    for peer in [2, 3] {
        solo.accept(peer, solo.group.last().index, stamp);
    }
    solo.step(2, 2, MessageBody::HeartbeatResponse { stamp, last_index: solo.group.last().index });
    solo.wait(200);
    solo.tick();
    assert_eq!(solo.group.uncommitted_bytes(), 0);
    assert_eq!(solo.group.entry_bytes(), 0);
    println!("{} bytes", std::mem::size_of::<raft::RaftGroup>());
    assert!(std::mem::size_of::<raft::RaftGroup>() <= 768);
}

/// A lost append is noticed although nothing else is sent: within two heartbeats.
#[test]
fn a_lost_append_is_sent_again() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    solo.propose("lost");
    solo.settle();
    let mut nudged = Vec::new();
    for _ in 0..2 {
        solo.wait(100);
        solo.tick();
        let stamp = solo.last_stamp();
        nudged = solo.step(2, 2, MessageBody::HeartbeatResponse { stamp, last_index: Index(3) });
    }
    let MessageBody::Append { prev, .. } = &nudged[0].body else { panic!("{nudged:?}") };
    assert_eq!(prev.index, Index(4));
    let stamp = solo.last_stamp();
    let hint = solo.group.position(Index(3)).expect("in memory");
    let reject = MessageBody::AppendRejected { prev_index: Index(4), last_index: Index(3), hint, stamp };
    let sent = solo.step(2, 2, reject);
    assert!(
        matches!(&sent[0].body, MessageBody::Append { prev, entries, .. } if prev.index == Index(3) && entries.len() == 1)
    );
}

#[test]
fn heartbeats_are_sent_only_to_who_was_sent_nothing() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    solo.wait(60);
    solo.propose("x");
    solo.settle();
    let stamp = solo.last_stamp();
    solo.accept(2, Index(4), stamp);
    solo.wait(40);
    let sent = solo.tick();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, PeerId(3));
    let silent = solo.step(3, 2, heartbeat());
    assert!(silent.is_empty(), "a second leader in one term is refused");
    assert_eq!(solo.group.rejected_count(), 1);
}

/// Pipelined appends stop at the window, and go on as acknowledgements come.
#[test]
fn a_window_of_bytes_bounds_what_is_under_way() {
    let mut options = super::options(1);
    options.behaviour_mut().append_bytes_max = 200;
    options.behaviour_mut().inflight_bytes_max = 600;
    let mut solo = Solo::start(options, disk(&[1, 2, 3], &[1], 1), types::Instant::ZERO);
    solo.elect(&[1, 2, 3]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    for _ in 0..40 {
        solo.propose("0123456789012345678901234567890123456789012345678901");
    }
    let to_two = |messages: &[Message]| {
        let size = |message: &Message| match &message.body {
            MessageBody::Append { entries, .. } if message.to == PeerId(2) => {
                Some(entries.iter().map(Entry::size_bytes).sum::<usize>())
            }
            _ => None,
        };
        messages.iter().filter_map(size).collect::<Vec<_>>()
    };
    let sent = to_two(&solo.settle());
    assert_eq!(sent, [200, 200, 200]);
    assert_eq!(solo.group.status().peers[0].inflight_bytes, 600);
    let stamp = solo.last_stamp();
    assert_eq!(to_two(&solo.accept(2, Index(5), stamp)), [200]);
    // One that cannot be delivered ends the pipelining: the next is a probe, from what is acknowledged on.
    solo.group.report_unreachable(solo.now, PeerId(2));
    let probes = solo.settle();
    assert_eq!(to_two(&probes).len(), 1);
    assert_eq!(solo.group.status().peers[0].state, "probe");
}

/// Too much that is not committed: proposals are dropped, but one always fits.
#[test]
fn uncommitted_bytes_are_bounded() {
    let mut options = super::options(1);
    options.behaviour_mut().uncommitted_bytes_max = 200;
    let mut solo = Solo::start(options, disk(&[1, 2, 3], &[1], 1), types::Instant::ZERO);
    solo.elect(&[1, 2, 3]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    assert_eq!(solo.group.uncommitted_bytes(), 0);
    let large = bytes::Bytes::from(vec![0; 500]);
    assert!(solo.group.propose(solo.now, large).is_ok());
    let refused = solo.group.propose(solo.now, bytes::Bytes::from_static(b"x"));
    assert!(matches!(refused, Err(raft::Error::ProposalDropped(_))));
    solo.settle();
    let stamp = solo.last_stamp();
    solo.accept(2, Index(4), stamp);
    assert!(solo.group.propose(solo.now, bytes::Bytes::from_static(b"x")).is_ok());
}

/// C_new is appended when the joint configuration itself is committed by both halves, not with any other commit.
#[test]
fn a_joint_configuration_is_left_only_when_it_is_committed() {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    solo.accept(2, Index(3), stamp);
    solo.propose("x");
    let change = crate::cluster::change_to(&solo.group.status().configuration.1, &[1, 4, 5], &[]);
    solo.group.propose_conf_change(solo.now, change).expect("it may");
    solo.settle();
    let stamp = solo.last_stamp();
    solo.accept(2, Index(4), stamp);
    assert_eq!(solo.group.commit_index(), Index(3), "one half does not decide");
    solo.accept(4, Index(4), stamp);
    assert_eq!(solo.group.commit_index(), Index(4));
    assert!(solo.group.configuration().is_joint());
    solo.accept(4, Index(5), stamp);
    assert!(solo.group.configuration().is_joint());
    solo.accept(3, Index(5), stamp);
    assert_eq!(solo.group.last().index, Index(6));
    assert_eq!(solo.group.configuration().voters, [PeerId(1), PeerId(4), PeerId(5)]);
    assert_eq!(solo.group.configuration().learners, [PeerId(2), PeerId(3)]);
}

/// An acknowledgement that waits for the disk does not outlive its term: what it speaks of may never be written.
#[test]
fn an_acknowledgement_ends_with_its_term() {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    let old = entries(&[1, 1]);
    solo.step_only(2, 1, append(old[0].position(), &old[1..], 1));
    let new = entries(&[1, 2, 2]);
    solo.step_only(3, 2, append(new[0].position(), &new[1..], 1));
    let sent = solo.settle();
    assert_eq!(accepted(&sent), [4]);
    assert!(sent.iter().all(|message| message.term == Term(2) && message.to == PeerId(3)));
}

/// Who still leads an earlier term learns so from the answer, and steps down.
#[test]
fn a_leader_of_an_earlier_term_is_told() {
    let mut follower = Solo::new(2, disk(&[1, 2, 3], &[1], 7));
    let mut leader = Solo::leader(&[1, 2, 3], &[1]);
    for body in [heartbeat(), append(first_position(), &[], 1)] {
        let answers = follower.step(1, 2, body);
        assert_eq!(answers[0].term, Term(7));
        leader.group.step(leader.now, answers[0].clone());
    }
    assert_eq!(leader.group.role(), raft::Role::Follower);
    assert_eq!(leader.group.term(), Term(7));
    assert_eq!(follower.group.leader(), None);
}

/// A disk, and room in memory for a few of its entries.
struct LittleRoom<'a> {
    disk: DiskReader<'a>,
    left: usize,
}

impl LogReader for LittleRoom<'_> {
    fn read_entries(
        &mut self,
        first: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory> {
        let entries = self.disk.read_entries(first, last, bytes_max)?;
        self.left = self.left.checked_sub(entries.len()).ok_or(NotInMemory)?;
        Ok(entries)
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        self.disk.read_position(index)
    }
}

/// What is not committed may be more than there is room for, and an append near its end what lets it be committed.
#[test]
fn an_append_needs_no_more_of_the_log_than_it_asks_about() {
    let all = entries(&[1; 30]);
    let mut solo = Solo::new(2, disk(&[1, 2, 3], &[1; 30], 1));
    let (before, sent) = (&all[26], &all[27..28]);
    solo.step_only(1, 1, append(before.position(), sent, sent[0].index.0));
    assert_eq!(solo.group.commit_index(), Index::FIRST, "the log must be read back first");
    let mut never = || false;
    let mut reader = LittleRoom { disk: DiskReader { disk: &solo.disk, refuse: &mut never }, left: 3 };
    let ready = solo.group.ready(solo.now, &mut reader);
    assert_eq!(solo.group.commit_index(), sent[0].index);
    assert_eq!(accepted(&ready.messages), [sent[0].index.0]);
    solo.group.check_invariants();
}
