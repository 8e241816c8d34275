//! Stores against a model: a map, and a journal of what was done to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use millstream_protocol::{TopicId, TopicPartition};
use millstream_state::{
    Admission, Checkpoint, Flush, Growth, JournalExtent, Loading, PageRequest, Snapshot, StandsFor,
    StateConfig, States, Store,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

const JOURNAL: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(1)),
    partition: 3,
};

const LIMIT: u64 = 1 << 20;

type Change = (Vec<u8>, Option<Vec<u8>>);
type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Little is much, so that few steps fill files.
fn config() -> StateConfig {
    StateConfig {
        overlay_bytes: 1_000,
        memory_bytes: 1_000_000,
        loading_bytes: 1_500,
        cache_bytes: 1 << 20,
    }
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    /// Begins a flush, which runs at once or after some more commits.
    Flush {
        later: bool,
    },
    /// Everything in memory is gone: a crash, or a stop.
    Reopen,
    /// Compaction takes what is superseded out of the journal, and tombstones with it.
    Compact {
        tombstones: bool,
    },
    /// The file is written over with something else.
    Damage(usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xff)], 0..4)
}

fn change() -> impl Strategy<Value = Change> {
    (
        key(),
        proptest::option::weighted(0.7, vec(any::<u8>(), 0..200)),
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(change(), 0..6).prop_map(Step::Commit),
        3 => any::<bool>().prop_map(|later| Step::Flush { later }),
        2 => Just(Step::Reopen),
        1 => any::<bool>().prop_map(|tombstones| Step::Compact { tombstones }),
        1 => (0..6_usize).prop_map(Step::Damage),
    ]
}

/// A store and its model.
struct World {
    folder: TempDir,
    states: Arc<States>,
    store: Option<Arc<Store>>,
    flush: Option<Flush>,
    model: Map,
    /// Changes that are still there, by offset.
    journal: BTreeMap<u64, Change>,
    end_offset: u64,
    tombstones_gone_until: u64,
    commits: u64,
    /// Snapshots, each with what must be in it for ever.
    snapshots: Vec<(Snapshot, Map, StandsFor)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            states: States::new(folder.path().to_owned(), config(), |_, _| true),
            folder,
            store: None,
            flush: None,
            model: Map::new(),
            journal: BTreeMap::new(),
            end_offset: 0,
            tombstones_gone_until: 0,
            commits: 0,
            snapshots: Vec::new(),
        };
        world.open();
        world
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }

    fn stands_for(&self) -> StandsFor {
        StandsFor {
            journal_offset: self.end_offset,
            input_offset: self.commits,
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            stands_for: self.stands_for(),
            replay_from: self.end_offset.saturating_sub(2),
            records: vec![(b"commits".to_vec(), self.commits.to_be_bytes().to_vec())],
        }
    }

    fn open(&mut self) {
        let extent = JournalExtent {
            start_offset: 0,
            end_offset: self.end_offset,
            tombstones_gone_until: self.tombstones_gone_until,
        };
        let mut loading = self.states.open(JOURNAL, extent, LIMIT).unwrap();
        let from = loading.checkpoint().map_or(0, |checkpoint| {
            let commits = checkpoint.stands_for.input_offset.to_be_bytes().to_vec();
            assert_eq!(checkpoint.records, [(b"commits".to_vec(), commits)]);
            assert!(checkpoint.stands_for.journal_offset <= self.end_offset);
            checkpoint.replay_from
        });
        self.replay(&mut loading, from);
        let store = loading.finish(self.stands_for(), || self.checkpoint());
        self.store = Some(Arc::new(store.unwrap()));
    }

    fn replay(&self, loading: &mut Loading, from: u64) {
        for (offset, (key, value)) in self.journal.range(from..) {
            loading.set(*offset, key, value.as_deref()).unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => self.commit(changes),
            Step::Flush { later } => {
                self.finish_flush();
                let flush = self.store().begin_flush(self.checkpoint()).unwrap();
                assert!(self.store().begin_flush(self.checkpoint()).is_none());
                self.flush = Some(flush);
                if !later {
                    self.finish_flush();
                }
            }
            Step::Reopen => {
                self.flush = None;
                self.store = None;
                self.open();
            }
            Step::Compact { tombstones } => self.compact(tombstones),
            Step::Damage(kind) => self.damage(kind),
        }
    }

    fn commit(&mut self, changes: Vec<Change>) {
        self.commits += 1;
        // Of a call, each key comes once.
        let changes: BTreeMap<_, _> = changes.into_iter().collect();
        for (key, value) in changes.clone() {
            match value.clone() {
                Some(value) => self.model.insert(key.clone(), value),
                None => self.model.remove(&key),
            };
            self.journal.insert(self.end_offset, (key, value));
            self.end_offset += 1;
        }
        let asked = changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()));
        let growth = match self.store().admission(asked).unwrap() {
            // Both ways are taken.
            Admission::Yes(_) if self.commits.is_multiple_of(2) => Growth::AtMost,
            Admission::Yes(growth) => growth,
            refused => panic!("{refused:?}"),
        };
        self.store().apply(changes, growth, self.stands_for());
    }

    fn finish_flush(&mut self) {
        if let Some(flush) = self.flush.take() {
            flush.run().unwrap();
        }
    }

    fn compact(&mut self, tombstones: bool) {
        let mut latest = BTreeMap::new();
        for (offset, (key, _)) in &self.journal {
            latest.insert(key.clone(), *offset);
        }
        self.journal.retain(|offset, (key, value)| {
            latest[key] == *offset && (value.is_some() || !tombstones)
        });
        if tombstones {
            self.tombstones_gone_until = self.end_offset;
        }
    }

    fn damage(&mut self, kind: usize) {
        self.flush = None;
        self.store = None;
        // Who reads an older state has the file open, and keeps it.
        self.snapshots.clear();
        let path = self
            .folder
            .path()
            .join(JOURNAL.topic_id.to_string())
            .join("3.redb");
        if let Ok(bytes) = std::fs::read(&path) {
            let len = bytes.len();
            let damaged = match kind {
                0 => Vec::new(),
                1 => b"something else".to_vec(),
                2 => bytes[..len / 2].to_vec(),
                3 => vec![0; len],
                4 => [&[0xff; 512], &bytes[512..]].concat(),
                _ => vec![0xff; len],
            };
            std::fs::write(&path, damaged).unwrap();
        }
        self.open();
    }

    /// Everything that can be asked, against the model.
    fn check(&self) {
        let store = self.store();
        for key in self.model.keys() {
            assert_eq!(store.get(key).unwrap().as_ref(), self.model.get(key));
        }
        assert_eq!(store.get(b"never").unwrap(), None);
        for (prefix, after) in [
            (&b""[..], None),
            (b"a", None),
            (b"a", Some(&b"aa"[..])),
            (b"", Some(b"a")),
            (b"\xff", Some(b"")),
        ] {
            let mut seen = Vec::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                seen.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            };
            store.scan(prefix, after, &mut visit).unwrap();
            assert_eq!(seen, expected(&self.model, prefix, after));
        }
        let size: usize = self.model.iter().map(|(k, v)| 64 + k.len() + v.len()).sum();
        assert!(store.size_bytes() >= size as u64);
        for (snapshot, model, stands_for) in &self.snapshots {
            assert_eq!(snapshot.stands_for(), *stands_for);
            let mut found = Map::new();
            loop {
                let after = found.last_key_value().map(|(key, _)| key.clone());
                let page = snapshot.page(PageRequest {
                    prefix: b"",
                    after: after.as_deref(),
                    limit: 3,
                });
                let page = page.unwrap();
                found.extend(page.entries.into_iter().map(|it| (it.key, it.value)));
                if !page.more {
                    break;
                }
            }
            assert_eq!(found, *model);
        }
    }

    fn snapshot(&mut self) {
        let snapshot = self.store().snapshot();
        let stands_for = self.stands_for();
        self.snapshots
            .push((snapshot, self.model.clone(), stands_for));
        if self.snapshots.len() > 3 {
            self.snapshots.remove(0);
        }
    }
}

fn expected(model: &Map, prefix: &[u8], after: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    model
        .range::<[u8], _>((start, Bound::Unbounded))
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is flushed when, lost, compacted or damaged: the state is what the journal has led to.
    #[test]
    fn a_store_is_what_was_done_to_it(steps in vec(step(), 0..40)) {
        let mut world = World::new();
        for (number, step) in steps.into_iter().enumerate() {
            world.step(step);
            if number % 5 == 0 {
                world.snapshot();
            }
            world.check();
        }
        world.finish_flush();
        world.check();
        // What is flushed is counted to the byte.
        world.step(Step::Flush { later: false });
        let size: usize = world.model.iter().map(|(k, v)| 64 + k.len() + v.len()).sum();
        prop_assert_eq!(world.store().size_bytes(), size as u64);
        // What is in memory is given back.
        world.snapshots.clear();
        world.store = None;
        prop_assert_eq!(world.states.in_memory_bytes(), 0);
    }
}
