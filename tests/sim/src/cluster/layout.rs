//! The partitions of a run.

use std::path::PathBuf;

use millstream_metadata::DeploymentId;
use millstream_metadata::names::journal_topic;
use millstream_protocol::{TopicId, TopicPartition};
use uuid::Uuid;

/// What producers write to.
pub(crate) const EVENTS: TopicId = TopicId(Uuid::from_u128(0x5eed));

/// The name of that topic.
pub(crate) const EVENTS_NAME: &str = "events";

/// The journals of workers, one beside each partition of the events.
pub(crate) const JOURNALS: TopicId = TopicId(Uuid::from_u128(0x5eed_0002));

/// What workers write to.
pub(crate) const OUTPUTS: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(0x5eed_0003)),
    partition: 0,
};

/// The groups' log.
pub(crate) const GROUPS: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(0x5eed_0001)),
    partition: 0,
};

/// The partition that there is in every run.
pub(crate) const FIRST: TopicPartition = events(0);

/// A partition of what producers write to.
pub(crate) const fn events(partition: u32) -> TopicPartition {
    TopicPartition {
        topic_id: EVENTS,
        partition,
    }
}

/// The journal of the worker of a partition.
pub(crate) const fn journal(partition: u32) -> TopicPartition {
    TopicPartition {
        topic_id: JOURNALS,
        partition,
    }
}

/// What reads the events, besides consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nothing: there is one partition.
    Plain,
    /// Members of a group: of so many partitions.
    Group(u32),
    /// Workers, one for each of so many partitions.
    Workers(u32),
}

impl Layout {
    /// The partitions that producers write to.
    pub(crate) fn events(self) -> impl Iterator<Item = TopicPartition> {
        let count = match self {
            Self::Plain => 1,
            Self::Group(events) | Self::Workers(events) => events,
        };
        (0..count).map(events)
    }

    /// The journal of a partition, or the partition of a journal.
    pub(crate) fn beside(self, at: TopicPartition) -> Option<TopicPartition> {
        match (self, at.topic_id) {
            (Self::Workers(_), EVENTS) => Some(journal(at.partition)),
            (Self::Workers(_), JOURNALS) => Some(events(at.partition)),
            _ => None,
        }
    }

    /// All topics: their identities, names, and how many partitions they have.
    pub(crate) fn topics(self) -> Vec<(TopicId, String, u32)> {
        let events = self.events().count() as u32;
        let mut topics = vec![(EVENTS, EVENTS_NAME.to_owned(), events)];
        match self {
            Self::Plain => {}
            Self::Group(_) => topics.push((GROUPS.topic_id, "__groups".to_owned(), 1)),
            Self::Workers(_) => {
                let deployment = DeploymentId(Uuid::from_u128(1));
                topics.push((JOURNALS, journal_topic(deployment, EVENTS), events));
                topics.push((OUTPUTS.topic_id, "counts".to_owned(), 1));
            }
        }
        topics
    }

    /// All partitions.
    pub(crate) fn partitions(self) -> Vec<TopicPartition> {
        let topics = self.topics().into_iter();
        let partitions = topics.flat_map(|(topic_id, _, count)| {
            (0..count).map(move |partition| TopicPartition {
                topic_id,
                partition,
            })
        });
        partitions.collect()
    }
}

/// Where a broker has a partition's log.
pub(crate) fn log_dir(at: TopicPartition) -> PathBuf {
    PathBuf::from(format!(
        "/log-{:x}-{}",
        at.topic_id.0.as_u128(),
        at.partition
    ))
}
