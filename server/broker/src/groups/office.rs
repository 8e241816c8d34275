//! The way to the groups' coordinator, wherever it is: on the broker that leads the groups' log.

use std::sync::Arc;

use millstream_group::error::Coded;
use millstream_protocol::api::group::{
    CommitOffsets, DeleteGroup, FetchOffsets, FetchOffsetsResponse,
};
use millstream_protocol::{Offset, TopicPartition, WireError};
use tokio::time::timeout;

use super::Groups;
use crate::clock;
use crate::cluster::Cluster;
use crate::config::ASK_LIMIT;
use crate::internal::GROUPS_PARTITION;
use crate::leaders::Leaders;
use crate::workers::peers::WorkersRequest;

/// Asks the coordinator, here or on another broker.
pub(crate) struct GroupOffice {
    pub(crate) groups: Arc<Groups>,
    pub(crate) leaders: Arc<Leaders>,
}

impl GroupOffice {
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.leaders.cluster
    }

    /// The broker with the coordinator, if that is another one.
    pub(crate) fn elsewhere(&self) -> Option<u32> {
        let coordinator = self.leaders.of(GROUPS_PARTITION);
        coordinator.filter(|it| *it != self.cluster().me())
    }

    /// Waits until the coordinator knows the topics as the metadata has them now, so that whoever has changed
    /// one may have a group use it at once. While nobody coordinates the groups it waits for a moment only: the
    /// change is made.
    pub(crate) async fn followed(&self) {
        let Some(index) = self.leaders.controller.quorum.applied().index else {
            return;
        };
        let followed = match self.elsewhere() {
            Some(coordinator) => {
                let request = WorkersRequest::GroupsFollow { index };
                let asked = self.cluster().ask_workers(coordinator, &request, ASK_LIMIT);
                asked.await.map_err(|error| error.to_string())
            }
            None => {
                let followed = timeout(ASK_LIMIT, self.groups.followed(index)).await;
                followed.map_err(|late| late.to_string())
            }
        };
        if let Err(reason) = followed {
            tracing::warn!(reason, "the groups do not know of a changed topic yet");
        }
    }

    /// Commits offsets of a group that has no members.
    pub(crate) async fn commit_offsets(&self, request: CommitOffsets) -> Result<(), WireError> {
        if let Some(coordinator) = self.elsewhere() {
            return self.cluster().ask(coordinator, 0, request).await;
        }
        let now_ms = clock::now_ms();
        let committed = self
            .groups
            .call(move |it| it.commit_offsets(request, now_ms));
        committed.await?.map_err(|error| error.to_wire())
    }

    /// The offsets of a group.
    pub(crate) async fn offsets(&self, group: String) -> Result<FetchOffsetsResponse, WireError> {
        if let Some(coordinator) = self.elsewhere() {
            let request = FetchOffsets { group };
            return self.cluster().ask(coordinator, 0, request).await;
        }
        self.groups.read(move |it| it.fetch_offsets(&group)).await
    }

    /// Forgets a group that has no members.
    pub(crate) async fn delete(&self, group: String) -> Result<(), WireError> {
        if let Some(coordinator) = self.elsewhere() {
            let request = DeleteGroup { group };
            return self.cluster().ask(coordinator, 0, request).await;
        }
        let deleted = self.groups.call(move |it| it.delete_group(&group)).await?;
        deleted.map_err(|error| error.to_wire())
    }

    /// The offset that a group was reset to in a partition, where no worker has gone yet.
    pub(crate) async fn reset_to(
        &self,
        group: &str,
        partition: TopicPartition,
    ) -> Result<Option<Offset>, WireError> {
        let group = group.to_owned();
        if let Some(coordinator) = self.elsewhere() {
            let request = WorkersRequest::ResetTo { group, partition };
            let asked = self.cluster().ask_workers(coordinator, &request, ASK_LIMIT);
            return asked.await;
        }
        self.groups
            .read(move |it| it.reset_to(&group, partition))
            .await
    }
}
