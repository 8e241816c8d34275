//! How far a fetch stream may read ahead of the application.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What one fetch stream has brought and the application has not taken. While it is at its share of
/// the consumer's buffer, the stream is not read, and the broker stops sending: a partition that is
/// paused or slow fills its own share, and no other's.
#[derive(Debug, Default)]
pub(super) struct Gate {
    buffered_bytes: AtomicUsize,
    taken: Notify,
}

impl Gate {
    pub(super) fn add(&self, bytes: usize) {
        self.buffered_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.buffered_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.taken.notify_one();
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes.load(Ordering::Acquire)
    }

    /// Waits until less is buffered than `share` says. A share is never 0: one frame always fits.
    pub(super) async fn below(&self, share: impl Fn() -> usize) {
        while self.buffered_bytes() >= share() {
            self.taken.notified().await;
        }
    }
}
