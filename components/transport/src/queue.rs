//! What waits to be sent to one store on one lane.

use std::sync::Arc;

use parking_lot::Mutex;
use store::{Lane, StoreMessage};
use tokio::sync::Notify;

use crate::{
    codec::size_of,
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
    /// Raised with every connection: a stream of an older one gets nothing any more.
    generation: u64,
    /// The last attempt to reach the store failed.
    is_down: bool,
}

impl LaneQueue {
    pub(crate) fn new(lane: Lane, metrics: Arc<LaneMetrics>) -> LaneQueue {
        let state = State { messages: Vec::new(), bytes: 0, generation: 0, is_down: false };
        LaneQueue {
            bytes_max: queue_bytes_max(lane),
            metrics,
            state: Mutex::new(state),
            filled: Notify::new(),
        }
    }

    /// Adds messages, as many as fit.
    pub(crate) fn push(&self, messages: Vec<StoreMessage>) {
        let mut dropped = 0;
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
                state.bytes += bytes;
                state.messages.push(message);
            }
            self.metrics.queue_bytes.set(state.bytes as f64);
        }
        if dropped > 0 {
            self.metrics.on_dropped(DropReason::QueueFull, dropped);
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

    /// `bytes` of messages that the stream of this generation took have become part of a frame, or were dropped.
    pub(crate) fn release(&self, generation: u64, bytes: usize) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.bytes = state.bytes.saturating_sub(bytes);
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
            std::mem::take(&mut state.messages).len()
        };
        self.metrics.on_dropped(DropReason::Unreachable, dropped);
        self.filled.notify_one();
    }
}
