//! Two of one make and one of the other, under faults: equal committed prefixes, one leader a term.

use raft_mixed::{Cluster, Faults, Kind};

/// Events a seed.
const STEPS: usize = 100_000;

const FAULTS: Faults = Faults { drop: 30, duplicate: 30, late: 10, crash: 10, cut: 10 };

/// Runs seeds. The faults end before the steps do.
fn run(kinds: &[Kind], seeds: std::ops::Range<u64>) {
    let mut led = [0, 0];
    for seed in seeds {
        println!("seed {seed} of {kinds:?}");
        let mut cluster = Cluster::new(kinds, seed);
        cluster.faults = FAULTS;
        cluster.run(STEPS - 10_000);
        let faulty_count = cluster.committed_count();
        assert!(faulty_count > 300, "only {faulty_count} entries are committed");
        // The faults end, and all must come to the same.
        cluster.faults = Faults::default();
        cluster.run(10_000);
        let is_alive = cluster.committed_count() > faulty_count;
        assert!(is_alive, "nothing is committed after the faults");
        cluster.proposals_max = 0;
        cluster.run_until("all have all", Cluster::is_level);
        led = [led[0] + cluster.led_counts()[0], led[1] + cluster.led_counts()[1]];
        println!("  {} committed, led {:?}", cluster.committed_count(), cluster.led_counts());
    }
    assert!(led[0] > 10 && led[1] > 10, "both makes must lead: {led:?}");
}

#[test]
fn two_of_ours_and_one_of_theirs() {
    run(&[Kind::Ours, Kind::Theirs, Kind::Ours], 0..20);
}

#[test]
fn one_of_ours_and_two_of_theirs() {
    run(&[Kind::Theirs, Kind::Ours, Kind::Theirs], 100..120);
}
