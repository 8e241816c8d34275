//! Partitions that wait for their turns, each with what it has to send.

use std::collections::{HashMap, VecDeque};

use millstream_protocol::TopicPartition;

/// A queue in which a partition is once.
pub(super) struct Ring<T> {
    order: VecDeque<TopicPartition>,
    waiting: HashMap<TopicPartition, T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }
}

impl<T: Default> Ring<T> {
    /// What a partition has to send. If it did not wait, it does now, behind all others.
    pub(super) fn entry(&mut self, partition: TopicPartition) -> &mut T {
        self.waiting.entry(partition).or_insert_with(|| {
            self.order.push_back(partition);
            T::default()
        })
    }

    /// Takes out the partition whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(TopicPartition, T)> {
        let partition = self.order.pop_front()?;
        let waiting = self.waiting.remove(&partition)?;
        Some((partition, waiting))
    }

    /// What a partition has to send, if it waits.
    pub(super) fn get_mut(&mut self, partition: TopicPartition) -> Option<&mut T> {
        self.waiting.get_mut(&partition)
    }

    pub(super) fn contains(&self, partition: TopicPartition) -> bool {
        self.waiting.contains_key(&partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
