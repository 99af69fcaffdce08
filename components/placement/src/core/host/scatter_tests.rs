//! Regions that somebody wants to be scattered.

use std::{collections::BTreeMap, time::Duration};

use types::{KeyRange, Region, RegionId, StoreId};

use super::{change_tests::Cluster, *};
use crate::core::{
    api::{
        OperationKind, OperationPicture, OperationState, PlacementAnswer, PlacementCall, RegionChange,
        ScatterRequest,
    },
    limits::{SCATTER_GROUP_BYTES_MAX, SCATTER_GROUP_KEPT, SCATTER_REGIONS_MAX},
    protocol::Request,
};

/// Region 2 has been split: so many regions, all with voters on the first three of four stores, and led by the first.
fn divided(count: u64) -> Cluster {
    let mut cluster = Cluster::new();
    let whole = cluster.regions.pop().unwrap();
    let bound = |at: u64| if at == 0 || at == count { String::new() } else { format!("k{at:03}") };
    for at in 0..count {
        let mut region =
            Region { id: RegionId(2 + at), range: KeyRange::new(bound(at), bound(at + 1)), ..whole.clone() };
        region.epoch.version += count - 1;
        region.peers.iter_mut().for_each(|peer| peer.id.0 += 1_000 * at);
        cluster.regions.push(region);
    }
    cluster.leaders = vec![cluster.store(0); cluster.regions.len()];
    cluster.report();
    cluster
}

impl Cluster {
    fn scatter(&mut self, ids: impl IntoIterator<Item = u64>, group: &str) -> (Vec<u64>, Vec<u64>) {
        match self.call(scatter(ids, group)) {
            Ok(PlacementAnswer::Scattered { begun, missing }) => {
                (begun.iter().map(|id| id.0).collect(), missing.iter().map(|id| id.0).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn operations(&mut self) -> Vec<OperationPicture> {
        match self.call(PlacementCall::ListOperations) {
            Ok(PlacementAnswer::Operations(operations)) => operations,
            other => panic!("{other:?}"),
        }
    }

    /// Peers and leaders of each store, but for the placement group's.
    fn counts(&self) -> Vec<(usize, usize)> {
        let mut counts: BTreeMap<StoreId, (usize, usize)> = BTreeMap::new();
        for (region, leader) in self.regions.iter().zip(&self.leaders).skip(1) {
            region.peers.iter().for_each(|peer| counts.entry(peer.store_id).or_default().0 += 1);
            counts.entry(*leader).or_default().1 += 1;
        }
        counts.into_values().collect()
    }
}

fn scatter(ids: impl IntoIterator<Item = u64>, group: &str) -> PlacementCall {
    let region_ids = ids.into_iter().map(RegionId).collect();
    PlacementCall::ScatterRegions(ScatterRequest { region_ids, group: group.to_owned() })
}

#[test]
fn peers_and_leaders_are_spread_by_operations_and_then_nothing_moves() {
    let mut cluster = divided(8);
    let (begun, missing) = cluster.scatter(2..=10, "table");
    assert_eq!((begun, missing), ((2..=9).collect(), vec![10]));
    let running = cluster.operations();
    assert!(running.iter().any(|operation| !operation.peers.is_empty()));
    for operation in &running {
        assert_eq!((operation.kind(), operation.state), (OperationKind::Scatter, OperationState::Running));
    }
    cluster.carry_out_all();
    assert_eq!(cluster.counts(), [(6, 2); 4]);
    assert!(cluster.operations().iter().all(|operation| operation.state == OperationState::Done));
    // Again: everything is where it should be.
    let count = cluster.operations().len();
    assert_eq!(cluster.scatter(2..=9, "table"), ((2..=9).collect(), vec![]));
    assert_eq!(cluster.operations().len(), count);
}

#[test]
fn who_scatters_one_region_after_the_other_spreads_them_as_well() {
    let mut cluster = divided(8);
    for id in 2..=9 {
        assert_eq!(cluster.scatter([id], "table"), (vec![id], vec![]));
        cluster.carry_out_all();
    }
    let counts = cluster.counts();
    assert!(counts.len() == 4 && counts.iter().all(|(peers, _)| (5..=7).contains(peers)), "{counts:?}");
    assert!(counts.iter().all(|(_, leaders)| (1..=3).contains(leaders)), "{counts:?}");
    // Another group, and what was named long ago, are nothing to this one.
    let count = cluster.operations().len();
    cluster.scatter([2], "another");
    cluster.pass(SCATTER_GROUP_KEPT + Duration::from_secs(1));
    cluster.report();
    cluster.scatter([2], "table");
    assert_eq!(cluster.operations().len(), count);
}

#[test]
fn regions_that_change_otherwise_wait() {
    let mut cluster = divided(4);
    let target = cluster.store(3);
    let operation = cluster.change(2, RegionChange::AddPeer(target)).expect("it begins");
    let (begun, missing) = cluster.scatter([1, 2, 3, 4, 5], "");
    assert_eq!((begun, missing), (vec![3, 4, 5], vec![1]), "the placement group is never shown");
    let of_region = |operations: Vec<OperationPicture>| {
        let mut of_region = operations.into_iter().filter(|operation| operation.region_id == RegionId(2));
        of_region.next().map(|operation| operation.id)
    };
    assert_eq!(of_region(cluster.operations()), Some(operation));
}

#[test]
fn what_cannot_be_scattered_is_refused() {
    let mut cluster = divided(2);
    let many = SCATTER_REGIONS_MAX as u64 + 1;
    let long = "g".repeat(SCATTER_GROUP_BYTES_MAX + 1);
    for call in [scatter([], "g"), scatter(2..2 + many, "g"), scatter([2], &long)] {
        assert!(matches!(cluster.call(call), Err(Error::Invalid(_))));
    }
    assert_eq!(cluster.scatter([2, 3], ""), (vec![2, 3], vec![]));
}

#[test]
fn nobody_is_told_of_operations_that_are_no_rows_yet() {
    let mut cluster = divided(4);
    let bench = &mut cluster.bench;
    let id = bench.send(7, Request::Call(scatter(2..=5, "g")));
    // Sent again, as agents do: it waits once.
    let caller = Caller { store_id: StoreId(7), request_id: id };
    bench.host.on_request(bench.now, caller, Request::Call(scatter(2..=5, "g")));
    let answered = |effects: &[Effect]| {
        let is_answer = |effect: &&Effect| matches!(effect, Effect::Respond(to, _) if *to == caller);
        effects.iter().filter(is_answer).count()
    };
    let effects = bench.host.end_round(bench.now);
    assert_eq!(answered(&effects), 0);
    let tag = effects.iter().find_map(|effect| match effect {
        Effect::Propose(tag, _) => Some(*tag),
        Effect::ReadRows(_) | Effect::Confirm(_) | Effect::Respond(..) | Effect::Push(..) => None,
    });
    let tag = tag.expect("the operations are proposed");
    bench.host.on_proposed(bench.now, tag, Proposed::Unknown);
    let effects = bench.host.end_round(bench.now);
    assert_eq!(answered(&effects), 1);
    let is_refusal = |effect: &Effect| matches!(effect, Effect::Respond(to, Response::Failed(Error::Busy { .. })) if *to == caller);
    assert!(effects.iter().any(is_refusal), "{effects:?}");
}
