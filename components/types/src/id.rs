//! Identifiers and log coordinates: one newtype each, so that no function takes two bare integers.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Names a cluster for ever; drawn at random by `init`, never zero.
    ClusterId
}
number! {
    /// Names a store (one process's set of peers). Given out once, from 1000 on; zero means "none".
    StoreId
}
number! {
    /// Names a region, and with it the Raft group of its peers. 1 is the placement group, 2 the first region of the
    /// client keyspace; later ones come from leased id blocks. Zero means "none".
    RegionId
}
number! {
    /// Names one peer of one region, for ever: an id is never given out twice, so that a peer that lost its memory
    /// cannot return under its old name. Zero means "none".
    PeerId
}
number! {
    /// Counts the starts of a store; a higher incarnation of the same store has restarted since.
    Incarnation
}
number! {
    /// A Raft term.
    Term
}
number! {
    /// A position in a Raft log. The first entry that can be appended to a log has index 2 (D15).
    Index
}

impl RegionId {
    /// The placement group (D8): not in the client keyspace, never split, merged or shown to clients.
    pub const PLACEMENT: RegionId = RegionId(1);
    /// The first region of the client keyspace, created by `init` over every key.
    pub const FIRST: RegionId = RegionId(2);
}

impl Term {
    /// The term of a truncation point that `init`, a split or a snapshot wrote: every log begins behind (1, 1).
    pub const FIRST: Term = Term(1);

    /// The next term.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// The index of the truncation point that `init` or a split writes.
    pub const FIRST: Index = Index(1);

    /// The index behind this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }

    /// How many entries lie in `(other, self]`; zero if `other` is not below.
    #[must_use]
    pub fn since(self, other: Index) -> u64 {
        self.0.saturating_sub(other.0)
    }
}
