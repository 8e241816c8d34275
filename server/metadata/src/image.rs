//! The image, its queries, and the two steps that change it.

use std::collections::BTreeMap;

use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::{ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::broker::{Broker, BrokerId, BrokerState};
use crate::command::Command;
use crate::deployment::Deployment;
use crate::error::{ClusterError, CommandError, OutOfRange, ProducerIdsError};
use crate::limits::{Limits, MAX_PRODUCER_IDS};
use crate::record::{Appointment, Record};
use crate::topic::{Partition, Topic};

/// The kinds of records that this crate understands. Rises when a record is added.
pub const FEATURE_LEVEL: u16 = 1;

/// The cluster as of some record of the metadata log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(crate) cluster: Option<(Uuid, u16)>,
    pub(crate) brokers: BTreeMap<BrokerId, Broker>,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) topic_ids: BTreeMap<String, TopicId>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// Earlier revisions of each deployment, the oldest first.
    pub(crate) history: BTreeMap<String, Vec<Deployment>>,
    pub(crate) next_producer_id: ProducerId,
}

impl Image {
    /// The cluster's identity, once it is formed.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster.map(|(cluster_id, _)| cluster_id)
    }

    /// The kinds of records that all brokers understand; 0 before the cluster is formed.
    pub fn feature_level(&self) -> u16 {
        self.cluster.map_or(0, |(_, level)| level)
    }

    /// The brokers, by number.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The broker of this number.
    pub fn broker(&self, broker_id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&broker_id)
    }

    /// The topics, by name, internal ones included.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topic_ids
            .values()
            .filter_map(|topic_id| self.topics.get(topic_id))
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The topic of this identity.
    pub fn topic_by_id(&self, topic_id: TopicId) -> Option<&Topic> {
        self.topics.get(&topic_id)
    }

    /// One partition.
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topic_by_id(partition.topic_id)?
            .partitions
            .get(partition.partition as usize)
    }

    /// The deployments, by name.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }

    /// The deployment of this name.
    pub fn deployment(&self, name: &str) -> Option<&Deployment> {
        self.deployments.get(name)
    }

    /// The first producer id that nobody has.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Decides on a command. `None`: granted, and there is nothing to change.
    pub fn validate(
        &self,
        command: &Command,
        limits: &Limits,
    ) -> Result<Option<Record>, CommandError> {
        if let Command::FormCluster { cluster_id } = command {
            return Ok(Some(self.validate_form_cluster(*cluster_id)?));
        }
        if self.cluster.is_none() {
            return Err(ClusterError::NotFormed.into());
        }
        Ok(match command {
            Command::FormCluster { .. } => None,
            Command::RegisterBroker {
                broker_id,
                directory_id,
                address,
            } => self.validate_register_broker(*broker_id, *directory_id, address, limits)?,
            Command::FenceBroker { broker_id } => self.validate_fence_broker(*broker_id)?,
            Command::CreateTopic {
                topic_id,
                topic,
                actor,
            } => self.validate_create_topic(*topic_id, topic, *actor, limits)?,
            Command::AlterTopic { change, actor } => {
                self.validate_alter_topic(change, *actor, limits)?
            }
            Command::DeleteTopic { topic, actor } => self.validate_delete_topic(topic, *actor)?,
            Command::AppointLeaders { appointments } => {
                self.validate_appoint_leaders(appointments)?
            }
            Command::AllocateProducerIds { count } => Some(self.validate_producer_ids(*count)?),
            Command::PutDeployment {
                deployment_id,
                spec,
                plugin,
                deployed_at_ms,
                on_existing,
                by,
                change,
                replay,
            } => {
                let deployment = Deployment {
                    deployment_id: *deployment_id,
                    revision: 1,
                    spec: spec.clone(),
                    plugin: plugin.clone(),
                    deployed_at_ms: *deployed_at_ms,
                    activity: Activity::Active,
                    deployed_by: by.clone(),
                    change: change.clone(),
                    shadow: self.shadow(replay.as_deref())?,
                };
                self.validate_put_deployment(deployment, *on_existing, limits)?
            }
            Command::RemoveDeployment { name } => self.validate_remove_deployment(name)?,
            Command::Promote {
                name,
                shadow,
                at_ms,
                by,
            } => Some(self.validate_promote((name, shadow), *at_ms, by, limits)?),
            Command::SetActivity { name, activity } => self.validate_activity(name, *activity)?,
        })
    }

    /// Takes in a record. Total: a record about what is not there changes nothing, which happens
    /// for none that [`Image::validate`] made of this image.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::ClusterFormed {
                cluster_id,
                feature_level,
            } => {
                self.cluster = Some((*cluster_id, *feature_level));
            }
            Record::BrokerRegistered { broker } => {
                self.brokers.insert(broker.broker_id, broker.clone());
            }
            Record::BrokerFenced { broker_id } => {
                if let Some(broker) = self.brokers.get_mut(broker_id) {
                    broker.state = BrokerState::Fenced;
                }
            }
            Record::TopicCreated { topic } => self.apply_topic_created(topic),
            Record::TopicAltered {
                topic_id,
                config,
                added,
            } => {
                if let Some(topic) = self.topics.get_mut(topic_id) {
                    topic.config = config.clone();
                    topic.partitions.extend_from_slice(added);
                }
            }
            Record::TopicDeleted { topic_id } => {
                if let Some(topic) = self.topics.remove(topic_id) {
                    self.topic_ids.remove(&topic.name);
                }
            }
            Record::LeadersAppointed { appointments } => {
                appointments
                    .iter()
                    .for_each(|appointment| self.apply_appointment(appointment));
            }
            Record::ProducerIdsAllocated { first, count } => {
                let next = first.saturating_add(u64::from(*count));
                self.next_producer_id = self.next_producer_id.max(next);
            }
            Record::DeploymentPut {
                deployment,
                history,
            } => self.apply_deployment_put(deployment, *history),
            Record::DeploymentRemoved { name } => {
                self.deployments.remove(name);
                self.history.remove(name);
            }
            Record::ShadowPromoted {
                deployment,
                shadow,
                history,
            } => {
                self.deployments.remove(shadow);
                self.history.remove(shadow);
                self.apply_deployment_put(deployment, *history);
            }
            Record::ActivitySet { name, activity } => {
                if let Some(deployment) = self.deployments.get_mut(name) {
                    deployment.activity = *activity;
                }
            }
        }
    }

    fn apply_topic_created(&mut self, topic: &Topic) {
        if self.topics.contains_key(&topic.topic_id) || self.topic_ids.contains_key(&topic.name) {
            return;
        }
        self.topic_ids.insert(topic.name.clone(), topic.topic_id);
        self.topics.insert(topic.topic_id, topic.clone());
    }

    /// Epochs only rise, whatever the record says.
    fn apply_appointment(&mut self, appointment: &Appointment) {
        let Appointment {
            partition: at,
            leader,
            leader_epoch,
        } = *appointment;
        let topic = self.topics.get_mut(&at.topic_id);
        let partition = topic.and_then(|topic| topic.partitions.get_mut(at.partition as usize));
        if let Some(partition) = partition.filter(|partition| partition.leader_epoch < leader_epoch)
        {
            partition.leader = leader;
            partition.leader_epoch = leader_epoch;
        }
    }

    fn validate_form_cluster(&self, cluster_id: Uuid) -> Result<Record, ClusterError> {
        match self.cluster_id() {
            Some(cluster_id) => Err(ClusterError::FormedBefore { cluster_id }),
            None => Ok(Record::ClusterFormed {
                cluster_id,
                feature_level: FEATURE_LEVEL,
            }),
        }
    }

    fn validate_producer_ids(&self, count: u32) -> Result<Record, ProducerIdsError> {
        OutOfRange::check(
            "the number of producer ids",
            count.into(),
            1,
            MAX_PRODUCER_IDS.into(),
        )?;
        let first = self.next_producer_id;
        match first.checked_add(u64::from(count)) {
            Some(_) => Ok(Record::ProducerIdsAllocated { first, count }),
            None => Err(ProducerIdsError::Exhausted),
        }
    }
}
