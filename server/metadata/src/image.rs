//! The image, its queries, and the two steps that change it.

use std::collections::BTreeMap;

use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::{PartitionIndex, ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::broker::{Broker, BrokerId};
use crate::command::Command;
use crate::deployment::Deployment;
use crate::error::{ClusterError, CommandError, OutOfRange, ProducerIdsError};
use crate::limits::{Limits, MAX_PRODUCER_IDS};
use crate::partition::{DirectoryNumber, Partition};
use crate::record::Record;
use crate::token::{JoinToken, TokenHash};
use crate::topic::Topic;

/// The kinds of records that this crate understands. Rises when a record is added.
pub const FEATURE_LEVEL: u16 = 1;

/// The lowest feature level at which this crate can take part in a cluster.
pub const MIN_FEATURE_LEVEL: u16 = 1;

/// The cluster as of some record of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) cluster: Option<(Uuid, u16)>,
    pub(crate) brokers: BTreeMap<BrokerId, Broker>,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) topic_ids: BTreeMap<String, TopicId>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// Earlier revisions of each deployment, the oldest first.
    pub(crate) history: BTreeMap<String, Vec<Deployment>>,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) next_directory: DirectoryNumber,
    /// Join tokens that nobody has redeemed.
    pub(crate) tokens: BTreeMap<TokenHash, JoinToken>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            cluster: None,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            deployments: BTreeMap::new(),
            history: BTreeMap::new(),
            next_producer_id: 0,
            next_directory: DirectoryNumber::FIRST,
            tokens: BTreeMap::new(),
        }
    }
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

    /// The broker that leads a partition, if it is there: where the worker of the partition runs.
    pub fn home(&self, topic_id: TopicId, partition: PartitionIndex) -> Option<BrokerId> {
        let partition = self.partition(TopicPartition {
            topic_id,
            partition,
        })?;
        self.has_leader(partition).then_some(partition.leader)
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
            Command::RegisterBroker { registration } => {
                self.validate_register_broker(registration, limits)?
            }
            Command::FenceBroker { broker_id, start } => {
                self.validate_fence_broker(*broker_id, *start)?
            }
            Command::DrainBroker { broker_id } => self.validate_drain_broker(*broker_id)?,
            Command::UndrainBroker { broker_id } => self.validate_undrain_broker(*broker_id)?,
            Command::RemoveBroker { broker_id } => self.validate_remove_broker(*broker_id)?,
            Command::IssueJoinToken { token } => self.validate_issue_join_token(token)?,
            Command::CreateTopic {
                topic_id,
                topic,
                actor,
            } => self.validate_create_topic(*topic_id, topic, *actor, limits)?,
            Command::AlterTopic { change, actor } => {
                self.validate_alter_topic(change, *actor, limits)?
            }
            Command::DeleteTopic { topic, actor } => self.validate_delete_topic(topic, *actor)?,
            Command::AppointLeaders { nominations } => {
                self.validate_appoint_leaders(nominations)?
            }
            Command::RegisterReplicas {
                broker_id,
                partitions,
            } => self.validate_register_replicas(*broker_id, partitions)?,
            Command::TrustReplicas {
                broker_id,
                replicas,
            } => self.validate_trust_replicas(*broker_id, replicas)?,
            Command::ReassignPartitions { reassignments } => {
                self.validate_reassign_partitions(reassignments)?
            }
            Command::FinaliseReassignment {
                partition,
                epoch,
                version,
            } => self.validate_finalise(*partition, *epoch, *version)?,
            Command::AcceptLoss {
                partition,
                broker_id,
                by,
                at_ms,
            } => self.validate_accept_loss(*partition, *broker_id, by, *at_ms)?,
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
            Record::BrokerRegistered {
                broker,
                renewed,
                redeemed,
            } => self.apply_broker_registered(broker, *renewed, *redeemed),
            Record::BrokerStateSet { broker_id, state } => {
                if let Some(broker) = self.brokers.get_mut(broker_id) {
                    broker.state = *state;
                }
            }
            Record::TopicCreated { topic } => self.apply_topic_created(topic),
            Record::TopicAltered {
                topic_id,
                config,
                added,
            } => self.apply_topic_altered(*topic_id, config, added),
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
            Record::BrokerRemoved { broker_id } => {
                self.brokers.remove(broker_id);
            }
            Record::ReplicasRegistered {
                broker_id,
                replicas,
            } => self.apply_replicas_registered(*broker_id, replicas),
            Record::ReplicasTrusted {
                broker_id,
                replicas,
            } => self.apply_replicas_trusted(*broker_id, replicas),
            Record::PartitionsReassigned { reassignments } => {
                self.apply_partitions_reassigned(reassignments);
            }
            Record::ReassignmentFinished {
                partition,
                appointment,
            } => self.apply_reassignment_finished(*partition, appointment.as_ref()),
            Record::LossAccepted {
                appointment,
                by,
                at_ms,
            } => self.apply_loss_accepted(appointment, by, *at_ms),
            Record::JoinTokenIssued { token } => self.apply_join_token_issued(token),
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
