//! The one function that answers every quorum question: votes, commit, read index, lease, check-quorum.
//!
//! A question is asked as "up to which value have enough voters come?": the match index for commit, the nonce for a read
//! index, the send time for a lease, yes or no for a vote. In a joint configuration enough means a majority of each half.
//! Who is not a voter never counts, whether it leads or not.

use types::{Configuration, PeerId};

/// Voters of one half for which no allocation is needed.
const INLINE_VOTERS: usize = 9;

/// What the voters of an election have said together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Enough have granted.
    Won,
    /// Enough have refused that no answer still missing can change it.
    Lost,
    /// Not decided yet.
    Open,
}

/// The highest value that a majority of each half of `configuration` has reached. Without voters nothing is ever
/// reached: the default, which must be the least value.
pub fn joint<T: Copy + Ord + Default>(configuration: &Configuration, value: impl Fn(PeerId) -> T) -> T {
    let incoming = majority(&configuration.voters, &value);
    if configuration.outgoing.is_empty() {
        return incoming;
    }
    incoming.min(majority(&configuration.outgoing, &value))
}

/// The result of an election in which each voter has said yes, no, or nothing so far.
#[must_use]
pub fn vote_result(configuration: &Configuration, answer: impl Fn(PeerId) -> Option<bool>) -> VoteResult {
    if joint(configuration, |peer| answer(peer) == Some(true)) {
        VoteResult::Won
    } else if joint(configuration, |peer| answer(peer) != Some(false)) {
        VoteResult::Open
    } else {
        VoteResult::Lost
    }
}

/// The highest value that a majority of `voters` has reached; the default without voters.
pub fn majority<T: Copy + Ord + Default>(voters: &[PeerId], value: impl Fn(PeerId) -> T) -> T {
    if voters.is_empty() {
        return T::default();
    }
    let mut inline = [T::default(); INLINE_VOTERS];
    let mut spilled;
    let values = if let Some(values) = inline.get_mut(..voters.len()) {
        for (slot, voter) in values.iter_mut().zip(voters) {
            *slot = value(*voter);
        }
        values
    } else {
        spilled = voters.iter().map(|voter| value(*voter)).collect::<Vec<_>>();
        &mut spilled[..]
    };
    values.sort_unstable();
    // Ascending: the value at (n - 1) / 2 is reached by itself and the n / 2 above it.
    values[(voters.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ids: &[u64]) -> Vec<PeerId> {
        ids.iter().map(|id| PeerId(*id)).collect()
    }

    fn configuration(voters: &[u64], outgoing: &[u64]) -> Configuration {
        Configuration { voters: peers(voters), outgoing: peers(outgoing), learners: Vec::new() }
    }

    /// By definition instead of by sorting: the highest of the values that more than half have reached.
    fn majority_by_counting(voters: &[PeerId], value: impl Fn(PeerId) -> u64) -> u64 {
        let reached = |v: u64| voters.iter().filter(|voter| value(**voter) >= v).count() * 2 > voters.len();
        voters.iter().map(|voter| value(*voter)).filter(|v| reached(*v)).max().unwrap_or(0)
    }

    #[test]
    fn agrees_with_counting_for_every_size() {
        let mut random = crate::random::Random::new(7);
        for _ in 0..20_000 {
            let count = random.next() % 12;
            let voters: Vec<_> = (1..=count).map(PeerId).collect();
            let salt = random.next();
            let value = |peer: PeerId| crate::random::Random::new(peer.0 ^ salt).next() % 7;
            assert_eq!(majority(&voters, value), majority_by_counting(&voters, value));
        }
    }

    #[test]
    fn a_joint_configuration_needs_both_halves() {
        let joint_one = configuration(&[1, 4, 5], &[1, 2, 3]);
        let value = |peer: PeerId| if [1, 2, 3].contains(&peer.0) { 9_u64 } else { 4 };
        assert_eq!(joint(&joint_one, value), 4);
        assert_eq!(joint(&configuration(&[1, 4, 5], &[]), value), 4);
        assert_eq!(joint(&configuration(&[1, 2, 3], &[]), value), 9);
        assert_eq!(joint(&configuration(&[], &[]), value), 0);
    }

    #[test]
    fn votes_are_open_until_the_missing_cannot_matter() {
        let three = configuration(&[1, 2, 3], &[]);
        let answers = |yes: &'static [u64], no: &'static [u64]| {
            move |peer: PeerId| match (yes.contains(&peer.0), no.contains(&peer.0)) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            }
        };
        assert_eq!(vote_result(&three, answers(&[1], &[2])), VoteResult::Open);
        assert_eq!(vote_result(&three, answers(&[1], &[2, 3])), VoteResult::Lost);
        assert_eq!(vote_result(&three, answers(&[1, 3], &[2])), VoteResult::Won);
        let joint_one = configuration(&[3, 4], &[1, 2]);
        assert_eq!(vote_result(&joint_one, answers(&[3, 4, 1], &[])), VoteResult::Open);
        assert_eq!(vote_result(&joint_one, answers(&[3, 4, 1], &[2])), VoteResult::Lost);
        assert_eq!(vote_result(&joint_one, answers(&[1, 2, 3, 4], &[])), VoteResult::Won);
    }
}
