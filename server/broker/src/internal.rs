//! The broker's own topics: what lies in them, and how they are read back at the start.

use bytes::{Bytes, BytesMut};
use millstream_protocol::api::topic::{Cleanup, Durability, TopicConfig};
use millstream_protocol::batch::{BatchBuilder, Compression, RecordBatch};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{
    ErrorCode, LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition, WireError,
};
use uuid::Uuid;

use crate::errors;
use crate::partition::{AppendResult, Partition};

/// Committed offsets and generations of all groups.
pub(crate) const GROUPS_TOPIC: &str = "__groups";

/// Deployed components.
pub(crate) const ARTEFACTS_TOPIC: &str = "__artefacts";

/// What one turn of a replay reads, bytes.
const REPLAY_BYTES: usize = 4 << 20;

/// The groups' partition. Like the other one, its topic has a fixed identity: it is the same in every
/// cluster.
pub(crate) const GROUPS_PARTITION: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(0x6d69_6c6c_7374_7265_616d_0000_0000_0002)),
    partition: 0,
};

/// The components' partition.
pub(crate) const ARTEFACTS_PARTITION: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(0x6d69_6c6c_7374_7265_616d_0000_0000_0003)),
    partition: 0,
};

/// Settings of the groups' log: the last record of a key counts, for ever.
pub(crate) fn groups_config() -> TopicConfig {
    TopicConfig {
        durability: Durability::Sync,
        cleanup: Cleanup::Compact,
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 32 << 20,
        ..TopicConfig::default()
    }
}

/// Settings of the components' log: the last record of a key counts.
pub(crate) fn artefacts_config() -> TopicConfig {
    TopicConfig {
        max_batch_bytes: MAX_BATCH_BYTES as u32,
        ..groups_config()
    }
}

/// A keyed record of the broker's own; without a value it is a tombstone.
pub(crate) struct InternalRecord {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Appends `records` as one batch (all or none) and waits until it is durable. They rest on what was read
/// of the partition while this broker led it in `epoch`.
pub(crate) async fn append(
    partition: &Partition,
    epoch: LeaderEpoch,
    records: &[InternalRecord],
    now_ms: TimestampMs,
) -> AppendResult {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    for record in records {
        builder
            .append(now_ms, Some(&record.key), record.value.as_deref(), &[])
            .map_err(|error| {
                WireError::new(
                    ErrorCode::RecordTooLarge,
                    format!(
                        "the request makes too many records for one batch of {}: {error}",
                        partition.topic()
                    ),
                )
            })?;
    }
    let batch: Bytes = builder.finish(None).map_err(errors::from_batch)?;
    partition
        .append_and_wait(BytesMut::from(batch), epoch)
        .await
}

/// Reads a whole partition from its start, record by record: key and value.
pub(crate) fn replay<E: From<WireError>>(
    partition: &Partition,
    mut each: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
) -> Result<(), E> {
    each_batch(partition, |batch| {
        let records = batch
            .records()
            .map_err(|e| E::from(errors::from_batch(e)))?;
        for record in records.iter() {
            let record = record.map_err(|e| E::from(errors::from_batch(e)))?;
            each(record.key, record.value)?;
        }
        Ok(())
    })
}

/// Reads a whole partition from its start, batch by batch. It may block on the disk.
pub(crate) fn each_batch<E: From<WireError>>(
    partition: &Partition,
    each: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    each_batch_from(partition, 0, each).map(drop)
}

/// Reads a partition from the batch that contains `offset`, or from its start; what leaders have written
/// of themselves is passed over. Returns where what was
/// read ends. It may block on the disk.
pub(crate) fn each_batch_from<E: From<WireError>>(
    partition: &Partition,
    offset: Offset,
    mut each: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<Offset, E> {
    let visible = partition.visible();
    let reader = partition.reader();
    let mut offset = offset.max(visible.log_start_offset);
    while offset < visible.high_watermark {
        let read = reader.read_blocking(offset, REPLAY_BYTES)?;
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(|e| E::from(errors::from_batch(e)))?;
            if !batch.header().control {
                each(&batch)?;
            }
        }
        if read.next_offset <= offset {
            break;
        }
        offset = read.next_offset;
    }
    Ok(visible.high_watermark)
}
