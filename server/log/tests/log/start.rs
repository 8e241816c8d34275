//! Where a log starts: what it knows of its producers there, and logs that begin late.

use std::path::Path;

use bytes::Bytes;
use millstream_log::storage::{MemoryStorage, Storage};
use millstream_log::{
    AppendOutcome, ChangeError, Log, LogConfig, ProducersError, ReadError, RejectReason,
    RestartError, SnapshotError, limits,
};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, Offset};
use proptest::prelude::*;

use crate::harness::{
    DIR, NOW, Rec, append, append_values, batch, contents, files, flush, open, open_sound,
    read_from, small, stamp, values,
};

const WORKER: u64 = FIRST_WORKER_PRODUCER_ID + 3;

/// One segment, in which nothing is ever derived from a snapshot.
fn large() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    }
}

/// Appends the next batch of a producer, about a third of a segment.
fn produce(log: &mut Log, producer: u64, sequence: u32, records: u32) -> AppendOutcome {
    let records: Vec<_> = (0..records)
        .map(|i| Rec::value(format!("{producer}.{}{}", sequence + i, "v".repeat(80))))
        .collect();
    let batch = batch(&records, NOW, Some(stamp(producer, 0, sequence)));
    append(log, batch).expect("an answer")
}

fn duplicate(base_offset: Offset, records: u32) -> AppendOutcome {
    AppendOutcome::Duplicate {
        base_offset,
        next_offset: base_offset + u64::from(records),
    }
}

/// Two producers and a worker, 24 records in several segments, all flushed.
fn leader(storage: &MemoryStorage) -> Log {
    let mut log = open_sound(storage, &small());
    for round in 0..4 {
        produce(&mut log, 1, 2 * round, 2);
        produce(&mut log, 2, 3 * round, 3);
        produce(&mut log, WORKER, 10 * round, 1);
    }
    flush(&mut log);
    log
}

fn begin_late(storage: &MemoryStorage, leader: &Log, at: Offset) -> Log {
    let mut log = open_sound(storage, &small());
    append_values(&mut log, &["of", "another", "time"]);
    let snapshot = leader.reader().producers_at(at).expect("producers");
    log.restart(at, 0, &snapshot, NOW).expect("a new beginning");
    log
}

#[derive(Clone, Debug)]
enum Op {
    Append { producer: u64, records: u32 },
    Flush,
    Checkpoint,
    DeleteTo { back: u64 },
    Retain,
    Close,
    Kill,
    PowerCut { seed: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let producer = prop_oneof![0..3_u64, Just(WORKER)];
    prop_oneof![
        10 => (producer, 1..4_u32).prop_map(|(producer, records)| Op::Append { producer, records }),
        3 => Just(Op::Flush),
        1 => Just(Op::Checkpoint),
        2 => (0..12_u64).prop_map(|back| Op::DeleteTo { back }),
        1 => Just(Op::Retain),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
    ]
}

/// Applies the same to a log of small segments, from which records are deleted, and to one of which
/// nothing ever goes.
struct Twins {
    config: LogConfig,
    storage: MemoryStorage,
    log: Option<Log>,
    whole: Log,
    sequences: std::collections::BTreeMap<u64, u32>,
    /// Between batches.
    borders: Vec<Offset>,
}

impl Twins {
    fn new() -> Self {
        let config = LogConfig {
            retention_bytes: Some(2500),
            ..small()
        };
        let storage = MemoryStorage::new();
        Self {
            log: Some(open_sound(&storage, &config)),
            whole: open_sound(&MemoryStorage::new(), &large()),
            config,
            storage,
            sequences: Default::default(),
            borders: vec![0],
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("an open log")
    }

    fn reopen(&mut self, storage: MemoryStorage) {
        self.storage = storage;
        self.log = Some(open_sound(&self.storage, &self.config));
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { producer, records } => {
                let sequence = self.sequences.entry(producer).or_default();
                let first = *sequence;
                *sequence += records;
                let appended = produce(&mut self.whole, producer, first, records);
                assert_eq!(produce(self.log(), producer, first, records), appended);
                self.borders.push(self.whole.log_end_offset());
            }
            Op::Flush => flush(self.log()),
            Op::Checkpoint => {
                self.log().request_checkpoint();
                flush(self.log());
            }
            Op::DeleteTo { back } => {
                let end = self.log().log_end_offset();
                let deleted = self.log().delete_records(end.saturating_sub(back));
                deleted.expect("a deletion");
            }
            Op::Retain => {
                let plan = self.log().plan_retention(Offset::MAX, NOW);
                if let Some(plan) = plan {
                    self.log().apply_retention(plan, NOW).expect("a retention");
                }
            }
            Op::Close => {
                let log = self.log.take().expect("an open log");
                log.close().expect("a clean stop");
                self.reopen(self.storage.clone());
            }
            Op::Kill => {
                self.log = None;
                self.reopen(self.storage.kill());
            }
            Op::PowerCut { seed } => {
                flush(self.log());
                self.log = None;
                self.reopen(self.storage.crash(seed));
            }
        }
    }

    fn check(&mut self) {
        let (start, border) = (self.log().log_start_offset(), self.log().start_border());
        let known = self.borders.iter().rev().find(|it| **it <= start);
        assert_eq!(Some(&border), known);
        let reader = self.log().reader();
        for at in self.borders.iter().filter(|it| **it >= border) {
            let told = reader.producers_at(*at).expect("producers");
            let right = self.whole.reader().producers_at(*at).expect("producers");
            assert_eq!(told, right, "at {at}, the log starts at {start}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_known_of_producers_is_exact(ops in prop::collection::vec(op(), 1..60)) {
        let mut twins = Twins::new();
        for op in &ops {
            twins.apply(op);
            twins.check();
        }
    }
}

#[test]
fn every_segment_keeps_the_snapshot_with_which_it_begins() {
    let storage = MemoryStorage::new();
    let mut log = leader(&storage);
    let bases = |ending| -> Vec<String> {
        let names = files(&storage, ending).into_iter();
        names.map(|name| name[..20].to_owned()).collect()
    };
    let segments = bases(".log");
    assert!(segments.len() > 3);
    let snapshots = bases(".snapshot");
    assert!(segments[1..].iter().all(|base| snapshots.contains(base)));
    // They go with their segments, at the next checkpoint.
    log.delete_records(20).expect("a deletion");
    for i in 0..6 {
        produce(&mut log, 1, 8 + i, 1);
        log.request_checkpoint();
        flush(&mut log);
    }
    let (segments, snapshots) = (bases(".log"), bases(".snapshot"));
    assert!(segments.iter().all(|base| snapshots.contains(base)));
    assert!(snapshots.len() <= segments.len() + limits::SNAPSHOTS_KEPT);
    assert!(snapshots[0] == segments[0]);
}

#[test]
fn a_snapshot_that_is_not_there_is_written_before_segments_go() {
    let (storage, whole) = (MemoryStorage::new(), MemoryStorage::new());
    let log = leader(&storage);
    let reference = open_sound(&whole, &large());
    drop((log, reference));
    let right = {
        let log = leader(&whole);
        log.reader().producers_at(18).expect("producers")
    };
    for name in files(&storage, ".snapshot") {
        storage.remove(&Path::new(DIR).join(name)).expect("a file");
    }
    let mut log = open_sound(&storage.kill(), &small());
    assert_eq!(log.delete_records(18).expect("a deletion"), 18);
    assert_eq!(log.start_border(), 18);
    assert_eq!(log.reader().producers_at(18).expect("producers"), right);
}

#[test]
fn a_log_whose_start_moved_since_it_was_opened_is_closed_cleanly_again() {
    let storage = MemoryStorage::new();
    leader(&storage).close().expect("a clean stop");
    let snapshots = files(&storage, ".snapshot");
    let (_, but_the_newest) = snapshots.split_last().expect("snapshots");
    for name in but_the_newest {
        storage.remove(&Path::new(DIR).join(name)).expect("a file");
    }
    let (mut log, recovery) = open(&storage, &small());
    assert!(recovery.clean_stop);
    // Writes a checkpoint, as it needs a snapshot.
    assert_eq!(log.delete_records(18).expect("a deletion"), 18);
    log.close().expect("a clean stop");
    let (_, recovery) = open(&storage, &small());
    assert!(recovery.clean_stop);
}

#[test]
fn half_a_batch_says_nothing() {
    let storage = MemoryStorage::new();
    let mut log = leader(&storage);
    // The second batch: 2 to 5.
    assert_eq!(log.delete_records(4).expect("a deletion"), 4);
    assert_eq!((log.log_start_offset(), log.start_border()), (4, 2));
    let told = log.reader().producers_at(4);
    assert!(matches!(
        told,
        Err(ProducersError::NoBorder { at: 4, border: 2 })
    ));
    assert!(log.reader().producers_at(2).is_ok());
    let beyond = log.reader().producers_at(25);
    assert!(matches!(
        beyond,
        Err(ProducersError::Read(ReadError::OutOfRange { .. }))
    ));
    drop(log);
    let mut log = open_sound(&storage.crash(1), &small());
    assert_eq!((log.log_start_offset(), log.start_border()), (4, 2));
    // The start itself can be cut off with its batch.
    assert_eq!(log.truncate(4).expect("a truncation"), 2);
    assert_eq!((log.log_start_offset(), log.start_border()), (2, 2));
}

#[test]
fn a_log_begins_late_with_what_another_one_knew() {
    let storage = MemoryStorage::new();
    let mut leader = leader(&MemoryStorage::new());
    leader.delete_records(18).expect("a deletion");
    let mut log = begin_late(&storage, &leader, 18);
    for reopened in [false, true] {
        if reopened {
            drop(log);
            log = open_sound(&storage.crash(7), &small());
        }
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (18, 18));
        assert_eq!((log.flushed_offset(), log.start_border()), (18, 18));
        assert_eq!(log.epochs().collect::<Vec<_>>(), [(0, 17)]);
        // All lies before its start: the third round.
        assert_eq!(produce(&mut log, 1, 4, 2), duplicate(12, 2));
        assert_eq!(produce(&mut log, 2, 6, 3), duplicate(14, 3));
        assert_eq!(produce(&mut log, 1, 2, 2), duplicate(6, 2));
        assert_eq!(produce(&mut log, WORKER, 10, 1), duplicate(17, 1));
        // It hands on what it was handed.
        let told = log.reader().producers_at(18).expect("producers");
        assert_eq!(told, leader.reader().producers_at(18).expect("producers"));
    }
    // And it goes on.
    let went_on = produce(&mut log, 1, 6, 2);
    assert!(matches!(
        went_on,
        AppendOutcome::Appended {
            base_offset: 18,
            next_offset: 20
        }
    ));
    let unknown = produce(&mut log, 9, 4, 1);
    let reason = RejectReason::UnknownProducer;
    assert_eq!(unknown, AppendOutcome::Rejected(reason));
    // Cut back to where it begins, it knows what it knew there.
    assert_eq!(log.truncate(18).expect("a truncation"), 18);
    assert_eq!(produce(&mut log, 1, 4, 2), duplicate(12, 2));
    assert_eq!(log.epochs().collect::<Vec<_>>(), [(0, 17)]);
    log.close().expect("a clean stop");
}

#[test]
fn readers_find_themselves_in_the_new_log() {
    let mut leader = leader(&MemoryStorage::new());
    leader.delete_records(18).expect("a deletion");
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    for _ in 0..9 {
        append_values(&mut log, &[&"w".repeat(300)]);
    }
    let reader = log.reader();
    assert_eq!(read_from(&reader, 0, 1).expect("a sound log").len(), 9);
    let ticket = log.flush_ticket().expect("something to flush");
    let snapshot = leader.reader().producers_at(18).expect("producers");
    log.restart(18, 3, &snapshot, NOW).expect("a new beginning");
    let read = reader.read(0, Offset::MAX, 100);
    assert!(matches!(
        read,
        Err(ReadError::OutOfRange {
            offset: 0,
            start: 18,
            end: 18
        })
    ));
    let read = reader.read(18, Offset::MAX, 100).expect("the end");
    assert_eq!((read.batches.len(), read.next_offset), (0, 18));
    // What was under way does not count any more.
    let outcome = ticket.run();
    assert_eq!(log.flushed(outcome).expect("a flush"), 18);
    append_values(&mut log, &["a"]);
    assert_eq!(contents(&log), "18:a");
    assert_eq!(log.epochs().collect::<Vec<_>>(), [(3, 17)]);
    flush(&mut log);
    assert_eq!(files(&storage, ".log"), ["00000000000000000018.log"]);
    let log = open_sound(&storage.crash(3), &small());
    assert_eq!(contents(&log), "18:a");
    assert_eq!(log.epochs().collect::<Vec<_>>(), [(3, 17)]);
}

/// It may begin within what it has thrown away, where that had a segment and a snapshot.
#[test]
fn a_log_begins_anew_in_its_own_place() {
    let mut leader = leader(&MemoryStorage::new());
    leader.delete_records(18).expect("a deletion");
    let snapshot = leader.reader().producers_at(18).expect("producers");
    for at_operation in 0.. {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        for i in 0..30 {
            let record = Rec::value(format!("{i}{}", "w".repeat(300)));
            append(&mut log, batch(&[record], NOW, Some(stamp(5, 0, i)))).expect("an append");
        }
        flush(&mut log);
        assert!(files(&storage, ".log").contains(&"00000000000000000018.log".to_owned()));
        storage.crash_at(storage.operations() + at_operation);
        let done = log.restart(18, 3, &snapshot, NOW).is_ok();
        for seed in 0..4 {
            let mut log = open_sound(&storage.crash(seed), &small());
            let of_old = produce(&mut log, 5, 40, 1);
            if log.log_end_offset() == 30 {
                assert!(!done && log.log_start_offset() == 0);
                let expected = 30;
                let reason = RejectReason::OutOfOrder { expected, got: 40 };
                assert_eq!(of_old, AppendOutcome::Rejected(reason));
            } else {
                assert_eq!((log.log_start_offset(), log.log_end_offset()), (18, 18));
                let reason = RejectReason::UnknownProducer;
                assert_eq!(of_old, AppendOutcome::Rejected(reason));
                assert_eq!(produce(&mut log, 2, 6, 3), duplicate(14, 3));
            }
        }
        if done {
            assert!(at_operation > 20);
            return;
        }
    }
}

#[test]
fn a_damaged_log_begins_anew() {
    let leader = leader(&MemoryStorage::new());
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    for _ in 0..9 {
        append_values(&mut log, &[&"w".repeat(300)]);
    }
    log.close().expect("a clean stop");
    let name = files(&storage, ".log").remove(1);
    assert!(storage.flip_bit(&Path::new(DIR).join(name), 20, 1));
    let (mut log, recovery) = open(&storage, &small());
    assert!(!recovery.damage.is_empty() && log.damage().is_some());
    let snapshot = leader.reader().producers_at(6).expect("producers");
    log.restart(6, 1, &snapshot, NOW).expect("a new beginning");
    assert_eq!(log.damage(), None);
    append(&mut log, values(&["a"])).expect("an append");
    flush(&mut log);
    let log = open_sound(&storage.crash(1), &small());
    assert_eq!(contents(&log), "6:a");
}

#[test]
fn a_beginning_without_its_producers_is_damage() {
    let leader = leader(&MemoryStorage::new());
    let storage = MemoryStorage::new();
    drop(begin_late(&storage, &leader, 18));
    let name = files(&storage, ".snapshot").remove(0);
    assert!(storage.flip_bit(&Path::new(DIR).join(name), 60, 1));
    let (log, recovery) = open(&storage, &small());
    assert_eq!(recovery.damage.len(), 1);
    let told = log.reader().producers_at(18);
    assert!(matches!(
        told,
        Err(ProducersError::Read(ReadError::Damaged(_)))
    ));
}

#[test]
fn what_is_no_snapshot_leaves_the_log_as_it_is() {
    let leader = leader(&MemoryStorage::new());
    let snapshot = leader.reader().producers_at(18).expect("producers");
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &["a"]);
    let broken = |at: usize| {
        let mut bytes = snapshot.to_vec();
        bytes[at] ^= 4;
        Bytes::from(bytes)
    };
    let too_large = Bytes::from(vec![0; limits::MAX_PRODUCERS_BYTES + 1]);
    for (at, bytes, expected) in [
        (18, broken(20), SnapshotError::Broken),
        (18, broken(60), SnapshotError::Broken),
        (18, Bytes::new(), SnapshotError::Broken),
        (
            19,
            snapshot.clone(),
            SnapshotError::OtherOffset {
                expected: 19,
                got: 18,
            },
        ),
        (
            18,
            too_large,
            SnapshotError::TooLarge {
                bytes: limits::MAX_PRODUCERS_BYTES + 1,
                limit: limits::MAX_PRODUCERS_BYTES,
            },
        ),
    ] {
        let error = log.restart(at, 1, &bytes, NOW).expect_err("no snapshot");
        assert!(
            matches!(error, RestartError::Producers(it) if it == expected),
            "{error}"
        );
    }
    assert_eq!(contents(&log), "0:a");
    append_values(&mut log, &["b"]);
    assert_eq!(contents(&log), "0:a 1:b");
}

#[test]
fn without_room_for_a_beginning_the_log_is_as_before() {
    let leader = leader(&MemoryStorage::new());
    let snapshot = leader.reader().producers_at(18).expect("producers");
    let mut refused = 0;
    for room in (0..1200).step_by(29) {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        append_values(&mut log, &["a"]);
        flush(&mut log);
        storage.set_capacity(Some(storage.used_bytes() + room));
        match log.restart(18, 1, &snapshot, NOW) {
            Ok(()) => {
                assert!(refused > 5, "{refused}");
                assert_eq!(log.log_start_offset(), 18);
                return;
            }
            Err(RestartError::Log(ChangeError::StorageFull)) => {
                refused += 1;
                assert_eq!(contents(&log), "0:a");
                assert_eq!(files(&storage, ".tmp").len(), 0);
                assert_eq!(files(&storage, ".restart").len(), 0);
                let killed = open_sound(&storage.kill(), &small());
                assert_eq!(contents(&killed), "0:a");
                // With room, it goes on.
                storage.set_capacity(None);
                append_values(&mut log, &["b"]);
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there never was room");
}
