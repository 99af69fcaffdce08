//! One byte ledger for the store (D12): whoever wants to hold a client's bytes, a log entry, a part of a snapshot or a
//! message reserves room for it first.
//!
//! An entry's reservation lives in its payload: it is given back when the last queue that holds the payload lets go, be
//! that the log in memory, the log writer, an applier or the transport. So no hand-over between them can leak a byte or
//! count one twice, and an idle store has reserved nothing.
//!
//! The limit is hard: nothing is reserved beyond it. Who is refused first is a matter of shares. New writes of clients
//! may use half, entries of other stores' leaders three quarters, and what helps to get rid of what is there (reading
//! entries back to apply or send them, snapshots for those that lag) seven eighths. What lies above a share was let in
//! by others and drains by itself: entries go to the disk, are applied, and can then be read back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;

/// For what bytes are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Writes of clients that are not in an entry yet.
    Proposals,
    /// Writes of the placement group, which must not wait for those of clients.
    Control,
    /// Entries that leaders of this store have made.
    Entries,
    /// Entries that came from leaders of other stores.
    Received,
    /// Entries read back from disk, to be applied or sent.
    Reread,
    /// Parts of snapshots that wait to be sent.
    SnapshotsSent,
    /// Parts of snapshots that came and are not staged yet.
    SnapshotsReceived,
    /// Messages that wait to be sent, but for the entries and parts of snapshots in them.
    Transport,
}

impl Account {
    /// Every account.
    pub const ALL: [Account; 8] = [
        Account::Proposals,
        Account::Control,
        Account::Entries,
        Account::Received,
        Account::Reread,
        Account::SnapshotsSent,
        Account::SnapshotsReceived,
        Account::Transport,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Account::Proposals => "proposals",
            Account::Control => "control",
            Account::Entries => "entries",
            Account::Received => "received",
            Account::Reread => "reread",
            Account::SnapshotsSent => "snapshots_sent",
            Account::SnapshotsReceived => "snapshots_received",
            Account::Transport => "transport",
        }
    }

    /// Up to how many eighths of the limit all accounts together may grow by a reservation for this one.
    fn share_eighths(self) -> u64 {
        match self {
            Account::Proposals | Account::Entries => 4,
            Account::Received => 6,
            Account::Control | Account::Reread | Account::SnapshotsSent | Account::SnapshotsReceived => 7,
            Account::Transport => 8,
        }
    }

    fn place(self) -> usize {
        match self {
            Account::Proposals => 0,
            Account::Control => 1,
            Account::Entries => 2,
            Account::Received => 3,
            Account::Reread => 4,
            Account::SnapshotsSent => 5,
            Account::SnapshotsReceived => 6,
            Account::Transport => 7,
        }
    }
}

/// The ledger of one store.
#[derive(Debug)]
pub struct Ledger {
    limit_bytes: u64,
    total_bytes: AtomicU64,
    accounts: [AtomicU64; Account::ALL.len()],
    refusals: [AtomicU64; Account::ALL.len()],
    /// Somebody was refused who cannot wait for long: entries in memory that can be read back are to go.
    wants_relief: AtomicBool,
}

/// Bytes that are reserved, until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    account: Account,
    bytes: u64,
}

/// A payload that holds its own reservation.
struct Held {
    payload: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Ledger {
    /// A ledger with this limit, in bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Ledger> {
        Arc::new(Ledger {
            limit_bytes,
            total_bytes: AtomicU64::new(0),
            accounts: Default::default(),
            refusals: Default::default(),
            wants_relief: AtomicBool::new(false),
        })
    }

    /// Bytes that may be reserved, by everyone together.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes that are reserved now.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Acquire)
    }

    /// Bytes that are reserved for one purpose.
    #[must_use]
    pub fn account_bytes(&self, account: Account) -> u64 {
        self.accounts[account.place()].load(Ordering::Acquire)
    }

    /// How often a reservation was refused for one purpose.
    #[must_use]
    pub fn refusal_count(&self, account: Account) -> u64 {
        self.refusals[account.place()].load(Ordering::Relaxed)
    }

    /// Reserves bytes; `None` where they would exceed the account's share of the limit.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, account: Account, bytes: usize) -> Option<Reservation> {
        let mut reservation = self.empty(account);
        reservation.grow(bytes).then_some(reservation)
    }

    /// A reservation of nothing, to grow and shrink.
    #[must_use]
    pub fn empty(self: &Arc<Self>, account: Account) -> Reservation {
        Reservation { ledger: Arc::clone(self), account, bytes: 0 }
    }

    /// A copy of `payload` that holds a reservation for itself and `overhead_bytes`. A copy, because a part of a large
    /// frame would keep all of the frame.
    #[must_use]
    pub(crate) fn copy(
        self: &Arc<Self>,
        account: Account,
        payload: &[u8],
        overhead_bytes: usize,
    ) -> Option<Bytes> {
        let reservation = self.reserve(account, payload.len().saturating_add(overhead_bytes))?;
        Some(reservation.hold(Bytes::copy_from_slice(payload)))
    }

    /// Bytes that a reservation for this purpose may have now.
    pub(crate) fn room(&self, account: Account) -> usize {
        usize::try_from(self.ceiling(account).saturating_sub(self.reserved_bytes())).unwrap_or(usize::MAX)
    }

    /// Whether entries that nobody needs soon are to leave memory: a quarter of the limit is in use.
    pub(crate) fn is_tight(&self) -> bool {
        self.reserved_bytes() > self.limit_bytes / 4
    }

    /// Asks for relief; `true` for the first who asks since it was given.
    pub(crate) fn ask_relief(&self) -> bool {
        !self.wants_relief.swap(true, Ordering::AcqRel)
    }

    /// Relief is being given.
    pub(crate) fn on_relief(&self) {
        self.wants_relief.store(false, Ordering::Release);
    }

    fn ceiling(&self, account: Account) -> u64 {
        self.limit_bytes / 8 * account.share_eighths()
    }

    fn try_add(&self, account: Account, bytes: u64) -> bool {
        let ceiling = self.ceiling(account);
        let added = self.total_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |total| {
            total.checked_add(bytes).filter(|total| *total <= ceiling)
        });
        let is_added = added.is_ok();
        if is_added {
            self.accounts[account.place()].fetch_add(bytes, Ordering::AcqRel);
        } else {
            self.refusals[account.place()].fetch_add(1, Ordering::Relaxed);
        }
        is_added
    }

    fn subtract(&self, account: Account, bytes: u64) {
        let account_before = self.accounts[account.place()].fetch_sub(bytes, Ordering::AcqRel);
        let total_before = self.total_bytes.fetch_sub(bytes, Ordering::AcqRel);
        assert!(account_before >= bytes, "an account gives back what it has");
        assert!(total_before >= bytes, "what is given back was reserved");
    }
}

impl Reservation {
    /// How many bytes it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves more; `false`, and nothing is changed, where that would exceed the share.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let is_added = bytes == 0 || self.ledger.try_add(self.account, bytes);
        if is_added {
            self.bytes += bytes;
        }
        is_added
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.ledger.subtract(self.account, self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    /// Takes over another reservation of the same ledger and account.
    pub(crate) fn absorb(&mut self, mut other: Reservation) {
        assert_eq!(self.account, other.account, "bytes stay in their account");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes a part out; `None` where there is not so much.
    pub(crate) fn split(&mut self, bytes: u64) -> Option<Reservation> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Reservation { ledger: Arc::clone(&self.ledger), account: self.account, bytes })
    }

    /// The same bytes serve another purpose from now on: who was let in is not refused on the way.
    pub(crate) fn move_to(&mut self, account: Account) {
        self.ledger.accounts[account.place()].fetch_add(self.bytes, Ordering::AcqRel);
        self.ledger.accounts[self.account.place()].fetch_sub(self.bytes, Ordering::AcqRel);
        self.account = account;
    }

    /// The payload, which gives this back when its last clone is dropped.
    pub(crate) fn hold(self, payload: Bytes) -> Bytes {
        assert!(self.bytes >= payload.len() as u64, "a payload is reserved before it is held");
        Bytes::from_owner(Held { payload, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let ledger = Ledger::new(800);
        let mut one = ledger.reserve(Account::Proposals, 100).expect("there is room");
        let other = ledger.reserve(Account::Proposals, 50).expect("there is room");
        one.absorb(other);
        assert_eq!((one.bytes(), ledger.reserved_bytes()), (150, 150));
        one.move_to(Account::Entries);
        assert_eq!(ledger.account_bytes(Account::Proposals), 0);
        one.shrink_to(60);
        let part = one.split(20).expect("it has as much");
        assert!(one.split(41).is_none());
        assert_eq!(ledger.account_bytes(Account::Entries), 60);
        drop(one);
        assert_eq!(ledger.reserved_bytes(), 20);
        drop(part);
        assert_eq!(ledger.reserved_bytes(), 0);
        assert!(Account::ALL.iter().all(|account| ledger.account_bytes(*account) == 0));
    }

    #[test]
    fn a_payload_is_reserved_until_its_last_clone_and_slice_is_gone() {
        let ledger = Ledger::new(8_000);
        let payload = ledger.copy(Account::Received, b"payload", 48).expect("there is room");
        assert_eq!((&payload[..], ledger.reserved_bytes()), (&b"payload"[..], 55));
        let (clone, slice) = (payload.clone(), payload.slice(2..4));
        drop(payload);
        drop(clone);
        assert_eq!(ledger.reserved_bytes(), 55, "a slice keeps all of it in memory");
        drop(slice);
        assert_eq!(ledger.reserved_bytes(), 0);
    }

    #[test]
    fn clients_are_refused_before_other_stores_and_those_before_what_drains() {
        let ledger = Ledger::new(800);
        let proposals = ledger.reserve(Account::Proposals, 400).expect("half is theirs");
        assert!(ledger.reserve(Account::Proposals, 1).is_none());
        assert_eq!(ledger.room(Account::Received), 200);
        let received = ledger.reserve(Account::Received, 200).expect("three quarters");
        assert!(ledger.reserve(Account::Received, 1).is_none());
        let reread = ledger.reserve(Account::Reread, 100).expect("seven eighths");
        assert!(ledger.reserve(Account::SnapshotsSent, 1).is_none());
        let messages = ledger.reserve(Account::Transport, 100).expect("all of it");
        assert!(ledger.reserve(Account::Transport, 1).is_none());
        assert_eq!(ledger.reserved_bytes(), ledger.limit_bytes());
        assert_eq!(ledger.refusal_count(Account::Proposals), 1);
        drop((proposals, received, reread, messages));
        assert_eq!(ledger.reserved_bytes(), 0);
    }

    #[test]
    fn relief_is_asked_for_once() {
        let ledger = Ledger::new(800);
        assert!(ledger.ask_relief());
        assert!(!ledger.ask_relief());
        ledger.on_relief();
        assert!(ledger.ask_relief());
    }
}
