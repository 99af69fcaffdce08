//! What placement and the other stores tell the process.

use std::{path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use placement::{DiskSpace, PlacementAnswer, PlacementCall, PlacementEvents, StoreRecord, StoreState};
use transport::Membership;
use types::StoreId;

use super::fatal;
use crate::state::State;

/// Hands on what it is told.
pub(super) struct Events {
    pub(super) state: Arc<State>,
    pub(super) path: PathBuf,
}

impl Events {
    fn end_as_removed(&self) {
        fatal(
            &self.path,
            "this store was removed from its cluster and never comes back under its id; an empty data directory makes it a new store",
        );
    }
}

impl PlacementEvents for Events {
    fn on_stores(&self, stores: Vec<StoreRecord>) {
        self.state.book.replace(stores);
    }

    fn on_removed(&self) {
        self.end_as_removed();
    }

    fn disk_space(&self) -> DiskSpace {
        match rustix::fs::statvfs(&self.path) {
            Ok(space) => DiskSpace {
                capacity_bytes: space.f_blocks.saturating_mul(space.f_frsize),
                available_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            },
            Err(error) => {
                tracing::warn!(%error, "the free space of the device is not known");
                DiskSpace::default()
            }
        }
    }
}

impl Membership for Events {
    fn was_removed(&self, store_id: StoreId) -> BoxFuture<'static, bool> {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let Some(running) = state.running() else { return false };
            match running.ask(PlacementCall::GetStore { store_id }).await {
                Ok(PlacementAnswer::Store(Some(found))) => found.record.state == StoreState::Removed,
                Ok(_) | Err(_) => false,
            }
        })
    }

    fn on_removed(&self) {
        self.end_as_removed();
    }
}
