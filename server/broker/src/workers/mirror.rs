//! Tells a deployment's group how far a worker is. The journal is what counts; the group's offset
//! follows it, for those who look at the group's lag.

use std::sync::Arc;

use millstream_protocol::api::group::OffsetCommit;
use millstream_protocol::{Offset, WireError};
use tokio::task::JoinHandle;

use crate::errors;
use crate::partition::Partition;
use crate::workers::deployment::Shared;

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
        let telling = tokio::spawn(async move { shared.commit(commit).await });
        self.under_way = Some((offset, telling));
    }

    /// Waits until the group has been told; for ever when it is not being told. Cancel-safe.
    pub(crate) async fn heard(&mut self) -> Result<(), WireError> {
        let Some((offset, telling)) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let offset = *offset;
        let outcome = telling.await.map_err(errors::from_join).flatten();
        self.under_way = None;
        outcome?;
        self.told = offset;
        Ok(())
    }

    /// Tells the group the last of it.
    pub(crate) async fn finish(&mut self, offset: Offset) {
        while self.under_way.is_some() || self.told != offset {
            self.tell(offset);
            if let Err(error) = self.heard().await {
                // It is told again when the worker goes on.
                tracing::debug!(partition = self.input.name(), %error, "a group was not told");
                return;
            }
        }
    }
}
