//! The reads: groups, members, offsets and lag.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use millstream_protocol::api::group::{
    FetchOffsetsResponse, GroupDescription, GroupPartition, ListGroupsResponse, ListedGroup,
    NamedPartition, OffsetCommit, RESET_METADATA,
};
use millstream_protocol::limits::GROUPS_PER_LISTING;
use millstream_protocol::{Offset, TopicPartition};

use crate::coordinator::Coordinator;
use crate::error::UnknownGroup;
use crate::group::Group;
use crate::topics::Topics;

/// How far a partition's log goes, as the shell knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionEnds {
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Records below are visible.
    pub high_watermark: Offset,
}

impl Coordinator {
    /// The groups behind the name `after`, in name order, as many as go into one response.
    pub fn list(&self, after: Option<&str>) -> ListGroupsResponse {
        let behind = (after.map_or(Unbounded, Excluded), Unbounded);
        let mut groups = self.groups.range::<str, _>(behind);
        let listed = groups
            .by_ref()
            .take(GROUPS_PER_LISTING)
            .map(|(_, group)| ListedGroup {
                group: group.name.clone(),
                state: group.state(),
                members: group.members.len().try_into().unwrap_or(u32::MAX),
                generation: group.durable.generation(),
            });
        ListGroupsResponse {
            groups: listed.collect(),
            more: groups.next().is_some(),
        }
    }

    /// One group with its members and lag. `ends` answers for the partitions' logs; for one that it
    /// does not know the high watermark is given as the committed offset, and the lag as 0.
    pub fn describe(
        &self,
        group: &str,
        ends: impl Fn(TopicPartition) -> Option<PartitionEnds>,
    ) -> Result<GroupDescription, UnknownGroup> {
        match self.groups.get(group) {
            Some(group) => Ok(group.describe(&self.topics, ends)),
            None => Err(UnknownGroup {
                group: group.to_owned(),
            }),
        }
    }

    /// The offset that a group was reset to in a partition, if nothing was committed there since.
    pub fn reset_to(&self, group: &str, partition: TopicPartition) -> Option<Offset> {
        let durable = &self.groups.get(group)?.durable;
        let committed = durable.offset(partition.topic_id, partition.partition)?;
        (committed.metadata == RESET_METADATA).then_some(committed.offset)
    }

    /// A group's committed offsets, by topic and partition. None for a group that is not there.
    pub fn fetch_offsets(&self, group: &str) -> FetchOffsetsResponse {
        let Some(group) = self.groups.get(group) else {
            return FetchOffsetsResponse {
                offsets: Vec::new(),
            };
        };
        let mut offsets: Vec<OffsetCommit> = group
            .durable
            .offsets()
            .filter(|(partition, committed)| {
                self.topics.is_current(&committed.topic, partition.topic_id)
            })
            .map(|(partition, committed)| OffsetCommit {
                topic: committed.topic.clone(),
                partition: partition.partition,
                offset: committed.offset,
                metadata: committed.metadata.clone(),
            })
            .collect();
        offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        FetchOffsetsResponse { offsets }
    }
}

impl Group {
    fn describe(
        &self,
        topics: &Topics,
        ends: impl Fn(TopicPartition) -> Option<PartitionEnds>,
    ) -> GroupDescription {
        let mut owned: BTreeMap<_, Vec<NamedPartition>> = BTreeMap::new();
        let mut partitions: BTreeMap<NamedPartition, TopicPartition> = BTreeMap::new();
        for (named, slot) in &self.slots {
            if let Some((member, _)) = slot.owner() {
                owned.entry(member).or_default().push(named.clone());
            }
            let topic = topics
                .get(&named.topic)
                .filter(|topic| named.partition < topic.partitions);
            if let Some(topic) = topic {
                let partition = TopicPartition {
                    topic_id: topic.topic_id,
                    partition: named.partition,
                };
                partitions.insert(named.clone(), partition);
            }
        }
        for (partition, committed) in self.durable.offsets() {
            if topics.is_current(&committed.topic, partition.topic_id) {
                let topic = committed.topic.clone();
                partitions.insert(
                    NamedPartition {
                        topic,
                        partition: partition.partition,
                    },
                    partition,
                );
            }
        }
        let members = self.members.iter();
        GroupDescription {
            group: self.name.clone(),
            state: self.state(),
            generation: self.durable.generation(),
            members: members
                .map(|(handle, member)| member.describe(owned.remove(handle).unwrap_or_default()))
                .collect(),
            partitions: partitions
                .into_iter()
                .map(|(named, partition)| {
                    self.describe_partition(named, partition, ends(partition))
                })
                .collect(),
        }
    }

    fn describe_partition(
        &self,
        named: NamedPartition,
        partition: TopicPartition,
        ends: Option<PartitionEnds>,
    ) -> GroupPartition {
        let owner = self
            .slots
            .get(&named)
            .and_then(|slot| slot.owner())
            .filter(|(_, topic_id)| *topic_id == partition.topic_id)
            .and_then(|(member, _)| self.members.get(&member))
            .map(|member| member.member_id.clone());
        let committed = self.durable.offset(partition.topic_id, partition.partition);
        let committed_offset = committed.map(|committed| committed.offset);
        let known_end = committed_offset.unwrap_or_default();
        let high_watermark = ends.map_or(known_end, |ends| ends.high_watermark);
        let next = committed_offset
            .or(ends.map(|ends| ends.log_start_offset))
            .unwrap_or(high_watermark);
        GroupPartition {
            topic: named.topic,
            partition: named.partition,
            owner,
            committed_offset,
            committed_at_ms: committed.map(|committed| committed.committed_at_ms),
            metadata: committed
                .map(|committed| committed.metadata.clone())
                .unwrap_or_default(),
            high_watermark,
            lag: high_watermark.saturating_sub(next),
        }
    }
}
