//! One region's state machine: its log's entries, in order, into the round's batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use engine::KvEngine;
use kv::{command::Scope, keys};
use types::{
    ConfigurationChange, Entry, EntryKind, Index, LogPosition, Outcome, Region, RegionId, RegionSize,
    SplitTrace, WallTime,
};

use super::size::Sizing;
use crate::{
    Error, Result, codec,
    command::split,
    lifecycle::SplitDraft,
    message::{ApplyState, CommittedEntries, ConfirmedRead, InFlight, Responder},
    meta::Meta,
    size::SizeEstimate,
    view::RegionView,
};

/// A region's state machine on this store. Most regions sleep, so what few of them need is in boxes (D7).
pub(super) struct Applier {
    pub(super) region: Arc<Region>,
    /// The name of the region's last split; what else is to be known of it is in the region's row.
    last_split: Option<u64>,
    pub(super) state: ApplyState,
    /// Only once the region was to be counted.
    pub(super) sizing: Option<Box<Sizing>>,
    pub(super) view: Arc<RegionView>,
    /// Whether the descriptor has changed since it was published.
    is_region_changed: bool,
    /// Only while something waits.
    waiting: Option<Box<Waiting>>,
}

/// What waits at an applier.
#[derive(Default)]
struct Waiting {
    /// A split that was reached, and what follows it; nothing is applied until it has taken effect.
    paused: Option<Vec<CommittedEntries>>,
    /// Reads that wait for an index, by it.
    reads: BTreeMap<Index, Vec<ConfirmedRead>>,
}

/// What a round does once its batch is written.
#[derive(Default)]
pub(super) struct Effects {
    /// Regions that have applied something.
    pub(super) dirty: BTreeSet<RegionId>,
    pub(super) answers: Vec<(Responder<Outcome>, Result<Outcome>)>,
    pub(super) reads: Vec<(RegionId, ConfirmedRead)>,
    /// Splits that were reached.
    pub(super) splits: Vec<SplitDraft>,
    entry_count: u64,
    request_count: u64,
}

/// Why a region cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// What is stored or logged is not what this store wrote.
    #[error("{0}")]
    Corrupt(String),
    /// The state machine failed in a way that is no answer to a client.
    #[error(transparent)]
    Kv(#[from] kv::Error),
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl Applier {
    /// Reads a region's rows.
    pub(super) fn load(
        region_id: RegionId,
        engine: &dyn KvEngine,
        view: Arc<RegionView>,
    ) -> std::result::Result<Applier, ApplyError> {
        let row = |key: &[u8], what: &str| {
            let row = engine.get(key)?;
            row.ok_or_else(|| ApplyError::Corrupt(format!("the {what} row is missing")))
        };
        let corrupt = |error: codec::Malformed| ApplyError::Corrupt(error.to_string());
        let row_of_region = row(&keys::region_state_key(region_id), "region")?;
        let (region, last_split) = codec::decode_region_row(&row_of_region).map_err(corrupt)?;
        // One descriptor, where peer, view and directory have it already.
        let known = view.region().filter(|known| **known == region);
        let state = codec::decode_apply_state(&row(&keys::apply_state_key(region_id), "apply state")?)
            .map_err(corrupt)?;
        Ok(Applier {
            region: known.unwrap_or_else(|| Arc::new(region)),
            last_split: last_split.map(|split| split.change_id),
            sizing: None,
            state,
            view,
            is_region_changed: true,
            waiting: None,
        })
    }

    pub(super) fn region_id(&self) -> RegionId {
        self.region.id
    }

    pub(super) fn position(&self) -> LogPosition {
        self.state.position
    }

    /// Applies committed entries.
    pub(super) fn apply(
        &mut self,
        committed: CommittedEntries,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
        effects: &mut Effects,
    ) -> std::result::Result<(), ApplyError> {
        if let Some(paused) = self.waiting.as_mut().and_then(|waiting| waiting.paused.as_mut()) {
            paused.push(committed);
            return Ok(());
        }
        let region_id = self.region_id();
        let mut proposals = committed.proposals.into_iter().peekable();
        let mut entries = committed.entries.into_iter();
        while let Some(entry) = entries.next() {
            effects.entry_count += 1;
            let expected = self.state.position.index.next();
            assert_eq!(entry.index, expected, "region {region_id} applies its log without gaps");
            let proposal = proposals.next_if(|proposal| proposal.index == entry.index);
            let linked = self.state.position.chain.link(entry.index, entry.term, entry.kind, &entry.payload);
            if linked != entry.chain {
                return Err(ApplyError::Corrupt(format!("the chain breaks at index {}", entry.index)));
            }
            if entry.kind == EntryKind::Region
                && let Some(draft) = self.draft_split(&entry)?
            {
                effects.dirty.insert(region_id);
                effects.splits.push(draft);
                let rest = CommittedEntries {
                    region_id,
                    entries: entries.collect(),
                    proposals: proposals.collect(),
                };
                self.waiting.get_or_insert_default().paused = Some(vec![rest]);
                return Ok(());
            }
            self.state.position = entry.position();
            match entry.kind {
                // A split that was refused.
                EntryKind::Empty | EntryKind::Region => {}
                EntryKind::Configuration => self.apply_configuration(&entry, engine, round)?,
                EntryKind::Command => self.apply_command(entry, proposal, engine, round, effects)?,
            }
        }
        effects.dirty.insert(region_id);
        Ok(())
    }

    fn apply_command(
        &mut self,
        entry: Entry,
        proposal: Option<InFlight>,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
        effects: &mut Effects,
    ) -> std::result::Result<(), ApplyError> {
        let term = entry.term;
        let command = codec::decode_command(entry.payload)
            .map_err(|error| ApplyError::Corrupt(format!("entry {}: {error}", entry.index)))?;
        // The region clock only moves forward, whatever the proposer's clock does (D11).
        self.state.region_clock = WallTime(self.state.region_clock.0.max(command.wall.0));
        effects.request_count += command.requests.len() as u64;
        let mut responders = proposal.map_or_else(Vec::new, |proposal| {
            assert_eq!(proposal.term, term, "only the leader of the entry's term answers for it");
            proposal.responders
        });
        assert!(
            responders.is_empty() || responders.len() == command.requests.len(),
            "one answer for each request"
        );
        let mut responders = responders.drain(..);
        for request in command.requests {
            let scope = Scope {
                region_id: self.region_id(),
                range: &self.region.range,
                term,
                clock: self.state.region_clock,
            };
            let before = self.state.size.begin(round.batch());
            let result = kv::command::apply(&request.command, &scope, engine, round);
            self.state.size.note(&request.command, before, round.batch());
            let result = self.to_answer(result, engine, round)?;
            if let Some(responder) = responders.next() {
                effects.answers.push((responder, result));
            }
        }
        Ok(())
    }

    /// A deterministic refusal is an answer; anything else ends the region here.
    fn to_answer(
        &self,
        result: kv::Result<Outcome>,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
    ) -> std::result::Result<Result<Outcome>, ApplyError> {
        match result {
            Ok(outcome) => Ok(Ok(outcome)),
            // Its keys were the region's when it was proposed.
            Err(kv::Error::NotInRegion { .. }) => {
                Ok(Err(Error::EpochNotMatch { current: self.siblings(engine, round)? }))
            }
            Err(error) if error.is_deterministic() => Ok(Err(from_kv(error, &self.region))),
            Err(error) => Err(error.into()),
        }
    }

    /// The region, and those that its last split made.
    fn siblings(
        &self,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
    ) -> std::result::Result<Vec<Region>, ApplyError> {
        let split = self.read_last_split(engine, round)?;
        let children = split.into_iter().flat_map(|split| split.regions);
        let children = children.filter(|region| region.id != self.region_id());
        Ok(std::iter::once(Region::clone(&self.region)).chain(children).collect())
    }

    /// The region's last split, by its row.
    fn read_last_split(
        &self,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
    ) -> std::result::Result<Option<SplitTrace>, ApplyError> {
        if self.last_split.is_none() {
            return Ok(None);
        }
        let row = round.get(engine, &keys::region_state_key(self.region_id()))?.unwrap_or_default();
        let decoded = codec::decode_region_row(&row);
        let (_, last_split) = decoded.map_err(|error| ApplyError::Corrupt(error.to_string()))?;
        Ok(last_split)
    }

    fn apply_configuration(
        &mut self,
        entry: &Entry,
        engine: &dyn KvEngine,
        round: &mut kv::Round,
    ) -> std::result::Result<(), ApplyError> {
        let change = ConfigurationChange::decode(&entry.payload)
            .map_err(|error| ApplyError::Corrupt(format!("entry {}: {error}", entry.index)))?;
        let mut region = (*self.region).clone();
        region.peers = change.peers;
        region.epoch.conf_version += 1;
        tracing::info!(region = region.id.0, epoch = ?region.epoch, peers = ?region.peers, "peers changed");
        let last_split = self.read_last_split(engine, round)?;
        let row = codec::encode_region(&region, last_split.as_ref());
        round.batch_mut().put(&[&keys::region_state_key(region.id)], &[&row]);
        self.region = Arc::new(region);
        self.is_region_changed = true;
        Ok(())
    }

    /// What a split makes of the region; `None`: it is refused, as on every other peer.
    fn draft_split(&self, entry: &Entry) -> std::result::Result<Option<SplitDraft>, ApplyError> {
        // A copy: the children's keys stay, and must not keep the entry in memory.
        let payload = Bytes::copy_from_slice(&entry.payload);
        let split = codec::decode_split(payload)
            .map_err(|error| ApplyError::Corrupt(format!("entry {}: {error}", entry.index)))?;
        if let Err(error) = split::check(&split, &self.region) {
            tracing::info!(region = self.region_id().0, %error, "a split does not happen");
            return Ok(None);
        }
        let (region, children) = split::divide(&split, &self.region);
        Ok(Some(SplitDraft {
            region,
            position: entry.position(),
            region_clock: self.state.region_clock,
            change_id: split.change_id,
            leader_stores: (0..children.len()).filter_map(|at| split.leader_store(at)).collect(),
            children,
        }))
    }

    /// A split has taken effect in the engine; gives back what waited for it.
    pub(super) fn finish_split(
        &mut self,
        region: Region,
        position: LogPosition,
        change_id: u64,
    ) -> Vec<CommittedEntries> {
        self.region = Arc::new(region);
        self.last_split = Some(change_id);
        self.state.position = position;
        self.is_region_changed = true;
        let paused = self.waiting.as_mut().and_then(|waiting| waiting.paused.take());
        self.drop_empty();
        paused.unwrap_or_default()
    }

    pub(super) fn last_split(&self) -> Option<u64> {
        self.last_split
    }

    /// A snapshot that is in place held this much.
    pub(super) fn set_measured(&mut self, size: RegionSize) {
        self.state.size = SizeEstimate::measured(size);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.paused.is_some())
    }

    pub(super) fn write_state(&self, round: &mut kv::Round) {
        let key = keys::apply_state_key(self.region_id());
        round.batch_mut().put(&[&key], &[&codec::encode_apply_state(&self.state)]);
    }

    /// Shows other threads how far this region is; gives back the descriptor if it changed.
    pub(super) fn publish(&mut self, meta: &Meta) -> Option<Arc<Region>> {
        let region = std::mem::take(&mut self.is_region_changed).then(|| Arc::clone(&self.region));
        if let Some(region) = &region {
            meta.set(region);
        }
        self.view.update(|view| {
            view.applied = self.state.position;
            view.size = self.state.size.estimate();
            if let Some(region) = &region {
                view.region = Some(Arc::clone(region));
            }
        });
        region
    }

    /// Lets a read go on at once, or when the region has applied `index`.
    pub(super) fn wait(&mut self, index: Index, read: ConfirmedRead, effects: &mut Effects) {
        if index <= self.state.position.index && !effects.dirty.contains(&self.region_id()) {
            effects.reads.push((self.region_id(), read));
        } else {
            // Looked at when the next batch of this region is written.
            self.waiting.get_or_insert_default().reads.entry(index).or_default().push(read);
        }
    }

    /// Takes the reads that wait, to be given to the applier behind a snapshot.
    pub(super) fn take_waiting(&mut self) -> BTreeMap<Index, Vec<ConfirmedRead>> {
        let reads = self.waiting.as_mut().map(|waiting| std::mem::take(&mut waiting.reads));
        self.drop_empty();
        reads.unwrap_or_default()
    }

    pub(super) fn set_waiting(&mut self, reads: BTreeMap<Index, Vec<ConfirmedRead>>) {
        if !reads.is_empty() {
            self.waiting.get_or_insert_default().reads = reads;
        }
    }

    /// The reads whose index has been applied.
    pub(super) fn take_ready_reads(&mut self) -> impl Iterator<Item = ConfirmedRead> + use<> {
        let next_index = self.state.position.index.next();
        let ready = self.waiting.as_mut().map(|waiting| {
            let later = waiting.reads.split_off(&next_index);
            std::mem::replace(&mut waiting.reads, later)
        });
        self.drop_empty();
        ready.into_iter().flat_map(BTreeMap::into_values).flatten()
    }

    fn drop_empty(&mut self) {
        self.waiting.take_if(|waiting| waiting.paused.is_none() && waiting.reads.is_empty());
    }
}

impl Effects {
    pub(super) fn count(&mut self, took: Duration) {
        use telemetry::names;
        metrics::histogram!(names::APPLY_SECONDS).record(took);
        metrics::counter!(names::APPLY_BATCHES).increment(1);
        metrics::counter!(names::APPLY_REGIONS).increment(self.dirty.len() as u64);
        metrics::counter!(names::APPLY_ENTRIES).increment(std::mem::take(&mut self.entry_count));
        metrics::counter!(names::APPLY_REQUESTS).increment(std::mem::take(&mut self.request_count));
    }
}

/// The state machine's refusal in a client's terms.
pub(crate) fn from_kv(error: kv::Error, region: &Region) -> Error {
    match error {
        kv::Error::NotInRegion { key, region_id, range } => Error::KeyNotInRegion { region_id, key, range },
        kv::Error::WrongGroup { .. } | kv::Error::AnswerTooLarge { .. } => Error::Invalid(error.to_string()),
        kv::Error::Corruption { .. } | kv::Error::Engine(_) => {
            Error::Refused(format!("region {} cannot be read: {error}", region.id))
        }
    }
}
