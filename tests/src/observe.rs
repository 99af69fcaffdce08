//! What a store's process uses, and what it counts.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::Cluster;

/// A store shows its counters within this time, also on a busy machine.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

impl Cluster {
    /// User and system time that a store's process has used.
    pub fn cpu_time(&self, at: usize) -> Result<Duration> {
        cpu_time(&self.pid(at)?.to_string())
    }

    /// Bytes that a store's process has in memory and that no file backs.
    pub fn memory_bytes(&self, at: usize) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(at)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1_024)
    }

    /// What a store counts under each of these names, labels added up; one that it has not counted yet is zero.
    pub async fn metrics<const N: usize>(&self, at: usize, names: [&str; N]) -> Result<[f64; N]> {
        let text = timeout(SCRAPE_TIMEOUT, self.get(at, "/metrics")).await.context("it is silent")??;
        let sum = |name: &str| {
            let samples = text.lines().filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
            });
            samples.sum()
        };
        Ok(names.map(sum))
    }

    /// Asks a store by plain HTTP.
    async fn get(&self, at: usize, path: &str) -> Result<String> {
        let address = &self.addresses()[at];
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        let response = String::from_utf8(response)?;
        ensure!(response.starts_with("HTTP/1.1 200"), "{:?}", response.lines().next());
        Ok(response)
    }
}

/// User and system time that this process has used.
pub fn own_cpu_time() -> Result<Duration> {
    cpu_time("self")
}

/// The kernel counts in hundredths of a second.
fn cpu_time(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(10 * ticks))
}
