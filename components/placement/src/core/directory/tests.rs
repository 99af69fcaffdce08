use types::{Epoch, Peer, PeerId, PeerRole, StoreId};

use super::*;

fn region(id: u64, start_key: &str, end_key: &str, version: u64, conf_version: u64) -> Region {
    Region {
        id: RegionId(id),
        range: KeyRange::new(start_key.to_owned(), end_key.to_owned()),
        epoch: Epoch { conf_version, version },
        peers: vec![Peer { id: PeerId(id * 10), store_id: StoreId(1), role: PeerRole::Voter }],
    }
}

fn first() -> Directory {
    Directory::new(vec![region(2, "", "", 1, 1)]).unwrap()
}

/// Plans and commits until nothing can be planned, as the host does.
fn settle(directory: &mut Directory) {
    loop {
        let planned = directory.plan(usize::MAX);
        if planned.is_empty() {
            return;
        }
        directory.commit(&planned);
    }
}

fn shown(directory: &Directory) -> String {
    let rows = directory.regions().map(|region| {
        let KeyRange { start_key, end_key } = &region.range;
        let [start_key, end_key] = [start_key, end_key].map(|key| String::from_utf8_lossy(key).into_owned());
        format!("{}[{start_key},{end_key})", region.id)
    });
    rows.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_split_is_seen_when_all_of_it_is_known() {
    let mut directory = first();
    assert_eq!(directory.offer(region(3, "m", "", 2, 1)), Offer::Waiting);
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,)", "the old row keeps answering");
    assert_eq!(directory.offer(region(2, "", "m", 2, 1)), Offer::Waiting);
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,m) 3[m,)");
    assert_eq!(directory.pending_count(), 0);
    assert_eq!(directory.offer(region(2, "", "", 1, 1)), Offer::Known, "an old report changes nothing");
}

#[test]
fn splits_of_splits_arrive_in_any_order() {
    let reports = [
        region(2, "", "d", 4, 1),
        region(5, "d", "h", 4, 1),
        region(4, "h", "m", 3, 1),
        region(3, "m", "t", 3, 1),
        region(6, "t", "", 3, 1),
    ];
    // Every order of five reports.
    let mut orders = vec![vec![]];
    for _ in 0..reports.len() {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..reports.len())
                    .filter(|at| !order.contains(at))
                    .map(|at| [order.as_slice(), &[at]].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let mut directory = first();
        for at in &order {
            directory.offer(reports[*at].clone());
            settle(&mut directory);
            directory.check_tiling().unwrap();
        }
        assert_eq!(shown(&directory), "2[,d) 5[d,h) 4[h,m) 3[m,t) 6[t,)", "order {order:?}");
    }
}

#[test]
fn a_merge_takes_the_place_of_both() {
    let mut directory =
        Directory::new(vec![region(2, "", "m", 2, 1), region(3, "m", "t", 2, 1), region(4, "t", "", 1, 1)])
            .unwrap();
    directory.offer(region(2, "", "t", 3, 1));
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,t) 4[t,)");
    assert_eq!(directory.find_by_id(RegionId(3)), None);
    // The source's last descriptor, late.
    assert_eq!(directory.offer(region(3, "m", "t", 2, 9)), Offer::Known);
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,t) 4[t,)");
}

#[test]
fn a_merge_over_an_unreported_split_waits_for_the_rest() {
    let mut directory = Directory::new(vec![region(2, "", "m", 1, 1), region(3, "m", "", 1, 1)]).unwrap();
    // Region 3 was split at t; region 2 swallowed its left part.
    directory.offer(region(2, "", "t", 3, 1));
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,m) 3[m,)");
    directory.offer(region(4, "t", "", 2, 1));
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,t) 4[t,)");
}

#[test]
fn peers_change_without_neighbours() {
    let mut directory = Directory::new(vec![region(2, "", "m", 2, 1), region(3, "m", "", 2, 1)]).unwrap();
    directory.offer(region(3, "m", "", 2, 2));
    assert_eq!(
        directory.plan(usize::MAX),
        [Replacement { removed: vec![region(3, "m", "", 2, 1)], added: vec![region(3, "m", "", 2, 2)] }]
    );
    settle(&mut directory);
    assert_eq!(directory.find_by_id(RegionId(3)).unwrap().epoch.conf_version, 2);
    // Neither part of an epoch may go back.
    assert_eq!(directory.offer(region(3, "m", "t", 3, 1)), Offer::Known);
}

#[test]
fn the_newest_waiting_descriptor_counts() {
    let mut directory = first();
    directory.offer(region(2, "", "h", 3, 1));
    directory.offer(region(2, "", "m", 2, 1));
    directory.offer(region(3, "m", "", 2, 1));
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,)", "[h,m) is missing");
    directory.offer(region(4, "h", "m", 3, 1));
    settle(&mut directory);
    assert_eq!(shown(&directory), "2[,h) 4[h,m) 3[m,)");
}

#[test]
fn plans_are_bounded_and_disjoint() {
    let key = |at: u64| if at == 0 || at == 64 { String::new() } else { format!("{at:03}") };
    let rows = (0..64).map(|at| region(at + 2, &key(at), &key(at + 1), 1, 1)).collect();
    let mut directory = Directory::new(rows).unwrap();
    for at in 0..64 {
        directory.offer(region(at + 2, &key(at), &key(at + 1), 1, 2));
    }
    assert_eq!(directory.plan(10).len(), 10);
    assert_eq!(directory.plan(usize::MAX).len(), 64);
    settle(&mut directory);
    assert!(directory.regions().all(|region| region.epoch.conf_version == 2));
}

#[test]
fn lookups_find_neighbours_and_ranges() {
    let directory =
        Directory::new(vec![region(2, "", "d", 1, 1), region(3, "d", "m", 1, 1), region(4, "m", "", 1, 1)])
            .unwrap();
    let ids = |range: KeyRange| directory.scan(&range).map(|region| region.id.0).collect::<Vec<_>>();
    for (key, id, previous) in
        [("", 2, None), ("c", 2, None), ("d", 3, Some(2)), ("lz", 3, Some(2)), ("m", 4, Some(3))]
    {
        assert_eq!(directory.find(key.as_bytes()).id.0, id, "{key}");
        assert_eq!(directory.find_previous(key.as_bytes()).map(|region| region.id.0), previous, "{key}");
    }
    assert_eq!(directory.find(&[0xff; 8193]).id.0, 4, "long keys are keys");
    assert_eq!(ids(KeyRange::ALL), [2, 3, 4]);
    assert_eq!(ids(KeyRange::new("e", "m")), [3]);
    assert_eq!(ids(KeyRange::new("c", "mm")), [2, 3, 4]);
    assert_eq!(ids(KeyRange::new("m", "")), [4]);
    assert_eq!(ids(KeyRange::new("e", "e")), [0_u64; 0]);
    assert_eq!(ids(KeyRange::new("e", "b")), [0_u64; 0]);
}

#[test]
fn rows_that_do_not_tile_are_refused() {
    for rows in [
        vec![],
        vec![region(2, "a", "", 1, 1)],
        vec![region(2, "", "m", 1, 1)],
        vec![region(2, "", "m", 1, 1), region(3, "n", "", 1, 1)],
        vec![region(2, "", "n", 1, 1), region(3, "m", "", 1, 1)],
        vec![region(2, "", "m", 1, 1), region(2, "m", "", 1, 1)],
    ] {
        assert!(Directory::new(rows.clone()).is_err(), "{rows:?}");
    }
}

#[test]
fn too_many_waiting_descriptors_are_all_forgotten() {
    let mut directory = first();
    let waiting = (0..PENDING_DESCRIPTORS_MAX as u64).map(|at| region(at + 10, "m", "n", 2, 1));
    for region in waiting {
        assert_eq!(directory.offer(region), Offer::Waiting);
    }
    assert_eq!(directory.offer(region(9, "m", "n", 2, 1)), Offer::Overflow);
    assert_eq!(directory.pending_count(), 0);
    assert_eq!(directory.offer(region(9, "m", "n", 2, 1)), Offer::Waiting);
}

/// Splits and merges at random, reports of any age in any order: never a gap, and the truth once all is reported.
#[test]
fn random_histories_end_in_the_truth() {
    for seed in 1..200_u64 {
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut directory = first();
        let mut truth = vec![region(2, "", "", 1, 1)];
        let mut reports: Vec<Region> = Vec::new();
        let mut next_id = 3;
        for _ in 0..60 {
            let at = random(truth.len());
            match random(3) {
                0 => {
                    let key = format!("{:03}", random(1000));
                    if truth[at].range.contains_key(key.as_bytes()) && truth[at].range.start_key != key {
                        let (left, version) = (truth[at].clone(), truth[at].epoch.version + 1);
                        let text = |key: &Bytes| String::from_utf8(key.to_vec()).unwrap();
                        let (start, end) = (text(&left.range.start_key), text(&left.range.end_key));
                        let right = region(next_id, &key, &end, version, left.epoch.conf_version);
                        next_id += 1;
                        truth[at] = region(left.id.0, &start, &key, version, left.epoch.conf_version);
                        truth.insert(at + 1, right.clone());
                        reports.extend([right, truth[at].clone()]);
                    }
                }
                1 if at + 1 < truth.len() => {
                    let source = truth.remove(at + 1);
                    let target = &mut truth[at];
                    target.range.end_key = source.range.end_key;
                    target.epoch.version = target.epoch.version.max(source.epoch.version) + 1;
                    reports.push(target.clone());
                }
                _ => {
                    truth[at].epoch.conf_version += 1;
                    reports.push(truth[at].clone());
                }
            }
            for _ in 0..random(3) {
                if !reports.is_empty() {
                    directory.offer(reports[random(reports.len())].clone());
                    settle(&mut directory);
                    directory.check_tiling().unwrap();
                }
            }
        }
        for report in &truth {
            directory.offer(report.clone());
            settle(&mut directory);
            directory.check_tiling().unwrap();
        }
        assert_eq!(directory.regions().cloned().collect::<Vec<_>>(), truth, "seed {seed}");
        assert_eq!(directory.pending_count(), 0, "seed {seed}");
    }
}

/// A split into many parts of which some are not known yet: what waits is walked through once, and one replacement takes
/// all of them when the last one has come, in whatever order they come.
#[test]
fn a_split_into_many_is_one_replacement() {
    let count = 2_000_u64;
    let key = |at: u64| if at == 0 || at == count { String::new() } else { format!("{at:05}") };
    let part = |at: u64| region(2 + at, &key(at), &key(at + 1), count, 1);
    let mut directory = first();
    for at in (0..count).rev().filter(|at| *at != 7) {
        assert_eq!(directory.offer(part(at)), Offer::Waiting);
    }
    assert_eq!(directory.plan(10), []);
    assert_eq!(directory.untiled(|_| true), [KeyRange::ALL], "asked for once");
    assert_eq!(directory.offer(part(7)), Offer::Waiting);
    let planned = directory.plan(10);
    assert_eq!(planned.len(), 1);
    assert_eq!(planned[0].added.len(), 2_000);
    directory.commit(&planned);
    assert_eq!((directory.regions().len(), directory.pending_count()), (2_000, 0));
}
