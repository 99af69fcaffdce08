//! A cluster of one process and no disk, to measure what the client and the load generator cost by themselves:
//! `cargo run --release -p client --features grpc --example echo_server -- 20160`, then `sheaf bench put --endpoints
//! 127.0.0.1:20160`.

#![allow(clippy::unwrap_used, reason = "a measuring aid")]
#![allow(dead_code, reason = "the tests use the faults")]

#[path = "../tests/fake/mod.rs"]
mod fake;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).map_or(20_160, |port| port.parse().unwrap());
    let cluster = fake::Cluster::start(0, &[]).await;
    cluster.serve(types::StoreId(1), ([127, 0, 0, 1], port).into()).await;
    cluster.state().add_region();
    std::future::pending::<()>().await;
}
