//! Replicas whose directory is another one, and what it takes to trust them.

use std::collections::BTreeSet;

use millstream_protocol::{LeaderEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerId;
use crate::error::{OverLimit, RegisterReplicasError, TrustError};
use crate::image::Image;
use crate::limits::MAX_REPLICAS_AT_ONCE;
use crate::partition::DirectoryNumber;
use crate::record::Record;

/// A replica that begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredReplica {
    /// Its partition.
    pub partition: TopicPartition,
    /// The number of its new directory.
    pub directory: DirectoryNumber,
    /// The partition's newest epoch: the replica promises to follow no leader of an older one.
    pub leader_epoch: LeaderEpoch,
}

impl Image {
    /// The number of the next directory that is handed out.
    pub fn next_directory(&self) -> DirectoryNumber {
        self.next_directory
    }

    /// What the broker keeps no longer is passed over: others need their directories all the same.
    pub(crate) fn validate_register_replicas(
        &self,
        broker_id: BrokerId,
        partitions: &[TopicPartition],
    ) -> Result<Option<Record>, RegisterReplicasError> {
        check_count(partitions.len())?;
        self.known_broker(broker_id)?;
        let (mut seen, mut directory) = (BTreeSet::new(), self.next_directory);
        let mut replicas = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            if !seen.insert(partition) {
                return Err(RegisterReplicasError::Repeated { partition });
            }
            let now = self.partition(partition);
            let Some(now) = now.filter(|it| it.member(broker_id).is_some()) else {
                continue;
            };
            replicas.push(RegisteredReplica {
                partition,
                directory: directory.take(),
                leader_epoch: now.leader_epoch,
            });
        }
        Ok(
            (!replicas.is_empty()).then_some(Record::ReplicasRegistered {
                broker_id,
                replicas,
            }),
        )
    }

    /// What is not so any more is passed over: the partition or the directory may be another by now.
    pub(crate) fn validate_trust_replicas(
        &self,
        broker_id: BrokerId,
        replicas: &[(TopicPartition, DirectoryNumber)],
    ) -> Result<Option<Record>, TrustError> {
        check_count(replicas.len())?;
        self.known_broker(broker_id)?;
        let news = |(partition, directory): &(TopicPartition, DirectoryNumber)| {
            let member = self
                .partition(*partition)
                .and_then(|it| it.member(broker_id));
            member.is_some_and(|it| it.directory == *directory && !it.trusted)
        };
        let replicas: BTreeSet<_> = replicas.iter().copied().filter(news).collect();
        let replicas: Vec<_> = replicas.into_iter().collect();
        Ok((!replicas.is_empty()).then_some(Record::ReplicasTrusted {
            broker_id,
            replicas,
        }))
    }

    pub(crate) fn apply_replicas_registered(
        &mut self,
        broker_id: BrokerId,
        replicas: &[RegisteredReplica],
    ) {
        for &RegisteredReplica {
            partition,
            directory,
            ..
        } in replicas
        {
            self.next_directory = self.next_directory.max(directory.next());
            let partition = self.partition_mut(partition);
            let Some(partition) = partition.filter(|it| {
                it.member(broker_id)
                    .is_some_and(|it| it.directory < directory)
            }) else {
                continue;
            };
            partition.change_member(broker_id, |it| it.renew(directory));
        }
    }

    pub(crate) fn apply_replicas_trusted(
        &mut self,
        broker_id: BrokerId,
        replicas: &[(TopicPartition, DirectoryNumber)],
    ) {
        for (partition, directory) in replicas {
            let partition = self.partition_mut(*partition);
            let Some(partition) = partition.filter(|it| {
                it.member(broker_id)
                    .is_some_and(|it| it.directory == *directory)
            }) else {
                continue;
            };
            partition.change_member(broker_id, |it| it.trusted = true);
        }
    }

    /// Gives every replica of a broker another directory: the numbers from `first` on, by the
    /// topics' identities and the partitions' numbers.
    pub(crate) fn renew_directories(&mut self, broker_id: BrokerId, first: DirectoryNumber) {
        let mut next = first;
        let topics = self.topics.values_mut();
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            if partition.change_member(broker_id, |it| it.renew(next)) {
                next.take();
            }
        }
        self.next_directory = self.next_directory.max(next);
    }
}

fn check_count(count: usize) -> Result<(), OverLimit> {
    if count > MAX_REPLICAS_AT_ONCE {
        return Err(OverLimit {
            what: "replicas at once",
            limit: MAX_REPLICAS_AT_ONCE,
        });
    }
    Ok(())
}
