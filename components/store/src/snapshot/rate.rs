//! How fast snapshots may leave: moving data takes what foreground writes leave, not the other way round.

use std::time::Duration;

use types::Instant;

/// So much of a second may be made up for at once, when nothing was sent for a while.
const BURST: Duration = Duration::from_millis(50);

/// A bound of bytes a second.
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When what was sent so far would have been sent at the full rate.
    paid_until: Instant,
    /// Whether somebody was told to wait.
    is_waited_for: bool,
}

impl Rate {
    pub(super) fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second, paid_until: Instant::ZERO, is_waited_for: false }
    }

    /// A round begins: whoever was told to wait asks again, or is gone.
    pub(super) fn begin(&mut self) {
        self.is_waited_for = false;
    }

    /// Whether something may be sent now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        self.paid_until = self.paid_until.max(now - BURST);
        self.is_waited_for = self.paid_until > now;
        !self.is_waited_for
    }

    pub(super) fn on_sent(&mut self, bytes: usize) {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.paid_until += Duration::from_nanos(nanos);
    }

    /// When those who were told to wait may go on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_waited_for.then_some(self.paid_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sends_a_seconds_bytes_and_a_pause_gives_a_short_burst() {
        let mut rate = Rate::new(1_000_000);
        let mut sent = 0;
        for millis in 10_000..11_000 {
            while rate.allows(Instant::from_millis(millis)) {
                rate.on_sent(1_000);
                sent += 1_000;
            }
            assert!(rate.deadline().is_some(), "there is more to send");
        }
        assert!((1_040_000..=1_060_000).contains(&sent), "{sent}");
    }

    #[test]
    fn who_was_told_to_wait_and_is_gone_leaves_no_deadline_behind() {
        let mut rate = Rate::new(1_000_000);
        let now = Instant::from_millis(10_000);
        while rate.allows(now) {
            rate.on_sent(1_000);
        }
        assert!(rate.deadline().is_some());
        rate.begin();
        assert_eq!(rate.deadline(), None, "its worker would run without end");
    }
}
