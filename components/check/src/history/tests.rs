use super::*;

/// One operation of a written history: client, call, reply (zero: none), operation and outcome.
struct Written(u64, u64, u64, Operation, Outcome);

fn put(value: &str) -> Operation {
    Operation::Put { value: value.into() }
}

fn swap(expected: &str, replacement: &str) -> Operation {
    Operation::CompareAndSwap { expected: value(expected), replacement: value(replacement) }
}

/// The value that a letter stands for; "-": nothing.
fn value(text: &str) -> Option<Vec<u8>> {
    (text != "-").then(|| text.into())
}

fn found(text: &str) -> Outcome {
    Outcome::Value(value(text))
}

fn swapped(previous: &str) -> Outcome {
    Outcome::Swapped { is_swapped: true, previous: value(previous) }
}

fn kept(previous: &str) -> Outcome {
    Outcome::Swapped { is_swapped: false, previous: value(previous) }
}

fn history(operations: Vec<Written>) -> History {
    let mut events = Vec::new();
    for (place, Written(_, called, returned, ..)) in operations.iter().enumerate() {
        events.push((*called, false, place));
        if *returned != 0 {
            events.push((*returned, true, place));
        }
    }
    events.sort_unstable();
    let mut history = History::new();
    let mut calls: Vec<Option<Call>> = operations.iter().map(|_| None).collect();
    for (moment, is_reply, place) in events {
        let Written(client, _, _, operation, outcome) = &operations[place];
        let now = Instant::from_millis(moment);
        if is_reply {
            history.reply(calls[place].take().unwrap(), outcome.clone(), now);
        } else {
            calls[place] = Some(history.call(Client(*client), b"k", operation.clone(), now));
        }
    }
    history
}

#[track_caller]
fn assert_right(operations: Vec<Written>) {
    if let Err(violation) = history(operations).check() {
        panic!("{violation}");
    }
}

/// The explanation of a history that is wrong.
#[track_caller]
fn assert_wrong(operations: Vec<Written>) -> Explanation {
    match history(operations).check() {
        Err(Violation::NotLinearizable(explanation)) => *explanation,
        other => panic!("{other:?}"),
    }
}

use Operation::{Delete, Get};
use Outcome::{Done, Failed, Undetermined};

#[test]
fn one_after_the_other() {
    assert_right(vec![
        Written(1, 1, 2, Get, found("-")),
        Written(1, 3, 4, put("a"), Done),
        Written(2, 5, 6, Get, found("a")),
        Written(1, 7, 8, swap("a", "b"), swapped("a")),
        Written(1, 9, 10, swap("a", "c"), kept("b")),
        Written(2, 11, 12, Delete, Done),
        Written(2, 13, 14, Get, found("-")),
    ]);
}

#[test]
fn overlapping_writes_may_take_either_order() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        assert_right(vec![
            Written(1, 1, 9, put("a"), Done),
            Written(2, 2, 8, put("b"), Done),
            Written(3, 3, 5, Get, found(first)),
            Written(3, 6, 7, Get, found(second)),
        ]);
    }
}

#[test]
fn stale_read() {
    let explanation = assert_wrong(vec![
        Written(1, 1, 2, put("a"), Done),
        Written(1, 3, 4, put("b"), Done),
        Written(2, 5, 6, Get, found("a")),
    ]);
    let expected = "key \"k\" is not linearizable: 1 of 3 operations fit behind each other, and none can follow\n  \
                    the last that fit:\n    \
                    0.001000s .. 0.002000s  client 1: put \"a\" -> done\n  \
                    they leave \"a\"; one of these had to be next:\n    \
                    0.003000s .. 0.004000s  client 1: put \"b\" -> done\n  \
                    these were called later and still find \"a\":\n    \
                    0.005000s .. 0.006000s  client 2: get -> \"a\"\n";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn a_read_goes_back_in_time() {
    assert_wrong(vec![
        Written(1, 1, 2, put("a"), Done),
        Written(1, 3, 20, put("b"), Done),
        Written(2, 5, 6, Get, found("b")),
        Written(3, 7, 8, Get, found("a")),
    ]);
}

#[test]
fn lost_write() {
    assert_wrong(vec![
        Written(1, 1, 2, put("a"), Done),
        Written(2, 3, 4, Get, found("a")),
        Written(2, 5, 6, Get, found("-")),
    ]);
}

#[test]
fn dirty_read() {
    let explanation =
        assert_wrong(vec![Written(1, 1, 4, put("a"), Failed), Written(2, 2, 3, Get, found("a"))]);
    assert_eq!(explanation.open.len(), 1);
    assert_eq!(explanation.value, None);
}

#[test]
fn a_value_from_nowhere() {
    assert_wrong(vec![Written(1, 1, 2, Get, found("a"))]);
}

#[test]
fn a_value_before_it_is_written() {
    assert_wrong(vec![Written(1, 1, 2, Get, found("a")), Written(2, 3, 4, put("a"), Done)]);
}

#[test]
fn a_swap_that_happens_twice() {
    // Client 1's swap is applied, retried and applied again behind client 2's delete.
    assert_wrong(vec![
        Written(1, 1, 20, swap("-", "a"), swapped("-")),
        Written(2, 3, 4, Get, found("a")),
        Written(2, 5, 6, Delete, Done),
        Written(2, 7, 8, Get, found("a")),
    ]);
    // Two swaps of the same value cannot both have found it.
    assert_wrong(vec![
        Written(1, 1, 2, put("a"), Done),
        Written(1, 3, 6, swap("a", "b"), swapped("a")),
        Written(2, 4, 5, swap("a", "c"), swapped("a")),
    ]);
}

#[test]
fn a_swap_that_reports_its_own_value() {
    // A retried swap that finds what its first attempt wrote answers "kept", and that is a lie about its effect.
    assert_wrong(vec![Written(1, 1, 2, put("a"), Done), Written(1, 3, 4, swap("a", "b"), kept("b"))]);
}

#[test]
fn answers_that_contradict_the_question() {
    assert_wrong(vec![Written(1, 1, 2, put("a"), found("a"))]);
    assert_wrong(vec![Written(1, 1, 2, Get, Done)]);
    assert_wrong(vec![Written(1, 1, 2, swap("a", "b"), swapped("-"))]);
    assert_wrong(vec![Written(1, 1, 2, swap("-", "b"), kept("-"))]);
}

#[test]
fn an_undetermined_write_may_happen_late_or_never() {
    for seen in ["-", "a"] {
        assert_right(vec![
            Written(1, 1, 2, put("a"), Undetermined),
            Written(2, 3, 4, Get, found("-")),
            Written(2, 5, 6, Get, found(seen)),
        ]);
    }
    // No reply at all is the same.
    assert_right(vec![
        Written(1, 1, 0, put("a"), Done),
        Written(2, 3, 4, Get, found("-")),
        Written(2, 5, 6, Get, found("a")),
    ]);
}

#[test]
fn an_undetermined_write_happens_once_and_not_before_its_call() {
    assert_wrong(vec![
        Written(1, 1, 2, put("a"), Undetermined),
        Written(2, 3, 4, Get, found("a")),
        Written(2, 5, 6, Delete, Done),
        Written(2, 7, 8, Get, found("a")),
    ]);
    assert_wrong(vec![Written(2, 1, 2, Get, found("a")), Written(1, 3, 4, put("a"), Undetermined)]);
}

#[test]
fn an_undetermined_swap_happens_only_where_it_may() {
    assert_right(vec![
        Written(1, 1, 2, put("a"), Done),
        Written(1, 3, 4, swap("a", "b"), Undetermined),
        Written(2, 5, 6, Get, found("b")),
    ]);
    assert_wrong(vec![
        Written(1, 1, 2, put("x"), Done),
        Written(1, 3, 4, swap("a", "b"), Undetermined),
        Written(2, 5, 6, Get, found("b")),
    ]);
    // A chain of them: only if the first happened could the second.
    assert_right(vec![
        Written(1, 1, 2, swap("-", "a"), Undetermined),
        Written(2, 3, 4, swap("a", "b"), Undetermined),
        Written(3, 5, 6, Get, found("b")),
    ]);
}

#[test]
fn keys_are_independent() {
    let mut history = History::new();
    let now = Instant::ZERO;
    for (key, seen) in [(b"a", "1"), (b"b", "2")] {
        let call = history.call(Client(1), key, put(seen), now);
        history.reply(call, Done, now);
        let call = history.call(Client(1), key, Get, now);
        history.reply(call, found(seen), now);
    }
    let summary = history.check().unwrap();
    assert_eq!((summary.key_count, summary.determined_count), (2, 4));
    let call = history.call(Client(1), b"b", Get, now);
    history.reply(call, found("1"), now);
    match history.check() {
        Err(Violation::NotLinearizable(explanation)) => assert_eq!(explanation.key, b"b"),
        other => panic!("{other:?}"),
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// How random histories are made.
struct Workload {
    clients: u64,
    operations: usize,
    /// Values to choose from; zero: each put has a value of its own.
    values: u64,
    /// Of a hundred operations, how many end undetermined, and how many answers are spoilt.
    undetermined: u64,
    spoilt: u64,
}

/// One operation under way at a register that is run for real.
struct Running {
    call: Call,
    operation: Operation,
    /// Its answer, once it has taken effect.
    outcome: Option<Outcome>,
}

/// The history of a register that works, except for answers that are spoilt on the way.
fn random_history(random: &mut Random, workload: &Workload) -> History {
    let mut history = History::new();
    let mut register: Option<Vec<u8>> = None;
    let mut running: Vec<Option<Running>> = (0..workload.clients).map(|_| None).collect();
    let mut lingering: Vec<Operation> = Vec::new();
    let mut called_count = 0;
    let mut moment = 0;
    while called_count < workload.operations || running.iter().any(Option::is_some) {
        moment += 1;
        let now = Instant::from_millis(moment);
        if !lingering.is_empty() && random.below(8) == 0 {
            let late = lingering.swap_remove(usize::try_from(random.below(lingering.len() as u64)).unwrap());
            if random.below(2) == 0 {
                run(&mut register, &late);
            }
        }
        let client = random.below(workload.clients);
        let slot = &mut running[usize::try_from(client).unwrap()];
        *slot = match slot.take() {
            None if called_count == workload.operations => None,
            None => {
                let operation = random_operation(random, workload, called_count);
                called_count += 1;
                let call = history.call(Client(client), b"k", operation.clone(), now);
                Some(Running { call, operation, outcome: None })
            }
            Some(Running { call, operation, outcome: None }) if random.below(100) < workload.undetermined => {
                lingering.push(operation);
                history.reply(call, Undetermined, now);
                None
            }
            Some(Running { call, operation, outcome: None }) => {
                let outcome = Some(run(&mut register, &operation));
                Some(Running { call, operation, outcome })
            }
            Some(Running { call, outcome: Some(outcome), .. }) => {
                let is_spoilt = random.below(100) < workload.spoilt;
                let outcome = if is_spoilt { spoilt(random, workload, outcome) } else { outcome };
                history.reply(call, outcome, now);
                None
            }
        };
    }
    history
}

fn random_operation(random: &mut Random, workload: &Workload, serial: usize) -> Operation {
    let any = |random: &mut Random| -> Vec<u8> {
        if workload.values == 0 {
            format!("v{serial}").into()
        } else {
            random.below(workload.values).to_string().into()
        }
    };
    match random.below(10) {
        0..=3 => Get,
        4..=6 => Operation::Put { value: any(random) },
        7 => Delete,
        _ => {
            let expected =
                (random.below(3) > 0).then(|| random.below(workload.values.max(1)).to_string().into());
            let replacement = (random.below(4) > 0).then(|| any(random));
            Operation::CompareAndSwap { expected, replacement }
        }
    }
}

fn spoilt(random: &mut Random, workload: &Workload, outcome: Outcome) -> Outcome {
    let any = (random.below(3) > 0).then(|| random.below(workload.values.max(1)).to_string().into());
    match outcome {
        Outcome::Value(_) => Outcome::Value(any),
        Outcome::Swapped { is_swapped, previous } if random.below(2) == 0 => {
            Outcome::Swapped { is_swapped: !is_swapped, previous }
        }
        Outcome::Swapped { is_swapped, .. } => Outcome::Swapped { is_swapped, previous: any },
        Done if random.below(2) == 0 => Failed,
        Done => Undetermined,
        Failed | Undetermined => outcome,
    }
}

/// Runs an operation on a register.
fn run(register: &mut Option<Vec<u8>>, operation: &Operation) -> Outcome {
    match operation {
        Get => Outcome::Value(register.clone()),
        Operation::Put { value } => {
            *register = Some(value.clone());
            Done
        }
        Delete => {
            *register = None;
            Done
        }
        Operation::CompareAndSwap { expected, replacement } => {
            let previous = register.clone();
            let is_swapped = previous == *expected;
            if is_swapped {
                register.clone_from(replacement);
            }
            Outcome::Swapped { is_swapped, previous }
        }
    }
}

/// Tries every order.
fn has_order(left: &[&Record], register: &Option<Vec<u8>>) -> bool {
    let is_determined = |record: &&&Record| record.outcome != Undetermined;
    let first_return = left.iter().filter(is_determined).filter_map(|record| record.return_place).min();
    let Some(first_return) = first_return else { return true };
    left.iter().enumerate().filter(|(_, record)| record.call_place < first_return).any(|(place, record)| {
        let mut register = register.clone();
        let outcome = run(&mut register, &record.operation);
        let rest: Vec<_> = left.iter().copied().enumerate().filter(|(other, _)| *other != place).collect();
        let rest: Vec<_> = rest.into_iter().map(|(_, record)| record).collect();
        (record.outcome == Undetermined || record.outcome == outcome) && has_order(&rest, &register)
    })
}

#[test]
fn small_histories_are_judged_as_by_trying_everything() {
    let (mut right_count, mut wrong_count) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let workload = Workload {
            clients: 1 + random.below(4),
            operations: 3 + usize::try_from(random.below(5)).unwrap(),
            values: random.below(4),
            undetermined: random.below(40),
            spoilt: random.below(60),
        };
        let history = random_history(&mut random, &workload);
        let records: Vec<_> = history.records().iter().filter(|record| record.outcome != Failed).collect();
        let is_right = has_order(&records, &None);
        match history.check() {
            Ok(_) => assert!(is_right, "seed {seed} is judged right: {records:#?}"),
            Err(violation) => assert!(!is_right, "seed {seed} is judged wrong: {violation}\n{records:#?}"),
        }
        if is_right { right_count += 1 } else { wrong_count += 1 }
    }
    assert!(right_count > 6_000 && wrong_count > 6_000, "{right_count} right, {wrong_count} wrong");
}

#[test]
fn long_histories_are_decided() {
    let mut wrong_count = 0;
    for seed in 0..12 {
        let undetermined = seed % 3 * 10;
        let mut workload = Workload { clients: 16, operations: 4_000, values: 0, undetermined, spoilt: 0 };
        let history = random_history(&mut Random(seed), &workload);
        let summary = history.check().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(summary.step_count < 8_000, "seed {seed} took {} steps", summary.step_count);
        workload.spoilt = 1;
        match random_history(&mut Random(seed), &workload).check() {
            Ok(_) => {}
            Err(Violation::NotLinearizable(_)) => wrong_count += 1,
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(wrong_count >= 10, "only {wrong_count} were found wrong");
}

#[test]
fn repeated_values_are_decided_in_histories_of_some_length() {
    for seed in 0..8 {
        let workload = Workload { clients: 8, operations: 600, values: 5, undetermined: seed % 2, spoilt: 0 };
        let history = random_history(&mut Random(seed), &workload);
        history.check().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}
