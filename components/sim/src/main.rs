//! `cargo sim`: runs seeds of the simulator and says what happened in them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

use std::{process::ExitCode, time::Duration};

use sim::{
    run::{Goal, Totals},
    runner::{self, Seeds},
};

const USAGE: &str =
    "usage: cargo sim [--seed N | --seeds A..B] [--virtual-seconds S] [--operations N] [--faults N] \
                     [--threads N] [--trace]

  --seed N             runs one seed (default: 1); the same seed always does the same
  --seeds A..B         runs the seeds from A up to, not including, B
  --virtual-seconds S  faults go on for S seconds of virtual time at least (default: 20)
  --operations N       and until N operations of clients have ended (default: 1000)
  --faults N           and until N faults have happened (default: 5)
  --threads N          how many seeds run at once (default: 2)
  --trace              prints every event of a single seed";

struct Arguments {
    seeds: Seeds,
    goal: Goal,
    thread_count: usize,
    is_trace_wanted: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => carry_out(&arguments),
        Err(reason) => {
            eprintln!("{reason}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn carry_out(arguments: &Arguments) -> ExitCode {
    println!("seed     {}  trace", Totals::HEADER);
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    runner::run_all(
        arguments.seeds.clone(),
        arguments.goal,
        arguments.thread_count,
        arguments.is_trace_wanted,
        |end| {
            if let Some(trace) = &end.trace {
                print!("{trace}");
            }
            println!("{:<8} {}  {:016x} refusals {}", end.seed, end.totals, end.digest, end.totals.refusals);
            totals.add(&end.totals);
            if let Some(failure) = end.failure {
                println!("seed {} failed: {failure}", end.seed);
                println!("  again: cargo sim --seed {}", end.seed);
                failed.push(end.seed);
            }
        },
    );
    println!("total    {totals}");
    let kinds: Vec<_> = totals.by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("faults by kind: {}", kinds.join(", "));
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed seeds: {failed:?}");
    ExitCode::FAILURE
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed =
        Arguments { seeds: 1..2, goal: Goal::default(), thread_count: 2, is_trace_wanted: false };
    while let Some(name) = arguments.next() {
        if name == "--trace" {
            parsed.is_trace_wanted = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value, or is not known"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is not a number"));
        match name.as_str() {
            "--seed" => {
                let seed = number()?;
                parsed.seeds = seed..seed + 1;
            }
            "--seeds" => parsed.seeds = parse_seeds(&value)?,
            "--virtual-seconds" => parsed.goal.time = Duration::from_secs(number()?),
            "--operations" => parsed.goal.operations = number()?,
            "--faults" => parsed.goal.faults = number()?,
            "--threads" => parsed.thread_count = usize::try_from(number()?.clamp(1, 64)).unwrap_or(1),
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(parsed)
}

fn parse_seeds(value: &str) -> Result<Seeds, String> {
    let malformed = || format!("--seeds: {value:?} is not of the form A..B");
    let (first, end) = value.split_once("..").ok_or_else(malformed)?;
    Ok(first.parse().map_err(|_| malformed())?..end.parse().map_err(|_| malformed())?)
}
