//! The thread that makes things durable, so that the writer never waits for a disk: batches of a
//! partition's log, and what its replica promises.

use std::sync::mpsc;
use std::thread;

use millstream_log::{FlushTicket, StateFile, StorageFailure};
use millstream_protocol::TopicPartition;
use tokio::sync::oneshot;

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
    jobs: mpsc::Sender<FlushJob>,
}

/// The flusher has stopped.
pub(crate) struct FlusherStopped;

impl Flusher {
    /// Starts the flusher. It ends with the writer, or when nobody has a way to it any more.
    pub(crate) fn start(states: StateFile, writer: Writer) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<FlushJob>();
        thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || run(states, &queue, &writer))?;
        Ok(Self { jobs })
    }

    pub(crate) fn send(&self, job: FlushJob) -> Result<(), FlusherStopped> {
        self.jobs.send(job).map_err(|_| FlusherStopped)
    }

    /// Waits until all that it was sent before is durable. Never on a thread that must not wait.
    pub(crate) fn finish(&self) {
        let (done, finished) = oneshot::channel();
        let states = Vec::new();
        if self.send(FlushJob::States { states, done }).is_ok() {
            // What has failed was told, or nobody waits for it.
            let _ = finished.blocking_recv();
        }
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

fn run(mut states: StateFile, queue: &mpsc::Receiver<FlushJob>, writer: &Writer) {
    let mut waiting = Vec::new();
    while let Ok(first) = queue.recv() {
        // All states that wait share one sync: a thousand replicas promise at the same time.
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                FlushJob::Log { partition, ticket } => {
                    let outcome = ticket.run();
                    let command = WriterCommand::Flushed { partition, outcome };
                    if writer.send(command).is_err() {
                        return;
                    }
                }
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
        }
        if waiting.is_empty() {
            continue;
        }
        let outcome = states.flush();
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
    }
}
