//! What a store knows of another one by the beats of the pair.

use std::time::Duration;

use types::{Incarnation, Instant};

use super::SleepDigest;
use crate::{
    limits::{BEATS_TO_TRUST_MAX, BEATS_TO_TRUST_MIN, SUSPECT_AFTER, TRUSTED_AFTER},
    message::Beat,
};

/// What this store thinks of another one: all that regions need to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Its newest run; zero: never heard.
    pub(crate) incarnation: Incarnation,
    /// It is heard: its peers are where they were, unless they say otherwise.
    pub(crate) is_live: bool,
    /// There is evidence that it is down. (Of one that was never heard nothing is known.)
    pub(crate) is_suspected: bool,
    /// It says that it hears this store.
    pub(crate) is_confirming: bool,
}

/// The other side of a pair of stores.
#[derive(Debug)]
pub(super) struct OtherStore {
    /// Beats sent to it.
    sent_number: u64,
    heard_number: u64,
    heard_incarnation: Incarnation,
    /// Silence counts from here.
    heard_at: Instant,
    /// The newest beat of this run that it has heard, as far as known.
    confirmed_number: u64,
    confirmed_at: Instant,
    /// How much of the present silence is this store's own fault.
    forgiven: Duration,
    state: State,
    /// Beats in a row that a suspected store must send to be trusted again.
    beats_to_trust: u32,
    /// What raft workers were told last.
    told: Option<Judgement>,
    /// What sleeps here and is led here, by its agreement.
    pub(super) leading: SleepDigest,
    /// What sleeps here and is led there.
    pub(super) following: SleepDigest,
    pub(super) next_digest: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is known yet, for or against it.
    Unknown,
    Live {
        since: Instant,
    },
    Suspected {
        /// Beats in a row since then.
        beats: u32,
    },
}

impl OtherStore {
    pub(super) fn new(now: Instant, next_digest: Instant) -> OtherStore {
        OtherStore {
            sent_number: 0,
            heard_number: 0,
            heard_incarnation: Incarnation(0),
            heard_at: now,
            confirmed_number: 0,
            confirmed_at: now,
            forgiven: Duration::ZERO,
            state: State::Unknown,
            beats_to_trust: BEATS_TO_TRUST_MIN,
            told: None,
            leading: SleepDigest::default(),
            following: SleepDigest::default(),
            next_digest,
        }
    }

    /// The next beat to it.
    pub(super) fn next_beat(&mut self, own: Incarnation) -> Beat {
        self.sent_number += 1;
        Beat {
            incarnation: own,
            number: self.sent_number,
            heard_number: self.heard_number,
            heard_incarnation: self.heard_incarnation,
        }
    }

    /// A beat of it. One that is not newer than the last says nothing.
    pub(super) fn on_beat(&mut self, now: Instant, own: Incarnation, beat: Beat) {
        if (beat.incarnation, beat.number) <= (self.heard_incarnation, self.heard_number) {
            return;
        }
        let is_in_a_row = now.since(self.heard_at) <= SUSPECT_AFTER;
        self.heard_incarnation = beat.incarnation;
        self.heard_number = beat.number;
        self.heard_at = now;
        self.forgiven = Duration::ZERO;
        self.state = match self.state {
            State::Unknown => State::Live { since: now },
            State::Live { since } => State::Live { since },
            State::Suspected { beats } => {
                let beats = if is_in_a_row { beats + 1 } else { 1 };
                if beats >= self.beats_to_trust {
                    State::Live { since: now }
                } else {
                    State::Suspected { beats }
                }
            }
        };
        // What it says of an earlier run of this store confirms nothing.
        if beat.heard_incarnation == own && beat.heard_number > self.confirmed_number {
            self.confirmed_number = beat.heard_number;
            self.confirmed_at = now;
        }
    }

    /// There is evidence that it is down.
    pub(super) fn suspect(&mut self, now: Instant) {
        if let State::Live { since } = self.state {
            self.beats_to_trust = if now.since(since) >= TRUSTED_AFTER {
                BEATS_TO_TRUST_MIN
            } else {
                (self.beats_to_trust * 2).min(BEATS_TO_TRUST_MAX)
            };
        }
        self.state = State::Suspected { beats: 0 };
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    pub(super) fn is_suspected(&self) -> bool {
        matches!(self.state, State::Suspected { .. })
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.since(self.heard_at) > SUSPECT_AFTER + self.forgiven
    }

    /// This store was late itself: it has no evidence for so long, but not for ever.
    pub(super) fn forgive(&mut self, lateness: Duration) {
        self.forgiven = (self.forgiven + lateness).min(SUSPECT_AFTER);
    }

    /// What is to be told, if it is news.
    pub(super) fn judge(&mut self, now: Instant) -> Option<Judgement> {
        let judgement = Judgement {
            incarnation: self.heard_incarnation,
            is_live: self.is_live(),
            is_suspected: self.is_suspected(),
            is_confirming: self.confirmed_number > 0
                && now.since(self.confirmed_at) <= SUSPECT_AFTER + self.forgiven,
        };
        (self.told.replace(judgement) != Some(judgement)).then_some(judgement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Incarnation = Incarnation(5);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn beat(number: u64, heard_number: u64) -> Beat {
        Beat { incarnation: Incarnation(1), number, heard_number, heard_incarnation: OWN }
    }

    fn other() -> OtherStore {
        OtherStore::new(at(0), Instant::MAX)
    }

    #[test]
    fn a_store_is_live_once_it_is_heard_and_confirms_once_it_says_so() {
        let mut other = other();
        assert_eq!(other.judge(at(0)), Some(Judgement::default()));
        other.on_beat(at(10), OWN, Beat { heard_incarnation: Incarnation(4), ..beat(1, 7) });
        let heard = Judgement { incarnation: Incarnation(1), is_live: true, ..Judgement::default() };
        assert_eq!(other.judge(at(10)), Some(heard), "it has heard an earlier run of this store");
        other.on_beat(at(20), OWN, beat(2, 1));
        assert_eq!(other.judge(at(20)), Some(Judgement { is_confirming: true, ..heard }));
        assert_eq!(other.judge(at(21)), None, "it is told once");
        // It goes on to beat, and hears nothing any more.
        (3..10).for_each(|number| other.on_beat(at(number * 100), OWN, beat(number, 1)));
        assert_eq!(other.judge(at(900)), Some(heard));
    }

    #[test]
    fn old_beats_say_nothing() {
        let mut other = other();
        other.on_beat(at(10), OWN, beat(7, 1));
        other.on_beat(at(600), OWN, beat(7, 2));
        other.on_beat(at(610), OWN, Beat { incarnation: Incarnation(0), ..beat(9, 3) });
        assert!(other.is_silent(at(611)));
    }

    #[test]
    fn a_flapping_store_must_beat_twice_as_long_each_time() {
        let mut other = other();
        other.on_beat(at(0), OWN, beat(1, 1));
        let (mut now, mut number) = (0, 1);
        for expected in [4, 8, 16, 32, 32] {
            now += 1_000;
            other.suspect(at(now));
            let mut beats = 0;
            while other.is_suspected() {
                (now, number, beats) = (now + 100, number + 1, beats + 1);
                other.on_beat(at(now), OWN, beat(number, 1));
            }
            assert_eq!(beats, expected);
        }
        // Whoever was live for long enough is trusted as at first.
        now += 60_000;
        other.suspect(at(now));
        other.on_beat(at(now + 100), OWN, beat(number + 1, 1));
        assert!(other.is_suspected());
        other.on_beat(at(now + 200), OWN, beat(number + 2, 1));
        assert!(!other.is_suspected());
    }

    #[test]
    fn beats_with_gaps_between_them_do_not_add_up() {
        let mut other = other();
        other.on_beat(at(0), OWN, beat(1, 1));
        other.suspect(at(1_000));
        (2..12).for_each(|number| other.on_beat(at(number * 1_000), OWN, beat(number, 1)));
        assert!(other.is_suspected());
    }

    #[test]
    fn lateness_is_forgiven_up_to_a_bound_for_each_silence() {
        let mut other = other();
        other.on_beat(at(0), OWN, beat(1, 1));
        (0..5).for_each(|_| other.forgive(Duration::from_millis(400)));
        assert!(!other.is_silent(at(1_200)));
        assert!(other.is_silent(at(1_201)), "a silence is forgiven 600 ms in all");
        other.on_beat(at(1_300), OWN, beat(2, 1));
        assert!(other.is_silent(at(1_901)), "and the next one begins without any");
    }
}
