//! Runs the scripts in `testdata`: commands, a line of dashes, what came of them. `REWRITE=1` writes the scripts anew.
//!
//! ```text
//! policy [retry_idempotent] [backoffs=N]            for the next operation
//! region ID [START,END) vN PEER@STORE… [leader=P]   into the cache
//! get K | put K V | scan A B LIMIT [reverse] | …    starts an operation
//! answer PART REPLY | answer PART error ERROR       what came back for a call
//! looked-up PART [error] | wake PART                what was waited for
//! cache                                             prints the cache
//! ```

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use bytes::Bytes;
use types::{
    Answer, CompareAndSwap, Epoch, KeyRange, Outcome, Pair, Peer, PeerId, PeerRole, Region, RegionId, Scan,
    StoreId,
};

use super::*;
use crate::core::RegionError;

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let actual = run_script(&script);
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, actual).unwrap();
        } else {
            assert_eq!(script, actual, "{}: REWRITE=1 shows the difference", path.display());
        }
    }
}

/// Runs every block in turn; each block starts with an empty cache and no operation unless it begins with `…`.
fn run_script(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    let mut is_output = false;
    for line in script.lines() {
        if line == "----" {
            is_output = true;
            writeln!(out, "{line}\n{}", world.output.trim_end()).unwrap();
            world.output.clear();
        } else if line.is_empty() {
            is_output = false;
            writeln!(out).unwrap();
        } else if !is_output {
            writeln!(out, "{line}").unwrap();
            match line {
                _ if line.starts_with('#') => world = World::new(),
                _ => world.run(&line.split_whitespace().collect::<Vec<_>>()),
            }
        }
    }
    out
}

struct World {
    now: Instant,
    policy: RetryPolicy,
    cache: RegionCache,
    operation: Option<Operation>,
    waits: Vec<(PartId, Instant)>,
    output: String,
}

impl World {
    fn new() -> World {
        World {
            now: Instant::from_millis(1_000),
            policy: RetryPolicy::default(),
            cache: RegionCache::new(),
            operation: None,
            waits: Vec::new(),
            output: String::new(),
        }
    }

    fn run(&mut self, words: &[&str]) {
        match words {
            ["policy", options @ ..] => {
                for option in options {
                    match option.split_once('=') {
                        Some(("backoffs", count)) => self.policy.backoffs_max = count.parse().unwrap(),
                        _ => self.policy.retry_idempotent = true,
                    }
                }
            }
            ["region", spec @ ..] => {
                let (region, leader) = region(spec);
                if !self.cache.insert(region, leader) {
                    self.output += "refused\n";
                }
            }
            ["cache"] => self.print_cache(),
            ["answer", part, reply @ ..] => {
                let result = if reply[0] == "error" { Err(error(&reply[1..])) } else { Ok(reply_of(reply)) };
                self.step(Event::Answer { part: part_id(part), result });
            }
            ["looked-up", part] => self.step(Event::LookedUp { part: part_id(part), result: Ok(()) }),
            ["looked-up", part, reason] => {
                self.step(Event::LookedUp { part: part_id(part), result: Err((*reason).into()) });
            }
            ["wake", part] => {
                let part = part_id(part);
                let at = self.waits.iter().position(|(id, _)| *id == part).expect("the part waits");
                self.now = self.waits.remove(at).1;
                self.step(Event::Wake { part });
            }
            work => {
                self.operation = Some(Operation::new(work_of(work), self.policy));
                self.step(Event::Start);
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        let operation = self.operation.as_mut().expect("an operation is under way");
        operation.step(self.now, &mut self.cache, event, &mut actions);
        self.cache.check_invariants();
        for action in actions {
            let line = match action {
                Action::Send { part, call } => format!(
                    "{}: send {} to region {} v{}, peer {}@{}",
                    part.0,
                    work_text(&call.work),
                    call.region.id,
                    call.region.epoch.version,
                    call.peer.id,
                    call.peer.store_id
                ),
                Action::LookUp { part, position: Position::At(key), .. } => {
                    format!("{}: look up {}", part.0, text(&key))
                }
                Action::LookUp { part, position: Position::Before(key), .. } => {
                    format!("{}: look up before {}", part.0, text(&key))
                }
                Action::Wait { part, until } => {
                    self.waits.push((part, until));
                    format!("{}: wait {:?}", part.0, until.since(self.now))
                }
                Action::Finish(Ok(reply)) => format!("ok: {}", reply_text(&reply)),
                Action::Finish(Err(error)) => error.to_string(),
            };
            writeln!(self.output, "{line}").unwrap();
        }
    }

    fn print_cache(&mut self) {
        let mut position = Position::At(Bytes::new());
        loop {
            let next = match self.cache.find(&position) {
                None => {
                    let Position::At(key) = &position else { unreachable!() };
                    writeln!(self.output, "gap at {}", text(key)).unwrap();
                    return;
                }
                Some(Route { region, leader, is_stale, .. }) => {
                    let leader = leader.map_or("?".to_owned(), |peer| peer.id.to_string());
                    let doubt = if *is_stale { ", in doubt" } else { "" };
                    let start = text(&region.range.start_key);
                    writeln!(
                        self.output,
                        "{start}: region {} v{} leader {leader}{doubt}",
                        region.id, region.epoch.version
                    )
                    .unwrap();
                    region.range.end_key.clone()
                }
            };
            if next.is_empty() {
                return;
            }
            position = Position::At(next);
        }
    }
}

fn key(word: &str) -> Bytes {
    if word == "-" { Bytes::new() } else { Bytes::copy_from_slice(word.as_bytes()) }
}

fn text(key: &[u8]) -> String {
    if key.is_empty() { "-".into() } else { key.escape_ascii().to_string() }
}

fn part_id(word: &str) -> PartId {
    PartId(word.parse().unwrap())
}

fn pairs(words: &[&str]) -> Vec<(Bytes, Bytes)> {
    words
        .iter()
        .map(|word| word.split_once('=').unwrap())
        .map(|(left, right)| (key(left), key(right)))
        .collect()
}

fn pair((key, value): (Bytes, Bytes)) -> Pair {
    Pair { key, value, ttl_seconds: 0 }
}

/// `2 [a,m) v3 1@1 2@2 leader=1`
fn region(words: &[&str]) -> (Region, Option<Peer>) {
    let [id, range, version, peers @ ..] = words else { panic!("a region has an id, a range and a version") };
    let (start, end) = range.trim_matches(['[', ')']).split_once(',').unwrap();
    let leader = peers.iter().find_map(|word| word.strip_prefix("leader="));
    let peers: Vec<Peer> =
        peers.iter().filter_map(|word| word.split_once('@')).map(|(id, store)| peer(id, store)).collect();
    let leader = leader.map(|id| *peers.iter().find(|peer| peer.id.to_string() == id).unwrap());
    let region = Region {
        id: RegionId(id.parse().unwrap()),
        range: KeyRange::new(key(start), key(end)),
        epoch: Epoch { conf_version: 1, version: version[1..].parse().unwrap() },
        peers,
    };
    (region, leader)
}

fn peer(id: &str, store: &str) -> Peer {
    Peer { id: PeerId(id.parse().unwrap()), store_id: StoreId(store.parse().unwrap()), role: PeerRole::Voter }
}

fn work_of(words: &[&str]) -> Work {
    let range = |start: &str, end: &str| KeyRange::new(key(start), key(end));
    match words {
        ["get", k] => Work::Get { key: key(k) },
        ["ttl", k] => Work::KeyTtl { key: key(k) },
        ["batch-get", keys @ ..] => Work::BatchGet { keys: keys.iter().map(|k| key(k)).collect() },
        ["scan", start, end, limit, reverse @ ..] => Work::Scan(Scan {
            range: range(start, end),
            limit: limit.parse().unwrap(),
            is_key_only: false,
            is_reverse: !reverse.is_empty(),
        }),
        ["checksum", start, end] => Work::Checksum { range: range(start, end) },
        ["put", k, v] => Work::Put(pair((key(k), key(v)))),
        ["batch-put", words @ ..] => Work::BatchPut { pairs: pairs(words).into_iter().map(pair).collect() },
        ["delete", k] => Work::Delete { key: key(k) },
        ["batch-delete", keys @ ..] => Work::BatchDelete { keys: keys.iter().map(|k| key(k)).collect() },
        ["delete-range", start, end] => Work::DeleteRange { range: range(start, end) },
        ["cas", k, old, new] => Work::CompareAndSwap(CompareAndSwap {
            key: key(k),
            expected: Some(key(old)),
            replacement: Some(key(new)),
            ttl_seconds: 0,
        }),
        other => panic!("unknown command {other:?}"),
    }
}

fn work_text(work: &Work) -> String {
    let range = |range: &KeyRange| format!("[{},{})", text(&range.start_key), text(&range.end_key));
    let keys = |keys: &[Bytes]| keys.iter().map(|key| text(key)).collect::<Vec<_>>().join(" ");
    match work {
        Work::Get { key } => format!("get {}", text(key)),
        Work::BatchGet { keys: all } => format!("batch-get {}", keys(all)),
        Work::Scan(scan) => {
            let way = if scan.is_reverse { " reverse" } else { "" };
            format!("scan {} {}{way}", range(&scan.range), scan.limit)
        }
        Work::KeyTtl { key } => format!("ttl {}", text(key)),
        Work::Checksum { range: own } => format!("checksum {}", range(own)),
        Work::Put(pair) => format!("put {}", text(&pair.key)),
        Work::BatchPut { pairs } => {
            format!("batch-put {}", keys(&pairs.iter().map(|pair| pair.key.clone()).collect::<Vec<_>>()))
        }
        Work::Delete { key } => format!("delete {}", text(key)),
        Work::BatchDelete { keys: all } => format!("batch-delete {}", keys(all)),
        Work::DeleteRange { range: own } => format!("delete-range {}", range(own)),
        Work::CompareAndSwap(swap) => format!("cas {}", text(&swap.key)),
    }
}

fn reply_of(words: &[&str]) -> Reply {
    match words {
        ["done"] => Reply::Written(Outcome::Done),
        ["swapped"] => Reply::Written(Outcome::Swapped { is_swapped: true, previous: None }),
        ["none"] => Reply::Read(Answer::Value(None)),
        ["value", v] => Reply::Read(Answer::Value(Some(key(v)))),
        ["ttl", seconds] => Reply::Read(Answer::Ttl(seconds.parse().ok())),
        ["pairs", words @ ..] => Reply::Read(Answer::Pairs(pairs(words))),
        ["numbered", count] => {
            let count: u32 = count.parse().unwrap();
            Reply::Read(Answer::Pairs((0..count).map(|n| (key(&format!("k{n:04}")), Bytes::new())).collect()))
        }
        ["large", count, value_bytes] => {
            let value = Bytes::from(vec![0; value_bytes.parse().unwrap()]);
            let count: u32 = count.parse().unwrap();
            Reply::Read(Answer::Pairs(
                (0..count).map(|n| (key(&format!("k{n:03}")), value.clone())).collect(),
            ))
        }
        ["checksum", sum, pairs, bytes] => Reply::Read(Answer::Checksum {
            checksum: sum.parse().unwrap(),
            total_pairs: pairs.parse().unwrap(),
            total_bytes: bytes.parse().unwrap(),
        }),
        other => panic!("unknown reply {other:?}"),
    }
}

fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::Read(Answer::Pairs(pairs)) if pairs.len() > 20 => format!("{} pairs", pairs.len()),
        Reply::Read(Answer::Pairs(pairs)) => {
            let pairs: String =
                pairs.iter().map(|(key, value)| format!(" {}={}", text(key), text(value))).collect();
            format!("pairs{pairs}")
        }
        Reply::Read(_) | Reply::Written(_) => format!("{reply:?}"),
    }
}

fn error(words: &[&str]) -> CallError {
    let region_error = match words {
        ["not-sent"] => return CallError::NotSent("connection refused".into()),
        ["unanswered"] => return CallError::Unanswered("the stream broke".into()),
        ["refused"] => return CallError::Refused("the key is empty".into()),
        ["not-leader"] => RegionError::NotLeader { leader: None },
        ["not-leader", hint] => {
            let (id, store) = hint.split_once('@').unwrap();
            RegionError::NotLeader { leader: Some(peer(id, store)) }
        }
        ["epoch", rest @ ..] => RegionError::EpochNotMatch {
            current: rest
                .split(|word| *word == ";")
                .filter(|spec| !spec.is_empty())
                .map(|spec| region(spec).0)
                .collect(),
        },
        ["store-not-match"] => RegionError::StoreNotMatch,
        ["region-not-found"] => RegionError::RegionNotFound,
        ["peer-mismatch"] => RegionError::PeerMismatch,
        ["not-initialized"] => RegionError::NotInitialized,
        ["stale-term"] => RegionError::StaleTerm,
        ["key-not-in-region"] => RegionError::KeyNotInRegion,
        ["too-large"] => RegionError::EntryTooLarge { size_bytes: 9 },
        ["busy", millis] => RegionError::Busy {
            reason: "ledger".into(),
            retry_after: Duration::from_millis(millis.parse().unwrap()),
        },
        ["disk-full"] => RegionError::DiskFull,
        ["read-index"] => RegionError::ReadIndexNotReady,
        ["undetermined"] => RegionError::Undetermined("the leader stepped down".into()),
        ["other"] => RegionError::Other("a new error".into()),
        other => panic!("unknown error {other:?}"),
    };
    CallError::Region(region_error)
}
