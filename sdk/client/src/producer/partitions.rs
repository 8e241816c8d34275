//! The queues of all partitions of a topic: a list that only grows.

use std::sync::{Arc, OnceLock};

use super::queue::PartitionQueue;
use super::state::ProducerState;

/// The queues, in the order of their partitions.
///
/// Every record looks here, so looking takes no lock: a longer list is hung behind the one it
/// replaces, and whoever looks goes to the last one. Topics grow so rarely that the way stays short.
#[derive(Debug)]
pub(super) struct Partitions {
    queues: Vec<Arc<PartitionQueue>>,
    longer: OnceLock<Box<Partitions>>,
}

impl Partitions {
    pub(super) fn new(state: &Arc<ProducerState>, partitions: u32) -> Self {
        let queue = |partition| PartitionQueue::new(state, partition);
        Self {
            queues: (0..partitions).map(queue).collect(),
            longer: OnceLock::new(),
        }
    }

    /// All queues there are now.
    pub(super) fn queues(&self) -> &[Arc<PartitionQueue>] {
        &self.last().queues
    }

    /// Adds queues until there are as many as `partitions`. For one task alone: of two lists hung
    /// up at once, one is lost.
    pub(super) fn grow(&self, state: &Arc<ProducerState>, partitions: u32) {
        let last = self.last();
        let added = last.queues.len() as u32..partitions;
        if added.is_empty() {
            return;
        }
        let added = added.map(|partition| PartitionQueue::new(state, partition));
        let queues = last.queues.iter().cloned().chain(added).collect();
        let _ = last.longer.set(Box::new(Self {
            queues,
            longer: OnceLock::new(),
        }));
        state.set_partitions(partitions);
    }

    fn last(&self) -> &Self {
        let mut last = self;
        while let Some(longer) = last.longer.get() {
            last = longer;
        }
        last
    }
}
