//! An index is never trusted, even if its checksum is right.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::format::names;
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::index::SparseIndex;
use crate::log::Log;
use crate::storage::{MemoryStorage, Storage};
use crate::testing::{batch_of, identity};
use crate::{Damage, LogConfig, LogSetup, ReadError, TailBudget};

fn open(storage: &MemoryStorage) -> Log {
    let setup = LogSetup {
        storage: Arc::new(storage.clone()),
        dir: "/log".into(),
        identity: identity(),
        config: LogConfig {
            segment_bytes: 4096,
            index_interval_bytes: 300,
            tail_cache_bytes: 0,
            ..LogConfig::default()
        },
        tail_budget: TailBudget::new(0),
        salt: 1,
    };
    let (log, recovery) = Log::create_or_open(setup, 0).expect("a log");
    assert_eq!(recovery.damage, []);
    log
}

/// Replaces the first segment's index by what `spoil` makes of it, with a right checksum.
fn with_index(storage: &MemoryStorage, spoil: impl Fn(&mut SparseIndex)) {
    let path = Path::new("/log").join(names::index(0));
    let bytes = storage.content(&path).expect("an index");
    let mut index = crate::format::index::decode(&bytes, &identity(), 1).expect("an index");
    assert!(index.entries.len() > 5);
    spoil(&mut index);
    storage.remove(&path).expect("an index");
    let file = storage.create(&path).expect("a file");
    let encoded = crate::format::index::encode(&index, &identity(), 1);
    file.write_vectored_at(&mut [IoSlice::new(&encoded)], 0)
        .expect("a write");
}

fn check_with(spoil: impl Fn(&mut SparseIndex)) {
    let storage = MemoryStorage::new();
    let mut log = open(&storage);
    for _ in 0..60 {
        log.append(vec![batch_of(&["value"])], 0, 0, &mut Vec::new())
            .expect("an append");
    }
    log.close().expect("a clean stop");
    with_index(&storage, spoil);
    let reader = open(&storage).reader();
    for offset in 0..60 {
        let read = reader.clone().read(offset, 60, 1).expect("a batch");
        assert_eq!((read.batches.len(), read.next_offset), (1, offset + 1));
    }
    let found = reader.offset_for_time(0, 60).expect("a sound log");
    assert_eq!(found, Some((0, 0)));
    assert_eq!(reader.damage(), None);
}

#[test]
fn positions_that_are_no_entries_do_not_mislead() {
    check_with(|index| {
        index
            .entries
            .iter_mut()
            .for_each(|entry| entry.position += 5)
    });
    check_with(|index| {
        index
            .entries
            .iter_mut()
            .for_each(|entry| entry.position = u32::MAX)
    });
}

#[test]
fn positions_of_other_entries_do_not_mislead() {
    check_with(|index| {
        let next = index.entries[3].position;
        index.entries[2].position = next;
    });
    check_with(|index| {
        let first = SEGMENT_HEADER_BYTES as u32;
        index
            .entries
            .iter_mut()
            .for_each(|entry| entry.position = first);
    });
}

#[test]
fn offsets_of_other_entries_do_not_mislead() {
    check_with(|index| {
        index
            .entries
            .iter_mut()
            .for_each(|entry| entry.relative_offset += 1)
    });
}

#[test]
fn a_read_that_fails_starts_over_when_the_log_has_changed_under_it() {
    let mut log = open(&MemoryStorage::new());
    for _ in 0..2 {
        log.append(vec![batch_of(&["value"])], 0, 0, &mut Vec::new())
            .expect("an append");
    }
    let reader = log.reader();
    let damage = Damage {
        offset: 0,
        what: "a file that is gone".to_owned(),
    };
    let mut starts = Vec::new();
    let read = reader.in_view(|view| {
        starts.push(view.log_start_offset);
        if view.log_start_offset < 2 {
            log.delete_records(starts.len() as u64).expect("a deletion");
            return Err(ReadError::Damaged(damage.clone()));
        }
        Ok(())
    });
    assert!(read.is_ok());
    assert_eq!((starts, reader.damage()), (vec![0, 1, 2], None));
    // When nothing has changed it is what it looks like.
    let read = reader.in_view(|_| Err::<(), _>(ReadError::Damaged(damage.clone())));
    assert!(read.is_err());
    assert_eq!(reader.damage(), Some(damage));
}
