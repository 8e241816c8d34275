//! The bytes in the log. A change here is a change of the format: old logs must still be read.

use millstream_group::record::{EncodedRecord, MAX_KEY_BYTES, MAX_VALUE_BYTES, RecordError};
use millstream_group::{CommittedOffset, Record};
use millstream_protocol::limits::{MAX_COMMIT_METADATA_BYTES, MAX_NAME_BYTES};
use millstream_protocol::{TopicId, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

fn offset(committed: Option<CommittedOffset>) -> Record {
    let topic_id = TopicId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
    Record::Offset {
        group: "pay".into(),
        partition: TopicPartition {
            topic_id,
            partition: 300,
        },
        committed,
    }
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        topic: "in".into(),
        offset: 1000,
        metadata: "m".into(),
        committed_at_ms: 1,
    }
}

fn golden(record: Record, key: &[u8], value: Option<&[u8]>) {
    let encoded = record.encode().unwrap();
    assert_eq!(
        encoded,
        EncodedRecord {
            key: key.into(),
            value: value.map(Into::into)
        }
    );
    assert_eq!(Record::decode(key, value), Ok(record));
}

const OFFSET_KEY: &[u8] =
    b"\x01\x03pay\x10\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\xac\x02";

#[test]
fn golden_bytes() {
    let group = |generation| Record::Group {
        group: "pay".into(),
        generation,
    };
    golden(group(Some(300)), b"\x00\x03pay", Some(b"\x00\xac\x02"));
    golden(group(None), b"\x00\x03pay", None);
    golden(
        offset(Some(committed())),
        OFFSET_KEY,
        Some(b"\x00\x02in\xe8\x07\x01m\x02"),
    );
    golden(offset(None), OFFSET_KEY, None);
}

#[test]
fn the_longest_record_fits_its_limits() {
    let name = "n".repeat(MAX_NAME_BYTES);
    let partition = TopicPartition {
        topic_id: TopicId(Uuid::max()),
        partition: u32::MAX,
    };
    let committed = CommittedOffset {
        topic: name.clone(),
        offset: u64::MAX,
        metadata: "m".repeat(MAX_COMMIT_METADATA_BYTES),
        committed_at_ms: i64::MIN,
    };
    let record = Record::Offset {
        group: name,
        partition,
        committed: Some(committed),
    };
    let EncodedRecord { key, value } = record.encode().unwrap();
    let value = value.unwrap();
    assert!(key.len() <= MAX_KEY_BYTES && value.len() <= MAX_VALUE_BYTES);
    assert_eq!(Record::decode(&key, Some(&value)), Ok(record));
}

#[test]
fn unknown_kinds_versions_and_rests_are_errors() {
    let malformed = |key: &[u8], value: Option<&[u8]>, what| match Record::decode(key, value) {
        Err(RecordError::Malformed { part, .. }) => assert_eq!(part, what),
        other => panic!("{other:?}"),
    };
    malformed(b"\x02\x03pay", None, "key");
    malformed(b"\x00\x03pay\x00", None, "key");
    malformed(b"\x00\x04pay", None, "key");
    malformed(b"", None, "key");
    malformed(b"\x00\x03pay", Some(b"\x01\x05"), "value");
    malformed(b"\x00\x03pay", Some(b"\x00\x05\x05"), "value");
    malformed(OFFSET_KEY, Some(b""), "value");
}

#[test]
fn long_records_are_refused_before_they_are_read() {
    let key = vec![0; MAX_KEY_BYTES + 1];
    let (bytes, limit) = (MAX_KEY_BYTES + 1, MAX_KEY_BYTES);
    assert_eq!(
        Record::decode(&key, None),
        Err(RecordError::TooLong {
            part: "key",
            bytes,
            limit
        })
    );
    let value = vec![0; MAX_VALUE_BYTES + 1];
    let (bytes, limit) = (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES);
    let refused = Record::decode(b"\x00\x03pay", Some(&value));
    assert_eq!(
        refused,
        Err(RecordError::TooLong {
            part: "value",
            bytes,
            limit
        })
    );
}

proptest! {
    #[test]
    fn round_trip(
        group in "\\PC{1,20}", topic in "\\PC{0,20}", metadata in "\\PC{0,40}", id: u128,
        partition: u32, offset: u64, committed_at_ms: i64, tombstone: bool,
    ) {
        let committed = CommittedOffset { topic, offset, metadata, committed_at_ms };
        let record = Record::Offset {
            group,
            partition: TopicPartition { topic_id: TopicId(Uuid::from_u128(id)), partition },
            committed: (!tombstone).then_some(committed),
        };
        let EncodedRecord { key, value } = record.encode().unwrap();
        prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(record));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        key in proptest::collection::vec(any::<u8>(), 0..64),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
    ) {
        if let Ok(record) = Record::decode(&key, value.as_deref()) {
            let encoded = record.encode().unwrap();
            let again = Record::decode(&encoded.key, encoded.value.as_deref());
            prop_assert_eq!(again, Ok(record));
        }
    }
}
