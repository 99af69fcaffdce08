//! The start of a store: what records say and the flushed data lacks, in order. It needs no quorum.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use engine::{KvEngine, LifecycleChange, LifecycleRecord, LogEngine};
use kv::keys;
use types::{ClusterId, PeerId, RegionId};

use super::write_effect;
use crate::{OpenError, apply::catch_up, bootstrap::first_position};

/// Brings about what records say and the flushed data lacks, in order (D5).
pub(crate) fn replay(
    kv: &dyn KvEngine,
    log: &dyn LogEngine,
    cluster_id: ClusterId,
    records: &[LifecycleRecord],
) -> Result<(), OpenError> {
    for record in records {
        if kv.get(&keys::lifecycle_mark_key(record.sequence))?.is_some() {
            continue;
        }
        tracing::info!(sequence = record.sequence, "replay lifecycle record");
        if let Some((region_id, index)) = record.cause {
            catch_up(kv, log, region_id, index.prev())
                .map_err(|error| OpenError::Corrupt { region_id, message: error.to_string() })?;
        }
        write_effect(kv, record, |region| first_position(cluster_id, region.id))?;
    }
    Ok(())
}

/// The highest sequence ever given out. Records go once their effect is flushed, but their marks stay: a sequence that
/// were given out again would find the mark of its predecessor, and its record would never be replayed.
pub(crate) fn last_sequence(kv: &dyn KvEngine, records: &[LifecycleRecord]) -> Result<u64, OpenError> {
    let mut last = records.last().map_or(0, |record| record.sequence);
    let (start_key, end_key) = keys::lifecycle_mark_range();
    kv.snapshot().scan(&start_key, &end_key, true, &mut |key, _| {
        if let Some(keys::Key::LifecycleMark(sequence)) = keys::parse(key) {
            last = last.max(sequence);
        }
        ControlFlow::Break(())
    })?;
    Ok(last)
}

/// Staged files that no record needs: of transfers that a crash cut short.
pub(crate) fn delete_stray_files(kv: &dyn KvEngine, records: &[LifecycleRecord]) -> Result<(), OpenError> {
    let needed: BTreeSet<&str> = records
        .iter()
        .flat_map(|record| match &record.change {
            LifecycleChange::Snapshot { files, .. } => files.as_slice(),
            LifecycleChange::Create { .. }
            | LifecycleChange::Split { .. }
            | LifecycleChange::Destroy { .. } => &[],
        })
        .map(String::as_str)
        .collect();
    for file in kv.stage_list()? {
        if !needed.contains(file.name.as_str()) {
            kv.stage_delete(&file.name)?;
        }
    }
    Ok(())
}

/// Peers whose end is recorded, and whose logs may still be there: they do not begin again, and nothing begins in their
/// place until the logs are gone. (Nothing can have: a record goes in one batch with its peer's log.)
pub(crate) fn ending_peers(records: &[LifecycleRecord]) -> BTreeMap<RegionId, PeerId> {
    records
        .iter()
        .filter_map(|record| match &record.change {
            LifecycleChange::Destroy { region_id, peer_id, .. } => Some((*region_id, *peer_id)),
            LifecycleChange::Create { .. }
            | LifecycleChange::Snapshot { .. }
            | LifecycleChange::Split { .. } => None,
        })
        .collect()
}
