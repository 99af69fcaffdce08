//! Rows of placement.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::KvSnapshot;
use types::Answer;

use super::answer_size::PairBuffer;
use crate::{Result, keys};

/// Every row whose key begins with `prefix`, in key order, keys without the kind byte.
pub(super) fn placement_rows(prefix: &Bytes, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let (start_key, end_key) = keys::system_range(prefix);
    let mut buffer = PairBuffer::new();
    let mut outcome = Ok(());
    snapshot.scan(&start_key, &end_key, false, &mut |key, value| {
        let row_key = keys::parse_system(key).expect("the engine visits keys of the range that it was given");
        outcome = buffer.push(row_key, value);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    Ok(Answer::Pairs(buffer.into_pairs()))
}
