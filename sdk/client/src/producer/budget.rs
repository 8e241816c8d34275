//! The bound on what a producer buffers.

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Bytes that a producer may hold: buffered, on their way, or waiting for their acknowledgement.
///
/// Open batches reserve in steps, so that a record costs nothing here; waiting senders are served
/// in the order they came.
#[derive(Debug)]
pub(super) struct Budget {
    free: Semaphore,
    total: usize,
}

impl Budget {
    pub(super) fn new(total_bytes: usize) -> Self {
        Self {
            free: Semaphore::new(total_bytes),
            total: total_bytes,
        }
    }

    /// Reserves `bytes` if they are free, and says how many were reserved: never more than the
    /// whole bound, so that a record larger than it goes alone instead of never.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<usize> {
        let bytes = bytes.min(self.total);
        let permit = self
            .free
            .try_acquire_many(u32::try_from(bytes).ok()?)
            .ok()?;
        permit.forget();
        Some(bytes)
    }

    /// The same, waiting until they are free.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<usize> {
        let bytes = bytes.min(self.total);
        let wanted =
            u32::try_from(bytes).map_err(|_| Error::invalid("a reservation of more than 4 GiB"))?;
        let permit = self
            .free
            .acquire_many(wanted)
            .await
            .map_err(|_| Error::Closed { what: "producer" })?;
        permit.forget();
        Ok(bytes)
    }

    /// Gives reserved bytes back.
    pub(super) fn release(&self, bytes: usize) {
        self.free.add_permits(bytes);
    }

    /// Bytes reserved now.
    pub(super) fn reserved(&self) -> usize {
        self.total - self.free.available_permits().min(self.total)
    }

    /// Fails everyone who waits, and everyone who comes.
    pub(super) fn close(&self) {
        self.free.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn reserves_up_to_the_bound() {
        let budget = Budget::new(100);
        assert_eq!(budget.try_reserve(60), Some(60));
        assert_eq!(budget.try_reserve(60), None);
        assert_eq!(budget.reserved(), 60);
        budget.release(60);
        assert_eq!(
            budget.try_reserve(500),
            Some(100),
            "a larger record takes the whole bound"
        );
        assert_eq!(budget.try_reserve(1), None);
    }

    #[tokio::test]
    async fn waits_for_what_is_released() {
        let budget = Budget::new(100);
        assert_eq!(budget.try_reserve(100), Some(100));
        let mut waiting = Box::pin(budget.reserve(10));
        assert!((&mut waiting).now_or_never().is_none());
        budget.release(10);
        assert_eq!(waiting.await.unwrap(), 10);
        budget.close();
        assert!(matches!(budget.reserve(1).await, Err(Error::Closed { .. })));
    }
}
