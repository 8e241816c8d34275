//! Consumer groups and their offsets.

use millstream_protocol::api::group::{
    CommitOffsets, DeleteGroup, DescribeGroup, FetchOffsets, GroupDescription, ListGroups,
    ListedGroup, OffsetCommit, ResetGroup, ResetGroupResponse,
};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::{ErrorCode, PartitionIndex};

use super::Admin;
use super::topics::gone;
use crate::error::{Error, Result};
use crate::limits::OFFSETS_PER_COMMIT;

impl Admin {
    /// All groups, in name order.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>> {
        let mut groups: Vec<ListedGroup> = Vec::new();
        loop {
            let after = groups.last().map(|group| group.group.clone());
            let listed = self.client.call(ListGroups { after }).await?;
            if listed.more && listed.groups.is_empty() {
                return Err(Error::unexpected("a part of a listing with nothing in it"));
            }
            groups.extend(listed.groups);
            if !listed.more {
                return Ok(groups);
            }
        }
    }

    /// One group: its members, what they own, committed offsets and lag.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownGroup`].
    pub async fn describe_group(&self, group: impl Into<String>) -> Result<GroupDescription> {
        self.client
            .call(DescribeGroup {
                group: group.into(),
            })
            .await
    }

    /// A group's committed offsets; none for a group that has committed nothing.
    pub async fn group_offsets(&self, group: impl Into<String>) -> Result<Vec<OffsetCommit>> {
        Ok(self
            .client
            .call(FetchOffsets {
                group: group.into(),
            })
            .await?
            .offsets)
    }

    /// Commits offsets for a group without being its member.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::GroupNotEmpty`] while the group has members.
    pub async fn commit_group_offsets(
        &self,
        group: impl Into<String>,
        offsets: Vec<OffsetCommit>,
    ) -> Result<()> {
        let group = group.into();
        for part in offsets.chunks(OFFSETS_PER_COMMIT) {
            self.client
                .call(CommitOffsets {
                    group: group.clone(),
                    offsets: part.to_vec(),
                })
                .await?;
        }
        Ok(())
    }

    /// Sets a group's offsets in a topic anew, also while the group is live: in these partitions,
    /// or in all when none is named.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownGroup`], [`ErrorCode::UnknownTopic`], [`ErrorCode::UnknownPartition`].
    pub async fn reset_group(
        &self,
        group: impl Into<String>,
        topic: impl Into<String>,
        partitions: impl IntoIterator<Item = PartitionIndex>,
        to: Position,
    ) -> Result<ResetGroupResponse> {
        let partitions = partitions.into_iter().collect();
        self.client
            .call(ResetGroup {
                group: group.into(),
                topic: topic.into(),
                partitions,
                to,
            })
            .await
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownGroup`], [`ErrorCode::GroupNotEmpty`].
    pub async fn delete_group(&self, group: impl Into<String>) -> Result<()> {
        let request = DeleteGroup {
            group: group.into(),
        };
        let (outcome, earlier) = self
            .client
            .call_with(request, None, self.client.request_timeout())
            .await;
        gone(outcome, earlier, ErrorCode::UnknownGroup)
    }
}
