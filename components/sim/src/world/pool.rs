//! The actors of one process, run one after the other.
//!
//! An actor lives as on a thread of its own: woken, it takes its mail and reads the clock; its round *happens* only after
//! a drawn service time, all at once; then it looks into its mailbox again. So mail piles up while it works, its `now` is
//! old by the time that it acts on it (as after a pause between two lines), and the rounds of all actors interleave.

use std::{sync::Arc, time::Duration};

use actor::{ActorId, Clock, Now, Runnable, Scheduler};
use parking_lot::Mutex;
use types::Instant;

use super::Rng;

/// Collects the wakes of one process until the world looks.
#[derive(Default)]
pub struct Wakes {
    woken: Mutex<Vec<ActorId>>,
}

/// The actors of one process.
pub struct SimPool {
    slots: Vec<Slot>,
    wakes: Arc<Wakes>,
}

/// Names a step of an actor; an older one than the newest of the actor means nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The actor.
    pub actor: ActorId,
    number: u64,
}

/// What an actor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It works: its round is to happen after the service time.
    Works(Ticket),
    /// It sleeps until a reading of its clock, or until it is woken.
    Sleeps(Ticket, Option<Instant>),
}

/// How the time of a round is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Mostly waiting for a sync of the disk.
    Sync,
    /// Computing.
    Compute,
}

struct Slot {
    actor: Box<dyn Runnable>,
    state: SlotState,
    ticket_number: u64,
}

enum SlotState {
    /// Nothing to do before it is woken, or its deadline.
    Asleep,
    /// Woken: it will look into its mailbox.
    Woken,
    /// Has taken its mail, at this time.
    Working(Now),
}

impl Scheduler for Wakes {
    fn wake(&self, actor: ActorId) {
        self.woken.lock().push(actor);
    }
}

impl SimPool {
    /// A pool of actors; `actors[i]` has the id `i`.
    #[must_use]
    pub fn new(wakes: Arc<Wakes>, actors: Vec<Box<dyn Runnable>>) -> SimPool {
        let slot = |actor| Slot { actor, state: SlotState::Asleep, ticket_number: 0 };
        SimPool { slots: actors.into_iter().map(slot).collect(), wakes }
    }

    /// Every actor looks into its mailbox once, as threads do when they start.
    pub fn wake_all(&mut self) -> Vec<Ticket> {
        (0..self.slots.len()).filter_map(|at| self.wake(ActorId(at))).collect()
    }

    /// Those that were woken since the last call and did not work already, in the order of their wakes.
    pub fn take_woken(&mut self) -> Vec<Ticket> {
        let woken = std::mem::take(&mut *self.wakes.woken.lock());
        woken.into_iter().filter_map(|actor| self.wake(actor)).collect()
    }

    /// An actor looks into its mailbox, if the ticket is its newest one.
    pub fn look(&mut self, ticket: Ticket, mail_max: usize, clock: &dyn Clock) -> Option<Next> {
        let slot = self.find(ticket)?;
        let has_mail = slot.actor.take_mail(mail_max);
        let now = clock.now();
        let deadline = slot.actor.deadline();
        if has_mail || deadline.is_some_and(|deadline| deadline <= now.monotonic) {
            slot.state = SlotState::Working(now);
            return Some(Next::Works(slot.next_ticket(ticket.actor)));
        }
        slot.state = SlotState::Asleep;
        Some(Next::Sleeps(slot.next_ticket(ticket.actor), deadline))
    }

    /// The round of an actor happens. Afterwards it is to look into its mailbox again.
    pub fn run(&mut self, ticket: Ticket) -> Option<Ticket> {
        let slot = self.find(ticket)?;
        let SlotState::Working(now) = slot.state else { return None };
        slot.actor.run(now);
        slot.state = SlotState::Woken;
        Some(slot.next_ticket(ticket.actor))
    }

    /// The name of an actor.
    #[must_use]
    pub fn name(&self, actor: ActorId) -> &str {
        self.slots.get(actor.0).map_or("?", |slot| slot.actor.name())
    }

    /// How an actor spends its rounds.
    #[must_use]
    pub fn work(&self, actor: ActorId) -> Work {
        if self.name(actor).contains("log") { Work::Sync } else { Work::Compute }
    }

    /// An actor that sleeps although it has mail: a wake was lost. There must be none once the wakes were taken.
    #[must_use]
    pub fn find_forgotten(&self) -> Option<&str> {
        let is_forgotten = |slot: &&Slot| matches!(slot.state, SlotState::Asleep) && slot.actor.has_mail();
        self.slots.iter().find(is_forgotten).map(|slot| slot.actor.name())
    }

    fn wake(&mut self, actor: ActorId) -> Option<Ticket> {
        let slot = self.slots.get_mut(actor.0)?;
        matches!(slot.state, SlotState::Asleep).then(|| {
            slot.state = SlotState::Woken;
            slot.next_ticket(actor)
        })
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        self.slots.get_mut(ticket.actor.0).filter(|slot| slot.ticket_number == ticket.number)
    }
}

impl Slot {
    fn next_ticket(&mut self, actor: ActorId) -> Ticket {
        self.ticket_number += 1;
        Ticket { actor, number: self.ticket_number }
    }
}

/// How much mail an actor takes at once: everything, mostly, as threads do; sometimes very little.
pub fn draw_mail_max(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0 => 1,
        1 | 2 => 1 + rng.place(8),
        _ => usize::MAX,
    }
}

/// How long a thread takes from being woken to looking into its mailbox.
pub fn draw_wake_delay(rng: &mut Rng) -> Duration {
    let longest_micros = if rng.happens(10) { 5_000 } else { 60 };
    rng.skewed(Duration::from_micros(1), Duration::from_micros(longest_micros))
}

/// How long a round takes on a machine in good health.
pub fn draw_service_time(rng: &mut Rng, work: Work) -> Duration {
    match work {
        Work::Sync => rng.skewed(Duration::from_micros(50), Duration::from_millis(5)),
        Work::Compute => rng.skewed(Duration::from_micros(2), Duration::from_micros(400)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use actor::{Actor, Mailbox, Worker};

    use super::*;
    use crate::world::{Moment, clock::MachineClock};

    /// Adds up its mail and passes on what is above zero, one less.
    struct Countdown {
        target: Arc<Mailbox<u64>>,
        rounds: Arc<Mutex<Vec<(Now, u64)>>>,
        deadline: Option<Instant>,
    }

    impl Worker for Countdown {
        type Mail = u64;

        fn round(&mut self, now: Now, mail: &mut Vec<u64>) {
            let total = mail.drain(..).sum::<u64>();
            if total > 0 {
                self.target.send(total - 1);
            }
            self.deadline = None;
            self.rounds.lock().push((now, total));
        }

        fn deadline(&self) -> Option<Instant> {
            self.deadline
        }
    }

    struct Pair {
        pool: SimPool,
        mailboxes: Vec<Arc<Mailbox<u64>>>,
        rounds: Arc<Mutex<Vec<(Now, u64)>>>,
        clock: Arc<MachineClock>,
    }

    fn pair(deadline: Option<Instant>) -> Pair {
        let wakes = Arc::new(Wakes::default());
        let mailbox = |at| Mailbox::new(ActorId(at), Arc::clone(&wakes) as Arc<dyn Scheduler>);
        let mailboxes = vec![mailbox(0), mailbox(1)];
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let actor = |at: usize| {
            let target = Arc::clone(&mailboxes[1 - at]);
            let worker = Countdown { target, rounds: Arc::clone(&rounds), deadline };
            Box::new(Actor::new("countdown", Arc::clone(&mailboxes[at]), worker)) as Box<dyn Runnable>
        };
        let pool = SimPool::new(wakes, vec![actor(0), actor(1)]);
        Pair { pool, mailboxes, rounds, clock: MachineClock::new(&mut Rng::new(1, "clock")) }
    }

    /// Runs everything that is ready, without service times.
    fn settle(pair: &mut Pair, mut tickets: VecDeque<Ticket>) -> Vec<Option<Instant>> {
        let mut sleeps = Vec::new();
        while let Some(ticket) = tickets.pop_front() {
            match pair.pool.look(ticket, usize::MAX, &*pair.clock) {
                Some(Next::Works(ticket)) => tickets.extend(pair.pool.run(ticket)),
                Some(Next::Sleeps(_, deadline)) => sleeps.push(deadline),
                None => {}
            }
            tickets.extend(pair.pool.take_woken());
        }
        sleeps
    }

    #[test]
    fn mail_wakes_and_is_handled_until_none_is_left() {
        let mut pair = pair(None);
        pair.mailboxes[0].send(5);
        assert_eq!(pair.pool.find_forgotten(), Some("countdown"));
        let woken = pair.pool.take_woken();
        assert_eq!(woken.len(), 1);
        settle(&mut pair, woken.into());
        assert_eq!(pair.pool.find_forgotten(), None);
        let totals: Vec<_> = pair.rounds.lock().iter().map(|(_, total)| *total).collect();
        assert_eq!(totals, [5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn a_round_sees_the_time_at_which_it_took_its_mail_and_not_later_mail() {
        let mut pair = pair(None);
        pair.mailboxes[0].send(0);
        let ticket = pair.pool.take_woken()[0];
        let taken_at = pair.clock.now();
        let Some(Next::Works(ticket)) = pair.pool.look(ticket, usize::MAX, &*pair.clock) else {
            panic!("it has mail")
        };
        pair.clock.set_true_now(Moment(3_000_000_000));
        pair.mailboxes[0].send(7);
        assert_eq!(pair.pool.take_woken(), []);
        let again = pair.pool.run(ticket).expect("the ticket is the newest");
        assert_eq!(*pair.rounds.lock(), [(taken_at, 0)]);
        assert_eq!(pair.pool.run(ticket), None, "a ticket is good for one step");
        assert!(matches!(pair.pool.look(again, usize::MAX, &*pair.clock), Some(Next::Works(_))));
    }

    #[test]
    fn a_deadline_is_waited_for_and_then_kept() {
        let deadline = Instant::from_millis(50);
        let mut pair = pair(Some(deadline));
        pair.clock.restart();
        let tickets = pair.pool.wake_all();
        assert_eq!(settle(&mut pair, tickets.into()), [Some(deadline), Some(deadline)]);
        pair.clock.set_true_now(pair.clock.moment_of(deadline));
        let woken: Vec<_> = (0..2).filter_map(|at| pair.pool.wake(ActorId(at))).collect();
        settle(&mut pair, woken.into());
        assert_eq!(pair.rounds.lock().len(), 2);
    }
}
