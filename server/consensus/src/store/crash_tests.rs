//! Power cuts and kills at every operation of a script, and what is there afterwards.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use millstream_log::storage::{MemoryStorage, SyncBehaviour};
use millstream_metadata::{Image, Record};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine, StorageHelper};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use uuid::Uuid;

use super::{Opened, open, snapshot};
use crate::Config;
use crate::types::{Entry, LogId, Membership, Proposal, SnapshotMeta, StorageError, Vote};

#[derive(Clone, Copy, Debug)]
enum Step {
    Vote(u64),
    /// Entries of a term, from one index to another, inclusive.
    Append(u64, u64, u64),
    /// From an index on.
    Truncate(u64),
    /// Up to an index, and has them applied.
    Commit(u64),
    Snapshot,
    /// Up to an index.
    Purge(u64),
    /// A snapshot that ends with an entry of a term, and at an index.
    Install(u64, u64),
}

const SCRIPT: &[Step] = &[
    Step::Vote(1),
    Step::Append(1, 0, 3),
    Step::Commit(2),
    Step::Vote(2),
    Step::Truncate(3),
    Step::Append(2, 3, 6),
    Step::Commit(6),
    Step::Snapshot,
    Step::Purge(4),
    // More than the snapshot that is to come, of a leader whose entries do not count.
    Step::Append(2, 7, 25),
    Step::Commit(8),
    Step::Vote(3),
    Step::Install(3, 20),
    Step::Purge(20),
    Step::Append(3, 21, 22),
    Step::Commit(22),
    Step::Snapshot,
    Step::Purge(22),
    Step::Append(3, 23, 23),
];

/// What has been acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    vote: Option<Vote>,
    entries: BTreeMap<u64, LogId>,
    committed: Option<LogId>,
    snapshot: Option<LogId>,
    purged: Option<LogId>,
}

impl Known {
    fn after(&self, step: Step) -> Self {
        let mut known = self.clone();
        match step {
            Step::Vote(term) => known.vote = Some(Vote::new(term, 1)),
            Step::Append(term, first, last) => known
                .entries
                .extend((first..=last).map(|index| (index, log_id(term, index)))),
            Step::Truncate(index) => known.entries.retain(|it, _| *it < index),
            Step::Commit(index) => known.committed = known.entries.get(&index).copied(),
            Step::Snapshot => known.snapshot = known.applied(),
            Step::Purge(index) => {
                let purged = known.id_at(index);
                known.purged = Some(purged);
                let beyond = known.entries.values().next_back() <= Some(&purged);
                known.entries.retain(|it, _| *it > index && !beyond);
            }
            Step::Install(term, index) => known.snapshot = Some(log_id(term, index)),
        }
        known
    }

    fn applied(&self) -> Option<LogId> {
        self.committed.max(self.snapshot)
    }

    /// What has an index: a snapshot ends with what was decided, an entry may be another's.
    fn id_at(&self, index: u64) -> LogId {
        let snapshot = self.snapshot.filter(|snapshot| snapshot.index == index);
        let known = snapshot.or(self.entries.get(&index).copied());
        known.expect("an entry or a snapshot")
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

/// The record of an entry. All but the first entry have one, for the image that the one before has
/// left.
fn record(index: u64) -> Record {
    match index {
        1 => Record::ClusterFormed {
            cluster_id: Uuid::from_u128(1),
            feature_level: 1,
        },
        index => Record::ProducerIdsAllocated {
            first: 10 * index,
            count: 10,
        },
    }
}

fn entry(log_id: LogId) -> Entry {
    let record = (log_id.index > 0).then(|| record(log_id.index));
    Entry {
        log_id,
        payload: record.map_or(EntryPayload::Blank, |record| {
            EntryPayload::Normal(Proposal {
                revision: log_id.index - 1,
                record: Bytes::from(record.encode().expect("a record")),
            })
        }),
    }
}

fn image(last_index: u64) -> Image {
    let mut image = Image::default();
    (1..=last_index).for_each(|index| image.apply(&record(index)));
    image
}

fn config(storage: &MemoryStorage) -> Config {
    let storage = Arc::new(storage.clone());
    Config::new(Uuid::from_u128(1), 1, storage, "/node", 0x5eed)
}

async fn run(opened: &mut Opened, known: &Known, step: Step) -> Result<(), StorageError> {
    let Opened { log, machine } = opened;
    match step {
        Step::Vote(term) => log.save_vote(&Vote::new(term, 1)).await,
        Step::Append(term, first, last) => {
            let entries = (first..=last).map(|index| entry(log_id(term, index)));
            log.blocking_append(entries.collect::<Vec<_>>()).await
        }
        Step::Truncate(index) => log.truncate(known.id_at(index)).await,
        Step::Commit(index) => {
            log.save_committed(Some(known.id_at(index))).await?;
            let applied = machine.applied_state().await?.0;
            let from = applied.map_or(0, |applied| applied.index + 1);
            let entries = log.try_get_log_entries(from..=index).await?;
            machine.apply(entries).await.map(|_| ())
        }
        Step::Snapshot => {
            let mut builder = machine.get_snapshot_builder().await;
            builder.build_snapshot().await.map(|_| ())
        }
        Step::Purge(index) => log.purge(known.id_at(index)).await,
        Step::Install(term, index) => {
            let meta = SnapshotMeta {
                last_log_id: Some(log_id(term, index)),
                last_membership: Membership::default(),
                snapshot_id: "sent".to_owned(),
            };
            let bytes = snapshot::encode(&image(index), index).expect("a snapshot");
            let bytes = Box::new(Cursor::new(bytes));
            machine.install_snapshot(&meta, bytes).await
        }
    }
}

/// Runs the script until it is over or the power goes: what was acknowledged, and the step that was
/// not.
async fn run_script(storage: &MemoryStorage) -> (Known, Option<Step>) {
    let mut known = Known::default();
    let Ok(mut opened) = open(&config(storage)) else {
        return (known, Some(SCRIPT[0]));
    };
    for step in SCRIPT {
        if run(&mut opened, &known, *step).await.is_err() {
            // Nothing is done after a failure.
            assert!(opened.log.save_vote(&Vote::new(99, 1)).await.is_err());
            return (known, Some(*step));
        }
        known = known.after(*step);
    }
    (known, None)
}

async fn look(opened: &mut Opened) -> Known {
    let Opened { log, machine } = opened;
    let entries = log.try_get_log_entries(0..).await.expect("entries");
    let snapshot = machine.get_current_snapshot().await.expect("a snapshot");
    let state = log.get_log_state().await.expect("a state");
    let entries: BTreeMap<_, _> = entries
        .iter()
        .map(|entry| (entry.log_id.index, entry.log_id))
        .collect();
    let last = entries.values().next_back().copied();
    assert_eq!(state.last_log_id, last.or(state.last_purged_log_id));
    Known {
        vote: log.read_vote().await.expect("a vote"),
        entries,
        committed: log.read_committed().await.expect("a border"),
        snapshot: snapshot.and_then(|snapshot| snapshot.meta.last_log_id),
        purged: state.last_purged_log_id,
    }
}

/// What is found is what was acknowledged, or that and what was under way; an append in part.
async fn check(storage: &MemoryStorage, known: &Known, under_way: Option<Step>) {
    let mut opened = open(&config(storage)).expect("a sound directory");
    let found = look(&mut opened).await;
    // What was found, a power cut cannot take back any more.
    let mut again = open(&config(&storage.crash(7))).expect("a sound directory");
    assert_eq!(look(&mut again).await, found);
    let after = under_way.map_or_else(|| known.clone(), |step| known.after(step));
    assert!(found.vote == known.vote || found.vote == after.vote);
    assert!(found.committed == known.committed || found.committed == after.committed);
    assert!(found.snapshot == known.snapshot || found.snapshot == after.snapshot);
    assert!(found.purged == known.purged || found.purged == after.purged);
    for (index, log_id) in &found.entries {
        let expected = known.entries.get(index).or(after.entries.get(index));
        assert_eq!(Some(log_id), expected, "{found:?}");
    }
    for (index, log_id) in &known.entries {
        if after.entries.contains_key(index) {
            assert_eq!(found.entries.get(index), Some(log_id), "{found:?}");
        }
    }
    let indexes: Vec<u64> = found.entries.keys().copied().collect();
    assert!(indexes.windows(2).all(|two| two[0] + 1 == two[1]));

    // A start applies what is committed, and the node goes on.
    let Opened { log, machine } = &mut opened;
    let mut helper = StorageHelper::new(log, machine);
    helper.get_initial_state().await.expect("a start");
    let last = machine.applied_state().await.expect("a state").0;
    assert_eq!(last, found.applied());
    let applied = machine.watch().borrow().clone();
    assert_eq!(*applied.image, image(last.map_or(0, |last| last.index)));
    let state = log.get_log_state().await.expect("a state");
    let next = state.last_log_id.map_or(0, |last| last.index + 1);
    log.blocking_append([entry(log_id(9, next))])
        .await
        .expect("an append");
    let last = log.try_get_log_entries(next..).await.expect("entries");
    assert_eq!(last, [entry(log_id(9, next))]);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.build().expect("a runtime")
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes() {
    runtime().block_on(async {
        let whole = MemoryStorage::new();
        let (known, under_way) = run_script(&whole).await;
        assert!(under_way.is_none());
        check(&whole.crash(1), &known, None).await;
        assert!(whole.operations() > 50, "{}", whole.operations());
        for operation in 0..whole.operations() {
            let storage = MemoryStorage::new();
            storage.crash_at(operation);
            let (known, under_way) = run_script(&storage).await;
            for seed in 0..8 {
                check(&storage.crash(seed), &known, under_way).await;
            }
            check(&storage.kill(), &known, under_way).await;
        }
    });
}

#[test]
fn after_a_failed_sync_nothing_is_done_and_nothing_is_lost() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let mut opened = open(&config(&storage)).expect("a directory");
        let mut known = Known::default();
        for step in &SCRIPT[..3] {
            run(&mut opened, &known, *step).await.expect("a step");
            known = known.after(*step);
        }
        storage.set_sync(SyncBehaviour::Failing);
        let append = Step::Append(1, 4, 5);
        assert!(run(&mut opened, &known, append).await.is_err());
        storage.set_sync(SyncBehaviour::Honest);
        for step in [append, Step::Vote(2), Step::Commit(3), Step::Purge(1)] {
            assert!(run(&mut opened, &known, step).await.is_err());
        }
        check(&storage.crash(3), &known, Some(append)).await;
    });
}

#[test]
fn a_vote_survives_a_part_of_the_disk_that_goes_bad() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let mut opened = open(&config(&storage)).expect("a directory");
        for step in [Step::Vote(1), Step::Append(1, 0, 1), Step::Vote(2)] {
            let known = Known::default();
            run(&mut opened, &known, step).await.expect("a step");
        }
        for slot in 0..2 {
            let disk = storage.kill();
            assert!(disk.flip_bit("/node/state".as_ref(), 4096 * slot + 20, 0));
            let mut opened = open(&config(&disk)).expect("a sound directory");
            assert_eq!(look(&mut opened).await.vote, Some(Vote::new(2, 1)));
        }
    });
}
