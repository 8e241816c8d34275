//! What the log remembers of idempotent producers, to drop what comes twice and refuse what comes
//! out of order.
//!
//! The rules are Kafka's ([KIP-98](https://cwiki.apache.org/confluence/x/b4-UAw)): within one
//! producer id and epoch, sequences follow each other without a gap from 0 on; the last
//! [`BATCHES_PER_PRODUCER`] batches are recognised when they come again; a higher epoch starts
//! over at 0 and fences the lower ones. One thing is stricter: a producer that the log does not
//! know must start at 0, so that what was forgotten is never silently taken up in the middle.
//!
//! The state is a function of the batch headers in the log. A snapshot spares reading them again,
//! and is needed where compaction has taken batches away: for the segments of a compacted log that
//! lie below every usable snapshot, the state is that of the batches which are still there.

use std::collections::{BTreeMap, HashMap, VecDeque};

use millstream_protocol::batch::{BatchHeader, ProducerStamp, sequence_after};
use millstream_protocol::{Offset, ProducerEpoch, ProducerId};

use crate::append::RejectReason;
use crate::limits::BATCHES_PER_PRODUCER;

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) first_sequence: u32,
    pub(crate) last_sequence: u32,
    pub(crate) base_offset: Offset,
}

impl ProducerBatch {
    fn next_offset(&self) -> Offset {
        // Sequences run around at 2^31, a batch is much shorter.
        let deltas = self.last_sequence.wrapping_sub(self.first_sequence) & (u32::MAX >> 1);
        self.base_offset + u64::from(deltas) + 1
    }
}

/// The newest instance of a producer and its last batches, oldest first, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) batches: VecDeque<ProducerBatch>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It follows.
    New,
    /// It is in the log, at these offsets.
    Duplicate {
        base_offset: Offset,
        next_offset: Offset,
    },
    /// It does not follow.
    Rejected(RejectReason),
}

impl ProducerState {
    fn judge(&self, stamp: &ProducerStamp, last_sequence: u32) -> Verdict {
        let (first, epoch) = (stamp.first_sequence, stamp.producer_epoch);
        if epoch < self.epoch {
            return Verdict::Rejected(RejectReason::Fenced {
                current: self.epoch,
                got: epoch,
            });
        }
        if epoch == self.epoch {
            let same = |batch: &&ProducerBatch| {
                batch.first_sequence == first && batch.last_sequence == last_sequence
            };
            // The newest first: sequences come again after 2^31 records.
            if let Some(batch) = self.batches.iter().rev().find(same) {
                return Verdict::Duplicate {
                    base_offset: batch.base_offset,
                    next_offset: batch.next_offset(),
                };
            }
        }
        let expected = match self.batches.back() {
            Some(last) if epoch == self.epoch => sequence_after(last.last_sequence, 1),
            _ => 0,
        };
        if first == expected {
            Verdict::New
        } else {
            Verdict::Rejected(RejectReason::OutOfOrder {
                expected,
                got: first,
            })
        }
    }

    fn note(&mut self, epoch: ProducerEpoch, batch: ProducerBatch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
        if self.batches.len() >= BATCHES_PER_PRODUCER {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    /// When it was last used, in offsets.
    fn last_used(&self) -> Option<Offset> {
        self.batches.back().map(|batch| batch.base_offset)
    }
}

/// The state of every producer that the log remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerTable {
    states: HashMap<ProducerId, ProducerState>,
    /// By the base offset of the last batch, which no two share: the least recently used first.
    by_use: BTreeMap<Offset, ProducerId>,
}

impl ProducerTable {
    /// Every producer, the least recently used first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (ProducerId, &ProducerState)> {
        // Every id in `by_use` is in `states`: the two are changed together.
        let ids = self.by_use.values();
        ids.map(|id| (*id, &self.states[id]))
    }

    /// Takes up a producer from a snapshot.
    pub(crate) fn restore(&mut self, id: ProducerId, state: ProducerState, max_producers: usize) {
        if let Some(old) = self.states.remove(&id) {
            self.forget_use(&old);
        }
        self.put(id, state, max_producers);
    }

    /// Notes a batch of the log, its place assigned.
    pub(crate) fn note(&mut self, batch: &BatchHeader, max_producers: usize) {
        let (Some(stamp), Some(last_sequence)) = (batch.producer, batch.last_sequence()) else {
            return;
        };
        let noted = ProducerBatch {
            first_sequence: stamp.first_sequence,
            last_sequence,
            base_offset: batch.base_offset,
        };
        let mut state = match self.states.remove(&stamp.producer_id) {
            Some(state) => state,
            None => ProducerState {
                epoch: stamp.producer_epoch,
                batches: VecDeque::with_capacity(BATCHES_PER_PRODUCER),
            },
        };
        self.forget_use(&state);
        state.note(stamp.producer_epoch, noted);
        self.put(stamp.producer_id, state, max_producers);
    }

    fn forget_use(&mut self, state: &ProducerState) {
        if let Some(last_used) = state.last_used() {
            self.by_use.remove(&last_used);
        }
    }

    fn put(&mut self, id: ProducerId, state: ProducerState, max_producers: usize) {
        if let Some(last_used) = state.last_used() {
            self.by_use.insert(last_used, id);
            self.states.insert(id, state);
        }
        while self.states.len() > max_producers {
            let Some((_, id)) = self.by_use.pop_first() else {
                return;
            };
            self.states.remove(&id);
        }
    }
}

/// Judges the batches of one write, which count only once it has succeeded.
#[derive(Debug)]
pub(crate) struct StagedProducers<'a> {
    table: &'a ProducerTable,
    touched: HashMap<ProducerId, ProducerState>,
}

impl<'a> StagedProducers<'a> {
    pub(crate) fn new(table: &'a ProducerTable) -> Self {
        Self {
            table,
            touched: HashMap::new(),
        }
    }

    /// Judges `batch`, which would get `base_offset`; if it is new, later ones are judged as if it
    /// were in the log.
    pub(crate) fn stage(&mut self, batch: &BatchHeader, base_offset: Offset) -> Verdict {
        let (Some(stamp), Some(last_sequence)) = (batch.producer, batch.last_sequence()) else {
            return Verdict::New;
        };
        let id = stamp.producer_id;
        let known = match self.touched.get(&id) {
            Some(state) => Some(state),
            None => self.table.states.get(&id),
        };
        let verdict = match known {
            Some(state) => state.judge(&stamp, last_sequence),
            None if stamp.first_sequence == 0 => Verdict::New,
            None => Verdict::Rejected(RejectReason::UnknownProducer),
        };
        if verdict == Verdict::New {
            let mut state = known.cloned().unwrap_or(ProducerState {
                epoch: stamp.producer_epoch,
                batches: VecDeque::new(),
            });
            state.note(
                stamp.producer_epoch,
                ProducerBatch {
                    first_sequence: stamp.first_sequence,
                    last_sequence,
                    base_offset,
                },
            );
            self.touched.insert(id, state);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stamped;

    const DUPLICATE_AT_0: Verdict = Verdict::Duplicate {
        base_offset: 0,
        next_offset: 2,
    };

    fn out_of_order(expected: u32, got: u32) -> Verdict {
        Verdict::Rejected(RejectReason::OutOfOrder { expected, got })
    }

    /// Producer, epoch, first sequence, records.
    type Batch = (u64, u16, u32, u32);

    /// Judges batches one after the other, appending what is new.
    fn check(batches: &[(Batch, Verdict)]) {
        let mut table = ProducerTable::default();
        let mut end_offset = 0;
        for (step, ((id, epoch, first, records), expected)) in batches.iter().enumerate() {
            let batch = stamped(*id, *epoch, *first, *records, end_offset);
            let verdict = StagedProducers::new(&table).stage(&batch, end_offset);
            assert_eq!(verdict, *expected, "step {step}");
            if verdict == Verdict::New {
                table.note(&batch, 2);
                end_offset = batch.next_offset();
            }
        }
    }

    #[test]
    fn sequences_follow_each_other() {
        check(&[
            ((1, 0, 0, 2), Verdict::New),
            ((1, 0, 2, 1), Verdict::New),
            ((1, 0, 4, 1), out_of_order(3, 4)),
            ((1, 0, 3, 1), Verdict::New),
        ]);
    }

    #[test]
    fn the_last_batches_are_recognised() {
        let last = BATCHES_PER_PRODUCER as u32;
        let mut steps = vec![((1, 0, 0, 2), Verdict::New), ((1, 0, 0, 2), DUPLICATE_AT_0)];
        steps.extend((2..=last).map(|first| ((1, 0, first, 1), Verdict::New)));
        steps.extend([
            ((1, 0, 0, 2), DUPLICATE_AT_0),
            // It has the first sequence of one, but is another.
            ((1, 0, 0, 1), out_of_order(last + 1, 0)),
            ((1, 0, last + 1, 1), Verdict::New),
            ((1, 0, 0, 2), out_of_order(last + 2, 0)),
        ]);
        check(&steps);
    }

    #[test]
    fn a_higher_epoch_starts_over_and_fences() {
        let fenced = Verdict::Rejected(RejectReason::Fenced { current: 3, got: 0 });
        check(&[
            ((1, 0, 0, 2), Verdict::New),
            ((1, 3, 2, 1), out_of_order(0, 2)),
            ((1, 3, 0, 1), Verdict::New),
            ((1, 0, 2, 1), fenced),
            ((1, 0, 0, 2), fenced),
            ((1, 3, 1, 1), Verdict::New),
        ]);
    }

    #[test]
    fn what_is_not_known_starts_at_zero() {
        let unknown = Verdict::Rejected(RejectReason::UnknownProducer);
        check(&[
            ((1, 0, 5, 1), unknown),
            ((1, 0, 0, 1), Verdict::New),
            ((2, 0, 0, 1), Verdict::New),
            ((1, 0, 1, 1), Verdict::New),
            // The table holds two: this forgets producer 2, the least recently used.
            ((3, 0, 0, 1), Verdict::New),
            ((2, 0, 1, 1), unknown),
            ((1, 0, 2, 1), Verdict::New),
        ]);
    }

    #[test]
    fn sequences_run_around() {
        let mut table = ProducerTable::default();
        let last = i32::MAX as u32;
        table.note(&stamped(1, 0, last - 1, 4, 10), 5);
        let mut staged = StagedProducers::new(&table);
        assert_eq!(
            staged.stage(&stamped(1, 0, last - 1, 4, 14), 14),
            Verdict::Duplicate {
                base_offset: 10,
                next_offset: 14
            }
        );
        assert_eq!(staged.stage(&stamped(1, 0, 2, 1, 14), 14), Verdict::New);
    }

    #[test]
    fn what_is_staged_counts_within_the_write_alone() {
        let table = ProducerTable::default();
        let mut staged = StagedProducers::new(&table);
        assert_eq!(staged.stage(&stamped(1, 0, 0, 2, 0), 0), Verdict::New);
        assert_eq!(staged.stage(&stamped(1, 0, 0, 2, 0), 2), DUPLICATE_AT_0);
        assert_eq!(staged.stage(&stamped(1, 0, 2, 1, 0), 2), Verdict::New);
        assert_eq!(table.iter().len(), 0);
    }
}
