//! A region's replicated pairs as they lie in the engine: for snapshots and for digests of the state (D15).

use std::ops::ControlFlow;

use engine::{KvSnapshot, Visit};
use types::{KeyRange, RegionId, WallTime};

use crate::{Error, Result, keys, value};

/// Which pairs are visited.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// The region.
    pub region_id: RegionId,
    /// The keys that it holds; of no meaning for the placement group, of which every row is visited.
    pub range: &'a KeyRange,
    /// The region clock at the snapshot's index: what has expired by then is left out, for some peers may have dropped
    /// it and others not.
    pub clock: WallTime,
}

/// Visits the pairs, engine keys and engine values, in order of key, from the engine key `resume_key` on, if one is
/// given. Where the visitor breaks off, the answer is the key to resume from: the first behind the pair that it saw
/// last. `None`: every pair has been visited.
pub fn visit(
    extent: &Extent<'_>,
    resume_key: Option<&[u8]>,
    snapshot: &dyn KvSnapshot,
    visitor: Visit<'_>,
) -> Result<Option<Vec<u8>>> {
    let (first_key, end_key) = keys::replicated_range(extent.region_id, extent.range);
    let start_key =
        resume_key.map_or(first_key.as_slice(), |resume_key| resume_key.max(first_key.as_slice()));
    if start_key >= end_key.as_slice() {
        return Ok(None);
    }
    let mut failure = None;
    let mut resume_next = None;
    snapshot.scan(start_key, &end_key, false, &mut |key, bytes| match is_live(extent, key, bytes) {
        Ok(false) => ControlFlow::Continue(()),
        Ok(true) => {
            let flow = visitor(key, bytes);
            if flow.is_break() {
                resume_next = Some([key, &[0]].concat());
            }
            flow
        }
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failure.map_or(Ok(resume_next), Err)
}

fn is_live(extent: &Extent<'_>, key: &[u8], bytes: &[u8]) -> Result<bool> {
    // Placement's rows are bare and do not expire.
    let Some(user_key) = keys::parse_user(key) else {
        return Ok(true);
    };
    let stored =
        value::decode(bytes).map_err(|malformed| Error::corruption(extent.region_id, user_key, malformed))?;
    Ok(!value::is_expired(stored.expiry, extent.clock))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::KvEngine;

    use super::*;
    use crate::testing::{engine_with, put};

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn engine() -> Arc<dyn KvEngine> {
        engine_with([
            (&b"r\0\0\0\0\0\0\0\x02a"[..], &b"applied"[..]),
            (b"s1", b"row"),
            (b"s2", b"row"),
            (b"ua", b"\0value"),
            (b"ub", b"\0value"),
            (b"ubb", b"\x01\0\0\0\0\0\0\0\x0avalue"),
            (b"uc", b"\0value"),
            (b"ud", b"\0value"),
            (b"ue", b"\0value"),
        ])
    }

    /// What is visited if the visitor breaks off behind every `count` pairs.
    fn visited(region_id: RegionId, range: &KeyRange, clock: u64, count: usize) -> Pairs {
        let snapshot = engine().snapshot();
        let extent = Extent { region_id, range, clock: WallTime(clock) };
        let mut pairs = Pairs::new();
        let mut resume_key = None;
        loop {
            let enough = pairs.len() + count;
            let next = visit(&extent, resume_key.as_deref(), snapshot.as_ref(), &mut |key, bytes| {
                pairs.push((key.to_vec(), bytes.to_vec()));
                if pairs.len() == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            resume_key = next.unwrap();
            if resume_key.is_none() {
                return pairs;
            }
        }
    }

    fn visited_keys(region_id: RegionId, range: &KeyRange, clock: u64) -> Vec<String> {
        let whole = visited(region_id, range, clock, usize::MAX - 100);
        for count in 1..5 {
            assert_eq!(visited(region_id, range, clock, count), whole, "resumed behind every {count} pairs");
        }
        whole.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn a_region_holds_its_live_pairs() {
        let range = KeyRange::new("b", "d");
        assert_eq!(visited_keys(RegionId(2), &range, 9), ["ub", "ubb", "uc"]);
        assert_eq!(visited_keys(RegionId(2), &range, 10), ["ub", "uc"]);
        assert_eq!(visited_keys(RegionId(2), &KeyRange::ALL, 10), ["ua", "ub", "uc", "ud", "ue"]);
        assert!(visited_keys(RegionId(2), &KeyRange::new("x", "y"), 0).is_empty());
    }

    #[test]
    fn the_placement_group_holds_its_rows() {
        assert_eq!(visited_keys(RegionId::PLACEMENT, &KeyRange::new("b", "d"), 0), ["s1", "s2"]);
    }

    #[test]
    fn a_damaged_value_is_reported() {
        let engine = engine();
        put(engine.as_ref(), b"ub", b"");
        let extent = Extent { region_id: RegionId(2), range: &KeyRange::ALL, clock: WallTime(0) };
        let snapshot = engine.snapshot();
        let error =
            visit(&extent, None, snapshot.as_ref(), &mut |_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Corruption { key, .. } if key == "b"));
    }
}
