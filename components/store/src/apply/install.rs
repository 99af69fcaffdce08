//! Effects of lifecycle records on a region's state machine.

use engine::{LifecycleChange, LifecycleRecord};
use types::LogPosition;

use super::ApplyWorker;
use crate::{Error, lifecycle::write_effect, upkeep::UpkeepMail};

impl ApplyWorker {
    /// Puts the snapshot of a durable record in place.
    pub(super) fn install(&mut self, record: LifecycleRecord) {
        let LifecycleChange::Snapshot { region, position, .. } = &record.change else { return };
        let region_id = region.id;
        tracing::info!(region = region_id.0, index = position.index.0, "install snapshot");
        let written = write_effect(&*self.shared.kv, &record, |_| LogPosition::default());
        if self.shared.or_fatal("install a snapshot", written).is_none() {
            return;
        }
        // Reads that waited for an index may find it reached now.
        let waiting = self.regions.remove(&region_id).map(|mut applier| applier.take_waiting());
        self.open(region_id);
        if let Some(applier) = self.regions.get_mut(&region_id) {
            applier.set_waiting(waiting.unwrap_or_default());
            self.effects.dirty.insert(region_id);
        }
        self.shared.router.upkeep.send(UpkeepMail::RecordApplied(Box::new(record)));
    }

    /// Ends the peer of a durable record: whoever waits is told, and its data goes.
    pub(super) fn end(&mut self, record: LifecycleRecord) {
        let LifecycleChange::Destroy { region_id, .. } = &record.change else { return };
        let region_id = *region_id;
        if let Some(mut applier) = self.regions.remove(&region_id) {
            for read in applier.take_waiting().into_values().flatten() {
                read.request.responder.reply(Err(Error::RegionNotFound(region_id)));
            }
        }
        // Nobody finds the data before it goes.
        self.shared.views.remove(region_id);
        let written = write_effect(&*self.shared.kv, &record, |_| LogPosition::default());
        if self.shared.or_fatal("end a peer", written).is_none() {
            return;
        }
        self.shared.meta.remove(region_id);
        self.shared.router.upkeep.send(UpkeepMail::RecordApplied(Box::new(record)));
    }
}
