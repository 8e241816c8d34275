//! The errors of each command. Their codes on the wire stand in one place, `error_code`.

mod broker;
mod partition;

pub use broker::{BrokerError, ConflictError, FeatureError, RegisterError, TokenError};
pub use partition::{
    AppointError, FinaliseError, LossError, ReassignError, RegisterReplicasError, ReplicaSetError,
    TrustError,
};

use millstream_protocol::api::grants::HttpHostError;
use millstream_protocol::limits::MAX_NAME_BYTES;
use millstream_protocol::{TopicId, TopicPartition};
use thiserror::Error;
use uuid::Uuid;

use crate::broker::BrokerId;
use crate::deployment::DeploymentId;
use crate::names::RESERVED_PREFIX;

/// A name that may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// There is none.
    #[error("the {what}'s name is empty")]
    Empty {
        /// Whose name.
        what: &'static str,
    },
    /// It is too long.
    #[error("the {what}'s name has {bytes} bytes, more than {MAX_NAME_BYTES}")]
    TooLong {
        /// Whose name.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// It has a character that does not belong in a name.
    #[error(
        "the {what}'s name {name:?} has {character:?} in it: letters, digits, '.', '_' and '-' may be"
    )]
    Character {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
        /// The first such character.
        character: char,
    },
    /// It is a directory's name for itself or its parent.
    #[error("a {what} cannot be named {name:?}")]
    Dots {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// It is the broker's own.
    #[error(
        "{what} {name} is the broker's own: names that begin with {RESERVED_PREFIX} are reserved"
    )]
    Reserved {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// A number that is too small or too large.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} is {given}, and must be from {min} to {max}")]
pub struct OutOfRange {
    /// Which number, by its name in a deployment file, and its unit.
    pub what: &'static str,
    /// What was given.
    pub given: u64,
    /// The least it may be.
    pub min: u64,
    /// The most it may be.
    pub max: u64,
}

impl OutOfRange {
    /// Refuses `given` outside `min..=max`.
    pub(crate) fn check(what: &'static str, given: u64, min: u64, max: u64) -> Result<(), Self> {
        if (min..=max).contains(&given) {
            Ok(())
        } else {
            Err(Self {
                what,
                given,
                min,
                max,
            })
        }
    }
}

/// There would be more of something than there may be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("more than {limit} {what}")]
pub struct OverLimit {
    /// What there would be too many of.
    pub what: &'static str,
    /// How many there may be.
    pub limit: usize,
}

/// No topic has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no topic is named {topic}")]
pub struct UnknownTopic {
    /// The name.
    pub topic: String,
}

/// A topic has this name already.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a topic is named {topic} already")]
pub struct TopicExists {
    /// The name.
    pub topic: String,
}

/// There is no such partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no partition {partition}")]
pub struct UnknownPartition {
    /// The partition.
    pub partition: TopicPartition,
}

/// No broker has this number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no broker {broker_id}")]
pub struct UnknownBroker {
    /// The number.
    pub broker_id: BrokerId,
}

/// There are not as many brokers as a partition is to have replicas.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a partition with replication factor {replication_factor} has no place: {live} of {known} brokers take \
     replicas now; start more, or ask for fewer replicas"
)]
pub struct TooFewBrokers {
    /// How many replicas were asked for.
    pub replication_factor: u8,
    /// How many brokers are there and take replicas.
    pub live: usize,
    /// How many there would be if none of them were fenced.
    pub known: usize,
}

/// No deployment has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no deployment is named {deployment}")]
pub struct UnknownDeployment {
    /// The name.
    pub deployment: String,
}

/// A deployment has this name already.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a deployment is named {deployment} already")]
pub struct DeploymentExists {
    /// The name.
    pub deployment: String,
}

/// What is said about a component makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the component is refused: {reason}")]
pub struct InvalidPlugin {
    /// What is wrong.
    pub reason: &'static str,
}

/// Settings under which a topic cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A setting is too small or too large.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// There are too few replicas, too many, or one more than is of use.
    #[error(
        "replication_factor is {given}, and must be 1, 2, 3 or 5 (4 survive no more failures than 3)"
    )]
    ReplicationFactor {
        /// What was given.
        given: u8,
    },
    /// The largest batch does not fit a segment.
    #[error(
        "max_batch_bytes is {max_batch_bytes}, more than segment_bytes, which is {segment_bytes}"
    )]
    BatchAboveSegment {
        /// The largest batch.
        max_batch_bytes: u32,
        /// The segment's size.
        segment_bytes: u64,
    },
}

/// Why a deployment cannot be as it is specified.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// A name may not be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What it is granted to send requests to is no host.
    #[error(transparent)]
    Host(#[from] HttpHostError),
    /// It reads nothing.
    #[error("deployment {deployment} has no input")]
    NoInputs {
        /// The deployment.
        deployment: String,
    },
    /// Something has the same name twice.
    #[error("the {what} {name:?} is given twice")]
    Repeated {
        /// Input, output or configuration key.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An input or output topic does not exist.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// There is too much of something.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// A limit of the worker is outside the budget.
    #[error("the worker's limit {0}")]
    OutOfRange(#[from] OutOfRange),
    /// What is computed again after a crash would not be the same.
    #[error(
        "a deterministic deployment cannot read {topic}, which is compacted: its batches change"
    )]
    CompactedInput {
        /// The input.
        topic: String,
    },
    /// Whose letters are whose could not be told: they are handed back and deleted in their order.
    #[error(
        "topic {topic} takes the dead letters of the deployment {deployment}: each has a topic of its own"
    )]
    SharedDeadLetters {
        /// The topic.
        topic: String,
        /// Whose it is.
        deployment: String,
    },
    /// What it is granted may be another when it is computed again after a crash.
    #[error("a deterministic deployment cannot be granted {grant}: its outputs could differ")]
    NotDeterministic {
        /// The grant, in the words of the command line.
        grant: String,
    },
    /// What it looks up may be another when it is computed again after a crash.
    #[error(
        "a deterministic deployment cannot have the table {table}: it moves on between a crash and the \
         repetition, so outputs could differ; deploy it without `deterministic`"
    )]
    TableMoves {
        /// The table.
        table: String,
    },
    /// A topic that is cut off at its end would lose keys.
    #[error(
        "the table {table} cannot be made of topic {topic}, which is not compacted: old records of it are \
         deleted, whatever their keys; `millstream topic alter {topic} --cleanup compact` changes that"
    )]
    TableNotCompacted {
        /// The table.
        table: String,
        /// Its topic.
        topic: String,
    },
    /// What it looks up would be what it works on.
    #[error(
        "the table {table} cannot be made of topic {topic}, which the deployment {what}: one topic cannot be \
         both; name another, or keep what is to be looked up in the plugin's state"
    )]
    TableInUse {
        /// The table.
        table: String,
        /// Its topic.
        topic: String,
        /// What the deployment does with it: a verb.
        what: &'static str,
    },
    /// Its records would come back to it.
    #[error("records would go round in a loop: {}", path.join(" -> "))]
    Loop {
        /// Topics and deployments in turn, from a topic back to the same topic.
        path: Vec<String>,
    },
}

/// Why the cluster is not formed, or nothing is done before it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    /// It is not formed yet.
    #[error("the cluster is not formed yet")]
    NotFormed,
    /// It was formed before.
    #[error("the cluster was formed before, as {cluster_id}")]
    FormedBefore {
        /// Its identity.
        cluster_id: Uuid,
    },
}

/// Why a topic is not created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CreateTopicError {
    /// Its name may not be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name is taken.
    #[error(transparent)]
    Exists(#[from] TopicExists),
    /// The identity is taken.
    #[error("a topic has the identity {topic_id} already")]
    IdInUse {
        /// The identity.
        topic_id: TopicId,
    },
    /// The number of partitions is out of range.
    #[error(transparent)]
    Partitions(#[from] OutOfRange),
    /// Its settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Too many topics or partitions.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Its partitions have no place.
    #[error(transparent)]
    TooFewBrokers(#[from] TooFewBrokers),
}

/// Why a topic is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlterTopicError {
    /// It is the broker's own.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It does not exist.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// A partition cannot be taken away: its records would go with it, and keys would move.
    #[error("topic {topic} has {now} partitions, and cannot have fewer ({wanted})")]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        now: usize,
        /// How many were wanted.
        wanted: usize,
    },
    /// Its old records are looked up by their keys: they cannot go by their age.
    #[error("topic {topic} is a table of the deployment {deployment}: it stays compacted")]
    IsTable {
        /// The topic.
        topic: String,
        /// The first deployment of which it is a table.
        deployment: String,
    },
    /// What is deterministic is handed the same batches again after a crash: compaction changes them.
    #[error(
        "topic {topic} is an input of the deterministic deployment {deployment}: it is not compacted; replace \
         the deployment by one that is not deterministic first"
    )]
    DeterministicInput {
        /// The topic.
        topic: String,
        /// The first deployment that reads it.
        deployment: String,
    },
    /// What is deterministic sends the same outputs again after a crash: with more partitions they would go
    /// elsewhere.
    #[error(
        "topic {topic} is an output of the deterministic deployment {deployment}: it keeps its partitions; \
         replace the deployment by one that is not deterministic first, or by one with another topic"
    )]
    DeterministicOutput {
        /// The topic.
        topic: String,
        /// The first deployment that writes it.
        deployment: String,
    },
    /// The number of partitions is out of range.
    #[error(transparent)]
    Partitions(#[from] OutOfRange),
    /// Its settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Too many partitions.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Its new partitions have no place.
    #[error(transparent)]
    TooFewBrokers(#[from] TooFewBrokers),
}

/// Why a topic is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeleteTopicError {
    /// It is the broker's own.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It does not exist.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// A deployment reads or writes it.
    #[error("topic {topic} is used by the deployment {deployment}")]
    InUse {
        /// The topic.
        topic: String,
        /// The first deployment that uses it.
        deployment: String,
    },
}

/// Why no producer ids are handed out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProducerIdsError {
    /// None or too many are asked for.
    #[error(transparent)]
    Count(#[from] OutOfRange),
    /// All have been handed out.
    #[error("no producer ids are left")]
    Exhausted,
}

/// Why a plugin is not deployed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeployError {
    /// The deployment cannot be as specified.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The name is taken.
    #[error(transparent)]
    Exists(#[from] DeploymentExists),
    /// The identity is taken.
    #[error("a deployment has the identity {deployment_id} already")]
    IdInUse {
        /// The identity.
        deployment_id: DeploymentId,
    },
    /// There is nothing of this name to upgrade.
    #[error(transparent)]
    Unknown(#[from] UnknownDeployment),
    /// An upgrade would change nothing.
    #[error("deployment {deployment} is at work with this component and these settings already")]
    Unchanged {
        /// Its name.
        deployment: String,
    },
    /// What is said about the component makes no sense.
    #[error(transparent)]
    Plugin(#[from] InvalidPlugin),
    /// Too many deployments.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why a shadow is not promoted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PromoteError {
    /// There is no such deployment.
    #[error(transparent)]
    Unknown(#[from] UnknownDeployment),
    /// It is none of this deployment's.
    #[error("deployment {shadow} is no shadow of {deployment}")]
    NoShadow {
        /// The live deployment.
        deployment: String,
        /// What is no shadow of it.
        shadow: String,
    },
    /// It is one of a deployment that had the name before: another shadow was promoted, or it was removed.
    #[error(
        "{shadow} is a shadow of what {deployment} was before: `plugin remove {shadow}`, then \
         `plugin replay {deployment}` makes one of what it is now"
    )]
    EarlierShadow {
        /// The live deployment.
        deployment: String,
        /// The shadow.
        shadow: String,
    },
    /// The deployment could not be as the shadow is.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A name is too long.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A broker's registration.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A join token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A broker's state.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A topic's creation.
    #[error(transparent)]
    CreateTopic(#[from] CreateTopicError),
    /// A topic's change.
    #[error(transparent)]
    AlterTopic(#[from] AlterTopicError),
    /// A topic's deletion.
    #[error(transparent)]
    DeleteTopic(#[from] DeleteTopicError),
    /// Leaders.
    #[error(transparent)]
    Appoint(#[from] AppointError),
    /// Replicas that begin anew.
    #[error(transparent)]
    RegisterReplicas(#[from] RegisterReplicasError),
    /// Replicas that are trusted again.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Other replicas.
    #[error(transparent)]
    Reassign(#[from] ReassignError),
    /// The end of a change of replicas.
    #[error(transparent)]
    Finalise(#[from] FinaliseError),
    /// An accepted loss.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// Producer ids.
    #[error(transparent)]
    ProducerIds(#[from] ProducerIdsError),
    /// A deployment.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// A shadow's promotion.
    #[error(transparent)]
    Promote(#[from] PromoteError),
    /// A deployment's removal.
    #[error(transparent)]
    UnknownDeployment(#[from] UnknownDeployment),
}
