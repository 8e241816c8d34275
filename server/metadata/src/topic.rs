//! Topics: creation, change, deletion.

use millstream_protocol::api::plugin::DeliveryGuarantee;
use millstream_protocol::api::topic::{AlterTopic, Cleanup, CreateTopic, TopicConfig};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_PARTITIONS_PER_TOPIC};
use millstream_protocol::{PartitionIndex, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::deployment::Deployment;
use crate::error::{
    AlterTopicError, ConfigError, CreateTopicError, DeleteTopicError, OutOfRange, OverLimit,
    TopicExists, UnknownTopic,
};
use crate::image::Image;
use crate::limits::{
    Limits, MAX_SEGMENT_BYTES, MAX_TIME_MS, MIN_BATCH_BYTES, MIN_SEGMENT_BYTES, MIN_SEGMENT_MS,
    REPLICATION_FACTORS,
};
use crate::names::{check_name_for, check_not_reserved};
use crate::partition::Partition;
use crate::record::Record;

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

impl Topic {
    /// The partition of this number.
    pub fn at(&self, partition: PartitionIndex) -> TopicPartition {
        TopicPartition {
            topic_id: self.topic_id,
            partition,
        }
    }
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
        let (name, mut config) = (topic.name.clone(), topic.config.clone());
        if let Some(input) = self.input_topic(&name) {
            config.replication_factor = input.config.replication_factor;
        }
        let partitions = self.place(&name, 0, topic.partitions, config.replication_factor)?;
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
        let added = added.try_into().unwrap_or(u32::MAX);
        let added = self.place(&topic.name, now, added, config.replication_factor)?;
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

    pub(crate) fn apply_topic_created(&mut self, topic: &Topic) {
        if self.topics.contains_key(&topic.topic_id) || self.topic_ids.contains_key(&topic.name) {
            return;
        }
        self.hand_out_of(&topic.partitions);
        self.topic_ids.insert(topic.name.clone(), topic.topic_id);
        self.topics.insert(topic.topic_id, topic.clone());
    }

    pub(crate) fn apply_topic_altered(
        &mut self,
        topic_id: TopicId,
        config: &TopicConfig,
        added: &[Partition],
    ) {
        if let Some(topic) = self.topics.get_mut(&topic_id) {
            // When something counts as being there is a part of what replicas are told.
            if topic.config.durability != config.durability {
                topic.partitions.iter_mut().for_each(Partition::touch);
            }
            topic.config = config.clone();
            topic.partitions.extend_from_slice(added);
            self.hand_out_of(added);
        }
    }

    fn hand_out_of(&mut self, partitions: &[Partition]) {
        self.hand_out(partitions.iter().flat_map(Partition::members));
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
    if !REPLICATION_FACTORS.contains(&config.replication_factor.into()) {
        return Err(ConfigError::ReplicationFactor {
            given: config.replication_factor,
        });
    }
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
        replication_factor: config.replication_factor,
    }
}
