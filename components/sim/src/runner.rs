//! Runs seeds, several at once: each in a thread of its own, in which nothing but that seed decides.
#![allow(clippy::disallowed_methods, reason = "seeds share nothing: threads only make many of them faster")]

use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use crate::run::{Goal, Report, Totals, run};

/// Seeds to run.
pub type Seeds = Range<u64>;

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct SeedEnd {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub totals: Totals,
    /// The hash of its trace.
    pub digest: u64,
    /// Its trace, if it was kept.
    pub trace: Option<String>,
    /// What was wrong.
    pub failure: Option<String>,
}

/// Runs one seed. A panic is a failure like any other, and names the seed.
#[must_use]
pub fn run_seed(seed: u64, goal: Goal, is_trace_kept: bool) -> SeedEnd {
    match panic::catch_unwind(AssertUnwindSafe(|| run(seed, goal, is_trace_kept))) {
        Ok(Report { totals, digest, trace, failure }) => {
            SeedEnd { seed, totals, digest, trace, failure: failure.map(|violation| violation.to_string()) }
        }
        Err(payload) => {
            let said = payload.downcast_ref::<String>().map(String::as_str);
            let said = said
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("something that is no text");
            let failure = Some(format!("a panic: {said}"));
            SeedEnd { seed, totals: Totals::default(), digest: 0, trace: None, failure }
        }
    }
}

/// Runs seeds on so many threads; `on_end` hears of each, in the order of the seeds.
pub fn run_all(
    seeds: Seeds,
    goal: Goal,
    thread_count: usize,
    is_trace_kept: bool,
    mut on_end: impl FnMut(SeedEnd),
) {
    let next = AtomicU64::new(seeds.start);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..thread_count {
            let (sender, next, end) = (sender.clone(), &next, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send(run_seed(seed, goal, is_trace_kept)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = std::collections::BTreeMap::new();
        for wanted in seeds.clone() {
            while !early.contains_key(&wanted) {
                match receiver.recv() {
                    Ok(end) => early.insert(end.seed, end),
                    Err(_) => return,
                };
            }
            early.remove(&wanted).into_iter().for_each(&mut on_end);
        }
    });
}
