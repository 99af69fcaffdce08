//! What stores know of the size of their regions.

use std::time::Duration;

use types::{KeyRange, Outcome, RegionId, RegionSize, StoreId};

use crate::{
    FIRST,
    cluster::{CHILD, Cluster},
};

/// What a pair of these tests counts: a kind byte, a key of one, a flags byte and the value.
fn size_of(values: &[&str]) -> RegionSize {
    let size_bytes = values.iter().map(|value| 3 + value.len() as u64).sum();
    RegionSize { size_bytes, key_count: values.len() as u64 }
}

fn size(cluster: &Cluster, store: StoreId, region_id: RegionId) -> RegionSize {
    cluster.picture(store, region_id).expect("the region lives here").size
}

#[test]
fn what_is_written_counts_and_a_restart_forgets_and_doubles_nothing() {
    let mut cluster = Cluster::with_stores(1);
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), RegionSize::default());
    for (key, value) in [("a", "1"), ("b", "22"), ("a", "333")] {
        assert_eq!(cluster.put(FIRST, key, value), Ok(Outcome::Done));
    }
    let known = size_of(&["1", "22", "333"]);
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), known, "what is replaced counts on");
    // With the last write un-flushed, and with all of it flushed.
    for _ in 0..2 {
        cluster.restart(FIRST);
        cluster.advance(Duration::from_secs(2));
        assert_eq!(size(&cluster, FIRST, RegionId::FIRST), known);
    }
}

#[test]
fn a_peer_that_starts_by_snapshot_has_counted_what_came() {
    let mut cluster = Cluster::with_stores(3);
    for (key, value) in [("a", "1"), ("b", "22"), ("a", "333")] {
        assert_eq!(cluster.put(FIRST, key, value), Ok(Outcome::Done));
    }
    cluster.grow_to_three_voters();
    assert_eq!(cluster.put(FIRST, "c", "4"), Ok(Outcome::Done));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), size_of(&["1", "22", "333", "4"]));
    let counted = size_of(&["22", "333", "4"]);
    assert_eq!(size(&cluster, StoreId(1_001), RegionId::FIRST), counted);
    cluster.restart(StoreId(1_001));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(size(&cluster, StoreId(1_001), RegionId::FIRST), counted);
}

#[test]
fn the_parts_of_a_split_share_what_the_whole_held() {
    let mut cluster = Cluster::with_stores(3);
    cluster.grow_to_three_voters();
    for (key, value) in [("a", "1"), ("b", "22"), ("z", "333")] {
        assert_eq!(cluster.put(FIRST, key, value), Ok(Outcome::Done));
    }
    let split = cluster.split_at(FIRST, "m", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.advance(Duration::from_millis(200));
    let share = RegionSize { size_bytes: 8, key_count: 2 };
    for restarted in cluster.stores() {
        for store in cluster.stores() {
            assert_eq!(size(&cluster, store, RegionId::FIRST), share, "store {store}");
            assert_eq!(size(&cluster, store, CHILD), share, "store {store}");
        }
        cluster.restart(restarted);
        cluster.advance(Duration::from_secs(2));
    }
    assert_eq!(cluster.ranges(FIRST).last(), Some(&(CHILD, KeyRange::new("m", ""))));
}
