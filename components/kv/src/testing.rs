//! What the tests of this crate share: an engine that is a map, and reproducible random numbers.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Mutex,
};

use bytes::Bytes;
use engine::{Error, KvBatch, KvEngine, KvOp, KvSnapshot, Operation, Result, StagedFile};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A KV engine without a disk; it cannot stage files.
#[derive(Debug, Default)]
pub(crate) struct MapEngine {
    map: Mutex<Map>,
}

struct MapSnapshot(Map);

/// A sequence of numbers that depends on the seed only (splitmix64).
pub(crate) struct Random(u64);

impl MapEngine {
    pub(crate) fn new() -> MapEngine {
        MapEngine::default()
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) {
        self.map.lock().unwrap().insert(key.to_vec(), value.to_vec());
    }

    pub(crate) fn copy(&self) -> MapEngine {
        MapEngine { map: Mutex::new(self.map.lock().unwrap().clone()) }
    }
}

impl KvEngine for MapEngine {
    fn write(&self, batch: &KvBatch) -> Result<()> {
        let mut map = self.map.lock().unwrap();
        for op in batch.ops() {
            match op {
                KvOp::Put { key, value } => {
                    map.insert(key.to_vec(), value.to_vec());
                }
                KvOp::Delete { key } => {
                    map.remove(key);
                }
                KvOp::DeleteRange { start_key, end_key } => {
                    map.retain(|key, _| key.as_slice() < start_key || end_key <= key.as_slice());
                }
            }
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.map.lock().unwrap().get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get(key)
    }

    fn snapshot(&self) -> Box<dyn KvSnapshot> {
        Box::new(MapSnapshot(self.map.lock().unwrap().clone()))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn unflushed_bytes(&self) -> u64 {
        0
    }

    fn stage_create(&self, _name: &str) -> Result<()> {
        Err(no_files(Operation::Stage))
    }

    fn stage_append(&self, _name: &str, _pairs: &[(Bytes, Bytes)]) -> Result<()> {
        Err(no_files(Operation::Stage))
    }

    fn stage_sync(&self, _name: &str) -> Result<()> {
        Err(no_files(Operation::Stage))
    }

    fn stage_list(&self) -> Result<Vec<StagedFile>> {
        Ok(Vec::new())
    }

    fn stage_delete(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn ingest(&self, _names: &[String]) -> Result<()> {
        Err(no_files(Operation::Ingest))
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX
    }
}

impl KvSnapshot for MapSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(
        &self,
        start_key: &[u8],
        end_key: &[u8],
        is_reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        if !end_key.is_empty() && start_key >= end_key {
            return Ok(());
        }
        let end = if end_key.is_empty() { Bound::Unbounded } else { Bound::Excluded(end_key) };
        let pairs = self.0.range::<[u8], _>((Bound::Included(start_key), end));
        let pairs: Vec<_> = if is_reverse { pairs.rev().collect() } else { pairs.collect() };
        for (key, value) in pairs {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn byte_below(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(u64::from(bound))).unwrap()
    }
}

fn no_files(operation: Operation) -> Error {
    Error::Io { operation, message: "a map has no files".to_owned() }
}
