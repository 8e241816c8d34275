//! Which leader epoch begins where.

use millstream_protocol::{LeaderEpoch, Offset};

use crate::limits::MAX_EPOCHS;

/// The start offset of every leader epoch in the log, oldest first; both strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochList {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl EpochList {
    /// Those of a log that begins at `start`, behind an entry of `epoch`.
    pub(crate) fn beginning_at(start: Offset, epoch: LeaderEpoch) -> Self {
        let before = start.checked_sub(1).map(|last| (epoch, last));
        Self {
            starts: before.into_iter().collect(),
        }
    }

    pub(crate) fn starts(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    /// Notes the epoch of a batch, the next one in the log.
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, base_offset: Offset) {
        if self.last().is_none_or(|last| last < epoch) {
            if self.starts.len() >= MAX_EPOCHS {
                self.starts.remove(0);
            }
            self.starts.push((epoch, base_offset));
        }
    }

    /// The epoch of the last batch.
    pub(crate) fn last(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// The highest epoch at or below `epoch`, and the offset at which it ends, exclusive.
    pub(crate) fn end_offset(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let known = self.starts.partition_point(|(start, _)| *start <= epoch);
        let (found, _) = self.starts.get(known.checked_sub(1)?)?;
        let end = self
            .starts
            .get(known)
            .map_or(log_end_offset, |(_, next_start)| *next_start);
        Some((*found, end))
    }

    /// Forgets epochs that end below the log's start. That of the entry before the start stays: two
    /// logs of which one begins there can still be compared.
    pub(crate) fn forget_before(&mut self, log_start_offset: Offset) {
        let ended = self
            .starts
            .iter()
            .skip(1)
            .take_while(|(_, start)| *start < log_start_offset)
            .count();
        self.starts.drain(..ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(LeaderEpoch, Offset)]) -> EpochList {
        let mut list = EpochList::default();
        for (epoch, offset) in starts {
            list.note(*epoch, *offset);
            list.note(*epoch, *offset + 1);
        }
        assert_eq!(list.starts(), starts);
        list
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let list = epochs(&[(1, 0), (4, 10), (6, 25)]);
        for (asked, expected) in [
            (0, None),
            (1, Some((1, 10))),
            (3, Some((1, 10))),
            (4, Some((4, 25))),
            (6, Some((6, 40))),
            (9, Some((6, 40))),
        ] {
            assert_eq!(list.end_offset(asked, 40), expected, "epoch {asked}");
        }
        assert_eq!(EpochList::default().end_offset(3, 0), None);
    }

    #[test]
    fn epochs_below_the_start_are_forgotten() {
        let mut list = epochs(&[(1, 0), (4, 10), (6, 25)]);
        list.forget_before(9);
        assert_eq!(list.starts(), [(1, 0), (4, 10), (6, 25)]);
        list.forget_before(10);
        assert_eq!(list.starts(), [(1, 0), (4, 10), (6, 25)]);
        list.forget_before(11);
        assert_eq!(list.starts(), [(4, 10), (6, 25)]);
        list.forget_before(100);
        assert_eq!(list.starts(), [(6, 25)]);
    }

    #[test]
    fn the_number_of_epochs_is_bounded() {
        let mut list = EpochList::default();
        for epoch in 0..MAX_EPOCHS as u32 + 5 {
            list.note(epoch, u64::from(epoch));
        }
        assert_eq!(list.starts().len(), MAX_EPOCHS);
        assert_eq!(list.starts().first(), Some(&(5, 5)));
    }
}
