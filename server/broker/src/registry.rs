//! The partitions hosted by this broker.

use std::collections::HashMap;

use millstream_protocol::TopicPartition;
use parking_lot::RwLock;

use crate::partition::Partition;

/// Every hosted partition by its id.
#[derive(Default)]
pub(crate) struct Registry {
    partitions: RwLock<HashMap<TopicPartition, Partition>>,
}

impl Registry {
    pub(crate) fn get(&self, id: TopicPartition) -> Option<Partition> {
        self.partitions.read().get(&id).cloned()
    }

    pub(crate) fn insert(&self, partition: Partition) {
        self.partitions.write().insert(partition.id(), partition);
    }

    pub(crate) fn remove(&self, id: TopicPartition) -> Option<Partition> {
        self.partitions.write().remove(&id)
    }

    pub(crate) fn count(&self) -> usize {
        self.partitions.read().len()
    }
}
