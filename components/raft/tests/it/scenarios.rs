//! Named histories of whole clusters.

use raft::{Message, MessageBody, Options, Role};
use types::{ConfigurationChange, Entry, EntryKind, HardState, Index, PeerId, PeerRole, Term};

use crate::{
    cluster::{Cluster, change_to, configuration, first_position, kind, peer},
    disk::Disk,
    solo,
};

fn cluster(peer_count: u64, voters: &[u64]) -> Cluster {
    Cluster::new(5, peer_count, voters, &[], &Options::new(PeerId(1), 0))
}

/// Replaces what a peer remembers before anything has happened.
fn set_disk(cluster: &mut Cluster, id: u64, disk: Disk) {
    let now = cluster.now;
    let host = cluster.hosts.get_mut(&PeerId(id)).expect("it exists");
    host.crash(0);
    host.disk = disk;
    host.start(now, true);
}

/// A configuration entry of this term behind the last of `disk`.
fn append_change(disk: &mut Disk, term: u64, change: &ConfigurationChange) {
    let prev = disk.last();
    let (index, term, kind, payload) =
        (prev.index.next(), Term(term), EntryKind::Configuration, change.encode());
    let chain = prev.chain.link(index, term, kind, &payload);
    disk.entries.insert(index, Entry { index, term, kind, payload, chain });
    disk.hard_state.term = disk.hard_state.term.max(term);
}

/// Raft, figure 7: whatever followers have or lack, a leader's log becomes everyone's.
#[test]
fn figure_7() {
    let mut cluster = cluster(7, &[1, 2, 3, 4, 5, 6, 7]);
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let logs: [&[u64]; 7] = [
        &leader,
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (id, log) in (1..).zip(logs) {
        set_disk(&mut cluster, id, solo::disk(&[1, 2, 3, 4, 5, 6, 7], log, 7));
    }
    cluster.elect(1);
    cluster.run(500);
    let last = cluster.group(1).last();
    assert_eq!((last.term, last.index), (Term(8), Index(12)));
    for id in 1..=7 {
        assert_eq!(cluster.host(id).disk.last(), last, "peer {id}");
        assert_eq!(cluster.group(id).commit_index(), last.index);
    }
}

/// Checklist 1B-Q5: two leaders that each change the configuration by one server, starting from the same one, could end
/// with majorities that do not meet. A leader changes nothing before an entry of its own term is committed.
#[test]
fn two_leaders_cannot_build_on_different_configurations() {
    let mut cluster = cluster(5, &[1, 2, 3, 4]);
    cluster.elect(1);
    // Peer 1 appends a change to itself and 5 only.
    cluster.partition(&[&[1, 5], &[2, 3, 4]]);
    let first = cluster.change(1, &[1, 2, 3, 4, 5], &[]).expect("up").expect("it may");
    cluster.run(300);
    assert!(cluster.group(1).commit_index() < first);
    cluster.run_until(3_000, |cluster| cluster.leaders().iter().any(|id| *id != 1));
    let second = cluster.leader().expect("just seen");
    // It leads, but has committed nothing yet.
    assert!(!cluster.group(second).has_committed_in_term());
    let refused = cluster.change(second, &[2, 3, 4], &[1]).expect("up");
    assert!(matches!(refused, Err(raft::Error::ChangeRefused(_))), "{refused:?}");
    cluster.run(100);
    cluster.change(second, &[2, 3, 4], &[1]).expect("up").expect("it may now");
    cluster.run(300);
    // Now the first returns, with a log that nobody elects any more.
    cluster.partition(&[&[1, 4, 5], &[2, 3]]);
    cluster.run(5_000);
    assert!(cluster.leaders().iter().all(|id| [2, 3].contains(id)), "{}", cluster.picture());
    cluster.blocked.clear();
    cluster.run_until(5_000, |cluster| cluster.is_settled(&[2, 3, 4]));
}

/// Checklist 1B-Q1: every voter but one is replaced, and the leader is among those who go.
#[test]
fn a_leader_removes_itself_and_hands_over() {
    let mut cluster = cluster(5, &[1, 2, 3]);
    cluster.elect(2);
    cluster.change(2, &[1, 4, 5], &[]).expect("up").expect("it may");
    cluster.run_until(2_000, |cluster| cluster.is_settled(&[1, 4, 5]));
    assert_eq!(cluster.group(2).role(), Role::Follower);
    // Who goes is told so: it is a learner now.
    cluster.run(300);
    assert_eq!(cluster.group(2).configuration().learners, [PeerId(2), PeerId(3)]);
    assert_eq!(cluster.group(3).configuration().learners, [PeerId(2), PeerId(3)]);
}

/// The trap of braft I#407: C_new has reached only those whom it removes, and all start again. Only they have logs new
/// enough to be elected, so they must be allowed to campaign.
#[test]
fn who_is_removed_may_campaign_until_that_is_committed() {
    let mut cluster = cluster(5, &[1, 2, 3]);
    let present = configuration(&[1, 2, 3], &[]);
    let joint = change_to(&present, &[1, 4, 5], &[]);
    for id in 1..=5 {
        let mut disk = Disk::first(&present, first_position());
        append_change(&mut disk, 2, &joint);
        if [2, 3].contains(&id) {
            append_change(&mut disk, 2, &joint.leave_joint());
        }
        disk.hard_state = HardState { term: Term(2), vote: None, commit: Index(1) };
        set_disk(&mut cluster, id, disk);
    }
    cluster.run_until(20_000, |cluster| cluster.is_settled(&[1, 4, 5]));
}

/// D4 of the checklist: membership is no reason to refuse a vote. Peer 3 knows nothing of peer 4 and must elect it.
#[test]
fn a_voter_elects_a_candidate_that_it_does_not_know() {
    let mut cluster = cluster(5, &[1, 2, 3]);
    let present = configuration(&[1, 2, 3], &[]);
    let joint = change_to(&present, &[1, 4, 5], &[]);
    for id in [1, 2, 4, 5] {
        let mut disk = Disk::first(&present, first_position());
        append_change(&mut disk, 2, &joint);
        if id == 4 {
            append_change(&mut disk, 2, &joint.leave_joint());
            disk.entries.pop_last();
            let prev = disk.last();
            let (index, term, kind) = (prev.index.next(), Term(2), EntryKind::Command);
            let chain = prev.chain.link(index, term, kind, b"more");
            let payload = bytes::Bytes::from_static(b"more");
            disk.entries.insert(index, Entry { index, term, kind, payload, chain });
        }
        disk.hard_state = HardState { term: Term(2), vote: None, commit: Index(1) };
        set_disk(&mut cluster, id, disk);
    }
    cluster.crash(1);
    cluster.run_until(20_000, |cluster| cluster.leader() == Some(4));
}

/// Row 31: a peer that was cut off comes back and nobody notices.
#[test]
fn who_returns_disturbs_nobody() {
    for seed in 0..30 {
        let mut cluster = Cluster::new(seed, 3, &[1, 2, 3], &[], &Options::new(PeerId(1), 0));
        cluster.elect(1);
        let term = cluster.group(1).term();
        cluster.partition(&[&[1, 2], &[3]]);
        cluster.run(5_000 + seed * 37);
        cluster.blocked.clear();
        cluster.run(2_000);
        assert_eq!(cluster.leader(), Some(1));
        assert_eq!(cluster.group(3).term(), term);
        assert_eq!(cluster.group(3).leader(), Some(PeerId(1)));
    }
}

/// D13: with the leader's store known to be down, the others elect when their promises end, not an election timeout
/// later.
#[test]
fn suspicion_makes_failover_quick() {
    let mut worst = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed, 3, &[1, 2, 3], &[], &Options::new(PeerId(1), 0));
        cluster.elect(1);
        cluster.run(1_000 + seed);
        cluster.crash(1);
        let crashed_at = cluster.now;
        cluster.run(5);
        for id in [2, 3] {
            cluster.with(id, |group, now| group.suspect_leader(now));
        }
        cluster.run_until(3_000, |cluster| {
            cluster.leader().is_some_and(|id| id != 1 && cluster.group(id).has_committed_in_term())
        });
        worst = worst.max(cluster.now.since(crashed_at).as_millis());
    }
    println!("slowest failover {worst} ms");
    assert!(worst <= 1_100, "{worst} ms");
}

/// Row 45: few rounds, even when all campaign at the same moment.
#[test]
fn simultaneous_campaigns_are_decided_soon() {
    let mut worst = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed, 5, &[1, 2, 3, 4, 5], &[], &Options::new(PeerId(1), 0));
        for id in 1..=5 {
            cluster.with(id, |group, now| group.campaign(now, raft::CampaignReason::Wish));
        }
        let started_at = cluster.now;
        cluster.run_until(5_000, |cluster| cluster.leader().is_some());
        worst = worst.max(cluster.now.since(started_at).as_millis());
    }
    println!("slowest election {worst} ms");
    assert!(worst <= 1_500, "{worst} ms");
}

/// Row 55: a learner that was wiped catches up in a group that says nothing of its own accord.
#[test]
fn a_wiped_learner_catches_up_in_an_idle_group() {
    let mut cluster = Cluster::new(5, 4, &[1, 2, 3], &[4], &Options::new(PeerId(1), 0));
    cluster.elect(1);
    cluster.propose(1, "x").expect("up").expect("leads");
    cluster.run(500);
    let last = cluster.group(1).last();
    assert_eq!(cluster.group(4).commit_index(), last.index);
    let host = cluster.hosts.get_mut(&PeerId(4)).expect("it exists");
    host.flushed = (Index(0), Default::default());
    set_disk(&mut cluster, 4, Disk::default());
    cluster.run(1_000);
    assert_eq!(cluster.group(4).last(), last);
    assert_eq!(cluster.group(4).truncated().index, last.index, "by a snapshot");
}

/// D15: a voter comes back without the end of its log. The leader says so, and repairs it all the same.
#[test]
fn a_voter_that_forgot_is_reported() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    for payload in ["a", "b", "c"] {
        cluster.propose(1, payload).expect("up").expect("leads");
        cluster.run(50);
    }
    let last = cluster.group(1).last();
    cluster.crash(3);
    let host = cluster.hosts.get_mut(&PeerId(3)).expect("it exists");
    host.disk.entries.retain(|index, _| *index < last.index.prev());
    host.disk.hard_state.commit = Index::FIRST;
    assert!(cluster.memory_lost.is_empty(), "it is only down");
    cluster.restart(3);
    cluster.run(1_000);
    assert_eq!(cluster.memory_lost, [(PeerId(1), PeerId(3))]);
    assert_eq!(cluster.group(3).last(), last);
    // Who is only down, or cut off, has lost nothing.
    cluster.crash(2);
    cluster.run(300);
    cluster.restart(2);
    cluster.partition(&[&[1, 3], &[2]]);
    cluster.propose(1, "d").expect("up").expect("leads");
    cluster.run(2_000);
    cluster.blocked.clear();
    cluster.run(1_000);
    assert_eq!(cluster.memory_lost.len(), 1);
}

/// An empty peer that is added is started by a snapshot, although the log still has everything (D15).
#[test]
fn a_new_peer_is_started_by_a_snapshot() {
    let mut cluster = cluster(4, &[1, 2, 3]);
    cluster.elect(1);
    cluster.change(1, &[1, 2, 3], &[4]).expect("up").expect("it may");
    cluster.run(500);
    assert_eq!(cluster.delivered.get("snapshot"), Some(&1));
    assert_eq!(cluster.group(4).last(), cluster.group(1).last());
    cluster.change(1, &[1, 2, 3, 4], &[]).expect("up").expect("it may");
    cluster.run_until(1_000, |cluster| cluster.is_settled(&[1, 2, 3, 4]));
}

#[test]
fn a_transfer_takes_two_round_trips() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.run(300);
    let started_at = cluster.now;
    cluster.with(1, |group, now| group.transfer_leader(now, PeerId(3))).expect("up").expect("it may");
    cluster.run_until(100, |cluster| cluster.leader() == Some(3));
    assert!(cluster.now.since(started_at).as_millis() <= 5);
}

/// A transfer whose target is dead is given up, and proposals are taken again.
#[test]
fn a_transfer_to_the_dead_is_given_up() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.crash(3);
    cluster.propose(1, "3 lacks this").expect("up").expect("leads");
    cluster.with(1, |group, now| group.transfer_leader(now, PeerId(3))).expect("up").expect("it may");
    assert!(cluster.propose(1, "dropped").expect("up").is_err());
    cluster.run(700);
    cluster.propose(1, "taken").expect("up").expect("leads");
    assert_eq!(cluster.leader(), Some(1));
    assert!(cluster.group(1).lease(cluster.host(1).clock(cluster.now)).is_some(), "it was never told");
}

/// An idle group exchanges heartbeats and nothing else.
#[test]
fn an_idle_group_says_little() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.run(500);
    cluster.delivered.clear();
    cluster.run(1_000);
    let kinds: Vec<_> = cluster.delivered.iter().map(|(kind, count)| (*kind, *count)).collect();
    assert!(matches!(kinds[..], [("alive", 18..=20), ("heartbeat", 18..=20)]), "{kinds:?}");
}

/// The prompt commit: with one client and nothing else to say, a follower knows of a commit a trip after the leader.
#[test]
fn a_follower_applies_a_trip_after_the_leader() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.run(500);
    let (index, _) = cluster.propose(1, "x").expect("up").expect("leads");
    cluster.run_until(50, |cluster| cluster.group(1).commit_index() >= index);
    let committed_at = cluster.now;
    cluster.run_until(50, |cluster| (2..=3).all(|id| cluster.group(id).commit_index() >= index));
    assert!(cluster.now.since(committed_at).as_millis() <= 2);
}

/// Whoever cannot hear the leader but can speak to it must not depose it; nor does it block the others.
#[test]
fn a_deaf_peer_is_harmless() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.blocked.insert((PeerId(1), PeerId(3)));
    cluster.run(5_000);
    assert_eq!(cluster.leader(), Some(1));
    assert!(cluster.group(1).lease(cluster.host(1).clock(cluster.now)).is_some());
}

/// Learners and new peers never campaign (row 48).
#[test]
fn a_learner_never_campaigns() {
    let mut cluster = Cluster::new(5, 4, &[1, 2, 3], &[4], &Options::new(PeerId(1), 0));
    cluster.elect(1);
    for id in 1..=3 {
        cluster.crash(id);
    }
    cluster.filter = Some(|message: &Message| {
        assert!(message.from != PeerId(4) || !kind(&message.body).contains('?'), "{message:?}");
        false
    });
    cluster.with(4, |group, now| group.campaign(now, raft::CampaignReason::Wish));
    cluster.run(5_000);
    assert_eq!(cluster.group(4).role(), Role::Follower);
}

/// Changes that are not allowed, and why.
#[test]
fn malformed_changes_are_refused() {
    let mut cluster = cluster(5, &[1, 2, 3]);
    cluster.elect(1);
    let mut refuse = |peers: &[(u64, PeerRole)]| {
        let peers = peers.iter().map(|(id, role)| peer(*id, *role)).collect();
        let change = ConfigurationChange { peers, change_id: 3 };
        let result = cluster.with(1, |group, now| group.propose_conf_change(now, change)).expect("up");
        assert!(result.is_err(), "{result:?}");
    };
    use PeerRole::{DemotingVoter, IncomingVoter, Learner, Voter};
    refuse(&[(1, Voter), (2, Voter), (3, Voter)]);
    refuse(&[(1, Voter), (2, Voter), (3, Voter), (4, Voter)]);
    refuse(&[(1, Voter), (2, Voter)]);
    refuse(&[(1, Voter), (2, Voter), (3, Learner)]);
    refuse(&[(1, Voter), (2, Voter), (4, IncomingVoter)]);
    refuse(&[(1, Voter), (2, IncomingVoter), (3, Voter)]);
    refuse(&[(1, Voter), (2, Voter), (3, DemotingVoter), (4, DemotingVoter)]);
    refuse(&[(1, DemotingVoter), (2, DemotingVoter), (3, DemotingVoter)]);
    refuse(&[(2, Voter), (1, Voter), (3, Voter), (4, Learner)]);
    cluster.change(1, &[1, 2, 3], &[4]).expect("up").expect("it may");
    let again = cluster.change(1, &[1, 2, 3], &[4, 5]).expect("up");
    assert!(matches!(again, Err(raft::Error::ChangeRefused(_))), "one at a time");
    cluster.run(100);
    cluster.change(1, &[1, 2, 3], &[4, 5]).expect("up").expect("it may");
    assert!(matches!(cluster.change(2, &[1, 2], &[]), Some(Err(raft::Error::NotLeader))));
}

/// A read of a leader that has been replaced is never answered with an index.
#[test]
fn a_deposed_leader_confirms_no_read() {
    let mut cluster = cluster(3, &[1, 2, 3]);
    cluster.elect(1);
    cluster.partition(&[&[1], &[2, 3]]);
    cluster.run_until(3_000, |cluster| {
        cluster.leader().is_some_and(|id| id != 1 && cluster.group(id).has_committed_in_term())
    });
    // It stepped down long ago; a heartbeat answered before would be the danger.
    cluster.read(1, 1);
    cluster.run(1_000);
    assert_eq!(cluster.host(1).answers, [(1, None)]);
    let late = MessageBody::HeartbeatResponse { stamp: Default::default(), last_index: Index(2) };
    let message = Message { from: PeerId(2), to: PeerId(1), term: Term(2), body: late };
    cluster.with(1, |group, now| group.step(now, message));
}
