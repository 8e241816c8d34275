//! How the cluster stands, for people.

use std::collections::BTreeMap;

use millstream_protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

use super::Steward;
use crate::broker::{Broker, BrokerId};
use crate::image::Image;
use crate::limits::MAX_LISTED;
use crate::partition::Partition;
use crate::plan::{Outage, drain, offline};

/// How the cluster stands, as its steward sees it, or as it stood last in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's identity, once it is formed.
    pub cluster_id: Option<Uuid>,
    /// The kinds of records that all brokers understand.
    pub feature_level: u16,
    /// The broker that leads the metadata quorum, if the steward says this.
    pub controller: Option<BrokerId>,
    /// The brokers, by number.
    pub brokers: Vec<BrokerStatus>,
    /// How many partitions there are.
    pub partitions: usize,
    /// How many of them are getting other replicas.
    pub changing: usize,
    /// Those that take no records.
    pub offline: Listed<OfflinePartition>,
    /// Those of which a replica is missing or has not got all that it should.
    pub under_replicated: Listed<UnderReplicated>,
}

/// Things of which only the first are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// How many there are.
    pub count: usize,
    /// The first of them, at most [`MAX_LISTED`].
    pub first: Vec<T>,
}

/// How one broker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// What the image says of it: its state, address, rack, start and features.
    pub broker: Broker,
    /// How long nothing was heard of it, milliseconds; `None` if nothing was since the steward is in
    /// office.
    pub silent_ms: Option<u64>,
    /// The index of the last entry of the metadata log that its image has, as it has last said.
    pub revision: u64,
    /// Partitions of which it is the leader.
    pub leads: usize,
    /// How many of them it leads by now, as it says; `None` if there is no steward who hears it.
    pub active: Option<usize>,
    /// Replicas that it has, those included that it is to get or to give away.
    pub keeps: usize,
    /// If it drains: how many of these have nowhere to go.
    pub stuck: usize,
}

/// A partition that takes no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflinePartition {
    /// Its topic's name.
    pub topic: String,
    /// The partition.
    pub partition: TopicPartition,
    /// Who is its leader, or was the last one.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Why.
    pub reason: OfflineReason,
}

/// Why a partition takes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineReason {
    /// What the metadata says.
    Outage(Outage),
    /// Its leader is there, and has not said that it leads.
    NotLeading {
        /// How long that could have been, milliseconds.
        for_ms: u64,
        /// How many leaders have not got so far.
        attempts: u32,
    },
}

/// A partition of which a replica is missing, or has not got all that it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderReplicated {
    /// Its topic's name.
    pub topic: String,
    /// The partition.
    pub partition: TopicPartition,
    /// The brokers whose replicas are missing.
    pub missing: Vec<BrokerId>,
}

impl<T> Listed<T> {
    fn of(items: impl Iterator<Item = T>) -> Self {
        let mut listed = Self {
            count: 0,
            first: Vec::new(),
        };
        for item in items {
            listed.count += 1;
            if listed.first.len() < MAX_LISTED {
                listed.first.push(item);
            }
        }
        listed
    }
}

/// What a broker carries.
#[derive(Clone, Copy, Debug, Default)]
struct Carries {
    leads: usize,
    keeps: usize,
}

impl ClusterStatus {
    /// How the cluster stood when this image was the newest, as far as the image says: who has gone since is
    /// not seen. It is for a broker that cannot ask the steward.
    pub fn last_known(image: &Image) -> Self {
        let outages = offline(image).filter_map(|(at, outage)| {
            let partition = image.partition(at)?;
            let reason = OfflineReason::Outage(outage);
            Some(offline_partition(image, at, partition, reason))
        });
        Self::of(image, brokers(image), Listed::of(outages))
    }

    fn of(image: &Image, brokers: Vec<BrokerStatus>, offline: Listed<OfflinePartition>) -> Self {
        let changing = image.partitions().filter(|(_, it)| it.is_changing());
        Self {
            cluster_id: image.cluster_id(),
            feature_level: image.feature_level(),
            controller: None,
            brokers,
            partitions: image.partitions().count(),
            changing: changing.count(),
            offline,
            under_replicated: under_replicated(image),
        }
    }
}

impl Steward {
    /// How the cluster stands.
    pub fn status(&self, now_ms: u64, image: &Image) -> ClusterStatus {
        let active = self.active(image);
        let mut brokers = brokers(image);
        for status in &mut brokers {
            let broker_id = status.broker.broker_id;
            let watched = self.watch.get(broker_id);
            let heard = watched.filter(|it| it.was_heard());
            status.silent_ms = heard.map(|it| now_ms.saturating_sub(it.heard_ms));
            status.revision = watched.map_or(0, |it| it.revision);
            status.active = Some(active.get(&broker_id).copied().unwrap_or_default());
        }
        ClusterStatus {
            controller: Some(self.own.0),
            ..ClusterStatus::of(image, brokers, self.offline(now_ms, image))
        }
    }

    /// How many partitions each broker leads by now.
    fn active(&self, image: &Image) -> BTreeMap<BrokerId, usize> {
        let mut active = BTreeMap::new();
        for (at, partition) in image.partitions() {
            if self.watch.led(image, at, partition).is_some() {
                *active.entry(partition.leader).or_default() += 1;
            }
        }
        active
    }

    fn offline(&self, now_ms: u64, image: &Image) -> Listed<OfflinePartition> {
        let mut outages = offline(image).peekable();
        let all = image.partitions().filter_map(|(at, partition)| {
            let outage = outages.next_if(|(outage_at, _)| *outage_at == at);
            let reason = match outage {
                Some((_, outage)) => OfflineReason::Outage(outage),
                None if self.watch.led(image, at, partition).is_some() => return None,
                None => {
                    let (since_ms, attempts) = self.trials.waits(at).unwrap_or((now_ms, 0));
                    OfflineReason::NotLeading {
                        for_ms: now_ms.saturating_sub(since_ms),
                        attempts,
                    }
                }
            };
            Some(offline_partition(image, at, partition, reason))
        });
        Listed::of(all)
    }
}

/// What the image says of each broker.
fn brokers(image: &Image) -> Vec<BrokerStatus> {
    let mut all: BTreeMap<_, Carries> = BTreeMap::new();
    for (_, partition) in image.partitions() {
        all.entry(partition.leader).or_default().leads += 1;
        for replica in partition.members() {
            all.entry(replica.broker_id).or_default().keeps += 1;
        }
    }
    let status = |broker: &Broker| {
        let carries = all.get(&broker.broker_id).copied().unwrap_or_default();
        BrokerStatus {
            broker: broker.clone(),
            silent_ms: None,
            revision: 0,
            leads: carries.leads,
            active: None,
            keeps: carries.keeps,
            stuck: match broker.state.is_draining() {
                true => drain(image, broker.broker_id).stuck.len(),
                false => 0,
            },
        }
    };
    image.brokers().map(status).collect()
}

fn offline_partition(
    image: &Image,
    at: TopicPartition,
    partition: &Partition,
    reason: OfflineReason,
) -> OfflinePartition {
    OfflinePartition {
        topic: topic_name(image, at),
        partition: at,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        reason,
    }
}

fn under_replicated(image: &Image) -> Listed<UnderReplicated> {
    let all = image.partitions().filter_map(|(at, partition)| {
        let missing = partition.members().filter(|it| !image.is_whole(it));
        let missing: Vec<_> = missing.map(|it| it.broker_id).collect();
        (!missing.is_empty()).then(|| UnderReplicated {
            topic: topic_name(image, at),
            partition: at,
            missing,
        })
    });
    Listed::of(all)
}

fn topic_name(image: &Image, at: TopicPartition) -> String {
    let topic = image.topic_by_id(at.topic_id);
    topic.map_or_else(String::new, |it| it.name.clone())
}
