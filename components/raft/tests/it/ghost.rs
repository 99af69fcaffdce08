//! What an all-seeing observer knows, and the safety properties that it checks after every event.

use std::collections::BTreeMap;

use types::{Chain, Entry, Index, LogPosition, PeerId, Term};

/// The observer's memory.
#[derive(Debug, Default)]
pub(crate) struct Ghost {
    /// Who led each term.
    leaders: BTreeMap<Term, PeerId>,
    /// The log up to each entry that ever existed: by the chain, equal (index, term) means equal prefix.
    chains: BTreeMap<(Index, Term), Chain>,
    /// What has been committed by anyone.
    committed: BTreeMap<Index, LogPosition>,
}

impl Ghost {
    /// The highest index committed by anyone.
    pub(crate) fn last_committed(&self) -> Index {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    /// Election safety, and leader completeness: `position` says what the new leader's log holds.
    pub(crate) fn on_leader(
        &mut self,
        id: PeerId,
        term: Term,
        position: impl Fn(Index) -> Option<LogPosition>,
    ) {
        if self.leaders.get(&term) == Some(&id) {
            return;
        }
        if let Some(other) = self.leaders.insert(term, id) {
            panic!("peers {other} and {id} both lead term {term}");
        }
        if let Some((index, committed)) = self.committed.iter().next_back() {
            let own = position(*index);
            // The chain covers the whole prefix.
            assert_eq!(
                own,
                Some(*committed),
                "leader {id} of term {term} lacks what is committed at {index}"
            );
        }
    }

    /// Log matching.
    pub(crate) fn on_appended(&mut self, id: PeerId, entry: &Entry) {
        let chain = *self.chains.entry((entry.index, entry.term)).or_insert(entry.chain);
        assert_eq!(chain, entry.chain, "peer {id} has another log at ({}, {})", entry.index, entry.term);
    }

    /// State machine safety: everyone commits the same.
    pub(crate) fn on_committed(&mut self, id: PeerId, position: LogPosition) {
        let known = *self.committed.entry(position.index).or_insert(position);
        assert_eq!(known, position, "peer {id} commits something else at {}", position.index);
    }

    pub(crate) fn term_leaders(&self) -> &BTreeMap<Term, PeerId> {
        &self.leaders
    }
}
