//! What a cluster may look like.
//!
//! A [`Checker`] is shown picture after picture. It keeps *ghosts*, which no store has: who led which term, what was
//! committed where, what each peer had reached; so it notices what no single picture shows.

mod committed;
mod invariant;
mod picture;
mod region;
mod settled;
mod store;

use std::collections::BTreeMap;

use types::{Instant, RegionId, StoreId};

use self::{region::RegionGhost, store::PeerGhosts};

pub use committed::CommittedLog;
pub use invariant::{Invariant, Violation};
pub use picture::{BudgetPicture, ClusterPicture, LogPicture, PeerPicture, StorePicture};
pub use settled::check_settled;

/// Entries that a ghost of one region keeps of each kind; the oldest give way. Far more than pictures of one time span.
const GHOSTS_MAX: usize = 8_192;

/// Checks pictures of one cluster, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    regions: BTreeMap<RegionId, RegionGhost>,
    peers: PeerGhosts,
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Checker {
        Checker::default()
    }

    /// Checks a picture by itself and against what was seen before. `now` is the time of the picture's leases.
    pub fn observe(&mut self, now: Instant, picture: &ClusterPicture) -> Result<(), Violation> {
        for store in &picture.stores {
            let violation =
                |region_id, (invariant, message)| Violation { invariant, region_id, at: now, message };
            store::check_store(store).map_err(|finding| violation(None, finding))?;
            self.peers.observe(store).map_err(|(region_id, finding)| violation(Some(region_id), finding))?;
        }
        for (region_id, peers) in by_region(picture) {
            let peers: Vec<_> = peers.into_values().collect();
            let ghost = self.regions.entry(region_id).or_default();
            let violation =
                |(invariant, message)| Violation { invariant, region_id: Some(region_id), at: now, message };
            ghost.observe(now, &peers).map_err(violation)?;
        }
        Ok(())
    }
}

/// Each region's peers, by store.
fn by_region(picture: &ClusterPicture) -> BTreeMap<RegionId, BTreeMap<StoreId, &PeerPicture>> {
    let mut regions: BTreeMap<RegionId, BTreeMap<StoreId, &PeerPicture>> = BTreeMap::new();
    for store in &picture.stores {
        for peer in &store.peers {
            regions.entry(peer.region_id).or_default().insert(store.id, peer);
        }
    }
    regions
}

/// Lets the lowest entries of a ghost go.
fn trim<K: Ord, V>(ghost: &mut BTreeMap<K, V>) {
    while ghost.len() > GHOSTS_MAX {
        ghost.pop_first();
    }
}

#[cfg(test)]
mod tests;
