//! The writer: whoever is at it has every partition's log of a data directory for itself.
//!
//! That is a thread. It drains produced batches of many partitions from its queue, appends each partition's with one
//! vectored write, and hands what must become durable to the [flusher](crate::flusher). While a
//! flush is under way more batches gather, and the next flush covers them all: that is the group
//! commit.
//!
//! What another replica says, and takes a moment, is done by the task that it has come to, if the writer has nothing
//! else to do: two threads that wake each other would take longer than that, and twice on the way of every record.
//!
//! - `desk`: who is at it; [`turn`]: what the writer has, and does

mod desk;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_log::{
    Compacted, CompactionError, FlushError, Flushed, Log, ProducedBatch, StateFile, StorageFailure,
};
use millstream_offload::Offload;
use millstream_peer::{Links, Room};
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{Offset, ProducerId, TopicPartition};
use millstream_replication::{Appointment, BrokerId, Durable, Message};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use crate::background::Alarm;
use crate::flusher::Flusher;
use crate::partition::{Closed, Partition, StagedBatch};
use crate::replicas::ReplicaEvent;
use crate::replicas::actor::Fault;
use crate::replicas::deletions::DeletionDone;
use crate::replicas::state::State;
use desk::{Desk, Hearing};
pub(crate) use turn::Outside;
use turn::Turn;

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
    /// A peer has sent something.
    Received(Heard),
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
    /// Something is due earlier than the writer's thread knows.
    Wake,
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

/// What another replica has said, with the entries that go with it.
pub(crate) struct Heard {
    pub(crate) partition: TopicPartition,
    pub(crate) from: BrokerId,
    pub(crate) message: Message,
    pub(crate) batches: Vec<ProducedBatch>,
    /// What they take of what the peer may have on its way.
    pub(crate) room: Room,
}

/// The writer has stopped.
#[derive(Debug)]
pub(crate) struct WriterStopped;

/// The way to the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    commands: UnboundedSender<WriterCommand>,
    desk: Arc<Desk>,
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
        let offload = Offload::here();
        let desk = Arc::new(Desk::new(offload));
        let writer = Self {
            commands,
            desk: Arc::clone(&desk),
        };
        let alarm = Alarm::new("the flusher", setup.faults.clone());
        let flusher = Flusher::start(setup.states, setup.sync_delay, writer.clone(), alarm)?;
        let alarm = Alarm::new("the writer", setup.faults.clone());
        desk.begin(Turn::new(
            offload,
            setup.me,
            flusher.clone(),
            setup.faults,
            setup.events,
        ));
        offload.host("writer", desk::run(writer.clone(), queue, alarm))?;
        Ok((writer, flusher))
    }

    /// Leaves a command to the writer's thread.
    pub(crate) fn send(&self, command: WriterCommand) -> Result<(), WriterStopped> {
        self.desk.announce();
        self.commands.send(command).map_err(|_| WriterStopped)
    }

    /// Does what follows from what another replica has said, or leaves it to the writer's thread. It may wait for a
    /// short write to the disk.
    pub(crate) fn hear(&self, heard: Heard) -> Result<(), WriterStopped> {
        match self.desk.hear(heard) {
            Hearing::Done => Ok(()),
            Hearing::DoneAndDue => self.send(WriterCommand::Wake),
            Hearing::Left(heard) => self.send(WriterCommand::Received(heard)),
        }
    }
}
