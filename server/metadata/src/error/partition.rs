//! Errors of commands about leaders and replicas.

use millstream_protocol::{LeaderEpoch, TopicPartition};
use thiserror::Error;

use super::{OverLimit, UnknownBroker, UnknownPartition};
use crate::broker::BrokerId;

/// Why a leader is not appointed. None of the command's is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppointError {
    /// There is no such partition.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// The broker is fenced.
    #[error("broker {broker_id} is fenced")]
    Fenced {
        /// Its number.
        broker_id: BrokerId,
    },
    /// The broker is being emptied, and others are there.
    #[error(
        "broker {broker_id} is draining and takes no new leadership: appoint another replica of {partition}"
    )]
    Draining {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        broker_id: BrokerId,
    },
    /// The broker does not keep the partition.
    #[error("broker {broker_id} keeps no replica of {partition}")]
    NoReplica {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        broker_id: BrokerId,
    },
    /// The partition stands in the command twice.
    #[error("{partition} is named twice")]
    Repeated {
        /// The partition.
        partition: TopicPartition,
    },
    /// The partition has had all the leaders that it can have.
    #[error("{partition} has no leader epoch left")]
    EpochsExhausted {
        /// The partition.
        partition: TopicPartition,
    },
    /// Too many at once.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why replicas do not begin anew. None of the command's does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterReplicasError {
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// The partition stands in the command twice.
    #[error("{partition} is named twice")]
    Repeated {
        /// The partition.
        partition: TopicPartition,
    },
    /// Too many at once.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why replicas are not trusted again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrustError {
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// Too many at once.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Brokers that cannot be the replicas of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplicaSetError {
    /// There are too few, too many, or one more than is of use.
    #[error(
        "{partition} cannot have {given} replicas: 1, 2, 3 or 5 may be (4 survive no more failures than 3)"
    )]
    Count {
        /// The partition.
        partition: TopicPartition,
        /// How many were given.
        given: usize,
    },
    /// One is given twice.
    #[error("broker {broker_id} is given twice for {partition}")]
    Repeated {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        broker_id: BrokerId,
    },
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// A new one is fenced or draining.
    #[error(
        "broker {broker_id} takes no replica of {partition}: it is not there, or draining; choose another"
    )]
    TakesNothing {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        broker_id: BrokerId,
    },
    /// With these the partition would stand still.
    #[error(
        "of the {of} new replicas of {partition}, {live} are on live brokers: it takes more than half to commit"
    )]
    NoMajority {
        /// The partition.
        partition: TopicPartition,
        /// How many are there.
        live: usize,
        /// Of how many.
        of: usize,
    },
}

/// Why partitions do not get other replicas. None of the command's does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReassignError {
    /// There is no such partition.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// The partition stands in the command twice.
    #[error("{partition} is named twice")]
    Repeated {
        /// The partition.
        partition: TopicPartition,
    },
    /// The replicas cannot be these.
    #[error(transparent)]
    Replicas(#[from] ReplicaSetError),
    /// Its replicas change already.
    #[error("the replicas of {partition} are being changed already: try again when that is done")]
    UnderWay {
        /// The partition.
        partition: TopicPartition,
    },
    /// Too many at once.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why a change of replicas is not at its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FinaliseError {
    /// There is no such partition.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// The partition has changed since its leader has looked.
    #[error(
        "{partition} is in epoch {epoch_now} and version {version_now}, not in epoch {epoch} and version \
         {version} as its leader has it"
    )]
    Stale {
        /// The partition.
        partition: TopicPartition,
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The version that the leader has.
        version: u64,
        /// The partition's epoch.
        epoch_now: LeaderEpoch,
        /// The partition's version.
        version_now: u64,
    },
    /// No change is under way.
    #[error("the replicas of {partition} are not being changed")]
    NotChanging {
        /// The partition.
        partition: TopicPartition,
    },
    /// Its leader is to go, and no other is there to take over.
    #[error("none of the new replicas of {partition} is on a live broker to lead it")]
    NoSuccessor {
        /// The partition.
        partition: TopicPartition,
    },
    /// The partition has had all the leaders that it can have.
    #[error("{partition} has no leader epoch left")]
    EpochsExhausted {
        /// The partition.
        partition: TopicPartition,
    },
}

/// Why a loss is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LossError {
    /// There is no such partition.
    #[error(transparent)]
    UnknownPartition(#[from] UnknownPartition),
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// The broker does not keep the partition.
    #[error("broker {broker_id} keeps no replica of {partition}")]
    NoReplica {
        /// The partition.
        partition: TopicPartition,
        /// The broker.
        broker_id: BrokerId,
    },
    /// The broker is not there.
    #[error("broker {broker_id} is gone: start it, or go on with a replica on a live broker")]
    Fenced {
        /// Its number.
        broker_id: BrokerId,
    },
    /// A majority is there.
    #[error(
        "{partition} needs to lose nothing: a majority of its replicas is there and whole; wait for a leader"
    )]
    NothingLost {
        /// The partition.
        partition: TopicPartition,
    },
    /// The partition has had all the leaders that it can have.
    #[error("{partition} has no leader epoch left")]
    EpochsExhausted {
        /// The partition.
        partition: TopicPartition,
    },
    /// A name is too long.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}
