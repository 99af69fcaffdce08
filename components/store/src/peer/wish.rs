//! A region that is too large: its leader asks placement for a split, until it is split or no longer led here.

use bytes::Bytes;
use types::Instant;

use super::Peer;
use crate::{
    limits::{SPLIT_WISH_COUNT_MAX, SPLIT_WISH_INTERVAL},
    message::SplitWish,
    ports::PlacementClient,
};

/// Where the region should be divided.
pub(super) struct PendingWish {
    /// The keys were found in the region of this version.
    version: u64,
    keys: Vec<Bytes>,
    told_count: u32,
    tell_at: Instant,
}

impl PendingWish {
    pub(super) fn tell_at(&self) -> Instant {
        self.tell_at
    }
}

impl Peer {
    /// The region was counted, and is too large.
    pub(crate) fn on_too_large(&mut self, now: Instant, version: u64, keys: Vec<Bytes>) {
        if !self.is_leader() {
            // Whoever leads counts for itself.
            return;
        }
        if keys.is_empty() {
            tracing::info!(
                region = self.region_id.0,
                "the region is too large, and there is no key to divide it at"
            );
            return;
        }
        self.wish = Some(Box::new(PendingWish { version, keys, told_count: 0, tell_at: now }));
    }

    /// Tells placement, if it is time and nothing else is under way.
    pub(super) fn tell_wish(&mut self, now: Instant, placement: &dyn PlacementClient) {
        let is_leader = self.is_leader();
        let is_busy = self.change.is_some()
            || self.proposed_split.is_some()
            || self.splitting.is_some()
            || self.group.configuration().is_joint();
        let Some(wish) = self.wish.as_mut().filter(|wish| wish.tell_at <= now) else { return };
        let region = self.region.as_ref().filter(|region| region.epoch.version == wish.version);
        let Some(region) = region.filter(|_| is_leader && wish.told_count < SPLIT_WISH_COUNT_MAX) else {
            // A region that was divided, or has another leader, is counted anew.
            self.wish = None;
            return;
        };
        if is_busy {
            wish.tell_at = now + SPLIT_WISH_INTERVAL;
            return;
        }
        metrics::counter!(telemetry::names::SIZE_SPLITS_WANTED).increment(1);
        let keys = wish.keys.clone();
        placement.split_wanted(SplitWish { region_id: self.region_id, epoch: region.epoch, keys });
        wish.tell_at = now + SPLIT_WISH_INTERVAL * 2_u32.pow(wish.told_count);
        wish.told_count += 1;
    }
}
