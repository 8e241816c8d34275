//! The writer: one thread per data directory that owns every partition's log.
//!
//! It drains produced batches of many partitions from its queue, appends each partition's with one
//! vectored write, and hands what must become durable to the [flusher](crate::flusher). While a
//! flush is under way more batches gather, and the next flush covers them all: that is the group
//! commit.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use millstream_log::{Compacted, CompactionError, FlushError, FlushTicket, Flushed, Log};
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{Offset, ProducerId, TopicPartition, WireError};
use tokio::sync::oneshot;

use crate::actor::{Actor, Fault};
use crate::clock;
use crate::config::MAX_WRITER_TURN_BYTES;
use crate::flusher::{self, FlushJob};
use crate::partition::{Partition, StagedBatch};

/// What the writer can be told.
pub(crate) enum WriterCommand {
    /// Takes over an opened log.
    Adopt {
        log: Box<Log>,
        partition: Partition,
        done: oneshot::Sender<()>,
    },
    /// Appends a validated batch.
    Append {
        partition: TopicPartition,
        batch: StagedBatch,
    },
    /// A flush has ended.
    Flushed {
        partition: TopicPartition,
        outcome: Result<Flushed, FlushError>,
    },
    /// The topic's settings have changed.
    Configure {
        partition: TopicPartition,
        config: Box<TopicConfig>,
    },
    /// Forgets the records below an offset.
    DeleteRecords {
        partition: TopicPartition,
        before: Offset,
        done: oneshot::Sender<Result<Offset, WireError>>,
    },
    /// Tells the last sequence that the log has of a worker's producer.
    LastSequence {
        partition: TopicPartition,
        producer_id: ProducerId,
        done: oneshot::Sender<Option<u32>>,
    },
    /// Deletes the partition and its files.
    Remove {
        partition: TopicPartition,
        done: oneshot::Sender<()>,
    },
    /// Looks after retention, compaction, checkpoints and the flushing of relaxed partitions.
    Maintain,
    /// A compaction has ended.
    Compacted {
        partition: TopicPartition,
        outcome: Result<Compacted, CompactionError>,
    },
    /// Flushes and closes everything.
    Stop { done: oneshot::Sender<()> },
}

/// The writer has stopped.
#[derive(Debug)]
pub(crate) struct WriterStopped;

/// The way to the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    commands: mpsc::Sender<WriterCommand>,
}

impl Writer {
    /// Starts the writer and its flusher. A fault that the broker must not survive goes to `faults`.
    pub(crate) fn start(
        faults: tokio::sync::mpsc::UnboundedSender<Fault>,
    ) -> std::io::Result<Self> {
        let (commands, queue) = mpsc::channel();
        let writer = Self { commands };
        let flushes = flusher::start(writer.clone())?;
        let turn = Turn {
            actors: HashMap::new(),
            dirty: Vec::new(),
            staged_bytes: 0,
            flushes_under_way: 0,
            flushes,
            faults,
        };
        let own = writer.clone();
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || turn.run(&queue, &own))?;
        Ok(writer)
    }

    pub(crate) fn send(&self, command: WriterCommand) -> Result<(), WriterStopped> {
        self.commands.send(command).map_err(|_| WriterStopped)
    }
}

/// What the writer's thread holds.
struct Turn {
    actors: HashMap<TopicPartition, Box<Actor>>,
    /// Partitions with staged batches, in the order of their first.
    dirty: Vec<TopicPartition>,
    staged_bytes: usize,
    /// Flushes that the flusher has and has not answered.
    flushes_under_way: usize,
    flushes: mpsc::Sender<FlushJob>,
    faults: tokio::sync::mpsc::UnboundedSender<Fault>,
}

impl Turn {
    fn run(mut self, queue: &mpsc::Receiver<WriterCommand>, writer: &Writer) {
        while let Ok(first) = queue.recv() {
            let mut next = Some(first);
            while let Some(command) = next {
                if let WriterCommand::Stop { done } = command {
                    self.stop(queue);
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                    return;
                }
                self.take(command, writer);
                next = if self.staged_bytes < MAX_WRITER_TURN_BYTES {
                    queue.try_recv().ok()
                } else {
                    None
                };
            }
            self.write_staged();
        }
    }

    fn take(&mut self, command: WriterCommand, writer: &Writer) {
        match command {
            WriterCommand::Append { partition, batch } => self.stage(partition, batch),
            WriterCommand::Adopt {
                log,
                partition,
                done,
            } => {
                self.actors
                    .insert(partition.id(), Box::new(Actor::new(*log, partition)));
                let _ = done.send(());
            }
            WriterCommand::Flushed { partition, outcome } => {
                self.flushes_under_way -= 1;
                self.write_staged();
                self.with(partition, |actor, turn| match actor.flushed(outcome) {
                    Ok(()) => turn.flush(partition, actor.next_flush()),
                    Err(fault) => turn.fail(fault),
                });
            }
            WriterCommand::Configure { partition, config } => {
                self.with(partition, |actor, _| actor.configure(*config));
            }
            WriterCommand::DeleteRecords {
                partition,
                before,
                done,
            } => {
                self.write_staged();
                let mut result = Err(crate::errors::partition_gone(partition));
                self.with(partition, |actor, _| result = actor.delete_records(before));
                let _ = done.send(result);
            }
            WriterCommand::LastSequence {
                partition,
                producer_id,
                done,
            } => {
                self.write_staged();
                let mut last = None;
                self.with(partition, |actor, _| {
                    last = actor.last_sequence(producer_id)
                });
                let _ = done.send(last);
            }
            WriterCommand::Remove { partition, done } => {
                self.write_staged();
                if let Some(actor) = self.actors.remove(&partition) {
                    actor.remove();
                }
                let _ = done.send(());
            }
            WriterCommand::Maintain => self.maintain(writer),
            WriterCommand::Compacted { partition, outcome } => {
                self.with(partition, |actor, _| actor.compacted(outcome));
            }
            WriterCommand::Stop { .. } => {}
        }
    }

    fn stage(&mut self, partition: TopicPartition, batch: StagedBatch) {
        let Some(actor) = self.actors.get_mut(&partition) else {
            batch
                .ack
                .send(Err(crate::errors::partition_gone(partition)));
            return;
        };
        self.staged_bytes += batch.bytes.len();
        if actor.stage(batch) {
            self.dirty.push(partition);
        }
    }

    fn write_staged(&mut self) {
        self.staged_bytes = 0;
        let now_ms = clock::now_ms();
        for partition in std::mem::take(&mut self.dirty) {
            self.with(partition, |actor, turn| match actor.write(now_ms) {
                Ok(()) => turn.flush(partition, actor.next_flush()),
                Err(fault) => turn.fail(fault),
            });
        }
    }

    /// Runs `act` on a partition's actor, if it is still there.
    fn with(&mut self, partition: TopicPartition, act: impl FnOnce(&mut Actor, &mut Self)) {
        if let Some(mut actor) = self.actors.remove(&partition) {
            act(&mut actor, self);
            self.actors.insert(partition, actor);
        }
    }

    fn flush(&mut self, partition: TopicPartition, ticket: Option<FlushTicket>) {
        let Some(ticket) = ticket else { return };
        // The flusher outlives the writer's use of it.
        if self.flushes.send(FlushJob { partition, ticket }).is_ok() {
            self.flushes_under_way += 1;
        }
    }

    fn fail(&mut self, fault: Fault) {
        // The broker may be stopping for an earlier fault already.
        let _ = self.faults.send(fault);
    }

    fn maintain(&mut self, writer: &Writer) {
        let now_ms = clock::now_ms();
        let partitions: Vec<_> = self.actors.keys().copied().collect();
        for partition in partitions {
            self.with(partition, |actor, turn| {
                if let Err(fault) = actor.maintain(now_ms, writer) {
                    turn.fail(fault);
                }
                turn.flush(partition, actor.background_flush());
            });
        }
    }

    /// Appends what is queued, waits for the flushes under way, and closes every log.
    fn stop(&mut self, queue: &mpsc::Receiver<WriterCommand>) {
        loop {
            let next = if self.flushes_under_way > 0 {
                queue.recv().ok()
            } else {
                queue.try_recv().ok()
            };
            match next {
                None => break,
                Some(WriterCommand::Append { partition, batch }) => self.stage(partition, batch),
                Some(WriterCommand::Flushed { partition, outcome }) => {
                    self.flushes_under_way -= 1;
                    self.with(partition, |actor, turn| {
                        if let Err(fault) = actor.flushed(outcome) {
                            turn.fail(fault);
                        }
                    });
                }
                // Whoever waits for one of these is told by its dropped channel.
                Some(_) => {}
            }
        }
        let now_ms = clock::now_ms();
        for partition in std::mem::take(&mut self.dirty) {
            self.with(partition, |actor, turn| {
                if let Err(fault) = actor.write(now_ms) {
                    turn.fail(fault);
                }
            });
        }
        for (_, actor) in std::mem::take(&mut self.actors) {
            if let Err(fault) = actor.close() {
                self.fail(fault);
            }
        }
    }
}
