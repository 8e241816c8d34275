//! What is asked of the cluster.
//!
//! The broker that leads the metadata quorum validates commands. Another one passes its own on to
//! it, in bytes ([`Command::encode`]), and gets an [`Answer`](crate::Answer) back. A command that a
//! later release has added is not read by an earlier one: it is asked only once the cluster's
//! feature level says that all brokers understand it.

use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::plugin::{DeploymentSpec, OnExisting};
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{AlterTopic, CreateTopic};
use millstream_protocol::{LeaderEpoch, TimestampMs, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::{BrokerId, Start};
use crate::codec::{CodecError, Format};
use crate::deployment::{DeploymentId, Plugin};
use crate::leaders::Nomination;
use crate::limits::MAX_COMMAND_BYTES;
use crate::partition::DirectoryNumber;
use crate::registration::Registration;
use crate::token::JoinToken;

/// The version of what brokers tell each other: the first byte of each command, answer and beat.
pub const WIRE_VERSION: u8 = 1;

const FORMAT: Format = Format {
    what: "command",
    version: WIRE_VERSION,
    limit: MAX_COMMAND_BYTES,
};

/// One change that somebody wants. New identities are chosen by who asks, at random. Grows only at
/// the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the cluster: the first command, and only once.
    FormCluster {
        /// The cluster's identity.
        cluster_id: Uuid,
    },
    /// A broker is there: for the first time, or again. After a restart it leads on in new epochs.
    RegisterBroker {
        /// What it says of itself.
        registration: Registration,
    },
    /// A broker is not there: it leads nothing and takes nothing until it registers again.
    FenceBroker {
        /// Its number.
        broker_id: BrokerId,
        /// Which start is meant. If another one has registered by now, nothing is to be done.
        start: Start,
    },
    /// A broker is to take no new replicas and leaderships, and be emptied.
    DrainBroker {
        /// Its number.
        broker_id: BrokerId,
    },
    /// A broker that was to be emptied stays.
    UndrainBroker {
        /// Its number.
        broker_id: BrokerId,
    },
    /// Removes a broker that keeps nothing.
    RemoveBroker {
        /// Its number.
        broker_id: BrokerId,
    },
    /// Lets a new broker in, once.
    IssueJoinToken {
        /// The token, by its hash.
        token: JoinToken,
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
    /// Makes brokers the leaders of partitions, each in the partition's next epoch; also where the
    /// leader stays the same.
    AppointLeaders {
        /// The partitions and their leaders-to-be; each partition once.
        nominations: Vec<Nomination>,
    },
    /// Replicas of one broker begin anew: their directory was damaged, or a relaxed log has gone
    /// through a loss of power. The record has their new directory numbers and the newest epochs.
    RegisterReplicas {
        /// The broker.
        broker_id: BrokerId,
        /// The partitions; each once.
        partitions: Vec<TopicPartition>,
    },
    /// Replicas of one broker have what they lacked: they count again.
    TrustReplicas {
        /// The broker.
        broker_id: BrokerId,
        /// The partitions, with the directories that are trusted.
        replicas: Vec<(TopicPartition, DirectoryNumber)>,
    },
    /// Partitions are to have other replicas.
    ReassignPartitions {
        /// The partitions, each once, and all their replicas-to-be, the preferred leader first.
        reassignments: Vec<(TopicPartition, Vec<BrokerId>)>,
    },
    /// The new replicas of a partition have everything: they take the place of the old ones. If the
    /// leader is not one of them, one of them becomes the leader in a new epoch by the same record.
    FinaliseReassignment {
        /// The partition.
        partition: TopicPartition,
        /// The epoch in which its leader has found so.
        epoch: LeaderEpoch,
        /// The version of the partition that its leader knows.
        version: u64,
    },
    /// An operator has a partition go on with one replica alone, as it is, because the others are
    /// lost. What only they had is gone.
    AcceptLoss {
        /// The partition.
        partition: TopicPartition,
        /// The broker with the replica.
        broker_id: BrokerId,
        /// Who says so.
        by: String,
        /// The time.
        at_ms: TimestampMs,
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

impl Command {
    /// The command in bytes, at most [`MAX_COMMAND_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        FORMAT.encode(self)
    }

    /// Reads a command that another broker passes on.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        FORMAT.decode(bytes)
    }
}

/// Who asks for a change of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A user. Names that begin with `__` are not his.
    User,
    /// A broker, for itself.
    Broker,
}
