//! Logs that are copied from a compacted one, batch by batch.

use std::collections::BTreeMap;

use bytes::BytesMut;
use millstream_log::storage::MemoryStorage;
use millstream_log::{AppendOutcome, Cleanup, Log, LogConfig, ProducedBatch};
use millstream_protocol::batch::{BatchHeader, epoch_start};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, LeaderEpoch, Offset};
use proptest::prelude::*;

use crate::harness::{
    NOW, Rec, batch, contents, flush, open_sound, read_all, read_from, small, stamp,
};

const WORKER: u64 = FIRST_WORKER_PRODUCER_ID + 3;

fn compact() -> LogConfig {
    LogConfig {
        cleanup: Cleanup::Compact,
        tombstone_retention_ms: 0,
        ..small()
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A batch of a producer (or of none), with a key and a value or a tombstone for each record.
    Append {
        producer: Option<u64>,
        records: Vec<(u8, bool)>,
    },
    /// Another leader's epoch begins.
    Epoch,
    Compact,
    /// Sees to it that all is in sealed segments.
    Roll,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..4_u8, prop::bool::weighted(0.2));
    let producer = prop_oneof![Just(None), (0..3_u64).prop_map(Some), Just(Some(WORKER))];
    let append = (producer, prop::collection::vec(record, 1..4));
    prop_oneof![
        12 => append.prop_map(|(producer, records)| Op::Append { producer, records }),
        2 => Just(Op::Epoch),
        2 => Just(Op::Compact),
        1 => Just(Op::Roll),
    ]
}

struct Leader {
    log: Log,
    epoch: LeaderEpoch,
    sequences: BTreeMap<u64, u32>,
    /// Of each producer: the first sequence, the records, and where they are.
    last: BTreeMap<u64, (u32, Vec<Rec>, AppendOutcome)>,
    /// Between batches, as they were appended.
    borders: Vec<Offset>,
    compacted_until: Offset,
    tombstones: Vec<Offset>,
}

impl Leader {
    fn new() -> Self {
        Self {
            log: open_sound(&MemoryStorage::new(), &compact()),
            epoch: 1,
            sequences: BTreeMap::new(),
            last: BTreeMap::new(),
            borders: Vec::new(),
            compacted_until: 0,
            tombstones: Vec::new(),
        }
    }

    fn run(ops: &[Op]) -> Self {
        let mut leader = Self::new();
        for op in ops {
            leader.apply(op);
            leader.borders.push(leader.log.log_end_offset());
        }
        flush(&mut leader.log);
        leader
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { producer, records } => self.append(*producer, records),
            Op::Epoch => {
                self.epoch += 2;
                begin_epoch(&mut self.log, self.epoch);
            }
            Op::Compact => {
                self.compacted_until = self.compacted_until.max(compact_all(&mut self.log));
            }
            Op::Roll => {
                for _ in 0..4 {
                    self.append(None, &[(0, false), (1, false), (2, false)]);
                }
            }
        }
    }

    fn append(&mut self, producer: Option<u64>, records: &[(u8, bool)]) {
        let first = self.log.log_end_offset();
        let tombstones = (first..)
            .zip(records)
            .filter(|(_, (_, tombstone))| *tombstone);
        self.tombstones.extend(tombstones.map(|(offset, _)| offset));
        let records: Vec<_> = (first..)
            .zip(records)
            .map(|(offset, (key, tombstone))| {
                let pad = "p".repeat(offset as usize * 31 % 150);
                let value = (!tombstone).then(|| format!("{offset}{pad}"));
                Rec::keyed(format!("k{key}"), value)
            })
            .collect();
        let sequence = producer.map(|id| self.sequences.get(&id).copied().unwrap_or(0));
        let outcome = send(&mut self.log, self.epoch, producer.zip(sequence), &records);
        assert!(matches!(outcome, AppendOutcome::Appended { .. }));
        if let Some((id, sequence)) = producer.zip(sequence) {
            self.sequences.insert(id, sequence + records.len() as u32);
            self.last.insert(id, (sequence, records, outcome));
        }
    }
}

fn send(
    log: &mut Log,
    epoch: LeaderEpoch,
    producer: Option<(u64, u32)>,
    records: &[Rec],
) -> AppendOutcome {
    let stamp = producer.map(|(id, sequence)| stamp(id, 0, sequence));
    let batch = batch(records, NOW, stamp);
    let mut outcomes = Vec::new();
    let appended = log.append(vec![batch], epoch, NOW, &mut outcomes);
    appended.expect("an append");
    outcomes[0]
}

fn begin_epoch(log: &mut Log, epoch: LeaderEpoch) {
    let bytes = epoch_start(NOW).expect("a control batch");
    let header = BatchHeader::parse(&bytes).expect("a header");
    let bytes = BytesMut::from(&bytes[..]);
    let batches = vec![ProducedBatch { bytes, header }];
    let appended = log.append(batches, epoch, NOW, &mut Vec::new());
    appended.expect("an append");
}

/// Returns up to where it is compacted; 0 if nothing was to be done.
fn compact_all(log: &mut Log) -> Offset {
    let mut until = 0;
    log.request_checkpoint();
    flush(log);
    while let Some(plan) = log.plan_compaction(Offset::MAX, NOW) {
        let task = log.compaction_task(plan, NOW).expect("a task");
        let report = log.install_compaction(task.run()).expect("a round");
        assert!(report.installed);
        until = report.compacted_until;
    }
    until
}

/// Reads what the leader has behind the follower's end, so many bytes at a time, and appends it.
fn copy(leader: &Log, follower: &mut Log, max_bytes: usize) {
    let (mut offset, end) = (follower.log_end_offset(), leader.log_end_offset());
    while offset < end {
        // The first batch may hold records that were deleted.
        let from = offset.max(leader.log_start_offset());
        let read = leader.reader().read(from, end, max_bytes);
        let read = read.expect("a sound log");
        let batches = read.batches.iter().map(|bytes| ProducedBatch {
            header: BatchHeader::parse(bytes).expect("a header"),
            bytes: BytesMut::from(&bytes[..]),
        });
        let appended = follower.append_as_follower(batches.collect(), NOW);
        // Nothing is missing at the end, nor where a message ends.
        assert_eq!(appended.expect("an append"), read.next_offset);
        offset = read.next_offset;
    }
    flush(follower);
}

fn epochs(log: &Log) -> Vec<(LeaderEpoch, Offset)> {
    log.epochs().collect()
}

/// What a replica must have in common with its leader.
fn known(log: &Log) -> (Vec<(LeaderEpoch, Offset)>, bytes::Bytes, Offset) {
    let end = log.log_end_offset();
    let producers = log.reader().producers_at(end).expect("producers");
    (epochs(log), producers, end)
}

/// The latest of each key; tombstones may be gone.
fn latest(log: &Log) -> BTreeMap<String, (Offset, String)> {
    let mut latest = BTreeMap::new();
    for read in read_all(log) {
        let (Some(key), value) = (read.record.key, read.record.value) else {
            continue;
        };
        match value {
            Some(value) => latest.insert(key, (read.offset, value)),
            None => latest.remove(&key),
        };
    }
    latest
}

fn leads_on(mut log: Log, leader: &Leader) {
    let epoch = leader.epoch + 1;
    begin_epoch(&mut log, epoch);
    for (id, (sequence, records, appended)) in &leader.last {
        let AppendOutcome::Appended {
            base_offset,
            next_offset,
        } = *appended
        else {
            continue;
        };
        let again = send(&mut log, epoch, Some((*id, *sequence)), records);
        let duplicate = AppendOutcome::Duplicate {
            base_offset,
            next_offset,
        };
        assert_eq!(again, duplicate, "producer {id}");
        let next = Some((*id, leader.sequences[id]));
        let went_on = send(&mut log, epoch, next, &[Rec::keyed("k0", None)]);
        assert!(matches!(went_on, AppendOutcome::Appended { .. }));
    }
    log.close().expect("a clean stop");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_of_a_compacted_log_is_as_good(
        ops in prop::collection::vec(op(), 1..90),
        max_bytes in 0..2000_usize,
        (compacts, crashes, seed) in any::<(bool, bool, u64)>(),
        cut in 0..12_u64,
    ) {
        let mut leader = Leader::run(&ops);
        let right = known(&leader.log);
        // A topic that is none any more was compacted all the same.
        let config = if compacts { compact() } else { small() };
        let storage = MemoryStorage::new();
        let mut follower = open_sound(&storage, &config);
        copy(&leader.log, &mut follower, max_bytes);
        prop_assert_eq!(&known(&follower), &right);
        prop_assert_eq!(contents(&follower), contents(&leader.log));
        let gone_until = follower.tombstones_gone_until();
        let there: Vec<_> = read_all(&follower).iter().map(|read| read.offset).collect();
        let mut gone = leader.tombstones.iter().filter(|offset| !there.contains(offset));
        prop_assert!(gone.all(|offset| *offset < gone_until));
        if crashes {
            drop(follower);
            follower = open_sound(&storage.crash(seed), &config);
        } else {
            follower.close().expect("a clean stop");
            follower = open_sound(&storage, &config);
        }
        prop_assert_eq!(&known(&follower), &right);
        prop_assert_eq!(contents(&follower), contents(&leader.log));
        prop_assert_eq!(follower.tombstones_gone_until(), gone_until);
        let mut compacted_until = leader.compacted_until;
        if compacts {
            compacted_until = compacted_until.max(compact_all(&mut follower));
            prop_assert_eq!(&known(&follower), &right);
            prop_assert_eq!(latest(&follower), latest(&leader.log));
        }
        // What is not compacted anywhere can be cut off.
        let mut borders = leader.borders.iter().rev().filter(|to| **to >= compacted_until);
        let to = borders.nth(cut as usize).copied();
        if let Some(to) = to {
            prop_assert_eq!(leader.log.truncate(to).expect("a cut"), to);
            prop_assert_eq!(follower.truncate(to).expect("a cut"), to);
            prop_assert_eq!(known(&follower), known(&leader.log));
            return Ok(());
        }
        leads_on(follower, &leader);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn so_is_one_that_begins_late(
        ops in prop::collection::vec(op(), 1..90),
        max_bytes in 0..2000_usize,
        (compacts, seed) in any::<(bool, u64)>(),
        back in 0..60_u64,
    ) {
        let mut leader = Leader::run(&ops);
        let end = leader.log.log_end_offset();
        leader.log.delete_records(end.saturating_sub(back)).expect("a deletion");
        let at = leader.log.start_border();
        let before = epochs(&leader.log).into_iter().rev().find(|(_, start)| *start < at);
        let epoch = before.map_or(0, |(epoch, _)| epoch);
        let snapshot = leader.log.reader().producers_at(at).expect("producers");
        let config = if compacts { compact() } else { small() };
        let storage = MemoryStorage::new();
        let mut follower = open_sound(&storage, &config);
        follower.restart(at, epoch, &snapshot, NOW).expect("a new beginning");
        copy(&leader.log, &mut follower, max_bytes);
        drop(follower);
        let follower = open_sound(&storage.crash(seed), &config);
        // It knows that the epoch before its start was there, and not since when.
        let mut right = known(&leader.log);
        for (_, start) in right.0.iter_mut().take(1) {
            *start = (*start).max(at.saturating_sub(1));
        }
        prop_assert_eq!(&known(&follower), &right);
        let from = leader.log.log_start_offset();
        let both = [&leader.log, &follower].map(|log| read_from(&log.reader(), from, 300));
        let [left, right] = both.map(|read| read.expect("a sound log"));
        prop_assert_eq!(left, right);
        leads_on(follower, &leader);
    }
}

/// Whatever is left of them, batches say where epochs begin, and by what producers are known.
#[test]
fn what_has_to_be_known_outlives_its_records() {
    let mut leader = Leader::new();
    leader.append(Some(1), &[(0, false)]);
    leader.append(Some(WORKER), &[(0, false)]);
    leader.append(None, &[(0, false)]);
    leader.apply(&Op::Epoch);
    // An epoch that begins without a control batch, as in logs from before there were replicas.
    leader.epoch += 1;
    leader.append(None, &[(0, false)]);
    leader.apply(&Op::Roll);
    leader.apply(&Op::Roll);
    leader.apply(&Op::Compact);
    let read = leader.log.reader().read(0, 100, 0).expect("a batch");
    let headers = |log: &Log| -> Vec<(Offset, u32, bool)> {
        let read = log.reader().read(0, 6, 1 << 20).expect("batches");
        let headers = read
            .batches
            .iter()
            .map(|it| BatchHeader::parse(it).expect("a header"));
        let shown = headers.map(|it| (it.base_offset, it.record_count, it.control));
        shown.collect()
    };
    assert_eq!(read.batches.len(), 1);
    let expected = [
        (0, 0, true),
        (1, 0, true),
        // Behind it an epoch begins.
        (2, 0, true),
        (3, 1, true),
        (4, 0, true),
    ];
    assert_eq!(headers(&leader.log), expected);
    // The producers have gone on: their old batches say nothing any more. Epochs stay.
    for _ in 0..8 {
        leader.append(Some(1), &[(1, false)]);
        leader.append(Some(WORKER), &[(1, false)]);
    }
    leader.apply(&Op::Roll);
    leader.apply(&Op::Roll);
    leader.apply(&Op::Compact);
    assert_eq!(
        headers(&leader.log),
        [(0, 0, true), (2, 0, true), (3, 1, true), (4, 0, true)]
    );
    assert_eq!(epochs(&leader.log), [(1, 0), (3, 3), (4, 4)]);
}
