//! Connections that can be cut: a proxy in front of each store, through which clients and the other stores reach it.
//!
//! What is under way in a cut connection waits and arrives when it is whole again, as with TCP over a network that loses
//! every packet for a while; a connection that is begun meanwhile is taken and stays silent.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
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
    sync::watch,
    task::JoinHandle,
};

const BUFFER_BYTES: usize = 64 * 1024;
const LISTEN_ATTEMPTS_MAX: usize = 1_000;
const LISTEN_INTERVAL: Duration = Duration::from_millis(5);

/// The proxies of a cluster.
pub(crate) struct Wires {
    shared: Arc<Shared>,
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

impl Wires {
    pub(crate) fn new() -> Wires {
        Wires { shared: Arc::new(Shared { wires: Mutex::default(), cut: watch::Sender::new(0) }) }
    }

    /// A store's process has begun: from now on whoever connects to `address` reaches it at `target`.
    pub(crate) fn lay(&self, store: usize, process: u32, address: &str, target: &str) -> Result<()> {
        let listener = listen(address).with_context(|| format!("listen on {address}"))?;
        let port = listener.local_addr()?.port();
        let (shared, target) = (Arc::clone(&self.shared), target.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                let from = shared.find_store(from.port(), port);
                let mask = 1 << store | from.map_or(0, |from| 1 << from);
                tokio::spawn(carry(socket, target.clone(), Cut { mask, cut: shared.cut.subscribe() }));
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

impl Shared {
    /// The store whose process holds the socket between these ports; none: somebody else does.
    fn find_store(&self, from_port: u16, to_port: u16) -> Option<usize> {
        let inode = find_inode(from_port, to_port)?;
        let link = PathBuf::from(format!("socket:[{inode}]"));
        let wires = self.wires.lock().expect("nobody panics under the lock");
        let is_holder = |wire: &Wire| {
            let files = fs::read_dir(format!("/proc/{}/fd", wire.process)).into_iter().flatten().flatten();
            files.map(|file| fs::read_link(file.path())).any(|target| target.is_ok_and(|it| it == link))
        };
        wires.iter().find(|(_, wire)| is_holder(wire)).map(|(store, _)| *store)
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

/// The system's number of the socket between these ports of this machine.
fn find_inode(from_port: u16, to_port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (from, to) = (format!(":{from_port:04X}"), format!(":{to_port:04X}"));
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&from) && words.get(2)?.ends_with(&to);
        is_it.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
    })
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
