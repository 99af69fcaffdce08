//! What can be done to a machine.

use std::time::Duration;

use engine::mem::MemDisk;
use store::{Account, Unreachable};

use super::{
    AnswerBody, HostId, Moment, Step, World,
    agenda::{Event, HostEvent},
    host::{DiskHealth, Pause},
    network::Site,
};

/// What has gone wrong, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processes killed.
    pub crashes: u64,
    /// Machines that lost power.
    pub power_losses: u64,
    /// Processes that were paused, or machines that were suspended.
    pub pauses: u64,
    /// Pauses that the monotonic clock did not count.
    pub suspensions: u64,
    /// Snapshots that their receivers had whole.
    pub snapshots: u64,
    /// Frames that stores have sent: what a lane of a connection carries at once.
    pub frames: u64,
    /// Times that a store's ledger had no room for somebody, counted when its process ends.
    pub refusals: u64,
    /// Stores that stopped by themselves after a failure of their disk.
    pub stops: u64,
}

impl World {
    /// No further fault happens by itself: the network is whole and good, disks are healthy.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.network.calm();
        for host in &mut self.hosts {
            host.disk_health = DiskHealth::Good;
            host.disk.set_full(false);
            host.disk.set_free_bytes(u64::MAX);
            host.is_disk_full = false;
        }
    }

    /// Whether a machine's process runs and is not paused.
    #[must_use]
    pub fn is_awake(&self, host: HostId) -> bool {
        let host = &self.hosts[host.0];
        host.process.is_some() && host.pause.is_none()
    }

    /// Kills the process of a machine; it starts again after a while. Whoever was connected notices.
    pub fn crash(&mut self, id: HostId, down: Duration) {
        if self.hosts[id.0].process.is_none() {
            return;
        }
        self.note(format_args!("host {} crashes", id.0));
        self.counters.crashes += 1;
        self.end_process(id);
        let rng = &mut self.disk_rng;
        self.hosts[id.0].disk.crash(&mut |bound| rng.below(bound));
        self.agenda.add(self.now + down, Event::Start(id));
    }

    /// Cuts the power of several machines at once; they start again after a while. Nobody is told.
    pub fn power_loss(&mut self, hosts: &[HostId], down: Duration) {
        for id in hosts {
            if self.hosts[id.0].process.is_none() {
                continue;
            }
            self.note(format_args!("host {} loses power", id.0));
            self.counters.power_losses += 1;
            self.count_refusals(*id);
            let host = &mut self.hosts[id.0];
            host.process = None;
            host.pause = None;
            host.is_powered = false;
            host.open_calls.clear();
            let rng = &mut self.disk_rng;
            host.disk.power_loss(&mut |bound| rng.below(bound));
            let down = down + self.rng.skewed(Duration::from_millis(1), Duration::from_millis(500));
            self.agenda.add(self.now + down, Event::Start(*id));
        }
    }

    /// A machine loses its disk, and its process with it. From then on it has no store, until it is given one anew.
    pub fn wipe(&mut self, id: HostId) {
        self.note(format_args!("host {} loses its disk", id.0));
        if self.hosts[id.0].process.is_some() {
            self.counters.crashes += 1;
            self.end_process(id);
        }
        let host = &mut self.hosts[id.0];
        host.disk = MemDisk::new();
        host.lost_generation = host.generation;
        host.origin = None;
        host.known_stores.clear();
        if let Some(store) = host.store_id.take() {
            self.host_of.remove(&store);
        }
    }

    /// Stops a process for a while, between any two steps of any of its actors. With `is_suspension` the machine sleeps
    /// and its monotonic clock does not count it, where the wall clock can show it.
    pub fn pause(&mut self, id: HostId, length: Duration, is_suspension: bool) {
        if !self.is_awake(id) {
            return;
        }
        let host = &mut self.hosts[id.0];
        let missed = (is_suspension && host.clock.may_miss_time()).then_some(length);
        host.pause_count += 1;
        let number = host.pause_count;
        host.pause = Some(Pause { number, held: Vec::new(), missed });
        self.counters.pauses += 1;
        self.counters.suspensions += u64::from(missed.is_some());
        self.note(format_args!("host {} pauses for {length:?}, clock stands: {}", id.0, missed.is_some()));
        self.agenda.add(self.now + length, Event::Resume(id, number));
    }

    /// The next sync of a disk hangs.
    pub fn hang_disk(&mut self, id: HostId) {
        self.note(format_args!("host {}: the next sync hangs", id.0));
        self.hosts[id.0].disk_health = DiskHealth::Hangs;
    }

    /// Syncs of a disk take up to `longest`; `None`: as on a good one.
    pub fn slow_disk(&mut self, id: HostId, longest: Option<Duration>) {
        self.note(format_args!("host {}: syncs take up to {longest:?}", id.0));
        self.hosts[id.0].disk_health = longest.map_or(DiskHealth::Good, DiskHealth::Slow);
    }

    /// A disk has (almost) no space left: the store sees it in time and takes no further writes. With `is_sudden` it has
    /// none at all: whatever the store still writes fails, and it stops.
    pub fn fill_disk(&mut self, id: HostId, is_sudden: bool) {
        self.note(format_args!("host {}: the disk is full, at once: {is_sudden}", id.0));
        let host = &mut self.hosts[id.0];
        host.disk.set_free_bytes(0);
        host.disk.set_full(is_sudden);
        host.is_disk_full = is_sudden;
    }

    /// A disk has space again.
    pub fn clear_disk(&mut self, id: HostId) {
        self.note(format_args!("host {}: the disk has space", id.0));
        let host = &mut self.hosts[id.0];
        host.disk.set_free_bytes(u64::MAX);
        host.disk.set_full(false);
        host.is_disk_full = false;
    }

    /// An operation of the disk fails once; the store then stops by itself, and starts again.
    pub fn fail_disk(&mut self, id: HostId, fault: engine::mem::Fault) {
        if self.hosts[id.0].process.is_some() {
            self.note(format_args!("host {}: the disk will fail: {fault:?}", id.0));
            self.hosts[id.0].disk.fail_next(fault);
            self.hosts[id.0].is_disk_failing = true;
        }
    }

    /// Adds up what the ledger of a store that is about to end has refused.
    pub fn count_refusals(&mut self, id: HostId) {
        if let Some(store) = self.store(id) {
            let ledger = store.ledger();
            let refusals: u64 = Account::ALL.iter().map(|account| ledger.refusal_count(*account)).sum();
            self.counters.refusals += refusals;
        }
    }

    pub(super) fn resume(&mut self, id: HostId, number: u64) -> Step {
        let host = &mut self.hosts[id.0];
        let Some(pause) = host.pause.take_if(|pause| pause.number == number) else { return Step::Host(id) };
        if let Some(missed) = pause.missed {
            host.clock.miss_time(missed);
        }
        self.note(format_args!("host {} goes on", id.0));
        let mut at = self.now;
        for event in pause.held {
            at = Moment(at.0 + 1 + self.rng.below(20_000));
            self.agenda.add(at, Event::Host(id, event));
        }
        Step::Host(id)
    }

    /// A store stops by itself: its process ends as if it were killed.
    pub(super) fn give_up(&mut self, id: HostId, reason: String) -> Step {
        self.note(format_args!("host {} gives up: {reason}", id.0));
        let host = &mut self.hosts[id.0];
        let is_expected = std::mem::take(&mut host.is_disk_failing) || host.is_disk_full;
        self.end_process(id);
        let rng = &mut self.disk_rng;
        self.hosts[id.0].disk.crash(&mut |bound| rng.below(bound));
        if !is_expected {
            return Step::GaveUp(id, reason);
        }
        self.counters.stops += 1;
        let down = self.rng.skewed(Duration::from_millis(10), Duration::from_secs(2));
        self.agenda.add(self.now + down, Event::Start(id));
        Step::Host(id)
    }

    /// Ends a process. The kernel closes its connections: clients and other stores notice, unless they are cut off.
    fn end_process(&mut self, id: HostId) {
        self.count_refusals(id);
        let host = &mut self.hosts[id.0];
        host.process = None;
        host.is_disk_failing = false;
        let store_id = host.store_id;
        let mut broken: Vec<_> = std::mem::take(&mut host.open_calls).into_iter().collect();
        let held = host.pause.take().map(|pause| pause.held).unwrap_or_default();
        broken.extend(held.into_iter().filter_map(|event| match event {
            HostEvent::Call(call) => Some((call.id, call.from)),
            HostEvent::Look { .. }
            | HostEvent::Round { .. }
            | HostEvent::Frame { .. }
            | HostEvent::Unreachable { .. } => None,
        }));
        for (call, client) in broken {
            self.answer(id, call, client, AnswerBody::Broken);
        }
        for other in self.hosts().filter(|other| *other != id) {
            let is_cut = self.network.is_cut(Site::Host(id), Site::Host(other));
            if let Some(store) = store_id
                && self.hosts[other.0].process.is_some()
                && !is_cut
            {
                self.tell_unreachable(other, store, Unreachable::Refused, Duration::from_millis(50));
            }
        }
    }
}
