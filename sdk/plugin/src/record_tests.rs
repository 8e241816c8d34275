//! The reader against the wire's own encoder, and against what is not a batch.

use bytes::Bytes;
use millstream_protocol::batch::{
    BatchBuilder, Compression, Header as WireHeader, Record as WireRecord, assign,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn some_bytes() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

fn some_record() -> impl Strategy<Value = WireRecord> {
    let header = ("[a-zé]{0,12}", some_bytes()).prop_map(|(name, value)| WireHeader {
        name: Bytes::from(name),
        value,
    });
    (
        some_bytes(),
        some_bytes(),
        vec(header, 0..4),
        1_500_000_000_000i64..1_500_000_100_000,
    )
        .prop_map(|(key, value, headers, timestamp_ms)| WireRecord {
            key,
            value,
            headers,
            timestamp_ms,
        })
}

fn encode(records: &[WireRecord], base_offset: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .append(record.timestamp_ms, key, value, &record.headers)
            .unwrap();
    }
    let mut batch = builder.finish(None).unwrap().to_vec();
    assign(&mut batch, base_offset, 7).unwrap();
    batch
}

fn owned(record: &Record<'_>) -> WireRecord {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let header = |header: Header<'_>| WireHeader {
        name: copy(header.name.as_bytes()),
        value: header.value.map(copy),
    };
    WireRecord {
        key: record.key().map(copy),
        value: record.value().map(copy),
        headers: record.headers().map(header).collect(),
        timestamp_ms: record.timestamp_ms(),
    }
}

proptest! {
    #[test]
    fn what_the_wire_encodes_is_read(
        first in vec(some_record(), 1..8),
        second in vec(some_record(), 1..8),
        base_offset in 0u64..1 << 40,
    ) {
        let mut batches = encode(&first, base_offset);
        batches.extend(encode(&second, base_offset + 1_000));
        let read: Vec<_> = Records::new(&batches).map(|record| record.unwrap()).collect();

        let offsets: Vec<_> = read.iter().map(Record::offset).collect();
        let expected = (0..first.len() as u64).map(|delta| base_offset + delta);
        let expected = expected.chain((0..second.len() as u64).map(|delta| base_offset + 1_000 + delta));
        prop_assert_eq!(offsets, expected.collect::<Vec<_>>());
        let records: Vec<_> = read.iter().map(owned).collect();
        prop_assert_eq!(records, [first, second].concat());
    }

    #[test]
    fn what_is_cut_off_is_an_error(records in vec(some_record(), 1..4), cut in any::<prop::sample::Index>()) {
        let batch = encode(&records, 0);
        let cut = 1 + cut.index(batch.len() - 1);
        let read: Vec<_> = Records::new(&batch[..cut]).collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert!(read[0].is_err());
    }

    #[test]
    fn anything_else_neither_panics_nor_goes_on_for_ever(
        records in vec(some_record(), 1..4),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = encode(&records, 0);
        for (index, byte) in flips {
            let index = index.index(batch.len());
            batch[index] = byte;
        }
        let bytes = batch.len();
        let headers: usize = Records::new(&batch).flatten().map(|record| record.headers().count()).sum();
        prop_assert!(Records::new(&batch).count() <= bytes);
        prop_assert!(headers <= bytes);
    }
}

fn a_record() -> WireRecord {
    WireRecord {
        value: Some(Bytes::from_static(b"value")),
        timestamp_ms: 1_000,
        ..WireRecord::default()
    }
}

fn check_malformed(change: impl FnOnce(&mut Vec<u8>), expect: &str) {
    let mut batch = encode(&[a_record()], 0);
    change(&mut batch);
    let read: Vec<_> = Records::new(&batch).collect();
    let error = read.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.to_string(), format!("malformed batch: {expect}"));
}

#[test]
fn what_the_host_never_hands_over_is_refused() {
    check_malformed(|batch| batch[16] = 1, "unknown magic");
    check_malformed(
        |batch| batch[22] |= 4,
        "it is compressed or of control records",
    );
    check_malformed(
        |batch| batch[22] |= 1 << 5,
        "it is compressed or of control records",
    );
    check_malformed(|batch| batch.truncate(60), "it is not whole");
    check_malformed(|batch| batch[60] = 0, "bytes behind the last record");
    check_malformed(|batch| batch[60] = 2, "a record ends too early or too late");
}

#[test]
fn a_batch_timed_by_the_broker_has_one_time() {
    let mut batch = encode(&[a_record(), a_record()], 0);
    batch[22] |= 1 << 3;
    batch[35..43].copy_from_slice(&5_000i64.to_be_bytes());
    let times: Vec<_> = Records::new(&batch)
        .map(|record| record.unwrap().timestamp_ms())
        .collect();
    assert_eq!(times, [5_000, 5_000]);
}

#[test]
fn a_header_is_found_by_its_name() {
    let header = |name: &'static str, value: Option<&'static [u8]>| WireHeader {
        name: name.into(),
        value: value.map(Bytes::from),
    };
    let headers = vec![
        header("a", None),
        header("b", Some(b"1")),
        header("b", Some(b"2")),
    ];
    let batch = encode(
        &[WireRecord {
            headers,
            ..a_record()
        }],
        0,
    );
    let record = Records::new(&batch).next().unwrap().unwrap();
    assert_eq!(record.header("a"), Some(None));
    assert_eq!(record.header("b"), Some(Some(&b"1"[..])));
    assert_eq!(record.header("c"), None);
    assert_eq!(record.headers().len(), 3);
}
