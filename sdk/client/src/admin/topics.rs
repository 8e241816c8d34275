//! Topics.

use std::future::IntoFuture;
use std::time::Duration;

use millstream_protocol::ErrorCode;
use millstream_protocol::api::topic::{
    AlterTopic, Cleanup, CreateTopic, DeleteTopic, DescribeTopics, Durability, TopicConfig,
    TopicDescription, TopicDetail, TopicSelection,
};

use super::{Admin, Request};
use crate::client::{Client, EarlierAttempt};
use crate::error::{Error, Result};

impl Admin {
    /// Makes a topic, of one partition and with the default settings unless told otherwise. Await
    /// the builder to make it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::TopicExists`], [`ErrorCode::InvalidRequest`], [`ErrorCode::NotAuthorized`].
    pub fn create_topic(&self, name: impl Into<String>) -> CreateTopicBuilder {
        let request = CreateTopic {
            name: name.into(),
            partitions: 1,
            config: TopicConfig::default(),
        };
        CreateTopicBuilder {
            client: self.client.clone(),
            request,
        }
    }

    /// Changes a topic's settings; what is not named stays as it is. Await the builder to do it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownTopic`], [`ErrorCode::InvalidRequest`], [`ErrorCode::NotAuthorized`].
    pub fn alter_topic(&self, name: impl Into<String>) -> AlterTopicBuilder {
        let request = AlterTopic {
            name: name.into(),
            ..AlterTopic::default()
        };
        AlterTopicBuilder {
            client: self.client.clone(),
            request,
        }
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownTopic`], [`ErrorCode::NotAuthorized`].
    pub async fn delete_topic(&self, name: impl Into<String>) -> Result<()> {
        let request = DeleteTopic { name: name.into() };
        let (outcome, earlier) = self
            .client
            .call_with(request, None, self.client.request_timeout())
            .await;
        gone(outcome, earlier, ErrorCode::UnknownTopic)
    }

    /// All topics but the broker's own, in name order.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>> {
        self.select_topics(TopicSelection::All).await
    }

    /// These topics, in name order, or as [`TopicSelection`] says.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownTopic`] when one of the named does not exist.
    pub async fn describe_topics<S: Into<String>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Vec<TopicDescription>> {
        let names = names.into_iter().map(Into::into).collect();
        self.select_topics(TopicSelection::Named(names)).await
    }

    /// One topic.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownTopic`].
    pub async fn describe_topic(&self, name: impl Into<String>) -> Result<TopicDescription> {
        let name = name.into();
        let mut topics = self
            .select_topics(TopicSelection::Named(vec![name.clone()]))
            .await?;
        match topics.pop() {
            Some(topic) if topics.is_empty() && topic.name == name => Ok(topic),
            _ => Err(Error::unexpected("other topics than asked for")),
        }
    }

    /// The topics selected, in name order.
    pub async fn select_topics(&self, topics: TopicSelection) -> Result<Vec<TopicDescription>> {
        let mut described: Vec<TopicDescription> = Vec::new();
        loop {
            let request = DescribeTopics {
                topics: topics.clone(),
                after: described.last().map(|topic| topic.name.clone()),
                detail: TopicDetail::Logs,
            };
            let part = self.client.call(request).await?;
            if part.more && part.topics.is_empty() {
                return Err(Error::unexpected("a part of a listing with nothing in it"));
            }
            let topics = part.topics.iter();
            topics.for_each(|topic| self.client.note_leaders(topic));
            described.extend(part.topics);
            if !part.more {
                return Ok(described);
            }
        }
    }
}

/// The answer to a deletion: what is not there after a lost attempt is what that attempt deleted.
pub(super) fn gone(outcome: Result<()>, earlier: EarlierAttempt, unknown: ErrorCode) -> Result<()> {
    match outcome {
        Err(error) if earlier == EarlierAttempt::Lost && error.code() == Some(unknown) => Ok(()),
        outcome => outcome,
    }
}

/// A topic to be made; made by [`Admin::create_topic`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "a topic is made when this is awaited"]
pub struct CreateTopicBuilder {
    client: Client,
    request: CreateTopic,
}

impl CreateTopicBuilder {
    /// How many partitions, at least 1.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.request.partitions = partitions;
        self
    }

    /// How many brokers keep each partition: 1, 2, 3 or 5.
    pub fn replication_factor(mut self, replicas: u8) -> Self {
        self.request.config.replication_factor = replicas;
        self
    }

    /// All settings at once; those set before are forgotten.
    pub fn config(mut self, config: TopicConfig) -> Self {
        self.request.config = config;
        self
    }

    /// When a batch is acknowledged.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.request.config.durability = durability;
        self
    }

    /// What happens to old records.
    pub fn cleanup(mut self, cleanup: Cleanup) -> Self {
        self.request.config.cleanup = cleanup;
        self
    }

    /// Records older than this may go; `None` keeps them for ever.
    pub fn retention(mut self, retention: impl Into<Option<Duration>>) -> Self {
        self.request.config.retention_ms = retention.into().map(millis);
        self
    }

    /// A partition larger than this loses its oldest segments; `None` lifts the bound.
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.request.config.retention_bytes = bytes.into();
        self
    }

    /// The largest batch the topic takes, bytes.
    pub fn max_batch_bytes(mut self, bytes: u32) -> Self {
        self.request.config.max_batch_bytes = bytes;
        self
    }

    async fn create(self) -> Result<TopicDescription> {
        let Self { client, request } = self;
        let (outcome, earlier) = client
            .call_with(request.clone(), None, client.request_timeout())
            .await;
        match outcome {
            // Perhaps our own first attempt: it is, as far as anyone can tell, if it is the same.
            Err(error)
                if earlier == EarlierAttempt::Lost
                    && error.code() == Some(ErrorCode::TopicExists) =>
            {
                let topic = client.admin().describe_topic(request.name).await?;
                let same = topic.config == request.config
                    && topic.partitions.len() == request.partitions as usize;
                if same { Ok(topic) } else { Err(error) }
            }
            outcome => outcome,
        }
    }
}

impl IntoFuture for CreateTopicBuilder {
    type Output = Result<TopicDescription>;
    type IntoFuture = Request<TopicDescription>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.create())
    }
}

/// Changes to a topic; made by [`Admin::alter_topic`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "a topic is changed when this is awaited"]
pub struct AlterTopicBuilder {
    client: Client,
    request: AlterTopic,
}

impl AlterTopicBuilder {
    /// The new number of partitions; never fewer than now.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.request.partitions = Some(partitions);
        self
    }

    /// The new durability.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.request.durability = Some(durability);
        self
    }

    /// The new cleanup.
    pub fn cleanup(mut self, cleanup: Cleanup) -> Self {
        self.request.cleanup = Some(cleanup);
        self
    }

    /// The new retention by time; `None` keeps records for ever.
    pub fn retention(mut self, retention: impl Into<Option<Duration>>) -> Self {
        self.request.retention_ms = Some(retention.into().map(millis));
        self
    }

    /// The new retention by size; `None` lifts the bound.
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.request.retention_bytes = Some(bytes.into());
        self
    }

    /// The new size at which segments are sealed, bytes.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.request.segment_bytes = Some(bytes);
        self
    }

    /// The new age at which segments are sealed.
    pub fn segment_age(mut self, age: Duration) -> Self {
        self.request.segment_ms = Some(millis(age));
        self
    }

    /// The new largest batch, bytes.
    pub fn max_batch_bytes(mut self, bytes: u32) -> Self {
        self.request.max_batch_bytes = Some(bytes);
        self
    }

    /// How long tombstones outlive their keys' records from now on.
    pub fn tombstone_retention(mut self, retention: Duration) -> Self {
        self.request.tombstone_retention_ms = Some(millis(retention));
        self
    }
}

impl IntoFuture for AlterTopicBuilder {
    type Output = Result<TopicDescription>;
    type IntoFuture = Request<TopicDescription>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.client.call(self.request).await })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
