//! The writes of one apply round, and a view of the data as they will leave it.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use engine::{KvBatch, KvEngine, KvOp};

/// One apply round: the writes of all regions that take part, to become one engine write (D6).
///
/// A command that reads sees what the same round wrote before it: [`Round::get`] looks into an index of the batch first.
/// The index is brought up to date only when something reads, so that a round of plain writes does not pay for it.
///
/// The batch may be appended to through [`Round::batch_mut`]; it is emptied only by [`Round::clear`].
#[derive(Debug, Default)]
pub struct Round {
    batch: KvBatch,
    overlay: Overlay,
}

/// What the first `indexed_count` writes of the batch say.
#[derive(Debug, Default)]
struct Overlay {
    indexed_count: usize,
    /// The place in the batch of the last put or delete of each key. It stands above `deleted`: whatever a later
    /// deletion of a range covered has been taken out.
    written: BTreeMap<Vec<u8>, usize>,
    /// Start and end of the deleted ranges; disjoint and not adjacent.
    deleted: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a batch says of one key.
enum Verdict {
    /// The write at this place decides.
    Write(usize),
    /// It was deleted as part of a range.
    Deleted,
    /// Nothing: ask the engine.
    Untouched,
}

impl Round {
    /// An empty round.
    #[must_use]
    pub fn new() -> Round {
        Round::default()
    }

    /// The value of an engine key as this round's writes leave it.
    pub fn get(&mut self, engine: &dyn KvEngine, key: &[u8]) -> engine::Result<Option<Bytes>> {
        self.overlay.catch_up(&self.batch);
        match self.overlay.find(key) {
            Verdict::Untouched => engine.get(key),
            Verdict::Deleted => Ok(None),
            Verdict::Write(place) => {
                let op =
                    self.batch.op(place).expect("the batch is only appended to, so an indexed place stays");
                match op {
                    KvOp::Put { value, .. } => Ok(Some(Bytes::copy_from_slice(value))),
                    KvOp::Delete { .. } | KvOp::DeleteRange { .. } => Ok(None),
                }
            }
        }
    }

    /// The writes so far.
    #[must_use]
    pub fn batch(&self) -> &KvBatch {
        &self.batch
    }

    /// The writes so far, to append to.
    pub fn batch_mut(&mut self) -> &mut KvBatch {
        &mut self.batch
    }

    /// Empties the round; the batch keeps its memory as far as [`KvBatch::clear`] says.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.overlay = Overlay::default();
    }
}

impl Overlay {
    fn catch_up(&mut self, batch: &KvBatch) {
        for place in self.indexed_count..batch.len() {
            match batch.op(place).expect("the place is below the batch's length") {
                KvOp::Put { key, .. } | KvOp::Delete { key } => {
                    self.written.insert(key.to_vec(), place);
                }
                KvOp::DeleteRange { start_key, end_key } => self.delete_range(start_key, end_key),
            }
        }
        self.indexed_count = batch.len();
    }

    fn find(&self, key: &[u8]) -> Verdict {
        if let Some(place) = self.written.get(key) {
            return Verdict::Write(*place);
        }
        let below = self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        match below {
            Some((_, end_key)) if key < end_key.as_slice() => Verdict::Deleted,
            Some(_) | None => Verdict::Untouched,
        }
    }

    fn delete_range(&mut self, start_key: &[u8], end_key: &[u8]) {
        let covered = (Bound::Included(start_key), Bound::Excluded(end_key));
        let covered: Vec<_> = self.written.range::<[u8], _>(covered).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.written.remove(&key);
        }
        self.join_deleted(start_key, end_key);
    }

    /// Adds a range to `deleted`, joined with those that it overlaps or touches.
    fn join_deleted(&mut self, start_key: &[u8], end_key: &[u8]) {
        let (mut start, mut end) = (start_key.to_vec(), end_key.to_vec());
        // Ranges are disjoint, so their ends ascend with their starts: those to be joined are the last ones that start
        // at or before `end_key`, back to the first that ends before `start_key`.
        loop {
            let last =
                self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Included(end_key))).next_back();
            match last {
                Some((old_start, old_end)) if old_end.as_slice() >= start_key => {
                    let old_start = old_start.clone();
                    let old_end = self.deleted.remove(&old_start).expect("the key was just found");
                    start = start.min(old_start);
                    end = end.max(old_end);
                }
                Some(_) | None => break,
            }
        }
        self.deleted.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, engine_with};

    #[test]
    fn a_round_sees_its_own_writes() {
        let engine = engine_with([(&b"a"[..], &b"old"[..]), (b"b", b"old")]);
        let mut round = Round::new();
        let seen = |round: &mut Round, key: &[u8]| round.get(engine.as_ref(), key).unwrap();
        assert_eq!(seen(&mut round, b"a").as_deref(), Some(&b"old"[..]));
        round.batch_mut().put(&[b"a"], &[b"ne", b"w"]);
        round.batch_mut().delete(&[b"b"]);
        assert_eq!(seen(&mut round, b"a").as_deref(), Some(&b"new"[..]));
        assert_eq!(seen(&mut round, b"b"), None);
        round.clear();
        assert!(round.batch().is_empty());
        assert_eq!(seen(&mut round, b"a").as_deref(), Some(&b"old"[..]));
    }

    #[test]
    fn deleted_ranges_are_joined() {
        let mut overlay = Overlay::default();
        for (start_key, end_key) in [("a", "b"), ("d", "e"), ("g", "h"), ("b", "d"), ("c", "cc")] {
            overlay.join_deleted(start_key.as_bytes(), end_key.as_bytes());
        }
        let deleted: Vec<_> =
            overlay.deleted.iter().map(|(start, end)| (start.as_slice(), end.as_slice())).collect();
        assert_eq!(deleted, [(&b"a"[..], &b"e"[..]), (b"g", b"h")]);
    }

    /// Whatever is written, a round answers as the engine will once the round's batch is written to it.
    #[test]
    fn a_round_answers_as_its_batch_will() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let old_keys: Vec<_> = (0..16_u8).filter(|_| random.below(2) == 0).map(|key| [key]).collect();
            let old_engine = || engine_with(old_keys.iter().map(|key| (&key[..], &b"old"[..])));
            let engine = old_engine();
            let mut round = Round::new();
            for step in 0..40_u8 {
                let (left, right) = (random.byte_below(16), random.byte_below(18));
                match random.below(4) {
                    0 => round.batch_mut().put(&[&[left]], &[&[step]]),
                    1 => round.batch_mut().delete(&[&[left]]),
                    2 => round.batch_mut().delete_range(&[&[left]], &[&[right]]),
                    _ => {
                        let after = old_engine();
                        after.write(round.batch()).unwrap();
                        for key in 0..16 {
                            let seen = round.get(engine.as_ref(), &[key]).unwrap();
                            assert_eq!(
                                seen,
                                after.get(&[key]).unwrap(),
                                "seed {seed}, step {step}, key {key}"
                            );
                        }
                    }
                }
            }
        }
    }
}
