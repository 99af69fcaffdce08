//! How a process without an identity gets one: by founding a cluster (`init`), or by joining one.

use std::{sync::Arc, time::Duration};

use engine::LogEngine;
use futures::future::join_all;
use placement::{KeyMode, StoreRecord, first_address};
use proto::{
    admin::{InitRequest, admin_client::AdminClient},
    placement::RegisterStore,
    raft::Hello,
};
use store::bootstrap;
use tokio::{
    sync::{Notify, mpsc},
    time::{Interval, interval, timeout},
};
use tonic::{Request, Status};
use transport::{dial, hello};
use types::{ClusterId, Incarnation, StoreId};

use super::open::{Engines, blocking};
use crate::{
    book::{LocalRows, record_of, row_of},
    failure::{Code, Failure, Result},
    random::random_number,
    service::key_mode_to_number,
    state::{InitWish, Phase, State},
};

/// How often the other stores are asked whether there is a cluster by now.
const DISCOVERY_INTERVAL: Duration = Duration::from_millis(200);

/// A registration or a forwarded `init` may take this long: an election may lie in between.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A cluster found at some address.
struct Found {
    cluster_id: ClusterId,
    address: String,
}

/// Returns once the store has an identity on disk.
pub(super) async fn identity(
    state: &Arc<State>,
    engines: &Engines,
    mut wishes: mpsc::Receiver<InitWish>,
) -> Result<()> {
    let founder = Founder { state: Arc::clone(state), log: Arc::clone(&engines.log) };
    let log = Arc::clone(&founder.log);
    if blocking(move || log.ident()).await?.map_err(|error| disk_failure(&error))?.is_some() {
        return Ok(());
    }
    let settings = &state.settings;
    if settings.join.is_empty() && !settings.is_single {
        return Err(Failure::new(
            Code::Usage,
            "this store belongs to no cluster, and does not know any other store",
        )
        .hint("name the stores that found the cluster with --join a:1,b:2,c:3, or say --single"));
    }
    state.enter(Phase::WaitingForInit);
    tracing::info!("waiting for `sheaf init`, or for a cluster to join");
    let mut ticks = interval(DISCOVERY_INTERVAL);
    loop {
        tokio::select! {
            Some(wish) = wishes.recv() => {
                let result = founder.on_wish(wish.key_mode).await;
                let is_founded = matches!(result, Ok(Wish::Founded(_)));
                let answer = result.map(|wish| match wish {
                    Wish::Founded(cluster_id) => (cluster_id, false),
                    Wish::Existing(cluster_id, was_there) => (cluster_id, was_there),
                });
                // Whoever asked may have gone away; the cluster stays.
                drop(wish.answer.send(answer));
                if is_founded {
                    return Ok(());
                }
            }
            () = looked_for(&mut ticks, &state.cluster_seen) => {
                if let Some(found) = founder.discover().await?
                    && founder.join(&found).await?
                {
                    return Ok(());
                }
            }
        }
    }
}

/// Returns when the others should be asked: now and then, and at once when one of them has said that there is a cluster.
async fn looked_for(ticks: &mut Interval, cluster_seen: &Notify) {
    tokio::select! {
        _ = ticks.tick() => {}
        () = cluster_seen.notified() => {}
    }
}

struct Founder {
    state: Arc<State>,
    log: Arc<dyn LogEngine>,
}

/// What became of a wish for a cluster.
enum Wish {
    /// This store has founded it.
    Founded(ClusterId),
    /// Another store has it; whether it was there before the wish.
    Existing(ClusterId, bool),
}

impl Founder {
    /// Carries `init` out, if that is this store's part; else passes it on.
    async fn on_wish(&self, key_mode: KeyMode) -> std::result::Result<Wish, String> {
        if let Some(found) = self.discover().await.map_err(|failure| failure.to_string())? {
            return Ok(Wish::Existing(found.cluster_id, true));
        }
        let seeds: Vec<&str> = self.state.settings.join.iter().map(String::as_str).collect();
        match first_address(&seeds) {
            Some(first) if first != self.state.address => self.forward(first, key_mode).await,
            Some(_) | None => self.found(key_mode).await,
        }
    }

    async fn found(&self, key_mode: KeyMode) -> std::result::Result<Wish, String> {
        let log = Arc::clone(&self.log);
        let own = self.state.record(StoreId(bootstrap::FIRST_ID), Incarnation(0), 0);
        let founded = blocking(move || {
            // The key mode first: it must be known wherever there is a cluster.
            LocalRows::write_key_mode(&*log, key_mode)?;
            bootstrap::init(&*log, ClusterId(random_number()))
        });
        let ident =
            founded.await.map_err(|failure| failure.to_string())?.map_err(|error| error.to_string())?;
        self.state.book.load(vec![own]);
        tracing::info!(cluster = ident.cluster_id.0, "founded a cluster");
        Ok(Wish::Founded(ident.cluster_id))
    }

    async fn forward(&self, first: &str, key_mode: KeyMode) -> std::result::Result<Wish, String> {
        let silent = |cause: &str| {
            format!(
                "the store at {first} sorts first among --join and alone may carry out init, and it does not: {cause}; \
                 start it, and run `sheaf init` again"
            )
        };
        let channel =
            dial(self.state.credentials, first, 1 << 20).await.map_err(|error| silent(&error.to_string()))?;
        let request = InitRequest { keys: key_mode_to_number(key_mode) };
        let mut client = AdminClient::new(channel);
        let answer = timeout(CALL_TIMEOUT, client.init(Request::new(request)))
            .await
            .map_err(|_| silent("no answer"))?
            .map_err(|status| silent(status.message()))?
            .into_inner();
        Ok(Wish::Existing(ClusterId(answer.cluster_id), answer.was_initialized))
    }

    /// Asks every other store whether there is a cluster. Two of them are a mistake that no store may take part in.
    async fn discover(&self) -> Result<Option<Found>> {
        let own = &self.state.address;
        let seeds = self.state.settings.join.iter().filter(|seed| *seed != own);
        let hellos = join_all(seeds.map(|seed| self.ask(seed))).await;
        let mut found: Option<Found> = None;
        for (address, answer) in hellos.into_iter().flatten() {
            if answer.cluster_id == 0 {
                continue;
            }
            let cluster_id = ClusterId(answer.cluster_id);
            match &found {
                Some(other) if other.cluster_id != cluster_id => {
                    let text = format!(
                        "the store at {} belongs to cluster {}, the store at {address} to cluster {cluster_id}",
                        other.address, other.cluster_id
                    );
                    return Err(Failure::new(Code::Refused, "--join names stores of two clusters")
                        .because(&std::io::Error::other(text))
                        .hint("name the stores of one cluster with --join"));
                }
                Some(_) => {}
                None => found = Some(Found { cluster_id, address }),
            }
        }
        Ok(found)
    }

    async fn ask(&self, seed: &str) -> Option<(String, Hello)> {
        match hello(self.state.credentials, seed, self.state.hello()).await {
            Ok(answer) => Some((seed.to_owned(), answer)),
            Err(error) => {
                tracing::debug!(seed, %error, "no hello");
                None
            }
        }
    }

    /// Gets an id and becomes a member. `false`: not yet, for nobody there could answer.
    async fn join(&self, found: &Found) -> Result<bool> {
        let log = Arc::clone(&self.log);
        let nonce = blocking(move || nonce(&*log)).await?.map_err(|error| disk_failure(&error))?;
        let record = self.state.record(StoreId(0), Incarnation(1), nonce);
        let answer = match self.register(found, record).await {
            Ok(answer) => answer,
            Err(status) => {
                tracing::info!(address = found.address, reason = status.message(), "not registered yet");
                return Ok(false);
            }
        };
        let (cluster_id, store_id) = (found.cluster_id, StoreId(answer.store_id));
        let named = answer.settings.as_ref().map_or(0, |settings| settings.cluster_id);
        if store_id.0 == 0 || named != cluster_id.0 {
            let text =
                format!("it named store {store_id} of cluster {named}, and said hello for {cluster_id}");
            return Err(Failure::new(
                Code::Failed,
                format!("the answer of {} makes no sense", found.address),
            )
            .because(&std::io::Error::other(text)));
        }
        let key_mode =
            crate::service::key_mode_of_number(answer.settings.map_or(0, |settings| settings.keys))
                .ok_or_else(|| {
                    Failure::new(
                        Code::Failed,
                        "the cluster's keys have a form that this version does not know",
                    )
                })?;
        let log = Arc::clone(&self.log);
        blocking(move || {
            LocalRows::write_key_mode(&*log, key_mode)?;
            bootstrap::join(&*log, cluster_id, store_id)
        })
        .await?
        .map_err(|error| disk_failure(&error))?;
        self.state.book.load(answer.stores.into_iter().map(record_of).collect());
        let (log, book) = (Arc::clone(&self.log), Arc::clone(&self.state.book));
        blocking(move || book.persist(&*log)).await?.map_err(|error| disk_failure(&error))?;
        tracing::info!(cluster = cluster_id.0, store = store_id.0, "joined a cluster");
        Ok(true)
    }

    async fn register(
        &self,
        found: &Found,
        record: StoreRecord,
    ) -> std::result::Result<proto::placement::RegisterStoreResponse, Status> {
        let channel = dial(self.state.credentials, &found.address, 1 << 20)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = AdminClient::new(channel);
        let request = Request::new(RegisterStore { store: Some(row_of(record)) });
        let answer = timeout(CALL_TIMEOUT, client.register_store(request)).await;
        Ok(answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
    }
}

/// The nonce of this directory: drawn once, so that a repeated registration gets the same id.
fn nonce(log: &dyn LogEngine) -> engine::Result<u64> {
    if let Some(nonce) = LocalRows::read(log)?.registration_nonce {
        return Ok(nonce);
    }
    let nonce = random_number();
    LocalRows::write_nonce(log, nonce)?;
    Ok(nonce)
}

fn disk_failure(error: &engine::Error) -> Failure {
    Failure::new(Code::Failed, "give the store an identity").because(error)
}
