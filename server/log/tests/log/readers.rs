//! Readers beside the writer, on real files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use millstream_log::storage::{DiskStorage, MemoryStorage};
use millstream_log::{Cleanup, Log, LogConfig, LogReader, ReadError};
use millstream_protocol::Offset;
use tempfile::TempDir;

use crate::harness::{
    NOW, Rec, append, batch, flush, open_sound, records, setup_at, small, values,
};

/// What lies at an offset, whenever it was written.
fn record_at(offset: Offset) -> Rec {
    let length = 20 + offset as usize * 37 % 200;
    let value = format!("{offset}{}", "v".repeat(length));
    Rec::keyed(format!("k{}", offset % 5), Some(value))
}

/// Reads on and on. Whatever is read must be what was written, in order.
fn read_along(reader: &LogReader, done: &AtomicBool, visible: &AtomicU64) -> u64 {
    let mut offset = 0;
    let mut read_count = 0;
    let mut rounds = 0;
    while !done.load(Ordering::Acquire) || rounds == 0 {
        let up_to = visible.load(Ordering::Acquire);
        if offset >= up_to {
            (offset, rounds) = (reader.log_start_offset(), rounds + 1);
            continue;
        }
        match reader.read(offset, up_to, 700) {
            Ok(read) => {
                let mut last = None;
                for record in records(&read.batches, offset) {
                    assert!(Some(record.offset) > last);
                    last = Some(record.offset);
                    assert_eq!(record.record, record_at(record.offset));
                    read_count += 1;
                }
                assert!(read.next_offset <= up_to);
                offset = read.next_offset.max(offset);
                if read.batches.is_empty() {
                    offset = up_to;
                }
            }
            Err(ReadError::OutOfRange { start, .. }) => offset = start,
            Err(error) => panic!("at {offset} up to {up_to}: {error}"),
        }
    }
    read_count
}

fn write_along(log: &mut Log, visible: &AtomicU64, change: impl Fn(&mut Log, u64)) {
    for step in 0..400 {
        let base = log.log_end_offset();
        let records: Vec<_> = (base..base + 1 + step % 3).map(record_at).collect();
        append(log, batch(&records, NOW, None)).expect("an append");
        if step % 4 == 0 {
            flush(log);
        }
        visible.store(log.log_end_offset(), Ordering::Release);
        change(log, step);
    }
}

fn beside(config: LogConfig, change: impl Fn(&mut Log, u64, &AtomicU64)) {
    let root = TempDir::new().expect("a directory");
    let setup = setup_at(Arc::new(DiskStorage), &root.path().join("l"), &config);
    let (mut log, _) = Log::create_or_open(setup, NOW).expect("a log");
    let (done, visible) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = log.reader();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = reader.clone();
                let (done, visible) = (&done, &visible);
                scope.spawn(move || read_along(&reader, done, visible))
            })
            .collect();
        // Ends the readers also when the writer panics.
        let guard = Done(&done);
        write_along(&mut log, &visible, |log, step| change(log, step, &visible));
        drop(guard);
        for reader in readers {
            assert!(reader.join().expect("a sound reader") > 0);
        }
    });
    assert_eq!(reader.damage(), None);
    assert!(Path::new(root.path()).exists());
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn deletion(log: &mut Log, step: u64, _: &AtomicU64) {
    if step % 20 == 19 {
        let end = log.log_end_offset();
        log.delete_records(end.saturating_sub(15))
            .expect("a deletion");
    }
}

#[test]
fn while_segments_are_deleted() {
    beside(small(), deletion);
}

#[test]
fn while_the_tail_is_cached() {
    let config = LogConfig {
        tail_cache_bytes: 1000,
        ..small()
    };
    beside(config, deletion);
}

#[test]
fn while_the_log_is_cut() {
    beside(small(), |log, step, visible| {
        if step % 15 == 14 {
            let end = log.log_end_offset();
            let to = end.saturating_sub(step % 40);
            // Readers are never shown what may be cut: so says the high watermark. Some read on.
            visible.store(to, Ordering::Release);
            log.truncate(to).expect("a truncation");
        }
    });
}

#[test]
fn while_the_log_begins_anew() {
    // Another log that ends there, and knows of no producers.
    let nobody_at = |at: Offset| {
        let config = LogConfig {
            cleanup: Cleanup::Compact,
            ..small()
        };
        let mut donor = open_sound(&MemoryStorage::new(), &config);
        let mut last = values(&["last"]);
        millstream_protocol::batch::assign(&mut last.bytes, at - 1, 0).expect("a place");
        last.header.base_offset = at - 1;
        donor.append_as_follower(vec![last], NOW).expect("a gap");
        donor.reader().producers_at(at).expect("producers")
    };
    beside(small(), |log, step, _| {
        if step % 20 == 19 {
            let at = log.log_end_offset() + step % 7;
            log.restart(at, 0, &nobody_at(at), NOW)
                .expect("a new beginning");
        }
    });
}

#[test]
fn while_segments_are_compacted() {
    let config = LogConfig {
        cleanup: Cleanup::Compact,
        ..small()
    };
    beside(config, |log, step, _| {
        if step % 25 == 24 {
            flush(log);
            if let Some(plan) = log.plan_compaction(Offset::MAX, NOW) {
                let task = log.compaction_task(plan, NOW).expect("a task");
                let report = log.install_compaction(task.run()).expect("a round");
                assert!(report.installed);
            }
        }
    });
}
