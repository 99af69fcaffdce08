//! From what came back to what is done next: the table of errors.

use std::time::Duration;

use bytes::Bytes;
use types::Region;

use super::{
    Action, Answer, CallError, Cause, Instant, Next, Operation, PartId, RegionCache, Reply, Stage, Target,
    Work, work,
};
use crate::{
    core::RegionError,
    limits::{PAGE_BYTES, PAIRS_MAX},
};

/// What an error makes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was done: again at once.
    Now,
    /// Nothing was done, and the store has told how the region is: again at once.
    Learnt,
    /// The same, and a newer region than ever before is known to hold the key: again at once, without counting it.
    Newer,
    /// Nothing was done: again after a delay of this length at least.
    Later(Duration),
    /// It may have been done: again after a delay, where that is allowed.
    Unknown,
    /// Nothing was done, and trying again would not help.
    Final,
}

impl Operation {
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        cache: &mut RegionCache,
        id: PartId,
        result: Result<Reply, CallError>,
        actions: &mut Vec<Action>,
    ) {
        let part = &mut self.parts[id.0];
        let Stage::Calling(target) = std::mem::replace(&mut part.stage, Stage::Over) else {
            panic!("the part has called a store");
        };
        self.calling_count -= 1;
        part.is_sent |= !matches!(result, Err(CallError::NotSent(_)));
        match result {
            Ok(reply) => self.on_reply(cache, id, &target, reply),
            Err(error) => {
                let mut verdict = judge(cache, &target, &error);
                if verdict == Verdict::Learnt && part.has_newer_region(cache, &target) {
                    verdict = Verdict::Newer;
                }
                part.note_refusal(&target, &error);
                if matches!(error, CallError::Region(RegionError::Other(_))) {
                    // The protocol has no word for an answer that is too large: perhaps it was that.
                    part.pairs_max = (part.pairs_max / 4).max(1);
                }
                self.on_error(now, id, verdict, Cause::from(error), actions);
            }
        }
    }

    fn on_reply(&mut self, cache: &mut RegionCache, id: PartId, target: &Target, reply: Reply) {
        if target.route.leader != Some(target.peer) {
            cache.set_leader(target.route.region.id, target.peer);
        }
        let part = &mut self.parts[id.0];
        let is_over = match (&mut part.work, &target.page, &reply) {
            (Work::Scan(scan), Some(page), Reply::Read(Answer::Pairs(pairs))) => {
                let last_key = pairs.last().map(|(key, _)| key);
                let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
                // A cursor that is moved by a key outside the page might never arrive.
                if count > page.limit || last_key.is_some_and(|key| !page.range.contains_key(key)) {
                    return self.fail(id, Cause::Malformed("it has pairs that were not asked for"));
                }
                part.pairs_max = pairs_of_size(pairs).unwrap_or(part.pairs_max);
                !work::advance(scan, page, count, last_key)
            }
            _ => true,
        };
        if let Err(cause) = self.gather.add(&part.work, reply) {
            part.is_unknown = true;
            return self.fail(id, cause);
        }
        part.is_unknown = false;
        if is_over || self.failure.is_some() {
            self.applied_count += 1;
            self.end_part(id);
        } else {
            part.budget = super::Budget::default();
            part.refused.clear();
            part.version_seen = 0;
            self.route_later(id);
        }
    }

    fn on_error(
        &mut self,
        now: Instant,
        id: PartId,
        verdict: Verdict,
        cause: Cause,
        actions: &mut Vec<Action>,
    ) {
        let part = &mut self.parts[id.0];
        let (policy, started) = (&self.policy, self.started);
        let next = match verdict {
            Verdict::Now | Verdict::Learnt => part.budget.immediately(policy, started, now),
            Verdict::Newer => part.budget.after_progress(policy, started, now),
            Verdict::Later(delay) => part.budget.after_delay(policy, started, now, delay),
            Verdict::Unknown => {
                part.is_unknown = true;
                if self.may_repeat {
                    part.budget.after_delay(policy, started, now, Duration::ZERO)
                } else {
                    Next::GiveUp
                }
            }
            Verdict::Final => Next::GiveUp,
        };
        self.try_again(id, next, cause, actions);
    }
}

/// How many pairs like these make a page.
fn pairs_of_size(pairs: &[(Bytes, Bytes)]) -> Option<u32> {
    let size_bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    let count = PAGE_BYTES.checked_mul(pairs.len())?.checked_div(size_bytes)?;
    Some(u32::try_from(count).unwrap_or(u32::MAX).clamp(1, PAIRS_MAX))
}

/// Tells the cache what an error teaches, and says what it means for the call.
fn judge(cache: &mut RegionCache, target: &Target, error: &CallError) -> Verdict {
    let (id, stamp) = (target.route.region.id, target.route.stamp);
    match error {
        CallError::Region(error) => judge_region_error(cache, target, error),
        CallError::Refused(_) => Verdict::Final,
        CallError::NotSent(_) => {
            cache.doubt(id, stamp);
            Verdict::Later(Duration::ZERO)
        }
        CallError::Unanswered(_) => {
            cache.doubt(id, stamp);
            Verdict::Unknown
        }
    }
}

fn judge_region_error(cache: &mut RegionCache, target: &Target, error: &RegionError) -> Verdict {
    let (id, stamp) = (target.route.region.id, target.route.stamp);
    match error {
        RegionError::NotLeader { leader: Some(leader) } => {
            // A leader that the cached descriptor lacks came with a change of peers that is not known here yet.
            if !cache.set_leader(id, *leader) {
                cache.forget(id, stamp);
            }
            Verdict::Now
        }
        RegionError::NotLeader { leader: None } => {
            cache.doubt(id, stamp);
            Verdict::Later(Duration::ZERO)
        }
        RegionError::EpochNotMatch { current } => learn_epoch(cache, target, current),
        RegionError::StoreNotMatch
        | RegionError::RegionNotFound
        | RegionError::PeerMismatch
        | RegionError::NotInitialized
        | RegionError::StaleTerm
        | RegionError::KeyNotInRegion
        | RegionError::Other(_) => {
            cache.forget(id, stamp);
            Verdict::Later(Duration::ZERO)
        }
        RegionError::Busy { retry_after, .. } => Verdict::Later(*retry_after),
        RegionError::DiskFull | RegionError::ReadIndexNotReady => Verdict::Later(Duration::ZERO),
        RegionError::EntryTooLarge { .. } => Verdict::Final,
        RegionError::Undetermined(_) => Verdict::Unknown,
    }
}

/// Learns the region's new descriptor and its siblings'.
fn learn_epoch(cache: &mut RegionCache, target: &Target, current: &[Region]) -> Verdict {
    let known = &target.route.region;
    let is_behind = |region: &Region| region.id == known.id && !region.epoch.covers(known.epoch);
    if current.iter().any(is_behind) {
        // The peer has not applied yet what this client has seen elsewhere: it needs time, not another descriptor.
        return Verdict::Later(Duration::ZERO);
    }
    cache.forget(known.id, target.route.stamp);
    for region in current {
        // The first leader of a split's child is the proposer's peer, so it lives on the store that has just answered.
        cache.insert(region.clone(), region.find_peer_on(target.peer.store_id));
    }
    Verdict::Learnt
}

impl From<CallError> for Cause {
    fn from(error: CallError) -> Cause {
        match error {
            CallError::Region(error) => Cause::Region(error),
            CallError::Refused(reason) => Cause::Refused(reason),
            CallError::NotSent(reason) => Cause::NotSent(reason),
            CallError::Unanswered(reason) => Cause::Unanswered(reason),
        }
    }
}
