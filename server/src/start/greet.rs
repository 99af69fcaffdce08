//! Hellos to every other store at the start of a run: whoever has a new address says so, and learns those of others.
//!
//! Here it also shows that a directory was moved to where it does not belong: if stores of another cluster answer, and
//! none of its own, the process ends. One foreign address beside its own stores' is worth a warning only: an address that
//! another cluster has taken over must not keep a store from starting.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use transport::hello;
use types::ClusterId;

use crate::{
    failure::{Code, Failure},
    state::State,
};

/// Pause between two rounds to those that have not answered.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// Stores that have not answered after so many rounds are left to their own start, which greets this one.
const ROUND_COUNT_MAX: u32 = 600;

/// Greets each store once. Returns only if this store is not where it belongs.
pub(super) async fn greet(state: Arc<State>) -> Failure {
    match greet_all(&state).await {
        Some(failure) => failure,
        None => std::future::pending().await,
    }
}

async fn greet_all(state: &Arc<State>) -> Option<Failure> {
    let mut has_met_own = false;
    let mut greeted = BTreeSet::from([state.address.clone()]);
    for _ in 0..ROUND_COUNT_MAX {
        let book = state.book.addresses().into_iter().map(|(_, address)| address);
        let silent: BTreeSet<String> =
            book.chain(state.settings.join.clone()).filter(|address| !greeted.contains(address)).collect();
        if silent.is_empty() {
            return None;
        }
        let answers = join_all(silent.into_iter().map(|address| async move {
            (hello(state.credentials, &address, state.hello()).await, address)
        }));
        let mut foreign = None;
        for (answer, address) in answers.await {
            match answer {
                Ok(answer) => {
                    match cluster_of(state, answer.cluster_id) {
                        Whose::Ours => has_met_own = true,
                        Whose::Nobodys => {}
                        Whose::Foreign { own, other } => {
                            tracing::warn!(address, %own, %other, "a store that --join names belongs to another cluster");
                            foreign = Some((address.clone(), own, other));
                        }
                    }
                    state.on_hello(&answer);
                    greeted.insert(address);
                }
                Err(error) => tracing::debug!(address, %error, "no hello"),
            }
        }
        if let Some((address, own, other)) = foreign
            && !has_met_own
        {
            return Some(misplaced(&address, own, other));
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
    None
}

/// To which cluster a store belongs that has answered.
enum Whose {
    Ours,
    /// To none yet.
    Nobodys,
    Foreign {
        own: ClusterId,
        other: ClusterId,
    },
}

fn cluster_of(state: &State, cluster_id: u64) -> Whose {
    match state.ident() {
        Some(ident) if cluster_id == ident.cluster_id.0 => Whose::Ours,
        Some(ident) if cluster_id != 0 => {
            Whose::Foreign { own: ident.cluster_id, other: ClusterId(cluster_id) }
        }
        Some(_) | None => Whose::Nobodys,
    }
}

fn misplaced(address: &str, own: ClusterId, other: ClusterId) -> Failure {
    let text =
        format!("the data directory belongs to cluster {own}, the store at {address} to cluster {other}");
    Failure::new(Code::Refused, "this store is of another cluster than those that --join names")
        .because(&std::io::Error::other(text))
        .hint("name stores of its own cluster with --join, or an empty directory with --data-dir to make it a new store")
}
