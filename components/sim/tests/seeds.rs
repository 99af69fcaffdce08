//! A hundred seeds: every one of them safe, live and linearizable, and together enough of everything that goes wrong.

use sim::{
    run::{Goal, Totals},
    runner::{self, run_seed},
};

#[test]
fn a_hundred_seeds_hold() {
    let goal = Goal::default();
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    let mut regions_most = 0;
    runner::run_all(1..101, goal, 2, false, |end| {
        totals.add(&end.totals);
        regions_most = regions_most.max(end.totals.regions);
        match end.failure {
            Some(failure) => failures.push(format!("cargo sim --seed {}: {failure}", end.seed)),
            None => {
                assert!(end.totals.time >= goal.time, "seed {} took {:?}", end.seed, end.totals.time);
                assert!(end.totals.operations >= goal.operations, "seed {}: {}", end.seed, end.totals);
                assert!(end.totals.faults >= goal.faults, "seed {}: {}", end.seed, end.totals);
            }
        }
    });
    println!("         {}\ntotal    {totals}\n{regions_most} regions at the most", Totals::HEADER);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(totals.crashes > 0);
    assert!(totals.power_losses > 0);
    assert!(totals.pauses > 0);
    assert!(totals.partitions > 0);
    assert!(totals.transfers > 0);
    assert!(totals.moves > 0);
    assert!(totals.learners > 0);
    assert!(totals.splits > 0);
    assert!(totals.repeats > 0);
    assert!(totals.regions > 400, "some runs begin with many regions");
    assert!(regions_most > 150, "some with as many as there may be: {regions_most}");
    assert_eq!(totals.by_kind.len(), 20, "every kind of fault: {:?}", totals.by_kind);
    assert!(totals.own_regions > 0);
    assert!(totals.returns > 0);
    assert!(totals.snapshots > 0);
    assert!(totals.sleeps > 0);
    assert!(totals.wakes > 0);
    assert!(totals.timestamps > 0);
    assert!(totals.refusals > 0, "some stores have little memory");
    assert!(totals.succeeded * 2 > totals.operations, "most operations succeed in spite of everything");
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in [3, 1_000_003] {
        let [one, other] = [(); 2].map(|()| run_seed(seed, Goal::default(), true));
        let (one_trace, other_trace) = (one.trace.expect("it was kept"), other.trace.expect("it was kept"));
        let difference = one_trace.lines().zip(other_trace.lines()).find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}: the first line that differs");
        assert!(one_trace == other_trace, "seed {seed}: one run has more lines than the other");
        assert_eq!((one.digest, one.totals, one.failure), (other.digest, other.totals, other.failure));
    }
}
