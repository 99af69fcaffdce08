//! A worker with its mailbox.

use std::sync::Arc;

use types::Instant;

use crate::{Mailbox, Now};

/// Synchronous code that owns some state and works in rounds.
pub trait Worker: Send {
    /// What it is sent: one closed enum.
    type Mail: Send;

    /// One round: handles all of `mail` (leaves it empty) and whatever is due at `now`.
    fn round(&mut self, now: Now, mail: &mut Vec<Self::Mail>);

    /// When it wants a round even without mail.
    fn deadline(&self) -> Option<Instant>;
}

/// Something a pool can run.
pub trait Runnable: Send {
    /// Its name, for threads and traces.
    fn name(&self) -> &str;

    /// Whether mail waits.
    fn has_mail(&self) -> bool;

    /// When it wants a round even without mail.
    fn deadline(&self) -> Option<Instant>;

    /// Takes up to `mail_max` pieces of mail; they stay taken until [`Runnable::run`]. Returns whether there are any.
    fn take_mail(&mut self, mail_max: usize) -> bool;

    /// Runs a round on the mail that was taken. `now` is read after it was taken.
    fn run(&mut self, now: Now);
}

/// A worker and its mailbox.
pub struct Actor<W: Worker> {
    name: String,
    mailbox: Arc<Mailbox<W::Mail>>,
    worker: W,
    batch: Vec<W::Mail>,
}

impl<W: Worker> Actor<W> {
    /// Puts `worker` behind `mailbox`.
    pub fn new(name: impl Into<String>, mailbox: Arc<Mailbox<W::Mail>>, worker: W) -> Actor<W> {
        Actor { name: name.into(), mailbox, worker, batch: Vec::new() }
    }
}

/// Room for so many elements stays in every buffer.
const KEPT_COUNT: usize = 64;

/// Gives back the room of an empty buffer of which the round that has ended used less than a quarter: what one burst
/// needed (ten thousand regions that begin, or wake, together) does not stay for ever. A steady load gives nothing back.
pub fn give_back<T>(buffer: &mut Vec<T>, used_count: usize) {
    debug_assert!(buffer.is_empty());
    if buffer.capacity() > KEPT_COUNT.max(4 * used_count) {
        buffer.shrink_to(KEPT_COUNT.max(2 * used_count));
    }
}

impl<W: Worker> Runnable for Actor<W> {
    fn name(&self) -> &str {
        &self.name
    }

    fn has_mail(&self) -> bool {
        !self.batch.is_empty() || self.mailbox.has_mail()
    }

    fn deadline(&self) -> Option<Instant> {
        self.worker.deadline()
    }

    fn take_mail(&mut self, mail_max: usize) -> bool {
        if self.batch.is_empty() {
            self.mailbox.take(&mut self.batch, mail_max);
        }
        !self.batch.is_empty()
    }

    fn run(&mut self, now: Now) {
        let mail_count = self.batch.len();
        self.worker.round(now, &mut self.batch);
        debug_assert!(self.batch.is_empty(), "a round handles all of its mail");
        self.batch.clear();
        // The mailbox gets this buffer in exchange for its own at the next round, so both come by here.
        give_back(&mut self.batch, mail_count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_burst_is_given_back_and_that_of_a_steady_load_is_not() {
        let mut buffer: Vec<u64> = Vec::with_capacity(10_000);
        give_back(&mut buffer, 2_500);
        assert_eq!(buffer.capacity(), 10_000, "a load that varies by a factor of four keeps its room");
        give_back(&mut buffer, 2_499);
        assert!((4_998..5_500).contains(&buffer.capacity()), "{}", buffer.capacity());
        give_back(&mut buffer, 0);
        assert!((KEPT_COUNT..2 * KEPT_COUNT).contains(&buffer.capacity()), "{}", buffer.capacity());
        give_back(&mut buffer, 0);
        assert!(buffer.capacity() >= KEPT_COUNT, "a little always stays");
    }
}
