//! Other replicas for a partition: from the old set over both to the new one.
//!
//! A change is begun by [`Command::ReassignPartitions`]: the new set stands beside the old one, and
//! the partition's leader brings the new replicas up. When they have everything, it says so by
//! [`Command::FinaliseReassignment`], and the new set takes the place of the old one. While both
//! stand, nothing else can change the set, and nothing takes a change back: what was committed
//! since, the new set alone may have.
//!
//! [`Command::ReassignPartitions`]: crate::Command::ReassignPartitions
//! [`Command::FinaliseReassignment`]: crate::Command::FinaliseReassignment

use std::collections::BTreeSet;

use millstream_protocol::{LeaderEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerId;
use crate::error::{FinaliseError, OverLimit, ReassignError, ReplicaSetError};
use crate::image::Image;
use crate::leaders::Appointment;
use crate::limits::{MAX_REASSIGNMENTS, REPLICATION_FACTORS};
use crate::partition::{DirectoryNumber, Partition, Replica, has};
use crate::record::Record;

/// The replicas that a partition is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The partition.
    pub partition: TopicPartition,
    /// Its replicas-to-be, the preferred leader first.
    pub next: Vec<Replica>,
}

impl Image {
    pub(crate) fn validate_reassign_partitions(
        &self,
        wanted: &[(TopicPartition, Vec<BrokerId>)],
    ) -> Result<Option<Record>, ReassignError> {
        if wanted.len() > MAX_REASSIGNMENTS {
            return Err(OverLimit {
                what: "partitions to reassign at once",
                limit: MAX_REASSIGNMENTS,
            }
            .into());
        }
        let (mut seen, mut directory) = (BTreeSet::new(), self.next_directory);
        let mut reassignments = Vec::with_capacity(wanted.len());
        for (partition, brokers) in wanted {
            let partition = *partition;
            if !seen.insert(partition) {
                return Err(ReassignError::Repeated { partition });
            }
            let now = self.known_partition(partition)?;
            if now
                .target()
                .iter()
                .map(|it| it.broker_id)
                .eq(brokers.iter().copied())
            {
                continue;
            }
            if now.is_changing() {
                return Err(ReassignError::UnderWay { partition });
            }
            let next = self.next_set(partition, now, brokers, &mut directory)?;
            reassignments.push(Reassignment { partition, next });
        }
        Ok((!reassignments.is_empty()).then_some(Record::PartitionsReassigned { reassignments }))
    }

    fn next_set(
        &self,
        partition: TopicPartition,
        now: &Partition,
        brokers: &[BrokerId],
        directory: &mut DirectoryNumber,
    ) -> Result<Vec<Replica>, ReplicaSetError> {
        if !REPLICATION_FACTORS.contains(&brokers.len()) {
            let given = brokers.len();
            return Err(ReplicaSetError::Count { partition, given });
        }
        let input = self.input_of(partition);
        let mut next = Vec::with_capacity(brokers.len());
        for &broker_id in brokers {
            if has(&next, broker_id) {
                return Err(ReplicaSetError::Repeated {
                    partition,
                    broker_id,
                });
            }
            let state = self.known_broker(broker_id)?.state;
            let replica = match now.member(broker_id) {
                Some(replica) => *replica,
                // A companion goes where its input is.
                None if state.takes_new()
                    || input.is_some_and(|it| has(it.target(), broker_id)) =>
                {
                    Replica::new(broker_id, directory.take())
                }
                None => {
                    return Err(ReplicaSetError::TakesNothing {
                        partition,
                        broker_id,
                    });
                }
            };
            next.push(replica);
        }
        let live = next.iter().filter(|it| self.is_live(it.broker_id)).count();
        if live * 2 <= next.len() {
            let of = next.len();
            return Err(ReplicaSetError::NoMajority {
                partition,
                live,
                of,
            });
        }
        Ok(next)
    }

    pub(crate) fn validate_finalise(
        &self,
        at: TopicPartition,
        epoch: LeaderEpoch,
        version: u64,
    ) -> Result<Option<Record>, FinaliseError> {
        let now = self.known_partition(at)?;
        if (now.leader_epoch, now.version) != (epoch, version) {
            return Err(FinaliseError::Stale {
                partition: at,
                epoch,
                version,
                epoch_now: now.leader_epoch,
                version_now: now.version,
            });
        }
        if !now.is_changing() {
            return Err(FinaliseError::NotChanging { partition: at });
        }
        let appointment = if has(&now.next, now.leader) {
            None
        } else {
            Some(self.successor(at, now)?)
        };
        Ok(Some(Record::ReassignmentFinished {
            partition: at,
            appointment,
        }))
    }

    /// Who leads the new set when the leader is not in it: the first that is there, one that takes
    /// leaderships and is trusted rather than another, and a companion's input's leader before all.
    fn successor(&self, at: TopicPartition, now: &Partition) -> Result<Appointment, FinaliseError> {
        let live = now.next.iter().filter(|it| self.is_live(it.broker_id));
        let beside = self.leader_beside(at);
        let first = live.min_by_key(|it| {
            let is_beside = beside == Some(it.broker_id);
            (!it.trusted, !is_beside, !self.takes_new(it.broker_id))
        });
        let successor = first.ok_or(FinaliseError::NoSuccessor { partition: at })?;
        now.appointment(at, successor.broker_id, successor.directory)
            .ok_or(FinaliseError::EpochsExhausted { partition: at })
    }

    pub(crate) fn apply_partitions_reassigned(&mut self, reassignments: &[Reassignment]) {
        for Reassignment { partition, next } in reassignments {
            if let Some(partition) = self.partition_mut(*partition) {
                partition.next.clone_from(next);
                partition.touch();
            }
            self.hand_out(next);
        }
    }

    pub(crate) fn apply_reassignment_finished(
        &mut self,
        at: TopicPartition,
        appointment: Option<&Appointment>,
    ) {
        let partition = self.partition_mut(at);
        if let Some(partition) = partition.filter(|partition| partition.is_changing()) {
            partition.replicas = std::mem::take(&mut partition.next);
            if let Some(appointment) = appointment {
                partition.appoint(appointment);
            }
            partition.touch();
        }
    }
}
