//! Hands dead letters back to the workers that they came from.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::plugin::{
    FailureAction, HoldBack, RetryDeadLetters, RetryDeadLettersResponse,
};
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{ErrorCode, PartitionIndex, WireError};
use millstream_worker::LetterPlace;
use tokio::sync::oneshot;

use super::Deployments;
use super::peers::WorkersRequest;
use crate::config::ASK_LIMIT;
use crate::partition::Partition;
use crate::workers::dead_letter::{Returned, Was};
use crate::workers::worker::{Again, WorkerCommand};
use crate::{errors, leaders};

/// Dead letters that one request hands back, whatever batches they lie in: what comes after them is
/// the next request's. So they have room among the parked records of a worker, and in one commit.
const MAX_RETRIED_LETTERS: u32 = 1_000;

/// The same, bytes, unless a single letter is larger.
const MAX_RETRIED_BYTES: usize = 1 << 20;

/// How long a worker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What each worker is to handle again, by its input.
type ByWorker = BTreeMap<(String, PartitionIndex), Again>;

impl Deployments {
    /// Hands some of the oldest letters of a partition back, and then forgets them there. After a
    /// failure in between, the worker knows when it is asked again which it has had already.
    pub(crate) async fn retry_dead_letters(
        &self,
        request: RetryDeadLetters,
    ) -> Result<RetryDeadLettersResponse, WireError> {
        let _changing = self.change.lock().await;
        let name = &request.name;
        let (letters, holds_back) = self.letters(name, request.partition)?;
        let start = letters.visible().log_start_offset;
        let read = letters.reader().read(start, MAX_RETRIED_BYTES).await?;
        let mut by_worker = ByWorker::new();
        let (mut retried, mut retried_bytes, mut next_offset) = (0, 0, start);
        'batches: for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            let records = batch.records().map_err(errors::from_batch)?;
            for record in records.into_owned() {
                let (offset, record) = record.map_err(errors::from_batch)?;
                if offset >= request.before || retried >= u64::from(MAX_RETRIED_LETTERS) {
                    break 'batches;
                }
                if offset < start {
                    continue;
                }
                let Some(returned) = Returned::read(name, &record) else {
                    if retried > 0 {
                        break 'batches;
                    }
                    return Err(no_letter(&letters, offset, name));
                };
                retried_bytes += returned.bytes();
                if retried > 0 && retried_bytes > MAX_RETRIED_BYTES {
                    break 'batches;
                }
                let worker = (returned.topic, returned.partition);
                let again = by_worker.entry(worker).or_insert_with(|| Again {
                    letters: letters.id(),
                    records: Vec::new(),
                    timers: Vec::new(),
                });
                let place = LetterPlace {
                    leader_epoch: batch.header().leader_epoch,
                    offset,
                };
                match returned.was {
                    Was::Record(mut record) => {
                        if holds_back != HoldBack::Key {
                            record.key = None;
                        }
                        again.records.push((place, record));
                    }
                    Was::Timer(timer) => again.timers.push((place, timer)),
                }
                (retried, next_offset) = (retried + 1, offset + 1);
            }
        }
        for (worker, again) in by_worker {
            self.hand_back(name, worker, again).await?;
        }
        if next_offset > start {
            letters.delete_records(next_offset).await?;
        }
        Ok(RetryDeadLettersResponse {
            retried,
            next_offset,
        })
    }

    fn letters(
        &self,
        name: &str,
        partition: PartitionIndex,
    ) -> Result<(Partition, HoldBack), WireError> {
        let image = self.controller.image();
        let deployment = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        if deployment.activity == Activity::Paused {
            let why = format!("deployment {name} is paused: nothing is handed back to it");
            return Err(errors::invalid(format!(
                "{why} until `plugin resume {name}`"
            )));
        }
        let policy = &deployment.spec.on_failure;
        let FailureAction::DeadLetter { topic } = &policy.finally else {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!("deployment {name} has no dead-letter topic"),
            ));
        };
        let mut partitions = self.partitions_of(topic)?.into_iter();
        let letters = partitions.nth(partition as usize).ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownPartition,
                format!("topic {topic} has no partition {partition}"),
            )
        })?;
        Ok((leaders::led(&self.partitions, letters)?, policy.holds_back))
    }

    /// Has the worker at a partition handle letters again, wherever it is.
    async fn hand_back(
        &self,
        name: &str,
        (topic, partition): (String, PartitionIndex),
        again: Again,
    ) -> Result<(), WireError> {
        let home = {
            let image = self.controller.image();
            let placed = image.topic(&topic);
            let placed = placed.and_then(|it| it.partitions.get(partition as usize));
            placed.map_or(self.broker_id, |it| it.leader)
        };
        if home == self.broker_id {
            return self.try_again_here(name, (topic, partition), again).await;
        }
        let request = WorkersRequest::TryAgain {
            name: name.to_owned(),
            topic,
            partition,
            again,
        };
        let limit = ANSWER_LIMIT + ASK_LIMIT;
        self.cluster.ask_workers(home, &request, limit).await
    }

    /// The same, where the worker is on this broker.
    pub(crate) async fn try_again_here(
        &self,
        name: &str,
        (topic, partition): (String, PartitionIndex),
        again: Again,
    ) -> Result<(), WireError> {
        let worker = {
            let running = self.running.lock();
            let deployment = running.get(name);
            deployment.and_then(|deployment| deployment.worker(&topic, partition))
        };
        let gone = || {
            WireError::new(
                ErrorCode::NotReady,
                format!("deployment {name} has no worker at {topic}-{partition} now"),
            )
        };
        let (done, outcome) = oneshot::channel();
        let command = WorkerCommand::TryAgain { again, done };
        let worker = worker.ok_or_else(gone)?;
        let answered = async {
            worker.send(command).await.map_err(|_| gone())?;
            outcome.await.unwrap_or_else(|_| Err(gone()))
        };
        // Other changes wait meanwhile. Should it answer later, it knows which letters it has had.
        let answer = tokio::time::timeout(ANSWER_LIMIT, answered).await;
        answer.unwrap_or_else(|_| {
            Err(WireError::new(
                ErrorCode::NotAtRest,
                format!("the worker of {name} at {topic}-{partition} is busy: try again"),
            ))
        })
    }
}

fn no_letter(letters: &Partition, offset: u64, deployment: &str) -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        format!(
            "offset {offset} of {} is no dead letter of {deployment}: delete it first",
            letters.name()
        ),
    )
}
