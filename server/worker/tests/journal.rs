//! A worker that crashes at any point, against a model: every output is there once, in order.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use millstream_protocol::api::plugin::TimerClock;
use millstream_protocol::batch::{BatchBuilder, Compression, RecordBatch};
use millstream_protocol::{
    DIRECT_WORKER_PRODUCER_ID, FIRST_WORKER_PRODUCER_ID, Offset, TopicId, TopicPartition,
};
use millstream_worker::limits::MAX_TIMERS;
use millstream_worker::{
    CommitBuilder, CommitError, Heir, Journal, JournalError, LetterPlace, ParkedRecord, Recovery,
    Sending, StateWriter, Timer,
};
use proptest::prelude::*;
use uuid::Uuid;

fn target(number: u8) -> TopicPartition {
    TopicPartition {
        topic_id: TopicId(Uuid::from_u128(u128::from(number))),
        partition: u32::from(number),
    }
}

fn batch(values: &[String]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    for value in values {
        builder
            .append(7, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder
}

fn parked(offset: Offset) -> ParkedRecord {
    ParkedRecord {
        offset,
        key: (!offset.is_multiple_of(3)).then(|| Bytes::from(vec![offset as u8 % 3])),
        attempts: 1 + offset as u32,
        due_ms: offset as i64 * 10,
        reason: format!("reason of {offset}"),
        batch: Bytes::from(format!("record {offset}")),
    }
}

/// What a journal said at some moment: records, keys and values.
type Known = Vec<(Vec<u8>, Vec<u8>)>;

/// What survives a crash: the journal's batches, and the logs that outputs go to.
#[derive(Default)]
struct World {
    /// By their number.
    journal: Vec<(u64, Bytes)>,
    batches: u64,
    /// What the journal said at some moment, and the first batch to be read behind it.
    checkpoint: Option<(u64, Known)>,
    outputs: BTreeMap<TopicPartition, Vec<String>>,
    /// The last sequence that each log has.
    last: HashMap<TopicPartition, u32>,
}

impl World {
    /// What an output's log does with a worker's batch.
    fn append(&mut self, target: TopicPartition, batch: &Bytes) {
        let batch = RecordBatch::parse(batch.clone()).unwrap();
        let stamp = batch.header().producer.unwrap();
        assert_eq!(stamp.producer_id, FIRST_WORKER_PRODUCER_ID);
        let last = batch.header().last_sequence().unwrap();
        if self.last.get(&target).is_some_and(|seen| last <= *seen) {
            return;
        }
        let expected = self.last.get(&target).map_or(0, |seen| seen + 1);
        assert_eq!(stamp.first_sequence, expected, "sequences have no gap");
        self.last.insert(target, last);
        let log = self.outputs.entry(target).or_default();
        for record in batch.records().unwrap().iter() {
            let value = record.unwrap().value.unwrap().to_vec();
            log.push(String::from_utf8(value).unwrap());
        }
    }

    /// Adds a batch to the journal. Returns its number.
    fn commit(&mut self, batch: Bytes) -> u64 {
        self.batches += 1;
        self.journal.push((self.batches, batch));
        self.batches
    }

    /// Takes away what later records of the same key supersede, below `batches`.
    fn compact(&mut self, batches: usize) {
        let mut newest = HashMap::new();
        for (number, (_, batch)) in self.journal.iter().enumerate() {
            for record in RecordBatch::parse(batch.clone())
                .unwrap()
                .records()
                .unwrap()
                .iter()
            {
                newest.insert(record.unwrap().key.unwrap().to_vec(), number);
            }
        }
        let mut compacted = Vec::new();
        for (number, (batch_number, bytes)) in self.journal.iter().enumerate() {
            let batch = RecordBatch::parse(bytes.clone()).unwrap();
            let kept = millstream_protocol::batch::retain(&batch, |record| {
                number >= batches || newest[record.key.unwrap()] == number
            });
            compacted.extend(kept.unwrap().map(|kept| (*batch_number, kept)));
        }
        self.journal = compacted;
    }

    fn recover(&self) -> (Journal, Vec<Sending>) {
        let mut recovery = Recovery::default();
        let (from, known) = self.checkpoint.clone().unwrap_or_default();
        for (key, value) in known {
            recovery.record(key.into(), Some(value.into())).unwrap();
        }
        for (_, batch) in self.journal.iter().filter(|(number, _)| *number >= from) {
            let records = RecordBatch::parse(batch.clone())
                .unwrap()
                .records()
                .unwrap();
            for record in records.into_owned() {
                let (_, record) = record.unwrap();
                recovery.record(record.key.unwrap(), record.value).unwrap();
            }
        }
        recovery
            .finish()
            .unwrap()
            .unwrap_or_else(|| (Journal::new(FIRST_WORKER_PRODUCER_ID, 0), Vec::new()))
    }
}

/// One turn: what is emitted where, what is parked, what is released.
#[derive(Clone, Debug)]
struct Turn {
    emits: Vec<(u8, u8)>,
    park: bool,
    release: bool,
    /// Of these keys, those with a time are set and the others cancelled.
    timers: Vec<(u8, Option<i64>)>,
    /// Whose state it is from here on, and who takes it over.
    writer: Option<(u8, Option<u8>)>,
    /// The partition of dead letters, and up to which one they are handed back.
    handed_back: Option<(u8, LetterPlace)>,
    /// Afterwards, what the journal says is kept elsewhere too.
    checkpoint: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Goes,
    /// Outputs are sent later, while further turns go on.
    SentLater,
    CrashBeforeCommit,
    CrashBeforeSending,
    /// After so many of the outputs.
    CrashWhileSending(usize),
    /// They have arrived, and nobody has noted it.
    CrashAfterSending,
    CompactThenCrash(usize),
}

fn writer((digest, heir): (u8, Option<u8>)) -> StateWriter {
    StateWriter {
        heir: heir.map(|heir| Heir {
            digest: heir.to_string(),
            cursor: vec![heir],
        }),
        ..StateWriter::new(digest.to_string())
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Goes),
        3 => Just(Fate::SentLater),
        1 => Just(Fate::CrashBeforeCommit),
        1 => Just(Fate::CrashBeforeSending),
        1 => (0..3_usize).prop_map(Fate::CrashWhileSending),
        1 => Just(Fate::CrashAfterSending),
        1 => (0..40_usize).prop_map(Fate::CompactThenCrash),
    ]
}

fn letter_place() -> impl Strategy<Value = LetterPlace> {
    (1..4_u32, 0..9_u64).prop_map(|(leader_epoch, offset)| LetterPlace {
        leader_epoch,
        offset,
    })
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (
        proptest::collection::vec((0..3_u8, 1..4_u8), 0..4),
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec((0..4_u8, proptest::option::of(0..50_i64)), 0..3),
        proptest::option::of((0..3_u8, proptest::option::of(0..3_u8))),
        proptest::option::of((0..2_u8, letter_place())),
        proptest::bool::weighted(0.2),
        fate(),
    );
    let turn = turn.prop_map(
        |(emits, park, release, timers, writer, handed_back, checkpoint, fate)| Turn {
            emits,
            park,
            release,
            timers,
            writer,
            handed_back,
            checkpoint,
            fate,
        },
    );
    proptest::collection::vec(turn, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_output_is_there_once_and_in_order(turns in turns()) {
        let mut world = World::default();
        let mut expected: BTreeMap<TopicPartition, Vec<String>> = BTreeMap::new();
        let mut expected_parked: BTreeMap<Offset, ParkedRecord> = BTreeMap::new();
        let mut expected_timers: BTreeMap<u8, i64> = BTreeMap::new();
        let mut expected_writer = None;
        let mut expected_handed_back = BTreeMap::new();
        let (mut journal, _) = world.recover();
        let mut waiting: Vec<Sending> = Vec::new();
        let mut batch_of: HashMap<u64, u64> = HashMap::new();
        for (number, turn) in turns.iter().enumerate() {
            let mut crash = false;
            if !journal.has_room() {
                for sending in waiting.drain(..) {
                    for output in &sending.outputs {
                        world.append(output.target, &output.batch);
                    }
                    journal.settled(sending.commit);
                }
            }
            let offset = journal.next_offset();
            // A turn that is lost is computed again, and comes to something else.
            let mut outputs: Vec<(TopicPartition, Vec<String>)> = Vec::new();
            let mut builder = CommitBuilder::new(&journal, 1);
            for (output, records) in &turn.emits {
                let values: Vec<_> = (0..*records).map(|it| format!("{number}/{output}/{it}")).collect();
                builder.emit(target(*output), batch(&values)).unwrap();
                outputs.push((target(*output), values));
            }
            builder.advance_to(offset + 1);
            if turn.park {
                builder.park(parked(offset)).unwrap();
            }
            let released = journal.parked().iter().next().map(|it| it.offset).filter(|_| turn.release);
            if let Some(released) = released {
                builder.release(released).unwrap();
            }
            for (key, at_ms) in &turn.timers {
                let (clock, key) = (TimerClock::WallTime, Bytes::from(vec![*key]));
                match at_ms {
                    Some(at_ms) => builder.set_timer(Timer::new(clock, key, *at_ms)),
                    None => builder.remove_timer(clock, key),
                }
            }
            if let Some(said) = turn.writer {
                builder.note_writer(writer(said));
            }
            if let Some((letters, last)) = turn.handed_back {
                builder.hand_back(target(letters), last).unwrap();
            }
            builder.reach(offset as i64);
            let commit = builder.finish().unwrap();
            if matches!(turn.fate, Fate::CrashBeforeCommit) {
                crash = true;
            } else {
                let batch = world.commit(commit.batch.clone().freeze());
                for (target, values) in outputs {
                    expected.entry(target).or_default().extend(values);
                }
                if turn.park {
                    expected_parked.insert(offset, parked(offset));
                }
                if let Some(released) = released {
                    expected_parked.remove(&released);
                }
                expected_writer = turn.writer.map(writer).or(expected_writer);
                expected_handed_back.extend(turn.handed_back);
                for (key, at_ms) in &turn.timers {
                    match at_ms {
                        Some(at_ms) => expected_timers.insert(*key, *at_ms),
                        None => expected_timers.remove(key),
                    };
                }
                let sending = journal.committed(commit);
                batch_of.insert(sending.commit, batch);
                waiting.push(sending);
            }
            let (sent, noted) = match turn.fate {
                Fate::Goes => (usize::MAX, true),
                Fate::SentLater => (0, true),
                Fate::CrashWhileSending(outputs) => (outputs, false),
                Fate::CrashAfterSending => (usize::MAX, false),
                Fate::CrashBeforeCommit | Fate::CrashBeforeSending => (0, false),
                Fate::CompactThenCrash(batches) => {
                    world.compact(batches);
                    (0, false)
                }
            };
            crash |= !noted;
            let all = waiting.iter().flat_map(|sending| &sending.outputs);
            for output in all.take(sent) {
                world.append(output.target, &output.batch);
            }
            if sent == usize::MAX {
                for sending in waiting.drain(..).filter(|_| noted) {
                    journal.settled(sending.commit);
                }
            }
            if turn.checkpoint && !crash {
                let sending = waiting.iter().filter(|sending| !sending.outputs.is_empty());
                let oldest = sending.map(|sending| batch_of[&sending.commit]).min();
                let from = oldest.unwrap_or(world.batches + 1);
                world.checkpoint = Some((from, journal.records()));
            }
            if crash {
                let sendings;
                (journal, sendings) = world.recover();
                waiting = sendings;
            }
            let is: Vec<_> = journal.parked().iter().cloned().collect();
            let should: Vec<_> = expected_parked.values().cloned().collect();
            prop_assert_eq!(is, should);
            let timers = journal.timers().due(i64::MAX, i64::MAX, usize::MAX);
            let timers: BTreeMap<_, _> = timers.iter().map(|it| (it.key[0], it.at_ms)).collect();
            prop_assert_eq!(&timers, &expected_timers);
            prop_assert_eq!(journal.writer(), expected_writer.as_ref());
            for letters in 0..2 {
                let known = journal.handed_back(&target(letters));
                prop_assert_eq!(known.as_ref(), expected_handed_back.get(&letters));
            }
            let done = journal.next_offset().checked_sub(1);
            prop_assert_eq!(journal.record_time_ms(), done.map_or(i64::MIN, |offset| offset as i64));
        }
        for sending in &waiting {
            for output in &sending.outputs {
                world.append(output.target, &output.batch);
            }
        }
        prop_assert_eq!(&world.outputs, &expected);
    }

    #[test]
    fn bytes_that_are_no_journal_are_refused(key in proptest::collection::vec(any::<u8>(), 0..30),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60))) {
        // Whatever it is, it does not panic.
        let mut recovery = Recovery::default();
        if recovery.record(key.into(), value.map(Bytes::from)).is_ok() {
            let _ = recovery.finish();
        }
    }
}

#[test]
fn outputs_of_several_megabytes_come_back() {
    let mut world = World::default();
    let (mut journal, _) = world.recover();
    let mut builder = CommitBuilder::new(&journal, 1);
    let values: Vec<String> = (0..5).map(|it| it.to_string().repeat(900_000)).collect();
    for value in &values {
        builder
            .emit(target(1), batch(std::slice::from_ref(value)))
            .unwrap();
    }
    let commit = builder.finish().unwrap();
    world.commit(commit.batch.clone().freeze());
    let sent = journal.committed(commit);
    let (_, again) = world.recover();
    assert_eq!(again, [sent]);
}

#[test]
fn a_commit_that_is_too_large_is_refused() {
    let journal = Journal::new(FIRST_WORKER_PRODUCER_ID, 0);
    let mut builder = CommitBuilder::new(&journal, 1);
    let value = "x".repeat(1_000_000);
    let too_large = |result| matches!(result, Err(CommitError::TooLarge { .. }));
    let refused =
        (0..9).any(|_| too_large(builder.emit(target(1), batch(std::slice::from_ref(&value)))));
    assert!(refused || too_large(builder.finish().map(|_| ())));
    let mut builder = CommitBuilder::new(&journal, 1);
    assert!((0..9).any(|_| too_large(builder.change_state(b"key", Some(value.as_bytes())))));
}

#[test]
fn what_goes_out_first_has_sequences_of_its_own() {
    let mut world = World::default();
    let (mut journal, _) = world.recover();
    let sequences = |journal: &Journal| {
        let mut builder = CommitBuilder::new(journal, 1);
        let two = ["a".to_owned(), "b".to_owned()];
        builder.emit_direct(target(1), batch(&two)).unwrap();
        builder.emit_direct(target(1), batch(&two)).unwrap();
        builder.emit(target(1), batch(&two)).unwrap();
        let commit = builder.finish().unwrap();
        let stamp = |bytes: &Bytes| {
            let batch = RecordBatch::parse(bytes.clone()).unwrap();
            let stamp = batch.header().producer.unwrap();
            (stamp.producer_id, stamp.first_sequence)
        };
        let stamps: Vec<_> = commit.direct.iter().map(|it| stamp(&it.batch)).collect();
        (stamps, commit)
    };
    let direct = FIRST_WORKER_PRODUCER_ID | DIRECT_WORKER_PRODUCER_ID;
    let (first, lost) = sequences(&journal);
    assert_eq!(first, [(direct, 0), (direct, 2)]);
    drop(lost);
    let (again, commit) = sequences(&journal);
    assert_eq!(again, first, "without its commit it comes again as it was");
    world.commit(commit.batch.clone().freeze());
    let sending = journal.committed(commit);
    assert_eq!(
        sending.outputs.len(),
        1,
        "what goes out first is not sent again"
    );
    assert_eq!(journal.direct_sequence(&target(1)), 4);
    let (recovered, sendings) = world.recover();
    assert_eq!(recovered.direct_sequence(&target(1)), 4);
    assert_eq!(sendings, [sending]);
    let (next, _) = sequences(&recovered);
    assert_eq!(next, [(direct, 4), (direct, 6)]);
}

#[test]
fn no_more_timers_wait_than_may_wait() {
    let mut journal = Journal::new(FIRST_WORKER_PRODUCER_ID, 0);
    let set = |builder: &mut CommitBuilder<'_>, number: usize| {
        let key = Bytes::from(number.to_string());
        builder.set_timer(Timer::new(TimerClock::RecordTime, key, 0));
    };
    let mut builder = CommitBuilder::new(&journal, 1);
    (0..MAX_TIMERS).for_each(|number| set(&mut builder, number));
    let commit = builder.finish().unwrap();
    journal.committed(commit);
    let mut again = CommitBuilder::new(&journal, 1);
    set(&mut again, 0);
    assert!(again.finish().is_ok(), "it is there already");
    let mut one_more = CommitBuilder::new(&journal, 1);
    set(&mut one_more, MAX_TIMERS);
    let refused = one_more.finish().unwrap_err();
    assert!(matches!(refused, CommitError::Unwritable(_)), "{refused}");
}

#[test]
fn outputs_that_are_missing_are_told() {
    let journal = Journal::new(FIRST_WORKER_PRODUCER_ID, 0);
    let mut builder = CommitBuilder::new(&journal, 1);
    builder.emit(target(1), batch(&["a".to_owned()])).unwrap();
    let commit = builder.finish().unwrap().batch.freeze();
    let mut recovery = Recovery::default();
    for record in RecordBatch::parse(commit)
        .unwrap()
        .records()
        .unwrap()
        .into_owned()
    {
        let (_, record) = record.unwrap();
        let key = record.key.unwrap();
        // All but a part of the last piece.
        let value = match key[0] {
            2 => record.value.map(|it| {
                let mut value = it.to_vec();
                value[8] = 0;
                value.into()
            }),
            _ => record.value,
        };
        recovery.record(key, value).unwrap();
    }
    assert!(matches!(
        recovery.finish(),
        Err(JournalError::LostOutputs(0))
    ));
}
