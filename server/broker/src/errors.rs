//! The one place where errors of the cores become errors on the wire. No match here has a
//! wildcard: a new error must be given its code.

use std::fmt::Display;

use millstream_log::{AppendError, ReadError, RejectReason};
use millstream_metadata::error::DeployError;
use millstream_metadata::{CommandError, SpecError};
use millstream_protocol::batch::{BatchError, BatchHeader};
use millstream_protocol::{
    ErrorCode, FIRST_WORKER_PRODUCER_ID, Offset, PartitionIndex, TopicPartition, WireError,
};
use millstream_runtime::{CompileError, RefusedError, StartError};
use millstream_state::StateError;

use crate::config::UPLOAD_LIMIT;
use crate::partition::{Closed, Partition};

pub(crate) fn shutting_down() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "the broker is shutting down")
}

/// Nothing more comes of a partition that is in use.
pub(crate) fn closed(partition: &str, why: Closed) -> WireError {
    match why {
        Closed::Deleted => WireError::new(
            ErrorCode::UnknownTopic,
            format!("the topic of partition {partition} was deleted"),
        ),
        Closed::Left => WireError::new(
            ErrorCode::NotLeader,
            format!("this broker does not keep partition {partition} any more"),
        ),
    }
}

/// What was appended waits for too few replicas.
pub(crate) fn not_enough_replicas(partition: &str) -> WireError {
    WireError::new(
        ErrorCode::NotEnoughReplicas,
        format!(
            "too few replicas of partition {partition} answer: its records are not known to be kept"
        ),
    )
}

/// This broker does not lead a partition, or not yet.
pub(crate) fn not_leading(partition: &str) -> WireError {
    WireError::new(
        ErrorCode::NotLeader,
        format!("this broker does not lead partition {partition}"),
    )
}

/// Others may have led a partition since what is to be appended was made.
pub(crate) fn led_anew(partition: &str) -> WireError {
    WireError::new(
        ErrorCode::NotLeader,
        format!("partition {partition} was led by others meanwhile: it is read again"),
    )
}

/// What a producer has written is known to who leads, and this broker cannot show that it still does.
pub(crate) fn leads_perhaps(partition: &str) -> WireError {
    not_ready(format!(
        "partition {partition} may have another leader, who knows what its producers have written"
    ))
}

/// A replica is not here any more, where nothing but the partition's identity is known: others may lead it, and
/// whoever looks for them learns whether its topic was deleted.
pub(crate) fn replica_gone(id: TopicPartition) -> WireError {
    WireError::new(
        ErrorCode::NotLeader,
        format!("this broker keeps partition {id} no longer"),
    )
}

/// A topic was deleted, where nothing but a partition's identity is known any more.
pub(crate) fn partition_gone(id: TopicPartition) -> WireError {
    WireError::new(
        ErrorCode::UnknownTopic,
        format!("the topic of partition {id} was deleted"),
    )
}

pub(crate) fn unknown_topic(topic: &str) -> WireError {
    WireError::new(
        ErrorCode::UnknownTopic,
        format!("no topic is named {topic}"),
    )
}

pub(crate) fn unknown_deployment(name: &str) -> WireError {
    WireError::new(
        ErrorCode::UnknownDeployment,
        format!("no deployment is named {name}"),
    )
}

pub(crate) fn unknown_secret(name: &str) -> WireError {
    WireError::new(
        ErrorCode::UnknownSecret,
        format!("no secret is named {name}"),
    )
}

pub(crate) fn unknown_partition(
    topic: &str,
    partition: PartitionIndex,
    partitions: usize,
) -> WireError {
    WireError::new(
        ErrorCode::UnknownPartition,
        format!("topic {topic} has no partition {partition}: it has {partitions}, counted from 0"),
    )
}

pub(crate) fn beyond_high_watermark(
    partition: &Partition,
    offset: Offset,
    high_watermark: Offset,
) -> WireError {
    WireError::new(
        ErrorCode::OffsetOutOfRange,
        format!(
            "offset {offset} of {} lies beyond its high watermark {high_watermark}",
            partition.name()
        ),
    )
}

/// Puts the partition's name in front of a message that does not know it.
pub(crate) fn for_partition(partition: &Partition, error: WireError) -> WireError {
    at(&partition.name(), error)
}

/// Puts where it happened in front of a message that does not know it.
pub(crate) fn at(name: &str, error: WireError) -> WireError {
    if error.message.contains(name) {
        return error;
    }
    WireError::new(error.code, format!("{name}: {}", error.message))
}

pub(crate) fn from_batch(error: BatchError) -> WireError {
    WireError::new(error.code(), error.to_string())
}

/// Refuses what a broker sends for a worker that is not in a worker's name.
pub(crate) fn check_worker(header: &BatchHeader) -> Result<(), WireError> {
    match header.producer {
        Some(stamp) if stamp.producer_id < FIRST_WORKER_PRODUCER_ID => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("producer id {} belongs to no worker", stamp.producer_id),
        )),
        _ => Ok(()),
    }
}

/// Refuses what a client sends in a worker's name.
pub(crate) fn check_producer(header: &BatchHeader) -> Result<(), WireError> {
    match header.producer {
        Some(stamp) if stamp.producer_id >= FIRST_WORKER_PRODUCER_ID => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "producer id {} belongs to a worker: ask for one with InitProducer",
                stamp.producer_id
            ),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn from_append(partition: &Partition, error: &AppendError) -> WireError {
    let code = match error {
        AppendError::StorageFull => ErrorCode::StorageFull,
        AppendError::Damaged(_) => ErrorCode::PartitionDamaged,
        AppendError::Poisoned(_) => ErrorCode::StorageFailed,
        AppendError::StaleEpoch { .. } => ErrorCode::NotLeader,
        AppendError::NotContiguous { .. } => ErrorCode::Internal,
        AppendError::Batch(error) => error.code(),
    };
    WireError::new(
        code,
        format!("cannot append to {}: {error}", partition.name()),
    )
}

pub(crate) fn from_reject(partition: &Partition, error: &RejectReason) -> WireError {
    let code = match error {
        RejectReason::OutOfOrder { .. } => ErrorCode::OutOfOrderSequence,
        RejectReason::Fenced { .. } => ErrorCode::ProducerFenced,
        RejectReason::UnknownProducer => ErrorCode::UnknownProducer,
        RejectReason::TooLarge { .. } => ErrorCode::RecordTooLarge,
    };
    WireError::new(
        code,
        format!("{} refuses a batch: {error}", partition.name()),
    )
}

pub(crate) fn from_read(partition: &Partition, error: &ReadError) -> WireError {
    let code = match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Damaged(_) => ErrorCode::PartitionDamaged,
        ReadError::Storage(_) => ErrorCode::StorageFailed,
    };
    WireError::new(code, format!("cannot read {}: {error}", partition.name()))
}

pub(crate) fn from_state(error: &StateError) -> WireError {
    WireError::new(ErrorCode::StorageFailed, error.to_string())
}

pub(crate) fn owned_by_deployment(group: &str) -> WireError {
    WireError::new(
        ErrorCode::GroupOwnedByDeployment,
        format!("group {group} belongs to the deployment of that name"),
    )
}

/// Something is asked of a deployment that it cannot do as it is.
pub(crate) fn invalid(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message)
}

pub(crate) fn not_ready(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::NotReady, message)
}

pub(crate) fn deployment_exists(name: &str) -> WireError {
    WireError::new(
        ErrorCode::DeploymentExists,
        format!("a deployment is named {name} already"),
    )
}

/// What metadata says of a deployment before its component is compiled.
pub(crate) fn from_spec(error: SpecError) -> WireError {
    CommandError::from(DeployError::from(error)).to_wire()
}

pub(crate) fn from_refused(error: &RefusedError) -> WireError {
    let code = match error {
        RefusedError::TooLarge { .. }
        | RefusedError::NotWasm
        | RefusedError::CoreModule
        | RefusedError::Invalid { .. }
        | RefusedError::Import { .. }
        | RefusedError::MissingExport { .. }
        | RefusedError::NoTimerHandler { .. }
        | RefusedError::Export { .. } => ErrorCode::ComponentRefused,
        RefusedError::Settings { .. } => ErrorCode::SettingsRefused,
        RefusedError::Compile(
            CompileError::Time { .. }
            | CompileError::Memory { .. }
            | CompileError::Size { .. }
            | CompileError::Failed { .. },
        ) => ErrorCode::CompilationFailed,
        RefusedError::Compile(CompileError::Unavailable { .. }) => ErrorCode::Internal,
    };
    WireError::new(code, error.to_string())
}

/// A worker does not start with a deployment's settings, and none would.
pub(crate) fn from_start(error: &StartError) -> WireError {
    let code = match error {
        StartError::Refused(_) => ErrorCode::SettingsRefused,
        StartError::Failed(_) => ErrorCode::ComponentRefused,
    };
    WireError::new(code, format!("the component does not start: {error}"))
}

/// A part of the broker is closed already.
pub(crate) fn stopping(_: tokio::sync::AcquireError) -> WireError {
    shutting_down()
}

/// A component's bytes took too long to arrive.
pub(crate) fn too_slow(bytes: usize) -> WireError {
    WireError::new(
        ErrorCode::TimedOut,
        format!("the {bytes} bytes behind the request took longer than {UPLOAD_LIMIT:?} to arrive"),
    )
}

/// What the broker was to do was cut off, or has failed.
pub(crate) fn unfinished(error: impl Display) -> WireError {
    WireError::new(ErrorCode::Internal, error.to_string())
}
