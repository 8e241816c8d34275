//! What the unit tests build batches and logs from.

use bytes::BytesMut;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, ProducerStamp};
use millstream_protocol::{Offset, ProducerEpoch, ProducerId, TopicId};
use uuid::Uuid;

use crate::append::ProducedBatch;
use crate::config::LogIdentity;

pub(crate) fn identity() -> LogIdentity {
    LogIdentity {
        topic_id: TopicId(Uuid::from_u128(0x1234_5678)),
        partition: 3,
    }
}

/// A batch with one record per value, without keys, at timestamps 0, 1, 2 ….
pub(crate) fn batch_of(values: &[&str]) -> ProducedBatch {
    build(values, None)
}

/// The header of a batch of `records` records that stands at `base_offset`.
pub(crate) fn stamped(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    first_sequence: u32,
    records: u32,
    base_offset: Offset,
) -> BatchHeader {
    let stamp = ProducerStamp {
        producer_id,
        producer_epoch,
        first_sequence,
    };
    let mut header = build(&vec!["v"; records as usize], Some(stamp)).header;
    header.base_offset = base_offset;
    header
}

fn build(values: &[&str], producer: Option<ProducerStamp>) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    for (timestamp_ms, value) in (0..).zip(values) {
        builder
            .append(timestamp_ms, None, Some(value.as_bytes()), &[])
            .expect("a small record");
    }
    let bytes = builder.finish(producer).expect("a batch");
    ProducedBatch {
        header: BatchHeader::parse(&bytes).expect("a header"),
        bytes: BytesMut::from(bytes),
    }
}
