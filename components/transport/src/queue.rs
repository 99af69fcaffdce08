//! What waits to be sent to one store on one lane.

use std::sync::Arc;

use parking_lot::Mutex;
use store::{Account, Lane, Ledger, Reservation, StoreMessage};
use tokio::sync::Notify;

use crate::{
    codec::{own_size_of, size_of},
    lane_metrics::{DropReason, LaneMetrics},
    limits::queue_bytes_max,
};

/// A bounded queue, filled by the store's threads and emptied by the lane's task.
pub(crate) struct LaneQueue {
    bytes_max: usize,
    metrics: Arc<LaneMetrics>,
    state: Mutex<State>,
    filled: Notify,
}

struct State {
    messages: Vec<StoreMessage>,
    /// Bytes of messages that are queued, or taken and not yet part of a frame.
    bytes: usize,
    /// What of these the store's ledger does not count already; `None` before the first message.
    reservation: Option<Reservation>,
    /// Raised with every connection: a stream of an older one gets nothing any more.
    generation: u64,
    /// The last attempt to reach the store failed.
    is_down: bool,
}

impl LaneQueue {
    pub(crate) fn new(lane: Lane, metrics: Arc<LaneMetrics>) -> LaneQueue {
        let state =
            State { messages: Vec::new(), bytes: 0, reservation: None, generation: 0, is_down: false };
        LaneQueue {
            bytes_max: queue_bytes_max(lane),
            metrics,
            state: Mutex::new(state),
            filled: Notify::new(),
        }
    }

    /// Adds messages, as many as fit into the queue and into the store's ledger.
    pub(crate) fn push(&self, messages: Vec<StoreMessage>, ledger: Option<&Arc<Ledger>>) {
        let (mut dropped, mut unreserved) = (0, 0);
        {
            let mut state = self.state.lock();
            if state.is_down {
                drop(state);
                self.metrics.on_dropped(DropReason::Unreachable, messages.len());
                return;
            }
            for message in messages {
                let bytes = size_of(&message);
                // The first message of an empty queue always fits: no bound may stop a large entry for ever.
                if state.bytes > 0 && state.bytes + bytes > self.bytes_max {
                    dropped += 1;
                    continue;
                }
                if !state.reserve(own_size_of(&message), ledger) {
                    unreserved += 1;
                    continue;
                }
                state.bytes += bytes;
                state.messages.push(message);
            }
            self.metrics.queue_bytes.set(state.bytes as f64);
        }
        if dropped > 0 {
            self.metrics.on_dropped(DropReason::QueueFull, dropped);
        }
        if unreserved > 0 {
            self.metrics.on_dropped(DropReason::NoRoom, unreserved);
        }
        self.filled.notify_one();
    }

    /// Waits for messages and takes all; `None` once a newer connection has begun.
    pub(crate) async fn take(&self, generation: u64) -> Option<Vec<StoreMessage>> {
        loop {
            {
                let mut state = self.state.lock();
                if state.generation != generation {
                    drop(state);
                    // The permit may have been meant for the newer stream.
                    self.filled.notify_one();
                    return None;
                }
                if !state.messages.is_empty() {
                    return Some(std::mem::take(&mut state.messages));
                }
            }
            self.filled.notified().await;
        }
    }

    /// `bytes` of messages, of which `own_bytes` are counted here alone, that the stream of this generation took have
    /// become part of a frame, or were dropped.
    pub(crate) fn release(&self, generation: u64, bytes: usize, own_bytes: usize) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.bytes = state.bytes.saturating_sub(bytes);
            if let Some(reservation) = &mut state.reservation {
                let left = reservation.bytes().saturating_sub(own_bytes as u64);
                reservation.shrink_to(left);
            }
            self.metrics.queue_bytes.set(state.bytes as f64);
        }
    }

    /// A connection is about to be tried: names its stream.
    pub(crate) fn on_connecting(&self) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        state.generation
    }

    /// The lane is open.
    pub(crate) fn on_open(&self) {
        self.state.lock().is_down = false;
    }

    /// The connection failed: what waits would be stale when it is back.
    pub(crate) fn on_down(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.is_down = true;
            state.generation += 1;
            state.bytes = 0;
            state.reservation = None;
            std::mem::take(&mut state.messages).len()
        };
        self.metrics.on_dropped(DropReason::Unreachable, dropped);
        self.filled.notify_one();
    }
}

impl State {
    /// Whether the ledger has room for so much more.
    fn reserve(&mut self, bytes: usize, ledger: Option<&Arc<Ledger>>) -> bool {
        let Some(ledger) = ledger else { return true };
        self.reservation.get_or_insert_with(|| ledger.empty(Account::Transport)).grow(bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use store::PlacementMessage;

    use super::*;

    fn queue(lane: Lane) -> LaneQueue {
        LaneQueue::new(lane, Arc::new(LaneMetrics::new(lane)))
    }

    fn message(id: u64, bytes: usize) -> StoreMessage {
        StoreMessage::Placement(PlacementMessage {
            id,
            is_response: false,
            body: Bytes::from(vec![0; bytes]),
        })
    }

    fn ids(messages: Option<Vec<StoreMessage>>) -> Vec<u64> {
        let id_of = |message| match message {
            StoreMessage::Placement(message) => message.id,
            other @ (StoreMessage::Raft(_)
            | StoreMessage::Beat(_)
            | StoreMessage::Snapshot(_)
            | StoreMessage::Membership(_)
            | StoreMessage::Sleep(_)) => {
                panic!("unexpected {other:?}")
            }
        };
        messages.unwrap_or_default().into_iter().map(id_of).collect()
    }

    #[test]
    fn everything_that_waits_is_taken_together_in_order() {
        let queue = queue(Lane::Append);
        let stream = queue.on_connecting();
        queue.push(vec![message(1, 10), message(2, 10)], None);
        queue.push(vec![message(3, 10)], None);
        assert_eq!(ids(queue.take(stream).now_or_never().flatten()), [1, 2, 3]);
        assert!(queue.take(stream).now_or_never().is_none(), "nothing is left");
    }

    #[test]
    fn what_does_not_fit_is_dropped_until_there_is_room_again() {
        let queue = queue(Lane::Liveness);
        let stream = queue.on_connecting();
        let half = queue_bytes_max(Lane::Liveness) / 2 + 1;
        queue.push(vec![message(1, half), message(2, half), message(3, 1)], None);
        assert_eq!(ids(queue.take(stream).now_or_never().flatten()), [1, 3]);
        queue.push(vec![message(4, half)], None);
        assert!(queue.take(stream).now_or_never().is_none(), "taken is not sent yet");
        queue.release(stream, 2 * half, 0);
        queue.push(vec![message(5, half)], None);
        assert_eq!(ids(queue.take(stream).now_or_never().flatten()), [5]);
    }

    #[test]
    fn a_message_larger_than_the_queue_passes_alone() {
        let queue = queue(Lane::Liveness);
        let stream = queue.on_connecting();
        queue.push(vec![message(1, queue_bytes_max(Lane::Liveness) * 2), message(2, 1)], None);
        assert_eq!(ids(queue.take(stream).now_or_never().flatten()), [1]);
    }

    #[test]
    fn a_stream_that_is_over_gets_nothing_and_nothing_waits_for_a_store_that_is_down() {
        let queue = queue(Lane::Append);
        let old = queue.on_connecting();
        queue.push(vec![message(1, 1)], None);
        queue.on_down();
        queue.push(vec![message(2, 1)], None);
        assert_eq!(queue.take(old).now_or_never().map(|taken| taken.is_none()), Some(true));
        let new = queue.on_connecting();
        queue.on_open();
        queue.push(vec![message(3, 1)], None);
        assert_eq!(ids(queue.take(new).now_or_never().flatten()), [3]);
    }

    #[test]
    fn what_waits_is_in_the_stores_ledger_until_it_is_sent_or_given_up() {
        let queue = queue(Lane::Liveness);
        let ledger = Ledger::new(4_096);
        let stream = queue.on_connecting();
        queue.push(vec![message(1, 1_000), message(2, 1_000), message(3, 3_000)], Some(&ledger));
        let reserved = ledger.account_bytes(Account::Transport);
        assert!((2_000..3_000).contains(&reserved), "{reserved}: there is no room for the third");
        assert_eq!(ids(queue.take(stream).now_or_never().flatten()), [1, 2]);
        assert_eq!(ledger.reserved_bytes(), reserved, "taken is not sent yet");
        queue.release(stream, 0, 1_000);
        assert_eq!(ledger.reserved_bytes(), reserved - 1_000);
        queue.on_down();
        assert_eq!(ledger.reserved_bytes(), 0);
    }
}
