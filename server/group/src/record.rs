//! What a coordinator writes to the log.
//!
//! The log is compacted by key, so the last record of every key is the state; a record without a
//! value is a tombstone. Key and value are postcard, and each begins with the number of its kind
//! or version:
//!
//! ```text
//! key    0 | group                                         a group
//!        1 | group | topic id (16, length first) | partition      a committed offset
//! value  0 | generation                                    a group, version 1
//!        0 | topic | offset | metadata | committed at (ms) a committed offset, version 1
//! ```
//!
//! Strings are a varint length and UTF-8, integers are varints, the time is zigzag. A new version
//! is a new number at the end; readers keep the old ones. Bytes left over are an error, and so is
//! an unknown number: a coordinator that dropped what it cannot read would lose offsets.

use millstream_protocol::api::group::Generation;
use millstream_protocol::limits::{MAX_COMMIT_METADATA_BYTES, MAX_NAME_BYTES};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs, TopicId, TopicPartition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest key, bytes.
pub const MAX_KEY_BYTES: usize = MAX_NAME_BYTES + 32;

/// The longest value, bytes.
pub const MAX_VALUE_BYTES: usize = MAX_COMMIT_METADATA_BYTES + MAX_NAME_BYTES + 32;

/// One change of a group's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The group itself.
    Group {
        /// Its name.
        group: String,
        /// Its generation from here on; `None` when the group is deleted.
        generation: Option<Generation>,
    },
    /// The group's committed offset in one partition.
    Offset {
        /// The group's name.
        group: String,
        /// The partition.
        partition: TopicPartition,
        /// The offset from here on; `None` when it is forgotten.
        committed: Option<CommittedOffset>,
    },
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The name of the partition's topic.
    pub topic: String,
    /// The next offset to read.
    pub offset: Offset,
    /// What the consumer keeps beside it.
    pub metadata: String,
    /// When it was committed.
    pub committed_at_ms: TimestampMs,
}

/// A [`Record`] in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// What the log is compacted by.
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A record that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It is longer than any record of ours.
    #[error("a group record's {part} of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// The key or the value.
        part: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It is damaged, or of a kind or version that a later broker wrote.
    #[error("a group record's {part} is damaged or of an unknown version")]
    Malformed {
        /// The key or the value.
        part: &'static str,
        /// What the codec says.
        source: postcard::Error,
    },
}

#[derive(Serialize, Deserialize)]
enum Key<S> {
    Group(S),
    Offset {
        group: S,
        topic_id: TopicId,
        partition: PartitionIndex,
    },
}

#[derive(Serialize, Deserialize)]
enum GroupValue {
    V1 { generation: Generation },
}

#[derive(Serialize, Deserialize)]
enum OffsetValue<S> {
    V1 {
        topic: S,
        offset: Offset,
        metadata: S,
        committed_at_ms: TimestampMs,
    },
}

impl Record {
    /// The name of the group whose state this changes.
    pub fn group(&self) -> &str {
        match self {
            Self::Group { group, .. } | Self::Offset { group, .. } => group,
        }
    }

    /// The record in bytes. Fails only where the codec does, which it does not for these types.
    pub fn encode(&self) -> Result<EncodedRecord, RecordError> {
        let (key, value) = match self {
            Self::Group { group, generation } => {
                let value =
                    generation.map(|generation| to_bytes(&GroupValue::V1 { generation }, "value"));
                (Key::Group(group.as_str()), value.transpose()?)
            }
            Self::Offset {
                group,
                partition:
                    TopicPartition {
                        topic_id,
                        partition,
                    },
                committed,
            } => {
                let key = Key::Offset {
                    group: group.as_str(),
                    topic_id: *topic_id,
                    partition: *partition,
                };
                let value = committed.as_ref().map(|committed| {
                    let value = OffsetValue::V1 {
                        topic: committed.topic.as_str(),
                        offset: committed.offset,
                        metadata: committed.metadata.as_str(),
                        committed_at_ms: committed.committed_at_ms,
                    };
                    to_bytes(&value, "value")
                });
                (key, value.transpose()?)
            }
        };
        Ok(EncodedRecord {
            key: to_bytes(&key, "key")?,
            value,
        })
    }

    /// Reads a record back.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        match from_bytes(key, "key", MAX_KEY_BYTES)? {
            Key::Group(group) => {
                let value = value
                    .map(|value| from_bytes(value, "value", MAX_VALUE_BYTES))
                    .transpose()?;
                let generation = value.map(|GroupValue::V1 { generation }| generation);
                Ok(Self::Group { group, generation })
            }
            Key::Offset {
                group,
                topic_id,
                partition,
            } => {
                let value = value
                    .map(|value| from_bytes(value, "value", MAX_VALUE_BYTES))
                    .transpose()?;
                let committed = value.map(
                    |OffsetValue::V1 {
                         topic,
                         offset,
                         metadata,
                         committed_at_ms,
                     }| {
                        CommittedOffset {
                            topic,
                            offset,
                            metadata,
                            committed_at_ms,
                        }
                    },
                );
                Ok(Self::Offset {
                    group,
                    partition: TopicPartition {
                        topic_id,
                        partition,
                    },
                    committed,
                })
            }
        }
    }
}

fn to_bytes<T: Serialize>(value: &T, part: &'static str) -> Result<Vec<u8>, RecordError> {
    postcard::to_stdvec(value).map_err(|source| RecordError::Malformed { part, source })
}

/// Reads `bytes` to the end. Their length is checked first, and bounds what the codec allocates.
fn from_bytes<T: DeserializeOwned>(
    bytes: &[u8],
    part: &'static str,
    limit: usize,
) -> Result<T, RecordError> {
    if bytes.len() > limit {
        return Err(RecordError::TooLong {
            part,
            bytes: bytes.len(),
            limit,
        });
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(RecordError::Malformed {
            part,
            source: postcard::Error::DeserializeBadEncoding,
        }),
        Err(source) => Err(RecordError::Malformed { part, source }),
    }
}
