//! A region's pairs as clients see them.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::KvSnapshot;
use types::KeyRange;

use super::ReadScope;
use crate::{Error, Result, keys, value};

/// Sees each user key and user value; may break off.
pub(super) type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// Visits the pairs of `range` that lie in the region and have not expired, in ascending or descending order.
pub(super) fn visit(
    range: &KeyRange,
    is_reverse: bool,
    scope: &ReadScope<'_>,
    snapshot: &dyn KvSnapshot,
    visitor: &mut Visitor<'_>,
) -> Result<()> {
    let clipped = range.intersection(scope.range);
    if clipped.is_empty() {
        return Ok(());
    }
    let mut visit_pair = |key: &[u8], bytes: &[u8]| {
        let user_key = keys::parse_user(key).expect("the engine visits keys of the range that it was given");
        let stored = value::decode(bytes)
            .map_err(|malformed| Error::corruption(scope.region_id, user_key, malformed))?;
        if value::is_expired(stored.expiry, scope.wall) {
            return Ok(ControlFlow::Continue(()));
        }
        visitor(user_key, stored.user_value)
    };
    let (start_key, end_key) = keys::user_range(&clipped);
    let mut failure = None;
    snapshot.scan(&start_key, &end_key, is_reverse, &mut |key, bytes| {
        visit_pair(key, bytes).unwrap_or_else(|error| {
            failure = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failure.map_or(Ok(()), Err)
}

/// A stored value that has not expired, with its expiry.
pub(super) struct LiveValue {
    pub(super) expiry: Option<types::WallTime>,
    pub(super) user_value: Bytes,
}

/// The value of one key of the region, unless it has expired.
pub(super) fn get(
    key: &Bytes,
    scope: &ReadScope<'_>,
    snapshot: &dyn KvSnapshot,
) -> Result<Option<LiveValue>> {
    if !scope.range.contains_key(key) {
        let (region_id, range) = (scope.region_id, scope.range.clone());
        return Err(Error::NotInRegion { key: key.clone(), region_id, range });
    }
    let Some(bytes) = snapshot.get(&keys::join(keys::user_key(key)))? else {
        return Ok(None);
    };
    let stored =
        value::decode(&bytes).map_err(|malformed| Error::corruption(scope.region_id, key, malformed))?;
    let is_live = !value::is_expired(stored.expiry, scope.wall);
    Ok(is_live.then(|| LiveValue { expiry: stored.expiry, user_value: bytes.slice_ref(stored.user_value) }))
}
