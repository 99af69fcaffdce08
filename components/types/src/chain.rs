//! The hash chain over a log (D15): equal chains mean equal logs, so a divergence is seen at the entry where it begins.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{ClusterId, EntryKind, Index, RegionId, Term};

/// The 128-bit xxh3 hash of a log up to some entry: a pure function of the log's content.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub u128);

/// What is hashed of an entry besides its payload: the chain before it, index, term and kind.
const HEAD_BYTES: usize = 33;

/// Up to here head and payload are copied together; beyond, the copy costs more than it saves.
const WHOLE_BYTES_MAX: usize = 512;

impl Chain {
    /// The chain of the truncation point that `init` writes for a region's first log.
    #[must_use]
    pub fn of_first_log(cluster: ClusterId, region: RegionId) -> Chain {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&cluster.0.to_be_bytes());
        bytes[8..].copy_from_slice(&region.0.to_be_bytes());
        Chain(xxh3_128(&bytes))
    }

    /// The chain of the truncation point that a split writes for a child: from the parent's chain at the split.
    #[must_use]
    pub fn of_child(self, child: RegionId) -> Chain {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.0.to_be_bytes());
        bytes[16..].copy_from_slice(&child.0.to_be_bytes());
        Chain(xxh3_128(&bytes))
    }

    /// The chain behind one more entry.
    #[must_use]
    pub fn link(self, index: Index, term: Term, kind: EntryKind, payload: &[u8]) -> Chain {
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(&self.0.to_be_bytes());
        head[16..24].copy_from_slice(&index.0.to_be_bytes());
        head[24..32].copy_from_slice(&term.0.to_be_bytes());
        head[32] = kind as u8;
        // One piece is hashed faster than two, with the same result.
        let mut whole = [0; WHOLE_BYTES_MAX];
        if let Some(whole) = whole.get_mut(..HEAD_BYTES + payload.len()) {
            whole[..HEAD_BYTES].copy_from_slice(&head);
            whole[HEAD_BYTES..].copy_from_slice(payload);
            return Chain(xxh3_128(whole));
        }
        let mut hasher = Xxh3::new();
        hasher.update(&head);
        hasher.update(payload);
        Chain(hasher.digest128())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one piece or in two, for every length about where the way changes.
    #[test]
    fn the_way_of_hashing_changes_nothing() {
        let payload = [7; 2 * WHOLE_BYTES_MAX];
        for length in 0..payload.len() {
            let payload = &payload[..length];
            let head = [&[0; 15][..], &[9], &5_u64.to_be_bytes(), &3_u64.to_be_bytes(), &[1]].concat();
            let link = Chain(9).link(Index(5), Term(3), EntryKind::Command, payload);
            assert_eq!(link, Chain(xxh3_128(&[&head, payload].concat())), "{length} bytes");
        }
    }

    #[test]
    fn every_part_of_an_entry_matters() {
        let base = Chain::of_first_log(ClusterId(7), RegionId(2));
        let link = base.link(Index(2), Term(1), EntryKind::Command, b"x");
        let others = [
            base.link(Index(3), Term(1), EntryKind::Command, b"x"),
            base.link(Index(2), Term(2), EntryKind::Command, b"x"),
            base.link(Index(2), Term(1), EntryKind::Empty, b"x"),
            base.link(Index(2), Term(1), EntryKind::Command, b"y"),
            base.of_child(RegionId(3)).link(Index(2), Term(1), EntryKind::Command, b"x"),
        ];
        assert!(others.iter().all(|other| *other != link));
        assert_eq!(base.link(Index(2), Term(1), EntryKind::Command, b"x"), link);
    }
}
