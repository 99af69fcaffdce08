//! Mailboxes: many senders, one worker, taken whole.

use std::sync::Arc;

use parking_lot::Mutex;

/// Names an actor towards its scheduler; dense from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub usize);

/// Told when an actor has something to do. Production wakes a thread, simulation notes a possible next step.
pub trait Scheduler: Send + Sync {
    /// The actor's mailbox was empty and is not any more.
    fn wake(&self, actor: ActorId);
}

/// Mail for one actor. Batches form here: whatever arrives while a round runs is taken together by the next.
///
/// The mailbox itself is unbounded: what goes in was admitted by the byte ledger, or answers something that was.
pub struct Mailbox<M> {
    actor: ActorId,
    scheduler: Arc<dyn Scheduler>,
    mail: Mutex<Vec<M>>,
}

impl<M> Mailbox<M> {
    /// An empty mailbox of `actor`.
    #[must_use]
    pub fn new(actor: ActorId, scheduler: Arc<dyn Scheduler>) -> Arc<Mailbox<M>> {
        Arc::new(Mailbox { actor, scheduler, mail: Mutex::new(Vec::new()) })
    }

    /// Adds one piece of mail.
    pub fn send(&self, mail: M) {
        let was_empty = {
            let mut queue = self.mail.lock();
            queue.push(mail);
            queue.len() == 1
        };
        if was_empty {
            self.scheduler.wake(self.actor);
        }
    }

    /// Adds several at once, in order.
    pub fn send_all(&self, mail: impl IntoIterator<Item = M>) {
        let was_empty = {
            let mut queue = self.mail.lock();
            let was_empty = queue.is_empty();
            queue.extend(mail);
            was_empty && !queue.is_empty()
        };
        if was_empty {
            self.scheduler.wake(self.actor);
        }
    }

    /// Whether there is mail.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.mail.lock().is_empty()
    }

    /// Moves up to `count_max` pieces of mail into `batch` (which must be empty), oldest first.
    pub fn take(&self, batch: &mut Vec<M>, count_max: usize) {
        debug_assert!(batch.is_empty());
        let mut queue = self.mail.lock();
        if queue.is_empty() {
            // The buffers change places only with mail: each of them comes by where its room is looked at.
            return;
        }
        if queue.len() <= count_max {
            std::mem::swap(&mut *queue, batch);
        } else {
            batch.extend(queue.drain(..count_max));
        }
    }
}
