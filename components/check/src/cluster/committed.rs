//! What is known to be committed, of one region.

use std::collections::BTreeMap;

use types::{Index, LogPosition, Term};

use super::{
    invariant::{Finding, Invariant, ensure},
    trim,
};

/// A ghost: the committed part of a region's log, as far as pictures showed it. Nothing that was committed is ever
/// contradicted.
#[derive(Clone, Debug, Default)]
pub struct CommittedLog {
    /// What is committed at an index, and the lowest term in which that was seen.
    positions: BTreeMap<Index, (LogPosition, Term)>,
    /// The highest index that was seen committed in a term, for those terms in which it was higher than in all before.
    highest: BTreeMap<Term, Index>,
}

impl CommittedLog {
    /// Records that a position was seen committed by a peer that is in `term`.
    pub(super) fn record(&mut self, position: LogPosition, term: Term) -> Result<(), Finding> {
        let (known, seen_in) = self.positions.entry(position.index).or_insert((position, term));
        ensure(*known == position, Invariant::CommittedStays, || {
            format!(
                "{} was committed as {}, and is seen committed as {}",
                position.index,
                show(*known),
                show(position)
            )
        })?;
        *seen_in = term.min(*seen_in);
        trim(&mut self.positions);
        if self.must_reach(term) < position.index {
            self.highest.insert(term, position.index);
            // Later terms have their own entry only where it says more.
            while let Some((later, _)) =
                self.highest.range(term.next()..).next().filter(|(_, at)| **at <= position.index)
            {
                let later = *later;
                self.highest.remove(&later);
            }
            trim(&mut self.highest);
        }
        Ok(())
    }

    /// The index that the log of a leader of `term` must reach: a leader has whatever was committed in its term or before
    /// (Raft, 5.4.3), and a peer's term is at least the one in which it learnt that an entry is committed.
    #[must_use]
    pub fn must_reach(&self, term: Term) -> Index {
        self.highest.range(..=term).next_back().map_or(Index(0), |(_, index)| *index)
    }

    /// What a leader of `term` must have at an index, if that is known.
    #[must_use]
    pub fn must_have(&self, index: Index, term: Term) -> Option<LogPosition> {
        self.positions.get(&index).filter(|(_, seen_in)| *seen_in <= term).map(|(position, _)| *position)
    }
}

pub(super) fn show(position: LogPosition) -> String {
    format!("{} of term {} with chain {}", position.index, position.term, position.chain)
}
