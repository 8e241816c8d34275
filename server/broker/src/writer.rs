//! The writer: one thread per data directory that owns every partition's log.
//!
//! It drains produced batches of many partitions from its queue, appends each partition's with one
//! vectored write, and hands what must become durable to the [flusher](crate::flusher). While a
//! flush is under way more batches gather, and the next flush covers them all: that is the group
//! commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_log::{
    Compacted, CompactionError, FlushError, FlushTicket, Flushed, Log, ProducedBatch, StateFile,
    StorageFailure,
};
use millstream_offload::Offload;
use millstream_peer::{Links, Room};
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{Offset, ProducerId, TimestampMs, TopicPartition};
use millstream_replication::{Appointment, BrokerId, Durable, Input, Message};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::background::Alarm;
use crate::clock;
use crate::config::{MAX_WRITER_TURN_BYTES, MAX_WRITER_TURN_COMMANDS};
use crate::flusher::{FlushJob, Flusher};
use crate::partition::{Closed, Partition, StagedBatch};
use crate::replicas::ReplicaEvent;
use crate::replicas::actor::{Actor, Fault};
use crate::replicas::deletions::DeletionDone;
use crate::replicas::state::State;

/// What the writer can be told.
pub(crate) enum WriterCommand {
    /// Takes over an opened log, and its replica. Without one it is only read.
    Adopt {
        log: Box<Log>,
        durable: Option<Durable>,
        /// There is no other replica.
        is_alone: bool,
        partition: Partition,
        done: oneshot::Sender<()>,
    },
    /// The metadata quorum has decided something about a partition.
    Appoint {
        partition: TopicPartition,
        appointment: Appointment,
    },
    /// A peer has sent something, with the entries that go with it.
    Received {
        partition: TopicPartition,
        from: BrokerId,
        message: Message,
        batches: Vec<ProducedBatch>,
        /// What they take of what the peer may have on its way.
        room: Room,
    },
    /// What a leader's log knows of its producers at an offset.
    Producers {
        partition: TopicPartition,
        at: Offset,
        producers: Bytes,
    },
    /// There may be links to other brokers.
    Link { links: Arc<Links> },
    /// There is a link to a peer again.
    Linked { peer: BrokerId },
    /// What a replica promises is on the disk.
    Promised {
        partition: TopicPartition,
        outcome: Result<State, StorageFailure>,
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
        done: DeletionDone,
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
        why: Closed,
        done: oneshot::Sender<()>,
    },
    /// Somebody has found damage in the partition's log.
    Examine { partition: TopicPartition },
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
    commands: UnboundedSender<WriterCommand>,
}

/// What the writer is started with.
pub(crate) struct WriterSetup {
    /// This broker.
    pub(crate) me: BrokerId,
    /// What replicas promise.
    pub(crate) states: StateFile,
    /// A fault that the broker must not survive goes here.
    pub(crate) faults: UnboundedSender<Fault>,
    /// What replicas come to.
    pub(crate) events: UnboundedSender<ReplicaEvent>,
    /// What the flusher waits before each of its turns.
    pub(crate) sync_delay: Option<Duration>,
}

impl Writer {
    /// Starts the writer and its flusher.
    pub(crate) fn start(setup: WriterSetup) -> std::io::Result<(Self, Flusher)> {
        let (commands, queue) = mpsc::unbounded_channel();
        let writer = Self { commands };
        let alarm = Alarm::new("the flusher", setup.faults.clone());
        let flusher = Flusher::start(setup.states, setup.sync_delay, writer.clone(), alarm)?;
        let offload = Offload::here();
        let turn = Turn {
            offload,
            me: setup.me,
            actors: HashMap::new(),
            dirty: Vec::new(),
            deadlines: BTreeSet::new(),
            staged_bytes: 0,
            flushes_under_way: 0,
            flusher: flusher.clone(),
            links: None,
            faults: setup.faults,
            events: setup.events,
            started: Instant::now(),
        };
        let own = writer.clone();
        offload.host("writer", turn.run(queue, own))?;
        Ok((writer, flusher))
    }

    pub(crate) fn send(&self, command: WriterCommand) -> Result<(), WriterStopped> {
        self.commands.send(command).map_err(|_| WriterStopped)
    }
}

/// What an actor may use.
pub(crate) struct Outside<'a> {
    /// The time of day.
    pub(crate) now_ms: TimestampMs,
    /// A clock that does not go back, milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Where what takes long is done.
    pub(crate) offload: Offload,
    pub(crate) flusher: &'a Flusher,
    /// The way to other brokers, if there is one.
    pub(crate) links: Option<&'a Links>,
    events: &'a UnboundedSender<ReplicaEvent>,
}

impl Outside<'_> {
    /// Says what a replica has come to.
    pub(crate) fn tell(&self, event: ReplicaEvent) {
        // Who has heard of them is gone when the broker stops.
        let _ = self.events.send(event);
    }
}

/// A partition, and when its replica wants to be told the time.
struct Seat {
    actor: Box<Actor>,
    deadline: Option<u64>,
}

/// What the writer's thread holds.
struct Turn {
    offload: Offload,
    me: BrokerId,
    actors: HashMap<TopicPartition, Seat>,
    /// Partitions with staged batches, in the order of their first.
    dirty: Vec<TopicPartition>,
    /// When replicas want to be told the time, the earliest first.
    deadlines: BTreeSet<(u64, TopicPartition)>,
    staged_bytes: usize,
    /// Flushes of logs that the flusher has and has not answered.
    flushes_under_way: usize,
    flusher: Flusher,
    links: Option<Arc<Links>>,
    faults: UnboundedSender<Fault>,
    events: UnboundedSender<ReplicaEvent>,
    started: Instant,
}

impl Turn {
    async fn run(mut self, mut queue: UnboundedReceiver<WriterCommand>, writer: Writer) {
        let _alarm = Alarm::new("the writer", self.faults.clone());
        loop {
            let mut next = match self.next(&mut queue).await {
                Ok(first) => first,
                Err(WriterStopped) => return,
            };
            let mut taken = 0;
            while let Some(command) = next {
                if let WriterCommand::Stop { done } = command {
                    self.stop(&mut queue).await;
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                    return;
                }
                self.take(command, &writer);
                taken += 1;
                let goes_on =
                    taken < MAX_WRITER_TURN_COMMANDS && self.staged_bytes < MAX_WRITER_TURN_BYTES;
                next = if goes_on { queue.try_recv().ok() } else { None };
            }
            self.write_staged();
            self.tick();
        }
    }

    /// The next command. `None` if a replica's time has come before.
    async fn next(
        &mut self,
        queue: &mut UnboundedReceiver<WriterCommand>,
    ) -> Result<Option<WriterCommand>, WriterStopped> {
        let Some((deadline, _)) = self.deadlines.first() else {
            return queue.recv().await.map(Some).ok_or(WriterStopped);
        };
        let deadline = self.started + Duration::from_millis(*deadline);
        match timeout_at(deadline, queue.recv()).await {
            Ok(Some(command)) => Ok(Some(command)),
            Ok(None) => Err(WriterStopped),
            Err(_) => Ok(None),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, command: WriterCommand, writer: &Writer) {
        match command {
            WriterCommand::Append { partition, batch } => self.stage(partition, batch),
            WriterCommand::Adopt {
                log,
                durable,
                is_alone,
                partition,
                done,
            } => {
                let id = partition.id();
                let actor = Actor::new(*log, durable, self.me, is_alone, partition);
                let actor = Box::new(actor);
                let seat = Seat {
                    actor,
                    deadline: None,
                };
                self.actors.insert(id, seat);
                self.step(id, Actor::begin);
                let _ = done.send(());
            }
            WriterCommand::Appoint {
                partition,
                appointment,
            } => {
                self.write_staged();
                self.step(partition, |actor, outside| {
                    actor.appointed(outside, appointment)
                });
            }
            WriterCommand::Received {
                partition,
                from,
                message,
                batches,
                room,
            } => {
                self.step(partition, |actor, outside| {
                    actor.received(outside, from, message, batches)
                });
                drop(room);
            }
            WriterCommand::Producers {
                partition,
                at,
                producers,
            } => self.step(partition, |actor, _| {
                actor.producers_known(at, producers);
                Ok(())
            }),
            WriterCommand::Link { links } => self.links = Some(links),
            WriterCommand::Linked { peer } => {
                for partition in self.partitions() {
                    self.step(partition, |actor, outside| {
                        actor.step(outside, Input::Linked { peer }, Vec::new())
                    });
                }
            }
            WriterCommand::Promised { partition, outcome } => {
                self.step(partition, |actor, outside| actor.promised(outside, outcome));
            }
            WriterCommand::Flushed { partition, outcome } => {
                self.flushes_under_way -= 1;
                self.write_staged();
                self.step(partition, |actor, outside| actor.flushed(outside, outcome));
            }
            WriterCommand::Configure { partition, config } => {
                self.step(partition, |actor, _| {
                    actor.configure(*config);
                    Ok(())
                });
            }
            WriterCommand::DeleteRecords {
                partition,
                before,
                done,
            } => {
                self.write_staged();
                if self.actors.contains_key(&partition) {
                    self.step(partition, |actor, outside| {
                        actor.delete_records(outside, before, done)
                    });
                } else {
                    let _ = done.send(Err(crate::errors::replica_gone(partition)));
                }
            }
            WriterCommand::LastSequence {
                partition,
                producer_id,
                done,
            } => {
                self.write_staged();
                let seat = self.actors.get(&partition);
                let last = seat.and_then(|seat| seat.actor.last_sequence(producer_id));
                let _ = done.send(last);
            }
            WriterCommand::Remove {
                partition,
                why,
                done,
            } => {
                self.write_staged();
                if let Some(Seat { actor, deadline }) = self.actors.remove(&partition) {
                    self.reschedule(partition, deadline, None);
                    actor.remove(why);
                }
                let _ = done.send(());
            }
            WriterCommand::Examine { partition } => self.step(partition, |actor, outside| {
                actor.publish(outside);
                Ok(())
            }),
            WriterCommand::Maintain => self.maintain(writer),
            WriterCommand::Compacted { partition, outcome } => {
                self.step(partition, |actor, outside| {
                    actor.compacted(outside, outcome);
                    Ok(())
                });
            }
            WriterCommand::Stop { .. } => {}
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.actors.keys().copied().collect()
    }

    fn stage(&mut self, partition: TopicPartition, batch: StagedBatch) {
        let Some(seat) = self.actors.get_mut(&partition) else {
            batch.ack.send(Err(crate::errors::replica_gone(partition)));
            return;
        };
        self.staged_bytes += batch.bytes.len();
        if seat.actor.stage(batch) {
            self.dirty.push(partition);
        }
    }

    fn write_staged(&mut self) {
        self.staged_bytes = 0;
        for partition in std::mem::take(&mut self.dirty) {
            self.step(partition, Actor::write);
        }
    }

    /// Tells replicas the time that have waited for it.
    fn tick(&mut self) {
        let elapsed_ms = self.elapsed_ms();
        let is_due = |(deadline, _): &&(u64, TopicPartition)| *deadline <= elapsed_ms;
        let due: Vec<_> = self.deadlines.iter().take_while(is_due).copied().collect();
        for (_, partition) in due {
            self.step(partition, |actor, outside| {
                actor.step(outside, Input::Tick, Vec::new())
            });
        }
    }

    /// Runs `act` on a partition's actor, if it is still there, and does what is due afterwards.
    fn step(
        &mut self,
        partition: TopicPartition,
        act: impl FnOnce(&mut Actor, &Outside<'_>) -> Result<(), Fault>,
    ) {
        let elapsed_ms = self.elapsed_ms();
        let Some(seat) = self.actors.get_mut(&partition) else {
            return;
        };
        let outside = Outside {
            offload: self.offload,
            now_ms: clock::now_ms(),
            elapsed_ms,
            flusher: &self.flusher,
            links: self.links.as_deref(),
            events: &self.events,
        };
        let outcome = act(&mut seat.actor, &outside);
        let ticket = seat.actor.next_flush();
        let deadline = seat.actor.deadline();
        let scheduled = std::mem::replace(&mut seat.deadline, deadline);
        self.reschedule(partition, scheduled, deadline);
        match outcome {
            Ok(()) => self.flush(partition, ticket),
            Err(fault) => self.fail(fault),
        }
    }

    fn reschedule(&mut self, partition: TopicPartition, from: Option<u64>, to: Option<u64>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.deadlines.remove(&(from, partition));
        }
        if let Some(to) = to {
            self.deadlines.insert((to, partition));
        }
    }

    fn flush(&mut self, partition: TopicPartition, ticket: Option<FlushTicket>) {
        let Some(ticket) = ticket else { return };
        let job = FlushJob::Log { partition, ticket };
        // The flusher outlives the writer's use of it.
        if self.flusher.send(job).is_ok() {
            self.flushes_under_way += 1;
        }
    }

    fn fail(&mut self, fault: Fault) {
        // The broker may be stopping for an earlier fault already.
        let _ = self.faults.send(fault);
    }

    fn maintain(&mut self, writer: &Writer) {
        for partition in self.partitions() {
            self.step(partition, |actor, outside| actor.maintain(outside, writer));
            let seat = self.actors.get_mut(&partition);
            let ticket = seat.and_then(|seat| seat.actor.background_flush());
            self.flush(partition, ticket);
        }
    }

    /// Appends what is queued, waits for the flushes under way, and closes every log.
    async fn stop(&mut self, queue: &mut UnboundedReceiver<WriterCommand>) {
        self.write_staged();
        loop {
            let next = if self.flushes_under_way > 0 {
                queue.recv().await
            } else {
                queue.try_recv().ok()
            };
            match next {
                None => break,
                Some(WriterCommand::Append { partition, batch }) => {
                    self.stage(partition, batch);
                    self.write_staged();
                }
                Some(WriterCommand::Flushed { partition, outcome }) => {
                    self.flushes_under_way -= 1;
                    self.step(partition, |actor, outside| actor.flushed(outside, outcome));
                }
                // Whoever waits for one of these is told by its dropped channel.
                Some(_) => {}
            }
        }
        let elapsed_ms = self.elapsed_ms();
        for (_, Seat { actor, .. }) in std::mem::take(&mut self.actors) {
            let outside = Outside {
                offload: self.offload,
                now_ms: clock::now_ms(),
                elapsed_ms,
                flusher: &self.flusher,
                links: self.links.as_deref(),
                events: &self.events,
            };
            if let Err(fault) = actor.close(&outside) {
                self.fail(fault);
            }
        }
        self.flusher.finish().await;
    }
}
