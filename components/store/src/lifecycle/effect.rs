//! What records do to the KV engine. The record is durable already, so every step may be cut short and done again.

use engine::{BornRegion, KvBatch, KvEngine, LifecycleChange, LifecycleRecord};
use kv::keys;
use types::{Index, LogPosition, PastEnd, Region, RegionId, SplitTrace, Term, WallTime};

use crate::{
    codec,
    limits::{PAST_ENDS_BYTES_MAX, PAST_ENDS_MAX},
    message::ApplyState,
    size::SizeEstimate,
};

/// Writes a record's effect into the KV engine, with the record's mark. Also the replay at start.
pub(crate) fn write_effect(
    kv: &dyn KvEngine,
    record: &LifecycleRecord,
    first: impl Fn(&Region) -> LogPosition,
) -> engine::Result<()> {
    let mut rows = KvBatch::new();
    match &record.change {
        LifecycleChange::Create { regions } => {
            for region in regions {
                put_rows(&mut rows, (region, None), first(region), WallTime(0), SizeEstimate::EMPTY);
            }
        }
        LifecycleChange::Snapshot {
            region,
            position,
            region_clock,
            files,
            replaced_range,
            last_split,
            ..
        } => {
            let mut clear = KvBatch::new();
            for range in replaced_range.iter().chain([&region.range]) {
                let (start_key, end_key) = keys::replicated_range(region.id, range);
                clear.delete_range(&[&start_key], &[&end_key]);
            }
            // Between the two batches the region is in no state at all: nobody may take one for what the rows say, such
            // as a snapshot transfer that begins right now.
            clear.delete(&[&keys::region_state_key(region.id)]);
            clear.delete(&[&keys::apply_state_key(region.id)]);
            kv.write(&clear)?;
            kv.ingest(files)?;
            // The start that replays this does not know what was counted while the snapshot came.
            let region = (region, last_split.as_ref());
            put_rows(&mut rows, region, *position, *region_clock, SizeEstimate::UNKNOWN);
        }
        LifecycleChange::Split { region, position, region_clock, change_id, children } => {
            let past_ends = past_ends(kv, region, children)?;
            let trace = SplitTrace { change_id: *change_id, regions: parts(region, children), past_ends };
            let share = read_size(kv, region.id)?.share(children.len() as u64 + 1);
            put_rows(&mut rows, (region, Some(&trace)), *position, *region_clock, share);
            for child in children {
                if child.is_dropped {
                    let (start_key, end_key) = keys::replicated_range(child.region.id, &child.region.range);
                    rows.delete_range(&[&start_key], &[&end_key]);
                } else {
                    let first = first_position_of_child(position, child.region.id);
                    put_rows(&mut rows, (&child.region, None), first, *region_clock, share);
                }
            }
        }
        LifecycleChange::Destroy { region_id, peer_id, range } => {
            if let Some(range) = range {
                let (start_key, end_key) = keys::replicated_range(*region_id, range);
                rows.delete_range(&[&start_key], &[&end_key]);
            }
            rows.delete(&[&keys::region_state_key(*region_id)]);
            rows.delete(&[&keys::apply_state_key(*region_id)]);
            rows.put(&[&keys::tombstone_key(*region_id, *peer_id)], &[]);
        }
    }
    rows.put(&[&keys::lifecycle_mark_key(record.sequence)], &[&[1]]);
    kv.write(&rows)
}

/// A region with how its last split ended, and how far it was applied.
fn put_rows(
    rows: &mut KvBatch,
    (region, last_split): (&Region, Option<&SplitTrace>),
    position: LogPosition,
    region_clock: WallTime,
    size: SizeEstimate,
) {
    rows.put(&[&keys::region_state_key(region.id)], &[&codec::encode_region(region, last_split)]);
    let state = ApplyState { position, region_clock, size };
    rows.put(&[&keys::apply_state_key(region.id)], &[&codec::encode_apply_state(&state)]);
}

/// What a region holds, by its row.
fn read_size(kv: &dyn KvEngine, region_id: RegionId) -> engine::Result<SizeEstimate> {
    let row = kv.get(&keys::apply_state_key(region_id))?;
    let state = row.and_then(|row| codec::decode_apply_state(&row).ok());
    Ok(state.map_or(SizeEstimate::UNKNOWN, |state| state.size))
}

/// The position behind which the log of a split's child begins (D15).
pub(crate) fn first_position_of_child(parent: &LogPosition, child: RegionId) -> LogPosition {
    LogPosition { index: Index::FIRST, term: Term::FIRST, chain: parent.chain.of_child(child) }
}

/// The regions that a split has made, in order of their keys.
pub(crate) fn parts(parent: &Region, children: &[BornRegion]) -> Vec<Region> {
    std::iter::once(parent).chain(children.iter().map(|child| &child.region)).cloned().collect()
}

/// Where the region ended before this split, behind what its row remembers of earlier ones.
fn past_ends(kv: &dyn KvEngine, parent: &Region, children: &[BornRegion]) -> engine::Result<Vec<PastEnd>> {
    let row = kv.get(&keys::region_state_key(parent.id))?;
    let earlier = row.and_then(|row| codec::decode_region_row(&row).ok()).and_then(|(_, split)| split);
    let mut ends = earlier.map(|split| split.past_ends).unwrap_or_default();
    if let Some(last) = children.last() {
        let version = parent.epoch.version - children.len() as u64;
        ends.push(PastEnd { version, end_key: last.region.range.end_key.clone() });
    }
    let is_small = |ends: &[PastEnd]| {
        let bytes: usize = ends.iter().map(|past| past.end_key.len()).sum();
        ends.len() <= PAST_ENDS_MAX && bytes <= PAST_ENDS_BYTES_MAX
    };
    while !is_small(&ends) {
        ends.remove(0);
    }
    Ok(ends)
}
