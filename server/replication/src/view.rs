//! What a replica knows of its log: where it begins and ends, and which epochs wrote it.

use millstream_protocol::{LeaderEpoch, Offset};

use crate::limits::{MAX_OFFSET, MAX_RUNS};

/// A place between two entries of a log, named so that two logs which both have it agree on
/// everything before it (the log matching property of
/// [Raft](https://raft.github.io/raft.pdf), section 5.3).
///
/// Positions are ordered by what a new leader takes over: the higher epoch, then the longer log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The epoch of the entry before it; 0 at the beginning of all logs.
    pub epoch: LeaderEpoch,
    /// The offset of the entry behind it.
    pub offset: Offset,
}

impl Position {
    /// Whether a log may have it in which nothing is newer than `epoch`.
    pub(crate) fn is_sound(self, epoch: LeaderEpoch) -> bool {
        self.epoch <= epoch && self.offset <= MAX_OFFSET && (self.offset > 0 || self.epoch == 0)
    }
}

/// Entries that follow each other and were written in the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Their epoch.
    pub epoch: LeaderEpoch,
    /// The offset of the first. The run ends where the next begins.
    pub start: Offset,
}

/// A part of a log as it is sent to another replica. The entries' bytes travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Where it begins. The receiver's log must have this position.
    pub prev: Position,
    /// The epochs of its entries, in order; the first run begins at `prev.offset`. Empty if there
    /// are no entries.
    pub runs: Vec<Run>,
    /// The offset behind its last entry.
    pub until: Offset,
    /// The sender's log begins at `prev`: whoever does not have that position begins there too.
    pub from_start: bool,
}

impl Span {
    /// Whether it holds together, and has nothing newer than `epoch`: what comes from a peer is
    /// looked at before it is used.
    pub fn is_sound(&self, epoch: LeaderEpoch) -> bool {
        let runs = &self.runs;
        let epochs = self.prev.epoch..=epoch;
        let is_within = |run: &Run| epochs.contains(&run.epoch) && run.start < self.until;
        runs.len() <= MAX_RUNS
            && self.until <= MAX_OFFSET
            && self.prev.is_sound(epoch)
            && self.prev.offset == runs.first().map_or(self.until, |run| run.start)
            && runs.iter().all(is_within)
            && runs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start < b.start)
    }

    /// Ends the span earlier, where a sender finds that it has enough.
    pub fn cut(&mut self, until: Offset) {
        self.until = self.until.min(until).max(self.prev.offset);
        let until = self.until;
        self.runs.retain(|run| run.start < until);
    }
}

/// A log's borders and its epochs. The entries themselves are the shell's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The first offset still there.
    start: Offset,
    /// The next offset to be written.
    end: Offset,
    /// Everything below is on the disk, whatever happens to the machine.
    flushed: Offset,
    /// Epochs and starts both strictly increase. The first run may begin below `start`.
    runs: Vec<Run>,
}

impl LogView {
    /// A log without entries that begins at `at`.
    pub fn empty_at(at: Position) -> Self {
        let floor = Run {
            epoch: at.epoch,
            start: at.offset.saturating_sub(1),
        };
        Self {
            start: at.offset,
            end: at.offset,
            flushed: at.offset,
            runs: (at.epoch > 0).then_some(floor).into_iter().collect(),
        }
    }

    /// A log as it was found on a disk. `flushed` is what is known to be on it: a tail that was
    /// only recovered is not, until it has been synced.
    pub fn new(start: Offset, end: Offset, flushed: Offset, runs: Vec<Run>) -> Self {
        assert!(
            start <= end && flushed <= end,
            "a log's borders are in order"
        );
        assert!(
            runs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start < b.start),
            "epochs and their starts increase"
        );
        Self {
            start,
            end,
            flushed,
            runs,
        }
    }

    /// The first offset still there.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The next offset to be written.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is on the disk.
    pub fn flushed(&self) -> Offset {
        self.flushed
    }

    /// The position at the end.
    pub fn tip(&self) -> Position {
        Position {
            epoch: self.runs.last().map_or(0, |run| run.epoch),
            offset: self.end,
        }
    }

    /// The epoch of the entry before `offset`; 0 if none is known.
    fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        let runs = self.runs.partition_point(|run| run.start < offset);
        self.runs[..runs].last().map_or(0, |run| run.epoch)
    }

    /// The position at an offset within the log, its ends included.
    pub fn position(&self, offset: Offset) -> Option<Position> {
        (self.start..=self.end).contains(&offset).then(|| Position {
            epoch: self.epoch_before(offset),
            offset,
        })
    }

    /// Whether the log agrees with another that has `position`, up to there. What lies below the
    /// log's start was committed, so that all leaders have it.
    pub(crate) fn has(&self, position: Position) -> bool {
        position.offset < self.start || self.position(position.offset) == Some(position)
    }

    /// The last position that may be common with a log in which `position` is: no further, and of
    /// no higher epoch. The log's start if there is none.
    pub(crate) fn floor(&self, position: Position) -> Position {
        let mut offset = position.offset.min(self.end);
        while offset > self.start && self.epoch_before(offset) > position.epoch {
            let runs = self.runs.partition_point(|run| run.start < offset);
            offset = self.runs[..runs].last().map_or(0, |run| run.start);
        }
        let offset = offset.max(self.start);
        Position {
            epoch: self.epoch_before(offset),
            offset,
        }
    }

    /// What follows `from`, which lies within the log; [`MAX_RUNS`] epochs at most.
    pub(crate) fn span(&self, from: Position) -> Span {
        let first = self.runs.partition_point(|run| run.start <= from.offset);
        let within = self.runs[..first].last().map(|run| Run {
            epoch: run.epoch,
            start: from.offset,
        });
        let mut runs: Vec<Run> = within
            .filter(|_| from.offset < self.end)
            .into_iter()
            .chain(self.runs[first..].iter().copied())
            .collect();
        let until = runs.get(MAX_RUNS).map_or(self.end, |run| run.start);
        runs.truncate(MAX_RUNS);
        Span {
            prev: from,
            runs,
            until,
            from_start: from.offset == self.start,
        }
    }

    /// The first offset from `span.prev` on at which the two have entries of different epochs. The
    /// entry before the start is compared as well, where its epoch is known.
    pub(crate) fn divergence(&self, span: &Span) -> Option<Offset> {
        let known = self.start - Offset::from(self.epoch_before(self.start) > 0);
        let from = span.prev.offset.max(known);
        let until = span.until.min(self.end);
        let starts = self.runs.iter().chain(&span.runs).map(|run| run.start);
        let borders = starts.chain([from]).filter(|it| (from..until).contains(it));
        borders
            .filter(|offset| self.epoch_before(offset + 1) != span_epoch(span, *offset))
            .min()
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        self.end = self.end.min(to);
        self.flushed = self.flushed.min(to);
        let end = self.end;
        while self.runs.last().is_some_and(|run| run.start >= end) {
            self.runs.pop();
        }
    }

    /// The log has grown to `end`, by entries of the span's epochs.
    pub(crate) fn extend(&mut self, runs: &[Run], end: Offset) {
        for (index, run) in runs.iter().enumerate() {
            let run_end = runs.get(index + 1).map_or(end, |next| next.start).min(end);
            if run_end > self.end {
                self.grow(run.epoch, run_end);
            }
        }
    }

    /// The log has grown to `end`, by entries of one epoch.
    pub(crate) fn grow(&mut self, epoch: LeaderEpoch, end: Offset) {
        let tip = self.tip();
        assert!(
            epoch >= tip.epoch && end >= self.end,
            "a log grows, in epochs that do not go back"
        );
        if end > self.end && epoch > tip.epoch {
            let start = self.end;
            self.runs.push(Run { epoch, start });
        }
        self.end = end;
    }

    pub(crate) fn set_flushed(&mut self, offset: Offset) {
        self.flushed = self.flushed.max(offset.min(self.end));
    }

    pub(crate) fn set_start(&mut self, start: Offset) {
        self.start = self.start.max(start.min(self.end));
        let start = self.start;
        // The run of the entry before the start stays, for the position there.
        let gone = self.runs.partition_point(|run| run.start < start);
        self.runs.drain(..gone.saturating_sub(1));
    }
}

fn span_epoch(span: &Span, offset: Offset) -> LeaderEpoch {
    let runs = span.runs.partition_point(|run| run.start <= offset);
    span.runs[..runs]
        .last()
        .map_or(span.prev.epoch, |run| run.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(end: Offset, runs: &[(LeaderEpoch, Offset)]) -> LogView {
        let runs = runs.iter().map(|&(epoch, start)| Run { epoch, start });
        LogView::new(0, end, end, runs.collect())
    }

    fn at(epoch: LeaderEpoch, offset: Offset) -> Position {
        Position { epoch, offset }
    }

    #[test]
    fn a_position_is_the_epoch_before_an_offset() {
        let log = view(20, &[(1, 0), (3, 10), (4, 15)]);
        for (offset, expected) in [
            (0, Some(at(0, 0))),
            (1, Some(at(1, 1))),
            (10, Some(at(1, 10))),
            (11, Some(at(3, 11))),
            (15, Some(at(3, 15))),
            (20, Some(at(4, 20))),
            (21, None),
        ] {
            assert_eq!(log.position(offset), expected, "{offset}");
        }
        assert_eq!(log.tip(), at(4, 20));
    }

    #[test]
    fn the_floor_is_the_last_position_that_may_be_common() {
        let log = view(20, &[(1, 0), (3, 10), (4, 15)]);
        for (asked, expected) in [
            (at(4, 30), at(4, 20)),
            (at(4, 17), at(4, 17)),
            (at(3, 30), at(3, 15)),
            (at(3, 12), at(3, 12)),
            (at(2, 30), at(1, 10)),
            (at(0, 30), at(0, 0)),
        ] {
            assert_eq!(log.floor(asked), expected, "{asked:?}");
        }
    }

    /// Asking each other for the floor ends at the last common position, for all pairs of short
    /// logs that can come of the same leaders.
    #[test]
    fn two_logs_find_where_they_part() {
        let logs: Vec<LogView> = (0..4u64.pow(5))
            .filter_map(|code| {
                let epochs: Vec<u32> = (0..5)
                    .map(|place| (code / 4u64.pow(place) % 4) as u32)
                    .collect();
                let length = epochs.iter().position(|e| *e == 0).unwrap_or(5);
                let sorted = epochs[..length].is_sorted();
                (sorted && epochs[length..].iter().all(|e| *e == 0)).then(|| {
                    let mut log = LogView::default();
                    for (epoch, end) in epochs[..length].iter().zip(1..) {
                        log.grow(*epoch, end);
                    }
                    log
                })
            })
            .collect();
        assert_eq!(
            logs.len(),
            56,
            "multisets of three epochs, up to five of them"
        );
        for leader in &logs {
            for follower in &logs {
                let mut next = leader.tip();
                let mut rounds = 0;
                while !follower.has(next) {
                    let asked = next;
                    next = leader.floor(follower.floor(asked));
                    assert!(next < asked, "{leader:?} {follower:?}");
                    rounds += 1;
                }
                assert!(rounds <= 3, "{rounds} rounds: {leader:?} {follower:?}");
            }
        }
    }

    #[test]
    fn a_span_says_what_follows_and_where_another_log_differs() {
        let leader = view(20, &[(1, 0), (3, 10), (4, 15)]);
        let span = leader.span(at(1, 5));
        assert_eq!(
            span.runs,
            [(1, 5), (3, 10), (4, 15)].map(|(epoch, start)| Run { epoch, start })
        );
        assert!(span.is_sound(4) && !span.is_sound(3));
        for (log, expected) in [
            (view(8, &[(1, 0)]), None),
            (view(12, &[(1, 0)]), Some(10)),
            (view(12, &[(1, 0), (2, 7)]), Some(7)),
            (view(12, &[(1, 0), (3, 10)]), None),
            (view(30, &[(1, 0), (3, 10)]), Some(15)),
            (view(30, &[(1, 0), (3, 10), (4, 15)]), None),
        ] {
            assert_eq!(log.divergence(&span), expected, "{log:?}");
        }
    }

    #[test]
    fn a_log_that_begins_late_knows_the_epoch_before_its_start() {
        let mut log = view(20, &[(1, 0), (3, 10), (4, 15)]);
        log.set_start(15);
        assert_eq!(log.position(15), Some(at(3, 15)));
        let mut other = LogView::empty_at(at(3, 15));
        assert_eq!(other.tip(), at(3, 15));
        other.extend(&log.span(at(3, 15)).runs, 20);
        assert_eq!(other.tip(), log.tip());
        assert_eq!(other.position(15), log.position(15));
    }

    #[test]
    fn what_does_not_hold_together_is_no_span() {
        let sound = view(20, &[(1, 0), (3, 10)]).span(at(1, 5));
        assert!(sound.is_sound(3));
        let spoil = |change: fn(&mut Span)| {
            let mut span = sound.clone();
            change(&mut span);
            span.is_sound(3)
        };
        assert!(!spoil(|span| span.runs.swap(0, 1)));
        assert!(!spoil(|span| span.runs[0].start = 6));
        assert!(!spoil(|span| span.runs[1].epoch = 4));
        assert!(!spoil(|span| span.until = 10));
        assert!(!spoil(|span| span.runs.clear()));
        assert!(!spoil(|span| span.prev.epoch = 2));
        assert!(!spoil(|span| span.until = MAX_OFFSET + 1));
        let mut from_nothing = view(20, &[(1, 0)]).span(at(0, 0));
        assert!(from_nothing.is_sound(1));
        from_nothing.prev.epoch = 1;
        assert!(!from_nothing.is_sound(1));
        assert!(!spoil(|span| span.runs = vec![span.runs[0]; MAX_RUNS + 1]));
    }
}
