//! Tells a deployment's group how far a worker is. The journal is what counts; the group's offset
//! follows it, for those who look at the group's lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use millstream_protocol::api::group::OffsetCommit;
use millstream_protocol::{Offset, WireError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::partition::Partition;
use crate::workers::deployment::Shared;

/// A group is told no more often than this: each time costs a flush of the groups' log.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A worker's offset in its group, one commit of it at a time under way.
pub(crate) struct GroupMirror {
    shared: Arc<Shared>,
    input: Partition,
    /// What the group is known to have.
    told: Offset,
    /// What it is to have.
    wanted: Arc<AtomicU64>,
    not_before: Instant,
    under_way: Option<JoinHandle<Result<Offset, WireError>>>,
}

impl GroupMirror {
    pub(crate) fn new(shared: Arc<Shared>, input: Partition, told: Offset) -> Self {
        Self {
            shared,
            input,
            told,
            wanted: Arc::new(AtomicU64::new(told)),
            not_before: Instant::now(),
            under_way: None,
        }
    }

    /// What the group is known to have.
    pub(crate) fn told(&self) -> Offset {
        self.told
    }

    /// Has the group told, soon.
    pub(crate) fn tell(&mut self, offset: Offset) {
        // A worker that never rests does not wait for it elsewhere.
        let _ = self.heard().now_or_never();
        self.wanted.store(offset, Ordering::Relaxed);
        if self.under_way.is_some() || offset == self.told {
            return;
        }
        let (shared, input) = (Arc::clone(&self.shared), self.input.clone());
        let (wanted, not_before) = (Arc::clone(&self.wanted), self.not_before);
        self.under_way = Some(tokio::spawn(async move {
            tokio::time::sleep_until(not_before).await;
            let offset = wanted.load(Ordering::Relaxed);
            commit(&shared, &input, offset).await.map(|()| offset)
        }));
    }

    /// Waits until the group has been told, or was not to be told; for ever when nobody tells it.
    /// Cancel-safe.
    pub(crate) async fn heard(&mut self) {
        let Some(telling) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let outcome = telling.await;
        self.under_way = None;
        self.not_before = Instant::now() + TELL_EVERY;
        match outcome {
            Ok(Ok(offset)) => self.told = offset,
            // A group on the move: it is told again.
            Ok(Err(error)) => self.not_told(&error.message),
            Err(error) => self.not_told(&error.to_string()),
        }
    }

    /// Tells the group the last of it, without delay. Whether it has been told; after a reset that this worker
    /// has not heard of it may not listen.
    pub(crate) async fn finish(&mut self, offset: Offset) -> bool {
        if let Some(telling) = self.under_way.take() {
            telling.abort();
            // Not that it is told the older one behind the newer.
            let _ = telling.await;
        }
        match commit(&self.shared, &self.input, offset).await {
            Ok(()) => {
                self.told = offset;
                true
            }
            Err(error) => {
                self.not_told(&error.message);
                false
            }
        }
    }

    fn not_told(&self, reason: &str) {
        tracing::debug!(
            partition = self.input.name(),
            reason,
            "a group was not told"
        );
    }
}

impl Drop for GroupMirror {
    /// What the group was to be told may be wrong by then: it may have been reset.
    fn drop(&mut self) {
        if let Some(telling) = &self.under_way {
            telling.abort();
        }
    }
}

async fn commit(shared: &Shared, input: &Partition, offset: Offset) -> Result<(), WireError> {
    let commit = OffsetCommit {
        topic: input.topic().to_string(),
        partition: input.id().partition,
        offset,
        metadata: String::new(),
    };
    shared.commit(commit).await
}
