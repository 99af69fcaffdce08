//! Actors on threads, one each: a store has a handful, and each of them batches.
#![allow(clippy::disallowed_methods, reason = "I/O shell: the only place of this crate with threads")]
#![allow(clippy::disallowed_types, reason = "I/O shell")]

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

use crate::{ActorId, Clock, Runnable, Scheduler};

/// Wakes the threads of a [`Pool`]. Made first, because mailboxes are made before actors.
pub struct ThreadScheduler {
    parkers: Vec<Parker>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Parker {
    thread: OnceLock<Thread>,
    is_woken: AtomicBool,
}

/// Running actors.
pub struct Pool {
    scheduler: Arc<ThreadScheduler>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadScheduler {
    /// A scheduler for `actor_count` actors with the ids from zero on.
    #[must_use]
    pub fn new(actor_count: usize) -> Arc<ThreadScheduler> {
        let parkers = (0..actor_count).map(|_| Parker::default()).collect();
        Arc::new(ThreadScheduler { parkers, is_stopping: AtomicBool::new(false) })
    }
}

impl Scheduler for ThreadScheduler {
    fn wake(&self, actor: ActorId) {
        let parker = &self.parkers[actor.0];
        // Only the first of several wakes pays for a system call.
        if !parker.is_woken.swap(true, Ordering::AcqRel)
            && let Some(thread) = parker.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Pool {
    /// Starts a thread for each actor; `actors[i]` has the id `i`.
    pub fn start(
        scheduler: Arc<ThreadScheduler>,
        clock: &Arc<dyn Clock>,
        actors: Vec<Box<dyn Runnable>>,
    ) -> io::Result<Pool> {
        let mut pool = Pool { scheduler, threads: Vec::new() };
        for (at, actor) in actors.into_iter().enumerate() {
            let scheduler = Arc::clone(&pool.scheduler);
            let clock = Arc::clone(clock);
            let builder = thread::Builder::new().name(actor.name().to_owned());
            pool.threads.push(builder.spawn(move || run(&scheduler, ActorId(at), &*clock, actor))?);
        }
        Ok(pool)
    }

    /// Lets every actor finish the mail it has, then ends the threads.
    pub fn stop(self) {
        self.scheduler.is_stopping.store(true, Ordering::Release);
        for at in 0..self.scheduler.parkers.len() {
            self.scheduler.wake(ActorId(at));
        }
        for thread in self.threads {
            // A panic of an actor has aborted the process, or been reported by the hook of a test.
            drop(thread.join());
        }
    }
}

fn run(scheduler: &ThreadScheduler, id: ActorId, clock: &dyn Clock, mut actor: Box<dyn Runnable>) {
    let parker = &scheduler.parkers[id.0];
    drop(parker.thread.set(thread::current()));
    loop {
        // Cleared before the mail is taken: whoever sends afterwards wakes us again.
        // (A swap, not a store: it may not move behind the look into the mailbox.)
        parker.is_woken.swap(false, Ordering::SeqCst);
        let has_mail = actor.take_mail(usize::MAX);
        let now = clock.now();
        let deadline = actor.deadline();
        if has_mail || deadline.is_some_and(|deadline| deadline <= now.monotonic) {
            actor.run(now);
            continue;
        }
        if scheduler.is_stopping.load(Ordering::Acquire) {
            return;
        }
        if parker.is_woken.load(Ordering::Acquire) {
            continue;
        }
        match deadline {
            Some(deadline) => thread::park_timeout(deadline.since(now.monotonic)),
            None => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use types::{Instant, WallTime};

    use super::*;
    use crate::{Actor, Mailbox, Now, Worker};

    struct Zero;

    impl Clock for Zero {
        fn monotonic(&self) -> Instant {
            Instant::ZERO
        }

        fn wall(&self) -> WallTime {
            WallTime(0)
        }
    }

    struct Counter(Arc<AtomicUsize>);

    impl Worker for Counter {
        type Mail = usize;

        fn round(&mut self, _: Now, mail: &mut Vec<usize>) {
            self.0.fetch_add(mail.drain(..).sum::<usize>(), Ordering::Relaxed);
        }

        fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    #[test]
    fn every_piece_of_mail_is_handled_before_the_pool_stops() {
        let scheduler = ThreadScheduler::new(1);
        let total = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(ActorId(0), Arc::clone(&scheduler) as Arc<dyn Scheduler>);
        let actor = Actor::new("counter", Arc::clone(&mailbox), Counter(Arc::clone(&total)));
        let clock: Arc<dyn Clock> = Arc::new(Zero);
        let pool = Pool::start(scheduler, &clock, vec![Box::new(actor)]).expect("threads start");
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || (0..10_000).for_each(|_| mailbox.send(1)))
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().expect("senders do not panic"));
        pool.stop();
        assert_eq!(total.load(Ordering::Relaxed), 40_000);
    }
}
