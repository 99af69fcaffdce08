//! Proposals: joined into entries, and waiting to be applied.
//!
//! While a Ready of this region is not durable, new proposals wait and join (natural group commit, D6): batches form by
//! themselves, as large as the disk is slow.

use std::collections::VecDeque;

use raft::Ready;
use types::{Command, Entry, Index, Instant, LogCommand, Outcome, RegionId, Request, Term};

use super::{Peer, Requests};
use crate::{
    Error, Result,
    apply::from_kv,
    codec,
    ledger::{Account, Ledger, Reservation},
    limits::{ENTRY_JOINED_BYTES_MAX, LEDGER_PART, SETTLE_TIMEOUT, WAITING_BYTES_MAX},
    message::{InFlight, Proposal, Responder},
};

const FATE_UNKNOWN: Error = Error::Undetermined("leadership was lost before the write was applied");

#[derive(Default)]
pub(super) struct Proposals {
    /// Not in the log yet: nothing has happened.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// In the log, by index, ascending; not handed to the applier yet. Those of a leadership that is lost come first:
    /// the next leader commits them or puts others in their place, and this peer mostly sees it at once.
    in_flight: VecDeque<InFlight>,
    /// When those of a lost leadership are given up.
    settles_by: Option<Instant>,
}

/// A write that is not in the log yet.
struct Waiting {
    request: Request,
    responder: Responder<Outcome>,
    reservation: Reservation,
}

/// Writes that share an entry.
struct Joined {
    requests: Vec<Request>,
    responders: Vec<Responder<Outcome>>,
    reservation: Reservation,
}

impl Proposals {
    pub(super) fn has_any(&self) -> bool {
        !self.waiting.is_empty() || !self.in_flight.is_empty()
    }

    /// Proposals whose entries are among those up to `last_index`, all of which are committed.
    pub(super) fn take_committed(&mut self, last_index: Index) -> Vec<InFlight> {
        let count = self.in_flight.partition_point(|proposal| proposal.index <= last_index);
        self.in_flight.drain(..count).collect()
    }

    /// These entries end the log now. Whatever else was proposed from the first of them on has been replaced.
    fn take_replaced(&mut self, entries: &[Entry]) -> Vec<InFlight> {
        let Some(first) = entries.first() else { return Vec::new() };
        let from = self.in_flight.partition_point(|proposal| proposal.index < first.index);
        let is_there = |proposal: &&InFlight| {
            let at = usize::try_from(proposal.index.0 - first.index.0).unwrap_or(usize::MAX);
            entries.get(at).is_some_and(|entry| entry.term == proposal.term)
        };
        // Behind the first one that is replaced, all are.
        let kept_count = from + self.in_flight.iter().skip(from).take_while(is_there).count();
        self.in_flight.drain(kept_count..).collect()
    }

    /// Leadership is lost: what waits was not done; what becomes of what is in the log will be seen, or is given up.
    pub(super) fn on_leadership_lost(&mut self, now: Instant, not_leader: &Error) {
        self.fail_waiting(not_leader);
        if !self.in_flight.is_empty() {
            self.settles_by.get_or_insert(now + SETTLE_TIMEOUT);
        }
    }

    /// This peer is removed, and will not see what becomes of anything.
    pub(super) fn fail_all(&mut self, error: &Error) {
        self.fail_waiting(error);
        answer(self.in_flight.drain(..), &FATE_UNKNOWN);
    }

    /// When something is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.settles_by.unwrap_or(Instant::MAX)
    }

    /// Gives up what is left of a lost leadership, if it is time. `leading`: the term that this peer leads now.
    pub(super) fn expire(&mut self, now: Instant, leading: Option<Term>) {
        if self.settles_by.take_if(|settles_by| *settles_by <= now).is_some() {
            let count = self.in_flight.partition_point(|proposal| Some(proposal.term) != leading);
            answer(self.in_flight.drain(..count), &FATE_UNKNOWN);
        }
    }

    fn fail_waiting(&mut self, error: &Error) {
        for waiting in self.waiting.drain(..) {
            waiting.responder.reply(Err(error.clone()));
        }
        self.waiting_bytes = 0;
    }
}

/// The same answer to all.
fn answer(proposals: impl IntoIterator<Item = InFlight>, error: &Error) {
    for responder in proposals.into_iter().flat_map(|proposal| proposal.responders) {
        responder.reply(Err(error.clone()));
    }
}

impl Peer {
    /// Takes a proposal that has passed the checks of its context.
    pub(crate) fn enqueue(&mut self, mut proposal: Proposal, reservation: Reservation) {
        if let Err(error) = self.check_command(&mut proposal.request.command) {
            return proposal.responder.reply(Err(error));
        }
        let size_bytes = kv::command::size_bytes(&proposal.request.command);
        let proposals = &mut self.requests.get_or_insert_default().proposals;
        if proposals.waiting_bytes + size_bytes > WAITING_BYTES_MAX && !proposals.waiting.is_empty() {
            proposal.responder.reply(Err(Error::busy("too many bytes wait to be proposed")));
            return;
        }
        proposals.waiting_bytes += size_bytes;
        let Proposal { request, responder, .. } = proposal;
        proposals.waiting.push(Waiting { request, responder, reservation });
    }

    /// Refuses what could not be applied, and cuts a range to the region's: once, here (D6).
    fn check_command(&self, command: &mut Command) -> Result<()> {
        let Some(region) = &self.region else { return Err(Error::NotInitialized(self.region_id)) };
        kv::command::check(command).map_err(|invalid| from_invalid(&invalid, self.region_id))?;
        kv::command::clip(command, &region.range);
        kv::command::bounds(command)
            .check_within(self.region_id, &region.range)
            .map_err(|error| from_kv(error, region))
    }

    /// Joins what waits into entries, unless the entries before them are still on their way to the disk. While the
    /// leadership is being handed over it waits, too: it will be for the next leader, or, if the transfer is given up,
    /// for this one; and a client that was told "busy" would take that to its user.
    pub(super) fn propose_waiting(&mut self, now: actor::Now, ledger: &Ledger) {
        let is_disk_busy = self.group.persisted_index() < self.group.last().index;
        let Some(Requests { proposals, .. }) = self.requests.as_deref_mut() else { return };
        if proposals.waiting.is_empty() || is_disk_busy || self.group.is_transferring() {
            return;
        }
        self.sleep.note_request(now.monotonic);
        proposals.waiting_bytes = 0;
        let mut waiting = std::mem::take(&mut proposals.waiting).into_iter().peekable();
        let part = usize::try_from(ledger.limit_bytes() / LEDGER_PART).unwrap_or(usize::MAX);
        let joined_bytes_max = ENTRY_JOINED_BYTES_MAX.min(part);
        while let Some(first) = waiting.next() {
            let joined = join(first, &mut waiting, joined_bytes_max);
            self.propose(now, joined);
        }
    }

    /// Answers the proposals whose entries a Ready takes out of the log. Those that others have replaced never happen.
    pub(super) fn note_replaced(&mut self, ready: &Ready) {
        let Some(requests) = self.requests.as_deref_mut() else { return };
        if ready.snapshot.is_some() {
            answer(requests.proposals.in_flight.drain(..), &FATE_UNKNOWN);
        }
        let replaced = requests.proposals.take_replaced(&ready.entries);
        if !replaced.is_empty() {
            answer(replaced, &self.not_leader());
        }
    }

    fn propose(&mut self, now: actor::Now, joined: Joined) {
        let Joined { requests, responders, mut reservation } = joined;
        metrics::counter!(telemetry::names::PROPOSE_REQUESTS).increment(requests.len() as u64);
        let payload = codec::encode_command(LogCommand { wall: now.wall, requests });
        // What was reserved for the requests goes over to their entry, which keeps it until nobody holds it any more. It is
        // more than enough, but for a batch of thousands of tiny pairs.
        let entry_bytes = (payload.len() + Entry::OVERHEAD_BYTES) as u64;
        let missing_bytes = entry_bytes.saturating_sub(reservation.bytes());
        if !reservation.grow(usize::try_from(missing_bytes).unwrap_or(usize::MAX)) {
            let error = Error::busy("too many bytes are under way on this store");
            return responders.into_iter().for_each(|responder| responder.reply(Err(error.clone())));
        }
        reservation.move_to(Account::Entries);
        reservation.shrink_to(entry_bytes);
        let payload = reservation.hold(payload);
        match self.group.propose(now.monotonic, payload) {
            Ok((index, term)) => {
                metrics::counter!(telemetry::names::PROPOSE_ENTRIES).increment(1);
                self.track(index, term, responders);
            }
            Err(error) => {
                let error = match error {
                    raft::Error::ProposalDropped(reason) => Error::busy(reason),
                    raft::Error::NotLeader
                    | raft::Error::UnknownPeer(_)
                    | raft::Error::ChangeRefused(_)
                    | raft::Error::Awake(_)
                    | raft::Error::ForceRefused(_)
                    | raft::Error::Malformed(_) => self.not_leader(),
                };
                responders.into_iter().for_each(|responder| responder.reply(Err(error.clone())));
            }
        }
    }

    fn track(&mut self, index: Index, term: Term, responders: Vec<Responder<Outcome>>) {
        let in_flight = &mut self.requests.get_or_insert_default().proposals.in_flight;
        assert!(in_flight.back().is_none_or(|last| last.index < index), "proposals get ascending indexes");
        in_flight.push_back(InFlight { index, term, responders });
    }
}

/// Requests for one entry: at least one, and up to the size at which joining more gains nothing.
fn join(
    first: Waiting,
    others: &mut std::iter::Peekable<std::vec::IntoIter<Waiting>>,
    bytes_max: usize,
) -> Joined {
    let (mut requests, mut responders) =
        (Vec::with_capacity(others.len() + 1), Vec::with_capacity(others.len() + 1));
    let mut size_bytes = kv::command::size_bytes(&first.request.command);
    let mut reservation = first.reservation;
    requests.push(first.request);
    responders.push(first.responder);
    let mut fits = |other: &Waiting| {
        size_bytes += kv::command::size_bytes(&other.request.command);
        size_bytes <= bytes_max
    };
    while let Some(other) = others.next_if(|other| fits(other)) {
        reservation.absorb(other.reservation);
        requests.push(other.request);
        responders.push(other.responder);
    }
    Joined { requests, responders, reservation }
}

fn from_invalid(invalid: &kv::Invalid, region_id: RegionId) -> Error {
    match *invalid {
        kv::Invalid::TooLarge { size_bytes } => Error::EntryTooLarge {
            region_id,
            size_bytes: size_bytes as u64,
            limit_bytes: kv::limits::COMMAND_BYTES_MAX as u64,
        },
        kv::Invalid::EmptyKey | kv::Invalid::KeyTooLong { .. } => Error::Invalid(invalid.to_string()),
    }
}
