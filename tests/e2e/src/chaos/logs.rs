//! Logs as they lie on brokers' disks, for a comparison that asks no broker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream::{Offset, PartitionIndex};
use millstream_protocol::batch::{BATCH_HEADER_BYTES, RecordBatch};

use crate::load::Number;

/// What a segment begins with, bytes, and what stands before each batch.
const SEGMENT_HEADER_BYTES: usize = 88;
const ENTRY_PREFIX_BYTES: usize = 12;

/// So many entries from the end one is spoilt.
const SPOILT_BEHIND: usize = 8;

/// One partition's log: its batches, as they are, by their base offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log(pub(super) BTreeMap<Offset, Bytes>);

impl Log {
    /// Reads a log of a broker that does not run, with this data directory.
    pub(super) fn read(data: &Path, topic_id: &str, partition: PartitionIndex) -> Self {
        let mut log = Self::default();
        for segment in segments(data, topic_id, partition) {
            let bytes = Bytes::from(fs::read(&segment).expect("a segment"));
            let unsound = walk(&bytes, |_, batch| {
                let header = RecordBatch::parse(batch.clone());
                let base = header.expect("a sound batch").header().base_offset;
                let before = end(&log);
                assert!(
                    base >= before,
                    "offsets go back from {before} to {base} in {}",
                    segment.display()
                );
                log.0.insert(base, batch);
            });
            assert!(
                unsound.is_none(),
                "{} is not sound at {unsound:?}",
                segment.display()
            );
        }
        log
    }

    /// The records that were produced, by offset. Those that brokers write for themselves are left out.
    pub(super) fn records(&self) -> Vec<(Offset, Number)> {
        let batches = self.0.values().map(|bytes| {
            let batch = RecordBatch::parse(bytes.clone());
            batch.expect("a batch that was parsed before")
        });
        let produced = batches.filter(|batch| !batch.header().control);
        let records = produced.flat_map(|batch| {
            let base = batch.header().base_offset;
            let records = batch.records().expect("records").into_owned();
            let records = records.map(|record| record.expect("a record"));
            let numbered = records.map(|(_, record)| {
                let value = record.value.unwrap_or_default();
                Number::of_value(&value)
            });
            (base..).zip(numbered.collect::<Vec<_>>())
        });
        records.collect()
    }
}

/// Goes through a segment's entries: where each begins, and its batch. Gives where the first begins that is not
/// sound, if one is not.
fn walk(segment: &Bytes, mut see: impl FnMut(usize, Bytes)) -> Option<usize> {
    let mut at = SEGMENT_HEADER_BYTES;
    while at + ENTRY_PREFIX_BYTES + BATCH_HEADER_BYTES <= segment.len() {
        let all = segment.slice(at + ENTRY_PREFIX_BYTES..);
        // Room that was taken in advance is zeros.
        if all[..BATCH_HEADER_BYTES].iter().all(|byte| *byte == 0) {
            break;
        }
        let mut rest = all.clone();
        let Ok(Some(_)) = RecordBatch::parse_next(&mut rest) else {
            return Some(at);
        };
        let batch_bytes = all.len() - rest.len();
        see(at, all.slice(..batch_bytes));
        at += ENTRY_PREFIX_BYTES + batch_bytes;
    }
    None
}

/// Behind the last record.
fn end(log: &Log) -> Offset {
    let last = log.0.values().next_back();
    last.map_or(0, |bytes| {
        let batch = RecordBatch::parse(bytes.clone()).expect("a batch that was parsed before");
        batch.header().next_offset()
    })
}

/// The segments of a log, from the oldest on.
fn segments(data: &Path, topic_id: &str, partition: PartitionIndex) -> Vec<PathBuf> {
    let folder = data
        .join("topics")
        .join(topic_id)
        .join(partition.to_string());
    let files = fs::read_dir(&folder);
    let files = files.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = files.map(|file| file.expect("a file").path());
    let mut segments: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|it| it == "log"))
        .collect();
    segments.sort();
    segments
}

/// Spoils a byte of a log, as a disk may: of an entry that was flushed, and is near enough to the end that the
/// next start reads it. False if there is too little of it.
pub(super) fn spoil(data: &Path, topic_id: &str, partition: PartitionIndex) -> bool {
    let Some(segment) = segments(data, topic_id, partition).pop() else {
        return false;
    };
    let mut entries = Vec::new();
    let bytes = Bytes::from(fs::read(&segment).expect("a segment"));
    // Its end may have been written when the broker was killed.
    let _ = walk(&bytes, |at, _| entries.push(at));
    if entries.len() < 2 * SPOILT_BEHIND {
        return false;
    }
    let at = entries[entries.len() - SPOILT_BEHIND] + ENTRY_PREFIX_BYTES + BATCH_HEADER_BYTES;
    let file = fs::File::options().write(true).open(&segment);
    let file = file.expect("a segment");
    let spoilt = [bytes[at] ^ 0x40];
    file.write_all_at(&spoilt, at as u64)
        .expect("a byte that can be written");
    file.sync_all().expect("a disk that works");
    true
}
