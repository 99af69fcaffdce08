//! How often and how soon a call is tried again.

use std::time::Duration;

use types::Instant;

use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, BACKOFFS_MAX, CALL_TIMEOUT, IMMEDIATE_RETRIES_MAX, OPERATION_TIMEOUT,
};

/// When an operation tries again, and when it stops. The default is what users of TiKV's clients know: ten delays
/// between 2 and 500 ms, 1.5 s in all. The delays have no jitter: calls that wait together leave in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delays before the operation gives up; a scan counts anew for each page that it has got.
    pub backoffs_max: u32,
    /// The first delay; each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
    /// How long a call may stay without an answer.
    pub call_timeout: Duration,
    /// After this long the operation is not tried again.
    pub operation_timeout: Duration,
    /// Whether puts and deletes whose fate is not known are tried again. Such a write may be applied twice, the second
    /// time over a later write of somebody else; it is reported as undetermined only if no attempt succeeds.
    pub retry_idempotent: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            backoffs_max: BACKOFFS_MAX,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            call_timeout: CALL_TIMEOUT,
            operation_timeout: OPERATION_TIMEOUT,
            retry_idempotent: false,
        }
    }
}

/// When the next attempt may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Now,
    /// Then.
    At(Instant),
    /// Never: the budget is spent.
    GiveUp,
}

/// The part of the budget that a call has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    backoff_count: u32,
    /// Retries without delay since the last delay.
    immediate_count: u32,
    /// When the first attempt failed.
    failing_since: Option<Instant>,
}

impl RetryPolicy {
    /// Whether its delays, one after the other, take longer than this.
    fn outlasts(&self, time: Duration) -> bool {
        let mut left = time;
        (0..self.backoffs_max).any(|count| match left.checked_sub(self.delay(count)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }

    /// The delay behind so many others.
    fn delay(&self, count: u32) -> Duration {
        self.backoff_min.saturating_mul(1 << count.min(30)).min(self.backoff_max)
    }
}

impl Budget {
    /// Tries again without delay, unless that happened too often in a row.
    pub(super) fn immediately(&mut self, policy: &RetryPolicy, started: Instant, now: Instant) -> Next {
        self.failing_since.get_or_insert(now);
        if self.immediate_count < IMMEDIATE_RETRIES_MAX {
            self.immediate_count += 1;
            return Next::Now;
        }
        self.after_delay(policy, started, now, Duration::ZERO)
    }

    /// Tries again without delay, for what is known by now was not when the last attempt was made. It counts for nothing
    /// within the time that the delays take together, so that a region that goes on splitting does not use them up.
    pub(super) fn after_progress(&mut self, policy: &RetryPolicy, started: Instant, now: Instant) -> Next {
        let since = *self.failing_since.get_or_insert(now);
        if policy.outlasts(now.since(since)) {
            return Next::Now;
        }
        self.immediately(policy, started, now)
    }

    /// Tries again after the next delay, which lasts `delay_min` at least.
    pub(super) fn after_delay(
        &mut self,
        policy: &RetryPolicy,
        started: Instant,
        now: Instant,
        delay_min: Duration,
    ) -> Next {
        self.failing_since.get_or_insert(now);
        if self.backoff_count >= policy.backoffs_max {
            return Next::GiveUp;
        }
        let at = now + policy.delay(self.backoff_count).max(delay_min);
        if at.since(started) > policy.operation_timeout {
            return Next::GiveUp;
        }
        self.backoff_count += 1;
        self.immediate_count = 0;
        Next::At(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_delays_take_a_second_and_a_half() {
        let policy = RetryPolicy::default();
        let mut budget = Budget::default();
        let mut now = Instant::from_millis(7);
        let started = now;
        let mut delays = Vec::new();
        while let Next::At(at) = budget.after_delay(&policy, started, now, Duration::ZERO) {
            delays.push(at.since(now).as_millis());
            now = at;
        }
        assert_eq!(delays, [2, 4, 8, 16, 32, 64, 128, 256, 500, 500]);
    }

    #[test]
    fn immediate_retries_turn_into_delays() {
        let policy = RetryPolicy::default();
        let mut budget = Budget::default();
        let now = Instant::ZERO;
        for _ in 0..policy.backoffs_max {
            assert_eq!(budget.immediately(&policy, now, now), Next::Now);
            assert_eq!(budget.immediately(&policy, now, now), Next::Now);
            assert!(matches!(budget.immediately(&policy, now, now), Next::At(_)));
        }
        assert_eq!(budget.immediately(&policy, now, now), Next::Now);
        assert_eq!(budget.immediately(&policy, now, now), Next::Now);
        assert_eq!(budget.immediately(&policy, now, now), Next::GiveUp);
    }

    #[test]
    fn progress_counts_for_nothing_until_the_delays_would_be_over() {
        let policy = RetryPolicy::default();
        let started = Instant::from_millis(7);
        let after = |millis| started + Duration::from_millis(millis);
        let mut budget = Budget::default();
        for millis in (0..1_510).step_by(10) {
            assert_eq!(budget.after_progress(&policy, started, after(millis)), Next::Now);
        }
        assert_eq!(budget.backoff_count, 0, "no delay is used up");
        let mut budget = Budget { failing_since: Some(started), ..Budget::default() };
        let late: Vec<Next> = (0..3).map(|_| budget.after_progress(&policy, started, after(1_510))).collect();
        assert_eq!(late, [Next::Now, Next::Now, Next::At(after(1_512))], "then it counts like anything else");
    }

    #[test]
    fn a_store_may_ask_for_a_longer_delay_and_the_deadline_ends_all() {
        let policy = RetryPolicy { operation_timeout: Duration::from_secs(3), ..RetryPolicy::default() };
        let mut budget = Budget::default();
        let second = Duration::from_secs(1);
        assert_eq!(
            budget.after_delay(&policy, Instant::ZERO, Instant::ZERO, second),
            Next::At(Instant::from_millis(1_000))
        );
        assert_eq!(
            budget.after_delay(&policy, Instant::ZERO, Instant::from_millis(2_500), second),
            Next::GiveUp
        );
    }
}
