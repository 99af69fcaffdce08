//! What a leader knows of one peer.

use std::{collections::VecDeque, time::Duration};

use types::{Index, Instant, LogPosition, PeerId, Term};

use crate::{
    PeerStatus, Stamp,
    limits::{INFLIGHT_APPENDS_MAX, PROBE_BYTES_MAX},
};

/// How the leader sends to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProgressState {
    /// It is not known where the logs part: one append at a time, until one is accepted.
    Probe {
        /// One is under way, or there is no use in sending one before this peer has been heard.
        is_paused: bool,
    },
    /// The logs match up to what has been sent: appends follow one another without waiting.
    Replicate,
    /// The peer needs entries that the log no longer has; a snapshot is under way.
    Snapshot,
}

/// An append that has been sent and not been acknowledged.
#[derive(Clone, Copy, Debug, Hash)]
struct Inflight {
    last: Index,
    bytes: usize,
    sent_at: Instant,
}

/// A rejection's hint that has not been looked up in the leader's log yet: the next `prev` is the last position in
/// `[low, high]` whose term is at most `term`. (The search narrows by reading the log, perhaps from disk.)
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct HintSearch {
    pub(crate) low: Index,
    pub(crate) high: Index,
    pub(crate) term: Term,
}

/// One peer, as its leader sees it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    pub(crate) id: PeerId,
    /// The highest index that the peer has acknowledged as durable and equal.
    pub(crate) match_index: Index,
    /// The next index to send.
    pub(crate) next_index: Index,
    pub(crate) state: ProgressState,
    /// Boxed, as it is rare: a leader has one progress for each of its peers, also while it sleeps.
    pub(crate) search: Option<Box<HintSearch>>,
    inflight: VecDeque<Inflight>,
    inflight_bytes: usize,
    /// The highest commit index that has been sent in a message that could make use of it.
    pub(crate) commit_sent: Index,
    /// Whether a heartbeat shall go out with the next Ready.
    pub(crate) wants_heartbeat: bool,
    /// Whether an empty append shall go out, to be answered with what was lost: an append or its acknowledgement.
    pub(crate) wants_nudge: bool,
    /// When anything was sent last.
    sent_at: Instant,
    /// When a heartbeat was sent last.
    heartbeat_at: Instant,
    /// When the peer was heard last.
    pub(crate) heard_at: Instant,
    /// When `match_index` rose last.
    matched_at: Instant,
    /// A probe waits until then for a snapshot that has arrived to be installed.
    installing_until: Instant,
    /// When the message was made whose answer showed that the peer had lost what it acknowledged; zero if none has.
    forgot_at: Instant,
    /// The newest stamp that came back.
    pub(crate) stamp: Stamp,
}

impl From<&Progress> for PeerStatus {
    fn from(progress: &Progress) -> PeerStatus {
        PeerStatus {
            id: progress.id,
            match_index: progress.match_index,
            next_index: progress.next_index,
            state: match progress.state {
                ProgressState::Probe { .. } => "probe",
                ProgressState::Replicate => "replicate",
                ProgressState::Snapshot => "snapshot",
            },
            inflight_bytes: progress.inflight_bytes,
            heard_at: progress.heard_at,
        }
    }
}

/// What a leader does about a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is old: nothing.
    Stale,
    /// It probes further down.
    Probe,
    /// The peer has no log: it needs a snapshot.
    Empty,
    /// It no longer has what it acknowledged.
    Forgotten,
}

impl Progress {
    /// A peer of which nothing is known; `now` is counted as its first sign of life, so that a new leader or a new peer
    /// has an election timeout's grace.
    pub(crate) fn new(id: PeerId, next_index: Index, now: Instant) -> Progress {
        Progress {
            id,
            match_index: Index(0),
            next_index,
            state: ProgressState::Probe { is_paused: false },
            search: None,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            commit_sent: Index(0),
            wants_heartbeat: false,
            wants_nudge: false,
            sent_at: now,
            heartbeat_at: now,
            heard_at: now,
            matched_at: now,
            installing_until: Instant::ZERO,
            forgot_at: Instant::ZERO,
            stamp: Stamp::default(),
        }
    }

    /// How many bytes of entries the next append may hold; `None` if none may be sent now.
    pub(crate) fn append_bytes_max(
        &self,
        append_bytes_max: usize,
        inflight_bytes_max: usize,
    ) -> Option<usize> {
        match self.state {
            ProgressState::Probe { is_paused } => {
                (!is_paused && self.search.is_none()).then_some(PROBE_BYTES_MAX.min(append_bytes_max))
            }
            ProgressState::Replicate => {
                let room = inflight_bytes_max.saturating_sub(self.inflight_bytes);
                let may_send =
                    self.inflight.is_empty() || (room > 0 && self.inflight.len() < INFLIGHT_APPENDS_MAX);
                may_send.then_some(append_bytes_max.min(room.max(1)))
            }
            ProgressState::Snapshot => None,
        }
    }

    /// Gives back room that is empty.
    pub(crate) fn shrink(&mut self) {
        self.inflight.shrink_to_fit();
    }

    /// Whether entries are under way.
    pub(crate) fn has_inflight(&self) -> bool {
        !self.inflight.is_empty()
    }

    /// An append up to `last` has been sent.
    pub(crate) fn on_append_sent(&mut self, now: Instant, last: Index, bytes: usize, commit: Index) {
        match &mut self.state {
            ProgressState::Probe { is_paused } => *is_paused = true,
            ProgressState::Replicate => {
                if last >= self.next_index {
                    self.inflight.push_back(Inflight { last, bytes, sent_at: now });
                    self.inflight_bytes += bytes;
                    self.next_index = last.next();
                }
                self.commit_sent = self.commit_sent.max(commit.min(last));
            }
            ProgressState::Snapshot => {}
        }
        self.wants_nudge = false;
        self.sent_at = now;
    }

    /// A heartbeat with this commit index has been sent.
    pub(crate) fn on_heartbeat_sent(&mut self, now: Instant, commit: Index) {
        self.commit_sent = self.commit_sent.max(commit);
        self.wants_heartbeat = false;
        self.sent_at = now;
        self.heartbeat_at = now;
    }

    /// When the next heartbeat is due: an interval after anything was sent, or, if the peer is silent although
    /// something was (its disk may be slow, and appends are answered only when durable), after the last heartbeat.
    pub(crate) fn heartbeat_due(&self, interval: Duration) -> Instant {
        (self.sent_at + interval).min(self.heard_at.max(self.heartbeat_at) + interval)
    }

    /// Any answer in the leader's term: the peer is alive and recognised the leader after `stamp.sent_at`.
    pub(crate) fn on_heard(&mut self, now: Instant, stamp: Stamp) {
        self.heard_at = now;
        self.stamp.nonce = self.stamp.nonce.max(stamp.nonce);
        self.stamp.sent_at = self.stamp.sent_at.max(stamp.sent_at);
    }

    /// The peer's log matches up to `match_index`. Returns whether that is news.
    pub(crate) fn on_accepted(&mut self, now: Instant, match_index: Index, truncated: Index) -> bool {
        let is_news = match_index > self.match_index;
        if is_news {
            self.match_index = match_index;
            self.matched_at = now;
        }
        while let Some(front) = self.inflight.front().filter(|front| front.last <= match_index) {
            self.inflight_bytes -= front.bytes;
            self.inflight.pop_front();
        }
        match self.state {
            ProgressState::Probe { .. } => {
                if match_index >= self.next_index.prev() {
                    self.become_replicate(match_index);
                }
            }
            ProgressState::Replicate => self.next_index = self.next_index.max(match_index.next()),
            ProgressState::Snapshot => {
                if match_index >= truncated {
                    self.become_replicate(match_index);
                }
            }
        }
        is_news
    }

    /// The peer refused an append behind `prev_index`.
    pub(crate) fn on_rejected(
        &mut self,
        prev_index: Index,
        last_index: Index,
        hint: LogPosition,
        stamp: Stamp,
        truncated: Index,
    ) -> Rejected {
        if self.shows_loss(stamp, last_index) {
            self.forget(stamp, last_index);
            return Rejected::Forgotten;
        }
        let is_stale = match self.state {
            ProgressState::Probe { .. } => prev_index != self.next_index.prev() || self.search.is_some(),
            // Nothing was sent behind that.
            ProgressState::Replicate => prev_index >= self.next_index,
            ProgressState::Snapshot => true,
        };
        if is_stale || prev_index <= self.match_index {
            return Rejected::Stale;
        }
        if last_index == Index(0) {
            return Rejected::Empty;
        }
        let high = prev_index.prev().min(last_index).min(hint.index);
        let low = self.match_index.max(truncated);
        self.become_probe(high.next());
        self.search = Some(Box::new(HintSearch { low, high, term: hint.term }));
        Rejected::Probe
    }

    /// Only an answer to a message made after the acknowledgement arrived proves that the peer has lost what it
    /// acknowledged; an old, delayed one proves nothing (D15).
    fn shows_loss(&self, stamp: Stamp, last_index: Index) -> bool {
        last_index < self.match_index && stamp.sent_at > self.matched_at
    }

    /// Nothing that the peer has acknowledged so far counts any more.
    fn forget(&mut self, stamp: Stamp, last_index: Index) {
        self.match_index = Index(0);
        self.commit_sent = Index(0);
        self.forgot_at = stamp.sent_at;
        if !self.is_in_snapshot() {
            self.become_probe(last_index.next());
        }
    }

    /// Whether the peer has lost its memory after it answered a message with this stamp.
    pub(crate) fn has_forgotten_since(&self, stamp: Stamp) -> bool {
        stamp.sent_at < self.forgot_at
    }

    /// The peer answered a heartbeat and says where its log ends. Returns whether it has lost what it acknowledged.
    pub(crate) fn on_heartbeat_answered(
        &mut self,
        now: Instant,
        stamp: Stamp,
        last_index: Index,
        interval: Duration,
    ) -> bool {
        if self.shows_loss(stamp, last_index) {
            self.forget(stamp, last_index);
            return true;
        }
        match &mut self.state {
            ProgressState::Probe { is_paused } => {
                let is_installed = last_index >= self.next_index.prev();
                if is_installed || now >= self.installing_until {
                    // The probe under way is lost, or is answered twice, which harms nothing.
                    *is_paused = false;
                }
            }
            ProgressState::Replicate => {
                if self.inflight.front().is_some_and(|front| front.sent_at + interval <= stamp.sent_at) {
                    self.wants_nudge = true;
                }
            }
            ProgressState::Snapshot => {}
        }
        false
    }

    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.state == ProgressState::Snapshot
    }

    /// The group has slept: silence since then says nothing.
    pub(crate) fn on_woken(&mut self, now: Instant) {
        self.heard_at = now;
        self.wants_heartbeat = true;
    }

    /// Something sent was not delivered.
    pub(crate) fn on_unreachable(&mut self) {
        if self.state == ProgressState::Replicate {
            self.become_probe(self.match_index.next());
        }
    }

    pub(crate) fn become_probe(&mut self, next_index: Index) {
        self.state = ProgressState::Probe { is_paused: false };
        self.next_index = next_index;
        self.search = None;
        self.clear_inflight();
    }

    pub(crate) fn become_snapshot(&mut self) {
        self.state = ProgressState::Snapshot;
        self.search = None;
        self.clear_inflight();
    }

    /// The snapshot under way has arrived at the peer's store, up to `index`; it is installed soon.
    pub(crate) fn on_snapshot_sent(&mut self, index: Index, installing_until: Instant) {
        self.become_probe(self.match_index.max(index).next());
        self.state = ProgressState::Probe { is_paused: true };
        self.installing_until = installing_until;
    }

    /// The snapshot under way failed: another is asked for once the peer is heard.
    pub(crate) fn on_snapshot_failed(&mut self) {
        self.become_probe(self.match_index.next());
        self.state = ProgressState::Probe { is_paused: true };
    }

    /// Moves every instant to where no wait hides a behaviour: for the model check.
    #[cfg(test)]
    pub(crate) fn forget_time(&mut self) {
        let moment = crate::group::timeless::MOMENT;
        for instant in [&mut self.sent_at, &mut self.heartbeat_at, &mut self.heard_at] {
            *instant = moment;
        }
        // No peer of the model loses what it has acknowledged, so no answer may seem to show that.
        self.matched_at = moment + Duration::from_secs(1);
        self.inflight.iter_mut().for_each(|inflight| inflight.sent_at = moment);
        self.installing_until = Instant::ZERO;
        self.stamp.sent_at = Instant::ZERO;
    }

    /// For invariants.
    pub(crate) fn check(&self) {
        assert_eq!(self.inflight_bytes, self.inflight.iter().map(|inflight| inflight.bytes).sum::<usize>());
        assert!(self.inflight.iter().is_sorted_by(|left, right| left.last < right.last));
        match self.state {
            ProgressState::Replicate => assert!(self.search.is_none()),
            ProgressState::Probe { .. } | ProgressState::Snapshot => assert!(self.inflight.is_empty()),
        }
    }

    fn become_replicate(&mut self, match_index: Index) {
        self.state = ProgressState::Replicate;
        self.next_index = match_index.next();
        self.search = None;
        self.clear_inflight();
    }

    fn clear_inflight(&mut self) {
        self.inflight = VecDeque::new();
        self.inflight_bytes = 0;
        self.wants_nudge = false;
    }
}
