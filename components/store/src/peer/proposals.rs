//! Proposals: joined into entries, and waiting to be applied.
//!
//! While a Ready of this region is not durable, new proposals wait and join (natural group commit, D6): batches form by
//! themselves, as large as the disk is slow.

use std::collections::VecDeque;

use types::{Command, Entry, Index, LogCommand, Outcome, RegionId, Request, Term};

use super::{Peer, Requests};
use crate::{
    Error, Result,
    apply::from_kv,
    codec,
    ledger::{Account, Ledger, Reservation},
    limits::{ENTRY_JOINED_BYTES_MAX, LEDGER_PART, WAITING_BYTES_MAX},
    message::{InFlight, Proposal, Responder},
};

#[derive(Default)]
pub(super) struct Proposals {
    /// Not in the log yet: nothing has happened.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// In the log, by index, ascending; not handed to the applier yet.
    in_flight: VecDeque<InFlight>,
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

    /// Leadership is lost: what waits was not done, of what is in the log this store will not learn the fate.
    pub(super) fn fail_all(&mut self, not_leader: &Error) {
        for waiting in self.waiting.drain(..) {
            waiting.responder.reply(Err(not_leader.clone()));
        }
        self.waiting_bytes = 0;
        for proposal in self.in_flight.drain(..) {
            for responder in proposal.responders {
                responder.reply(Err(Error::Undetermined("leadership was lost before the write was applied")));
            }
        }
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
