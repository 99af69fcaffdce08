//! Putting a snapshot in place (D5): the record is durable already, so every step may be cut short and done again.

use engine::{KvBatch, KvEngine, LifecycleChange, LifecycleRecord};
use kv::keys;
use types::{LogPosition, Region, WallTime};

use super::ApplyWorker;
use crate::{codec, message::ApplyState, upkeep::UpkeepMail};

/// Writes a record's effect into the KV engine: clears the range, ingests, then the region's rows and the mark. Also the
/// replay at start.
pub(crate) fn write_effect(
    kv: &dyn KvEngine,
    record: &LifecycleRecord,
    first: impl Fn(&Region) -> LogPosition,
) -> engine::Result<()> {
    let mut rows = KvBatch::new();
    match &record.change {
        LifecycleChange::Create { regions } => {
            for region in regions {
                put_rows(&mut rows, region, first(region), WallTime(0));
            }
        }
        LifecycleChange::Snapshot { region, position, region_clock, files, .. } => {
            let mut clear = KvBatch::new();
            let (start_key, end_key) = keys::replicated_range(region.id, &region.range);
            clear.delete_range(&[&start_key], &[&end_key]);
            // Between the two batches the region is in no state at all: nobody may take one for what the rows say, such
            // as a snapshot transfer that begins right now.
            clear.delete(&[&keys::region_state_key(region.id)]);
            clear.delete(&[&keys::apply_state_key(region.id)]);
            kv.write(&clear)?;
            kv.ingest(files)?;
            put_rows(&mut rows, region, *position, *region_clock);
        }
    }
    rows.put(&[&keys::lifecycle_mark_key(record.sequence)], &[&[1]]);
    kv.write(&rows)
}

fn put_rows(rows: &mut KvBatch, region: &Region, position: LogPosition, region_clock: WallTime) {
    rows.put(&[&keys::region_state_key(region.id)], &[&codec::encode_region(region)]);
    let state = ApplyState { position, region_clock };
    rows.put(&[&keys::apply_state_key(region.id)], &[&codec::encode_apply_state(&state)]);
}

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
}
