//! Applying a region's log before the store runs: for the replay of a record that an entry caused.

use engine::{KvEngine, LogEngine};
use types::{Index, Peer, PeerId, PeerRole, RegionId, StoreId};

use super::applier::{Applier, ApplyError, Effects};
use crate::{
    limits::APPLY_BATCH_BYTES_MAX,
    message::CommittedEntries,
    view::{RegionView, ViewState},
};

/// Applies a region's log up to `last_index`, which is known to be committed.
pub(crate) fn catch_up(
    kv: &dyn KvEngine,
    log: &dyn LogEngine,
    region_id: RegionId,
    last_index: Index,
) -> Result<(), ApplyError> {
    // Nobody looks at a region before the store runs.
    let nobody = Peer { id: PeerId(0), store_id: StoreId(0), role: PeerRole::Learner };
    let view = RegionView::new(ViewState::new(region_id, nobody));
    let mut applier = Applier::load(region_id, kv, view)?;
    while applier.position().index < last_index {
        let first_index = applier.position().index.next();
        let entries = log.read_entries(region_id, first_index, last_index, APPLY_BATCH_BYTES_MAX)?;
        if entries.is_empty() {
            return Err(ApplyError::Corrupt(format!("entry {first_index} of its log is missing")));
        }
        let (mut round, mut effects) = (kv::Round::new(), Effects::default());
        let committed = CommittedEntries { region_id, entries, proposals: Vec::new() };
        applier.apply(committed, kv, &mut round, &mut effects)?;
        if applier.is_paused() {
            let index = applier.position().index.next();
            return Err(ApplyError::Corrupt(format!("the split at {index} has neither record nor mark")));
        }
        applier.write_state(&mut round);
        kv.write(round.batch())?;
    }
    Ok(())
}
