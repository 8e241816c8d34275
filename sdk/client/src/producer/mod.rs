//! Producing records.
//!
//! A record's way: [`Producer::send`] picks the partition and encodes the record into that
//! partition's open batch (`queue`); the partition's task (`sender`) sends sealed batches on its
//! produce stream, up to [`MAX_BATCHES_IN_FLIGHT`](crate::limits::MAX_BATCHES_IN_FLIGHT) ahead of
//! their acknowledgements, and sends them again when the stream breaks; the acknowledgement settles
//! all records of the batch at once (`delivery`). What all of this may hold is bounded (`budget`).

mod batch;
mod budget;
mod buffers;
mod builder;
mod delivery;
mod partitioner;
mod partitions;
mod queue;
mod record;
mod sender;
mod state;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::api::produce::ProducerIdentity;
use millstream_protocol::{TimestampMs, TopicId};
use tokio::runtime::Handle;

pub use builder::ProducerBuilder;
pub use delivery::{Delivery, RecordMetadata};
pub use partitioner::Partitioner;
pub use record::{Payload, ProduceRecord};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::leaders::TopicLeaders;
use partitions::Partitions;
use queue::{PartitionQueue, Placement, PushError};
use sender::PartitionSender;
use state::ProducerState;

/// Sends records to one topic.
///
/// Made by [`Client::producer`]. Clones share the same buffers and connection; they may be used
/// from any thread.
///
/// # Guarantees
///
/// Producing is idempotent: a batch that is sent twice because its acknowledgement was lost is
/// stored once. Records of one partition are stored in the order they were sent, each exactly once
/// if its [`Delivery`] says `Ok`. If it says [`Error::Timeout`], the record was on its way and may
/// or may not have been stored.
///
/// # Batches
///
/// Records of a partition travel in batches. Without a linger, an idle partition sends a record at
/// once, and while a batch is on its way the next one fills. A batch that is full
/// ([`ProducerBuilder::batch_bytes`]) goes without waiting.
///
/// # Dropping
///
/// When the last clone is dropped, what is buffered is still sent, as long as the program and its
/// runtime live. [`Producer::close`] waits for it.
///
/// ```no_run
/// use millstream::{Client, ProduceRecord};
///
/// # async fn example(client: Client) -> millstream::Result<()> {
/// let producer = client.producer("orders").build().await?;
/// for number in 0..1_000_000 {
///     // Waits only while the producer's buffer is full.
///     producer.send(ProduceRecord::new(format!("order {number}"))).await?;
/// }
/// // Waits until everything is stored, and says if something was not.
/// producer.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    state: Arc<ProducerState>,
    topic_id: TopicId,
    leaders: Arc<TopicLeaders>,
    partitioner: Partitioner,
    identity: ProducerIdentity,
    partitions: Partitions,
    runtime: Handle,
}

/// Why [`Producer::try_send`] did not take a record.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrySendError {
    /// The producer's buffer is full. Send it later, or with [`Producer::send`].
    #[error("the producer's buffer is full")]
    Full,
    /// It cannot be sent.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Producer {
    /// Sends a record. Waits only while the producer's buffer is full
    /// ([`ProducerBuilder::max_in_flight_bytes`]); the broker's answer is the [`Delivery`].
    ///
    /// Cancel-safe: a call that is dropped while it waits has not sent the record.
    ///
    /// # Errors
    ///
    /// [`Error::RecordTooLarge`] or [`Error::InvalidArgument`] when the topic does not take such a
    /// record or has no such partition, [`Error::Closed`] when the producer is closed.
    pub async fn send(&self, record: ProduceRecord<'_>) -> Result<Delivery> {
        let timestamp_ms = record.explicit_timestamp_ms().unwrap_or_else(now_ms);
        let mut held_bytes = 0;
        loop {
            match self.push(&record, timestamp_ms, &mut held_bytes) {
                Ok(delivery) => return Ok(delivery),
                Err(PushError::Refused(error)) => return Err(error),
                Err(PushError::Full { wanted_bytes }) => {
                    held_bytes += self.shared.state.budget.reserve(wanted_bytes).await?;
                }
            }
        }
    }

    /// Sends a record, or says at once that the buffer is full. The record is encoded before this
    /// returns, so it is only borrowed.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`], or what [`Producer::send`] would say.
    pub fn try_send(&self, record: &ProduceRecord<'_>) -> Result<Delivery, TrySendError> {
        let timestamp_ms = record.explicit_timestamp_ms().unwrap_or_else(now_ms);
        match self.push(record, timestamp_ms, &mut 0) {
            Ok(delivery) => Ok(delivery),
            Err(PushError::Full { .. }) => Err(TrySendError::Full),
            Err(PushError::Refused(error)) => Err(error.into()),
        }
    }

    /// Waits until everything sent before is stored or has failed. Nothing lingers meanwhile.
    ///
    /// # Errors
    ///
    /// The first failure since the last flush, also of records whose [`Delivery`] was dropped.
    pub async fn flush(&self) -> Result<()> {
        let partitions = self.shared.partitions.queues();
        let pending: Vec<_> = partitions
            .iter()
            .filter_map(|queue| queue.flush())
            .collect();
        for completion in pending {
            // Failures are noted where they happen.
            let _ = completion.settled().await;
        }
        self.shared.state.take_failure().map_or(Ok(()), Err)
    }

    /// Takes no more records, from this clone or another, and waits until everything is stored or
    /// has failed.
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<()> {
        self.shared.close();
        self.flush().await
    }

    /// How many records are stored so far, of all that were sent through this producer and its clones.
    pub fn acknowledged_records(&self) -> u64 {
        self.shared.state.acknowledged_records()
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.shared.state.topic
    }

    /// How many partitions the topic has, as far as this producer knows.
    pub fn partitions(&self) -> u32 {
        self.shared.partitions.queues().len() as u32
    }

    /// Bytes of records that are buffered or not yet acknowledged, rounded up to the steps in
    /// which they are accounted. Never more than [`ProducerBuilder::max_in_flight_bytes`].
    pub fn buffered_bytes(&self) -> usize {
        self.shared.state.budget.reserved()
    }

    fn push(
        &self,
        record: &ProduceRecord<'_>,
        timestamp_ms: TimestampMs,
        held_bytes: &mut usize,
    ) -> Result<Delivery, PushError> {
        let shared = &*self.shared;
        let partitions = shared.partitions.queues();
        loop {
            match shared.push_to(partitions, record, timestamp_ms, held_bytes) {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => {}
                Err(PushError::Refused(error)) => {
                    shared.state.budget.release(std::mem::take(held_bytes));
                    return Err(PushError::Refused(error));
                }
                Err(full @ PushError::Full { .. }) => {
                    // Batches that linger hold what this record waits for.
                    if !shared.state.batches.linger.is_zero() {
                        partitions.iter().for_each(|queue| queue.seal());
                    }
                    return Err(full);
                }
            }
        }
    }
}

impl Shared {
    /// Pushes the record to its partition's queue; `None` when it is another partition's turn now.
    fn push_to(
        &self,
        partitions: &[Arc<PartitionQueue>],
        record: &ProduceRecord<'_>,
        timestamp_ms: TimestampMs,
        held_bytes: &mut usize,
    ) -> Result<Option<Delivery>, PushError> {
        let count = NonZeroU32::new(partitions.len() as u32);
        let picked = count.and_then(|count| self.partitioner.pick(record, count));
        let (partition, placement) = match picked {
            Some(partition) => (partition, Placement::Fixed),
            None => (self.state.turn(), Placement::Turn),
        };
        let Some(queue) = partitions.get(partition as usize) else {
            let (topic, count) = (&self.state.topic, partitions.len());
            let unknown = format!("topic {topic} has no partition {partition}: it has {count}");
            return Err(PushError::Refused(Error::invalid(unknown)));
        };
        let delivery = queue.push(record, placement, timestamp_ms, held_bytes)?;
        if delivery.as_ref().is_some_and(Delivery::is_first) && queue.claim_sender() {
            self.start_sender(queue);
        }
        Ok(delivery)
    }

    fn start_sender(&self, queue: &Arc<PartitionQueue>) {
        let sender = PartitionSender::new(
            self.client.clone(),
            Arc::clone(&self.state),
            Arc::clone(queue),
            self.topic_id,
            Arc::clone(&self.leaders),
            self.identity,
        );
        self.runtime.spawn(sender.run());
    }

    fn close(&self) {
        self.state.budget.close();
        self.partitions
            .queues()
            .iter()
            .for_each(|queue| queue.close());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

fn now_ms() -> TimestampMs {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
