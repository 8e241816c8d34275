//! The state machine: the image, in memory, and its snapshots.

use std::io::Cursor;
use std::sync::Arc;

use millstream_metadata::{Image, Record};
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::FileError;
use super::log::{reading, writing};
use super::snapshot::{self, Decoded, Snapshots};
use crate::error::StorageFailed;
use crate::types::{
    Entry, LogId, Membership, Outcome, Proposal, SnapshotMeta, StorageError, TypeConfig,
};

/// The cluster as this node has applied it.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The image.
    pub image: Arc<Image>,
    /// The index of the last entry that has changed the image; 0 before the first, as entry 0 names
    /// the first voters.
    pub revision: u64,
    /// The index of the last entry that was applied; `None` before the first.
    pub index: Option<u64>,
    /// The image has no more bytes than these when it is encoded.
    pub(crate) image_bytes_at_most: u64,
}

/// The image and what led to it.
#[derive(Clone, Debug, Default)]
struct State {
    image: Arc<Image>,
    revision: u64,
    last: Option<LogId>,
    membership: Membership,
    /// The snapshot that it began with and all records since, bytes.
    sum_bytes: u64,
}

/// Applies entries, and takes and installs snapshots.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    snapshots: Arc<Snapshots>,
    applied: watch::Sender<Applied>,
}

/// Takes a snapshot of a state that is left as it is.
#[derive(Debug)]
pub(crate) struct Builder {
    state: State,
    snapshots: Arc<Snapshots>,
}

impl Machine {
    /// Takes up the newest snapshot.
    pub(crate) fn load(snapshots: Snapshots) -> Result<Self, FileError> {
        let loaded = snapshots.load()?;
        let state = loaded.map_or_else(State::default, |(meta, decoded)| State::of(&meta, decoded));
        let machine = Self {
            state,
            snapshots: Arc::new(snapshots),
            applied: watch::Sender::default(),
        };
        machine.publish();
        Ok(machine)
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.state.last
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    fn publish(&self) {
        let State {
            image,
            revision,
            last,
            sum_bytes,
            ..
        } = &self.state;
        self.applied.send_replace(Applied {
            image: Arc::clone(image),
            revision: *revision,
            index: last.map(|last| last.index),
            image_bytes_at_most: sum_bytes.saturating_sub(self.snapshots.excess_bytes()),
        });
    }

    /// A record holds for the image that it was validated against, and for no other. All nodes
    /// decide this by comparing two numbers, whatever release they are of.
    fn apply_proposal(
        &mut self,
        index: u64,
        proposal: &Proposal,
    ) -> Result<Outcome, StorageFailed> {
        if proposal.revision != self.state.revision {
            return Ok(Outcome::Stale);
        }
        let record = Record::decode(&proposal.record).map_err(|error| {
            let reason = format!("entry {index}: {error}");
            self.snapshots.fail("apply to", reason)
        })?;
        Arc::make_mut(&mut self.state.image).apply(&record);
        self.state.revision = index;
        self.state.sum_bytes += proposal.record.len() as u64;
        Ok(Outcome::Applied)
    }
}

impl State {
    fn of(meta: &SnapshotMeta, decoded: Decoded) -> Self {
        Self {
            image: Arc::new(decoded.image),
            revision: decoded.revision,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
            sum_bytes: decoded.bytes as u64,
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.state.last, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            outcomes.push(match entry.payload {
                EntryPayload::Blank => Outcome::NoRecord,
                EntryPayload::Normal(proposal) => self
                    .apply_proposal(log_id.index, &proposal)
                    .map_err(writing)?,
                EntryPayload::Membership(membership) => {
                    self.state.membership = Membership::new(Some(log_id), membership);
                    Outcome::NoRecord
                }
            });
            self.state.last = Some(log_id);
        }
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            snapshots: Arc::clone(&self.snapshots),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (meta, snapshots) = (meta.clone(), Arc::clone(&self.snapshots));
        self.state = on_a_thread(move || {
            let bytes = snapshot.into_inner();
            let decoded = snapshot::decode(&bytes);
            let decoded = decoded.map_err(|error| snapshots.fail("install", error))?;
            let state = State::of(&meta, decoded);
            snapshots.keep(&meta, &bytes, state.sum_bytes)?;
            Ok(state)
        })
        .await
        .map_err(writing)?;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let snapshots = Arc::clone(&self.snapshots);
        let read = on_a_thread(move || {
            let read = snapshots.read();
            read.map_err(|error| snapshots.fail("read", error))
        })
        .await;
        Ok(read.map_err(reading)?.map(|(meta, bytes)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes)),
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (state, snapshots) = (self.state.clone(), Arc::clone(&self.snapshots));
        on_a_thread(move || {
            let bytes = snapshot::encode(&state.image, state.revision)
                .map_err(|error| snapshots.fail("write", error))?;
            let last = state.last.unwrap_or_default();
            let meta = SnapshotMeta {
                last_log_id: state.last,
                last_membership: state.membership,
                snapshot_id: format!("{}-{}", last.leader_id, last.index),
            };
            snapshots.keep(&meta, &bytes, state.sum_bytes)?;
            Ok(Snapshot {
                meta,
                snapshot: Box::new(Cursor::new(bytes)),
            })
        })
        .await
        .map_err(writing)
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageFailed> + Send + 'static,
) -> Result<T, StorageFailed> {
    match millstream_offload::run(work).await {
        Ok(done) => done,
        Err(error) => Err(StorageFailed::new("use", "the image".as_ref(), error)),
    }
}

#[cfg(test)]
mod tests {
    use millstream_log::storage::MemoryStorage;
    use openraft::CommittedLeaderId;
    use uuid::Uuid;

    use super::*;

    fn machine(storage: &MemoryStorage) -> Machine {
        let snapshots = Snapshots::new(Arc::new(storage.clone()), "/image".into());
        Machine::load(snapshots).expect("a machine")
    }

    fn proposal(index: u64, revision: u64, record: &Record) -> Entry {
        let record = record.encode().expect("a record").into();
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Proposal { revision, record }),
        }
    }

    fn formed(number: u128) -> Record {
        Record::ClusterFormed {
            cluster_id: Uuid::from_u128(number),
            feature_level: 1,
        }
    }

    #[tokio::test]
    async fn a_record_holds_for_the_image_that_it_was_validated_against() {
        let storage = MemoryStorage::new();
        let mut machine = machine(&storage);
        let entries = [
            proposal(1, 0, &formed(1)),
            proposal(2, 0, &formed(2)),
            proposal(3, 2, &formed(3)),
            proposal(4, 1, &formed(4)),
        ];
        let outcomes = machine.apply(entries).await.expect("outcomes");
        let expected = [
            Outcome::Applied,
            Outcome::Stale,
            Outcome::Stale,
            Outcome::Applied,
        ];
        assert_eq!(outcomes, expected);
        let seen = machine.watch().borrow().clone();
        assert_eq!((seen.revision, seen.index), (4, Some(4)));
        assert_eq!(seen.image.cluster_id(), Some(Uuid::from_u128(4)));
        // The revision is a part of the snapshot.
        let mut builder = machine.get_snapshot_builder().await;
        builder.build_snapshot().await.expect("a snapshot");
        let again = self::machine(&storage);
        let found = again.watch().borrow().clone();
        assert_eq!((found.revision, found.index), (4, Some(4)));
        assert_eq!(found.image, seen.image);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_no_change_and_an_error() {
        let storage = MemoryStorage::new();
        let mut machine = machine(&storage);
        let mut entry = proposal(1, 0, &formed(1));
        if let EntryPayload::Normal(proposal) = &mut entry.payload {
            proposal.record = bytes::Bytes::from_static(&[0xff]);
        }
        let error = machine.apply([entry]).await.expect_err("an error");
        assert!(error.to_string().contains("entry 1"), "{error}");
        assert_eq!(machine.watch().borrow().index, None);
    }

    #[tokio::test]
    async fn a_snapshot_shows_how_long_the_image_is() {
        let storage = MemoryStorage::new();
        let mut machine = machine(&storage);
        let entries: Vec<_> = (1..100)
            .map(|index| proposal(index, index - 1, &formed(1)))
            .collect();
        machine.apply(entries).await.expect("outcomes");
        let sum = machine.watch().borrow().image_bytes_at_most;
        let mut builder = machine.get_snapshot_builder().await;
        let snapshot = builder.build_snapshot().await.expect("a snapshot");
        let last = proposal(100, 99, &formed(1));
        machine.apply([last]).await.expect("an outcome");
        let record_bytes = formed(1).encode().expect("a record").len();
        let expected = snapshot.snapshot.get_ref().len() + record_bytes;
        let at_most = machine.watch().borrow().image_bytes_at_most;
        assert_eq!(at_most, expected as u64);
        assert!(at_most < sum);
    }

    #[tokio::test]
    async fn an_older_snapshot_takes_no_newer_ones_place() {
        let storage = MemoryStorage::new();
        let mut machine = machine(&storage);
        machine
            .apply([proposal(1, 0, &formed(1))])
            .await
            .expect("an outcome");
        let mut older = machine.get_snapshot_builder().await;
        machine
            .apply([proposal(2, 1, &formed(2))])
            .await
            .expect("an outcome");
        let mut newer = machine.get_snapshot_builder().await;
        newer.build_snapshot().await.expect("a snapshot");
        older.build_snapshot().await.expect("a snapshot");
        assert_eq!(
            self::machine(&storage).last().map(|last| last.index),
            Some(2)
        );
    }
}
