//! Random operations, and a model that says what the log must hold after each.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_log::storage::{MemoryStorage, Storage};
use millstream_log::{AppendOutcome, Cleanup, Log, LogConfig, ReadError};
use millstream_protocol::Offset;
use proptest::prelude::*;

use crate::harness::{
    DIR, NOW, Read, Rec, batch, files, flush, open, read_all, records, small, stamp,
};

#[derive(Clone, Debug)]
enum Op {
    /// A batch of a producer (or of none), with a key and a value or a tombstone for each record.
    Append {
        producer: Option<u64>,
        records: Vec<(u8, bool)>,
    },
    /// The producer's last batch but so many once more.
    Again {
        producer: u64,
        back: usize,
    },
    Flush,
    Read {
        at: u8,
        up_to: u8,
        max_bytes: usize,
    },
    Time {
        after_ms: i64,
    },
    DeleteTo {
        at: u8,
    },
    Truncate {
        at: u8,
    },
    Retain,
    Compact,
    Close,
    Kill,
    /// Kills, and takes the caches away.
    ForgetCaches,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..4_u8, prop::bool::weighted(0.2));
    let append = (
        prop::option::of(0..3_u64),
        prop::collection::vec(record, 1..5),
    );
    prop_oneof![
        12 => append.prop_map(|(producer, records)| Op::Append { producer, records }),
        3 => (0..3_u64, 0..5_usize).prop_map(|(producer, back)| Op::Again { producer, back }),
        4 => Just(Op::Flush),
        4 => (any::<u8>(), any::<u8>(), 0..2000_usize)
            .prop_map(|(at, up_to, max_bytes)| Op::Read { at, up_to, max_bytes }),
        1 => (-10..400_i64).prop_map(|after_ms| Op::Time { after_ms }),
        1 => any::<u8>().prop_map(|at| Op::DeleteTo { at }),
        1 => (150..=255_u8).prop_map(|at| Op::Truncate { at }),
        1 => Just(Op::Retain),
        2 => Just(Op::Compact),
        1 => Just(Op::Close),
        2 => Just(Op::Kill),
        1 => Just(Op::ForgetCaches),
    ]
}

/// A batch as it was appended.
#[derive(Clone, Debug)]
struct Sent {
    producer: Option<(u64, u16, u32)>,
    base_offset: Offset,
    timestamp_ms: i64,
    records: Vec<Rec>,
}

impl Sent {
    fn next_offset(&self) -> Offset {
        self.base_offset + self.records.len() as u64
    }
}

struct World {
    config: LogConfig,
    storage: MemoryStorage,
    log: Option<Log>,
    sent: Vec<Sent>,
    start: Offset,
    end: Offset,
    /// Below, superseded records are gone.
    compacted_until: Offset,
    /// A truncation starts all producers over.
    epoch: u16,
    sequences: BTreeMap<u64, u32>,
    clock_ms: i64,
}

impl World {
    fn new(config: LogConfig) -> Self {
        let storage = MemoryStorage::new();
        let (log, _) = open(&storage, &config);
        Self {
            config,
            storage,
            log: Some(log),
            sent: Vec::new(),
            start: 0,
            end: 0,
            compacted_until: 0,
            epoch: 0,
            sequences: BTreeMap::new(),
            clock_ms: NOW,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("an open log")
    }

    /// An offset of the log, in 255ths of its length.
    fn offset_at(&self, at: u8) -> Offset {
        self.start + (self.end - self.start) * u64::from(at) / 255
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { producer, records } => self.append(*producer, records),
            Op::Again { producer, back } => self.again(*producer, *back),
            Op::Flush => {
                let end = self.end;
                flush(self.log());
                assert_eq!(self.log().flushed_offset(), end);
            }
            Op::Read {
                at,
                up_to,
                max_bytes,
            } => self.read(self.offset_at(*at), self.offset_at(*up_to), *max_bytes),
            Op::Time { after_ms } => self.time(NOW + after_ms),
            Op::DeleteTo { at } => {
                let before = self.offset_at(*at);
                self.start = self.log().delete_records(before).expect("a deletion");
                assert_eq!(self.start, before);
            }
            Op::Truncate { at } => self.truncate(self.offset_at(*at)),
            Op::Retain => {
                let now_ms = self.clock_ms;
                if let Some(plan) = self.log().plan_retention(Offset::MAX, now_ms) {
                    let start = self.log().apply_retention(plan, now_ms);
                    let start = start.expect("a retention");
                    assert!(start > self.start && start <= self.end);
                    self.start = start;
                }
            }
            Op::Compact => self.compact(),
            Op::Close => {
                let log = self.log.take().expect("an open log");
                log.close().expect("a clean stop");
                self.reopen(true);
            }
            Op::Kill => self.kill(),
            Op::ForgetCaches => {
                flush(self.log());
                self.log = None;
                for name in files(&self.storage, ".index") {
                    self.storage
                        .remove(&Path::new(DIR).join(name))
                        .expect("a cache");
                }
                self.kill();
            }
        }
    }

    fn append(&mut self, producer: Option<u64>, records: &[(u8, bool)]) {
        self.clock_ms += 3;
        let first = self.end;
        let records: Vec<_> = (first..)
            .zip(records)
            .map(|(offset, (key, tombstone))| {
                let pad = "p".repeat(offset as usize * 31 % 150);
                Rec::keyed(
                    format!("k{key}"),
                    (!tombstone).then(|| format!("{offset}{pad}")),
                )
            })
            .collect();
        let (epoch, sequences) = (self.epoch, &self.sequences);
        let producer = producer.map(|id| (id, epoch, sequences.get(&id).copied().unwrap_or(0)));
        let sent = Sent {
            producer,
            base_offset: first,
            timestamp_ms: self.clock_ms,
            records,
        };
        let next_offset = sent.next_offset();
        let appended = AppendOutcome::Appended {
            base_offset: first,
            next_offset,
        };
        assert_eq!(self.send(&sent), appended);
        if let Some((id, _, sequence)) = producer {
            self.sequences
                .insert(id, sequence + sent.records.len() as u32);
        }
        self.end = next_offset;
        self.sent.push(sent);
    }

    fn send(&mut self, sent: &Sent) -> AppendOutcome {
        let stamp = sent
            .producer
            .map(|(id, epoch, first)| stamp(id, epoch, first));
        let batch = batch(&sent.records, sent.timestamp_ms, stamp);
        let mut outcomes = Vec::new();
        let now_ms = self.clock_ms;
        self.log()
            .append(vec![batch], 0, now_ms, &mut outcomes)
            .expect("an append");
        outcomes[0]
    }

    fn again(&mut self, producer: u64, back: usize) {
        let epoch = self.epoch;
        let of_producer = |sent: &&Sent| {
            sent.producer
                .is_some_and(|(id, its_epoch, _)| (id, its_epoch) == (producer, epoch))
        };
        let Some(sent) = self
            .sent
            .iter()
            .rev()
            .filter(of_producer)
            .nth(back)
            .cloned()
        else {
            return;
        };
        let duplicate = AppendOutcome::Duplicate {
            base_offset: sent.base_offset,
            next_offset: sent.next_offset(),
        };
        assert_eq!(self.send(&sent), duplicate);
    }

    /// Whether the record at `offset` must be there, may be there, or must not.
    fn fate(&self, offset: Offset, record: &Rec) -> Fate {
        if offset >= self.compacted_until {
            return Fate::There;
        }
        let mut later = self
            .all()
            .filter(|(o, _, _)| (offset + 1..self.compacted_until).contains(o));
        if later.any(|(_, other, _)| other.key == record.key) {
            Fate::Gone
        } else if record.value.is_none() {
            Fate::Either
        } else {
            Fate::There
        }
    }

    /// All records that were appended and not cut off, with their timestamps.
    fn all(&self) -> impl Iterator<Item = (Offset, &Rec, i64)> {
        self.sent.iter().flat_map(|sent| {
            let numbered = (0_u64..).zip(&sent.records);
            numbered.map(|(i, record)| (sent.base_offset + i, record, sent.timestamp_ms + i as i64))
        })
    }

    fn check(&self, read: &[Read], from: Offset, up_to: Offset) {
        let mut read = read.iter().peekable();
        for (offset, record, _) in self.all().filter(|(o, _, _)| (from..up_to).contains(o)) {
            let there = read.next_if(|read| read.offset == offset);
            if let Some(there) = there {
                assert_eq!(&there.record, record);
            }
            match self.fate(offset, record) {
                Fate::There => assert!(there.is_some(), "{offset} is gone"),
                Fate::Gone => assert!(there.is_none(), "{offset} is still there"),
                Fate::Either => {}
            }
        }
        assert_eq!(read.next(), None);
    }

    fn check_all(&mut self) {
        let log = self.log();
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let read = read_all(log);
        assert_eq!((start, end), (self.start, self.end));
        self.check(&read, start, end);
    }

    fn read(&mut self, offset: Offset, up_to: Offset, max_bytes: usize) {
        let reader = self.log().reader();
        let read = reader.read(offset, up_to, max_bytes).expect("a sound log");
        assert!(read.next_offset >= offset);
        assert!(read.next_offset <= up_to.max(offset));
        assert!(read.batches.len() <= 1 || read.bytes <= max_bytes);
        self.check(&records(&read.batches, offset), offset, read.next_offset);
        let beyond = reader.read(self.end + 1, Offset::MAX, 1);
        assert!(matches!(beyond, Err(ReadError::OutOfRange { .. })));
        if let Some(below) = self.start.checked_sub(1) {
            let below = reader.read(below, Offset::MAX, 1);
            assert!(matches!(below, Err(ReadError::OutOfRange { .. })));
        }
    }

    fn time(&mut self, timestamp_ms: i64) {
        let reader = self.log().reader();
        let found = reader
            .offset_for_time(timestamp_ms, Offset::MAX)
            .expect("a sound log");
        let candidates: Vec<_> = self
            .all()
            .filter(|(offset, _, at)| *offset >= self.start && *at >= timestamp_ms)
            .map(|(offset, record, at)| (offset, at, self.fate(offset, record)))
            .filter(|(_, _, fate)| *fate != Fate::Gone)
            .collect();
        // A tombstone may be gone or not: the first that must be there is the latest answer.
        let certain = candidates.iter().find(|(_, _, fate)| *fate == Fate::There);
        match found {
            None => assert_eq!(certain, None),
            Some(found) => {
                assert!(
                    candidates
                        .iter()
                        .any(|(offset, at, _)| (*offset, *at) == found)
                );
                assert!(certain.is_none_or(|(offset, _, _)| found.0 <= *offset));
            }
        }
    }

    fn truncate(&mut self, to: Offset) {
        if to < self.compacted_until {
            return;
        }
        let end = self.log().truncate(to).expect("a truncation");
        self.sent.retain(|sent| sent.next_offset() <= to);
        let expected = self.sent.last().map_or(0, Sent::next_offset);
        assert_eq!(end, expected);
        self.sent.retain(|sent| sent.next_offset() <= end);
        assert_eq!(self.log().flushed_offset(), end);
        if end < self.end {
            self.end = end;
            self.start = self.start.min(end);
            self.compacted_until = self.compacted_until.min(end);
            self.epoch += 1;
            self.sequences.clear();
        }
    }

    fn compact(&mut self) {
        let now_ms = self.clock_ms;
        let Some(plan) = self.log().plan_compaction(Offset::MAX, now_ms) else {
            return;
        };
        let task = self.log().compaction_task(plan, now_ms).expect("a task");
        let report = self.log().install_compaction(task.run()).expect("a round");
        assert!(report.installed && report.compacted_until >= self.compacted_until);
        self.compacted_until = report.compacted_until;
        for name in files(&self.storage, ".log") {
            let content = self.storage.content(&Path::new(DIR).join(name));
            let bytes = content.map_or(0, |content| content.len() as u64);
            assert!(bytes <= self.config.segment_bytes);
        }
    }

    fn kill(&mut self) {
        self.log = None;
        self.storage = self.storage.kill();
        self.reopen(false);
    }

    fn reopen(&mut self, clean: bool) {
        let (log, recovery) = open(&self.storage, &self.config);
        assert_eq!(recovery.damage, []);
        assert!(recovery.clean_stop || !clean);
        assert_eq!(recovery.cut_bytes, 0);
        assert_eq!(log.flushed_offset(), log.log_end_offset());
        self.log = Some(log);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    Gone,
    Either,
}

fn run(config: LogConfig, ops: &[Op]) {
    let mut world = World::new(config);
    for op in ops {
        world.apply(op);
        world.check_all();
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_was_appended(ops in ops(), tail_cache_bytes in 0..3000_usize) {
        run(LogConfig {
            retention_bytes: Some(3000),
            segment_ms: 60,
            tail_cache_bytes,
            ..small()
        }, &ops);
    }

    #[test]
    fn a_compacted_log_is_the_latest_of_each_key(ops in ops(), key_bytes in 100..1000_usize) {
        run(LogConfig {
            cleanup: Cleanup::Compact,
            compaction_key_bytes: key_bytes,
            tombstone_retention_ms: 20,
            ..small()
        }, &ops);
    }
}
