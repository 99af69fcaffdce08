//! The client over sockets, against a cluster in this process that can be told to misbehave.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it runs on sockets and measures time"
)]

mod fake;

use std::time::Duration;

use bytes::Bytes;
use client::{Cause, Client, Error, KeyRange, Options, Ttl, core::RetryPolicy};
use fake::{CLUSTER_ID, Cluster, Fault};
use types::{RegionId, StoreId};

async fn connect(cluster: &Cluster, retry: RetryPolicy) -> Client {
    let seeds = cluster.state().seeds();
    let options = Options { retry, ..Options::default() };
    Client::connect_with(&seeds[..1], options).await.expect("the fake cluster answers")
}

fn text(pairs: &[(Bytes, Bytes)]) -> String {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("values are text");
    pairs.iter().map(|(key, value)| format!("{}={} ", text(key), text(value))).collect()
}

#[tokio::test]
async fn every_operation_over_three_regions_and_stores() {
    let cluster = Cluster::start(3, &["", "h", "p"]).await;
    let client = connect(&cluster, RetryPolicy::default()).await;
    assert_eq!(client.cluster_id().0, CLUSTER_ID);
    assert_eq!(client.endpoints().len(), 3);

    client.put("a", "1").await.expect("the fake cluster answers");
    client
        .batch_put([("k", "2"), ("z", "3"), ("b", "4"), ("k", "5")])
        .await
        .expect("the fake cluster answers");
    assert_eq!(client.get("k").await.expect("the fake cluster answers").as_deref(), Some(&b"5"[..]));
    assert_eq!(client.get("x").await.expect("the fake cluster answers"), None);
    assert_eq!(
        text(&client.batch_get(["z", "a", "nothing"]).await.expect("the fake cluster answers")),
        "a=1 z=3 "
    );
    assert_eq!(
        text(&client.scan(KeyRange::ALL, 100).await.expect("the fake cluster answers")),
        "a=1 b=4 k=5 z=3 "
    );
    assert_eq!(
        text(&client.scan(KeyRange::new("b", "z"), 100).await.expect("the fake cluster answers")),
        "b=4 k=5 "
    );
    assert_eq!(
        text(&client.scan_reverse(KeyRange::ALL, 3).await.expect("the fake cluster answers")),
        "z=3 k=5 b=4 "
    );
    assert_eq!(
        text(&client.scan_reverse(KeyRange::new("", "h"), 9).await.expect("the fake cluster answers")),
        "b=4 a=1 "
    );
    assert_eq!(client.scan_keys(KeyRange::new("", "h"), 1).await.expect("the fake cluster answers"), ["a"]);
    assert_eq!(client.ttl("a").await.expect("the fake cluster answers"), Ttl::Never);
    assert_eq!(client.ttl("x").await.expect("the fake cluster answers"), Ttl::Absent);
    let checksum = client.checksum(KeyRange::ALL).await.expect("the fake cluster answers");
    assert_eq!((checksum.checksum, checksum.total_pairs, checksum.total_bytes), (0b1_1100, 4, 8));

    let swap = client
        .compare_and_swap("a", Some("0".into()), Some("9".into()))
        .await
        .expect("the fake cluster answers");
    assert_eq!((swap.is_swapped, swap.previous.as_deref()), (false, Some(&b"1"[..])));
    let swap = client.compare_and_swap("a", Some("1".into()), None).await.expect("the fake cluster answers");
    assert!(swap.is_swapped);
    assert_eq!(client.get("a").await.expect("the fake cluster answers"), None);

    client.delete("b").await.expect("the fake cluster answers");
    client.batch_delete(["z"]).await.expect("the fake cluster answers");
    client.put_with_ttl("y", "6", Duration::from_millis(1_500)).await.expect("the fake cluster answers");
    assert_eq!(text(&client.scan(KeyRange::ALL, 100).await.expect("the fake cluster answers")), "k=5 y=6 ");
    client.delete_range(KeyRange::new("c", "")).await.expect("the fake cluster answers");
    assert!(cluster.state().pairs.is_empty());
    assert_eq!(client.find_region("k").await.expect("the fake cluster answers").id, RegionId(3));
}

#[tokio::test]
async fn a_moved_leader_and_a_split_region_are_followed() {
    let cluster = Cluster::start(3, &[""]).await;
    let client = connect(&cluster, RetryPolicy::default()).await;
    client.put("k", "1").await.expect("the fake cluster answers");
    let lookups = cluster.state().lookup_count;

    cluster.state().leaders.insert(RegionId(2), StoreId(3));
    client.put("k", "2").await.expect("the fake cluster answers");
    cluster.state().split("m");
    client.put("k", "3").await.expect("the fake cluster answers");
    client.put("z", "4").await.expect("the fake cluster answers");
    assert_eq!(text(&client.scan(KeyRange::ALL, 9).await.expect("the fake cluster answers")), "k=3 z=4 ");
    assert_eq!(cluster.state().lookup_count, lookups, "the stores' answers say it all");

    cluster.state().faults.extend([Fault::NoHint, Fault::Busy(20)]);
    client.put("k", "5").await.expect("the fake cluster answers");
    assert_eq!(cluster.state().lookup_count, lookups + 1, "without a hint placement is asked");
}

/// Operations on many regions that nothing is known of, as after a start, share their lookups; and likewise on many that
/// have lost their leader's store, of which only the doubted ones are learnt anew.
#[tokio::test]
async fn one_lookup_serves_operations_on_many_regions() {
    let starts: Vec<&'static str> = (0..300).map(|at| &*format!("{at:03}").leak()).collect();
    let cluster = Cluster::start(3, &[&[""], &starts[1..]].concat()).await;
    let client = connect(&cluster, RetryPolicy::default()).await;
    let puts = || futures::future::join_all(starts.iter().map(|key| client.put(*key, "1")));
    assert!(puts().await.iter().all(Result::is_ok));
    let lookups = cluster.state().lookup_count;
    assert!(lookups <= 6, "{lookups} lookups of 300 regions");

    cluster.state().leaders.values_mut().for_each(|store| *store = StoreId(store.0 % 3 + 1));
    cluster.state().faults.extend(std::iter::repeat_n(Fault::NoHint, 300));
    assert!(puts().await.iter().all(Result::is_ok));
    let lookups = cluster.state().lookup_count - lookups;
    assert!((1..=30).contains(&lookups), "{lookups} lookups of 300 regions that are led from elsewhere");
}

#[tokio::test]
async fn the_fate_of_a_write_is_told_as_it_is() {
    let cluster = Cluster::start(1, &[""]).await;
    let client = connect(&cluster, RetryPolicy::default()).await;
    client.put("k", "0").await.expect("the fake cluster answers");

    for fault in [Fault::ApplyAndBreak, Fault::Break, Fault::Undetermined] {
        cluster.state().faults.push_back(fault.clone());
        let error = client.put("k", "1").await.unwrap_err();
        assert!(error.is_undetermined(), "{fault:?}: {error}");
        // The connection comes back by itself.
        client.put("k", "2").await.expect("the fake cluster answers");
    }
    cluster.state().faults.push_back(Fault::Break);
    assert_eq!(
        client.get("k").await.expect("the fake cluster answers").as_deref(),
        Some(&b"2"[..]),
        "reads are repeated"
    );
    cluster.state().faults.push_back(Fault::Break);
    let swap = client.compare_and_swap("k", None, None).await;
    assert!(swap.unwrap_err().is_undetermined());
    let error = client.put("", "v").await.unwrap_err();
    assert!(matches!(error, Error::Failed(Cause::Refused(_))), "{error}");
}

#[tokio::test]
async fn repeated_writes_succeed_where_that_was_asked_for() {
    let cluster = Cluster::start(1, &[""]).await;
    let client = connect(&cluster, RetryPolicy { retry_idempotent: true, ..RetryPolicy::default() }).await;
    cluster.state().faults.extend([Fault::ApplyAndBreak, Fault::Undetermined, Fault::Break]);
    client.put("k", "1").await.expect("the fake cluster answers");
    cluster.state().faults.push_back(Fault::Break);
    assert!(client.compare_and_swap("k", None, None).await.unwrap_err().is_undetermined());
}

#[tokio::test]
async fn a_silent_store_is_not_waited_for() {
    let cluster = Cluster::start(1, &[""]).await;
    let retry = RetryPolicy { call_timeout: Duration::from_millis(150), ..RetryPolicy::default() };
    let client = connect(&cluster, retry).await;
    cluster.state().faults.push_back(Fault::Silence);
    let started = std::time::Instant::now();
    assert!(client.put("k", "1").await.unwrap_err().is_undetermined());
    assert!(started.elapsed() >= Duration::from_millis(150));
    cluster.state().faults.push_back(Fault::Silence);
    assert_eq!(client.get("k").await.expect("the fake cluster answers"), None);
}

#[tokio::test]
async fn what_never_left_has_not_happened() {
    let cluster = Cluster::start(2, &[""]).await;
    let retry = RetryPolicy { backoffs_max: 3, ..RetryPolicy::default() };
    let client = connect(&cluster, retry).await;
    // Nobody listens on port 1.
    for address in cluster.state().addresses.values_mut() {
        *address = "127.0.0.1:1".to_owned();
    }
    for _ in 0..2 {
        let error = client.put("k", "1").await.unwrap_err();
        assert!(matches!(error, Error::TimedOutBeforeSending(Cause::NotSent(_))), "{error}");
    }
    let error = client.compare_and_swap("k", None, None).await.unwrap_err();
    assert!(matches!(error, Error::TimedOutBeforeSending(Cause::NotSent(_))), "{error}");
}

#[tokio::test]
async fn without_a_cluster_there_is_no_client() {
    let error = Client::connect(&["127.0.0.1:1"]).await.err().unwrap();
    assert!(matches!(error, Error::TimedOutBeforeSending(Cause::Placement(_))), "{error}");
    let error = Client::connect(&["192.0.2.1:20160"]).await.err().unwrap();
    assert!(error.to_string().contains("not on this machine"), "{error}");
}

#[tokio::test]
async fn requests_that_come_up_together_leave_together() {
    let cluster = Cluster::start(1, &[""]).await;
    let client = connect(&cluster, RetryPolicy::default()).await;
    client.put("k", "0").await.expect("the fake cluster answers");
    let sizes_before = cluster.state().message_sizes.len();
    let puts = (0..300).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.put(format!("k{number}"), "v").await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("the fake cluster answers").unwrap();
    }
    let state = cluster.state();
    assert_eq!(state.pairs.len(), 301);
    let sizes = &state.message_sizes[sizes_before..];
    assert_eq!(sizes.iter().sum::<usize>(), 300);
    assert!(sizes.len() <= 10, "{sizes:?}");
}
