//! Kafka's format, by another hand: what we write, the `kafka-protocol` crate reads the same, and
//! what it writes, we read the same.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as KafkaCompression, Record as KafkaRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use millstream_protocol::Offset;
use millstream_protocol::batch::{
    self, BatchBuilder, BatchHeader, Compression, Header, ProducerStamp, Record, RecordBatch,
};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use proptest::prelude::*;

use crate::records::{append, build, read, records, seal, with_section, written_codec};

const CODECS: [(Compression, KafkaCompression); 5] = [
    (Compression::None, KafkaCompression::None),
    (Compression::Gzip, KafkaCompression::Gzip),
    (Compression::Snappy, KafkaCompression::Snappy),
    (Compression::Lz4, KafkaCompression::Lz4),
    (Compression::Zstd, KafkaCompression::Zstd),
];

/// The oracle keeps the headers in a map: only the last of a name.
fn without_repeated_headers(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        let mut seen = Vec::new();
        record.headers.retain(|header| {
            let new = !seen.contains(&header.name);
            seen.push(header.name.clone());
            new
        });
    }
    records
}

fn kafka_record(
    record: &Record,
    offset: Offset,
    leader_epoch: u32,
    stamp: ProducerStamp,
    base_offset: Offset,
) -> KafkaRecord {
    let name = |header: &Header| StrBytes::try_from(header.name.clone()).unwrap();
    let headers = record.headers.iter();
    KafkaRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: leader_epoch as i32,
        producer_id: stamp.producer_id as i64,
        producer_epoch: stamp.producer_epoch as i16,
        timestamp_type: TimestampType::Creation,
        offset: offset as i64,
        sequence: (stamp.first_sequence as i32).wrapping_add((offset - base_offset) as i32),
        timestamp: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers
            .map(|header| (name(header), header.value.clone()))
            .collect::<IndexMap<_, _>>(),
    }
}

fn stamp() -> impl Strategy<Value = ProducerStamp> {
    (0..1_u64 << 63, 0..1_u16 << 15, 0..1_u32 << 31).prop_map(
        |(producer_id, producer_epoch, first_sequence)| ProducerStamp {
            producer_id,
            producer_epoch,
            first_sequence,
        },
    )
}

proptest! {
    #[test]
    fn kafka_reads_what_we_write(
        records in records().prop_map(without_repeated_headers),
        compression in written_codec(),
        stamp in stamp(),
        base_offset in 0..1_u64 << 40,
        leader_epoch in 0..1_u32 << 31,
    ) {
        let mut builder = BatchBuilder::new(compression, MAX_BATCH_BYTES);
        for record in &records {
            append(&mut builder, record).unwrap();
        }
        let mut batch = BytesMut::from(&builder.finish(Some(stamp)).unwrap()[..]);
        batch::assign(&mut batch, base_offset, leader_epoch).unwrap();
        let expected: Vec<_> = (base_offset..)
            .zip(&records)
            .map(|(offset, record)| kafka_record(record, offset, leader_epoch, stamp, base_offset))
            .collect();

        let mut batch = batch.freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        let set = RecordBatchDecoder::decode(&mut batch).unwrap();
        prop_assert!(CODECS.contains(&(header.compression, set.compression)));
        prop_assert!(batch.is_empty());
        prop_assert_eq!(set.records, expected);
    }

    #[test]
    fn we_read_what_kafka_writes(
        records in records().prop_map(without_repeated_headers),
        (ours, theirs) in proptest::sample::select(&CODECS[..]),
        stamp in stamp(),
        base_offset in 0..1_u64 << 40,
        leader_epoch in 0..1_u32 << 31,
    ) {
        let theirs = RecordEncodeOptions { version: 2, compression: theirs };
        let written: Vec<_> = (base_offset..)
            .zip(&records)
            .map(|(offset, record)| kafka_record(record, offset, leader_epoch, stamp, base_offset))
            .collect();
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &written, &theirs).unwrap();
        let bytes = bytes.freeze();

        let produced = batch::validate_produced(&bytes, MAX_BATCH_BYTES).unwrap();
        let batch = RecordBatch::parse(bytes).unwrap();
        prop_assert_eq!(*batch.header(), produced);
        prop_assert_eq!(produced.compression, ours);
        prop_assert_eq!(produced.base_offset, base_offset);
        prop_assert_eq!(produced.leader_epoch, leader_epoch);
        prop_assert_eq!(produced.producer, Some(stamp));
        let expected: Vec<_> = (base_offset..).zip(records).collect();
        prop_assert_eq!(read(&batch), &expected[..]);
        prop_assert_eq!(read(&batch.uncompressed().unwrap()), expected);
    }
}

/// A batch as `SnappyOutputStream` of snappy-java frames it, and the same block raw: both are in
/// use among Kafka's clients.
#[test]
fn snappy_is_read_raw_and_framed() {
    let record = Record {
        value: Some(Bytes::from_static(b"sdfdsf")),
        ..Record::default()
    };
    let header = build(Compression::None, std::slice::from_ref(&record));
    for section in [
        &b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x0f\x0d0\x18\x00\x00\x00\x01\x0csdfdsf\x00"[..],
        b"\x0d0\x18\x00\x00\x00\x01\x0csdfdsf\x00",
    ] {
        let mut batch = with_section(&header, section);
        batch[22] = 2;
        seal(&mut batch);
        let batch = RecordBatch::parse(batch.freeze()).unwrap();
        assert_eq!(batch.header().compression, Compression::Snappy);
        assert_eq!(read(&batch), [(0, record.clone())]);
    }
}

/// What the producers of Kafka write when they are not idempotent, and what some others do.
#[test]
fn no_producer_is_minus_one() {
    let plain = build(Compression::None, &[Record::default()]);
    assert_eq!(plain[43..57], [0xff; 14]);
    for rest in [[0xff; 6], [0; 6]] {
        let mut batch = BytesMut::from(&plain[..]);
        batch[51..57].copy_from_slice(&rest);
        seal(&mut batch);
        assert_eq!(BatchHeader::parse(&batch).unwrap().producer, None);
    }
}
