//! What was decided: one entry of the metadata log.

use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{ProducerId, TimestampMs, TopicId, TopicPartition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::broker::{Broker, BrokerId, BrokerState};
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
    /// A broker registered.
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

/// A record or a snapshot that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// It is longer than it may be.
    #[error("a metadata {what} of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Record or snapshot.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It was written by a later broker, or is empty.
    #[error("a metadata {what} has the unknown version {version:?}")]
    Version {
        /// Record or snapshot.
        what: &'static str,
        /// The version it claims, if there is a byte at all.
        version: Option<u8>,
    },
    /// It is damaged.
    #[error("a metadata {what} is damaged")]
    Malformed {
        /// Record or snapshot.
        what: &'static str,
        /// What the codec says.
        source: postcard::Error,
    },
    /// Its parts contradict each other.
    #[error("a metadata {what} has the {part} {name} twice")]
    Repeated {
        /// Record or snapshot.
        what: &'static str,
        /// Topic, broker and so on.
        part: &'static str,
        /// Its name or number.
        name: String,
    },
}

impl Record {
    /// The record in bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        encode(self, "record", MAX_RECORD_BYTES)
    }

    /// Reads a record back.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, "record", MAX_RECORD_BYTES)
    }
}

pub(crate) fn encode<T: Serialize>(
    value: &T,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, vec![FORMAT_VERSION])
        .map_err(|source| CodecError::Malformed { what, source })?;
    check_length(&bytes, what, limit)?;
    Ok(bytes)
}

/// Reads `bytes` to the end. Their length is checked first, and bounds what the codec allocates.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    limit: usize,
) -> Result<T, CodecError> {
    check_length(bytes, what, limit)?;
    let body = match bytes.split_first() {
        Some((&FORMAT_VERSION, body)) => body,
        other => {
            return Err(CodecError::Version {
                what,
                version: other.map(|(version, _)| *version),
            });
        }
    };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(CodecError::Malformed {
            what,
            source: postcard::Error::DeserializeBadEncoding,
        }),
        Err(source) => Err(CodecError::Malformed { what, source }),
    }
}

fn check_length(bytes: &[u8], what: &'static str, limit: usize) -> Result<(), CodecError> {
    match bytes.len() {
        bytes if bytes > limit => Err(CodecError::TooLong { what, bytes, limit }),
        _ => Ok(()),
    }
}
