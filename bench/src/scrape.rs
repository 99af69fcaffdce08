//! What stores count, before and after: `GET /metrics`.

use std::collections::BTreeMap;

use telemetry::names;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::limits::{SCRAPE_BYTES_MAX, SCRAPE_TIMEOUT};

/// The counters of one store at one moment: by name, labels added up.
pub(crate) type Counters = BTreeMap<String, f64>;

/// Names that a report keeps, and under which keys.
const REPORTED: [(&str, &str); 14] = [
    ("fsyncs", names::LOG_FSYNCS),
    ("log_batches", names::LOG_BATCHES),
    ("log_entries", names::LOG_ENTRIES),
    ("log_entry_bytes", names::LOG_ENTRY_BYTES),
    ("propose_requests", names::PROPOSE_REQUESTS),
    ("propose_entries", names::PROPOSE_ENTRIES),
    ("apply_batches", names::APPLY_BATCHES),
    ("apply_requests", names::APPLY_REQUESTS),
    ("frames_sent", names::TRANSPORT_FRAMES_SENT),
    ("messages_sent", names::TRANSPORT_MESSAGES_SENT),
    ("client_batches", names::SERVER_BATCHES_RECEIVED),
    ("client_commands", names::SERVER_COMMANDS_RECEIVED),
    ("elections", names::RAFT_ELECTIONS),
    ("cpu_seconds", names::PROCESS_CPU_SECONDS),
];

/// Quotients that a report adds: how well batches form at each stage.
const QUOTIENTS: [(&str, &str, &str); 8] = [
    ("requests_per_log_batch", "apply_requests", "log_batches"),
    ("requests_per_frame", "apply_requests", "frames_sent"),
    ("entries_per_log_batch", "log_entries", "log_batches"),
    ("requests_per_entry", "propose_requests", "propose_entries"),
    ("requests_per_apply_batch", "apply_requests", "apply_batches"),
    ("messages_per_frame", "messages_sent", "frames_sent"),
    ("commands_per_client_batch", "client_commands", "client_batches"),
    ("requests_per_fsync", "propose_requests", "fsyncs"),
];

/// Reads the counters of the store at an address.
pub(crate) async fn scrape(address: &str) -> Result<Counters, String> {
    let text = timeout(SCRAPE_TIMEOUT, fetch(address)).await.map_err(|_| "it is silent".to_owned())?;
    Ok(parse(&text.map_err(|error| error.to_string())?))
}

/// Reads the counters of all stores; those that do not answer are left out.
pub(crate) async fn scrape_all(addresses: &[String]) -> BTreeMap<String, Counters> {
    let mut counters = BTreeMap::new();
    for address in addresses {
        if let Ok(found) = scrape(address).await {
            counters.insert(address.clone(), found);
        }
    }
    counters
}

async fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(SCRAPE_BYTES_MAX).read_to_end(&mut response).await?;
    let response = String::from_utf8_lossy(&response).into_owned();
    if response.starts_with("HTTP/1.1 200") || response.starts_with("HTTP/1.0 200") {
        return Ok(response);
    }
    Err(std::io::Error::other(response.lines().next().unwrap_or("no answer").to_owned()))
}

/// Adds up the samples of each name. Lines that are none (headers, lengths of chunks, comments) have no name that a
/// metric could have, or no number.
fn parse(text: &str) -> Counters {
    let mut counters = Counters::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or_default();
        let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if let (true, Ok(value)) = (is_name && !name.is_empty(), value.parse::<f64>()) {
            *counters.entry(name.to_owned()).or_default() += value;
        }
    }
    counters
}

/// What was counted between two moments, under the keys of a report, and the quotients.
pub(crate) fn difference(before: &Counters, after: &Counters) -> BTreeMap<&'static str, f64> {
    let value = |counters: &Counters, name: &str| counters.get(name).copied();
    let grown = |name| Some(value(after, name)? - value(before, name).unwrap_or(0.0));
    let counted = REPORTED.iter().filter_map(|(key, name)| Some((*key, grown(name)?)));
    let mut counted: BTreeMap<_, _> = counted.collect();
    add_quotients(&mut counted);
    counted
}

/// Sums over stores; quotients are made anew.
pub(crate) fn total(stores: &[&BTreeMap<&'static str, f64>]) -> BTreeMap<&'static str, f64> {
    let mut sums = BTreeMap::new();
    for (key, _) in REPORTED {
        let values: Vec<f64> = stores.iter().filter_map(|store| store.get(key).copied()).collect();
        if !values.is_empty() {
            sums.insert(key, values.iter().sum());
        }
    }
    add_quotients(&mut sums);
    sums
}

fn add_quotients(counted: &mut BTreeMap<&'static str, f64>) {
    for (key, dividend, divisor) in QUOTIENTS {
        if let (Some(dividend), Some(divisor)) = (counted.get(dividend), counted.get(divisor))
            && *divisor > 0.0
        {
            counted.insert(key, dividend / divisor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n1f4\r\n# HELP x y 5\n\
        sheaf_log_fsyncs_total 10\nsheaf_log_batches_total 10\nsheaf_log_entries_total 30\n\
        sheaf_transport_frames_sent_total{lane=\"append\"} 5\nsheaf_transport_frames_sent_total{lane=\"beat\"} 2\n";
    const AFTER: &str = "sheaf_log_fsyncs_total 30\nsheaf_log_batches_total 20\nsheaf_log_entries_total 130\n\
        sheaf_transport_frames_sent_total{lane=\"append\"} 15\nsheaf_transport_frames_sent_total{lane=\"beat\"} 3\n\
        sheaf_raft_elections_total 2\n";

    #[test]
    fn counters_are_added_up_and_subtracted() {
        let counted = difference(&parse(BEFORE), &parse(AFTER));
        let wanted = [
            ("elections", 2.0),
            ("entries_per_log_batch", 10.0),
            ("frames_sent", 11.0),
            ("fsyncs", 20.0),
            ("log_batches", 10.0),
            ("log_entries", 100.0),
        ];
        assert_eq!(counted.into_iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn quotients_of_a_total_are_not_sums() {
        let one = difference(&parse(BEFORE), &parse(AFTER));
        let sum = total(&[&one, &one]);
        assert_eq!((sum["log_entries"], sum["entries_per_log_batch"]), (200.0, 10.0));
    }

    #[tokio::test]
    async fn a_store_is_asked_over_http() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            for answer in [BEFORE, "HTTP/1.1 404 Not Found\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                let len = stream.read(&mut request).await.unwrap();
                assert!(request[..len].starts_with(b"GET /metrics HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(scrape(&address).await.unwrap()["sheaf_log_entries_total"].to_bits(), 30.0_f64.to_bits());
        assert!(scrape(&address).await.unwrap_err().contains("404"));
        server.await.unwrap();
        assert!(scrape_all(&[address]).await.is_empty());
    }
}
