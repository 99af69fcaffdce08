//! Stores and clients of one cluster that meet another one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::{
    admin::{ClusterStatusRequest, admin_client::AdminClient},
    kvrpcpb, pdpb,
    pdpb::pd_client::PdClient,
    raft::{Frame, Lane, LaneOpen},
    tikvpb::tikv_client::TikvClient,
};
use tests::{Cluster, Options, Verb, eventually, streamed};
use tonic::Code;

use crate::requests;

async fn alone() -> Result<Cluster> {
    Cluster::start(Options { stores: 1, ..Options::default() }).await
}

async fn cluster_id(cluster: &Cluster) -> Result<u64> {
    let header = cluster.first_region().await?.header.context("a header")?;
    Ok(header.cluster_id)
}

async fn store_count(cluster: &Cluster) -> Result<usize> {
    let mut admin = AdminClient::new(cluster.channel(0).await?);
    Ok(admin.cluster_status(ClusterStatusRequest {}).await?.into_inner().stores.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_one_cluster_does_not_join_another() -> Result<()> {
    let mut moved = alone().await?;
    moved.client().await?.put("whose", "ours").await?;
    let (other, own_id) = (alone().await?, cluster_id(&moved).await?);
    let other_id = cluster_id(&other).await?;
    assert_ne!(own_id, other_id);

    moved.kill(0)?;
    let (data_dir, address) = (moved.data_dir(0).display().to_string(), moved.addresses()[0].clone());
    let join = format!("{},{address}", other.addresses()[0]);
    let start = ["start", "--data-dir", &data_dir, "--addr", &address, "--join", &join];
    let refused = Verb::run(&start).await?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    for id in [own_id, other_id] {
        assert!(refused.error.contains(&format!("cluster {id}")), "{refused:?}");
    }
    assert!(refused.error.contains("--join"), "what to do: {refused:?}");
    assert_eq!(store_count(&other).await?, 1, "nobody has joined");

    // With its own cluster's addresses it is what it was.
    moved.spawn(0)?;
    eventually("the store to serve again", Duration::from_secs(60), async || {
        let client = moved.client().await?;
        ensure!(client.get("whose").await?.as_deref() == Some(&b"ours"[..]));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_does_not_choose_between_two_clusters() -> Result<()> {
    let (one, two) = (alone().await?, alone().await?);
    let folder = tempfile::tempdir()?;
    let (data_dir, address) = (folder.path().join("data").display().to_string(), tests::free_address()?);
    let join = format!("{},{},{address}", one.addresses()[0], two.addresses()[0]);
    let refused = Verb::run(&["start", "--data-dir", &data_dir, "--addr", &address, "--join", &join]).await?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.error.contains("two clusters"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_lanes_for_another_cluster_are_refused() -> Result<()> {
    let cluster = alone().await?;
    let channel = cluster.channel(0).await?;
    let (own_id, wrong_id) = (cluster_id(&cluster).await?, cluster_id(&cluster).await? ^ 1);

    let header = Some(pdpb::RequestHeader { cluster_id: wrong_id, sender_id: 0 });
    let mut placement = PdClient::new(channel.clone());
    let region = pdpb::GetRegionRequest { header, region_key: "a".into(), need_buckets: false };
    let refused = placement.get_region(region).await.expect_err("another cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("mismatch cluster id"), "{refused}");

    let context = requests::context(&cluster).await?;
    let put = |cluster_id| kvrpcpb::RawPutRequest {
        context: Some(kvrpcpb::Context { cluster_id, ..context.clone() }),
        key: "a".into(),
        value: "1".into(),
        ..kvrpcpb::RawPutRequest::default()
    };
    let mut data = TikvClient::new(channel.clone());
    let refused = data.raw_put(put(wrong_id)).await?.into_inner();
    assert!(refused.error.contains(&format!("cluster {wrong_id}")), "{refused:?}");
    assert_eq!(data.raw_put(put(own_id)).await?.into_inner(), kvrpcpb::RawPutResponse::default());

    let open =
        LaneOpen { lane: Lane::Append.into(), cluster_id: wrong_id, from_store_id: 7, ..LaneOpen::default() };
    let frame = Frame { sequence: 1, open: Some(open), ..Frame::default() };
    let refused = streamed(
        &channel,
        "/sheaf.raft.v1.StoreTransport/Lane",
        futures::stream::iter([frame.encode_to_vec().into()]),
    )
    .await
    .expect_err("another cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains(&format!("not to cluster {wrong_id}")), "{refused}");
    Ok(())
}
