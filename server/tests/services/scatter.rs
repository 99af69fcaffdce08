//! `ScatterRegion`, as clients that split a table use it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proto::{
    admin::{SetBalancingRequest, SplitRegionRequest, admin_client::AdminClient},
    pdpb,
    placement::KeysMode,
};
use tonic::Code;

use crate::{
    FIRST_REGION,
    host::{Host, PATIENCE},
};

async fn scatter(host: &Host, regions_id: &[u64]) -> Result<pdpb::ScatterRegionResponse, tonic::Status> {
    let regions_id = regions_id.to_vec();
    let request = pdpb::ScatterRegionRequest {
        header: host.header(),
        regions_id,
        group: "table".to_owned(),
        ..pdpb::ScatterRegionRequest::default()
    };
    host.pd().scatter_region(request).await.map(tonic::Response::into_inner)
}

async fn operator_of(host: &Host, region_id: u64) -> pdpb::GetOperatorResponse {
    let request = pdpb::GetOperatorRequest { header: host.header(), region_id };
    host.pd().get_operator(request).await.expect("answered").into_inner()
}

/// As clients do: until the region's operation is another one, or runs no longer.
async fn wait_until_scattered(host: &Host, region_id: u64) {
    let began = Instant::now();
    loop {
        let operator = operator_of(host, region_id).await;
        let is_running = operator.status == i32::from(pdpb::OperatorStatus::Running);
        if operator.desc.as_ref() != b"scatter-region" || !is_running {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{operator:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Peers and leaders of these regions on each store that has some.
async fn counts(host: &Host, region_ids: &[u64]) -> BTreeMap<u64, (usize, usize)> {
    let scan = pdpb::ScanRegionsRequest { header: host.header(), limit: 0, ..Default::default() };
    let scan = host.pd().scan_regions(scan).await.expect("answered").into_inner();
    let mut counts: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for (region, leader) in scan.region_metas.iter().zip(&scan.leaders) {
        if region_ids.contains(&region.id) {
            region.peers.iter().for_each(|peer| counts.entry(peer.store_id).or_default().0 += 1);
            counts.entry(leader.store_id).or_default().1 += 1;
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_are_spread_over_four_stores() {
    let hosts = Host::cluster(4).await;
    let mut admin = AdminClient::new(hosts[0].channel.clone());
    // What happens is what was asked for.
    admin.set_balancing(SetBalancingRequest { is_balancing: false }).await.expect("answered");
    let split_keys = (1..12).map(|at| format!("k{at:02}").into()).collect();
    let split = SplitRegionRequest { region_id: FIRST_REGION, split_keys, ..Default::default() };
    let regions = admin.split_region(split).await.expect("it is split").into_inner().regions;
    let ids: Vec<u64> = regions.iter().map(|region| region.id).collect();
    assert_eq!(ids.len(), 12);

    // A new region can be scattered at once, or as soon as the host knows who leads it.
    let done = scatter(&hosts[1], &ids).await.expect("answered");
    assert_eq!((done.finished_percentage, done.header.and_then(|header| header.error)), (100, None));
    for id in &ids {
        wait_until_scattered(&hosts[2], *id).await;
    }
    let began = Instant::now();
    loop {
        let counts = counts(&hosts[3], &ids).await;
        if counts.len() == 4 && counts.values().all(|count| *count == (9, 3)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut operators = Vec::new();
    for id in &ids {
        operators.push(operator_of(&hosts[0], *id).await);
    }
    let is_scatter = |operator: &&pdpb::GetOperatorResponse| {
        operator.desc.as_ref() == b"scatter-region" && operator.kind.as_ref() == b"scatter"
    };
    let scattered: Vec<_> = operators.iter().filter(is_scatter).collect();
    assert!(scattered.len() >= 9, "{operators:?}");
    assert!(scattered.iter().all(|operator| operator.status == i32::from(pdpb::OperatorStatus::Success)));
    // Again, in another order: nothing moves.
    let reversed: Vec<u64> = ids.iter().rev().copied().collect();
    assert_eq!(scatter(&hosts[0], &reversed).await.expect("answered").finished_percentage, 100);
    for (id, before) in ids.iter().zip(operators) {
        assert_eq!(operator_of(&hosts[0], *id).await, before);
    }
}

/// Whoever has just split a region may name the new one before the directory knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_about_to_appear_is_scattered() {
    let host = Host::start(KeysMode::Raw).await;
    let admin = AdminClient::new(host.channel.clone());
    let split = async |key: &'static str| {
        let split_keys = vec![key.into()];
        let split = SplitRegionRequest { region_id: FIRST_REGION, split_keys, ..Default::default() };
        let regions = admin.clone().split_region(split).await.expect("it is split").into_inner().regions;
        regions.last().expect("there are two").id
    };
    // Each split takes as many ids as the one before.
    let (first, second) = (split("m").await, split("k").await);
    let third = second + (second - first);
    let named = [third];
    let (done, made) = tokio::join!(scatter(&host, &named), split("h"));
    assert_eq!(made, third);
    assert_eq!(done.expect("answered").finished_percentage, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_that_are_not_there_are_not_scattered() {
    let host = Host::start(KeysMode::Raw).await;
    let one =
        |region_id| pdpb::ScatterRegionRequest { header: host.header(), region_id, ..Default::default() };
    let done = host.pd().scatter_region(one(FIRST_REGION)).await.expect("answered").into_inner();
    assert_eq!((done.finished_percentage, done.header.and_then(|header| header.error)), (100, None));
    for id in [0, 1, 999_999] {
        let answer = host.pd().scatter_region(one(id)).await.expect("answered").into_inner();
        let error = answer.header.and_then(|header| header.error).expect("there is none");
        assert_eq!(error.r#type, i32::from(pdpb::ErrorType::RegionNotFound));
        assert!(error.message.contains(&format!("region {id} not found")), "{error:?}");
        assert_eq!(answer.finished_percentage, 0);
    }
    let half = scatter(&host, &[FIRST_REGION, 999_999, FIRST_REGION]).await.expect("answered");
    assert_eq!((half.finished_percentage, half.header.and_then(|header| header.error)), (50, None));
    let many: Vec<u64> = (1..20_000).collect();
    let refused = scatter(&host, &many).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let group = "g".repeat(300);
    let refused = pdpb::ScatterRegionRequest { group, ..one(FIRST_REGION) };
    let refused = host.pd().scatter_region(refused).await.expect_err("a long name");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let cluster_id = host.cluster_id ^ 1;
    let other = Some(pdpb::RequestHeader { cluster_id, sender_id: 0 });
    let other = pdpb::ScatterRegionRequest { header: other, ..one(FIRST_REGION) };
    let refused = host.pd().scatter_region(other).await.expect_err("another cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
}
