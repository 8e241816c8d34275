//! Compaction: of all records with the same key, only the latest stays.
//!
//! Offsets stay, batches keep their headers, and the active segment is never touched. The work
//! goes in rounds. A round collects the keys of what was not compacted yet, each with its latest
//! offset, as far as memory for them goes; then it rewrites the sealed segments without the
//! records that a later one supersedes, small segments together into one, beside the old files,
//! on any thread. The log puts the new files in place in one short step ([`Log::install_compaction`]).
//!
//! Keys are compared whole, not by a hash: two keys that collide would cost one of them its data.
//!
//! A record without a value is a tombstone: it supersedes what came before it, and goes itself when
//! [`tombstone_retention_ms`](crate::LogConfig::tombstone_retention_ms) have passed since a round
//! first met it. Each compacted segment carries that time for its tombstones, so segments that
//! hold tombstones of different rounds are not put together. A tombstone goes only in a later round
//! than the one that removed what it supersedes, so that an interrupted round brings nothing back.
//!
//! A batch of which no record is left goes, unless something has to be known of it: then its header
//! stays. So a replica that copies what is left learns the same of epochs and producers as one that
//! has seen it all, and can be cut where they can. That is the batch with which an epoch begins; the
//! last batches of a producer, by which it is recognised; and the batch before a control batch and
//! before the end of a segment, where logs may part.
//!
//! What is not understood is kept: records without a key, control batches, and batches whose
//! records cannot be decompressed.

mod keys;
mod output;
mod rewrite;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_protocol::{Offset, TimestampMs};

use crate::config::{Cleanup, LogConfig};
use crate::damage::Damage;
use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::names;
use crate::limits::COMPACTION_DIRTY_PERCENT;
use crate::log::Log;
use crate::reader::ReadError;
use crate::segment::Segment;
use crate::start;
use crate::view::{Shared, View};
use keys::LatestKeys;
use rewrite::{Rewrite, Rewritten};

/// What a round of compaction would work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPlan {
    /// Where what was not compacted yet begins.
    pub dirty_from: Offset,
    /// Where the last segment that may be compacted ends, exclusive.
    pub up_to: Offset,
}

/// What an installed round has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// `false` when the log was cut or deleted from meanwhile, so that the round was thrown away.
    pub installed: bool,
    /// Below this offset, every key now has one record at most.
    pub compacted_until: Offset,
    /// Records that were dropped.
    pub records_dropped: u64,
    /// What the segments that were rewritten took before, bytes.
    pub bytes_before: u64,
    /// What they take now, bytes.
    pub bytes_after: u64,
}

/// Why a round failed. The log is as before.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompactionError {
    /// The disk is full.
    #[error("the disk is full")]
    StorageFull,
    /// A segment does not hold what was written.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The storage failed. If that was while the round was installed, the log is poisoned.
    #[error(transparent)]
    Storage(StorageFailure),
}

impl From<StorageFailure> for CompactionError {
    fn from(failure: StorageFailure) -> Self {
        if failure.is_full() {
            Self::StorageFull
        } else {
            Self::Storage(failure)
        }
    }
}

/// When tombstones go.
#[derive(Clone, Copy, Debug)]
struct TombstoneRule {
    now_ms: TimestampMs,
    retention_ms: u64,
    /// Above, what a tombstone supersedes may still be there.
    compacted_until: Offset,
}

impl TombstoneRule {
    fn is_expired(&self, since_ms: TimestampMs) -> bool {
        let age_ms = u64::try_from(self.now_ms.saturating_sub(since_ms)).unwrap_or(0);
        age_ms >= self.retention_ms
    }
}

/// What a plan needs to know of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SegmentFacts {
    end_offset: Offset,
    bytes: u64,
    tombstones_since_ms: Option<TimestampMs>,
}

/// Decides whether a round is worth it. `segments` are the sealed ones, oldest first.
fn plan(
    segments: &[SegmentFacts],
    start: Offset,
    ready: Offset,
    rule: &TombstoneRule,
) -> Option<CompactionPlan> {
    let count = segments.partition_point(|segment| segment.end_offset <= ready);
    let segments = segments.get(..count)?;
    let up_to = segments.last()?.end_offset;
    let bytes = |segments: &[SegmentFacts]| segments.iter().map(|s| s.bytes).sum::<u64>();
    let clean = segments.partition_point(|segment| segment.end_offset <= rule.compacted_until);
    let (clean, dirty) = segments.split_at(clean);
    let expired = clean
        .iter()
        .filter_map(|segment| segment.tombstones_since_ms)
        .any(|since_ms| rule.is_expired(since_ms));
    let dirty_bytes = bytes(dirty);
    let enough = dirty_bytes > 0
        && dirty_bytes * 100 >= (bytes(clean) + dirty_bytes) * COMPACTION_DIRTY_PERCENT;
    (enough || expired).then(|| CompactionPlan {
        dirty_from: rule.compacted_until.clamp(start, up_to),
        up_to,
    })
}

/// One round of compaction, to be run on any thread but the log's writer's.
///
/// Its outcome, error or not, must be handed to [`Log::install_compaction`]; until then the log
/// gives out no other.
#[derive(Debug)]
#[must_use = "the log compacts nothing else until the outcome is handed to it"]
pub struct CompactionTask {
    shared: Arc<Shared>,
    view: Arc<View>,
    sources: Vec<Arc<Segment>>,
    plan: CompactionPlan,
    rule: TombstoneRule,
    config: LogConfig,
}

impl CompactionTask {
    /// Does the work of the round, beside the log. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// A segment is damaged, or the storage failed or is full. Nothing has changed then.
    pub fn run(self) -> Result<Compacted, CompactionError> {
        let files = &self.shared.files;
        let keys = LatestKeys::collect(
            files,
            &self.sources,
            self.plan,
            self.config.compaction_key_bytes,
        )?;
        let until = keys.until;
        let known_by = self.known_by()?;
        let mut rewrite = Rewrite::new(
            files,
            &keys,
            &known_by,
            self.rule,
            self.config.segment_bytes,
        );
        for source in &self.sources {
            if source.base_offset() < until
                && let Err(error) = rewrite.segment(source)
            {
                rewrite.abandon();
                return Err(error);
            }
        }
        let tombstones_gone_until = rewrite.tombstones_gone_until();
        Ok(Compacted {
            rewritten: rewrite.finish()?,
            until,
            tombstones_gone_until,
        })
    }

    /// The base offsets of the batches by which producers are recognised, as of the end of what is
    /// compacted: nothing below is cut off any more.
    fn known_by(&self) -> Result<HashSet<Offset>, CompactionError> {
        let Some(last) = self.sources.last() else {
            return Ok(HashSet::new());
        };
        let end = last.extent().end_offset;
        let (derived, _) = start::derive(&self.shared, &self.view, end)?;
        Ok(derived.producers.base_offsets().collect())
    }
}

impl From<ReadError> for CompactionError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(failure) => failure.into(),
            ReadError::Damaged(damage) => Self::Damaged(damage),
            ReadError::OutOfRange { offset, .. } => {
                let what = error.to_string();
                Self::Damaged(Damage { offset, what })
            }
        }
    }
}

/// A round's result, to be installed.
#[derive(Debug)]
#[must_use = "nothing is compacted until the result is installed"]
pub struct Compacted {
    rewritten: Vec<Rewritten>,
    until: Offset,
    /// Below, tombstones may not be in it any more.
    tombstones_gone_until: Offset,
}

impl Compacted {
    /// Tombstones below are gone once it is installed; see [`Log::tombstones_gone_until`].
    pub fn tombstones_gone_until(&self) -> Offset {
        self.tombstones_gone_until
    }
}

impl Log {
    /// What a round of compaction would work on now; `None` when it is not worth it, or the log is
    /// not a compacted one. Only segments below `high_watermark` are compacted, since a record
    /// that may be cut off supersedes nothing; and only such whose producers are in a durable
    /// snapshot.
    pub fn plan_compaction(
        &self,
        high_watermark: Offset,
        now_ms: TimestampMs,
    ) -> Option<CompactionPlan> {
        if self.config.cleanup != Cleanup::Compact || self.compacting || self.damaged.is_some() {
            return None;
        }
        let view = self.shared.view.load();
        let facts: Vec<_> = view
            .sealed
            .iter()
            .map(|segment| {
                let extent = segment.extent();
                let compacted = segment.header.compacted;
                SegmentFacts {
                    end_offset: extent.end_offset,
                    bytes: extent.bytes,
                    tombstones_since_ms: compacted.and_then(|part| part.tombstones_since_ms),
                }
            })
            .collect();
        let ready = high_watermark
            .min(self.flushed_offset)
            .min(self.snapshot_offset);
        let rule = self.tombstone_rule(now_ms);
        plan(&facts, view.log_start_offset, ready, &rule)
    }

    /// The work of a plan; `None` while another task is under way, or when the log takes no writes.
    pub fn compaction_task(
        &mut self,
        plan: CompactionPlan,
        now_ms: TimestampMs,
    ) -> Option<CompactionTask> {
        if self.compacting || self.poisoned.is_some() || self.damaged.is_some() {
            return None;
        }
        self.compacting = true;
        let view = self.shared.view.load_full();
        let ready = plan
            .up_to
            .min(self.flushed_offset)
            .min(self.snapshot_offset);
        Some(CompactionTask {
            shared: Arc::clone(&self.shared),
            sources: view
                .sealed
                .iter()
                .take_while(|segment| segment.extent().end_offset <= ready)
                .cloned()
                .collect(),
            view,
            plan,
            rule: self.tombstone_rule(now_ms),
            config: self.config.clone(),
        })
    }

    /// Takes the outcome of a task, and puts the new segments in the place of the old ones. That
    /// is durable when this returns, and readers go on without noticing.
    ///
    /// # Errors
    ///
    /// The task has failed: the log is as before. Or the storage failed: the log is poisoned,
    /// unless the disk is full; then the round counts, and will be done again in part.
    pub fn install_compaction(
        &mut self,
        outcome: Result<Compacted, CompactionError>,
    ) -> Result<CompactionReport, CompactionError> {
        self.compacting = false;
        let compacted = outcome?;
        if let Some(failure) = &self.poisoned {
            return Err(CompactionError::Storage(failure.clone()));
        }
        let view = self.shared.view.load_full();
        let mut report = CompactionReport {
            compacted_until: compacted.until,
            ..CompactionReport::default()
        };
        for rewritten in &compacted.rewritten {
            report.records_dropped += rewritten.records_dropped;
            report.bytes_before += rewritten.bytes_before();
            report.bytes_after += rewritten.segment.extent().bytes;
        }
        let installed = match replace(&view, &compacted.rewritten) {
            Some(sealed) => self.install(&view, sealed, &compacted).map(|()| true),
            None => self.discard(&compacted).map(|()| false),
        };
        match installed {
            Ok(installed) => Ok(CompactionReport {
                installed,
                ..report
            }),
            Err(failure) if failure.is_full() => Err(CompactionError::StorageFull),
            Err(failure) => Err(CompactionError::Storage(self.poison(failure))),
        }
    }

    fn install(
        &mut self,
        view: &View,
        sealed: Vec<Arc<Segment>>,
        compacted: &Compacted,
    ) -> Result<(), StorageFailure> {
        // Known before it happens: a reader's memory of what was deleted is judged by it.
        self.checkpoint.update(|checkpoint| {
            checkpoint.tombstones_gone_until = checkpoint
                .tombstones_gone_until
                .max(compacted.tombstones_gone_until);
        })?;
        let files = &self.shared.files;
        // Published before the files change, see [`Shared`](crate::view::Shared).
        self.shared.view.store(Arc::new(View {
            sealed,
            active: Arc::clone(&view.active),
            ..*view
        }));
        for rewritten in &compacted.rewritten {
            let path = rewritten.segment.path();
            let renamed = files.storage.rename(&rewritten.waiting, path);
            renamed.attempt("rename", path)?;
        }
        // Nothing may be removed before what stands for it is there to stay.
        files.sync_dir()?;
        for rewritten in &compacted.rewritten {
            let base_offset = rewritten.segment.base_offset();
            files.remove(&files.path(&names::index(base_offset)))?;
            for (i, replaced) in rewritten.replaced.iter().enumerate() {
                if i > 0 {
                    self.remove_segments(std::slice::from_ref(replaced))?;
                }
            }
        }
        self.checkpoint.update(|checkpoint| {
            checkpoint.compacted_until = checkpoint.compacted_until.max(compacted.until);
        })
    }

    fn discard(&self, compacted: &Compacted) -> Result<(), StorageFailure> {
        for rewritten in &compacted.rewritten {
            self.shared.files.remove(&rewritten.waiting)?;
        }
        Ok(())
    }

    fn tombstone_rule(&self, now_ms: TimestampMs) -> TombstoneRule {
        TombstoneRule {
            now_ms,
            retention_ms: self.config.tombstone_retention_ms,
            compacted_until: self.checkpoint.get().compacted_until,
        }
    }
}

/// The sealed segments with the new ones in their place; `None` when one that was to be replaced
/// is not there any more.
fn replace(view: &View, rewritten: &[Rewritten]) -> Option<Vec<Arc<Segment>>> {
    let mut sealed = view.sealed.clone();
    for new in rewritten {
        let first = new.replaced.first()?;
        let at = sealed.iter().position(|old| Arc::ptr_eq(old, first))?;
        let old = sealed.get(at..at + new.replaced.len())?;
        if !old
            .iter()
            .zip(&new.replaced)
            .all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return None;
        }
        sealed.splice(at..at + new.replaced.len(), [Arc::clone(&new.segment)]);
    }
    Some(sealed)
}

/// Where a new segment's file waits to be renamed.
fn waiting_path(files: &Files, base_offset: Offset) -> PathBuf {
    files.path(&names::compacting(base_offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of ten offsets; for each its bytes, and when its tombstones were met.
    fn check(
        segments: &[(u64, Option<TimestampMs>)],
        compacted_until: Offset,
        ready: Offset,
        expected: Option<(Offset, Offset)>,
    ) {
        let facts: Vec<_> = (1..)
            .zip(segments)
            .map(|(i, (bytes, tombstones_since_ms))| SegmentFacts {
                end_offset: 10 * i,
                bytes: *bytes,
                tombstones_since_ms: *tombstones_since_ms,
            })
            .collect();
        let rule = TombstoneRule {
            now_ms: 1000,
            retention_ms: 100,
            compacted_until,
        };
        let planned = plan(&facts, 0, ready, &rule);
        assert_eq!(planned.map(|plan| (plan.dirty_from, plan.up_to)), expected);
    }

    #[test]
    fn a_round_is_due_when_half_is_dirty() {
        check(&[], 0, 0, None);
        check(&[(100, None)], 0, 10, Some((0, 10)));
        check(&[(100, None)], 10, 10, None);
        check(&[(100, None), (99, None)], 10, 20, None);
        check(&[(100, None), (100, None)], 10, 20, Some((10, 20)));
        // A round that ran out of memory within the second.
        check(&[(100, None), (100, None)], 15, 20, Some((15, 20)));
    }

    #[test]
    fn what_is_not_ready_does_not_count() {
        check(&[(100, None), (100, None)], 0, 9, None);
        check(&[(100, None), (100, None)], 0, 19, Some((0, 10)));
        check(&[(100, None), (500, None)], 10, 19, None);
    }

    #[test]
    fn a_round_is_due_when_tombstones_expire() {
        check(&[(100, Some(901)), (10, None)], 10, 20, None);
        check(&[(100, Some(900)), (10, None)], 10, 20, Some((10, 20)));
        check(&[(100, Some(900))], 10, 10, Some((10, 10)));
    }
}
