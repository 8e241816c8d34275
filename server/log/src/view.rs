//! What the log's writer and its readers share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_protocol::Offset;
use parking_lot::Mutex;

use crate::cache::TailCache;
use crate::damage::Damage;
use crate::files::Files;
use crate::format::entry::Binding;
use crate::segment::Segment;

/// The log's segments at one moment. Appends change the active segment, everything else makes a
/// new view.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The first offset still there.
    pub(crate) log_start_offset: Offset,
    /// Where the batch begins that contains it; the same where none does.
    pub(crate) start_border: Offset,
    /// Oldest first. Each ends where the next begins, and the last where the active one begins.
    pub(crate) sealed: Vec<Arc<Segment>>,
    pub(crate) active: Arc<Segment>,
}

impl View {
    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.sealed.iter().chain(std::iter::once(&self.active))
    }

    /// The segments from the one that contains `offset` on.
    pub(crate) fn segments_from(&self, offset: Offset) -> impl Iterator<Item = &Arc<Segment>> {
        let begin_at_or_below = self
            .sealed
            .partition_point(|segment| segment.base_offset() <= offset);
        let first = if self.active.base_offset() <= offset {
            self.sealed.len()
        } else {
            begin_at_or_below.saturating_sub(1)
        };
        self.segments().skip(first)
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.active.extent().end_offset
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments().map(|segment| segment.extent().bytes).sum()
    }
}

/// What the log's writer and its readers share.
///
/// A file is changed in a way that a reader could stumble over (removed, replaced, cut) only after
/// the view without it was published. A reader that fails looks whether the view is still the same,
/// and otherwise starts over.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Arc<Files>,
    pub(crate) binding: Binding,
    pub(crate) view: ArcSwap<View>,
    pub(crate) cache: Arc<TailCache>,
    /// What recovery and reads have found, in that order.
    pub(crate) damage: Mutex<Vec<Damage>>,
}

impl Shared {
    /// Notes damage that a read has met, unless it is known.
    pub(crate) fn note_damage(&self, damage: &Damage) {
        let mut known = self.damage.lock();
        if known.len() < crate::limits::MAX_DAMAGES && !known.contains(damage) {
            tracing::error!(
                dir = %self.files.dir.display(),
                offset = damage.offset,
                "the log is damaged: {}",
                damage.what
            );
            known.push(damage.clone());
        }
    }
}
