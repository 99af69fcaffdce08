//! Named histories of changes of the configuration, with everything that can go wrong in the middle.

use raft::{Options, Role};
use types::{Index, PeerId};

use crate::cluster::Cluster;

fn cluster(peer_count: u64, voters: &[u64]) -> Cluster {
    Cluster::new(5, peer_count, voters, &[], &Options::new(PeerId(1), 0))
}

/// Peers 4 and 5 of 5 are learners that have everything.
fn with_learners() -> Cluster {
    let mut cluster = cluster(5, &[1, 2, 3]);
    cluster.elect(1);
    cluster.change(1, &[1, 2, 3], &[4, 5]).expect("up").expect("it may");
    cluster.run(500);
    cluster
}

/// So many events after leader 2 was asked to change {1,2,3} to {1,4,5}.
fn in_a_change(step_count: u64) -> Cluster {
    let mut cluster = cluster(5, &[1, 2, 3]);
    cluster.elect(2);
    cluster.change(2, &[1, 4, 5], &[]).expect("up").expect("it may");
    for _ in 0..step_count {
        cluster.step();
    }
    cluster
}

/// Both newcomers die in the joint configuration: nobody could lead until they are back. The leader goes back instead,
/// and goes on leading.
#[test]
fn a_joint_configuration_without_its_incoming_half_is_abandoned() {
    let mut cluster = with_learners();
    let term = cluster.group(1).term();
    cluster.crash(4);
    cluster.crash(5);
    cluster.change(1, &[1, 4, 5], &[]).expect("up").expect("it may");
    assert!(cluster.group(1).configuration().is_joint());
    cluster.run(1_500);
    assert_eq!((cluster.leader(), cluster.group(1).term()), (Some(1), term), "{}", cluster.picture());
    assert!(cluster.is_settled(&[1, 2, 3]), "{}", cluster.picture());
    assert_eq!(cluster.group(1).configuration().learners, [PeerId(4), PeerId(5)]);
    let (index, _) = cluster.propose(1, "x").expect("up").expect("leads");
    cluster.run(100);
    assert!(cluster.group(2).commit_index() >= index);
    // They come back, with the abandoned configuration in their logs, and it is gone with the next append.
    cluster.restart(4);
    cluster.restart(5);
    cluster.run(1_000);
    assert_eq!(cluster.group(5).configuration().voters, [PeerId(1), PeerId(2), PeerId(3)]);
    cluster.change(1, &[1, 4, 5], &[]).expect("up").expect("it may");
    cluster.run_until(2_000, |cluster| cluster.is_settled(&[1, 4, 5]));
}

/// If the outgoing half is the silent one there is nothing to go back to.
#[test]
fn a_leader_without_its_outgoing_half_steps_down() {
    let mut cluster = with_learners();
    cluster.partition(&[&[1, 4, 5], &[2, 3]]);
    let joint = cluster.change(1, &[1, 4, 5], &[]).expect("up").expect("it may");
    cluster.run(3_000);
    assert_ne!(cluster.group(1).role(), Role::Leader);
    assert_eq!(cluster.group(1).last().index, joint, "nothing was appended behind it");
    cluster.blocked.clear();
    cluster.run_until(10_000, |cluster| cluster.is_settled(&[1, 4, 5]) || cluster.is_settled(&[1, 2, 3]));
}

/// Abandoned on demand, although both halves answer; and refused where there is nothing to abandon.
#[test]
fn a_joint_configuration_can_be_abandoned_by_its_leader() {
    let mut cluster = with_learners();
    let refused = cluster.with(1, |group, now| group.abort_change(now)).expect("up");
    assert!(matches!(refused, Err(raft::Error::ChangeRefused(_))), "{refused:?}");
    cluster.change(1, &[1, 4, 5], &[]).expect("up").expect("it may");
    cluster.with(1, |group, now| group.abort_change(now)).expect("up").expect("it is joint");
    cluster.run(200);
    assert!(cluster.is_settled(&[1, 2, 3]), "{}", cluster.picture());
    assert_eq!(cluster.with(2, |group, now| group.abort_change(now)), Some(Err(raft::Error::NotLeader)));
}

/// Before the joint entry a change is cancelled by dropping the learners: nothing of it is left.
#[test]
fn a_change_is_cancelled_before_the_joint_entry() {
    let mut cluster = with_learners();
    cluster.change(1, &[1, 2, 3], &[]).expect("up").expect("it may");
    cluster.run(100);
    assert!(cluster.is_settled(&[1, 2, 3]));
    assert!(cluster.group(1).configuration().learners.is_empty());
    assert_eq!(cluster.group(1).status().peers.len(), 2, "nothing is sent to them any more");
}

/// Checklist 1B-Q1 and Q2: {1,2,3} becomes {1,4,5} under leader 2, and each peer in turn crashes after each message. The
/// configuration ends as the old or the new one, and there is a leader in it.
#[test]
fn a_crash_of_any_peer_at_any_point_of_a_change_heals() {
    let (mut old_count, mut new_count) = (0, 0);
    for victim in 1..=5 {
        for step_count in 0..150 {
            let mut cluster = in_a_change(step_count);
            cluster.crash(victim);
            cluster.run(1_000 + step_count * 7);
            cluster.restart(victim);
            let is_done =
                |cluster: &Cluster| cluster.is_settled(&[1, 4, 5]) || cluster.is_settled(&[1, 2, 3]);
            cluster.run_until(20_000, is_done);
            if cluster.is_settled(&[1, 4, 5]) {
                new_count += 1;
            } else {
                old_count += 1;
            }
        }
    }
    println!("old {old_count}, new {new_count}");
    assert!(new_count > old_count, "a change is rarely lost");
}

/// 1B-Q1 (d): all peers crash after each message of the change; there is always a leader again.
#[test]
fn a_crash_of_all_at_any_point_of_a_change_heals() {
    for step_count in 0..150 {
        let mut cluster = in_a_change(step_count);
        for id in 1..=5 {
            cluster.crash(id);
        }
        cluster.run(10);
        for id in 1..=5 {
            cluster.restart(id);
        }
        let is_done = |cluster: &Cluster| cluster.is_settled(&[1, 4, 5]) || cluster.is_settled(&[1, 2, 3]);
        cluster.run_until(20_000, is_done);
    }
}

/// A leader of the joint configuration that is told to abandon it while any peer crashes: still one history, and the
/// group serves.
#[test]
fn a_crash_of_any_peer_while_a_change_is_abandoned_heals() {
    for victim in 1..=5 {
        for step_count in 0..60 {
            let mut cluster = with_learners();
            cluster.change(1, &[1, 4, 5], &[]).expect("up").expect("it may");
            for _ in 0..step_count % 12 {
                cluster.step();
            }
            // Refused if C_new is there already.
            let result = cluster.with(1, |group, now| group.abort_change(now)).expect("up");
            assert!(result.is_ok() || !cluster.group(1).configuration().is_joint());
            for _ in 0..step_count {
                cluster.step();
            }
            cluster.crash(victim);
            cluster.run(1_000);
            cluster.restart(victim);
            let is_done =
                |cluster: &Cluster| cluster.is_settled(&[1, 4, 5]) || cluster.is_settled(&[1, 2, 3]);
            cluster.run_until(20_000, is_done);
        }
    }
}

/// Three of five are lost for good; what the other two have lives on, and they serve again.
#[test]
fn two_survivors_of_five_go_on() {
    let mut cluster = cluster(5, &[1, 2, 3, 4, 5]);
    cluster.elect(3);
    cluster.propose(3, "kept").expect("up").expect("leads");
    cluster.run(300);
    // Only peer 2 of the survivors gets the last one.
    cluster.blocked.insert((PeerId(3), PeerId(1)));
    let (kept, _) = cluster.propose(3, "kept too").expect("up").expect("leads");
    cluster.run(5);
    assert!(cluster.group(1).last().index < kept);
    for id in 3..=5 {
        cluster.crash(id);
    }
    let lost: Vec<_> = (3..=5).map(PeerId).collect();
    cluster.run(3_000);
    assert!(cluster.leaders().is_empty());
    // The one that knows less is refused by the other.
    cluster.with(1, |group, now| group.force_leader(now, &lost, 9)).expect("up").expect("a quorum is lost");
    cluster.run(8_000);
    assert!(cluster.leaders().is_empty(), "{}", cluster.picture());
    cluster.with(2, |group, now| group.force_leader(now, &lost, 9)).expect("up").expect("a quorum is lost");
    cluster.run_until(3_000, |cluster| cluster.is_settled(&[1, 2]));
    assert!(cluster.group(1).commit_index() >= kept);
    let (index, _) = cluster.propose(2, "new").expect("up").expect("leads");
    cluster.run(100);
    assert!(cluster.group(1).applied_index() >= index);
    assert!(cluster.group(2).commit_index() > Index(0));
}
