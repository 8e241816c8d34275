//! What is durable about a group.

use std::collections::BTreeMap;

use millstream_protocol::api::group::Generation;
use millstream_protocol::{PartitionIndex, TopicId, TopicPartition};

use crate::record::{CommittedOffset, Record};

/// A group's generation and committed offsets. Changes through [`Durable::replay`] alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    generation: Generation,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Durable {
    /// Takes in a record of this group.
    pub(crate) fn replay(&mut self, record: &Record) {
        match record {
            Record::Group { generation, .. } => self.generation = generation.unwrap_or_default(),
            Record::Offset {
                partition,
                committed: Some(committed),
                ..
            } => {
                self.offsets.insert(*partition, committed.clone());
            }
            Record::Offset {
                partition,
                committed: None,
                ..
            } => {
                self.offsets.remove(partition);
            }
        }
    }

    /// The generation; 0 before the first assignment.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The committed offset of a partition.
    pub(crate) fn offset(
        &self,
        topic_id: TopicId,
        partition: PartitionIndex,
    ) -> Option<&CommittedOffset> {
        self.offsets.get(&TopicPartition {
            topic_id,
            partition,
        })
    }

    /// All committed offsets.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.offsets
            .iter()
            .map(|(partition, committed)| (*partition, committed))
    }

    /// The partitions of one topic that have a committed offset.
    pub(crate) fn partitions_of(&self, topic_id: TopicId) -> impl Iterator<Item = TopicPartition> {
        let first = TopicPartition {
            topic_id,
            partition: 0,
        };
        let last = TopicPartition {
            topic_id,
            partition: PartitionIndex::MAX,
        };
        self.offsets
            .range(first..=last)
            .map(|(partition, _)| *partition)
    }

    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.generation == 0 && self.offsets.is_empty()
    }

    /// The records that would make this state.
    pub(crate) fn records(&self, group: &str) -> Vec<Record> {
        let generation = (self.generation > 0).then(|| Record::Group {
            group: group.to_owned(),
            generation: Some(self.generation),
        });
        let offsets = self
            .offsets
            .iter()
            .map(|(partition, committed)| Record::Offset {
                group: group.to_owned(),
                partition: *partition,
                committed: Some(committed.clone()),
            });
        generation.into_iter().chain(offsets).collect()
    }
}
