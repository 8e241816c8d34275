//! What is malformed is refused, whatever it claims, without a panic and without memory for it.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use millstream_protocol::ErrorCode;
use millstream_protocol::batch::{
    self, BATCH_HEADER_BYTES, BatchError, BatchHeader, Compression, Header, Record, RecordBatch,
    RecordFault,
};
use millstream_protocol::limits::{
    MAX_BATCH_BYTES, MAX_DECOMPRESSED_BATCH_BYTES, MAX_HEADER_NAME_BYTES, MAX_HEADERS_PER_RECORD,
    MAX_RECORD_BYTES, MAX_RECORDS_PER_BATCH,
};
use proptest::prelude::*;

use crate::records::{WRITTEN, build, records, seal, with_section, written_codec};

const MAX: usize = MAX_BATCH_BYTES;

/// Three records with everything a record can have, uncompressed.
fn valid() -> Bytes {
    let header = |name: &'static str| Header {
        name: Bytes::from_static(name.as_bytes()),
        value: Some(Bytes::from_static(b"h")),
    };
    let record = |timestamp_ms| Record {
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"value")),
        headers: vec![header("a"), header("b")],
        timestamp_ms,
    };
    build(
        Compression::None,
        &[record(1_000), record(999), record(1_001)],
    )
}

/// [`valid`] with other bytes at `at`, checksum made to fit.
fn patched(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = BytesMut::from(&valid()[..]);
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// Reads a batch in every way there is, until something is wrong with it.
fn exercise(bytes: &Bytes) -> Result<usize, BatchError> {
    let validated = batch::validate_produced(bytes, MAX);
    let parsed = RecordBatch::parse(bytes.clone());
    if let Ok(header) = validated {
        assert_eq!(parsed.as_ref().map(RecordBatch::header), Ok(&header));
    }
    let parsed = parsed?;
    let records = parsed.records()?;
    let mut read = 0;
    for view in &records {
        let view = view?;
        assert!(view.offset <= parsed.header().last_offset());
        read += 1 + view.headers().count();
    }
    assert!(records.clone().into_owned().all(|record| record.is_ok()));
    let uncompressed = parsed.uncompressed()?;
    assert!(uncompressed.bytes().len() <= MAX_DECOMPRESSED_BATCH_BYTES);
    if validated.is_ok() && parsed.header().compression == Compression::None {
        assert_eq!(
            records.iter().count(),
            parsed.header().record_count as usize
        );
    }
    batch::retain(&parsed, |record| record.offset % 2 == 0)?;
    Ok(read)
}

fn field(field: &'static str, value: i64) -> BatchError {
    BatchError::Field { field, value }
}

#[test]
fn every_field_of_the_header_is_checked() {
    let records = MAX_RECORDS_PER_BATCH as i32;
    let cases: [(usize, &[u8], BatchError); 19] = [
        (0, &(-1_i64).to_be_bytes(), field("base offset", -1)),
        (0, &i64::MAX.to_be_bytes(), field("base offset", i64::MAX)),
        (
            0,
            &(i64::MAX - 2).to_be_bytes(),
            field("base offset", i64::MAX - 2),
        ),
        (8, &(-1_i32).to_be_bytes(), field("length", -1)),
        (8, &0_i32.to_be_bytes(), field("length", 0)),
        (8, &48_i32.to_be_bytes(), field("length", 48)),
        (
            8,
            &i32::MAX.to_be_bytes(),
            BatchError::TooLarge { limit: MAX },
        ),
        (12, &(-1_i32).to_be_bytes(), field("leader epoch", -1)),
        (16, &[1], BatchError::Magic { magic: 1 }),
        (21, &5_i16.to_be_bytes(), field("compression", 5)),
        (21, &(1_i16 << 7).to_be_bytes(), field("attributes", 1 << 7)),
        (21, &i16::MIN.to_be_bytes(), field("attributes", 1 << 15)),
        (23, &(-1_i32).to_be_bytes(), field("last offset delta", -1)),
        (
            23,
            &records.to_be_bytes(),
            field("last offset delta", records.into()),
        ),
        (23, &1_i32.to_be_bytes(), field("record count", 3)),
        (43, &(-2_i64).to_be_bytes(), field("producer id", -2)),
        (57, &(-1_i32).to_be_bytes(), field("record count", -1)),
        (57, &4_i32.to_be_bytes(), field("record count", 4)),
        (
            57,
            &i32::MAX.to_be_bytes(),
            field("record count", i32::MAX.into()),
        ),
    ];
    assert!(exercise(&valid()).is_ok());
    for (at, bytes, expected) in cases {
        let batch = patched(at, bytes);
        assert_eq!(BatchHeader::parse(&batch), Err(expected.clone()), "{at}");
        assert_eq!(RecordBatch::parse(batch.clone()), Err(expected.clone()));
        assert_eq!(batch::validate_produced(&batch, MAX), Err(expected));
    }
    for (at, bytes, name) in [
        (51, &(-1_i16).to_be_bytes()[..], "producer epoch"),
        (53, &(-1_i32).to_be_bytes(), "first sequence"),
    ] {
        let mut batch = BytesMut::from(&patched(43, &[0; 14])[..]);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(BatchHeader::parse(&batch), Err(field(name, -1)));
    }
}

#[test]
fn a_claimed_count_needs_bytes_for_it() {
    let count = MAX_RECORDS_PER_BATCH as i32;
    for compression in [0_u8, 4] {
        let mut batch = BytesMut::from(&valid()[..BATCH_HEADER_BYTES]);
        batch[22] = compression;
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        if compression == 4 {
            batch.extend_from_slice(&zstd::bulk::compress(&[0; 100], 1).unwrap());
        }
        seal(&mut batch);
        assert_eq!(
            exercise(&batch.freeze()),
            Err(field("record count", count.into()))
        );
    }
}

/// Compaction elsewhere may leave a batch without records, for its producer's sequence.
#[test]
fn a_batch_may_be_empty() {
    let empty = |section: &[u8]| {
        let mut batch = with_section(&valid(), section);
        batch[57..61].copy_from_slice(&[0; 4]);
        seal(&mut batch);
        batch.freeze()
    };
    assert_eq!(exercise(&empty(&[])), Ok(0));
    assert_eq!(exercise(&empty(&[0])), Err(field("record count", 0)));
    let refused = batch::validate_produced(&empty(&[]), MAX);
    assert_eq!(refused, Err(field("record count", 0)));
}

#[test]
fn the_length_is_the_batches() {
    let valid = valid();
    for actual in 0..valid.len() {
        let cut = valid.slice(..actual);
        let expected = if actual < BATCH_HEADER_BYTES {
            BATCH_HEADER_BYTES
        } else {
            valid.len()
        };
        let length = BatchError::Length { expected, actual };
        assert_eq!(RecordBatch::parse(cut.clone()), Err(length.clone()));
        assert_eq!(batch::validate_produced(&cut, MAX), Err(length.clone()));
        let mut rest = cut.clone();
        if actual > 0 {
            assert_eq!(RecordBatch::parse_next(&mut rest), Err(length));
        }
        assert_eq!(rest, cut);
    }
    let longer = Bytes::from([&valid[..], &[0]].concat());
    let length = BatchError::Length {
        expected: valid.len(),
        actual: valid.len() + 1,
    };
    assert_eq!(RecordBatch::parse(longer.clone()), Err(length.clone()));
    assert_eq!(batch::validate_produced(&longer, MAX), Err(length));
    for short in 0..BATCH_HEADER_BYTES {
        let mut short = valid[..short].to_vec();
        assert!(batch::verify_crc(&short).is_err());
        assert!(batch::assign(&mut short, 0, 0).is_err());
    }
}

#[test]
fn every_bit_behind_the_checksum_counts() {
    let valid = valid();
    for bit in 17 * 8..valid.len() * 8 {
        let mut flipped = BytesMut::from(&valid[..]);
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(batch::verify_crc(&flipped), Err(BatchError::Crc { .. })),
            "bit {bit}"
        );
        assert!(
            batch::validate_produced(&flipped, MAX).is_err(),
            "bit {bit}"
        );
        assert!(RecordBatch::parse(flipped.freeze()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_place_beyond_the_format_is_not_assigned() {
    let mut batch = valid().to_vec();
    let last = i64::MAX as u64 - 3;
    for (base_offset, leader_epoch) in [(last + 1, 0), (u64::MAX, 0), (0, 1 << 31)] {
        assert!(batch::assign(&mut batch, base_offset, leader_epoch).is_err());
        assert_eq!(batch, valid());
    }
    assert_eq!(batch::assign(&mut batch, last, i32::MAX as u32), Ok(()));
    assert_eq!(
        BatchHeader::parse(&batch).unwrap().next_offset(),
        i64::MAX as u64
    );
}

#[test]
fn a_client_sets_no_attribute_of_the_brokers() {
    for (bit, attribute) in [
        (3, "append time"),
        (4, "transactional bit"),
        (5, "control bit"),
        (6, "delete horizon"),
    ] {
        let batch = patched(22, &[1 << bit]);
        let forbidden = BatchError::Forbidden { attribute };
        assert_eq!(forbidden.code(), ErrorCode::InvalidRequest);
        assert_eq!(batch::validate_produced(&batch, MAX), Err(forbidden));
        assert!(RecordBatch::parse(batch).is_ok());
    }
}

#[test]
fn a_produced_batch_has_all_its_records() {
    let parsed = RecordBatch::parse(valid()).unwrap();
    let compacted = batch::retain(&parsed, |record| record.offset != 1)
        .unwrap()
        .unwrap();
    assert!(RecordBatch::parse(compacted.clone()).is_ok());
    assert_eq!(
        batch::validate_produced(&compacted, MAX),
        Err(field("record count", 2))
    );
}

#[test]
fn a_topic_may_take_smaller_batches_only() {
    let valid = valid();
    assert!(batch::validate_produced(&valid, valid.len()).is_ok());
    let limit = valid.len() - 1;
    let refused = batch::validate_produced(&valid, limit).unwrap_err();
    assert_eq!(refused, BatchError::TooLarge { limit });
    assert_eq!(refused.code(), ErrorCode::RecordTooLarge);
}

#[test]
fn the_max_timestamp_is_the_records() {
    for wrong in [1_000_i64, 1_002, i64::MAX] {
        let batch = patched(35, &wrong.to_be_bytes());
        let refused = batch::validate_produced(&batch, MAX);
        assert_eq!(refused, Err(field("max timestamp", wrong)));
    }
}

/// An encoded record, by hand.
#[derive(Clone)]
struct Encoded {
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i64,
    fields: Vec<u8>,
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut folded = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while folded >= 0x80 {
        bytes.push(folded as u8 | 0x80);
        folded >>= 7;
    }
    bytes.push(folded as u8);
    bytes
}

/// Neither key nor value, and no headers.
const NO_FIELDS: [u8; 3] = [1, 1, 0];

fn plain() -> Encoded {
    Encoded {
        attributes: 0,
        timestamp_delta: 0,
        offset_delta: 0,
        fields: NO_FIELDS.to_vec(),
    }
}

impl Encoded {
    fn bytes(&self) -> Vec<u8> {
        let timestamp_delta = zigzag(self.timestamp_delta);
        let body = [
            &[self.attributes],
            &timestamp_delta[..],
            &zigzag(self.offset_delta),
            &self.fields,
        ]
        .concat();
        [zigzag(body.len() as i64), body].concat()
    }
}

/// A batch of `count` records from `section`, at base and max timestamp 0.
fn batch_of(count: u32, section: &[u8]) -> Bytes {
    let mut batch = with_section(&build(Compression::None, &[Record::default()]), section);
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut batch);
    batch.freeze()
}

/// What the broker and what a reader says of the first malformed record.
fn faults(batch: &Bytes) -> (Option<RecordFault>, Option<RecordFault>) {
    let fault = |result: Result<(), BatchError>| match result {
        Ok(()) => None,
        Err(BatchError::Record { fault, .. }) => Some(fault),
        Err(other) => panic!("{other}"),
    };
    let parsed = RecordBatch::parse(batch.clone()).unwrap();
    let records = parsed.records().unwrap();
    let read = records.iter().try_for_each(|record| record.map(drop));
    let mut iter = records.iter().skip_while(Result::is_ok);
    assert_eq!(iter.next().map(Result::unwrap_err), read.clone().err());
    assert!(iter.next().is_none(), "goes on after an error");
    (
        fault(batch::validate_produced(batch, MAX).map(drop)),
        fault(read),
    )
}

#[test]
fn every_field_of_a_record_is_checked() {
    use RecordFault::{
        NegativeLength, OffsetDelta, Timestamp, TooManyHeaders, Trailing, Truncated, Varint,
    };
    let with_fields = |fields: &[u8]| {
        Encoded {
            fields: fields.to_vec(),
            ..plain()
        }
        .bytes()
    };
    let cases: [(Vec<u8>, RecordFault); 17] = [
        (vec![0; 7], Truncated),
        (vec![1; 7], NegativeLength),
        (vec![0x80; 7], Varint),
        (vec![0x7e, 0, 0, 0, 1, 1, 0], Truncated),
        ([plain().bytes(), vec![0]].concat(), Trailing),
        (with_fields(&[1, 1, 0, 0]), Trailing),
        (with_fields(&[1, 1, 0x80]), Truncated),
        (with_fields(&[3, 1, 0]), NegativeLength),
        (with_fields(&[1, 3, 0]), NegativeLength),
        (with_fields(&[8, 1, 0]), Truncated),
        (with_fields(&[1, 1, 1]), NegativeLength),
        (with_fields(&[1, 1, 2]), Truncated),
        (with_fields(&[1, 1, 2, 1, 1]), NegativeLength),
        (with_fields(&[1, 1, 2, 0, 3]), NegativeLength),
        (
            with_fields(&[1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
            TooManyHeaders,
        ),
        (
            Encoded {
                offset_delta: 1,
                ..plain()
            }
            .bytes(),
            OffsetDelta,
        ),
        (
            Encoded {
                offset_delta: -1,
                ..plain()
            }
            .bytes(),
            OffsetDelta,
        ),
    ];
    assert_eq!(faults(&batch_of(1, &plain().bytes())), (None, None));
    for (section, fault) in cases {
        let found = faults(&batch_of(1, &section));
        assert_eq!(found, (Some(fault), Some(fault)), "{section:x?}");
    }
    let late = Encoded {
        timestamp_delta: i64::MAX,
        ..plain()
    };
    let mut batch = BytesMut::from(&batch_of(1, &late.bytes())[..]);
    batch[27..35].copy_from_slice(&1_i64.to_be_bytes());
    seal(&mut batch);
    assert_eq!(faults(&batch.freeze()), (Some(Timestamp), Some(Timestamp)));
}

#[test]
fn offsets_ascend() {
    let section = |deltas: &[i64]| {
        let record = |offset_delta: &i64| {
            Encoded {
                offset_delta: *offset_delta,
                ..plain()
            }
            .bytes()
        };
        deltas.iter().flat_map(record).collect::<Vec<_>>()
    };
    let fault = Some(RecordFault::OffsetDelta);
    assert_eq!(faults(&batch_of(3, &section(&[0, 1, 2]))), (None, None));
    for deltas in [[0, 0, 1], [0, 2, 1], [1, 2, 3], [0, 1, 3]] {
        assert_eq!(
            faults(&batch_of(3, &section(&deltas))),
            (fault, fault),
            "{deltas:?}"
        );
    }
}

#[test]
fn a_broker_is_stricter_than_a_reader() {
    let with_headers = |count: usize, name: &[u8]| {
        let header = [&zigzag(name.len() as i64)[..], name, &[1]].concat();
        let fields = [&[1, 1], &zigzag(count as i64)[..], &header.repeat(count)].concat();
        Encoded { fields, ..plain() }
    };
    let value = [
        &[1][..],
        &zigzag(MAX_RECORD_BYTES as i64 + 1),
        &vec![0; MAX_RECORD_BYTES + 1],
        &[0],
    ];
    let cases = [
        (
            Encoded {
                attributes: 1,
                ..plain()
            },
            RecordFault::Attributes,
        ),
        (
            Encoded {
                fields: value.concat(),
                ..plain()
            },
            RecordFault::TooLarge,
        ),
        (with_headers(1, b"\xff"), RecordFault::HeaderName),
        (
            with_headers(1, &[b'n'; MAX_HEADER_NAME_BYTES + 1]),
            RecordFault::HeaderName,
        ),
    ];
    for (record, fault) in cases {
        assert_eq!(faults(&batch_of(1, &record.bytes())), (Some(fault), None));
    }
    for record in [
        with_headers(MAX_HEADERS_PER_RECORD, b"n"),
        with_headers(1, &[b'n'; MAX_HEADER_NAME_BYTES]),
        with_headers(2, b""),
    ] {
        assert_eq!(faults(&batch_of(1, &record.bytes())), (None, None));
    }
    let fault = Some(RecordFault::TooManyHeaders);
    let too_many = with_headers(MAX_HEADERS_PER_RECORD + 1, b"n").bytes();
    assert_eq!(faults(&batch_of(1, &too_many)), (fault, fault));
}

#[test]
fn what_a_fault_is_answered_with() {
    let record = |fault| BatchError::Record { index: 0, fault }.code();
    assert_eq!(record(RecordFault::TooLarge), ErrorCode::RecordTooLarge);
    assert_eq!(record(RecordFault::HeaderName), ErrorCode::InvalidRequest);
    assert_eq!(record(RecordFault::Truncated), ErrorCode::CorruptBatch);
    assert_eq!(
        BatchError::Magic { magic: 0 }.code(),
        ErrorCode::CorruptBatch
    );
}

/// A batch whose records are `section` in the codec of this number.
fn compressed(codec: u8, section: &[u8]) -> Bytes {
    let mut batch = with_section(&valid(), section);
    batch[22] = codec;
    seal(&mut batch);
    batch.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
    let mut framed = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
    for block in blocks {
        framed.extend_from_slice(&(block.len() as u32).to_be_bytes());
        framed.extend_from_slice(block);
    }
    framed
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

#[test]
fn decompression_stops_at_its_limit() {
    let zeros = vec![0; MAX_DECOMPRESSED_BATCH_BYTES];
    let half = snappy(&zeros[..MAX_DECOMPRESSED_BATCH_BYTES / 2]);
    for (codec, bomb) in [
        (1, gzip(&zeros)),
        (1, [gzip(&zeros[1..]), gzip(&zeros[1..])].concat()),
        (2, snappy(&zeros)),
        (2, xerial(&[&half, &half])),
        (3, lz4(&zeros)),
        (4, zstd(&zeros)),
    ] {
        assert!(bomb.len() < MAX / 2);
        let limit = MAX_DECOMPRESSED_BATCH_BYTES;
        let refused = exercise(&compressed(codec, &bomb));
        assert_eq!(
            refused,
            Err(BatchError::TooLarge { limit }),
            "codec {codec}"
        );
    }
    // One header below the limit it is merely not what the batch says.
    let most = &zeros[BATCH_HEADER_BYTES..];
    for (codec, section) in [
        (1, gzip(most)),
        (2, snappy(most)),
        (3, lz4(most)),
        (4, zstd(most)),
    ] {
        let refused = exercise(&compressed(codec, &section));
        assert!(
            matches!(refused, Err(BatchError::Record { .. })),
            "codec {codec}: {refused:?}"
        );
    }
}

#[test]
fn claims_of_compressed_records_are_not_believed() {
    let mut window = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    window.window_log(27).unwrap();
    window.write_all(&[0; 1000]).unwrap();
    let legacy_lz4 = [&0x184c_2102_u32.to_le_bytes()[..], &[0; 4]].concat();
    for (codec, section) in [
        // 4 GiB from five bytes, raw and framed.
        (2, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        (2, xerial(&[&[0xff, 0xff, 0xff, 0xff, 0x0f]])),
        (4, window.finish().unwrap()),
        (3, legacy_lz4),
    ] {
        let refused = exercise(&compressed(codec, &section));
        let expected = matches!(
            refused,
            Err(BatchError::Codec { .. } | BatchError::TooLarge { .. })
        );
        assert!(expected, "codec {codec}: {refused:?}");
    }
    let claims = exercise(&compressed(2, &[0x80, 0x80, 0x40, 0])).unwrap_err();
    assert_eq!(
        claims.to_string(),
        "record batch codec snappy: snappy block claims more than it can hold"
    );
}

#[test]
fn compressed_records_end_with_their_batch() {
    let section = &valid()[BATCH_HEADER_BYTES..];
    let packers = [gzip, snappy, lz4, zstd];
    for (codec, pack) in (1..).zip(packers) {
        let packed = pack(section);
        assert_eq!(
            exercise(&compressed(codec, &packed)),
            Ok(9),
            "codec {codec}"
        );
        let trailing = [&packed[..], &[0]].concat();
        assert!(
            exercise(&compressed(codec, &trailing)).is_err(),
            "codec {codec}"
        );
        for cut in 0..packed.len() {
            // A frame without its end is told by the records that are missing.
            let whole = codec == 3 && cut >= packed.len() - 4;
            let read = exercise(&compressed(codec, &packed[..cut]));
            assert_eq!(read.is_ok(), whole, "codec {codec} cut at {cut}: {read:?}");
        }
    }
    let framed = xerial(&[&snappy(&section[..20]), &snappy(&section[20..])]);
    assert_eq!(exercise(&compressed(2, &framed)), Ok(9));
    for cut in 9..framed.len() {
        assert!(
            exercise(&compressed(2, &framed[..cut])).is_err(),
            "cut at {cut}"
        );
    }
}

proptest! {
    /// Mutations that the checksum does not catch.
    #[test]
    fn mutated_batches_do_no_harm(
        records in records(),
        compression in written_codec(),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = BytesMut::from(&build(compression, &records)[..]);
        for (index, byte) in mutations {
            let at = 21 + index.index(batch.len() - 21);
            batch[at] = byte;
        }
        seal(&mut batch);
        let _ = exercise(&batch.freeze());
    }

    #[test]
    fn random_records_do_no_harm(codec in 0_u8..5, section: Vec<u8>) {
        let _ = exercise(&compressed(codec, &section));
    }

    #[test]
    fn random_bytes_are_no_batch(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(exercise(&bytes).is_err());
        prop_assert!(bytes.is_empty() || RecordBatch::parse_next(&mut bytes.clone()).is_err());
    }

    #[test]
    fn a_spliced_batch_is_seen(records in records(), cut in any::<prop::sample::Index>()) {
        for compression in WRITTEN {
            let batch = build(compression, &records);
            let cut = cut.index(batch.len() - BATCH_HEADER_BYTES) + BATCH_HEADER_BYTES;
            let shorter = with_section(&batch, &batch[BATCH_HEADER_BYTES..cut]);
            // The end mark of an lz4 frame may be missing: no record is.
            let whole = batch[22] == 3 && cut + 4 >= batch.len();
            prop_assert_eq!(exercise(&shorter.freeze()).is_ok(), whole);
        }
    }
}
