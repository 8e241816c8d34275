//! What a builder writes is what a reader reads, and what a broker accepts.

use bytes::{Bytes, BytesMut};
use millstream_protocol::batch::{
    self, AppendError, BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Compression,
    Header, ProducerStamp, Record, RecordBatch, TimestampKind, sequence_after,
};
use millstream_protocol::limits::{
    MAX_BATCH_BYTES, MAX_HEADER_NAME_BYTES, MAX_HEADERS_PER_RECORD, MAX_RECORD_BYTES,
    MAX_RECORDS_PER_BATCH,
};
use proptest::prelude::*;

use crate::records::{WRITTEN, append, build, read, records, seal, written_codec};

proptest! {
    #[test]
    fn records_come_back(records in records(), compression in written_codec()) {
        let bytes = build(compression, &records);
        let batch = RecordBatch::parse(bytes.clone()).unwrap();
        let expected: Vec<_> = (0..).zip(records).collect();
        prop_assert_eq!(read(&batch), &expected[..]);

        let records = batch.records().unwrap();
        for (view, (offset, record)) in records.iter().zip(&expected) {
            let view = view.unwrap();
            prop_assert_eq!(view.offset, *offset);
            prop_assert_eq!(view.timestamp_ms, record.timestamp_ms);
            prop_assert_eq!(view.key, record.key.as_deref());
            prop_assert_eq!(view.value, record.value.as_deref());
            let headers: Vec<_> = view.headers().map(|header| (header.name, header.value)).collect();
            let expected: Vec<_> =
                record.headers.iter().map(|header| (&header.name[..], header.value.as_deref())).collect();
            prop_assert_eq!(headers, expected);
        }
        prop_assert_eq!(batch::validate_produced(&bytes, bytes.len()), Ok(*batch.header()));
    }

    #[test]
    fn the_header_describes_the_records(
        records in records(),
        compression in written_codec(),
        stamp in proptest::option::of((0..1_u64 << 63, 0..1_u16 << 15, 0..1_u32 << 31)),
    ) {
        let stamp = stamp.map(|(producer_id, producer_epoch, first_sequence)| ProducerStamp {
            producer_id,
            producer_epoch,
            first_sequence,
        });
        let mut builder = BatchBuilder::new(compression, MAX_BATCH_BYTES);
        for record in &records {
            append(&mut builder, record).unwrap();
        }
        let encoded_bytes = builder.encoded_bytes();
        let bytes = builder.finish(stamp).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let count = records.len() as u32;
        prop_assert!(bytes.len() <= encoded_bytes);
        prop_assert_eq!(header.compression == Compression::None, bytes.len() == encoded_bytes);
        prop_assert_eq!(header.base_offset, 0);
        prop_assert_eq!(header.batch_bytes, bytes.len());
        prop_assert_eq!(header.leader_epoch, 0);
        prop_assert_eq!(header.timestamps, TimestampKind::Created);
        prop_assert!(!header.transactional && !header.control);
        prop_assert_eq!(header.record_count, count);
        prop_assert_eq!(header.last_offset_delta, count - 1);
        prop_assert_eq!(header.next_offset(), u64::from(count));
        prop_assert_eq!(header.base_timestamp_ms, records[0].timestamp_ms);
        prop_assert_eq!(Some(header.max_timestamp_ms), records.iter().map(|record| record.timestamp_ms).max());
        prop_assert_eq!(header.producer, stamp);
        prop_assert_eq!(
            header.last_sequence(),
            stamp.map(|stamp| sequence_after(stamp.first_sequence, count - 1))
        );
    }

    /// "Full" means that the next batch takes it, "too large" that no batch of this size does.
    #[test]
    fn a_refusal_says_whether_to_try_again(
        max_batch_bytes in 0_usize..2_000,
        values in proptest::collection::vec(0_usize..2_000, 1..40),
        gap_ms in 0_i64..1 << 40,
    ) {
        let mut builder = BatchBuilder::new(Compression::None, max_batch_bytes);
        for (index, value_bytes) in values.into_iter().enumerate() {
            let record = Record {
                value: Some(vec![0; value_bytes].into()),
                timestamp_ms: gap_ms * index as i64,
                ..Record::default()
            };
            let (bytes, count) = (builder.encoded_bytes(), builder.record_count());
            let alone = append(&mut BatchBuilder::new(Compression::None, max_batch_bytes), &record);
            match append(&mut builder, &record) {
                Ok(delta) => prop_assert_eq!(delta, count),
                Err(refusal) => {
                    prop_assert_eq!(refusal == AppendError::Full, alone.is_ok());
                    prop_assert_eq!((builder.encoded_bytes(), builder.record_count()), (bytes, count));
                }
            }
            prop_assert!(builder.encoded_bytes() <= max_batch_bytes.max(BATCH_HEADER_BYTES));
        }
    }

    #[test]
    fn concatenated_batches_are_taken_one_by_one(
        batches in proptest::collection::vec((records(), written_codec()), 0..6),
    ) {
        let batches: Vec<Bytes> =
            batches.iter().map(|(records, compression)| build(*compression, records)).collect();
        let mut bytes = Bytes::from(batches.concat());
        for expected in &batches {
            let batch = RecordBatch::parse_next(&mut bytes).unwrap().unwrap();
            prop_assert_eq!(batch.bytes(), expected);
        }
        prop_assert_eq!(RecordBatch::parse_next(&mut bytes), Ok(None));
    }

    #[test]
    fn assigning_a_place_changes_nothing_else(
        records in records(),
        compression in written_codec(),
        base_offset in 0..(1_u64 << 63) - 41,
        leader_epoch in 0..1_u32 << 31,
    ) {
        let produced = build(compression, &records);
        let mut placed = BytesMut::from(&produced[..]);
        batch::assign(&mut placed, base_offset, leader_epoch).unwrap();
        let placed = RecordBatch::parse(placed.freeze()).unwrap();
        let header = BatchHeader::parse(&produced).unwrap();
        prop_assert_eq!(*placed.header(), BatchHeader { base_offset, leader_epoch, ..header });
        let expected: Vec<_> = (base_offset..).zip(records).collect();
        prop_assert_eq!(read(&placed), expected);
    }

    #[test]
    fn retained_records_keep_their_offsets(
        records in records(),
        compression in written_codec(),
        base_offset in 0..1_u64 << 40,
        keep: u64,
    ) {
        let mut batch = BytesMut::from(&build(compression, &records)[..]);
        batch::assign(&mut batch, base_offset, 7).unwrap();
        let batch = RecordBatch::parse(batch.freeze()).unwrap();
        let kept = |offset: u64| keep >> (offset - base_offset) & 1 == 1;
        let expected: Vec<_> = (base_offset..).zip(records).filter(|(offset, _)| kept(*offset)).collect();

        let retained = batch::retain(&batch, |record| kept(record.offset)).unwrap();
        let Some(retained) = retained else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        if expected.len() < batch.header().record_count as usize {
            prop_assert_eq!(Vec::from(retained.clone()).capacity(), retained.len());
        }
        let retained = RecordBatch::parse(retained).unwrap();
        prop_assert_eq!(read(&retained), &expected[..]);
        let header = BatchHeader {
            record_count: expected.len() as u32,
            batch_bytes: retained.bytes().len(),
            compression: retained.header().compression,
            crc: retained.header().crc,
            ..*batch.header()
        };
        prop_assert_eq!(*retained.header(), header);
        prop_assert!([compression, Compression::None].contains(&header.compression));

        // Compaction goes on: once more, and to nothing.
        let again = batch::retain(&retained, |_| true).unwrap();
        prop_assert_eq!(again.as_ref(), Some(retained.bytes()));
        prop_assert_eq!(batch::retain(&retained, |_| false), Ok(None));
    }

    #[test]
    fn an_emptied_batch_keeps_its_header(
        records in records(),
        compression in written_codec(),
        base_offset in 0..1_u64 << 40,
    ) {
        let mut batch = BytesMut::from(&build(compression, &records)[..]);
        batch::assign(&mut batch, base_offset, 7).unwrap();
        let batch = RecordBatch::parse(batch.freeze()).unwrap();
        let empty = RecordBatch::parse(batch::emptied(&batch).unwrap()).unwrap();
        prop_assert_eq!(read(&empty), vec![]);
        let header = BatchHeader {
            record_count: 0,
            batch_bytes: batch::BATCH_HEADER_BYTES,
            compression: Compression::None,
            control: true,
            crc: empty.header().crc,
            ..*batch.header()
        };
        prop_assert_eq!(*empty.header(), header);
        prop_assert_eq!(&batch::emptied(&empty).unwrap(), empty.bytes());
        prop_assert!(batch::validate_produced(empty.bytes(), 1 << 20).is_err());
    }

    #[test]
    fn a_record_that_is_split_off_is_as_it_was_and_takes_no_more(
        records in records(),
        compression in written_codec(),
        base_offset in 0..1_u64 << 40,
        keep: u64,
    ) {
        let mut batch = BytesMut::from(&build(compression, &records)[..]);
        batch::assign(&mut batch, base_offset, 7).unwrap();
        let batch = RecordBatch::parse(batch.freeze()).unwrap();
        let wanted = |offset: u64| keep >> (offset - base_offset) & 1 == 1;
        let mut split = batch::split(&batch, |record| wanted(record.offset)).unwrap().into_iter();
        for (offset, record) in (base_offset..).zip(records).filter(|(offset, _)| wanted(*offset)) {
            let (at, bytes) = split.next().unwrap();
            let alone = RecordBatch::parse(bytes.clone()).unwrap();
            prop_assert_eq!((at, read(&alone)), (offset, vec![(offset, record)]));
            let plain = batch.uncompressed().unwrap();
            let retained = batch::retain(&plain, |record| record.offset == offset).unwrap();
            prop_assert_eq!(Some(&bytes), retained.as_ref());
            drop((alone, plain, retained));
            let len = bytes.len();
            prop_assert_eq!(Vec::from(bytes).capacity(), len);
        }
        prop_assert_eq!(split.next(), None);
    }

    #[test]
    fn uncompressing_keeps_all_but_the_codec(
        records in records(),
        compression in written_codec(),
        base_offset in 0..1_u64 << 40,
    ) {
        let mut compressed = BytesMut::from(&build(compression, &records)[..]);
        batch::assign(&mut compressed, base_offset, 3).unwrap();
        let compressed = RecordBatch::parse(compressed.freeze()).unwrap();
        let plain = compressed.uncompressed().unwrap();
        prop_assert_eq!(RecordBatch::parse(plain.bytes().clone()), Ok(plain.clone()));
        prop_assert_eq!(plain.header().compression, Compression::None);
        prop_assert_eq!(plain.header().base_offset, base_offset);
        prop_assert_eq!(plain.header().leader_epoch, 3);
        prop_assert_eq!(read(&plain), read(&compressed));
        let mut produced = BytesMut::from(&plain.bytes()[..]);
        batch::assign(&mut produced, 0, 0).unwrap();
        prop_assert_eq!(produced.freeze(), build(Compression::None, &records));
        prop_assert_eq!(plain.uncompressed().unwrap().bytes().as_ptr(), plain.bytes().as_ptr());
    }
}

fn repetitive(count: usize) -> Vec<Record> {
    let record = |n: usize| Record {
        key: Some(format!("key-{}", n % 10).into()),
        value: Some(Bytes::from_static(&[b'v'; 100])),
        headers: Vec::new(),
        timestamp_ms: n as i64,
    };
    (0..count).map(record).collect()
}

#[test]
fn compression_is_used_where_it_helps() {
    let records = repetitive(100);
    for compression in WRITTEN {
        let bytes = build(compression, &records);
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.compression, compression);
        assert_eq!(compression == Compression::None, bytes.len() > 5_000);
    }
    let incompressible = [Record::default()];
    for compression in WRITTEN {
        let header = BatchHeader::parse(&build(compression, &incompressible)).unwrap();
        assert_eq!(header.compression, Compression::None);
    }
}

#[test]
fn a_retained_batch_stays_compressed() {
    for compression in WRITTEN {
        let batch = RecordBatch::parse(build(compression, &repetitive(100))).unwrap();
        let retained = batch::retain(&batch, |record| record.offset % 2 == 1).unwrap();
        let header = BatchHeader::parse(&retained.unwrap()).unwrap();
        assert_eq!((header.compression, header.record_count), (compression, 50));
        assert_eq!(header.last_offset_delta, 99);
    }
}

#[test]
fn codecs_that_are_only_read_are_refused_by_the_builder() {
    for compression in [Compression::Gzip, Compression::Snappy] {
        let mut builder = BatchBuilder::new(compression, 1024);
        builder.append(0, None, None, &[]).unwrap();
        let refused = builder.finish(None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("record batch codec {compression}: is read, not written")
        );
    }
}

#[test]
fn an_empty_batch_is_not_written() {
    let builder = BatchBuilder::new(Compression::None, 1024);
    assert!(builder.is_empty());
    let empty = BatchError::Field {
        field: "record count",
        value: 0,
    };
    assert_eq!(builder.finish(None), Err(empty));
}

#[test]
fn a_producer_beyond_the_format_is_refused() {
    let stamp = ProducerStamp {
        producer_id: 1,
        producer_epoch: 1,
        first_sequence: 1,
    };
    for (producer, field) in [
        (
            ProducerStamp {
                producer_id: 1 << 63,
                ..stamp
            },
            "producer id",
        ),
        (
            ProducerStamp {
                producer_epoch: 1 << 15,
                ..stamp
            },
            "producer epoch",
        ),
        (
            ProducerStamp {
                first_sequence: 1 << 31,
                ..stamp
            },
            "first sequence",
        ),
    ] {
        let mut builder = BatchBuilder::new(Compression::None, 1024);
        builder.append(0, None, None, &[]).unwrap();
        let refused = builder.finish(Some(producer)).unwrap_err();
        assert!(
            matches!(refused, BatchError::Field { field: named, .. } if named == field),
            "{refused}"
        );
    }
}

#[test]
fn sequences_wrap_to_zero() {
    const LAST: u32 = i32::MAX as u32;
    assert_eq!(sequence_after(0, 1), 1);
    assert_eq!(sequence_after(LAST, 0), LAST);
    assert_eq!(sequence_after(LAST, 1), 0);
    assert_eq!(sequence_after(LAST - 1, 5), 3);
    assert_eq!(sequence_after(LAST, u32::MAX), LAST - 1);
}

#[test]
fn a_record_is_bounded() {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    let largest = vec![0; MAX_RECORD_BYTES];
    assert_eq!(builder.append(0, None, Some(&largest), &[]), Ok(0));
    assert_eq!(
        builder.append(0, Some(b"k"), Some(&largest), &[]),
        Err(AppendError::RecordTooLarge {
            bytes: MAX_RECORD_BYTES + 1,
            limit: MAX_RECORD_BYTES
        })
    );
    let bytes = builder.finish(None).unwrap();
    assert!(batch::validate_produced(&bytes, MAX_BATCH_BYTES).is_ok());
}

#[test]
fn headers_are_bounded() {
    let header = |name: Bytes| Header { name, value: None };
    let name = |bytes: usize| Bytes::from(vec![b'n'; bytes]);
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    let most = vec![header(name(1)); MAX_HEADERS_PER_RECORD];
    assert_eq!(builder.append(0, None, None, &most), Ok(0));
    let longest = [header(name(MAX_HEADER_NAME_BYTES))];
    assert_eq!(builder.append(0, None, None, &longest), Ok(1));

    let too_many = vec![header(name(1)); MAX_HEADERS_PER_RECORD + 1];
    let count = too_many.len();
    let refused = builder.append(0, None, None, &too_many);
    assert_eq!(refused, Err(AppendError::TooManyHeaders { count }));
    for wrong in [name(MAX_HEADER_NAME_BYTES + 1), Bytes::from_static(b"\xff")] {
        let headers = [header(name(1)), header(wrong)];
        let refused = builder.append(0, None, None, &headers);
        assert_eq!(refused, Err(AppendError::HeaderName { index: 1 }));
    }
    assert_eq!(builder.record_count(), 2);
}

#[test]
fn a_batch_holds_so_many_records() {
    let mut builder = BatchBuilder::new(Compression::Zstd, MAX_BATCH_BYTES);
    let mut appended = 0;
    while builder.append(0, None, None, &[]).is_ok() {
        appended += 1;
    }
    // The limit of the count, or of the bytes, whichever is lower.
    assert!((MAX_BATCH_BYTES / 10..=MAX_RECORDS_PER_BATCH).contains(&appended));
    let bytes = builder.finish(None).unwrap();
    let batch = RecordBatch::parse(bytes).unwrap();
    assert_eq!(batch.records().unwrap().iter().count(), appended);
}

#[test]
fn distant_timestamps_go_to_the_next_batch() {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    assert_eq!(builder.append(i64::MIN, None, None, &[]), Ok(0));
    for distant in [0, i64::MAX] {
        assert_eq!(
            builder.append(distant, None, None, &[]),
            Err(AppendError::Full)
        );
    }
    assert_eq!(builder.append(i64::MIN + 1, None, None, &[]), Ok(1));
    let batch = RecordBatch::parse(builder.finish(None).unwrap()).unwrap();
    let timestamps: Vec<_> = read(&batch)
        .iter()
        .map(|(_, record)| record.timestamp_ms)
        .collect();
    assert_eq!(timestamps, [i64::MIN, i64::MIN + 1]);
}

#[test]
fn appended_timestamps_are_the_batches() {
    let mut bytes = BytesMut::from(&build(Compression::None, &repetitive(3))[..]);
    bytes[22] |= 1 << 3;
    bytes[35..43].copy_from_slice(&1_234_i64.to_be_bytes());
    seal(&mut bytes);
    let batch = RecordBatch::parse(bytes.freeze()).unwrap();
    assert_eq!(batch.header().timestamps, TimestampKind::Appended);
    assert!(
        read(&batch)
            .iter()
            .all(|(_, record)| record.timestamp_ms == 1_234)
    );
}

#[test]
fn fields_of_owned_records_share_one_buffer() {
    let bytes = build(Compression::None, &repetitive(2));
    let range = bytes.as_ptr_range();
    let batch = RecordBatch::parse(bytes).unwrap();
    for (_, record) in read(&batch) {
        for field in [record.key, record.value] {
            assert!(range.contains(&field.unwrap().as_ptr()));
        }
    }
}
