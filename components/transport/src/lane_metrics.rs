//! Handles of the metrics of one lane.

use metrics::{Counter, Gauge, counter, gauge};
use store::Lane;
use telemetry::names;

/// What is counted of a lane, over all other stores.
pub(crate) struct LaneMetrics {
    lane: &'static str,
    pub(crate) frames_sent: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) frames_received: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) queue_bytes: Gauge,
    pub(crate) connects: Counter,
    dropped_queue_full: Counter,
    dropped_no_room: Counter,
    dropped_unknown: Counter,
    dropped_unreachable: Counter,
    dropped_too_large: Counter,
}

/// Why a message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// The lane's queue is at its bound.
    QueueFull,
    /// The store's ledger has no room (D12).
    NoRoom,
    /// The store has no address.
    Unknown,
    /// The store cannot be reached.
    Unreachable,
    /// No frame can hold it.
    TooLarge,
}

impl LaneMetrics {
    pub(crate) fn new(lane: Lane) -> LaneMetrics {
        let lane = name_of(lane);
        let dropped =
            |reason: &'static str| counter!(names::TRANSPORT_DROPPED, "lane" => lane, "reason" => reason);
        LaneMetrics {
            lane,
            frames_sent: counter!(names::TRANSPORT_FRAMES_SENT, "lane" => lane),
            messages_sent: counter!(names::TRANSPORT_MESSAGES_SENT, "lane" => lane),
            bytes_sent: counter!(names::TRANSPORT_SENT_BYTES, "lane" => lane),
            frames_received: counter!(names::TRANSPORT_FRAMES_RECEIVED, "lane" => lane),
            messages_received: counter!(names::TRANSPORT_MESSAGES_RECEIVED, "lane" => lane),
            bytes_received: counter!(names::TRANSPORT_RECEIVED_BYTES, "lane" => lane),
            queue_bytes: gauge!(names::TRANSPORT_QUEUE_BYTES, "lane" => lane),
            connects: counter!(names::TRANSPORT_CONNECTS, "lane" => lane),
            dropped_queue_full: dropped("queue_full"),
            dropped_no_room: dropped("no_room"),
            dropped_unknown: dropped("unknown_store"),
            dropped_unreachable: dropped("unreachable"),
            dropped_too_large: dropped("too_large"),
        }
    }

    pub(crate) fn on_dropped(&self, reason: DropReason, count: usize) {
        let counter = match reason {
            DropReason::QueueFull => &self.dropped_queue_full,
            DropReason::NoRoom => &self.dropped_no_room,
            DropReason::Unknown => &self.dropped_unknown,
            DropReason::Unreachable => &self.dropped_unreachable,
            DropReason::TooLarge => &self.dropped_too_large,
        };
        counter.increment(count as u64);
    }

    pub(crate) fn on_failure(&self, how: &'static str) {
        counter!(names::TRANSPORT_FAILURES, "lane" => self.lane, "how" => how).increment(1);
    }
}

/// The place of a lane in arrays.
pub(crate) const fn place_of(lane: Lane) -> usize {
    match lane {
        Lane::Liveness => 0,
        Lane::Append => 1,
        Lane::Snapshot => 2,
    }
}

/// A lane's name in metrics and log lines.
pub(crate) const fn name_of(lane: Lane) -> &'static str {
    match lane {
        Lane::Liveness => "liveness",
        Lane::Append => "append",
        Lane::Snapshot => "snapshot",
    }
}
