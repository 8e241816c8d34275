//! Records for tests: generated, and built into batches.

use bytes::{Bytes, BytesMut};
use millstream_protocol::Offset;
use millstream_protocol::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, Compression, Header, Record, RecordBatch,
};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The codecs that are written.
pub(crate) const WRITTEN: [Compression; 3] =
    [Compression::None, Compression::Lz4, Compression::Zstd];

/// Any of [`WRITTEN`].
pub(crate) fn written_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&WRITTEN[..])
}

/// Records of one batch: any bytes, absent and empty fields, repeated header names, timestamps in
/// disorder and on both sides of 1970.
pub(crate) fn records() -> impl Strategy<Value = Vec<Record>> {
    vec(record(), 1..40)
}

fn record() -> impl Strategy<Value = Record> {
    let field = |bytes| option::of(vec(any::<u8>(), 0..bytes).prop_map(Bytes::from));
    let header = ("[a-cä]{0,3}", field(20)).prop_map(|(name, value)| Header {
        name: name.into(),
        value,
    });
    let timestamp_ms = prop_oneof![
        1_700_000_000_000..1_700_000_001_000_i64,
        -(1_i64 << 53)..1 << 53
    ];
    (field(80), field(300), vec(header, 0..4), timestamp_ms).prop_map(
        |(key, value, headers, timestamp_ms)| Record {
            key,
            value,
            headers,
            timestamp_ms,
        },
    )
}

/// Appends a record to a builder.
pub(crate) fn append(
    builder: &mut BatchBuilder,
    record: &Record,
) -> Result<u32, millstream_protocol::batch::AppendError> {
    builder.append(
        record.timestamp_ms,
        record.key.as_deref(),
        record.value.as_deref(),
        &record.headers,
    )
}

/// One batch of `records`.
pub(crate) fn build(compression: Compression, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(compression, MAX_BATCH_BYTES);
    for record in records {
        append(&mut builder, record).unwrap();
    }
    builder.finish(None).unwrap()
}

/// All records of a batch with their offsets.
pub(crate) fn read(batch: &RecordBatch) -> Vec<(Offset, Record)> {
    let records = batch.records().unwrap();
    records.into_owned().map(Result::unwrap).collect()
}

/// A batch of `header`'s fields with other records behind it: length and checksum made to fit,
/// nothing else.
pub(crate) fn with_section(header: &[u8], section: &[u8]) -> BytesMut {
    let mut batch = BytesMut::from(&header[..BATCH_HEADER_BYTES]);
    batch.extend_from_slice(section);
    seal(&mut batch);
    batch
}

/// Makes length and checksum fit.
pub(crate) fn seal(batch: &mut [u8]) {
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
