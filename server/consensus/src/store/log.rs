//! The raft log: a log of our own, and the little state beside it.
//!
//! Each entry is a batch with one record, whose value is the encoded entry:
//!
//! ```text
//! 1 byte   the format version
//! postcard the entry: term and node of the leader that made it, index, payload
//! ```
//!
//! An offset of the log is never used twice, but raft's indexes jump where a snapshot takes the place
//! of entries, and may begin again below where they were. So the state holds an [`Origin`]: one offset
//! and the index that stands there. What lies below that offset is no entry any more. A jump is
//! one durable change of the state, and nothing is left half done by a crash.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_log::{AppendOutcome, Log, LogReader, ProducedBatch};
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, RecordBatch};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_FETCH_BYTES};
use millstream_protocol::{LeaderEpoch, Offset, TimestampMs};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;

use super::state_file::{Copies, Durable, Origin, StateFile};
use crate::codec;
use crate::error::StorageFailed;
use crate::limits::{MAX_APPEND_BYTES, MAX_ENTRY_BYTES};
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// Entries carry their own term, and follow each other as raft says.
const NO_EPOCH: LeaderEpoch = 0;

/// The log and what is durable beside it. Clones are handles to the same one; every call waits for
/// the disk on a thread for that.
#[derive(Clone, Debug)]
pub(crate) struct RaftLog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub(crate) struct State {
    file: StateFile,
    /// What the file holds.
    durable: Durable,
    log: Log,
    reader: LogReader,
    dir: PathBuf,
    clock: fn() -> TimestampMs,
    /// The last entry that is there.
    last: Option<LogId>,
    /// Nothing is done after a failure.
    failed: Option<StorageFailed>,
}

impl State {
    /// Takes up what is there.
    pub(crate) fn load(
        (file, durable): (StateFile, Durable),
        log: Log,
        dir: PathBuf,
        clock: fn() -> TimestampMs,
    ) -> Result<Self, StorageFailed> {
        let mut state = Self {
            reader: log.reader(),
            file,
            durable,
            log,
            dir,
            clock,
            last: None,
            failed: None,
        };
        let (end, begin) = (state.log.log_end_offset(), durable.origin.offset);
        if end < begin {
            let reason = format!("it ends at offset {end}, and has reached {begin}");
            return Err(state.fail("read", reason));
        }
        state.last = state.find_last()?;
        Ok(state)
    }

    pub(crate) fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The last entry, or the last that was dropped if there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.last.or(self.durable.purged)
    }

    fn fail(&self, doing: &'static str, reason: impl ToString) -> StorageFailed {
        StorageFailed::new(doing, &self.dir, reason)
    }

    /// The first index that may be there.
    fn first_index(&self) -> u64 {
        let purged = self.durable.purged;
        let behind = purged.map_or(0, |purged| purged.index + 1);
        behind.max(self.durable.origin.index)
    }

    /// The index of the next entry.
    fn end_index(&self) -> u64 {
        let Origin { offset, index } = self.durable.origin;
        index + (self.log.log_end_offset() - offset)
    }

    /// Where the entry of an index stands, which is not below the origin's.
    fn offset_of(&self, index: u64) -> Offset {
        let origin = self.durable.origin;
        origin.offset + index.saturating_sub(origin.index)
    }

    fn find_last(&self) -> Result<Option<LogId>, StorageFailed> {
        let (first, end) = (self.first_index(), self.end_index());
        if end <= first {
            return Ok(None);
        }
        let entries = self.read(end - 1, end, MAX_FETCH_BYTES)?;
        Ok(entries.last().map(|entry| entry.log_id))
    }

    /// The entries from `start` to `end` (exclusive) that are there; not all of them, and at least
    /// one, if they have more than `max_bytes` together.
    fn read(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, StorageFailed> {
        let (start, end) = (start.max(self.first_index()), end.min(self.end_index()));
        let mut entries: Vec<Entry> = Vec::new();
        let mut room = max_bytes;
        let mut index = start;
        while index < end && (entries.is_empty() || room > 0) {
            let (offset, up_to) = (self.offset_of(index), self.offset_of(end));
            let read = self.reader.read(offset, up_to, room);
            let read = read.map_err(|error| self.fail("read", error))?;
            for batch in &read.batches {
                let entry = decode(batch.clone()).map_err(|reason| self.fail("read", reason))?;
                if entry.log_id.index != index {
                    let found = entry.log_id.index;
                    return Err(self.fail("read", format!("entry {found} stands at {index}")));
                }
                index += 1;
                entries.push(entry);
            }
            if read.batches.is_empty() {
                return Err(self.fail("read", format!("entry {index} is missing")));
            }
            room = room.saturating_sub(read.bytes);
        }
        Ok(entries)
    }

    /// Appends entries, and makes them durable.
    fn append(&mut self, entries: &[Entry]) -> Result<(), StorageFailed> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let (index, end) = (first.log_id.index, self.end_index());
        if index != end {
            if self.first_index() < end {
                let reason = format!("entry {index} does not follow {end}, the next");
                return Err(self.fail("append to", reason));
            }
            self.begin_at(index, None)?;
        }
        let now_ms = (self.clock)();
        let batches: Result<Vec<_>, String> =
            entries.iter().map(|entry| encode(entry, now_ms)).collect();
        let batches = batches.map_err(|reason| self.fail("append to", reason))?;
        let mut outcomes = Vec::with_capacity(entries.len());
        let appended = self.log.append(batches, NO_EPOCH, now_ms, &mut outcomes);
        appended.map_err(|error| self.fail("append to", error))?;
        if let Some(other) = outcomes
            .iter()
            .find(|outcome| !matches!(outcome, AppendOutcome::Appended { .. }))
        {
            return Err(self.fail("append to", format!("{other:?}")));
        }
        self.flush()?;
        self.last = Some(last.log_id);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageFailed> {
        let Some(ticket) = self.log.flush_ticket() else {
            return Ok(());
        };
        let flushed = self.log.flushed(ticket.run());
        flushed
            .map(|_| ())
            .map_err(|failure| self.fail("flush", failure))
    }

    /// Forgets all entries: the next one has `index`. What was dropped last may change with it.
    fn begin_at(&mut self, index: u64, purged: Option<LogId>) -> Result<(), StorageFailed> {
        let origin = Origin {
            offset: self.log.log_end_offset(),
            index,
        };
        let purged = purged.or(self.durable.purged);
        self.save(Copies::Two, |durable| {
            (durable.origin, durable.purged) = (origin, purged);
        })?;
        self.last = None;
        self.free()
    }

    /// Drops the entries from `since` on. Durable when it returns.
    fn truncate(&mut self, since: LogId) -> Result<(), StorageFailed> {
        if since.index < self.first_index() {
            let reason = format!("entry {} is not there any more", since.index);
            return Err(self.fail("truncate", reason));
        }
        let to = self.offset_of(since.index);
        if to >= self.log.log_end_offset() {
            return Ok(());
        }
        let cut = self.log.truncate(to);
        match cut.map_err(|error| self.fail("truncate", error))? {
            end if end == to => {}
            end => return Err(self.fail("truncate", format!("it ends at {end}, not at {to}"))),
        }
        self.last = self.find_last()?;
        Ok(())
    }

    /// Drops the entries up to `upto`, inclusive. If that is newer than all that is there, the rest
    /// is no part of what led to it, and goes as well.
    fn purge(&mut self, upto: LogId) -> Result<(), StorageFailed> {
        if self.durable.purged >= Some(upto) {
            return Ok(());
        }
        if self.last <= Some(upto) || self.end_index() <= upto.index {
            return self.begin_at(upto.index + 1, Some(upto));
        }
        self.save(Copies::Two, |durable| durable.purged = Some(upto))?;
        self.free()
    }

    /// Gives back the space of what was dropped. A crash before it only costs the space, until the
    /// next time.
    fn free(&mut self) -> Result<(), StorageFailed> {
        let before = self.offset_of(self.first_index());
        let before = before.min(self.log.log_end_offset());
        let freed = self.log.delete_records(before);
        freed.map(|_| ()).map_err(|error| self.fail("free", error))
    }

    fn save_vote(&mut self, vote: Vote) -> Result<(), StorageFailed> {
        self.save(Copies::Two, |durable| durable.vote = Some(vote))
    }

    fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageFailed> {
        if committed <= self.durable.committed {
            return Ok(());
        }
        self.save(Copies::One, |durable| durable.committed = committed)
    }

    /// Changes what is durable beside the log.
    fn save(
        &mut self,
        copies: Copies,
        change: impl FnOnce(&mut Durable),
    ) -> Result<(), StorageFailed> {
        let mut durable = self.durable;
        change(&mut durable);
        self.file.write(&durable, copies)?;
        self.durable = durable;
        Ok(())
    }
}

impl RaftLog {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Does something on a thread that may wait for the disk. Nothing is done after a failure.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StorageFailed> + Send + 'static,
    ) -> Result<T, StorageFailed> {
        let state = Arc::clone(&self.state);
        let done = millstream_offload::run(move || {
            let mut state = state.lock();
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            let done = work(&mut state);
            if let Err(failed) = &done {
                state.failed = Some(failed.clone());
            }
            done
        });
        match done.await {
            Ok(done) => done,
            Err(error) => Err(StorageFailed::new("use", "the log".as_ref(), error)),
        }
    }
}

impl RaftLogReader<TypeConfig> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.run(move |state| state.read(start, end, usize::MAX))
            .await
            .map_err(reading)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let reading_on = move |state: &mut State| {
            // A follower gets what follows, and nothing rather than what comes later.
            if start < state.first_index() {
                return Ok(Vec::new());
            }
            state.read(start, end, MAX_APPEND_BYTES)
        };
        self.run(reading_on).await.map_err(reading)
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.state.lock();
        Ok(LogState {
            last_purged_log_id: state.durable.purged,
            last_log_id: state.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.run(move |state| state.save_vote(vote))
            .await
            .map_err(writing)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state.lock().durable.vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.run(move |state| state.save_committed(committed))
            .await
            .map_err(writing)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.state.lock().durable.committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let appended = self.run(move |state| state.append(&entries)).await;
        let told = appended.clone().map_err(io::Error::other);
        callback.log_io_completed(told);
        appended.map_err(writing)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.run(move |state| state.truncate(log_id))
            .await
            .map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.run(move |state| state.purge(log_id))
            .await
            .map_err(writing)
    }
}

pub(crate) fn reading(failed: StorageFailed) -> StorageError {
    StorageIOError::read(AnyError::new(&failed)).into()
}

pub(crate) fn writing(failed: StorageFailed) -> StorageError {
    StorageIOError::write(AnyError::new(&failed)).into()
}

fn encode(entry: &Entry, now_ms: TimestampMs) -> Result<ProducedBatch, String> {
    let value = codec::encode(entry, MAX_ENTRY_BYTES).map_err(|error| error.to_string())?;
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    let added = builder.append(now_ms, None, Some(&value), &[]);
    added.map_err(|error| error.to_string())?;
    let bytes = builder.finish(None).map_err(|error| error.to_string())?;
    let header = BatchHeader::parse(&bytes).map_err(|error| error.to_string())?;
    Ok(ProducedBatch {
        bytes: BytesMut::from(bytes),
        header,
    })
}

fn decode(batch: Bytes) -> Result<Entry, String> {
    let records = RecordBatch::parse(batch)
        .and_then(|batch| batch.records())
        .map_err(|error| error.to_string())?;
    let record = records.iter().next();
    let record = record.ok_or_else(|| "a batch is empty".to_owned())?;
    let record = record.map_err(|error| error.to_string())?;
    let value = record.value.unwrap_or_default();
    codec::decode(value, MAX_ENTRY_BYTES).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use millstream_log::storage::MemoryStorage;
    use millstream_metadata::limits::MAX_RECORD_BYTES;
    use openraft::raft::AppendEntriesRequest;
    use openraft::storage::RaftLogStorageExt;
    use openraft::{CommittedLeaderId, EmptyNode, EntryPayload, Membership};
    use uuid::Uuid;

    use super::super::open;
    use super::*;
    use crate::Config;
    use crate::rpc::{Body, Request};
    use crate::types::Proposal;

    fn check(payload: EntryPayload<TypeConfig>, expected: &[u8]) {
        let log_id = LogId::new(CommittedLeaderId::new(2, 7), 300);
        let entry = Entry { log_id, payload };
        let bytes = codec::encode(&entry, MAX_ENTRY_BYTES).expect("an entry");
        assert_eq!(bytes, expected);
        let batch = encode(&entry, 1).expect("a batch");
        assert_eq!(decode(batch.bytes.freeze()), Ok(entry));
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        check(EntryPayload::Blank, &[1, 2, 7, 172, 2, 0]);
        let proposal = Proposal {
            revision: 299,
            record: Bytes::from_static(&[1, 9]),
        };
        check(
            EntryPayload::Normal(proposal),
            &[1, 2, 7, 172, 2, 1, 171, 2, 2, 1, 9],
        );
        let nodes = BTreeMap::from([1, 2, 3].map(|node_id| (node_id, EmptyNode::default())));
        let joint = vec![BTreeSet::from([1]), BTreeSet::from([1, 2])];
        check(
            EntryPayload::Membership(Membership::new(joint, nodes)),
            &[1, 2, 7, 172, 2, 2, 2, 1, 1, 2, 1, 2, 3, 1, 2, 3],
        );
    }

    /// What one message carries has room in it, whatever the entries are.
    #[tokio::test]
    async fn entries_are_read_in_bounded_pieces() {
        let storage = Arc::new(MemoryStorage::new());
        let config = Config::new(Uuid::from_u128(1), 1, storage, "/node", 1);
        let mut log = open(&config).expect("a directory").log;
        let sizes = [
            400_000,
            400_000,
            400_000,
            MAX_RECORD_BYTES,
            1,
            MAX_RECORD_BYTES,
        ];
        let entries = (0..).zip(sizes).map(|(index, bytes)| Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Proposal {
                revision: 0,
                record: vec![7; bytes].into(),
            }),
        });
        let entries: Vec<_> = entries.collect();
        log.blocking_append(entries.clone())
            .await
            .expect("an append");
        let mut start = 0;
        while start < 6 {
            let read = log.limited_get_log_entries(start, 6).await;
            let read = read.expect("entries");
            let end = start + read.len() as u64;
            assert_eq!(read, entries[start as usize..end as usize]);
            let request = AppendEntriesRequest {
                vote: Vote::new_committed(1, 1),
                prev_log_id: None,
                entries: read,
                leader_commit: None,
            };
            let request = Request {
                cluster_id: config.cluster_id,
                body: Body::Append(request),
            };
            assert!(request.encode().is_ok());
            start = end;
        }
        log.purge(entries[2].log_id).await.expect("a border");
        for (start, found) in [(0, 0), (2, 0), (3, 1)] {
            let read = log.limited_get_log_entries(start, 4).await;
            assert_eq!(read.expect("entries").len(), found, "from {start}");
        }
    }
}
