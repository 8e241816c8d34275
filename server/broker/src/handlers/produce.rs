//! `OpenProduce` and `InitProducer`.
//!
//! One task serves one produce stream: it validates each batch, hands it to the writer and sends
//! the acknowledgements in order. It reads ahead until [`PRODUCE_BYTES_IN_FLIGHT`] wait for their
//! acknowledgement; from there on QUIC's flow control holds the producer.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_protocol::WireError;
use millstream_protocol::api::produce::{
    InitProducer, OpenProduce, ProduceAck, ProduceBatch, ProduceOpened, ProducerIdentity,
};
use millstream_protocol::limits::PRODUCE_BYTES_IN_FLIGHT;
use millstream_transport::{Frame, FrameReceiver, FrameSender};
use tokio::sync::{Semaphore, mpsc};

use crate::context::Context;
use crate::errors;
use crate::handlers::StreamEnd;
use crate::handlers::intake::{self, Event, Intake};
use crate::partition::{AckSink, AppendResult, Appended, Partition, StagedBatch};

/// Acknowledgements taken from the writer in one go.
const ACKS_PER_TURN: usize = 256;

pub(crate) async fn init(
    context: &Context,
    _request: InitProducer,
) -> Result<ProducerIdentity, WireError> {
    let producer_id = context.controller.next_producer_id().await?;
    Ok(ProducerIdentity {
        producer_id,
        producer_epoch: 0,
    })
}

pub(crate) async fn open(
    context: &Context,
    request: OpenProduce,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    let partition =
        context.writable_partition(&request.topic, request.topic_id, request.partition)?;
    sender
        .send(&Ok::<_, WireError>(ProduceOpened {
            topic_id: partition.id().topic_id,
            leader_epoch: partition.leading().unwrap_or_default(),
            max_batch_bytes: partition.config().max_batch_bytes,
        }))
        .await?;
    let staged_bytes = Arc::clone(&context.staged_bytes);
    let stream = ProduceStream::new(partition, staged_bytes);
    intake::run(stream, sender, receiver).await
}

struct ProduceStream {
    partition: Partition,
    ack: AckSink,
    outcomes: mpsc::UnboundedReceiver<AppendResult>,
    staged_bytes: Arc<Semaphore>,
    /// Sizes of the batches that wait for their acknowledgement, oldest first.
    in_flight: VecDeque<usize>,
    bytes_in_flight: usize,
}

impl ProduceStream {
    fn new(partition: Partition, staged_bytes: Arc<Semaphore>) -> Self {
        let (ack, outcomes) = AckSink::new();
        Self {
            partition,
            ack,
            outcomes,
            staged_bytes,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
        }
    }

    async fn take(outcomes: &mut mpsc::UnboundedReceiver<AppendResult>) -> Vec<AppendResult> {
        let mut acks = Vec::new();
        outcomes.recv_many(&mut acks, ACKS_PER_TURN).await;
        acks
    }

    /// Checks a batch, and hands it to the writer.
    async fn stage(&mut self, frame: Frame<ProduceBatch>) -> Result<(), WireError> {
        let limit = self.partition.config().max_batch_bytes as usize;
        let bytes = frame.payload.len();
        let mut batch = StagedBatch::validate(frame.payload, limit, self.ack.clone())?;
        errors::check_producer(&batch.header)?;
        // The writer gives the shares back, so that they come free whatever other clients do.
        let share = Arc::clone(&self.staged_bytes)
            .acquire_many_owned(bytes as u32)
            .await
            .map_err(errors::stopping)?;
        batch.ack.hold(share);
        self.in_flight.push_back(bytes);
        self.bytes_in_flight += bytes;
        self.partition.append(batch);
        Ok(())
    }
}

impl Intake for ProduceStream {
    type Body = ProduceBatch;
    type Acks = Vec<AppendResult>;

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    async fn next(
        &mut self,
        open: bool,
        receiver: &mut FrameReceiver,
    ) -> Event<ProduceBatch, Vec<AppendResult>> {
        let config_limit = self.partition.config().max_batch_bytes as usize;
        let room = self.bytes_in_flight < PRODUCE_BYTES_IN_FLIGHT;
        let waiting = !self.in_flight.is_empty();
        tokio::select! {
            biased;
            acks = Self::take(&mut self.outcomes), if waiting => Event::Acks(acks),
            // Cancel-safe: a frame that has begun to arrive is kept by the receiver.
            frame = receiver.receive::<ProduceBatch>(config_limit), if open && room => Event::Frame(frame),
        }
    }

    async fn accept(&mut self, frame: Frame<ProduceBatch>) -> Result<(), WireError> {
        let staged = self.stage(frame).await;
        staged.map_err(|error| errors::for_partition(&self.partition, error))
    }

    async fn answer(
        &mut self,
        acks: Vec<AppendResult>,
        sender: &mut FrameSender,
    ) -> Result<(), StreamEnd> {
        for result in acks {
            self.bytes_in_flight -= self.in_flight.pop_front().unwrap_or(0);
            match result {
                Ok(Appended {
                    base_offset,
                    appended_at_ms,
                }) => {
                    sender
                        .send(&Ok::<_, WireError>(ProduceAck {
                            base_offset,
                            appended_at_ms,
                        }))
                        .await?;
                }
                Err(error) => {
                    return Err(StreamEnd::Refused(errors::for_partition(
                        &self.partition,
                        error,
                    )));
                }
            }
        }
        Ok(())
    }
}
