//! What the log remembers of idempotent producers, to drop what comes twice and refuse what comes
//! out of order.
//!
//! The rules are Kafka's ([KIP-98](https://cwiki.apache.org/confluence/x/b4-UAw)): within one
//! producer id and epoch, sequences follow each other without a gap from 0 on; the last
//! [`BATCHES_PER_PRODUCER`] batches are recognised when they come again; a higher epoch starts
//! over at 0 and fences the lower ones. One thing is stricter: a producer that the log does not
//! know must start at 0, so that what was forgotten is never silently taken up in the middle.
//!
//! A worker's producer ([`FIRST_WORKER_PRODUCER_ID`]) is another matter. It sends its outputs again
//! after a crash, however long ago it was and whatever else was written since, so the log never
//! forgets its last sequence and drops everything up to it. Gaps are its own affair: an output that
//! a relaxed log lost with a power cut is gone, and what follows it is not refused for that. A
//! higher epoch fences the lower ones and goes on with their sequences.
//!
//! The state is a function of the batch headers in the log. A snapshot spares reading them again, and is
//! needed where what came before is gone, at the log's start. Compaction leaves the headers of the
//! batches by which producers are recognised at its end; at an offset within what is compacted, less
//! may be known than was once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use millstream_protocol::batch::{BatchHeader, ProducerStamp, sequence_after};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, Offset, ProducerEpoch, ProducerId};

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
    pub(crate) fn next_offset(&self) -> Offset {
        // Sequences run around at 2^31, a batch is much shorter.
        let deltas = self.last_sequence.wrapping_sub(self.first_sequence) & (u32::MAX >> 1);
        self.base_offset + u64::from(deltas) + 1
    }

    /// Whether its sequences are in their range.
    pub(crate) fn has_sequences(&self) -> bool {
        self.first_sequence.max(self.last_sequence) <= u32::MAX >> 1
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
    /// It is in the log, at these offsets; a worker's: at these or before.
    Duplicate {
        base_offset: Offset,
        next_offset: Offset,
    },
    /// It does not follow.
    Rejected(RejectReason),
}

/// Whether it is a worker's.
pub(crate) fn is_worker(id: ProducerId) -> bool {
    id >= FIRST_WORKER_PRODUCER_ID
}

/// Whether sequence `a` comes after `b`. They run around at 2^31, so that of two the one that is
/// less than half of that ahead is the later one.
fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b) & (u32::MAX >> 1);
    (1..1 << 30).contains(&ahead)
}

impl ProducerState {
    fn judge_worker(&self, stamp: &ProducerStamp, last_sequence: u32) -> Verdict {
        if stamp.producer_epoch < self.epoch {
            return Verdict::Rejected(RejectReason::Fenced {
                current: self.epoch,
                got: stamp.producer_epoch,
            });
        }
        let Some(newest) = self.batches.back() else {
            return Verdict::New;
        };
        if !is_after(last_sequence, newest.last_sequence) {
            return Verdict::Duplicate {
                base_offset: newest.base_offset,
                next_offset: newest.next_offset(),
            };
        }
        if is_after(stamp.first_sequence, newest.last_sequence) {
            return Verdict::New;
        }
        Verdict::Rejected(RejectReason::OutOfOrder {
            expected: sequence_after(newest.last_sequence, 1),
            got: stamp.first_sequence,
        })
    }

    fn note_worker(&mut self, epoch: ProducerEpoch, batch: ProducerBatch) {
        self.epoch = epoch;
        self.batches.clear();
        self.batches.push_back(batch);
    }

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
    /// Those of workers, which are never forgotten: one for each deployment at each of its input
    /// partitions that has written here.
    workers: BTreeMap<ProducerId, ProducerState>,
}

impl ProducerTable {
    /// How many producers are known.
    pub(crate) fn len(&self) -> usize {
        self.by_use.len() + self.workers.len()
    }

    /// Every producer, the least recently used first, workers behind all others.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        // Every id in `by_use` is in `states`: the two are changed together.
        let ids = self.by_use.values();
        let workers = self.workers.iter().map(|(id, state)| (*id, state));
        ids.map(|id| (*id, &self.states[id])).chain(workers)
    }

    /// Where the batches begin by which producers are recognised.
    pub(crate) fn base_offsets(&self) -> impl Iterator<Item = Offset> + '_ {
        let batches = self.iter().flat_map(|(_, state)| &state.batches);
        batches.map(|batch| batch.base_offset)
    }

    fn get(&self, id: ProducerId) -> Option<&ProducerState> {
        if is_worker(id) {
            self.workers.get(&id)
        } else {
            self.states.get(&id)
        }
    }

    /// The last sequence of a worker's producer.
    pub(crate) fn last_worker_sequence(&self, id: ProducerId) -> Option<u32> {
        let newest = self.workers.get(&id)?.batches.back()?;
        Some(newest.last_sequence)
    }

    /// Takes up a producer from a snapshot.
    pub(crate) fn restore(&mut self, id: ProducerId, state: ProducerState, max_producers: usize) {
        if is_worker(id) {
            self.workers.insert(id, state);
            return;
        }
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
        let new = |batches| ProducerState {
            epoch: stamp.producer_epoch,
            batches: VecDeque::with_capacity(batches),
        };
        if is_worker(stamp.producer_id) {
            let state = self.workers.entry(stamp.producer_id);
            let state = state.or_insert_with(|| new(1));
            return state.note_worker(stamp.producer_epoch, noted);
        }
        let known = self.states.remove(&stamp.producer_id);
        let mut state = known.unwrap_or_else(|| new(BATCHES_PER_PRODUCER));
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
            None => self.table.get(id),
        };
        let worker = is_worker(id);
        let verdict = match known {
            Some(state) if worker => state.judge_worker(&stamp, last_sequence),
            Some(state) => state.judge(&stamp, last_sequence),
            None if worker => Verdict::New,
            None if stamp.first_sequence == 0 => Verdict::New,
            None => Verdict::Rejected(RejectReason::UnknownProducer),
        };
        if verdict == Verdict::New {
            let mut state = known.cloned().unwrap_or(ProducerState {
                epoch: stamp.producer_epoch,
                batches: VecDeque::new(),
            });
            let staged = ProducerBatch {
                first_sequence: stamp.first_sequence,
                last_sequence,
                base_offset,
            };
            if worker {
                state.note_worker(stamp.producer_epoch, staged);
            } else {
                state.note(stamp.producer_epoch, staged);
            }
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
        assert_eq!(table.len(), 0);
    }

    const WORKER: ProducerId = FIRST_WORKER_PRODUCER_ID + 1;

    #[test]
    fn a_workers_outputs_are_known_for_ever() {
        let mut steps = vec![((WORKER, 0, 0, 2), Verdict::New)];
        // Many batches of its own, and more other producers than the table holds.
        steps.extend((2..40).map(|first| ((WORKER, 0, first, 1), Verdict::New)));
        steps.extend((1..5).map(|id| ((id, 0, 0, 1), Verdict::New)));
        let seen = Verdict::Duplicate {
            base_offset: 39,
            next_offset: 40,
        };
        steps.extend([
            ((WORKER, 0, 0, 2), seen),
            ((WORKER, 0, 39, 1), seen),
            // Other boundaries than before.
            ((WORKER, 0, 5, 20), seen),
            ((WORKER, 0, 39, 2), out_of_order(40, 39)),
            ((WORKER, 0, 40, 1), Verdict::New),
        ]);
        check(&steps);
    }

    #[test]
    fn a_worker_may_leave_gaps_and_begin_anywhere() {
        check(&[
            ((WORKER, 0, 70, 2), Verdict::New),
            ((WORKER, 0, 90, 2), Verdict::New),
            ((WORKER + 1, 0, 5, 1), Verdict::New),
        ]);
    }

    #[test]
    fn a_workers_higher_epoch_goes_on_and_fences() {
        let fenced = Verdict::Rejected(RejectReason::Fenced { current: 1, got: 0 });
        let seen = Verdict::Duplicate {
            base_offset: 2,
            next_offset: 3,
        };
        check(&[
            ((WORKER, 0, 0, 2), Verdict::New),
            ((WORKER, 1, 2, 1), Verdict::New),
            ((WORKER, 0, 3, 1), fenced),
            ((WORKER, 1, 0, 2), seen),
            ((WORKER, 1, 3, 1), Verdict::New),
        ]);
    }

    #[test]
    fn a_workers_sequences_run_around() {
        let last = i32::MAX as u32;
        let seen = Verdict::Duplicate {
            base_offset: 0,
            next_offset: 4,
        };
        check(&[
            ((WORKER, 0, last - 1, 4), Verdict::New),
            ((WORKER, 0, last - 1, 4), seen),
            ((WORKER, 0, last, 1), seen),
            ((WORKER, 0, 2, 1), Verdict::New),
        ]);
    }
}
