//! The ways of workers' outputs to the partitions that take them, wherever those are led.
//!
//! A worker has [`Lanes`] of its own from one spell to the next. Which way a partition's outputs go is
//! found when the first one does, and stays: what was refused on the one way must not be overtaken on
//! another. When a leader goes, the lane fails with it; the next spell sends what its journal holds again,
//! and finds the new leader, which drops what has arrived before.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_protocol::api::peer::{OpenOutputs, OutputBatch, OutputsOpened};
use millstream_protocol::api::produce::ProduceAck;
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::cluster::ask::unreachable;
use crate::controller::Controller;
use crate::errors;
use crate::leaders::{Leaders, led};
use crate::partition::{AckSink, AppendResult, Appended, Line, Partition, StagedBatch};

/// What came of one batch. Its end without an outcome is the end of the broker.
pub(crate) type Outcome = mpsc::UnboundedReceiver<AppendResult>;

/// A partition that workers write to.
#[derive(Clone)]
pub(crate) struct Target {
    id: TopicPartition,
    controller: Arc<Controller>,
}

impl Target {
    pub(crate) fn new(id: TopicPartition, controller: Arc<Controller>) -> Self {
        Self { id, controller }
    }

    pub(crate) fn id(&self) -> TopicPartition {
        self.id
    }

    /// The largest batch that it takes now, bytes.
    pub(crate) fn max_batch_bytes(&self) -> usize {
        let image = self.controller.image();
        let topic = image.topic_by_id(self.id.topic_id);
        topic.map_or(MAX_BATCH_BYTES, |topic| {
            topic.config.max_batch_bytes as usize
        })
    }
}

/// The ways of one worker's outputs.
pub(crate) struct Lanes {
    leaders: Arc<Leaders>,
    ways: HashMap<TopicPartition, Way>,
    lanes: HashMap<u32, Lane>,
}

enum Way {
    /// An output's log takes a gap in a worker's sequences for what was lost with the machine, and what
    /// fills it later for a duplicate: nothing is to overtake what was refused.
    Here(Partition, Line),
    To(u32),
}

impl Lanes {
    /// No way is open yet.
    pub(crate) fn new(leaders: Arc<Leaders>) -> Self {
        Self {
            leaders,
            ways: HashMap::new(),
            lanes: HashMap::new(),
        }
    }

    /// Sends a batch on its way. None where the topic was deleted, which takes what was meant for it along.
    pub(crate) fn send(
        &mut self,
        target: TopicPartition,
        batch: Bytes,
    ) -> Result<Option<Outcome>, WireError> {
        let Some(leader) = self.leaders.of(target) else {
            return Ok(None);
        };
        if !self.ways.contains_key(&target) {
            let way = if leader == self.leaders.cluster.me() {
                Way::Here(led(&self.leaders.partitions, target)?, Line::default())
            } else {
                Way::To(leader)
            };
            self.ways.insert(target, way);
        }
        match self.ways.get(&target) {
            Some(Way::Here(partition, line)) => {
                let (ack, outcome) = AckSink::in_line(line);
                let batch = BytesMut::from(batch);
                partition.append(StagedBatch::validate(batch, MAX_BATCH_BYTES, ack)?);
                Ok(Some(outcome))
            }
            Some(Way::To(broker)) => {
                let leaders = &self.leaders;
                let lane = self.lanes.entry(*broker);
                let lane = lane.or_insert_with(|| Lane::open(Arc::clone(leaders), *broker));
                Ok(Some(lane.send(target, batch)))
            }
            None => Ok(None),
        }
    }
}

/// The way to the partitions that another broker leads.
struct Lane {
    batches: mpsc::UnboundedSender<OnTheWay>,
    task: AbortHandle,
}

/// One batch on a lane. How many there are, whoever sends them bounds.
struct OnTheWay {
    target: TopicPartition,
    batch: Bytes,
    outcome: mpsc::UnboundedSender<AppendResult>,
}

impl Lane {
    fn open(leaders: Arc<Leaders>, broker: u32) -> Self {
        let (batches, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(leaders, broker, queue)).abort_handle();
        Self { batches, task }
    }

    fn send(&self, target: TopicPartition, batch: Bytes) -> Outcome {
        let (outcome, outcomes) = mpsc::unbounded_channel();
        let sent = self.batches.send(OnTheWay {
            target,
            batch,
            outcome,
        });
        if let Err(mpsc::error::SendError(unsent)) = sent {
            // Its reason was told to what was on the way before.
            let error = WireError::new(ErrorCode::NotReady, "the way of the outputs has ended");
            let _ = unsent.outcome.send(Err(error));
        }
        outcomes
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a lane until it fails; then everything that is on it does.
async fn run(leaders: Arc<Leaders>, broker: u32, mut queue: mpsc::UnboundedReceiver<OnTheWay>) {
    let (waiting, mut unacknowledged) = mpsc::unbounded_channel();
    let error = tokio::select! {
        error = pass(&leaders, broker, &mut queue, waiting, &mut unacknowledged) => error,
        () = leaders.cluster.until_gone(broker) => unreachable(broker, &"it is gone"),
    };
    queue.close();
    while let Ok(outcome) = unacknowledged.try_recv() {
        // A worker that has stopped waits for nothing.
        let _ = outcome.send(Err(error.clone()));
    }
    while let Some(unsent) = queue.recv().await {
        let _ = unsent.outcome.send(Err(error.clone()));
    }
}

type Waiting = mpsc::UnboundedSender<mpsc::UnboundedSender<AppendResult>>;

async fn pass(
    leaders: &Leaders,
    broker: u32,
    queue: &mut mpsc::UnboundedReceiver<OnTheWay>,
    waiting: Waiting,
    unacknowledged: &mut mpsc::UnboundedReceiver<mpsc::UnboundedSender<AppendResult>>,
) -> WireError {
    let request = Request::OpenOutputs(OpenOutputs {
        introduction: leaders.cluster.introduction(),
    });
    let opened = leaders
        .cluster
        .open(broker, RequestFrame::from_client(request), Bytes::new())
        .await;
    let (mut sender, mut receiver) = match opened {
        Ok(streams) => streams,
        Err(error) => return error,
    };
    if let Err(error) = receive::<OutputsOpened>(broker, &mut receiver).await {
        return error;
    }
    tokio::select! {
        error = write(broker, queue, &waiting, &mut sender) => error,
        error = acknowledge(broker, unacknowledged, &mut receiver) => error,
    }
}

async fn write(
    broker: u32,
    queue: &mut mpsc::UnboundedReceiver<OnTheWay>,
    waiting: &Waiting,
    sender: &mut FrameSender,
) -> WireError {
    while let Some(OnTheWay {
        target,
        batch,
        outcome,
    }) = queue.recv().await
    {
        // Before it is sent: it may be acknowledged at once.
        let _ = waiting.send(outcome);
        let body = OutputBatch { partition: target };
        if let Err(error) = sender.send_with_payload(&body, [batch]).await {
            // Why it was ended may be on its way back.
            tracing::debug!(broker, %error, "a worker's outputs are not taken any more");
            return std::future::pending().await;
        }
    }
    errors::shutting_down()
}

async fn acknowledge(
    broker: u32,
    unacknowledged: &mut mpsc::UnboundedReceiver<mpsc::UnboundedSender<AppendResult>>,
    receiver: &mut FrameReceiver,
) -> WireError {
    loop {
        let result = receive::<ProduceAck>(broker, receiver).await;
        let result = result.map(|ack| Appended {
            base_offset: ack.base_offset,
            appended_at_ms: ack.appended_at_ms,
        });
        let failed = result.clone().err();
        // What is acknowledged was sent.
        let Ok(outcome) = unacknowledged.try_recv() else {
            return failed
                .unwrap_or_else(|| unreachable(broker, &"it acknowledges what it was not sent"));
        };
        let _ = outcome.send(result);
        if let Some(error) = failed {
            return error;
        }
    }
}

async fn receive<T: serde::de::DeserializeOwned>(
    broker: u32,
    receiver: &mut FrameReceiver,
) -> Result<T, WireError> {
    let frame = receiver.receive::<Result<T, WireError>>(0).await;
    let frame = frame.map_err(|error| unreachable(broker, &error))?;
    let frame = frame.ok_or_else(|| unreachable(broker, &"it takes no more outputs"))?;
    frame.body
}

/// Waits for what came of a batch.
pub(crate) async fn outcome_of(
    target: TopicPartition,
    outcome: &mut Outcome,
) -> Result<(), WireError> {
    let outcome = outcome.recv().await;
    let outcome = outcome.unwrap_or_else(|| Err(errors::shutting_down()));
    outcome
        .map(drop)
        .map_err(|error| errors::at(&target.to_string(), error))
}
