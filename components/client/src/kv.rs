//! The interface for applications.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use types::{Answer, ClusterId, CompareAndSwap, KeyRange, Outcome, Pair, Peer, Region, Scan};

use crate::{
    Cause, Error, Result,
    core::{Reply, Work},
    grpc::{Driver, Options, Split},
};

/// A cluster, from the outside. Clones share connections and what is known about regions.
///
/// Keys and values are bytes; keys are ordered byte by byte. Every operation goes to whatever regions it touches, and is
/// tried again where that is safe: reads always, writes as long as no attempt may have been applied (see
/// [`RetryPolicy::retry_idempotent`](crate::core::RetryPolicy) for more). Reads are linearizable. If the future of a write
/// is dropped, the write may happen nevertheless.
///
/// What ends without a result says what that means for a write: [`Error::Failed`] and
/// [`Error::TimedOutBeforeSending`]: it did not happen; [`Error::Undetermined`]: it may have.
///
/// ```no_run
/// # async fn example() -> client::Result<()> {
/// use client::{Client, KeyRange};
///
/// let client = Client::connect(&["127.0.0.1:20160"]).await?;
/// client.put("fruit/apple", "red").await?;
/// client.put("fruit/pear", "green").await?;
/// assert_eq!(client.get("fruit/apple").await?.as_deref(), Some(&b"red"[..]));
/// for (key, value) in client.scan(KeyRange::new("fruit/", "fruit0"), 10).await? {
///     println!("{key:?} is {value:?}");
/// }
/// client.compare_and_swap("fruit/pear", Some("green".into()), Some("yellow".into())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    driver: Arc<Driver>,
}

/// `core` checks that replies fit, so this is not seen.
const OTHER_KIND: Cause = Cause::Malformed("it is of another kind");

/// How a compare-and-swap went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Whether the key had the expected value and was changed.
    pub is_swapped: bool,
    /// The value that the key had before; `None`: it did not exist.
    pub previous: Option<Bytes>,
}

/// How long a value has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The key does not exist.
    Absent,
    /// The value never expires.
    Never,
    /// It expires after this time.
    Left(Duration),
}

/// What two equal sets of pairs have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// XOR over all pairs of CRC-64/XZ of key and value.
    pub checksum: u64,
    /// Pairs counted.
    pub total_pairs: u64,
    /// Bytes of keys and values.
    pub total_bytes: u64,
}

impl Client {
    /// Connects to a cluster, given the addresses (`host:port`) of one or more of its stores. The runtime that it is
    /// called on runs the connections.
    ///
    /// # Errors
    ///
    /// If none of them answers, or none belongs to a cluster yet.
    pub async fn connect(addresses: &[impl AsRef<str>]) -> Result<Client> {
        Client::connect_with(addresses, Options::default()).await
    }

    /// Like [`Client::connect`], not with the default options.
    ///
    /// # Errors
    ///
    /// If none of the addresses answers, or none belongs to a cluster yet.
    pub async fn connect_with(addresses: &[impl AsRef<str>], options: Options) -> Result<Client> {
        let addresses: Vec<_> = addresses.iter().map(|address| address.as_ref().to_owned()).collect();
        Ok(Client { driver: Arc::new(Driver::connect(&addresses, options).await?) })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.driver.cluster_id()
    }

    /// The addresses of the cluster's stores, as far as they were known when this client connected.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.driver.endpoints()
    }

    /// The value of a key; `None`: it does not exist.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>> {
        let reply = self.run(Work::Get { key: key.into() }).await?;
        let Reply::Read(Answer::Value(value)) = reply else { return Err(Error::Failed(OTHER_KIND)) };
        Ok(value)
    }

    /// The pairs of those keys that exist, in order of the keys. Keys of different regions are read at different moments.
    pub async fn batch_get(
        &self,
        keys: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(Work::BatchGet { keys: keys.into_iter().map(Into::into).collect() }).await
    }

    /// Sets a key.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<()> {
        self.write(Work::Put(Pair { key: key.into(), value: value.into(), ttl_seconds: 0 })).await
    }

    /// Sets a key to a value that expires. Stores count in seconds: the time is rounded up, and zero never expires.
    pub async fn put_with_ttl(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<()> {
        self.write(Work::Put(Pair { key: key.into(), value: value.into(), ttl_seconds: seconds(ttl) })).await
    }

    /// Sets several keys; where a key repeats, the last value wins. This is not atomic: it is sent in batches of one
    /// region each, of which each happens wholly or not at all.
    pub async fn batch_put(
        &self,
        pairs: impl IntoIterator<Item = (impl Into<Bytes>, impl Into<Bytes>)>,
    ) -> Result<()> {
        let pairs = pairs.into_iter().map(|(key, value)| Pair {
            key: key.into(),
            value: value.into(),
            ttl_seconds: 0,
        });
        self.write(Work::BatchPut { pairs: pairs.collect() }).await
    }

    /// Removes a key; removing what is not there succeeds.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<()> {
        self.write(Work::Delete { key: key.into() }).await
    }

    /// Removes several keys. Not atomic, like [`Client::batch_put`].
    pub async fn batch_delete(&self, keys: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<()> {
        self.write(Work::BatchDelete { keys: keys.into_iter().map(Into::into).collect() }).await
    }

    /// Removes every key of a range. Atomic in each region only.
    pub async fn delete_range(&self, range: KeyRange) -> Result<()> {
        self.write(Work::DeleteRange { range }).await
    }

    /// The first `limit` pairs of a range, in order of the keys. Each page of them is read at its own moment.
    pub async fn scan(&self, range: KeyRange, limit: u32) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(Work::Scan(Scan { range, limit, is_key_only: false, is_reverse: false })).await
    }

    /// The last `limit` pairs of a range, the last one first.
    pub async fn scan_reverse(&self, range: KeyRange, limit: u32) -> Result<Vec<(Bytes, Bytes)>> {
        self.pairs(Work::Scan(Scan { range, limit, is_key_only: false, is_reverse: true })).await
    }

    /// The first `limit` keys of a range, in order.
    pub async fn scan_keys(&self, range: KeyRange, limit: u32) -> Result<Vec<Bytes>> {
        let scan = Scan { range, limit, is_key_only: true, is_reverse: false };
        Ok(self.pairs(Work::Scan(scan)).await?.into_iter().map(|(key, _)| key).collect())
    }

    /// Changes a key to `replacement` (`None`: removes it) if it has the value `expected` (`None`: does not exist). It is
    /// never sent twice where the first may have been applied.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        replacement: Option<Bytes>,
    ) -> Result<Swap> {
        let swap = CompareAndSwap { key: key.into(), expected, replacement, ttl_seconds: 0 };
        let reply = self.run(Work::CompareAndSwap(swap)).await?;
        let Reply::Written(Outcome::Swapped { is_swapped, previous }) = reply else {
            return Err(Error::Undetermined(OTHER_KIND));
        };
        Ok(Swap { is_swapped, previous })
    }

    /// How long the value of a key has left.
    pub async fn ttl(&self, key: impl Into<Bytes>) -> Result<Ttl> {
        let reply = self.run(Work::KeyTtl { key: key.into() }).await?;
        let Reply::Read(Answer::Ttl(ttl)) = reply else { return Err(Error::Failed(OTHER_KIND)) };
        Ok(match ttl {
            None => Ttl::Absent,
            Some(0) => Ttl::Never,
            Some(seconds) => Ttl::Left(Duration::from_secs(seconds)),
        })
    }

    /// The checksum of a range, each region at its own moment.
    pub async fn checksum(&self, range: KeyRange) -> Result<Checksum> {
        let reply = self.run(Work::Checksum { range }).await?;
        let Reply::Read(Answer::Checksum { checksum, total_pairs, total_bytes }) = reply else {
            return Err(Error::Failed(OTHER_KIND));
        };
        Ok(Checksum { checksum, total_pairs, total_bytes })
    }

    /// The region that holds a key now, with its peers, as placement knows it.
    pub async fn find_region(&self, key: impl Into<Bytes>) -> Result<Region> {
        self.driver.find_region(key.into()).await
    }

    /// The regions that hold keys of a range, in order and without a gap, with their leaders where they are known. It ends
    /// after some thousand regions: ask again from the last end key.
    pub async fn regions(&self, range: KeyRange) -> Result<Vec<(Region, Option<Peer>)>> {
        self.driver.regions(range).await
    }

    /// Lets regions begin at these keys, whichever regions hold them. Those at which one begins already count as finished,
    /// so it can be asked again for the rest.
    pub async fn split(&self, keys: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<Split> {
        self.driver.split(keys.into_iter().map(Into::into).collect()).await
    }

    /// Carries out what the other methods ask for; here for those who generate their work.
    pub async fn run(&self, work: Work) -> Result<Reply> {
        self.driver.run(work).await
    }

    async fn write(&self, work: Work) -> Result<()> {
        self.run(work).await.map(drop)
    }

    async fn pairs(&self, work: Work) -> Result<Vec<(Bytes, Bytes)>> {
        let Reply::Read(Answer::Pairs(pairs)) = self.run(work).await? else {
            return Err(Error::Failed(OTHER_KIND));
        };
        Ok(pairs)
    }
}

fn seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}
