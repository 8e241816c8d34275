//! Full disks and failing syncs.

use millstream_log::storage::{MemoryStorage, SyncBehaviour};
use millstream_log::{
    AppendError, AppendOutcome, ChangeError, Cleanup, CompactionError, LogConfig, RejectReason,
};

use millstream_protocol::Offset;

use crate::harness::{
    NOW, Rec, append, append_values, batch, contents, files, flush, open, open_sound, read_all,
    small, stamp, values,
};

#[test]
fn nothing_of_an_append_remains_on_a_full_disk() {
    for room in 0..400 {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        append_values(&mut log, &["a", "b"]);
        flush(&mut log);
        storage.set_capacity(Some(storage.used_bytes() + room));
        let two = || {
            let value = "v".repeat(100);
            vec![
                batch(&[Rec::value(value.clone())], NOW, Some(stamp(1, 0, 0))),
                batch(&[Rec::value(value)], NOW, Some(stamp(1, 0, 1))),
            ]
        };
        let mut outcomes = Vec::new();
        if log.append(two(), 0, NOW, &mut outcomes).is_ok() {
            assert!(room > 360, "{room}");
            return;
        }
        assert_eq!(outcomes, []);
        assert_eq!(contents(&log), "0:a 1:b");
        // Nor after a crash.
        let crashed = open_sound(&storage.crash(room), &small());
        assert_eq!(contents(&crashed), "0:a 1:b", "room for {room}");
        // And when there is room again, the log and the producer go on.
        storage.set_capacity(None);
        log.append(two(), 0, NOW, &mut outcomes).expect("room");
        assert_eq!(
            outcomes[1],
            AppendOutcome::Appended {
                base_offset: 3,
                next_offset: 4
            }
        );
        flush(&mut log);
        let log = open_sound(&storage.crash(room), &small());
        assert_eq!(log.log_end_offset(), 4);
    }
    panic!("the append never had room");
}

#[test]
fn a_log_that_leaves_room_stops_before_the_disk_is_full() {
    let leaving = LogConfig {
        leaves_room: true,
        ..small()
    };
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &leaving);
    let first = || batch(&[Rec::value("a")], NOW, Some(stamp(1, 0, 0)));
    append(&mut log, first()).expect("room");
    // Less than a sixteenth is left.
    let used = storage.used_bytes();
    storage.set_capacity(Some(used + used / 20));
    let refused = append(&mut log, values(&["b"]));
    assert!(
        matches!(refused, Err(AppendError::StorageFull)),
        "{refused:?}"
    );
    let repeated = AppendOutcome::Duplicate {
        base_offset: 0,
        next_offset: 1,
    };
    assert_eq!(append(&mut log, first()).expect("no write"), repeated);
    assert_eq!(contents(&log), "0:a");
    storage.set_capacity(Some(2 * used));
    append_values(&mut log, &["b"]);
    assert_eq!(contents(&log), "0:a 1:b");
}

#[test]
fn a_full_disk_stops_every_step_of_a_long_append_cleanly() {
    // One call over several segments: what has an outcome is there, what has none is not.
    let batches = || -> Vec<_> {
        (0..8)
            .map(|i| batch(&[Rec::value(format!("{i}{}", "v".repeat(300)))], NOW, None))
            .collect()
    };
    let mut partial = 0;
    for room in (0..5000).step_by(37) {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        storage.set_capacity(Some(storage.used_bytes() + room));
        let mut outcomes = Vec::new();
        let result = log.append(batches(), 0, NOW, &mut outcomes);
        assert!(matches!(result, Ok(()) | Err(AppendError::StorageFull)));
        assert_eq!(log.log_end_offset(), outcomes.len() as u64);
        assert_eq!(result.is_ok(), outcomes.len() == 8);
        partial += u64::from(result.is_err() && !outcomes.is_empty());
        // The flush needs no room; only its checkpoint does.
        flush(&mut log);
        assert_eq!(log.flushed_offset(), outcomes.len() as u64);
        let log = open_sound(&storage.crash(room), &small());
        assert_eq!(read_all(&log).len(), outcomes.len());
    }
    assert!(partial > 10);
}

#[test]
fn a_full_disk_leaves_the_logs_shape() {
    let config = LogConfig {
        cleanup: Cleanup::Compact,
        ..small()
    };
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &config);
    for i in 0..12 {
        let record = Rec::keyed("k", Some(format!("{i}{}", "v".repeat(150))));
        append(&mut log, batch(&[record], NOW, None)).expect("an append");
    }
    flush(&mut log);
    let (names, before) = (files(&storage, ".log"), contents(&log));
    storage.set_capacity(Some(storage.used_bytes()));
    assert!(matches!(
        log.delete_records(3),
        Err(ChangeError::StorageFull)
    ));
    assert!(matches!(log.truncate(3), Err(ChangeError::StorageFull)));
    let plan = log.plan_compaction(Offset::MAX, NOW).expect("a plan");
    let task = log.compaction_task(plan, NOW).expect("a task");
    assert!(log.compaction_task(plan, NOW).is_none());
    let outcome = task.run();
    assert!(matches!(outcome, Err(CompactionError::StorageFull)));
    assert!(log.install_compaction(outcome).is_err());
    assert_eq!(files(&storage, ".log"), names);
    assert_eq!(contents(&log), before);
    assert_eq!(
        files(&storage, ".compacting").len() + files(&storage, ".tmp").len(),
        0
    );
    storage.set_capacity(None);
    let task = log.compaction_task(plan, NOW).expect("a task");
    assert!(log.install_compaction(task.run()).expect("room").installed);
    assert_eq!(log.delete_records(3).expect("room"), 3);
    let log = open_sound(&storage.crash(1), &config);
    assert_eq!(log.log_start_offset(), 3);
}

#[test]
fn a_failed_sync_is_for_ever() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &["a"]);
    flush(&mut log);
    append_values(&mut log, &["b"]);
    storage.set_sync(SyncBehaviour::Failing);
    let ticket = log.flush_ticket().expect("something to flush");
    assert!(log.flush_ticket().is_none(), "one at a time");
    let outcome = ticket.run();
    storage.set_sync(SyncBehaviour::Honest);
    assert!(outcome.is_err());
    assert!(log.flushed(outcome).is_err());
    assert_eq!(log.flushed_offset(), 1);
    assert!(log.flush_ticket().is_none());
    assert!(matches!(
        append(&mut log, values(&["c"])),
        Err(AppendError::Poisoned(_))
    ));
    assert!(matches!(log.truncate(0), Err(ChangeError::Poisoned(_))));
    assert!(matches!(
        log.delete_records(1),
        Err(ChangeError::Poisoned(_))
    ));
    // What is there can still be read.
    assert_eq!(contents(&log), "0:a 1:b");
    assert!(log.close().is_err());
}

#[test]
fn what_a_failed_sync_left_in_memory_does_not_count_after_a_restart() {
    // The process ends, the machine does not: its page cache shows what never reached the disk,
    // and a second sync succeeds without writing it.
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &["a"]);
    flush(&mut log);
    append_values(&mut log, &[&"b".repeat(600)]);
    storage.set_sync(SyncBehaviour::Failing);
    let outcome = log.flush_ticket().expect("something to flush").run();
    assert!(log.flushed(outcome).is_err());
    drop(log);
    let storage = storage.kill();
    let (log, _) = open(&storage, &small());
    let recovered = contents(&log);
    assert_eq!(log.flushed_offset(), log.log_end_offset());
    for seed in 0..20 {
        let log = open_sound(&storage.crash(seed), &small());
        assert_eq!(contents(&log), recovered, "seed {seed}");
    }
}

#[test]
fn nor_does_what_lies_in_one_page_with_what_was_durable() {
    for with_checkpoint in [false, true] {
        let storage = MemoryStorage::new();
        let mut log = open_sound(&storage, &small());
        append_values(&mut log, &["a"]);
        if with_checkpoint {
            // The scan begins behind it.
            log.request_checkpoint();
        }
        flush(&mut log);
        append_values(&mut log, &["b"]);
        storage.set_sync(SyncBehaviour::Failing);
        let outcome = log.flush_ticket().expect("something to flush").run();
        assert!(log.flushed(outcome).is_err());
        drop(log);
        let storage = storage.kill();
        assert_eq!(contents(&open_sound(&storage, &small())), "0:a");
    }
}

#[test]
fn a_segment_whose_sync_has_failed_is_begun_again() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &[&"a".repeat(900)]);
    flush(&mut log);
    append_values(&mut log, &[&"b".repeat(900)]);
    assert_eq!(files(&storage, ".log").len(), 2);
    storage.set_sync(SyncBehaviour::Failing);
    let outcome = log.flush_ticket().expect("something to flush").run();
    assert!(log.flushed(outcome).is_err());
    drop(log);
    let storage = storage.kill();
    let mut log = open_sound(&storage, &small());
    assert_eq!(log.log_end_offset(), 1);
    append_values(&mut log, &["c"]);
    flush(&mut log);
    append_values(&mut log, &["d"]);
    flush(&mut log);
    let log = open_sound(&storage.crash(1), &small());
    assert_eq!(log.log_end_offset(), 3);
}

#[test]
fn a_failed_sync_is_not_hidden_by_the_next_one() {
    // The ticket fails, and before its outcome comes the writer syncs on its own.
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &["a"]);
    append_values(&mut log, &["b"]);
    storage.set_sync(SyncBehaviour::Failing);
    let outcome = log.flush_ticket().expect("something to flush").run();
    storage.set_sync(SyncBehaviour::Honest);
    assert!(matches!(log.truncate(1), Err(ChangeError::Poisoned(_))));
    assert!(log.flushed(outcome).is_err());
    assert_eq!(log.flushed_offset(), 0);
}

#[test]
fn a_ticket_that_was_taken_over_does_nothing() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &["a"]);
    append_values(&mut log, &["b"]);
    let late = log.flush_ticket().expect("something to flush");
    assert_eq!(log.truncate(1).expect("a truncation"), 1);
    assert_eq!(log.flushed_offset(), 1);
    append_values(&mut log, &["c"]);
    let operations = storage.operations();
    assert_eq!(log.flushed(late.run()).expect("nothing"), 1);
    assert_eq!(storage.operations(), operations);
    // What was appended since is still to be flushed.
    flush(&mut log);
    assert_eq!(log.flushed_offset(), 2);
    assert_eq!(
        contents(&open_sound(&storage.crash(1), &small())),
        "0:a 1:c"
    );
}

#[test]
fn a_ticket_under_way_is_taken_over_by_closing() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &[&"a".repeat(600)]);
    append_values(&mut log, &[&"b".repeat(600)]);
    let ticket = log.flush_ticket().expect("something to flush");
    append_values(&mut log, &["c"]);
    log.close().expect("a clean stop");
    ticket.run().expect("nothing to do");
    let (log, recovery) = open(&storage.crash(1), &small());
    assert!(recovery.clean_stop);
    assert_eq!(log.log_end_offset(), 3);
    // The index is a cache, and may be lost to a power cut; else nothing is scanned.
    let (log, recovery) = {
        drop(log);
        open(&storage.kill(), &small())
    };
    assert_eq!(recovery.scanned_bytes, 0);
    assert_eq!(log.log_end_offset(), 3);
}

#[test]
fn a_batch_beyond_the_limit_is_refused_and_others_are_not() {
    let config = LogConfig {
        max_batch_bytes: 200,
        ..small()
    };
    let mut log = open_sound(&MemoryStorage::new(), &config);
    let batches = vec![values(&["a"]), values(&[&"b".repeat(200)]), values(&["c"])];
    let bytes = batches[1].bytes.len();
    let mut outcomes = Vec::new();
    log.append(batches, 0, NOW, &mut outcomes)
        .expect("an append");
    assert_eq!(
        outcomes[1],
        AppendOutcome::Rejected(RejectReason::TooLarge { bytes, limit: 200 })
    );
    assert_eq!(contents(&log), "0:a 1:c");
}

#[test]
fn a_header_that_is_not_the_batchs_is_refused() {
    let mut log = open_sound(&MemoryStorage::new(), &small());
    let mut batch = values(&["a"]);
    batch.bytes.truncate(60);
    assert!(matches!(
        append(&mut log, batch),
        Err(AppendError::Batch(_))
    ));
    assert_eq!(log.log_end_offset(), 0);
}

#[test]
fn a_deleted_log_leaves_nothing() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    append_values(&mut log, &[&"a".repeat(600)]);
    append_values(&mut log, &[&"b".repeat(600)]);
    flush(&mut log);
    append_values(&mut log, &["c"]);
    let ticket = log.flush_ticket().expect("something to flush");
    log.delete_all().expect("a removal");
    ticket.run().expect("nothing to do");
    assert_eq!(storage.used_bytes(), 0);
    let (log, recovery) = open(&storage.crash(1), &small());
    assert!(recovery.created);
    assert_eq!(log.log_end_offset(), 0);
}

#[test]
fn producers_that_are_nowhere_else_keep_their_segments_on_a_full_disk() {
    let storage = MemoryStorage::new();
    let mut log = open_sound(&storage, &small());
    let of_producer = |id: u64| {
        let record = Rec::value(format!("{id}{}", "v".repeat(300)));
        batch(&[record], NOW, Some(stamp(id, 0, 0)))
    };
    for id in 0..6 {
        append(&mut log, of_producer(id)).expect("an append");
    }
    // Room for a checkpoint, but not for a snapshot of six producers.
    storage.set_capacity(Some(storage.used_bytes() + 80));
    flush(&mut log);
    assert_eq!(files(&storage, ".snapshot"), [""; 0]);
    assert_eq!(files(&storage, ".log").len(), 3);
    assert_eq!(log.delete_records(6).expect("room"), 6);
    assert_eq!(files(&storage, ".log").len(), 3);
    let killed = storage.kill();
    let mut again = open_sound(&killed, &small());
    assert_eq!(again.log_start_offset(), 6);
    for id in 0..6 {
        assert_eq!(
            append(&mut again, of_producer(id)).expect("an answer"),
            AppendOutcome::Duplicate {
                base_offset: id,
                next_offset: id + 1
            }
        );
    }
    // With room for a snapshot they go.
    storage.set_capacity(None);
    assert_eq!(log.delete_records(6).expect("room"), 6);
    assert_eq!(files(&storage, ".log").len(), 1);
    let mut log = open_sound(&storage.crash(1), &small());
    assert!(matches!(
        append(&mut log, of_producer(0)),
        Ok(AppendOutcome::Duplicate { .. })
    ));
}
