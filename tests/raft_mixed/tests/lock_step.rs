//! The same changes of the configuration in a cluster all ours and in one all theirs: the same at rest.
//!
//! In lock step because ours is in force when it is appended and theirs when it is applied. The leader stays a voter: ours
//! hands over when it is out, theirs leaves that to its user.

use raft_mixed::{Cluster, Kind};
use types::PeerId;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What is done to both clusters.
#[derive(Clone, Debug)]
enum Operation {
    Propose(Vec<u8>),
    Change(Vec<PeerId>),
    Transfer(PeerId),
}

/// Does it, and waits until the cluster is at rest.
fn perform(cluster: &mut Cluster, operation: &Operation) {
    let name = format!("{operation:?}");
    match operation {
        Operation::Propose(payload) => {
            let count = cluster.commands().len();
            while !cluster.ask(|leader, now| leader.propose(now, payload)) {
                cluster.run(1);
            }
            cluster.run_until(&name, |cluster| cluster.commands().len() > count);
        }
        Operation::Change(voters) => {
            if cluster.membership().is_some_and(|(present, _)| present == *voters) {
                return;
            }
            let is_done = |cluster: &Cluster| cluster.membership().is_some_and(|(now, _)| now == *voters);
            // Theirs takes a change and makes an empty entry of it while it cannot tell whether an earlier one is
            // applied: whoever wants the change asks again.
            let has_come = (0..100).any(|_| {
                let is_taken = cluster.ask(|leader, now| leader.change(now, voters));
                cluster.run_until_within(if is_taken { 2_000 } else { 100 }, is_done)
            });
            assert!(has_come, "{name}: asked for in vain");
        }
        Operation::Transfer(to) => {
            cluster.ask(|leader, now| {
                leader.transfer(now, *to);
                true
            });
            cluster.run_until(&name, |cluster| cluster.leader() == Some(*to));
        }
    }
    cluster.run_until("rest", |cluster| cluster.is_level() && cluster.membership().is_some());
}

/// An operation that makes sense when `leader` leads and these are voters.
fn next(random: &mut Random, leader: PeerId, voters: &[PeerId], number: u64) -> Operation {
    match random.below(4) {
        0 => {
            let mut goal: Vec<_> =
                (1..=5).map(PeerId).filter(|peer| *peer == leader || random.below(2) == 0).collect();
            goal.sort_unstable();
            Operation::Change(goal)
        }
        1 if voters.len() > 1 => {
            let others: Vec<_> = voters.iter().filter(|peer| **peer != leader).collect();
            let at = usize::try_from(random.below(others.len() as u64)).unwrap_or_default();
            Operation::Transfer(*others[at])
        }
        _ => Operation::Propose(format!("command {number}").into_bytes()),
    }
}

#[test]
fn configurations_change_alike() {
    let mut change_count = 0;
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut clusters = [Kind::Ours, Kind::Theirs].map(|kind| Cluster::with_learners(&[kind; 5], 3, seed));
        for cluster in &mut clusters {
            cluster.run_until("a leader", |cluster| cluster.leader().is_some());
            perform(cluster, &Operation::Transfer(PeerId(1)));
        }
        for number in 0..40 {
            let [ours, theirs] = &mut clusters;
            let (voters, learners) = ours.membership().expect("it is at rest");
            assert_eq!(theirs.membership(), Some((voters.clone(), learners)), "seed {seed}");
            assert_eq!(ours.commands(), theirs.commands(), "seed {seed}");
            assert_eq!(ours.leader(), theirs.leader(), "seed {seed}");
            let leader = ours.leader().expect("it is at rest");
            let operation = next(&mut random, leader, &voters, number);
            change_count += usize::from(matches!(operation, Operation::Change(_)));
            for cluster in &mut clusters {
                perform(cluster, &operation);
            }
        }
    }
    assert!(change_count > 200, "only {change_count} changes");
}
