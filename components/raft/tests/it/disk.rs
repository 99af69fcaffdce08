//! One peer's disk: what is durable, and what is still being written.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{InitialState, LogReader, Message, NotInMemory, Ready, SnapshotMeta};
use types::{ConfigurationChange, Entry, EntryKind, HardState, Index, Instant, LogPosition, Term};

/// Durable state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) truncated: LogPosition,
    /// The configuration in force at `truncated`.
    pub(crate) base_configuration: Option<(Index, ConfigurationChange)>,
    pub(crate) entries: BTreeMap<Index, Entry>,
}

/// A Ready on its way to the disk.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) due: Instant,
    pub(crate) number: u64,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) messages: Vec<Message>,
}

impl Write {
    pub(crate) fn of(ready: &mut Ready, due: Instant) -> Write {
        Write {
            due,
            number: ready.number,
            hard_state: ready.hard_state,
            entries: std::mem::take(&mut ready.entries),
            snapshot: ready.snapshot.clone(),
            messages: std::mem::take(&mut ready.messages_after_persist),
        }
    }
}

impl Disk {
    /// The disk of a voter of a group that `init` has created.
    pub(crate) fn first(configuration: &ConfigurationChange, truncated: LogPosition) -> Disk {
        Disk {
            hard_state: HardState { term: truncated.term, vote: None, commit: truncated.index },
            truncated,
            base_configuration: Some((truncated.index, configuration.clone())),
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        if let Some(meta) = &write.snapshot {
            self.entries.clear();
            self.truncated = meta.position;
            self.base_configuration = Some(meta.configuration.clone());
        }
        if let Some(first) = write.entries.first() {
            self.entries.split_off(&first.index);
            assert_eq!(first.index, self.last().index.next(), "a gap on disk");
        }
        for entry in &write.entries {
            self.entries.insert(entry.index, entry.clone());
        }
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term);
            self.hard_state = hard_state;
        }
    }

    /// Appends an entry of this term, durably.
    pub(crate) fn append(&mut self, term: Term, kind: EntryKind, payload: Bytes) {
        let prev = self.last();
        let index = prev.index.next();
        let chain = prev.chain.link(index, term, kind, &payload);
        self.entries.insert(index, Entry { index, term, kind, payload, chain });
    }

    pub(crate) fn last(&self) -> LogPosition {
        self.entries.values().next_back().map_or(self.truncated, Entry::position)
    }

    pub(crate) fn position(&self, index: Index) -> Option<LogPosition> {
        if index == self.truncated.index {
            return Some(self.truncated);
        }
        self.entries.get(&index).map(Entry::position)
    }

    pub(crate) fn configurations(&self) -> Vec<(Index, ConfigurationChange)> {
        let logged = self.entries.values().filter(|entry| entry.kind == EntryKind::Configuration);
        let decoded = logged.map(|entry| {
            (
                entry.index,
                ConfigurationChange::decode(&entry.payload).expect("only well-formed ones are stored"),
            )
        });
        self.base_configuration.clone().into_iter().chain(decoded).collect()
    }

    pub(crate) fn compact(&mut self, position: LogPosition) {
        let in_force = self.configurations().into_iter().rfind(|(index, _)| *index <= position.index);
        self.base_configuration = in_force;
        self.entries = self.entries.split_off(&position.index.next());
        self.truncated = position;
    }

    pub(crate) fn initial_state(&self, applied: Index, vote_not_before: Instant) -> InitialState {
        // After a torn run the log may end below a commit index that was never more than a hint.
        let mut hard_state = self.hard_state;
        hard_state.commit = hard_state.commit.min(self.last().index);
        InitialState {
            hard_state,
            truncated: self.truncated,
            last: self.last(),
            configurations: self.configurations(),
            applied,
            vote_not_before,
        }
    }
}

/// Reads a disk, and says "not in memory" when `refuse` says so.
pub(crate) struct DiskReader<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) refuse: &'a mut dyn FnMut() -> bool,
}

impl LogReader for DiskReader<'_> {
    fn read_entries(
        &mut self,
        first: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, NotInMemory> {
        if (self.refuse)() {
            return Err(NotInMemory);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in self.disk.entries.range(first..=last).map(|(_, entry)| entry) {
            bytes += entry.size_bytes();
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        assert_eq!(entries.first().map(|entry| entry.index), Some(first), "read of what is not durable");
        Ok(entries)
    }

    fn read_position(&mut self, index: Index) -> Result<LogPosition, NotInMemory> {
        if (self.refuse)() {
            return Err(NotInMemory);
        }
        Ok(self.disk.position(index).expect("read of what is not durable"))
    }
}
