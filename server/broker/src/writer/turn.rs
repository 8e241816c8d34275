//! What the writer has, and does with one command after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millstream_log::FlushTicket;
use millstream_offload::Offload;
use millstream_peer::Links;
use millstream_protocol::{TimestampMs, TopicPartition};
use millstream_replication::{BrokerId, Input};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::{Heard, Writer, WriterCommand};
use crate::clock;
use crate::config::MAX_BRIEF_BYTES;
use crate::flusher::{FlushJob, Flusher};
use crate::partition::StagedBatch;
use crate::replicas::ReplicaEvent;
use crate::replicas::actor::{Actor, Fault};

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

/// What the writer has.
pub(super) struct Turn {
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
    /// When the writer's thread wakes by itself, as `deadlines`.
    wakes_at_ms: Option<u64>,
}

impl Turn {
    /// That of a broker without partitions.
    pub(super) fn new(
        offload: Offload,
        me: BrokerId,
        flusher: Flusher,
        faults: UnboundedSender<Fault>,
        events: UnboundedSender<ReplicaEvent>,
    ) -> Self {
        Self {
            offload,
            me,
            actors: HashMap::new(),
            dirty: Vec::new(),
            deadlines: BTreeSet::new(),
            staged_bytes: 0,
            flushes_under_way: 0,
            flusher,
            links: None,
            faults,
            events,
            started: Instant::now(),
            wakes_at_ms: None,
        }
    }

    /// Where faults go.
    pub(super) fn faults(&self) -> UnboundedSender<Fault> {
        self.faults.clone()
    }

    /// What is staged and not written, bytes.
    pub(super) fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// When the writer's thread is to wake by itself.
    pub(super) fn plan(&mut self) -> Option<Instant> {
        self.wakes_at_ms = self.first_deadline_ms();
        let deadline_ms = self.wakes_at_ms?;
        Some(self.started + Duration::from_millis(deadline_ms))
    }

    /// Whether the writer's thread wakes by itself before something is due.
    pub(super) fn wakes_in_time(&self) -> bool {
        let Some(due_ms) = self.first_deadline_ms() else {
            return true;
        };
        self.wakes_at_ms.is_some_and(|wakes| wakes <= due_ms)
    }

    fn first_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Whether what follows from what another replica has said takes a moment.
    pub(super) fn is_brief(&self, heard: &Heard) -> bool {
        let bytes: usize = heard.batches.iter().map(|it| it.bytes.len()).sum();
        let seat = self.actors.get(&heard.partition);
        bytes <= MAX_BRIEF_BYTES && seat.is_some_and(|seat| seat.actor.is_brief(&heard.message))
    }

    /// Does what follows from what another replica has said.
    pub(super) fn hear(&mut self, heard: Heard) {
        let Heard {
            partition,
            from,
            message,
            batches,
            room,
        } = heard;
        self.step(partition, |actor, outside| {
            actor.received(outside, from, message, batches)
        });
        drop(room);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn take(&mut self, command: WriterCommand, writer: &Writer) {
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
            WriterCommand::Received(heard) => self.hear(heard),
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
            WriterCommand::Wake | WriterCommand::Stop { .. } => {}
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

    pub(super) fn write_staged(&mut self) {
        self.staged_bytes = 0;
        for partition in std::mem::take(&mut self.dirty) {
            self.step(partition, Actor::write);
        }
    }

    /// Tells replicas the time that have waited for it.
    pub(super) fn tick(&mut self) {
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
    pub(super) async fn stop(&mut self, queue: &mut UnboundedReceiver<WriterCommand>) {
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
