//! The one place where the errors of commands meet the wire's codes. No wildcards: who adds an
//! error says here what a client does about it.

use millstream_protocol::{ErrorCode, WireError};

use crate::error::{
    AlterTopicError, AppointError, BrokerError, ClusterError, CommandError, CreateTopicError,
    DeleteTopicError, DeployError, FinaliseError, LossError, ProducerIdsError, PromoteError,
    ReassignError, RegisterError, RegisterReplicasError, SpecError, TokenError, TooFewBrokers,
    TrustError,
};

impl CommandError {
    /// What a client is told to do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Cluster(ClusterError::NotFormed) => ErrorCode::NotReady,
            Self::Cluster(ClusterError::FormedBefore { .. }) => ErrorCode::InvalidRequest,
            Self::Register(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::Broker(BrokerError::UnknownBroker(_) | BrokerError::HoldsReplicas { .. }) => {
                ErrorCode::InvalidRequest
            }
            Self::CreateTopic(error) => error.code(),
            Self::AlterTopic(error) => error.code(),
            Self::DeleteTopic(error) => error.code(),
            Self::Appoint(error) => error.code(),
            Self::RegisterReplicas(error) => error.code(),
            Self::Trust(TrustError::UnknownBroker(_) | TrustError::OverLimit(_)) => {
                ErrorCode::InvalidRequest
            }
            Self::Reassign(error) => error.code(),
            Self::Finalise(error) => error.code(),
            Self::Loss(error) => error.code(),
            Self::ProducerIds(ProducerIdsError::Count(_)) => ErrorCode::InvalidRequest,
            Self::ProducerIds(ProducerIdsError::Exhausted) => ErrorCode::Internal,
            Self::Deploy(error) => error.code(),
            Self::Promote(error) => error.code(),
            Self::UnknownDeployment(_) => ErrorCode::UnknownDeployment,
        }
    }

    /// The error as it travels.
    pub fn to_wire(&self) -> WireError {
        WireError::new(self.code(), self.to_string())
    }
}

impl RegisterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Token(error) => error.code(),
            Self::Address { .. }
            | Self::Rack { .. }
            | Self::Features(_)
            | Self::Conflict(_)
            | Self::OverLimit(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl TokenError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. }
            | Self::Unknown { .. }
            | Self::Expired { .. }
            | Self::OtherNumber { .. } => ErrorCode::NotAuthorized,
            // Who asks for a number takes the next one: another was quicker.
            Self::NumberInUse { .. } | Self::NumberPromised { .. } => ErrorCode::NotReady,
            Self::Lifetime | Self::Repeated | Self::OverLimit(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl CreateTopicError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Exists(_) => ErrorCode::TopicExists,
            Self::TooFewBrokers(error) => error.code(),
            Self::Name(_)
            | Self::IdInUse { .. }
            | Self::Partitions(_)
            | Self::Config(_)
            | Self::OverLimit(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl AlterTopicError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopic,
            Self::TooFewBrokers(error) => error.code(),
            Self::IsTable { .. }
            | Self::DeterministicInput { .. }
            | Self::DeterministicOutput { .. } => ErrorCode::TopicInUse,
            Self::Name(_)
            | Self::FewerPartitions { .. }
            | Self::Partitions(_)
            | Self::Config(_)
            | Self::OverLimit(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl TooFewBrokers {
    /// A fenced broker may come back; one that is not known has to be started.
    fn code(&self) -> ErrorCode {
        if self.known < self.replication_factor.into() {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::NotReady
        }
    }
}

impl DeleteTopicError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopic,
            Self::Name(_) => ErrorCode::InvalidRequest,
            Self::InUse { .. } => ErrorCode::TopicInUse,
        }
    }
}

impl AppointError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::Fenced { .. } => ErrorCode::NotReady,
            Self::UnknownBroker(_)
            | Self::Draining { .. }
            | Self::NoReplica { .. }
            | Self::Repeated { .. }
            | Self::OverLimit(_) => ErrorCode::InvalidRequest,
            Self::EpochsExhausted { .. } => ErrorCode::Internal,
        }
    }
}

impl RegisterReplicasError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownBroker(_) | Self::Repeated { .. } | Self::OverLimit(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}

impl ReassignError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::UnderWay { .. } => ErrorCode::NotReady,
            Self::Repeated { .. } | Self::Replicas(_) | Self::OverLimit(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}

impl FinaliseError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            // Its leader looks again, when it knows of what has changed.
            Self::Stale { .. } | Self::NoSuccessor { .. } => ErrorCode::NotReady,
            Self::NotChanging { .. } => ErrorCode::InvalidRequest,
            Self::EpochsExhausted { .. } => ErrorCode::Internal,
        }
    }
}

impl LossError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::UnknownBroker(_)
            | Self::Fenced { .. }
            | Self::NoReplica { .. }
            | Self::NothingLost { .. }
            | Self::OverLimit(_) => ErrorCode::InvalidRequest,
            Self::EpochsExhausted { .. } => ErrorCode::Internal,
        }
    }
}

impl SpecError {
    /// What a client is told to do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopic,
            Self::Name(_)
            | Self::Host(_)
            | Self::NoInputs { .. }
            | Self::Repeated { .. }
            | Self::OverLimit(_)
            | Self::OutOfRange(_)
            | Self::CompactedInput { .. }
            | Self::SharedDeadLetters { .. }
            | Self::NotDeterministic { .. }
            | Self::TableMoves { .. }
            | Self::TableNotCompacted { .. }
            | Self::TableInUse { .. }
            | Self::Loop { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl DeployError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Spec(error) => error.code(),
            Self::Exists(_) => ErrorCode::DeploymentExists,
            Self::Plugin(_) => ErrorCode::ComponentRefused,
            Self::Unknown(_) => ErrorCode::UnknownDeployment,
            Self::IdInUse { .. } | Self::Unchanged { .. } | Self::OverLimit(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}

impl PromoteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::UnknownDeployment,
            Self::Spec(error) => error.code(),
            Self::NoShadow { .. } | Self::EarlierShadow { .. } | Self::OverLimit(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}
