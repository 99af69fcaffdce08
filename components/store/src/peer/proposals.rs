//! Proposals: joined into entries, and waiting to be applied.
//!
//! While a Ready of this region is not durable, new proposals wait and join (natural group commit, D6): batches form by
//! themselves, as large as the disk is slow.

use std::collections::VecDeque;

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

/// What committed entries decide.
#[derive(Default)]
struct Fates {
    /// Proposals whose entries they are, by index.
    committed: Vec<InFlight>,
    /// Proposals that will never happen.
    replaced: Vec<InFlight>,
}

#[derive(Default)]
pub(super) struct Proposals {
    /// Not in the log yet: nothing has happened.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// In the log, by index, ascending; not handed to the applier yet.
    in_flight: VecDeque<InFlight>,
    /// Of a leadership that is lost. The next leader commits them or others in their place, and this peer mostly sees it
    /// soon.
    orphans: Vec<InFlight>,
    /// When the orphans are given up.
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
        !self.waiting.is_empty() || !self.in_flight.is_empty() || !self.orphans.is_empty()
    }

    /// Proposals whose entries are among these, which are committed, and those in whose place others are. Nothing less
    /// proves that a proposal will never happen: where its entry is gone from this log, another peer may still have it,
    /// be elected by those that have neither, and commit it.
    fn take_committed(&mut self, entries: &[Entry]) -> Fates {
        let Some((first, last)) = entries.first().zip(entries.last()) else { return Fates::default() };
        let mut decided: Vec<_> = self.orphans.extract_if(.., |orphan| orphan.index <= last.index).collect();
        decided.sort_by_key(|orphan| orphan.index);
        let is_there = |orphan: &InFlight| {
            assert!(orphan.index >= first.index, "an orphan's index is not passed over");
            let at = usize::try_from(orphan.index.0 - first.index.0).unwrap_or(usize::MAX);
            entries.get(at).is_some_and(|entry| entry.term == orphan.term)
        };
        let (mut committed, replaced): (Vec<_>, _) = decided.into_iter().partition(is_there);
        // An earlier leadership's entries lie below this one's.
        let count = self.in_flight.partition_point(|proposal| proposal.index <= last.index);
        committed.extend(self.in_flight.drain(..count));
        Fates { committed, replaced }
    }

    /// Leadership is lost: what waits was not done; what becomes of what is in the log will be seen, or is given up.
    pub(super) fn on_leadership_lost(&mut self, now: Instant, not_leader: &Error) {
        self.fail_waiting(not_leader);
        if !self.in_flight.is_empty() {
            self.orphans.extend(self.in_flight.drain(..));
            self.settles_by.get_or_insert(now + SETTLE_TIMEOUT);
        }
    }

    /// This peer is removed.
    pub(super) fn fail_all(&mut self, error: &Error) {
        self.fail_waiting(error);
        self.orphans.extend(self.in_flight.drain(..));
        self.give_up_orphans();
    }

    /// When something is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.settles_by.unwrap_or(Instant::MAX)
    }

    /// Gives the orphans up, if it is time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline() <= now {
            self.give_up_orphans();
        }
    }

    /// Their fate will not be seen here any more.
    pub(super) fn give_up_orphans(&mut self) {
        self.settles_by = None;
        for orphan in self.orphans.drain(..) {
            orphan.answer(&Error::Undetermined("leadership was lost before the write was applied"));
        }
    }

    fn fail_waiting(&mut self, error: &Error) {
        for waiting in self.waiting.drain(..) {
            waiting.responder.reply(Err(error.clone()));
        }
        self.waiting_bytes = 0;
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

    /// The proposals that these entries commit; others in whose place they are did not happen.
    pub(super) fn take_committed(&mut self, entries: &[Entry]) -> Vec<InFlight> {
        let Some(requests) = self.requests.as_deref_mut() else { return Vec::new() };
        let Fates { committed, replaced } = requests.proposals.take_committed(entries);
        replaced.into_iter().for_each(|orphan| orphan.answer(&self.not_leader()));
        committed
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const NOT_LEADER: Error = Error::NotLeader { region_id: RegionId::FIRST, leader: None };

    type Answer = Arc<Mutex<Option<Result<Outcome>>>>;

    fn proposal(index: u64, term: u64) -> (InFlight, Answer) {
        let answer = Answer::default();
        let told = Arc::clone(&answer);
        let responder = Responder::new(move |result| *told.lock().unwrap() = Some(result));
        (InFlight { index: Index(index), term: Term(term), responders: vec![responder] }, answer)
    }

    fn entries(terms: &[(u64, u64)]) -> Vec<Entry> {
        let entry = |(index, term)| Entry { index: Index(index), term: Term(term), ..Entry::default() };
        terms.iter().copied().map(entry).collect()
    }

    /// Proposed at 5, 6 and 7 in term 2, which is lost; and at 7 in term 4, which is led again with a shorter log.
    fn led_twice() -> (Proposals, Vec<Answer>) {
        let mut proposals = Proposals::default();
        let (first, mut answers): (Vec<_>, Vec<_>) =
            [5, 6, 7].map(|index| proposal(index, 2)).into_iter().unzip();
        proposals.in_flight.extend(first);
        proposals.on_leadership_lost(Instant::from_millis(0), &NOT_LEADER);
        let (again, answer) = proposal(7, 4);
        proposals.in_flight.push_back(again);
        answers.push(answer);
        (proposals, answers)
    }

    fn places(proposals: &[InFlight]) -> Vec<(u64, u64)> {
        proposals.iter().map(|proposal| (proposal.index.0, proposal.term.0)).collect()
    }

    #[test]
    fn only_what_is_committed_decides() {
        let (mut proposals, _) = led_twice();
        let fates = proposals.take_committed(&entries(&[(3, 1), (4, 2), (5, 2)]));
        assert_eq!((places(&fates.committed), fates.replaced.len()), (vec![(5, 2)], 0));
        let fates = proposals.take_committed(&entries(&[(6, 4), (7, 4)]));
        assert_eq!(places(&fates.committed), [(7, 4)]);
        assert_eq!(places(&fates.replaced), [(6, 2), (7, 2)]);
        assert!(!proposals.has_any());
    }

    #[test]
    fn orphans_are_given_up_and_what_is_led_now_is_not() {
        let (mut proposals, answers) = led_twice();
        proposals.expire(Instant::from_millis(999));
        assert!(answers.iter().all(|answer| answer.lock().unwrap().is_none()));
        proposals.expire(Instant::from_millis(1_000));
        let told: Vec<_> = answers.iter().map(|answer| answer.lock().unwrap().take()).collect();
        assert!(told[..3].iter().all(|told| matches!(told, Some(Err(Error::Undetermined(_))))), "{told:?}");
        assert_eq!(told[3], None);
        assert_eq!(proposals.deadline(), Instant::MAX);
    }
}
