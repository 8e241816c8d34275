//! Settings of a consumer.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::PartitionIndex;
use millstream_protocol::api::group::OpenGroup;
use millstream_protocol::api::offsets::Position;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::claim::ClaimTarget;
use super::committer::Committer;
use super::intake::{FetchSettings, Intake};
use super::membership::{MemberSettings, Membership};
use super::source::{Nearness, ReadFrom};
use super::{Consumer, OutOfRange};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::limits::{
    DEFAULT_AUTO_COMMIT, DEFAULT_FETCH_BUFFER_BYTES, DEFAULT_RELEASE_TIMEOUT, MEMBERSHIP_QUEUE,
};

/// Settings of a [`Consumer`]; made by [`Client::consumer`].
///
/// Three kinds of consumers come of it:
///
/// - `group` and `topics`: a member of a group. The group shares the partitions out among its
///   members and keeps their offsets.
/// - `topics` alone: all partitions that the topics have now, from [`ConsumerBuilder::start`] on.
/// - `assign`: these partitions from these positions. With a `group` besides, offsets can be
///   committed under its name, as long as it has no members.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConsumerBuilder {
    client: Client,
    group: Option<String>,
    member_name: Option<String>,
    topics: Vec<String>,
    assigned: Vec<(String, PartitionIndex, Position)>,
    start: Position,
    commit: CommitMode,
    buffer_bytes: usize,
    out_of_range: OutOfRange,
    read_from: ReadFrom,
    rack: Option<String>,
    release_timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
enum CommitMode {
    /// By itself at [`DEFAULT_AUTO_COMMIT`] as a member of a group, else not.
    Unsaid,
    Manual,
    Auto(Duration),
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            group: None,
            member_name: None,
            topics: Vec::new(),
            assigned: Vec::new(),
            start: Position::Latest,
            commit: CommitMode::Unsaid,
            buffer_bytes: DEFAULT_FETCH_BUFFER_BYTES,
            out_of_range: OutOfRange::Nearest,
            read_from: ReadFrom::Leader,
            rack: None,
            release_timeout: DEFAULT_RELEASE_TIMEOUT,
        }
    }

    /// The consumer group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The member's name for itself. A member that comes back under the same name gets its
    /// partitions back where it can, so a name that outlives the process saves moves. Unless given:
    /// a random one.
    pub fn member_name(mut self, name: impl Into<String>) -> Self {
        self.member_name = Some(name.into());
        self
    }

    /// The topics to consume.
    pub fn topics<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Partitions to consume, each from its position.
    pub fn assign<S: Into<String>>(
        mut self,
        partitions: impl IntoIterator<Item = (S, PartitionIndex, Position)>,
    ) -> Self {
        let partitions = partitions
            .into_iter()
            .map(|(topic, partition, position)| (topic.into(), partition, position));
        self.assigned.extend(partitions);
        self
    }

    /// Where to start in a partition without a committed offset. By default behind the last record.
    pub fn start(mut self, start: Position) -> Self {
        self.start = start;
        self
    }

    /// Commits by itself at this interval: what the application has come back from, by asking for
    /// the next record. A member of a group does so every 5 seconds unless told otherwise.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.commit = CommitMode::Auto(interval);
        self
    }

    /// Commits only when told, by [`Consumer::commit`].
    pub fn manual_commit(mut self) -> Self {
        self.commit = CommitMode::Manual;
        self
    }

    /// What may be fetched ahead of the application, bytes. Every fetch stream has an equal share,
    /// and one frame of at most 1 MiB (or one larger batch) on top of it.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// What to do when the offset to be read does not exist. By default, go on at the nearest.
    pub fn on_out_of_range(mut self, policy: OutOfRange) -> Self {
        self.out_of_range = policy;
        self
    }

    /// Which replica of a partition is read. By default the one that leads.
    pub fn read_from(mut self, replica: ReadFrom) -> Self {
        self.read_from = replica;
        self
    }

    /// The rack that this client is in, as brokers name theirs: for [`ReadFrom::Closest`].
    pub fn rack(mut self, rack: impl Into<String>) -> Self {
        self.rack = Some(rack.into());
        self
    }

    /// How long a revoked partition waits for the application to come back from its records before
    /// it is given to its next owner all the same.
    pub fn release_timeout(mut self, timeout: Duration) -> Self {
        self.release_timeout = timeout;
        self
    }

    /// Joins the group, or looks the partitions up. A group's member may have to wait for its first
    /// partitions; that wait is [`Consumer::next`]'s.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for settings that make no sense together, [`Error::Broker`] when a
    /// topic does not exist or may not be read, or the group does not take this member.
    pub async fn build(self) -> Result<Consumer> {
        self.validate()?;
        let streams = self.client.session().await?.hello.fetch_streams as usize;
        let near = match self.read_from {
            ReadFrom::Leader => None,
            ReadFrom::Closest => Some(Nearness::find(&self.client, self.rack.as_deref()).await?),
        };
        let settings = FetchSettings {
            buffer_bytes: self.buffer_bytes,
            out_of_range: self.out_of_range,
            near,
            streams,
        };
        let intake = Intake::new(self.client.clone(), settings);
        match &self.group {
            Some(group) if self.assigned.is_empty() => {
                let group = group.clone();
                self.join(group, intake).await
            }
            _ => self.read(intake).await,
        }
    }

    fn validate(&self) -> Result<()> {
        let fault = match (self.topics.is_empty(), self.assigned.is_empty()) {
            (true, true) => "a consumer needs topics or assigned partitions",
            (false, false) => "a consumer takes either topics or assigned partitions",
            _ if self.rack.is_some() && self.read_from == ReadFrom::Leader => {
                "a consumer's rack is for reading what is closest"
            }
            _ if self.buffer_bytes == 0 => "a consumer's buffer_bytes is zero",
            _ if matches!(self.commit, CommitMode::Auto(interval) if interval.is_zero()) => {
                "a consumer's auto_commit interval is zero"
            }
            _ if matches!(self.commit, CommitMode::Auto(_)) && self.group.is_none() => {
                "a consumer without a group has nowhere to commit to"
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(fault))
    }

    async fn join(self, group: String, intake: Arc<Intake>) -> Result<Consumer> {
        let auto_commit = match self.commit {
            CommitMode::Unsaid => Some(DEFAULT_AUTO_COMMIT),
            CommitMode::Manual => None,
            CommitMode::Auto(interval) => Some(interval),
        };
        let member_name = self
            .member_name
            .unwrap_or_else(|| Uuid::new_v4().to_string());
        let settings = MemberSettings {
            open: OpenGroup {
                group: group.clone(),
                member_name,
                topics: self.topics,
                start: self.start,
            },
            auto_commit,
            release_timeout: self.release_timeout,
        };
        let (commands, receiver) = mpsc::channel(MEMBERSHIP_QUEUE);
        let (joined, first_join) = oneshot::channel();
        tokio::spawn(Membership::new(settings, Arc::clone(&intake), receiver, joined).run());

        let timeout = self.client.request_timeout();
        let timed_out = Error::Timeout {
            what: "joining the group",
            after: timeout,
        };
        match tokio::time::timeout(timeout, first_join).await {
            Ok(Ok(joined)) => joined?,
            Ok(Err(_)) => return Err(Error::Closed { what: "client" }),
            Err(_) => return Err(timed_out),
        }
        Ok(Consumer::new(intake, Some(group.into()), Some(commands)))
    }

    async fn read(self, intake: Arc<Intake>) -> Result<Consumer> {
        let partitions = match self.assigned.is_empty() {
            true => self.all_partitions().await?,
            false => self.assigned.clone(),
        };
        let targets = locate(&self.client, &partitions).await?;
        intake.claim(&targets);
        let group: Option<Arc<str>> = self.group.map(Into::into);
        let commands = group.as_ref().map(|group| {
            let (commands, receiver) = mpsc::channel(MEMBERSHIP_QUEUE);
            let auto_commit = match self.commit {
                CommitMode::Auto(interval) => Some(interval),
                CommitMode::Unsaid | CommitMode::Manual => None,
            };
            let committer = Committer {
                group: Arc::clone(group),
                intake: Arc::clone(&intake),
                auto_commit,
                commands: receiver,
            };
            tokio::spawn(committer.run());
            commands
        });
        Ok(Consumer::new(intake, group, commands))
    }

    /// All partitions of the topics, from the start asked for.
    async fn all_partitions(&self) -> Result<Vec<(String, PartitionIndex, Position)>> {
        let topics = self
            .client
            .admin()
            .describe_topics(self.topics.iter().cloned())
            .await?;
        let partitions = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.name.clone(), partition.partition, self.start))
        });
        Ok(partitions.collect())
    }
}

/// Looks positions up. The last of several for one partition counts.
pub(super) async fn locate(
    client: &Client,
    partitions: &[(String, PartitionIndex, Position)],
) -> Result<Vec<ClaimTarget>> {
    let mut names: Vec<&str> = partitions
        .iter()
        .map(|(topic, ..)| topic.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    // Held, so that what the topics' descriptions say is kept for the claims.
    let _leaders: Vec<_> = names.iter().map(|name| client.leaders(name)).collect();
    let admin = client.admin();
    let mut targets = Vec::with_capacity(partitions.len());
    for topic in admin.describe_topics(names).await? {
        let name: Arc<str> = topic.name.as_str().into();
        let positions: Vec<_> = partitions
            .iter()
            .filter(|(of, ..)| *of == topic.name)
            .map(|(_, partition, position)| (*partition, *position))
            .collect();
        let listed = admin
            .list_offsets(topic.name, positions.iter().copied())
            .await?;
        for ((partition, _), listed) in positions.into_iter().zip(listed) {
            let start = listed?.offset;
            targets.push(ClaimTarget {
                topic: Arc::clone(&name),
                topic_id: topic.topic_id,
                partition,
                start,
            });
        }
    }
    Ok(targets)
}
