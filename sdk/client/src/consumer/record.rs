//! What a consumer hands out: a record, or a whole batch of them.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchError, Header, Record, RecordView, Records};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs};

/// A record and where it comes from.
///
/// Keys, values and headers are slices of the buffer in which the record was received: a record
/// that is kept keeps that buffer, about 1 MiB, alive. Copy what is kept for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The record's position in the partition.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: TimestampMs,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Named values, in order.
    pub headers: Vec<Header>,
}

impl ConsumedRecord {
    pub(crate) fn new(
        topic: &Arc<str>,
        partition: PartitionIndex,
        offset: Offset,
        record: Record,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition,
            offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }
}

/// A batch of records of one partition, decoded and checked.
///
/// The fastest way to consume: [`ConsumedBatch::iter`] shows the records where they lie.
#[derive(Clone, Debug)]
pub struct ConsumedBatch {
    topic: Arc<str>,
    partition: PartitionIndex,
    records: Records,
    /// Records below were not asked for.
    from: Offset,
    count: usize,
    next_offset: Offset,
    high_watermark: Offset,
}

impl ConsumedBatch {
    /// Checks every record, so that iterating cannot fail. `None` when there is none from `from` on.
    pub(super) fn new(
        topic: &Arc<str>,
        partition: PartitionIndex,
        records: Records,
        from: Offset,
        next_offset: Offset,
        high_watermark: Offset,
    ) -> Result<Option<Self>, BatchError> {
        let mut count = 0;
        for record in &records {
            count += usize::from(record?.offset >= from);
        }
        let topic = Arc::clone(topic);
        Ok((count > 0).then_some(Self {
            topic,
            partition,
            records,
            from,
            count,
            next_offset,
            high_watermark,
        }))
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> PartitionIndex {
        self.partition
    }

    /// How many records there are, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Records below were visible when the batch was received: how far behind this consumer is.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The records where they lie, in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'_>> {
        let from = self.from;
        self.records
            .iter()
            .map_while(Result::ok)
            .filter(move |record| record.offset >= from)
    }

    /// The records, each on its own. Cheap: fields are slices of one shared buffer.
    pub fn into_records(self) -> impl Iterator<Item = ConsumedRecord> {
        let Self {
            topic,
            partition,
            records,
            from,
            ..
        } = self;
        records
            .into_owned()
            .map_while(Result::ok)
            .filter(move |(offset, _)| *offset >= from)
            .map(move |(offset, record)| ConsumedRecord::new(&topic, partition, offset, record))
    }
}
