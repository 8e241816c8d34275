//! The topics that a coordinator knows of.

use std::collections::BTreeMap;

use millstream_protocol::{PartitionIndex, TopicId};

/// A topic as far as a group is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its identity: a topic deleted and created again has another.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// The number of the broker that leads each partition; `None`, and what the list lacks: nobody
    /// that is there.
    pub leaders: Vec<Option<u32>>,
}

impl Topic {
    /// The broker that leads a partition.
    pub(crate) fn leader(&self, partition: PartitionIndex) -> Option<u32> {
        *self.leaders.get(partition as usize)?
    }

    /// The partitions that another broker leads than `before`.
    pub(crate) fn led_otherwise(&self, before: &Self) -> Vec<PartitionIndex> {
        let partitions = 0..self.partitions;
        partitions
            .filter(|&partition| self.leader(partition) != before.leader(partition))
            .collect()
    }
}

/// All topics, by name.
#[derive(Default)]
pub(crate) struct Topics(BTreeMap<String, Topic>);

impl Topics {
    /// The topic of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.0.get(name)
    }

    /// Puts `topic`, and returns the one of the same name that was there.
    pub(crate) fn insert(&mut self, topic: Topic) -> Option<Topic> {
        self.0.insert(topic.name.clone(), topic)
    }

    /// Removes the topic of this identity.
    pub(crate) fn remove(&mut self, topic_id: TopicId) -> Option<Topic> {
        let name = self
            .0
            .values()
            .find(|topic| topic.topic_id == topic_id)?
            .name
            .clone();
        self.0.remove(&name)
    }

    /// Whether the topic of this name is the one of this identity.
    pub(crate) fn is_current(&self, name: &str, topic_id: TopicId) -> bool {
        self.get(name)
            .is_some_and(|topic| topic.topic_id == topic_id)
    }
}
