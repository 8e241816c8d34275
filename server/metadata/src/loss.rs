//! An operator's word that a partition goes on without what is lost.

use millstream_protocol::{TimestampMs, TopicPartition};

use crate::broker::BrokerId;
use crate::deployment::check_principal;
use crate::error::LossError;
use crate::image::Image;
use crate::leaders::Appointment;
use crate::partition::{AcceptedLoss, Replica};
use crate::record::Record;

impl Image {
    /// Holds for a partition that cannot go on by itself alone: of one of its sets, no majority is
    /// there and has all that it has acknowledged.
    pub(crate) fn validate_accept_loss(
        &self,
        at: TopicPartition,
        broker_id: BrokerId,
        by: &str,
        at_ms: TimestampMs,
    ) -> Result<Option<Record>, LossError> {
        check_principal(by)?;
        let now = self.known_partition(at)?;
        self.known_broker(broker_id)?;
        let Some(replica) = now.member(broker_id) else {
            return Err(LossError::NoReplica {
                partition: at,
                broker_id,
            });
        };
        if !self.is_live(broker_id) {
            return Err(LossError::Fenced { broker_id });
        }
        if Self::is_majority(now, |it| it.trusted && self.is_live(it.broker_id)) {
            return Err(LossError::NothingLost { partition: at });
        }
        let appointment = now
            .appointment(at, broker_id, replica.directory)
            .ok_or(LossError::EpochsExhausted { partition: at })?;
        let by = by.to_owned();
        Ok(Some(Record::LossAccepted {
            appointment,
            by,
            at_ms,
        }))
    }

    pub(crate) fn apply_loss_accepted(
        &mut self,
        appointment: &Appointment,
        by: &str,
        at_ms: TimestampMs,
    ) {
        if let Some(partition) = self.partition_mut(appointment.partition)
            && partition.appoint(appointment)
        {
            partition.replicas = vec![Replica::new(appointment.leader, appointment.directory)];
            partition.next.clear();
            partition.accepted_loss = Some(AcceptedLoss {
                by: by.to_owned(),
                at_ms,
                leader_epoch: appointment.leader_epoch,
            });
            partition.touch();
        }
    }
}
