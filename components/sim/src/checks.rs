//! What must hold at every moment, and what must hold at the end.
//!
//! After every round of an actor the peers of its store are looked at: who leads, who holds a lease, what was applied.
//! Every `PICTURE_EVENTS` events, and around each start of a store, the whole catalogue of [`check::cluster`] sees a full
//! picture, with what is on the disks and a digest of the data. Where there are many regions both are done less often, in
//! proportion, so that a run does not spend its time with looking.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use check::{cluster, history};
use store::{Account, RegionPicture};
use types::{Index, LogPosition, PeerId, RegionId, StoreId, Term};

use crate::{
    picture,
    world::{HostId, World},
};

/// Events between two full pictures of a few regions.
const PICTURE_EVENTS: u64 = 50;

/// So many regions of a store are looked at after every round of its actors, and three times as many peers of the cluster
/// in every full picture; of more, less often.
const REGIONS_EACH: u64 = 16;

/// What was found wrong.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// An invariant of the catalogue does not hold.
    #[error("{0}\n{1}")]
    Invariant(Box<cluster::Violation>, String),
    /// Two peers believe that they lead the same term.
    #[error("region {region_id}: peers {one} and {other} both lead term {term}")]
    TwoLeaders {
        /// The region.
        region_id: RegionId,
        /// The term.
        term: Term,
        /// A leader.
        one: PeerId,
        /// Another.
        other: PeerId,
    },
    /// The first term of a region was led in two runs of a store: whoever leads it without an election does so only in
    /// the run that first applied the split.
    #[error("region {region_id}: peer {peer} leads the first term in run {other}, and led it in run {one}")]
    FirstTermAgain {
        /// The region.
        region_id: RegionId,
        /// The leader.
        peer: PeerId,
        /// The run of its store in which it led.
        one: u64,
        /// The one in which it leads.
        other: u64,
    },
    /// Two leases are valid at once, in true time.
    #[error("region {region_id}: peers {one} and {other} both hold a lease")]
    TwoLeases {
        /// The region.
        region_id: RegionId,
        /// A holder.
        one: PeerId,
        /// Another.
        other: PeerId,
    },
    /// Two peers have applied different logs.
    #[error("region {region_id}: index {index} was applied as {one:?} and as {other:?}")]
    Diverged {
        /// The region.
        region_id: RegionId,
        /// Where.
        index: Index,
        /// What one applied.
        one: LogPosition,
        /// What another did.
        other: LogPosition,
    },
    /// A store stopped by itself without a reason that it was given.
    #[error("host {} gave up: {reason}", host.0)]
    GaveUp {
        /// Where.
        host: HostId,
        /// Why.
        reason: String,
    },
    /// Without faults, some client was not served.
    #[error("not every client was served within {within:?} without faults\n{pictures}")]
    NotServed {
        /// The time that there was.
        within: Duration,
        /// What the stores looked like.
        pictures: String,
    },
    /// Without faults and requests, the cluster does not come to rest.
    #[error("the cluster does not come to rest: {what}\n{pictures}")]
    NotSettled {
        /// Why not.
        what: String,
        /// What the stores looked like.
        pictures: String,
    },
    /// What an operator was answered does not fit what happened.
    #[error("the operator was misinformed: {0}")]
    Misinformed(String),
    /// Timestamps went back.
    #[error("timestamp {after} was given after {before} had been received")]
    TimestampWentBack {
        /// Received before the later one was asked for.
        before: u64,
        /// Given later.
        after: u64,
    },
    /// No order of the operations explains what clients saw.
    #[error(transparent)]
    History(Box<history::Violation>),
}

/// What has been seen so far.
#[derive(Default)]
pub struct Checks {
    catalogue: cluster::Checker,
    leaders: BTreeMap<(RegionId, Term), PeerId>,
    /// The run of the store in which somebody leads a region's first term.
    first_runs: BTreeMap<RegionId, u64>,
    /// What was applied at each index that somebody was seen at.
    applied: BTreeMap<(RegionId, Index), LogPosition>,
    /// The peer of each region that was seen last on each host.
    homes: BTreeMap<(HostId, RegionId), PeerId>,
    /// The peers that were asleep when they were seen last.
    asleep: BTreeSet<(HostId, PeerId)>,
    sleep_count: u64,
    wake_count: u64,
    return_count: u64,
    event_count: u64,
    next_picture: u64,
    /// How many rounds of each host pass before its peers are looked at again.
    pauses: BTreeMap<HostId, u64>,
}

impl Checks {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Checks {
        Checks::default()
    }

    /// Terms that were seen to have a leader.
    #[must_use]
    pub fn election_count(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Times that a region came back to a host that had had another peer of it.
    #[must_use]
    pub fn return_count(&self) -> u64 {
        self.return_count
    }

    /// Times that a peer fell asleep.
    #[must_use]
    pub fn sleep_count(&self) -> u64 {
        self.sleep_count
    }

    /// Times that a peer woke.
    #[must_use]
    pub fn wake_count(&self) -> u64 {
        self.wake_count
    }

    /// A process has started: nothing that was durable may have gone back.
    pub fn on_start(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        self.look(world)?;
        self.look_at(world, host)
    }

    /// A round of an actor has happened at a host.
    pub fn after_round(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        let pause = self.pauses.entry(host).or_default();
        if *pause > 0 {
            *pause -= 1;
        } else {
            self.look_at(world, host)?;
        }
        self.after_event(world)
    }

    /// Something has happened.
    pub fn after_event(&mut self, world: &World) -> Result<(), Violation> {
        self.event_count += 1;
        if self.event_count >= self.next_picture { self.look(world) } else { Ok(()) }
    }

    fn look_at(&mut self, world: &World, host: HostId) -> Result<(), Violation> {
        let Some(store) = world.store(host) else { return Ok(()) };
        let peers = store.regions();
        self.pauses.insert(host, peers.len() as u64 / REGIONS_EACH);
        for peer in peers {
            self.check_position(&peer)?;
            self.check_leader(&peer, world.generation(host))?;
            check_lease(world, host, &peer)?;
            self.note_sleep(host, &peer);
            let known = self.homes.insert((host, peer.id), peer.peer.id);
            self.return_count += u64::from(known.is_some_and(|known| known != peer.peer.id));
        }
        Ok(())
    }

    /// The whole catalogue.
    pub fn look(&mut self, world: &World) -> Result<(), Violation> {
        let now = picture::instant(world.now());
        let picture = picture::of_cluster(world);
        let peer_count = picture.stores.iter().map(|store| store.peers.len() as u64).sum::<u64>();
        self.next_picture = self.event_count + PICTURE_EVENTS * (1 + peer_count / (3 * REGIONS_EACH));
        self.catalogue
            .observe(now, &picture)
            .map_err(|violation| Violation::Invariant(Box::new(violation), show(world)))
    }

    /// Equal indexes mean equal chains, so equal logs (D15).
    fn check_position(&mut self, peer: &RegionPicture) -> Result<(), Violation> {
        let (region_id, index) = (peer.id, peer.applied.index);
        let known = *self.applied.entry((region_id, index)).or_insert(peer.applied);
        if known != peer.applied {
            return Err(Violation::Diverged { region_id, index, one: known, other: peer.applied });
        }
        Ok(())
    }

    fn note_sleep(&mut self, host: HostId, peer: &RegionPicture) {
        let key = (host, peer.peer.id);
        if peer.is_asleep {
            self.sleep_count += u64::from(self.asleep.insert(key));
        } else {
            self.wake_count += u64::from(self.asleep.remove(&key));
        }
    }

    fn check_leader(&mut self, peer: &RegionPicture, run: u64) -> Result<(), Violation> {
        let me = peer.peer.id;
        if !picture::is_leader(peer) {
            return Ok(());
        }
        let (region_id, term) = (peer.id, peer.term);
        let known = *self.leaders.entry((region_id, term)).or_insert(me);
        if known != me {
            return Err(Violation::TwoLeaders { region_id, term, one: known, other: me });
        }
        if term == Term::FIRST {
            let one = *self.first_runs.entry(region_id).or_insert(run);
            if one != run {
                return Err(Violation::FirstTermAgain { region_id, peer: me, one, other: run });
            }
        }
        Ok(())
    }

    /// What must hold at the end, without faults and requests.
    pub fn at_end(&mut self, world: &World) -> Result<(), Violation> {
        self.look(world)?;
        match unsettled(world) {
            Some(what) => Err(Violation::NotSettled { what, pictures: show(world) }),
            None => Ok(()),
        }
    }
}

/// Why a cluster is not at rest, if it is not.
#[must_use]
pub fn unsettled(world: &World) -> Option<String> {
    let picture = picture::of_cluster(world);
    if let Err(violation) = cluster::check_settled(picture::instant(world.now()), &picture) {
        return Some(violation.to_string());
    }
    // What is at rest holds nothing (D12).
    for store in &picture.stores {
        let reserved_bytes = store.budget.map_or(0, |budget| budget.reserved_bytes);
        if reserved_bytes > 0 {
            return Some(format!(
                "store {} has {reserved_bytes} bytes reserved: {}",
                store.id,
                accounts(world, store.id)
            ));
        }
    }
    let mut digests_of: BTreeMap<RegionId, Vec<_>> = BTreeMap::new();
    for peer in picture.stores.iter().flat_map(|store| &store.peers) {
        digests_of.entry(peer.region_id).or_default().push(peer.digest);
    }
    for (region_id, digests) in digests_of {
        if digests.len() < 3 {
            return Some(format!("region {region_id} has {} peers", digests.len()));
        }
        if digests.iter().any(|digest| *digest != digests[0]) {
            return Some(format!("the data of region {region_id} differs: {digests:?}"));
        }
    }
    None
}

/// What a store has reserved, and for what.
fn accounts(world: &World, id: StoreId) -> String {
    let store = world.hosts().filter_map(|host| world.store(host)).find(|store| store.ident().store_id == id);
    let Some(ledger) = store.map(|store| store.ledger()) else { return String::new() };
    let named = Account::ALL.map(|account| format!("{} {}", account.name(), ledger.account_bytes(account)));
    named.join(", ")
}

/// Every peer in a line.
#[must_use]
pub fn show(world: &World) -> String {
    let mut text = String::new();
    for host in world.hosts() {
        let Some(store) = world.store(host) else {
            writeln!(text, "host {}: down", host.0).expect("writing to a string does not fail");
            continue;
        };
        for peer in store.regions() {
            writeln!(
                text,
                "host {}: region {} peer {} term {} leader {:?} last {} committed {} applied {} awake {}",
                host.0,
                peer.id,
                peer.peer.id,
                peer.term,
                peer.leader.map(|leader| leader.id.0),
                peer.last.index,
                peer.commit_index,
                peer.applied.index,
                world.is_awake(host)
            )
            .expect("writing to a string does not fail");
        }
    }
    text
}

/// Whether somebody else's lease is valid together with this one.
fn check_lease(world: &World, host: HostId, peer: &RegionPicture) -> Result<(), Violation> {
    let is_valid = |host, peer: &RegionPicture| {
        picture::lease_until(world, host, peer).is_some_and(|until| world.now() < until)
    };
    if !is_valid(host, peer) {
        return Ok(());
    }
    for other in world.hosts().filter(|other| *other != host) {
        let Some(theirs) = world.store(other).and_then(|store| store.region(peer.id)) else { continue };
        if is_valid(other, &theirs) {
            return Err(Violation::TwoLeases {
                region_id: peer.id,
                one: peer.peer.id,
                other: theirs.peer.id,
            });
        }
    }
    Ok(())
}
