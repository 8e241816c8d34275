//! Topics in memory.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use millstream::{Compression, ErrorCode, Offset, TopicConfig, TopicId, WireError};
use millstream_protocol::api::topic::{PartitionDescription, PartitionLog, TopicDescription};
use millstream_protocol::batch::{self, BatchBuilder, RecordBatch, sequence_after};
use millstream_protocol::limits::{BATCHES_IN_FLIGHT_PER_PRODUCER, MAX_BATCH_BYTES};

use super::{error, topic_id};

pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Partition>,
}

pub(crate) struct Partition {
    /// The broker that leads it.
    pub(crate) leader: u32,
    pub(crate) leader_epoch: u32,
    pub(crate) batches: Vec<Bytes>,
    pub(crate) log_start_offset: Offset,
    pub(crate) end_offset: Offset,
    /// By producer id: the batches appended last, as (first sequence, sequence behind, base offset).
    pub(crate) producers: HashMap<u64, VecDeque<(u32, u32, Offset)>>,
    /// Batches that were there already.
    pub(crate) duplicates: u64,
}

impl Topic {
    pub(crate) fn new(partitions: u32, config: TopicConfig) -> Self {
        let partitions = (0..partitions).map(|_| Partition::new()).collect();
        Self {
            id: topic_id(),
            config,
            partitions,
        }
    }

    pub(crate) fn describe(&self, name: &str) -> TopicDescription {
        let describe = |(index, partition): (usize, &Partition)| PartitionDescription {
            partition: index as u32,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: vec![1],
            untrusted: Vec::new(),
            offline: Vec::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
            log: Some(PartitionLog {
                log_start_offset: partition.log_start_offset,
                high_watermark: partition.end_offset,
                log_end_offset: partition.end_offset,
                flushed_offset: partition.end_offset,
                size_bytes: partition
                    .batches
                    .iter()
                    .map(|batch| batch.len() as u64)
                    .sum(),
                damage: None,
            }),
        };
        TopicDescription {
            name: name.to_owned(),
            topic_id: self.id,
            config: self.config.clone(),
            partitions: self.partitions.iter().enumerate().map(describe).collect(),
        }
    }
}

impl Partition {
    pub(crate) fn new() -> Self {
        Self {
            leader: 1,
            leader_epoch: 1,
            batches: Vec::new(),
            log_start_offset: 0,
            end_offset: 0,
            producers: HashMap::new(),
            duplicates: 0,
        }
    }

    /// Appends without looking at the producer.
    pub(crate) fn append(&mut self, bytes: Bytes) -> Offset {
        let mut bytes = BytesMut::from(bytes);
        batch::assign(&mut bytes, self.end_offset, 1).unwrap();
        let header = batch::BatchHeader::parse(&bytes).unwrap();
        self.batches.push(bytes.freeze());
        std::mem::replace(&mut self.end_offset, header.next_offset())
    }

    /// Appends as a broker does: once.
    pub(crate) fn produce(&mut self, bytes: Bytes) -> Result<Offset, WireError> {
        let header = batch::validate_produced(&bytes, MAX_BATCH_BYTES)
            .map_err(|refused| error(refused.code(), &refused.to_string()))?;
        let stamp = header
            .producer
            .ok_or_else(|| error(ErrorCode::InvalidRequest, "no producer"))?;
        let end = sequence_after(stamp.first_sequence, header.record_count);
        let remembered = match self.producers.get(&stamp.producer_id) {
            Some(remembered) => remembered,
            None if stamp.first_sequence == 0 => &VecDeque::new(),
            None => return Err(error(ErrorCode::UnknownProducer, "unknown producer")),
        };
        if let Some((.., base)) = remembered
            .iter()
            .find(|(first, ..)| *first == stamp.first_sequence)
        {
            self.duplicates += 1;
            return Ok(*base);
        }
        let expected = remembered.back().map_or(0, |(_, end, _)| *end);
        if stamp.first_sequence != expected {
            let message = format!(
                "sequence {} where {expected} was expected",
                stamp.first_sequence
            );
            return Err(error(ErrorCode::OutOfOrderSequence, &message));
        }
        let base = self.append(bytes);
        let remembered = self.producers.entry(stamp.producer_id).or_default();
        remembered.push_back((stamp.first_sequence, end, base));
        if remembered.len() > BATCHES_IN_FLIGHT_PER_PRODUCER {
            remembered.pop_front();
        }
        Ok(base)
    }

    /// The batch that holds `offset`, or the first behind it, and the offset behind that batch.
    pub(crate) fn read(&self, offset: Offset) -> Option<(Bytes, Offset)> {
        self.batches.iter().find_map(|bytes| {
            let next = batch::BatchHeader::parse(bytes).unwrap().next_offset();
            (next > offset).then(|| (bytes.clone(), next))
        })
    }

    /// All values, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        let records = |bytes: &Bytes| {
            RecordBatch::parse(bytes.clone())
                .unwrap()
                .records()
                .unwrap()
                .into_owned()
        };
        let value = |record: millstream_protocol::batch::Record| record.value.unwrap_or_default();
        self.batches
            .iter()
            .flat_map(records)
            .map(|record| String::from_utf8(value(record.unwrap().1).to_vec()).unwrap())
            .collect()
    }
}

/// A batch with these values.
pub(crate) fn batch<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    for value in values {
        builder.append(1, None, Some(value.as_ref()), &[]).unwrap();
    }
    builder.finish(None).unwrap()
}
