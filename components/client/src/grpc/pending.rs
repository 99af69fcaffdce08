//! Calls that have left and are waited for, by the number that their request carries.

use std::time::Instant;

use tokio::sync::oneshot;

use super::message::Outcomes;

/// Who waits for an answer, and how long.
pub(super) struct Waiter {
    pub(super) reply: oneshot::Sender<Outcomes>,
    pub(super) deadline: Instant,
}

/// A slab of waiters. A number names a slot and its generation, so that an answer that comes after its time has passed
/// does not reach the slot's next tenant.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    waiter: Option<Waiter>,
}

impl Pending {
    /// Keeps a waiter and returns the number that its request gets.
    pub(super) fn insert(&mut self, waiter: Waiter) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer calls are under way than 32 bits can number")
        });
        let slot = &mut self.slots[at as usize];
        slot.waiter = Some(waiter);
        (u64::from(slot.generation) << 32) | u64::from(at)
    }

    /// The waiter with this number, if it still waits.
    pub(super) fn take(&mut self, number: u64) -> Option<Waiter> {
        let at = u32::try_from(number & u64::from(u32::MAX)).expect("the upper half is masked");
        let slot =
            self.slots.get_mut(at as usize).filter(|slot| u64::from(slot.generation) == number >> 32)?;
        let waiter = slot.waiter.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at);
        Some(waiter)
    }

    /// Removes every waiter whose time has passed.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Waiter> {
        self.take_where(|waiter| waiter.deadline <= now)
    }

    /// Removes every waiter.
    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        self.take_where(|_| true)
    }

    fn take_where(&mut self, is_wanted: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for (at, slot) in (0..).zip(&mut self.slots) {
            if slot.waiter.as_ref().is_some_and(&is_wanted) {
                taken.extend(slot.waiter.take());
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(at);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn waiter(deadline: Instant) -> Waiter {
        Waiter { reply: oneshot::channel().0, deadline }
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_tenant() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let early = pending.insert(waiter(now));
        let late = pending.insert(waiter(now + Duration::from_secs(1)));
        assert_eq!(pending.take_expired(now).len(), 1);
        let tenant = pending.insert(waiter(now));
        assert_eq!(early & 0xffff_ffff, tenant & 0xffff_ffff);
        assert!(pending.take(early).is_none());
        assert!(pending.take(tenant).is_some());
        assert!(pending.take(tenant).is_none());
        assert_eq!(pending.slots.len() - pending.free.len(), 1);
        assert!(pending.take(late).is_some());
        assert_eq!(pending.slots.len(), pending.free.len());
        assert!(pending.take(u64::MAX).is_none());
    }
}
