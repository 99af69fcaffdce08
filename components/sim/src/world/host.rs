//! One machine: its disk, its clocks, and the process that runs on it now and then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::mem::MemDisk;
use placement::StoreRecord;
use types::StoreId;

use super::{
    CallId, Rng,
    agenda::HostEvent,
    clock::MachineClock,
    network::Site,
    pool::{Work, draw_service_time},
    process::{Origin, Process},
};

/// A sync of the disk that hangs lasts this long.
const HANG: Duration = Duration::from_secs(1);

/// A machine.
pub(crate) struct Host {
    pub(crate) disk: MemDisk,
    pub(crate) clock: Arc<MachineClock>,
    /// How it comes to have a store, once that is known.
    pub(crate) origin: Option<Origin>,
    /// Its store, once it has started.
    pub(crate) store_id: Option<StoreId>,
    pub(crate) process: Option<Process>,
    /// Whether the machine itself runs: a call to one that does not is not even refused.
    pub(crate) is_powered: bool,
    /// Counts processes.
    pub(crate) generation: u64,
    /// Processes up to this one had another disk, which is lost.
    pub(crate) lost_generation: u64,
    /// The pause that it is in.
    pub(crate) pause: Option<Pause>,
    pub(crate) pause_count: u64,
    /// Calls of clients that the process has not answered.
    pub(crate) open_calls: BTreeMap<CallId, Site>,
    /// The address book, kept through restarts.
    pub(crate) known_stores: Vec<StoreRecord>,
    pub(crate) disk_health: DiskHealth,
    /// The disk was told to fail: a store that stops does what it should.
    pub(crate) is_disk_failing: bool,
    /// The disk takes nothing: a store does not start, and one that writes stops.
    pub(crate) is_disk_full: bool,
}

/// A process that is stopped (SIGSTOP), or a machine that is suspended.
pub(crate) struct Pause {
    pub(crate) number: u64,
    /// What would have happened since.
    pub(crate) held: Vec<HostEvent>,
    /// How long the monotonic clock will have stood still.
    pub(crate) missed: Option<Duration>,
}

/// How the disk does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskHealth {
    /// A sync takes up to a few milliseconds.
    Good,
    /// A sync takes up to this long.
    Slow(Duration),
    /// The next sync hangs.
    Hangs,
}

impl Host {
    pub(crate) fn new(clock: Arc<MachineClock>) -> Host {
        Host {
            disk: MemDisk::new(),
            clock,
            origin: None,
            store_id: None,
            process: None,
            is_powered: true,
            generation: 0,
            lost_generation: 0,
            pause: None,
            pause_count: 0,
            open_calls: BTreeMap::new(),
            known_stores: Vec::new(),
            disk_health: DiskHealth::Good,
            is_disk_failing: false,
            is_disk_full: false,
        }
    }

    /// The process, if an event of this generation is meant for it.
    pub(crate) fn process_of(&mut self, generation: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.generation == generation)
    }

    /// How long the next round of an actor takes.
    pub(crate) fn draw_service_time(&mut self, rng: &mut Rng, work: Work) -> Duration {
        let healthy = draw_service_time(rng, work);
        match (work, self.disk_health) {
            (Work::Compute, _) | (Work::Sync, DiskHealth::Good) => healthy,
            (Work::Sync, DiskHealth::Slow(longest)) => rng.skewed(healthy, longest.max(healthy)),
            (Work::Sync, DiskHealth::Hangs) => {
                self.disk_health = DiskHealth::Good;
                HANG
            }
        }
    }
}
