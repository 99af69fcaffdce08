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
        self.worker.round(now, &mut self.batch);
        debug_assert!(self.batch.is_empty(), "a round handles all of its mail");
        self.batch.clear();
    }
}
