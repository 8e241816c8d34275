//! Tells a deployment's group how far a worker is. The journal is what counts; the group's offset
//! follows it, for those who look at the group's lag.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::group::OffsetCommit;
use millstream_protocol::{Offset, WireError};
use tokio::task::JoinHandle;

use crate::errors;
use crate::partition::Partition;
use crate::workers::deployment::Shared;

/// How long a group that did not take an offset is left alone.
const TELL_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A worker's offset in its group, one commit of it at a time under way.
pub(crate) struct GroupMirror {
    shared: Arc<Shared>,
    input: Partition,
    /// What the group is known to have.
    told: Offset,
    under_way: Option<(Offset, JoinHandle<Result<(), WireError>>)>,
}

impl GroupMirror {
    pub(crate) fn new(shared: Arc<Shared>, input: Partition, told: Offset) -> Self {
        Self {
            shared,
            input,
            told,
            under_way: None,
        }
    }

    /// What the group is known to have.
    pub(crate) fn told(&self) -> Offset {
        self.told
    }

    /// Begins to tell the group, unless it knows or is being told.
    pub(crate) fn tell(&mut self, offset: Offset) {
        if self.under_way.is_some() || offset == self.told {
            return;
        }
        let (shared, input) = (Arc::clone(&self.shared), self.input.clone());
        let commit = OffsetCommit {
            topic: input.topic().to_string(),
            partition: input.id().partition,
            offset,
            metadata: String::new(),
        };
        let telling = tokio::spawn(async move {
            let told = shared.commit(commit).await;
            if told.is_err() {
                // A group on the move: it is told again in a while.
                tokio::time::sleep(TELL_AGAIN_AFTER).await;
            }
            told
        });
        self.under_way = Some((offset, telling));
    }

    /// Waits until the group has been told, or was not to be told; for ever when nobody tells it.
    /// Cancel-safe.
    pub(crate) async fn heard(&mut self) {
        let Some((offset, telling)) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let offset = *offset;
        let outcome = telling.await.map_err(errors::from_join).flatten();
        self.under_way = None;
        match outcome {
            Ok(()) => self.told = offset,
            Err(error) => {
                tracing::debug!(partition = self.input.name(), %error, "a group was not told");
            }
        }
    }

    /// Tells the group the last of it.
    pub(crate) async fn finish(&mut self, offset: Offset) {
        if self.under_way.is_some() {
            self.heard().await;
        }
        if self.told != offset {
            self.tell(offset);
            self.heard().await;
        }
    }
}
