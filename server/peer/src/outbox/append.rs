//! A leader's entries for a follower, before they are read: joined, and cut into pieces.

use std::sync::Arc;

use millstream_protocol::{LeaderEpoch, Offset};
use millstream_replication::limits::MAX_RUNS;
use millstream_replication::{Message, Position, Run, Span};

use super::has_entries;
use crate::entries::Entries;

/// A [`Message::Append`] that waits.
pub(super) struct Append {
    epoch: LeaderEpoch,
    span: Span,
    high_watermark: Offset,
    deleted: Offset,
    asks: bool,
    entries: Option<Arc<dyn Entries>>,
}

type Parts = (Message, Option<Arc<dyn Entries>>);

impl Append {
    /// The append that a message is; any other comes back.
    pub(super) fn of(message: Message, entries: Option<Arc<dyn Entries>>) -> Result<Self, Parts> {
        match message {
            Message::Append {
                epoch,
                span,
                high_watermark,
                deleted,
                asks,
            } => Ok(Self {
                epoch,
                span,
                high_watermark,
                deleted,
                asks,
                entries,
            }),
            other => Err((other, entries)),
        }
    }

    pub(super) fn into_message(self) -> Parts {
        let message = Message::Append {
            epoch: self.epoch,
            span: self.span,
            high_watermark: self.high_watermark,
            deleted: self.deleted,
            asks: self.asks,
        };
        (message, self.entries)
    }

    pub(super) fn has_entries(&self) -> bool {
        has_entries(&self.span)
    }

    /// What is to be sent of this and a newer one: both as one if the newer begins where this ends,
    /// and otherwise the newer alone, by which the leader has changed its mind about where the
    /// follower is. A question stays one, as long as it is the same leader's.
    pub(super) fn followed_by(mut self, newer: Self) -> Self {
        if self.epoch != newer.epoch {
            return newer;
        }
        let asks = self.asks || newer.asks;
        if !join(&mut self.span, &newer.span) {
            return Self { asks, ..newer };
        }
        Self {
            epoch: self.epoch,
            span: self.span,
            high_watermark: self.high_watermark.max(newer.high_watermark),
            deleted: self.deleted.max(newer.deleted),
            asks,
            entries: newer.entries.or(self.entries),
        }
    }
}

/// Where a span ends.
fn tip(span: &Span) -> Position {
    Position {
        epoch: span.runs.last().map_or(span.prev.epoch, |run| run.epoch),
        offset: span.until,
    }
}

/// Makes one span of two, if the second follows the first and they do not have too many runs.
fn join(span: &mut Span, next: &Span) -> bool {
    let known = span.runs.last().map(|run| run.epoch);
    let news = next.runs.iter().skip_while(|run| Some(run.epoch) == known);
    if next.prev != tip(span) || span.runs.len() + news.clone().count() > MAX_RUNS {
        return false;
    }
    span.runs.extend(news);
    span.until = next.until;
    true
}

/// Ends a span at an offset within it, and gives the rest, if there is any.
pub(super) fn cut(span: &mut Span, at: Offset) -> Option<Span> {
    let until = span.until;
    let first = span.runs.partition_point(|run| run.start <= at);
    let within = span.runs[..first].last().copied();
    let later = &span.runs[first..];
    let runs = within.map(|run| Run { start: at, ..run });
    let runs = runs.into_iter().chain(later.iter().copied()).collect();
    span.cut(at);
    (span.until < until).then(|| Span {
        prev: tip(span),
        runs,
        until,
        from_start: false,
    })
}
