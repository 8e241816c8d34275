//! One partition of a table: read back from its file and the rest of the log, and kept in step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{LeaderEpoch, Offset, WireError};
use millstream_runtime::MAX_TABLE_KEY_BYTES;
use millstream_state::{Checkpoint, Growth, StandsFor, StateError, States, Store};
use tokio::sync::watch;

use crate::config::{STATE_FLUSH_AGE, STATE_FLUSH_JOURNAL_BYTES};
use crate::errors;
use crate::workers::tables::source::{Source, SourceReader};

/// What one step reads, bytes, unless a single batch is larger.
const STEP_BYTES: u32 = 1 << 20;

/// One partition of a table.
pub(super) struct Part {
    pub(super) partition: Source,
    pub(super) store: Arc<Store>,
    /// Where the log began when it was opened.
    start_offset: Offset,
    /// Deletions below may have been compacted away by then.
    gone_until: Offset,
    next_offset: AtomicU64,
    /// Of the last batch that is in it.
    leader_epoch: AtomicU32,
    counts: Counts,
}

/// Records since it was opened.
#[derive(Default)]
struct Counts {
    read: AtomicU64,
    ignored: AtomicU64,
}

impl Counts {
    /// The key of a record that is in the table.
    fn key<'a>(&self, key: Option<&'a [u8]>) -> Option<&'a [u8]> {
        self.read.fetch_add(1, Ordering::Relaxed);
        let findable = key.filter(|key| key.len() <= MAX_TABLE_KEY_BYTES);
        if findable.is_none() {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
        findable
    }
}

/// Why a part is not kept in step any more.
#[derive(Debug)]
pub(super) enum Lost {
    /// It was told to stop.
    Stopped,
    /// The table may take more than it may.
    TooLarge,
    /// What it has may not be what the log has: it is to be read anew.
    Outdated,
    Failed(WireError),
}

impl From<WireError> for Lost {
    fn from(error: WireError) -> Self {
        Self::Failed(error)
    }
}

fn store_failed(error: StateError) -> Lost {
    Lost::Failed(errors::from_state(&error))
}

/// What a store stands for: all records of the log below an offset, of those that it has from
/// `start_offset` on. Where somebody has deleted the oldest ones, what was made of them must go as well.
fn stands_for(next_offset: Offset, start_offset: Offset) -> StandsFor {
    StandsFor {
        journal_offset: next_offset,
        input_offset: start_offset,
    }
}

/// Beside the offset it says in which leader epoch the last batch was appended: a log that has lost its end,
/// with the machine, gives offsets a second time, and never in the same epoch.
fn checkpoint(stands_for: StandsFor, leader_epoch: LeaderEpoch) -> Checkpoint {
    Checkpoint {
        stands_for,
        replay_from: stands_for.journal_offset,
        records: vec![(LEADER_EPOCH.to_vec(), leader_epoch.to_be_bytes().to_vec())],
    }
}

/// Whether the log still has the last batch that a file holds. One that was compacted away since had not
/// been lost. Blocks on the disk.
fn has_last_batch(partition: &Source, known: &Checkpoint) -> Result<bool, Lost> {
    let next_offset = known.stands_for.journal_offset;
    if next_offset <= partition.visible().log_start_offset {
        return Ok(true);
    }
    let last = next_offset - 1;
    let read = partition.reader().read_blocking(last, 1)?;
    let Some(bytes) = read.batches.into_iter().next() else {
        return Ok(true);
    };
    let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
    let header = batch.header();
    let epoch = header.leader_epoch.to_be_bytes();
    let same = known.records.iter().any(|(_, known)| known[..] == epoch);
    Ok(same || header.base_offset > last)
}

/// Its key in a file.
const LEADER_EPOCH: &[u8] = b"leader-epoch";

impl Part {
    /// Reads a partition back: from the file as far as that goes, behind it from the log. Blocks on the
    /// disk.
    pub(super) fn load(
        states: &Arc<States>,
        partition: Source,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Self, Lost> {
        let id = partition.id();
        // What all parts take together is bounded elsewhere.
        let limit_bytes = u64::MAX;
        let extent = partition.extent()?;
        let mut gone_until = extent.tombstones_gone_until;
        let opened = states.open(id, extent, limit_bytes);
        let mut loading = opened.map_err(store_failed)?;
        loop {
            let start_offset = partition.visible().log_start_offset;
            let of_this_log = match loading.checkpoint() {
                Some(known) => {
                    known.stands_for.input_offset == start_offset
                        && has_last_batch(&partition, known)?
                }
                None => true,
            };
            if !of_this_log {
                loading = states.rebuild(id, limit_bytes).map_err(store_failed)?;
            }
            let known = loading.checkpoint().map(|known| known.stands_for);
            let from = known
                .map_or(0, |known| known.journal_offset)
                .max(start_offset);
            let mut leader_epoch = match loading.checkpoint() {
                Some(known) => epoch_of(known),
                None => 0,
            };
            let counts = Counts::default();
            let (reader, mut next_offset) = (partition.reader(), from);
            let mut missed = false;
            while !missed && next_offset < partition.visible().high_watermark {
                if *stopped.borrow() {
                    return Err(Lost::Stopped);
                }
                let set = |offset, key: &[u8], value: Option<&[u8]>| {
                    loading.set(offset, key, value).map_err(store_failed)
                };
                let step = read(&partition, &reader, next_offset, &counts, set)?;
                missed = has_missed(&partition, &mut gone_until, next_offset);
                next_offset = step.next_offset;
                leader_epoch = step.leader_epoch.unwrap_or(leader_epoch);
            }
            if missed {
                loading = states.rebuild(id, limit_bytes).map_err(store_failed)?;
                continue;
            }
            tracing::info!(
                partition = partition.name(),
                from,
                to = next_offset,
                "a table was read back"
            );
            let stands_for = stands_for(next_offset, start_offset);
            let store = loading.finish(stands_for, || checkpoint(stands_for, leader_epoch));
            return Ok(Self {
                partition,
                store: Arc::new(store.map_err(store_failed)?),
                start_offset,
                gone_until,
                next_offset: AtomicU64::new(next_offset),
                leader_epoch: AtomicU32::new(leader_epoch),
                counts,
            });
        }
    }

    /// The first offset that is not in it.
    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(super) fn lag(&self) -> u64 {
        let visible = self.partition.visible();
        visible.high_watermark.saturating_sub(self.next_offset())
    }

    pub(super) fn records_read(&self) -> u64 {
        self.counts.read.load(Ordering::Relaxed)
    }

    pub(super) fn records_ignored(&self) -> u64 {
        self.counts.ignored.load(Ordering::Relaxed)
    }

    /// Writes what is in memory to the file. Blocks on the disk.
    pub(super) fn flush(&self) -> Result<(), StateError> {
        let stands_for = stands_for(self.next_offset(), self.start_offset);
        let checkpoint = checkpoint(stands_for, self.leader_epoch.load(Ordering::Acquire));
        match self.store.begin_flush(checkpoint) {
            Some(flush) => flush.run(),
            // One before has failed.
            None => Ok(()),
        }
    }
}

/// Whether deletions behind `from` may have been compacted away before they were read.
fn has_missed(partition: &Source, gone_until: &mut Offset, from: Offset) -> bool {
    let now_gone_until = partition.gone_until();
    let missed = now_gone_until > *gone_until && now_gone_until > from;
    *gone_until = now_gone_until;
    missed
}

fn epoch_of(known: &Checkpoint) -> LeaderEpoch {
    let mut records = known.records.iter();
    let epoch = records.find_map(|(_, epoch)| epoch.as_slice().try_into().ok());
    epoch.map_or(0, LeaderEpoch::from_be_bytes)
}

/// What was read.
struct Step {
    /// The offset behind it.
    next_offset: Offset,
    /// Of the last batch, if there is one.
    leader_epoch: Option<LeaderEpoch>,
}

/// Reads records from an offset on, as many as one step takes.
fn read(
    partition: &Source,
    reader: &SourceReader,
    from: Offset,
    counts: &Counts,
    mut set: impl FnMut(Offset, &[u8], Option<&[u8]>) -> Result<(), Lost>,
) -> Result<Step, Lost> {
    let mut leader_epoch = None;
    let up_to = partition.visible().high_watermark;
    let read = reader.read_blocking(from, STEP_BYTES)?;
    for bytes in read.batches {
        let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
        leader_epoch = Some(batch.header().leader_epoch);
        if batch.header().control {
            continue;
        }
        let records = batch.records().map_err(errors::from_batch)?;
        for record in records.iter() {
            let record = record.map_err(errors::from_batch)?;
            if record.offset < from {
                continue;
            }
            if let Some(key) = counts.key(record.key) {
                set(record.offset, key, record.value)?;
            }
        }
    }
    // Where there is nothing more, compaction has taken it.
    let next_offset = if read.next_offset > from {
        read.next_offset
    } else {
        up_to
    };
    Ok(Step {
        next_offset,
        leader_epoch,
    })
}

/// Keeps a part in step with its log.
pub(super) struct Keeper {
    part: Arc<Part>,
    reader: SourceReader,
    gone_until: Offset,
    flushed_at: Instant,
    /// Read since.
    unflushed_bytes: u64,
}

impl Keeper {
    pub(super) fn new(part: Arc<Part>) -> Self {
        Self {
            reader: part.partition.reader(),
            gone_until: part.gone_until,
            flushed_at: Instant::now(),
            unflushed_bytes: 0,
            part,
        }
    }

    pub(super) fn part(&self) -> &Part {
        &self.part
    }

    /// Whether there is something to be done.
    pub(super) fn is_behind(&self) -> bool {
        let visible = self.part.partition.visible();
        visible.closed.is_some()
            || visible.high_watermark > self.part.next_offset()
            || visible.log_start_offset != self.part.start_offset
            || self.is_flush_due()
    }

    fn is_flush_due(&self) -> bool {
        let store = &self.part.store;
        let old = store.is_behind() && self.flushed_at.elapsed() >= STATE_FLUSH_AGE;
        store.wants_flush() || self.unflushed_bytes >= STATE_FLUSH_JOURNAL_BYTES || old
    }

    /// Takes over what one read gives, and writes to the file when it is time. Blocks on the disk.
    pub(super) fn step(&mut self) -> Result<(), Lost> {
        let partition = &self.part.partition;
        let visible = partition.visible();
        if visible.closed.is_some() {
            return Err(errors::partition_gone(partition.id()).into());
        }
        if visible.log_start_offset != self.part.start_offset {
            return Err(Lost::Outdated);
        }
        let from = self.part.next_offset();
        if from < visible.high_watermark {
            let mut changes = Vec::new();
            let mut bytes = 0;
            let step = read(
                partition,
                &self.reader,
                from,
                &self.part.counts,
                |_, key, value| {
                    bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
                    changes.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                    Ok(())
                },
            )?;
            if has_missed(partition, &mut self.gone_until, from) {
                return Err(Lost::Outdated);
            }
            let stands_for = stands_for(step.next_offset, self.part.start_offset);
            self.part.store.apply(changes, Growth::AtMost, stands_for);
            if let Some(leader_epoch) = step.leader_epoch {
                self.part
                    .leader_epoch
                    .store(leader_epoch, Ordering::Release);
            }
            self.part
                .next_offset
                .store(step.next_offset, Ordering::Release);
            self.unflushed_bytes += bytes;
        }
        if self.is_flush_due() {
            self.part.flush().map_err(store_failed)?;
            (self.flushed_at, self.unflushed_bytes) = (Instant::now(), 0);
        }
        Ok(())
    }
}
