//! What placement tells the process.

use std::{path::PathBuf, sync::Arc};

use placement::{DiskSpace, PlacementEvents, StoreRecord};

use super::fatal;
use crate::book::AddressBook;

/// Hands placement's words on.
pub(super) struct Events {
    pub(super) book: Arc<AddressBook>,
    pub(super) path: PathBuf,
}

impl PlacementEvents for Events {
    fn on_stores(&self, stores: Vec<StoreRecord>) {
        self.book.replace(stores);
    }

    fn on_removed(&self) {
        fatal(
            &self.path,
            "this store was removed from its cluster and never comes back under its id; an empty data directory makes it a new store",
        );
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
