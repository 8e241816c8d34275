//! Leaders: their appointment.

use std::collections::BTreeSet;

use millstream_protocol::{LeaderEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerId;
use crate::error::{AppointError, OverLimit, UnknownPartition};
use crate::image::Image;
use crate::limits::MAX_APPOINTMENTS;
use crate::partition::{DirectoryNumber, Partition};
use crate::record::Record;

/// A leader-to-be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nomination {
    /// The partition.
    pub partition: TopicPartition,
    /// The broker that is to lead it.
    pub leader: BrokerId,
    /// The epoch that comes to its end by it. If the partition is in another one by now, it was
    /// decided on already, and nothing is to be done.
    pub after: LeaderEpoch,
}

/// A partition's leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointment {
    /// The partition.
    pub partition: TopicPartition,
    /// The broker that leads it.
    pub leader: BrokerId,
    /// The directory with which it is to lead.
    pub directory: DirectoryNumber,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
}

impl Image {
    pub(crate) fn validate_appoint_leaders(
        &self,
        nominations: &[Nomination],
    ) -> Result<Option<Record>, AppointError> {
        if nominations.len() > MAX_APPOINTMENTS {
            return Err(OverLimit {
                what: "leaders to appoint at once",
                limit: MAX_APPOINTMENTS,
            }
            .into());
        }
        let mut seen = BTreeSet::new();
        let mut appointments = Vec::with_capacity(nominations.len());
        for nomination in nominations {
            let partition = nomination.partition;
            if !seen.insert(partition) {
                return Err(AppointError::Repeated { partition });
            }
            if self.known_partition(partition)?.leader_epoch == nomination.after {
                appointments.push(self.validate_nomination(nomination)?);
            }
        }
        Ok((!appointments.is_empty()).then_some(Record::LeadersAppointed { appointments }))
    }

    fn validate_nomination(&self, nomination: &Nomination) -> Result<Appointment, AppointError> {
        let (at, leader) = (nomination.partition, nomination.leader);
        let now = self.known_partition(at)?;
        let state = self.known_broker(leader)?.state;
        if !state.is_live() {
            return Err(AppointError::Fenced { broker_id: leader });
        }
        let Some(replica) = now.member(leader) else {
            return Err(AppointError::NoReplica {
                partition: at,
                broker_id: leader,
            });
        };
        // One that is being emptied keeps what it leads, and leads what no other can, and what is
        // beside these.
        let mut members = now.members();
        if state.is_draining()
            && now.leader != leader
            && self.leader_beside(at) != Some(leader)
            && members.any(|it| it.trusted && self.takes_new(it.broker_id))
        {
            return Err(AppointError::Draining {
                partition: at,
                broker_id: leader,
            });
        }
        now.appointment(at, leader, replica.directory)
            .ok_or(AppointError::EpochsExhausted { partition: at })
    }

    pub(crate) fn known_partition(
        &self,
        partition: TopicPartition,
    ) -> Result<&Partition, UnknownPartition> {
        self.partition(partition)
            .ok_or(UnknownPartition { partition })
    }

    /// A broker leads what it leads in the next epoch.
    pub(crate) fn lead_on(&mut self, broker_id: BrokerId) {
        let topics = self.topics.values_mut();
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            if partition.leader == broker_id
                && partition.leader_is_as_appointed()
                && let Some(epoch) = partition.leader_epoch.checked_add(1)
            {
                partition.leader_epoch = epoch;
                partition.touch();
            }
        }
    }

    /// Epochs only rise, whatever the record says.
    pub(crate) fn apply_appointment(&mut self, appointment: &Appointment) {
        if let Some(partition) = self.partition_mut(appointment.partition)
            && partition.appoint(appointment)
        {
            partition.touch();
        }
    }
}

impl Partition {
    /// Has this broker take over from the leader of now, or the leader itself go on in a new epoch.
    pub fn nominate(&self, partition: TopicPartition, leader: BrokerId) -> Nomination {
        Nomination {
            partition,
            leader,
            after: self.leader_epoch,
        }
    }

    /// The next leadership. `None` if there have been as many as there can be.
    pub(crate) fn appointment(
        &self,
        partition: TopicPartition,
        leader: BrokerId,
        directory: DirectoryNumber,
    ) -> Option<Appointment> {
        let leader_epoch = self.leader_epoch.checked_add(1)?;
        Some(Appointment {
            partition,
            leader,
            directory,
            leader_epoch,
        })
    }

    /// Takes over an appointment, unless it is not newer than the last.
    pub(crate) fn appoint(&mut self, appointment: &Appointment) -> bool {
        let is_newer = self.leader_epoch < appointment.leader_epoch;
        if is_newer {
            self.leader = appointment.leader;
            self.leader_directory = appointment.directory;
            self.leader_epoch = appointment.leader_epoch;
        }
        is_newer
    }
}
