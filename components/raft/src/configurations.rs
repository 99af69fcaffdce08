//! The configurations that a log contains, and the one in force.

use types::{Configuration, ConfigurationChange, Index, PeerId};

/// Each configuration from the one in force at the truncation point on. The last is in force, from the moment its entry
/// is appended (thesis, 4.1), and is gone with its entry if that is truncated.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Configurations {
    history: Vec<(Index, ConfigurationChange)>,
    /// What the last change spells; empty for a peer without a log.
    in_force: Configuration,
}

impl Configurations {
    pub(crate) fn new(history: Vec<(Index, ConfigurationChange)>) -> Configurations {
        assert!(history.is_sorted_by(|left, right| left.0 < right.0));
        let in_force = spell(&history);
        Configurations { history, in_force }
    }

    /// Gives back room that is empty.
    pub(crate) fn shrink(&mut self) {
        self.history.shrink_to_fit();
        for list in [&mut self.in_force.voters, &mut self.in_force.outgoing, &mut self.in_force.learners] {
            list.shrink_to_fit();
        }
    }

    pub(crate) fn in_force(&self) -> &Configuration {
        &self.in_force
    }

    /// The index of the entry that made the configuration in force; zero without a log.
    pub(crate) fn index(&self) -> Index {
        self.history.last().map_or(Index(0), |(index, _)| *index)
    }

    pub(crate) fn history(&self) -> &[(Index, ConfigurationChange)] {
        &self.history
    }

    pub(crate) fn change(&self) -> Option<&ConfigurationChange> {
        self.history.last().map(|(_, change)| change)
    }

    pub(crate) fn append(&mut self, index: Index, change: ConfigurationChange) {
        assert!(index > self.index());
        self.in_force = change.configuration();
        self.history.push((index, change));
    }

    /// Forgets what entries from `index` on have made. Returns whether that is anything.
    pub(crate) fn truncate_from(&mut self, index: Index) -> bool {
        let kept_count = self.history.partition_point(|(at, _)| *at < index);
        let is_reverted = kept_count < self.history.len();
        if is_reverted {
            self.history.truncate(kept_count);
            self.in_force = spell(&self.history);
        }
        is_reverted
    }

    /// Keeps the configuration in force at `index` and all behind it.
    pub(crate) fn prune(&mut self, index: Index) {
        let behind = self.history.partition_point(|(at, _)| *at <= index);
        self.history.drain(..behind.saturating_sub(1));
    }

    /// Whether `peer` may campaign: it votes in the last configuration known to be committed or in one behind it. The
    /// last alone is not enough: a peer that has the entry which removes it may be the only one that can still win
    /// (checklist 1B-Q1).
    pub(crate) fn may_campaign(&self, peer: PeerId, commit: Index) -> bool {
        let committed_count = self.history.partition_point(|(at, _)| *at <= commit);
        let (last, earlier) = match self.history.get(committed_count.saturating_sub(1)..) {
            Some([earlier @ .., _]) => (&self.in_force, earlier),
            Some([]) | None => return false,
        };
        last.is_voter(peer) || earlier.iter().any(|(_, change)| change.configuration().is_voter(peer))
    }

    /// Whether `peer` alone decides everything.
    pub(crate) fn is_only_voter(&self, peer: PeerId) -> bool {
        self.in_force.voters == [peer] && self.in_force.outgoing.iter().all(|voter| *voter == peer)
    }
}

fn spell(history: &[(Index, ConfigurationChange)]) -> Configuration {
    history.last().map(|(_, change)| change.configuration()).unwrap_or_default()
}
