//! The thread that makes things durable, so that the writer never waits for a disk: batches of a
//! partition's log, and what its replica promises.

use std::time::Duration;

use millstream_log::{FlushTicket, StateFile, StorageFailure};
use millstream_offload::Offload;
use millstream_protocol::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::background::Alarm;
use crate::replicas::state::State;
use crate::writer::{Writer, WriterCommand};

/// What is to be made durable.
pub(crate) enum FlushJob {
    /// One partition's unflushed files.
    Log {
        partition: TopicPartition,
        ticket: FlushTicket,
    },
    /// What a replica promises. The writer hears of it.
    Promise {
        partition: TopicPartition,
        state: State,
    },
    /// What is known of replicas, as they come and go; `None` for those that are gone.
    States {
        states: Vec<(TopicPartition, Option<State>)>,
        done: oneshot::Sender<Result<(), StorageFailure>>,
    },
}

/// The way to the flusher.
#[derive(Clone)]
pub(crate) struct Flusher {
    jobs: mpsc::UnboundedSender<FlushJob>,
}

/// The flusher has stopped.
pub(crate) struct FlusherStopped;

impl Flusher {
    /// Starts the flusher. It ends with the writer, or when nobody has a way to it any more.
    pub(crate) fn start(
        states: StateFile,
        sync_delay: Option<Duration>,
        writer: Writer,
        alarm: Alarm,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        Offload::here().host("flusher", async move {
            let _alarm = alarm;
            run(states, sync_delay, queue, writer).await;
        })?;
        Ok(Self { jobs })
    }

    pub(crate) fn send(&self, job: FlushJob) -> Result<(), FlusherStopped> {
        self.jobs.send(job).map_err(|_| FlusherStopped)
    }

    /// Waits until all states that it was sent before are durable.
    pub(crate) async fn finish(&self) {
        // What has failed was told, or nobody waits for it.
        let _ = self.store(Vec::new()).await;
    }

    /// Stores what is known of replicas, durably.
    pub(crate) async fn store(
        &self,
        states: Vec<(TopicPartition, Option<State>)>,
    ) -> Result<(), String> {
        let (done, stored) = oneshot::channel();
        let stopped = || "the broker is stopping".to_owned();
        self.send(FlushJob::States { states, done })
            .map_err(|_| stopped())?;
        let outcome = stored.await.map_err(|_| stopped())?;
        outcome.map_err(|failure| failure.to_string())
    }
}

/// Who is to be told that states are durable.
enum Waiting {
    Replica(TopicPartition, State),
    Caller(oneshot::Sender<Result<(), StorageFailure>>),
}

async fn run(
    mut states: StateFile,
    sync_delay: Option<Duration>,
    mut queue: mpsc::UnboundedReceiver<FlushJob>,
    writer: Writer,
) {
    let mut waiting = Vec::new();
    while let Some(first) = queue.recv().await {
        if let Some(delay) = sync_delay {
            sleep(delay).await;
        }
        // States first, all that wait with one sync: a thousand replicas promise at the same time, and none waits
        // for the logs of others, which never leave off under load.
        let mut tickets = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                FlushJob::Log { partition, ticket } => tickets.push((partition, ticket)),
                FlushJob::Promise { partition, state } => {
                    states.put(partition, Some(&state.to_bytes()));
                    waiting.push(Waiting::Replica(partition, state));
                }
                FlushJob::States { states: new, done } => {
                    for (partition, state) in new {
                        let bytes = state.map(State::to_bytes);
                        states.put(partition, bytes.as_deref());
                    }
                    waiting.push(Waiting::Caller(done));
                }
            }
            next = queue.try_recv().ok();
        }
        let outcome = match waiting.is_empty() {
            true => Ok(()),
            false => states.flush(),
        };
        for waiting in waiting.drain(..) {
            match waiting {
                Waiting::Replica(partition, state) => {
                    let outcome = outcome.clone().map(|()| state);
                    let command = WriterCommand::Promised { partition, outcome };
                    if writer.send(command).is_err() {
                        return;
                    }
                }
                Waiting::Caller(done) => {
                    // A caller that is gone needs no answer.
                    let _ = done.send(outcome.clone());
                }
            }
        }
        for (partition, ticket) in tickets {
            let outcome = ticket.run();
            let command = WriterCommand::Flushed { partition, outcome };
            if writer.send(command).is_err() {
                return;
            }
        }
    }
}
