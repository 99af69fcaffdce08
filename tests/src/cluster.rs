//! Stores as child processes of a test, on loopback, in a temporary directory.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use client::Client;
use proto::pdpb::{GetRegionByIdRequest, GetRegionResponse, RequestHeader, pd_client::PdClient};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Fsync, PowerSupply, wires::Wires};

/// The first region of the client keyspace.
const FIRST_REGION: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// So many lines of each store's log are shown if a test fails.
const LINES_SHOWN: usize = 40;

/// How a test's stores are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many.
    pub stores: usize,
    /// Whether the stores' disks can lose power, and their fsync be told what to do.
    pub has_power_supply: bool,
    /// Whether each store can be cut off from the others and from clients.
    pub has_wires: bool,
    /// Lines for each store's configuration file.
    pub configuration: String,
    /// What starts each store: words before the command's own, such as those of a shell that sets limits first. The
    /// variable `DATA_DIR` names the store's data directory.
    pub launcher: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            stores: 3,
            has_power_supply: false,
            has_wires: false,
            configuration: String::new(),
            launcher: Vec::new(),
        }
    }
}

/// A running cluster; its processes end and its directory goes with it.
pub struct Cluster {
    stores: Vec<Store>,
    options: Options,
    power: Option<PowerSupply>,
    wires: Option<Wires>,
    directory: TempDir,
}

struct Store {
    /// Where others reach it.
    address: String,
    /// Where it listens, if that is another address.
    own_address: Option<String>,
    /// Whether it runs and hears nobody: it is stopped, or cut off.
    is_deaf: AtomicBool,
    data_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts stores, makes a cluster of them, and waits until the first region has a voter on each (of three).
    pub async fn start(options: Options) -> Result<Cluster> {
        let directory = TempDir::new()?;
        let power = options.has_power_supply.then(PowerSupply::build).transpose()?;
        let wires = options.has_wires.then(Wires::new);
        let mut cluster = Cluster { stores: Vec::new(), options, power, wires, directory };
        for _ in 0..cluster.options.stores {
            cluster.prepare_store()?;
        }
        for at in 0..cluster.stores.len() {
            cluster.spawn(at)?;
        }
        cluster.init().await?;
        let voters = cluster.stores.len().min(3);
        cluster.wait_for_voters(voters).await?;
        Ok(cluster)
    }

    /// Starts one store more, which joins the others.
    pub fn add_store(&mut self) -> Result<usize> {
        let at = self.prepare_store()?;
        self.spawn(at)?;
        Ok(at)
    }

    fn prepare_store(&mut self) -> Result<usize> {
        let at = self.stores.len();
        let name = format!("store-{}", at + 1);
        let data_dir = self.directory.path().join(&name);
        fs::create_dir(&data_dir)?;
        let log = self.directory.path().join(format!("{name}.log"));
        let address = free_address()?;
        let own_address = self.wires.is_some().then(free_address).transpose()?;
        let is_deaf = AtomicBool::new(false);
        self.stores.push(Store { address, own_address, is_deaf, data_dir, log, child: None });
        Ok(at)
    }

    /// Every store's address.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.stores.iter().map(|store| store.address.clone()).collect()
    }

    /// A connection to a store.
    pub async fn channel(&self, at: usize) -> Result<Channel> {
        connect(&self.stores[at].address).await
    }

    /// A store's process.
    pub fn pid(&self, at: usize) -> Result<u32> {
        Ok(self.stores[at].child.as_ref().context("the store does not run")?.id())
    }

    /// A store's data directory.
    #[must_use]
    pub fn data_dir(&self, at: usize) -> &Path {
        &self.stores[at].data_dir
    }

    /// What a store has logged.
    pub fn log(&self, at: usize) -> String {
        fs::read_to_string(&self.stores[at].log).unwrap_or_default()
    }

    /// Our client, connected.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.addresses()).await?)
    }

    /// Starts a store that does not run.
    pub fn spawn(&mut self, at: usize) -> Result<()> {
        let mut command = self.command(at)?;
        let store = &mut self.stores[at];
        ensure!(store.child.is_none(), "store {at} runs already");
        let log = File::options().create(true).append(true).open(&store.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("start a store")?;
        let process = store.child.insert(child).id();
        if let (Some(wires), Some(own_address)) = (&self.wires, &store.own_address) {
            wires.lay(at, process, &store.address, own_address)?;
        }
        Ok(())
    }

    fn command(&self, at: usize) -> Result<Command> {
        let store = &self.stores[at];
        let mut command = launched(&self.options.launcher, &binary()?);
        command.env("DATA_DIR", &store.data_dir).arg("start").arg("--data-dir").arg(&store.data_dir);
        command.args(["--addr", store.own_address.as_ref().unwrap_or(&store.address)]);
        command.args(["--advertise-addr", &store.address, "--join", &self.addresses().join(",")]);
        if !self.options.configuration.is_empty() {
            let file = self.directory.path().join("sheaf.toml");
            fs::write(&file, &self.options.configuration)?;
            command.arg("--config").arg(file);
        }
        if let Some(power) = &self.power {
            power.plug_in(&mut command, &store.data_dir)?;
        }
        Ok(command)
    }

    /// Runs `sheaf` with these arguments.
    pub fn run(arguments: &[&str]) -> Result<std::process::Output> {
        Ok(Command::new(binary()?).args(arguments).output()?)
    }

    /// Runs `sheaf` with these arguments; an error with what it says, if it fails.
    pub fn run_well(arguments: &[&str]) -> Result<()> {
        let output = Cluster::run(arguments)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    async fn init(&self) -> Result<()> {
        let address = self.stores[0].address.clone();
        eventually("init the cluster", PATIENCE, async || Cluster::run_well(&["init", "--addr", &address]))
            .await
    }

    /// Waits until the first region has this many voters.
    pub async fn wait_for_voters(&self, count: usize) -> Result<()> {
        eventually("the first region to get its voters", PATIENCE, async || {
            let region = self.first_region().await?.region.context("no region")?;
            let voters = region.peers.iter().filter(|peer| peer.role == 0).count();
            ensure!(
                voters == count && region.peers.len() == count,
                "{} peers, {voters} voters",
                region.peers.len()
            );
            Ok(())
        })
        .await
    }

    /// The first region as placement sees it, asked of any store that answers.
    pub async fn first_region(&self) -> Result<GetRegionResponse> {
        let mut last = anyhow::anyhow!("no store runs");
        for at in self.answering() {
            match first_region_at(&self.stores[at].address).await {
                Ok(region) => return Ok(region),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Which store leads the first region, once there is one that runs.
    pub async fn leader(&self) -> Result<usize> {
        let mut found = None;
        eventually("a leader", PATIENCE, async || {
            // Clients are told who led it last while nobody does; operators are not.
            let (_, leader) = self.region(FIRST_REGION).await?;
            ensure!(leader != 0, "no leader");
            for at in self.answering() {
                if self.has_store_id(&self.stores[at].address, leader).await.unwrap_or(false) {
                    found = Some(at);
                    return Ok(());
                }
            }
            bail!("the leader is on store {leader}, which does not answer")
        })
        .await?;
        found.context("no leader")
    }

    /// Whether the store with this id has this address.
    async fn has_store_id(&self, address: &str, id: u64) -> Result<bool> {
        let mut placement = PdClient::new(connect(address).await?);
        let request = proto::pdpb::GetStoreRequest { header: Some(RequestHeader::default()), store_id: id };
        let response = placement.get_store(timed(request)).await?.into_inner();
        Ok(response.store.is_some_and(|store| store.address == address))
    }

    /// Ends a store without a warning.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        // Before it is dead: a connection that a proxy takes for nobody is not refused, as a dead store's port would.
        self.lift_wire(at);
        self.signal(at, Signal::KILL)?;
        self.wait(at).map(|_| ())
    }

    /// Ends a store that runs without a warning, and empties its data directory.
    pub fn wipe(&mut self, at: usize) -> Result<()> {
        self.kill(at)?;
        let data_dir = &self.stores[at].data_dir;
        fs::remove_dir_all(data_dir)?;
        Ok(fs::create_dir(data_dir)?)
    }

    /// Cuts a store off from everybody else, or connects it again. The cluster must have been started with wires.
    pub fn set_cut_off(&self, at: usize, is_cut_off: bool) -> Result<()> {
        self.wires.as_ref().context("started without wires")?.set_cut(at, is_cut_off);
        self.stores[at].is_deaf.store(is_cut_off, Ordering::Relaxed);
        Ok(())
    }

    /// The stores that run and are neither stopped nor cut off.
    pub fn answering(&self) -> impl Iterator<Item = usize> {
        let is_answering = |at: &usize| {
            self.stores[*at].child.is_some() && !self.stores[*at].is_deaf.load(Ordering::Relaxed)
        };
        (0..self.stores.len()).filter(is_answering)
    }

    /// Sends a signal to a store.
    pub fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        if [Signal::STOP, Signal::CONT].contains(&signal) {
            self.stores[at].is_deaf.store(signal == Signal::STOP, Ordering::Relaxed);
        }
        let child = self.stores[at].child.as_ref().context("the store does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// How a store has ended, if it has.
    pub fn try_wait(&mut self, at: usize) -> Result<Option<ExitStatus>> {
        let store = &mut self.stores[at];
        let status = store.child.as_mut().context("the store does not run")?.try_wait()?;
        if status.is_some() {
            store.child = None;
            self.lift_wire(at);
        }
        Ok(status)
    }

    /// Waits for a store to end.
    pub fn wait(&mut self, at: usize) -> Result<ExitStatus> {
        let mut child = self.stores[at].child.take().context("the store does not run")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.lift_wire(at);
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill()?;
        bail!("store {at} did not end in {PATIENCE:?}")
    }

    fn lift_wire(&self, at: usize) {
        if let Some(wires) = &self.wires {
            wires.lift(at);
        }
    }

    /// From now on a store's fsync does this.
    pub async fn set_fsync(&self, at: usize, fsync: Fsync) -> Result<()> {
        let power = self.power.as_ref().context("started without a power supply")?;
        power.set_fsync(&self.stores[at].data_dir, fsync).await
    }

    /// Every store loses power at once, and ends.
    pub fn lose_power(&mut self) -> Result<()> {
        let power = self.power.as_ref().context("started without a power supply")?;
        for store in self.stores.iter().filter(|store| store.child.is_some()) {
            power.cut(&store.data_dir)?;
        }
        for at in 0..self.stores.len() {
            let status = self.wait(at)?;
            ensure!(status.code() == Some(99), "store {at} ended with {status} instead of losing power");
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for store in &mut self.stores {
            if let Some(child) = &mut store.child {
                // It may have ended by itself.
                drop(child.kill());
                drop(child.wait());
            }
        }
        // The runner runs each test in a thread of its name, and shows what it prints only if it fails.
        let thread = std::thread::current();
        if let Some(test) = thread.name().filter(|name| *name != "main")
            && let Err(error) = self.keep_logs(&test.replace("::", "."))
        {
            eprintln!("the stores' logs are lost: {error:?}");
        }
    }
}

impl Cluster {
    /// Prints the end of each store's log, and keeps the whole where the test's next run overwrites it.
    fn keep_logs(&self, test: &str) -> Result<()> {
        let folder = build_folder()?.join("test-logs").join(test);
        fs::create_dir_all(&folder)?;
        eprintln!("--- the stores' whole logs are kept in {}", folder.display());
        for store in &self.stores {
            let log = fs::read_to_string(&store.log)?;
            fs::write(folder.join(store.log.file_name().context("a log has a name")?), &log)?;
            let lines: Vec<_> = log.lines().rev().take(LINES_SHOWN).collect();
            eprintln!("--- the end of the log of the store at {}", store.address);
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        Ok(())
    }
}

async fn first_region_at(address: &str) -> Result<GetRegionResponse> {
    let mut placement = PdClient::new(connect(address).await?);
    let request = GetRegionByIdRequest {
        header: Some(RequestHeader::default()),
        region_id: FIRST_REGION,
        ..GetRegionByIdRequest::default()
    };
    Ok(placement.get_region_by_id(timed(request)).await?.into_inner())
}

async fn connect(address: &str) -> Result<Channel> {
    Ok(Endpoint::new(format!("http://{address}"))?.connect_timeout(Duration::from_secs(1)).connect().await?)
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(2));
    request
}

/// The command `program`, started by the words of `launcher`, if there are any.
fn launched(launcher: &[String], program: &Path) -> Command {
    match launcher {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

/// The binary under test: SHEAF_BIN, or the one beside the test's own.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SHEAF_BIN") {
        return Ok(path.into());
    }
    let path = build_folder()?.join("sheaf");
    ensure!(path.exists(), "no {}: build it with `cargo build --release -p server`", path.display());
    Ok(path)
}

/// Where the build puts binaries, such as `target/release`.
fn build_folder() -> Result<PathBuf> {
    let test = env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test lies in target/release/deps")?;
    Ok(folder.to_path_buf())
}

/// An address for a store, which it can have again after a restart: the system gives ports below 32,768 to nobody who
/// does not ask for them, so no connection of another process takes one meanwhile.
pub fn free_address() -> Result<String> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..1_000 {
        let port = 10_000 + u16::try_from(RandomState::new().hash_one(()) % 22_000)?;
        let is_new = GIVEN.lock().map_err(|_| anyhow::anyhow!("another test panicked"))?.insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(format!("127.0.0.1:{port}"));
        }
    }
    bail!("no port is free")
}

/// Tries until it works, or the time is up; then fails with the last reason.
pub async fn eventually(
    what: &str,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("waited for {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
