//! The loops: closed, where each of N workers sends when its last operation has ended, and open, where operations are
//! due at a rate, whatever becomes of those before them.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at},
};

use crate::{
    limits::{DRAIN_MAX, PACER_TICK_MAX, PACER_TICK_MIN},
    record::{Ended, Recorder, Second},
    target::Target,
    workload::{Generator, Operation},
};

/// How the load is shaped.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) pace: Pace,
    /// In no figure.
    pub(crate) warmup: Duration,
    pub(crate) extent: Extent,
}

/// When operations are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many at a time.
    Closed { concurrency: usize },
    /// So many a second.
    Open { per_second: f64, in_flight_max: usize, has_pacer: bool },
}

/// How much there is of it, the warm-up not counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    Duration(Duration),
    Operations(u64),
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) recorder: Recorder,
    /// From the end of the warm-up to the end of the run.
    pub(crate) measured: Duration,
    /// Operations that were due and never sent, because the run's time was long over.
    pub(crate) unsent_count: u64,
    pub(crate) was_interrupted: bool,
}

struct Run<T> {
    target: T,
    load: Load,
    started: Instant,
    generator: RefCell<Generator>,
    recorder: RefCell<Recorder>,
    /// Operations of a closed loop that have been given out since the warm-up.
    given_count: Cell<u64>,
    is_stopped: Cell<bool>,
    /// Wakes the dispatcher of an open loop.
    wake: Arc<Notify>,
    /// From when on the dispatcher has something to do as soon as it can.
    next_due: Cell<Duration>,
}

/// Drives the load and calls `on_second` once a second; ends early when `interrupt` does.
pub(crate) async fn run<T: Target>(
    target: T,
    generator: Generator,
    load: Load,
    mut on_second: impl FnMut(&Second),
    interrupt: impl Future<Output = ()>,
) -> Outcome {
    let run = Rc::new(Run {
        target,
        started: Instant::now(),
        generator: RefCell::new(generator),
        recorder: RefCell::new(Recorder::new(load.warmup)),
        load,
        given_count: Cell::new(0),
        is_stopped: Cell::new(false),
        wake: Arc::new(Notify::new()),
        next_due: Cell::new(Duration::MAX),
    });
    let unsent_count = drive_and_watch(&run, &mut on_second, interrupt).await;
    let ended = run.now();
    on_second(run.recorder.borrow_mut().on_second(ended));
    let was_interrupted = run.is_stopped.get();
    let run = Rc::into_inner(run).expect("the tasks that shared it are gone");
    let measured_end = match run.load.extent {
        // What was under way at the end of the time is counted, its ending is not time.
        Extent::Duration(length) if !was_interrupted => ended.min(run.load.warmup + length),
        Extent::Duration(_) | Extent::Operations(_) => ended,
    };
    Outcome {
        recorder: run.recorder.into_inner(),
        measured: measured_end.saturating_sub(run.load.warmup),
        unsent_count,
        was_interrupted,
    }
}

/// Runs all tasks to their end, tells of each second and listens for the interrupt.
async fn drive_and_watch<T: Target>(
    run: &Rc<Run<T>>,
    on_second: &mut impl FnMut(&Second),
    interrupt: impl Future<Output = ()>,
) -> u64 {
    let tasks = LocalSet::new();
    let mut everything = pin!(tasks.run_until(run.clone().drive()));
    let mut interrupt = pin!(interrupt);
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(run.started + second, second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            unsent_count = &mut everything => return unsent_count,
            _ = ticks.tick() => on_second(run.recorder.borrow_mut().on_second(run.now())),
            () = &mut interrupt, if !run.is_stopped.get() => {
                run.is_stopped.set(true);
                run.wake.notify_one();
            }
        }
    }
}

impl<T: Target> Run<T> {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends with the number of operations that were due and not sent.
    async fn drive(self: Rc<Self>) -> u64 {
        match self.load.pace {
            Pace::Closed { concurrency } => {
                let workers = (0..concurrency).map(|_| spawn_local(self.clone().work()));
                for worker in join_all(workers).await {
                    worker.expect("workers do not panic");
                }
                0
            }
            Pace::Open { per_second, in_flight_max, has_pacer } => {
                let pacer = has_pacer.then(|| Pacer::start(per_second, self.wake.clone()));
                let unsent_count = self.clone().dispatch(per_second, in_flight_max).await;
                drop(pacer);
                unsent_count
            }
        }
    }

    /// One worker of a closed loop.
    async fn work(self: Rc<Self>) {
        let mut now = self.now();
        while self.may_send(now) {
            let operation = self.generator.borrow_mut().next();
            self.recorder.borrow_mut().in_flight += 1;
            now = self.carry_out(operation, now, now).await;
        }
    }

    /// Whether a worker shall go on; counts what it gives out.
    fn may_send(&self, now: Duration) -> bool {
        if self.is_stopped.get() {
            return false;
        }
        match self.load.extent {
            Extent::Duration(length) => now < self.load.warmup + length,
            Extent::Operations(count) => {
                let given_count = self.given_count.get();
                if now >= self.load.warmup {
                    self.given_count.set(given_count + 1);
                }
                given_count < count
            }
        }
    }

    /// Carries out one operation; the time of its end comes back.
    async fn carry_out(&self, operation: Operation, due: Duration, sent: Duration) -> Duration {
        let Operation { kind, size_bytes, part, work } = operation;
        let fate = self.target.execute(work).await;
        let ended = self.now();
        let mut recorder = self.recorder.borrow_mut();
        recorder.in_flight -= 1;
        recorder.on_ended(Ended { kind, size_bytes, part, due, sent, ended, fate });
        ended
    }

    /// Sends every operation when it is due, or as soon after as `in_flight_max` allows, and waits for all of them.
    async fn dispatch(self: Rc<Self>, per_second: f64, in_flight_max: usize) -> u64 {
        let schedule = Schedule::new(per_second, &self.load);
        let give_up = schedule.end.saturating_add(DRAIN_MAX);
        let mut next = 0;
        while next < schedule.count && !self.is_stopped.get() {
            let now = self.now();
            if now >= give_up {
                break;
            }
            let due = schedule.due(next);
            let has_room = self.recorder.borrow().in_flight < in_flight_max;
            if due <= now && has_room {
                self.clone().send(due, now);
                next += 1;
                continue;
            }
            self.next_due.set(due);
            // Where there is no room, the end of an operation wakes.
            let until = self.started + if has_room { due } else { give_up };
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
        let unsent_count = if self.is_stopped.get() { 0 } else { schedule.count - next };
        self.next_due.set(Duration::ZERO);
        while self.recorder.borrow().in_flight > 0 {
            // Each end of an operation wakes; the client ends every operation in time.
            self.wake.notified().await;
        }
        unsent_count
    }

    fn send(self: Rc<Self>, due: Duration, now: Duration) {
        let operation = self.generator.borrow_mut().next();
        {
            let mut recorder = self.recorder.borrow_mut();
            recorder.in_flight += 1;
            recorder.on_sent(due, now);
        }
        spawn_local(async move {
            let ended = self.carry_out(operation, due, now).await;
            if self.next_due.get() <= ended {
                self.wake.notify_one();
            }
        });
    }
}

/// When which operation of an open loop is due.
struct Schedule {
    per_second: f64,
    count: u64,
    /// When the last one is due.
    end: Duration,
}

impl Schedule {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate by a duration is a number of operations, far below 2^53"
    )]
    fn new(per_second: f64, load: &Load) -> Schedule {
        let warmup_count = (load.warmup.as_secs_f64() * per_second).ceil() as u64;
        let count = match load.extent {
            Extent::Duration(length) => ((load.warmup + length).as_secs_f64() * per_second).ceil() as u64,
            Extent::Operations(count) => warmup_count + count,
        };
        Schedule { per_second, count, end: Duration::from_secs_f64(count as f64 / per_second) }
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of operations are far below 2^53")]
    fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

/// A thread that wakes the dispatcher more often than the runtime's timer could, whose step is a millisecond.
struct Pacer {
    is_stopped: Arc<AtomicBool>,
}

impl Pacer {
    fn start(per_second: f64, wake: Arc<Notify>) -> Pacer {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = is_stopped.clone();
        let tick = Duration::from_secs_f64(1.0 / per_second).clamp(PACER_TICK_MIN, PACER_TICK_MAX);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(tick);
                wake.notify_one();
            }
        });
        Pacer { is_stopped }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Like `run`, but until a deadline; for what is only prepared.
pub(crate) async fn poll_until<V>(
    deadline: Instant,
    pause: Duration,
    mut attempt: impl AsyncFnMut() -> Result<V, String>,
) -> Result<V, String> {
    let mut last = "nothing was tried".to_owned();
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => return Err(last),
        }
        if Instant::now() + pause > deadline {
            return Err(last);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
