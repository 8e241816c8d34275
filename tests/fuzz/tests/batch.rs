//! Record batches: whatever the bytes, no panic, and no more than the limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;

use bytes::Bytes;
use millstream_fuzz::Mutator;
use millstream_protocol::batch::{
    self, BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Compression, Header,
    RecordBatch,
};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_DECOMPRESSED_BATCH_BYTES};

const CASES: usize = 120_000;

/// One small batch of every codec.
fn seeds() -> Vec<Vec<u8>> {
    let plain = build(Compression::None);
    let section = &plain[BATCH_HEADER_BYTES..];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(section).unwrap();
    let gzip = gzip.finish().unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(section).unwrap();
    let length = (snappy.len() as u32).to_be_bytes();
    let framed = [
        b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01",
        &length[..],
        &snappy,
    ]
    .concat();
    vec![
        build(Compression::Lz4),
        build(Compression::Zstd),
        with_codec(&plain, 1, &gzip),
        with_codec(&plain, 2, &snappy),
        with_codec(&plain, 2, &framed),
        plain,
    ]
}

fn build(compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(compression, MAX_BATCH_BYTES);
    for n in 0..8 {
        let name = "name".into();
        let value = Some("value".into());
        let headers = [Header { name, value }];
        let key = (n % 2 == 0).then_some(&b"a key"[..]);
        let value = (n % 3 > 0).then_some(&b"a value that repeats itself, itself, itself"[..]);
        builder
            .append(
                1_700_000_000_000 + n,
                key,
                value,
                &headers[..n as usize % 2],
            )
            .unwrap();
    }
    builder.finish(None).unwrap().to_vec()
}

fn with_codec(plain: &[u8], codec: u8, section: &[u8]) -> Vec<u8> {
    let mut batch = [&plain[..BATCH_HEADER_BYTES], section].concat();
    batch[22] = codec;
    seal(&mut batch);
    batch
}

/// Makes length and checksum fit, so that the readers behind them are reached.
fn seal(batch: &mut [u8]) {
    if batch.len() >= BATCH_HEADER_BYTES {
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Reads a batch in every way there is; the records read, or what is wrong.
fn read(bytes: &Bytes) -> Result<usize, BatchError> {
    let header = BatchHeader::parse(bytes);
    let validated = batch::validate_produced(bytes, MAX_BATCH_BYTES);
    let parsed = RecordBatch::parse(bytes.clone())?;
    assert_eq!(header.as_ref(), Ok(parsed.header()));
    assert!(validated.is_err() || validated == header);
    assert!(parsed.header().next_offset() <= i64::MAX as u64);
    let records = parsed.records()?;
    let (mut count, mut next_offset) = (0, parsed.header().base_offset);
    for record in &records {
        let record = record?;
        assert!(record.offset >= next_offset);
        next_offset = record.offset + 1;
        record.headers().for_each(drop);
        count += 1;
    }
    assert!(next_offset <= parsed.header().next_offset());
    assert_eq!(count, parsed.header().record_count as usize);
    assert_eq!(records.into_owned().filter(Result::is_ok).count(), count);
    if let Ok(header) = validated {
        assert_eq!(header.next_offset() - header.base_offset, count as u64);
    }

    let uncompressed = parsed.uncompressed()?;
    assert!(uncompressed.bytes().len() <= MAX_DECOMPRESSED_BATCH_BYTES);
    if let Some(retained) = batch::retain(&parsed, |record| record.key.is_some())? {
        let retained = RecordBatch::parse(retained)?;
        assert_eq!(
            retained.header().next_offset(),
            parsed.header().next_offset()
        );
    }
    Ok(count)
}

#[test]
fn damaged_batches() {
    let seeds = seeds();
    for seed in &seeds {
        assert_eq!(read(&seed.clone().into()), Ok(8));
    }
    let mut mutator = Mutator::new(0x0062_6174_6368);
    let (mut whole, mut refused) = (0, 0);
    for case in 0..CASES {
        let (valid, other) = (mutator.pick(&seeds).clone(), mutator.pick(&seeds).clone());
        let mut bytes = mutator.mutate(&valid, &other);
        if case % 8 > 0 {
            seal(&mut bytes);
        }
        match read(&bytes.into()) {
            Ok(_) => whole += 1,
            Err(_) => refused += 1,
        }
    }
    // Both were reached, by far.
    assert!(
        whole > CASES / 50 && refused > CASES / 2,
        "{whole} whole, {refused} refused"
    );
}

#[test]
fn damaged_rows_of_batches() {
    let row: Vec<u8> = seeds().concat();
    let mut mutator = Mutator::new(0x0072_6f77);
    let mut taken = 0;
    for _ in 0..CASES / 20 {
        let mut bytes = Bytes::from(mutator.mutate(&row, &row));
        loop {
            let before = bytes.len();
            match RecordBatch::parse_next(&mut bytes) {
                Ok(Some(batch)) => {
                    assert_eq!(batch.bytes().len(), before - bytes.len());
                    taken += 1;
                }
                Ok(None) => break assert!(bytes.is_empty()),
                Err(_) => break assert_eq!(bytes.len(), before),
            }
        }
    }
    assert!(taken > CASES / 20);
}
