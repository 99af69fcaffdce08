//! Questions to placement: which region holds a key, where a store listens. Every store answers them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::{
    metapb,
    pdpb::{self, pd_client::PdClient},
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use types::{ClusterId, KeyRange, Peer, Region, RegionId, StoreId};

use crate::{core::Position, limits};

/// A region, with its leader where placement knows it.
type Route = (Region, Option<Peer>);

/// How far a split of many regions has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The keys at which regions begin now, in per cent.
    pub finished_percent: u64,
    /// Regions that have come into being.
    pub born: Vec<RegionId>,
}

/// How a client proves who it is, and whom it believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// No encryption, and therefore addresses of this machine only.
    #[default]
    Loopback,
    /// No encryption, anywhere.
    Insecure,
}

impl Credentials {
    /// An endpoint for an address with or without scheme.
    fn endpoint(self, address: &str) -> Result<Endpoint, String> {
        let address = address.strip_prefix("http://").unwrap_or(address);
        if address.starts_with("https://") {
            return Err(format!("{address}: this client does not speak TLS"));
        }
        if self == Credentials::Loopback && !is_loopback(address) {
            return Err(format!(
                "{address} is not on this machine, and unencrypted connections were not allowed"
            ));
        }
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        Ok(endpoint
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
            .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whoever answers for placement.
pub(super) struct Placement {
    credentials: Credentials,
    cluster_id: ClusterId,
    /// Addresses that can be asked, those given first.
    endpoints: Vec<String>,
    /// Which of them has answered last.
    current: AtomicUsize,
    channels: Mutex<BTreeMap<String, Channel>>,
    /// Where stores were last known to listen, for when placement is silent.
    addresses: Mutex<BTreeMap<StoreId, String>>,
    /// Bounds the lookups of regions.
    pub(super) lookups: Semaphore,
}

impl Placement {
    /// Asks the given addresses until one answers which cluster it belongs to and who its members are.
    pub(super) async fn join(seeds: &[String], credentials: Credentials) -> Result<Placement, String> {
        let mut placement = Placement {
            credentials,
            cluster_id: ClusterId(0),
            endpoints: seeds.to_vec(),
            current: AtomicUsize::new(0),
            channels: Mutex::default(),
            addresses: Mutex::default(),
            lookups: Semaphore::new(limits::LOOKUPS_MAX),
        };
        let members = placement
            .ask(limits::PLACEMENT_TIMEOUT, |mut client| async move {
                client.get_members(pdpb::GetMembersRequest { header: None }).await
            })
            .await?;
        placement.cluster_id = ClusterId(check_header(members.header)?);
        for url in members.members.into_iter().flat_map(|member| member.client_urls) {
            let address = url.strip_prefix("http://").unwrap_or(&url).to_owned();
            if !placement.endpoints.contains(&address) {
                placement.endpoints.push(address);
            }
        }
        Ok(placement)
    }

    /// The cluster.
    pub(super) fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// Every address that answers questions, as far as is known.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The region at a position, and some of those behind it.
    pub(super) async fn region_and_others(&self, position: &Position) -> Result<(Route, Vec<Route>), String> {
        let Position::At(key) = position else {
            return Ok((self.region(position).await?, Vec::new()));
        };
        let range = KeyRange { start_key: key.clone(), end_key: Bytes::new() };
        let mut routes = self.scan(range, limits::LOOKUP_REGIONS_MAX).await?.into_iter();
        let found = routes.next().filter(|(region, _)| region.range.contains_key(key));
        Ok((found.ok_or("placement knows no region there")?, routes.collect()))
    }

    /// The region at a position.
    pub(super) async fn region(&self, position: &Position) -> Result<Route, String> {
        let response = match position {
            Position::At(key) => self.get_region(key.clone()).await?,
            // No key is longer than this one and as high: it lies in the last region.
            Position::Before(end) if end.is_empty() => {
                self.get_region(Bytes::from_static(&[0xff; limits::KEY_BYTES_MAX + 1])).await?
            }
            Position::Before(end) => {
                let response = self.get_region(end.clone()).await?;
                if response.region.as_ref().is_some_and(|region| region.start_key == *end) {
                    self.get_prev_region(end.clone()).await?
                } else {
                    response
                }
            }
        };
        let region = response.region.ok_or("placement knows no region there")?;
        let region = Region::try_from(region).map_err(|error| error.to_string())?;
        Ok((region, response.leader.and_then(|peer| Peer::try_from(peer).ok())))
    }

    /// The regions of a range: as many as one answer holds.
    pub(super) async fn regions(&self, range: KeyRange) -> Result<Vec<Route>, String> {
        self.scan(range, 0).await
    }

    /// The first regions of a range; zero: as many as one answer holds.
    async fn scan(&self, range: KeyRange, count_max: u32) -> Result<Vec<Route>, String> {
        let KeyRange { start_key, end_key } = range;
        let limit = i32::try_from(count_max).unwrap_or(i32::MAX);
        let request = pdpb::ScanRegionsRequest { header: self.header(), start_key, limit, end_key };
        let response = self
            .ask(limits::PLACEMENT_TIMEOUT, |mut client| {
                let request = request.clone();
                async move { client.scan_regions(request).await }
            })
            .await?;
        check_header(response.header)?;
        let regions = response.regions.into_iter().map(|found| {
            let region = found.region.ok_or("placement names a region without its descriptor")?;
            let region = Region::try_from(region).map_err(|error| error.to_string())?;
            Ok((region, found.leader.and_then(|peer| Peer::try_from(peer).ok())))
        });
        regions.collect()
    }

    /// Lets regions begin at these keys.
    pub(super) async fn split(&self, keys: Vec<Bytes>) -> Result<Split, String> {
        let request = pdpb::SplitRegionsRequest { header: self.header(), split_keys: keys, retry_limit: 0 };
        let response = self
            .ask(limits::SPLIT_TIMEOUT, |client| {
                let request = request.clone();
                let mut client = client.max_encoding_message_size(limits::MESSAGE_DECODE_BYTES_MAX);
                async move { client.split_regions(request).await }
            })
            .await?;
        check_header(response.header)?;
        Ok(Split {
            finished_percent: response.finished_percentage,
            born: response.regions_id.into_iter().map(RegionId).collect(),
        })
    }

    /// A new connection to a store.
    pub(super) async fn connect(&self, store_id: StoreId) -> Result<Channel, String> {
        let address = match self.store(store_id).await {
            Ok(store) => {
                self.addresses.lock().insert(store_id, store.address.clone());
                store.address
            }
            Err(reason) => self.addresses.lock().get(&store_id).cloned().ok_or(reason)?,
        };
        let connecting = self.credentials.endpoint(&address)?;
        connecting.connect().await.map_err(|error| format!("connect to {address}: {}", innermost(&error)))
    }

    async fn store(&self, store_id: StoreId) -> Result<metapb::Store, String> {
        let request = pdpb::GetStoreRequest { header: self.header(), store_id: store_id.0 };
        let response = self
            .ask(limits::PLACEMENT_TIMEOUT, |mut client| async move { client.get_store(request).await })
            .await?;
        check_header(response.header)?;
        let store = response.store.filter(|store| !store.address.is_empty());
        store.ok_or_else(|| format!("placement has no address of store {store_id}"))
    }

    async fn get_region(&self, key: Bytes) -> Result<pdpb::GetRegionResponse, String> {
        let request = pdpb::GetRegionRequest { header: self.header(), region_key: key, need_buckets: false };
        let response = self
            .ask(limits::PLACEMENT_TIMEOUT, |mut client| {
                let request = request.clone();
                async move { client.get_region(request).await }
            })
            .await?;
        check_header(response.header.clone())?;
        Ok(response)
    }

    async fn get_prev_region(&self, key: Bytes) -> Result<pdpb::GetRegionResponse, String> {
        let request = pdpb::GetRegionRequest { header: self.header(), region_key: key, need_buckets: false };
        let response = self
            .ask(limits::PLACEMENT_TIMEOUT, |mut client| {
                let request = request.clone();
                async move { client.get_prev_region(request).await }
            })
            .await?;
        check_header(response.header.clone())?;
        Ok(response)
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster_id.0, sender_id: 0 })
    }

    /// Asks the endpoints in turn, from the one that answered last, until one answers.
    async fn ask<T, F>(
        &self,
        patience: Duration,
        question: impl Fn(PdClient<Channel>) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut reason = "no address was given".to_owned();
        for step in 0..self.endpoints.len() {
            let at = (first + step) % self.endpoints.len();
            let address = &self.endpoints[at];
            let channel = match self.channel(address) {
                Ok(channel) => channel,
                Err(error) => {
                    reason = error;
                    continue;
                }
            };
            let client = PdClient::new(channel).max_decoding_message_size(limits::MESSAGE_DECODE_BYTES_MAX);
            match timeout(patience, question(client)).await {
                Ok(Ok(response)) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => reason = format!("{address}: {}", innermost(&status)),
                Err(_) => reason = format!("{address} is silent"),
            }
        }
        Err(reason)
    }

    /// The connection to an endpoint; it comes about, and again after a break, when it is used.
    fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.credentials.endpoint(address)?.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// The cluster that a response comes from.
fn check_header(header: Option<pdpb::ResponseHeader>) -> Result<u64, String> {
    let header = header.ok_or("placement answers without a header")?;
    match header.error {
        Some(error) if error.r#type != pdpb::ErrorType::Ok as i32 => Err(error.message),
        Some(_) | None => Ok(header.cluster_id),
    }
}

/// What lies at the bottom of an error: the layers above it only say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unencrypted_connections_stay_on_this_machine_unless_allowed() {
        for (address, is_local) in [
            ("127.0.0.1:20160", true),
            ("http://localhost:20160", true),
            ("[::1]:20160", true),
            ("10.0.0.1:20160", false),
            ("127.0.0.1.example:20160", false),
            ("example.org", false),
        ] {
            assert_eq!(Credentials::Loopback.endpoint(address).is_ok(), is_local, "{address}");
            assert!(Credentials::Insecure.endpoint(address).is_ok(), "{address}");
        }
        assert!(Credentials::Insecure.endpoint("https://localhost:1").is_err());
    }
}
