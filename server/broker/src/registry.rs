//! The partitions of which this broker keeps a replica.

use std::collections::HashMap;

use millstream_protocol::TopicPartition;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::partition::{Partition, Standing};

/// Every partition of which there is a replica here, by its id.
#[derive(Default)]
pub(crate) struct Registry {
    partitions: RwLock<HashMap<TopicPartition, Partition>>,
    /// One has come or gone.
    changed: watch::Sender<()>,
}

impl Registry {
    pub(crate) fn get(&self, id: TopicPartition) -> Option<Partition> {
        self.partitions.read().get(&id).cloned()
    }

    /// Waits until there is a replica of a partition here.
    pub(crate) async fn kept(&self, id: TopicPartition) -> Partition {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(partition) = self.get(id) {
                return partition;
            }
            // The sender is here.
            let _ = changed.changed().await;
        }
    }

    pub(crate) fn insert(&self, partition: Partition) {
        self.partitions.write().insert(partition.id(), partition);
        self.changed.send_replace(());
    }

    pub(crate) fn remove(&self, id: TopicPartition) -> Option<Partition> {
        let removed = self.partitions.write().remove(&id);
        self.changed.send_replace(());
        removed
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Partition> {
        self.partitions.read().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.partitions.read().len()
    }

    /// Waits until this broker leads no partition that has other replicas.
    pub(crate) async fn none_led_with_others(&self) {
        for partition in self.all() {
            let mut visible = partition.watch();
            let ended = visible.wait_for(|it| {
                !matches!(it.standing, Standing::Leading(_)) || it.is_alone || it.closed.is_some()
            });
            // One that is gone is led no more.
            let _ = ended.await;
        }
    }

    /// Waits until this broker leads a partition.
    pub(crate) async fn led(&self, id: TopicPartition) -> Partition {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            match self.get(id) {
                None => {
                    // The sender is here.
                    let _ = changed.changed().await;
                }
                Some(partition) => {
                    let mut visible = partition.watch();
                    let is_led = visible.wait_for(|it| {
                        matches!(it.standing, Standing::Leading(_)) || it.closed.is_some()
                    });
                    let is_led = async { is_led.await.is_ok_and(|it| it.closed.is_none()) };
                    tokio::select! {
                        true = is_led => return partition,
                        // Another one is to take its place.
                        _ = changed.changed() => {}
                    }
                }
            }
        }
    }
}
