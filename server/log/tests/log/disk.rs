//! Real files: the same rules as the files in memory, and mapped reads.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use millstream_log::storage::{DiskStorage, MemoryStorage, Storage, StorageFile};
use millstream_log::{Cleanup, Log, LogConfig, Recovery, delete_dir};
use millstream_protocol::Offset;
use tempfile::TempDir;

use crate::harness::{
    NOW, Rec, append, append_values, batch, contents, flush, records, setup_at, small, values,
};

fn open_at(dir: &Path, config: &LogConfig) -> (Log, Recovery) {
    Log::create_or_open(setup_at(Arc::new(DiskStorage), dir, config), NOW).expect("a log")
}

/// What every storage has to do.
fn conforms(storage: &dyn Storage, root: &Path) {
    let dir = root.join("d");
    assert_eq!(
        storage.list(&dir).expect_err("no directory").kind(),
        ErrorKind::NotFound
    );
    storage.create_dir(&dir).expect("a directory");
    assert_eq!(
        storage.create_dir(&dir).expect_err("taken").kind(),
        ErrorKind::AlreadyExists
    );
    let a = dir.join("a");
    assert_eq!(
        storage.open(&a).expect_err("no file").kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        storage.remove(&a).expect_err("no file").kind(),
        ErrorKind::NotFound
    );
    let file = storage.create(&a).expect("a file");
    assert_eq!(
        storage.create(&a).expect_err("taken").kind(),
        ErrorKind::AlreadyExists
    );
    file.write_vectored_at(&mut [], 0).expect("nothing");
    // More slices than one system call takes, some of them empty.
    let content: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    let mut slices: Vec<_> = content
        .chunks(2)
        .flat_map(|chunk| [IoSlice::new(chunk), IoSlice::new(&[])])
        .collect();
    file.write_vectored_at(&mut slices, 10).expect("a write");
    assert_eq!(file.length().expect("a length"), 5010);
    assert_eq!(file.read_at(0, 10).expect("a read"), [0; 10].as_slice());
    assert_eq!(file.read_at(10, 5000).expect("a read"), content);
    assert_eq!(file.read_at(5000, 5000).expect("a read").len(), 10);
    assert_eq!(file.read_at(6000, 5).expect("a read").len(), 0);
    assert_eq!(file.read_at(6000, 0).expect("a read").len(), 0);
    file.set_length(20).expect("a cut");
    file.set_length(30).expect("zeros");
    assert_eq!(
        file.read_at(18, 100).expect("a read")[..],
        [8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    file.sync_data().expect("a sync");
    file.forget_cached(0).expect("a hint");
    assert_eq!(file.read_at(10, 4).expect("a read")[..], [0, 1, 2, 3]);
    if let Some(mapped) = file.map(10..14).expect("a mapping") {
        assert_eq!(mapped[..], [0, 1, 2, 3]);
        assert!(file.map(10..31).expect("a mapping").is_none());
        assert!(
            file.map(5..5)
                .expect("a mapping")
                .expect("nothing")
                .is_empty()
        );
    }
    renames_and_removes(storage, &dir, &*file);
}

fn renames_and_removes(storage: &dyn Storage, dir: &Path, file: &dyn StorageFile) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    storage.create(&b).expect("another file");
    storage.rename(&a, &b).expect("a rename over it");
    storage.sync_dir(dir).expect("a sync");
    assert_eq!(storage.list(dir).expect("names"), ["b"]);
    assert_eq!(
        storage
            .open(&b)
            .expect("the file")
            .length()
            .expect("a length"),
        30
    );
    assert!(storage.remove_dir(dir).is_err(), "it is not empty");
    storage.remove(&b).expect("a removal");
    assert_eq!(file.read_at(10, 2).expect("it is still open")[..], [0, 1]);
    storage.remove_dir(dir).expect("a removal");
}

#[test]
fn storages_conform() {
    let root = TempDir::new().expect("a directory");
    conforms(&DiskStorage, root.path());
    conforms(&MemoryStorage::new(), Path::new("/"));
}

#[test]
fn a_log_lives_in_real_files() {
    let root = TempDir::new().expect("a directory");
    let dir = root.path().join("events-2");
    let (mut log, recovery) = open_at(&dir, &small());
    assert!(recovery.created);
    for i in 0..20 {
        append_values(&mut log, &[&format!("{i}{}", "v".repeat(150)), "x"]);
        flush(&mut log);
    }
    let expected = contents(&log);
    drop(log);
    let (log, recovery) = open_at(&dir, &small());
    assert!(!recovery.clean_stop && recovery.damage.is_empty());
    assert_eq!(contents(&log), expected);
    log.close().expect("a clean stop");
    let (mut log, recovery) = open_at(&dir, &small());
    assert!(recovery.clean_stop);
    assert_eq!(recovery.scanned_bytes, 0);
    assert_eq!(contents(&log), expected);
    append_values(&mut log, &["more"]);
    log.delete_all().expect("a removal");
    assert!(!dir.exists());
    delete_dir(&DiskStorage, &dir).expect("nothing to do");
}

#[test]
fn mapped_slices_outlive_their_segments() {
    let root = TempDir::new().expect("a directory");
    let config = LogConfig {
        cleanup: Cleanup::Compact,
        ..small()
    };
    let (mut log, _) = open_at(&root.path().join("l"), &config);
    for i in 0..12 {
        let record = Rec::keyed("k", Some(format!("{i}{}", "v".repeat(250))));
        append(&mut log, batch(&[record], NOW, None)).expect("an append");
    }
    flush(&mut log);
    let reader = log.reader();
    let held = reader.read(0, 12, 2000).expect("the first segment");
    let shown = records(&held.batches, 0);
    let plan = log.plan_compaction(Offset::MAX, NOW).expect("a plan");
    let task = log.compaction_task(plan, NOW).expect("a task");
    assert!(
        log.install_compaction(task.run())
            .expect("a round")
            .installed
    );
    let cut = reader.read(11, 12, 1).expect("the active segment");
    let cut_shown = records(&cut.batches, 0);
    assert_eq!(log.truncate(11).expect("a truncation"), 11);
    log.delete_records(11).expect("a deletion");
    append_values(&mut log, &["later"]);
    log.delete_all().expect("a removal");
    assert_eq!(records(&held.batches, 0), shown);
    assert_eq!(records(&cut.batches, 0), cut_shown);
}

#[test]
fn truncation_spares_what_is_mapped() {
    let root = TempDir::new().expect("a directory");
    let dir = root.path().join("l");
    let (mut log, _) = open_at(&dir, &small());
    for i in 0..8 {
        append_values(&mut log, &[&format!("{i}{}", "v".repeat(300))]);
    }
    flush(&mut log);
    let held = log.reader().read(1, 8, 1).expect("a sealed segment");
    let shown = records(&held.batches, 0);
    log.truncate(1).expect("a truncation");
    append_values(&mut log, &[&"w".repeat(310)]);
    flush(&mut log);
    assert_eq!(records(&held.batches, 0), shown);
    let expected = contents(&log);
    assert!(expected.contains("1:www"));
    drop(log);
    assert_eq!(contents(&open_at(&dir, &small()).0), expected);
}

#[test]
fn mending_spares_what_is_mapped() {
    let root = TempDir::new().expect("a directory");
    let dir = root.path().join("l");
    let (mut log, _) = open_at(&dir, &small());
    for value in ["a", "b", "c"] {
        append_values(&mut log, &[value]);
    }
    log.request_checkpoint();
    flush(&mut log);
    drop(log);
    let segment = dir.join(format!("{:020}.log", 0));
    let mut content = std::fs::read(&segment).expect("a segment");
    let last = content.len() - 1;
    content[last] ^= 1;
    std::fs::write(&segment, content).expect("a write");
    std::fs::remove_file(segment.with_extension("index")).expect("an index");
    // The end of the log is missing, so the last segment does not grow, and is mapped.
    let (mut log, recovery) = open_at(&dir, &small());
    assert_eq!(recovery.damage[0].offset, 2);
    let held = log.reader().read(1, 2, 1).expect("what lies before");
    let shown = records(&held.batches, 1);
    assert_eq!(log.truncate(1).expect("a truncation"), 1);
    append_values(&mut log, &["d"]);
    assert_eq!(records(&held.batches, 1), shown);
    assert_eq!(contents(&log), "0:a 1:d");
}

#[test]
fn a_batch_of_megabytes_goes_through() {
    let root = TempDir::new().expect("a directory");
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..LogConfig::default()
    };
    let (mut log, _) = open_at(&root.path().join("l"), &config);
    let big = "b".repeat(3 << 20);
    append_values(&mut log, &["a"]);
    append_values(&mut log, &[&big]);
    append(&mut log, values(&["c"])).expect("an append");
    flush(&mut log);
    drop(log);
    let (log, recovery) = open_at(&root.path().join("l"), &config);
    assert_eq!(recovery.damage, []);
    let read = log.reader().read(1, 3, 10).expect("the big one");
    assert_eq!(
        records(&read.batches, 1)[0].record.value.as_deref(),
        Some(big.as_str())
    );
}

/// Space is set aside only while a log grows, and none of it counts as content.
#[cfg(target_os = "linux")]
#[test]
fn what_is_set_aside_is_given_back() {
    use std::os::unix::fs::MetadataExt;

    let root = TempDir::new().expect("a directory");
    let path = root.path().join("f");
    let file = DiskStorage.create(&path).expect("a file");
    let taken = || {
        let metadata = path.metadata().expect("the file");
        (metadata.len(), metadata.blocks() * 512)
    };
    let piece = vec![7; 256 << 10];
    let write = |position: u64| {
        let mut slices = [IoSlice::new(&piece)];
        file.write_vectored_at(&mut slices, position)
            .expect("a write");
        file.sync_data().expect("a sync");
    };
    for quarter in 0..4 {
        write(quarter << 18);
    }
    let (length, bytes) = taken();
    assert_eq!(length, 1 << 20);
    if bytes <= length {
        eprintln!("not tested: this file system sets nothing aside");
        return;
    }
    file.trim().expect("a cut");
    let (trimmed_length, trimmed_bytes) = taken();
    assert_eq!(trimmed_length, length);
    assert!(trimmed_bytes < bytes, "{trimmed_bytes} of {bytes} remain");
    write(1 << 20);
    assert_eq!(file.length().expect("a length"), 5 << 18);
    assert_eq!(file.read_at(5 << 18, 1).expect("a read").len(), 0);
}
