//! Connections that can be cut: a proxy in front of each store, through which clients and the other stores reach it.
//!
//! What is under way in a cut connection waits and arrives when it is whole again, as with TCP over a network that loses
//! every packet for a while; a connection that is begun meanwhile is taken and stays silent.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

const BUFFER_BYTES: usize = 64 * 1024;
/// Connections about which the system is asked at once.
const CONNECTIONS_MAX: usize = 1_024;
const LISTEN_ATTEMPTS_MAX: usize = 1_000;
const LISTEN_INTERVAL: Duration = Duration::from_millis(5);

/// The proxies of a cluster.
pub(crate) struct Wires {
    shared: Arc<Shared>,
    unknown: mpsc::UnboundedSender<Unknown>,
}

struct Shared {
    /// That of each store that runs.
    wires: Mutex<BTreeMap<usize, Wire>>,
    /// A bit for each store that is cut off.
    cut: watch::Sender<u64>,
}

struct Wire {
    process: u32,
    /// Takes connections.
    accepting: JoinHandle<()>,
}

/// A connection of which it is asked whose it is.
struct Unknown {
    ports: Ports,
    /// The store that has begun it; none: somebody else has.
    begun_by: oneshot::Sender<Option<usize>>,
}

/// Where a connection begins and where it ends; both are on this machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ports {
    from: u16,
    to: u16,
}

impl Wires {
    pub(crate) fn new() -> Wires {
        let shared = Arc::new(Shared { wires: Mutex::default(), cut: watch::Sender::new(0) });
        let (unknown, asked) = mpsc::unbounded_channel();
        tokio::spawn(identify(Arc::clone(&shared), asked));
        Wires { shared, unknown }
    }

    /// A store's process has begun: from now on whoever connects to `address` reaches it at `target`.
    pub(crate) fn lay(&self, store: usize, process: u32, address: &str, target: &str) -> Result<()> {
        let listener = listen(address).with_context(|| format!("listen on {address}"))?;
        let to = listener.local_addr()?.port();
        let (unknown, cut, target) = (self.unknown.clone(), self.shared.cut.subscribe(), target.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                let (begun_by, known) = oneshot::channel();
                let ports = Ports { from: from.port(), to };
                // Whoever answers is there as long as somebody can ask.
                drop(unknown.send(Unknown { ports, begun_by }));
                let (cut, target) = (cut.clone(), target.clone());
                tokio::spawn(async move {
                    let from = known.await.unwrap_or_default();
                    carry(socket, target, Cut { mask: 1 << store | from.map_or(0, |from| 1 << from), cut })
                        .await;
                });
            }
        });
        let wire = Wire { process, accepting };
        self.shared.wires.lock().expect("nobody panics under the lock").insert(store, wire);
        Ok(())
    }

    /// A store's process has ended: whoever connects is refused, as where nobody listens.
    pub(crate) fn lift(&self, store: usize) {
        if let Some(wire) = self.shared.wires.lock().expect("nobody panics under the lock").remove(&store) {
            wire.accepting.abort();
        }
    }

    /// Cuts a store off from everybody else, or connects it again.
    pub(crate) fn set_cut(&self, store: usize, is_cut: bool) {
        self.shared.cut.send_modify(|cut| *cut = *cut & !(1 << store) | u64::from(is_cut) << store);
    }
}

/// Finds out who has begun connections. The system tells that only together with all other connections of the machine,
/// which takes milliseconds, or ten times as long on a busy one: so it is asked once for all that have come up meanwhile,
/// on a thread on which nothing else waits. Asked for each of them by the tasks that carry bytes, it let a busy machine's
/// stores lose all their connections, and never come to new ones.
async fn identify(shared: Arc<Shared>, mut asked: mpsc::UnboundedReceiver<Unknown>) {
    let mut round = Vec::new();
    while asked.recv_many(&mut round, CONNECTIONS_MAX).await > 0 {
        let ports: Vec<Ports> = round.iter().map(|unknown| unknown.ports).collect();
        let wires = Arc::clone(&shared);
        let found = tokio::task::spawn_blocking(move || wires.find_stores(&ports)).await.unwrap_or_default();
        for unknown in round.drain(..) {
            // Its connection may have gone.
            unknown.begun_by.send(found.get(&unknown.ports).copied()).unwrap_or_default();
        }
    }
}

impl Shared {
    /// The stores whose processes hold the sockets between these ports; those of somebody else are left out.
    fn find_stores(&self, ports: &[Ports]) -> BTreeMap<Ports, usize> {
        let processes: Vec<(usize, u32)> = {
            let wires = self.wires.lock().expect("nobody panics under the lock");
            wires.iter().map(|(store, wire)| (*store, wire.process)).collect()
        };
        let inodes = inodes(ports);
        let mut stores = BTreeMap::new();
        for (store, process) in processes {
            for file in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(file.path()).unwrap_or_default();
                let inode = target.to_str().and_then(|it| it.strip_prefix("socket:[")?.strip_suffix(']'));
                if let Some(ports) = inode.and_then(|inode| inodes.get(inode)) {
                    stores.insert(*ports, store);
                }
            }
        }
        stores
    }
}

/// A listener where one was lifted perhaps a moment ago, and is not gone yet.
fn listen(address: &str) -> std::io::Result<TcpListener> {
    let mut result = std::net::TcpListener::bind(address);
    for _ in 0..LISTEN_ATTEMPTS_MAX {
        if result.is_ok() {
            break;
        }
        std::thread::sleep(LISTEN_INTERVAL);
        result = std::net::TcpListener::bind(address);
    }
    let listener = result?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The system's numbers of the sockets between these ports of this machine.
fn inodes(wanted: &[Ports]) -> BTreeMap<String, Ports> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let sockets = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let ports = Ports { from: port(words.get(1)?)?, to: port(words.get(2)?)? };
        Some((ports, *words.get(9)?))
    });
    let found = sockets.filter(|(ports, _)| wanted.contains(ports));
    found.map(|(ports, inode)| (inode.to_owned(), ports)).collect()
}

/// Whether one connection is cut.
#[derive(Clone)]
struct Cut {
    mask: u64,
    cut: watch::Receiver<u64>,
}

impl Cut {
    /// Waits until it is whole.
    async fn mended(&mut self) {
        // An error: the cluster is gone, and so is what would be waited for.
        drop(self.cut.wait_for(|cut| cut & self.mask == 0).await);
    }

    /// Waits until it is cut.
    async fn happens(&mut self) {
        if self.cut.wait_for(|cut| cut & self.mask != 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One connection, from its first byte to its end.
async fn carry(socket: TcpStream, target: String, mut cut: Cut) {
    cut.mended().await;
    // Nobody listens there: who has connected sees its connection end.
    let Ok(onward) = TcpStream::connect(target).await else { return };
    for stream in [&socket, &onward] {
        drop(stream.set_nodelay(true));
    }
    let (from_reader, from_writer) = socket.into_split();
    let (to_reader, to_writer) = onward.into_split();
    tokio::select! {
        () = pump(from_reader, to_writer, cut.clone()) => {}
        () = pump(to_reader, from_writer, cut) => {}
    }
}

/// Carries bytes one way until one side has gone.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: Cut) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        cut.mended().await;
        let mut watched = cut.clone();
        let count = tokio::select! {
            biased;
            () = watched.happens() => continue,
            count = from.read(&mut buffer) => count,
        };
        cut.mended().await;
        match count {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
}
