//! What callers may ask for beyond messages and time: sleep, campaigns, a listener, a hanging disk, applying early.

use std::sync::{Arc, Mutex};

use raft::{CampaignReason, Event, MessageBody, Role, SleepContract, Stamp, Trace};
use types::{Index, Instant, PeerId, Term};

use super::{ELECTION, Solo, append, disk, entries, granted, heartbeat, options, vote_request};
use crate::cluster::{change_to, first_position};

/// A leader of three with everything acknowledged, told and applied.
fn idle_leader() -> Solo {
    let mut solo = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = solo.last_stamp();
    for peer in [2, 3] {
        solo.accept(peer, Index(3), stamp);
    }
    solo.settle();
    solo
}

fn idle_follower() -> Solo {
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1], 1));
    solo.step(2, 1, heartbeat());
    solo.step(
        2,
        1,
        MessageBody::Heartbeat { commit: Index(2), stamp: Default::default(), offers_sleep: false },
    );
    solo
}

#[test]
fn a_group_sleeps_when_nothing_is_open() {
    let mut leader = Solo::leader(&[1, 2, 3], &[1]);
    let stamp = leader.last_stamp();
    leader.accept(2, Index(3), stamp);
    assert!(leader.group.sleep_contract(|_| false).is_err(), "3 has not acknowledged");
    let contract = leader.group.sleep_contract(|peer| peer == PeerId(3)).expect("3 is down");
    assert_eq!(contract, SleepContract { term: Term(2), last_index: Index(3) });
    leader.accept(3, Index(3), stamp);
    assert_eq!(leader.group.sleep_contract(|_| false), Ok(contract));
    leader.group.sleep(contract).expect("nothing is open");
    assert!(leader.group.is_asleep());
    assert_eq!(leader.group.deadline(), Instant::MAX);
    leader.wait(100_000);
    assert!(leader.tick().is_empty(), "no heartbeat, and no quorum missed");
    assert_eq!(leader.group.role(), Role::Leader);
    assert_eq!(leader.group.lease(leader.now), None);
    let mut follower = idle_follower();
    let other = SleepContract { term: Term(1), last_index: Index(3) };
    assert!(follower.group.sleep(other).is_err(), "its log ends elsewhere");
    let own = SleepContract { term: Term(1), last_index: Index(2) };
    follower.group.sleep(own).expect("nothing is open");
    follower.wait(100_000);
    assert!(follower.tick().is_empty());
    assert_eq!(follower.group.leader(), Some(PeerId(2)));
}

#[test]
fn what_is_open_forbids_sleep() {
    let refuse = |solo: &Solo| {
        let result = solo.group.sleep_contract(|_| false);
        assert!(matches!(result, Err(raft::Error::Awake(_))), "{result:?}");
    };
    let mut solo = idle_leader();
    solo.propose("x");
    refuse(&solo);
    let mut solo = idle_leader();
    solo.group.read_index(solo.now, 7);
    refuse(&solo);
    let mut solo = idle_leader();
    solo.group.transfer_leader(solo.now, PeerId(2)).expect("it may");
    refuse(&solo);
    let mut solo = idle_leader();
    let change = change_to(&solo.group.status().configuration.1, &[1, 4], &[]);
    solo.group.propose_conf_change(solo.now, change).expect("it may");
    refuse(&solo);
    // Everyone has everything, but it is not applied here.
    let mut solo = idle_leader();
    let index = solo.propose("x");
    solo.settle();
    let stamp = solo.last_stamp();
    for peer in [2, 3] {
        solo.step_only(peer, 2, MessageBody::AppendAccepted { match_index: index, stamp });
    }
    refuse(&solo);
    assert_eq!(idle_follower().group.sleep_contract(|_| false), Err(raft::Error::NotLeader));
    let mut solo = idle_follower();
    solo.group.read_index(solo.now, 7);
    let own = SleepContract { term: Term(1), last_index: Index(2) };
    assert!(solo.group.sleep(own).is_err());
}

fn sleeping(mut solo: Solo) -> Solo {
    let last_index = solo.group.last().index;
    solo.group.sleep(SleepContract { term: solo.group.term(), last_index }).expect("nothing is open");
    solo.wait(100_000);
    solo
}

/// Everything that needs an awake group wakes it, and every wait begins anew: nobody is late after a sleep.
#[test]
fn a_sleeping_group_wakes_by_itself() {
    let mut leader = sleeping(idle_leader());
    leader.propose("x");
    assert!(!leader.group.is_asleep());
    leader.tick();
    assert_eq!(leader.group.role(), Role::Leader, "it asks before it gives up");
    let mut leader = sleeping(idle_leader());
    leader.step(3, 2, MessageBody::ReadIndexRequest { id: 4 });
    assert!(!leader.group.is_asleep());
    let mut leader = sleeping(idle_leader());
    let stamp = leader.last_stamp();
    leader.answer_heartbeat(2, stamp);
    assert!(leader.group.is_asleep(), "a late answer is no reason");
    // Somebody woke alone, and asks: the leader tells all that it is there.
    let last = leader.group.last();
    let sent = leader.step(3, 3, vote_request(true, false, last));
    assert_eq!(granted(&sent), Some(false));
    let told = |peer| {
        let is_told = |message: &raft::Message| {
            message.to == PeerId(peer) && matches!(message.body, MessageBody::Heartbeat { .. })
        };
        sent.iter().any(is_told)
    };
    assert!(told(2) && told(3));
    let mut follower = sleeping(idle_follower());
    follower.step(2, 1, heartbeat());
    assert!(!follower.group.is_asleep());
    let mut follower = sleeping(idle_follower());
    follower.group.suspect_leader(follower.now);
    assert!(follower.group.deadline() <= follower.now + std::time::Duration::from_millis(50));
    let mut leader = sleeping(idle_leader());
    leader.group.quorum_lost(leader.now);
    assert_eq!(leader.group.role(), Role::Follower);
    assert!(!leader.group.is_asleep());
}

/// A leader that waits for the last to agree keeps that one up, and lets the others sleep; once the offer is void, or there
/// is something new, it wakes them.
#[test]
fn a_leader_that_waits_for_agreement_wakes_nobody_who_has_agreed() {
    let offers = |sent: &[raft::Message]| {
        let flags = sent.iter().filter_map(|message| match &message.body {
            MessageBody::Heartbeat { offers_sleep, .. } => Some(*offers_sleep),
            _ => None,
        });
        flags.collect::<Vec<_>>()
    };
    let mut leader = idle_leader();
    let contract = leader.group.sleep_contract(|_| false).expect("nothing is open");
    leader.group.offer_sleep(contract);
    leader.wait(100);
    assert_eq!(offers(&leader.tick()), [true, true]);
    leader.group.withdraw_sleep();
    leader.wait(100);
    assert_eq!(offers(&leader.tick()), [false, false]);
    leader.group.offer_sleep(contract);
    leader.propose("x");
    leader.wait(100);
    assert!(offers(&leader.tick()).iter().all(|offers_sleep| !offers_sleep), "its log ends elsewhere now");

    let beat = |commit| MessageBody::Heartbeat { commit, stamp: Stamp::default(), offers_sleep: true };
    let mut follower = sleeping(idle_follower());
    let answered = follower.step(2, 1, beat(follower.group.commit_index()));
    assert!(matches!(answered[..], [raft::Message { body: MessageBody::HeartbeatResponse { .. }, .. }]));
    assert!(follower.group.is_asleep(), "it has agreed");
    let last = follower.group.last();
    assert_eq!(granted(&follower.step(3, 2, vote_request(false, false, last))), None, "it has promised");
    let mut follower = sleeping(idle_follower());
    follower.step(2, 2, beat(follower.group.commit_index()));
    assert!(!follower.group.is_asleep(), "a later term is another leader's");
}

/// Waking brings the time in: the first tick after it finds nothing overdue.
#[test]
fn waking_counts_from_now() {
    let mut follower = sleeping(idle_follower());
    follower.group.wake(follower.now);
    assert!(follower.tick().is_empty());
    assert!(follower.group.deadline() >= follower.now + ELECTION);
    let mut leader = sleeping(idle_leader());
    leader.group.wake(leader.now);
    assert_eq!(leader.tick().len(), 2);
    assert!(leader.group.lease(leader.now).is_none(), "until it is answered");
    let stamp = leader.last_stamp();
    leader.answer_heartbeat(2, stamp);
    assert!(leader.group.lease(leader.now).is_some());
}

/// Who knows that the leader is gone would also elect another that asks; the promise holds all the same.
#[test]
fn a_campaign_for_a_leader_that_is_gone() {
    let mut solo = idle_follower();
    let last = solo.group.last();
    solo.wait(510);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(false));
    solo.group.campaign(solo.now, CampaignReason::LeaderGone);
    assert_eq!(solo.group.role(), Role::PreCandidate);
    let mut solo = idle_follower();
    solo.group.campaign(solo.now, CampaignReason::LeaderGone);
    assert_eq!(solo.group.role(), Role::Follower, "it has promised");
    solo.wait(501);
    assert_eq!(granted(&solo.step(3, 2, vote_request(true, false, last))), Some(true));
}

#[test]
fn the_election_timeout_can_be_set() {
    let mut solo = idle_follower();
    solo.group.set_election_timeout(solo.now, std::time::Duration::from_millis(5_000));
    assert!(solo.group.deadline() >= solo.now + std::time::Duration::from_millis(5_000));
    solo.wait(4_000);
    assert!(solo.tick().is_empty());
}

/// Keeps what it is told.
#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Trace for Listener {
    fn on_event(&self, event: Event<'_>) {
        let text = match event {
            Event::Received(message) => format!("received {}", crate::cluster::kind(&message.body)),
            Event::Sent { message, is_after_persist } => {
                format!("sent {} {is_after_persist}", crate::cluster::kind(&message.body))
            }
            Event::Role(change) => format!("{:?} {}", change.role, change.term),
            Event::Configuration { index, .. } => format!("configuration @{index}"),
            other => format!("{other:?}"),
        };
        self.0.lock().expect("nobody panics with it").push(text);
    }
}

/// A listener hears of each message and each change of state, in order.
#[test]
fn a_listener_hears_everything() {
    let listener = Arc::new(Listener::default());
    let mut solo = Solo::new(1, disk(&[1, 2, 3], &[1, 1], 1));
    solo.group.set_trace(listener.clone());
    solo.group.campaign(solo.now, CampaignReason::Wish);
    solo.settle();
    solo.step(2, 2, MessageBody::VoteResponse { is_pre_vote: true, is_granted: true });
    solo.step(2, 2, MessageBody::VoteResponse { is_pre_vote: false, is_granted: true });
    solo.step(9, 2, MessageBody::AppendAccepted { match_index: Index(4), stamp: Default::default() });
    let new = entries(&[1, 3]);
    solo.step(3, 3, append(new[0].position(), &new[1..], 3));
    let heard = std::mem::take(&mut *listener.0.lock().expect("nobody panics with it"));
    let expected = "\
Campaigned { reason: Wish, is_pre_vote: true, term: Term(2) }
PreCandidate 1
sent pre-vote? false
sent pre-vote? false
received pre-vote
Campaigned { reason: Wish, is_pre_vote: false, term: Term(2) }
Voted { term: Term(2), candidate: PeerId(1) }
Candidate 2
sent vote? true
sent vote? true
Persisted { number: 1, index: Index(3) }
received vote
Leader 2";
    assert_eq!(heard[..13].join("\n"), expected);
    let rest = heard[13..].join("\n");
    for part in [
        "Appended { first: Index(4)",
        "sent append false",
        "Refused { from: PeerId(9), reason: \"it is from outside the configuration\" }",
        "Follower 3",
        "Truncated { from: Index(3) }",
        "Appended { first: Index(3)",
        "Committed(Index(3))",
        "sent accepted true",
    ] {
        assert!(rest.contains(part), "{part} in\n{rest}");
    }
}

/// Row 106: a leader whose disk hangs hands over to a voter whose disk has come further.
#[test]
fn a_leader_whose_disk_hangs_hands_over() {
    let mut solo = idle_leader();
    let index = solo.propose("x");
    solo.take_ready();
    let stamp = solo.last_stamp();
    // Its disk hangs, the others' do not.
    for peer in [2, 3] {
        let body = MessageBody::AppendAccepted { match_index: index, stamp };
        solo.step_only(peer, 2, body);
    }
    assert_eq!(solo.group.commit_index(), index);
    let hung_since = solo.now;
    let mut sent = Vec::new();
    while !sent.iter().any(|message: &raft::Message| message.body == MessageBody::TimeoutNow) {
        assert!(solo.group.deadline() > solo.now, "time goes on");
        solo.now = solo.group.deadline();
        assert!(solo.now <= hung_since + 2 * ELECTION, "at the latest");
        solo.group.tick(solo.now);
        sent = solo.take_ready();
        let stamp = solo.last_stamp();
        for peer in [2, 3] {
            solo.step_only(peer, 2, MessageBody::HeartbeatResponse { stamp, last_index: index });
        }
    }
    assert_eq!(solo.now, hung_since + 2 * ELECTION);
    assert!(solo.group.is_transferring());
}

/// The same if nobody else is further: then there is no use in it.
#[test]
fn a_leader_whose_disk_hangs_stays_if_nobody_is_better() {
    let mut solo = idle_leader();
    solo.propose("x");
    solo.take_ready();
    for _ in 0..60 {
        solo.wait(100);
        solo.group.tick(solo.now);
        let sent = solo.take_ready();
        assert!(sent.iter().all(|message| message.body != MessageBody::TimeoutNow));
        let stamp = solo.last_stamp();
        for peer in [2, 3] {
            solo.step_only(peer, 2, MessageBody::HeartbeatResponse { stamp, last_index: Index(4) });
        }
        assert!(solo.group.deadline() > solo.now, "it does not spin");
    }
    assert_eq!(solo.group.role(), Role::Leader);
    assert!(!solo.group.is_transferring());
}

/// What is committed may be handed out before it is durable here, if the caller wants that; by default it never is.
#[test]
fn entries_are_applied_ahead_of_the_disk_only_if_that_is_allowed() {
    let log = entries(&[1, 1, 1, 1]);
    let handed_out = |ahead| {
        let mut options = options(1);
        options.behaviour_mut().apply_ahead_entries_max = ahead;
        let mut solo = Solo::start(options, disk(&[1, 2, 3], &[], 1), Instant::ZERO);
        solo.step_only(2, 1, append(first_position(), &log, 4));
        solo.take_ready();
        solo.committed.len()
    };
    assert_eq!((handed_out(0), handed_out(2), handed_out(9)), (0, 2, 3));
}

#[test]
fn what_changes_configuration_or_region_is_never_applied_ahead_of_the_disk() {
    let configuration = crate::cluster::configuration(&[1, 2, 3], &[4]).encode();
    for (kind, payload) in
        [(types::EntryKind::Configuration, configuration), (types::EntryKind::Region, "split".into())]
    {
        let mut options = options(1);
        options.behaviour_mut().apply_ahead_entries_max = 9;
        let mut solo = Solo::start(options, disk(&[1, 2, 3], &[], 1), Instant::ZERO);
        let mut log = entries(&[1, 1, 1]);
        (log[1].kind, log[1].payload) = (kind, payload);
        solo.step_only(2, 1, append(first_position(), &log, 4));
        solo.take_ready();
        assert_eq!(solo.committed.len(), 1, "{kind:?}");
        solo.settle();
        assert_eq!(solo.committed.len(), 3, "{kind:?}");
    }
}
