//! Time as a port.

use types::{Instant, WallTime};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Never runs back; counts the time in which the machine was suspended.
    fn monotonic(&self) -> Instant;

    /// May jump either way; only for timestamps, expiry and display.
    fn wall(&self) -> WallTime;

    /// Both readings, the monotonic one first.
    fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: self.wall() }
    }
}

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic reading.
    pub monotonic: Instant,
    /// The wall reading.
    pub wall: WallTime,
}
