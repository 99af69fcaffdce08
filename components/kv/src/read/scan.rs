//! Scans.

use std::ops::ControlFlow;

use engine::KvSnapshot;
use types::{Answer, Scan};

use super::{ReadScope, answer_size::PairBuffer, live};
use crate::Result;

/// The pairs of each scan, one scan behind the other.
pub(super) fn scan(scans: &[Scan], scope: &ReadScope<'_>, snapshot: &dyn KvSnapshot) -> Result<Answer> {
    let mut buffer = PairBuffer::new();
    for scan in scans {
        scan_one(scan, scope, snapshot, &mut buffer)?;
    }
    Ok(Answer::Pairs(buffer.into_pairs()))
}

fn scan_one(
    scan: &Scan,
    scope: &ReadScope<'_>,
    snapshot: &dyn KvSnapshot,
    buffer: &mut PairBuffer,
) -> Result<()> {
    if scan.limit == 0 {
        return Ok(());
    }
    // Never more than the limit: stock clients subtract what they got from what they asked for, unsigned.
    let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
    let full_at = buffer.len().saturating_add(limit);
    live::visit(&scan.range, scan.is_reverse, scope, snapshot, &mut |key, value| {
        let value = if scan.is_key_only { &[] } else { value };
        buffer.push(key, value)?;
        Ok(if buffer.len() == full_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}
