//! One request of the application under way.
//!
//! The driver feeds [`Event`]s to [`Operation::step`] and carries out the [`Action`]s that come back. It owes exactly one
//! event for each action, save for `Finish`, which is the last:
//!
//! | action | event |
//! | --- | --- |
//! | `Send` | `Answer`, at the latest after the policy's `call_timeout` |
//! | `LookUp` | `LookedUp`, once what placement said is in the cache |
//! | `Wait` | `Wake` |
//!
//! An operation is cut into parts, one for each region that it touches; parts retry on their own and run at once, a
//! scan's pages one after another. A part whose region turns out to have been split is cut again.
//!
//! Caveats: a batch over several regions is not atomic. If one part of a write has failed while another has been applied,
//! the whole is reported as undetermined.

use std::collections::VecDeque;

use types::{Answer, Instant, Peer, PeerId, Region, Scan};

use super::{
    Call, CallError, Position, RegionCache, RegionError, Reply, RetryPolicy, Route, Work,
    gather::Gather,
    retry::{Budget, Next},
    work,
};
use crate::{
    Cause, Error, Result,
    limits::{CALLS_IN_FLIGHT_MAX, PAIRS_MAX},
};

mod answer;
#[cfg(test)]
mod tests;

/// Names one part of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId(usize);

/// What happens to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins; the first event, given once.
    Start,
    /// A call has been answered, or will not be.
    Answer {
        /// Which part's.
        part: PartId,
        /// What came back.
        result: std::result::Result<Reply, CallError>,
    },
    /// Placement has been asked; what it said is in the cache already.
    LookedUp {
        /// For which part.
        part: PartId,
        /// Why there is no answer.
        result: std::result::Result<(), String>,
    },
    /// The time has come.
    Wake {
        /// For which part.
        part: PartId,
    },
}

/// What an operation wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a call to the store `call.peer.store_id`.
    Send {
        /// For which part.
        part: PartId,
        /// The call.
        call: Call,
    },
    /// Ask placement which region is at a position and insert it into the cache.
    LookUp {
        /// For which part.
        part: PartId,
        /// The position.
        position: Position,
        /// If [`RegionCache::is_newer`] than this, somebody else has asked already, and placement need not be.
        newer_than: u64,
    },
    /// Come back later.
    Wait {
        /// For which part.
        part: PartId,
        /// When.
        until: Instant,
    },
    /// It is over; no event is expected any more.
    Finish(Result<Reply>),
}

/// A request of the application under way.
#[derive(Debug)]
pub struct Operation {
    policy: RetryPolicy,
    started: Instant,
    is_write: bool,
    may_repeat: bool,
    parts: Vec<Part>,
    to_route: VecDeque<PartId>,
    calling_count: usize,
    open_count: usize,
    applied_count: usize,
    gather: Gather,
    failure: Option<Cause>,
    is_finished: bool,
}

/// What one region is asked.
#[derive(Debug)]
struct Part {
    work: Work,
    stage: Stage,
    budget: Budget,
    /// Pairs that a call of a read asks for at the most: an answer that is too large is refused, not cut short.
    pairs_max: u32,
    /// Who was said to lead when the last attempt was made.
    named: Option<PeerId>,
    /// Peers that were asked in vain, oldest first: each voter is asked once before one is asked again. Placement goes on
    /// naming the last leader while it knows of no other; only another name is news.
    refused: Vec<PeerId>,
    /// The highest version of a region that was known to hold its key, since it went on last.
    version_seen: u64,
    /// Whether an attempt has left the client.
    is_sent: bool,
    /// Whether an attempt may have been applied.
    is_unknown: bool,
}

/// Where a part stands.
#[derive(Debug)]
enum Stage {
    /// Waits for its turn to be routed.
    ToRoute,
    /// Placement has been asked.
    LookingUp,
    /// Waits before the next attempt.
    Waiting,
    /// A store has been asked.
    Calling(Target),
    /// Over, with or without a reply.
    Over,
}

/// Whom a call went to, and from which route.
#[derive(Debug)]
struct Target {
    route: Route,
    peer: Peer,
    /// Of a scan: the page that was asked for.
    page: Option<Scan>,
}

impl Operation {
    /// An operation that begins with [`Event::Start`].
    #[must_use]
    pub fn new(mut work: Work, policy: RetryPolicy) -> Operation {
        work.sort();
        let mut operation = Operation {
            policy,
            started: Instant::ZERO,
            is_write: work.is_write(),
            may_repeat: !work.is_write() || (policy.retry_idempotent && work.is_idempotent()),
            parts: Vec::with_capacity(1),
            to_route: VecDeque::with_capacity(1),
            calling_count: 0,
            open_count: 0,
            applied_count: 0,
            gather: Gather::new(&work),
            failure: None,
            is_finished: false,
        };
        if !work.is_empty() {
            operation.add_part(Part::new(work));
        }
        operation
    }

    /// Whether `Finish` has been emitted.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Takes one event in and appends what is to be done to `actions`.
    ///
    /// # Panics
    ///
    /// If the driver gives an event that it does not owe.
    pub fn step(&mut self, now: Instant, cache: &mut RegionCache, event: Event, actions: &mut Vec<Action>) {
        assert!(!self.is_finished, "the operation is finished");
        match event {
            Event::Start => self.started = now,
            Event::Answer { part, result } => self.on_answer(now, cache, part, result, actions),
            Event::LookedUp { part, result } => self.on_looked_up(now, part, result, actions),
            Event::Wake { part } => {
                assert!(matches!(self.parts[part.0].stage, Stage::Waiting), "the part waits");
                self.route_later(part);
            }
        }
        self.route_parts(cache, actions);
        self.finish_if_over(actions);
    }

    fn on_looked_up(
        &mut self,
        now: Instant,
        id: PartId,
        result: std::result::Result<(), String>,
        actions: &mut Vec<Action>,
    ) {
        assert!(matches!(self.parts[id.0].stage, Stage::LookingUp), "the part has asked placement");
        match result {
            Ok(()) => self.route_later(id),
            Err(reason) => {
                let part = &mut self.parts[id.0];
                let next =
                    part.budget.after_delay(&self.policy, self.started, now, std::time::Duration::ZERO);
                self.try_again(id, next, Cause::Placement(reason), actions);
            }
        }
    }

    /// Lets a part try again, or ends the operation if its budget is spent.
    fn try_again(&mut self, id: PartId, next: Next, cause: Cause, actions: &mut Vec<Action>) {
        match next {
            _ if self.failure.is_some() => self.end_part(id),
            Next::Now => self.route_later(id),
            Next::At(until) => {
                self.parts[id.0].stage = Stage::Waiting;
                actions.push(Action::Wait { part: id, until });
            }
            Next::GiveUp => self.fail(id, cause),
        }
    }

    /// Ends the operation: calls under way are still waited for, since they decide what is said about a write.
    fn fail(&mut self, id: PartId, cause: Cause) {
        self.end_part(id);
        self.failure.get_or_insert(cause);
    }

    fn end_part(&mut self, id: PartId) {
        self.parts[id.0].stage = Stage::Over;
        self.open_count -= 1;
    }

    fn add_part(&mut self, part: Part) {
        let id = PartId(self.parts.len());
        self.parts.push(part);
        self.open_count += 1;
        self.to_route.push_back(id);
    }

    fn route_later(&mut self, id: PartId) {
        self.parts[id.0].stage = Stage::ToRoute;
        self.to_route.push_back(id);
    }

    fn route_parts(&mut self, cache: &RegionCache, actions: &mut Vec<Action>) {
        while self.failure.is_none() && self.calling_count < CALLS_IN_FLIGHT_MAX {
            let Some(id) = self.to_route.pop_front() else { return };
            self.route(id, cache, actions);
        }
    }

    /// Sends a part to the peer that should lead its region, or asks placement which region that is.
    fn route(&mut self, id: PartId, cache: &RegionCache, actions: &mut Vec<Action>) {
        let part = &mut self.parts[id.0];
        let position = part.work.position();
        let route = cache.find(&position).filter(|route| !route.is_stale);
        let Some((route, peer)) = route.and_then(|route| Some((route, part.choose_peer(route)?))) else {
            part.stage = Stage::LookingUp;
            actions.push(Action::LookUp { part: id, position, newer_than: cache.last_stamp() });
            return;
        };
        let rest = part.work.cut(&route.region.range, part.pairs_max);
        let work = part.work.page(&route.region.range, part.pairs_max);
        let page = if let Work::Scan(scan) = &work { Some(scan.clone()) } else { None };
        part.stage = Stage::Calling(Target { route: route.clone(), peer, page });
        actions.push(Action::Send { part: id, call: Call { region: route.region.clone(), peer, work } });
        self.calling_count += 1;
        if let Some(rest) = rest {
            // What an earlier attempt may have done with the whole, it may have done with each half.
            let Part { budget, pairs_max, is_unknown, .. } = self.parts[id.0];
            let half = Part { budget, pairs_max, is_unknown, ..Part::new(rest) };
            self.add_part(half);
        }
    }

    fn finish_if_over(&mut self, actions: &mut Vec<Action>) {
        let result = match self.failure.take() {
            Some(cause) if self.calling_count > 0 => {
                self.failure = Some(cause);
                return;
            }
            Some(cause) => Err(self.classify(cause)),
            None if self.open_count > 0 => return,
            None => self.gather.finish().map_err(|cause| self.classify(cause)),
        };
        self.is_finished = true;
        actions.push(Action::Finish(result));
    }

    /// Says what a cause means for the effect of the whole operation.
    fn classify(&self, cause: Cause) -> Error {
        let is_unknown = self.parts.iter().any(|part| part.is_unknown);
        if self.is_write && (is_unknown || self.applied_count > 0) {
            return Error::Undetermined(cause);
        }
        if self.parts.iter().any(|part| part.is_sent) {
            return Error::Failed(cause);
        }
        Error::TimedOutBeforeSending(cause)
    }
}

impl Part {
    fn new(work: Work) -> Part {
        Part {
            work,
            stage: Stage::ToRoute,
            budget: Budget::default(),
            pairs_max: PAIRS_MAX,
            named: None,
            refused: Vec::new(),
            version_seen: 0,
            is_sent: false,
            is_unknown: false,
        }
    }

    /// The leader; where it is not known, or has been asked in vain and is no news, the first voter that has not been asked:
    /// a peer that does not lead names the leader if it knows it.
    fn choose_peer(&mut self, route: &Route) -> Option<Peer> {
        let named = route.leader.map(|leader| leader.id);
        let is_news = named != std::mem::replace(&mut self.named, named);
        let is_unasked = |peer: &Peer| !self.refused.contains(&peer.id);
        let voters = || route.region.peers.iter().copied().filter(is_voter);
        let leader = route.leader.filter(|leader| is_news || is_unasked(leader));
        let voter = || voters().find(is_unasked).or_else(|| voters().next());
        leader.or_else(voter).or_else(|| route.region.peers.first().copied())
    }

    /// Whether the region that is known to hold the key now has a higher version than any before it. It cannot be so without
    /// end: each time the region has been divided once more.
    fn has_newer_region(&mut self, cache: &RegionCache, target: &Target) -> bool {
        let seen = self.version_seen.max(target.route.region.epoch.version);
        let found = cache.find(&self.work.position()).map_or(0, |route| route.region.epoch.version);
        self.version_seen = seen.max(found);
        found > seen
    }

    /// Notes what an error says of the peers that may lead.
    fn note_refusal(&mut self, target: &Target, error: &CallError) {
        let asked = target.peer.id;
        match error {
            CallError::NotSent(_) | CallError::Unanswered(_) => self.refuse(asked, &target.route.region),
            CallError::Region(RegionError::NotLeader { leader }) => {
                self.refuse(asked, &target.route.region);
                self.refused.retain(|refused| leader.is_none_or(|leader| leader.id != *refused));
            }
            CallError::Region(_) | CallError::Refused(_) => self.refused.clear(),
        }
    }

    /// Once no voter is left, all but the last one may be asked again.
    fn refuse(&mut self, asked: PeerId, region: &Region) {
        let mut voters = region.peers.iter().filter(|peer| is_voter(peer));
        if voters.all(|peer| peer.id == asked || self.refused.contains(&peer.id)) {
            self.refused.clear();
        }
        self.refused.push(asked);
    }
}

fn is_voter(peer: &Peer) -> bool {
    peer.role != types::PeerRole::Learner
}
