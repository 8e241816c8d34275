//! Power cuts at every write, sync and rename of a workload, and during recovery.
//!
//! After each, the log must hold every record that was flushed, in order and without a gap, and
//! none that was not appended at its place; and when the producers send again what was not
//! acknowledged, every record must be there exactly once.

use std::collections::{BTreeMap, VecDeque};

use millstream_log::storage::{MemoryStorage, SyncBehaviour};
use millstream_log::{AppendOutcome, Cleanup, Log, LogConfig, Recovery, limits};
use millstream_protocol::Offset;

use crate::harness::{NOW, Read, Rec, batch, open, read_all, setup, small, stamp};

/// What a workload does. Sizes are chosen so that segments hold a few batches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A batch of so many records of a producer.
    Append {
        producer: u64,
        records: u32,
    },
    Flush,
    /// Appends with a flush under way.
    Overlap,
    Checkpoint,
    /// Moves the log's start to so many offsets below the end.
    DeleteTo {
        below_end: u64,
    },
    Retain,
    /// Cuts so many offsets off.
    Truncate {
        back: u64,
    },
    Compact,
    /// Throws the log away and begins one at its end, with what was known of producers.
    Restart,
}

/// A batch as the producer sent it.
#[derive(Clone, Debug)]
struct Sent {
    producer: u64,
    epoch: u16,
    sequence: u32,
    records: Vec<Rec>,
    base_offset: Offset,
    acked: bool,
}

impl Sent {
    fn next_offset(&self) -> Offset {
        self.base_offset + self.records.len() as u64
    }

    fn send(&self, log: &mut Log) -> Result<AppendOutcome, String> {
        let stamp = stamp(self.producer, self.epoch, self.sequence);
        let mut outcomes = Vec::new();
        log.append(
            vec![batch(&self.records, NOW, Some(stamp))],
            0,
            NOW,
            &mut outcomes,
        )
        .map_err(|error| error.to_string())?;
        Ok(outcomes[0])
    }
}

/// What the producers know.
#[derive(Clone, Debug, Default)]
struct Model {
    /// In the order of the log.
    sent: Vec<Sent>,
    /// A batch whose append has failed: it may be there.
    in_doubt: Option<Sent>,
    epoch: u16,
    sequences: BTreeMap<u64, u32>,
    /// The log's start lies between what was confirmed and what was asked for.
    start: (Offset, Offset),
    /// A truncation that was not confirmed.
    truncating_to: Option<Offset>,
    /// A restart that was not confirmed.
    restarting_at: Option<Offset>,
    compacting: bool,
}

impl Model {
    fn end(&self) -> Offset {
        self.sent.last().map_or(0, Sent::next_offset)
    }

    fn border_below(&self, to: Offset) -> Offset {
        let borders = self.sent.iter().map(Sent::next_offset);
        borders
            .take_while(|border| *border <= to)
            .last()
            .unwrap_or(0)
    }

    fn next(&mut self, producer: u64, records: u32, keyed: bool) -> Sent {
        let sequence = *self.sequences.entry(producer).or_default();
        let epoch = self.epoch;
        let records = (0..records).map(|i| {
            let id = format!("{producer}.{epoch}.{}{}", sequence + i, "x".repeat(90));
            if keyed {
                let tombstone = (sequence + i) % 7 == 3;
                Rec::keyed(
                    format!("k{}", (sequence + i) % 3),
                    (!tombstone).then_some(id),
                )
            } else {
                Rec::value(id)
            }
        });
        Sent {
            producer,
            epoch,
            sequence,
            records: records.collect(),
            base_offset: self.end(),
            acked: false,
        }
    }

    fn appended(&mut self, sent: Sent) {
        *self.sequences.entry(sent.producer).or_default() += sent.records.len() as u32;
        self.sent.push(sent);
    }

    fn flushed(&mut self, up_to: Offset) {
        for sent in &mut self.sent {
            sent.acked |= sent.next_offset() <= up_to;
        }
    }

    /// Producers start over after a truncation: what was cut off was never acknowledged to them.
    fn truncated(&mut self, end: Offset) {
        self.sent.retain(|sent| sent.next_offset() <= end);
        self.truncating_to = None;
        self.epoch += 1;
        self.sequences.clear();
    }
}

/// Runs a workload until it ends, or the power does.
fn run(log: &mut Log, model: &mut Model, steps: &[Step], keyed: bool) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    for step in steps {
        match *step {
            Step::Append { producer, records } => append(log, model, producer, records, keyed)?,
            Step::Flush => flush(log, model)?,
            Step::Overlap => {
                let ticket = log.flush_ticket();
                append(log, model, 2, 1, keyed)?;
                if let Some(ticket) = ticket {
                    let up_to = log.flushed(ticket.run()).map_err(|e| text(&e))?;
                    model.flushed(up_to);
                }
            }
            Step::Checkpoint => {
                log.request_checkpoint();
                flush(log, model)?;
            }
            Step::DeleteTo { below_end } => {
                let before = model.end().saturating_sub(below_end);
                model.start.1 = model.start.1.max(before);
                model.start.0 = log.delete_records(before).map_err(|e| text(&e))?;
                model.flushed(log.flushed_offset());
            }
            Step::Retain => {
                if let Some(plan) = log.plan_retention(Offset::MAX, NOW) {
                    model.start.1 = model.start.1.max(plan.delete_before);
                    model.start.0 = log.apply_retention(plan, NOW).map_err(|e| text(&e))?;
                }
            }
            Step::Truncate { back } => {
                let to = model.end().saturating_sub(back).max(model.start.1);
                model.truncating_to = Some(to);
                // The start may lie within the batch that is cut off.
                model.start.0 = model.start.0.min(model.border_below(to));
                let end = log.truncate(to).map_err(|e| text(&e))?;
                model.start.0 = log.log_start_offset();
                model.start.1 = model.start.0;
                model.truncated(end);
                model.flushed(end);
            }
            Step::Restart => {
                flush(log, model)?;
                let at = model.end();
                let told = log.reader().producers_at(at).map_err(|e| text(&e))?;
                // Old or new: it starts at either place.
                model.restarting_at = Some(at);
                log.restart(at, 0, &told, NOW).map_err(|e| text(&e))?;
                model.restarting_at = None;
                model.start = (at, at);
            }
            Step::Compact => {
                let Some(plan) = log.plan_compaction(Offset::MAX, NOW) else {
                    continue;
                };
                model.compacting = true;
                let task = log.compaction_task(plan, NOW).ok_or("no task")?;
                let report = log.install_compaction(task.run()).map_err(|e| text(&e))?;
                assert!(report.installed);
            }
        }
    }
    Ok(())
}

fn append(
    log: &mut Log,
    model: &mut Model,
    producer: u64,
    records: u32,
    keyed: bool,
) -> Result<(), String> {
    // A producer has no more batches under way than the log remembers.
    let of_producer = |sent: &&Sent| sent.producer == producer && !sent.acked;
    if model.sent.iter().filter(of_producer).count() + 2 > limits::BATCHES_PER_PRODUCER {
        flush(log, model)?;
    }
    let sent = model.next(producer, records, keyed);
    model.in_doubt = Some(sent.clone());
    let outcome = sent.send(log)?;
    assert_eq!(
        outcome,
        AppendOutcome::Appended {
            base_offset: sent.base_offset,
            next_offset: sent.next_offset(),
        }
    );
    model.in_doubt = None;
    model.appended(sent);
    Ok(())
}

fn flush(log: &mut Log, model: &mut Model) -> Result<(), String> {
    while let Some(ticket) = log.flush_ticket() {
        let up_to = log
            .flushed(ticket.run())
            .map_err(|error| error.to_string())?;
        model.flushed(up_to);
    }
    Ok(())
}

/// What the crashes of one workload have exercised.
#[derive(Debug, Default)]
struct Exercised {
    crashes: u64,
    torn_tails: u64,
    unacked_survived: u64,
    unacked_lost: u64,
    truncations_finished: u64,
    restarts_finished: u64,
}

/// Checks a log that was opened after a crash, and carries on.
fn check(
    log: &mut Log,
    recovery: &Recovery,
    model: &Model,
    exercised: &mut Exercised,
) -> Result<(), String> {
    if !recovery.damage.is_empty() {
        return Err(format!("damage: {:?}", recovery.damage));
    }
    let start = log.log_start_offset();
    let is_new = Some(start) == model.restarting_at;
    if !(model.start.0..=model.start.1).contains(&start) && !is_new {
        return Err(format!(
            "the log starts at {start}, not in {:?}",
            model.start
        ));
    }
    let read = read_all(log);
    let mut expected = model.sent.clone();
    expected.extend(model.in_doubt.clone());
    if model.compacting {
        check_compacted(&expected, start, log.log_end_offset(), &read)?;
    } else {
        check_dense(&expected, start, &read)?;
    }
    let end = log.log_end_offset();
    let certain = model.truncating_to.unwrap_or(Offset::MAX);
    let lost =
        |sent: &&Sent| sent.acked && sent.next_offset() <= certain && sent.next_offset() > end;
    if let Some(lost) = expected.iter().find(lost) {
        return Err(format!("lost {lost:?}: the log ends at {end}"));
    }
    if model.truncating_to.is_some() {
        // What was cut off is not sent again: the producers start over.
        expected.retain(|sent| sent.next_offset() <= end);
        let mut model = model.clone();
        model.sent = expected;
        model.truncated(end);
        let mut sent = vec![model.next(1, 2, false)];
        sent[0].base_offset = end;
        return send_again(log, &sent, model.epoch, end, exercised);
    }
    send_again(log, &expected, model.epoch, end, exercised)
}

/// What was read is what was sent, from the start on, whole batches.
fn check_dense(expected: &[Sent], start: Offset, read: &[Read]) -> Result<(), String> {
    let sent = expected.iter().flat_map(|sent| {
        let offsets = sent.base_offset..;
        offsets.zip(&sent.records)
    });
    let mut sent = sent.filter(|(offset, _)| *offset >= start);
    for read in read {
        match sent.next() {
            Some((offset, record)) if offset == read.offset && *record == read.record => {}
            other => return Err(format!("read {read:?}, sent {other:?}")),
        }
    }
    Ok(())
}

/// What was read was sent, and what is missing is superseded.
fn check_compacted(
    expected: &[Sent],
    start: Offset,
    end: Offset,
    read: &[Read],
) -> Result<(), String> {
    let mut sent: BTreeMap<Offset, &Rec> = BTreeMap::new();
    for batch in expected {
        sent.extend((batch.base_offset..).zip(&batch.records));
    }
    for read in read {
        if sent.get(&read.offset) != Some(&&read.record) {
            return Err(format!("read {read:?}, sent {:?}", sent.get(&read.offset)));
        }
    }
    let there: BTreeMap<Offset, &Rec> = read.iter().map(|r| (r.offset, &r.record)).collect();
    let mut superseded: BTreeMap<&Option<String>, Offset> = BTreeMap::new();
    for (offset, record) in sent.range(start..end).rev() {
        let later = superseded.insert(&record.key, *offset);
        if later.is_none() && record.value.is_some() && !there.contains_key(offset) {
            return Err(format!("{record:?} at {offset} is gone"));
        }
    }
    Ok(())
}

/// The producers send again what was not acknowledged, and the last batch that was: what is there
/// is recognised, what is not is appended, and then everything is there once.
fn send_again(
    log: &mut Log,
    expected: &[Sent],
    epoch: u16,
    end: Offset,
    exercised: &mut Exercised,
) -> Result<(), String> {
    let mut acked: BTreeMap<u64, &Sent> = BTreeMap::new();
    let mut again: VecDeque<&Sent> = VecDeque::new();
    for sent in expected.iter().filter(|sent| sent.epoch == epoch) {
        if sent.acked {
            acked.insert(sent.producer, sent);
        } else {
            again.push_back(sent);
        }
    }
    // The last acknowledged one is recognised if it is among the producer's last batches.
    acked.retain(|producer, _| {
        let behind = again.iter().filter(|sent| sent.producer == *producer);
        behind.count() < limits::BATCHES_PER_PRODUCER
    });
    let mut next = end;
    for sent in acked.values().copied().chain(again) {
        let is_there = sent.next_offset() <= end;
        if !sent.acked {
            exercised.unacked_survived += u64::from(is_there);
            exercised.unacked_lost += u64::from(!is_there);
        }
        let records = sent.records.len() as u64;
        let right = if is_there {
            AppendOutcome::Duplicate {
                base_offset: sent.base_offset,
                next_offset: sent.next_offset(),
            }
        } else {
            next += records;
            AppendOutcome::Appended {
                base_offset: next - records,
                next_offset: next,
            }
        };
        let outcome = sent.send(log)?;
        if outcome != right {
            return Err(format!("{outcome:?} for {sent:?}, not {right:?}"));
        }
    }
    Ok(())
}

/// How the storage misbehaves besides.
#[derive(Clone, Copy, Default)]
struct Faults {
    sync: SyncBehaviour,
    dir_sync: SyncBehaviour,
}

/// Cuts the power at every operation of the workload.
fn crash_everywhere(
    config: &LogConfig,
    steps: &[Step],
    faults: Faults,
    seeds: u64,
) -> Result<Exercised, String> {
    let mut exercised = Exercised::default();
    for operation in 0.. {
        for seed in 0..seeds {
            let seed = operation * 1000 + seed;
            let storage = MemoryStorage::new();
            storage.set_sync(faults.sync);
            storage.set_dir_sync(faults.dir_sync);
            storage.crash_at(operation);
            let (model, done) = run_all(&storage, config, steps);
            recover(&storage, config, &model, seed, &mut exercised)
                .map_err(|error| format!("operation {operation}, seed {seed}: {error}"))?;
            if done {
                return Ok(exercised);
            }
        }
    }
    Err("the workload has no end".to_owned())
}

/// Runs a workload on a new log. Says whether the power held until the end.
fn run_all(storage: &MemoryStorage, config: &LogConfig, steps: &[Step]) -> (Model, bool) {
    let keyed = config.cleanup == Cleanup::Compact;
    let mut model = Model::default();
    let done = match Log::create_or_open(setup(storage, config), NOW) {
        Err(_) => false,
        Ok((mut log, _)) => run(&mut log, &mut model, steps, keyed).is_ok(),
    };
    (model, done)
}

/// Cuts the power once, after so many 1000ths of the workload's operations.
pub(crate) fn crash_at(
    config: &LogConfig,
    steps: &[Step],
    at: u64,
    seed: u64,
) -> Result<(), String> {
    let whole = MemoryStorage::new();
    let (_, done) = run_all(&whole, config, steps);
    assert!(done, "the workload fails without a crash");
    let storage = MemoryStorage::new();
    storage.crash_at(whole.operations() * at / 1000);
    let (model, _) = run_all(&storage, config, steps);
    let seed = seed % (1 << 40);
    recover(&storage, config, &model, seed, &mut Exercised::default())
}

fn recover(
    storage: &MemoryStorage,
    config: &LogConfig,
    model: &Model,
    seed: u64,
    exercised: &mut Exercised,
) -> Result<(), String> {
    exercised.crashes += 1;
    let crashed = storage.crash(seed);
    // A second power cut, while the log recovers from the first.
    let during = crashed.kill();
    during.crash_at(seed % 13);
    let _ = Log::create_or_open(setup(&during, config), NOW);
    let twice = during.crash(seed + 1);
    // The end of the process alone: the page cache is there, and not all of it durable.
    let killed = storage.kill();
    for storage in [&crashed, &twice, &killed] {
        let (log, recovery) =
            Log::create_or_open(setup(storage, config), NOW).map_err(|error| error.to_string())?;
        exercised.torn_tails += u64::from(recovery.cut_bytes > 0);
        exercised.truncations_finished += u64::from(recovery.truncated);
        exercised.restarts_finished += u64::from(recovery.restarted);
        let recovered = read_all(&log);
        drop(log);
        // What was recovered counts as durable.
        let storage = storage.crash(seed + 2);
        let (mut log, recovery) =
            Log::create_or_open(setup(&storage, config), NOW).map_err(|error| error.to_string())?;
        let harmed = recovery.damage.is_empty() && read_all(&log) != recovered;
        if harmed {
            return Err("a recovered record is gone".to_owned());
        }
        check(&mut log, &recovery, model, exercised)?;
        let end = read_all(&log);
        log.close().map_err(|error| error.to_string())?;
        let (log, recovery) = open(&storage.crash(seed + 3), config);
        if !recovery.clean_stop || read_all(&log) != end {
            return Err("a clean stop was not".to_owned());
        }
    }
    Ok(())
}

fn appends_and_flushes() -> Vec<Step> {
    let append = |producer, records| Step::Append { producer, records };
    vec![
        append(1, 2),
        Step::Flush,
        append(2, 1),
        append(1, 3),
        append(1, 1),
        Step::Flush,
        Step::Overlap,
        append(1, 4),
        append(1, 4),
        Step::Overlap,
        Step::Flush,
        append(2, 1),
        Step::Flush,
        append(1, 5),
        append(2, 5),
        append(1, 5),
        Step::Flush,
        Step::Checkpoint,
        append(1, 1),
        Step::Flush,
        append(1, 2),
        append(2, 2),
    ]
}

fn deletions() -> Vec<Step> {
    let mut steps = appends_and_flushes();
    steps.insert(8, Step::DeleteTo { below_end: 4 });
    steps.insert(14, Step::Retain);
    steps.insert(18, Step::DeleteTo { below_end: 0 });
    steps.push(Step::Retain);
    steps
}

fn truncations() -> Vec<Step> {
    let mut steps = appends_and_flushes();
    steps.insert(5, Step::Truncate { back: 2 });
    steps.insert(12, Step::Truncate { back: 9 });
    steps.insert(20, Step::Truncate { back: 1 });
    steps.push(Step::Truncate { back: 14 });
    steps.push(Step::Append {
        producer: 1,
        records: 2,
    });
    steps.push(Step::Flush);
    steps
}

fn restarts() -> Vec<Step> {
    let mut steps = deletions();
    steps.insert(6, Step::Restart);
    steps.insert(14, Step::Restart);
    steps.insert(22, Step::Restart);
    steps.push(Step::Truncate { back: 3 });
    steps.push(Step::Restart);
    steps.push(Step::Append {
        producer: 1,
        records: 2,
    });
    steps
}

fn compactions() -> Vec<Step> {
    let mut steps = appends_and_flushes();
    steps.insert(14, Step::Compact);
    steps.push(Step::Flush);
    steps.push(Step::Compact);
    steps.push(Step::Append {
        producer: 2,
        records: 6,
    });
    steps.push(Step::Append {
        producer: 2,
        records: 6,
    });
    steps.push(Step::Flush);
    steps.push(Step::Compact);
    steps
}

fn config() -> LogConfig {
    LogConfig {
        retention_bytes: Some(2000),
        ..small()
    }
}

fn compacted() -> LogConfig {
    LogConfig {
        cleanup: Cleanup::Compact,
        tombstone_retention_ms: 0,
        ..small()
    }
}

#[test]
fn flushed_records_survive() {
    let exercised = crash_everywhere(&config(), &appends_and_flushes(), Faults::default(), 6)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(exercised.crashes > 300, "{exercised:?}");
    assert!(exercised.torn_tails > 50, "{exercised:?}");
    assert!(exercised.unacked_survived > 50, "{exercised:?}");
    assert!(exercised.unacked_lost > 50, "{exercised:?}");
}

#[test]
fn deletions_survive() {
    let exercised = crash_everywhere(&config(), &deletions(), Faults::default(), 4)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(exercised.crashes > 300, "{exercised:?}");
}

#[test]
fn truncations_are_finished() {
    let exercised = crash_everywhere(&config(), &truncations(), Faults::default(), 4)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(exercised.truncations_finished > 20, "{exercised:?}");
}

#[test]
fn restarts_are_finished() {
    let exercised = crash_everywhere(&config(), &restarts(), Faults::default(), 4)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(exercised.restarts_finished > 20, "{exercised:?}");
}

#[test]
fn compactions_lose_nothing() {
    let exercised = crash_everywhere(&compacted(), &compactions(), Faults::default(), 4)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(exercised.crashes > 300, "{exercised:?}");
}

#[test]
fn the_harness_sees_a_sync_that_lies() {
    let faults = Faults {
        sync: SyncBehaviour::Lying,
        ..Faults::default()
    };
    let found = crash_everywhere(&config(), &appends_and_flushes(), faults, 12);
    assert!(found.is_err(), "nothing was lost: {found:?}");
}

#[test]
fn the_harness_sees_a_directory_sync_that_lies() {
    let faults = Faults {
        dir_sync: SyncBehaviour::Lying,
        ..Faults::default()
    };
    let found = crash_everywhere(&config(), &appends_and_flushes(), faults, 12);
    assert!(found.is_err(), "nothing was lost: {found:?}");
}
