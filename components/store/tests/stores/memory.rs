//! What a peer that sleeps costs its store in memory (D7).

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use crate::{
    FIRST,
    cluster::{Cluster, STORES},
};

/// Counts what each thread holds: a test and its stores are one thread.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
    static ALLOCATION_COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that ends has nothing to count any more.
    HELD_BYTES.try_with(|held| held.set(change(held.get()))).unwrap_or_default();
}

#[allow(unsafe_code, reason = "an allocator cannot be replaced without")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATION_COUNT.try_with(|count| count.set(count.get() + 1)).unwrap_or_default();
        count(|held| held.wrapping_add(layout.size()));
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(|held| held.wrapping_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What this thread holds.
pub(crate) fn held_bytes() -> usize {
    HELD_BYTES.with(Cell::get)
}

/// How often this thread has allocated something.
fn allocation_count() -> usize {
    ALLOCATION_COUNT.with(Cell::get)
}

/// What each of three stores holds when region 2 is divided into so many more, and all of them sleep.
fn held_by_stores(count: u64) -> [usize; 3] {
    let mut cluster = Cluster::with_stores(3);
    cluster.is_forgetful = true;
    cluster.grow_to_three_voters();
    cluster.sent.clear();
    cluster.split_into(FIRST, count);
    // What a split has made is remembered until the next one: of each region there is one more descriptor until then.
    let again = cluster.split_at(FIRST, "k", 100);
    assert_eq!(cluster.admin(FIRST, again), Ok(()));
    // Until nothing is left of the logs.
    cluster.pass(Duration::from_secs(200));
    for store in STORES {
        assert!(cluster.asleep_count(store) as u64 > count, "store {store}");
    }
    STORES.map(|store| cluster.end(store))
}

/// The goal is 2 KiB. About 1.3 KiB of what is taken is the peer itself, half of that its Raft group.
#[test]
fn a_peer_that_sleeps_takes_no_more_than_it_did() {
    let (few, many) = (500, 2_000);
    let (with_few, with_many) = (held_by_stores(few), held_by_stores(many));
    let each: Vec<_> =
        (0..STORES.len()).map(|at| (with_many[at] - with_few[at]) as u64 / (many - few)).collect();
    println!("{each:?} bytes a peer; the first store leads");
    let mean = each.iter().sum::<u64>() / each.len() as u64;
    assert!(mean <= 3_584, "{each:?}");
}

/// Time that passes costs nothing: neither a timer nor a round of a raft worker, nor anything that is allocated.
#[test]
fn regions_that_sleep_make_no_work() {
    let taken = [100, 1_000].map(|count| {
        let mut cluster = Cluster::with_stores(3);
        cluster.is_forgetful = true;
        cluster.grow_to_three_voters();
        cluster.sent.clear();
        cluster.split_into(FIRST, count);
        cluster.pass(Duration::from_secs(200));
        for store in STORES {
            assert!(cluster.asleep_count(store) as u64 > count, "store {store}");
        }
        // The placement group sleeps where it is alone: no raft worker waits for anything.
        assert_eq!(STORES.map(|store| cluster.deadline(store, "raft-0")), [None; 3]);
        let before = allocation_count();
        cluster.pass(Duration::from_secs(20));
        allocation_count() - before
    });
    let [few, many] = taken;
    assert!(many <= few + few / 10, "{few} allocations for 100 regions in 20 s, {many} for 1,000");
}
