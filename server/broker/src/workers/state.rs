//! What a worker's guest remembers: read back with the journal, changed with every commit, and now
//! and then written to its file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{ErrorCode, Offset, WireError};
use millstream_runtime::{StateChanges, StateReadError, StateReader, StateVisitor};
use millstream_state::{
    Admission, Checkpoint, Growth, JournalExtent, Loading, StandsFor, StateError, StateFull,
    States, Store,
};
use millstream_worker::{Journal, JournalError, Recovery, Sending};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::config::{STATE_FLUSH_AGE, STATE_FLUSH_CHECK, STATE_FLUSH_JOURNAL_BYTES};
use crate::errors;
use crate::internal;
use crate::partition::Partition;
use crate::workers::journal::WorkerJournal;

/// A worker's store, for whoever asks for it beside the worker.
pub(crate) type SharedStore = Arc<Mutex<Option<Arc<Store>>>>;

/// Closes a worker's store, if it has one. Files are closed where it may block.
pub(crate) async fn close(store: &SharedStore) -> Result<(), WireError> {
    let Some(closing) = store.lock().take() else {
        return Ok(());
    };
    let closed = tokio::task::spawn_blocking(move || drop(closing)).await;
    closed.map_err(errors::unfinished)
}

/// What is read back at the start of a worker.
pub(crate) struct ReadBack {
    /// What the journal says, and what may not have arrived; `None` when it was empty.
    pub(crate) journal: Option<(Journal, Vec<Sending>)>,
    pub(crate) store: Store,
    /// Outputs that may not have arrived lie in the journal from here on.
    pub(crate) replayed_from: Offset,
    /// Where the journal ends.
    pub(crate) end_offset: Offset,
}

/// Reads a worker's journal, and its state: from the file as far as that goes, behind it from the
/// journal. Blocks on the disk.
pub(crate) fn read_back(
    states: &Arc<States>,
    partition: &Partition,
    limit_bytes: u64,
    start: Offset,
) -> Result<ReadBack, WireError> {
    let extent = extent_of(partition);
    let opened = states.open(partition.id(), extent, limit_bytes);
    let mut loading = opened.map_err(|error| errors::from_state(&error))?;
    let mut gone_until = extent.tombstones_gone_until;
    loop {
        let known = loading.checkpoint().cloned().unwrap_or_default();
        let (recovery, end_offset) = replay(partition, &known, &mut loading)?;
        // Deletions that compaction has taken from under the reading may have been missed.
        let now_gone_until = extent_of(partition).tombstones_gone_until;
        if now_gone_until > gone_until && now_gone_until > known.stands_for.journal_offset {
            gone_until = now_gone_until;
            let rebuilt = states.rebuild(partition.id(), limit_bytes);
            loading = rebuilt.map_err(|error| errors::from_state(&error))?;
            continue;
        }
        let journal = recovery
            .finish()
            .map_err(|error| unreadable(partition, error))?;
        let core = journal.as_ref().map(|(journal, _)| journal);
        let stands_for = StandsFor {
            journal_offset: end_offset,
            input_offset: core.map_or(start, Journal::next_offset),
        };
        let checkpoint = || Checkpoint {
            stands_for,
            // The outputs that may not have arrived are still the same.
            replay_from: known.replay_from,
            records: core.map(Journal::records).unwrap_or_default(),
        };
        let store = loading.finish(stands_for, checkpoint);
        return Ok(ReadBack {
            store: store.map_err(|error| errors::from_state(&error))?,
            journal,
            replayed_from: known.replay_from,
            end_offset,
        });
    }
}

/// What there is of the log that a store is made from.
pub(crate) fn extent_of(partition: &Partition) -> JournalExtent {
    let visible = partition.visible();
    JournalExtent {
        start_offset: visible.log_start_offset,
        end_offset: visible.high_watermark,
        tombstones_gone_until: partition.status().tombstones_gone_until,
    }
}

/// Reads what a journal says behind what is known of it. Returns where it ends.
fn replay(
    partition: &Partition,
    known: &Checkpoint,
    loading: &mut Loading,
) -> Result<(Recovery, Offset), WireError> {
    let mut recovery = Recovery::default();
    for (key, value) in &known.records {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let read = recovery.record(key, Some(value));
        read.map_err(|error| unreadable(partition, error))?;
    }
    let each = |batch: &RecordBatch| {
        let records = batch.records().map_err(errors::from_batch)?;
        for record in records.into_owned() {
            let (offset, record) = record.map_err(errors::from_batch)?;
            let key: Bytes = record.key.unwrap_or_default();
            let of_state = recovery
                .record(key, record.value)
                .map_err(|error| unreadable(partition, error))?;
            if let Some((key, value)) = of_state {
                let set = loading.set(offset, &key, value.as_deref());
                set.map_err(|error| errors::from_state(&error))?;
            }
        }
        Ok::<_, WireError>(())
    };
    let end_offset = internal::each_batch_from(partition, known.replay_from, each)?;
    Ok((recovery, end_offset))
}

fn unreadable(partition: &Partition, error: JournalError) -> WireError {
    let message = format!("{}: {error}", partition.name());
    WireError::new(ErrorCode::PartitionDamaged, message)
}

/// What a worker's guest remembers.
pub(crate) struct GuestState {
    store: Arc<Store>,
    flush: Option<JoinHandle<Result<(), StateError>>>,
    flushed_at: Instant,
    /// What the journal had taken when the last flush began, bytes.
    flushed_journal_bytes: u64,
}

impl GuestState {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            flush: None,
            flushed_at: Instant::now(),
            flushed_journal_bytes: 0,
        }
    }

    /// What the guest reads.
    pub(crate) fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(StoreReader(Arc::clone(&self.store)))
    }

    /// Whether the changes of a call may be made, and by how much they grow.
    pub(crate) async fn admit(
        &mut self,
        changes: &StateChanges,
        journal: &WorkerJournal,
    ) -> Result<Result<Growth, StateFull>, WireError> {
        while !self.store.admits(changes.bytes()) {
            let (store, asked) = (Arc::clone(&self.store), changes.clone());
            let admission = tokio::task::spawn_blocking(move || store.admission(asked.iter()))
                .await
                .map_err(errors::unfinished)?;
            match admission.map_err(|error| errors::from_state(&error))? {
                Admission::Yes(growth) => return Ok(Ok(growth)),
                Admission::No(full) => return Ok(Err(full)),
                Admission::AfterFlush => {
                    self.flush(journal).await?;
                    self.flushed().await?;
                }
            }
        }
        Ok(Ok(Growth::AtMost))
    }

    /// Makes the changes of a commit that the journal has.
    pub(crate) fn apply(&self, changes: StateChanges, growth: Growth, journal: &WorkerJournal) {
        self.store.apply(changes, growth, journal.stands_for());
    }

    /// Begins to write what is in memory when it is time. While the writing before is not done, it
    /// waits for it: that bounds the memory.
    pub(crate) async fn look_after(&mut self, journal: &WorkerJournal) -> Result<(), WireError> {
        let journal_bytes = journal.appended_bytes() - self.flushed_journal_bytes;
        let old = self.store.is_behind() && self.flushed_at.elapsed() >= STATE_FLUSH_AGE;
        if self.store.wants_flush() || journal_bytes >= STATE_FLUSH_JOURNAL_BYTES || old {
            self.flush(journal).await?;
        }
        Ok(())
    }

    /// When to look again although nothing happens; `None` when there is nothing to look after.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        (self.store.is_behind() || self.store.is_worth_a_flush()).then_some(STATE_FLUSH_CHECK)
    }

    async fn flush(&mut self, journal: &WorkerJournal) -> Result<(), WireError> {
        self.flushed().await?;
        let checkpoint = Checkpoint {
            stands_for: journal.stands_for(),
            replay_from: journal.replay_from(),
            records: journal.core().records(),
        };
        if let Some(flush) = self.store.begin_flush(checkpoint) {
            self.flush = Some(tokio::task::spawn_blocking(move || flush.run()));
            self.flushed_at = Instant::now();
            self.flushed_journal_bytes = journal.appended_bytes();
        }
        Ok(())
    }

    /// Waits for the end of the writing that is under way.
    pub(crate) async fn flushed(&mut self) -> Result<(), WireError> {
        if let Some(flush) = &mut self.flush {
            let flushed = flush.await;
            self.flush = None;
            let flushed = flushed.map_err(errors::unfinished)?;
            flushed.map_err(|error| errors::from_state(&error))?;
        }
        Ok(())
    }
}

/// A store as the runtime reads it.
struct StoreReader(Arc<Store>);

fn unavailable(error: StateError) -> StateReadError {
    StateReadError {
        reason: error.to_string(),
    }
}

impl StateReader for StoreReader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        self.0.get(key).map_err(unavailable)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        self.0.scan(prefix, after, visit).map_err(unavailable)
    }
}
