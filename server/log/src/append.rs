//! Appending.

use std::io::IoSlice;
use std::iter::Peekable;
use std::vec;

use bytes::BytesMut;
use millstream_planted::planted;
use millstream_protocol::batch::{self, BatchError, BatchHeader};
use millstream_protocol::{LeaderEpoch, Offset, ProducerEpoch, TimestampMs};

use crate::cache::CachedBatch;
use crate::error::{AppendError, Attempt, StorageFailure};
use crate::format::entry::ENTRY_PREFIX_BYTES;
use crate::format::segment::Density;
use crate::log::Log;
use crate::producers::{StagedProducers, Verdict};

/// A batch to be appended, validated before.
#[derive(Debug)]
pub struct ProducedBatch {
    /// The whole batch. These very bytes are kept in memory for consumers at the log's tail, so
    /// they should not be a small part of a large buffer.
    pub bytes: BytesMut,
    /// Its header.
    pub header: BatchHeader,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is in the log, and durable once the flushed offset reaches `next_offset`.
    Appended {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset behind its last record.
        next_offset: Offset,
    },
    /// It was in the log before. It may not be durable yet: that, too, is so once the flushed
    /// offset reaches `next_offset`.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset behind its last record.
        next_offset: Offset,
    },
    /// It was not taken.
    Rejected(RejectReason),
}

/// Why a batch was not taken, while others may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// It does not follow the producer's last batch, and is none of the last ones either.
    #[error("sequence {got} does not follow, {expected} would")]
    OutOfOrder {
        /// The sequence that would follow.
        expected: u32,
        /// The batch's first sequence.
        got: u32,
    },
    /// A newer instance of the producer has written.
    #[error("producer epoch {got} was fenced by {current}")]
    Fenced {
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// The batch's epoch.
        got: ProducerEpoch,
    },
    /// The log does not know the producer, or no longer, and the batch is not its first.
    #[error("the producer is not known")]
    UnknownProducer,
    /// It is larger than the log takes.
    #[error("record batch of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// The batch's size, bytes.
        bytes: usize,
        /// What is allowed, bytes.
        limit: usize,
    },
}

/// Batches that are written together, to one segment.
#[derive(Debug, Default)]
struct Group {
    entries: Vec<StagedEntry>,
    /// One for each batch of the group, in order, the ones not written among them.
    outcomes: Vec<AppendOutcome>,
    /// What the entries take in the file.
    bytes: u64,
    /// Below, another log's compaction has taken something away; 0 if it has not.
    compacted_until: Offset,
}

#[derive(Debug)]
struct StagedEntry {
    prefix: [u8; ENTRY_PREFIX_BYTES],
    batch: BytesMut,
    header: BatchHeader,
}

impl StagedEntry {
    fn bytes(&self) -> usize {
        ENTRY_PREFIX_BYTES + self.batch.len()
    }

    fn cached(self) -> CachedBatch {
        CachedBatch {
            base_offset: self.header.base_offset,
            next_offset: self.header.next_offset(),
            bytes: self.batch.freeze(),
        }
    }
}

/// Who gives a batch its place.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// This log does: the next offset, and this epoch.
    Next(LeaderEpoch),
    /// Another log has, and it is in the batch.
    Given,
}

type Batches = Peekable<vec::IntoIter<ProducedBatch>>;

impl Log {
    /// Gives the batches their offsets and appends them with one write (one more per segment that
    /// is begun). Batches that idempotent producers have sent before are not appended again, ones
    /// that do not follow are refused.
    ///
    /// Each batch gets one of the `outcomes`, in order. What is appended is there for readers at
    /// once, as far as their high watermark allows, and durable when it is flushed.
    ///
    /// # Errors
    ///
    /// The batches that have no outcome (the last `batches.len() - outcomes.len()`) were not
    /// appended, and nothing of them remains. The others were.
    pub fn append(
        &mut self,
        batches: Vec<ProducedBatch>,
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
        outcomes: &mut Vec<AppendOutcome>,
    ) -> Result<(), AppendError> {
        self.begin_append()?;
        self.check_epoch(leader_epoch)?;
        let mut batches = batches.into_iter().peekable();
        self.append_groups(&mut batches, Place::Next(leader_epoch), now_ms, outcomes)
    }

    /// Appends batches as another log has them, at the offsets and epochs that they carry, and
    /// returns the log's new end. What their leader has judged is not judged again. Where offsets
    /// are missing between batches, the leader's log was compacted, whatever this one is now.
    ///
    /// # Errors
    ///
    /// A batch lies before the log's end, or its epoch before the last. Those before it may have been appended: see
    /// [`log_end_offset`](Self::log_end_offset).
    pub fn append_as_follower(
        &mut self,
        batches: Vec<ProducedBatch>,
        now_ms: TimestampMs,
    ) -> Result<Offset, AppendError> {
        self.begin_append()?;
        let mut batches = batches.into_iter().peekable();
        let mut outcomes = Vec::with_capacity(batches.len());
        let producers = planted!(ForgetProducers).then(|| self.producers.clone());
        self.append_groups(&mut batches, Place::Given, now_ms, &mut outcomes)?;
        if let Some(producers) = producers {
            self.producers = producers;
        }
        Ok(self.end_offset())
    }

    fn append_groups(
        &mut self,
        batches: &mut Batches,
        place: Place,
        now_ms: TimestampMs,
        outcomes: &mut Vec<AppendOutcome>,
    ) -> Result<(), AppendError> {
        while let Some(first) = batches.peek() {
            self.make_room(first, place, now_ms)?;
            let mut group = self.collect(batches, place)?;
            self.write(&mut group, now_ms)?;
            outcomes.append(&mut group.outcomes);
        }
        Ok(())
    }

    /// Whether appends are taken, and notes in the checkpoint that the log is in use.
    fn begin_append(&mut self) -> Result<(), AppendError> {
        if let Some(failure) = &self.poisoned {
            return Err(AppendError::Poisoned(failure.clone()));
        }
        if let Some(damage) = &self.damaged {
            return Err(AppendError::Damaged(damage.clone()));
        }
        self.note_use()
            .map_err(|failure| self.append_error(failure))
    }

    fn check_epoch(&self, got: LeaderEpoch) -> Result<(), AppendError> {
        match self.epochs.last() {
            Some(current) if got < current => Err(AppendError::StaleEpoch { current, got }),
            _ => Ok(()),
        }
    }

    /// Begins a new segment if `first` does not fit into the active one, or that one is too old.
    fn make_room(
        &mut self,
        first: &ProducedBatch,
        place: Place,
        now_ms: TimestampMs,
    ) -> Result<(), AppendError> {
        let active = self.active();
        let extent = active.extent();
        let entry_bytes = (ENTRY_PREFIX_BYTES + first.bytes.len()) as u64;
        let too_large = extent.bytes + entry_bytes > self.config.segment_bytes;
        let too_old = self.active_since_ms.is_some_and(|since_ms| {
            let age_ms = u64::try_from(now_ms.saturating_sub(since_ms));
            age_ms.is_ok_and(|age_ms| age_ms >= self.config.segment_ms)
        });
        let gap = matches!(place, Place::Given) && first.header.base_offset > extent.end_offset;
        let density = match gap {
            true => Density::Sparse,
            false => Density::of(self.config.cleanup),
        };
        let takes_it = active.header.density == Density::Sparse || !gap;
        if !takes_it || (!active.is_empty() && (too_large || too_old)) {
            self.roll(density, now_ms)
                .map_err(|failure| self.append_error(failure))?;
        }
        Ok(())
    }

    /// Takes batches off the front, one at least and as many as fit into the active segment.
    fn collect(&self, batches: &mut Batches, place: Place) -> Result<Group, AppendError> {
        let active = self.active();
        let density = active.header.density;
        let extent = active.extent();
        let mut end_offset = extent.end_offset;
        let mut epoch = self.epochs.last();
        let mut group = Group::default();
        let mut producers = StagedProducers::new(&self.producers);
        while let Some(next) = batches.peek() {
            let entry_bytes = (ENTRY_PREFIX_BYTES + next.bytes.len()) as u64;
            let fits = extent.bytes + group.bytes + entry_bytes <= self.config.segment_bytes;
            if !fits && !group.outcomes.is_empty() {
                break;
            }
            let gap = matches!(place, Place::Given) && next.header.base_offset > end_offset;
            if gap && density == Density::Dense && !group.outcomes.is_empty() {
                break;
            }
            let Some(mut batch) = batches.next() else {
                break;
            };
            check_length(&batch)?;
            match place {
                Place::Next(leader_epoch) => {
                    match self.judge(&mut producers, &batch.header, end_offset) {
                        Ok(()) => give_place(&mut batch, end_offset, leader_epoch)?,
                        Err(outcome) => {
                            group.outcomes.push(outcome);
                            continue;
                        }
                    }
                }
                Place::Given => {
                    check_place(&batch.header, end_offset, epoch, density)?;
                    if batch.header.base_offset > end_offset || batch.header.is_compacted() {
                        group.compacted_until = batch.header.next_offset();
                    }
                }
            }
            end_offset = batch.header.next_offset();
            epoch = Some(batch.header.leader_epoch);
            group.outcomes.push(AppendOutcome::Appended {
                base_offset: batch.header.base_offset,
                next_offset: end_offset,
            });
            group.bytes += entry_bytes;
            group.entries.push(StagedEntry {
                prefix: self
                    .shared
                    .binding
                    .prefix(self.flushed_offset, &batch.bytes),
                batch: batch.bytes,
                header: batch.header,
            });
        }
        Ok(group)
    }

    /// `Err` with the outcome of a batch that is not to be written.
    fn judge(
        &self,
        producers: &mut StagedProducers<'_>,
        header: &BatchHeader,
        base_offset: Offset,
    ) -> Result<(), AppendOutcome> {
        let limit = self.config.max_batch_bytes;
        if header.batch_bytes > limit {
            return Err(AppendOutcome::Rejected(RejectReason::TooLarge {
                bytes: header.batch_bytes,
                limit,
            }));
        }
        match producers.stage(header, base_offset) {
            Verdict::New => Ok(()),
            Verdict::Duplicate {
                base_offset,
                next_offset,
            } => Err(AppendOutcome::Duplicate {
                base_offset,
                next_offset,
            }),
            Verdict::Rejected(reason) => Err(AppendOutcome::Rejected(reason)),
        }
    }

    /// Writes a group to the active segment, and only then counts it.
    fn write(&mut self, group: &mut Group, now_ms: TimestampMs) -> Result<(), AppendError> {
        if group.entries.is_empty() {
            return Ok(());
        }
        let files = &self.shared.files;
        if self.config.leaves_room && files.storage.is_scarce(&files.dir) {
            return Err(AppendError::StorageFull);
        }
        let active = self.active();
        let path = active.path();
        let file = active
            .file()
            .map_err(|failure| AppendError::Poisoned(self.poison(failure)))?;
        let position = active.extent().bytes;
        let mut slices: Vec<_> = group
            .entries
            .iter()
            .flat_map(|entry| [IoSlice::new(&entry.prefix), IoSlice::new(&entry.batch)])
            .collect();
        self.unflushed.note(path, &file);
        let written = file.write_vectored_at(&mut slices, position);
        if let Err(failure) = written.attempt("write", path) {
            return Err(self.undo_write(failure, position));
        }
        if active.is_empty() {
            self.active_since_ms = Some(now_ms);
        }
        let entries = std::mem::take(&mut group.entries);
        let written: Vec<_> = entries
            .iter()
            .map(|entry| (entry.header, entry.bytes()))
            .collect();
        for (header, _) in &written {
            self.producers.note(header, self.config.max_producers);
            self.epochs.note(header.leader_epoch, header.base_offset);
        }
        self.thinned_until = self.thinned_until.max(group.compacted_until);
        // First into the cache: whoever sees them finds them there.
        let cached = entries.into_iter().map(StagedEntry::cached);
        let max_bytes = self.config.tail_cache_bytes;
        self.shared.cache.push(cached, max_bytes);
        active.grow(written.iter().map(|(header, bytes)| (header, *bytes)));
        self.bytes_since_checkpoint += group.bytes;
        if self.bytes_since_checkpoint >= self.config.checkpoint_bytes {
            self.unflushed.checkpoint = true;
        }
        Ok(())
    }

    /// Takes back what a failed write may have left. On a full disk that is all; durably, so that
    /// no part of it can follow what is written there next.
    fn undo_write(&mut self, failure: StorageFailure, position: u64) -> AppendError {
        if !failure.is_full() {
            return AppendError::Poisoned(self.poison(failure));
        }
        let active = self.active();
        let path = active.path();
        let undone = active.file().and_then(|file| {
            file.set_length(position).attempt("cut", path)?;
            file.sync_data().attempt("sync", path)
        });
        match undone {
            Ok(()) => AppendError::StorageFull,
            Err(failure) => AppendError::Poisoned(self.poison(failure)),
        }
    }

    fn append_error(&mut self, failure: StorageFailure) -> AppendError {
        if failure.is_full() {
            AppendError::StorageFull
        } else {
            AppendError::Poisoned(self.poison(failure))
        }
    }
}

fn check_length(batch: &ProducedBatch) -> Result<(), BatchError> {
    if batch.header.batch_bytes == batch.bytes.len() {
        return Ok(());
    }
    Err(BatchError::Length {
        expected: batch.header.batch_bytes,
        actual: batch.bytes.len(),
    })
}

fn give_place(
    batch: &mut ProducedBatch,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    batch::assign(&mut batch.bytes, base_offset, leader_epoch)?;
    batch.header.base_offset = base_offset;
    batch.header.leader_epoch = leader_epoch;
    Ok(())
}

fn check_place(
    header: &BatchHeader,
    expected: Offset,
    epoch: Option<LeaderEpoch>,
    density: Density,
) -> Result<(), AppendError> {
    let got = header.base_offset;
    let follows = match density {
        Density::Dense => got == expected,
        Density::Sparse => got >= expected,
    };
    if !follows {
        return Err(AppendError::NotContiguous { expected, got });
    }
    match epoch {
        Some(current) if header.leader_epoch < current => Err(AppendError::StaleEpoch {
            current,
            got: header.leader_epoch,
        }),
        _ => Ok(()),
    }
}
