//! Half-open key ranges.

use std::fmt;

use bytes::Bytes;

/// The keys `[start_key, end_key)`; an empty `end_key` means "no upper bound".
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key inside; empty is the smallest key.
    pub start_key: Bytes,
    /// The first key behind; empty means the range has no upper bound.
    pub end_key: Bytes,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange { start_key: Bytes::new(), end_key: Bytes::new() };

    /// The range `[start_key, end_key)`.
    #[must_use]
    pub fn new(start_key: impl Into<Bytes>, end_key: impl Into<Bytes>) -> KeyRange {
        KeyRange { start_key: start_key.into(), end_key: end_key.into() }
    }

    /// Whether no key lies inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.end_key.is_empty() && self.start_key >= self.end_key
    }

    /// Whether `key` lies inside.
    #[must_use]
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.start_key.as_ref() <= key && (self.end_key.is_empty() || key < self.end_key.as_ref())
    }

    /// Whether every key of `other` lies inside. An empty `other` lies inside everything.
    #[must_use]
    pub fn contains_range(&self, other: &KeyRange) -> bool {
        other.is_empty() || (self.start_key <= other.start_key && self.end_reaches(&other.end_key))
    }

    /// Whether some key lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.intersection(other).is_empty()
    }

    /// The keys that lie in both; it may be empty (see [`KeyRange::is_empty`]).
    #[must_use]
    pub fn intersection(&self, other: &KeyRange) -> KeyRange {
        let start_key = if self.start_key >= other.start_key { &self.start_key } else { &other.start_key };
        let end_key = if self.end_reaches(&other.end_key) { &other.end_key } else { &self.end_key };
        KeyRange { start_key: start_key.clone(), end_key: end_key.clone() }
    }

    /// Whether this range's end is at or behind `end_key` (empty: infinity).
    fn end_reaches(&self, end_key: &Bytes) -> bool {
        self.end_key.is_empty() || (!end_key.is_empty() && end_key <= &self.end_key)
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}, ", self.start_key)?;
        if self.end_key.is_empty() { write!(f, "∞)") } else { write!(f, "{:?})", self.end_key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start_key: &'static str, end_key: &'static str) -> KeyRange {
        KeyRange::new(start_key, end_key)
    }

    #[test]
    fn empty_end_is_infinity() {
        assert!(range("b", "").contains_key(b"zz"));
        assert!(!range("b", "").contains_key(b"a"));
        assert!(!range("b", "").is_empty());
        assert!(range("b", "b").is_empty());
        assert!(range("c", "b").is_empty());
    }

    #[test]
    fn containment_and_intersection_agree() {
        let cases = [
            range("", ""),
            range("a", "c"),
            range("b", ""),
            range("", "b"),
            range("c", "d"),
            range("d", "c"),
        ];
        for left in &cases {
            for right in &cases {
                let both = left.intersection(right);
                for key in ["", "a", "b", "bb", "c", "d", "e"] {
                    let expected = left.contains_key(key.as_bytes()) && right.contains_key(key.as_bytes());
                    assert_eq!(both.contains_key(key.as_bytes()), expected, "{left:?} ∩ {right:?} at {key}");
                    if left.contains_range(right) && right.contains_key(key.as_bytes()) {
                        assert!(left.contains_key(key.as_bytes()), "{left:?} ⊇ {right:?} at {key}");
                    }
                }
            }
        }
    }
}
