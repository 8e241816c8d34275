//! Topics: creation, change, deletion, and the leaders of their partitions.

use std::collections::BTreeSet;

use millstream_protocol::api::plugin::DeliveryGuarantee;
use millstream_protocol::api::topic::{AlterTopic, Cleanup, CreateTopic, TopicConfig};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_PARTITIONS_PER_TOPIC};
use millstream_protocol::{LeaderEpoch, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::{BrokerId, BrokerState};
use crate::command::Actor;
use crate::deployment::Deployment;
use crate::error::{
    AlterTopicError, AppointError, ConfigError, CreateTopicError, DeleteTopicError, OutOfRange,
    OverLimit, TopicExists, UnknownBroker, UnknownPartition, UnknownTopic,
};
use crate::image::Image;
use crate::limits::{
    Limits, MAX_APPOINTMENTS, MAX_SEGMENT_BYTES, MAX_TIME_MS, MIN_BATCH_BYTES, MIN_SEGMENT_BYTES,
    MIN_SEGMENT_MS,
};
use crate::names::{check_name_for, check_not_reserved};
use crate::placement::place;
use crate::record::{Appointment, Record};

/// The epoch of a partition's first leadership. 0 stands for none.
pub const FIRST_LEADER_EPOCH: LeaderEpoch = 1;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity.
    pub topic_id: TopicId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The broker that leads it.
    pub leader: BrokerId,
    /// The epoch of its leadership; rises with every appointment.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that keep it, the leader among them.
    pub replicas: Vec<BrokerId>,
}

impl Image {
    pub(crate) fn validate_create_topic(
        &self,
        topic_id: TopicId,
        topic: &CreateTopic,
        actor: Actor,
        limits: &Limits,
    ) -> Result<Option<Record>, CreateTopicError> {
        check_name_for(actor, "topic", &topic.name)?;
        if self.topic(&topic.name).is_some() {
            return Err(TopicExists {
                topic: topic.name.clone(),
            }
            .into());
        }
        if self.topic_by_id(topic_id).is_some() {
            return Err(CreateTopicError::IdInUse { topic_id });
        }
        check_partitions(topic.partitions)?;
        check_config(&topic.config)?;
        if self.topics().count() >= limits.topics {
            return Err(OverLimit {
                what: "topics",
                limit: limits.topics,
            }
            .into());
        }
        self.check_room_for(topic.partitions as usize, limits)?;
        let partitions = place(self, topic.partitions)?;
        let (name, config) = (topic.name.clone(), topic.config.clone());
        Ok(Some(Record::TopicCreated {
            topic: Topic {
                topic_id,
                name,
                config,
                partitions,
            },
        }))
    }

    pub(crate) fn validate_alter_topic(
        &self,
        change: &AlterTopic,
        actor: Actor,
        limits: &Limits,
    ) -> Result<Option<Record>, AlterTopicError> {
        check_not_reserved(actor, "topic", &change.name)?;
        let topic = self.topic(&change.name).ok_or_else(|| UnknownTopic {
            topic: change.name.clone(),
        })?;
        let config = altered(&topic.config, change);
        check_config(&config)?;
        if config.cleanup != Cleanup::Compact
            && let Some(user) = self.deployments().find(|it| it.looks_up(&topic.name))
        {
            return Err(AlterTopicError::IsTable {
                topic: topic.name.clone(),
                deployment: user.spec.name.clone(),
            });
        }
        if config.cleanup == Cleanup::Compact
            && let Some(reader) = self.deterministic(|it| it.spec.inputs.contains(&topic.name))
        {
            return Err(AlterTopicError::DeterministicInput {
                topic: topic.name.clone(),
                deployment: reader.spec.name.clone(),
            });
        }
        let now = topic.partitions.len();
        let wanted = change.partitions.map_or(now, |count| count as usize);
        let Some(added) = wanted.checked_sub(now) else {
            return Err(AlterTopicError::FewerPartitions {
                topic: topic.name.clone(),
                now,
                wanted,
            });
        };
        if added > 0 {
            let writes =
                |it: &Deployment| it.spec.outputs.iter().any(|out| out.topic == topic.name);
            if let Some(writer) = self.deterministic(writes) {
                return Err(AlterTopicError::DeterministicOutput {
                    topic: topic.name.clone(),
                    deployment: writer.spec.name.clone(),
                });
            }
            check_partitions(wanted.try_into().unwrap_or(u32::MAX))?;
            self.check_room_for(added, limits)?;
        } else if config == topic.config {
            return Ok(None);
        }
        let added = place(self, added.try_into().unwrap_or(u32::MAX))?;
        Ok(Some(Record::TopicAltered {
            topic_id: topic.topic_id,
            config,
            added,
        }))
    }

    /// The first deterministic deployment of this kind.
    fn deterministic(&self, is_meant: impl Fn(&Deployment) -> bool) -> Option<&Deployment> {
        let mut deployments = self.deployments();
        deployments.find(|it| it.spec.delivery == DeliveryGuarantee::Deterministic && is_meant(it))
    }

    pub(crate) fn validate_delete_topic(
        &self,
        name: &str,
        actor: Actor,
    ) -> Result<Option<Record>, DeleteTopicError> {
        check_not_reserved(actor, "topic", name)?;
        let topic = self.topic(name).ok_or_else(|| UnknownTopic {
            topic: name.to_owned(),
        })?;
        let user = self.deployments().find(|deployment| deployment.uses(name));
        if let Some(deployment) = user {
            let (topic, deployment) = (name.to_owned(), deployment.spec.name.clone());
            return Err(DeleteTopicError::InUse { topic, deployment });
        }
        Ok(Some(Record::TopicDeleted {
            topic_id: topic.topic_id,
        }))
    }

    pub(crate) fn validate_appoint_leaders(
        &self,
        wanted: &[(TopicPartition, BrokerId)],
    ) -> Result<Option<Record>, AppointError> {
        if wanted.len() > MAX_APPOINTMENTS {
            return Err(OverLimit {
                what: "leaders to appoint at once",
                limit: MAX_APPOINTMENTS,
            }
            .into());
        }
        let mut seen = BTreeSet::new();
        let mut appointments = Vec::with_capacity(wanted.len());
        for &(partition, leader) in wanted {
            if !seen.insert(partition) {
                return Err(AppointError::Repeated { partition });
            }
            appointments.push(self.validate_appointment(partition, leader)?);
        }
        Ok((!appointments.is_empty()).then_some(Record::LeadersAppointed { appointments }))
    }

    fn validate_appointment(
        &self,
        partition: TopicPartition,
        leader: BrokerId,
    ) -> Result<Appointment, AppointError> {
        let now = self
            .partition(partition)
            .ok_or(UnknownPartition { partition })?;
        let broker = self
            .broker(leader)
            .ok_or(UnknownBroker { broker_id: leader })?;
        if broker.state == BrokerState::Fenced {
            return Err(AppointError::Fenced { broker_id: leader });
        }
        if !now.replicas.contains(&leader) {
            return Err(AppointError::NoReplica {
                partition,
                broker_id: leader,
            });
        }
        let leader_epoch = now
            .leader_epoch
            .checked_add(1)
            .ok_or(AppointError::EpochsExhausted { partition })?;
        Ok(Appointment {
            partition,
            leader,
            leader_epoch,
        })
    }

    fn check_room_for(&self, added: usize, limits: &Limits) -> Result<(), OverLimit> {
        let now: usize = self.topics().map(|topic| topic.partitions.len()).sum();
        if now.saturating_add(added) > limits.partitions {
            return Err(OverLimit {
                what: "partitions in the cluster",
                limit: limits.partitions,
            });
        }
        Ok(())
    }
}

fn check_partitions(count: u32) -> Result<(), OutOfRange> {
    OutOfRange::check(
        "partitions",
        count.into(),
        1,
        MAX_PARTITIONS_PER_TOPIC.into(),
    )
}

/// Refuses settings under which a log cannot work.
pub fn check_config(config: &TopicConfig) -> Result<(), ConfigError> {
    let segment = OutOfRange::check(
        "segment_bytes",
        config.segment_bytes,
        MIN_SEGMENT_BYTES,
        MAX_SEGMENT_BYTES,
    );
    segment?;
    OutOfRange::check("segment_ms", config.segment_ms, MIN_SEGMENT_MS, MAX_TIME_MS)?;
    let batch = u64::from(config.max_batch_bytes);
    OutOfRange::check(
        "max_batch_bytes",
        batch,
        MIN_BATCH_BYTES.into(),
        MAX_BATCH_BYTES as u64,
    )?;
    if let Some(retention_ms) = config.retention_ms {
        OutOfRange::check("retention_ms", retention_ms, 1, MAX_TIME_MS)?;
    }
    if let Some(retention_bytes) = config.retention_bytes {
        OutOfRange::check("retention_bytes", retention_bytes, 1, u64::MAX)?;
    }
    OutOfRange::check(
        "tombstone_retention_ms",
        config.tombstone_retention_ms,
        0,
        MAX_TIME_MS,
    )?;
    if batch > config.segment_bytes {
        return Err(ConfigError::BatchAboveSegment {
            max_batch_bytes: config.max_batch_bytes,
            segment_bytes: config.segment_bytes,
        });
    }
    Ok(())
}

fn altered(config: &TopicConfig, change: &AlterTopic) -> TopicConfig {
    TopicConfig {
        durability: change.durability.unwrap_or(config.durability),
        cleanup: change.cleanup.unwrap_or(config.cleanup),
        retention_ms: change.retention_ms.unwrap_or(config.retention_ms),
        retention_bytes: change.retention_bytes.unwrap_or(config.retention_bytes),
        segment_bytes: change.segment_bytes.unwrap_or(config.segment_bytes),
        segment_ms: change.segment_ms.unwrap_or(config.segment_ms),
        max_batch_bytes: change.max_batch_bytes.unwrap_or(config.max_batch_bytes),
        tombstone_retention_ms: change
            .tombstone_retention_ms
            .unwrap_or(config.tombstone_retention_ms),
    }
}
