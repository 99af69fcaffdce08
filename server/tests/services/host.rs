//! Stores for tests to ask.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::{
    admin::{self, admin_client::AdminClient},
    kvrpcpb as kv,
    pdpb::{self, pd_client::PdClient},
    placement::KeysMode,
    tikvpb::tikv_client::TikvClient,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{free_addresses, wait_for_voters};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One store in a cluster of its own.
pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) channel: Channel,
    pub(crate) cluster_id: u64,
    _folder: TempDir,
}

impl Host {
    pub(crate) async fn start(keys: KeysMode) -> Host {
        Host::start_with(keys, &[]).await
    }

    pub(crate) async fn start_with(keys: KeysMode, arguments: &[&str]) -> Host {
        let mut host = Host::spawn("127.0.0.1:0", &[&["--single"], arguments].concat()).await;
        host.cluster_id = host.init(keys).await;
        host.wait_until_serving().await;
        host
    }

    /// Several stores in one cluster, whose first region has three voters.
    pub(crate) async fn cluster(count: usize) -> Vec<Host> {
        let addresses = free_addresses(count);
        let join = addresses.join(",");
        let mut hosts = Vec::new();
        for address in &addresses {
            hosts.push(Host::spawn(address, &["--join", &join]).await);
        }
        let cluster_id = hosts[0].init(KeysMode::Raw).await;
        for host in &mut hosts {
            host.cluster_id = cluster_id;
            host.wait_until_serving().await;
        }
        wait_for_voters(&hosts[0]).await;
        hosts
    }

    pub(crate) async fn spawn(address: &str, arguments: &[&str]) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sheaf"))
            .args(["start", "--exit-with-parent", "--log-format", "json", "--addr", address, "--data-dir"])
            .arg(folder.path().join("data"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| address_of(&line)).expect("it listens");
        // Somebody must read on, or the store would wait for it.
        std::thread::spawn(move || show(lines.map_while(Result::ok)));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("it listens");
        Host { child, address, channel, cluster_id: 0, _folder: folder }
    }

    /// Founds the cluster; the engines may still be opening.
    pub(crate) async fn init(&self, keys: KeysMode) -> u64 {
        let mut client = AdminClient::new(self.channel.clone());
        let request = admin::InitRequest { keys: keys.into() };
        client.init(request).await.expect("the only store founds its cluster").into_inner().cluster_id
    }

    pub(crate) async fn wait_until_serving(&self) {
        let began = Instant::now();
        loop {
            // Clients are told of a leader also while there is none; operators are not.
            let mut admin = AdminClient::new(self.channel.clone());
            let answer = admin.list_regions(admin::ListRegionsRequest::default()).await;
            let is_led = |answer: admin::ListRegionsResponse| {
                answer.regions.first().is_some_and(|view| view.leader_peer_id != 0)
            };
            if answer.is_ok_and(|answer| is_led(answer.into_inner())) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the store does not serve in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster_id, sender_id: 0 })
    }

    pub(crate) fn pd(&self) -> PdClient<Channel> {
        PdClient::new(self.channel.clone())
    }

    pub(crate) fn tikv(&self) -> TikvClient<Channel> {
        TikvClient::new(self.channel.clone())
    }

    /// As a client that has looked the region up would fill it in.
    pub(crate) async fn context(&self) -> Option<kv::Context> {
        let request =
            pdpb::GetRegionRequest { header: self.header(), region_key: "a".into(), need_buckets: false };
        let route = self.pd().get_region(request).await.expect("there is a region").into_inner();
        let region = route.region.expect("there is a region");
        Some(kv::Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: route.leader,
            ..kv::Context::default()
        })
    }

    /// One HTTP/1.1 request.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(&self.address).await.expect("it listens");
        let text = format!("GET {path} HTTP/1.1\r\nHost: sheaf\r\nConnection: close\r\n\r\n");
        socket.write_all(text.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The store's log, for whoever reads why a test failed.
#[expect(clippy::print_stdout, reason = "a test's output")]
fn show(lines: impl Iterator<Item = String>) {
    lines.for_each(|line| println!("{line}"));
}

/// From the log line that says where the store listens.
fn address_of(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str().map(str::to_owned))?
}
