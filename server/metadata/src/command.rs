//! What is asked of the cluster.

use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::plugin::{DeploymentSpec, OnExisting};
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{AlterTopic, CreateTopic};
use millstream_protocol::{TimestampMs, TopicId, TopicPartition};
use uuid::Uuid;

use crate::broker::BrokerId;
use crate::deployment::{DeploymentId, Plugin};

/// One change that somebody wants. New identities are chosen by who asks, at random.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it does not last"
)]
pub enum Command {
    /// Makes the cluster: the first command, and only once.
    FormCluster {
        /// The cluster's identity.
        cluster_id: Uuid,
    },
    /// A broker is there: for the first time, or again after a start.
    RegisterBroker {
        /// Its number.
        broker_id: BrokerId,
        /// The identity of its data directory: another one after the disk was replaced.
        directory_id: Uuid,
        /// Where clients and peers reach it, `host:port`.
        address: String,
    },
    /// A broker takes no new partitions until it registers again.
    FenceBroker {
        /// Its number.
        broker_id: BrokerId,
    },
    /// Makes a topic and places its partitions.
    CreateTopic {
        /// The new topic's identity.
        topic_id: TopicId,
        /// Its name, partitions and settings.
        topic: CreateTopic,
        /// Who asks.
        actor: Actor,
    },
    /// Changes a topic's settings or adds partitions.
    AlterTopic {
        /// The topic and what changes.
        change: AlterTopic,
        /// Who asks.
        actor: Actor,
    },
    /// Deletes a topic.
    DeleteTopic {
        /// Its name.
        topic: String,
        /// Who asks.
        actor: Actor,
    },
    /// Makes brokers the leaders of partitions, each in the partition's next epoch. Also when a
    /// leader stays the same: after a restart it leads in a new epoch.
    AppointLeaders {
        /// The partitions and their leaders-to-be; each partition once.
        appointments: Vec<(TopicPartition, BrokerId)>,
    },
    /// Hands out producer ids that nobody else gets.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Deploys a plugin, or another version of it.
    PutDeployment {
        /// The identity of a new deployment. One that is replaced keeps its own.
        deployment_id: DeploymentId,
        /// The deployment's name and what it is to do.
        spec: DeploymentSpec,
        /// The component.
        plugin: Plugin,
        /// The time.
        deployed_at_ms: TimestampMs,
        /// What happens if there is a deployment of this name.
        on_existing: OnExisting,
        /// Who asks for it.
        by: String,
        /// What it is called in the deployment's history.
        change: RevisionChange,
        /// What it replays, if it is a shadow.
        replay: Option<Box<Replay>>,
    },
    /// Removes a deployment.
    RemoveDeployment {
        /// Its name.
        name: String,
    },
    /// Puts a shadow in the place of its live deployment. The live one's journals, and what the
    /// shadow wrote, are nobody's afterwards.
    Promote {
        /// The live deployment's name.
        name: String,
        /// The shadow's.
        shadow: String,
        /// The time.
        at_ms: TimestampMs,
        /// Who asks for it.
        by: String,
    },
    /// Pauses a deployment, or has it go on.
    SetActivity {
        /// Its name.
        name: String,
        /// What its workers are to do from here on.
        activity: Activity,
    },
}

/// Who asks for a change of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user. Names that begin with `__` are not his.
    User,
    /// A broker, for itself.
    Broker,
}
