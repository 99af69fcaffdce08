//! What stores know of the size of their regions.

use std::time::Duration;

use bytes::Bytes;
use store::{AdminAction, Error, LastSplit, SplitKeysWish, SplitWish};
use types::{Command, KeyRange, Outcome, Peer, PeerId, PeerRole, RegionId, RegionSize, StoreId};

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
    let follower = StoreId(1_002);
    for _ in 0..2 {
        assert_eq!(size(&cluster, follower, RegionId::FIRST), share);
        assert_eq!(size(&cluster, follower, CHILD), share);
        cluster.restart(follower);
        cluster.advance(Duration::from_secs(2));
    }
    // A leader is not content with a guess.
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), size_of(&["1", "22"]));
    assert_eq!(cluster.ranges(FIRST).last(), Some(&(CHILD, KeyRange::new("m", ""))));
}

/// Keys that name numbers, in order; each pair counts nine bytes.
fn put_numbers(cluster: &mut Cluster, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(cluster.put(FIRST, &format!("{number:04}"), "val"), Ok(Outcome::Done));
    }
}

fn key(number: u32) -> Bytes {
    format!("{number:04}").into()
}

#[test]
fn keys_are_found_that_divide_a_region_evenly() {
    let mut cluster = Cluster::with_stores(1);
    let found = cluster.find_split_keys(FIRST, RegionId::FIRST, SplitKeysWish::Middle).expect("it is empty");
    assert_eq!((found.keys, found.size, found.last_split), (vec![], RegionSize::default(), None));
    // More than one slice.
    put_numbers(&mut cluster, 0..6_000);
    let found = cluster.find_split_keys(FIRST, RegionId::FIRST, SplitKeysWish::Middle).expect("it is there");
    assert_eq!((found.keys.as_slice(), found.region.id), (&[key(3_000)][..], RegionId::FIRST));
    assert_eq!(found.size, RegionSize { size_bytes: 54_000, key_count: 6_000 });
    let parts =
        cluster.find_split_keys(FIRST, RegionId::FIRST, SplitKeysWish::Parts(4)).expect("it is there");
    assert_eq!(parts.keys, [key(1_500), key(3_000), key(4_500)]);
    for (region_id, wish) in [
        (RegionId::PLACEMENT, SplitKeysWish::Middle),
        (RegionId::FIRST, SplitKeysWish::Parts(1)),
        (RegionId::FIRST, SplitKeysWish::Parts(257)),
    ] {
        let refused = cluster.find_split_keys(FIRST, region_id, wish);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    // Whoever asks for a split again that was carried out is told of it with the keys.
    let split = cluster.split_at(FIRST, "3000", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    let found = cluster.find_split_keys(FIRST, RegionId::FIRST, SplitKeysWish::Middle).expect("it is there");
    assert_eq!(found.last_split, Some(LastSplit { change_id: 7, keys: vec![key(3_000)] }));
    assert_eq!((found.keys.as_slice(), found.size.key_count), (&[key(1_500)][..], 3_000));
    let nowhere = cluster.find_split_keys(FIRST, RegionId(77), SplitKeysWish::Middle);
    assert_eq!(nowhere, Err(Error::RegionNotFound(RegionId(77))));
}

#[test]
fn a_leader_wants_a_region_to_be_split_that_holds_too_much() {
    let mut cluster = Cluster::with_stores_that_split(3, 900);
    cluster.grow_to_three_voters();
    put_numbers(&mut cluster, 0..100);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.take_wishes(), [], "900 bytes are allowed");
    put_numbers(&mut cluster, 100..101);
    cluster.advance(Duration::from_millis(10));
    let epoch = cluster.region(FIRST).epoch;
    let wish = SplitWish { region_id: RegionId::FIRST, epoch, keys: vec![key(50)] };
    assert_eq!(cluster.take_wishes().as_slice(), std::slice::from_ref(&wish), "by the leader only");
    // Nothing comes of it: it is said again, ever less often, and not for ever.
    cluster.advance(Duration::from_secs(70));
    assert_eq!(cluster.take_wishes(), vec![wish; 5]);
}

#[test]
fn a_region_that_is_many_times_too_large_is_divided_at_once() {
    let mut cluster = Cluster::with_stores_that_split(1, 9);
    // Nobody counts while the region grows.
    cluster.hang(FIRST, "sizer");
    put_numbers(&mut cluster, 0..12);
    cluster.resume(FIRST, "sizer");
    cluster.advance(Duration::from_millis(10));
    let keys = cluster.take_wishes().pop().expect("it is wanted").keys;
    assert_eq!(keys, (1..12).map(key).collect::<Vec<_>>(), "as often as there are keys");
}

#[test]
fn parts_of_a_wanted_split_are_known_exactly_where_they_are_led() {
    let mut cluster = Cluster::with_stores_that_split(1, 900);
    put_numbers(&mut cluster, 0..50);
    put_numbers(&mut cluster, 0..51);
    cluster.advance(Duration::from_millis(10));
    assert_eq!(cluster.take_wishes(), [], "much was replaced");
    let held = RegionSize { size_bytes: 459, key_count: 51 };
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), held, "it was counted for that");
    put_numbers(&mut cluster, 51..101);
    cluster.advance(Duration::from_millis(10));
    assert_eq!(cluster.take_wishes().pop().map(|wish| wish.keys), Some(vec![key(50)]));
    // One more behind the count, of which each part gets half.
    put_numbers(&mut cluster, 101..102);
    let split = cluster.split_at(FIRST, "0050", 7);
    assert_eq!(cluster.admin(FIRST, split), Ok(()));
    cluster.advance(Duration::from_millis(10));
    let parts = |cluster: &Cluster| [RegionId::FIRST, CHILD].map(|id| size(cluster, FIRST, id));
    let part = |size_bytes, key_count| RegionSize { size_bytes, key_count };
    assert_eq!(parts(&cluster), [part(455, 51), part(464, 52)]);
    cluster.advance(Duration::from_secs(1));
    cluster.restart(FIRST);
    cluster.advance(Duration::from_secs(2));
    assert_eq!(parts(&cluster), [part(455, 51), part(464, 52)], "flushed with the split");
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.take_wishes(), [], "neither is too large");
}

#[test]
fn what_is_removed_is_noticed() {
    let mut cluster = Cluster::with_stores(1);
    put_numbers(&mut cluster, 0..100);
    let context = store::RequestContext { region_id: RegionId::FIRST, ..store::RequestContext::default() };
    let range = KeyRange::new("0010", "");
    assert_eq!(cluster.submit(FIRST, context, Command::DeleteRange { range }), Ok(Outcome::Done));
    cluster.advance(Duration::from_millis(10));
    assert_eq!(size(&cluster, FIRST, RegionId::FIRST), RegionSize { size_bytes: 90, key_count: 10 });
}

#[test]
fn nothing_is_wanted_while_the_peers_change() {
    let mut cluster = Cluster::with_stores_that_split(3, 900);
    put_numbers(&mut cluster, 0..100);
    let mut goal = cluster.region(FIRST).peers.clone();
    goal.push(Peer { id: PeerId(2_001), store_id: StoreId(1_001), role: PeerRole::Voter });
    // The new peer never catches up, so the change stays under way.
    cluster.cut(StoreId(1_001));
    assert_eq!(cluster.admin(FIRST, AdminAction::SetPeers { peers: goal, change_id: 7 }), Ok(()));
    put_numbers(&mut cluster, 100..101);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.take_wishes(), []);
    cluster.heal(StoreId(1_001));
    cluster.advance(Duration::from_secs(5));
    let wish = cluster.take_wishes().pop().expect("it is wanted now");
    assert_eq!((wish.epoch, wish.keys), (cluster.region(FIRST).epoch, vec![key(50)]));
}
