//! Compaction by key.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::BytesMut;
use millstream_log::storage::{MemoryStorage, Storage};
use millstream_log::{AppendOutcome, Cleanup, CompactionReport, Log, LogConfig, ProducedBatch};
use millstream_protocol::Offset;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression};

use crate::harness::{
    DIR, NOW, Rec, append, batch, contents, files, flush, open_sound, read_from, show, small, stamp,
};

fn compact() -> LogConfig {
    LogConfig {
        cleanup: Cleanup::Compact,
        tombstone_retention_ms: 100,
        ..small()
    }
}

/// Appends one batch of `KEY=VALUE` or `KEY` (a tombstone) or `=VALUE` (no key), padded so that a
/// segment holds three.
fn put(log: &mut Log, words: &[&str]) {
    let pad = "p".repeat(220);
    let records: Vec<_> = words
        .iter()
        .enumerate()
        .map(|(i, word)| {
            let pad = if i == 0 { pad.as_str() } else { "" };
            match word.split_once('=') {
                Some(("", value)) => Rec::value(format!("{value}{pad}")),
                Some((key, value)) => Rec::keyed(key, Some(format!("{value}{pad}"))),
                None => Rec::keyed(*word, None),
            }
        })
        .collect();
    append(log, batch(&records, NOW, None)).expect("an append");
}

fn roll_all(log: &mut Log) {
    for _ in 0..3 {
        put(log, &["=filler"]);
    }
    flush(log);
}

fn run_round(log: &mut Log, now_ms: i64) -> Option<CompactionReport> {
    let plan = log.plan_compaction(Offset::MAX, now_ms)?;
    let task = log.compaction_task(plan, now_ms).expect("a task");
    Some(log.install_compaction(task.run()).expect("a round"))
}

/// The records below `until` without their padding.
fn below(log: &Log, until: Offset) -> String {
    let read = read_from(&log.reader(), log.log_start_offset(), 1000).expect("a sound log");
    let read = read.into_iter().filter(|read| read.offset < until);
    let text: Vec<_> = read.map(|read| show(&read).replace('p', "")).collect();
    text.join(" ")
}

#[test]
fn the_latest_record_of_each_key_stays_at_its_offset() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    put(&mut log, &["a=1", "b=1"]);
    put(&mut log, &["a=2", "c=1", "=keyless"]);
    put(&mut log, &["a=3"]);
    put(&mut log, &["d=1", "b=2"]);
    roll_all(&mut log);
    assert_eq!(files(&storage, ".log").len(), 3);
    let report = run_round(&mut log, NOW).expect("a round");
    assert!(report.installed && report.bytes_after < report.bytes_before);
    assert_eq!(report.records_dropped, 3);
    let expected = "3:c=1 4:keyless 5:a=3 6:d=1 7:b=2";
    assert_eq!(below(&log, 8), expected);
    assert_eq!(run_round(&mut log, NOW), None);
    // Every offset finds the next record that is there.
    for (offset, expected) in [(0, 3), (2, 3), (3, 3), (5, 5), (6, 6), (7, 7)] {
        let read = read_from(&log.reader(), offset, 1).expect("a sound log");
        assert_eq!(read[0].offset, expected, "offset {offset}");
    }
    for seed in 0..5 {
        let log = open_sound(&storage.crash(seed), &compact());
        assert_eq!(below(&log, 8), expected);
    }
    log.close().expect("a clean stop");
    assert_eq!(below(&open_sound(&storage, &compact()), 8), expected);
}

#[test]
fn what_may_be_cut_off_supersedes_nothing() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    for i in 0..9 {
        put(&mut log, &[&format!("a={i}")]);
    }
    // Nor is anything compacted before it is flushed.
    assert_eq!(log.plan_compaction(9, NOW), None);
    flush(&mut log);
    assert_eq!(log.plan_compaction(2, NOW), None);
    let plan = log.plan_compaction(5, NOW).expect("a plan");
    assert_eq!((plan.dirty_from, plan.up_to), (0, 3));
    let task = log.compaction_task(plan, NOW).expect("a task");
    log.install_compaction(task.run()).expect("a round");
    assert_eq!(below(&log, 9), "2:a=2 3:a=3 4:a=4 5:a=5 6:a=6 7:a=7 8:a=8");
    assert_eq!(log.truncate(3).expect("a truncation"), 3);
    assert_eq!(below(&log, 9), "2:a=2");
}

#[test]
fn small_segments_become_one() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    for i in 0..30 {
        put(&mut log, &[&format!("a={i}")]);
    }
    flush(&mut log);
    assert_eq!(files(&storage, ".log").len(), 10);
    run_round(&mut log, NOW).expect("a round");
    let names = files(&storage, ".log");
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(below(&log, 27), "26:a=26");
    // What one crash may have left of the old segments is removed.
    let left = storage.kill();
    let old = Path::new(DIR).join("00000000000000000003.log");
    assert_eq!(storage.content(&old), None);
    let log = open_sound(&left, &compact());
    assert_eq!(below(&log, 27), "26:a=26");
}

#[test]
fn tombstones_go_after_their_time() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    put(&mut log, &["a=1", "b=1"]);
    put(&mut log, &["x=0", "a"]);
    roll_all(&mut log);
    run_round(&mut log, NOW).expect("a round");
    let with_tombstone = "1:b=1 2:x=0 3:a=-";
    assert_eq!(below(&log, 4), with_tombstone);
    assert_eq!(run_round(&mut log, NOW + 99), None);
    log.close().expect("a clean stop");
    let mut log = open_sound(&storage, &compact());
    assert_eq!(below(&log, 4), with_tombstone);
    let report = run_round(&mut log, NOW + 100).expect("a round");
    assert_eq!(report.records_dropped, 1);
    assert_eq!(below(&log, 4), "1:b=1 2:x=0");
    assert_eq!(run_round(&mut log, NOW + 1000), None);
}

#[test]
fn a_tombstone_goes_only_after_what_it_supersedes() {
    // Though no tombstone has to wait, one that is met for the first time stays.
    let storage = MemoryStorage::new();
    let config = LogConfig {
        tombstone_retention_ms: 0,
        ..compact()
    };
    let mut log = open_sound(&storage, &config);
    put(&mut log, &["a=1"]);
    put(&mut log, &["a"]);
    roll_all(&mut log);
    run_round(&mut log, NOW).expect("a round");
    assert_eq!(below(&log, 2), "1:a=-");
    assert_eq!(log.tombstones_gone_until(), 0);
    run_round(&mut log, NOW).expect("a round");
    assert_eq!(below(&log, 2), "");
    // Whoever has applied the first record alone would never hear of the deletion.
    let gone_until = log.tombstones_gone_until();
    assert!((2..=log.log_end_offset()).contains(&gone_until));
    for seed in 0..5 {
        let log = open_sound(&storage.crash(seed), &config);
        assert_eq!(log.tombstones_gone_until(), gone_until);
    }
}

#[test]
fn tombstones_of_different_rounds_keep_their_time() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    // Three rounds, before the first one's tombstone may go. What is left of each is small.
    for (i, now_ms) in [(0, NOW), (1, NOW + 40), (2, NOW + 80)] {
        put(&mut log, &["busy=x", &format!("t{i}")]);
        for _ in 0..8 {
            put(&mut log, &["busy=x"]);
        }
        flush(&mut log);
        run_round(&mut log, now_ms).expect("a round");
    }
    let tombstones = |log: &Log| -> Vec<bool> {
        let all = contents(log);
        let has = |key: &str| all.contains(&format!(":{key}=-"));
        ["t0", "t1", "t2"].map(has).to_vec()
    };
    assert_eq!(tombstones(&log), [true, true, true]);
    for (after_ms, left) in [
        (100, [false, true, true]),
        (140, [false, false, true]),
        (180, [false, false, false]),
    ] {
        assert_eq!(run_round(&mut log, NOW + after_ms - 1), None);
        run_round(&mut log, NOW + after_ms).expect("a round");
        assert_eq!(tombstones(&log), left, "after {after_ms}");
    }
    // Now that no time keeps them apart, the next round may put them together.
    assert_eq!(run_round(&mut log, NOW + 1000), None);
}

#[test]
fn what_loses_nothing_is_not_rewritten() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    for i in 0..9 {
        put(&mut log, &[&format!("a{i}=1")]);
    }
    flush(&mut log);
    let report = run_round(&mut log, NOW).expect("a round");
    assert!(report.installed);
    assert_eq!((report.compacted_until, report.bytes_before), (6, 0));
    assert_eq!(run_round(&mut log, NOW), None);
}

#[test]
fn a_round_takes_what_memory_allows() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(
        &storage,
        &LogConfig {
            compaction_key_bytes: 300,
            ..compact()
        },
    );
    let mut latest = BTreeMap::new();
    for i in 0..60 {
        let (key, value) = (format!("key{}", i * 7 % 13), format!("{i}"));
        put(&mut log, &[&format!("{key}={value}")]);
        latest.insert(key, value);
    }
    // All keys once more, so that nothing else is left of the rest.
    flush(&mut log);
    let mut rounds = 0;
    let mut until = 0;
    while let Some(report) = run_round(&mut log, NOW) {
        assert!(report.compacted_until > until, "no progress at {until}");
        until = report.compacted_until;
        rounds += 1;
        let mut read = BTreeMap::new();
        for one in below(&log, Offset::MAX).split(' ') {
            let (_, record) = one.split_once(':').expect("a record");
            let (key, value) = record.split_once('=').expect("a key");
            read.insert(key.to_owned(), value.to_owned());
        }
        assert_eq!(read, latest);
    }
    assert!(rounds >= 3, "{rounds} rounds");
    let lowest = below(&log, until);
    let keys: Vec<_> = lowest
        .split(' ')
        .filter_map(|one| one.split(':').nth(1)?.split('=').next())
        .collect();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), keys.len(), "{lowest}");
}

#[test]
fn a_round_is_thrown_away_when_the_log_has_changed() {
    for truncate in [true, false] {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &compact());
        for i in 0..9 {
            put(&mut log, &[&format!("a={i}")]);
        }
        flush(&mut log);
        let plan = log.plan_compaction(Offset::MAX, NOW).expect("a plan");
        let task = log.compaction_task(plan, NOW).expect("a task");
        let outcome = task.run();
        if truncate {
            log.truncate(2).expect("a truncation");
        } else {
            log.delete_records(4).expect("a deletion");
        }
        let before = contents(&log);
        let report = log.install_compaction(outcome).expect("nothing");
        assert!(!report.installed);
        assert_eq!(contents(&log), before);
        assert_eq!(files(&storage, ".compacting"), [""; 0]);
        drop(log);
        assert_eq!(contents(&open_sound(&storage.kill(), &compact())), before);
    }
}

#[test]
fn readers_go_on_while_segments_are_replaced() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    for i in 0..12 {
        put(&mut log, &[&format!("{}={i}", i % 2)]);
    }
    flush(&mut log);
    // A reader in the middle, with its position at hand.
    let reader = log.reader();
    let first = reader.read(0, 12, 1).expect("a batch");
    assert_eq!(first.next_offset, 1);
    run_round(&mut log, NOW).expect("a round");
    let rest = read_from(&reader, 1, 1).expect("a sound log");
    let offsets: Vec<_> = rest.iter().map(|read| read.offset).collect();
    assert!(
        offsets.len() < 11 && offsets.ends_with(&[10, 11]),
        "{offsets:?}"
    );
    assert!(reader.damage().is_none());
}

#[test]
fn producers_outlive_their_batches() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    let of_producer = |sequence: u32| {
        let record = Rec::keyed("k", Some(format!("{sequence}{}", "p".repeat(220))));
        batch(&[record], NOW, Some(stamp(9, 0, sequence)))
    };
    for sequence in 0..3 {
        append(&mut log, of_producer(sequence)).expect("an append");
    }
    for _ in 0..6 {
        put(&mut log, &["k=later"]);
    }
    flush(&mut log);
    run_round(&mut log, NOW).expect("a round");
    assert_eq!(below(&log, 3), "");
    drop(log);
    let mut log = open_sound(&storage.crash(3), &compact());
    assert_eq!(
        append(&mut log, of_producer(2)).expect("an answer"),
        AppendOutcome::Duplicate {
            base_offset: 2,
            next_offset: 3
        }
    );
    let next = append(&mut log, of_producer(3)).expect("an append");
    assert!(matches!(next, AppendOutcome::Appended { .. }));
}

#[test]
fn compressed_batches_are_compacted_too() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &compact());
        for i in 0..20_u32 {
            let mut builder = BatchBuilder::new(compression, 1 << 20);
            for key in ["a", "b"] {
                let value = format!("{i}{}", "p".repeat(300));
                builder
                    .append(NOW, Some(key.as_bytes()), Some(value.as_bytes()), &[])
                    .expect("a record");
            }
            let only = format!("only{i}");
            builder
                .append(NOW, Some(only.as_bytes()), Some(b"v"), &[])
                .expect("a record");
            let bytes = builder.finish(None).expect("a batch");
            let header = BatchHeader::parse(&bytes).expect("a header");
            let bytes = BytesMut::from(bytes);
            append(&mut log, ProducedBatch { bytes, header }).expect("an append");
        }
        flush(&mut log);
        let report = run_round(&mut log, NOW).expect("a round");
        assert!(report.records_dropped >= 20, "{compression}: {report:?}");
        let read = read_from(&log.reader(), 0, 1000).expect("a sound log");
        let only = read.iter().filter(|read| {
            let key = read.record.key.as_deref();
            key.is_some_and(|key| key.starts_with("only"))
        });
        assert_eq!(only.count(), 20, "{compression}");
    }
}

#[test]
fn an_empty_active_segment_that_is_lost_is_made_again() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &compact());
    for i in 0..9 {
        put(&mut log, &[&format!("a={i}")]);
    }
    flush(&mut log);
    run_round(&mut log, NOW).expect("a round");
    assert_eq!(log.truncate(6).expect("a truncation"), 6);
    let expected = contents(&log);
    log.close().expect("a clean stop");
    let active = files(&storage, ".log").pop().expect("an active segment");
    storage
        .remove(&Path::new(DIR).join(active))
        .expect("a segment");
    // The one before it was compacted, and cannot grow.
    let mut log = open_sound(&storage, &compact());
    assert_eq!(contents(&log), expected);
    put(&mut log, &["b=1"]);
    flush(&mut log);
    let log = open_sound(&storage.crash(1), &compact());
    assert_eq!(log.log_end_offset(), 7);
}
