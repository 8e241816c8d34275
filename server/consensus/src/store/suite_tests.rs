//! Openraft's own suite for storages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use millstream_log::storage::{DiskStorage, MemoryStorage, Storage};
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Machine, RaftLog, open};
use crate::Config;
use crate::types::{StorageError, TypeConfig};

/// The suite has 35 cases in this version. All build one store, but the last, which builds two.
const STORES: usize = 36;

struct Stores<F> {
    made: AtomicUsize,
    next: AtomicU64,
    make: F,
}

impl<F> Stores<F> {
    fn new(make: F) -> Self {
        Self {
            made: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            make,
        }
    }
}

impl<F, G> StoreBuilder<TypeConfig, RaftLog, Machine, G> for &Stores<F>
where
    F: Fn() -> (G, Arc<dyn Storage>, std::path::PathBuf) + Send + Sync,
    G: Send + Sync,
{
    async fn build(&self) -> Result<(G, RaftLog, Machine), StorageError> {
        let (guard, storage, dir) = (self.make)();
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let config = Config::new(Uuid::from_u128(1), 0, storage, dir, seed);
        let opened = open(&config).expect("a directory");
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok((guard, opened.log, opened.machine))
    }
}

#[test]
fn the_suite_passes_in_memory() {
    let stores = Stores::new(|| {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        ((), storage, "/node".into())
    });
    Suite::<TypeConfig, RaftLog, Machine, _, ()>::test_all(&stores).expect("all cases");
    assert_eq!(stores.made.load(Ordering::Relaxed), STORES);
}

#[test]
fn the_suite_passes_on_a_disk() {
    let stores = Stores::new(|| {
        let dir = TempDir::new().expect("a directory");
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage);
        let path = dir.path().join("node");
        (dir, storage, path)
    });
    Suite::<TypeConfig, RaftLog, Machine, _, TempDir>::test_all(&stores).expect("all cases");
    assert_eq!(stores.made.load(Ordering::Relaxed), STORES);
}
