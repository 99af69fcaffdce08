//! Load from several clients at once, whose history must be linearizable.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use check::history::{Client as Who, History, Operation, Outcome};
use client::Client;
use tokio::task::JoinHandle;

/// Clients that put and get a few keys until they are stopped.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    client: Client,
    keys: Vec<String>,
    history: Mutex<History>,
    started: Instant,
    is_stopping: AtomicBool,
    /// Whether no new write is begun.
    is_read_only: AtomicBool,
    next_value: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    undetermined: AtomicU64,
    first_failure: Mutex<Option<String>>,
    /// The longest time between two writes that succeeded, over all clients, in milliseconds.
    last_success: Mutex<(Instant, Duration)>,
}

/// How a load went.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Operations with a result.
    pub done: u64,
    /// Operations that did not happen.
    pub failed: u64,
    /// Why the first of them did not.
    pub first_failure: Option<String>,
    /// Writes that may have happened.
    pub undetermined: u64,
    /// The longest time in which no client's write succeeded.
    pub longest_gap: Duration,
}

impl Load {
    /// Starts `count` clients over `keys` keys.
    #[must_use]
    pub fn start(client: Client, count: u64, keys: u64) -> Load {
        Load::over(client, count, (0..keys).map(|key| format!("key-{key}")).collect())
    }

    /// Starts `count` clients over these keys.
    #[must_use]
    pub fn over(client: Client, count: u64, keys: Vec<String>) -> Load {
        let shared = Arc::new(Shared {
            client,
            keys,
            history: Mutex::new(History::new()),
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
            next_value: AtomicU64::new(1),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            undetermined: AtomicU64::new(0),
            first_failure: Mutex::new(None),
            last_success: Mutex::new((Instant::now(), Duration::ZERO)),
        });
        let clients = (0..count).map(|id| tokio::spawn(drive(Arc::clone(&shared), id))).collect();
        Load { shared, clients }
    }

    /// Operations with a result so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Writes so far that may have happened.
    #[must_use]
    pub fn undetermined(&self) -> u64 {
        self.shared.undetermined.load(Ordering::Relaxed)
    }

    /// Lets the load run until this many more operations are done.
    pub async fn run_for(&self, operations: u64) -> Result<()> {
        let goal = self.shared.done.load(Ordering::Relaxed) + operations;
        crate::eventually("the load to go on", Duration::from_secs(60), async || {
            let done = self.shared.done.load(Ordering::Relaxed);
            ensure!(done >= goal, "{} operations are missing", goal - done);
            Ok(())
        })
        .await
    }

    /// Whether clients only read from now on, so that no new write hides what became of the earlier ones.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.shared.is_read_only.store(is_read_only, Ordering::Relaxed);
    }

    /// Stops the clients, reads every key once more, and checks the whole history.
    pub async fn finish(self) -> Result<Tally> {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.context("a client panicked")?;
        }
        let shared = &self.shared;
        for key in 0..shared.keys.len() as u64 {
            crate::eventually("the last reads", Duration::from_secs(60), async || {
                let read = operate(shared, u64::MAX, key, Operation::Get).await;
                ensure!(read, "{} cannot be read", shared.keys[usize::try_from(key)?]);
                Ok(())
            })
            .await?;
        }
        let history = self.shared.history.lock().expect("no client panics under the lock");
        let summary = history.check()?;
        ensure!(summary.determined_count > 0, "nothing was checked");
        Ok(Tally {
            done: self.shared.done.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            first_failure: shared.first_failure.lock().expect("no client panics under the lock").clone(),
            undetermined: self.shared.undetermined.load(Ordering::Relaxed),
            longest_gap: self.shared.last_success.lock().expect("no client panics under the lock").1,
        })
    }
}

async fn drive(shared: Arc<Shared>, id: u64) {
    let keys = shared.keys.len() as u64;
    let mut number = id;
    while !shared.is_stopping.load(Ordering::Relaxed) {
        // A fixed walk over the keys, three writes to a read; which client meets which is left to timing.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (number >> 33) % keys;
        let is_read = (number >> 20).is_multiple_of(4) || shared.is_read_only.load(Ordering::Relaxed);
        let operation = if is_read {
            Operation::Get
        } else {
            let value = shared.next_value.fetch_add(1, Ordering::Relaxed);
            Operation::Put { value: value.to_be_bytes().to_vec() }
        };
        operate(&shared, id, key, operation).await;
    }
}

/// One operation, recorded; whether it has a result.
async fn operate(shared: &Shared, id: u64, key: u64, operation: Operation) -> bool {
    let name = shared.keys[usize::try_from(key).expect("keys are few")].clone();
    let is_write = operation != Operation::Get;
    let now = || types::Instant(u64::try_from(shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let call = {
        let mut history = shared.history.lock().expect("no client panics under the lock");
        history.call(Who(id), name.as_bytes(), operation.clone(), now())
    };
    let result = match operation {
        Operation::Put { value } => shared.client.put(name, value).await.map(|()| Outcome::Done),
        Operation::Get | Operation::Delete | Operation::CompareAndSwap { .. } => shared
            .client
            .get(name)
            .await
            .map(|value: Option<Bytes>| Outcome::Value(value.map(|value| value.to_vec()))),
    };
    let (outcome, counter) = match result {
        Ok(outcome) => (outcome, &shared.done),
        Err(error) if error.is_undetermined() => (Outcome::Undetermined, &shared.undetermined),
        Err(error) => {
            let mut first = shared.first_failure.lock().expect("no client panics under the lock");
            first.get_or_insert_with(|| format!("{:?} after the start: {error:?}", shared.started.elapsed()));
            (Outcome::Failed, &shared.failed)
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if is_write && outcome == Outcome::Done {
        let mut last = shared.last_success.lock().expect("no client panics under the lock");
        last.1 = last.1.max(last.0.elapsed());
        last.0 = Instant::now();
    }
    let is_answered = !matches!(outcome, Outcome::Failed | Outcome::Undetermined);
    shared.history.lock().expect("no client panics under the lock").reply(call, outcome, now());
    is_answered
}
