//! Answers of one stream on their way back: the store's threads put them in, the stream takes out all that are there.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use proto::tikvpb::batch_commands_response::{Response, response::Cmd};

use super::limits::{ANSWERS_PER_BATCH_MAX, BATCH_BYTES_MAX};

/// Collects answers.
#[derive(Default)]
pub(super) struct Sink {
    answers: Mutex<VecDeque<Answer>>,
    /// Requests that were taken in and not answered to the client yet.
    waiting: AtomicUsize,
    waker: AtomicWaker,
}

struct Answer {
    request_id: u64,
    response: Response,
    bytes: usize,
}

/// Answers that go out together.
pub(super) struct Batch {
    pub(super) request_ids: Vec<u64>,
    pub(super) responses: Vec<Response>,
}

impl Sink {
    /// A request was taken in: one answer will come.
    pub(super) fn expect(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::AcqRel);
    }

    /// How many answers are still to go out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// An answer. Only the first one of a batch wakes the stream.
    pub(super) fn push(&self, request_id: u64, cmd: Option<Cmd>) {
        let bytes = cmd.as_ref().map_or(0, size_of);
        let was_empty = {
            let mut answers = self.answers.lock();
            answers.push_back(Answer { request_id, response: Response { cmd }, bytes });
            answers.len() == 1
        };
        if was_empty {
            self.waker.wake();
        }
    }

    /// Whether answers are there.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.lock().is_empty()
    }

    /// Takes as many answers as one message shall hold.
    pub(super) fn poll_take(&self, context: &Context<'_>) -> Poll<Batch> {
        // Registered before the look: an answer that comes in between wakes us again.
        self.waker.register(context.waker());
        let batch = self.take();
        if batch.request_ids.is_empty() { Poll::Pending } else { Poll::Ready(batch) }
    }

    fn take(&self) -> Batch {
        let mut answers = self.answers.lock();
        let count_max = answers.len().min(ANSWERS_PER_BATCH_MAX);
        let mut batch =
            Batch { request_ids: Vec::with_capacity(count_max), responses: Vec::with_capacity(count_max) };
        let mut bytes = 0;
        while let Some(answer) = answers.front() {
            bytes += answer.bytes;
            let is_full = batch.request_ids.len() == ANSWERS_PER_BATCH_MAX
                || (bytes > BATCH_BYTES_MAX && !batch.request_ids.is_empty());
            if is_full {
                break;
            }
            if let Some(answer) = answers.pop_front() {
                batch.request_ids.push(answer.request_id);
                batch.responses.push(answer.response);
            }
        }
        drop(answers);
        self.waiting.fetch_sub(batch.request_ids.len(), Ordering::AcqRel);
        batch
    }
}

/// About how many bytes an answer takes.
fn size_of(cmd: &Cmd) -> usize {
    let pairs = |pairs: &[proto::kvrpcpb::KvPair]| -> usize {
        pairs.iter().map(|pair| pair.key.len() + pair.value.len() + 16).sum()
    };
    match cmd {
        Cmd::RawGet(response) => response.value.len(),
        Cmd::RawBatchGet(response) => pairs(&response.pairs),
        Cmd::RawScan(response) => pairs(&response.kvs),
        Cmd::RawBatchScan(response) => pairs(&response.kvs),
        Cmd::RawPut(_)
        | Cmd::RawBatchPut(_)
        | Cmd::RawDelete(_)
        | Cmd::RawBatchDelete(_)
        | Cmd::RawDeleteRange(_)
        | Cmd::GetHealthFeedback(_)
        | Cmd::Empty(_) => 64,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::task::noop_waker;
    use proto::kvrpcpb::RawGetResponse;

    use super::*;

    fn value(bytes: usize) -> Option<Cmd> {
        Some(Cmd::RawGet(RawGetResponse { value: Bytes::from(vec![0; bytes]), ..RawGetResponse::default() }))
    }

    fn take(sink: &Sink) -> Vec<u64> {
        match sink.poll_take(&Context::from_waker(&noop_waker())) {
            Poll::Ready(batch) => batch.request_ids,
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn all_answers_that_are_there_go_out_together() {
        let sink = Sink::default();
        sink.expect(3);
        assert!(take(&sink).is_empty());
        (1..=3).for_each(|id| sink.push(id, value(1)));
        assert_eq!(take(&sink), [1, 2, 3]);
        assert_eq!(sink.waiting(), 0);
    }

    #[test]
    fn a_message_stays_below_what_clients_take_and_a_large_answer_goes_alone() {
        let sink = Sink::default();
        sink.expect(4);
        sink.push(1, value(BATCH_BYTES_MAX));
        sink.push(2, value(1));
        sink.push(3, value(BATCH_BYTES_MAX * 2));
        sink.push(4, value(1));
        assert_eq!(take(&sink), [1]);
        assert_eq!(take(&sink), [2]);
        assert_eq!(take(&sink), [3]);
        assert_eq!(take(&sink), [4]);
    }
}
