//! `OpenOutputs`: what another broker's worker writes to partitions that are led here.
//!
//! One task serves one stream: it validates each batch, hands it to the writer and acknowledges in the
//! order of the batches. It reads ahead until [`PRODUCE_BYTES_IN_FLIGHT`] wait for their acknowledgement.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use millstream_protocol::api::peer::{OpenOutputs, OutputBatch, OutputsOpened};
use millstream_protocol::api::produce::ProduceAck;
use millstream_protocol::limits::{MAX_BATCH_BYTES, PRODUCE_BYTES_IN_FLIGHT};
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use millstream_transport::{Frame, FrameReceiver, FrameSender};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::errors;
use crate::handlers::StreamEnd;
use crate::handlers::intake::{self, Event, Intake};
use crate::partition::{AckSink, AppendResult, Line, Partition, StagedBatch};
use crate::session::Session;

/// Partitions that one worker writes to through one stream.
const MAX_TARGETS: usize = 65_536;

pub(crate) async fn open(
    context: &Context,
    session: &Session,
    request: OpenOutputs,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    context.cluster.check(session, &request.introduction)?;
    sender.send(&Ok::<_, WireError>(OutputsOpened {})).await?;
    let stream = OutputStream {
        context,
        targets: HashMap::new(),
        in_flight: VecDeque::new(),
        bytes_in_flight: 0,
    };
    intake::run(stream, sender, receiver).await
}

struct OutputStream<'a> {
    context: &'a Context,
    targets: HashMap<TopicPartition, (Partition, Line)>,
    /// What waits for its acknowledgement, oldest first.
    in_flight: VecDeque<Appending>,
    bytes_in_flight: usize,
}

struct Appending {
    partition: Partition,
    bytes: usize,
    outcome: mpsc::UnboundedReceiver<AppendResult>,
}

impl OutputStream<'_> {
    /// A partition that is led here, and none of the broker's own.
    fn target(&mut self, id: TopicPartition) -> Result<&(Partition, Line), WireError> {
        if !self.targets.contains_key(&id) {
            let kept = self.context.partitions.get(id);
            let partition = kept.filter(|it| it.leading().is_some()).ok_or_else(|| {
                WireError::new(
                    ErrorCode::NotLeader,
                    format!("broker {} does not lead partition {id}", self.context.me()),
                )
            })?;
            let topic = partition.topic();
            if topic.starts_with("__") || self.targets.len() >= MAX_TARGETS {
                return Err(WireError::new(
                    ErrorCode::NotAuthorized,
                    format!("topic {topic} takes no outputs of workers"),
                ));
            }
            self.targets.insert(id, (partition, Line::default()));
        }
        self.targets
            .get(&id)
            .ok_or_else(|| errors::partition_gone(id))
    }
}

impl Intake for OutputStream<'_> {
    type Body = OutputBatch;
    type Acks = AppendResult;

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    async fn next(
        &mut self,
        open: bool,
        receiver: &mut FrameReceiver,
    ) -> Event<OutputBatch, AppendResult> {
        let room = self.bytes_in_flight < PRODUCE_BYTES_IN_FLIGHT;
        let oldest = self.in_flight.front_mut();
        let waiting = oldest.is_some();
        let outcome = async {
            match oldest {
                Some(oldest) => oldest.outcome.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = outcome, if waiting => {
                Event::Acks(outcome.unwrap_or_else(|| Err(errors::shutting_down())))
            }
            // Cancel-safe: a frame that has begun to arrive is kept by the receiver.
            frame = receiver.receive::<OutputBatch>(MAX_BATCH_BYTES), if open && room => {
                Event::Frame(frame)
            }
        }
    }

    async fn accept(&mut self, frame: Frame<OutputBatch>) -> Result<(), WireError> {
        let bytes = frame.payload.len();
        let (partition, line) = self.target(frame.body.partition)?;
        let partition = partition.clone();
        let (ack, outcome) = AckSink::in_line(line);
        let mut batch = StagedBatch::validate(frame.payload, MAX_BATCH_BYTES, ack)
            .map_err(|error| errors::for_partition(&partition, error))?;
        errors::check_worker(&batch.header)?;
        let share = Arc::clone(&self.context.staged_bytes)
            .acquire_many_owned(bytes as u32)
            .await
            .map_err(errors::stopping)?;
        batch.ack.hold(share);
        partition.append(batch);
        self.bytes_in_flight += bytes;
        self.in_flight.push_back(Appending {
            partition,
            bytes,
            outcome,
        });
        Ok(())
    }

    async fn answer(
        &mut self,
        outcome: AppendResult,
        sender: &mut FrameSender,
    ) -> Result<(), StreamEnd> {
        let Some(Appending {
            partition, bytes, ..
        }) = self.in_flight.pop_front()
        else {
            return Ok(());
        };
        self.bytes_in_flight -= bytes;
        let appended = outcome.map_err(|error| errors::for_partition(&partition, error))?;
        let ack = ProduceAck {
            base_offset: appended.base_offset,
            appended_at_ms: appended.appended_at_ms,
        };
        Ok(sender.send(&Ok::<_, WireError>(ack)).await?)
    }
}
