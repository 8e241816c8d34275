//! What became of a record: one completion for a batch, shared by its records.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use millstream_protocol::{Offset, PartitionIndex, TimestampMs};
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Where a record has been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: PartitionIndex,
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: TimestampMs,
}

/// The broker's answer to come for one record.
///
/// Awaiting it gives the record's offset once its batch is acknowledged, or why it was not. It may
/// be dropped: the record is sent all the same, and a failure is reported by
/// [`Producer::flush`](super::Producer::flush).
#[derive(Debug)]
pub struct Delivery {
    completion: Arc<BatchCompletion>,
    delta: u32,
    /// Where this future's waker is among the completion's.
    waker_index: Option<usize>,
    timestamp_ms: TimestampMs,
}

impl Delivery {
    pub(super) fn new(
        completion: Arc<BatchCompletion>,
        delta: u32,
        timestamp_ms: TimestampMs,
    ) -> Self {
        Self {
            completion,
            delta,
            waker_index: None,
            timestamp_ms,
        }
    }

    /// The partition the record goes to.
    pub fn partition(&self) -> PartitionIndex {
        self.completion.partition
    }

    /// Whether this is its batch's first record.
    pub(super) fn is_first(&self) -> bool {
        self.delta == 0
    }

    /// The answer, if it is there already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata>> {
        self.completion
            .outcome
            .get()
            .map(|outcome| self.metadata(outcome))
    }

    fn metadata(&self, outcome: &Result<Offset>) -> Result<RecordMetadata> {
        match outcome {
            Ok(base_offset) => Ok(RecordMetadata {
                partition: self.completion.partition,
                offset: base_offset + Offset::from(self.delta),
                timestamp_ms: self.timestamp_ms,
            }),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let completion = Arc::clone(&this.completion);
        match completion.poll_outcome(&mut this.waker_index, cx) {
            Poll::Ready(outcome) => Poll::Ready(this.metadata(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The outcome of one batch, and who waits for it.
#[derive(Debug)]
pub(super) struct BatchCompletion {
    partition: PartitionIndex,
    /// The batch's base offset, or why it was not stored.
    outcome: OnceLock<Result<Offset>>,
    wakers: Mutex<Vec<Waker>>,
}

impl BatchCompletion {
    pub(super) fn new(partition: PartitionIndex) -> Arc<Self> {
        Arc::new(Self {
            partition,
            outcome: OnceLock::new(),
            wakers: Mutex::new(Vec::new()),
        })
    }

    /// Settles the batch. Only the first outcome counts.
    pub(super) fn complete(&self, outcome: Result<Offset>) {
        let wakers = {
            let mut wakers = self.wakers.lock();
            let _ = self.outcome.set(outcome);
            std::mem::take(&mut *wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Waits until the batch is settled.
    pub(super) async fn settled(&self) -> &Result<Offset, Error> {
        let mut waker_index = None;
        std::future::poll_fn(|cx| self.poll_outcome(&mut waker_index, cx)).await
    }

    fn poll_outcome(
        &self,
        waker_index: &mut Option<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<&Result<Offset>> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut wakers = self.wakers.lock();
        // Settled between the look above and the lock: nobody would wake us.
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        match waker_index.and_then(|index| wakers.get_mut(index)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                *waker_index = Some(wakers.len());
                wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn every_record_gets_its_own_offset() {
        let completion = BatchCompletion::new(3);
        let first = Delivery::new(Arc::clone(&completion), 0, 10);
        let third = Delivery::new(Arc::clone(&completion), 2, 12);
        assert!(first.try_result().is_none());
        let waiting = tokio::spawn(third);
        tokio::task::yield_now().await;
        completion.complete(Ok(100));
        assert_eq!(
            first.await.unwrap(),
            RecordMetadata {
                partition: 3,
                offset: 100,
                timestamp_ms: 10
            }
        );
        assert_eq!(
            waiting.await.unwrap().unwrap(),
            RecordMetadata {
                partition: 3,
                offset: 102,
                timestamp_ms: 12
            }
        );
    }

    #[tokio::test]
    async fn the_first_outcome_counts() {
        let completion = BatchCompletion::new(0);
        completion.complete(Err(Error::Closed { what: "producer" }));
        completion.complete(Ok(7));
        assert!(matches!(
            completion.settled().await,
            Err(Error::Closed { .. })
        ));
    }

    #[tokio::test]
    async fn a_polled_delivery_keeps_one_waker() {
        let completion = BatchCompletion::new(0);
        let mut delivery = Delivery::new(Arc::clone(&completion), 0, 0);
        for _ in 0..10 {
            assert!((&mut delivery).now_or_never().is_none());
        }
        assert_eq!(completion.wakers.lock().len(), 1);
    }
}
