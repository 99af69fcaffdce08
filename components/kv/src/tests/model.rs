//! Random commands and queries, answered alike by this crate and by a map.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{
    Answer, Command, CompareAndSwap, KeyRange, Outcome, Pair, Query, RegionId, Scan, Term, WallTime,
};

use crate::{
    Error, Round,
    command::{self, Scope},
    read::{self, ReadScope},
    testing::{Random, engine_with},
};

const REGION_ID: RegionId = RegionId(2);

/// What a region holds, said as simply as possible.
#[derive(Default)]
struct Model {
    map: BTreeMap<Bytes, (Bytes, u64)>,
}

#[test]
fn a_region_behaves_as_a_map() {
    for seed in 0..200 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut model = Model::default();
    let engine = engine_with([]);
    let mut round = Round::new();
    let mut clock = 1_000;
    for step in 0..60 {
        clock += random.below(900);
        let range = any_range(&mut random);
        let scope = Scope { region_id: REGION_ID, range: &range, term: Term(1), clock: WallTime(clock) };
        for _ in 0..random.below(6) {
            let mut command = any_command(&mut random);
            if random.below(2) == 0 {
                command::clip(&mut command, &range);
            }
            let count = round.batch().len();
            let outcome = match command::apply(&command, &scope, engine.as_ref(), &mut round) {
                Ok(outcome) => Some(outcome),
                Err(Error::NotInRegion { key, .. }) => {
                    assert!(!range.contains_key(&key), "seed {seed}, step {step}: {key:?} is inside");
                    assert_eq!(round.batch().len(), count, "seed {seed}, step {step}: {command:?}");
                    None
                }
                Err(error) => panic!("seed {seed}, step {step}: {error}"),
            };
            assert_eq!(
                outcome,
                model.apply(&command, &range, clock),
                "seed {seed}, step {step}: {command:?}"
            );
        }
        engine.write(round.batch()).unwrap();
        round.clear();
        let scope =
            ReadScope { region_id: REGION_ID, range: &range, wall: WallTime(clock + random.below(900)) };
        for _ in 0..4 {
            let query = any_query(&mut random);
            let answer = read::answer(&query, &scope, engine.snapshot().as_ref());
            let answer = match answer {
                Ok(answer) => Some(answer),
                Err(Error::NotInRegion { .. }) => None,
                Err(error) => panic!("seed {seed}, step {step}: {error}"),
            };
            assert_eq!(
                answer,
                model.answer(&query, &scope),
                "seed {seed}, step {step}: {query:?} in {range:?}"
            );
        }
    }
}

impl Model {
    /// What a command answers; `None`: it is refused, because it reaches beyond the region.
    fn apply(&mut self, command: &Command, range: &KeyRange, clock: u64) -> Option<Outcome> {
        match command {
            Command::Put(pair) => self.put_all(std::slice::from_ref(pair), range, clock),
            Command::BatchPut { pairs } => self.put_all(pairs, range, clock),
            Command::Delete { key } => self.delete_all(std::slice::from_ref(key), range),
            Command::BatchDelete { keys } => self.delete_all(keys, range),
            Command::DeleteRange { range: deleted } => range.contains_range(deleted).then(|| {
                self.map.retain(|key, _| !deleted.contains_key(key));
                Outcome::Done
            }),
            Command::CompareAndSwap(swap) => range.contains_key(&swap.key).then(|| {
                let previous = self.get(&swap.key, clock);
                let is_swapped = previous == swap.expected;
                match &swap.replacement {
                    Some(value) if is_swapped => self.put(&swap.key, value, swap.ttl_seconds, clock),
                    None if is_swapped => drop(self.map.remove(&swap.key)),
                    Some(_) | None => {}
                }
                Outcome::Swapped { is_swapped, previous }
            }),
            Command::Placement(_) => unreachable!("not generated"),
        }
    }

    fn put_all(&mut self, pairs: &[Pair], range: &KeyRange, clock: u64) -> Option<Outcome> {
        if !pairs.iter().all(|pair| range.contains_key(&pair.key)) {
            return None;
        }
        for pair in pairs {
            self.put(&pair.key, &pair.value, pair.ttl_seconds, clock);
        }
        Some(Outcome::Done)
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, ttl_seconds: u64, clock: u64) {
        let expiry = if ttl_seconds == 0 { u64::MAX } else { clock + ttl_seconds * 1_000 };
        self.map.insert(key.clone(), (value.clone(), expiry));
    }

    fn delete_all(&mut self, keys: &[Bytes], range: &KeyRange) -> Option<Outcome> {
        if !keys.iter().all(|key| range.contains_key(key)) {
            return None;
        }
        for key in keys {
            self.map.remove(key);
        }
        Some(Outcome::Done)
    }

    fn get(&self, key: &Bytes, wall: u64) -> Option<Bytes> {
        self.map.get(key).filter(|(_, expiry)| wall < *expiry).map(|(value, _)| value.clone())
    }

    /// What a query answers; `None`: it is refused, because a key lies beyond the region.
    fn answer(&self, query: &Query, scope: &ReadScope<'_>) -> Option<Answer> {
        let wall = scope.wall.0;
        match query {
            Query::Get { key } => scope.range.contains_key(key).then(|| Answer::Value(self.get(key, wall))),
            Query::BatchGet { keys } => keys.iter().all(|key| scope.range.contains_key(key)).then(|| {
                let pairs = keys.iter().filter_map(|key| Some((key.clone(), self.get(key, wall)?)));
                Answer::Pairs(pairs.collect())
            }),
            Query::Scan(scan) => Some(Answer::Pairs(self.scan(scan, scope))),
            Query::BatchScan { scans } => {
                Some(Answer::Pairs(scans.iter().flat_map(|scan| self.scan(scan, scope)).collect()))
            }
            Query::KeyTtl { key } => scope.range.contains_key(key).then(|| {
                let expiry = self.get(key, wall).map(|_| self.map[key].1);
                let seconds_left =
                    |expiry: u64| if expiry == u64::MAX { 0 } else { (expiry - wall).div_ceil(1_000) };
                Answer::Ttl(expiry.map(seconds_left))
            }),
            Query::Checksum { .. } | Query::PlacementRows { .. } => unreachable!("not generated"),
        }
    }

    fn scan(&self, scan: &Scan, scope: &ReadScope<'_>) -> Vec<(Bytes, Bytes)> {
        let keys =
            self.map.keys().filter(|key| scan.range.contains_key(key) && scope.range.contains_key(key));
        let mut pairs: Vec<_> =
            keys.filter_map(|key| Some((key.clone(), self.get(key, scope.wall.0)?))).collect();
        if scan.is_reverse {
            pairs.reverse();
        }
        if scan.is_key_only {
            pairs.iter_mut().for_each(|(_, value)| value.clear());
        }
        pairs.truncate(scan.limit as usize);
        pairs
    }
}

fn any_command(random: &mut Random) -> Command {
    let count = random.below(4);
    match random.below(8) {
        0 | 1 => Command::Put(any_pair(random)),
        2 => Command::BatchPut { pairs: (0..count).map(|_| any_pair(random)).collect() },
        3 => Command::Delete { key: any_key(random) },
        4 => Command::BatchDelete { keys: (0..count).map(|_| any_key(random)).collect() },
        5 => Command::DeleteRange { range: any_range(random) },
        _ => Command::CompareAndSwap(CompareAndSwap {
            key: any_key(random),
            expected: (random.below(3) > 0).then(|| any_value(random)),
            replacement: (random.below(3) > 0).then(|| any_value(random)),
            ttl_seconds: random.below(4),
        }),
    }
}

fn any_query(random: &mut Random) -> Query {
    let count = random.below(4);
    match random.below(5) {
        0 => Query::Get { key: any_key(random) },
        1 => Query::BatchGet { keys: (0..count).map(|_| any_key(random)).collect() },
        2 => Query::Scan(any_scan(random)),
        3 => Query::BatchScan { scans: (0..count).map(|_| any_scan(random)).collect() },
        _ => Query::KeyTtl { key: any_key(random) },
    }
}

fn any_scan(random: &mut Random) -> Scan {
    Scan {
        range: any_range(random),
        limit: u32::try_from(random.below(6)).unwrap(),
        is_key_only: random.below(3) == 0,
        is_reverse: random.below(2) == 0,
    }
}

fn any_pair(random: &mut Random) -> Pair {
    Pair { key: any_key(random), value: any_value(random), ttl_seconds: random.below(4) }
}

/// One of 20 keys, some of them prefixes of others.
fn any_key(random: &mut Random) -> Bytes {
    let mut key = vec![random.byte_below(5)];
    if random.below(2) == 0 {
        key.push(random.byte_below(3));
    }
    Bytes::from(key)
}

fn any_value(random: &mut Random) -> Bytes {
    Bytes::from(vec![b'v'; usize::try_from(random.below(3)).unwrap()])
}

/// Any range: often everything, sometimes nothing.
fn any_range(random: &mut Random) -> KeyRange {
    let start_key = if random.below(2) == 0 { Bytes::new() } else { any_key(random) };
    let end_key = if random.below(2) == 0 { Bytes::new() } else { any_key(random) };
    KeyRange { start_key, end_key }
}
