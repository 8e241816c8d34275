//! What was decided: one entry of the metadata log.

use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{ProducerId, TimestampMs, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::{Broker, BrokerId, BrokerState};
use crate::codec::{CodecError, Format};
use crate::deployment::Deployment;
use crate::leaders::Appointment;
use crate::limits::MAX_RECORD_BYTES;
use crate::partition::{DirectoryNumber, Partition};
use crate::reassignment::Reassignment;
use crate::replicas::RegisteredReplica;
use crate::token::{JoinToken, TokenHash};
use crate::topic::Topic;

/// The version of records and snapshots that this crate writes: the first byte of each. No release
/// has written it yet: the layout under it is what the tests hold.
pub const FORMAT_VERSION: u8 = 1;

/// One decided change. Grows only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The cluster was made.
    ClusterFormed {
        /// Its identity.
        cluster_id: Uuid,
        /// The kinds of records that all its brokers understand.
        feature_level: u16,
    },
    /// A broker registered. If it is a later start on the same data directory, it leads what it led
    /// in the next epoch of each partition.
    BrokerRegistered {
        /// The broker.
        broker: Broker,
        /// If it has another data directory: the first of the numbers that its replicas get, one
        /// after the other, by the topics' identities and the partitions' numbers.
        renewed: Option<DirectoryNumber>,
        /// The join token that it has redeemed.
        redeemed: Option<TokenHash>,
    },
    /// A broker was fenced, or drains, or drains no more.
    BrokerStateSet {
        /// Its number.
        broker_id: BrokerId,
        /// Its state from here on.
        state: BrokerState,
    },
    /// A topic was made.
    TopicCreated {
        /// The topic.
        topic: Topic,
    },
    /// A topic was changed.
    TopicAltered {
        /// Its identity.
        topic_id: TopicId,
        /// All its settings from here on.
        config: TopicConfig,
        /// The partitions that come behind the ones it has.
        added: Vec<Partition>,
    },
    /// A topic was deleted.
    TopicDeleted {
        /// Its identity.
        topic_id: TopicId,
    },
    /// Partitions have leaders in new epochs.
    LeadersAppointed {
        /// The partitions.
        appointments: Vec<Appointment>,
    },
    /// Producer ids were handed out.
    ProducerIdsAllocated {
        /// The first.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// A deployment is new, or has a new revision. The one before becomes history.
    DeploymentPut {
        /// The deployment.
        deployment: Deployment,
        /// How many earlier revisions are kept, the newest.
        history: u32,
    },
    /// A deployment was removed.
    DeploymentRemoved {
        /// Its name.
        name: String,
    },
    /// A deployment was paused, or goes on.
    ActivitySet {
        /// Its name.
        name: String,
        /// What its workers are to do from here on.
        activity: Activity,
    },
    /// A shadow has become a deployment's next revision, and is gone.
    ShadowPromoted {
        /// The deployment.
        deployment: Deployment,
        /// The shadow's name.
        shadow: String,
        /// How many earlier revisions are kept, the newest.
        history: u32,
    },
    /// A broker was removed.
    BrokerRemoved {
        /// Its number.
        broker_id: BrokerId,
    },
    /// Replicas of a broker begin anew.
    ReplicasRegistered {
        /// The broker.
        broker_id: BrokerId,
        /// Its replicas.
        replicas: Vec<RegisteredReplica>,
    },
    /// Replicas of a broker are trusted.
    ReplicasTrusted {
        /// The broker.
        broker_id: BrokerId,
        /// Their partitions and directories.
        replicas: Vec<(TopicPartition, DirectoryNumber)>,
    },
    /// Partitions are to have other replicas.
    PartitionsReassigned {
        /// The partitions.
        reassignments: Vec<Reassignment>,
    },
    /// The new replicas of a partition have taken the place of the old ones.
    ReassignmentFinished {
        /// The partition.
        partition: TopicPartition,
        /// Its new leader, if the old one is not among the replicas any more.
        appointment: Option<Appointment>,
    },
    /// An operator has a partition go on with one replica alone, which is trusted, whatever the
    /// others had.
    LossAccepted {
        /// The replica, as the leader in a new epoch.
        appointment: Appointment,
        /// Who said so.
        by: String,
        /// When.
        at_ms: TimestampMs,
    },
    /// A join token was issued. Those that have expired by then are gone.
    JoinTokenIssued {
        /// The token.
        token: JoinToken,
    },
}

const FORMAT: Format = Format {
    what: "record",
    version: FORMAT_VERSION,
    limit: MAX_RECORD_BYTES,
};

impl Record {
    /// The record in bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        FORMAT.encode(self)
    }

    /// Reads a record back.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        FORMAT.decode(bytes)
    }
}
