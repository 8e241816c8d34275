//! Topics whose partitions are where those of another topic are: journals, beside their input.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use millstream_protocol::{TopicId, TopicPartition};

use crate::broker::BrokerId;
use crate::error::TooFewBrokers;
use crate::image::Image;
use crate::names::{first_journal, is_journal, journal_input};
use crate::partition::{Partition, Replica, has};
use crate::placement::place_from;
use crate::topic::Topic;

/// Which topics go with which.
pub(crate) struct Companions<'a> {
    image: &'a Image,
    /// The input of each companion.
    inputs: BTreeMap<TopicId, &'a Topic>,
    /// The companions of each input.
    journals: BTreeMap<TopicId, Vec<&'a Topic>>,
}

/// A partition, and the one beside which it is.
#[derive(Clone, Copy)]
pub(crate) struct Companion<'a> {
    pub(crate) at: TopicPartition,
    pub(crate) partition: &'a Partition,
    pub(crate) input_at: TopicPartition,
    pub(crate) input: &'a Partition,
}

impl<'a> Companions<'a> {
    pub(crate) fn of(image: &'a Image) -> Self {
        let mut companions = Self {
            image,
            inputs: BTreeMap::new(),
            journals: BTreeMap::new(),
        };
        let from = (Included(first_journal()), Unbounded);
        let named = image.topic_ids.range::<str, _>(from);
        for (name, topic_id) in named.take_while(|(name, _)| is_journal(name)) {
            let (journal, input) = (image.topics.get(topic_id), image.input_topic(name));
            if let (Some(journal), Some(input)) = (journal, input) {
                companions.inputs.insert(*topic_id, input);
                let journals = companions.journals.entry(input.topic_id);
                journals.or_default().push(journal);
            }
        }
        companions
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether a partition goes where another one is.
    pub(crate) fn has(&self, at: TopicPartition) -> bool {
        let input = self.inputs.get(&at.topic_id);
        input.is_some_and(|it| (at.partition as usize) < it.partitions.len())
    }

    /// The partitions that decide for themselves where they are, by their topics' identities.
    pub(crate) fn independent(&self) -> impl Iterator<Item = (TopicPartition, &'a Partition)> {
        self.image.partitions().filter(|(at, _)| !self.has(*at))
    }

    /// The companions of a partition.
    pub(crate) fn beside(
        &self,
        at: TopicPartition,
    ) -> impl Iterator<Item = (TopicPartition, &'a Partition)> {
        let journals = self.journals.get(&at.topic_id).into_iter().flatten();
        journals.filter_map(move |journal| {
            let partition = journal.partitions.get(at.partition as usize)?;
            Some((journal.at(at.partition), partition))
        })
    }

    /// All of them, with the partitions beside which they are.
    pub(crate) fn all(&self) -> impl Iterator<Item = Companion<'a>> {
        self.inputs.iter().flat_map(|(topic_id, input)| {
            let journal = self.image.topics.get(topic_id);
            let partitions = journal.into_iter().flat_map(|it| &it.partitions);
            let pairs = (0..).zip(partitions.zip(&input.partitions));
            pairs.map(|(number, (partition, beside))| Companion {
                at: TopicPartition {
                    topic_id: *topic_id,
                    partition: number,
                },
                partition,
                input_at: input.at(number),
                input: beside,
            })
        })
    }
}

impl Companion<'_> {
    /// The replicas that it is to have, if those are others than it has or will have.
    pub(crate) fn astray(&self) -> Option<Vec<BrokerId>> {
        let wanted = self.input.target().iter().map(|it| it.broker_id);
        let has = self.partition.target().iter().map(|it| it.broker_id);
        (!wanted.clone().eq(has)).then(|| wanted.collect())
    }
}

impl Image {
    /// The topic whose companion a topic of this name is. Journals have none.
    pub(crate) fn input_topic(&self, name: &str) -> Option<&Topic> {
        let input = self.topic_by_id(journal_input(name)?)?;
        (!is_journal(&input.name)).then_some(input)
    }

    /// The partition whose companion this one is.
    pub(crate) fn input_of(&self, at: TopicPartition) -> Option<&Partition> {
        let topic = self.topic_by_id(at.topic_id)?;
        let input = self.input_topic(&topic.name)?;
        input.partitions.get(at.partition as usize)
    }

    /// The broker that leads the partition whose companion this one is, if it is there.
    pub(crate) fn leader_beside(&self, at: TopicPartition) -> Option<BrokerId> {
        let input = self.input_of(at)?;
        self.has_leader(input).then_some(input.leader)
    }

    /// Places `count` new partitions of this topic, the first of which has this number: beside those
    /// of its input, or as any others.
    pub(crate) fn place(
        &self,
        topic: &str,
        first: usize,
        count: u32,
        replication_factor: u8,
    ) -> Result<Vec<Partition>, TooFewBrokers> {
        let mut directory = self.next_directory();
        let input = self.input_topic(topic).map(|it| it.partitions.iter());
        let input = input.into_iter().flatten().skip(first);
        let beside = |input: &Partition| {
            let brokers = input.replicas.iter().map(|it| it.broker_id);
            let replicas = brokers.map(|it| Replica::new(it, directory.take()));
            let partition = Partition::new(replicas.collect())?;
            let brokers = input.replicas.iter().map(|it| it.broker_id);
            let mut live = brokers.filter(|it| self.is_live(*it));
            let leader = match has(&input.replicas, input.leader) {
                true => Some(input.leader),
                false => live.next(),
            };
            Some(partition.led_by(leader))
        };
        let mut placed: Vec<_> = input.take(count as usize).filter_map(beside).collect();
        let others = count.saturating_sub(placed.len() as u32);
        placed.extend(place_from(
            self,
            others,
            replication_factor,
            &mut directory,
        )?);
        Ok(placed)
    }
}

impl Partition {
    /// A new partition, led by this broker if it keeps it.
    fn led_by(mut self, leader: Option<BrokerId>) -> Self {
        let leader = leader.and_then(|leader| self.member(leader)).copied();
        if let Some(Replica {
            broker_id,
            directory,
            ..
        }) = leader
        {
            self.leader = broker_id;
            self.leader_directory = directory;
        }
        self
    }

    /// Whether this broker has all that a leader needs, also of the set that may go.
    pub(crate) fn can_go_to(&self, leader: BrokerId) -> bool {
        let has_all = self.member(leader).is_some_and(|it| it.trusted);
        has_all && has(&self.replicas, leader) && self.leader_epoch.checked_add(1).is_some()
    }
}
