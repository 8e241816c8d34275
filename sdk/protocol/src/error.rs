//! The closed, append-only list of error codes, and what a client must do about each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, as it is said on the wire. Grows only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The frame or its body could not be read. The stream is closed.
    MalformedFrame,
    /// A length exceeds its limit. The stream is closed.
    FrameTooLarge,
    /// The peers share no protocol version.
    UnsupportedVersion,
    /// A request came before the connection's `Hello`.
    HandshakeRequired,
    /// The principal may not do this.
    NotAuthorized,
    /// The request is well-formed, but asks for something that is not allowed or makes no sense.
    InvalidRequest,
    /// No topic has this name or id.
    UnknownTopic,
    /// The topic has no partition of this number.
    UnknownPartition,
    /// A topic of this name exists already.
    TopicExists,
    /// The offset lies below the log's start or above what is visible.
    OffsetOutOfRange,
    /// A record exceeds the topic's or the broker's limit.
    RecordTooLarge,
    /// The record batch fails its checksum or its layout is wrong.
    CorruptBatch,
    /// The batch's sequence does not follow the one before it.
    OutOfOrderSequence,
    /// A newer instance of this producer has taken over.
    ProducerFenced,
    /// The broker no longer knows this producer; ask for a new producer id.
    UnknownProducer,
    /// Another broker leads the partition now.
    NotLeader,
    /// The broker knows of this, but is not ready to answer for it yet.
    NotReady,
    /// The broker is at a limit (connections, streams, requests under way).
    Busy,
    /// The disk is full. Nothing of the batch was kept.
    StorageFull,
    /// The storage failed. Nothing of the batch was acknowledged.
    StorageFailed,
    /// The partition's log is damaged below its flushed offset and takes no writes.
    PartitionDamaged,
    /// No consumer group has this name.
    UnknownGroup,
    /// The group has members; this needs an empty group.
    GroupNotEmpty,
    /// The member is not, or no longer, part of the group.
    UnknownMember,
    /// The request carries an older generation than the group's.
    StaleGeneration,
    /// No deployment has this name.
    UnknownDeployment,
    /// The component does not fit the plugin world.
    ComponentRefused,
    /// The component did not compile within its limits.
    CompilationFailed,
    /// The broker is shutting down.
    ShuttingDown,
    /// The request took longer than it may.
    TimedOut,
    /// A fault of the broker's own.
    Internal,
    /// A deployment of this name exists already.
    DeploymentExists,
    /// This group belongs to a deployed plugin.
    GroupOwnedByDeployment,
    /// A deployed plugin reads or writes this topic.
    TopicInUse,
    /// No secret has this name.
    UnknownSecret,
    /// The component is sound, but does not work with the deployment's settings: it needs a grant or a
    /// table that is not among them, or its `init` refused them.
    SettingsRefused,
    /// What is to be changed is at work and does not come to a point where it can be. Nothing was changed.
    NotAtRest,
    /// A deployment is granted the secret.
    SecretInUse,
    /// Too few replicas of the partition answer: what was sent is not known to be kept, and may be yet.
    NotEnoughReplicas,
}

/// What a client does about an [`ErrorCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Send the same again after a back-off.
    Retry,
    /// Ask for metadata (or rejoin the group, or take a new producer id) and then send it again.
    Refresh,
    /// The same request will not succeed: tell the user.
    GiveUp,
}

impl ErrorCode {
    /// What a client does about this error.
    pub fn advice(self) -> Advice {
        match self {
            Self::NotReady
            | Self::Busy
            | Self::TimedOut
            | Self::ShuttingDown
            | Self::NotEnoughReplicas => Advice::Retry,
            // A full or failed disk may be mended, and the batch was not kept.
            Self::StorageFull | Self::StorageFailed => Advice::Retry,
            Self::NotLeader
            | Self::HandshakeRequired
            | Self::UnknownProducer
            | Self::UnknownMember
            | Self::StaleGeneration => Advice::Refresh,
            Self::MalformedFrame
            | Self::FrameTooLarge
            | Self::UnsupportedVersion
            | Self::NotAuthorized
            | Self::InvalidRequest
            | Self::UnknownTopic
            | Self::UnknownPartition
            | Self::TopicExists
            | Self::OffsetOutOfRange
            | Self::RecordTooLarge
            | Self::CorruptBatch
            | Self::OutOfOrderSequence
            | Self::ProducerFenced
            | Self::PartitionDamaged
            | Self::UnknownGroup
            | Self::GroupNotEmpty
            | Self::UnknownDeployment
            | Self::DeploymentExists
            | Self::GroupOwnedByDeployment
            | Self::TopicInUse
            | Self::SecretInUse
            | Self::UnknownSecret
            | Self::ComponentRefused
            | Self::CompilationFailed
            | Self::SettingsRefused
            | Self::NotAtRest
            | Self::Internal => Advice::GiveUp,
        }
    }
}

/// An error as it travels: the code decides what the client does, the message is for a person and
/// names the thing (a lower-case fragment without a full stop).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// What went wrong.
    pub code: ErrorCode,
    /// The same for a person, naming the thing.
    pub message: String,
}

impl WireError {
    /// An error of `code`, explained by `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WireError {}
