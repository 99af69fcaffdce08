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
    codec::{self, size_of},
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
        let mut bytes = 0;
        while let Some(message) = self.pending.front() {
            let size = size_of(message);
            if !messages.is_empty() && bytes + size > FRAME_BYTES_MAX {
                break;
            }
            let message = self.pending.pop_front().expect("the front was just looked at");
            bytes += size;
            if size > MESSAGE_BYTES_MAX {
                tracing::error!(size, "a message is too large for any frame");
                self.metrics.on_dropped(DropReason::TooLarge, 1);
                continue;
            }
            match codec::encode(message) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    debug_assert!(false, "the store made a message that cannot be sent: {error}");
                    tracing::error!(%error, "a message cannot be sent");
                }
            }
        }
        self.queue.release(self.generation, bytes);
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
