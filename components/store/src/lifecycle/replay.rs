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
        check_files(kv, &record.change)?;
        write_effect(kv, record, |region| first_position(cluster_id, region.id))?;
    }
    Ok(())
}

/// A snapshot's files are synced before its record is, and go after the flush of its effect: where they are missing, the
/// disk has lost what was synced.
fn check_files(kv: &dyn KvEngine, change: &LifecycleChange) -> Result<(), OpenError> {
    let LifecycleChange::Snapshot { region, files, .. } = change else { return Ok(()) };
    let staged = kv.stage_list()?;
    let Some(missing) = files.iter().find(|name| staged.iter().all(|file| file.name != **name)) else {
        return Ok(());
    };
    let message = format!("the file {missing} of a snapshot that was begun is missing");
    Err(OpenError::Corrupt { region_id: region.id, message })
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

#[cfg(test)]
mod tests {
    use engine::mem::MemDisk;
    use types::{ConfigurationChange, Epoch, Index, KeyRange, LogPosition, Region, WallTime};

    use super::*;

    #[test]
    fn a_snapshot_whose_file_is_gone_is_a_loss_and_changes_nothing() {
        let (log, kv) = MemDisk::new().open();
        let region =
            Region { id: RegionId::FIRST, range: KeyRange::ALL, epoch: Epoch::FIRST, peers: Vec::new() };
        let change = LifecycleChange::Snapshot {
            region,
            peer_id: PeerId(1_000),
            position: LogPosition { index: Index(7), ..LogPosition::default() },
            configuration: (Index(2), ConfigurationChange { peers: Vec::new(), change_id: 0 }),
            region_clock: WallTime(0),
            files: vec!["there".to_owned(), "gone".to_owned()],
            replaced_range: None,
            last_split: None,
        };
        kv.stage_create("there").unwrap();
        kv.stage_sync("there").unwrap();
        let record = LifecycleRecord { sequence: 3, cause: None, change };
        let text = replay(&*kv, &*log, ClusterId(1), &[record]).unwrap_err().to_string();
        assert!(text.contains("region 2: the file gone"), "{text}");
        assert!(text.contains("what this store acknowledged may be lost"), "{text}");
        assert_eq!(kv.get(&keys::lifecycle_mark_key(3)).unwrap(), None);
        assert_eq!(kv.stage_list().unwrap().len(), 1);
    }
}
