//! A share of the connection's streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::error::{Error, Result};

/// How many streams of one kind may be open. Holders are told when others wait, and yield.
#[derive(Debug)]
pub(crate) struct StreamQuota {
    free: Semaphore,
    waiting: AtomicUsize,
    contended: Notify,
}

impl StreamQuota {
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            free: Semaphore::new(streams),
            waiting: AtomicUsize::new(0),
            contended: Notify::new(),
        }
    }

    /// Waits for a stream's place. Places go to those who wait in the order they came.
    pub(crate) async fn acquire(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.free.try_acquire() {
            return Ok(permit);
        }
        let _waiting = Waiting::enter(self);
        self.free
            .acquire()
            .await
            .map_err(|_| Error::Closed { what: "client" })
    }

    /// Whether someone waits for a place.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits until someone waits for a place.
    pub(crate) async fn contended(&self) {
        loop {
            let notified = self.contended.notified();
            if self.is_contended() {
                return;
            }
            notified.await;
        }
    }
}

/// Counts one who waits, also when the wait is abandoned.
struct Waiting<'a>(&'a StreamQuota);

impl<'a> Waiting<'a> {
    fn enter(quota: &'a StreamQuota) -> Self {
        quota.waiting.fetch_add(1, Ordering::AcqRel);
        quota.contended.notify_waiters();
        Self(quota)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Fetch streams open on the connection. How many there may be before partitions share them is the
/// broker's to say; a consumer that has none opens one all the same.
#[derive(Debug, Default)]
pub(crate) struct FetchStreams(Arc<AtomicUsize>);

/// One open fetch stream's place.
#[derive(Debug)]
pub(crate) struct FetchPlace(Arc<AtomicUsize>);

impl FetchStreams {
    /// Takes a place if fewer than `limit` are taken.
    pub(crate) fn try_claim(&self, limit: usize) -> Option<FetchPlace> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()
            .map(|_| FetchPlace(Arc::clone(&self.0)))
    }

    /// Takes a place beyond the limit.
    pub(crate) fn claim(&self) -> FetchPlace {
        self.0.fetch_add(1, Ordering::AcqRel);
        FetchPlace(Arc::clone(&self.0))
    }
}

impl Drop for FetchPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_holder_learns_that_another_waits() {
        let quota = StreamQuota::new(1);
        let held = quota.acquire().await.unwrap();
        let mut contended = Box::pin(quota.contended());
        assert!((&mut contended).now_or_never().is_none());
        let mut waiting = Box::pin(quota.acquire());
        assert!((&mut waiting).now_or_never().is_none());
        contended.await;
        drop(held);
        drop(waiting.await.unwrap());
        assert!(!quota.is_contended());
    }

    #[test]
    fn fetch_places_come_back() {
        let streams = FetchStreams::default();
        let first = streams.try_claim(1).unwrap();
        assert!(streams.try_claim(1).is_none());
        let beyond = streams.claim();
        drop(first);
        assert!(streams.try_claim(1).is_none());
        drop(beyond);
        assert!(streams.try_claim(1).is_some());
    }
}
