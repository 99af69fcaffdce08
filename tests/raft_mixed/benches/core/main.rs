//! Our core beside the crate `raft` 0.7, in one run: a step, propose to commit in a group of three, and 10,000 groups
//! ticked. Disks are vectors, messages are handed over without encoding.

mod ours;
mod theirs;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

/// Bytes of a put.
const PAYLOAD_BYTES: usize = 256;

/// Proposals that share a Ready.
const BATCHES: [u64; 3] = [1, 16, 128];

/// Groups that are ticked.
const GROUPS: u64 = 10_000;

fn configure(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3)).sample_size(30);
}

/// A follower takes an append of one entry, and answers when it is durable.
fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    configure(&mut group);
    let mut ours = ours::Follower::new();
    group.bench_function("ours", |bencher| bencher.iter(|| ours.step()));
    let mut theirs = theirs::Follower::new();
    group.bench_function("theirs", |bencher| bencher.iter(|| theirs.step()));
}

/// A batch of proposals is committed and applied by all three.
fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("propose to commit, three voters");
    configure(&mut group);
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        let mut ours = ours::Trio::new();
        group.bench_function(format!("{batch}/ours"), |bencher| bencher.iter(|| ours.commit(batch)));
        let mut theirs = theirs::Trio::new();
        group.bench_function(format!("{batch}/theirs"), |bencher| bencher.iter(|| theirs.commit(batch)));
    }
}

/// Followers that hear a heartbeat now and then, ticked when nothing is due.
fn tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10,000 groups ticked");
    configure(&mut group);
    group.throughput(Throughput::Elements(GROUPS));
    let mut ours = ours::Idle::new(GROUPS);
    group.bench_function("ours", |bencher| bencher.iter(|| ours.tick()));
    let mut theirs = theirs::Idle::new(GROUPS);
    group.bench_function("theirs", |bencher| bencher.iter(|| theirs.tick()));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    step(&mut criterion);
    commit(&mut criterion);
    tick(&mut criterion);
    criterion.final_summary();
}
