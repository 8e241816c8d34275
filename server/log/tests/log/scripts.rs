//! Scripts: one command a line, and what it answers.

use millstream_log::storage::MemoryStorage;
use millstream_log::{AppendOutcome, Cleanup, Log, LogConfig};
use millstream_protocol::Offset;

use crate::harness::{NOW, Rec, batch, contents, flush, open, records, setup, show, small, stamp};

/// A log under a script.
struct Script {
    storage: MemoryStorage,
    config: LogConfig,
    log: Option<Log>,
    epoch: u32,
    now_ms: i64,
}

impl Script {
    fn new(config: LogConfig) -> Self {
        let storage = MemoryStorage::new();
        let (log, recovery) = open(&storage, &config);
        assert!(recovery.created);
        Self {
            storage,
            config,
            log: Some(log),
            epoch: 0,
            now_ms: NOW,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("an open log")
    }

    /// Commands:
    /// - `append [ID.EPOCH@SEQUENCE] VALUE…`: one batch; a value may be `KEY=VALUE`
    /// - `replicate OFFSET EPOCH VALUE…`: one batch, as a follower
    /// - `epoch N`, `wait MS`: set the leader epoch, let time pass
    /// - `compacted`: from now on, the log is one
    /// - `flush`, `all`, `read OFFSET [UP_TO]`, `time TIMESTAMP`, `epochs EPOCH`
    /// - `delete OFFSET`, `truncate OFFSET`, `retain`, `segments`
    /// - `close`, `crash SEED`: and open again
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words.get(i).and_then(|word| word.parse::<u64>().ok());
        let offset = number(1).unwrap_or(0);
        match words[0] {
            "append" => self.append(&words[1..]),
            "replicate" => self.replicate(offset, number(2).unwrap_or(0) as u32, &words[3..]),
            "epoch" => {
                self.epoch = offset as u32;
                String::new()
            }
            "wait" => {
                self.now_ms += offset as i64;
                String::new()
            }
            "compacted" => {
                self.config.cleanup = Cleanup::Compact;
                let config = self.config.clone();
                self.log().set_config(config);
                String::new()
            }
            "flush" => {
                flush(self.log());
                format!("flushed {}", self.log().flushed_offset())
            }
            "all" => contents(self.log()),
            "read" => self.read(offset, number(2)),
            "time" => self.time(offset as i64),
            "epochs" => format!("{:?}", self.log().epoch_end_offset(offset as u32)),
            "delete" => show_end(self.log().delete_records(offset)),
            "truncate" => show_end(self.log().truncate(offset)),
            "retain" => self.retain(),
            "segments" => {
                let names = crate::harness::files(&self.storage, ".log");
                let bases = names
                    .iter()
                    .filter_map(|name| name[..20].parse::<u64>().ok());
                bases
                    .map(|base| base.to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            "close" => {
                self.log
                    .take()
                    .expect("an open log")
                    .close()
                    .expect("a clean stop");
                self.reopen(self.storage.clone())
            }
            "crash" => {
                self.log = None;
                self.reopen(self.storage.crash(offset))
            }
            other => panic!("no command {other}"),
        }
    }

    fn append(&mut self, mut words: &[&str]) -> String {
        let mut producer = None;
        if let Some((id, rest)) = words[0].split_once('.') {
            let (epoch, sequence) = rest.split_once('@').expect("ID.EPOCH@SEQUENCE");
            let parsed = |text: &str| text.parse::<u32>().expect("a number");
            producer = Some(stamp(
                parsed(id).into(),
                parsed(epoch) as u16,
                parsed(sequence),
            ));
            words = &words[1..];
        }
        let (epoch, now_ms) = (self.epoch, self.now_ms);
        let batch = batch(&recs(words), now_ms, producer);
        let mut outcomes = Vec::new();
        match self.log().append(vec![batch], epoch, now_ms, &mut outcomes) {
            Err(error) => error.to_string(),
            Ok(()) => match outcomes[0] {
                AppendOutcome::Appended {
                    base_offset,
                    next_offset,
                } => format!("{base_offset}..{next_offset}"),
                AppendOutcome::Duplicate {
                    base_offset,
                    next_offset,
                } => format!("again {base_offset}..{next_offset}"),
                AppendOutcome::Rejected(reason) => reason.to_string(),
            },
        }
    }

    fn replicate(&mut self, offset: Offset, epoch: u32, words: &[&str]) -> String {
        let now_ms = self.now_ms;
        let mut batch = batch(&recs(words), now_ms, None);
        millstream_protocol::batch::assign(&mut batch.bytes, offset, epoch).expect("a place");
        batch.header.base_offset = offset;
        batch.header.leader_epoch = epoch;
        match self.log().append_as_follower(vec![batch], now_ms) {
            Ok(end) => format!("end {end}"),
            Err(error) => error.to_string(),
        }
    }

    fn read(&mut self, offset: Offset, up_to: Option<Offset>) -> String {
        let reader = self.log().reader();
        match reader.read(offset, up_to.unwrap_or(Offset::MAX), 1) {
            Ok(read) => {
                let shown: Vec<_> = records(&read.batches, 0).iter().map(show).collect();
                let shown = format!("{} then {}", shown.join(" "), read.next_offset);
                shown.trim_start().to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    fn time(&mut self, timestamp_ms: i64) -> String {
        let reader = self.log().reader();
        let found = reader.offset_for_time(NOW + timestamp_ms, Offset::MAX);
        match found.expect("a sound log") {
            Some((offset, at)) => format!("{offset} at {}", at - NOW),
            None => "none".to_owned(),
        }
    }

    fn retain(&mut self) -> String {
        let now_ms = self.now_ms;
        match self.log().plan_retention(Offset::MAX, now_ms) {
            None => "nothing".to_owned(),
            Some(plan) => show_end(self.log().apply_retention(plan, now_ms)),
        }
    }

    fn reopen(&mut self, storage: MemoryStorage) -> String {
        let setup = setup(&storage, &self.config);
        let (log, recovery) = Log::create_or_open(setup, self.now_ms).expect("a log");
        assert_eq!(recovery.damage, []);
        self.storage = storage;
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        self.log = Some(log);
        let how = if recovery.clean_stop {
            "clean"
        } else {
            "unclean"
        };
        format!("{how} {start}..{end}")
    }
}

fn recs(words: &[&str]) -> Vec<Rec> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Rec::keyed(key, Some(value.to_owned())),
            None => Rec::value(*word),
        })
        .collect()
}

fn show_end(result: Result<Offset, millstream_log::ChangeError>) -> String {
    match result {
        Ok(offset) => offset.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Runs a script of lines `command -> answer`.
fn check_with(config: LogConfig, script: &str) {
    let mut log = Script::new(config);
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (command, expected) = line.split_once("->").unwrap_or((line, ""));
        assert_eq!(log.run(command.trim()), expected.trim(), "{line}");
    }
}

fn check(script: &str) {
    check_with(small(), script);
}

#[test]
fn offsets_are_given_in_order() {
    check(
        "
        append a b -> 0..2
        append c -> 2..3
        all -> 0:a 1:b 2:c
        read 1 -> 0:a 1:b then 2
        read 2 -> 2:c then 3
        read 3 -> then 3
        read 4 -> offset 4 is out of range, 0 to 3
        read 0 1 -> then 0
        read 0 2 -> 0:a 1:b then 2
        ",
    );
}

#[test]
fn what_comes_twice_is_appended_once() {
    check(
        "
        append 7.0@0 a b -> 0..2
        append 7.0@0 a b -> again 0..2
        append 7.0@2 c -> 2..3
        append 7.0@0 a b -> again 0..2
        append 7.0@4 e -> sequence 4 does not follow, 3 would
        append 8.0@1 x -> the producer is not known
        append 7.1@0 d -> 3..4
        append 7.0@3 d -> producer epoch 0 was fenced by 1
        all -> 0:a 1:b 2:c 3:d
        close -> clean 0..4
        append 7.1@0 d -> again 3..4
        append 7.1@1 e -> 4..5
        flush -> flushed 5
        crash 1 -> unclean 0..5
        append 7.1@1 e -> again 4..5
        append 7.1@2 f -> 5..6
        ",
    );
}

#[test]
fn a_stop_is_clean_until_something_is_appended() {
    check(
        "
        close -> clean 0..0
        close -> clean 0..0
        append a -> 0..1
        close -> clean 0..1
        crash 1 -> clean 0..1
        append b -> 1..2
        flush -> flushed 2
        crash 1 -> unclean 0..2
        crash 1 -> unclean 0..2
        ",
    );
}

#[test]
fn segments_roll_by_size() {
    let value = "v".repeat(300);
    check(&format!(
        "
        append {value} -> 0..1
        append {value} -> 1..2
        segments -> 0
        append {value} -> 2..3
        append b -> 3..4
        segments -> 0 2
        read 3 -> 3:b then 4
        read 1 -> 1:{value} then 2
        "
    ));
}

#[test]
fn segments_roll_by_age() {
    let config = LogConfig {
        segment_ms: 100,
        ..small()
    };
    check_with(
        config,
        "
        wait 500
        append a -> 0..1
        wait 99
        append b -> 1..2
        segments -> 0
        wait 1
        append c -> 2..3
        segments -> 0 2
        wait 500
        append d -> 3..4
        segments -> 0 2 3
        ",
    );
}

#[test]
fn deleted_records_stay_deleted() {
    let value = "v".repeat(300);
    check(&format!(
        "
        append a -> 0..1
        append {value} -> 1..2
        append {value} -> 2..3
        append {value} -> 3..4
        append b -> 4..5
        segments -> 0 3
        delete 1 -> 1
        read 0 -> offset 0 is out of range, 1 to 5
        crash 3 -> unclean 1..5
        delete 3 -> 3
        segments -> 3
        delete 2 -> 3
        delete 9 -> offset 9 lies outside the log, 3 to 5
        delete 5 -> 5
        append c -> 5..6
        all -> 5:c
        close -> clean 5..6
        all -> 5:c
        "
    ));
}

#[test]
fn retention_removes_what_is_old() {
    let value = "v".repeat(700);
    let config = LogConfig {
        retention_ms: Some(1000),
        ..small()
    };
    check_with(
        config,
        &format!(
            "
            append {value} -> 0..1
            wait 500
            append {value} -> 1..2
            retain -> nothing
            wait 501
            retain -> nothing
            flush -> flushed 2
            retain -> 1
            segments -> 1
            wait 500
            retain -> 2
            segments -> 2
            append a -> 2..3
            all -> 2:a
            "
        ),
    );
}

#[test]
fn retention_by_size_keeps_the_active_segment() {
    let value = "v".repeat(700);
    let config = LogConfig {
        retention_bytes: Some(1),
        ..small()
    };
    check_with(
        config,
        &format!(
            "
            append {value} -> 0..1
            append {value} -> 1..2
            append {value} -> 2..3
            flush -> flushed 3
            retain -> 2
            retain -> nothing
            crash 5 -> unclean 2..3
            "
        ),
    );
}

#[test]
fn truncation_cuts_at_a_batch() {
    let value = "v".repeat(700);
    check(&format!(
        "
        append 1.0@0 a b -> 0..2
        append 1.0@2 c d -> 2..4
        append {value} -> 4..5
        append 2.0@0 {value} -> 5..6
        flush -> flushed 6
        truncate 7 -> offset 7 lies outside the log, 0 to 6
        truncate 6 -> 6
        truncate 3 -> 2
        all -> 0:a 1:b
        segments -> 0
        append 1.0@2 x -> 2..3
        append 2.0@0 y -> 3..4
        flush -> flushed 4
        crash 2 -> unclean 0..4
        append 1.0@0 a b -> again 0..2
        truncate 0 -> 0
        append 1.0@0 z -> 0..1
        all -> 0:z
        "
    ));
}

#[test]
fn truncation_reaches_into_a_sealed_segment() {
    let value = "v".repeat(300);
    check(&format!(
        "
        append a -> 0..1
        append {value} -> 1..2
        append {value} -> 2..3
        append {value} -> 3..4
        append {value} -> 4..5
        segments -> 0 3
        read 0 -> 0:a then 1
        truncate 2 -> 2
        append b -> 2..3
        flush -> flushed 3
        read 0 -> 0:a then 1
        read 2 -> 2:b then 3
        crash 4 -> unclean 0..3
        read 2 -> 2:b then 3
        append c -> 3..4
        read 3 -> 3:c then 4
        "
    ));
}

#[test]
fn times_are_looked_up() {
    let value = "v".repeat(300);
    check(&format!(
        "
        time 0 -> none
        append a b c -> 0..3
        wait 100
        append {value} -> 3..4
        append {value} -> 4..5
        wait 100
        append {value} d -> 5..7
        time -5 -> 0 at 0
        time 1 -> 1 at 1
        time 3 -> 3 at 100
        time 100 -> 3 at 100
        time 101 -> 5 at 200
        time 201 -> 6 at 201
        time 202 -> none
        delete 4 -> 4
        time 0 -> 4 at 100
        close -> clean 4..7
        time 101 -> 5 at 200
        "
    ));
}

#[test]
fn epochs_are_known() {
    check(
        "
        epochs 0 -> None
        append a b -> 0..2
        epoch 3
        append c -> 2..3
        epoch 5
        append d -> 3..4
        epochs 0 -> Some((0, 2))
        epochs 4 -> Some((3, 3))
        epochs 9 -> Some((5, 4))
        epoch 4
        append e -> leader epoch 4 is older than the log's 5
        flush -> flushed 4
        crash 9 -> unclean 0..4
        epochs 4 -> Some((3, 3))
        truncate 3 -> 3
        epochs 9 -> Some((3, 3))
        epoch 4
        append e -> 3..4
        epochs 9 -> Some((4, 4))
        delete 2 -> 2
        epochs 2 -> Some((0, 2))
        close -> clean 2..4
        epochs 3 -> Some((3, 3))
        ",
    );
}

#[test]
fn a_follower_appends_what_follows() {
    check(
        "
        replicate 0 1 a b -> end 2
        replicate 1 1 c -> a batch at offset 1 does not follow the log's end, 2
        replicate 2 0 c -> leader epoch 0 is older than the log's 1
        replicate 2 4 c -> end 3
        epochs 4 -> Some((4, 3))
        all -> 0:a 1:b 2:c
        ",
    );
}

#[test]
fn a_follower_of_a_compacted_log_takes_gaps() {
    let compact = LogConfig {
        cleanup: Cleanup::Compact,
        ..small()
    };
    check_with(
        compact,
        "
        replicate 5 1 k=a -> end 6
        replicate 9 1 k=b -> end 10
        all -> 5:k=a 9:k=b
        read 0 -> 5:k=a then 6
        read 6 -> 9:k=b then 10
        flush -> flushed 10
        crash 1 -> unclean 0..10
        all -> 5:k=a 9:k=b
        ",
    );
}

#[test]
fn a_follower_takes_the_gaps_of_a_log_that_was_compacted_once() {
    check(
        "
        replicate 5 1 k=a -> end 6
        all -> 5:k=a
        crash 1 -> unclean 0..0
        ",
    );
    check(
        "
        replicate 0 1 k=a -> end 1
        replicate 5 1 k=b -> end 6
        segments -> 0 1
        replicate 6 1 k=c -> end 7
        replicate 9 1 k=d -> end 10
        replicate 9 1 k=d -> a batch at offset 9 does not follow the log's end, 10
        segments -> 0 1
        all -> 0:k=a 5:k=b 6:k=c 9:k=d
        flush -> flushed 10
        crash 1 -> unclean 0..10
        all -> 0:k=a 5:k=b 6:k=c 9:k=d
        ",
    );
}
