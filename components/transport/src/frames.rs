//! The frames of one stream: everything that waits, in as few as possible, within the window of bytes on the way.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, stream};
use parking_lot::Mutex;
use proto::{Message, raft as wire};
use store::StoreMessage;
use tokio::sync::Notify;

use crate::{
    codec::{self, own_size_of, size_of},
    lane_metrics::{DropReason, LaneMetrics},
    limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES_MAX},
    queue::LaneQueue,
};

/// Bytes on the way that the receiver has not acknowledged.
#[derive(Default)]
pub(crate) struct Window {
    bytes: AtomicUsize,
    /// Frames on the way, with their bytes.
    frames: Mutex<VecDeque<(u64, usize)>>,
    acknowledged: Notify,
}

/// Makes the frames of one stream.
pub(crate) struct FrameMaker {
    queue: Arc<LaneQueue>,
    metrics: Arc<LaneMetrics>,
    window: Arc<Window>,
    generation: u64,
    open: Option<wire::LaneOpen>,
    sequence: u64,
    /// Taken from the queue and not sent yet.
    pending: VecDeque<StoreMessage>,
}

impl Window {
    /// Waits until there is room.
    async fn wait_for_room(&self) {
        while self.bytes.load(Ordering::Acquire) >= WINDOW_BYTES_MAX {
            self.acknowledged.notified().await;
        }
    }

    fn on_sent(&self, sequence: u64, bytes: usize) {
        self.frames.lock().push_back((sequence, bytes));
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The receiver has everything up to `sequence`.
    pub(crate) fn on_acknowledged(&self, sequence: u64) {
        let mut freed = 0;
        {
            let mut frames = self.frames.lock();
            while let Some((_, bytes)) = frames.pop_front_if(|(first, _)| *first <= sequence) {
                freed += bytes;
            }
        }
        self.bytes.fetch_sub(freed, Ordering::AcqRel);
        self.acknowledged.notify_one();
    }
}

impl FrameMaker {
    pub(crate) fn new(
        queue: Arc<LaneQueue>,
        metrics: Arc<LaneMetrics>,
        window: Arc<Window>,
        generation: u64,
        open: wire::LaneOpen,
    ) -> FrameMaker {
        FrameMaker {
            queue,
            metrics,
            window,
            generation,
            open: Some(open),
            sequence: 0,
            pending: VecDeque::new(),
        }
    }

    /// The frames, the opening one first; ends when a newer connection has begun.
    pub(crate) fn into_stream(self) -> impl Stream<Item = wire::Frame> + Send + 'static {
        stream::unfold(self, |mut maker| async move {
            let frame = maker.next().await?;
            Some((frame, maker))
        })
    }

    async fn next(&mut self) -> Option<wire::Frame> {
        if let Some(open) = self.open.take() {
            self.sequence += 1;
            return Some(wire::Frame { sequence: self.sequence, open: Some(open), messages: Vec::new() });
        }
        loop {
            self.window.wait_for_room().await;
            if self.pending.is_empty() {
                self.pending = self.queue.take(self.generation).await?.into();
            }
            let messages = self.collect();
            if !messages.is_empty() {
                return Some(self.finish(messages));
            }
        }
    }

    /// Messages for one frame; what cannot be sent at all is dropped.
    fn collect(&mut self) -> Vec<wire::StoreMessage> {
        let mut messages = Vec::with_capacity(self.pending.len());
        let (mut bytes, mut dropped_bytes, mut own_bytes) = (0, 0, 0);
        while let Some(message) = self.pending.front() {
            let size = size_of(message);
            if !messages.is_empty() && bytes + size > FRAME_BYTES_MAX {
                break;
            }
            let message = self.pending.pop_front().expect("the front was just looked at");
            own_bytes += own_size_of(&message);
            if size > MESSAGE_BYTES_MAX {
                dropped_bytes += size;
                tracing::error!(size, "a message is too large for any frame");
                self.metrics.on_dropped(DropReason::TooLarge, 1);
                continue;
            }
            bytes += size;
            match codec::encode(message) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    debug_assert!(false, "the store made a message that cannot be sent: {error}");
                    tracing::error!(%error, "a message cannot be sent");
                }
            }
        }
        self.queue.release(self.generation, bytes + dropped_bytes, own_bytes);
        messages
    }

    fn finish(&mut self, messages: Vec<wire::StoreMessage>) -> wire::Frame {
        self.sequence += 1;
        let frame = wire::Frame { sequence: self.sequence, open: None, messages };
        let bytes = frame.encoded_len();
        self.window.on_sent(self.sequence, bytes);
        self.metrics.frames_sent.increment(1);
        self.metrics.messages_sent.increment(frame.messages.len() as u64);
        self.metrics.bytes_sent.increment(bytes as u64);
        frame
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};
    use store::{Lane, PlacementMessage};

    use super::*;

    fn message(bytes: usize) -> StoreMessage {
        StoreMessage::Placement(PlacementMessage {
            id: 1,
            is_response: false,
            body: Bytes::from(vec![0; bytes]),
        })
    }

    fn frames(window: &Arc<Window>) -> (Arc<LaneQueue>, impl Stream<Item = wire::Frame> + Unpin) {
        let metrics = Arc::new(LaneMetrics::new(Lane::Append));
        let queue = Arc::new(LaneQueue::new(Lane::Append, Arc::clone(&metrics)));
        let generation = queue.on_connecting();
        let open = wire::LaneOpen { from_store_id: 1, ..wire::LaneOpen::default() };
        let maker = FrameMaker::new(Arc::clone(&queue), metrics, Arc::clone(window), generation, open);
        (queue, Box::pin(maker.into_stream()))
    }

    fn next(frames: &mut (impl Stream<Item = wire::Frame> + Unpin)) -> Option<(u64, usize)> {
        let frame = frames.next().now_or_never()??;
        Some((frame.sequence, frame.messages.len()))
    }

    #[test]
    fn the_first_frame_names_the_sender_and_the_next_ones_are_as_few_as_possible() {
        let window = Arc::default();
        let (queue, mut frames) = frames(&window);
        let first = frames.next().now_or_never().flatten().expect("the opening frame waits for nothing");
        assert_eq!(first.open.map(|open| open.from_store_id), Some(1));
        queue.push((0..1_000).map(|_| message(100)).collect(), None);
        assert_eq!(next(&mut frames), Some((2, 1_000)));
        queue.push((0..3).map(|_| message(FRAME_BYTES_MAX / 2 - 1_000)).collect(), None);
        assert_eq!(next(&mut frames), Some((3, 2)));
        assert_eq!(next(&mut frames), Some((4, 1)));
        assert_eq!(next(&mut frames), None, "nothing is left");
    }

    #[test]
    fn a_message_beyond_every_bound_is_dropped_and_the_others_pass() {
        let window = Arc::default();
        let (queue, mut frames) = frames(&window);
        assert_eq!(next(&mut frames), Some((1, 0)));
        queue.push(vec![message(MESSAGE_BYTES_MAX + 1)], None);
        queue.push(vec![message(1), message(1)], None);
        assert_eq!(next(&mut frames), Some((2, 2)));
    }

    #[test]
    fn sending_stops_at_the_window_and_goes_on_with_an_acknowledgement() {
        let window = Arc::new(Window::default());
        let (queue, mut frames) = frames(&window);
        assert_eq!(next(&mut frames), Some((1, 0)));
        let fill = WINDOW_BYTES_MAX / (FRAME_BYTES_MAX - 1_000) + 1;
        queue.push((0..=fill).map(|_| message(FRAME_BYTES_MAX - 1_000)).collect(), None);
        for at in 0..fill {
            assert_eq!(next(&mut frames), Some((at as u64 + 2, 1)));
        }
        assert_eq!(next(&mut frames), None, "the window is full");
        window.on_acknowledged(2);
        assert_eq!(next(&mut frames), Some((fill as u64 + 2, 1)));
    }
}
