//! Queries of single keys.

use bytes::Bytes;
use engine::KvSnapshot;
use types::{Answer, WallTime};

use super::{ReadScope, answer_size::Allowance, live};
use crate::Result;

/// The value of one key.
pub(super) fn get(key: &Bytes, scope: &ReadScope<'_>, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let value = live::get(key, scope, snapshot)?;
    Ok(Answer::Value(value.map(|value| value.user_value)))
}

/// The pairs of those keys that exist, in the order of the keys.
pub(super) fn batch_get(keys: &[Bytes], scope: &ReadScope<'_>, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let mut allowance = Allowance::new();
    let mut pairs = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = live::get(key, scope, snapshot)? {
            allowance.take(key, &value.user_value)?;
            pairs.push((key.clone(), value.user_value));
        }
    }
    Ok(Answer::Pairs(pairs))
}

/// The seconds that a value has left, rounded up: zero means that it never expires, so a value in its last second has one.
pub(super) fn key_ttl(key: &Bytes, scope: &ReadScope<'_>, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let value = live::get(key, scope, snapshot)?;
    let seconds_left = |expiry: WallTime| (expiry.0 - scope.wall.0).div_ceil(1_000);
    Ok(Answer::Ttl(value.map(|value| value.expiry.map_or(0, seconds_left))))
}
