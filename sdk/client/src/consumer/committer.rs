//! The task that commits for a consumer with partitions of its own choice: it belongs to no group,
//! but keeps its offsets under a group's name.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::group::CommitOffsets;
use tokio::sync::mpsc;

use super::commit::{Command, Offsets};
use super::intake::Intake;
use super::membership::{next_tick, ticks};
use crate::error::Result;
use crate::limits::OFFSETS_PER_COMMIT;

/// Commits until the consumer leaves or is dropped.
pub(super) struct Committer {
    pub(super) group: Arc<str>,
    pub(super) intake: Arc<Intake>,
    pub(super) auto_commit: Option<Duration>,
    pub(super) commands: mpsc::Receiver<Command>,
}

impl Committer {
    pub(super) async fn run(mut self) {
        let mut ticks = self.auto_commit.map(ticks);
        loop {
            let leave = tokio::select! {
                () = next_tick(&mut ticks) => {
                    self.commit_returned_or_warn().await;
                    continue;
                }
                command = self.commands.recv() => match command {
                    Some(Command::Commit { offsets, reply }) => {
                        let _ = reply.send(self.commit(offsets).await);
                        continue;
                    }
                    Some(Command::Leave { reply }) => Some(reply),
                    None => None,
                },
            };
            match leave {
                Some(reply) => {
                    let _ = reply.send(self.commit_returned().await);
                }
                None => self.commit_returned_or_warn().await,
            }
            self.intake.forget_all();
            return;
        }
    }

    async fn commit_returned(&self) -> Result<()> {
        match self.auto_commit {
            Some(_) => {
                self.commit(Offsets::returned(&self.intake.committable()))
                    .await
            }
            None => Ok(()),
        }
    }

    async fn commit_returned_or_warn(&self) {
        if let Err(error) = self.commit_returned().await {
            tracing::warn!(group = %self.group, %error, "the commit of offsets failed");
        }
    }

    async fn commit(&self, offsets: Offsets) -> Result<()> {
        for part in offsets.into_parts(OFFSETS_PER_COMMIT) {
            let request = CommitOffsets {
                group: self.group.to_string(),
                offsets: part.offsets.clone(),
            };
            self.intake.client.call(request).await?;
            part.committed();
        }
        Ok(())
    }
}
