//! What the tests build batches and logs from.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use millstream_log::storage::{MemoryStorage, Storage};
use millstream_log::{
    AppendError, AppendOutcome, Log, LogConfig, LogIdentity, LogReader, LogSetup, ProducedBatch,
    ReadError, Recovery, TailBudget,
};
use millstream_protocol::batch::{
    BatchBuilder, BatchHeader, Compression, ProducerStamp, RecordBatch,
};
use millstream_protocol::{Offset, TimestampMs, TopicId};
use uuid::Uuid;

pub(crate) const DIR: &str = "/log";
pub(crate) const NOW: TimestampMs = 1_000_000;

/// A record to be written. Its timestamp is what the batch says, plus its number in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

impl Rec {
    pub(crate) fn value(value: impl Into<String>) -> Self {
        Self {
            key: None,
            value: Some(value.into()),
        }
    }

    pub(crate) fn keyed(key: impl Into<String>, value: Option<String>) -> Self {
        Self {
            key: Some(key.into()),
            value,
        }
    }
}

pub(crate) fn stamp(producer_id: u64, producer_epoch: u16, first_sequence: u32) -> ProducerStamp {
    ProducerStamp {
        producer_id,
        producer_epoch,
        first_sequence,
    }
}

pub(crate) fn batch(
    records: &[Rec],
    timestamp_ms: TimestampMs,
    producer: Option<ProducerStamp>,
) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, 8 << 20);
    for (timestamp_ms, record) in (timestamp_ms..).zip(records) {
        let key = record.key.as_deref().map(str::as_bytes);
        let value = record.value.as_deref().map(str::as_bytes);
        builder
            .append(timestamp_ms, key, value, &[])
            .expect("a small record");
    }
    let bytes = builder.finish(producer).expect("a batch");
    ProducedBatch {
        header: BatchHeader::parse(&bytes).expect("a header"),
        bytes: BytesMut::from(bytes),
    }
}

/// A batch of records without keys.
pub(crate) fn values(values: &[&str]) -> ProducedBatch {
    let records: Vec<_> = values.iter().map(|value| Rec::value(*value)).collect();
    batch(&records, NOW, None)
}

/// Small segments, and every read from the storage.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1024,
        index_interval_bytes: 200,
        tail_cache_bytes: 0,
        checkpoint_bytes: 1500,
        ..LogConfig::default()
    }
}

pub(crate) fn setup_at(storage: Arc<dyn Storage>, dir: &Path, config: &LogConfig) -> LogSetup {
    LogSetup {
        storage,
        dir: dir.to_owned(),
        identity: LogIdentity {
            topic_id: TopicId(Uuid::from_u128(0xfeed)),
            partition: 2,
        },
        config: config.clone(),
        tail_budget: TailBudget::new(1 << 20),
        salt: 0x0123_4567_89ab_cdef,
    }
}

pub(crate) fn setup(storage: &MemoryStorage, config: &LogConfig) -> LogSetup {
    setup_at(Arc::new(storage.clone()), Path::new(DIR), config)
}

pub(crate) fn open(storage: &MemoryStorage, config: &LogConfig) -> (Log, Recovery) {
    Log::create_or_open(setup(storage, config), NOW).expect("a log")
}

/// Opens a log that must be sound.
pub(crate) fn open_sound(storage: &MemoryStorage, config: &LogConfig) -> Log {
    let (log, recovery) = open(storage, config);
    assert_eq!(recovery.damage, []);
    log
}

pub(crate) fn append(log: &mut Log, batch: ProducedBatch) -> Result<AppendOutcome, AppendError> {
    let epoch = log.last_epoch().unwrap_or(0);
    let mut outcomes = Vec::new();
    log.append(vec![batch], epoch, NOW, &mut outcomes)?;
    assert_eq!(outcomes.len(), 1);
    Ok(outcomes[0])
}

pub(crate) fn append_values(log: &mut Log, strings: &[&str]) {
    let outcome = append(log, values(strings)).expect("an append");
    assert!(
        matches!(outcome, AppendOutcome::Appended { .. }),
        "{outcome:?}"
    );
}

pub(crate) fn flush(log: &mut Log) {
    while let Some(ticket) = log.flush_ticket() {
        let outcome = ticket.run();
        log.flushed(outcome).expect("a flush");
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) offset: Offset,
    pub(crate) record: Rec,
}

/// The records of whole batches that lie at `from` or behind.
pub(crate) fn records(batches: &[bytes::Bytes], from: Offset) -> Vec<Read> {
    let text = |bytes: Option<bytes::Bytes>| {
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
    };
    let mut read = Vec::new();
    for bytes in batches {
        let batch = RecordBatch::parse(bytes.clone()).expect("a sound batch");
        for record in batch.records().expect("records").into_owned() {
            let (offset, record) = record.expect("a record");
            if offset >= from {
                read.push(Read {
                    offset,
                    record: Rec {
                        key: text(record.key),
                        value: text(record.value),
                    },
                });
            }
        }
    }
    read
}

/// Reads all from `from` to the end, `max_bytes` at a time.
pub(crate) fn read_from(
    reader: &LogReader,
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<Read>, ReadError> {
    let mut all = Vec::new();
    let mut offset = from;
    let up_to = reader.log_end_offset();
    while offset < up_to {
        let read = reader.read(offset, up_to, max_bytes)?;
        assert!(read.next_offset > offset, "no progress at {offset}");
        let bytes: usize = read.batches.iter().map(bytes::Bytes::len).sum();
        assert_eq!(bytes, read.bytes);
        assert!(read.batches.len() <= 1 || bytes <= max_bytes);
        all.extend(records(&read.batches, offset));
        offset = read.next_offset;
    }
    Ok(all)
}

pub(crate) fn read_all(log: &Log) -> Vec<Read> {
    read_from(&log.reader(), log.log_start_offset(), 300).expect("a sound log")
}

/// The values of all records, each `offset:value`.
pub(crate) fn contents(log: &Log) -> String {
    let all: Vec<_> = read_all(log).iter().map(show).collect();
    all.join(" ")
}

pub(crate) fn show(read: &Read) -> String {
    let value = read.record.value.as_deref().unwrap_or("-");
    match &read.record.key {
        None => format!("{}:{value}", read.offset),
        Some(key) => format!("{}:{key}={value}", read.offset),
    }
}

/// The names of the log's files with this ending, in order.
pub(crate) fn files(storage: &MemoryStorage, ending: &str) -> Vec<String> {
    let mut names = storage.list(Path::new(DIR)).expect("the log's directory");
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}
