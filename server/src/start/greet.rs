//! Hellos to every other store at the start of a run: whoever has a new address says so, and learns those of others.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use transport::hello;

use crate::state::State;

/// Pause between two rounds to those that have not answered.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// Stores that have not answered after so many rounds are left to their own start, which greets this one.
const ROUND_COUNT_MAX: u32 = 600;

/// Greets each store once.
pub(super) async fn greet(state: Arc<State>) {
    let mut greeted = BTreeSet::from([state.address.clone()]);
    for _ in 0..ROUND_COUNT_MAX {
        let book = state.book.addresses().into_iter().map(|(_, address)| address);
        let silent: BTreeSet<String> =
            book.chain(state.settings.join.clone()).filter(|address| !greeted.contains(address)).collect();
        if silent.is_empty() {
            return;
        }
        let answers = join_all(silent.into_iter().map(|address| {
            let state = &state;
            async move { (hello(state.credentials, &address, state.hello()).await, address) }
        }));
        for (answer, address) in answers.await {
            match answer {
                Ok(answer) => {
                    warn_of_another_cluster(&state, &address, answer.cluster_id);
                    state.on_hello(&answer);
                    greeted.insert(address);
                }
                Err(error) => tracing::debug!(address, %error, "no hello"),
            }
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

fn warn_of_another_cluster(state: &State, address: &str, cluster_id: u64) {
    if let Some(ident) = state.ident()
        && cluster_id != 0
        && cluster_id != ident.cluster_id.0
    {
        let own = ident.cluster_id.0;
        tracing::warn!(
            address,
            own,
            other = cluster_id,
            "a store that --join names belongs to another cluster"
        );
    }
}
