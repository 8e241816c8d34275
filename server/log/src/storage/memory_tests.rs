//! The storage that crashes, crashing.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::{MemoryStorage, SyncBehaviour};
use crate::storage::{Storage, StorageFile};

const FILE: &str = "/f";

fn write(file: &Arc<dyn StorageFile>, content: &[u8], position: u64) -> std::io::Result<()> {
    file.write_vectored_at(&mut [IoSlice::new(content)], position)
}

/// A file of two sectors of ones, durable.
fn with_ones() -> (MemoryStorage, Arc<dyn StorageFile>) {
    let storage = MemoryStorage::new();
    let file = storage.create(Path::new(FILE)).expect("a file");
    write(&file, &[1; 1024], 0).expect("a write");
    file.sync_data().expect("a sync");
    storage.sync_dir(Path::new("/")).expect("a sync");
    (storage, file)
}

/// What a hundred crashes leave of the file.
fn crashes(storage: &MemoryStorage) -> BTreeSet<Option<Vec<u8>>> {
    let seeds = 0..100;
    seeds
        .map(|seed| storage.crash(seed).content(Path::new(FILE)))
        .collect()
}

#[test]
fn what_is_synced_stays() {
    let (storage, _) = with_ones();
    assert_eq!(crashes(&storage), BTreeSet::from([Some(vec![1; 1024])]));
}

#[test]
fn what_is_not_synced_may_go_sector_by_sector() {
    let (storage, file) = with_ones();
    write(&file, &[2; 1024], 0).expect("a write");
    let sectors = |a: u8, b: u8| Some([[a; 512], [b; 512]].concat());
    let all = [sectors(1, 1), sectors(1, 2), sectors(2, 1), sectors(2, 2)];
    assert_eq!(crashes(&storage), BTreeSet::from(all));
    assert_eq!(storage.kill().content(Path::new(FILE)), sectors(2, 2));
}

#[test]
fn a_length_may_go_without_its_content_and_the_other_way_round() {
    let (storage, file) = with_ones();
    write(&file, &[2; 700], 1024).expect("a write");
    let left = crashes(&storage);
    let lengths: BTreeSet<_> = left.iter().flatten().map(Vec::len).collect();
    assert!(lengths.contains(&1024) && lengths.contains(&1724) && lengths.len() > 2);
    let zeros = |content: &Vec<u8>| content.len() == 1724 && content[1024..1536] == [0; 512];
    assert!(left.iter().flatten().any(zeros));
    assert!(
        left.iter()
            .flatten()
            .all(|content| content[..1024] == [1; 1024])
    );
}

#[test]
fn a_cut_may_be_lost_with_what_was_written_before_it() {
    let (storage, file) = with_ones();
    write(&file, &[2; 512], 1024).expect("a write");
    file.set_length(700).expect("a cut");
    let lengths: BTreeSet<_> = crashes(&storage).iter().flatten().map(Vec::len).collect();
    for length in [700, 1024, 1536] {
        assert!(lengths.contains(&length), "{lengths:?}");
    }
    file.sync_data().expect("a sync");
    assert_eq!(crashes(&storage), BTreeSet::from([Some(vec![1; 700])]));
}

#[test]
fn names_go_each_on_its_own() {
    let (storage, _) = with_ones();
    let (a, b) = (Path::new("/a"), Path::new("/b"));
    storage.create(a).expect("a file");
    storage.rename(Path::new(FILE), b).expect("a rename");
    let left: BTreeSet<Vec<String>> = (0..100)
        .map(|seed| storage.crash(seed).list(Path::new("/")).expect("names"))
        .collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let all: [Vec<String>; 4] = [
        names(&["f"]),
        names(&["a", "f"]),
        names(&["b"]),
        names(&["a", "b"]),
    ];
    assert_eq!(left, BTreeSet::from(all));
    storage.sync_dir(Path::new("/")).expect("a sync");
    assert_eq!(
        storage.crash(1).list(Path::new("/")).expect("names"),
        ["a", "b"]
    );
}

#[test]
fn files_go_with_their_directory() {
    let storage = MemoryStorage::new();
    storage.create_dir(Path::new("/d")).expect("a directory");
    storage.create(Path::new("/d/f")).expect("a file");
    storage.sync_dir(Path::new("/d")).expect("a sync");
    let lost = (0..20).filter(|seed| storage.crash(*seed).open(Path::new("/d/f")).is_err());
    assert!(lost.count() > 0);
    storage.sync_dir(Path::new("/")).expect("a sync");
    assert!((0..20).all(|seed| storage.crash(seed).open(Path::new("/d/f")).is_ok()));
}

#[test]
fn the_same_seed_leaves_the_same() {
    let (storage, file) = with_ones();
    write(&file, &[2; 5000], 300).expect("a write");
    for seed in 0..20 {
        let path = Path::new(FILE);
        assert_eq!(
            storage.crash(seed).content(path),
            storage.crash(seed).content(path)
        );
    }
}

#[test]
fn a_failed_sync_shows_what_it_did_not_write_until_it_is_forgotten() {
    let (storage, file) = with_ones();
    write(&file, &[2; 1024], 0).expect("a write");
    storage.set_sync(SyncBehaviour::Failing);
    assert!(file.sync_data().is_err());
    storage.set_sync(SyncBehaviour::Honest);
    file.sync_data().expect("the second succeeds");
    assert_eq!(file.read_at(0, 1024).expect("a read"), [2; 1024].as_slice());
    assert_eq!(crashes(&storage), BTreeSet::from([Some(vec![1; 1024])]));
    file.forget_cached(512).expect("a hint");
    assert_eq!(file.read_at(511, 2).expect("a read")[..], [2, 1]);
}

#[test]
fn a_lying_sync_makes_nothing_durable() {
    let (storage, file) = with_ones();
    storage.set_sync(SyncBehaviour::Lying);
    write(&file, &[2; 1024], 0).expect("a write");
    file.sync_data().expect("a lie");
    assert!(crashes(&storage).contains(&Some(vec![1; 1024])));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (storage, file) = with_ones();
    storage.set_capacity(Some(1100));
    let error = write(&file, &[2; 200], 1000).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(storage.used_bytes(), 1100);
    write(&file, &[3; 100], 1000).expect("no more is needed");
}

#[test]
fn nothing_works_after_the_crash() {
    let (storage, file) = with_ones();
    storage.crash_at(storage.operations() + 1);
    write(&file, &[2; 10], 0).expect("not yet");
    assert!(write(&file, &[3; 10], 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(0, 1).is_err());
    assert!(storage.open(Path::new(FILE)).is_err());
    assert!(storage.create(Path::new("/other")).is_err());
    // The write at that very moment may have reached the disk, or none.
    let first: BTreeSet<_> = crashes(&storage)
        .into_iter()
        .flatten()
        .map(|content| content[0])
        .collect();
    assert_eq!(first, BTreeSet::from([1, 3]));
}
