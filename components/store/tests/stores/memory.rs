//! What a peer that sleeps costs its store in memory (D7).

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use types::{Outcome, RegionId};

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

/// What a region has been through before it sleeps.
#[derive(Clone, Copy)]
enum Past {
    /// A split has brought it into being.
    Born,
    /// Its stores have started again, it has found another leader, and a client has written to it.
    Used,
}

/// What each of three stores holds when region 2 is divided into so many more, and all of them sleep.
fn held_by_stores(past: Past, count: u64) -> [usize; 3] {
    let mut cluster = Cluster::with_stores(3);
    cluster.is_forgetful = true;
    cluster.grow_to_three_voters();
    cluster.sent.clear();
    let regions = cluster.split_into(FIRST, count);
    // Until nothing is left of the logs.
    cluster.pass(Duration::from_secs(200));
    match past {
        Past::Born => {}
        Past::Used => {
            cluster.lose_power(&STORES, &STORES);
            cluster.pass(Duration::from_secs(10));
            cluster.put_to_each(&regions);
            cluster.pass(Duration::from_secs(200));
        }
    }
    // What rounds of thousands of regions have needed goes with smaller ones.
    for value in ["1", "2", "3"] {
        assert_eq!(cluster.put_to(RegionId::FIRST, "a", value), Ok(Outcome::Done));
    }
    cluster.pass(Duration::from_secs(20));
    for store in STORES {
        assert!(cluster.asleep_count(store) as u64 > count, "store {store}");
    }
    STORES.map(|store| cluster.end(store))
}

/// What a sleeping peer costs, over all stores: with the few that lead.
fn bytes_of_a_peer(past: Past) -> u64 {
    let (few, many) = (500, 2_000);
    let (with_few, with_many) = (held_by_stores(past, few), held_by_stores(past, many));
    let bytes = with_many.iter().sum::<usize>() - with_few.iter().sum::<usize>();
    bytes as u64 / (many - few) / STORES.len() as u64
}

/// 2 KiB at the most (D7).
#[test]
fn a_peer_that_sleeps_takes_little() {
    let [born, used] = [Past::Born, Past::Used].map(bytes_of_a_peer);
    println!("a peer that was born and slept takes {born} bytes, one that has worked {used}");
    assert!(born <= 2_048, "{born} bytes");
    assert!(used <= 2_048, "{used} bytes");
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
