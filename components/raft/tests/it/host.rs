//! One peer with its disk, its clock and its state machine.

use std::{collections::BTreeMap, time::Duration};

use raft::{LogReader, Options, RaftGroup, Ready};
use types::{Chain, Entry, Index, Instant, LogPosition, PeerId, Term};

use crate::disk::{Disk, DiskReader, Write};

/// A peer.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: PeerId,
    /// `None` while it is down.
    pub(crate) group: Option<RaftGroup>,
    pub(crate) disk: Disk,
    pub(crate) writes: std::collections::VecDeque<Write>,
    /// Readies whose persistence the group has not heard of yet: when it will, and the number.
    pub(crate) persisted: std::collections::VecDeque<(Instant, u64)>,
    /// What the state machine will have applied, and when.
    pub(crate) applies: std::collections::VecDeque<(Instant, Applied)>,
    /// When the next Ready is taken.
    pub(crate) ready_at: Option<Instant>,
    /// The state machine: how far, and the hash of all that it has applied.
    pub(crate) machine: (Index, Chain),
    /// The part of it that survives a crash.
    pub(crate) flushed: (Index, Chain),
    /// How much was committed when each read was asked for.
    pub(crate) reads: BTreeMap<u64, Index>,
    /// The answers to reads.
    pub(crate) answers: Vec<(u64, Option<Index>)>,
    /// Up to where the observer has seen what is committed here.
    pub(crate) seen_commit: Index,
    /// The leadership that the observer knows of.
    pub(crate) seen_leading: Term,
    clock: LocalClock,
    options: Options,
    start_count: u64,
}

/// What there is to apply.
#[derive(Debug)]
pub(crate) enum Applied {
    Entries(Vec<Entry>),
    Snapshot(LogPosition),
}

/// A clock with its own origin and speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClock {
    started_at: Instant,
    offset: u64,
    /// Millionths by which it runs fast or slow.
    drift_ppm: i64,
}

impl LocalClock {
    fn read(&self, now: Instant) -> Instant {
        let elapsed = i128::from(now.0 - self.started_at.0);
        let drifted = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        Instant(self.offset + u64::try_from(drifted).expect("drift is small"))
    }

    /// The first moment at which the clock shows at least `local`.
    fn when(&self, local: Instant) -> Instant {
        if local == Instant::MAX {
            return Instant::MAX;
        }
        let elapsed = i128::from(local.0.saturating_sub(self.offset));
        let real = elapsed * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        self.started_at + Duration::from_nanos(u64::try_from(real).expect("drift is small") + 1_000)
    }
}

impl Host {
    pub(crate) fn new(options: Options, disk: Disk, now: Instant) -> Host {
        let machine = (disk.truncated.index, disk.truncated.chain);
        let mut host = Host {
            id: options.id,
            group: None,
            disk,
            writes: Default::default(),
            persisted: Default::default(),
            applies: Default::default(),
            ready_at: None,
            machine,
            flushed: machine,
            reads: BTreeMap::new(),
            answers: Vec::new(),
            seen_commit: machine.0,
            seen_leading: Term(0),
            clock: LocalClock { started_at: now, offset: 1_000_000 * options.id.0 * 977, drift_ppm: 0 },
            options,
            start_count: 0,
        };
        host.start(now, true);
        host
    }

    /// Starts, with what is durable. Promises of an earlier run bind unless this is the first.
    pub(crate) fn start(&mut self, now: Instant, is_first: bool) {
        // A process counts from its start.
        let offset = 1_000_000 * (self.id.0 + self.start_count);
        self.clock = LocalClock { started_at: now, offset, ..self.clock };
        self.start_count += 1;
        let local = self.clock(now);
        let vote_not_before = if is_first { Instant::ZERO } else { local + self.options.behaviour.promise };
        let mut options = self.options.clone();
        options.seed = options.seed.wrapping_add(self.start_count * 1_000_003);
        self.machine = self.flushed;
        let state = self.disk.initial_state(self.flushed.0, vote_not_before);
        self.group = Some(RaftGroup::new(options, state, local));
        self.ready_at = None;
    }

    /// Goes down; what was being written is lost but for the first `written_count` writes.
    pub(crate) fn crash(&mut self, written_count: usize) {
        for write in self.writes.iter().take(written_count) {
            self.disk.apply(write);
            if let Some(meta) = &write.snapshot {
                self.flushed = (meta.position.index, meta.position.chain);
            }
        }
        self.group = None;
        self.writes.clear();
        self.persisted.clear();
        self.applies.clear();
        self.reads.clear();
        self.ready_at = None;
    }

    pub(crate) fn clock(&self, now: Instant) -> Instant {
        self.clock.read(now)
    }

    /// From now on the clock runs fast or slow by so many millionths.
    pub(crate) fn set_drift(&mut self, now: Instant, drift_ppm: i64) {
        let shown = self.clock(now);
        self.clock = LocalClock { started_at: now, offset: shown.0, drift_ppm };
    }

    /// When this host does something by itself next.
    pub(crate) fn next_event(&self, now: Instant) -> Instant {
        let Some(group) = &self.group else { return Instant::MAX };
        let first = [
            self.ready_at,
            self.writes.front().map(|write| write.due),
            self.persisted.front().map(|(due, _)| *due),
            self.applies.front().map(|(due, _)| *due),
            Some(self.clock.when(group.deadline())),
        ];
        first.into_iter().flatten().min().unwrap_or(Instant::MAX).max(now)
    }

    pub(crate) fn take_ready(&mut self, now: Instant, mut refuse: impl FnMut() -> bool) -> Ready {
        let local = self.clock(now);
        let mut reader = DiskReader { disk: &self.disk, refuse: &mut refuse };
        let reader: &mut dyn LogReader = &mut reader;
        self.group.as_mut().expect("it is up").ready(local, reader)
    }

    /// The position in this host's log, wherever it is.
    pub(crate) fn position(&self, index: Index) -> Option<LogPosition> {
        let Some(group) = &self.group else { return self.disk.position(index) };
        // What a snapshot replaces may still be on disk.
        let from_disk = || self.disk.position(index).filter(|_| index > group.truncated().index);
        group.position(index).or_else(from_disk)
    }

    /// Applies, and returns how far.
    pub(crate) fn apply(&mut self, applied: Applied) -> Index {
        match applied {
            Applied::Entries(entries) => {
                for entry in entries {
                    assert_eq!(entry.index, self.machine.0.next(), "peer {} applies out of order", self.id);
                    let chain = self.machine.1.link(entry.index, entry.term, entry.kind, &entry.payload);
                    assert_eq!(chain, entry.chain, "peer {} applies a foreign entry", self.id);
                    self.machine = (entry.index, chain);
                }
            }
            Applied::Snapshot(position) => {
                assert!(position.index > self.machine.0, "a snapshot takes peer {} back", self.id);
                self.machine = (position.index, position.chain);
                self.flushed = self.machine;
            }
        }
        self.machine.0
    }
}
