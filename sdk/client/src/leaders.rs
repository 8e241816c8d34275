//! Who leads the partitions of the topics that are in use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use millstream_protocol::api::topic::{PartitionDescription, TopicDescription};
use millstream_protocol::{ErrorCode, LeaderEpoch, PartitionIndex, TopicId, WireError};
use parking_lot::Mutex;

use crate::brokers::BrokerId;
use crate::changes::Changes;
use crate::consumer::Nearness;
use crate::error::Error;

/// The leaders of all topics that somebody holds a [`TopicLeaders`] of.
#[derive(Debug)]
pub(crate) struct Leaders {
    topics: Mutex<HashMap<Arc<str>, Weak<TopicLeaders>>>,
    changes: Arc<Changes>,
}

/// The leaders of one topic's partitions, as brokers have described them.
#[derive(Debug)]
pub(crate) struct TopicLeaders {
    pub(crate) topic: Arc<str>,
    known: Mutex<Known>,
    /// Held by the one who asks for all: many streams find out at once that a leader is gone.
    pub(crate) asking: tokio::sync::Mutex<()>,
    changes: Arc<Changes>,
}

#[derive(Debug, Default)]
struct Known {
    topic_id: Option<TopicId>,
    leaders: Vec<Placed>,
    /// Counts the descriptions.
    version: u64,
    /// The version that has turned out to be wrong, if it was one.
    doubted: u64,
}

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) leader: BrokerId,
    /// The replicas that are there and count.
    pub(crate) in_sync: Vec<BrokerId>,
}

impl Placed {
    fn of(described: &PartitionDescription) -> Self {
        let PartitionDescription {
            untrusted, offline, ..
        } = described;
        let replicas = described.replicas.iter().copied();
        let is_in_sync = |it: &BrokerId| !untrusted.contains(it) && !offline.contains(it);
        Self {
            epoch: described.leader_epoch,
            leader: described.leader,
            in_sync: replicas.filter(is_in_sync).collect(),
        }
    }
}

/// A partition whose leader is looked for, or a replica that is close.
#[derive(Clone, Debug)]
pub(crate) struct LedPartition {
    pub(crate) leaders: Arc<TopicLeaders>,
    pub(crate) partition: PartitionIndex,
    /// If it need not be the leader.
    pub(crate) near: Option<Arc<Nearness>>,
}

impl LedPartition {
    pub(crate) fn belief(&self) -> Belief {
        self.leaders.belief(self.partition)
    }

    /// The broker to go to: its leader, or a replica that is close.
    pub(crate) fn goal(&self) -> Option<BrokerId> {
        let leaders = &self.leaders;
        let Some(near) = &self.near else {
            return self.belief().leader;
        };
        let placed = leaders.placed(self.partition)?;
        Some(near.choose(&leaders.topic, self.partition, &placed))
    }
}

/// A partition's leader as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) leader: Option<BrokerId>,
    /// What to name if it turns out to be wrong.
    pub(crate) version: u64,
    /// Nobody has said so yet, or it has turned out to be wrong.
    pub(crate) is_doubtful: bool,
}

impl Leaders {
    pub(crate) fn new(changes: Arc<Changes>) -> Self {
        Self {
            topics: Mutex::default(),
            changes,
        }
    }

    /// The leaders of a topic. They are kept up to date for as long as this is held.
    pub(crate) fn of(&self, topic: &str) -> Arc<TopicLeaders> {
        let mut topics = self.topics.lock();
        if let Some(known) = topics.get(topic).and_then(Weak::upgrade) {
            return known;
        }
        topics.retain(|_, known| known.strong_count() > 0);
        let topic: Arc<str> = topic.into();
        let known = Arc::new(TopicLeaders {
            topic: Arc::clone(&topic),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            changes: Arc::clone(&self.changes),
        });
        topics.insert(topic, Arc::downgrade(&known));
        known
    }

    /// The topics that are in use.
    pub(crate) fn in_use(&self) -> Vec<Arc<TopicLeaders>> {
        self.topics
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Takes what a broker has said of a topic, if it is in use.
    pub(crate) fn note(&self, described: &TopicDescription) {
        let known = self.topics.lock().get(&*described.name).cloned();
        if let Some(known) = known.and_then(|known| known.upgrade()) {
            known.note(described);
        }
    }
}

impl TopicLeaders {
    pub(crate) fn belief(&self, partition: PartitionIndex) -> Belief {
        let known = self.known.lock();
        let led = known.leaders.get(partition as usize);
        Belief {
            leader: led.map(|placed| placed.leader),
            version: known.version,
            is_doubtful: known.version == known.doubted,
        }
    }

    fn placed(&self, partition: PartitionIndex) -> Option<Placed> {
        self.known.lock().leaders.get(partition as usize).cloned()
    }

    /// What was believed has turned out to be wrong.
    pub(crate) fn doubt(&self, version: u64) {
        let mut known = self.known.lock();
        if known.version == version {
            known.doubted = version;
        }
    }

    /// Something has failed that went to whom this version names: it may be that another broker leads.
    pub(crate) fn note_failure(&self, version: u64, error: &Error) {
        match error {
            Error::Broker(refusal) => self.note_refusal(version, refusal),
            Error::ConnectionLost(_) | Error::Connect(_) | Error::Timeout { .. } => {
                self.doubt(version);
            }
            _ => {}
        }
    }

    /// The same of what a broker has said.
    pub(crate) fn note_refusal(&self, version: u64, refusal: &WireError) {
        use ErrorCode::{NotLeader, NotReady, ShuttingDown, TimedOut};
        if let NotLeader | NotReady | ShuttingDown | TimedOut = refusal.code {
            self.doubt(version);
        }
    }

    /// Takes what a broker has said. It may know less than another one that was asked before: what
    /// has a newer epoch stays.
    pub(crate) fn note(&self, described: &TopicDescription) {
        let mut known = self.known.lock();
        let is_another = known.topic_id != Some(described.topic_id);
        let before = match is_another {
            true => Vec::new(),
            false => std::mem::take(&mut known.leaders),
        };
        let said = described.partitions.iter().map(Placed::of);
        let newest = said
            .enumerate()
            .map(|(partition, said)| match before.get(partition) {
                Some(before) if before.epoch > said.epoch => before.clone(),
                _ => said,
            });
        known.leaders = newest.collect();
        known.topic_id = Some(described.topic_id);
        known.version += 1;
        if known.leaders != before {
            self.changes.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::api::topic::TopicConfig;
    use uuid::Uuid;

    use super::*;

    fn described(id: u128, leaders: &[(LeaderEpoch, BrokerId)]) -> TopicDescription {
        let partition = |(index, led): (usize, &(LeaderEpoch, BrokerId))| PartitionDescription {
            partition: index as u32,
            leader: led.1,
            leader_epoch: led.0,
            replicas: vec![led.1],
            untrusted: Vec::new(),
            offline: Vec::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
            log: None,
        };
        TopicDescription {
            name: "orders".to_owned(),
            topic_id: TopicId(Uuid::from_u128(id)),
            config: TopicConfig::default(),
            partitions: leaders.iter().enumerate().map(partition).collect(),
        }
    }

    #[test]
    fn the_newest_epoch_counts_and_doubt_ends_with_the_next_word() {
        let changes = Arc::new(Changes::default());
        let leaders = Leaders::new(Arc::clone(&changes));
        let mut news = changes.subscribe();
        let mut is_news = || {
            let is_news = news.has_changed().unwrap();
            news.mark_unchanged();
            is_news
        };
        let orders = leaders.of("orders");
        let belief = |partition| {
            let belief = orders.belief(partition);
            (belief.leader, belief.is_doubtful)
        };
        assert_eq!(belief(0), (None, true));
        leaders.note(&described(1, &[(1, 1), (1, 2)]));
        assert!(is_news());
        assert_eq!((belief(0), belief(1)), ((Some(1), false), (Some(2), false)));
        assert_eq!(belief(2), (None, false), "there is no such partition");

        let version = orders.belief(0).version;
        orders.doubt(version);
        assert_eq!(belief(0), (Some(1), true));
        leaders.note(&described(1, &[(3, 3), (1, 2)]));
        assert!(is_news());
        orders.doubt(version);
        assert_eq!(
            belief(0),
            (Some(3), false),
            "the doubt was about an older word"
        );
        leaders.note(&described(1, &[(2, 2), (1, 2), (1, 1)]));
        assert_eq!(belief(0), (Some(3), false), "said by one who knows less");
        assert_eq!(belief(2), (Some(1), false));
        assert!(is_news());
        leaders.note(&described(1, &[(3, 3), (1, 2), (1, 1)]));
        assert!(!is_news());
        leaders.note(&described(2, &[(1, 1)]));
        assert_eq!(belief(0), (Some(1), false), "another topic of this name");
        assert_eq!(belief(1), (None, false));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let leaders = Leaders::new(Arc::default());
        leaders.note(&described(1, &[(1, 1)]));
        assert!(leaders.in_use().is_empty());
        let orders = leaders.of("orders");
        assert!(Arc::ptr_eq(&orders, &leaders.of("orders")));
        assert_eq!(leaders.in_use().len(), 1);
        drop(orders);
        assert!(leaders.in_use().is_empty());
        let _others = leaders.of("others");
        assert_eq!(leaders.topics.lock().len(), 1);
    }
}
