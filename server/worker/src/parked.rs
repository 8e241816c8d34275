//! Records that wait to be tried again, and the ones that wait behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use millstream_protocol::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_PARKED_BYTES, MAX_PARKED_RECORDS};

/// What a parked record counts beside its bytes.
const OVERHEAD_BYTES: usize = 256;

/// A record that is not done and holds up none but those of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRecord {
    /// Its offset in the input partition.
    pub offset: Offset,
    /// What must stay in order with it: the key, or nothing.
    pub key: Option<Bytes>,
    /// How often it was tried.
    pub attempts: u32,
    /// It is not tried before this time.
    pub due_ms: TimestampMs,
    /// Why the last attempt failed; empty for a record that only waits behind another.
    pub reason: String,
    /// The record, alone in a batch.
    pub batch: Bytes,
}

impl ParkedRecord {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + self.batch.len()
            + self.reason.len()
            + self.key.as_ref().map_or(0, Bytes::len)
    }
}

/// All parked records of a worker. Of each key only the first may be tried.
#[derive(Clone, Debug, Default)]
pub struct ParkedRecords {
    records: BTreeMap<Offset, ParkedRecord>,
    by_key: HashMap<Bytes, BTreeSet<Offset>>,
    /// Those that may be tried, by when.
    ready: BTreeSet<(TimestampMs, Offset)>,
    bytes: usize,
}

impl ParkedRecords {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// In offset order.
    pub fn iter(&self) -> impl Iterator<Item = &ParkedRecord> {
        self.records.values()
    }

    /// Whether more may be parked; beyond it the worker takes no new records.
    pub fn has_room(&self) -> bool {
        self.records.len() < MAX_PARKED_RECORDS && self.bytes < MAX_PARKED_BYTES
    }

    /// The keys of which records wait.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.by_key.keys()
    }

    /// Whether a record of this key would have to wait behind another.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    /// When the next one may be tried.
    pub fn next_due_ms(&self) -> Option<TimestampMs> {
        self.ready.first().map(|(due_ms, _)| *due_ms)
    }

    /// The one to be tried now, if any.
    pub fn due(&self, now_ms: TimestampMs) -> Option<&ParkedRecord> {
        let (due_ms, offset) = self.ready.first()?;
        if *due_ms <= now_ms {
            self.records.get(offset)
        } else {
            None
        }
    }

    pub(crate) fn insert(&mut self, parked: ParkedRecord) {
        self.remove(parked.offset);
        let offset = parked.offset;
        self.bytes += parked.bytes();
        if let Some(key) = &parked.key {
            let queue = self.by_key.entry(key.clone()).or_default();
            let before = queue.first().copied();
            queue.insert(offset);
            match before {
                Some(first) if first < offset => {}
                Some(first) => {
                    if let Some(second) = self.records.get(&first) {
                        self.ready.remove(&(second.due_ms, first));
                    }
                    self.ready.insert((parked.due_ms, offset));
                }
                None => {
                    self.ready.insert((parked.due_ms, offset));
                }
            }
        } else {
            self.ready.insert((parked.due_ms, offset));
        }
        self.records.insert(offset, parked);
    }

    pub(crate) fn remove(&mut self, offset: Offset) {
        let Some(parked) = self.records.remove(&offset) else {
            return;
        };
        self.bytes -= parked.bytes();
        self.ready.remove(&(parked.due_ms, offset));
        let Some(key) = &parked.key else { return };
        let Some(queue) = self.by_key.get_mut(key) else {
            return;
        };
        queue.remove(&offset);
        match queue.first() {
            Some(next) => {
                if let Some(next) = self.records.get(next) {
                    self.ready.insert((next.due_ms, next.offset));
                }
            }
            None => {
                self.by_key.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(offset: Offset, key: Option<&'static str>, due_ms: TimestampMs) -> ParkedRecord {
        ParkedRecord {
            offset,
            key: key.map(Bytes::from),
            attempts: 1,
            due_ms,
            reason: String::new(),
            batch: Bytes::from_static(b"batch"),
        }
    }

    #[test]
    fn the_first_of_a_key_holds_back_the_others() {
        let mut parked = ParkedRecords::default();
        parked.insert(record(5, Some("a"), 50));
        parked.insert(record(6, Some("a"), 0));
        parked.insert(record(7, Some("b"), 20));
        parked.insert(record(8, None, 30));
        assert!(parked.holds(b"a") && !parked.holds(b"c"));
        assert_eq!(parked.due(10), None, "6 waits behind 5");
        assert_eq!(parked.due(25).map(|it| it.offset), Some(7));
        parked.remove(7);
        parked.remove(8);
        assert_eq!(parked.next_due_ms(), Some(50));
        parked.remove(5);
        assert_eq!(parked.due(0).map(|it| it.offset), Some(6));
        parked.remove(6);
        assert!(parked.is_empty() && !parked.holds(b"a"));
        assert_eq!(parked.bytes, 0);
    }

    #[test]
    fn a_record_parked_again_is_due_later() {
        let mut parked = ParkedRecords::default();
        parked.insert(record(5, Some("a"), 50));
        parked.insert(record(5, Some("a"), 90));
        assert_eq!((parked.len(), parked.next_due_ms()), (1, Some(90)));
    }

    proptest! {
        /// The queue is what a plain search through all records would find.
        #[test]
        fn the_first_due_is_found(steps in proptest::collection::vec(
            (0..12_u64, 0..4_usize, 0..100_i64, any::<bool>()), 0..60)) {
            let mut parked = ParkedRecords::default();
            let keys = [None, Some("a"), Some("b"), Some("c")];
            // A record never changes its key.
            for (offset, _, due_ms, insert) in steps {
                let key = keys[offset as usize % 4];
                if insert {
                    parked.insert(record(offset, key, due_ms));
                } else {
                    parked.remove(offset);
                }
                let all: Vec<_> = parked.iter().cloned().collect();
                let heads = all.iter().filter(|it| {
                    it.key.is_none() || !all.iter().any(|other| other.key == it.key && other.offset < it.offset)
                });
                let first = heads.map(|it| (it.due_ms, it.offset)).min();
                prop_assert_eq!(parked.next_due_ms(), first.map(|(due_ms, _)| due_ms));
                prop_assert_eq!(parked.due(i64::MAX).map(|it| it.offset), first.map(|(_, offset)| offset));
                prop_assert_eq!(parked.bytes, all.iter().map(ParkedRecord::bytes).sum::<usize>());
            }
        }
    }
}
