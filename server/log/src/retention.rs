//! Retention by time and size, and delete-records: the log's start moves up, and segments that lie
//! below it go.

use std::sync::Arc;

use millstream_protocol::{Offset, TimestampMs};

use crate::config::{Cleanup, LogConfig};
use crate::error::{ChangeError, StorageFailure};
use crate::format::names;
use crate::format::segment::Density;
use crate::log::Log;
use crate::segment::Segment;
use crate::start;
use crate::view::View;

/// What retention would remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPlan {
    /// The log's new start: every segment below it goes.
    pub delete_before: Offset,
    /// The bytes that this frees.
    pub bytes: u64,
}

/// What a plan needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SegmentFacts {
    end_offset: Offset,
    bytes: u64,
    /// When its newest record was made; when it was created, if it has none.
    newest_ms: TimestampMs,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sealed,
    /// May go by age, never by size.
    Active,
}

/// Decides what goes, below `up_to`. `segments` come oldest first and are looked at only as far as
/// needed.
fn plan(
    segments: impl Iterator<Item = SegmentFacts>,
    log_bytes: u64,
    up_to: Offset,
    config: &LogConfig,
    now_ms: TimestampMs,
) -> Option<RetentionPlan> {
    let mut surplus = config
        .retention_bytes
        .map_or(0, |kept| log_bytes.saturating_sub(kept));
    let expired_before = config
        .retention_ms
        .map(|kept| now_ms.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX)));
    let mut plan = None;
    for segment in segments {
        let too_old = expired_before.is_some_and(|before| segment.newest_ms < before);
        // Never so much that less than the configured size would stay.
        let too_much = segment.role == Role::Sealed && segment.bytes <= surplus;
        if !(too_old || too_much) || segment.end_offset > up_to {
            break;
        }
        surplus = surplus.saturating_sub(segment.bytes);
        let so_far: RetentionPlan = plan.unwrap_or(RetentionPlan {
            delete_before: 0,
            bytes: 0,
        });
        plan = Some(RetentionPlan {
            delete_before: segment.end_offset,
            bytes: so_far.bytes + segment.bytes,
        });
    }
    plan
}

impl Log {
    /// What retention by time and size would remove now; `None` when nothing. Only what lies below
    /// `high_watermark` and is flushed goes. May read the index files of the oldest segments.
    pub fn plan_retention(
        &self,
        high_watermark: Offset,
        now_ms: TimestampMs,
    ) -> Option<RetentionPlan> {
        let limits_set =
            self.config.retention_ms.is_some() || self.config.retention_bytes.is_some();
        if self.config.cleanup == Cleanup::Compact || !limits_set || self.damaged.is_some() {
            return None;
        }
        let view = self.shared.view.load();
        let facts = view
            .segments()
            .filter(|segment| !segment.is_empty())
            .map_while(|segment| facts(&view, segment));
        plan(
            facts,
            view.size_bytes(),
            self.flushed_offset.min(high_watermark),
            &self.config,
            now_ms,
        )
    }

    /// Removes what a plan says, and returns the log's start. If that is the active segment too, a
    /// new one is begun.
    ///
    /// # Errors
    ///
    /// The storage failed or is full.
    pub fn apply_retention(
        &mut self,
        plan: RetentionPlan,
        now_ms: TimestampMs,
    ) -> Result<Offset, ChangeError> {
        self.check_changeable()?;
        let active = self.active();
        if plan.delete_before > active.base_offset() && !active.is_empty() {
            self.note_use()
                .and_then(|()| self.roll(Density::of(self.config.cleanup), now_ms))
                .map_err(|failure| self.change_error(failure))?;
        }
        let before = plan.delete_before.min(self.active().base_offset());
        self.advance_start(before)
    }

    /// Forgets the records below `before`, and returns the log's start. That is durable when this
    /// returns; the space is freed by whole segments.
    ///
    /// # Errors
    ///
    /// `before` lies beyond the log's end; or the storage failed or is full.
    pub fn delete_records(&mut self, before: Offset) -> Result<Offset, ChangeError> {
        self.check_changeable()?;
        let (start, end) = (self.log_start_offset(), self.end_offset());
        if before > end {
            return Err(ChangeError::OutOfRange {
                offset: before,
                start,
                end,
            });
        }
        // The log may not start beyond what is durable.
        if before > self.flushed_offset {
            self.flush_now()
                .map_err(|failure| self.change_error(failure))?;
        }
        self.advance_start(before)
    }

    fn advance_start(&mut self, before: Offset) -> Result<Offset, ChangeError> {
        let start = before.max(self.log_start_offset());
        let moved = self.move_start(start);
        moved.map_err(|failure| self.change_error(failure))?;
        Ok(start)
    }

    fn move_start(&mut self, start: Offset) -> Result<(), StorageFailure> {
        let first = self.cover_start(start)?;
        let view = self.shared.view.load_full();
        let start_border = start::border_at(&view, &self.shared.binding, start)?;
        if start > view.log_start_offset {
            self.checkpoint
                .update(|checkpoint| checkpoint.log_start_offset = start)?;
        }
        let (gone, sealed): (Vec<_>, Vec<_>) = view
            .sealed
            .iter()
            .cloned()
            .partition(|segment| segment.base_offset() < first);
        self.shared.view.store(Arc::new(View {
            log_start_offset: start,
            start_border,
            sealed,
            active: Arc::clone(&view.active),
        }));
        self.epochs.forget_before(start_border);
        // What a crash in between brings back lies below the log's start, and is removed at the
        // next opening.
        self.remove_durably(&gone)
    }

    fn remove_durably(&self, gone: &[Arc<Segment>]) -> Result<(), StorageFailure> {
        if gone.is_empty() {
            return Ok(());
        }
        // The snapshot with which the log begins has its name for good before what it stands for goes.
        self.shared.files.sync_dir()?;
        self.remove_segments(gone)?;
        self.shared.files.sync_dir()
    }

    pub(crate) fn remove_segments(&self, gone: &[Arc<Segment>]) -> Result<(), StorageFailure> {
        let files = &self.shared.files;
        for segment in gone {
            files.remove(segment.path())?;
            files.remove(&files.path(&names::index(segment.base_offset())))?;
        }
        Ok(())
    }
}

fn facts(view: &View, segment: &Arc<Segment>) -> Option<SegmentFacts> {
    let newest = match segment.max_timestamp_ms() {
        Ok(newest) => newest,
        Err(failure) => {
            tracing::warn!("retention keeps what it cannot judge: {failure}");
            return None;
        }
    };
    let extent = segment.extent();
    Some(SegmentFacts {
        end_offset: extent.end_offset,
        bytes: extent.bytes,
        newest_ms: newest.unwrap_or(segment.header.created_ms),
        role: if Arc::ptr_eq(segment, &view.active) {
            Role::Active
        } else {
            Role::Sealed
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of ten offsets; for each its bytes and newest timestamp. The last one is active.
    fn check(
        segments: &[(u64, TimestampMs)],
        (retention_bytes, retention_ms): (Option<u64>, Option<u64>),
        up_to: Offset,
        expected: Option<(Offset, u64)>,
    ) {
        let last = segments.len() - 1;
        let facts = segments
            .iter()
            .enumerate()
            .map(|(i, (bytes, newest_ms))| SegmentFacts {
                end_offset: 10 * (i as u64 + 1),
                bytes: *bytes,
                newest_ms: *newest_ms,
                role: if i == last {
                    Role::Active
                } else {
                    Role::Sealed
                },
            });
        let config = LogConfig {
            retention_bytes,
            retention_ms,
            ..LogConfig::default()
        };
        let log_bytes = segments.iter().map(|(bytes, _)| bytes).sum();
        let planned = plan(facts, log_bytes, up_to, &config, 1000);
        let planned = planned.map(|plan| (plan.delete_before, plan.bytes));
        assert_eq!(planned, expected);
    }

    #[test]
    fn nothing_goes_without_a_limit() {
        check(&[(100, 0), (100, 0)], (None, None), 20, None);
    }

    #[test]
    fn by_size_the_oldest_go_but_never_below_the_size() {
        let segments = [(100, 0), (50, 0), (100, 0), (100, 0)];
        check(&segments, (Some(350), None), 40, None);
        check(&segments, (Some(251), None), 40, None);
        check(&segments, (Some(250), None), 40, Some((10, 100)));
        check(&segments, (Some(200), None), 40, Some((20, 150)));
        check(&segments, (Some(0), None), 40, Some((30, 250)));
    }

    #[test]
    fn by_time_what_has_nothing_newer_goes() {
        let segments = [(100, 400), (100, 600), (100, 500), (100, 900)];
        check(&segments, (None, Some(600)), 40, None);
        check(&segments, (None, Some(599)), 40, Some((10, 100)));
        // The third is old enough, but lies behind one that is not.
        check(&segments, (None, Some(450)), 40, Some((10, 100)));
        check(&segments, (None, Some(399)), 40, Some((30, 300)));
        check(&segments, (None, Some(50)), 40, Some((40, 400)));
        check(&segments, (None, Some(u64::MAX)), 40, None);
    }

    #[test]
    fn what_is_not_flushed_stays() {
        let segments = [(100, 0), (100, 0), (100, 0)];
        check(&segments, (None, Some(1)), 29, Some((20, 200)));
        check(&segments, (Some(0), None), 19, Some((10, 100)));
        check(&segments, (Some(0), None), 9, None);
    }
}
