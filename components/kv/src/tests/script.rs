//! Scripts in `testdata/`: blocks of lines, `----`, and what they answer. The commands of one block are one apply round,
//! written at its end or before its first query. `REWRITE=1` writes down what is answered now.
//!
//! Words are separated by spaces; `\xNN` stands for a byte, `#N` as a value for a number of eight bytes, `a..b` for a
//! range (either end may be empty), `k=v@t` for a pair that lives for t seconds.

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use bytes::Bytes;
use engine::KvEngine;
use types::{
    Answer, Command, CompareAndSwap, Condition, KeyRange, Outcome, Pair, PlacementTxn, Query, RegionId, Scan,
    Term, WallTime,
};

use crate::{
    Error, Round,
    command::{self, Scope},
    read::{self, ReadScope},
    testing::engine_with,
};

#[test]
fn scripts_answer_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        check(&path);
    }
}

/// Runs a script on an engine of its own.
fn check(path: &Path) {
    let written = fs::read_to_string(path).unwrap();
    let mut machine = Machine::new();
    let blocks = written.split("\n\n").map(|block| {
        let block = block.trim_matches('\n');
        let input = block.split("\n----").next().unwrap_or_default();
        if input.lines().all(|line| line.starts_with('%')) {
            return input.to_owned();
        }
        let output = machine.run(input);
        format!("{input}\n----\n{output}").trim_end().to_owned()
    });
    let actual = blocks.collect::<Vec<_>>().join("\n\n") + "\n";
    if std::env::var_os("REWRITE").is_some() {
        fs::write(path, actual).unwrap();
    } else {
        assert_eq!(written, actual, "{}: REWRITE=1 accepts the new answers", path.display());
    }
}

struct Machine {
    engine: Arc<dyn KvEngine>,
    round: Round,
    region_id: RegionId,
    range: KeyRange,
    term: Term,
    clock: WallTime,
    wall: WallTime,
}

/// The words of a line: plain ones in order, `name=value` ones by name.
struct Words<'a> {
    words: Vec<&'a str>,
}

impl Machine {
    fn new() -> Machine {
        Machine {
            engine: engine_with([]),
            round: Round::new(),
            region_id: RegionId(2),
            range: KeyRange::ALL,
            term: Term(1),
            clock: WallTime(0),
            wall: WallTime(0),
        }
    }

    fn run(&mut self, input: &str) -> String {
        let mut output = String::new();
        for line in input.lines().filter(|line| !line.starts_with('%')) {
            let answer = self.run_line(line);
            if !answer.is_empty() {
                writeln!(output, "{answer}").unwrap();
            }
        }
        self.write_round();
        output
    }

    fn run_line(&mut self, line: &str) -> String {
        let (verb, words) = line.split_once(' ').unwrap_or((line, ""));
        let words = Words { words: words.split_whitespace().collect() };
        match verb {
            "at" => self.set(&words),
            "dump" => self.dump(),
            "clip" => {
                let mut command = Command::DeleteRange { range: range(words.words[0]) };
                command::clip(&mut command, &self.range);
                let Command::DeleteRange { range } = command else { panic!("it became {command:?}") };
                format!("{range:?}")
            }
            _ => match parse_command(verb, &words) {
                Some(command) => self.apply(&command),
                None => self.answer(&parse_query(verb, &words)),
            },
        }
    }

    fn set(&mut self, words: &Words<'_>) -> String {
        let number = |name| words.named(name).map(|value| value.parse::<u64>().unwrap());
        self.region_id = number("region").map_or(self.region_id, RegionId);
        self.term = number("term").map_or(self.term, Term);
        self.clock = number("clock").map_or(self.clock, WallTime);
        self.wall = number("wall").or_else(|| number("clock")).map_or(self.wall, WallTime);
        self.range = words.named("range").map_or_else(|| self.range.clone(), range);
        String::new()
    }

    fn apply(&mut self, command: &Command) -> String {
        let scope =
            Scope { region_id: self.region_id, range: &self.range, term: self.term, clock: self.clock };
        let count = self.round.batch().len();
        match command::apply(command, &scope, self.engine.as_ref(), &mut self.round) {
            Ok(outcome) => show_outcome(&outcome),
            Err(error) => {
                assert_eq!(self.round.batch().len(), count, "a refused command wrote something");
                show_error(&error)
            }
        }
    }

    fn answer(&mut self, query: &Query) -> String {
        self.write_round();
        let scope = ReadScope { region_id: self.region_id, range: &self.range, wall: self.wall };
        match read::answer(query, &scope, self.engine.snapshot().as_ref()) {
            Ok(answer) => show_answer(&answer),
            Err(error) => show_error(&error),
        }
    }

    fn dump(&mut self) -> String {
        self.write_round();
        let mut lines = Vec::new();
        let mut line = |key: &[u8], value: &[u8]| {
            lines.push(format!("{} -> {}", key.escape_ascii(), value.escape_ascii()));
            std::ops::ControlFlow::Continue(())
        };
        self.engine.snapshot().scan(b"", b"", false, &mut line).unwrap();
        lines.join("\n")
    }

    fn write_round(&mut self) {
        self.engine.write(self.round.batch()).unwrap();
        self.round.clear();
    }
}

impl<'a> Words<'a> {
    fn named(&self, name: &str) -> Option<&'a str> {
        self.all_named(name).next()
    }

    fn all_named(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.words.iter().filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> u64 {
        self.named(name).map_or(0, |value| value.parse().unwrap())
    }

    fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }

    fn ranges(&self) -> Vec<KeyRange> {
        self.words.iter().filter(|word| word.contains("..")).map(|word| range(word)).collect()
    }
}

fn parse_command(verb: &str, words: &Words<'_>) -> Option<Command> {
    Some(match verb {
        "put" => Command::Put(pair(words.words[0])),
        "batch-put" => Command::BatchPut { pairs: words.words.iter().map(|word| pair(word)).collect() },
        "delete" => Command::Delete { key: bytes(words.words[0]) },
        "batch-delete" => Command::BatchDelete { keys: words.words.iter().map(|word| bytes(word)).collect() },
        "delete-range" => Command::DeleteRange { range: range(words.words[0]) },
        "compare-and-swap" => Command::CompareAndSwap(CompareAndSwap {
            key: bytes(words.words[0]),
            expected: words.named("expected").map(bytes),
            replacement: words.named("replacement").map(bytes),
            ttl_seconds: words.number("ttl"),
        }),
        "placement" => Command::Placement(transaction(words)),
        _ => return None,
    })
}

fn transaction(words: &Words<'_>) -> PlacementTxn {
    let row = |word: &str| {
        let (key, value) = word.split_once(':').unwrap();
        (bytes(key), bytes(value))
    };
    let mut txn = PlacementTxn { term: Term(words.number("term")), ..PlacementTxn::default() };
    txn.conditions.extend(words.all_named("absent").map(|key| Condition::Absent { key: bytes(key) }));
    txn.conditions
        .extend(words.all_named("equals").map(row).map(|(key, value)| Condition::Equals { key, value }));
    txn.conditions.extend(words.all_named("at-most").map(|word| {
        let (key, number) = word.split_once(':').unwrap();
        Condition::AtMost { key: bytes(key), number: number.parse().unwrap() }
    }));
    txn.writes.extend(words.all_named("set").map(row).map(|(key, value)| (key, Some(value))));
    txn.writes.extend(words.all_named("remove").map(|key| (bytes(key), None)));
    txn
}

fn parse_query(verb: &str, words: &Words<'_>) -> Query {
    let scan = |range| Scan {
        range,
        limit: u32::try_from(words.number("limit")).unwrap(),
        is_key_only: words.has("key-only"),
        is_reverse: words.has("reverse"),
    };
    match verb {
        "get" => Query::Get { key: bytes(words.words[0]) },
        "batch-get" => Query::BatchGet { keys: words.words.iter().map(|word| bytes(word)).collect() },
        "scan" => Query::Scan(scan(range(words.words[0]))),
        "batch-scan" => Query::BatchScan { scans: words.ranges().into_iter().map(scan).collect() },
        "ttl" => Query::KeyTtl { key: bytes(words.words[0]) },
        "checksum" => Query::Checksum { ranges: words.ranges() },
        "rows" => {
            Query::PlacementRows { prefix: words.words.first().map_or(Bytes::new(), |word| bytes(word)) }
        }
        other => panic!("unknown verb {other}"),
    }
}

fn pair(word: &str) -> Pair {
    let (key, value) = word.split_once('=').unwrap();
    let (value, ttl_seconds) = value.split_once('@').unwrap_or((value, "0"));
    Pair { key: bytes(key), value: bytes(value), ttl_seconds: ttl_seconds.parse().unwrap() }
}

fn range(word: &str) -> KeyRange {
    let (start_key, end_key) = word.split_once("..").unwrap();
    KeyRange::new(bytes(start_key), bytes(end_key))
}

fn bytes(word: &str) -> Bytes {
    if let Some(number) = word.strip_prefix('#') {
        return Bytes::copy_from_slice(&number.parse::<u64>().unwrap().to_be_bytes());
    }
    let mut pieces = word.split("\\x");
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        let (byte, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(byte, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    Bytes::from(bytes)
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Swapped { is_swapped, previous } => {
            format!("{}, was {}", if *is_swapped { "swapped" } else { "kept" }, show_value(previous.as_ref()))
        }
        Outcome::Placement { is_committed } => if *is_committed { "committed" } else { "refused" }.to_owned(),
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Value(value) => show_value(value.as_ref()),
        Answer::Pairs(pairs) if pairs.is_empty() => "nothing".to_owned(),
        Answer::Pairs(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| format!("{}={}", key.escape_ascii(), value.escape_ascii()));
            pairs.collect::<Vec<_>>().join(" ")
        }
        Answer::Ttl(None) => "absent".to_owned(),
        Answer::Ttl(Some(seconds)) => format!("{seconds} s"),
        Answer::Checksum { checksum, total_pairs, total_bytes } => {
            format!("{checksum:016x} of {total_pairs} pairs, {total_bytes} bytes")
        }
    }
}

fn show_value(value: Option<&Bytes>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("'{}'", value.escape_ascii()))
}

fn show_error(error: &Error) -> String {
    let fate = if error.is_deterministic() { "refused" } else { "failed" };
    format!("{fate}: {error}")
}
