//! Bits that flip, files that vanish, sectors that are elsewhere: below the flushed offset it is
//! damage, and no read returns what was not written.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use millstream_log::storage::{MemoryStorage, Storage};
use millstream_log::{
    AppendError, AppendOutcome, ChangeError, Cleanup, Log, LogConfig, OpenError, ReadError,
};
use millstream_protocol::Offset;

use crate::harness::{
    DIR, NOW, Rec, append, append_values, batch, contents, files, flush, open, open_sound,
    read_all, read_from, records, setup, small, stamp, values,
};

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Three segments, all flushed, and a checkpoint that says so. The log was not closed.
fn three_segments() -> (MemoryStorage, BTreeMap<Offset, Rec>) {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    for i in 0..11 {
        let value = format!("{i}{}", "v".repeat(60));
        let records = [Rec::value(value.clone()), Rec::keyed("k", Some(value))];
        let stamp = stamp(1, 0, 2 * i);
        append(&mut log, batch(&records, NOW, Some(stamp))).expect("an append");
    }
    flush(&mut log);
    log.request_checkpoint();
    flush(&mut log);
    assert_eq!(files(&storage, ".log").len(), 3);
    let read = read_all(&log).into_iter();
    (
        storage.kill(),
        read.map(|read| (read.offset, read.record)).collect(),
    )
}

/// Reads every offset on its own. Each gives the right record or an error; returns the errors.
fn read_each(log: &Log, right: &BTreeMap<Offset, Rec>) -> Vec<Offset> {
    let reader = log.reader();
    let mut errors = Vec::new();
    for (offset, record) in right {
        match reader.clone().read(*offset, Offset::MAX, 1) {
            Err(ReadError::Damaged(_)) => errors.push(*offset),
            Err(error) => panic!("{error}"),
            Ok(read) => {
                let read = records(&read.batches, *offset);
                assert_eq!(
                    read.first().map(|read| (read.offset, &read.record)),
                    Some((*offset, record))
                );
            }
        }
    }
    errors
}

fn is_refused(log: &mut Log) -> bool {
    matches!(append(log, values(&["x"])), Err(AppendError::Damaged(_)))
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let (pristine, right) = three_segments();
    let end = right.len() as u64;
    for name in files(&pristine, ".log") {
        let length = pristine.content(&path(&name)).expect("a segment").len();
        for byte in 0..length as u64 {
            let storage = pristine.kill();
            assert!(storage.flip_bit(&path(&name), byte, (byte % 8) as u8));
            let (mut log, recovery) = open(&storage, &small());
            let errors = read_each(&log, &right);
            assert!(!errors.is_empty(), "{name} byte {byte} was not seen");
            assert_eq!(log.log_end_offset(), end, "{name} byte {byte}");
            assert!(log.damage().is_some());
            assert_eq!(is_refused(&mut log), !recovery.damage.is_empty());
            // An entry's damage costs its batch of two; a header's the whole segment.
            assert!(
                errors.len() == 2 || byte < 88,
                "{name} byte {byte}: {errors:?}"
            );
        }
    }
}

#[test]
fn a_reader_sees_damage_while_the_log_runs() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    for _ in 0..3 {
        append_values(&mut log, &[&"v".repeat(600)]);
    }
    flush(&mut log);
    storage.flip_bit(&path(&files(&storage, ".log")[1]), 300, 3);
    let reader = log.reader();
    assert_eq!(read_from(&reader, 2, 1).expect("a sound segment").len(), 1);
    let error = reader.read(0, 3, 10_000).expect("the first is sound");
    assert_eq!(error.next_offset, 1);
    let error = reader.read(1, 3, 1).expect_err("damage").to_string();
    assert!(
        error.contains("00000000000000000001.log has record batch checksum"),
        "{error}"
    );
    assert_eq!(log.damage().expect("noted").offset, 1);
    // Where the log ends is not in doubt.
    append_values(&mut log, &["on it goes"]);
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_not() {
    let build = || {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        append_values(&mut log, &["a"]);
        flush(&mut log);
        // This entry records that the one before it was flushed.
        append_values(&mut log, &["b"]);
        storage
    };
    let segment = path(&files(&build(), ".log")[0]);
    let length = build().content(&segment).expect("a segment").len() as u64;
    let entry = (length - 88) / 2;
    for byte in 88..length {
        let storage = build().kill();
        storage.flip_bit(&segment, byte, 0);
        let (mut log, recovery) = open(&storage, &small());
        if byte < 88 + entry {
            assert_eq!(recovery.damage.len(), 1, "byte {byte}");
            assert_eq!((recovery.damage[0].offset, recovery.cut_bytes), (0, 0));
            assert!(is_refused(&mut log));
            assert_eq!(
                storage.content(&segment).expect("a segment").len() as u64,
                length
            );
        } else {
            assert_eq!(recovery.damage, [], "byte {byte}");
            assert_eq!(recovery.cut_bytes, entry);
            assert_eq!(contents(&log), "0:a");
        }
    }
}

#[test]
fn a_flush_recorded_in_a_later_segment_is_evidence() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &[&"v".repeat(500)]);
    flush(&mut log);
    append_values(&mut log, &[&"v".repeat(500)]);
    drop(log);
    // The roll's checkpoint has not been written: nothing else knows of the flush.
    assert_eq!(files(&storage, ".log").len(), 2);
    let storage = storage.kill();
    let name = files(&storage, ".log").remove(0);
    storage.flip_bit(&path(&name), 300, 0);
    let (log, recovery) = open(&storage, &small());
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(log.log_end_offset(), 2);
    assert_eq!(
        read_from(&log.reader(), 1, 1)
            .expect("the second is sound")
            .len(),
        1
    );
}

#[test]
fn a_snapshot_is_evidence() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    let early = storage.content(&path("checkpoint")).expect("a checkpoint");
    append_values(&mut log, &["a"]);
    log.request_checkpoint();
    flush(&mut log);
    drop(log);
    // The power went between the snapshot and the checkpoint.
    storage.remove(&path("checkpoint")).expect("a checkpoint");
    let file = storage.create(&path("checkpoint")).expect("a file");
    file.write_vectored_at(&mut [IoSlice::new(&early)], 0)
        .expect("a write");
    assert_eq!(open(&storage, &small()).1.damage, []);
    storage.flip_bit(&path(&files(&storage, ".log")[0]), 100, 0);
    // Without an index, all of the segment is scanned.
    storage
        .remove(&path(&files(&storage, ".index")[0]))
        .expect("an index");
    assert_eq!(open(&storage, &small()).1.damage.len(), 1);
}

#[test]
fn a_missing_segment_is_damage() {
    let (pristine, right) = three_segments();
    let names = files(&pristine, ".log");
    for name in &names {
        let storage = pristine.kill();
        storage.remove(&path(name)).expect("a segment");
        let (mut log, recovery) = open(&storage, &small());
        assert!(!recovery.damage.is_empty(), "{name}");
        let errors = read_each(&log, &right);
        assert!(
            errors.len() >= 6 && errors.len() < right.len(),
            "{name}: {errors:?}"
        );
        assert!(is_refused(&mut log));
        // It is still missing the next time.
        drop(log);
        let (_, again) = open(&storage, &small());
        assert_eq!(again.damage, recovery.damage, "{name}");
    }
    for name in names {
        pristine.remove(&path(&name)).expect("a segment");
    }
    let (mut log, recovery) = open(&pristine, &small());
    assert!(!recovery.damage.is_empty());
    assert_eq!(read_each(&log, &right).len(), right.len());
    assert!(is_refused(&mut log));
}

#[test]
fn a_compacted_segment_says_how_long_it_is() {
    let storage = MemoryStorage::new();
    let config = LogConfig {
        cleanup: Cleanup::Compact,
        ..small()
    };
    let mut log = open_sound(&storage, &config);
    let put = |log: &mut Log, key: &str| {
        let record = Rec::keyed(key, Some("v".repeat(220)));
        append(log, batch(&[record], NOW, None)).expect("an append")
    };
    for key in ["a", "b", "a", "c", "d", "e"] {
        put(&mut log, key);
    }
    put(&mut log, "f");
    flush(&mut log);
    let plan = log.plan_compaction(Offset::MAX, NOW).expect("a plan");
    let task = log.compaction_task(plan, NOW).expect("a task");
    let report = log.install_compaction(task.run()).expect("a round");
    assert_eq!(report.records_dropped, 1);
    drop(log);
    // Its last entry is gone, and what is left looks whole.
    let first = path(&files(&storage, ".log")[0]);
    let length = storage.content(&first).expect("a segment").len() as u64;
    let file = storage.open(&first).expect("a segment");
    file.set_length(88 + (length - 88) / 2).expect("a cut");
    let (mut log, recovery) = open(&storage, &config);
    assert_eq!(recovery.damage.len(), 1);
    assert!(recovery.damage[0].what.contains("wrong length"));
    assert!(is_refused(&mut log));
}

#[test]
fn segments_in_each_others_place_are_damage() {
    let (storage, right) = three_segments();
    let names = files(&storage, ".log");
    let (a, b, aside) = (path(&names[0]), path(&names[1]), path("aside"));
    for (from, to) in [(&a, &aside), (&b, &a), (&aside, &b)] {
        storage.rename(from, to).expect("a rename");
    }
    let (log, recovery) = open(&storage, &small());
    assert_eq!(recovery.damage.len(), 2);
    assert!(read_each(&log, &right).len() > 10);
}

#[test]
fn a_lost_checkpoint_is_damage_and_not_a_new_log() {
    let (pristine, right) = three_segments();
    for remove in [true, false] {
        let storage = pristine.kill();
        if remove {
            storage.remove(&path("checkpoint")).expect("a checkpoint");
        } else {
            storage.flip_bit(&path("checkpoint"), 40, 1);
        }
        let (mut log, recovery) = open(&storage, &small());
        assert_eq!(recovery.damage.len(), 1);
        assert!(recovery.damage[0].what.contains("checkpoint"));
        // The records are there, but what was deleted is no longer known.
        assert_eq!(read_each(&log, &right), []);
        assert!(is_refused(&mut log));
        assert!(matches!(
            log.delete_records(1),
            Err(ChangeError::Damaged(_))
        ));
        drop(log);
        assert_eq!(open(&storage, &small()).1.damage, recovery.damage);
    }
}

#[test]
fn caches_are_rebuilt() {
    let (pristine, right) = three_segments();
    let right_text: Vec<_> = right.keys().collect();
    for ending in [".index", ".snapshot"] {
        for name in files(&pristine, ending) {
            let length = pristine.content(&path(&name)).expect("a cache").len() as u64;
            let flips = (0..length).step_by(5).map(Some);
            for byte in flips.chain([None]) {
                let storage = pristine.kill();
                match byte {
                    Some(byte) => assert!(storage.flip_bit(&path(&name), byte, 2)),
                    None => storage.remove(&path(&name)).expect("a cache"),
                }
                let mut log = open_sound(&storage, &small());
                assert_eq!(read_each(&log, &right), [], "{name} {byte:?}");
                let found = log.reader().offset_for_time(NOW + 1, Offset::MAX);
                assert_eq!(found.expect("a sound log"), Some((1, NOW + 1)));
                // Producers are remembered all the same.
                let last = [
                    Rec::value(format!("10{}", "v".repeat(60))),
                    Rec::keyed("k", Some(format!("10{}", "v".repeat(60)))),
                ];
                let again = append(&mut log, batch(&last, NOW, Some(stamp(1, 0, 20))));
                let end = right_text.len() as u64;
                assert_eq!(
                    again.expect("an append"),
                    AppendOutcome::Duplicate {
                        base_offset: end - 2,
                        next_offset: end
                    }
                );
            }
        }
    }
}

#[test]
fn an_index_of_another_time_does_not_mislead() {
    let (storage, right) = three_segments();
    let name = files(&storage, ".index").remove(0);
    let stale = storage.content(&path(&name)).expect("an index");
    let mut log = open_sound(&storage, &small());
    // The same segment, cut and written differently, and the old index back in its place.
    log.truncate(2).expect("a truncation");
    assert_eq!(storage.content(&path(&name)), None);
    for _ in 0..5 {
        append_values(&mut log, &[&"w".repeat(100), &"w".repeat(10)]);
    }
    flush(&mut log);
    let expected = contents(&log);
    drop(log);
    if storage.content(&path(&name)).is_some() {
        storage.remove(&path(&name)).expect("the new index");
    }
    let file = storage.create(&path(&name)).expect("no index");
    file.write_vectored_at(&mut [IoSlice::new(&stale)], 0)
        .expect("a write");
    let log = open_sound(&storage, &small());
    assert_eq!(contents(&log), expected);
    for offset in 0..log.log_end_offset() {
        assert_eq!(
            read_from(&log.reader(), offset, 1)
                .expect("records")
                .first()
                .map(|read| read.offset),
            Some(offset)
        );
    }
    assert!(right.len() > 12);
}

#[test]
fn a_log_is_mended_by_cutting_at_the_damage() {
    let (pristine, right) = three_segments();
    let names = files(&pristine, ".log");
    for (segment, byte) in [(0, 300), (1, 10), (1, 500), (2, 100)] {
        let storage = pristine.kill();
        storage.flip_bit(&path(&names[segment]), byte, 0);
        // Without caches everything is scanned, so the damage is found at once.
        for name in [files(&storage, ".snapshot"), files(&storage, ".index")].concat() {
            storage.remove(&path(&name)).expect("a cache");
        }
        let (mut log, recovery) = open(&storage, &small());
        let damage = recovery.damage[0].offset;
        assert!(matches!(
            log.truncate(damage + 1),
            Err(ChangeError::Damaged(_))
        ));
        assert_eq!(log.truncate(damage).expect("a truncation"), damage);
        assert_eq!(log.damage(), None);
        assert_eq!(read_all(&log).len() as u64, damage);
        append_values(&mut log, &["mended"]);
        flush(&mut log);
        let expected = contents(&log);
        drop(log);
        let log = open_sound(&storage.crash(byte), &small());
        assert_eq!(contents(&log), expected, "segment {segment} byte {byte}");
        assert!(right.len() as u64 > damage);
    }
}

#[test]
fn another_partitions_log_is_not_opened() {
    let (storage, _) = three_segments();
    let mut other = setup(&storage, &small());
    other.identity.partition += 1;
    let error = Log::create_or_open(other, NOW).expect_err("another partition");
    assert!(matches!(error, OpenError::OtherPartition { .. }));
}

#[test]
fn a_lying_disk_is_found_out() {
    // Sectors of a flushed write that never reached the disk, though later ones did.
    let (storage, right) = three_segments();
    let name = files(&storage, ".log").remove(2);
    let content = storage.content(&path(&name)).expect("a segment");
    for sector in 0..content.len() / 512 {
        let storage = storage.kill();
        let file = storage.open(&path(&name)).expect("a segment");
        let zeros = [0; 512];
        file.write_vectored_at(&mut [IoSlice::new(&zeros)], 512 * sector as u64)
            .expect("a write");
        let (log, _) = open(&storage, &small());
        assert!(!read_each(&log, &right).is_empty());
        assert!(log.damage().is_some());
        assert_eq!(log.log_end_offset(), right.len() as u64);
    }
}

/// Which producers and epochs are left is read from the log again. Where that comes upon damage, it
/// is said: whoever compares logs by their epochs must not believe these.
#[test]
fn a_truncation_above_damage_does_not_hide_it() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    for i in 0..11 {
        append_values(&mut log, &[&format!("{i}{}", "v".repeat(100))]);
    }
    let names = files(&storage, ".log");
    assert!(names.len() > 1);
    let first = storage.content(&path(&names[0])).expect("a segment");
    // Within the header of the segment's last batch.
    assert!(storage.flip_bit(&path(&names[0]), first.len() as u64 - 150, 2));
    assert_eq!(log.truncate(10).expect("a truncation"), 10);
    assert!(log.damage().is_some());
    assert!(is_refused(&mut log));
}
