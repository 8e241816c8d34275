//! Settings of a producer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_protocol::api::produce::InitProducer;
use millstream_protocol::api::topic::TopicDescription;
use millstream_protocol::batch::Compression;
use millstream_protocol::limits::MAX_BATCH_BYTES;
use tokio::runtime::Handle;

use super::partitioner::Partitioner;
use super::partitions::Partitions;
use super::state::{BatchSettings, ProducerState};
use super::{Producer, Shared};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::limits::{
    DEFAULT_BATCH_BYTES, DEFAULT_DELIVERY_TIMEOUT, DEFAULT_IN_FLIGHT_BYTES, DEFAULT_TOPIC_REFRESH,
    MIN_IN_FLIGHT_BYTES,
};

/// Settings of a [`Producer`]; made by [`Client::producer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    batches: BatchSettings,
    partitioner: Partitioner,
    max_in_flight_bytes: usize,
    topic_refresh: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            batches: BatchSettings {
                linger: Duration::ZERO,
                batch_bytes: DEFAULT_BATCH_BYTES,
                compression: Compression::None,
                delivery_timeout: DEFAULT_DELIVERY_TIMEOUT,
            },
            partitioner: Partitioner::default(),
            max_in_flight_bytes: DEFAULT_IN_FLIGHT_BYTES,
            topic_refresh: DEFAULT_TOPIC_REFRESH,
        }
    }

    /// How long a batch waits for more records. Zero, the default: not at all when the partition
    /// is idle, and otherwise until the batch before it is acknowledged.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.batches.linger = linger;
        self
    }

    /// The size at which a batch is sent without further waiting, bytes before compression. A
    /// larger record goes alone.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batches.batch_bytes = bytes;
        self
    }

    /// How batches are compressed: not at all (the default), lz4 or zstd.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.batches.compression = compression;
        self
    }

    /// How partitions are picked. By default, by the key's hash.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Bytes of records that may be buffered or not yet acknowledged, over all partitions. Beyond
    /// it, [`Producer::send`] waits. Up to as much memory again is kept for the next batches.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes;
        self
    }

    /// How long a record may wait for its acknowledgement before it fails, resends and
    /// reconnects included.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.batches.delivery_timeout = timeout;
        self
    }

    /// How often to look for partitions that the topic has got since.
    pub fn topic_refresh(mut self, interval: Duration) -> Self {
        self.topic_refresh = interval;
        self
    }

    /// Looks the topic up and takes a producer's identity from the broker.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for settings that make no sense, [`Error::Broker`] when the topic
    /// does not exist or may not be written to.
    pub async fn build(mut self) -> Result<Producer> {
        self.validate()?;
        let leaders = self.client.leaders(&self.topic);
        let topic = self.client.admin().describe_topic(&self.topic).await?;
        let identity = self.client.call(InitProducer {}).await?;
        let max_batch_bytes = (topic.config.max_batch_bytes as usize).min(MAX_BATCH_BYTES);
        self.batches.batch_bytes = self.batches.batch_bytes.min(max_batch_bytes);

        let partitions = partition_count(&topic)?;
        let state = ProducerState::new(
            self.topic.into(),
            self.batches,
            self.max_in_flight_bytes,
            max_batch_bytes,
            partitions,
        );
        let partitions = Partitions::new(&state, partitions);
        let shared = Arc::new(Shared {
            client: self.client,
            state,
            topic_id: topic.topic_id,
            leaders,
            partitioner: self.partitioner,
            identity,
            partitions,
            runtime: Handle::current(),
        });
        tokio::spawn(follow_topic(Arc::downgrade(&shared), self.topic_refresh));
        Ok(Producer { shared })
    }

    fn validate(&self) -> Result<()> {
        if matches!(
            self.batches.compression,
            Compression::Gzip | Compression::Snappy
        ) {
            return Err(Error::invalid(format!(
                "{} is only read, not written",
                self.batches.compression
            )));
        }
        if self.batches.batch_bytes == 0 {
            return Err(Error::invalid("a producer's batch_bytes is zero"));
        }
        if self.batches.delivery_timeout.is_zero() || self.topic_refresh.is_zero() {
            return Err(Error::invalid(
                "a producer's delivery_timeout or topic_refresh is zero",
            ));
        }
        // The bound is kept with 32-bit reservations.
        let bounds = MIN_IN_FLIGHT_BYTES..=u32::MAX as usize;
        if !bounds.contains(&self.max_in_flight_bytes) {
            return Err(Error::invalid(format!(
                "a producer's max_in_flight_bytes of {} is not between {} and {}",
                self.max_in_flight_bytes,
                bounds.start(),
                bounds.end(),
            )));
        }
        Ok(())
    }
}

fn partition_count(topic: &TopicDescription) -> Result<u32> {
    match u32::try_from(topic.partitions.len()) {
        Ok(partitions @ 1..) => Ok(partitions),
        _ => Err(Error::unexpected("a topic without partitions")),
    }
}

/// Looks for new partitions of the topic, as long as the producer lives.
async fn follow_topic(producer: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some((client, name, topic_id)) = producer.upgrade().map(|shared| {
            (
                shared.client.clone(),
                Arc::clone(&shared.state.topic),
                shared.topic_id,
            )
        }) else {
            return;
        };
        match client.admin().describe_topic(&*name).await {
            Ok(topic) if topic.topic_id == topic_id => {
                if let Some(shared) = producer.upgrade() {
                    shared
                        .partitions
                        .grow(&shared.state, topic.partitions.len() as u32);
                }
            }
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(topic = %name, %error, "could not look for new partitions")
            }
        }
    }
}
