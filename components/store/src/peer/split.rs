//! Splits, as the region's leader proposes them and as every peer keeps track of them.

use std::collections::BTreeSet;

use types::{Entry, EntryKind, Index, Instant, Split};

use super::Peer;
use crate::{
    Error, Result, codec,
    command::split,
    message::{AppliedNotice, Responder},
};

/// A split that this peer has proposed.
pub(super) struct ProposedSplit {
    /// Where it is in the log.
    index: Index,
    /// Its name.
    pub(super) change_id: u64,
    /// Who is answered.
    responders: Vec<Responder<()>>,
}

/// Entries in the log that change the region itself, by index.
#[derive(Default)]
pub(super) struct RegionEntries(BTreeSet<Index>);

impl Peer {
    /// Proposes a split. One that was carried out already, under the same name, is answered at once.
    pub(super) fn propose_split(&mut self, now: Instant, split: Split, responder: Responder<()>) {
        if self.last_split == Some(split.change_id) {
            return responder.reply(Ok(()));
        }
        if let Some(proposed) = &mut self.proposed_split {
            if proposed.change_id == split.change_id {
                proposed.responders.push(responder);
            } else {
                let running = proposed.change_id;
                responder.reply(Err(self.being_split(running)));
            }
            return;
        }
        match self.try_propose_split(now, split) {
            Ok((index, change_id)) => {
                let proposed = ProposedSplit { index, change_id, responders: vec![responder] };
                self.proposed_split = Some(Box::new(proposed));
            }
            Err(error) => responder.reply(Err(error)),
        }
    }

    fn try_propose_split(&mut self, now: Instant, split: Split) -> Result<(Index, u64)> {
        let region = self.region().ok_or(Error::NotInitialized(self.region_id))?;
        if region.id == types::RegionId::PLACEMENT {
            return Err(Error::Invalid("the placement group has no keys to divide".to_owned()));
        }
        if let Some(change) = &self.change {
            return Err(self.changing_peers(change));
        }
        split::check(&split, region)?;
        let change_id = split.change_id;
        let proposed = self.group.propose_region(now, codec::encode_split(split));
        let (index, _) = proposed.map_err(|_| self.not_leader())?;
        Ok((index, change_id))
    }

    /// Refuses another change while the region is being split.
    pub(super) fn being_split(&self, change_id: u64) -> Error {
        let stage = "the entry that divides it is not applied yet";
        Error::Changing { region_id: self.region_id, change_id, stage }
    }

    /// Entries go into the log: those that change the region are remembered, for until they are applied no lease read may
    /// be served once they are committed (D10).
    pub(super) fn note_region_entries(&mut self, entries: &[Entry]) {
        if let (Some(RegionEntries(known)), Some(first)) =
            (self.region_entries.as_deref_mut(), entries.first())
        {
            // They replace whatever the log held from there on.
            known.split_off(&first.index);
        }
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Region) {
            self.region_entries.get_or_insert_default().0.insert(entry.index);
        }
    }

    /// The last entry that changes the region and is committed and not applied.
    pub(super) fn blocking_region_entry(&mut self) -> Option<Index> {
        let RegionEntries(known) = self.region_entries.as_deref_mut()?;
        *known = known.split_off(&self.group.applied_index().next());
        let blocking = known.range(..=self.group.commit_index()).next_back().copied();
        self.region_entries.take_if(|entries| entries.0.is_empty());
        blocking
    }

    pub(super) fn on_split_applied(&mut self, notice: &AppliedNotice) {
        if notice.region.is_some() {
            self.last_split = notice.last_split;
            self.splitting = None;
        }
        let applied = notice.position.index;
        if let Some(proposed) = self.proposed_split.take_if(|proposed| proposed.index <= applied) {
            let is_done = notice.last_split == Some(proposed.change_id);
            let current = notice.region.as_deref().or_else(|| self.region()).cloned().into_iter().collect();
            let result = if is_done { Ok(()) } else { Err(Error::EpochNotMatch { current }) };
            proposed.responders.into_iter().for_each(|responder| responder.reply(result.clone()));
        }
    }

    /// Leadership is lost: what became of the split will not be learnt here.
    pub(super) fn drop_proposed_split(&mut self) {
        for responder in self.proposed_split.take().into_iter().flat_map(|proposed| proposed.responders) {
            responder.reply(Err(Error::Undetermined("leadership was lost before the split was applied")));
        }
    }
}
