//! The errors of each operation, and their codes on the wire.

use millstream_protocol::api::group::Generation;
use millstream_protocol::{ErrorCode, PartitionIndex, WireError};
use thiserror::Error;

use crate::member::MemberHandle;

/// No group has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no group is named {group}")]
pub struct UnknownGroup {
    /// The name.
    pub group: String,
}

/// The member is not, or no longer, in a group of this coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("member {member} is in no group here")]
pub struct UnknownMember {
    /// The member.
    pub member: MemberHandle,
}

/// No topic has this name, or another has it now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no topic is named {topic}")]
pub struct UnknownTopic {
    /// The name.
    pub topic: String,
}

/// The topic has no such partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("topic {topic} has no partition {partition}")]
pub struct UnknownPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
}

/// The group has members.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("group {group} has {members} members")]
pub struct GroupNotEmpty {
    /// The group.
    pub group: String,
    /// How many members it has.
    pub members: usize,
}

/// A name is empty, too long or has control characters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the {what} name {reason}")]
pub struct InvalidName {
    /// Whose name.
    pub what: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// There are more of something than there may be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("more than {limit} {what}")]
pub struct OverLimit {
    /// What there are too many of.
    pub what: &'static str,
    /// How many there may be.
    pub limit: usize,
}

/// Why a member may not join.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The group's or the member's name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A topic it wants does not exist.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// It names no topic.
    #[error("the member names no topic to consume")]
    NoTopics,
    /// The stream is a member already.
    #[error("member {member} has joined before")]
    JoinedBefore {
        /// The stream.
        member: MemberHandle,
    },
    /// Too many topics, members or groups.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// A client wants to join the group of a deployed plugin.
    #[error("group {group} belongs to the deployment {group}")]
    OwnedByDeployment {
        /// The group.
        group: String,
    },
    /// A worker's group has clients in it.
    #[error("group {group} has clients for members, so no deployment can use it")]
    HeldByClients {
        /// The group.
        group: String,
    },
}

/// Why the offsets in a commit are not taken. None of them is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OffsetsError {
    /// A topic does not exist.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// A partition does not exist.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// Too many of them, or too much metadata.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why a member's commit is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The offsets make no sense.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// The member does not own a partition, or owns it no longer.
    #[error("{topic}-{partition} is not, or no longer, the member's")]
    NotOwned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The commit comes from before the partition was given to the member or was reset.
    #[error(
        "{topic}-{partition} was assigned or reset in generation {since}, the commit is of {generation}"
    )]
    Stale {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The commit's generation.
        generation: Generation,
        /// The generation since which commits are taken.
        since: Generation,
    },
}

/// Why offsets are not committed for a group from outside.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitOffsetsError {
    /// The group's name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The group has members: their commits would be overwritten.
    #[error(transparent)]
    GroupNotEmpty(#[from] GroupNotEmpty),
    /// Too many groups.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The offsets make no sense.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
}

/// Why a group is not reset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResetError {
    /// No group has this name.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// No topic has this name, or another has it now.
    #[error(transparent)]
    UnknownTopic(#[from] UnknownTopic),
    /// A partition does not exist.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// There is nothing to reset.
    #[error("no partition of {topic} is named")]
    NoPartitions {
        /// The topic.
        topic: String,
    },
}

/// Why a group is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeleteGroupError {
    /// No group has this name.
    #[error(transparent)]
    UnknownGroup(#[from] UnknownGroup),
    /// It has members.
    #[error(transparent)]
    GroupNotEmpty(#[from] GroupNotEmpty),
}

/// An error that has a code on the wire.
pub trait Coded: std::error::Error {
    /// What a client is told to do about it.
    fn code(&self) -> ErrorCode;

    /// The error as it travels.
    fn to_wire(&self) -> WireError {
        WireError::new(self.code(), self.to_string())
    }
}

macro_rules! coded {
    ($($error:ty => $code:ident;)*) => {$(
        impl Coded for $error {
            fn code(&self) -> ErrorCode {
                ErrorCode::$code
            }
        }
    )*};
}

coded! {
    UnknownGroup => UnknownGroup;
    UnknownMember => UnknownMember;
    UnknownTopic => UnknownTopic;
    UnknownPartition => UnknownPartition;
    GroupNotEmpty => GroupNotEmpty;
    InvalidName => InvalidRequest;
    // A limit is not a passing state: the same request will not succeed later.
    OverLimit => InvalidRequest;
}

impl Coded for JoinError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidName(error) => error.code(),
            Self::UnknownTopic(error) => error.code(),
            Self::OverLimit(error) => error.code(),
            Self::NoTopics | Self::JoinedBefore { .. } => ErrorCode::InvalidRequest,
            Self::OwnedByDeployment { .. } => ErrorCode::GroupOwnedByDeployment,
            Self::HeldByClients { .. } => ErrorCode::GroupNotEmpty,
        }
    }
}

impl Coded for OffsetsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(error) => error.code(),
            Self::UnknownPartition(error) => error.code(),
            Self::OverLimit(error) => error.code(),
        }
    }
}

impl Coded for CommitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Offsets(error) => error.code(),
            Self::NotOwned { .. } | Self::Stale { .. } => ErrorCode::StaleGeneration,
        }
    }
}

impl Coded for CommitOffsetsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidName(error) => error.code(),
            Self::GroupNotEmpty(error) => error.code(),
            Self::OverLimit(error) => error.code(),
            Self::Offsets(error) => error.code(),
        }
    }
}

impl Coded for ResetError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownGroup(error) => error.code(),
            Self::UnknownTopic(error) => error.code(),
            Self::UnknownPartition(error) => error.code(),
            Self::NoPartitions { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl Coded for DeleteGroupError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownGroup(error) => error.code(),
            Self::GroupNotEmpty(error) => error.code(),
        }
    }
}
