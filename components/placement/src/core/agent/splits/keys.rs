//! Where regions are divided: keys that somebody names, and keys that the leader's store finds.

use actor::Now;
use bytes::Bytes;
use types::{Epoch, PeerRole, Region, RegionId, StoreId, memcomparable};

use super::{Stage, no_leader};
use crate::core::{
    agent::{Agent, Locals},
    api::{Error, Result, SplitAt, SplitRequest},
    limits::{CALL_DEADLINE, SPLIT_KEYS_MAX, SPLIT_PARTS_MAX},
    record::KeyMode,
};

/// What a store has found out about a region that shall be divided evenly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKeys {
    /// The region's epoch as it was read.
    pub epoch: Epoch,
    /// Where it can be divided, as keys are stored.
    pub keys: Vec<Bytes>,
    /// The keys that it holds.
    pub key_count: u64,
    /// The name of the region's last split, and where the new regions began.
    pub last_split: Option<(u64, Vec<Bytes>)>,
}

impl Agent {
    /// The store has looked for the keys of a split, or could not.
    pub fn on_keys_found(&mut self, now: Now, change_id: u64, found: Result<FoundKeys>, locals: &dyn Locals) {
        let Some(running) = self.splits.running.get(&change_id) else { return };
        if !matches!(running.stage, Stage::Finding) {
            return;
        }
        let request = running.request.clone();
        let keys = found.and_then(|found| self.choose_keys(&request, found, locals));
        let Some(running) = self.splits.running.get_mut(&change_id) else { return };
        match keys {
            Ok(Chosen::New { keys, epoch }) => {
                running.request.epoch = Some(epoch);
                running.stage = Stage::Waiting(keys);
                running.deadline = now.monotonic + CALL_DEADLINE;
                self.propose_split(now, change_id, locals);
            }
            Ok(Chosen::Done(keys)) => {
                running.stage = Stage::Proposed(keys);
                self.on_split_ended(now, change_id, Ok(()), locals);
            }
            Err(error) => self.on_split_ended(now, change_id, Err(error), locals),
        }
    }

    fn choose_keys(&self, request: &SplitRequest, found: FoundKeys, locals: &dyn Locals) -> Result<Chosen> {
        let region_id = request.region_id;
        let FoundKeys { epoch, keys, key_count, last_split } = found;
        if let Some((_, keys)) = last_split.filter(|(id, _)| *id == request.change_id) {
            return Ok(Chosen::Done(keys));
        }
        if request.epoch.is_some_and(|wanted| wanted != epoch) {
            return Err(Error::EpochNotMatch { region_id, current: epoch });
        }
        let region = locals.find_by_id(region_id).ok_or_else(|| no_leader(region_id))?.region;
        let keys = settle_keys(&keys, self.settings.key_mode, &region);
        if !keys.is_empty() {
            return Ok(Chosen::New { keys, epoch });
        }
        let reason = match key_count {
            0 => "it holds no key",
            1 => "it holds one key",
            2.. => "no boundary lies between its keys",
        };
        Err(Error::Invalid(format!("region {region_id} cannot be divided: {reason}")))
    }

    /// The stores of the region's voters on which its leader counts, this one last: who leads the parts of a region whose
    /// first part stays here.
    pub(super) fn turns(&self, region: &Region) -> Vec<StoreId> {
        let own = self.record.id;
        let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let voters = voters.filter(|peer| peer.store_id == own || self.reports.counts_on(region.id, peer.id));
        let mut store_ids: Vec<StoreId> = voters.map(|peer| peer.store_id).collect();
        store_ids.sort_unstable();
        let count = store_ids.partition_point(|id| *id <= own);
        store_ids.rotate_left(count);
        store_ids
    }
}

/// Which keys are those of a split.
enum Chosen {
    /// These, for the region at this epoch.
    New { keys: Vec<Bytes>, epoch: Epoch },
    /// The region was divided under this name already, at these.
    Done(Vec<Bytes>),
}

/// Whether a wish makes sense, whatever the region is.
pub(super) fn check_wish(request: &SplitRequest, key_mode: KeyMode) -> Result<()> {
    if request.region_id == RegionId::PLACEMENT {
        return Err(Error::Invalid("the placement group has no keys to divide".to_owned()));
    }
    match &request.at {
        SplitAt::Keys(keys) => check_keys(keys, key_mode),
        SplitAt::Middle => Ok(()),
        SplitAt::Parts(count) if (2..=SPLIT_PARTS_MAX).contains(count) => Ok(()),
        SplitAt::Parts(count) => {
            Err(Error::Invalid(format!("a region is divided into 2 to {SPLIT_PARTS_MAX} parts, not {count}")))
        }
    }
}

fn check_keys(keys: &[Bytes], key_mode: KeyMode) -> Result<()> {
    if keys.is_empty() || keys.len() > SPLIT_KEYS_MAX {
        let count = keys.len();
        return Err(Error::Invalid(format!("a split has from 1 to {SPLIT_KEYS_MAX} keys, not {count}")));
    }
    if let Some(pair) = keys.windows(2).find(|pair| pair[0] >= pair[1]) {
        let text =
            format!("split keys ascend, each once: {} comes before {}", show(&pair[0]), show(&pair[1]));
        return Err(Error::Invalid(text));
    }
    let is_boundary = |key: &Bytes| match key_mode {
        KeyMode::Raw => true,
        KeyMode::Txn | KeyMode::Keyspaces => memcomparable::decode_key(key).is_some(),
    };
    match keys.iter().find(|key| !is_boundary(key)) {
        None => Ok(()),
        Some(key) => Err(Error::Invalid(format!(
            "key {} cannot be a boundary: in this cluster boundaries are keys in memcomparable form",
            show(key)
        ))),
    }
}

/// Keys that nobody chose, as boundaries: what is stored of one key goes with that key, and a boundary that would leave a
/// part empty is none.
pub(super) fn settle_keys(keys: &[Bytes], key_mode: KeyMode, region: &Region) -> Vec<Bytes> {
    let settle = |key: &Bytes| match key_mode {
        KeyMode::Raw => Some(key.clone()),
        KeyMode::Txn | KeyMode::Keyspaces => memcomparable::round_down(key),
    };
    let is_inside = |key: &Bytes| key > &region.range.start_key && region.range.contains_key(key);
    let mut keys: Vec<Bytes> = keys.iter().filter_map(settle).filter(is_inside).collect();
    keys.dedup();
    keys
}

/// A key as people can read it; an end that is none is shown as that.
fn show(key: &Bytes) -> String {
    format!("\"{}\"", key.escape_ascii())
}
